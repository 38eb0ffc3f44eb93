// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes of controls that several codecs' files make, and the values that they draw.

use daedalus_client::{CodedJob, Control};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::random::Random;

/// Changes a control that holds a structure `T`.
pub(super) fn value<T: FromBytes + IntoBytes + Immutable>(
    control: &mut Control,
    change: impl FnOnce(&mut T),
) {
    if let Some(mut value) = control.get::<T>() {
        change(&mut value);
        control.value = value.as_bytes().to_vec();
    }
}

/// Changes the control `id`, which holds a structure `T`, if the job has it.
pub(super) fn control<T: FromBytes + IntoBytes + Immutable>(
    job: &mut CodedJob,
    id: u32,
    change: impl FnOnce(&mut T),
) {
    if let Some(control) = job.controls.iter_mut().find(|control| control.id == id) {
        value(control, change);
    }
}

/// Draws a number that lies past the coded data, and whether a codec with offsets and sizes takes it for a
/// size.
pub(super) fn past_end(job: &CodedJob, random: &mut Random) -> (u32, bool) {
    let length = u32::try_from(job.payload.len()).unwrap_or(u32::MAX);
    let past = match random.index(4) {
        0 => u32::MAX,
        1 => length,
        2 => length + 1 + random.index(4096) as u32,
        _ => u32::MAX - random.index(64) as u32,
    };
    (past, random.index(2) == 0)
}

/// Draws the timestamp of no picture, or of another one than is meant.
pub(super) fn other_timestamp(own: u64, random: &mut Random) -> u64 {
    match random.index(4) {
        0 => random.next(),
        1 => 0,
        2 => own,
        _ => own.saturating_sub(1000 * (1 + random.index(40) as u64)),
    }
}

/// Draws another size than `value`, of at most `most`.
pub(super) fn other_size(value: u32, most: u32, random: &mut Random) -> u32 {
    let value = match random.index(5) {
        0 => value / 2,
        1 => value * 2,
        2 => value + 1 + random.index(64) as u32,
        3 => most,
        _ => random.index(most as usize + 1) as u32,
    };
    value.min(most)
}
