// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Folders of streams through the device, by one client or several, compared with their MANIFEST.

mod client;
mod folders;
mod generated;
mod limits;
mod manifest;
mod report;
mod subset;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bed::Bed;
use crate::demo::play::{self, Playing, ReferenceList, Stream, write_json};
use crate::outcome::Outcome;
use crate::ui;
use client::{Choice, Client};
use folders::{CODECS, Item, Set};
use report::{Report, Verdict};

/// What a run without vectors says.
const NO_VECTORS: &str = "no vectors: put them at ../shared/vectors beside the tree, or name a directory with \
                          --vectors (MANIFEST.tsv, the streams and FILE.nv12.frames.md5, or such a directory per codec)";

/// Arguments of `./dev conformance`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Through which client
    #[arg(long, value_enum, default_value_t)]
    client: Choice,
    /// Every fourth row of each MANIFEST that is 8 bit, progressive and of one size, until 20 per codec
    #[arg(long, conflicts_with = "subset")]
    quick: bool,
    /// The rows of subset.tsv, which between them have every feature that clients treat in their own way
    #[arg(long)]
    subset: bool,
    /// A directory with MANIFEST.tsv, or with such directories in it, instead of ../shared/vectors
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
    /// h264, vp9 or av1; all three if none is named
    codec: Vec<String>,
    #[arg(skip)]
    silent: bool,
}

impl Args {
    /// What `./dev test` runs, one after the other.
    pub(crate) fn tests() -> [Self; 3] {
        let base = Self {
            silent: true,
            ..Self::default()
        };
        [
            Self {
                quick: true,
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
        match (self.quick, self.subset, self.small) {
            (true, ..) => "quick",
            (_, true, _) => "subset",
            (.., true) => "small",
            _ => "all",
        }
    }

    fn wants(&self, codec: &str) -> bool {
        self.codec.is_empty() || self.codec.iter().any(|named| named == codec)
    }
}

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let outcome = Outcome::new();
    ensure!(
        args.codec.iter().all(|a| CODECS.contains(&a.as_str())),
        "codecs are {}, not {}",
        CODECS.join(", "),
        args.codec.join(", ")
    );
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
                for codec in CODECS.into_iter().filter(|codec| args.wants(codec)) {
                    outcome.skip(&format!("conformance {codec}"), NO_VECTORS);
                }
                return Ok(outcome);
            }
        },
    };
    let dir = bed.target.join("conformance");
    std::fs::create_dir_all(&dir)?;
    let mut reports = Vec::new();
    for codec in CODECS.into_iter().filter(|codec| args.wants(codec)) {
        let items = chosen(args, &set, codec)?;
        if items.is_empty() {
            continue;
        }
        let of_codec = played(bed, &outcome, args, &set, codec, &items);
        for report in &of_codec {
            judge(&outcome, args, report);
            report.write(
                &dir,
                &file_name(&set, args, &format!("{codec}-{}", report.client)),
            )?;
        }
        reports.extend(of_codec);
    }
    not_offered(&outcome, args, &set)?;
    ensure!(
        !outcome.checks().is_empty(),
        "no row of {} is taken",
        set.root.display()
    );
    report::summary(&dir, &file_name(&set, args, "summary"), &reports)?;
    Ok(outcome)
}

/// `SET-MODE-NAME`; the set is left out for ../shared/vectors, the mode if it is all of it.
fn file_name(set: &Set, args: &Args, name: &str) -> String {
    let mode = Some(args.mode()).filter(|mode| *mode != "all");
    let set = Some(set.name.as_str()).filter(|name| *name != "vectors");
    let parts: Vec<&str> = set.into_iter().chain(mode).chain([name]).collect();
    parts.join("-")
}

/// The streams of a codec that the arguments mean.
fn chosen(args: &Args, set: &Set, codec: &str) -> Result<Vec<Item>> {
    let mut items = if args.quick {
        set.items(codec, manifest::quick)?
    } else {
        set.items(codec, <[_]>::to_vec)?
    };
    if args.subset {
        items = subset::choose(codec, items)?;
    }
    if let Some(part) = &args.only {
        items.retain(|item| item.name.contains(part.as_str()));
    }
    Ok(items)
}

