// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The codec of a stream, by what it begins with.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use daedalus_common::elementary::{Elementary, HEAD};
use daedalus_uapi::Codec;
use daedalus_uapi::codec::Stream;
use serde::Deserialize;

use crate::site::table;

/// A codec that the device does not offer, as a row of others.tsv.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Other {
    /// The name of folders that hold its streams.
    pub(super) folder: String,
    /// Its name, for people.
    pub(super) name: String,
    /// The magic numbers of IVF files, separated by blanks.
    pub(super) ivf: String,
    /// The name of a Matroska track.
    matroska: String,
}

/// Returns the codecs of others.tsv.
pub(super) fn others() -> Result<Vec<Other>> {
    table::rows("others.tsv", include_str!("others.tsv"))
}

/// What a stream is coded in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// A codec that the device offers.
    Offered(Codec),
    /// Another one, by its name for people.
    Other(String),
}

impl Coding {
    /// Returns what a folder of that name holds; `None` for folders that are not named after a codec.
    pub(super) fn of_folder(name: &str) -> Result<Option<Self>> {
        if let Ok(codec) = name.parse() {
            return Ok(Some(Self::Offered(codec)));
        }
        let other = others()?.into_iter().find(|other| other.folder == name);
        Ok(other.map(|other| Self::Other(other.name)))
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
    coding_of(&head, extension.as_deref().unwrap_or_default())
}

/// How far into a Matroska file its track's codec may be.
const TRACKS: usize = 4096;

fn coding_of(head: &[u8], extension: &str) -> Result<Option<Coding>> {
    let others = others()?;
    let coding = match head {
        [b'D', b'K', b'I', b'F', _, _, _, _, a, b, c, d, ..] => {
            let magic = [*a, *b, *c, *d];
            let name = String::from_utf8_lossy(&magic).into_owned();
            let other = others
                .into_iter()
                .find(|other| other.ivf.split(' ').any(|magic| magic == name));
            Codec::from_ivf(magic).map_or_else(
                || Coding::Other(other.map_or(name, |other| other.name)),
                Coding::Offered,
            )
        }
        [0x1a, 0x45, 0xdf, 0xa3, ..] => {
            let head = &head[..head.len().min(TRACKS)];
            let has = |word: &str| head.windows(word.len()).any(|part| part == word.as_bytes());
            let track = |codec: &&Codec| codec.info().matroska.iter().any(|name| has(name));
            if let Some(codec) = Codec::ALL.iter().find(track) {
                return Ok(Some(Coding::Offered(*codec)));
            }
            let Some(other) = others.into_iter().find(|other| has(&other.matroska)) else {
                return Ok(None);
            };
            Coding::Other(other.name)
        }
        // A temporal delimiter.
        [0x12, 0x00, ..] => return Ok(stored_as(Stream::Obus)),
        _ if extension == "obu" => return Ok(stored_as(Stream::Obus)),
        _ => match Elementary::of(head) {
            Some(kind) => Coding::named(kind.name()),
            None => return Ok(None),
        },
    };
    Ok(Some(coding))
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
        let of = |head: &[u8], extension| coding_of(head, extension).unwrap();
        let other = |name: &str| Some(Coding::Other(name.to_owned()));
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
            let folder = Coding::of_folder(codec.name()).unwrap();
            assert_eq!(folder, offered);
        }
        for row in others().unwrap() {
            for magic in row.ivf.split_whitespace() {
                assert_eq!(
                    of(&ivf(magic.as_bytes().try_into().unwrap()), "ivf"),
                    other(&row.name)
                );
            }
            assert_eq!(of(&webm(&row.matroska), "webm"), other(&row.name));
            assert_eq!(Coding::of_folder(&row.folder).unwrap(), other(&row.name));
        }
        assert_eq!(of(&ivf(b"MJPG"), "ivf"), other("MJPG"));
        assert_eq!(Coding::of_folder("more").unwrap(), None);
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
