// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run found: a line per stream and client, reports per codec and client, and the summary of all.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use daedalus_common::junit::{self, Case};
use daedalus_common::play::Row;
use daedalus_uapi::Codec;
use serde::Serialize;

use super::client::Client;
use super::folders::Item;
use super::limits::{Limit, When};
use crate::play::PlayResult;
use crate::site::files::write_json;

/// What a stream came to through a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StreamResult {
    /// Every picture, in order, none missing or surplus, no error.
    Exact,
    /// Not exact, and listed as what the client itself does.
    ClientLimit,
    /// The imitated client does what the real one would: it refuses.
    ClientRefuses,
    /// The device has no such coded or raw format.
    NotOffered,
    /// None of these: something here is wrong, the list of limits included.
    Wrong,
}

impl StreamResult {
    /// For people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::ClientLimit => "client's limit",
            Self::ClientRefuses => "client refuses",
            Self::NotOffered => "not offered",
            Self::Wrong => "WRONG",
        }
    }

    /// Neither right nor wrong.
    pub(crate) fn is_skipped(self) -> bool {
        matches!(self, Self::ClientLimit | Self::ClientRefuses | Self::NotOffered)
    }
}

/// One stream through one client.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) file: String,
    pub(crate) client: &'static str,
    pub(crate) suite: String,
    profile: String,
    pixfmt: String,
    field_order: String,
    size_changes: bool,
    width: usize,
    height: usize,
    /// Pictures received, and those that there are.
    pub(crate) frames: usize,
    expected_frames: usize,
    #[serde(rename = "verdict")]
    pub(crate) result: StreamResult,
    /// Why it is not exact, in words; for a limit with its evidence.
    pub(crate) reason: String,
    /// What was seen, where the reason is that of a list.
    seen: String,
    /// Of a stream that is skipped: the row of another client which is exact on it.
    pub(crate) exact_through: Option<String>,
    format: Option<String>,
    fps: Option<f64>,
    seconds: f64,
}

/// The report of one codec through one client.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) codec: Codec,
    set: String,
    mode: &'static str,
    pub(crate) client: &'static str,
    /// Version as the client prints it.
    client_version: String,
    exact: usize,
    streams: usize,
    pictures: usize,
    /// What the guest as a whole was accused of, if anything.
    pub(crate) guest: Option<String>,
    /// Of all streams, from each client's start to its end.
    pub(crate) seconds: f64,
    pub(crate) lines: Vec<Line>,
}

