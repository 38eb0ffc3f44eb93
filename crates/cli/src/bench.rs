// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus bench`: how fast files are decoded through the device, and by software without it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::output::{print_line, print_text};
use crate::player::{self, By, files, is_wide, progress, start};
use crate::system::System;

/// Frames per second of what people watch.
const WANTED: [f64; 2] = [30.0, 60.0];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(
        required = true,
        help = format!("Files: {}; ten seconds or more, since GStreamer's start is measured, too", files())
    )]
    files: Vec<PathBuf>,
    /// How often each is decoded in each way, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// A report in Markdown, with what is known of the machine: for a Raspberry Pi 5, of which nothing was
    /// measured yet
    #[arg(long, conflicts_with = "json")]
    pi_report: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// One way of decoding.
#[derive(Debug, Default, Serialize)]
struct Way {
    element: String,
    /// Of each run, fastest first.
    fps: Vec<f64>,
    /// Processor time of the whole machine per frame in ms, of each run, least first: client, worker, kernel,
    /// and whatever else ran.
    cpu_ms: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    file: String,
    codec: String,
    width: usize,
    height: usize,
    bit_depth: u8,
    frames: u64,
    device: Way,
    software: Way,
}

#[derive(Debug, Serialize)]
struct Report {
    /// What is known of the machine: name and value.
    machine: Vec<(String, String)>,
    rows: Vec<Row>,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let mut machine = machine(&System::this());
    let rows = args
        .files
        .iter()
        .map(|file| row(file, args.runs).with_context(|| file.display().to_string()))
        .collect::<Result<Vec<Row>>>()?;
    if let Some(degrees) = temperature(&System::this()) {
        machine.push(("temperature at the end".to_owned(), degrees));
    }
    if let Some(throttled) = throttled() {
        machine.push(("throttled since boot (vcgencmd)".to_owned(), throttled));
    }
    let report = Report { machine, rows };
    if args.json {
        print_line(serde_json::to_string_pretty(&report)?)?;
    } else if args.pi_report {
        print_text(&markdown(&report, args.runs)?)?;
    } else {
        print_text(&text(&report)?)?;
    }
    Ok(true)
}

