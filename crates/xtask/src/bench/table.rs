// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables of results, as Markdown.

use std::collections::BTreeSet;

/// A table, with its heading.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: &str, head: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            head: head.iter().map(|cell| (*cell).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.head.len(), "a row of another table");
        self.rows.push(cells);
    }

    /// As Markdown; columns of numbers are to the right.
    pub(crate) fn text(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let marks: Vec<String> = (0..self.head.len())
            .map(|column| {
                let numbers = self.rows.iter().all(|row| {
                    row[column].starts_with(|c: char| c.is_ascii_digit() || c == '-')
                        && !row[column].contains(|c: char| c.is_ascii_alphabetic())
                });
                (if numbers { "---:" } else { "---" }).to_owned()
            })
            .collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!(
            "### {}\n\n{}{}{rows}\n",
            self.title,
            line(&self.head),
            line(&marks)
        )
    }
}

/// The files' names without their directories.
pub(crate) fn names_of_files(paths: &BTreeSet<String>) -> Vec<String> {
    let names: BTreeSet<&str> = paths
        .iter()
        .map(|path| path.rsplit('/').next().unwrap_or_default())
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let mut table = Table::new("t", &["a", "b", "c"]);
        table.row(vec!["x".into(), "0.90 (0.85–1.00)".into(), "1080p".into()]);
        let text = table.text();
        assert!(
            text.starts_with("### t\n\n| a | b | c |\n| --- | ---: | --- |\n"),
            "{text}"
        );
    }
}
