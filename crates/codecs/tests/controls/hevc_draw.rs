// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Draws HEVC sequences with reference picture sets of their own, pictures that use them in every way, and
//! writes them as an encoder would.

use daedalus_codecs::bits::BitWriter;
use daedalus_uapi::v4l2_controls::*;

use crate::Draw;

/// Most bytes of the data of a slice segment.
const DATA: i32 = 40;

/// A short-term set: order counts relative to the current picture, and whether it may read them. Those before
/// it, then those after it, each side the nearest first.
pub(super) type Set = [Vec<(i32, bool)>; 2];

/// A sequence.
pub(super) struct Sequence {
    pub(super) sps: V4l2CtrlHevcSps,
    sets: Vec<CodedSet>,
    /// Low bits of candidates for long-term pictures, and whether the picture that names one may read it.
    candidates: Vec<(u32, bool)>,
    pub(super) pps: V4l2CtrlHevcPps,
}

/// A set, and the way in which it is coded.
#[derive(Clone)]
struct CodedSet {
    set: Set,
    coding: Coding,
}

#[derive(Clone)]
enum Coding {
    Explicit,
    /// From the set so many places before, at a distance, with two flags for each picture.
    Predicted {
        back: usize,
        distance: i32,
        flags: Vec<(bool, bool)>,
        of: usize,
    },
    /// A set of the SPS.
    Index(usize),
}

/// A long-term picture of a header.
#[derive(Clone, Copy)]
struct LongTerm {
    candidate: Option<usize>,
    lsb: u32,
    used: bool,
    msb: bool,
    cycle: u32,
}

/// A reference picture, as the sets name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedPicture {
    pub(super) delta: i64,
    pub(super) used: bool,
    /// The client has it.
    pub(super) present: bool,
}

/// A picture with its slice segments.
pub(super) struct Picture {
    pub(super) params: V4l2CtrlHevcDecodeParams,
    /// The short-term pictures before and after it, and the long-term ones, in the order of the sets.
    pub(super) named: [Vec<NamedPicture>; 3],
    /// The segments as NAL units, each with the bytes of its data as they stand in it.
    pub(super) segments: Vec<(Vec<u8>, Vec<u8>)>,
    /// A set of the SPS is named, so the segments must be rewritten.
    pub(super) uses_sps: bool,
    /// A long-term picture of the SPS is named.
    pub(super) uses_candidates: bool,
}

/// Returns the bits of a choice among `count`.
fn choice_bits(count: usize) -> u32 {
    (0..).find(|bits| 1 << bits >= count).unwrap_or(0)
}

fn has(flags: u64, flag: u64) -> bool {
    flags & flag != 0
}

/// Draws a set of few pictures.
fn explicit(draw: &mut Draw<'_>) -> Set {
    [-1, 1].map(|sign| {
        let mut delta = 0;
        (0..draw.u8(0..=4))
            .map(|_| {
                let most = if draw.byte() < 16 { 3000 } else { 6 };
                delta += sign * draw.within(1..=most);
                (delta, draw.flag())
            })
            .collect()
    })
}

impl CodedSet {
    /// Draws a set that follows `sets`.
    fn draw(draw: &mut Draw<'_>, sets: &[Self], in_slice: bool) -> Self {
        if sets.is_empty() || draw.flag() {
            let (set, coding) = (explicit(draw), Coding::Explicit);
            return Self { set, coding };
        }
        let back = if in_slice {
            draw.within(1..=sets.len() as i32) as usize
        } else {
            1
        };
        let from = &sets[sets.len() - back].set;
        let distance = match draw.within(-8..=8) {
            0 => 9,
            distance => distance,
        };
        let sources: Vec<i32> = from[0]
            .iter()
            .chain(&from[1])
            .map(|(delta, _)| *delta)
            .chain([0])
            .collect();
        let flags: Vec<(bool, bool)> = sources.iter().map(|_| (draw.flag(), draw.flag())).collect();
        let mut set: Set = Default::default();
        for (source, (used, keep)) in sources.iter().zip(&flags) {
            let delta = source + distance;
            if (*used || *keep) && delta != 0 {
                set[usize::from(delta > 0)].push((delta, *used));
            }
        }
        set.iter_mut()
            .for_each(|side| side.sort_by_key(|(delta, _)| delta.abs()));
        let of = sources.len() - 1;
        Self {
            set,
            coding: Coding::Predicted {
                back,
                distance,
                flags,
                of,
            },
        }
    }

