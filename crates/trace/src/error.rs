// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Errors of traces.

use std::io;

use thiserror::Error;

/// Why a trace cannot be read, or not any further.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("the trace cannot be read: {0}")]
    Io(io::Error),
    /// It is some other file.
    #[error("this is no trace: it does not begin as one")]
    NotATrace,
    /// A newer program wrote it.
    #[error("the trace has version {found}; this program reads version {newest}")]
    Version {
        /// The trace's version.
        found: u32,
        /// The newest version that is known here.
        newest: u32,
    },
    /// It ends without an end record: its worker was killed, or the disk was full. All that was whole
    /// has been read.
    #[error("the trace is cut off after {records} whole records")]
    Cut {
        /// Records read before.
        records: u64,
    },
    /// It is damaged, or was not made by a recorder.
    #[error("the trace is corrupt after {records} whole records: {what}")]
    Corrupt {
        /// Records read before.
        records: u64,
        /// The fault.
        what: &'static str,
    },
    /// A record is longer than the reader's limit.
    #[error("a record of {bytes} bytes after {records} whole records; the limit is {limit}")]
    TooLong {
        /// Records read before.
        records: u64,
        /// Bytes that the record claims to have.
        bytes: u64,
        /// Bytes that it may have.
        limit: usize,
    },
}
