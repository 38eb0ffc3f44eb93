// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The list of streams to play, which `clips` writes and `play` reads.

use std::path::PathBuf;

use daedalus_uapi::codec::Codec;
use serde::{Deserialize, Serialize};

/// A list of picture checksums: one line per picture in display order, `MD5  BYTES`, of the picture as packed
/// NV12 (8 bit) or P010 (10 bit).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReferenceList {
    /// The decoder that made it.
    pub(crate) name: String,
    /// Path of the list; a relative one is relative to the stream list.
    pub(crate) path: PathBuf,
}

/// The coded bytes that a generated clip puts through the device.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct CodedFigures {
    /// Size of the file.
    pub(crate) bytes: usize,
    /// Mean rate at the clip's frame rate.
    pub(crate) bits_per_second: usize,
    /// Bytes of a key frame: the first, or the largest where that is known.
    pub(crate) key_frame: usize,
}

/// One stream to play.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// Name in reports; unique in its list.
    pub(crate) name: String,
    /// Path of the coded stream; a relative one is relative to the stream list.
    pub(crate) path: PathBuf,
    /// Coded format.
    pub(crate) codec: Codec,
    /// The raw format to demand from the decoder as GStreamer names it; the decoder's own choice if absent.
    #[serde(default)]
    pub(crate) format: Option<String>,
    /// Width of the (first) picture in samples.
    pub(crate) width: usize,
    /// Height of the (first) picture in samples.
    pub(crate) height: usize,
    /// Number of pictures.
    pub(crate) frames: usize,
    /// The right pictures; all lists must be met, unless `planar_md5` decides.
    pub(crate) references: Vec<ReferenceList>,
    /// MD5 of all pictures, one after the other in display order, as packed I420 (8 bit) or I010 (10 bit).
    /// Where a suite publishes such a checksum, it decides, and the lists only say where a difference is.
    #[serde(default)]
    pub(crate) planar_md5: Option<String>,
    /// Display-order indices of pictures whose received bytes are kept as files.
    #[serde(default)]
    pub(crate) keep: Vec<usize>,
    /// GStreamer's decoder hands its pictures on as they lie in CAPTURE, to a converter that understands
    /// their layout, instead of copying them into GStreamer's default layout itself.
    #[serde(default)]
    pub(crate) converted: bool,
    /// Only of generated clips.
    #[serde(default)]
    pub(crate) coded: Option<CodedFigures>,
}