    /// `st_ref_pic_set()`.
    fn write(&self, w: &mut BitWriter<'_>, index: usize, in_slice: bool) {
        let predicted = matches!(self.coding, Coding::Predicted { .. });
        if index > 0 {
            w.flag(predicted);
        }
        match &self.coding {
            Coding::Predicted {
                back,
                distance,
                flags,
                ..
            } => {
                if in_slice {
                    w.ue(*back as u32 - 1);
                }
                w.flag(*distance < 0);
                w.ue(distance.unsigned_abs() - 1);
                for &(used, keep) in flags {
                    w.flag(used);
                    if !used {
                        w.flag(keep);
                    }
                }
            }
            _ => {
                self.set.iter().for_each(|side| w.ue(side.len() as u32));
                for side in &self.set {
                    let mut before = 0;
                    for &(delta, used) in side {
                        w.ue((delta - before).unsigned_abs() - 1);
                        w.flag(used);
                        before = delta;
                    }
                }
            }
        }
    }
}

impl Sequence {
    pub(super) fn draw(draw: &mut Draw<'_>) -> Self {
        let mut sps = V4l2CtrlHevcSps {
            pic_width_in_luma_samples: 8 * draw.within(2..=40) as u16,
            pic_height_in_luma_samples: 8 * draw.within(2..=40) as u16,
            log2_max_pic_order_cnt_lsb_minus4: draw.u8(0..=12),
            sps_max_dec_pic_buffering_minus1: 15,
            log2_diff_max_min_luma_coding_block_size: draw.u8(1..=3),
            log2_diff_max_min_luma_transform_block_size: 1,
            chroma_format_idc: 1,
            num_short_term_ref_pic_sets: draw.u8(0..=9),
            flags: draw.within(0..=0x1ff) as u64
                & !(V4L2_HEVC_SPS_FLAG_SEPARATE_COLOUR_PLANE | V4L2_HEVC_SPS_FLAG_PCM_ENABLED)
                & !V4L2_HEVC_SPS_FLAG_PCM_LOOP_FILTER_DISABLED,
            ..Default::default()
        };
        let mut sets: Vec<CodedSet> = Vec::new();
        for _ in 0..sps.num_short_term_ref_pic_sets {
            sets.push(CodedSet::draw(draw, &sets, false));
        }
        let mut candidates = Vec::new();
        if has(sps.flags, V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT) {
            sps.num_long_term_ref_pics_sps = draw.u8(0..=5);
            let most = (16 << sps.log2_max_pic_order_cnt_lsb_minus4) - 1;
            candidates.extend(
                (0..sps.num_long_term_ref_pics_sps).map(|_| (draw.within(0..=most) as u32, draw.flag())),
            );
        }
        let flags = draw.within(0..=0xffff) as u64 | ((draw.within(0..=0xf) as u64) << 16);
        let mut pps = V4l2CtrlHevcPps {
            pic_parameter_set_id: draw.u8(0..=63),
            num_extra_slice_header_bits: draw.u8(0..=2),
            num_ref_idx_l0_default_active_minus1: draw.u8(0..=3),
            num_ref_idx_l1_default_active_minus1: draw.u8(0..=3),
            flags: flags & !(V4L2_HEVC_PPS_FLAG_WEIGHTED_PRED | V4L2_HEVC_PPS_FLAG_WEIGHTED_BIPRED),
            ..Default::default()
        };
        if !has(pps.flags, V4L2_HEVC_PPS_FLAG_DEBLOCKING_FILTER_CONTROL_PRESENT) {
            pps.flags &= !(V4L2_HEVC_PPS_FLAG_DEBLOCKING_FILTER_OVERRIDE_ENABLED
                | V4L2_HEVC_PPS_FLAG_PPS_DISABLE_DEBLOCKING_FILTER);
        }
        // One tile column and row with tiles enabled is none: rows of blocks are the entry points here.
        pps.flags &= !V4L2_HEVC_PPS_FLAG_TILES_ENABLED;
        Self {
            sps,
            sets,
            candidates,
            pps,
        }
    }

