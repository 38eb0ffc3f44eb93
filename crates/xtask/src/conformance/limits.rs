// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams that a client is known not to hand over as they are, as data: limits.tsv.

use anyhow::Result;
use daedalus_uapi::Codec;
use serde::Deserialize;

use crate::site::table;

/// When a client's fault is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    /// At every run.
    Always,
    /// It depends on timing: the stream may be exact nevertheless.
    Sometimes,
}

/// One of the streams.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Limit {
    client: String,
    codec: Codec,
    file: String,
    /// When it is not handed over as it is.
    pub(crate) when: When,
    /// What the client does.
    pub(crate) reason: String,
    /// Its words and the place in its source.
    pub(crate) evidence: String,
}

impl Limit {
    /// Returns true if it is about this client and this stream.
    pub(crate) fn is_of(&self, client: &str, codec: Codec, file: &str) -> bool {
        self.client == client && self.codec == codec && self.file == file
    }

    /// Returns reason and evidence in one line.
    pub(crate) fn text(&self) -> String {
        format!("{} ({})", self.reason, self.evidence)
    }
}

/// Returns all that are known.
pub(crate) fn all() -> Result<Vec<Limit>> {
    table::rows("limits.tsv", include_str!("limits.tsv"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_its_evidence() {
        let limits = all().unwrap();
        for (index, limit) in limits.iter().enumerate() {
            assert!(limit.reason.len() > 20, "{limit:?}");
            assert!(limit.evidence.len() > 20, "{limit:?}");
            let again = limits
                .iter()
                .skip(index + 1)
                .any(|other| other.is_of(&limit.client, limit.codec, &limit.file));
            assert!(!again, "listed twice: {limit:?}");
        }
    }
}
