// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Folders of streams through the device, by one client or several, compared with their MANIFEST.

pub(crate) mod client;
mod folders;
pub(crate) mod generated;
mod limits;
pub(crate) mod manifest;
mod near;
mod report;
mod sniff;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daedalus_common::play::{ReferenceList, Stream};
use daedalus_common::vectors;
use daedalus_uapi::Codec;

use crate::bed::Bed;
use crate::guest::paths;
use crate::outcome::{self, Check, Outcome};
use crate::play::{self, PlayOptions};
use crate::site::files::write_json;
use crate::site::ui;
use crate::streams::{self, ListedStream, Use};
use client::{Choice, Client, Face};
use folders::{Item, Set};
use report::{Line, Report, StreamResult};

/// Arguments of `./dev conformance`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Through which client
    #[arg(long, value_enum, default_value_t)]
    client: Choice,
    /// Through which node
    #[arg(long, value_enum, default_value_t)]
    face: Face,
    /// Every fourth row of each MANIFEST that is 8 bit, progressive and of one size, until 20 per codec
    #[arg(long, conflicts_with = "subset")]
    quick: bool,
    /// Rows of each codec that between them have every feature which clients treat in their own way
    #[arg(long)]
    subset: bool,
    /// A directory with MANIFEST.tsv, or with such directories in it, instead of the vectors beside the tree
    #[arg(long)]
    vectors: Option<PathBuf>,
    /// The streams that this tree generates (made first if they are not there: several minutes)
    #[arg(long, conflicts_with = "vectors")]
    generated: bool,
    /// With --generated: only those that are made in a minute
    #[arg(long, requires = "generated")]
    small: bool,
    /// Only streams whose path contains this text
    #[arg(long)]
    only: Option<String>,
    /// An argument of `daedalusd broker`, such as --daemon=--no-direct; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    daemon: Vec<String>,
    /// A parameter of the module, such as --module=contiguous=1; may be repeated
    #[arg(long, value_name = "PARAMETER=VALUE")]
    module: Vec<String>,
    /// A Debian root below target/ whose ffmpeg plays instead of the guest's own, with --face stateful
    #[arg(long, value_name = "ROOT")]
    ffmpeg: Option<PathBuf>,
    /// Names of codecs; all if none is named
    codec: Vec<Codec>,
    #[arg(skip)]
    silent: bool,
}

impl Args {
    /// What `./dev test` runs, one after the other.
    pub(crate) fn tests() -> [Self; 5] {
        let base = Self {
            silent: true,
            ..Self::default()
        };
        [
            Self {
                quick: true,
                ..base.clone()
            },
            // What makes it fast, switched off.
            Self {
                quick: true,
                daemon: vec!["--threads=1".into(), "--no-direct".into()],
                module: vec!["contiguous=1".into(), "max_contiguous_mb=512".into()],
                ..base.clone()
            },
            // Several pictures at a time, by a client that has several in flight: the guest's one processor
            // would get one thread.
            Self {
                quick: true,
                client: Choice::FfmpegLike,
                daemon: vec!["--threads=2".into()],
                ..base.clone()
            },
            Self {
                client: Choice::All,
                subset: true,
                ..base.clone()
            },
            Self {
                client: Choice::All,
                generated: true,
                small: true,
                ..base
            },
        ]
    }

