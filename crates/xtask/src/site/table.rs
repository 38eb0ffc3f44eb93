// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables of data: cells between tabs, a first line with the columns' names, `#` at the beginning of a
//! comment.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

/// Reads the rows of a table; columns that the type does not have are ignored. `name` is for the error, which
/// names the line.
pub(crate) fn rows<T: DeserializeOwned>(name: &str, text: &str) -> Result<Vec<T>> {
    csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .comment(Some(b'#'))
        .quoting(false)
        .from_reader(text.as_bytes())
        .into_deserialize()
        .collect::<Result<_, csv::Error>>()
        .with_context(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, serde::Deserialize)]
    struct Row {
        name: String,
        count: Option<u32>,
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let found: Vec<Row> = rows("t", "# c\ncount\tmore\tname\n1\tx\ta \"b\" # c\n\n\t\td\n").unwrap();
        assert_eq!(found[0].name, "a \"b\" # c");
        assert_eq!((found[0].count, found[1].count), (Some(1), None));
        let error = format!("{:#}", rows::<Row>("t", "name\tcount\na\tx\n").unwrap_err());
        assert!(error.contains("line: 2"), "{error}");
        assert!(rows::<Row>("t", "name\tcount\na\n").is_err());
        assert!(rows::<Row>("t", "count\n1\n").is_err());
    }
}
