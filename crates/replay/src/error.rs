// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Errors of a replay.

use std::io;

use daedalus_engine::EngineError;
use daedalus_trace::TraceError;
use thiserror::Error;

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
        /// The error of the system.
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
        /// The fault.
        what: &'static str,
    },
}
