// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The macro that defines the controls' structures.

/// Defines control structures with the traits that every one of them has.
macro_rules! uapi_structs {
    ($($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* })*) => {$(
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
        pub struct $name { $($body)* }

        impl Default for $name {
            /// Returns the structure with every byte zero, which is how the kernel initialises it.
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    )*};
}
pub(super) use uapi_structs;
