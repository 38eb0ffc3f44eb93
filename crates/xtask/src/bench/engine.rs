// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The engine alone, on the machine itself, against other programs: processor and wall time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use daedalus_uapi::Codec;
use serde::{Deserialize, Serialize};

use super::clips::{self, Clip, Kind};
use super::figures::{Bound, Spread, Target};
use super::options::Args;
use super::plot::Bar;
use super::runs::{Entry, Plan, Row as Run, Rows};
use super::table::{Table, names_of_files};
use crate::bed::Bed;
use crate::codecs;
use crate::make::root;
use crate::site::files::write_json;
use crate::site::table;
use crate::site::ui;

/// The most threads that are tried.
const MOST_THREADS: usize = 4;
/// A clip's frames are decoded so often in a run.
const TIMES: usize = 4;
const TIMES_TEN_BIT: usize = 12;
const TIMES_LARGE: usize = 6;

/// Puts a command and what it starts into a scheduling class whose threads the host spreads over all
/// processors at once, and which nothing else on the machine is in. Some hosts pack threads of the ordinary
/// class on few processors.
const REAL_TIME: [&str; 3] = ["chrt", "--rr", "1"];

/// A target of the engine, as a row of targets.tsv.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EngineTarget {
    target: Aim,
    pub(crate) codec: Codec,
    /// Bits per sample.
    pub(crate) depth: u8,
    pub(crate) bound: f64,
    /// What kind of clip it is about; may be empty.
    clip: String,
}

/// What a target is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Aim {
    /// The most that the engine may take of the processor time that ffmpeg takes, with one thread.
    OneThread,
    /// How many times as fast as with one thread it is at least with two.
    TwoThreads,
    /// The same for the decoder of streams.
    StreamTwoThreads,
}

/// The bound with one thread where the table has no other.
const ONE_THREAD: f64 = 1.0;

/// Returns the table's targets of a kind.
fn targets_of(aim: Aim) -> Vec<EngineTarget> {
    // A test reads the same text.
    let rows: Vec<EngineTarget> =
        table::rows("bench/targets.tsv", include_str!("targets.tsv")).unwrap_or_default();
    rows.into_iter().filter(|row| row.target == aim).collect()
}

/// Returns the targets with one thread: for each codec with 8 bit, then for those that have it with 10 bit.
pub(crate) fn one_thread() -> Vec<EngineTarget> {
    let rows = targets_of(Aim::OneThread);
    let target = |(codec, depth): (Codec, u8)| {
        let row = rows.iter().find(|row| (row.codec, row.depth) == (codec, depth));
        row.cloned().unwrap_or_else(|| EngineTarget {
            target: Aim::OneThread,
            codec,
            depth,
            bound: ONE_THREAD,
            clip: String::new(),
        })
    };
    let all = Codec::ALL.iter().map(|codec| (*codec, 8));
    all.chain(codecs::ten_bit().into_iter().map(|codec| (codec, 10)))
        .map(target)
        .collect()
}

/// The engine against a peer with as many threads: ratios, so less than 1 is less than the peer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ratios {
    peer: String,
    threads: usize,
    /// Of processor time, without what either does once: starting, and for the engine parsing, which a client
    /// does. The engine's start is a run that decodes nothing; a peer's run of the clip once is taken from
    /// that of the clip several times, which leaves exactly some of the clip.
    cpu: Spread,
    /// The same with the engine's start and parsing: too high.
    at_most: Spread,
    wall: Spread,
}

/// So many threads of the engine against one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Threads {
    threads: usize,
    /// How many times as fast.
    faster: Spread,
    cpu: Spread,
}

/// What a clip came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    clip: String,
    codec: Codec,
    depth: u8,
    mbit: f64,
    frames: usize,
    runs: usize,
    /// Frames per second with one thread.
    fps: Spread,
    against: Vec<Ratios>,
    threads: Vec<Threads>,
    /// Of the decoder of streams.
    streams: Vec<Threads>,
    /// Of the engine, and of the peers.
    libraries: Vec<String>,
    peer_libraries: Vec<String>,
}

