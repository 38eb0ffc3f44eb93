// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Errors of coded files.

use std::path::PathBuf;

/// Why a file yields no (further) job.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// None of the known containers and stream formats, or none of the known codecs.
    #[error("not a container and codec known here: {0}")]
    UnknownContainer(String),
    /// The container's structure is broken.
    #[error("broken {container} at byte {offset}: {what}")]
    Container {
        /// Its name.
        container: &'static str,
        /// The place, in bytes from the start of the file.
        offset: usize,
        /// The fault.
        what: &'static str,
    },
    /// A header of the coded stream is broken, or needs something that the stream did not bring.
    #[error("broken {codec} stream, access unit {unit}: {what}")]
    Stream {
        /// The codec's name.
        codec: &'static str,
        /// Number of the access unit, from 0.
        unit: u64,
        /// The fault.
        what: String,
    },
}
