// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small clips: short closed groups of pictures that are to be damaged, noise that is recognised wherever it
//! turns up, and sizes and depths that the large clips do not have.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use daedalus_client::raw::{RawFormat, Shape};
use daedalus_common::play::{ReferenceList, Stream};
use daedalus_uapi::codec::Codec;

use super::encode;
use super::scene::Scene;
use crate::codec;
use crate::codec::clips::{Files, SmallClip, Subject};
use crate::random::Random;

/// Makes all clips in `dir`.
///
/// # Errors
///
/// When an encoder or decoder fails, or the two references of a clip differ.
pub(super) fn generate(dir: &Path) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for codec in Codec::ALL.iter().copied() {
        for clip in codec::row(codec).clips.small_clips {
            streams.push(make(codec, clip, dir).with_context(|| clip.name.to_owned())?);
        }
    }
    Ok(streams)
}

fn make(codec: Codec, clip: &SmallClip, dir: &Path) -> Result<Stream> {
    let row = &codec::row(codec).clips;
    let file = format!("{}.{}", clip.name, row.extension);
    let (source, coded, recon) = (dir.join("source.y4m"), dir.join(&file), dir.join("recon.yuv"));
    write_source(clip, &source)?;
    let files = Files {
        source: &source,
        output: &coded,
        recon: &recon,
    };
    encode::encode(row, &(row.small)(clip), &files)?;
    let shape = Shape {
        format: if clip.deep {
            RawFormat::I420Le10
        } else {
            RawFormat::I420
        },
        width: clip.width,
        height: clip.height,
    };
    let sums = encode::references(row, &coded, &recon, shape)?;
    for left in [&source, &recon] {
        if left.exists() {
            fs::remove_file(left)?;
        }
    }
    let layout = if clip.deep { "p010" } else { "nv12" };
    let mut references = Vec::new();
    for (decoder, sums) in &sums {
        ensure!(
            sums.len() == clip.frames,
            "{decoder} finds {} frames, not {}",
            sums.len(),
            clip.frames
        );
        let list = format!("{file}.{decoder}.{layout}.frames.md5");
        encode::write_sums(&dir.join(&list), sums, shape.packed_len())?;
        references.push(ReferenceList {
            name: (*decoder).to_owned(),
            path: PathBuf::from(list),
        });
    }
    Ok(Stream {
        name: clip.name.to_owned(),
        path: PathBuf::from(file),
        codec,
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

fn write_source(clip: &SmallClip, path: &Path) -> Result<()> {
    let scene = Scene::new(clip.width, clip.height, clip.frames);
    let mut random = Random::new(0x7e57);
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
