// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sequence header (5.5).

use daedalus_uapi::v4l2_controls::*;

use super::error::{Av1Error, at_most};
use super::obu::ObuType;
use crate::bits::{BitWriter, leb128};

/// Flags of tools of which the frame control says whether a frame uses them. Set for every sequence: the
/// frame's header always codes that, and frames whose sequence controls differ only in these flags are of one
/// sequence.
const TOOLS: u32 = V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES
    | V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS
    | V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION
    | V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION
    | V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q;

/// Width and height that are written as the sequence's largest: every frame codes its own.
pub(super) const MAX_SIZE: (u32, u32) = (0x1_0000, 0x1_0000);

/// The sequence control, checked, with what the syntax derives from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SequenceInfo {
    /// As it is written: with [`TOOLS`] and [`MAX_SIZE`].
    control: V4l2CtrlAv1Sequence,
    /// `mono_chrome`.
    pub(super) mono_chrome: bool,
    /// `subsampling_x` and `subsampling_y`.
    pub(super) subsampling: (bool, bool),
    /// `OrderHintBits`; 0 without `enable_order_hint`.
    pub(super) order_hint_bits: u32,
}

impl SequenceInfo {
    pub(super) fn new(control: &V4l2CtrlAv1Sequence) -> Result<Self, Av1Error> {
        at_most("seq_profile", control.seq_profile, 2)?;
        let depth_coded = match control.bit_depth {
            8 | 10 => true,
            12 => control.seq_profile == 2,
            _ => false,
        };
        if !depth_coded {
            return Err(Av1Error::OutOfRange {
                field: "bit_depth",
                value: control.bit_depth.into(),
            });
        }
        let flag = |f: u32| control.flags & f != 0;
        let mono_chrome = control.seq_profile != 1 && flag(V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME);
        let subsampling = match (mono_chrome, control.seq_profile, control.bit_depth) {
            (true, ..) | (_, 0, _) => (true, true),
            (_, 1, _) => (false, false),
            (_, _, 12) => {
                let x = flag(V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X);
                (x, x && flag(V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y))
            }
            _ => (true, false),
        };
        let order_hint = flag(V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT);
        if order_hint && !(1..=8).contains(&control.order_hint_bits) {
            let value = control.order_hint_bits.into();
            return Err(Av1Error::OutOfRange {
                field: "order_hint_bits",
                value,
            });
        }
        Ok(Self {
            control: V4l2CtrlAv1Sequence {
                flags: control.flags | TOOLS,
                max_frame_width_minus_1: (MAX_SIZE.0 - 1) as u16,
                max_frame_height_minus_1: (MAX_SIZE.1 - 1) as u16,
                ..*control
            },
            mono_chrome,
            subsampling,
            order_hint_bits: if order_hint {
                control.order_hint_bits.into()
            } else {
                0
            },
        })
    }

    /// Returns the sequence as it is written: equal ones have equal headers.
    pub(super) fn control(&self) -> &V4l2CtrlAv1Sequence {
        &self.control
    }

    /// Returns whether a `V4L2_AV1_SEQUENCE_FLAG_*` is set.
    pub(super) fn flag(&self, flag: u32) -> bool {
        self.control.flags & flag != 0
    }

    /// `NumPlanes`.
    pub(super) fn planes(&self) -> usize {
        if self.mono_chrome { 1 } else { 3 }
    }

    /// `get_relative_dist` (5.9.3).
    pub(super) fn relative_distance(&self, a: u32, b: u32) -> i32 {
        if self.order_hint_bits == 0 {
            return 0;
        }
        let difference = a.wrapping_sub(b) as i32;
        let m = 1 << (self.order_hint_bits - 1);
        (difference & (m - 1)) - (difference & m)
    }
}

