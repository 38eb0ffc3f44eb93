// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The numbers from which controls are counted.

/// Base of the stateful codec controls, which the profile and level menus belong to.
pub const V4L2_CID_CODEC_BASE: u32 = 0x0099_0900;
/// Base of the stateless codec controls.
pub const V4L2_CID_CODEC_STATELESS_BASE: u32 = 0x00a4_0900;