    /// Returns the sequence without sets and candidates.
    pub(super) fn without_sets(&self) -> Self {
        Self {
            sps: self.sps,
            sets: Vec::new(),
            candidates: Vec::new(),
            pps: self.pps,
        }
    }

    fn blocks(&self) -> (u32, u32) {
        let log2 = 3 + u32::from(self.sps.log2_diff_max_min_luma_coding_block_size);
        let blocks = |samples: u16| u32::from(samples).div_ceil(1 << log2);
        (
            blocks(self.sps.pic_width_in_luma_samples),
            blocks(self.sps.pic_height_in_luma_samples),
        )
    }

    fn lsb_bits(&self) -> u32 {
        u32::from(self.sps.log2_max_pic_order_cnt_lsb_minus4) + 4
    }

    /// Returns the SPS as an encoder writes it, with its sets, and without its profile.
    pub(super) fn sps_unit(&self) -> Vec<u8> {
        let sps = &self.sps;
        unit([0x42, 1], |w| {
            w.bits(8, 1);
            // profile_tier_level(): Main, level 6.2.
            w.bits(8, 1);
            w.bits(32, 0x6000_0000);
            w.bits(48, 0x9000_0000_0000);
            w.bits(8, 186);
            for value in [
                0,
                1,
                sps.pic_width_in_luma_samples.into(),
                sps.pic_height_in_luma_samples.into(),
            ] {
                w.ue(value);
            }
            w.flag(false);
            w.ue(0);
            w.ue(0);
            w.ue(sps.log2_max_pic_order_cnt_lsb_minus4.into());
            w.flag(true);
            for value in [
                15,
                0,
                0,
                0,
                sps.log2_diff_max_min_luma_coding_block_size,
                0,
                sps.log2_diff_max_min_luma_transform_block_size,
                0,
                0,
            ] {
                w.ue(value.into());
            }
            w.flag(has(sps.flags, V4L2_HEVC_SPS_FLAG_SCALING_LIST_ENABLED));
            if has(sps.flags, V4L2_HEVC_SPS_FLAG_SCALING_LIST_ENABLED) {
                w.flag(false);
            }
            w.flag(has(sps.flags, V4L2_HEVC_SPS_FLAG_AMP_ENABLED));
            w.flag(has(sps.flags, V4L2_HEVC_SPS_FLAG_SAMPLE_ADAPTIVE_OFFSET));
            w.flag(false);
            w.ue(self.sets.len() as u32);
            for (index, set) in self.sets.iter().enumerate() {
                set.write(w, index, false);
            }
            w.flag(has(sps.flags, V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT));
            if has(sps.flags, V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT) {
                w.ue(self.candidates.len() as u32);
                for &(lsb, used) in &self.candidates {
                    w.bits(self.lsb_bits(), lsb.into());
                    w.flag(used);
                }
            }
            w.flag(has(sps.flags, V4L2_HEVC_SPS_FLAG_SPS_TEMPORAL_MVP_ENABLED));
            w.flag(has(sps.flags, V4L2_HEVC_SPS_FLAG_STRONG_INTRA_SMOOTHING_ENABLED));
            w.bits(2, 0);
        })
    }

