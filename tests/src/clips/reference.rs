// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The right pictures of a generated stream, whose sizes may change from one picture to the next.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::raw::{Shape, hex, md5_hex};
use md5::{Digest, Md5};

use super::encode::command;
use super::ffmpeg;
use crate::codec::clips::Spec;

/// The checksums of a stream's pictures, in display order.
pub(super) struct Pictures {
    /// Of each picture as packed NV12 or P010.
    pub(super) sums: Vec<String>,
    /// The planar shape of each.
    pub(super) shapes: Vec<Shape>,
    /// Of all as planar pictures.
    pub(super) planar_md5: String,
    /// Of all as packed NV12 or P010.
    pub(super) semi_md5: String,
}

/// Sums pictures up as they come.
#[derive(Default)]
struct PictureSums {
    sums: Vec<String>,
    shapes: Vec<Shape>,
    planar: Md5,
    semi: Md5,
    packed: Vec<u8>,
}

impl PictureSums {
    fn push(&mut self, shape: Shape, picture: &[u8]) -> Result<()> {
        shape.semi_planar_from_packed(picture, &mut self.packed)?;
        self.planar.update(picture);
        self.semi.update(&self.packed);
        self.sums.push(md5_hex(&self.packed));
        self.shapes.push(shape);
        Ok(())
    }

    /// Reads pictures of the shapes that `next` gives until the source ends.
    fn read(&mut self, mut source: impl Read, mut next: impl FnMut(usize) -> Option<Shape>) -> Result<()> {
        let mut picture = Vec::new();
        for frame in 0.. {
            let Some(shape) = next(frame) else {
                let mut one = [0];
                ensure!(source.read(&mut one)? == 0, "more than {frame} pictures");
                return Ok(());
            };
            let length = shape.packed_len();
            picture.clear();
            source.by_ref().take(length as u64).read_to_end(&mut picture)?;
            match picture.len() {
                0 => return Ok(()),
                n if n == length => self.push(shape, &picture)?,
                n => bail!("picture {frame} has {n} of {length} bytes"),
            }
        }
        Ok(())
    }

    fn end(self) -> Pictures {
        Pictures {
            sums: self.sums,
            shapes: self.shapes,
            planar_md5: hex(&self.planar.finalize()),
            semi_md5: hex(&self.semi.finalize()),
        }
    }
}

/// Returns the pictures of the encoder's reconstructions of a stream's parts.
pub(super) fn recon(parts: &[(PathBuf, Shape)]) -> Result<Pictures> {
    let mut summing = PictureSums::default();
    for (path, shape) in parts {
        let file = File::open(path).context("the encoder wrote no reconstruction")?;
        summing.read(BufReader::new(file), |_| Some(*shape))?;
    }
    Ok(summing.end())
}

/// Returns the pictures of a decoder with its options. It writes what it decodes without scaling it, with
/// film grain where there is any.
pub(super) fn frames(line: &str, spec: &Spec, clip: &Path, work: &Path) -> Result<Pictures> {
    let mut command = command(line)?;
    let decoder = command.get_program().to_string_lossy().into_owned();
    let mut summing = PictureSums::default();
    if !spec.size_changes() {
        let (width, height, _) = spec.parts[0];
        let shape = Shape {
            format: spec.planar(),
            width,
            height,
        };
        command.args(["-o", "-"]).arg(clip);
        piped(command, |out| summing.read(out, |_| Some(shape)))?;
        return Ok(summing.end());
    }
    // A file per picture, named by number and size: only so the decoder says of what size each is.
    let dir = work.join("frames");
    fs::create_dir(&dir)?;
    let status = command
        .arg("-o")
        .arg(dir.join("%6-%w-%h"))
        .arg(clip)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {decoder}"))?;
    ensure!(status.success(), "{decoder} failed: {status}");
    let mut paths: Vec<PathBuf> = fs::read_dir(&dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .context("no name")?
            .to_string_lossy()
            .into_owned();
        let size: Vec<usize> = name
            .split('-')
            .skip(1)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{decoder} wrote {name}"))?;
        let [width, height] = size[..] else {
            bail!("{decoder} wrote {name}");
        };
        let shape = Shape {
            format: spec.planar(),
            width,
            height,
        };
        let picture = fs::read(&path)?;
        ensure!(
            picture.len() == shape.packed_len(),
            "{decoder} wrote {} bytes to {name}",
            picture.len()
        );
        summing.push(shape, &picture)?;
    }
    fs::remove_dir_all(&dir)?;
    Ok(summing.end())
}

/// Returns the pictures of FFmpeg, which does not say of what size its pictures are: they are taken to have
/// these shapes, and its output must end where they do.
pub(super) fn ffmpeg(spec: &Spec, clip: &Path, shapes: &[Shape]) -> Result<Pictures> {
    let format = if spec.encoder.depth == 8 {
        "yuv420p"
    } else {
        "yuv420p10le"
    };
    let mut command = ffmpeg::decoder(clip);
    command.args([
        "-noautoscale",
        "-f",
        "rawvideo",
        "-pix_fmt",
        format,
        "-fps_mode",
        "passthrough",
        "-",
    ]);
    let mut summing = PictureSums::default();
    piped(command, |out| {
        summing.read(out, |frame| shapes.get(frame).copied())
    })?;
    Ok(summing.end())
}

/// Runs a decoder whose standard output `read` takes.
fn piped(
    mut command: Command,
    read: impl FnOnce(BufReader<std::process::ChildStdout>) -> Result<()>,
) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let out = child
        .stdout
        .take()
        .with_context(|| format!("{name} has no output"))?;
    let done = read(BufReader::with_capacity(1 << 20, out));
    let status = child.wait()?;
    done.with_context(|| format!("reading from {name}"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}
