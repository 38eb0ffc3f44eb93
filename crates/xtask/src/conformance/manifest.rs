// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The suites' MANIFEST.tsv, and which of its rows a run takes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::bed::read;

/// One row of a MANIFEST: one stream.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Path relative to the codec's directory.
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
    /// FFmpeg's field order; VP9 and AV1, which have no fields, say `None`.
    pub(crate) field_order: String,
    /// Whether the picture size changes in the stream.
    pub(crate) size_changes: bool,
    /// MD5 of all pictures as packed planar raw video, which is what suites publish.
    pub(crate) raw_md5: String,
}

impl Entry {
    /// Bits per sample, 8 or 10.
    pub(crate) fn bit_depth(&self) -> Result<u8> {
        match self.pixfmt.as_str() {
            "yuv420p" => Ok(8),
            "yuv420p10le" => Ok(10),
            other => bail!("{}: raw format {other} is not known here", self.file),
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

    /// The list of picture checksums that belongs to it, relative to the codec's directory.
    pub(crate) fn sums(&self) -> Result<PathBuf> {
        let layout = if self.bit_depth()? == 8 { "nv12" } else { "p010" };
        Ok(PathBuf::from(format!("{}.{layout}.frames.md5", self.file)))
    }
}

/// Rows that `--quick` takes of each codec at most.
const QUICK: usize = 20;
/// Of the rows that qualify, `--quick` takes every this many-th, the first included.
const EVERY: usize = 4;

/// What `--quick` takes: every fourth of the rows that are 8 bit, progressive and of one size, in file order, until
/// there are 20. No row is replaced by another.
pub(crate) fn quick(entries: &[Entry]) -> Vec<Entry> {
    entries
        .iter()
        .filter(|entry| entry.plain())
        .step_by(EVERY)
        .take(QUICK)
        .cloned()
        .collect()
}

/// A stream that the client is known not to hand over as it is.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    /// Path relative to the codec's directory.
    pub(crate) file: String,
    /// It may be exact nevertheless: the client's fault depends on timing.
    pub(crate) sometimes: bool,
    reason: String,
    evidence: String,
}

impl Limit {
    /// Reason and evidence in one line.
    pub(crate) fn text(&self) -> String {
        format!("{} ({})", self.reason, self.evidence)
    }
}

/// The client's limits for one codec.
pub(crate) fn limits(codec: &str) -> Result<Vec<Limit>> {
    let rows = include_str!("limits.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let mut limits = Vec::new();
    for row in rows {
        let [of, file, when, reason, evidence] = row.split('\t').collect::<Vec<_>>()[..] else {
            bail!("limits.tsv: not five columns: {row}");
        };
        let sometimes = match when {
            "always" => false,
            "sometimes" => true,
            other => bail!("limits.tsv: '{other}' is neither always nor sometimes: {row}"),
        };
        if of == codec {
            limits.push(Limit {
                file: file.into(),
                sometimes,
                reason: reason.into(),
                evidence: evidence.into(),
            });
        }
    }
    Ok(limits)
}

/// Reads `DIR/CODEC/MANIFEST.tsv`.
pub(crate) fn load(vectors: &Path, codec: &str) -> Result<Vec<Entry>> {
    let path = vectors.join(codec).join("MANIFEST.tsv");
    parse(&read(&path)?).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let header: Vec<&str> = lines.next().context("no header line")?.split('\t').collect();
    let column = |name: &str| {
        header
            .iter()
            .position(|title| *title == name)
            .with_context(|| format!("no column '{name}'"))
    };
    let columns = [
        column("file")?,
        column("suite")?,
        column("frames")?,
        column("width")?,
        column("height")?,
        column("pixfmt")?,
        column("profile")?,
        column("field_order")?,
        column("size_changes")?,
        column("raw_md5")?,
    ];
    let mut entries = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        let mut values = [""; 10];
        for (value, column) in values.iter_mut().zip(columns) {
            *value = cells
                .get(column)
                .with_context(|| format!("too few columns: {line}"))?;
        }
        let [
            file,
            suite,
            frames,
            width,
            height,
            pixfmt,
            profile,
            field_order,
            size_changes,
            raw_md5,
        ] = values;
        let number = |text: &str| {
            text.parse()
                .with_context(|| format!("'{text}' is no number: {line}"))
        };
        entries.push(Entry {
            file: file.into(),
            suite: suite.into(),
            frames: number(frames)?,
            width: number(width)?,
            height: number(height)?,
            pixfmt: pixfmt.into(),
            profile: profile.into(),
            field_order: field_order.into(),
            raw_md5: raw_md5.into(),
            size_changes: match size_changes {
                "yes" => true,
                "no" => false,
                other => bail!("size_changes is '{other}': {line}"),
            },
        });
    }
    ensure!(!entries.is_empty(), "no row");
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "# text\nfile\tsuite\tframes\twidth\theight\tpixfmt\tprofile\tfield_order\tsize_changes\traw_md5\n";

    fn manifest(rows: &[(&str, &str, &str)]) -> Vec<Entry> {
        let mut text = HEADER.to_owned();
        for (i, (pixfmt, order, changes)) in rows.iter().enumerate() {
            text.push_str(&format!(
                "s/{i}.264\ts\t3\t16\t16\t{pixfmt}\tHigh\t{order}\t{changes}\t0\n"
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
        let taken: Vec<String> = quick(&manifest(&rows)).into_iter().map(|e| e.file).collect();
        assert_eq!(taken, ["s/3.264", "s/7.264", "s/11.264"]);
        assert_eq!(quick(&manifest(&[("yuv420p", "None", "no"); 200])).len(), 20);
    }

    #[test]
    fn a_malformed_row_is_an_error() {
        assert!(parse(&format!("{HEADER}a\tb\tx\t1\t1\tp\tq\tr\tno\t0\n")).is_err());
        assert!(parse(&format!("{HEADER}a\tb\n")).is_err());
        assert!(parse(HEADER).is_err());
    }

    #[test]
    fn every_limit_has_its_evidence() {
        let limits: Vec<Limit> = ["h264", "vp9", "av1"]
            .iter()
            .flat_map(|codec| limits(codec).unwrap())
            .collect();
        assert!(
            limits
                .iter()
                .all(|limit| limit.reason.len() > 20 && limit.evidence.len() > 20)
        );
    }

    #[test]
    fn the_list_follows_the_bit_depth() {
        let entries = manifest(&[("yuv420p", "None", "no"), ("yuv420p10le", "None", "no")]);
        assert_eq!(entries[0].sums().unwrap(), Path::new("s/0.264.nv12.frames.md5"));
        assert_eq!(entries[1].sums().unwrap(), Path::new("s/1.264.p010.frames.md5"));
    }
}
