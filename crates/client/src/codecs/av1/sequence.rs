// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The sequence header (AV1 5.5).

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_SEQUENCE_FLAG_COLOR_RANGE, V4L2_AV1_SEQUENCE_FLAG_ENABLE_CDEF,
    V4L2_AV1_SEQUENCE_FLAG_ENABLE_DUAL_FILTER, V4L2_AV1_SEQUENCE_FLAG_ENABLE_FILTER_INTRA,
    V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTERINTRA_COMPOUND, V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTRA_EDGE_FILTER,
    V4L2_AV1_SEQUENCE_FLAG_ENABLE_JNT_COMP, V4L2_AV1_SEQUENCE_FLAG_ENABLE_MASKED_COMPOUND,
    V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT, V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS,
    V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION, V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES,
    V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION, V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT,
    V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME, V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q,
    V4L2_AV1_SEQUENCE_FLAG_STILL_PICTURE, V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X,
    V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y, V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK, V4l2CtrlAv1Sequence,
};

use super::reader::{Reader, Wrong};
use crate::bits::flags;

/// `SELECT_SCREEN_CONTENT_TOOLS` and `SELECT_INTEGER_MV`: the frame header decides.
pub(super) const SELECT: u32 = 2;

/// The properties of an operating point that a frame header needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OperatingPoint {
    pub(super) idc: u32,
    pub(super) decoder_model_present: bool,
}

/// A parsed sequence header: the control, and what frame headers need beyond it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    pub(super) control: V4l2CtrlAv1Sequence,
    pub(super) reduced_still_picture_header: bool,
    pub(super) operating_points: Vec<OperatingPoint>,
    pub(super) decoder_model_info_present: bool,
    pub(super) equal_picture_interval: bool,
    pub(super) buffer_removal_time_length: u32,
    pub(super) frame_presentation_time_length: u32,
    pub(super) frame_width_bits: u32,
    pub(super) frame_height_bits: u32,
    /// `idLen`, if there are frame ids.
    pub(super) frame_id_length: Option<u32>,
    pub(super) delta_frame_id_length: u32,
    /// `seq_force_screen_content_tools`.
    pub(super) screen_content_tools: u32,
    /// `seq_force_integer_mv`.
    pub(super) integer_mv: u32,
}

impl Sequence {
    pub(super) fn has(&self, flag: u32) -> bool {
        self.control.flags & flag != 0
    }

    pub(super) fn order_hint_bits(&self) -> u32 {
        u32::from(self.control.order_hint_bits)
    }

    pub(super) fn mono_chrome(&self) -> bool {
        self.has(V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME)
    }

    /// `get_relative_dist()` (5.9.3): how far the order hint `a` lies after `b`.
    pub(super) fn relative_distance(&self, a: u32, b: u32) -> i32 {
        let bits = self.order_hint_bits();
        if bits == 0 {
            return 0;
        }
        let difference = a.wrapping_sub(b) as i32;
        let sign = 1 << (bits - 1);
        (difference & (sign - 1)) - (difference & sign)
    }

    pub(super) fn parse(payload: &[u8]) -> Result<Self, Wrong> {
        let r = &mut Reader::new(payload);
        let mut sequence = Self::default();
        sequence.control.seq_profile = r.small(3)?;
        if sequence.control.seq_profile > 2 {
            return Err("a reserved profile");
        }
        let still_picture = r.flag()?;
        sequence.reduced_still_picture_header = r.flag()?;
        sequence.operating_parameters(r)?;
        sequence.frame_width_bits = r.bits(4)? + 1;
        sequence.frame_height_bits = r.bits(4)? + 1;
        sequence.control.max_frame_width_minus_1 = r.bits(sequence.frame_width_bits)? as u16;
        sequence.control.max_frame_height_minus_1 = r.bits(sequence.frame_height_bits)? as u16;
        let reduced = sequence.reduced_still_picture_header;
        if !reduced && r.flag()? {
            sequence.delta_frame_id_length = r.bits(4)? + 2;
            sequence.frame_id_length = Some(r.bits(3)? + sequence.delta_frame_id_length + 1);
        }
        let mut all = flags([
            (still_picture, V4L2_AV1_SEQUENCE_FLAG_STILL_PICTURE),
            (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK),
            (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_FILTER_INTRA),
            (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTRA_EDGE_FILTER),
        ]);
        sequence.screen_content_tools = SELECT;
        sequence.integer_mv = SELECT;
        if !reduced {
            all |= flags([
                (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTERINTRA_COMPOUND),
                (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_MASKED_COMPOUND),
                (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION),
                (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_DUAL_FILTER),
            ]);
            let order_hint = r.flag()?;
            if order_hint {
                all |= V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT;
                all |= flags([
                    (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_JNT_COMP),
                    (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS),
                ]);
            }
            if !r.flag()? {
                sequence.screen_content_tools = r.bits(1)?;
            }
            if sequence.screen_content_tools > 0 && !r.flag()? {
                sequence.integer_mv = r.bits(1)?;
            }
            if order_hint {
                sequence.control.order_hint_bits = r.small(3)? + 1;
            }
        }
        all |= flags([
            (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES),
            (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_CDEF),
            (r.flag()?, V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION),
        ]);
        sequence.control.flags = all;
        sequence.color_config(r)?;
        if r.flag()? {
            sequence.control.flags |= V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT;
        }
        Ok(sequence)
    }

