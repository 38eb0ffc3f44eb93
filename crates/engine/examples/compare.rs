// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures the engine against the ffmpeg program, and its threads against one: `compare CLIP [RUNS]`
//! (default 7), with a clip of 8 bit.
//!
//! Each run decodes the clip four times, one after the other, so that whatever else the machine does strikes
//! all alike: by `ffmpeg -threads 1 -pix_fmt nv12 -f null`, by the engine with one thread, with one thread
//! and no decoding into CAPTURE, and with two threads. All are processes of their own. The ratios are of one
//! run's CPU time (user and system) or wall time; their median, least and greatest are printed, and one line
//! of JSON.
//!
//! The engine's time is that of all its jobs, from the first to the last. The parsing before is the client's
//! part. ffmpeg's time is that of its whole run less that of a run which decodes one picture: without the
//! start of a program with a hundred libraries, but with its parser. `compare --once CLIP THREADS DIRECT`
//! decodes once: for a profiler.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::Codec;
use daedalus_engine::{Options, Status, Threads};
use daedalus_uapi::fourcc;
use support::{Capture, Player};

/// CAPTURE buffers. The parser says late what is shown, so that it takes more than most clients have.
const BUFFERS: usize = 40;

/// What one run took, in seconds.
#[derive(Clone, Copy, Debug)]
struct RunTimes {
    cpu: f64,
    wall: f64,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--once", clip, threads, direct] => once(Path::new(clip), threads.parse()?, direct.parse()?),
        [clip] => compare(clip, 7),
        [clip, runs] => compare(clip, runs.parse().context("RUNS")?),
        _ => bail!("usage: compare CLIP [RUNS]"),
    }
}

/// Decodes the clip and prints the time that this process has used.
fn once(clip: &Path, threads: u32, direct: bool) -> Result<()> {
    let options = Options {
        threads: Threads::Fixed(threads),
        direct,
        ..Options::default()
    };
    let jobs = daedalus_client::jobs(clip)?;
    let mut player = Player::new(jobs.codec().coded_format(), &options)?;
    let jobs: Vec<_> = jobs.collect::<Result<_, _>>()?;
    let last = support::last_uses(&jobs);
    let mut held: HashMap<u64, Capture> = HashMap::new();
    // The oldest is used next, as a queue does it.
    let mut free = std::collections::VecDeque::new();
    for _ in 0..BUFFERS {
        let first = jobs.first().context("no picture")?;
        let capture = Capture::new(fourcc::NV12, first.coded_width, first.coded_height)?;
        // The kernel gives out memory that is there; page faults are not the decoder's.
        capture.fill(0)?;
        free.push_back(capture);
    }
    let (start, cpu_before) = (Instant::now(), own_cpu()?);
    for (index, job) in jobs.iter().enumerate() {
        let capture = match held.remove(&job.timestamp).filter(|_| job.same_capture) {
            Some(capture) => capture,
            None => free.pop_front().context("the clip needs more buffers")?,
        };
        let report = player.play(job, &capture)?;
        ensure!(
            report.status == Status::Ok,
            "picture {index}: {:?}",
            report.reason
        );
        held.insert(job.timestamp, capture);
        let over: Vec<_> = held
            .keys()
            .copied()
            .filter(|timestamp| last.get(timestamp).is_none_or(|&last| last <= index))
            .collect();
        free.extend(over.iter().filter_map(|timestamp| held.remove(timestamp)));
    }
    let wall = start.elapsed().as_secs_f64();
    let cpu = own_cpu()? - cpu_before;
    println!("cpu={cpu:.6} wall={wall:.6} pictures={}", jobs.len());
    Ok(())
}

/// CPU time of all threads of this process that live, in seconds.
fn own_cpu() -> Result<f64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let field = text.split_whitespace().next().context("schedstat")?;
        nanoseconds += field.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// The number after `name=` in `text`.
