// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams that commands choose for what is in them, as data: streams.tsv.

use std::path::Path;

use anyhow::{Context, Result};
use daedalus_uapi::Codec;
use serde::Deserialize;

use crate::site::table;

/// What a stream is chosen for. The table says what each is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Subset,
    Replay,
    Life,
    Sizes,
    Generated,
    System,
}

/// The table's words for them.
const WORDS: [(&str, Use); 6] = [
    ("subset", Use::Subset),
    ("replay", Use::Replay),
    ("life", Use::Life),
    ("sizes", Use::Sizes),
    ("generated", Use::Generated),
    ("system", Use::System),
];

/// A row of the table.
#[derive(Clone, Debug)]
pub(crate) struct ListedStream {
    pub(crate) codec: Codec,
    /// Its path in the folder of the codec's vectors, or its name among the generated streams.
    pub(crate) file: String,
    uses: Vec<Use>,
}

#[derive(Deserialize)]
struct Row {
    codec: Codec,
    file: String,
    uses: String,
}

fn rows() -> Result<Vec<ListedStream>> {
    let rows: Vec<Row> = table::rows("streams.tsv", include_str!("streams.tsv"))?;
    rows.into_iter().map(ListedStream::read).collect()
}

/// Returns the streams that are chosen for a use, in the order of the table.
pub(crate) fn of(purpose: Use) -> Result<Vec<ListedStream>> {
    let mut rows = rows()?;
    rows.retain(|row| row.uses.contains(&purpose));
    Ok(rows)
}

impl ListedStream {
    fn read(Row { codec, file, uses }: Row) -> Result<Self> {
        let read = |word: &str| {
            let found = WORDS.iter().find(|(name, _)| *name == word);
            found
                .map(|(_, purpose)| *purpose)
                .with_context(|| format!("streams.tsv: {file}: '{word}' is no use"))
        };
        let uses = uses.split_whitespace().map(read).collect::<Result<_>>()?;
        Ok(Self { codec, file, uses })
    }

    /// Returns its path in the vectors' directory.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.codec, self.file)
    }

    /// Returns the path in the vectors' directory of the list of its pictures' checksums, and whether that is
    /// of P010 and not of NV12.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn sums(&self, vectors: &Path) -> Result<(String, bool)> {
        [("nv12", false), ("p010", true)]
            .map(|(layout, deep)| (format!("{}.{layout}.frames.md5", self.path()), deep))
            .into_iter()
            .find(|(sums, _)| vectors.join(sums).is_file())
            .with_context(|| format!("streams.tsv: {} has no checksums", self.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_has_streams_and_no_stream_is_listed_twice() {
        for (word, purpose) in WORDS {
            assert!(of(purpose).unwrap().len() > 1, "{word}");
        }
        let rows = rows().unwrap();
        let mut paths: Vec<String> = rows.iter().map(ListedStream::path).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), rows.len());
        assert!(rows.iter().all(|row| !row.uses.is_empty()));
    }

    #[test]
    fn a_word_that_is_no_use_is_an_error() {
        let row = |uses: &str| Row {
            codec: Codec::ALL[0],
            file: "a".to_owned(),
            uses: uses.to_owned(),
        };
        let read = ListedStream::read(row("life sizes")).unwrap();
        assert_eq!(read.uses, [Use::Life, Use::Sizes]);
        assert!(ListedStream::read(row("life lives")).is_err());
    }
}