/// Decodes a file once to learn what it is, then in both ways in turns.
fn row(file: &Path, runs: u32) -> Result<Row> {
    let mut first = start(file, By::Device)?;
    let mut row: Option<Row> = None;
    let bar = progress(file)?;
    while let Some((shape, _)) = first.next()? {
        let row = row.get_or_insert_with(|| Row {
            file: file.display().to_string(),
            codec: String::new(),
            width: shape.width,
            height: shape.height,
            bit_depth: if is_wide(shape) { 10 } else { 8 },
            frames: 0,
            device: Way::default(),
            software: Way::default(),
        });
        row.frames += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut row = row.context("no frame")?;
    let bar = ProgressBar::new(u64::from(runs) * 2).with_message(row.file.clone());
    for _ in 0..runs {
        for (by, way) in [(By::Device, &mut row.device), (By::Software, &mut row.software)] {
            let (codec, element, command) = player::discarding(file, by)?;
            let (seconds, cpu) = timed(command)?;
            row.codec = codec.title().to_owned();
            way.element = element;
            way.fps.push(row.frames as f64 / seconds);
            way.cpu_ms.push(cpu * 1000.0 / row.frames as f64);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    for way in [&mut row.device, &mut row.software] {
        way.fps.sort_by(|one, other| other.total_cmp(one));
        way.cpu_ms.sort_by(f64::total_cmp);
    }
    Ok(row)
}

/// Runs a command: its seconds, and the processor seconds of the whole machine meanwhile.
fn timed(mut command: Command) -> Result<(f64, f64)> {
    let before = busy()?;
    let started_at = Instant::now();
    let output = command
        .output()
        .context("cannot start gst-launch-1.0: sudo apt install gstreamer1.0-tools")?;
    let seconds = started_at.elapsed().as_secs_f64();
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && !messages.contains("ERROR"),
        "gst-launch-1.0 failed ({}): {}",
        output.status,
        messages
            .lines()
            .find(|line| line.contains("ERROR"))
            .unwrap_or(messages.trim())
    );
    Ok((seconds, busy()? - before))
}

/// Processor seconds that the machine has not been idle for since it was started.
fn busy() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let ticks = busy_ticks(&text).context("/proc/stat has no line 'cpu'")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// user, nice, system, irq and softirq of the line of all processors (proc_stat(5)).
fn busy_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.lines().next()?.split_whitespace();
    (fields.next()? == "cpu").then_some(())?;
    let fields: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    Some([0, 1, 2, 5, 6].iter().filter_map(|&at| fields.get(at)).sum())
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Returns the machine's properties.
fn machine(system: &System) -> Vec<(String, String)> {
    let text = |path: &str| {
        let text = system.text(path).ok()?;
        let text = text.trim_end_matches(['\n', '\0']).trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let processor = || {
        let info = system.text("/proc/cpuinfo").ok()?;
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let megahertz = text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq")
        .and_then(|kilohertz| Some(format!("{} MHz", kilohertz.parse::<u64>().ok()? / 1000)));
    let gstreamer = Command::new("gst-launch-1.0")
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().nth(1).map(str::to_owned)
        });
    [
        ("machine", text("/proc/device-tree/model").or_else(processor)),
        ("processors", Some(cores.to_string())),
        ("highest frequency", megahertz),
        (
            "governor",
            text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        ),
        ("kernel", text("/proc/sys/kernel/osrelease")),
        (
            "page size",
            Some(format!("{} KiB", rustix::param::page_size() / 1024)),
        ),
        ("daedalus", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("GStreamer", gstreamer),
        ("temperature at the beginning", temperature(system)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

fn temperature(system: &System) -> Option<String> {
    let text = system.text("/sys/class/thermal/thermal_zone0/temp").ok()?;
    let thousandths: f64 = text.trim().parse().ok()?;
    Some(format!("{:.1} °C", thousandths / 1000.0))
}

/// Returns the words of a Raspberry Pi's firmware about low voltage and heat.
fn throttled() -> Option<String> {
    let output = Command::new("vcgencmd").arg("get_throttled").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn text(report: &Report) -> Result<String> {
    let mut out = String::new();
    for row in &report.rows {
        writeln!(
            out,
            "{}: {} {}x{}, {} bit, {} frames",
            row.file, row.codec, row.width, row.height, row.bit_depth, row.frames
        )?;
        for (name, way) in [("device", &row.device), ("software", &row.software)] {
            let range = (way.fps.last().copied().unwrap_or_default(), median(&way.fps));
            writeln!(
                out,
                "  {name:<9} {:>7.1} fps ({:.1} to {:.1}), {:.1} ms of processor time per frame ({})",
                range.1,
                range.0,
                way.fps.first().copied().unwrap_or_default(),
                median(&way.cpu_ms),
                way.element
            )?;
        }
    }
    Ok(out)
}

fn markdown(report: &Report, runs: u32) -> Result<String> {
    let mut out = String::from("| | |\n| --- | --- |\n");
    for (name, value) in &report.machine {
        writeln!(out, "| {name} | {value} |")?;
    }
    writeln!(
        out,
        "\nMedians of {runs} runs in turns, GStreamer's start in them; processor time is the whole \
         machine's.\n\n\
         | stream | frames | fps | over {} fps | over {} fps | ms of processor time per frame | \
         software, fps | ms |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        WANTED[0], WANTED[1]
    )?;
    for row in &report.rows {
        let fps = median(&row.device.fps);
        writeln!(
            out,
            "| {} {}x{}, {} bit | {} | {fps:.1} | {:.2} | {:.2} | {:.1} | {:.1} ({}) | {:.1} |",
            row.codec,
            row.width,
            row.height,
            row.bit_depth,
            row.frames,
            fps / WANTED[0],
            fps / WANTED[1],
            median(&row.device.cpu_ms),
            median(&row.software.fps),
            row.software.element,
            median(&row.software.cpu_ms),
        )?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_processors_are_not_busy() {
        let stat = "cpu  10 20 30 4000 500 6 7 0 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n";
        assert_eq!(busy_ticks(stat), Some(10 + 20 + 30 + 6 + 7));
        assert_eq!(busy_ticks("intr 5"), None);
    }

    #[test]
    fn the_report_has_margins() {
        let way = |fps: f64| Way {
            element: "element".into(),
            fps: vec![fps],
            cpu_ms: vec![1.0],
        };
        let report = Report {
            machine: vec![("machine".into(), "Raspberry Pi 5 Model B".into())],
            rows: vec![Row {
                file: "a.ivf".into(),
                codec: "MJPEG".into(),
                width: 1920,
                height: 1080,
                bit_depth: 8,
                frames: 300,
                device: way(90.0),
                software: way(60.0),
            }],
        };
        let text = markdown(&report, 5).unwrap();
        assert!(text.contains("| machine | Raspberry Pi 5 Model B |"), "{text}");
        assert!(
            text.contains(
                "| MJPEG 1920x1080, 8 bit | 300 | 90.0 | 3.00 | 1.50 | 1.0 | 60.0 (element) | 1.0 |"
            ),
            "{text}"
        );
    }
}
