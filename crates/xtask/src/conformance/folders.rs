// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Folders of streams: which there are below a directory, and which codec each stream is of.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::manifest::{self, Entry};

/// The codecs that the device offers, by the names of their folders.
pub(crate) const CODECS: [&str; 3] = ["h264", "vp9", "av1"];

/// Streams that are run and reported together: all MANIFESTs below one directory.
pub(crate) struct Set {
    /// Its name in the reports' file names.
    pub(crate) name: String,
    /// The directory, which the guest sees as /mnt/vectors.
    pub(crate) root: PathBuf,
    folders: Vec<Folder>,
}

/// A folder with a MANIFEST.
struct Folder {
    path: PathBuf,
    rows: Vec<(Codec, Entry)>,
}

/// What a stream's first bytes say that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Codec {
    /// One of [`CODECS`].
    Offered(&'static str),
    /// Another one, by its name.
    Other(String),
}

/// One stream of a set.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Unique in a codec of the set.
    pub(crate) name: String,
    /// Folder and file, relative to the set's directory.
    pub(crate) folder: PathBuf,
    /// Its row.
    pub(crate) entry: Entry,
    /// Why the device does not play it.
    pub(crate) not_offered: Option<String>,
}

impl Set {
    /// The set in `dir`: its own MANIFEST.tsv if it has one, else those of the directories in it.
    pub(crate) fn open(name: &str, dir: &Path) -> Result<Self> {
        let root = dir
            .canonicalize()
            .with_context(|| format!("no directory {}", dir.display()))?;
        ensure!(root.is_dir(), "{} is no directory", dir.display());
        // It becomes a mount option and a word of a list in the guest.
        ensure!(
            !root
                .to_string_lossy()
                .contains(|c: char| c.is_whitespace() || c == ','),
            "{}: no space or comma may be in that path",
            root.display()
        );
        let mut paths = Vec::new();
        if root.join("MANIFEST.tsv").is_file() {
            paths.push(root.clone());
        } else {
            for entry in std::fs::read_dir(&root)? {
                let path = entry?.path();
                if path.join("MANIFEST.tsv").is_file() {
                    paths.push(path);
                }
            }
        }
        // The codecs' own order first, so that reports are in the same order everywhere.
        paths.sort_by_key(|path| {
            let name = file_name(path);
            (CODECS.iter().position(|codec| *codec == name).unwrap_or(9), name)
        });
        ensure!(
            !paths.is_empty(),
            "{} has no MANIFEST.tsv, nor has a directory in it",
            root.display()
        );
        let folders = paths.into_iter().map(Folder::open).collect::<Result<_>>()?;
        Ok(Self {
            name: name.into(),
            root,
            folders,
        })
    }

    /// The streams of a codec that a run takes: `choose` picks from each MANIFEST's rows of it.
    pub(crate) fn items(&self, codec: &str, choose: impl Fn(&[Entry]) -> Vec<Entry>) -> Result<Vec<Item>> {
        self.take(choose, |of| *of == Codec::Offered(known(codec)))
    }

    /// The streams of codecs that the device does not offer, with the codec's name.
    pub(crate) fn others(&self) -> Result<Vec<Item>> {
        self.take(<[Entry]>::to_vec, |of| matches!(of, Codec::Other(_)))
    }

    fn take(
        &self,
        choose: impl Fn(&[Entry]) -> Vec<Entry>,
        of: impl Fn(&Codec) -> bool,
    ) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for folder in &self.folders {
            let relative = folder.path.strip_prefix(&self.root)?.to_owned();
            let rows: Vec<Entry> = folder
                .rows
                .iter()
                .filter(|(codec, _)| of(codec))
                .map(|(_, entry)| entry.clone())
                .collect();
            for entry in choose(&rows) {
                let codec = folder.rows.iter().find(|(_, row)| row.file == entry.file);
                let not_offered = match codec {
                    Some((Codec::Other(name), _)) => Some(format!("{name} is no coded format of the device")),
                    _ if entry.bit_depth().is_none() => Some(format!(
                        "{}: the device's raw formats are 4:2:0 with 8 and 10 bit",
                        entry.pixfmt
                    )),
                    _ => None,
                };
                // In a folder of one codec the path in it is the name that everybody knows the stream by.
                let plain =
                    relative.as_os_str().is_empty() || CODECS.contains(&file_name(&relative).as_str());
                items.push(Item {
                    name: if plain {
                        entry.file.clone()
                    } else {
                        format!("{}/{}", relative.display(), entry.file)
                    },
                    folder: relative.clone(),
                    entry,
                    not_offered,
                });
            }
        }
        Ok(items)
    }
}