/// The example that decodes a file as a client of the stateless node gives it.
pub(crate) const JOBS: &str = "decode";
/// The one that decodes it as a client of the stateful node does.
const STREAM: &str = "decode_stream";

/// An example of the engine, built in the root; its path there.
pub(crate) fn example(bed: &Bed, name: &str) -> Result<PathBuf> {
    bed.command("cargo")?
        .args(["build", "--release", "--locked", "--offline", "--quiet"])
        .args(["--package", "daedalus-engine", "--example", name])
        .run()
        .context("building the engine's example failed")?;
    Ok(Path::new(root::TREE)
        .join("target/root/release/examples")
        .join(name))
}

/// ffmpeg's words for a clip: decoded to `format`, or to what the decoder makes.
pub(crate) fn ffmpeg(clip: &Clip, path: &Path, threads: usize, format: Option<&str>) -> String {
    let decoder = clip.codec.info().ffmpeg;
    let format = format.map_or_else(String::new, |format| format!("-pix_fmt {format}"));
    format!(
        "ffmpeg -v error -nostdin -threads {threads} -c:v {decoder} -i {} -threads {threads} -filter_threads \
         1 {format} \
         -fps_mode passthrough -f null -",
        path.display()
    )
}

/// What the engine's pictures are in ffmpeg's words.
pub(crate) fn format(depth: u8) -> &'static str {
    if depth > 8 { "p010le" } else { "nv12" }
}

const NULL: &str = "ffmpeg, as decoded";

/// ffmpeg with the pixel format that the engine makes.
fn converted(depth: u8) -> String {
    format!("ffmpeg, {}", format(depth))
}

fn named(name: &str, threads: usize) -> String {
    format!("{name}, {threads}")
}

/// The engine as far as it decodes nothing.
const START: &str = "engine, start";

/// The same command for the clip once.
fn once(name: &str) -> String {
    format!("{name}, once")
}

const ENGINE: &str = "engine";
const ENGINE_STREAM: &str = "engine, stream";
/// The latter as far as it decodes nothing.
const STREAM_START: &str = "engine, stream, start";

/// Returns the program of a codec's own, as a peer.
fn own(codec: Codec) -> Option<String> {
    let row = codecs::row(codec).ok()?;
    row.program.map(|program| format!("{program}, as decoded"))
}

/// The peers of a clip.
fn peers(clip: &Clip) -> Vec<String> {
    let mut peers = vec![converted(clip.depth), NULL.to_owned()];
    peers.extend(own(clip.codec));
    peers
}

fn plan(bed: &Bed, clip: &Clip, examples: &[PathBuf; 2], runs: usize, most: usize) -> Plan {
    let (several, single) = (root::inside(bed, &clip.path), root::inside(bed, &clip.once));
    let run = |example: &Path, threads: usize, rounds: usize| {
        format!("{} {} {threads} {rounds}", example.display(), several.display())
    };
    let [jobs, stream] = examples;
    let command = |peer: &str, file: &Path, threads: usize| match peer.split_once(", as decoded") {
        Some((program, _)) if peer != NULL => {
            let file = file.display();
            format!("{program} -q --threads {threads} -i {file} --muxer null -o /dev/null")
        }
        _ => ffmpeg(clip, file, threads, pixels(peer, clip.depth)),
    };
    let mut commands = vec![
        Entry::new(START, &run(jobs, 1, 0)),
        Entry::new(STREAM_START, &run(stream, 1, 0)),
    ];
    for threads in 1..=most {
        commands.push(Entry::new(&named(ENGINE, threads), &run(jobs, threads, 1)));
        commands.push(Entry::new(
            &named(ENGINE_STREAM, threads),
            &run(stream, threads, 1),
        ));
        for peer in peers(clip) {
            let name = named(&peer, threads);
            commands.push(Entry::new(&once(&name), &command(&peer, &single, threads)));
            commands.push(Entry::new(&name, &command(&peer, &several, threads)));
        }
    }
    Plan { runs, commands }
}

fn pixels(peer: &str, depth: u8) -> Option<&'static str> {
    (peer != NULL).then(|| format(depth))
}

