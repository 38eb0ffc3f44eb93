// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines are at most 110 columns wide, in code, comments and documents.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::exceptions::Exceptions;

/// The name of this check in the list of exceptions.
pub(crate) const NAME: &str = "columns";
/// The most columns of a line.
const MOST: usize = 110;
/// Columns from one tab stop to the next.
const TAB: usize = 8;

/// Checks all files; returns the report and the result.
///
/// # Errors
///
/// Names each file with a longer line, and its first one.
pub(crate) fn check(files: &BTreeMap<String, String>, exceptions: &Exceptions) -> (Value, Result<String>) {
    let mut found = BTreeMap::new();
    let mut report = BTreeMap::new();
    for (file, text) in files {
        let lines: Vec<usize> = text
            .lines()
            .zip(1..)
            .filter(|(line, _)| width(line) > MOST)
            .map(|(_, number)| number)
            .collect();
        if let Some(first) = lines.first() {
            let text = format!(
                "{file}:{first} is longer than {MOST} columns ({} lines)",
                lines.len()
            );
            found.insert(file.clone(), text);
            report.insert(file, lines);
        }
    }
    let wrong = exceptions.judge(NAME, &found);
    let result = if wrong.is_empty() {
        Ok(format!("{} files, {} exceptions", files.len(), found.len()))
    } else {
        Err(anyhow!("{}", wrong.join("; ")))
    };
    (json!({ "files": report }), result)
}

/// Returns the columns that a line takes.
fn width(line: &str) -> usize {
    line.chars().fold(0, |column, c| match c {
        '\t' => (column / TAB + 1) * TAB,
        _ => column + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_and_tabs_are_counted() {
        assert_eq!(width("é…"), 2);
        assert_eq!(width("a\tb"), 9);
        assert_eq!(width("\t\t"), 16);
    }

    #[test]
    fn a_long_line_fails_unless_it_is_excepted() {
        let text =
            |columns: usize| BTreeMap::from([("a.md".to_owned(), "x\n".to_owned() + &"y".repeat(columns))]);
        let judged = |columns, list: &str| {
            check(
                &text(columns),
                &Exceptions::parse(&format!("check\tfile\treason\n{list}"), &[NAME]).unwrap(),
            )
            .1
        };
        assert!(judged(MOST, "").is_ok());
        let error = judged(MOST + 1, "").unwrap_err().to_string();
        assert!(error.starts_with("a.md:2 is longer than 110 columns"), "{error}");
        assert!(judged(MOST + 1, "columns\ta.md\tmade by a program\n").is_ok());
        assert!(judged(MOST, "columns\ta.md\tmade by a program\n").is_err());
    }
}