    /// Draws a picture.
    pub(super) fn picture(&self, draw: &mut Draw<'_>) -> Picture {
        let poc = draw.within(0..=0xffff) * draw.within(1..=60);
        let lsb = poc as u32 & ((1 << self.lsb_bits()) - 1);
        let short_term = if !self.sets.is_empty() && draw.flag() {
            let index = draw.within(0..=self.sets.len() as i32 - 1) as usize;
            CodedSet {
                set: self.sets[index].set.clone(),
                coding: Coding::Index(index),
            }
        } else {
            CodedSet::draw(draw, &self.sets, true)
        };
        let present = |draw: &mut Draw<'_>| draw.byte() < 230;
        let mut named: [Vec<NamedPicture>; 3] = Default::default();
        for (names, side) in named.iter_mut().zip(&short_term.set) {
            names.extend(side.iter().map(|&(delta, used)| NamedPicture {
                delta: delta.into(),
                used,
                present: present(draw),
            }));
        }
        let long_term = self.long_term(draw, poc, lsb, &named);
        for entry in &long_term {
            let delta = i64::from(entry.lsb) - i64::from(lsb) - (i64::from(entry.cycle) << self.lsb_bits());
            let (used, present) = (entry.used, present(draw));
            named[2].push(NamedPicture { delta, used, present });
        }
        let mut params = parameters(poc, &named);
        if let Coding::Predicted { of, .. } = short_term.coding {
            params.num_delta_pocs_of_ref_rps_idx = of as u8;
            // Zero pictures need the other way to tell the length.
            let mut bits = Vec::new();
            let mut w = BitWriter::new(&mut bits);
            short_term.write(&mut w, self.sets.len(), true);
            w.trailing();
            let zeros = bits.last().map_or(0, |byte| byte.trailing_zeros());
            params.short_term_ref_pic_set_size = (8 * bits.len() as u32 - zeros - 1) as u16;
        }
        let uses_candidates = long_term.iter().any(|entry| entry.candidate.is_some());
        let uses_sps = !matches!(short_term.coding, Coding::Explicit) || uses_candidates;
        let total: usize = named.iter().flatten().filter(|name| name.used).count();
        let sets = |w: &mut BitWriter<'_>| self.write_sets(w, &short_term, &long_term);
        let (width, height) = self.blocks();
        let mut segments = Vec::new();
        let mut address = 0;
        while address < width * height && segments.len() < 4 {
            segments.push(self.segment(draw, address, lsb, total, &sets));
            address += draw.within(1..=i32::try_from(width * height).unwrap_or(1)) as u32;
        }
        Picture {
            params,
            named,
            segments,
            uses_sps,
            uses_candidates,
        }
    }

    /// Draws long-term pictures that are none of the short-term ones. Cycles only rise, and candidates of the
    /// SPS come first, from the same cycle on.
    fn long_term(
        &self,
        draw: &mut Draw<'_>,
        poc: i32,
        lsb: u32,
        short: &[Vec<NamedPicture>; 3],
    ) -> Vec<LongTerm> {
        if !has(self.sps.flags, V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT) {
            return Vec::new();
        }
        let mask = (1u32 << self.lsb_bits()) - 1;
        let mut entries: Vec<LongTerm> = Vec::new();
        let of_sps = draw.u8(0..=self.candidates.len().min(2) as u8);
        let mut cycle = 1 + (poc as u32 >> self.lsb_bits()).min(3);
        for index in 0..of_sps + draw.u8(0..=2) {
            let (candidate, (at, used)) = if index < of_sps {
                let candidate = draw.within(0..=self.candidates.len() as i32 - 1) as usize;
                (Some(candidate), self.candidates[candidate])
            } else {
                (None, (draw.within(0..=mask as i32) as u32, draw.flag()))
            };
            cycle += u32::from(draw.u8(0..=2));
            let delta =
                |at: u32, cycle: u32| i64::from(at) - i64::from(lsb) - (i64::from(cycle) << self.lsb_bits());
            let new = delta(at, cycle);
            let taken = short.iter().flatten().any(|name| name.delta == new)
                || entries.iter().any(|entry| delta(entry.lsb, entry.cycle) == new);
            if !taken {
                entries.push(LongTerm {
                    candidate,
                    lsb: at,
                    used,
                    msb: draw.flag(),
                    cycle,
                });
            }
        }
        entries
    }

    fn write_sets(&self, w: &mut BitWriter<'_>, short_term: &CodedSet, long_term: &[LongTerm]) {
        let index = match short_term.coding {
            Coding::Index(index) => Some(index),
            _ => None,
        };
        w.flag(index.is_some());
        match index {
            Some(index) => w.bits(choice_bits(self.sets.len()), index as u64),
            None => short_term.write(w, self.sets.len(), true),
        }
        if !has(self.sps.flags, V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT) {
            return;
        }
        let of_sps = long_term.iter().filter(|entry| entry.candidate.is_some()).count();
        if !self.candidates.is_empty() {
            w.ue(of_sps as u32);
        }
        w.ue((long_term.len() - of_sps) as u32);
        let mut before = 0;
        for (index, entry) in long_term.iter().enumerate() {
            if index == of_sps {
                before = 0;
            }
            match entry.candidate {
                Some(candidate) => w.bits(choice_bits(self.candidates.len()), candidate as u64),
                None => {
                    w.bits(self.lsb_bits(), entry.lsb.into());
                    w.flag(entry.used);
                }
            }
            w.flag(entry.msb);
            if entry.msb {
                w.ue(entry.cycle - before);
                before = entry.cycle;
            }
        }
    }

