// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the runner has to know of a codec beside the registry: the rows of codecs.tsv (crates/common).

use anyhow::{Context, Result};
use daedalus_common::codecs::TABLE;
use daedalus_uapi::codec::Stream;
use daedalus_uapi::{Codec, fourcc};
use serde::Deserialize;

use crate::site::table;

/// A row of the table.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) codec: Codec,
    /// The name of its clip in documents.
    pub(crate) clip: String,
    /// What the names of its files end with.
    pub(crate) ending: String,
    /// FFmpeg's options for a small clip.
    pub(crate) small: String,
    /// The properties with which GStreamer's software decoder has one thread.
    pub(crate) one_thread: String,
    /// A program that decodes it, with which the bench compares.
    pub(crate) program: Option<String>,
    controls: String,
    /// With so many threads its jobs are damaged, too.
    pub(crate) threads: Option<u32>,
    /// Bytes of the longest input of the fuzz target of its headers, if it has one.
    pub(crate) longest: Option<u32>,
    /// Why no sequence of FFmpeg itself is kept, unless one is.
    pub(crate) untraced: Option<String>,
}

impl Row {
    /// Returns its compound controls, as numbers above V4L2_CID_CODEC_STATELESS_BASE.
    pub(crate) fn controls(&self) -> Result<Vec<u32>> {
        let numbers = self.controls.split_whitespace().map(str::parse);
        numbers
            .collect::<Result<_, _>>()
            .with_context(|| format!("codecs.tsv: '{}' are no numbers", self.controls))
    }
}

/// Returns a codec's row.
pub(crate) fn row(codec: Codec) -> Result<Row> {
    let rows: Vec<Row> = table::rows("codecs.tsv", TABLE)?;
    let row = rows.into_iter().find(|row| row.codec == codec);
    row.with_context(|| format!("codecs.tsv has no row for {codec}"))
}

/// Returns the rows of all codecs, in the order of the registry.
pub(crate) fn rows() -> Result<Vec<Row>> {
    Codec::ALL.iter().map(|codec| row(*codec)).collect()
}

/// Returns the codecs whose pictures may have 10 bit, in the order of the registry.
pub(crate) fn ten_bit() -> Vec<Codec> {
    let deep = |codec: &Codec| codec.info().depth_control != 0;
    Codec::ALL.iter().copied().filter(deep).collect()
}

/// Returns GStreamer's software decoder of a codec.
pub(crate) fn element(codec: Codec) -> &'static str {
    codec.info().gstreamer.first().copied().unwrap_or_default()
}

/// Returns the four characters of a codec's format, as v4l2-ctl prints them.
pub(crate) fn format(codec: Codec) -> String {
    fourcc::name(codec.coded_format())
}

/// Returns the file's name of a codec's generated clip of a size, such as `240p`.
pub(crate) fn file(codec: Codec, size: &str) -> String {
    let end = match codec.info().stream {
        Stream::StartCodes => codec.name(),
        Stream::Obus | Stream::None => "ivf",
    };
    format!("{codec}-{size}.{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_has_a_row() {
        let rows = rows().unwrap();
        assert_eq!(rows.len(), Codec::ALL.len());
        for (row, codec) in rows.iter().zip(Codec::ALL) {
            assert!(!row.controls().unwrap().is_empty());
            assert!(!element(*codec).is_empty() && !row.clip.is_empty());
            assert!(row.small.contains(" -f ") && !row.ending.is_empty());
        }
    }
}