    /// Timing, decoder model and operating points.
    fn operating_parameters(&mut self, r: &mut Reader<'_>) -> Result<(), Wrong> {
        if self.reduced_still_picture_header {
            self.operating_points = vec![OperatingPoint::default()];
            r.bits(5)?;
            return Ok(());
        }
        let mut buffer_delay_length = 0;
        if r.flag()? {
            r.bits(32)?;
            r.bits(32)?;
            self.equal_picture_interval = r.flag()?;
            if self.equal_picture_interval {
                r.uvlc()?;
            }
            self.decoder_model_info_present = r.flag()?;
            if self.decoder_model_info_present {
                buffer_delay_length = r.bits(5)? + 1;
                r.bits(32)?;
                self.buffer_removal_time_length = r.bits(5)? + 1;
                self.frame_presentation_time_length = r.bits(5)? + 1;
            }
        }
        let initial_display_delay_present = r.flag()?;
        for _ in 0..=r.bits(5)? {
            let mut point = OperatingPoint {
                idc: r.bits(12)?,
                ..Default::default()
            };
            if r.bits(5)? > 7 {
                r.flag()?;
            }
            if self.decoder_model_info_present {
                point.decoder_model_present = r.flag()?;
                if point.decoder_model_present {
                    r.bits(buffer_delay_length)?;
                    r.bits(buffer_delay_length)?;
                    r.flag()?;
                }
            }
            if initial_display_delay_present && r.flag()? {
                r.bits(4)?;
            }
            self.operating_points.push(point);
        }
        Ok(())
    }

    /// `color_config()` (5.5.2).
    fn color_config(&mut self, r: &mut Reader<'_>) -> Result<(), Wrong> {
        let profile = self.control.seq_profile;
        let high = r.flag()?;
        self.control.bit_depth = match (profile, high) {
            (2, true) => {
                if r.flag()? {
                    12
                } else {
                    10
                }
            }
            (_, true) => 10,
            (_, false) => 8,
        };
        let mono_chrome = profile != 1 && r.flag()?;
        // CP_UNSPECIFIED, TC_UNSPECIFIED, MC_UNSPECIFIED.
        let mut description = [2, 2, 2];
        if r.flag()? {
            description = [r.bits(8)?, r.bits(8)?, r.bits(8)?];
        }
        let subsampling;
        let mut separate_uv_delta_q = false;
        let color_range;
        if mono_chrome {
            color_range = r.flag()?;
            subsampling = (true, true);
        } else {
            // CP_BT_709, TC_SRGB, MC_IDENTITY.
            if description == [1, 13, 0] {
                color_range = true;
                subsampling = (false, false);
            } else {
                color_range = r.flag()?;
                subsampling = match (profile, self.control.bit_depth) {
                    (0, _) => (true, true),
                    (1, _) => (false, false),
                    (_, 12) => {
                        let x = r.flag()?;
                        (x, x && r.flag()?)
                    }
                    _ => (true, false),
                };
                if subsampling == (true, true) {
                    r.bits(2)?;
                }
            }
            separate_uv_delta_q = r.flag()?;
        }
        self.control.flags |= flags([
            (mono_chrome, V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME),
            (color_range, V4L2_AV1_SEQUENCE_FLAG_COLOR_RANGE),
            (subsampling.0, V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X),
            (subsampling.1, V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y),
            (separate_uv_delta_q, V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q),
        ]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_wrap() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.relative_distance(5, 1), 0);
        sequence.control.order_hint_bits = 3;
        assert_eq!(sequence.relative_distance(5, 3), 2);
        assert_eq!(sequence.relative_distance(0, 7), 1);
        assert_eq!(sequence.relative_distance(7, 0), -1);
        assert_eq!(sequence.relative_distance(4, 0), -4);
    }
}
