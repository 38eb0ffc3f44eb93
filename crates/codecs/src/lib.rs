// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rebuilds, from V4L2 stateless controls, the headers that a stateless client keeps to itself.
//!
//! A stateless client parses the stream, sends the headers' values as controls and puts little more
//! than slice or tile data into the OUTPUT buffer. A stateful library wants the bitstream. This crate
//! writes it:
//!
//! - [`h264`]: SPS and PPS NAL units in front of the client's slices;
//! - [`av1`]: sequence header, frame header and tile group OBUs around the client's tiles.
//!
//! VP9 needs nothing: the buffer holds the whole frame.
//!
//! Whatever a client can put into a control gives either a bitstream or a typed error, never a panic:
//! the controls' values are not trusted.
#![forbid(unsafe_code)]

pub mod av1;
pub mod bits;
pub mod h264;