/// Measures.
pub(crate) fn measure(bed: &Bed, args: &Args) -> Result<Vec<Row>> {
    let examples = [example(bed, JOBS)?, example(bed, STREAM)?];
    let mut clips = clips::repeated(bed, Kind::Demo("1080p"), args.times(TIMES).max(2))?;
    clips.extend(clips::repeated(
        bed,
        Kind::TenBit,
        args.times(TIMES_TEN_BIT).max(2),
    )?);
    if args.large {
        clips.extend(clips::repeated(bed, Kind::Large, args.times(TIMES_LARGE).max(2))?);
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = processors.clamp(2, MOST_THREADS);
    let program = root::inside(bed, &bed.binaries()?.join("daedalus-measure"));
    let dir = bed.target.join("bench");
    let spread = bed
        .command(REAL_TIME[0])?
        .args(&REAL_TIME[1..])
        .arg("true")
        .output()
        .is_ok();
    if !spread {
        ui::note("no real-time class here: the host may put threads of a decoder on one processor");
    }
    let mut all = Vec::new();
    for clip in clips.iter().filter(|clip| args.takes(clip.codec)) {
        let (plan_file, rows_file) = (
            dir.join(format!("plan-engine-{}.json", clip.name)),
            dir.join(format!("rows-engine-{}.jsonl", clip.name)),
        );
        write_json(&plan_file, &plan(bed, clip, &examples, args.runs, most))?;
        let command = if spread {
            bed.command(REAL_TIME[0])?.args(&REAL_TIME[1..]).arg(&program)
        } else {
            bed.command(&program)?
        };
        command
            .args(["alternate", "--scratch", "/tmp/daedalus-measure", "--plan"])
            .arg(root::inside(bed, &plan_file))
            .arg("--out")
            .arg(root::inside(bed, &rows_file))
            .run()?;
        all.push(row(clip, &Rows::read(&rows_file)?, args.runs, most).with_context(|| clip.name.clone())?);
    }
    Ok(all)
}

fn row(clip: &Clip, rows: &Rows, runs: usize, most: usize) -> Result<Row> {
    let engine_start = rows.of(START)?;
    // How often the clip was decoded in what is compared.
    let (own_times, peer_times) = (clip.times as f64, clip.times as f64 - 1.0);
    let mut against = Vec::new();
    for threads in 1..=most {
        let engine = rows.of(&named(ENGINE, threads))?;
        for peer in peers(clip) {
            let name = named(&peer, threads);
            let (several, single) = (rows.of(&name)?, rows.of(&once(&name))?);
            let ratio = |over: &dyn Fn(usize) -> Result<f64>, figure: fn(&Run) -> f64| {
                let ratios = (0..engine.len()).map(|at| {
                    let under = (figure(several[at]) - figure(single[at])) / peer_times;
                    Ok(over(at)? / own_times / under)
                });
                Spread::of(ratios.collect::<Result<_>>()?)
            };
            against.push(Ratios {
                threads,
                cpu: ratio(&|at| Ok(engine[at].cpu() - engine_start[at].cpu()), Run::cpu)?,
                at_most: ratio(&|at| Ok(engine[at].cpu()), Run::cpu)?,
                wall: ratio(&|at| seconds(engine[at]), |run| run.wall)?,
                peer,
            });
        }
    }
    let one = rows.of(&named(ENGINE, 1))?;
    let libraries = names_of_files(&rows.libraries(&named(ENGINE, 1)));
    let peer_libraries: std::collections::BTreeSet<String> = peers(clip)
        .iter()
        .flat_map(|peer| rows.libraries(&named(peer, 1)))
        .collect();
    ensure!(!libraries.is_empty(), "no decoder library of the engine was seen");
    Ok(Row {
        clip: clip.name.clone(),
        codec: clip.codec,
        depth: clip.depth,
        mbit: clip.mbit,
        frames: clip.frames,
        runs,
        fps: Spread::of(
            one.iter()
                .map(|run| Ok(clip.frames as f64 / seconds(run)?))
                .collect::<Result<_>>()?,
        )?,
        against,
        threads: against_one(rows, ENGINE, START, most)?,
        streams: against_one(rows, ENGINE_STREAM, STREAM_START, most)?,
        libraries,
        peer_libraries: names_of_files(&peer_libraries),
    })
}

/// Compares runs of `name` with several threads with those with one. `start` decodes nothing.
fn against_one(rows: &Rows, name: &str, start: &str, most: usize) -> Result<Vec<Threads>> {
    let (one, start) = (rows.of(&named(name, 1))?, rows.of(start)?);
    (2..=most)
        .map(|threads| {
            let several = rows.of(&named(name, threads))?;
            let pairs = || one.iter().zip(&several);
            let faster = pairs().map(|(one, several)| Ok(seconds(one)? / seconds(several)?));
            let cpu = pairs()
                .zip(&start)
                .map(|((one, several), start)| (several.cpu() - start.cpu()) / (one.cpu() - start.cpu()));
            Ok(Threads {
                threads,
                faster: Spread::of(faster.collect::<Result<_>>()?)?,
                cpu: Spread::of(cpu.collect())?,
            })
        })
        .collect()
}

/// The seconds that the engine's jobs took, of what the example prints.
fn seconds(run: &Run) -> Result<f64> {
    let printed = run.printed.trim();
    printed
        .strip_suffix(" s")
        .and_then(|text| text.rsplit(' ').next()?.parse().ok())
        .with_context(|| format!("the example printed '{printed}'"))
}

/// The tables.
pub(crate) fn tables(rows: &[Row]) -> Vec<Table> {
    let mut against = Table::new(
        "The engine against programs with as many threads",
        &[
            "clip",
            "Mbit/s",
            "frames",
            "runs",
            "against",
            "threads",
            "CPU",
            "CPU, at most",
            "wall",
        ],
    );
    let mut threads = Table::new(
        "The engine with several threads against itself with one",
        &["clip", "runs", "threads", "times as fast", "CPU"],
    );
    let mut streams = Table::new(
        "The engine's decoder of streams with several threads against itself with one",
        &["clip", "runs", "threads", "times as fast", "CPU"],
    );
    let mut libraries = Table::new("Decoder libraries that were loaded", &["clip", "engine", "peers"]);
    for row in rows {
        for one in &row.against {
            against.row(vec![
                row.clip.clone(),
                format!("{:.1}", row.mbit),
                row.frames.to_string(),
                row.runs.to_string(),
                one.peer.clone(),
                one.threads.to_string(),
                one.cpu.text(),
                one.at_most.text(),
                one.wall.text(),
            ]);
        }
        for (table, list) in [(&mut threads, &row.threads), (&mut streams, &row.streams)] {
            for one in list {
                table.row(vec![
                    row.clip.clone(),
                    row.runs.to_string(),
                    one.threads.to_string(),
                    one.faster.text(),
                    one.cpu.text(),
                ]);
            }
        }
        libraries.row(vec![
            row.clip.clone(),
            row.libraries.join(", "),
            row.peer_libraries.join(", "),
        ]);
    }
    vec![against, threads, streams, libraries, raspberry_pi(rows)]
}

/// How fast a core of a Raspberry Pi 5 is, of one of the machine on which the document's figures were made:
/// at least, and at most. docs/performance.md says where they are from.
const PI_CORE: [f64; 2] = [0.16, 0.61];
/// Its cores.
const PI_CORES: f64 = 4.0;

/// Frames per second that are expected of a Raspberry Pi 5, at least and at most: with four threads as many
/// times as fast as with two here, or that again.
fn expected(fps: f64, two_threads: f64) -> [f64; 2] {
    let threads = [two_threads, (two_threads * two_threads).min(PI_CORES)];
    [0, 1].map(|at| fps * PI_CORE[at] * threads[at])
}

/// The estimate.
fn raspberry_pi(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "Estimated, not measured: a Raspberry Pi 5",
        &[
            "clip",
            "fps here, 1 thread",
            "2 threads",
            "fps",
            "over 30 fps",
            "over 60 fps",
        ],
    );
    for row in rows {
        let Some(two) = row.threads.iter().find(|one| one.threads == 2) else {
            continue;
        };
        let [least, most] = expected(row.fps.median, two.faster.median);
        let over = |fps: f64| format!("{:.1} to {:.1}", least / fps, most / fps);
        table.row(vec![
            row.clip.clone(),
            format!("{:.0}", row.fps.median),
            format!("{:.2}", two.faster.median),
            format!("{least:.0} to {most:.0}"),
            over(30.0),
            over(60.0),
        ]);
    }
    table
}

