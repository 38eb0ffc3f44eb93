// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Defines the files of `daedalus-tests play`: the list of streams that it reads, and the rows of results
//! that it writes. `./dev` writes the one and reads the other.

use std::path::PathBuf;

use daedalus_uapi::codec::Codec;
use serde::{Deserialize, Serialize};

/// A list of picture checksums: one line per picture in display order, `MD5  BYTES`, of the picture as packed
/// NV12 (8 bit) or P010 (10 bit).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReferenceList {
    /// The decoder that made it.
    pub name: String,
    /// Path of the list; a relative one is relative to the stream list.
    pub path: PathBuf,
}

/// The coded bytes that a generated clip puts through the device.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CodedFigures {
    /// Size of the file.
    pub bytes: usize,
    /// Mean rate at the clip's frame rate.
    pub bits_per_second: usize,
    /// Bytes of a key frame: the first, or the largest where that is known.
    pub key_frame: usize,
}

/// One stream to play.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// Name in reports; unique in its list.
    pub name: String,
    /// Path of the coded stream; a relative one is relative to the stream list.
    pub path: PathBuf,
    /// Codec of the stream.
    pub codec: Codec,
    /// The raw format to demand from the decoder as GStreamer names it; the decoder's own choice if absent.
    #[serde(default)]
    pub format: Option<String>,
    /// Width of the (first) picture in samples.
    pub width: usize,
    /// Height of the (first) picture in samples.
    pub height: usize,
    /// Number of pictures.
    pub frames: usize,
    /// The right pictures; all lists must be met, unless `planar_md5` decides.
    pub references: Vec<ReferenceList>,
    /// MD5 of all pictures, one after the other in display order, as packed I420 (8 bit) or I010 (10 bit).
    /// Where a suite publishes such a checksum, it decides, and the lists only say where a difference is.
    #[serde(default)]
    pub planar_md5: Option<String>,
    /// Display-order indices of pictures whose received bytes are kept as files.
    #[serde(default)]
    pub keep: Vec<usize>,
    /// GStreamer's decoder hands its pictures on as they lie in CAPTURE, to a converter that understands
    /// their layout, instead of copying them into GStreamer's default layout itself.
    #[serde(default)]
    pub converted: bool,
    /// Only of generated clips.
    #[serde(default)]
    pub coded: Option<CodedFigures>,
}

/// The first picture that is not as it must be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// Display-order index.
    pub frame: usize,
    /// Name of the reference list.
    pub reference: String,
    /// Checksum of the received picture; absent if it never came.
    pub got: Option<String>,
    /// Checksum that it must have; absent if there must be no such picture.
    pub want: Option<String>,
}

/// A picture whose received bytes were kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptPicture {
    /// File name, relative to the output directory.
    pub file: String,
    /// Display-order index.
    pub frame: usize,
    /// Width in samples.
    pub width: usize,
    /// Height in samples.
    pub height: usize,
    /// `NV12` or `P010`, without padding.
    pub layout: String,
}

/// The result of one stream: a line of `results.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Name in the list.
    pub name: String,
    /// Codec of the stream.
    pub codec: Codec,
    /// The client.
    pub client: String,
    /// The client's decoder.
    pub element: String,
    /// The video node that it opened.
    pub device: Option<String>,
    /// Width in samples of the last picture received; of the list if none was.
    pub width: usize,
    /// Height in samples of the last picture received; of the list if none was.
    pub height: usize,
    /// Number of pictures that must come.
    pub expected_frames: usize,
    /// Number of pictures that came.
    pub frames: usize,
    /// Raw format that the client received.
    pub format: Option<String>,
    /// From the client's start to its end.
    pub seconds: f64,
    /// Pictures per second from the first to the last picture, checksums included; absent below two pictures.
    pub fps: Option<f64>,
    /// Whether every picture met every reference, none was missing or surplus, and the client reported no
    /// error.
    pub equal: bool,
    /// Names of the references that were compared.
    pub references: Vec<String>,
    /// Where it first is not equal.
    pub first_difference: Option<Difference>,
    /// Whether the whole stream has its suite's checksum, if it was compared with one.
    #[serde(default)]
    pub planar_md5_equal: Option<bool>,
    /// Why the client failed, in its own words where it has any.
    pub error: Option<String>,
    /// Pictures kept.
    pub kept: Vec<KeptPicture>,
}

impl Row {
    /// Tells why the row is not equal, in one line.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut parts = Vec::new();
        if let Some(error) = &self.error {
            parts.push(error.clone());
        }
        if let Some(d) = self.first_difference.as_ref().filter(|_| !self.equal) {
            parts.push(match (&d.got, &d.want) {
                (Some(_), Some(_)) => format!("first difference at frame {} ({})", d.frame, d.reference),
                (None, _) => format!("frame {} of {} never came", d.frame, self.expected_frames),
                (Some(_), None) => format!("frame {} is one too many ({})", d.frame, d.reference),
            });
        }
        if parts.is_empty() && self.planar_md5_equal == Some(false) {
            parts.push("every picture is as listed, but the whole has not the published checksum".to_owned());
        }
        parts.join("; ")
    }
}
