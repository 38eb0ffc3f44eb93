// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that is shared with clients, and private memory: accessed within bounds, and by copying only.
//!
//! # Writers outside of this process
//!
//! A client may write to its buffers at any time, also while they are read here. The rules about data races
//! are about the threads of one program. A client's process is outside of the program, as a device is that
//! writes by DMA: Rust's memory model has no name for either. The model that this crate relies on is that of
//! device memory: a byte of a [`Mapping`] may have another value at every load, and a store may be lost. Code
//! is right if it is right for every value that a load can return:
//!
//! - An access is a copy of bytes between a mapping and private memory, through raw pointers. Every bit
//!   pattern is a valid byte. There is no reference to mapped bytes, so the compiler may not assume that they
//!   keep a value.
//! - Lengths, offsets and addresses come from private memory, never from mapped bytes. A copy that mixes old
//!   and new bytes is a damaged picture of the client that wrote them, and nothing else.
//! - [`Mapping::read`] ends with a compiler fence. Checks that follow see the copy: the compiler
//!   cannot load a byte from the mapping a second time in place of it.
//! - Sample conversions copy a block into registers, convert it, and store the result. Each output byte
//!   depends on the values of its input bytes alone.
//!
//! Two threads of this process that use one mapping are to each other as a client is to both. In practice
//! they do not meet: a session's memory is accessed from one thread, and a library's threads have written a
//! picture before it is read.

mod cache;
mod mapping;
mod view;

pub use mapping::{Mapping, OutOfBounds};
pub use view::View;