    fn mode(&self) -> &'static str {
        let as_shipped = self.daemon.is_empty() && self.module.is_empty() && self.ffmpeg.is_none();
        match (self.quick, self.subset, self.small) {
            (true, ..) if as_shipped => "quick",
            (true, ..) => "quick with options",
            (_, true, _) => "subset",
            (.., true) => "small",
            _ if as_shipped => "all",
            _ => "all with options",
        }
    }

    /// Returns the codecs that are meant, in the order of the registry.
    fn codecs(&self) -> impl Iterator<Item = Codec> {
        let meant = |codec: &Codec| self.codec.is_empty() || self.codec.contains(codec);
        Codec::ALL.iter().copied().filter(meant)
    }
}

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let outcome = Outcome::new();
    let set = match &args.vectors {
        Some(dir) => {
            let name = dir.canonicalize().ok();
            let name = name.as_deref().and_then(Path::file_name);
            let name = name.map_or_else(|| "vectors".into(), |name| name.to_string_lossy().into_owned());
            Set::open(&name, dir)?
        }
        None if args.generated => Set::open("generated", &generated::folder(bed, args.small)?)?,
        None => match bed.vectors() {
            Some(dir) => Set::open("vectors", &dir)?,
            None => {
                let reason = format!(
                    "{}, or name a directory with --vectors (MANIFEST.tsv, the streams and \
                     FILE.nv12.frames.md5, or such \
                     a directory per codec)",
                    vectors::MISSING
                );
                for codec in args.codecs() {
                    outcome.skip(&format!("conformance {codec} ({})", args.mode()), &reason);
                }
                return Ok(outcome);
            }
        },
    };
    let dir = bed.target.join("conformance");
    std::fs::create_dir_all(&dir)?;
    let mut works = Vec::new();
    for codec in args.codecs() {
        let items = select(args, &set, codec)?;
        if !items.is_empty() {
            works.push(Work { codec, items });
        }
    }
    // Short runs share a guest, whose start would take longer than they do.
    let per_guest = if args.mode() == "all" {
        1
    } else {
        works.len().max(1)
    };
    let mut reports = Vec::new();
    for group in works.chunks(per_guest) {
        for report in play_streams(bed, args, &set, group)? {
            judge(&outcome, args, &report);
            report.write(
                &dir,
                &file_name(&set, args, &format!("{}-{}", report.codec, report.client)),
            )?;
            reports.push(report);
        }
    }
    if args.mode() == "all" && !args.generated {
        // The generator of streams compares its own.
        for work in &works {
            near::check(bed, &outcome, &set.root, work.codec, &work.items)?;
        }
    }
    not_offered(&outcome, args, &set)?;
    ensure!(
        !outcome.checks().is_empty(),
        "no row of {} is taken",
        set.root.display()
    );
    report::summary(&dir, &file_name(&set, args, "summary"), &reports)?;
    let junit = format!("{}.xml", file_name(&set, args, "junit"));
    report::junit(&dir.join(junit), &reports)?;
    Ok(outcome)
}

/// `SET-MODE-NAME`; the set is left out for the vectors beside the tree, the mode if it is all of it.
fn file_name(set: &Set, args: &Args, name: &str) -> String {
    let mode = Some(args.mode().replace(' ', "-")).filter(|mode| *mode != "all");
    let set = Some(set.name.as_str()).filter(|name| *name != "vectors");
    let face = (args.face == Face::Stateful).then_some("stateful");
    let parts: Vec<&str> = set
        .into_iter()
        .chain(face)
        .chain(mode.as_deref())
        .chain([name])
        .collect();
    parts.join("-")
}

/// The streams of a codec that the arguments mean.
fn select(args: &Args, set: &Set, codec: Codec) -> Result<Vec<Item>> {
    let mut items = if args.quick {
        set.items(codec, manifest::quick)?
    } else {
        set.items(codec, <[_]>::to_vec)?
    };
    if args.subset {
        items = subset(codec, &items)?;
    }
    if let Some(part) = &args.only {
        items.retain(|item| item.name.contains(part.as_str()));
    }
    Ok(items)
}

/// Returns those of a codec's streams that stand for all. One that is not there is an error: a subset that
/// shrinks by itself would test less and less.
fn subset(codec: Codec, items: &[Item]) -> Result<Vec<Item>> {
    let mut streams = streams::of(Use::Subset)?;
    streams.retain(|stream| stream.codec == codec);
    let item = |stream: &ListedStream| {
        let item = items.iter().find(|item| item.name == stream.file).cloned();
        item.with_context(|| format!("streams.tsv names {}, which no MANIFEST has", stream.file))
    };
    streams.iter().map(item).collect()
}

/// A codec's streams that are to be played.
struct Work {
    codec: Codec,
    items: Vec<Item>,
}

