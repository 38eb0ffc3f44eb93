// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MANIFEST.tsv, the list of a folder's streams, and which of its rows a run takes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::site::files::read;
use crate::site::table;

/// One row of a MANIFEST: one stream.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Entry {
    /// Path relative to the MANIFEST's folder.
    pub(crate) file: String,
    /// The suite it belongs to.
    pub(crate) suite: String,
    /// Number of pictures.
    pub(crate) frames: usize,
    /// Width in samples.
    pub(crate) width: usize,
    /// Height in samples.
    pub(crate) height: usize,
    /// FFmpeg's name of the raw format.
    pub(crate) pixfmt: String,
    /// Profile by name.
    pub(crate) profile: String,
    /// FFmpeg's field order; codecs without fields say `None`.
    pub(crate) field_order: String,
    /// Whether the picture size changes in the stream.
    #[serde(deserialize_with = "yes_or_no")]
    pub(crate) size_changes: bool,
    /// MD5 of all pictures as packed planar raw video, which is what suites publish.
    pub(crate) raw_md5: String,
}

impl Entry {
    /// Bits per sample, 8 or 10; `None` for a raw format that the device does not offer.
    pub(crate) fn bit_depth(&self) -> Option<u8> {
        match self.pixfmt.as_str() {
            // The samples of full-range pictures are as those of others.
            "yuv420p" | "yuvj420p" => Some(8),
            "yuv420p10le" => Some(10),
            _ => None,
        }
    }

    /// Whether pictures are coded as frames only.
    pub(crate) fn progressive(&self) -> bool {
        matches!(self.field_order.as_str(), "progressive" | "None")
    }

    /// Whether `--quick` may take it: 8 bit, progressive and of one size.
    pub(crate) fn plain(&self) -> bool {
        self.pixfmt == "yuv420p" && self.progressive() && !self.size_changes
    }

    fn check(&self) -> Result<()> {
        let inside = Path::new(&self.file)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        ensure!(!self.file.is_empty() && inside, "it is no path within the folder");
        ensure!(
            self.frames > 0 && self.width > 0 && self.height > 0,
            "a number is not above 0"
        );
        let sum = &self.raw_md5;
        ensure!(
            sum.len() == 32 && sum.bytes().all(|digit| digit.is_ascii_hexdigit()),
            "raw_md5 is '{sum}', not an MD5"
        );
        Ok(())
    }

    /// The list of picture checksums that belongs to it, relative to the folder.
    pub(crate) fn sums(&self) -> PathBuf {
        let layout = if self.bit_depth() == Some(10) {
            "p010"
        } else {
            "nv12"
        };
        PathBuf::from(format!("{}.{layout}.frames.md5", self.file))
    }
}

/// Rows that `--quick` takes of each codec at most.
const QUICK: usize = 20;
/// Of the rows that qualify, `--quick` takes every this many-th, the first included.
const EVERY: usize = 4;

/// What `--quick` takes: every fourth of the rows that are 8 bit, progressive and of one size, in file order,
/// until there are 20. No row is replaced by another.
pub(crate) fn quick(entries: &[Entry]) -> Vec<Entry> {
    entries
        .iter()
        .filter(|entry| entry.plain())
        .step_by(EVERY)
        .take(QUICK)
        .cloned()
        .collect()
}

/// Reads `FOLDER/MANIFEST.tsv`.
pub(crate) fn load(folder: &Path) -> Result<Vec<Entry>> {
    let path = folder.join("MANIFEST.tsv");
    parse(&read(&path)?).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = table::rows("malformed (columns are separated by tabs)", text)?;
    ensure!(!entries.is_empty(), "no row");
    let mut names = BTreeSet::new();
    for entry in &mut entries {
        entry.raw_md5.make_ascii_lowercase();
        let file = &entry.file;
        entry.check().with_context(|| file.clone())?;
        ensure!(names.insert(file.clone()), "{file} is listed twice");
    }
    Ok(entries)
}

fn yes_or_no<'de, D: Deserializer<'de>>(cell: D) -> std::result::Result<bool, D::Error> {
    match String::deserialize(cell)?.as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => Err(D::Error::custom(format!(
            "size_changes is '{other}', neither yes nor no"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "# text\nfile\tsuite\tframes\twidth\theight\tpixfmt\tprofile\tfield_order\tsize_changes\traw_md5\n";
    const SUM: &str = "0123456789abcdef0123456789abcdef";

    fn manifest(rows: &[(&str, &str, &str)]) -> Vec<Entry> {
        let mut text = HEADER.to_owned();
        for (i, (pixfmt, order, changes)) in rows.iter().enumerate() {
            text.push_str(&format!(
                "s/{i}.264\ts\t3\t16\t16\t{pixfmt}\tHigh\t{order}\t{changes}\t{SUM}\n"
            ));
        }
        parse(&text).expect("well formed")
    }

    #[test]
    fn quick_takes_every_fourth_that_qualifies() {
        let mut rows = vec![
            ("yuv420p", "tt", "no"),
            ("yuv420p10le", "progressive", "no"),
            ("yuv420p", "None", "yes"),
        ];
        rows.extend([("yuv420p", "progressive", "no"); 9]);
        let files: Vec<String> = quick(&manifest(&rows)).into_iter().map(|e| e.file).collect();
        assert_eq!(files, ["s/3.264", "s/7.264", "s/11.264"]);
        assert_eq!(quick(&manifest(&[("yuv420p", "None", "no"); 200])).len(), 20);
    }

    #[test]
    fn what_is_malformed_is_named() {
        let error = |text: &str| format!("{:#}", parse(text).unwrap_err());
        let row = |cells: &str| format!("{HEADER}{cells}\n");
        let text = error(&row(&format!("a\tb\tx\t1\t1\tp\tq\tr\tno\t{SUM}")));
        assert!(
            text.contains("line: 3") && text.contains("invalid digit"),
            "{text}"
        );
        assert!(error(&row(&format!("a\tb\t0\t1\t1\tp\tq\tr\tno\t{SUM}"))).contains("not above 0"));
        assert!(error(&row(&format!("a\tb\t1\t1\t1\tp\tq\tr\tmay\t{SUM}"))).contains("neither yes nor no"));
        assert!(error(&row(&format!("../a\tb\t1\t1\t1\tp\tq\tr\tno\t{SUM}"))).contains("no path within"));
        assert!(error(&row("a\tb\t1\t1\t1\tp\tq\tr\tno\tbeef")).contains("not an MD5"));
        assert!(error(&row("a\tb")).contains("2 fields"));
        assert!(error(HEADER).contains("no row"));
        assert!(error("file\tsuite\na\tb\n").contains("frames"));
    }

    #[test]
    fn the_list_follows_the_bit_depth() {
        let entries = manifest(&[
            ("yuv420p", "None", "no"),
            ("yuv420p10le", "None", "no"),
            ("yuv444p", "None", "no"),
        ]);
        assert_eq!(entries[0].sums(), Path::new("s/0.264.nv12.frames.md5"));
        assert_eq!(entries[1].sums(), Path::new("s/1.264.p010.frames.md5"));
        assert_eq!(entries[2].bit_depth(), None);
    }
}
