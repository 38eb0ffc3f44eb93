// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with a coded file.

use std::path::PathBuf;

/// Why a file yields no (further) job.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither IVF, WebM, Annex B nor AV1 OBUs, or a codec that is none of H.264, VP9 and AV1.
    #[error("not a container and codec known here: {0}")]
    UnknownContainer(String),
    /// The container's structure is broken.
    #[error("broken {container} at byte {offset}: {what}")]
    Container {
        /// Its name.
        container: &'static str,
        /// Where, from the start of the file.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A header of the coded stream is broken, or needs something that the stream did not bring.
    #[error("broken {codec} stream, access unit {unit}: {what}")]
    Stream {
        /// The codec's name.
        codec: &'static str,
        /// Number of the access unit, from 0.
        unit: u64,
        /// What is wrong.
        what: String,
    },
}
