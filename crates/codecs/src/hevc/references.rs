// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reference picture sets (7.3.7, 7.4.8) that a picture's controls stand for, written so that they need
//! none of the SPS's.
//!
//! Decoding depends on more of a set than on the pictures that it reads: a picture that no set lists any more
//! is dropped, and the number of pictures that may be read is the width of the elements that change lists. So
//! pictures which later ones may read are listed, too, and one that the client has not got is replaced by an
//! invention in the same place.

use daedalus_uapi::v4l2_controls::*;

use super::error::HevcError;
use super::semantics::entries;
use crate::bits::BitWriter;

/// Most pictures on either side of a short-term set, and most long-term pictures.
const MOST: usize = 15;
/// The longest step between the order counts of a short-term set.
const LONGEST_STEP: i64 = 1 << 15;

/// A picture of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    /// Its order count, relative to the current picture's.
    delta: i64,
    /// Decoding may read it.
    used: bool,
}

/// A long-term picture of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LongTerm {
    /// `poc_lsb_lt`.
    lsb: u32,
    /// Decoding may read it.
    used: bool,
    /// `DeltaPocMsbCycleLt`; `None` if the picture is not there.
    cycle: Option<i64>,
}

/// A picture's reference picture sets.
#[derive(Debug)]
pub(super) struct References<'a> {
    sps: &'a V4l2CtrlHevcSps,
    params: &'a V4l2CtrlHevcDecodeParams,
    /// `slice_pic_order_cnt_lsb`.
    lsb: u32,
}

impl<'a> References<'a> {
    pub(super) fn new(sps: &'a V4l2CtrlHevcSps, params: &'a V4l2CtrlHevcDecodeParams, lsb: u32) -> Self {
        Self { sps, params, lsb }
    }

    fn delta(&self, entry: &V4l2HevcDpbEntry) -> i64 {
        i64::from(entry.pic_order_cnt_val) - i64::from(self.params.pic_order_cnt_val)
    }

