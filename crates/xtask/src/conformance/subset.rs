// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rows that stand for all in `./dev test`, as data: subset.tsv.

use anyhow::{Context, Result};

use super::folders::Item;

/// Of a codec's streams, those that subset.tsv names, in its order. A row that is not there is an error: a subset that
/// shrinks by itself would test less and less.
pub(crate) fn choose(codec: &str, items: Vec<Item>) -> Result<Vec<Item>> {
    let rows = include_str!("subset.tsv")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut chosen = Vec::new();
    for row in rows {
        let mut cells = row.split('\t');
        let (Some(of), Some(file), Some(_why)) = (cells.next(), cells.next(), cells.next()) else {
            anyhow::bail!("subset.tsv: not three columns: {row}");
        };
        if of == codec {
            let item = items.iter().find(|item| item.name == file);
            chosen.push(
                item.cloned()
                    .with_context(|| format!("subset.tsv names {file}, which no MANIFEST has"))?,
            );
        }
    }
    Ok(chosen)
}
