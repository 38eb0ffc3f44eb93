// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rows that stand for all in `./dev test`, as data: subset.tsv.

use anyhow::{Context, Result};
use daedalus_uapi::Codec;
use serde::Deserialize;

use super::folders::Item;
use crate::site::table;

#[derive(Debug, Deserialize)]
struct Row {
    codec: Codec,
    file: String,
    #[serde(rename = "why")]
    _why: String,
}

/// Returns those of a codec's streams that subset.tsv names, in its order. A row that is not there is an
/// error: a subset that shrinks by itself would test less and less.
pub(crate) fn choose(codec: Codec, items: &[Item]) -> Result<Vec<Item>> {
    let rows: Vec<Row> = table::rows("subset.tsv", include_str!("subset.tsv"))?;
    rows.iter()
        .filter(|row| row.codec == codec)
        .map(|row| {
            let item = items.iter().find(|item| item.name == row.file);
            item.cloned()
                .with_context(|| format!("subset.tsv names {}, which no MANIFEST has", row.file))
        })
        .collect()
}
