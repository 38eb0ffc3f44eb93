// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Instructions, counted by callgrind: of the engine and of ffmpeg for the same clip, and of the engine by
//! stage. In a root of its own, which has valgrind.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use daedalus_uapi::Codec;
use serde::{Deserialize, Serialize};

use super::clips::{self, Clip, Kind};
use super::engine::{self, EngineTarget};
use super::figures::{Bound, Target};
use super::options::Args;
use super::table::Table;
use crate::bed::Bed;
use crate::make::root;
use crate::site::files::read;

/// ffmpeg decodes clips once and so often: the difference is one more time, with no start.
const TIMES: usize = 2;

/// What the stages are called, in the order of a job's way.
const PARSING: &str = "parsing (the client's part)";
const HEADERS: &str = "engine: headers, bookkeeping";
const DECODING: &str = "decoder library";
const PICTURES: &str = "engine: interleaving, shifting and copying pictures";
const LIBC: &str = "C library (copying and clearing memory, allocation)";
const OTHER: &str = "other";

/// What a clip came to, in instructions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    clip: String,
    codec: Codec,
    depth: u8,
    frames: usize,
    /// Whole runs, and as far as nothing is decoded.
    engine: u64,
    engine_start: u64,
    /// For the clip twice, and once.
    ffmpeg_twice: u64,
    ffmpeg_once: u64,
    /// The engine's by stage: the whole run without its start, but for parsing, which is the start's.
    stages: BTreeMap<String, u64>,
}

impl Row {
    /// Without what each does once.
    fn ratio(&self) -> f64 {
        (self.engine - self.engine_start) as f64 / self.peer()
    }

    /// With the engine's start and parsing: too high.
    fn at_most(&self) -> f64 {
        self.engine as f64 / self.peer()
    }

    fn peer(&self) -> f64 {
        (self.ffmpeg_twice - self.ffmpeg_once) as f64
    }
}

/// Counts.
pub(crate) fn measure(bed: &Bed, args: &Args) -> Result<Vec<Row>> {
    let decoder = engine::example(bed, engine::JOBS)?;
    let root = root::make(bed, root::BENCH)?;
    let mut clips = clips::repeated(bed, Kind::Demo("1080p"), TIMES)?;
    clips.extend(clips::repeated(bed, Kind::TenBit, TIMES)?);
    clips
        .iter()
        .filter(|clip| args.takes(clip.codec))
        .map(|clip| row(bed, &root, clip, &decoder).with_context(|| clip.name.clone()))
        .collect()
}

fn row(bed: &Bed, root: &Path, clip: &Clip, decoder: &Path) -> Result<Row> {
    let (twice, once) = (root::inside(bed, &clip.path), root::inside(bed, &clip.once));
    let (decoder, file) = (decoder.display(), once.display());
    let count = |name: &str, command: &str| count(bed, root, &format!("{}-{name}", clip.name), command);
    let format = Some(engine::format(clip.depth));
    let whole = count("engine", &format!("{decoder} {file} 1 1"))?;
    let start = count("engine-start", &format!("{decoder} {file} 1 0"))?;
    let ffmpeg_twice = count("ffmpeg-twice", &engine::ffmpeg(clip, &twice, 1, format))?.total();
    let ffmpeg_once = count("ffmpeg-once", &engine::ffmpeg(clip, &once, 1, format))?.total();
    let mut stages = BTreeMap::new();
    for (stage, instructions) in whole.stages() {
        let before = start.stages().get(stage).copied().unwrap_or_default();
        let own = if stage == PARSING {
            instructions
        } else {
            instructions.saturating_sub(before)
        };
        stages.insert(stage.to_owned(), own);
    }
    let (engine, engine_start) = (whole.total(), start.total());
    ensure!(
        engine > engine_start && ffmpeg_twice > ffmpeg_once,
        "more was decoded with fewer instructions"
    );
    Ok(Row {
        clip: clip.name.clone(),
        codec: clip.codec,
        depth: clip.depth,
        frames: clip.frames / TIMES,
        engine,
        engine_start,
        ffmpeg_twice,
        ffmpeg_once,
        stages,
    })
}

/// Runs a command under callgrind.
fn count(bed: &Bed, root: &Path, name: &str, command: &str) -> Result<Profile> {
    let out = bed.target.join("bench/callgrind").join(format!("{name}.out"));
    std::fs::create_dir_all(bed.target.join("bench/callgrind"))?;
    std::fs::remove_file(&out).ok();
    bed.command_in(root, "valgrind", &[])?
        .args(["-q", "--tool=callgrind"])
        .arg(format!(
            "--callgrind-out-file={}",
            root::inside(bed, &out).display()
        ))
        .args(command.split_whitespace())
        .log(bed.target.join("bench/callgrind").join(format!("{name}.log")))
        .run()?;
    let profile = Profile::parse(&read(&out)?);
    ensure!(profile.total() > 0, "callgrind counted nothing of {name}");
    Ok(profile)
}

/// Instructions by object file and function, without those of called functions.
#[derive(Debug, Default)]
struct Profile(BTreeMap<(String, String), u64>);

