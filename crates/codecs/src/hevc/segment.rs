// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the beginning of a slice segment header (7.3.6.1): up to the reference picture sets.

use std::ops::Range;

use daedalus_uapi::v4l2_controls::*;

use super::error::HevcError;
use super::nal;
use super::sets::Blocks;
use crate::bits::BitReader;
use crate::emulation::Zeros;

/// Bytes of a unit that hold the header up to the sets: 16 + 16 short-term and 33 long-term pictures, each at
/// the longest code.
const PREFIX: usize = 1024;

/// The beginning of a slice segment's header. Positions are in bits of the payload without emulation
/// prevention, and count from the unit's first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// `nal_unit_type`.
    pub(super) nal_type: u8,
    /// `first_slice_segment_in_pic_flag`.
    pub(super) first: bool,
    /// `slice_pic_parameter_set_id`.
    pub(super) pps_id: u32,
    /// Where that is.
    pub(super) pps_id_bits: Range<usize>,
    /// `slice_segment_address`.
    pub(super) address: u32,
    /// Where `slice_reserved_flag` or what follows it begins; `None` if the segment is dependent.
    pub(super) reserved: Option<usize>,
    /// Its reference picture sets; `None` if the segment is dependent or the picture is an IDR picture.
    pub(super) sets: Option<Sets>,
}

/// The place of the reference picture sets in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sets {
    /// `slice_pic_order_cnt_lsb`.
    pub(super) lsb: u32,
    /// `short_term_ref_pic_set_sps_flag` and the set.
    pub(super) short_term: Range<usize>,
    /// The number of long-term pictures and those pictures.
    pub(super) long_term: Range<usize>,
    /// The short-term set is one of the SPS's, or is predicted from one.
    pub(super) short_term_of_sps: bool,
    /// A long-term picture is one of the SPS's.
    pub(super) long_term_of_sps: bool,
}

impl Sets {
    /// Returns whether the SPS's sets are needed to understand these.
    pub(super) fn are_of_sps(&self) -> bool {
        self.short_term_of_sps || self.long_term_of_sps
    }
}

/// Appends the beginning of a unit without its emulation prevention bytes: what a header can need.
pub(super) fn prefix(unit: &[u8], out: &mut Vec<u8>) {
    let mut zeros = Zeros::default();
    for &byte in &unit[..unit.len().min(PREFIX)] {
        if zeros.is_prevention(byte) {
            zeros = Zeros::default();
        } else {
            out.push(byte);
            zeros.pass(byte);
        }
    }
}

/// Returns `Ceil(Log2(count))`.
fn index_bits(count: u32) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

impl Segment {
    /// Reads the header of a unit, of which `prefix` is the beginning. SPS and PPS are checked.
    pub(super) fn read(
        prefix: &[u8],
        sps: &V4l2CtrlHevcSps,
        pps: &V4l2CtrlHevcPps,
        params: &V4l2CtrlHevcDecodeParams,
    ) -> Result<Self, HevcError> {
        Self::parse(prefix, sps, pps, params).ok_or(HevcError::Header)
    }

    fn parse(
        prefix: &[u8],
        sps: &V4l2CtrlHevcSps,
        pps: &V4l2CtrlHevcPps,
        params: &V4l2CtrlHevcDecodeParams,
    ) -> Option<Self> {
        let has = |flag: u64| pps.flags & flag != 0;
        let nal_type = nal::type_of(prefix);
        let mut r = BitReader::new(prefix, 16);
        let first = r.flag()?;
        if nal::is_irap(nal_type) {
            let _no_output_of_prior_pics = r.flag()?;
        }
        let start = r.position();
        let pps_id = r.ue().filter(|id| *id < 64)?;
        let mut segment = Self {
            nal_type,
            first,
            pps_id,
            pps_id_bits: start..r.position(),
            address: 0,
            reserved: None,
            sets: None,
        };
        if !first {
            let may_depend = has(V4L2_HEVC_PPS_FLAG_DEPENDENT_SLICE_SEGMENT_ENABLED);
            let dependent = may_depend && r.flag()?;
            let count = Blocks::of(sps).count();
            segment.address = r.bits(index_bits(count)).filter(|address| *address < count)?;
            if dependent {
                return Some(segment);
            }
        }
        segment.reserved = Some(r.position());
        r.bits(pps.num_extra_slice_header_bits.into())?;
        let _slice_type = r.ue()?;
        if has(V4L2_HEVC_PPS_FLAG_OUTPUT_FLAG_PRESENT) {
            let _pic_output = r.flag()?;
        }
        if !nal::is_idr(nal_type) {
            segment.sets = Some(Sets::parse(&mut r, sps, params)?);
        }
        Some(segment)
    }
}

