// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads control values out of a job.

use daedalus_uapi::protocol::Control;
use zerocopy::FromBytes;

use crate::error::JobError;

/// Returns the value of the control `id`, and whether this job's request set it.
///
/// # Errors
/// [`JobError::Control`] if it is not there or is shorter than the structure.
pub(crate) fn get<T: FromBytes>(controls: &[Control<'_>], id: u32) -> Result<(T, bool), JobError> {
    controls
        .iter()
        .find(|control| control.id == id)
        .and_then(|control| Some((T::read_from_prefix(control.value).ok()?.0, control.in_request)))
        .ok_or(JobError::Control(id))
}

/// Appends the elements of the dynamic array `id` to `into`: as many as the control says, at most as many as
/// its bytes hold.
///
/// # Errors
/// [`JobError::Control`] if it is not there.
pub(crate) fn get_array<T: FromBytes>(
    controls: &[Control<'_>],
    id: u32,
    into: &mut Vec<T>,
) -> Result<(), JobError> {
    let control = controls
        .iter()
        .find(|control| control.id == id)
        .ok_or(JobError::Control(id))?;
    let elements = control
        .value
        .chunks_exact(size_of::<T>())
        .take(control.elems as usize);
    into.extend(elements.filter_map(|bytes| T::read_from_bytes(bytes).ok()));
    Ok(())
}
