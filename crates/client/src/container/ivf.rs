// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IVF: a 32-byte header, then frames with a 12-byte header each; all little endian.

use daedalus_uapi::Codec;

use super::contents::Contents;
use crate::error::ParseError;

/// Size of a frame's header: 32 bits of size, 64 bits of presentation time.
const FRAME_HEADER: usize = 12;

fn broken(offset: usize, what: &'static str) -> ParseError {
    ParseError::Container {
        container: "IVF",
        offset,
        what,
    }
}

/// Returns the codec that the header names.
pub(super) fn codec(bytes: &[u8]) -> Result<Codec, ParseError> {
    let name = bytes.get(8..).and_then(<[u8]>::first_chunk);
    let name = name.ok_or_else(|| broken(0, "the file header is cut off"))?;
    Codec::from_ivf(*name).ok_or_else(|| {
        let name = String::from_utf8_lossy(name);
        ParseError::UnknownContainer(format!("IVF with codec {name}"))
    })
}

pub(super) fn open(bytes: Vec<u8>) -> Result<Contents, ParseError> {
    let header = bytes
        .get(..32)
        .ok_or_else(|| broken(0, "the file header is cut off"))?;
    let codec = codec(header)?;
    let start = usize::from(u16::from_le_bytes([header[6], header[7]]));
    let mut offset = Some(start);
    let units = std::iter::from_fn(move || {
        let at = offset?;
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            offset = None;
            return None;
        }
        let frame = rest.first_chunk::<4>().and_then(|size| {
            let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
            rest.get(FRAME_HEADER..FRAME_HEADER.checked_add(size)?)
        });
        offset = frame.map(|frame| at + FRAME_HEADER + frame.len());
        Some(
            frame
                .map(<[u8]>::to_vec)
                .ok_or_else(|| broken(at, "the last frame is cut off")),
        )
    });
    Ok(Contents {
        codec,
        units: Box::new(units),
    })
}

#[cfg(test)]
mod tests {
    use daedalus_uapi::codec::CODECS;

    use super::*;

    fn file(name: [u8; 4], frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = [*b"DKIF", *b"\0\0\x20\0", name].concat();
        bytes.resize(32, 0);
        for frame in frames {
            bytes.extend((frame.len() as u32).to_le_bytes());
            bytes.extend([0; 8]);
            bytes.extend(*frame);
        }
        bytes
    }

    #[test]
    fn frames_come_out_whole() {
        for row in &CODECS {
            for name in row.ivf {
                let contents = open(file(*name, &[b"abc", b"", b"d"])).unwrap();
                assert_eq!(contents.codec, row.codec);
                let units: Vec<_> = contents.units.map(Result::unwrap).collect();
                assert_eq!(units, [b"abc".to_vec(), vec![], b"d".to_vec()]);
            }
        }
        assert!(open(file(*b"MJPG", &[])).is_err());
    }

    #[test]
    fn a_cut_frame_is_an_error_and_the_end() {
        let mut bytes = file(CODECS[0].ivf[0], &[b"abc", b"defg"]);
        bytes.pop();
        let mut units = open(bytes).unwrap().units;
        assert!(units.next().is_some_and(|unit| unit.is_ok()));
        assert!(matches!(
            units.next(),
            Some(Err(ParseError::Container { offset: 47, .. }))
        ));
        assert!(units.next().is_none());
    }
}
