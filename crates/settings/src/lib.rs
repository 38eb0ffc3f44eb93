// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files of a machine that the daemon acts upon and `daedalus doctor` explains, each with one grammar.
//!
//! It is a crate of its own because the command must start where the decoders' libraries are missing, so it
//! cannot use the daemon's crate.
//!
//! Functions here take text, so tests and `daedalus doctor` choose where it comes from.

#![forbid(unsafe_code)]

pub mod accounts;
pub mod config;
pub mod hardware;
