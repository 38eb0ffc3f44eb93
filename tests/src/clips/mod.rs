// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The generator of the clips that the end-to-end tests play: a synthetic scene, encoded for every codec,
//! with lists of what every picture must be. [`crate::codec`] has the encoders and the tables of clips.
//!
//! Needs the encoders and decoders of [`encode::programs`], so it runs in the Debian root, not in the guest.
//! The result is a directory named by a hash of this generator and of those programs' versions; it appears
//! complete or not at all.

mod encode;
mod ffmpeg;
pub(crate) mod generated;
pub(crate) mod near;
mod proof;
mod reference;
mod scene;
mod set;
mod small;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use daedalus_client::raw::{RawFormat, Shape};
use daedalus_common::play::{CodedFigures, ReferenceList, Stream};
use daedalus_uapi::codec::Codec;

use crate::codec;
use crate::codec::clips::Files;
use scene::Scene;
use set::{RATE, set_of, sources};

/// The list of a set's streams, which is written last.
const LIST: &str = "clips.json";
/// What a clip of [`Size::full`] must reach, so that buffers of realistic size go through the device.
const LEAST_BITS_PER_SECOND: usize = 6_000_000;
/// Frames between key frames: a clip has several, so that a decoder that was damaged can recover.
const KEY_INTERVAL: usize = 30;
/// See [`LEAST_BITS_PER_SECOND`]: one coded key frame must exceed this many bytes.
const LEAST_KEY_FRAME: usize = 64 * 1024;

/// Arguments of `daedalus-tests clips`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory that holds the generated sets; the set is a subdirectory of it.
    #[arg(long)]
    out: PathBuf,
    /// Make the small clips instead: closed groups of pictures to damage, odd sizes, 10 bit.
    #[arg(long)]
    small: bool,
}

/// One picture size that is generated for every codec.
struct Size {
    name: &'static str,
    width: usize,
    height: usize,
    frames: usize,
    /// Whether the demo shows it: only then do the limits on rate and key frame size apply.
    full: bool,
}

/// The sizes. 426x240 is no multiple of 8 or 16 in width: every codec has to crop or pad.
const SIZES: [Size; 5] = [
    Size {
        name: "1080p",
        width: 1920,
        height: 1080,
        frames: 60,
        full: true,
    },
    Size {
        name: "480p",
        width: 854,
        height: 480,
        frames: 90,
        full: false,
    },
    Size {
        name: "360p",
        width: 640,
        height: 360,
        frames: 90,
        full: false,
    },
    Size {
        name: "240p",
        width: 426,
        height: 240,
        frames: 90,
        full: false,
    },
    Size {
        name: "qvga",
        width: 320,
        height: 240,
        frames: 90,
        full: false,
    },
];

/// Makes the clips if this generator's set is not there yet, and prints the set's directory on standard
/// output.
///
/// # Errors
///
/// When a program is missing or fails, when the two references of a clip differ, or when a clip misses the
/// limits on rate and key frame size.
pub(crate) fn run(args: &Args) -> Result<()> {
    let which = if args.small {
        include_str!("small.rs")
    } else {
        include_str!("mod.rs")
    };
    let sources = sources(&[which, include_str!("encode.rs"), include_str!("near.rs")]);
    let set = set_of(&args.out, &sources, &encode::programs(), LIST, |dir| {
        let streams = if args.small {
            small::generate(dir)?
        } else {
            generate(dir)?
        };
        serde_json::to_writer_pretty(File::create(dir.join(LIST))?, &streams)?;
        Ok(())
    })?;
    println!("{}", set.display());
    Ok(())
}

fn generate(dir: &Path) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for size in &SIZES {
        let start = Instant::now();
        let source = dir.join("source.y4m");
        write_source(size, &source)?;
        eprintln!(
            "{}: {} frames drawn in {:.1} s",
            size.name,
            size.frames,
            start.elapsed().as_secs_f64()
        );
        for codec in Codec::ALL.iter().copied() {
            streams.push(make(size, codec, dir, &source)?);
        }
        fs::remove_file(&source)?;
    }
    Ok(streams)
}

fn write_source(size: &Size, path: &Path) -> Result<()> {
    let scene = Scene::new(size.width, size.height, size.frames);
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(
        file,
        "YUV4MPEG2 W{} H{} F{RATE}:1 Ip A1:1 C420jpeg",
        size.width, size.height
    )?;
    let mut frame = Vec::new();
    for t in 0..size.frames {
        frame.clear();
        scene.render(t, &mut frame);
        file.write_all(b"FRAME\n")?;
        file.write_all(&frame)?;
    }
    file.flush()?;
    Ok(())
}

fn make(size: &Size, codec: Codec, dir: &Path, source: &Path) -> Result<Stream> {
    let start = Instant::now();
    let name = format!("{codec}-{}", size.name);
    let row = &codec::row(codec).clips;
    let file = format!("{name}.{}", row.extension);
    let (clip, recon) = (dir.join(&file), dir.join("recon.yuv"));
    let files = Files {
        source,
        output: &clip,
        recon: &recon,
    };
    encode::encode(row, &(row.large)(size.height, KEY_INTERVAL), &files)?;
    let shape = Shape {
        format: RawFormat::I420,
        width: size.width,
        height: size.height,
    };
    let sums = encode::references(row, &clip, &recon, shape).with_context(|| name.clone())?;
    if recon.exists() {
        fs::remove_file(&recon)?;
    }
    let mut references = Vec::new();
    for (decoder, sums) in &sums {
        ensure!(
            sums.len() == size.frames,
            "{decoder} finds {} frames in {name}, not {}",
            sums.len(),
            size.frames
        );
        let list = format!("{file}.{decoder}.nv12.frames.md5");
        encode::write_sums(&dir.join(&list), sums, shape.packed_len())?;
        references.push(ReferenceList {
            name: (*decoder).to_owned(),
            path: PathBuf::from(list),
        });
    }
    let bytes = fs::metadata(&clip)?.len() as usize;
    let rate = bytes * 8 * RATE / size.frames;
    let key_frame = (row.key_frame)(&fs::read(&clip)?).with_context(|| name.clone())?;
    eprintln!(
        "{name}: {bytes} bytes, {:.1} Mbit/s, key frame {key_frame} bytes, made and checked in {:.1} s",
        rate as f64 / 1e6,
        start.elapsed().as_secs_f64()
    );
    if size.full {
        ensure!(
            rate >= LEAST_BITS_PER_SECOND,
            "{name} has {rate} bit/s, less than {LEAST_BITS_PER_SECOND}"
        );
        ensure!(
            key_frame > LEAST_KEY_FRAME,
            "the key frame of {name} has {key_frame} bytes, not over {LEAST_KEY_FRAME}"
        );
    }
    Ok(Stream {
        name,
        path: PathBuf::from(file),
        codec,
        format: None,
        width: size.width,
        height: size.height,
        frames: size.frames,
        references,
        planar_md5: None,
        keep: Vec::new(),
        converted: false,
        coded: Some(CodedFigures {
            bytes,
            bits_per_second: rate,
            key_frame,
        }),
    })
}
