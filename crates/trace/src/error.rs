// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with a trace.

use std::io;

use daedalus_engine::EngineError;
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
    #[error("the trace has version {found}; this program reads version {known}")]
    Version {
        /// The trace's version.
        found: u32,
        /// The newest version that is known here.
        known: u32,
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
        /// What is wrong.
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

/// Why a trace cannot be replayed, or not any further.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Its control values have the byte order of another kind of machine.
    #[error("the trace was recorded on a machine with the other byte order")]
    ByteOrder,
    /// The coded format cannot be decoded here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Buffers of this size cannot be allocated.
    #[error("{bytes} bytes of memory: {error}")]
    Memory {
        /// Bytes wanted.
        bytes: u64,
        /// What the system says.
        error: io::Error,
    },
    /// Its buffers take more memory than a replay may use.
    #[error("the trace's buffers take more than {limit} bytes")]
    TooMuchMemory {
        /// The limit.
        limit: u64,
    },
    /// Its records contradict each other.
    #[error("job {job}: {what}")]
    Inconsistent {
        /// The job's id.
        job: u64,
        /// What is wrong.
        what: &'static str,
    },
}