/// Writes every line as a test, a report of all codecs and clients in JUnit's XML.
pub(super) fn junit(file: &Path, reports: &[Report]) -> Result<()> {
    let cases: Vec<Case> = reports
        .iter()
        .flat_map(|report| report.lines.iter().map(move |line| (report, line)))
        .map(|(report, line)| Case {
            class: format!("{}.{}", report.codec, report.client),
            name: line.file.clone(),
            seconds: line.seconds,
            result: match line.result {
                StreamResult::Exact => junit::TestResult::Passed,
                StreamResult::Wrong => junit::TestResult::Failed(line.reason.clone()),
                _ => junit::TestResult::Skipped(line.reason.clone()),
            },
        })
        .collect();
    std::fs::write(file, junit::report("conformance", &cases))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// What an imitated client's error begins with when the real client refuses the stream.
const REFUSES: &str = "the real client refuses: ";

/// Judges a stream that was played (`row`), by what is known of the client.
fn judge(item: &Item, row: Option<&Row>, limit: Option<&Limit>) -> (StreamResult, String) {
    if let Some(reason) = &item.not_offered {
        return (StreamResult::NotOffered, reason.clone());
    }
    let Some(row) = row else {
        return (
            StreamResult::Wrong,
            "not played: the guest ended before".to_owned(),
        );
    };
    let refusal = row.error.as_ref().and_then(|error| error.split_once(REFUSES));
    match (row.equal, limit) {
        (true, Some(limit)) if limit.when == When::Always => (
            StreamResult::Wrong,
            format!("exact, but listed as the client's limit: {}", limit.reason),
        ),
        (true, _) => (StreamResult::Exact, String::new()),
        (false, Some(limit)) => (StreamResult::ClientLimit, limit.text()),
        (false, None) => match refusal {
            Some((_, why)) => (StreamResult::ClientRefuses, why.to_owned()),
            None => (StreamResult::Wrong, row.reason()),
        },
    }
}

impl Report {
    /// The report on `items`, of which the guest played what is offered.
    pub(crate) fn new(
        (set, codec, mode): (&str, Codec, &'static str),
        client: Client,
        items: &[Item],
        run: &PlayResult,
        limits: &[Limit],
    ) -> Self {
        let lines: Vec<Line> = items
            .iter()
            .map(|item| {
                let row = run
                    .rows
                    .iter()
                    .find(|row| row.name == item.name && row.codec == codec);
                let limit = limits
                    .iter()
                    .find(|limit| limit.is_of(client.name(), codec, &item.name));
                let (result, reason) = judge(item, row, limit);
                let seen = row.map(Row::reason).filter(|seen| *seen != reason);
                Line {
                    file: item.name.clone(),
                    client: client.name(),
                    suite: item.entry.suite.clone(),
                    profile: item.entry.profile.clone(),
                    pixfmt: item.entry.pixfmt.clone(),
                    field_order: item.entry.field_order.clone(),
                    size_changes: item.entry.size_changes,
                    width: item.entry.width,
                    height: item.entry.height,
                    frames: row.map_or(0, |row| row.frames),
                    expected_frames: item.entry.frames,
                    result,
                    reason,
                    seen: seen.unwrap_or_default(),
                    exact_through: None,
                    format: row.and_then(|row| row.format.clone()),
                    fps: row.and_then(|row| row.fps),
                    seconds: row.map_or(0.0, |row| row.seconds),
                }
            })
            .collect();
        Self {
            codec,
            set: set.into(),
            mode,
            client: client.name(),
            client_version: run.client_version.clone(),
            exact: lines
                .iter()
                .filter(|line| line.result == StreamResult::Exact)
                .count(),
            streams: lines.len(),
            pictures: lines.iter().map(|line| line.frames).sum(),
            guest: run.guest.clone(),
            seconds: lines.iter().map(|line| line.seconds).sum(),
            lines,
        }
    }

    /// Counts the lines with a result.
    pub(crate) fn count(&self, result: StreamResult) -> usize {
        self.lines.iter().filter(|line| line.result == result).count()
    }

    /// For people, in one line.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} of {} streams exact, {} frames",
            self.exact, self.streams, self.pictures
        );
        for result in [
            StreamResult::ClientLimit,
            StreamResult::ClientRefuses,
            StreamResult::NotOffered,
        ] {
            let count = self.count(result);
            if count > 0 {
                // Writing to a String cannot fail, here and below.
                let _ = write!(text, ", {count} {}", result.word());
            }
        }
        text
    }

    /// Writes it as `NAME.json` and `NAME.md`.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> Result<()> {
        write_json(&dir.join(format!("{name}.json")), self)?;
        write_page(&dir.join(format!("{name}.md")), &self.markdown())
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "# {} through {} ({}): {} of {} streams exact\n\n",
            self.codec, self.client_version, self.mode, self.exact, self.streams
        );
        if let Some(guest) = &self.guest {
            let _ = writeln!(text, "The guest: {}\n", guest.lines().next().unwrap_or_default());
        }
        text.push_str(&counts(std::slice::from_ref(self)));
        text.push_str(
            "\n| stream | client | profile | size | frames | result | fps | why |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for line in &self.lines {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {}x{} | {}/{} | {} | {} | {} |",
                line.file,
                line.client,
                line.profile,
                line.width,
                line.height,
                line.frames,
                line.expected_frames,
                line.result.word(),
                line.fps.map_or_else(String::new, |fps| format!("{fps:.0}")),
                line.why().replace('|', "/").replace('\n', " ")
            );
        }
        text
    }
}

impl Line {
    /// Reason, observation, and the other client's row.
    fn why(&self) -> String {
        let mut parts = Vec::new();
        if !self.reason.is_empty() {
            parts.push(self.reason.clone());
        }
        if !self.seen.is_empty() {
            parts.push(format!("seen: {}", self.seen));
        }
        if let Some(other) = &self.exact_through {
            parts.push(other.clone());
        }
        parts.join("; ")
    }

    /// For people, in one line.
    pub(crate) fn text(&self) -> String {
        let fps = self.fps.map_or_else(|| "-".to_owned(), |fps| format!("{fps:.0}"));
        format!(
            "  {:14} {:13} {:>9} {:>9} {:>5} fps  {}{}",
            self.result.word(),
            self.client,
            format!("{}x{}", self.width, self.height),
            format!("{}/{}", self.frames, self.expected_frames),
            fps,
            self.file,
            if self.result == StreamResult::Exact {
                String::new()
            } else {
                format!(": {}", self.why())
            }
        )
    }
}

