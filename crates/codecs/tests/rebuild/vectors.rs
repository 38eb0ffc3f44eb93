// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The vectors' manifests and the exceptions' table.

use std::path::{Path, PathBuf};

/// A row of a manifest.
#[derive(Debug)]
pub(crate) struct Vector {
    /// Path below the codec's folder.
    pub(crate) file: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// md5 of all pictures in display order, raw.
    pub(crate) md5: String,
}

/// Reads the vectors of a codec, whose directory is `folder`.
pub(crate) fn manifest(folder: &Path) -> Result<Vec<Vector>, String> {
    let path = folder.join("MANIFEST.tsv");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut rows = text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.split('\t').collect::<Vec<_>>());
    let header = rows.next().ok_or("empty manifest")?;
    let column = |name: &str| {
        header
            .iter()
            .position(|&c| c == name)
            .ok_or(format!("{}: no column {name}", path.display()))
    };
    let (file, md5) = (column("file")?, column("raw_md5")?);
    rows.map(|row| match (row.get(file), row.get(md5)) {
        (Some(&file), Some(&md5)) => Ok(Vector {
            file: file.to_owned(),
            path: folder.join(file),
            md5: md5.to_owned(),
        }),
        _ => Err(format!("{}: short row {row:?}", path.display())),
    })
    .collect()
}

/// Returns the streams that are not expected to be exact: `codec/file`.
pub(crate) fn exceptions() -> Vec<&'static str> {
    include_str!("exceptions.tsv")
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .filter_map(|l| l.split('\t').next())
        .collect()
}

/// Returns the place of a rebuilt stream while a decoder reads it.
pub(crate) fn scratch(vector: &Vector, extension: &str) -> PathBuf {
    let name = vector.file.replace(['/', '.'], "_");
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("rebuild-{name}.{extension}"))
}