/// Targets 1 (time) and 2.
pub(crate) fn targets(rows: Option<&[Row]>) -> Vec<Target> {
    let find = |codec: Codec, depth: u8| {
        rows.and_then(|rows| {
            rows.iter()
                .find(|row| row.codec == codec && row.depth == depth && row.clip.ends_with("1080p"))
        })
    };
    let mut targets = Vec::new();
    for EngineTarget {
        codec, depth, bound, ..
    } in one_thread()
    {
        let against = find(codec, depth).and_then(|row| {
            row.against
                .iter()
                .find(|one| one.threads == 1 && one.peer == converted(depth))
        });
        targets.push(Target::new(
            format!(
                "1: {} {depth} bit, 1 thread, CPU, of {}'s",
                codec.title(),
                converted(depth)
            ),
            Bound::AtMost(bound),
            against.map(|one| one.cpu.median),
        ));
    }
    for aim in [Aim::TwoThreads, Aim::StreamTwoThreads] {
        for EngineTarget {
            codec,
            depth,
            bound,
            clip,
            ..
        } in targets_of(aim)
        {
            let list = find(codec, depth).map(|row| match aim {
                Aim::StreamTwoThreads => &row.streams,
                Aim::TwoThreads | Aim::OneThread => &row.threads,
            });
            let two = list.and_then(|list| list.iter().find(|one| one.threads == 2));
            targets.push(Target::new(
                format!("2: {} ({clip}), 2 threads, times as fast as 1", codec.title()),
                Bound::AtLeast(bound),
                two.map(|one| one.faster.median),
            ));
        }
    }
    targets
}

