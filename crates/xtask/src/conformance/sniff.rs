// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The codec of a stream, by what it begins with.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::elementary::{Elementary, HEAD};
use super::folders::CODECS;

/// Names of folders that hold streams of one codec, and that codec's name for people.
pub(super) const FOLDERS: [(&str, &str); 6] = [
    ("h264", "H.264"),
    ("vp9", "VP9"),
    ("av1", "AV1"),
    ("hevc", "HEVC"),
    ("mpeg2", "MPEG-2"),
    ("vp8", "VP8"),
];

/// A stream's codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// One of [`CODECS`].
    Offered(&'static str),
    /// Another one, by its name for people.
    Other(String),
}

impl Codec {
    /// Returns the codec that has the name of a folder, of [`FOLDERS`], or else a name for people.
    pub(super) fn named(name: &str) -> Self {
        match CODECS.into_iter().find(|codec| *codec == name) {
            Some(codec) => Self::Offered(codec),
            None => {
                let folder = FOLDERS.iter().find(|(folder, _)| *folder == name);
                Self::Other(folder.map_or(name, |(_, name)| name).to_owned())
            }
        }
    }
}

/// Returns the codec that a file's first bytes tell.
pub(super) fn of_content(path: &Path) -> Result<Option<Codec>> {
    let mut head = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(HEAD as u64).read_to_end(&mut head))
        .with_context(|| format!("cannot read {}", path.display()))?;
    if head.is_empty() {
        bail!("{} is empty", path.display());
    }
    let extension = path.extension().map(|end| end.to_string_lossy().into_owned());
    Ok(codec_of(&head, extension.as_deref().unwrap_or_default()))
}

/// How far into a Matroska file its track's codec may be.
const TRACKS: usize = 4096;

fn codec_of(head: &[u8], extension: &str) -> Option<Codec> {
    let name = match head {
        [b'D', b'K', b'I', b'F', _, _, _, _, a, b, c, d, ..] => match &[*a, *b, *c, *d] {
            b"VP90" => "vp9",
            b"VP80" => "vp8",
            b"AV01" => "av1",
            b"H264" | b"AVC1" => "h264",
            b"HEVC" | b"H265" => "hevc",
            other => return Some(Codec::Other(String::from_utf8_lossy(other).into_owned())),
        },
        [0x1a, 0x45, 0xdf, 0xa3, ..] => {
            let head = &head[..head.len().min(TRACKS)];
            let has = |word: &[u8]| head.windows(word.len()).any(|part| part == word);
            let tracks: [(&[u8], &str); 6] = [
                (b"V_VP9", "vp9"),
                (b"V_AV1", "av1"),
                (b"V_VP8", "vp8"),
                (b"V_MPEG4/ISO/AVC", "h264"),
                (b"V_MPEGH/ISO/HEVC", "hevc"),
                (b"V_MPEG2", "mpeg2"),
            ];
            tracks.into_iter().find(|(track, _)| has(track))?.1
        }
        [0x12, 0x00, ..] => "av1",
        _ if extension == "obu" => "av1",
        _ => match Elementary::of(head)? {
            Elementary::H264 => "h264",
            Elementary::Hevc => "hevc",
            Elementary::Mpeg2 => "mpeg2",
            other @ Elementary::Mpeg1 => other.name(),
        },
    };
    Some(Codec::named(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells_the_codec() {
        let other = |name: &str| Some(Codec::Other(name.to_owned()));
        let ivf = |name: &[u8; 4]| [b"DKIF\0\0\x20\0".as_slice(), name].concat();
        assert_eq!(codec_of(&ivf(b"VP90"), "ivf"), Some(Codec::Offered("vp9")));
        assert_eq!(codec_of(&ivf(b"AV01"), "x"), Some(Codec::Offered("av1")));
        assert_eq!(codec_of(&ivf(b"VP80"), "ivf"), other("VP8"));
        assert_eq!(codec_of(&ivf(b"MJPG"), "ivf"), other("MJPG"));
        let units = [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x67, 100, 0, 30];
        assert_eq!(codec_of(&units, "jsv"), Some(Codec::Offered("h264")));
        assert_eq!(codec_of(&[0, 0, 0, 1, 0x40, 1, 12, 1], "264"), other("HEVC"));
        let units = [0, 0, 1, 0xb3, 22, 0, 0xf0, 0x13, 0, 0, 1, 0xb5, 0x14];
        assert_eq!(codec_of(&units, "264"), other("MPEG-2"));
        assert_eq!(codec_of(&units[..8], "m2v"), other("MPEG-1"));
        assert_eq!(codec_of(&[0x12, 0, 0x0a], "obu"), Some(Codec::Offered("av1")));
        assert_eq!(
            codec_of(b"\x1a\x45\xdf\xa3..V_VP9", "webm"),
            Some(Codec::Offered("vp9"))
        );
        assert_eq!(codec_of(b"\x1a\x45\xdf\xa3..V_VP8", "webm"), other("VP8"));
        assert_eq!(codec_of(b"MZ", "exe"), None);
    }
}