impl Sets {
    fn parse(
        r: &mut BitReader<'_>,
        sps: &V4l2CtrlHevcSps,
        params: &V4l2CtrlHevcDecodeParams,
    ) -> Option<Self> {
        let lsb = r.bits(u32::from(sps.log2_max_pic_order_cnt_lsb_minus4) + 4)?;
        let start = r.position();
        let short_term_of_sps = short_term(r, sps, params)?;
        let middle = r.position();
        let long_term_of_sps = long_term(r, sps)?;
        Some(Self {
            lsb,
            short_term: start..middle,
            long_term: middle..r.position(),
            short_term_of_sps,
            long_term_of_sps,
        })
    }
}

/// Reads the short-term set. Returns whether it is one of the SPS's, or is predicted from one.
fn short_term(
    r: &mut BitReader<'_>,
    sps: &V4l2CtrlHevcSps,
    params: &V4l2CtrlHevcDecodeParams,
) -> Option<bool> {
    let count = u32::from(sps.num_short_term_ref_pic_sets);
    let of_sps = r.flag()?;
    if of_sps {
        let index = r.bits(index_bits(count))?;
        return (index < count).then_some(true);
    }
    let start = r.position();
    let predicted = count > 0 && r.flag()?;
    if predicted {
        skip_predicted(r, start, params)?;
        return Some(true);
    }
    let (negative, positive) = (r.ue()?, r.ue()?);
    let pictures = negative
        .checked_add(positive)
        .filter(|pictures| *pictures <= 32)?;
    for _ in 0..pictures {
        let _delta_poc_minus1 = r.ue()?;
        let _used_by_curr_pic = r.flag()?;
    }
    Some(false)
}

/// Reads a set that is predicted from one of the SPS's. Its length depends on the number of pictures in that
/// set, which is in the controls; so is the length itself, but not every client counts it in the same way.
fn skip_predicted(r: &mut BitReader<'_>, start: usize, params: &V4l2CtrlHevcDecodeParams) -> Option<()> {
    let _delta_idx_minus1 = r.ue()?;
    let _delta_rps_sign = r.flag()?;
    let _abs_delta_rps_minus1 = r.ue()?;
    let size = usize::from(params.short_term_ref_pic_set_size);
    if params.num_delta_pocs_of_ref_rps_idx == 0 && size > 0 {
        let left = (start + size).checked_sub(r.position())?;
        return (0..left).try_for_each(|_| r.flag().map(drop));
    }
    for _ in 0..=params.num_delta_pocs_of_ref_rps_idx {
        let used_by_curr_pic = r.flag()?;
        if !used_by_curr_pic {
            let _use_delta = r.flag()?;
        }
    }
    Some(())
}

/// Reads the long-term pictures. Returns whether one of them is the SPS's.
fn long_term(r: &mut BitReader<'_>, sps: &V4l2CtrlHevcSps) -> Option<bool> {
    if sps.flags & V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT == 0 {
        return Some(false);
    }
    let candidates = u32::from(sps.num_long_term_ref_pics_sps);
    let of_sps = if candidates > 0 { r.ue()? } else { 0 };
    let explicit = r.ue()?;
    let pictures = of_sps.checked_add(explicit).filter(|pictures| *pictures <= 33)?;
    for index in 0..pictures {
        if index < of_sps {
            r.bits(index_bits(candidates))
                .filter(|index| *index < candidates)?;
        } else {
            r.bits(u32::from(sps.log2_max_pic_order_cnt_lsb_minus4) + 4)?;
            let _used_by_curr_pic = r.flag()?;
        }
        let delta_poc_msb_present = r.flag()?;
        if delta_poc_msb_present {
            let _delta_poc_msb_cycle = r.ue()?;
        }
    }
    Some(of_sps > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_have_as_many_bits_as_their_number_needs() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 64, 65].map(index_bits),
            [0, 0, 1, 2, 2, 3, 6, 7]
        );
    }

    #[test]
    fn a_prefix_has_no_prevention_bytes() {
        let mut out = Vec::new();
        prefix(&[2, 1, 0, 0, 3, 1, 0, 0, 3, 0, 3], &mut out);
        assert_eq!(out, [2, 1, 0, 0, 1, 0, 0, 0, 3]);
    }
}
