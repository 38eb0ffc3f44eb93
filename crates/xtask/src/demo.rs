// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The demonstration: generated clips through GStreamer in the guest, every frame compared with two
//! references. While the kernel is still being made it shows what the engine decodes without one.

mod sheet;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_common::play::{Row, Stream};
use daedalus_uapi::Codec;
use serde_json::json;

use crate::bed::Bed;
use crate::build;
use crate::conformance::client::Client;
use crate::image::archive;
use crate::make::kernel::Kernel;
use crate::make::root;
use crate::outcome::Outcome;
use crate::play::{self, PlayOptions, PlayResult};
use crate::site::cmd::Cmd;
use crate::site::files::write_json;
use crate::site::ui;
use sheet::Nv12;

/// Display-order indices of the pictures on the contact sheet; two thirds into a clip there is a cut.
const KEPT: [usize; 3] = [8, 30, 55];
/// A coded key frame of the demo exceeds this many bytes.
const KEY_FRAME: usize = 64 * 1024;

/// Files with what was seen.
const RESULTS: [&str; 5] = [
    "results.json",
    "demo.png",
    "engine-only.json",
    "engine-only.png",
    STATEFUL,
];
const STATEFUL: &str = "stateful.json";

/// Arguments of `./dev demo`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Leave out the pictures that the engine decodes without a kernel
    #[arg(long)]
    device_only: bool,
    /// Build nothing: play the clips of an image that `./dev image` made, in its guest
    #[arg(long, value_name = "FILE", conflicts_with = "device_only")]
    image: Option<PathBuf>,
}

impl Args {
    /// What `./dev test` runs.
    pub(crate) fn quick() -> Self {
        Self::default()
    }
}

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let outcome = Outcome::new();
    let results = bed.target.join("demo");
    std::fs::create_dir_all(&results)?;
    // What an earlier run left must not pass for this one's.
    for file in RESULTS {
        std::fs::remove_file(results.join(file)).ok();
    }
    if let Some(archive) = &args.image {
        outcome.check("demo: GStreamer, device, daemon, in the image's guest", || {
            from_image(bed, archive, &results)
        });
        return Ok(outcome);
    }
    build::announce(bed, &[Kernel::Plain])?;
    bed.host.ready()?;
    std::thread::scope(|scope| {
        // Asked for early and in the background: the kernel takes longest. Its failure is reported by the
        // guest.
        let kernel = scope.spawn(|| {
            // A thread's niceness is its own on Linux, and what it starts inherits it: on two processors the
            // pictures of the engine come minutes earlier and the kernel no later. Failing to be nice is no
            // failure.
            rustix::process::nice(10).ok();
            bed.module(Kernel::Plain).map(drop)
        });
        let clips = match play::clips(bed) {
            Ok((list, streams)) => {
                if !args.device_only {
                    outcome.check("demo: engine only, no kernel", || {
                        engine_only(bed, &list, &results)
                    });
                }
                Some((list, streams))
            }
            Err(error) => {
                outcome.check("demo: generated clips", || Err(error));
                None
            }
        };
        if kernel.join().is_err() {
            outcome.check("demo: kernel", || bail!("making it ended by a panic"));
        }
        if let Some((list, streams)) = clips {
            outcome.check("demo: GStreamer, device, daemon", || {
                device(bed, &list, &streams, &results)
            });
            outcome.check("demo: FFmpeg and GStreamer, stateful node", || {
                stateful(bed, &list, &streams, &results)
            });
        }
    });
    Ok(outcome)
}

/// Decodes the clips by the engine in the Debian root, with neither kernel nor device.
fn engine_only(bed: &Bed, list: &Path, results: &Path) -> Result<String> {
    let out = results.join("engine-only");
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    let program = root::inside(bed, &bed.binaries()?.join("daedalus-tests"));
    let mut cmd = bed
        .command(program)?
        .args(["native", "--only", play::SHOWN, "--list"])
        .arg(root::inside(bed, list))
        .arg("--out")
        .arg(root::inside(bed, &out))
        .log(results.join("engine-only.log"))
        .timeout(Duration::from_secs(300));
    for frame in KEPT {
        cmd = cmd.arg("--keep").arg(frame.to_string());
    }
    std::fs::remove_file(results.join("engine-only.log")).ok();
    let ran = cmd.run();
    let rows = play::rows(&out)?;
    write_json(&results.join("engine-only.json"), &rows)?;
    ui::line("engine only, no kernel: decoded in the Debian 13 root, 1 thread");
    table(&rows, &[]);
    ran?;
    ensure!(
        rows.len() == Codec::ALL.len() && rows.iter().all(|row| row.equal),
        "not every clip is equal to its references"
    );
    let png = results.join("engine-only.png");
    contact_sheet(&rows, &out, &png)?;
    Ok(format!(
        "{} frames equal, pictures in {}",
        frames(&rows),
        shown(bed, &png)
    ))
}

