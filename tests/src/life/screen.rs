// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pictures on a screen: GStreamer hands CAPTURE buffers as dmabufs to vkms, a display without a screen that
//! computes a checksum (CRC) of everything it shows. Each picture has to have the checksum of the same
//! picture when it is shown from memory of the display, copied there from a file. The sink has to import
//! every buffer and copy none.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::device::Nodes;
use daedalus_uapi::codec::Codec;
use rustix::fs::OFlags;
use serde_json::json;

use super::common::Common;
use crate::codec;
use crate::gst::{self, Decoders};
use crate::guest::broker::Broker;
use crate::guest::clip::{Clip, Clips};
use crate::guest::figures::Figures;
use crate::guest::left;
use crate::guest::process::command;
use crate::guest::rig::Rig;
use crate::stateful::has_ffmpeg_decoder;

/// Where vkms tells its checksums.
const CRC: &str = "/sys/kernel/debug/dri/vkms/crtc-0/crc";
/// How long a pipeline may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where the pictures are that are copied.
const PICTURES: &str = "/tmp/pictures.raw";
/// How often each picture comes from a file. That path may write to a buffer that is on the screen, so single
/// checksums are of torn pictures.
const REPEATS: usize = 10;
/// How often the screen is looked at without a picture.
const LOOKS: usize = 3;
/// The number of refreshes for which a picture from a file is on the screen at least.
const HELD: usize = 4;
/// The log that has a line for each picture that the sink imports and for each that it copies
/// (`gst_kms_sink_import_dmabuf` and `gst_kms_sink_get_input_buffer` in gstkmssink.c).
const DEBUG: &str = "2,kmssink:6,GST_PERFORMANCE:4";
/// Where it is.
const LOG: &str = "/tmp/kmssink.log";
/// In the line of a picture whose buffer the sink imports, the first time and later.
const IMPORTS: [&str; 2] = ["found these prime ids", "found KMS mem"];
/// In the line of a picture that it copies.
const COPIES: &str = "frame copy";

/// Arguments of `screen`.
#[derive(Debug, clap::Args)]
pub(super) struct ScreenArgs {
    /// Shows each clip again until it has shown so many pictures.
    #[arg(long, default_value_t = 1)]
    pictures: usize,
    /// Decodes through the stateful node.
    #[arg(long)]
    pub(super) stateful: bool,
}

/// A clip, and the format in which it is shown: as GStreamer names it in system memory, and as DRM does.
struct Case {
    clip: String,
    format: &'static str,
    fourcc: &'static str,
}

/// Returns a clip of each codec, and one of 10 bits through the stateless elements. Nobody has tried 10 bits
/// through the stateful ones here.
///
/// YU12 is not among them: GStreamer decodes it as YM12, three dmabufs, and vkms reads every plane from the
/// memory of the first (`map[0]` in vkms_formats.c of Linux 7.2), so its checksums are of another picture.
fn cases(args: &ScreenArgs) -> Vec<Case> {
    let every = codec::every("640x480");
    let deep = Case {
        clip: codec::usual("10bit-640x480"),
        format: "p010-10le",
        fourcc: "P010",
    };
    let every = every.into_iter().map(|clip| Case {
        clip,
        format: "nv12",
        fourcc: "NV12",
    });
    every.chain((!args.stateful).then_some(deep)).collect()
}

/// A checksum, and for how many refreshes of the screen it was the same.
struct Run {
    crc: String,
    refreshes: usize,
}

/// What a pipeline showed.
struct Shown {
    runs: Vec<Run>,
    /// Pictures whose buffers the sink imported; the first one counts twice, before and after the start.
    imports: usize,
    /// Pictures that it copied.
    copies: usize,
}