impl Folder {
    fn open(path: PathBuf) -> Result<Self> {
        let name = file_name(&path);
        let rows = manifest::load(&path)?
            .into_iter()
            .map(|entry| {
                let file = path.join(&entry.file);
                let real = file
                    .canonicalize()
                    .with_context(|| format!("{} is listed, but not there", file.display()))?;
                ensure!(
                    real.starts_with(&path),
                    "{} is a link out of its folder, which the guest cannot follow",
                    file.display()
                );
                let codec = match of_content(&real)? {
                    Some(codec) => codec,
                    None => {
                        Codec::Offered(CODECS.into_iter().find(|codec| *codec == name).with_context(
                            || format!("{}: neither IVF, WebM, H.264 nor AV1", file.display()),
                        )?)
                    }
                };
                Ok((codec, entry))
            })
            .collect::<Result<_>>()?;
        Ok(Self { path, rows })
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn known(codec: &str) -> &'static str {
    CODECS.into_iter().find(|one| *one == codec).unwrap_or("")
}

/// The codec by the stream's first bytes; a MANIFEST does not say.
fn of_content(path: &Path) -> Result<Option<Codec>> {
    let mut head = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(4096).read_to_end(&mut head))
        .with_context(|| format!("cannot read {}", path.display()))?;
    if head.is_empty() {
        bail!("{} is empty", path.display());
    }
    let extension = path.extension().map(|end| end.to_string_lossy().into_owned());
    Ok(codec_of(&head, extension.as_deref().unwrap_or_default()))
}

fn codec_of(head: &[u8], extension: &str) -> Option<Codec> {
    let has = |word: &[u8]| head.windows(word.len()).any(|part| part == word);
    let by_name = |name: &[u8]| match name {
        b"VP90" => Codec::Offered("vp9"),
        b"AV01" => Codec::Offered("av1"),
        b"H264" => Codec::Offered("h264"),
        other => Codec::Other(String::from_utf8_lossy(other).into_owned()),
    };
    match head {
        [b'D', b'K', b'I', b'F', _, _, _, _, a, b, c, d, ..] => Some(by_name(&[*a, *b, *c, *d])),
        [0x1a, 0x45, 0xdf, 0xa3, ..] if has(b"V_VP9") => Some(Codec::Offered("vp9")),
        [0x1a, 0x45, 0xdf, 0xa3, ..] if has(b"V_AV1") => Some(Codec::Offered("av1")),
        [0x1a, 0x45, 0xdf, 0xa3, ..] if has(b"V_VP8") => Some(Codec::Other("VP80".into())),
        [0x12, 0x00, ..] => Some(Codec::Offered("av1")),
        _ if extension == "obu" => Some(Codec::Offered("av1")),
        [0, 0, 1, ..] | [0, 0, 0, 1, ..] => Some(Codec::Offered("h264")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells_the_codec() {
        let ivf = |name: &[u8; 4]| [b"DKIF\0\0\x20\0".as_slice(), name].concat();
        assert_eq!(codec_of(&ivf(b"VP90"), "ivf"), Some(Codec::Offered("vp9")));
        assert_eq!(codec_of(&ivf(b"AV01"), "x"), Some(Codec::Offered("av1")));
        assert_eq!(codec_of(&ivf(b"VP80"), "ivf"), Some(Codec::Other("VP80".into())));
        assert_eq!(codec_of(&[0, 0, 0, 1, 0x67], "jsv"), Some(Codec::Offered("h264")));
        assert_eq!(codec_of(&[0x12, 0, 0x0a], "obu"), Some(Codec::Offered("av1")));
        assert_eq!(
            codec_of(b"\x1a\x45\xdf\xa3..V_VP9", "webm"),
            Some(Codec::Offered("vp9"))
        );
        assert_eq!(codec_of(b"MZ", "exe"), None);
    }
}
