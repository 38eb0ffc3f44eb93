// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The controls of a job in a trace.

use daedalus_trace::{Control, Job};

/// Returns the control `id`.
pub(super) fn control(job: &Job, id: u32) -> Option<&Control> {
    job.controls.iter().find(|control| control.id == id)
}

/// Returns the value of the control `id`, without a byte if it is not there.
pub(super) fn value(job: &Job, id: u32) -> &[u8] {
    control(job, id).map_or(&[][..], |control| control.value.as_slice())
}
