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
use daedalus_uapi::Codec;

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

/// Tells the codec of a file that begins with `head`, which need not be all of it.
///
/// # Errors
///
/// [`ParseError::UnknownContainer`], also if the codec is not named in `head`, or [`ParseError::Container`] if the
/// beginning is broken.
pub fn codec(head: &[u8]) -> Result<Codec, ParseError> {
    if head.starts_with(b"DKIF") {
        ivf::codec(head)
    } else if head.starts_with(&webm::EBML_MAGIC) {
        webm::codec(head)
    } else if begins_unit(head) {
        byte_stream(head).map(|()| Codec::H264)
    } else if obu::begins(head) {
        Ok(Codec::Av1)
    } else {
        Err(unknown(head))
    }
}

/// Returns whether a start code is in front.
fn begins_unit(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0, 0, 1]) || bytes.starts_with(&[0, 0, 0, 1])
}

/// Fails if a stream of start codes is another codec's than H.264. What does not tell may be H.264 from which something
/// was lost.
fn byte_stream(bytes: &[u8]) -> Result<(), ParseError> {
    match Elementary::of(bytes) {
        None | Some(Elementary::H264) => Ok(()),
        Some(other) => Err(ParseError::UnknownContainer(format!("it is {}", other.name()))),
    }
}

fn unknown(bytes: &[u8]) -> ParseError {
    let head = &bytes[..bytes.len().min(8)];
    ParseError::UnknownContainer(format!("it begins with {head:02x?}"))
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
    } else if begins_unit(&bytes) {
        byte_stream(&bytes)?;
        Ok(Contents {
            codec: Codec::H264,
            units: Box::new(annexb::NalUnits::new(bytes)),
        })
    } else if let Some(units) = obu::open(&bytes) {
        Ok(Contents {
            codec: Codec::Av1,
            units: Box::new(units.into_iter().map(Ok)),
        })
    } else {
        Err(unknown(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codec_is_told_from_the_beginning() {
        let low_overhead = [&[0x12, 0, 0x0a, 100][..], &[7; 50]].concat();
        let delimited = [&[100, 99, 1, 0x10, 90][..], &[7; 50]].concat();
        for (head, is) in [
            (&[0, 0, 0, 1, 9][..], Some(Codec::H264)),
            (b"DKIF\0\0\x20\0AV01", Some(Codec::Av1)),
            (&low_overhead, Some(Codec::Av1)),
            (&delimited, Some(Codec::Av1)),
            (b"RIFF....AVI LIST", None),
            (b"", None),
        ] {
            assert_eq!(codec(head).ok(), is, "{head:02x?}");
        }
    }

    #[test]
    fn start_codes_are_not_taken_for_h264() {
        let open = |unit: &[u8]| open([&[0, 0, 0, 1], unit].concat()).map(|contents| contents.codec);
        assert_eq!(open(&[0x67, 100, 0, 30]).ok(), Some(Codec::H264));
        assert_eq!(open(&[0x65, 0x88, 0x84]).ok(), Some(Codec::H264));
        let error = open(&[0x40, 1, 12, 1]).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.ends_with("it is HEVC")));
    }
}
