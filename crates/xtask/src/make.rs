// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makers of what the test bed is made of. Each takes the site and what it builds upon; none asks for
//! another's work.

pub(crate) mod apt;
pub(crate) mod crates;
pub(crate) mod kernel;
pub(crate) mod module;
pub(crate) mod programs;
pub(crate) mod root;
