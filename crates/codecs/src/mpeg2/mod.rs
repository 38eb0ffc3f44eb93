// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MPEG-2: sequence, group, picture and matrix headers from
//! `V4L2_CID_STATELESS_MPEG2_{SEQUENCE,PICTURE,QUANTISATION}`.
//!
//! Section numbers are those of ITU-T H.262. The client's slices go behind the headers as they are.
//!
//! The controls lack some syntax. It has no effect on pixels. What is written instead:
//!
//! | missing | written |
//! |---|---|
//! | `temporal_reference`, `vbv_delay`, time code | 0, unspecified, 0 |
//! | aspect, frame rate, bit rate, buffer size | square, 25 Hz, variable, 0: a change begins a sequence |
//! | profile and level | Main profile at High level: some clients leave the control's 0 |
//! | `closed_gop` | 1: pictures without a forward reference are decoded, too |
//! | chroma matrices | none: in 4:2:0 the luma matrices apply, and clients leave zeros in the control |

mod error;
mod headers;
mod semantics;

pub use error::Mpeg2Error;
pub use headers::{Headers, PictureControls};
pub use semantics::{Mpeg2, NO_PICTURE};
