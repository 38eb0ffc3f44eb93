// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Containers: a file's bytes, split into the units that a codec's parser takes.
//!
//! IVF, WebM (Matroska restricted to one video track without lacing or encryption), streams of start codes
//! and streams of open bitstream units. The kind is told from the contents, not from the file's name.

mod contents;
mod ivf;
mod obu;
mod start_codes;
mod webm;

use daedalus_common::elementary::Elementary;
use daedalus_uapi::Codec;
use daedalus_uapi::codec::{CODECS, Stream};

use crate::error::ParseError;
pub use contents::{Contents, Units};

/// Tells the codec of a file that begins with `head`, which need not be all of it.
///
/// # Errors
///
/// [`ParseError::UnknownContainer`], also if the codec is not named in `head`, or [`ParseError::Container`]
/// if the beginning is broken.
pub fn codec(head: &[u8]) -> Result<Codec, ParseError> {
    if head.starts_with(b"DKIF") {
        ivf::codec(head)
    } else if head.starts_with(&webm::EBML_MAGIC) {
        webm::codec(head)
    } else if begins_unit(head) {
        byte_stream(head)
    } else if let Some(codec) = of_stream(Stream::Obus).filter(|_| obu::begins(head)) {
        Ok(codec)
    } else {
        Err(unknown(head))
    }
}

/// Returns whether a start code is in front.
fn begins_unit(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0, 0, 1]) || bytes.starts_with(&[0, 0, 0, 1])
}

/// Returns the codec of a stream of start codes. One that does not tell is taken for the first such codec's,
/// from which something was lost.
///
/// # Errors
///
/// [`ParseError::UnknownContainer`] if it tells another codec.
fn byte_stream(bytes: &[u8]) -> Result<Codec, ParseError> {
    let name = Elementary::of(bytes).map(Elementary::name);
    let codec = CODECS
        .iter()
        .filter(|row| row.stream == Stream::StartCodes)
        .find(|row| name.is_none_or(|name| name == row.title));
    let other = || ParseError::UnknownContainer(format!("it is {}", name.unwrap_or("unknown")));
    codec.map(|row| row.codec).ok_or_else(other)
}

/// Returns the codec whose streams are stored in this way without a container.
fn of_stream(stream: Stream) -> Option<Codec> {
    let row = CODECS.iter().find(|row| row.stream == stream);
    row.map(|row| row.codec)
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
        Ok(Contents {
            codec: byte_stream(&bytes)?,
            units: Box::new(start_codes::Units::new(bytes)),
        })
    } else if let Some((codec, units)) = of_stream(Stream::Obus).zip(obu::open(&bytes)) {
        Ok(Contents {
            codec,
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
            (&[0, 0, 0, 1, 9][..], of_stream(Stream::StartCodes)),
            (&low_overhead, of_stream(Stream::Obus)),
            (&delimited, of_stream(Stream::Obus)),
            (b"RIFF....AVI LIST", None),
            (b"", None),
        ] {
            assert_eq!(codec(head).ok(), is, "{head:02x?}");
        }
        for row in &CODECS {
            for name in row.ivf {
                let head = [&b"DKIF\0\0\x20\0"[..], name].concat();
                assert_eq!(codec(&head).ok(), Some(row.codec));
            }
        }
    }

    #[test]
    fn start_codes_tell_no_codec() {
        let open = |unit: &[u8]| open([&[0, 0, 0, 1], unit].concat()).map(|contents| contents.codec);
        let of_start_codes = of_stream(Stream::StartCodes);
        // A sequence parameter set, and a slice without one.
        assert_eq!(open(&[0x67, 100, 0, 30]).ok(), of_start_codes);
        assert_eq!(open(&[0x65, 0x88, 0x84]).ok(), of_start_codes);
        let other = open(&[0x40, 1, 12, 1]).ok();
        assert!(other.is_some_and(|codec| Some(codec) != of_start_codes));
        // A sequence header of MPEG-1.
        let error = open(&[0xb3, 0x16, 0, 0xf0]).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.ends_with("it is MPEG-1")));
    }
}