/// Runs the scenario.
pub(super) fn screen(common: &Common, args: &ScreenArgs, figures: &mut Figures) -> Result<()> {
    for module in ["vgem", "vkms"] {
        command("modprobe", &["-d", "/mnt/modules", module])?;
    }
    let clips = common.small()?;
    let (broker, nodes) = Broker::start_with(common, &["--faces=both"])?;
    let empty = nothing_shown()?;
    let (mut wrong, mut without, mut shown) = (Vec::new(), Vec::new(), 0);
    let cases = cases(args);
    for case in &cases {
        // GStreamer has stateful elements for the codecs for which FFmpeg has such decoders.
        if args.stateful && !has_ffmpeg_decoder(clips.file(&case.clip)?.1)? {
            without.push(case.clip.as_str());
            continue;
        }
        let pictures = expected(case, &clips, &nodes, &empty)
            .and_then(|expected| compare(case, &clips, args, &expected, &empty));
        match pictures {
            Ok(pictures) => shown += pictures,
            Err(error) => wrong.push(format!("{} as {}: {error:#}", case.clip, case.fourcc)),
        }
    }
    figures.set("pictures", shown);
    figures.set("clips_exact", cases.len() - wrong.len() - without.len());
    figures.set("clips_without_an_element", json!(without));
    let formats: Vec<&str> = cases.iter().map(|case| case.fourcc).collect();
    figures.set("formats", json!(formats));
    broker.stop()?;
    // What was imported is let go.
    left::nothing_and_nobody()?;
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Returns the checksums of what is no picture: no plane, the black one that sets the mode, and a grey one.
/// The first pipeline turns the screen on, and may have the black one behind it when the checksums begin.
fn nothing_shown() -> Result<BTreeSet<String>> {
    let grey = "videotestsrc pattern=solid-color foreground-color=0xff808080 num-buffers=8 ! \
                video/x-raw,format=NV12,width=640,height=480";
    let mut seen = BTreeSet::new();
    for _ in 0..LOOKS {
        seen.extend(show(grey)?.runs.into_iter().map(|run| run.crc));
    }
    Ok(seen)
}

/// Shows a clip's pictures from a file. Returns their checksums.
fn expected(case: &Case, clips: &Clips, nodes: &Nodes, empty: &BTreeSet<String>) -> Result<Vec<String>> {
    let clip = clips.clip(&case.clip)?;
    let pipeline = format!(
        "filesrc location={PICTURES} ! rawvideoparse format={} width=640 height=480",
        case.format
    );
    let pictures = decoded(&clip, nodes)?;
    let mut file = File::create(PICTURES).context("the pictures' file")?;
    for picture in &pictures {
        for _ in 0..REPEATS {
            file.write_all(picture)?;
        }
    }
    drop(file);
    let expected = pictures_of(show(&pipeline)?.runs, HELD, empty);
    std::fs::remove_file(PICTURES)?;
    ensure!(
        expected.len() == pictures.len(),
        "{} pictures of a file have {} checksums",
        pictures.len(),
        expected.len()
    );
    Ok(expected)
}

/// Shows a clip through the device, as often as is asked for. Returns how many pictures there were.
fn compare(
    case: &Case,
    clips: &Clips,
    args: &ScreenArgs,
    expected: &[String],
    empty: &BTreeSet<String>,
) -> Result<usize> {
    let (path, codec) = clips.file(&case.clip)?;
    let pipeline = decoder(&path, codec, case, args.stateful)?;
    let mut pictures = 0;
    while pictures < args.pictures {
        let shown = show(&pipeline)?;
        let (imports, copies) = (shown.imports, shown.copies);
        let crcs = pictures_of(shown.runs, 1, empty);
        pictures += expected.len();
        ensure!(
            crcs == expected,
            "before picture {pictures}, the screen showed {crcs:?}, and the pictures are {expected:?}"
        );
        ensure!(
            imports >= expected.len() && copies == 0,
            "of {} pictures the sink imported {imports} and copied {copies}",
            expected.len()
        );
    }
    Ok(pictures)
}

/// Decodes a clip, and demands that it is exact. Returns its pictures as they are shown, packed as in a file.
fn decoded(clip: &Clip, nodes: &Nodes) -> Result<Vec<Vec<u8>>> {
    let payload = clip.jobs.iter().map(|job| job.payload.len()).max();
    let mut rig = Rig::open(nodes, clip.codec, &clip.jobs[0], payload.unwrap_or_default(), 1)?;
    let mut returned = Vec::new();
    for job in &clip.jobs {
        rig.submit(job, &mut returned)?.context("its controls")?;
    }
    rig.drain(&mut returned)?;
    clip.compare_packed(&returned)?;
    let shown = clip.jobs.iter().flat_map(|job| job.shows.iter());
    let pictures = shown.map(|timestamp| {
        let picture = returned.iter().find(|picture| picture.timestamp == *timestamp);
        Ok(picture.context("a picture did not come back")?.packed.clone())
    });
    pictures.collect()
}

/// Returns the pipeline that decodes a clip into buffers of a format.
fn decoder(path: &Path, codec: Codec, case: &Case, stateful: bool) -> Result<String> {
    let decoders = if stateful {
        Decoders::Stateful("daedalus".into())
    } else {
        Decoders::Driver("daedalus".into())
    };
    let element = decoders.element(codec)?;
    Ok(format!(
        "{} ! {} ! video/x-raw(memory:DMABuf),format=DMA_DRM,drm-format={}",
        gst::source(codec, path)?.join(" ! "),
        element.name,
        case.fourcc
    ))
}

/// Returns the checksums of the runs that are at least as long as `least`, each once in a row, without those
/// that are no pictures.
fn pictures_of(runs: Vec<Run>, least: usize, empty: &BTreeSet<String>) -> Vec<String> {
    let long = runs
        .into_iter()
        .filter(|run| run.refreshes >= least && !empty.contains(&run.crc));
    let mut pictures: Vec<String> = long.map(|run| run.crc).collect();
    pictures.dedup();
    pictures
}

/// Has a pipeline show its pictures. Returns the checksums that the screen had, in order, and the sink's
/// counts.
fn show(pipeline: &str) -> Result<Shown> {
    std::fs::write(format!("{CRC}/control"), "auto").with_context(|| format!("{CRC}/control"))?;
    let mut child = Command::new("gst-launch-1.0")
        .arg("--quiet")
        .args(pipeline.split_whitespace())
        .args([
            "!",
            "kmssink",
            "driver-name=vkms",
            "force-modesetting=true",
            "sync=false",
        ])
        .env("GST_DEBUG", DEBUG)
        .env("GST_DEBUG_FILE", LOG)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start gst-launch-1.0")?;
    let start = Instant::now();
    let (mut text, mut data) = (String::new(), None);
    let status = loop {
        let ended = child.try_wait()?;
        // It cannot be opened before something is on the screen.
        if data.is_none() {
            let flags = OFlags::NONBLOCK.bits() as i32;
            data = OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(format!("{CRC}/data"))
                .ok();
        }
        if let Some(file) = &mut data {
            drain(file, &mut text)?;
        }
        if let Some(status) = ended {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            bail!("{pipeline}: still running after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    ensure!(status.success(), "{pipeline}: {status}");
    let log = std::fs::read_to_string(LOG).context("the log of kmssink")?;
    Ok(Shown {
        runs: column(&text),
        imports: count(&log, &IMPORTS),
        copies: count(&log, &[COPIES]),
    })
}

/// Counts the lines that have any of these words.
fn count(text: &str, words: &[&str]) -> usize {
    let found = text
        .lines()
        .filter(|line| words.iter().any(|word| line.contains(word)));
    found.count()
}

/// Reads what there is.
fn drain(file: &mut File, text: &mut String) -> Result<()> {
    let mut line = [0; 256];
    loop {
        match file.read(&mut line) {
            Ok(0) => return Ok(()),
            Ok(length) => text.push_str(&String::from_utf8_lossy(&line[..length])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            // The screen is off: nothing more comes.
            Err(error) if error.raw_os_error() == Some(5) => return Ok(()),
            Err(error) => return Err(error).context("checksums"),
        }
    }
}

/// Reads the runs of equal second words of lines.
fn column(text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for crc in text.lines().filter_map(|line| line.split_whitespace().nth(1)) {
        match runs.last_mut() {
            Some(run) if run.crc == crc => run.refreshes += 1,
            _ => runs.push(Run {
                crc: crc.to_owned(),
                refreshes: 1,
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_that_are_no_pictures_are_left_out() {
        let text = "0x1 0xaa\n0x2 0xaa\n0x3 0x01\n0x4 0x01\n0x5 0x03\n0x6 0x02\n0x7 0x02\n0x8 0xaa\n";
        let empty = BTreeSet::from(["0xaa".to_owned()]);
        assert_eq!(pictures_of(column(text), 1, &empty), ["0x01", "0x03", "0x02"]);
        assert_eq!(pictures_of(column(text), 2, &empty), ["0x01", "0x02"]);
    }
}