/// Bounds of `daedalus-tests play`, in seconds: without a frame, and for a clip.
const BOUNDS: &str = "--stall 30 --limit 120";

/// Options of `daedalus-tests play`, for either guest.
fn arguments() -> String {
    let keep = KEPT.map(|frame| format!("--keep {frame}")).join(" ");
    format!("--only={} {keep} {BOUNDS}", play::SHOWN)
}

/// Decodes the image's own clips in its guest.
fn from_image(bed: &Bed, archive: &Path, results: &Path) -> Result<String> {
    let place = results.join("image");
    bed.host.remove_tree(&place)?;
    let image = archive::unpack(archive, &place)?;
    let out = results.join("from-image");
    bed.host.remove_tree(&out)?;
    std::fs::create_dir_all(&out)?;
    let clips = archive::CLIPS;
    let script = format!(
        "cp {clips}/clips.json . && exec daedalus-tests play --client {} --list {clips}/clips.json --out . \
         {}",
        play::GSTREAMER,
        arguments()
    );
    let log = results.join("from-image.log");
    std::fs::remove_file(&log).ok();
    let start = Instant::now();
    let ran = Cmd::new(image.join("run"))
        .args(["--timeout", "480", "--", "sh", "-c", &script])
        .cwd(&out)
        .log(&log)
        .run();
    let seconds = start.elapsed().as_secs_f64();
    bed.host.remove_tree(&place)?;
    let rows = play::rows(&out)?;
    let guest = ran.err().map(|error| format!("{error:#}"));
    let mut streams: Vec<Stream> = match std::fs::read(out.join("clips.json")) {
        Ok(list) => serde_json::from_slice(&list).context("the image's list of clips is malformed")?,
        Err(_) => bail!(guest.unwrap_or_else(|| "the guest left no list of clips".to_owned())),
    };
    streams.retain(|stream| stream.name.contains(play::SHOWN));
    ui::line("GStreamer in the image's guest, through /dev/videoN, kernel module and daemon:");
    report(
        bed,
        results,
        &streams,
        PlayResult {
            rows,
            guest,
            out_dir: out,
            seconds,
            client_version: String::new(),
        },
    )
}

/// Decodes the clips by GStreamer through the device in the guest.
fn device(bed: &Bed, list: &Path, streams: &[Stream], results: &Path) -> Result<String> {
    let arguments = arguments();
    let streams: Vec<Stream> = streams
        .iter()
        .filter(|stream| stream.name.contains(play::SHOWN))
        .cloned()
        .collect();
    let mut runs = play::play(
        bed,
        &PlayOptions {
            job: "demo",
            lists: &[(play::GSTREAMER, list.to_owned())],
            parameters: "",
            daemon: "",
            setup: "",
            arguments: &arguments,
            timeout: Duration::from_secs(480),
            vectors: None,
        },
    )?;
    let run = runs.pop().context("nothing was played")?;
    ui::line("GStreamer in the guest, through /dev/videoN, kernel module and daemon:");
    report(bed, results, &streams, run)
}

/// Decodes one clip by the stateful node, through programs that know no requests: FFmpeg as Debian has it,
/// and GStreamer's other elements.
fn stateful(bed: &Bed, list: &Path, streams: &[Stream], results: &Path) -> Result<String> {
    let clip = streams.iter().find(|stream| stream.name.contains(play::SHOWN));
    let mut clip = clip.context("there is no clip to show")?.clone();
    // Left alone, these elements of GStreamer hand over dmabufs, which the runner does not compare.
    clip.format = Some("NV12".to_owned());
    let folder = list.parent().context("the list of clips is in no folder")?;
    let list = folder.join(STATEFUL);
    write_json(&list, &[&clip])?;
    let clients = [Client::FfmpegStateful, Client::GstStateful];
    let lists = clients.map(|client| (client.name(), list.clone()));
    let runs = play::play(
        bed,
        &PlayOptions {
            job: "demo-stateful",
            lists: &lists,
            parameters: "",
            daemon: "--faces=both",
            setup: "",
            arguments: BOUNDS,
            timeout: Duration::from_secs(300),
            vectors: None,
        },
    )?;
    let rows: Vec<&Row> = runs.iter().flat_map(|run| &run.rows).collect();
    write_json(&results.join(STATEFUL), &rows)?;
    for (run, program) in runs.iter().zip(["FFmpeg", "GStreamer"]) {
        ui::line(&format!("{program} in the guest, through the stateful node:"));
        table(&run.rows, std::slice::from_ref(&clip));
    }
    for (run, client) in runs.iter().zip(clients) {
        let row = match (run.rows.first(), &run.guest) {
            (Some(row), None) => row,
            (_, Some(guest)) => bail!("{}: {guest}", client.name()),
            (None, None) => bail!("{} played nothing", client.name()),
        };
        ensure!(row.equal, "{}: {}", client.name(), row.reason());
    }
    let frames: usize = rows.iter().map(|row| row.frames).sum();
    Ok(format!("{frames} frames equal to their references"))
}

