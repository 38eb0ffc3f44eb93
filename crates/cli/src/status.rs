// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus status`: the device, its daemon and its sessions.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::device::{Session, Snapshot, Stats};
use crate::system::System;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look twice, this many seconds apart, and show each session's frames per second
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: Option<u64>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Runs it. False: clients find no device that decodes.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let system = System::this();
    let mut snapshot = Snapshot::take(&system);
    if let Some(seconds) = args.interval {
        std::thread::sleep(Duration::from_secs(seconds));
        snapshot = Snapshot::take(&system).since(&snapshot);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &snapshot)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(&snapshot))?;
    }
    Ok(snapshot.serves())
}

/// Returns the lines about the device.
pub(crate) fn head(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let parameters: Vec<String> = snapshot
        .parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    lines.push((
        "module",
        if snapshot.module {
            format!("loaded, {}", parameters.join(" "))
        } else {
            "not loaded".to_owned()
        },
    ));
    lines.push(("device", nodes(snapshot)));
    if let Some(stats) = &snapshot.stats {
        let name = match stats.state.as_str() {
            "unserved" => String::new(),
            _ => format!(": {}, {}", stats.daemon, offer(stats)),
        };
        lines.push(("daemon", format!("{}{name}", stats.state)));
        lines.push((
            "sessions",
            format!(
                "{} open, {} ever; {} decoding, {} at most; {} of buffers",
                stats.sessions,
                stats.sessions_ever,
                stats.busy,
                stats.busy_peak,
                size(stats.memory)
            ),
        ));
    }
    if let Some(why) = &snapshot.unseen {
        lines.push(("note", why.clone()));
    }
    lines
}

/// Returns the nodes of both faces.
fn nodes(snapshot: &Snapshot) -> String {
    let stateless = [&snapshot.video, &snapshot.media].into_iter().flatten().cloned();
    let stateful = snapshot
        .stateful
        .as_ref()
        .map(|node| format!("{node} (stateful)"));
    let nodes: Vec<String> = stateless.chain(stateful).collect();
    if nodes.is_empty() {
        return "no nodes: no daemon has registered yet".to_owned();
    }
    nodes.join(", ")
}

/// Returns the codecs that both faces offer.
fn offer(stats: &Stats) -> String {
    let mut faces = Vec::new();
    if !stats.codecs.is_empty() {
        faces.push(stats.codecs.join(" "));
    }
    if !stats.stateful_codecs.is_empty() {
        faces.push(format!("stateful {}", stats.stateful_codecs.join(" ")));
    }
    faces.join("; ")
}

/// The table's columns.
pub(crate) const COLUMNS: [&str; 14] = [
    "id",
    "client",
    "worker",
    "face",
    "format",
    "state",
    "waiting",
    "claimed",
    "in flight",
    "done",
    "failed",
    "restarts",
    "oldest",
    "fps",
];

/// Returns a session's cells.
pub(crate) fn cells(session: &Session) -> [String; COLUMNS.len()] {
    [
        session.id.to_string(),
        match &session.program {
            Some(program) => format!("{program}[{}]", session.client),
            None => session.client.to_string(),
        },
        match session.worker {
            0 => "-".to_owned(),
            worker => worker.to_string(),
        },
        session.face.clone(),
        session.format.clone(),
        session.state.clone(),
        session.waiting.to_string(),
        session.claimed.to_string(),
        session.in_flight.to_string(),
        session.done.to_string(),
        session.failed.to_string(),
        session.restarts.to_string(),
        format!("{} ms", session.oldest_ms),
        session
            .fps
            .map_or_else(|| "-".to_owned(), |fps| format!("{fps:.1}")),
    ]
}

/// Bytes, for people.
fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn text(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for (name, value) in head(snapshot) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<9} {value}");
    }
    if snapshot.sessions.is_empty() {
        return text;
    }
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(snapshot.sessions.iter().map(cells));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or_default())
        .collect();
    text.push('\n');
    for row in &rows {
        let padded: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use daedalus_uapi::codec::bit_names;

    use super::*;
    use crate::device::tests::machine;

    #[test]
    fn a_line_for_each_session_and_its_state() {
        let machine = machine("status");
        let shown = text(&Snapshot::take(&machine.system));
        assert!(
            shown.contains("device    /dev/video5, /dev/media3, /dev/video4 (stateful)\n"),
            "{shown}"
        );
        assert!(
            shown.contains(&format!(
                "daemon    serving: daedalusd 0.1.0, {}; stateful {}\n",
                bit_names(7).join(" "),
                bit_names(3).join(" ")
            )),
            "{shown}"
        );
        assert!(
            shown.contains("2 open, 9 ever; 1 decoding, 3 at most; 6.0 MiB"),
            "{shown}"
        );
        let lost = shown.lines().find(|line| line.starts_with("9 ")).unwrap();
        let words: Vec<&str> = lost.split_whitespace().collect();
        assert_eq!(words[3..6], ["stateful", "FWHT", "lost"], "{lost}");
        assert!(shown.contains("gst-launch-1.0[77]"), "{shown}");
    }
}
