// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `./dev` shares with the command, the client and the tests.
//!
//! It is a crate of its own, and needs no library, because `./dev` must build where the rest of the tree does
//! not.

#![forbid(unsafe_code)]

pub mod codecs;
pub mod elementary;
pub mod junit;
#[cfg(feature = "play")]
pub mod play;
pub mod vectors;