    /// Draws a slice segment at `address`. Returns its unit, and its data as it stands in it.
    fn segment(
        &self,
        draw: &mut Draw<'_>,
        address: u32,
        lsb: u32,
        total: usize,
        sets: &dyn Fn(&mut BitWriter<'_>),
    ) -> (Vec<u8>, Vec<u8>) {
        let flag = |flag: u64| has(self.pps.flags, flag);
        let blocks = self.blocks();
        let mut data: Vec<u8> = (0..draw.within(0..=DATA))
            .map(|_| draw.byte().saturating_sub(100))
            .collect();
        data.push(0x80);
        let header = unit([0x02, 1], |w| {
            w.flag(address == 0);
            w.ue(self.pps.pic_parameter_set_id.into());
            let mut dependent = false;
            if address > 0 {
                if flag(V4L2_HEVC_PPS_FLAG_DEPENDENT_SLICE_SEGMENT_ENABLED) {
                    dependent = draw.flag();
                    w.flag(dependent);
                }
                w.bits(choice_bits((blocks.0 * blocks.1) as usize), address.into());
            }
            if !dependent {
                self.independent(w, draw, lsb, total, sets);
            }
            if flag(V4L2_HEVC_PPS_FLAG_ENTROPY_CODING_SYNC_ENABLED) {
                let count = draw.within(0..=(blocks.1 as i32 - 1).min(31)) as u32;
                w.ue(count);
                if count > 0 {
                    let bits = draw.within(1..=20) as u32;
                    w.ue(bits - 1);
                    (0..count).for_each(|_| w.bits(bits, draw.within(0..=3) as u64));
                }
            }
            if flag(V4L2_HEVC_PPS_FLAG_SLICE_SEGMENT_HEADER_EXTENSION_PRESENT) {
                let len = draw.u8(0..=9);
                w.ue(len.into());
                (0..len).for_each(|_| w.bits(8, draw.byte().saturating_sub(200).into()));
            }
        });
        // The header ends in a byte that is not zero, so the data has its own emulation prevention.
        let data = protect(&data);
        ([header, data.clone()].concat(), data)
    }

    fn independent(
        &self,
        w: &mut BitWriter<'_>,
        draw: &mut Draw<'_>,
        lsb: u32,
        total: usize,
        sets: &dyn Fn(&mut BitWriter<'_>),
    ) {
        let flag = |flag: u64| has(self.pps.flags, flag);
        w.bits(self.pps.num_extra_slice_header_bits.into(), draw.byte().into());
        let slice_type = if total == 0 { 2 } else { draw.u8(0..=2) };
        let (b, intra) = (slice_type == 0, slice_type == 2);
        w.ue(slice_type.into());
        if flag(V4L2_HEVC_PPS_FLAG_OUTPUT_FLAG_PRESENT) {
            w.flag(draw.flag());
        }
        w.bits(self.lsb_bits(), lsb.into());
        sets(w);
        let temporal_mvp = has(self.sps.flags, V4L2_HEVC_SPS_FLAG_SPS_TEMPORAL_MVP_ENABLED) && {
            let enabled = draw.flag();
            w.flag(enabled);
            enabled
        };
        let sao = has(self.sps.flags, V4L2_HEVC_SPS_FLAG_SAMPLE_ADAPTIVE_OFFSET)
            .then(|| [draw.flag(), draw.flag()]);
        sao.iter().flatten().for_each(|sao| w.flag(*sao));
        if !intra {
            let mut active = [
                self.pps.num_ref_idx_l0_default_active_minus1,
                self.pps.num_ref_idx_l1_default_active_minus1,
            ];
            let override_active = draw.flag();
            w.flag(override_active);
            let lists = if b { 2 } else { 1 };
            if override_active {
                for active in &mut active[..lists] {
                    *active = draw.u8(0..=5);
                    w.ue((*active).into());
                }
            }
            if flag(V4L2_HEVC_PPS_FLAG_LISTS_MODIFICATION_PRESENT) && total > 1 {
                for active in &active[..lists] {
                    let modified = draw.flag();
                    w.flag(modified);
                    for _ in 0..=*active {
                        if modified {
                            w.bits(choice_bits(total), draw.within(0..=total as i32 - 1) as u64);
                        }
                    }
                }
            }
            if b {
                w.flag(draw.flag());
            }
            if flag(V4L2_HEVC_PPS_FLAG_CABAC_INIT_PRESENT) {
                w.flag(draw.flag());
            }
            if temporal_mvp {
                let from_l0 = !b || draw.flag();
                if b {
                    w.flag(from_l0);
                }
                let most = active[usize::from(!from_l0)];
                if most > 0 {
                    w.ue(draw.u8(0..=most).into());
                }
            }
            w.ue(draw.u8(0..=4).into());
        }
        w.se(draw.within(-20..=20));
        if flag(V4L2_HEVC_PPS_FLAG_PPS_SLICE_CHROMA_QP_OFFSETS_PRESENT) {
            w.se(draw.within(-12..=12));
            w.se(draw.within(-12..=12));
        }
        let deblocking_override = flag(V4L2_HEVC_PPS_FLAG_DEBLOCKING_FILTER_OVERRIDE_ENABLED) && {
            let overridden = draw.flag();
            w.flag(overridden);
            overridden
        };
        let mut deblocking_disabled = flag(V4L2_HEVC_PPS_FLAG_PPS_DISABLE_DEBLOCKING_FILTER);
        if deblocking_override {
            deblocking_disabled = draw.flag();
            w.flag(deblocking_disabled);
            if !deblocking_disabled {
                w.se(draw.within(-6..=6));
                w.se(draw.within(-6..=6));
            }
        }
        let any_sao = sao.is_some_and(|sao| sao[0] || sao[1]);
        if flag(V4L2_HEVC_PPS_FLAG_PPS_LOOP_FILTER_ACROSS_SLICES_ENABLED) && (any_sao || !deblocking_disabled)
        {
            w.flag(draw.flag());
        }
    }
}

/// Returns the control of a picture: the pictures that the client has, in the order of decoding.
fn parameters(poc: i32, named: &[Vec<NamedPicture>; 3]) -> V4l2CtrlHevcDecodeParams {
    let mut params = V4l2CtrlHevcDecodeParams {
        pic_order_cnt_val: poc,
        ..Default::default()
    };
    let mut deltas: Vec<(i64, bool)> = Vec::new();
    for (kind, names) in named.iter().enumerate() {
        deltas.extend(
            names
                .iter()
                .filter(|name| name.present)
                .map(|name| (name.delta, kind == 2)),
        );
    }
    deltas.sort_unstable();
    for (entry, &(delta, long_term)) in params.dpb.iter_mut().zip(&deltas) {
        entry.pic_order_cnt_val = (i64::from(poc) + delta) as i32;
        entry.timestamp = ((1 << 40) + delta) as u64;
        entry.flags = u8::from(long_term);
        params.num_active_dpb_entries += 1;
    }
    let lists = [
        (&mut params.poc_st_curr_before, &mut params.num_poc_st_curr_before),
        (&mut params.poc_st_curr_after, &mut params.num_poc_st_curr_after),
        (&mut params.poc_lt_curr, &mut params.num_poc_lt_curr),
    ];
    for (names, (list, count)) in named.iter().zip(lists) {
        for (index, name) in list.iter_mut().zip(names.iter().filter(|name| name.used)) {
            let at = deltas.iter().position(|(delta, _)| *delta == name.delta);
            *index = at.filter(|_| name.present).map_or(0xff, |at| at as u8);
            *count += 1;
        }
    }
    params
}

/// Returns a NAL unit without a start code.
fn unit(header: [u8; 2], write: impl FnOnce(&mut BitWriter<'_>)) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut w = BitWriter::new(&mut payload);
    write(&mut w);
    w.trailing();
    [header.to_vec(), protect(&payload)].concat()
}

/// Inserts the bytes that prevent start codes.
pub(super) fn protect(payload: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        out.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    out
}