/// Notes for every skipped line which other client is exact on its stream. A stream that other clients played
/// and none was exact on is no matter of the client: it is wrong.
pub(crate) fn cross_check(reports: &mut [Report]) {
    let mut exact: BTreeMap<String, Vec<(&'static str, usize)>> = BTreeMap::new();
    let mut others: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
    for line in reports.iter().flat_map(|report| &report.lines) {
        if line.result == StreamResult::Exact {
            exact
                .entry(line.file.clone())
                .or_default()
                .push((line.client, line.frames));
        }
        others.entry(line.file.clone()).or_default().push(line.client);
    }
    for line in reports.iter_mut().flat_map(|report| &mut report.lines) {
        if !matches!(
            line.result,
            StreamResult::ClientLimit | StreamResult::ClientRefuses
        ) {
            continue;
        }
        match exact.get(&line.file) {
            Some(clients) => {
                let rows: Vec<String> = clients
                    .iter()
                    .map(|(client, frames)| format!("{client}: exact, {frames} frames"))
                    .collect();
                line.exact_through = Some(rows.join(", "));
            }
            None if others.get(&line.file).is_some_and(|clients| clients.len() > 1) => {
                line.result = StreamResult::Wrong;
                line.reason = format!(
                    "no client is exact on it, so that it is not {}'s: {}",
                    line.client, line.reason
                );
            }
            None => {}
        }
    }
}

/// Exact, skipped, wrong and all streams by suite and client.
fn counts(reports: &[Report]) -> String {
    let mut counts: BTreeMap<(Codec, &str, &str), [usize; 6]> = BTreeMap::new();
    for report in reports {
        for line in &report.lines {
            let of = counts
                .entry((report.codec, &line.suite, line.client))
                .or_default();
            of[line.result as usize] += 1;
            of[5] += 1;
        }
    }
    let mut text = String::from(
        "| codec | suite | client | exact | client's limit | client refuses | not offered | wrong | streams \
         |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for ((codec, suite, client), n) in counts {
        let _ = writeln!(
            text,
            "| {codec} | {suite} | {client} | {} | {} | {} | {} | {} | {} |",
            n[0], n[1], n[2], n[3], n[4], n[5]
        );
    }
    text
}

/// Writes the summary of all reports as `NAME.json` and `NAME.md`.
pub(crate) fn summary(dir: &Path, name: &str, reports: &[Report]) -> Result<()> {
    let mut text = String::from(
        "# Conformance\n\n| codec | client | version | exact | streams | pictures |\n\
         |---|---|---|---|---|---|\n",
    );
    for report in reports {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            report.codec, report.client, report.client_version, report.exact, report.streams, report.pictures
        );
    }
    text.push_str("\n## By suite\n\n");
    text.push_str(&counts(reports));
    let unequal = || {
        reports
            .iter()
            .flat_map(|report| &report.lines)
            .filter(|line| line.result != StreamResult::Exact)
    };
    if unequal().next().is_some() {
        text.push_str("\n## Not exact\n\n| stream | client | result | why |\n|---|---|---|---|\n");
        for line in unequal() {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                line.file,
                line.client,
                line.result.word(),
                line.why().replace('|', "/").replace('\n', " ")
            );
        }
    }
    write_json(&dir.join(format!("{name}.json")), &reports)?;
    write_page(&dir.join(format!("{name}.md")), &text)
}

fn write_page(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(client: &'static str, result: StreamResult) -> Line {
        Line {
            file: "s".into(),
            client,
            suite: "suite".into(),
            profile: String::new(),
            pixfmt: String::new(),
            field_order: String::new(),
            size_changes: false,
            width: 2,
            height: 2,
            frames: 3,
            expected_frames: 3,
            result,
            reason: "because".into(),
            seen: String::new(),
            exact_through: None,
            format: None,
            fps: None,
            seconds: 0.0,
        }
    }

    fn report(client: &'static str, result: StreamResult) -> Report {
        Report {
            codec: Codec::ALL[0],
            set: "vectors".into(),
            mode: "all",
            client,
            client_version: client.into(),
            exact: 0,
            streams: 1,
            pictures: 3,
            guest: None,
            seconds: 0.0,
            lines: vec![line(client, result)],
        }
    }

    #[test]
    fn a_limit_needs_another_client_that_is_exact() {
        let mut reports = [
            report("gst", StreamResult::ClientLimit),
            report("x", StreamResult::Exact),
        ];
        cross_check(&mut reports);
        assert_eq!(reports[0].lines[0].result, StreamResult::ClientLimit);
        assert_eq!(
            reports[0].lines[0].exact_through.as_deref(),
            Some("x: exact, 3 frames")
        );
        let mut reports = [
            report("gst", StreamResult::ClientLimit),
            report("x", StreamResult::ClientRefuses),
        ];
        cross_check(&mut reports);
        assert_eq!(reports[0].lines[0].result, StreamResult::Wrong);
        assert_eq!(reports[1].lines[0].result, StreamResult::Wrong);
    }

    #[test]
    fn alone_it_stays_a_limit() {
        let mut reports = [report("gst", StreamResult::ClientLimit)];
        cross_check(&mut reports);
        assert_eq!(reports[0].lines[0].result, StreamResult::ClientLimit);
        let row = format!("| {} | suite | gst | 0 | 1 | 0 | 0 | 0 | 1 |", Codec::ALL[0]);
        assert!(counts(&reports).contains(&row));
    }
}
