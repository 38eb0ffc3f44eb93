// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The type of a codec's row in the tests' table: data, and functions of one codec.

use std::path::Path;

use anyhow::Result;
use daedalus_client::{CodedJob, Control};

use super::clips::ClipRow;
use crate::random::Random;

/// A control's number, and its name without `V4L2_CID_STATELESS_` or `V4L2_CID_MPEG_VIDEO_`.
pub(crate) type Name = (u32, &'static str);

/// A codec's row.
pub(crate) struct Row {
    /// The library by which the engine decodes it.
    pub(crate) library: &'static str,
    /// Its menu controls. Those of the interface's stateless part may be in traces of clients.
    pub(crate) menus: &'static [Name],
    /// Its compound controls.
    pub(crate) compound: &'static [Name],
    /// Its control that is an array, and the bytes of an element.
    pub(crate) array: Option<(u32, usize)>,
    /// Adds a number of ns to the timestamps by which a control names other pictures. `true` says that the
    /// picture can be decoded without any other.
    pub(crate) shift_references: fn(&mut Control, u64, bool),
    /// GStreamer's parser.
    pub(crate) gst_parser: &'static str,
    /// Returns how GStreamer reads a file with this extension; `None` if it does not.
    pub(crate) gst_source: fn(&Path, &str) -> Result<Option<GstSource>>,
    /// FFmpeg's bitstream filter that gives a stream other colours, and changes no sample; `None` if there is
    /// none.
    pub(crate) recolour: Option<&'static str>,
    /// Damage to its jobs.
    pub(crate) damage: DamageRow,
    /// Encoders, reference decoders and streams.
    pub(crate) clips: ClipRow,
}

/// How GStreamer reads a file.
#[derive(Default)]
pub(crate) struct GstSource {
    /// Bytes of each buffer that `filesrc` makes; its own choice if absent.
    pub(crate) blocksize: Option<u64>,
    /// What is between `filesrc` and the parser.
    pub(crate) elements: &'static [&'static str],
}

impl GstSource {
    /// Reads a file through one element, or through `filesrc` alone if there is none.
    pub(crate) fn through(elements: &'static [&'static str]) -> Self {
        Self {
            blocksize: None,
            elements,
        }
    }

    /// Returns how GStreamer reads a container that many codecs share; `None` if the extension is none of
    /// one.
    pub(crate) fn container(extension: &str) -> Option<Self> {
        match extension {
            "ivf" => Some(Self::through(&["ivfparse"])),
            "webm" | "mkv" => Some(Self::through(&["matroskademux"])),
            _ => None,
        }
    }
}

/// Changes the controls of a job. What it does is drawn.
pub(crate) type Change = fn(&mut CodedJob, &mut Random);

/// Damage to the jobs of a codec.
pub(crate) struct DamageRow {
    /// Whether a decoder can tell that the end of the coded data is missing.
    pub(crate) notices_truncation: bool,
    /// Lets offsets and sizes point past the coded data.
    pub(crate) offsets: Change,
    /// Refers to pictures by timestamps of no picture, or of another one.
    pub(crate) timestamps: Change,
    /// Says another size of the picture than the stream has.
    pub(crate) dimensions: Change,
    /// Changes reference lists, entries of the DPB and slots.
    pub(crate) reference_lists: Change,
    /// Changes the numbers and places of tiles or slices.
    pub(crate) tile_table: Change,
}
