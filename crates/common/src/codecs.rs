// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What tests and `./dev` have to know of a codec beside the registry, as data: codecs.tsv.

/// The table: cells between tabs, a first line with the columns' names, `#` at the beginning of a comment.
pub const TABLE: &str = include_str!("codecs.tsv");

/// Returns what a column has of a codec; `None` if there is no such column, or no row of the codec.
pub fn cell(codec: &str, column: &str) -> Option<&'static str> {
    let mut lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let place = lines.next()?.split('\t').position(|name| name == column)?;
    let mut rows = lines.map(|line| line.split('\t'));
    rows.find(|row| row.clone().next() == Some(codec))?.nth(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_row_and_column() {
        let mut lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        let names: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
        let row: Vec<&str> = lines.next_back().unwrap_or_default().split('\t').collect();
        assert!(names.len() > 2 && names.len() == row.len());
        for (name, value) in names.iter().zip(&row) {
            assert_eq!(cell(row[0], name), Some(*value));
        }
        assert_eq!(cell(row[0], "none"), None);
        assert_eq!(cell("none", names[1]), None);
    }
}