    /// Returns the entries that a list names, `None` for one that is not there.
    fn list(&self, list: &'a [u8], count: u8) -> impl Iterator<Item = Option<&'a V4l2HevcDpbEntry>> {
        let dpb = entries(self.params);
        let names = list.iter().take(count.into());
        names.map(move |&index| dpb.get(usize::from(index)))
    }

    /// Writes `short_term_ref_pic_set_sps_flag` and a set that is complete in itself.
    ///
    /// # Errors
    /// [`HevcError::OutOfRange`].
    pub(super) fn write_short_term(&self, w: &mut BitWriter<'_>) -> Result<(), HevcError> {
        let params = self.params;
        let sides = [
            self.side(&params.poc_st_curr_before, params.num_poc_st_curr_before, -1),
            self.side(&params.poc_st_curr_after, params.num_poc_st_curr_after, 1),
        ];
        let short_term_ref_pic_set_sps = false;
        w.flag(short_term_ref_pic_set_sps);
        if self.sps.num_short_term_ref_pic_sets > 0 {
            let inter_ref_pic_set_prediction = false;
            w.flag(inter_ref_pic_set_prediction);
        }
        sides.iter().for_each(|side| w.ue(side.len() as u32));
        for side in &sides {
            let mut before = 0;
            for member in side {
                let step = member.delta.abs() - before;
                super::error::within("the step between order counts", step, 1..=LONGEST_STEP)?;
                w.ue(step as u32 - 1);
                w.flag(member.used);
                before = member.delta.abs();
            }
        }
        Ok(())
    }

    /// Returns the pictures on the side of the current one to which `sign` points, the nearest first.
    fn side(&self, list: &'a [u8], count: u8, sign: i64) -> Vec<Member> {
        let on_side = |delta: &i64| delta.signum() == sign;
        let mut members: Vec<Member> = Vec::with_capacity(MOST);
        let mut nearest = 0;
        for entry in self.list(list, count) {
            let delta = match entry {
                Some(entry) => Some(self.delta(entry)).filter(on_side),
                None => self.invent(nearest, sign),
            };
            let Some(delta) = delta else { continue };
            nearest = delta;
            insert(&mut members, Member { delta, used: true });
        }
        let short_term =
            |entry: &&V4l2HevcDpbEntry| entry.flags & V4L2_HEVC_DPB_ENTRY_LONG_TERM_REFERENCE == 0;
        for entry in entries(self.params).iter().filter(short_term) {
            let delta = self.delta(entry);
            if on_side(&delta) {
                insert(&mut members, Member { delta, used: false });
            }
        }
        members.truncate(MOST);
        members
    }

    /// Returns the first free order count behind `from`, in the direction of `sign`.
    fn invent(&self, from: i64, sign: i64) -> Option<i64> {
        let taken = |delta: &i64| {
            entries(self.params)
                .iter()
                .any(|entry| self.delta(entry) == *delta)
        };
        (1..=17)
            .map(|step| from + sign * step)
            .find(|delta| !taken(delta))
    }

    /// Writes the numbers of long-term pictures, and those pictures. The SPS has long-term pictures.
    pub(super) fn write_long_term(&self, w: &mut BitWriter<'_>) {
        let lsb_bits = u32::from(self.sps.log2_max_pic_order_cnt_lsb_minus4) + 4;
        let pictures = self.long_term(lsb_bits);
        if self.sps.num_long_term_ref_pics_sps > 0 {
            let num_long_term_sps = 0;
            w.ue(num_long_term_sps);
        }
        w.ue(pictures.len() as u32);
        let mut cycle_before = 0;
        for picture in pictures {
            w.bits(lsb_bits, picture.lsb.into());
            w.flag(picture.used);
            // The cycles of a header only rise. One that does not was none in the stream either.
            let step = picture
                .cycle
                .and_then(|cycle| u32::try_from(cycle - cycle_before).ok());
            w.flag(step.is_some());
            if let Some(step) = step {
                w.ue(step);
                cycle_before += i64::from(step);
            }
        }
    }

    /// Returns the long-term pictures: those that decoding may read in their order, and the others where
    /// their cycles are between those of their neighbours.
    fn long_term(&self, lsb_bits: u32) -> Vec<LongTerm> {
        let params = self.params;
        let in_list = self.list(&params.poc_lt_curr, params.num_poc_lt_curr);
        let used: Vec<_> = in_list.collect();
        let is_used = |entry: &V4l2HevcDpbEntry| {
            let is_entry = |used: &&V4l2HevcDpbEntry| std::ptr::eq(*used, entry);
            used.iter().flatten().any(is_entry)
        };
        let mut pictures: Vec<_> = used
            .iter()
            .map(|entry| self.long_term_of(*entry, true, lsb_bits))
            .collect();
        for entry in entries(params) {
            if entry.flags & V4L2_HEVC_DPB_ENTRY_LONG_TERM_REFERENCE != 0 && !is_used(entry) {
                let new = self.long_term_of(Some(entry), false, lsb_bits);
                let later = |picture: &LongTerm| picture.cycle > new.cycle;
                let at = pictures.iter().position(later).unwrap_or(pictures.len());
                pictures.insert(at, new);
            }
        }
        pictures
    }

    /// Returns what a header says of a picture. One that is not there gets the low bits of none that is.
    fn long_term_of(&self, entry: Option<&V4l2HevcDpbEntry>, used: bool, lsb_bits: u32) -> LongTerm {
        let mask = (1i64 << lsb_bits) - 1;
        let own = i64::from(self.lsb);
        let lsb_of = |entry: &V4l2HevcDpbEntry| (own + self.delta(entry)) & mask;
        let is_free =
            |lsb: &i64| *lsb != own && entries(self.params).iter().all(|entry| lsb_of(entry) != *lsb);
        let lsb = match entry {
            Some(entry) => lsb_of(entry),
            None => (0..=mask).find(is_free).unwrap_or(0),
        };
        LongTerm {
            lsb: lsb as u32,
            used,
            cycle: entry.map(|entry| (lsb - own - self.delta(entry)) >> lsb_bits),
        }
    }
}

/// Inserts a picture in the order of distance, unless its order count is there.
fn insert(members: &mut Vec<Member>, new: Member) {
    let at = members.partition_point(|member| member.delta.abs() < new.delta.abs());
    if members.get(at).is_none_or(|member| member.delta != new.delta) {
        members.insert(at, new);
    }
}
