// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Verdicts of a trace.

use daedalus_engine::Status;
use daedalus_trace::Verdict;

/// Returns how a trace names an engine's status.
pub(crate) fn verdict(status: Status) -> Verdict {
    match status {
        Status::Ok => Verdict::Ok,
        Status::Error => Verdict::Error,
    }
}
