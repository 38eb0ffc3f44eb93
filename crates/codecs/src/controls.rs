// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of controls, for every codec.

use daedalus_uapi::formats::Size;
use daedalus_uapi::protocol::Control;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The meaning of a codec's controls.
///
/// Methods return `None` if a control that they read is absent or shorter than its structure.
pub trait Semantics: Sync {
    /// Returns the size of the picture as decoded, without cropping; of a field, that of its frame.
    fn picture_size(&self, controls: &[Control<'_>]) -> Option<Size>;

    /// Returns whether the picture is an IDR picture or a key frame: it refers to no other picture.
    fn is_key(&self, controls: &[Control<'_>]) -> Option<bool>;

    /// Calls `visit` with the timestamp of each picture that decoding of this one may read. A picture may
    /// come more than once. Does nothing without the control.
    fn visit_references(&self, controls: &[Control<'_>], visit: &mut dyn FnMut(u64));

    /// Calls `rename` with each timestamp in the value of the control `id` that names another picture, also
    /// one that decoding does not read. Does nothing to other controls, and to a value shorter than its
    /// structure.
    fn rename_pictures(&self, id: u32, value: &mut [u8], rename: &mut dyn FnMut(&mut u64));
}

/// Returns the value of the control `id` as the structure `T`.
pub(crate) fn get<T: FromBytes>(controls: &[Control<'_>], id: u32) -> Option<T> {
    let control = controls.iter().find(|control| control.id == id)?;
    Some(T::read_from_prefix(control.value).ok()?.0)
}

/// Changes a value, if it is as long as the structure `T`.
pub(crate) fn edit<T: FromBytes + IntoBytes + Immutable>(value: &mut [u8], change: impl FnOnce(&mut T)) {
    if let Ok((mut structure, _)) = T::read_from_prefix(value) {
        change(&mut structure);
        value[..size_of::<T>()].copy_from_slice(structure.as_bytes());
    }
}
