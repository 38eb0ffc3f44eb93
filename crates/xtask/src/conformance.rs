// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The vectors of ../shared/vectors through the device, compared with their MANIFEST.

mod manifest;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::bed::Bed;
use crate::demo::play::{self, ReferenceList, Row, Stream, write_json};
use crate::outcome::Outcome;
use crate::ui;
use manifest::{Entry, Limit};

/// The suites: directories of the vectors.
const CODECS: [&str; 3] = ["h264", "vp9", "av1"];
/// What a run without vectors says.
const NO_VECTORS: &str = "no vectors: put them at ../shared/vectors beside the tree, or name their directory with \
                          --vectors (a directory per codec with MANIFEST.tsv, the streams and FILE.nv12.frames.md5)";

/// Arguments of `./dev conformance`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Every fourth row of each MANIFEST that is 8 bit, progressive and of one size, until 20 per codec
    #[arg(long)]
    quick: bool,
    /// Directory of the vectors
    #[arg(long)]
    vectors: Option<PathBuf>,
    /// Only streams whose path contains this text
    #[arg(long)]
    only: Option<String>,
    /// h264, vp9 or av1; all three if none is named
    codec: Vec<String>,
}

impl Args {
    /// What `./dev test` runs.
    pub(crate) fn quick() -> Self {
        Self {
            quick: true,
            ..Self::default()
        }
    }

    fn mode(&self) -> &'static str {
        if self.quick { "quick" } else { "all" }
    }
}

/// One line of the report: a stream and what it came to.
#[derive(Serialize)]
struct Line {
    file: String,
    suite: String,
    profile: String,
    pixfmt: String,
    field_order: String,
    size_changes: bool,
    width: usize,
    height: usize,
    frames: usize,
    exact: bool,
    /// Why not, in words.
    reason: String,
    /// Set if the client is known not to hand over this stream as it is: the reason and the evidence.
    limit: Option<String>,
    /// The limit shows at times only.
    limit_sometimes: bool,
    fps: Option<f64>,
    seconds: f64,
}

/// The report of one codec.
#[derive(Serialize)]
struct Report {
    codec: String,
    mode: &'static str,
    client: &'static str,
    exact: usize,
    played: usize,
    /// What the guest as a whole was accused of, if anything.
    guest: Option<String>,
    lines: Vec<Line>,
}

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let outcome = Outcome::new();
    let codecs: Vec<&str> = CODECS
        .into_iter()
        .filter(|c| args.codec.is_empty() || args.codec.iter().any(|a| a == c))
        .collect();
    ensure!(
        args.codec.iter().all(|a| CODECS.contains(&a.as_str())),
        "codecs are {}, not {}",
        CODECS.join(", "),
        args.codec.join(", ")
    );
    let vectors = match &args.vectors {
        Some(dir) => Some(
            dir.canonicalize()
                .with_context(|| format!("no directory {}", dir.display()))?,
        ),
        None => bed.vectors(),
    };
    let Some(vectors) = vectors else {
        for codec in codecs {
            outcome.skip(&format!("conformance {codec}"), NO_VECTORS);
        }
        return Ok(outcome);
    };
    for codec in codecs {
        outcome.check(&format!("conformance {codec} ({})", args.mode()), || {
            one(bed, &outcome, args, &vectors, codec)
        });
    }
    Ok(outcome)
}

/// Plays one codec's rows and writes its report; `Err` unless every one is exact or a limit of the client.
fn one(bed: &Bed, outcome: &Outcome, args: &Args, vectors: &Path, codec: &str) -> Result<String> {
    let all = manifest::load(vectors, codec)?;
    let mut entries = if args.quick { manifest::quick(&all) } else { all };
    if let Some(part) = &args.only {
        entries.retain(|entry| entry.file.contains(part.as_str()));
    }
    ensure!(!entries.is_empty(), "no row of the MANIFEST is taken");
    let dir = bed.target.join("conformance");
    let seen = in_guest(bed, vectors, codec, &entries)?;
    let streams: Vec<Stream> = entries
        .iter()
        .map(|entry| stream(&seen, codec, entry))
        .collect::<Result<_>>()?;
    let name = format!("{}-{codec}", args.mode());
    let list = dir.join(format!("{name}.list.json"));
    write_json(&list, &streams)?;
    // A client is taken for hung after 30 s; a row's own limit bounds the whole.
    let limit = Duration::from_secs(120 + 20 * entries.len() as u64);
    let played = play::play(
        bed,
        &format!("conformance-{name}"),
        &list,
        "--stall 30 --limit 180",
        limit,
    )?;
    let report = report(args, codec, &entries, &played.rows, played.guest.as_ref().err())?;
    write_json(&dir.join(format!("{name}.json")), &report)?;
    let page = dir.join(format!("{name}.md"));
    std::fs::write(&page, markdown(&report)).with_context(|| format!("cannot write {}", page.display()))?;
    judge(outcome, &report, played.guest, &page)?;
    let frames: usize = report.lines.iter().map(|line| line.frames).sum();
    Ok(format!(
        "{} of {} streams exact, {frames} frames, guest {:.0} s",
        report.exact,
        report.lines.len(),
        played.seconds
    ))
}

