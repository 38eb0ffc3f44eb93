// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The status of a job in a trace.

use daedalus_engine::Status;
use daedalus_trace::JobStatus;

/// Returns how a trace names an engine's status.
pub(crate) fn job_status(status: Status) -> JobStatus {
    match status {
        Status::Ok => JobStatus::Ok,
        Status::Error => JobStatus::Error,
    }
}
