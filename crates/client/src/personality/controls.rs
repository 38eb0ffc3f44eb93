// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes to the controls that the parsers made, as other clients fill them in.

use daedalus_uapi::Codec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::coded::Control;

/// Changes the value of the control `id`, if it is among `controls`.
pub(crate) fn edit<T: FromBytes + IntoBytes + Immutable>(
    controls: &mut [Control],
    id: u32,
    change: impl FnOnce(&mut T),
) {
    if let Some(control) = controls.iter_mut().find(|control| control.id == id) {
        if let Some(mut value) = control.get::<T>() {
            change(&mut value);
            *control = Control::new(id, &value);
        }
    }
}

/// Replaces the parser's names of reference pictures by those that `map` gives; `absent` stands for a
/// reference that does not exist.
pub(super) fn rename_references(
    codec: Codec,
    controls: &mut [Control],
    absent: u64,
    map: impl Fn(u64) -> Option<u64>,
) {
    let semantics = daedalus_codecs::of(codec);
    let mut rename = |timestamp: &mut u64| *timestamp = map(*timestamp).unwrap_or(absent);
    for control in controls {
        semantics.rename_pictures(control.id, &mut control.value, &mut rename);
    }
}
