// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small clips: short closed groups of pictures that are to be damaged, noise that is recognised wherever it turns
//! up, and sizes and depths that the large clips do not have.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::encode;
use super::scene::{Random, Scene};
use crate::picture::{RawFormat, Shape};
use crate::stream::{Codec, ReferenceList, Stream};

/// What is to be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The synthetic scene.
    Scene,
    /// Independent samples, a few distinct pictures.
    Noise,
}

/// One clip.
struct Clip {
    name: &'static str,
    codec: Codec,
    width: usize,
    height: usize,
    frames: usize,
    /// Frames from key frame to key frame.
    interval: usize,
    deep: bool,
    subject: Subject,
}

const fn clip(name: &'static str, codec: Codec, (width, height): (usize, usize), deep: bool) -> Clip {
    Clip {
        name,
        codec,
        width,
        height,
        frames: 6,
        interval: 30,
        deep,
        subject: Subject::Scene,
    }
}

/// Four closed groups of pictures.
const fn groups(name: &'static str, codec: Codec) -> Clip {
    Clip {
        frames: 32,
        interval: 8,
        ..clip(name, codec, (208, 144), false)
    }
}

/// H.264 crops 4:2:0 pictures by pairs of samples only: its sizes are even, and no multiples of a macroblock.
const CLIPS: [Clip; 26] = [
    groups("h264-groups", Codec::H264),
    groups("vp9-groups", Codec::Vp9),
    groups("av1-groups", Codec::Av1),
    Clip {
        frames: 8,
        subject: Subject::Noise,
        ..clip("vp9-noise", Codec::Vp9, (160, 96), false)
    },
    clip("h264-2x2", Codec::H264, (2, 2), false),
    clip("h264-34x18", Codec::H264, (34, 18), false),
    clip("h264-178x146", Codec::H264, (178, 146), false),
    clip("h264-10bit-2x2", Codec::H264, (2, 2), true),
    clip("h264-10bit-34x18", Codec::H264, (34, 18), true),
    clip("h264-10bit-178x146", Codec::H264, (178, 146), true),
    clip("vp9-1x1", Codec::Vp9, (1, 1), false),
    clip("vp9-35x17", Codec::Vp9, (35, 17), false),
    clip("vp9-177x145", Codec::Vp9, (177, 145), false),
    clip("vp9-10bit-1x1", Codec::Vp9, (1, 1), true),
    clip("vp9-10bit-35x17", Codec::Vp9, (35, 17), true),
    clip("vp9-10bit-177x145", Codec::Vp9, (177, 145), true),
    clip("av1-1x1", Codec::Av1, (1, 1), false),
    clip("av1-35x17", Codec::Av1, (35, 17), false),
    clip("av1-177x145", Codec::Av1, (177, 145), false),
    clip("av1-10bit-1x1", Codec::Av1, (1, 1), true),
    clip("av1-10bit-35x17", Codec::Av1, (35, 17), true),
    clip("av1-10bit-177x145", Codec::Av1, (177, 145), true),
    // A size that screens have.
    clip("h264-640x480", Codec::H264, (640, 480), false),
    clip("vp9-640x480", Codec::Vp9, (640, 480), false),
    clip("av1-640x480", Codec::Av1, (640, 480), false),
    clip("vp9-10bit-640x480", Codec::Vp9, (640, 480), true),
];

/// x264: CABAC, B pictures, two slices.
const X264: &str = "--quiet --no-progress --demuxer y4m --preset veryfast --bframes 2 --ref 3 --crf 22 --slices 2 \
                    --scenecut 0 --threads 1";
/// libvpx: hidden alternate reference frames.
const VPXENC: &str = "--codec=vp9 --ivf --quiet --threads=1 --good --passes=1 --cpu-used=4 --lag-in-frames=12 \
                      --auto-alt-ref=1 --end-usage=q";
/// libaom: it takes any size, and 208 columns make two tiles.
const AOMENC: &str = "--codec=av1 --ivf --quiet --threads=1 --good --passes=1 --cpu-used=6 --lag-in-frames=12 \
                      --end-usage=q --cq-level=30 --sb-size=64 --tile-columns=1";

/// Makes all clips in `dir`.
///
/// # Errors
///
/// When an encoder or decoder fails, or the two references of a clip differ.
pub(super) fn generate(dir: &Path) -> Result<Vec<Stream>> {
    CLIPS
        .iter()
        .map(|clip| make(clip, dir).with_context(|| clip.name.to_owned()))
        .collect()
}

