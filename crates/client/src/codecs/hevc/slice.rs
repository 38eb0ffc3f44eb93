// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Slice segment headers (ITU-T H.265 7.3.6.1) up to the end of the reference picture sets.

use daedalus_uapi::v4l2_controls::{
    V4L2_HEVC_PPS_FLAG_DEPENDENT_SLICE_SEGMENT_ENABLED, V4L2_HEVC_PPS_FLAG_OUTPUT_FLAG_PRESENT,
    V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT, V4L2_HEVC_SPS_FLAG_SEPARATE_COLOUR_PLANE,
};

use super::reader::{Reader, Wrong};
use super::reference_set::{CodedSet, ShortTermSet};
use super::sets::{Pps, Sps};

/// A long-term picture in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LongTerm {
    /// `pocLt` before the most significant bits are added.
    pub(super) lsb: u32,
    /// `UsedByCurrPicLt`.
    pub(super) used: bool,
    /// `DeltaPocMsbCycleLt`, if `delta_poc_msb_present_flag` is set.
    pub(super) cycle: Option<u32>,
}

/// A slice segment header.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    /// `first_slice_segment_in_pic_flag`.
    pub(super) first: bool,
    /// `no_output_of_prior_pics_flag`.
    pub(super) no_output_of_prior_pics: bool,
    /// `slice_pic_parameter_set_id`.
    pub(super) pps_id: u8,
    /// `pic_output_flag`.
    pub(super) output: bool,
    /// `slice_pic_order_cnt_lsb`.
    pub(super) lsb: u32,
    /// The short-term set.
    pub(super) short_term: CodedSet,
    /// Bits of `st_ref_pic_set()`, if the header has one.
    pub(super) short_term_bits: usize,
    /// The long-term pictures.
    pub(super) long_term: Vec<LongTerm>,
    /// Bits of the long-term syntax.
    pub(super) long_term_bits: usize,
}

impl Header {
    /// Reads the elements that every header begins with: enough to find the parameter sets.
    pub(super) fn begin(r: &mut Reader, irap: bool) -> Result<Self, Wrong> {
        Ok(Self {
            first: r.flag()?,
            no_output_of_prior_pics: irap && r.flag()?,
            pps_id: r.small_ue(63)?,
            output: true,
            ..Self::default()
        })
    }

    /// Reads the rest of the header of a picture's first segment.
    pub(super) fn complete(&mut self, r: &mut Reader, sps: &Sps, pps: &Pps, idr: bool) -> Result<(), Wrong> {
        if !self.first {
            let may_depend = pps.has(V4L2_HEVC_PPS_FLAG_DEPENDENT_SLICE_SEGMENT_ENABLED);
            let _dependent = may_depend && r.flag()?;
            r.bits(ceil_log2(sps.blocks()))?;
        }
        r.bits(pps.control.num_extra_slice_header_bits.into())?;
        let _slice_type = r.ue()?;
        if pps.has(V4L2_HEVC_PPS_FLAG_OUTPUT_FLAG_PRESENT) {
            self.output = r.flag()?;
        }
        if sps.has(V4L2_HEVC_SPS_FLAG_SEPARATE_COLOUR_PLANE) {
            let _colour_plane_id = r.bits(2)?;
        }
        if idr {
            return Ok(());
        }
        self.lsb = r.bits(sps.lsb_bits())?;
        let of_sps = r.flag()?;
        let start = r.position();
        if of_sps {
            let index = r.bits(ceil_log2(sps.sets.len() as u32))? as usize;
            let set = sps.sets.get(index).ok_or("a slice names no set of the SPS")?;
            self.short_term.set = set.clone();
        } else {
            self.short_term = ShortTermSet::parse(r, &sps.sets, true)?;
            self.short_term_bits = r.position() - start;
        }
        if sps.has(V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT) {
            let start = r.position();
            self.long_term(r, sps)?;
            self.long_term_bits = r.position() - start;
        }
        Ok(())
    }

    fn long_term(&mut self, r: &mut Reader, sps: &Sps) -> Result<(), Wrong> {
        let candidates = sps.long_term.len();
        let of_sps = if candidates > 0 { r.small_ue(32)? } else { 0 };
        let explicit = r.small_ue(32)?;
        let mut cycle = 0u32;
        for index in 0..u16::from(of_sps) + u16::from(explicit) {
            let (lsb, used) = if index < of_sps.into() {
                let candidate = r.bits(ceil_log2(candidates as u32))? as usize;
                *sps.long_term
                    .get(candidate)
                    .ok_or("a slice names no picture of the SPS")?
            } else {
                (r.bits(sps.lsb_bits())?, r.flag()?)
            };
            let msb_present = r.flag()?;
            let delta = if msb_present { r.ue()? } else { 0 };
            // (7-52): the cycles of either kind add up.
            cycle = if index == 0 || index == of_sps.into() {
                delta
            } else {
                cycle.wrapping_add(delta)
            };
            self.long_term.push(LongTerm {
                lsb,
                used,
                cycle: msb_present.then_some(cycle),
            });
        }
        Ok(())
    }
}

/// `Ceil(Log2(count))`.
fn ceil_log2(count: u32) -> u32 {
    (0..32).find(|bits| 1u64 << bits >= count.into()).unwrap_or(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_rounded_up() {
        assert_eq!([0, 1, 2, 3, 8, 9].map(ceil_log2), [0, 0, 1, 2, 3, 4]);
    }
}
