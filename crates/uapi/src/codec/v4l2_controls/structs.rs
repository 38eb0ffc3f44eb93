// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The macro that defines the controls' structures.

/// The layout of a structure, to be compared with the C header's.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name in Rust. That in C is the same in snake case.
    pub name: &'static str,
    /// Its size.
    pub size: usize,
    /// Its fields in their order.
    pub fields: &'static [Field],
}

/// A field of a [`Layout`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in Rust. Where that in C is a word of Rust's, an underscore follows it.
    pub name: &'static str,
    /// Its offset.
    pub offset: usize,
    /// Its size.
    pub size: usize,
}

/// Defines a codec's control structures with the traits that every one of them has, and `LAYOUTS`, which has
/// the layout of each.
macro_rules! uapi_structs {
    ($($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[$meta])*
            #[derive(
                Clone,
                Copy,
                Debug,
                PartialEq,
                zerocopy::FromBytes,
                zerocopy::IntoBytes,
                zerocopy::KnownLayout,
                zerocopy::Immutable,
            )]
            #[repr(C)]
            pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

            impl Default for $name {
                /// Returns the structure with every byte zero, which is how the kernel initialises it.
                fn default() -> Self {
                    zerocopy::FromZeros::new_zeroed()
                }
            }
        )*

        /// The layout of each structure.
        pub(super) const LAYOUTS: &[super::structs::Layout] = &[$(super::structs::Layout {
            name: stringify!($name),
            size: size_of::<$name>(),
            fields: &[$(super::structs::Field {
                name: stringify!($field),
                offset: core::mem::offset_of!($name, $field),
                size: size_of::<$type>(),
            }),*],
        }),*];
    };
}
pub(super) use uapi_structs;
