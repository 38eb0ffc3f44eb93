// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264: SPS and PPS from `V4L2_CID_STATELESS_H264_{SPS,PPS,SCALING_MATRIX}`.
//!
//! Section numbers are those of ITU-T H.264. The client's slices go behind the parameter sets as they
//! are: the identifiers in the control are those that the slice headers name.
//!
//! The controls lack some syntax. What is written instead:
//!
//! | missing | written | why it is right |
//! |---|---|---|
//! | cropping | none | CAPTURE buffers hold the coded size |
//! | VUI | bitstream restriction only | see [`VuiPolicy`] |
//! | SPS scaling lists | none | the control holds the lists in force after fall-back; they go into the PPS |
//! | slice group map | [`H264Error::SliceGroups`] | flexible macroblock ordering is not in the uAPI |

mod error;
mod nal;
mod semantics;
mod sets;
mod vui;

pub use error::H264Error;
pub use nal::{write_access_unit_delimiter, write_end_of_sequence};
pub use semantics::{H264, active};
pub use sets::{scaling_matrix_in_force, write_pps, write_sps};
pub use vui::VuiPolicy;

use daedalus_uapi::v4l2_controls::{V4l2CtrlH264Pps, V4l2CtrlH264ScalingMatrix, V4l2CtrlH264Sps};

/// Which parameter sets [`ParameterSets::write`] has appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenSets {
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
    ) -> Result<WrittenSets, H264Error> {
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
    ) -> Result<WrittenSets, H264Error> {
        let mut written = WrittenSets::default();
        if !matches!(&self.sps, Some((old, policy)) if old == sps && *policy == vui) {
            write_sps(sps, vui, out)?;
            // A new SPS invalidates the PPS that refer to it.
            self.pps.clear();
            self.sps = Some((*sps, vui));
            written.sps = true;
        }
        let old = self
            .pps
            .iter_mut()
            .find(|(p, _)| p.pic_parameter_set_id == pps.pic_parameter_set_id);
        if !matches!(&old, Some((p, s)) if p == pps && s.as_ref() == scaling) {
            write_pps(sps, pps, scaling, out)?;
            match old {
                Some(entry) => *entry = (*pps, scaling.copied()),
                None => self.pps.push((*pps, scaling.copied())),
            }
            written.pps = true;
        }
        Ok(written)
    }
}