/// Appends the sequence header OBU.
pub(super) fn write(sequence: &SequenceInfo, out: &mut Vec<u8>) {
    out.push(ObuType::SequenceHeader.header());
    let at = out.len();
    // A sequence header without operating parameters takes less than 128 bytes: one byte of size.
    leb128(out, 0);
    let mut w = BitWriter::new(out);
    header(&mut w, sequence);
    w.trailing();
    out[at] = (out.len() - at - 1) as u8;
}

fn header(w: &mut BitWriter<'_>, sequence: &SequenceInfo) {
    let control = &sequence.control;
    w.bits(3, control.seq_profile.into());
    let (still_picture, reduced_still_picture_header) = (false, false);
    w.flag(still_picture);
    w.flag(reduced_still_picture_header);
    let (timing_info_present, initial_display_delay_present) = (false, false);
    w.flag(timing_info_present);
    w.flag(initial_display_delay_present);
    let operating_points_cnt_minus_1 = 0;
    w.bits(5, operating_points_cnt_minus_1);
    let operating_point_idc = 0;
    w.bits(12, operating_point_idc);
    let seq_level_idx = 31;
    w.bits(5, seq_level_idx);
    let seq_tier = false;
    w.flag(seq_tier);
    let size_bits = 16;
    w.bits(4, size_bits - 1);
    w.bits(4, size_bits - 1);
    w.bits(16, control.max_frame_width_minus_1.into());
    w.bits(16, control.max_frame_height_minus_1.into());
    let frame_id_numbers_present = false;
    w.flag(frame_id_numbers_present);
    for flag in [
        V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK,
        V4L2_AV1_SEQUENCE_FLAG_ENABLE_FILTER_INTRA,
        V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTRA_EDGE_FILTER,
        V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTERINTRA_COMPOUND,
        V4L2_AV1_SEQUENCE_FLAG_ENABLE_MASKED_COMPOUND,
        V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION,
        V4L2_AV1_SEQUENCE_FLAG_ENABLE_DUAL_FILTER,
        V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT,
    ] {
        w.flag(sequence.flag(flag));
    }
    let enable_order_hint = sequence.order_hint_bits > 0;
    if enable_order_hint {
        w.flag(sequence.flag(V4L2_AV1_SEQUENCE_FLAG_ENABLE_JNT_COMP));
        w.flag(sequence.flag(V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS));
    }
    let (choose_screen_content_tools, choose_integer_mv) = (true, true);
    w.flag(choose_screen_content_tools);
    w.flag(choose_integer_mv);
    if enable_order_hint {
        w.bits(3, u64::from(sequence.order_hint_bits) - 1);
    }
    w.flag(sequence.flag(V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES));
    w.flag(sequence.flag(V4L2_AV1_SEQUENCE_FLAG_ENABLE_CDEF));
    w.flag(sequence.flag(V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION));
    color_config(w, sequence);
    w.flag(sequence.flag(V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT));
}

/// `color_config()` (5.5.2).
fn color_config(w: &mut BitWriter<'_>, sequence: &SequenceInfo) {
    let control = &sequence.control;
    let high_bitdepth = control.bit_depth > 8;
    w.flag(high_bitdepth);
    if control.seq_profile == 2 && high_bitdepth {
        let twelve_bit = control.bit_depth == 12;
        w.flag(twelve_bit);
    }
    if control.seq_profile != 1 {
        w.flag(sequence.mono_chrome);
    }
    let color_description_present = false;
    w.flag(color_description_present);
    w.flag(sequence.flag(V4L2_AV1_SEQUENCE_FLAG_COLOR_RANGE));
    if sequence.mono_chrome {
        return;
    }
    let (x, y) = sequence.subsampling;
    if control.seq_profile == 2 && control.bit_depth == 12 {
        w.flag(x);
        if x {
            w.flag(y);
        }
    }
    if x && y {
        let chroma_sample_position = 0;
        w.bits(2, chroma_sample_position);
    }
    w.flag(sequence.flag(V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q));
}
