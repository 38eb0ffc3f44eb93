// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams that a client is known not to hand over as they are, as data: limits.tsv.

use anyhow::{Result, bail};

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    client: String,
    codec: String,
    file: String,
    /// It may be exact nevertheless: the client's fault depends on timing.
    pub(crate) sometimes: bool,
    /// What the client does.
    pub(crate) reason: String,
    /// Its words and the place in its source.
    pub(crate) evidence: String,
}

impl Limit {
    /// Whether it is about this client and this stream.
    pub(crate) fn is_of(&self, client: &str, codec: &str, file: &str) -> bool {
        self.client == client && self.codec == codec && self.file == file
    }

    /// Reason and evidence in one line.
    pub(crate) fn text(&self) -> String {
        format!("{} ({})", self.reason, self.evidence)
    }
}

/// All that are known.
pub(crate) fn all() -> Result<Vec<Limit>> {
    let rows = include_str!("limits.tsv")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut limits = Vec::new();
    for row in rows {
        let [client, codec, file, when, reason, evidence] = row.split('\t').collect::<Vec<_>>()[..] else {
            bail!("limits.tsv: not six columns: {row}");
        };
        if client == "client" {
            continue;
        }
        let sometimes = match when {
            "always" => false,
            "sometimes" => true,
            other => bail!("limits.tsv: '{other}' is neither always nor sometimes: {row}"),
        };
        limits.push(Limit {
            client: client.into(),
            codec: codec.into(),
            file: file.into(),
            sometimes,
            reason: reason.into(),
            evidence: evidence.into(),
        });
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::folders::CODECS;

    #[test]
    fn every_limit_has_its_evidence() {
        let limits = all().unwrap();
        for (index, limit) in limits.iter().enumerate() {
            assert!(CODECS.contains(&limit.codec.as_str()), "{limit:?}");
            assert!(limit.reason.len() > 20, "{limit:?}");
            assert!(limit.evidence.len() > 20, "{limit:?}");
            let again = limits
                .iter()
                .skip(index + 1)
                .any(|other| other.is_of(&limit.client, &limit.codec, &limit.file));
            assert!(!again, "listed twice: {limit:?}");
        }
    }
}
