// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Containers: a file's bytes, split into the units that a codec's parser takes.
//!
//! IVF, WebM (Matroska restricted to one video track without lacing or encryption), H.264 Annex B and the
//! two AV1 stream formats. The kind is told from the contents, not from the file's name.

mod annexb;
mod elementary;
mod ivf;
mod obu;
mod webm;

pub(crate) use obu::leb128;

use elementary::Elementary;

use crate::error::ParseError;
use crate::job::Codec;

/// Units, each of which a codec's parser takes whole.
pub type Units = Box<dyn Iterator<Item = Result<Vec<u8>, ParseError>>>;

/// What is in a file.
pub struct Contents {
    /// The codec of its (first) video track.
    pub codec: Codec,
    /// H.264: one NAL unit, without start code; VP9: a frame or superframe; AV1: a temporal unit of OBUs
    /// which carry sizes.
    pub units: Units,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents")
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}

/// Tells what `bytes` is and how it splits.
///
/// # Errors
///
/// [`ParseError::UnknownContainer`], or [`ParseError::Container`] if its beginning is broken.
pub fn open(bytes: Vec<u8>) -> Result<Contents, ParseError> {
    if bytes.starts_with(b"DKIF") {
        ivf::open(bytes)
    } else if bytes.starts_with(&webm::EBML_MAGIC) {
        webm::open(bytes)
    } else if bytes.starts_with(&[0, 0, 1]) || bytes.starts_with(&[0, 0, 0, 1]) {
        match Elementary::of(&bytes) {
            // What does not tell may be H.264 from which something was lost.
            None | Some(Elementary::H264) => Ok(Contents {
                codec: Codec::H264,
                units: Box::new(annexb::NalUnits::new(bytes)),
            }),
            Some(other) => Err(ParseError::UnknownContainer(format!("it is {}", other.name()))),
        }
    } else if let Some(units) = obu::open(&bytes) {
        Ok(Contents {
            codec: Codec::Av1,
            units: Box::new(units.into_iter().map(Ok)),
        })
    } else {
        let head = &bytes[..bytes.len().min(8)];
        Err(ParseError::UnknownContainer(format!(
            "it begins with {head:02x?}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_are_not_taken_for_h264() {
        let open = |unit: &[u8]| open([&[0, 0, 0, 1], unit].concat()).map(|contents| contents.codec);
        assert_eq!(open(&[0x67, 100, 0, 30]).ok(), Some(Codec::H264));
        assert_eq!(open(&[0x65, 0x88, 0x84]).ok(), Some(Codec::H264));
        let error = open(&[0x40, 1, 12, 1]).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.ends_with("it is HEVC")));
    }
}
