// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file with the results of a run, which other programs read.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::outcome::Outcome;
use crate::site::files::write_json;

/// Writes `file`: what `fields` has (an object), the seconds since `start`, and the checks.
///
/// # Errors
/// If `fields` is no object, or the file cannot be written.
pub(crate) fn write(file: &Path, start: Instant, fields: Value, outcome: &Outcome) -> Result<()> {
    let mut results = fields;
    let own = results.as_object_mut().context("results that are no object")?;
    own.insert("seconds".to_owned(), start.elapsed().as_secs_f64().into());
    own.insert("checks".to_owned(), serde_json::to_value(outcome.checks())?);
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    write_json(file, &results)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_time_and_checks() {
        let outcome = Outcome::new();
        outcome.skip("a", "why");
        let file = std::env::temp_dir().join(format!("xtask-results-{}/results.json", std::process::id()));
        write(&file, Instant::now(), json!({ "kernel": "6.12" }), &outcome).unwrap();
        let read: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(read["kernel"], "6.12");
        assert_eq!(read["checks"][0]["name"], "a");
        assert!(read["seconds"].as_f64().is_some());
        assert!(write(&file, Instant::now(), json!([]), &outcome).is_err());
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }
}