/// Plays a codec's streams through each client and compares the clients. A client whose guest did not start leaves a
/// failed check and no report.
fn played(bed: &Bed, outcome: &Outcome, args: &Args, set: &Set, codec: &str, items: &[Item]) -> Vec<Report> {
    let mut reports = Vec::new();
    for client in args.client.clients() {
        match through(bed, args, set, codec, *client, items) {
            Ok(report) => reports.push(report),
            Err(error) => {
                outcome.check(&format!("conformance {codec} {}", client.name()), || Err(error));
            }
        }
    }
    report::cross_check(&mut reports);
    reports
}

/// Plays a codec's streams through one client.
fn through(bed: &Bed, args: &Args, set: &Set, codec: &str, client: Client, items: &[Item]) -> Result<Report> {
    let streams: Vec<Stream> = items
        .iter()
        .filter(|item| item.not_offered.is_none())
        .map(|item| stream(set, codec, item))
        .collect();
    ensure!(
        !streams.is_empty(),
        "none of its streams has a raw format of the device"
    );
    let name = file_name(set, args, &format!("{codec}-{}", client.name()));
    let list = bed.target.join("conformance").join(format!("{name}.list.json"));
    write_json(&list, &streams)?;
    let played = play::play(
        bed,
        &Playing {
            job: &format!("conformance-{name}"),
            list: &list,
            arguments: "--stall 30 --limit 180",
            // A client is taken for hung after 30 s; a row's own limit bounds the whole.
            timeout: Duration::from_secs(120 + 20 * streams.len() as u64),
            vectors: Some(&set.root),
            client: client.name(),
        },
    )?;
    // --quick's rows are plain: no client has an excuse there.
    let limits = if args.quick { Vec::new() } else { limits::all()? };
    Ok(Report::new(
        (&set.name, codec, args.mode()),
        client,
        items,
        &played,
        &limits,
    ))
}

fn stream(set: &Set, codec: &str, item: &Item) -> Stream {
    let dir = Path::new("/mnt/vectors").join(&item.folder);
    let sums = item.entry.sums();
    let listed = set.root.join(&item.folder).join(&sums).is_file();
    Stream {
        name: item.name.clone(),
        path: dir.join(&item.entry.file),
        codec: codec.into(),
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
        coded: None,
    }
}

/// Prints a report's lines, and turns it into checks: a pass or failure for codec and client, a skip for each stream
/// that the client does not hand over as it is.
fn judge(outcome: &Outcome, args: &Args, report: &Report) {
    for line in &report.lines {
        if line.verdict == Verdict::Wrong || !args.silent {
            ui::line(&line.text());
        }
        if line.verdict.skipped() {
            let also = line.exact_through.as_ref();
            let also = also.map_or_else(String::new, |rows| format!(" [{rows}]"));
            outcome.skip(
                &format!("conformance {} {}", line.client, line.file),
                &format!("{}{also}", line.reason),
            );
        }
    }
    let name = format!("conformance {} {} ({})", report.codec, report.client, args.mode());
    outcome.check(&name, || {
        let wrong = report.count(Verdict::Wrong);
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
        ensure!(report.count(Verdict::Exact) > 0, "no stream is exact");
        Ok(report.text())
    });
}

/// Streams of codecs that the device does not offer: one skip for each.
fn not_offered(outcome: &Outcome, args: &Args, set: &Set) -> Result<()> {
    if !args.codec.is_empty() || args.quick || args.subset {
        return Ok(());
    }
    for item in set.others()? {
        if args.only.as_ref().is_none_or(|part| item.name.contains(part)) {
            let reason = item.not_offered.context("a stream of no codec")?;
            outcome.skip(&format!("conformance {}", item.name), &reason);
        }
    }
    Ok(())
}
