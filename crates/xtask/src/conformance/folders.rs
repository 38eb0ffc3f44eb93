// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Folders of streams: which there are below a directory, and which codec each stream is of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use daedalus_uapi::Codec;

use super::manifest::{self, Entry};
use super::sniff::{self, Coding};

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
    rows: Vec<(Coding, Entry)>,
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
            let place = Codec::ALL.iter().position(|codec| codec.name() == name);
            (place.unwrap_or(Codec::ALL.len()), name)
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
    pub(crate) fn items(&self, codec: Codec, choose: impl Fn(&[Entry]) -> Vec<Entry>) -> Result<Vec<Item>> {
        self.take(choose, |of| *of == Coding::Offered(codec))
    }

    /// Returns the codecs that the device does not offer, by name, with the streams that a run would take.
    pub(crate) fn others(
        &self,
        choose: impl Fn(&[Entry]) -> Vec<Entry>,
    ) -> Result<BTreeMap<String, Vec<Item>>> {
        let rows = self.folders.iter().flat_map(|folder| &folder.rows);
        let names: BTreeSet<&str> = rows
            .filter_map(|(codec, _)| match codec {
                Coding::Other(name) => Some(name.as_str()),
                Coding::Offered(_) => None,
            })
            .collect();
        names
            .into_iter()
            .map(|name| {
                let of = |coding: &Coding| matches!(coding, Coding::Other(other) if other == name);
                Ok((name.to_owned(), self.take(&choose, of)?))
            })
            .collect()
    }

    fn take(
        &self,
        choose: impl Fn(&[Entry]) -> Vec<Entry>,
        of: impl Fn(&Coding) -> bool,
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
                    Some((Coding::Other(name), _)) => {
                        Some(format!("{name} is no coded format of the device"))
                    }
                    _ if entry.bit_depth().is_none() => Some(format!(
                        "{}: the device's raw formats are 4:2:0 with 8 and 10 bit",
                        entry.pixfmt
                    )),
                    _ => None,
                };
                // In a folder of one codec the path in it is the name that everybody knows the stream by.
                let plain = relative.as_os_str().is_empty() || file_name(&relative).parse::<Codec>().is_ok();
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
                // A MANIFEST is of one codec where its folder has a codec's name.
                let coding = match Coding::of_folder(&name) {
                    None => sniff::of_content(&real)?,
                    coding => coding,
                };
                let coding = coding.with_context(|| {
                    format!(
                        "{}: neither IVF, WebM, open bitstream units nor with a parameter set",
                        file.display()
                    )
                })?;
                Ok((coding, entry))
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

#[cfg(test)]
mod tests {
    use super::*;
    use daedalus_common::vectors;

    /// The vectors that lie beside the tree are of the codecs that their folders are named after.
    #[test]
    fn content_tells_the_codec_of_every_vector() -> Result<()> {
        for folder in Codec::ALL.iter().map(|codec| codec.name()) {
            let Some(path) = vectors::for_test(folder, "content tells the codec") else {
                continue;
            };
            for entry in manifest::load(&path)? {
                let coding = sniff::of_content(&path.join(&entry.file))?;
                ensure!(
                    coding.is_some() && coding == Coding::of_folder(folder),
                    "{folder}/{}: {coding:?}",
                    entry.file
                );
            }
        }
        Ok(())
    }

    #[test]
    fn other_codecs_are_no_items_of_the_devices() -> Result<()> {
        let top = std::env::temp_dir().join(format!("xtask-folders-{}", std::process::id()));
        let header =
            "file\tsuite\tframes\twidth\theight\tpixfmt\tprofile\tfield_order\tsize_changes\traw_md5";
        let row = |file: &str| {
            let sum = "0123456789abcdef0123456789abcdef";
            format!("{file}\ts\t3\t16\t16\tyuv420p\tMain\tNone\tno\t{sum}\n")
        };
        let streams: Vec<(String, &str, &[u8])> = vec![
            (
                Codec::ALL[0].name().to_owned(),
                "a.264",
                &[0, 0, 0, 1, 0x67, 100, 0, 30],
            ),
            ("more".to_owned(), "b.ivf", b"DKIF\0\0\x20\0MJPG"),
            ("more".to_owned(), "c.mpg", &[0, 0, 1, 0xb3, 22, 0, 0xf0, 0x13]),
        ];
        for (folder, file, bytes) in streams {
            let folder = top.join(folder);
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(file), bytes)?;
            let manifest = folder.join("MANIFEST.tsv");
            let before = std::fs::read_to_string(&manifest).unwrap_or_else(|_| format!("{header}\n"));
            std::fs::write(manifest, before + &row(file))?;
        }
        let set = Set::open("test", &top)?;
        let mut files = Vec::new();
        for codec in Codec::ALL.iter().copied() {
            let items = set.items(codec, manifest::quick)?;
            files.extend(items.into_iter().map(|item| (codec, item.name)));
        }
        assert_eq!(files, [(Codec::ALL[0], "a.264".to_owned())]);
        let others = set.others(manifest::quick)?;
        let rows: Vec<_> = others
            .iter()
            .flat_map(|(name, items)| items.iter().map(move |item| (name.as_str(), item)))
            .map(|(name, item)| (name, item.name.as_str(), item.not_offered.as_deref()))
            .collect();
        let due = [
            (
                "MJPG",
                "more/b.ivf",
                Some("MJPG is no coded format of the device"),
            ),
            (
                "MPEG-1",
                "more/c.mpg",
                Some("MPEG-1 is no coded format of the device"),
            ),
        ];
        assert_eq!(rows, due);
        std::fs::remove_dir_all(&top)?;
        Ok(())
    }
}