/// Reports what was played: the table, the pictures, and whether all is as it must be.
fn report(bed: &Bed, results: &Path, streams: &[Stream], run: PlayResult) -> Result<String> {
    table(&run.rows, streams);
    let PlayResult {
        rows,
        guest,
        out_dir,
        seconds,
        ..
    } = run;
    let png = results.join("demo.png");
    let pictures = contact_sheet(&rows, &out_dir, &png);
    write_json(
        &results.join("results.json"),
        &json!({
            "equal": rows.len() == streams.len() && rows.iter().all(|row| row.equal),
            "guest": guest,
            "guest_seconds": seconds,
            "png": pictures.is_ok().then(|| shown(bed, &png)),
            "clips": streams,
            "rows": rows,
        }),
    )?;
    match (judge(&rows, streams), guest) {
        // The guest's own words say why rows are missing.
        (Err(rows), Some(guest)) => bail!("{rows:#}: {guest}"),
        (rows, None) => rows?,
        (Ok(()), Some(guest)) => bail!(guest),
    }
    pictures?;
    Ok(format!(
        "{} frames equal to their references, guest {seconds:.0} s, pictures in {}",
        frames(&rows),
        shown(bed, &png)
    ))
}

/// Every clip must be there, equal to its references, decoded by the device, with a large key frame. Clips
/// have two references, or one where a second decoder may round otherwise; making them has compared both.
fn judge(rows: &[Row], streams: &[Stream]) -> Result<()> {
    ensure!(
        streams.len() == Codec::ALL.len(),
        "{} clips to show, not one for each codec",
        streams.len()
    );
    for stream in streams {
        let name = &stream.name;
        let row = rows.iter().find(|row| row.name == *name);
        let row = row.with_context(|| format!("{name} was not played: the guest ended before"))?;
        ensure!(row.equal, "{name}: {}", row.reason());
        let (compared, all) = (row.references.len(), stream.references.len());
        ensure!(
            compared == all && all > 0,
            "{name} was compared with {compared} of {all} references"
        );
        ensure!(row.device.is_some(), "{name} was not decoded by a device");
        let key_frame = stream.coded.map_or(0, |coded| coded.key_frame);
        ensure!(
            key_frame > KEY_FRAME,
            "the key frame of {name} has {key_frame} bytes, not over {KEY_FRAME}"
        );
    }
    Ok(())
}

fn frames(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.frames).sum()
}

fn table(rows: &[Row], streams: &[Stream]) {
    ui::line(&format!(
        "  {:5} {:>9} {:>7} {:>6} {:>6}  {:22} {:>8} {:>10}",
        "codec", "size", "frames", "fps", "equal", "to", "Mbit/s", "key frame"
    ));
    for row in rows {
        let coded = streams
            .iter()
            .find(|stream| stream.name == row.name)
            .and_then(|stream| stream.coded);
        ui::line(&format!(
            "  {:5} {:>9} {:>7} {:>6} {:>6}  {:22} {:>8} {:>10}",
            row.codec.name(),
            format!("{}x{}", row.width, row.height),
            format!("{}/{}", row.frames, row.expected_frames),
            row.fps.map_or_else(|| "-".into(), |fps| format!("{fps:.1}")),
            if row.equal { "yes" } else { "NO" },
            row.references.join(", "),
            coded.map_or_else(String::new, |c| format!("{:.1}", c.bits_per_second as f64 / 1e6)),
            coded.map_or_else(String::new, |c| format!("{} KiB", c.key_frame / 1024)),
        ));
        if !row.equal {
            ui::line(&format!("        {}", row.reason()));
        }
    }
}

/// One row of pictures per clip, from the bytes that the client received; on a terminal one of each clip,
/// too.
fn contact_sheet(rows: &[Row], dir: &Path, png: &Path) -> Result<()> {
    let mut pictures = Vec::new();
    for row in rows {
        let of_row = row.kept.iter().map(|kept| {
            ensure!(
                kept.layout == "NV12",
                "{} is {}, not NV12",
                kept.file,
                kept.layout
            );
            Nv12::read(&dir.join(&kept.file), kept.width, kept.height)
        });
        pictures.push(of_row.collect::<Result<Vec<_>>>()?);
    }
    if std::io::stdout().is_terminal() {
        let first: Vec<&Nv12> = pictures.iter().filter_map(|row| row.first()).collect();
        for line in sheet::thumbnails(&first) {
            ui::line(&line);
        }
    }
    sheet::write(png, &pictures)
}

/// A path as people find it from the top of the tree.
fn shown(bed: &Bed, path: &Path) -> String {
    path.strip_prefix(&bed.repo).unwrap_or(path).display().to_string()
}
