// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tools of the scenarios in the guest: the broker, the module and its state, clips as jobs, a session
//! that looks at every buffer, and the line of JSON with which a scenario ends.

pub(crate) mod broker;
pub(crate) mod clip;
pub(crate) mod debugfs;
pub(crate) mod figures;
pub(crate) mod left;
pub(crate) mod module;
pub(crate) mod process;
pub(crate) mod rig;