/// The plot's bars: against ffmpeg with one thread, and threads.
pub(crate) fn bars(rows: &[Row]) -> (Vec<Bar>, Vec<Bar>) {
    let mut peers = Vec::new();
    let mut threads = Vec::new();
    let bounds = one_thread();
    for row in rows {
        let bound = bounds
            .iter()
            .find(|bound| bound.codec == row.codec && bound.depth == row.depth)
            .map(|bound| bound.bound);
        for one in row.against.iter().filter(|one| one.threads == 1) {
            let target = bound.filter(|_| one.peer == converted(row.depth));
            peers.push(Bar {
                label: format!("{}, of {}", row.clip, one.peer),
                spread: one.cpu,
                target,
            });
        }
        threads.extend(row.threads.iter().map(|one| Bar {
            label: format!("{}, {} threads", row.clip, one.threads),
            spread: one.faster,
            target: None,
        }));
    }
    (peers, threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_a_range_and_no_more_than_all_cores() {
        assert_eq!(expected(100.0, 1.5), [100.0 * 0.16 * 1.5, 100.0 * 0.61 * 2.25]);
        assert_eq!(expected(100.0, 2.5)[1], 100.0 * 0.61 * 4.0);
    }

    #[test]
    fn every_codec_has_a_target_and_every_row_is_one() {
        let rows: Vec<EngineTarget> = table::rows("bench/targets.tsv", include_str!("targets.tsv")).unwrap();
        let targets = one_thread();
        assert!(
            Codec::ALL
                .iter()
                .zip(&targets)
                .all(|(codec, row)| row.codec == *codec)
        );
        assert!(
            targets
                .iter()
                .any(|row| row.depth == 10 && row.bound == ONE_THREAD)
        );
        let used = targets.iter().filter(|row| row.bound != ONE_THREAD).count();
        let threads = targets_of(Aim::TwoThreads).len() + targets_of(Aim::StreamTwoThreads).len();
        assert_eq!(used + threads, rows.len());
    }
}