fn make(clip: &Clip, dir: &Path) -> Result<Stream> {
    let file = format!(
        "{}.{}",
        clip.name,
        if clip.codec == Codec::H264 { "h264" } else { "ivf" }
    );
    let (source, coded, recon) = (dir.join("source.y4m"), dir.join(&file), dir.join("recon.yuv"));
    write_source(clip, &source)?;
    encode::run(encoder(clip, &source, &coded, &recon))?;
    let shape = Shape {
        format: if clip.deep {
            RawFormat::I420Le10
        } else {
            RawFormat::I420
        },
        width: clip.width,
        height: clip.height,
    };
    let (first_name, first) = encode::own_reference(clip.codec, &coded, &recon, shape)?;
    let second = encode::ffmpeg_reference(&coded, shape)?;
    for left in [&source, &recon] {
        if left.exists() {
            fs::remove_file(left)?;
        }
    }
    ensure!(
        first.len() == clip.frames,
        "{first_name} finds {} frames, not {}",
        first.len(),
        clip.frames
    );
    ensure!(first == second, "{first_name} and ffmpeg do not agree");
    let layout = if clip.deep { "p010" } else { "nv12" };
    let mut references = Vec::new();
    for (decoder, sums) in [(first_name, &first), ("ffmpeg", &second)] {
        let list = format!("{file}.{decoder}.{layout}.frames.md5");
        encode::write_sums(&dir.join(&list), sums, shape.packed_len())?;
        references.push(ReferenceList {
            name: decoder.to_owned(),
            path: PathBuf::from(list),
        });
    }
    Ok(Stream {
        name: clip.name.to_owned(),
        path: PathBuf::from(file),
        codec: clip.codec,
        format: None,
        width: clip.width,
        height: clip.height,
        frames: clip.frames,
        references,
        planar_md5: None,
        keep: Vec::new(),
        converted: false,
        coded: None,
    })
}

/// The command that encodes `source` into `output`.
fn encoder(clip: &Clip, source: &Path, output: &Path, recon: &Path) -> Command {
    let (program, options) = match clip.codec {
        Codec::H264 => ("x264", X264),
        Codec::Vp9 => ("vpxenc", VPXENC),
        Codec::Av1 => ("aomenc", AOMENC),
    };
    let interval = clip.interval;
    let mut c = Command::new(program);
    c.args(options.split_whitespace());
    if clip.codec == Codec::H264 {
        let (profile, depth) = if clip.deep {
            ("high10", "10")
        } else {
            ("high", "8")
        };
        c.args(["--profile", profile, "--output-depth", depth])
            .args([
                "--keyint",
                &interval.to_string(),
                "--min-keyint",
                &interval.to_string(),
            ])
            .arg("--dump-yuv")
            .arg(recon);
    } else {
        c.arg(format!("--kf-max-dist={interval}"));
        if clip.interval <= clip.frames {
            c.arg(format!("--kf-min-dist={interval}"));
        }
        if clip.deep {
            c.args(["--bit-depth=10", "--input-bit-depth=10"]);
        }
    }
    if clip.codec == Codec::Vp9 {
        // Noise has to come out as it went in, nearly: a soft picture is not recognised.
        let level = if clip.subject == Subject::Noise { 2 } else { 30 };
        c.arg(format!("--cq-level={level}"));
        if clip.deep {
            c.arg("--profile=2");
        }
    }
    c.arg("-o").arg(output).arg(source);
    c
}

fn write_source(clip: &Clip, path: &Path) -> Result<()> {
    let scene = Scene::new(clip.width, clip.height, clip.frames);
    let mut random = Random(0x7e57);
    let mut file = BufWriter::new(File::create(path)?);
    let colour = if clip.deep {
        "420p10 XYSCSS=420P10"
    } else {
        "420jpeg"
    };
    writeln!(
        file,
        "YUV4MPEG2 W{} H{} F30:1 Ip A1:1 C{colour}",
        clip.width, clip.height
    )?;
    let mut frame = Vec::new();
    for t in 0..clip.frames {
        frame.clear();
        scene.render(t, &mut frame);
        if clip.subject == Subject::Noise {
            for sample in &mut frame {
                *sample = 16 + random.below(220) as u8;
            }
        }
        file.write_all(b"FRAME\n")?;
        if clip.deep {
            // The two low bits carry a pattern, so that losing them shows.
            for (at, sample) in frame.iter().enumerate() {
                let value = u16::from(*sample) * 4 + (at as u16 * 3 + t as u16) % 4;
                file.write_all(&value.to_le_bytes())?;
            }
        } else {
            file.write_all(&frame)?;
        }
    }
    file.flush()?;
    Ok(())
}