/// Plays the streams of some codecs in one guest through each client, and compares the clients.
fn play_streams(bed: &Bed, args: &Args, set: &Set, works: &[Work]) -> Result<Vec<Report>> {
    let streams: Vec<Stream> = works
        .iter()
        .flat_map(|work| work.items.iter().map(|item| (work.codec, item)))
        .filter(|(_, item)| item.not_offered.is_none())
        .map(|(codec, item)| stream(set, codec, item))
        .collect();
    ensure!(!streams.is_empty(), "no stream has a raw format of the device");
    let codecs: Vec<&str> = works.iter().map(|work| work.codec.name()).collect();
    let name = file_name(set, args, &codecs.join("-"));
    let list = bed.target.join("conformance").join(format!("{name}.list.json"));
    write_json(&list, &streams)?;
    let clients = args.client.clients(args.face);
    let mut daemon = args.daemon.clone();
    if clients.iter().copied().any(Client::is_stateful) {
        daemon.push("--faces=both".into());
    }
    let lists: Vec<(&str, PathBuf)> = clients
        .iter()
        .map(|client| (client.name(), list.clone()))
        .collect();
    let setup = match &args.ffmpeg {
        Some(root) => other_ffmpeg(&paths::in_guest(bed, root)?),
        None => String::new(),
    };
    let results = play::play(
        bed,
        &PlayOptions {
            job: &format!("conformance-{name}"),
            lists: &lists,
            // What is asked is whether pictures are right. One of 2160p may take a busy machine's guest
            // longer than the watchdog's 900 ms; lateness is what ./dev torture tests.
            parameters: &format!("watchdog_ms=5000 {}", quoted(&args.module)),
            daemon: &quoted(&daemon),
            setup: &setup,
            arguments: "--stall 30 --limit 180",
            // A client is taken for hung after 30 s; a row's own limit bounds the whole.
            timeout: Duration::from_secs(120 + 20 * (streams.len() * lists.len()) as u64),
            vectors: Some(&set.root),
        },
    )?;
    // --quick's rows are plain: no client has an excuse there.
    let limits = if args.quick { Vec::new() } else { limits::all()? };
    let mut all = Vec::new();
    for work in works {
        let mut reports: Vec<Report> = clients
            .iter()
            .zip(&results)
            .map(|(client, result)| {
                Report::new(
                    (&set.name, work.codec, args.mode()),
                    *client,
                    &work.items,
                    result,
                    &limits,
                )
            })
            .collect();
        report::cross_check(&mut reports);
        all.extend(reports);
    }
    Ok(all)
}

/// Lines of a guest's script after which `ffmpeg` is that of another root, with that root's libraries.
fn other_ffmpeg(root: &str) -> String {
    let machine = "lib/x86_64-linux-gnu";
    // A root that is extracted and not configured has no alternatives, and no links of merged directories.
    let libraries = ["/", "/usr/"].map(|top| format!("{root}{top}{machine}"));
    let more = ["pulseaudio", "blas", "lapack"].map(|dir| format!("{root}/usr/{machine}/{dir}"));
    let line = format!(
        "exec {} --library-path {} {} \"$@\"",
        paths::quoted(&format!("{root}/{machine}/ld-linux-x86-64.so.2")),
        paths::quoted(&[&libraries[..], &more[..]].concat().join(":")),
        paths::quoted(&format!("{root}/usr/bin/ffmpeg"))
    );
    format!(
        "mkdir /tmp/client\nprintf '%s\\n' '#!/bin/sh' {} >/tmp/client/ffmpeg\nchmod +x /tmp/client/ffmpeg\n\
         export PATH=/tmp/client:$PATH\nffmpeg -version | sed -n 1p\n",
        paths::quoted(&line)
    )
}

/// Words for a shell.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| paths::quoted(word)).collect();
    words.join(" ")
}

/// A row of a MANIFEST of the vectors, `file` as CODEC/FILE, as a stream to play in the guest; `None` where
/// there are none.
pub(crate) fn listed(bed: &Bed, file: &str) -> Result<Option<Stream>> {
    let Some(dir) = bed.vectors() else {
        return Ok(None);
    };
    let set = Set::open("vectors", &dir)?;
    let (codec, row) = file.split_once('/').context("no codec's directory")?;
    let codec = codec.parse()?;
    let items = set.items(codec, <[_]>::to_vec)?;
    let item = items
        .iter()
        .find(|item| item.entry.file == row)
        .with_context(|| format!("no MANIFEST has {file}"))?;
    Ok(Some(stream(&set, codec, item)))
}

