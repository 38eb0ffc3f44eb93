// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The codec of a stream, by what it begins with.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use daedalus_common::elementary::{Elementary, HEAD};
use daedalus_uapi::Codec;
use daedalus_uapi::codec::Stream;

/// What a stream is coded in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// A codec that the device offers.
    Offered(Codec),
    /// Another one, by its name for people, or by what an IVF file calls it.
    Other(String),
}

impl Coding {
    /// Returns what a folder of that name holds; `None` for folders that are not named after a codec.
    pub(super) fn of_folder(name: &str) -> Option<Self> {
        name.parse().ok().map(Self::Offered)
    }

    /// Returns what has that name for people.
    fn named(name: &str) -> Self {
        let codec = Codec::ALL.iter().find(|codec| codec.title() == name);
        codec.map_or_else(|| Self::Other(name.to_owned()), |codec| Self::Offered(*codec))
    }
}

/// Returns the codec that a file's first bytes tell.
pub(super) fn of_content(path: &Path) -> Result<Option<Coding>> {
    let mut head = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(HEAD as u64).read_to_end(&mut head))
        .with_context(|| format!("cannot read {}", path.display()))?;
    if head.is_empty() {
        bail!("{} is empty", path.display());
    }
    let extension = path.extension().map(|end| end.to_string_lossy().into_owned());
    Ok(coding_of(&head, extension.as_deref().unwrap_or_default()))
}

/// How far into a Matroska file its track's codec may be.
const TRACKS: usize = 4096;

fn coding_of(head: &[u8], extension: &str) -> Option<Coding> {
    match head {
        [b'D', b'K', b'I', b'F', _, _, _, _, a, b, c, d, ..] => {
            let magic = [*a, *b, *c, *d];
            let name = || String::from_utf8_lossy(&magic).into_owned();
            Some(Codec::from_ivf(magic).map_or_else(|| Coding::Other(name()), Coding::Offered))
        }
        [0x1a, 0x45, 0xdf, 0xa3, ..] => {
            let head = &head[..head.len().min(TRACKS)];
            let has = |word: &str| head.windows(word.len()).any(|part| part == word.as_bytes());
            let track = |codec: &&Codec| codec.info().matroska.iter().any(|name| has(name));
            let codec = Codec::ALL.iter().find(track);
            codec.map(|codec| Coding::Offered(*codec))
        }
        // A temporal delimiter.
        [0x12, 0x00, ..] => stored_as(Stream::Obus),
        _ if extension == "obu" => stored_as(Stream::Obus),
        _ => Elementary::of(head).map(|kind| Coding::named(kind.name())),
    }
}

/// Returns the codec whose streams are stored so without a container.
fn stored_as(stream: Stream) -> Option<Coding> {
    let codec = Codec::ALL.iter().find(|codec| codec.info().stream == stream);
    codec.map(|codec| Coding::Offered(*codec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells_the_codec() {
        let of = coding_of;
        let ivf = |name: &[u8; 4]| [b"DKIF\0\0\x20\0".as_slice(), name].concat();
        let webm = |name: &str| [b"\x1a\x45\xdf\xa3..".as_slice(), name.as_bytes()].concat();
        for codec in Codec::ALL {
            let offered = Some(Coding::Offered(*codec));
            for magic in codec.info().ivf {
                assert_eq!(of(&ivf(magic), "x"), offered);
            }
            for track in codec.info().matroska {
                assert_eq!(of(&webm(track), "webm"), offered);
            }
            assert_eq!(Coding::of_folder(codec.name()), offered);
        }
        assert_eq!(of(&ivf(b"MJPG"), "ivf"), Some(Coding::Other("MJPG".to_owned())));
        assert_eq!(of(&webm("V_THEORA"), "webm"), None);
        assert_eq!(Coding::of_folder("more"), None);
        let units = [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x67, 100, 0, 30];
        assert_eq!(of(&units, "jsv"), stored_as(Stream::StartCodes));
        let stored: [&[u8]; 3] = [
            &[0, 0, 0, 1, 0x40, 1, 12, 1],
            &[0, 0, 1, 0xb3, 22, 0, 0xf0, 0x13, 0, 0, 1, 0xb5, 0x14],
            &[0, 0, 1, 0xb3, 22, 0, 0xf0, 0x13],
        ];
        let kinds = stored.map(|units| Elementary::of(units).expect("has a start code").name());
        for (units, name) in stored.into_iter().zip(kinds) {
            assert_eq!(of(units, "264"), Some(Coding::named(name)));
        }
        assert!(kinds[0] != kinds[1] && kinds[1] != kinds[2], "{kinds:?}");
        assert_eq!(of(&[0x12, 0, 0x0a], "obu"), stored_as(Stream::Obus));
        assert_eq!(of(b"MZ", "exe"), None);
    }
}
