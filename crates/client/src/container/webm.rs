// SPDX-License-Identifier: Apache-2.0 OR MIT
//! WebM: the blocks of a Matroska file's first video track (RFC 9559, RFC 8794).
//!
//! Only what a video-only file needs is understood: masters are entered, blocks are taken, all else is
//! skipped. Lacing is refused: it is for audio.

use daedalus_uapi::Codec;

use super::contents::Contents;
use crate::error::ParseError;

/// The id of the EBML header, with which every file begins.
pub(super) const EBML_MAGIC: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

const SEGMENT: u32 = 0x1853_8067;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK_ENTRY: u32 = 0xae;
const TRACK_NUMBER: u32 = 0xd7;
const CODEC_ID: u32 = 0x86;
const CLUSTER: u32 = 0x1f43_b675;
const BLOCK_GROUP: u32 = 0xa0;
const BLOCK: u32 = 0xa1;
const SIMPLE_BLOCK: u32 = 0xa3;

fn broken(offset: usize, what: &'static str) -> ParseError {
    ParseError::Container {
        container: "WebM",
        offset,
        what,
    }
}

/// Reads elements out of a file, in order.
struct Reader<B> {
    /// The file, or its beginning.
    bytes: B,
    at: usize,
    /// Bytes of the file, if they are known.
    length: usize,
}

/// An element: its id, and where its contents lie. The end is that of the file if the size is unknown.
struct Element {
    id: u32,
    start: usize,
    end: usize,
}

impl<B: AsRef<[u8]>> Reader<B> {
    /// Returns a variable-size integer of at most `limit` bytes (RFC 8794 section 4), with the width marker
    /// kept or removed, and whether all its value bits are one.
    fn vint(&mut self, limit: usize, keep_marker: bool) -> Result<(u64, bool), ParseError> {
        let at = self.at;
        let bytes = self.bytes.as_ref();
        let first = *bytes.get(at).ok_or_else(|| broken(at, "an element is cut off"))?;
        let length = first.leading_zeros() as usize + 1;
        if length > limit {
            return Err(broken(at, "an element's id or size is too long"));
        }
        let bytes = bytes
            .get(at..at + length)
            .ok_or_else(|| broken(at, "an element is cut off"))?;
        let whole = bytes
            .iter()
            .fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
        let mask = (1u64 << (7 * length)) - 1;
        self.at += length;
        Ok((
            if keep_marker { whole } else { whole & mask },
            whole & mask == mask,
        ))
    }

    /// Returns the element at the current place; the place moves to its contents. `None` at the end of the
    /// file.
    fn element(&mut self) -> Result<Option<Element>, ParseError> {
        if self.at >= self.bytes.as_ref().len() {
            return Ok(None);
        }
        let (id, _) = self.vint(4, true)?;
        let id = u32::try_from(id).map_err(|_| broken(self.at, "an element's id is too long"))?;
        let (size, unknown) = self.vint(8, false)?;
        let start = self.at;
        let end = if unknown {
            self.length
        } else {
            usize::try_from(size)
                .ok()
                .and_then(|size| start.checked_add(size))
                .filter(|end| *end <= self.length)
                .ok_or_else(|| broken(start, "an element ends beyond the file"))?
        };
        Ok(Some(Element { id, start, end }))
    }

    /// Returns the next block's frame, if it belongs to `track`. `None` at the end of the file.
    fn frame(&mut self, track: u64) -> Result<Option<Vec<u8>>, ParseError> {
        while let Some(element) = self.element()? {
            match element.id {
                SEGMENT | CLUSTER | BLOCK_GROUP => {}
                BLOCK | SIMPLE_BLOCK => {
                    let (number, _) = self.vint(8, false)?;
                    // 16 bits of relative time, then the flags.
                    let frame = self.at + 3;
                    if frame > element.end {
                        return Err(broken(element.start, "a block is too short"));
                    }
                    let bytes = self.bytes.as_ref();
                    if bytes[self.at + 2] & 0x06 != 0 {
                        return Err(broken(element.start, "a block has lacing"));
                    }
                    self.at = element.end;
                    if number == track {
                        return Ok(Some(bytes[frame..element.end].to_vec()));
                    }
                }
                _ => self.at = element.end,
            }
        }
        Ok(None)
    }

    /// Returns the contents of an element.
    fn contents(&self, element: &Element) -> Result<&[u8], ParseError> {
        let bytes = self.bytes.as_ref().get(element.start..element.end);
        bytes.ok_or_else(|| broken(element.start, "an element is cut off"))
    }