fn number(text: &str, name: &str) -> Result<f64> {
    let (_, rest) = text
        .split_once(name)
        .with_context(|| format!("no {name} in {text}"))?;
    let end = rest
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().with_context(|| rest.to_owned())
}

fn engine(clip: &str, threads: u32, direct: bool) -> Result<RunTimes> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--once", clip, &threads.to_string(), &direct.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(RunTimes {
        cpu: number(&text, "cpu=")?,
        wall: number(&text, "wall=")?,
    })
}

fn ffmpeg(codec: Codec, clip: &str) -> Result<RunTimes> {
    let (all, one) = (
        ffmpeg_pictures(codec, clip, "1000000")?,
        ffmpeg_pictures(codec, clip, "1")?,
    );
    Ok(RunTimes {
        cpu: all.cpu - one.cpu,
        wall: all.wall - one.wall,
    })
}

/// Decodes at most so many pictures.
fn ffmpeg_pictures(codec: Codec, clip: &str, pictures: &str) -> Result<RunTimes> {
    let decoder = codec.info().ffmpeg;
    let output = Command::new("ffmpeg")
        .args([
            "-v",
            "info",
            "-nostdin",
            "-benchmark",
            "-threads",
            "1",
            "-c:v",
            decoder,
            "-i",
            clip,
        ])
        .args([
            "-threads",
            "1",
            "-filter_threads",
            "1",
            "-pix_fmt",
            "nv12",
            "-fps_mode",
            "passthrough",
        ])
        .args(["-frames:v", pictures, "-f", "null", "-"])
        .output()
        .context("this needs the ffmpeg program")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}");
    Ok(RunTimes {
        cpu: number(&text, "utime=")? + number(&text, "stime=")?,
        wall: number(&text, "rtime=")?,
    })
}

/// Median, least and greatest.
fn spread(mut ratios: Vec<f64>) -> (f64, f64, f64) {
    ratios.sort_by(f64::total_cmp);
    (ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1])
}

fn compare(clip: &str, runs: usize) -> Result<()> {
    ensure!(runs > 0, "no runs");
    let codec = daedalus_client::jobs(clip)?.codec();
    let mut rows: [(&str, Vec<f64>); 4] = [
        ("CPU, engine / ffmpeg to NV12", Vec::new()),
        ("CPU, engine without direct decoding / ffmpeg to NV12", Vec::new()),
        ("wall, 1 thread / 2 threads", Vec::new()),
        ("CPU, 2 threads / 1 thread", Vec::new()),
    ];
    for run in 0..runs {
        let peer = ffmpeg(codec, clip)?;
        let one = engine(clip, 1, true)?;
        let copied = engine(clip, 1, false)?;
        let two = engine(clip, 2, true)?;
        println!(
            "run {}: CPU ffmpeg {:.3} s, engine {:.3} s, not direct {:.3} s, 2 threads {:.3} s; \
             wall {:.3} s, {:.3} s",
            run + 1,
            peer.cpu,
            one.cpu,
            copied.cpu,
            two.cpu,
            one.wall,
            two.wall
        );
        rows[0].1.push(one.cpu / peer.cpu);
        rows[1].1.push(copied.cpu / peer.cpu);
        rows[2].1.push(one.wall / two.wall);
        rows[3].1.push(two.cpu / one.cpu);
    }
    let mut json = Vec::new();
    for (name, ratios) in rows {
        let (median, least, greatest) = spread(ratios);
        println!(
            "{}: {name}: {median:.3} ({least:.3} to {greatest:.3}, {runs} runs)",
            codec.title()
        );
        json.push(format!(
            "{{\"ratio\":\"{name}\",\"median\":{median:.4},\"least\":{least:.4},\"greatest\":{greatest:.4}}}"
        ));
    }
    println!(
        "{{\"codec\":\"{}\",\"runs\":{runs},\"ratios\":[{}]}}",
        codec.title(),
        json.join(",")
    );
    Ok(())
}
