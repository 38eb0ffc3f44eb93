// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264: SPS and PPS from `V4L2_CID_STATELESS_H264_{SPS,PPS,SCALING_MATRIX}`.
//!
//! Section numbers are those of ITU-T H.264. The client's slices go behind the parameter sets as they
//! are: the identifiers in the control are those that the slice headers name.
//!
//! What the controls do not hold, and what is written instead:
//!
//! | missing | written | why it is right |
//! |---|---|---|
//! | cropping | none | CAPTURE buffers hold the coded size |
//! | VUI | bitstream restriction only | see [`VuiPolicy`] |
//! | SPS scaling lists | none | the control holds the lists in force after fall-back; they go into the PPS |
//! | slice group map | [`H264Error::SliceGroups`] | flexible macroblock ordering is not in the uAPI |

mod nal;
mod sets;

pub use nal::{write_access_unit_delimiter, write_end_of_sequence};
pub use sets::{scaling_matrix_in_force, write_pps, write_sps};

use daedalus_uapi::v4l2_controls::{V4l2CtrlH264Pps, V4l2CtrlH264ScalingMatrix, V4l2CtrlH264Sps};

/// Why the parameter sets cannot be written from the controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum H264Error {
    /// A value which the syntax element cannot have.
    #[error("{field} is {value}, not {min} to {max}")]
    OutOfRange {
        /// The control's field.
        field: &'static str,
        /// Its value.
        value: i32,
        /// The smallest value that H.264 allows.
        min: i32,
        /// The largest value that H.264 allows.
        max: i32,
    },
    /// A scaling list that applies to the picture has an entry of 0.
    #[error("scaling list {list} has an entry of 0")]
    ScalingList {
        /// Index in the order of table 7-2: 0 to 5 the 4x4 lists, 6 to 11 the 8x8 lists.
        list: usize,
    },
    /// The PPS has more than one slice group, whose map is not in the control.
    #[error("{count} slice groups: their map is not in the control")]
    SliceGroups {
        /// Number of slice groups.
        count: u32,
    },
    /// The PPS control names another SPS than the SPS control.
    #[error("the PPS is for SPS {pps}, the SPS is {sps}")]
    SpsMismatch {
        /// `seq_parameter_set_id` of the PPS.
        pps: u8,
        /// `seq_parameter_set_id` of the SPS.
        sps: u8,
    },
}

/// The reordering that the written VUI announces (E.2.1, `bitstream_restriction_flag`).
///
/// It says how long a decoder holds pictures back to put them into display order. A stateless client
/// puts them in order itself, so the engine wants none held back ([`decode_order`](Self::decode_order)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VuiPolicy {
    /// `max_num_reorder_frames`, 0 to 16, at most `max_dec_frame_buffering`.
    pub max_num_reorder_frames: u8,
    /// `max_dec_frame_buffering`, 0 to 16, at least the SPS's `max_num_ref_frames`.
    pub max_dec_frame_buffering: u8,
}

impl VuiPolicy {
    /// Every picture is output as soon as it is decoded.
    pub fn decode_order(sps: &V4l2CtrlH264Sps) -> Self {
        Self {
            max_num_reorder_frames: 0,
            max_dec_frame_buffering: sps.max_num_ref_frames.clamp(1, 16),
        }
    }

    /// As many pictures as any level allows may be held back: output is in display order, late.
    pub fn display_order() -> Self {
        Self {
            max_num_reorder_frames: 16,
            max_dec_frame_buffering: 16,
        }
    }
}

/// Which parameter sets [`ParameterSets::write`] has appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// An SPS.
    pub sps: bool,
    /// A PPS.
    pub pps: bool,
}

/// Writes parameter sets when they differ from those that the decoder has already been given.
#[derive(Debug, Default)]
pub struct ParameterSets {
    sps: Option<(V4l2CtrlH264Sps, VuiPolicy)>,
    /// The PPS written since that SPS, one per identifier.
    pps: Vec<(V4l2CtrlH264Pps, Option<V4l2CtrlH264ScalingMatrix>)>,
}

impl ParameterSets {
    /// Forgets what was written: for a decoder that starts anew.
    pub fn reset(&mut self) {
        self.sps = None;
        self.pps.clear();
    }

    /// Appends to `out` the SPS and PPS that a picture needs and the decoder does not yet have.
    ///
    /// `scaling` is the matrix in force, see [`scaling_matrix_in_force`]. After an error nothing has
    /// been appended, and the next call writes both sets.
    pub fn write(
        &mut self,
        sps: &V4l2CtrlH264Sps,
        pps: &V4l2CtrlH264Pps,
        scaling: Option<&V4l2CtrlH264ScalingMatrix>,
        vui: VuiPolicy,
        out: &mut Vec<u8>,
    ) -> Result<Written, H264Error> {
        let start = out.len();
        let result = self.write_changed(sps, pps, scaling, vui, out);
        if result.is_err() {
            out.truncate(start);
            self.reset();
        }
        result
    }

    fn write_changed(
        &mut self,
        sps: &V4l2CtrlH264Sps,
        pps: &V4l2CtrlH264Pps,
        scaling: Option<&V4l2CtrlH264ScalingMatrix>,
        vui: VuiPolicy,
        out: &mut Vec<u8>,
    ) -> Result<Written, H264Error> {
        let mut written = Written::default();
        if !matches!(&self.sps, Some((known, policy)) if known == sps && *policy == vui) {
            write_sps(sps, vui, out)?;
            // A new SPS invalidates the PPS that refer to it.
            self.pps.clear();
            self.sps = Some((*sps, vui));
            written.sps = true;
        }
        let known = self
            .pps
            .iter_mut()
            .find(|(p, _)| p.pic_parameter_set_id == pps.pic_parameter_set_id);
        if !matches!(&known, Some((p, s)) if p == pps && s.as_ref() == scaling) {
            write_pps(sps, pps, scaling, out)?;
            match known {
                Some(entry) => *entry = (*pps, scaling.copied()),
                None => self.pps.push((*pps, scaling.copied())),
            }
            written.pps = true;
        }
        Ok(written)
    }
}
