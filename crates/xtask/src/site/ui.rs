// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines and spinners on standard error and output that do not tear each other up.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

fn terminal() -> bool {
    !bars().is_hidden()
}

/// Prints one line of result on standard output, above any spinner.
pub(crate) fn line(text: &str) {
    bars().suspend(|| println!("{text}"));
}

/// Prints one line about what is going on, on standard error.
pub(crate) fn note(text: &str) {
    bars().suspend(|| eprintln!("dev: {text}"));
}

/// Something that takes long: a spinner with the time on a terminal, elsewhere a line at its start and end.
pub(crate) struct Step {
    text: String,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Says that `text` begins now.
    pub(crate) fn begin(text: &str) -> Self {
        let bar = terminal().then(|| {
            let bar = bars().add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
                bar.set_style(style);
            }
            bar.set_message(text.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if bar.is_none() {
            note(&format!("{text} …"));
        }
        Self {
            text: text.to_owned(),
            start: Instant::now(),
            bar,
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            bars().remove(&bar);
        }
        note(&format!(
            "{}: {:.0} s",
            self.text,
            self.start.elapsed().as_secs_f64()
        ));
    }
}
