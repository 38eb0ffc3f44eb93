// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus top`: what `status` shows, live.

use std::time::Duration;

use anyhow::Result;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table};
use ratatui::{Frame, Terminal};

use crate::device::Snapshot;
use crate::output::{print_line, print_text};
use crate::status::{COLUMNS, cells, head};
use crate::system::System;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Print one frame as text and end
    #[arg(long)]
    once: bool,
    /// Print one look as JSON and end
    #[arg(long)]
    json: bool,
}

/// Size of the frame that is printed as text.
const SIZE: (u16, u16) = (144, 16);

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let system = System::this();
    let interval = Duration::from_secs(args.interval);
    let first = Snapshot::take(&system);
    if args.once || args.json {
        std::thread::sleep(interval);
        let snapshot = Snapshot::take(&system).since(&first);
        if args.json {
            print_line(serde_json::to_string(&snapshot)?)?;
        } else {
            print_text(&still(&snapshot)?)?;
        }
        return Ok(true);
    }
    let mut terminal = ratatui::try_init()?;
    let result = live(&mut terminal, &system, interval, first);
    ratatui::restore();
    result.map(|()| true)
}

fn live(
    terminal: &mut ratatui::DefaultTerminal,
    system: &System,
    interval: Duration,
    mut before: Snapshot,
) -> Result<()> {
    let mut shown = before.clone();
    loop {
        terminal.draw(|frame| draw(frame, &shown))?;
        if event::poll(interval.saturating_sub(before.time.elapsed()))? {
            if ends(&event::read()?) {
                return Ok(());
            }
        } else {
            let next = Snapshot::take(system);
            shown = next.clone().since(&before);
            before = next;
        }
    }
}

fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
        || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
}

fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot) {
    let lines: Vec<Line<'_>> = head(snapshot)
        .into_iter()
        // The parameters do not change: `status` shows them.
        .filter(|(name, _)| *name != "module" || !snapshot.module)
        .map(|(name, value)| Line::from(format!("{name:<9} {value}")))
        .collect();
    let [top, table, foot] = Layout::vertical([
        Constraint::Length(lines.len() as u16 + 1),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(lines), top);
    let rows: Vec<[String; COLUMNS.len()]> = snapshot.sessions.iter().map(cells).collect();
    let widths = (0..COLUMNS.len()).map(|column| {
        let cells = rows.iter().map(|row| row[column].len());
        Constraint::Length(cells.chain([COLUMNS[column].len()]).max().unwrap_or_default() as u16)
    });
    let heading = Row::new(COLUMNS).style(Style::new().add_modifier(Modifier::REVERSED));
    let widget = Table::new(rows.iter().map(|row| Row::new(row.clone())), widths)
        .header(heading)
        .column_spacing(2);
    frame.render_widget(widget, table);
    frame.render_widget(Paragraph::new("q ends"), foot);
}

/// One frame as text.
fn still(snapshot: &Snapshot) -> Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(SIZE.0, SIZE.1))?;
    terminal.draw(|frame| draw(frame, snapshot))?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(SIZE.0)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_every_session_and_column() {
        let machine = crate::device::tests::machine("top");
        let text = still(&Snapshot::take(&machine.system)).unwrap();
        assert!(text.contains("serving: daedalusd 0.1.0"), "{text}");
        for column in COLUMNS {
            assert!(text.contains(column), "{text}");
        }
        assert!(
            text.contains("gst-launch-1.0[77]") && text.contains("lost"),
            "{text}"
        );
    }
}