/// Where the guest sees the vectors. Only ../shared/vectors is mounted there: others are copied under target/.
fn in_guest(bed: &Bed, vectors: &Path, codec: &str, entries: &[Entry]) -> Result<PathBuf> {
    if bed.vectors().is_some_and(|mounted| mounted == vectors) {
        return Ok(PathBuf::from("/mnt/vectors").join(codec));
    }
    let copy = bed.target.join("conformance/vectors").join(codec);
    for entry in entries {
        for file in [PathBuf::from(&entry.file), entry.sums()?] {
            let to = copy.join(&file);
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let from = vectors.join(codec).join(&file);
            std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(PathBuf::from("/mnt/target/conformance/vectors").join(codec))
}

fn stream(dir: &Path, codec: &str, entry: &Entry) -> Result<Stream> {
    Ok(Stream {
        name: entry.file.clone(),
        path: dir.join(&entry.file),
        codec: codec.into(),
        format: Some(
            if entry.bit_depth()? == 8 {
                "NV12"
            } else {
                "P010_10LE"
            }
            .into(),
        ),
        width: entry.width,
        height: entry.height,
        frames: entry.frames,
        references: vec![ReferenceList {
            name: "MANIFEST".into(),
            path: dir.join(entry.sums()?),
        }],
        planar_md5: Some(entry.raw_md5.clone()),
        keep: Vec::new(),
        coded: None,
    })
}

fn report(
    args: &Args,
    codec: &str,
    entries: &[Entry],
    rows: &[Row],
    guest: Option<&anyhow::Error>,
) -> Result<Report> {
    let limits = if args.quick {
        Vec::new()
    } else {
        manifest::limits(codec)?
    };
    let lines: Vec<Line> = entries
        .iter()
        .map(|entry| {
            let row = rows.iter().find(|row| row.name == entry.file);
            let limit = limits.iter().find(|limit| limit.file == entry.file);
            Line {
                file: entry.file.clone(),
                suite: entry.suite.clone(),
                profile: entry.profile.clone(),
                pixfmt: entry.pixfmt.clone(),
                field_order: entry.field_order.clone(),
                size_changes: entry.size_changes,
                width: entry.width,
                height: entry.height,
                frames: entry.frames,
                exact: row.is_some_and(|row| row.equal),
                limit: limit.map(Limit::text),
                limit_sometimes: limit.is_some_and(|limit| limit.sometimes),
                reason: row.map_or_else(|| "not played: the guest ended before".to_owned(), Row::reason),
                fps: row.and_then(|row| row.fps),
                seconds: row.map_or(0.0, |row| row.seconds),
            }
        })
        .collect();
    Ok(Report {
        codec: codec.into(),
        mode: args.mode(),
        client: "GStreamer",
        exact: lines.iter().filter(|line| line.exact).count(),
        played: rows.len(),
        guest: guest.map(|error| format!("{error:#}")),
        lines,
    })
}

/// Turns the report into checks: a pass or failure for the codec, a skip for each of the client's limits.
fn judge(outcome: &Outcome, report: &Report, guest: Result<()>, page: &Path) -> Result<()> {
    let mut failed = 0;
    for line in &report.lines {
        match (line.exact, &line.limit) {
            (true, None) => {}
            (true, Some(_)) if line.limit_sometimes => {}
            (true, Some(_)) => {
                failed += 1;
                ui::line(&format!(
                    "         listed as the client's limit, but exact: {}",
                    line.file
                ));
            }
            (false, Some(limit)) => outcome.skip(&format!("conformance {}", line.file), limit),
            (false, None) => {
                failed += 1;
                ui::line(&format!("         not exact: {}: {}", line.file, line.reason));
            }
        }
    }
    if failed > 0 {
        let what = format!(
            "{failed} of {} streams not as they must be ({})",
            report.lines.len(),
            page.display()
        );
        return match guest {
            Err(error) => Err(error.context(what)),
            Ok(()) => bail!(what),
        };
    }
    guest.context("every stream is as it must be, but the guest is not clean")
}

fn markdown(report: &Report) -> String {
    let mut text = format!(
        "# {} through {} ({}): {} of {} streams exact\n\n",
        report.codec,
        report.client,
        report.mode,
        report.exact,
        report.lines.len()
    );
    if let Some(guest) = &report.guest {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "The guest: {}\n", guest.lines().next().unwrap_or_default());
    }
    let mut suites: Vec<&str> = report.lines.iter().map(|line| line.suite.as_str()).collect();
    suites.dedup();
    suites.sort_unstable();
    suites.dedup();
    text.push_str("| suite | exact | streams |\n|---|---|---|\n");
    for suite in suites {
        let of = || report.lines.iter().filter(|line| line.suite == suite);
        let _ = writeln!(
            text,
            "| {suite} | {} | {} |",
            of().filter(|line| line.exact).count(),
            of().count()
        );
    }
    text.push_str(
        "\n| stream | profile | size | frames | exact | fps | why not |\n|---|---|---|---|---|---|---|\n",
    );
    for line in &report.lines {
        let fps = line.fps.map_or_else(String::new, |fps| format!("{fps:.0}"));
        let exact = if line.exact { "yes" } else { "no" };
        let limit = line
            .limit
            .as_ref()
            .map_or_else(String::new, |limit| format!("client's limit: {limit}; "));
        let reason = format!("{limit}{}", line.reason).replace('|', "/");
        let _ = writeln!(
            text,
            "| {} | {} | {}x{} | {} | {exact} | {fps} | {reason} |",
            line.file, line.profile, line.width, line.height, line.frames
        );
    }
    text
}
