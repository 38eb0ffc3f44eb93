// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The types of a codec's clips: how they are encoded, what decodes them for reference, and which there are.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use daedalus_client::CodedJob;
use daedalus_client::raw::{RawFormat, Shape};

/// Encoders, reference decoders and streams of a codec.
///
/// A reference must not be a library that the worker decodes with, or a fault of that library would pass.
pub(crate) struct ClipRow {
    /// The text of the file that decides the bytes of the streams.
    pub(crate) source: &'static str,
    /// The programs whose versions decide the bytes of the streams and the references: name, and the argument
    /// that makes it print its version.
    pub(crate) programs: &'static [(&'static str, &'static str)],
    /// The extension of the files that the encoders write.
    pub(crate) extension: &'static str,
    /// `field_order` in a MANIFEST, as ffprobe would say it.
    pub(crate) field_order: &'static str,
    /// The first of the two references.
    pub(crate) reference: Reference,
    /// Adds the files to the command of an encoder.
    pub(crate) files: fn(&mut Command, &Files<'_>),
    /// Returns the encoder and its options for a large clip, from the picture's height and the number of
    /// frames from key frame to key frame.
    pub(crate) large: fn(usize, usize) -> String,
    /// Returns the encoder and its options for a small clip.
    pub(crate) small: fn(&SmallClip) -> String,
    /// The small clips.
    pub(crate) small_clips: &'static [SmallClip],
    /// The streams that the published suites lack.
    pub(crate) specs: &'static [Spec],
    /// Returns the bytes of a coded key frame.
    pub(crate) key_frame: fn(&[u8]) -> Result<usize>,
}

/// The files of an encoder.
pub(crate) struct Files<'a> {
    /// Y4M.
    pub(crate) source: &'a Path,
    pub(crate) output: &'a Path,
    /// Where an encoder that can writes its reconstruction.
    pub(crate) recon: &'a Path,
}

/// A decoder whose pictures are right.
pub(crate) enum Reference {
    /// The encoder, by the reconstruction that it writes; with the name of that in reports.
    Reconstruction(&'static str),
    /// A program with its options, which writes packed planar pictures to the file behind `-o`.
    Decoder(&'static str),
    /// A decoder of a codec whose standard leaves the rounding of its transform open: its pictures are near
    /// those of FFmpeg, which count.
    Near(&'static Near),
    /// The encoder, by checksums of its pictures that it writes into the stream and that FFmpeg compares;
    /// with the name of those in reports.
    Checksums(&'static str),
}

/// Pictures, one after the other.
pub(crate) type Pictures = Box<dyn Iterator<Item = Result<Vec<u8>>>>;

/// A decoder whose pictures are near the right ones.
pub(crate) struct Near {
    /// Its name in reports.
    pub(crate) name: &'static str,
    /// Returns the pictures of a stream, in display order, packed and planar.
    pub(crate) pictures: fn(&Path, Shape) -> Result<Pictures>,
    /// Returns of each picture of a stream, in display order, how many transforms may add up in a sample: one
    /// more than in those that it refers to.
    pub(crate) generations: fn(&Path) -> Result<Vec<u32>>,
}

impl Reference {
    /// Returns its name in reports.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Reconstruction(name) | Self::Checksums(name) => name,
            Self::Decoder(line) => line.split(' ').next().unwrap_or(line),
            Self::Near(near) => near.name,
        }
    }
}

/// The subject of a clip.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The synthetic scene.
    Scene,
    /// Independent samples, a few distinct pictures.
    Noise,
}

/// A small clip.
pub(crate) struct SmallClip {
    pub(crate) name: &'static str,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) frames: usize,
    /// Frames from key frame to key frame.
    pub(crate) interval: usize,
    /// Whether a sample has 10 bits, not 8.
    pub(crate) deep: bool,
    pub(crate) subject: Subject,
}

impl SmallClip {
    /// Makes a clip of six frames.
    pub(super) const fn new(name: &'static str, (width, height): (usize, usize)) -> Self {
        Self {
            name,
            width,
            height,
            frames: 6,
            interval: 30,
            deep: false,
            subject: Subject::Scene,
        }
    }

    /// Makes a clip of six frames with 10 bits per sample.
    pub(super) const fn deep(name: &'static str, size: (usize, usize)) -> Self {
        Self {
            deep: true,
            ..Self::new(name, size)
        }
    }

    /// Makes a clip of four closed groups of pictures.
    pub(super) const fn groups(name: &'static str) -> Self {
        Self {
            frames: 32,
            interval: 8,
            ..Self::new(name, (208, 144))
        }
    }