    /// Returns number and codec of the first track whose codec is known; the place moves behind the track
    /// list.
    fn track(&mut self) -> Result<(u64, Codec), ParseError> {
        let mut number = 0;
        let mut names = Vec::new();
        while let Some(element) = self.element()? {
            match element.id {
                SEGMENT | TRACKS | TRACK_ENTRY => continue,
                TRACK_NUMBER => {
                    number = self
                        .contents(&element)?
                        .iter()
                        .fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
                }
                CODEC_ID => {
                    self.at = element.end;
                    let name = String::from_utf8_lossy(self.contents(&element)?);
                    let name = name.trim_end_matches('\0');
                    match Codec::from_matroska(name) {
                        Some(codec) => return Ok((number, codec)),
                        None => names.push(name.to_owned()),
                    }
                }
                CLUSTER => break,
                _ => {}
            }
            self.at = element.end;
        }
        Err(ParseError::UnknownContainer(format!(
            "WebM with codecs {names:?}"
        )))
    }
}

/// Returns a reader behind the EBML header, and the first track's number and codec.
fn first_track<B: AsRef<[u8]>>(bytes: B, length: usize) -> Result<(Reader<B>, u64, Codec), ParseError> {
    let mut reader = Reader { bytes, at: 0, length };
    if let Some(header) = reader.element()? {
        reader.at = header.end;
    }
    let (track, codec) = reader.track()?;
    Ok((reader, track, codec))
}

/// Returns the codec of a file that begins with `head`.
pub(super) fn codec(head: &[u8]) -> Result<Codec, ParseError> {
    first_track(head, usize::MAX).map(|(_, _, codec)| codec)
}

pub(super) fn open(bytes: Vec<u8>) -> Result<Contents, ParseError> {
    let length = bytes.len();
    let (mut reader, track, codec) = first_track(bytes, length)?;
    let mut ended = false;
    let units = std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let frame = reader.frame(track);
        ended = !matches!(frame, Ok(Some(_)));
        frame.transpose()
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

    /// Returns a codec, and the name that a track has for it.
    fn codec_with_name() -> (Codec, &'static str) {
        let mut rows = CODECS.iter();
        rows.find_map(|row| Some((row.codec, *row.matroska.first()?)))
            .unwrap()
    }

    fn element(id: u32, contents: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = id
            .to_be_bytes()
            .into_iter()
            .skip_while(|byte| *byte == 0)
            .collect();
        bytes.extend([0x40 | (contents.len() >> 8) as u8, contents.len() as u8]);
        bytes.extend(contents);
        bytes
    }

    fn file(flags: u8) -> Vec<u8> {
        let track = [
            element(TRACK_NUMBER, &[7]),
            element(CODEC_ID, codec_with_name().1.as_bytes()),
        ]
        .concat();
        let group = element(BLOCK, &[&[0x87, 0, 1, flags], &b"two"[..]].concat());
        let cluster = [
            element(SIMPLE_BLOCK, &[&[0x87, 0, 0, flags], &b"one"[..]].concat()),
            element(
                SIMPLE_BLOCK,
                &[&[0x81, 0, 0, flags], &b"other track"[..]].concat(),
            ),
            element(BLOCK_GROUP, &group),
        ];
        let segment = [
            element(TRACKS, &element(TRACK_ENTRY, &track)),
            element(CLUSTER, &cluster.concat()),
        ];
        [
            element(u32::from_be_bytes(EBML_MAGIC), &[]),
            element(SEGMENT, &segment.concat()),
        ]
        .concat()
    }

    #[test]
    fn blocks_of_the_video_track_come_out() {
        let contents = open(file(0)).unwrap();
        assert_eq!(contents.codec, codec_with_name().0);
        let units: Vec<_> = contents.units.map(Result::unwrap).collect();
        assert_eq!(units, [b"one".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn the_codec_is_in_the_beginning() {
        let whole = file(0);
        let (is, name) = codec_with_name();
        let mut windows = whole.windows(name.len());
        let at = windows.position(|bytes| bytes == name.as_bytes()).unwrap() + name.len();
        assert_eq!(codec(&whole[..at]).ok(), Some(is));
        assert!(codec(&whole[..at - 1]).is_err());
    }

    #[test]
    fn lacing_and_cut_files_are_errors() {
        assert!(open(file(2)).unwrap().units.any(|unit| unit.is_err()));
        let whole = file(0);
        for length in 0..whole.len() {
            match open(whole[..length].to_vec()) {
                Err(_) => {}
                Ok(contents) => assert!(contents.units.take(3).any(|unit| unit.is_err())),
            }
        }
    }
}