fn stream(set: &Set, codec: Codec, item: &Item) -> Stream {
    let dir = Path::new("/mnt/vectors").join(&item.folder);
    let sums = item.entry.sums();
    let listed = set.root.join(&item.folder).join(&sums).is_file();
    Stream {
        name: item.name.clone(),
        path: dir.join(&item.entry.file),
        codec,
        format: Some(
            if item.entry.bit_depth() == Some(10) {
                "P010_10LE"
            } else {
                "NV12"
            }
            .into(),
        ),
        width: item.entry.width,
        height: item.entry.height,
        frames: item.entry.frames,
        // The MANIFEST's checksum of the whole decides; the list says where a difference is.
        references: listed
            .then(|| ReferenceList {
                name: "MANIFEST".into(),
                path: dir.join(&sums),
            })
            .into_iter()
            .collect(),
        planar_md5: Some(item.entry.raw_md5.clone()),
        keep: Vec::new(),
        // GStreamer's own copy takes pictures that wait for their turn to be of the newest size.
        converted: item.entry.size_changes,
        coded: None,
    }
}

/// Prints a report's lines, and turns it into checks: a pass or failure for codec and client, and a skip for
/// each reason for which the client does not hand over streams as they are.
fn judge(outcome: &Outcome, args: &Args, report: &Report) {
    let mut skips: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in &report.lines {
        if line.result == StreamResult::Wrong || !args.silent {
            ui::line(&line.text());
        }
        if line.result.is_skipped() {
            skips.entry(&line.reason).or_default().push(line);
        }
    }
    for (reason, lines) in skips {
        let also: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.exact_through.as_deref())
            .collect();
        let also = match (&also[..], lines.len()) {
            ([], _) => String::new(),
            ([one], 1) => format!(" [{one}]"),
            (some, all) => format!(" [{} of {all} exact through another client]", some.len()),
        };
        let what = match &lines[..] {
            [line] => line.file.clone(),
            lines => format!("{} streams", lines.len()),
        };
        outcome.skip(
            &format!("conformance {} {}, {what}", report.codec, report.client),
            &format!("{reason}{also}"),
        );
    }
    if report.guest.is_none() && report.count(StreamResult::ClientRefuses) == report.lines.len() {
        // The client does not know the codec.
        return;
    }
    let result = require_exact(report);
    outcome.record(Check {
        name: format!("conformance {} {} ({})", report.codec, report.client, args.mode()),
        result: if result.is_ok() {
            outcome::CheckResult::Passed
        } else {
            outcome::CheckResult::Failed
        },
        note: result.unwrap_or_else(|error| format!("{error:#}")),
        seconds: report.seconds,
    });
}

/// `Err` unless every stream is exact or of no concern, and the guest is clean.
fn require_exact(report: &Report) -> Result<String> {
    let wrong = report.count(StreamResult::Wrong);
    if wrong > 0 {
        let guest = report.guest.as_deref().unwrap_or("the guest is clean");
        bail!(
            "{wrong} of {} streams are not as they must be; {guest}",
            report.lines.len()
        );
    }
    if let Some(guest) = &report.guest {
        bail!("every stream is as it must be, but the guest is not clean: {guest}");
    }
    ensure!(report.count(StreamResult::Exact) > 0, "no stream is exact");
    Ok(report.text())
}

/// Says of each codec that the device does not offer that its streams are skipped.
fn not_offered(outcome: &Outcome, args: &Args, set: &Set) -> Result<()> {
    // Options of the daemon and the module make no other codec, and the subset has none.
    if !args.codec.is_empty() || args.subset || !["quick", "all"].contains(&args.mode()) {
        return Ok(());
    }
    let others = if args.quick {
        set.others(manifest::quick)?
    } else {
        set.others(<[_]>::to_vec)?
    };
    for (codec, mut items) in others {
        items.retain(|item| args.only.as_ref().is_none_or(|part| item.name.contains(part)));
        if let Some(reason) = items.first().and_then(|item| item.not_offered.as_deref()) {
            let streams = match items.len() {
                1 => "1 stream".to_owned(),
                count => format!("{count} streams"),
            };
            outcome.skip(
                &format!("conformance {codec} ({}), {streams}", args.mode()),
                reason,
            );
        }
    }
    Ok(())
}