impl Profile {
    /// Reads callgrind's output. Names come as `(ID) NAME` once and as `(ID)` then; a line of cost is that of
    /// the function named last, but for the one after `calls=`, which is the called function's.
    fn parse(text: &str) -> Self {
        let mut profile = Self::default();
        let (mut objects, mut functions) = (Names::default(), Names::default());
        let (mut object, mut function) = (String::new(), String::new());
        let mut of_call = false;
        for line in text.lines() {
            if let Some((key, value)) = line.split_once('=') {
                match key {
                    "ob" => object = objects.get(value),
                    "fn" => function = functions.get(value),
                    "cob" => drop(objects.get(value)),
                    "cfn" => drop(functions.get(value)),
                    "calls" => of_call = true,
                    _ => {}
                }
            } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
                let cost = line
                    .split_whitespace()
                    .nth(1)
                    .and_then(|word| word.parse::<u64>().ok());
                if !std::mem::take(&mut of_call) {
                    let entry = profile.0.entry((object.clone(), function.clone()));
                    *entry.or_default() += cost.unwrap_or_default();
                }
            }
        }
        profile
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn stages(&self) -> BTreeMap<&'static str, u64> {
        let mut stages = BTreeMap::new();
        for ((object, function), instructions) in &self.0 {
            *stages.entry(stage(object, function)).or_default() += instructions;
        }
        stages
    }
}

/// The names so far.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn get(&mut self, value: &str) -> String {
        let Some((id, name)) = value.split_once(')') else {
            return value.to_owned();
        };
        let name = name.trim();
        if name.is_empty() {
            return self.0.get(id).cloned().unwrap_or_default();
        }
        self.0.insert(id.to_owned(), name.to_owned());
        name.to_owned()
    }
}

/// To which stage a function belongs.
fn stage(object: &str, function: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| function.contains(word));
    if ["libavcodec", "libavutil", "libdav1d"]
        .iter()
        .any(|name| object.contains(name))
    {
        DECODING
    } else if has(&["daedalus_client", "cros_codecs"]) {
        PARSING
    } else if has(&[
        "interleave",
        "convert_line",
        "copy_line",
        "raise",
        "daedalus_engine::capture",
        "daedalus_engine::convert",
    ]) {
        PICTURES
    } else if has(&["daedalus_engine", "daedalus_codecs"]) {
        HEADERS
    } else if object.contains("libc.so") {
        LIBC
    } else {
        OTHER
    }
}

/// The tables.
pub(crate) fn tables(rows: &[Row]) -> Vec<Table> {
    let mut counts = Table::new(
        "Instructions with one thread, in millions (callgrind)",
        &["clip", "frames", "engine", "ffmpeg", "ratio", "at most"],
    );
    let order = [PARSING, HEADERS, DECODING, PICTURES, LIBC, OTHER];
    let mut head = vec!["clip"];
    head.extend(order);
    let mut stages = Table::new("The engine's instructions by stage, in percent", &head);
    for row in rows {
        let millions = |count: u64| format!("{:.0}", count as f64 / 1e6);
        counts.row(vec![
            row.clip.clone(),
            row.frames.to_string(),
            millions(row.engine - row.engine_start),
            millions(row.ffmpeg_twice - row.ffmpeg_once),
            format!("{:.3}", row.ratio()),
            format!("{:.3}", row.at_most()),
        ]);
        let all: u64 = row.stages.values().sum();
        let mut cells = vec![row.clip.clone()];
        cells.extend(order.map(|stage| {
            let own = row.stages.get(stage).copied().unwrap_or_default();
            format!("{:.1}", own as f64 * 100.0 / all.max(1) as f64)
        }));
        stages.row(cells);
    }
    vec![counts, stages]
}

/// Target 1 (instructions).
pub(crate) fn targets(rows: Option<&[Row]>) -> Vec<Target> {
    engine::one_thread()
        .into_iter()
        .map(
            |EngineTarget {
                 codec, depth, bound, ..
             }| {
                let row =
                    rows.and_then(|rows| rows.iter().find(|row| row.codec == codec && row.depth == depth));
                Target::new(
                    format!(
                        "1: {} {depth} bit, 1 thread, instructions, of ffmpeg's to {}",
                        codec.title(),
                        engine::format(depth)
                    ),
                    Bound::AtMost(bound),
                    row.map(Row::ratio),
                )
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_called_functions_are_theirs() {
        let text = "events: Ir\n\nob=(1) /x/decode\nfl=(1) a.rs\nfn=(1) daedalus_engine::codec::submit\n16 \
                    400\n\
                    cob=(2) /x/libavcodec.so.61\ncfi=(2) b.c\ncfn=(2) avcodec_send_packet\ncalls=1 50\n16 \
                    9000\n+1 20\n\n\
                    ob=(2)\nfl=(2)\nfn=(2)\n50 9000\n\nob=(1)\nfn=(3) \
                    daedalus_engine::convert::interleave_8\n* 7\n\
                    totals: 9427\n";
        let profile = Profile::parse(text);
        assert_eq!(profile.total(), 9427);
        let stages = profile.stages();
        assert_eq!(
            (stages[HEADERS], stages[DECODING], stages[PICTURES]),
            (420, 9000, 7)
        );
    }
}
