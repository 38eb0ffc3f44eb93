// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The module's state in debugfs.

use std::collections::HashMap;

use anyhow::{Context, Result};

const DIR: &str = "/sys/kernel/debug/daedalus";

fn pairs<'a>(words: impl Iterator<Item = &'a str>) -> HashMap<String, String> {
    words
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

fn read(name: &str) -> Result<String> {
    std::fs::read_to_string(format!("{DIR}/{name}")).with_context(|| format!("cannot read {DIR}/{name}"))
}

/// Reads `stats`.
pub(crate) fn stats() -> Result<HashMap<String, String>> {
    Ok(pairs(read("stats")?.lines()))
}

/// Reads a number of `stats`.
pub(crate) fn stat(name: &str) -> Result<u64> {
    let stats = stats()?;
    let value = stats
        .get(name)
        .with_context(|| format!("debugfs says nothing about {name}"))?;
    value
        .parse()
        .with_context(|| format!("{name}={value} in debugfs"))
}

/// One session's line.
#[derive(Debug)]
pub(crate) struct Session(HashMap<String, String>);

impl Session {
    /// Returns a number of it; 0 if it is not there.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.0
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or_default()
    }

    /// Returns a number of it, which has to be there.
    pub(crate) fn demand(&self, name: &str) -> Result<u64> {
        let value = self.0.get(name);
        let value = value.with_context(|| format!("debugfs says nothing about a session's {name}"))?;
        value
            .parse()
            .with_context(|| format!("{name}={value} in debugfs"))
    }

    /// Returns a word of it; empty if it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Has the module abort a session.
pub(crate) fn abort(session: u64) -> Result<()> {
    std::fs::write(format!("{DIR}/abort"), session.to_string())
        .with_context(|| format!("cannot abort session {session}"))
}

/// Reads all sessions.
pub(crate) fn sessions() -> Result<Vec<Session>> {
    Ok(read("sessions")?
        .lines()
        .map(|line| Session(pairs(line.split_whitespace())))
        .collect())
}

/// Reads the sessions of this process.
pub(crate) fn own_sessions() -> Result<Vec<Session>> {
    let own = u64::from(std::process::id());
    Ok(sessions()?
        .into_iter()
        .filter(|session| session.number("client") == own)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_pairs_are_read() {
        let session = Session(pairs(
            "id=3 client=12 worker=40 format=NV12 in_flight=2".split(' '),
        ));
        assert_eq!(session.number("in_flight"), 2);
        assert_eq!(session.number("missing"), 0);
        assert_eq!(session.text("format"), "NV12");
    }
}