    /// Returns the options of libvpx and libaom for its key frames and its bit depth.
    pub(super) fn aom_options(&self) -> String {
        let interval = self.interval;
        let mut options = format!("--kf-max-dist={interval}");
        if interval <= self.frames {
            options += &format!(" --kf-min-dist={interval}");
        }
        if self.deep {
            options += " --bit-depth=10 --input-bit-depth=10";
        }
        options
    }
}

/// An encoder with its options.
#[derive(Clone, Copy)]
pub(crate) struct Encoder {
    /// The program and its options.
    pub(crate) line: &'static str,
    /// Bits per sample.
    pub(crate) depth: u8,
    /// The profile of its streams, as ffprobe names it.
    pub(crate) profile: &'static str,
}

/// A stream that the published suites lack.
pub(crate) struct Spec {
    /// File name.
    pub(crate) file: &'static str,
    pub(crate) encoder: Encoder,
    /// Width, height and frames of each part that is encoded by itself; several parts are joined.
    pub(crate) parts: &'static [(usize, usize, usize)],
    /// What parsing it must show.
    pub(crate) proofs: &'static [Proof],
    /// Whether it belongs to the small set, too.
    pub(crate) small: bool,
    /// Writes a part in place of the encoder; its width, height and frames are those of the part.
    pub(crate) write: Option<Write>,
}

/// Writes a stream to a file.
pub(crate) type Write = fn((usize, usize, usize), &Path) -> Result<()>;

impl Spec {
    /// Makes a stream that belongs to the whole set only.
    pub(super) const fn new(
        file: &'static str,
        encoder: Encoder,
        parts: &'static [(usize, usize, usize)],
    ) -> Self {
        Self {
            file,
            encoder,
            parts,
            proofs: &[],
            small: false,
            write: None,
        }
    }

    /// Lets `write` make it, in place of the encoder.
    pub(super) const fn written(self, write: Write) -> Self {
        Self {
            write: Some(write),
            ..self
        }
    }

    /// Demands `proofs`.
    pub(super) const fn proven(self, proofs: &'static [Proof]) -> Self {
        Self { proofs, ..self }
    }

    /// Adds it to the small set.
    pub(super) const fn small(self) -> Self {
        Self { small: true, ..self }
    }

    /// Returns whether the pictures are of several sizes.
    pub(crate) fn size_changes(&self) -> bool {
        self.proofs
            .iter()
            .any(|proof| matches!(proof, Proof::InterResize(_) | Proof::NewSequence(_)))
    }

    /// Returns the number of pictures.
    pub(crate) fn frames(&self) -> usize {
        self.parts.iter().map(|part| part.2).sum()
    }

    /// Returns the shape of a part's pictures.
    pub(crate) fn shape(&self, part: usize) -> Shape {
        let (width, height, _) = self.parts[part];
        Shape {
            format: self.planar(),
            width,
            height,
        }
    }

    /// Returns the layout that encoders read and decoders write.
    pub(crate) fn planar(&self) -> RawFormat {
        if self.encoder.depth == 8 {
            RawFormat::I420
        } else {
            RawFormat::I420Le10
        }
    }
}

/// A feature that a stream must have.
#[derive(Clone, Copy)]
pub(crate) enum Proof {
    /// So many changes of size at pictures that refer to others, and no key picture but the first.
    InterResize(usize),
    /// So many changes of size, all at key pictures.
    NewSequence(usize),
    /// A number of a picture that is at least so large in one of them: its name and how it is read.
    Least(&'static str, u32, fn(&CodedJob) -> u32),
    /// A tool that a picture uses: its name and how that is read.
    Tool(&'static str, fn(&CodedJob) -> bool),
}

/// Returns the bytes of the first frame of an IVF file, which is a key frame. Hidden pictures make the
/// positions of the others uncertain, so they are not counted.
pub(super) fn ivf_key_frame(data: &[u8]) -> Result<usize> {
    ensure!(data.starts_with(b"DKIF"), "it is no IVF file");
    let size = data.get(32..36).and_then(|size| size.try_into().ok());
    Ok(size.map_or(0, |size| u32::from_le_bytes(size) as usize))
}

/// Iterates the NAL units of an Annex B stream without their start codes.
pub(super) fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> = data
        .windows(3)
        .enumerate()
        .filter(|(_, window)| *window == [0, 0, 1])
        .map(|(at, _)| at + 3)
        .collect();
    let ends: Vec<usize> = starts
        .iter()
        .skip(1)
        .map(|start| start - 3)
        .chain(std::iter::once(data.len()))
        .collect();
    starts.into_iter().zip(ends).map(|(start, end)| &data[start..end])
}
