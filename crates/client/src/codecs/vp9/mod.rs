// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP9: frames to jobs.
//!
//! The payload is the whole frame (uncompressed header, compressed header, tiles). Headers are parsed by
//! cros-codecs; the eight reference slots are kept here, by timestamp. A frame with `show_existing_frame`
//! is no job: the client shows an earlier picture. `VP9_COMPRESSED_HDR` is not sent: it is optional for
//! devices that parse the compressed header themselves, as the one under test does.

pub(super) mod chromium;
pub(super) mod ffmpeg;

use std::collections::VecDeque;

use cros_codecs::codec::vp9::parser::{
    ALTREF_FRAME, ColorRange, FrameType, GOLDEN_FRAME, Header, InterpolationFilter, LAST_FRAME,
    Parser as HeaderParser,
};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP9_FRAME, V4L2_VP9_FRAME_FLAG_ALLOW_HIGH_PREC_MV,
    V4L2_VP9_FRAME_FLAG_COLOR_RANGE_FULL_SWING, V4L2_VP9_FRAME_FLAG_ERROR_RESILIENT,
    V4L2_VP9_FRAME_FLAG_INTRA_ONLY, V4L2_VP9_FRAME_FLAG_KEY_FRAME, V4L2_VP9_FRAME_FLAG_PARALLEL_DEC_MODE,
    V4L2_VP9_FRAME_FLAG_REFRESH_FRAME_CTX, V4L2_VP9_FRAME_FLAG_SHOW_FRAME, V4L2_VP9_FRAME_FLAG_X_SUBSAMPLING,
    V4L2_VP9_FRAME_FLAG_Y_SUBSAMPLING, V4L2_VP9_INTERP_FILTER_BILINEAR, V4L2_VP9_INTERP_FILTER_EIGHTTAP,
    V4L2_VP9_INTERP_FILTER_EIGHTTAP_SHARP, V4L2_VP9_INTERP_FILTER_EIGHTTAP_SMOOTH,
    V4L2_VP9_INTERP_FILTER_SWITCHABLE, V4L2_VP9_LOOP_FILTER_FLAG_DELTA_ENABLED,
    V4L2_VP9_LOOP_FILTER_FLAG_DELTA_UPDATE, V4L2_VP9_RESET_FRAME_CTX_ALL, V4L2_VP9_RESET_FRAME_CTX_NONE,
    V4L2_VP9_RESET_FRAME_CTX_SPEC, V4L2_VP9_SEGMENTATION_FLAG_ABS_OR_DELTA_UPDATE,
    V4L2_VP9_SEGMENTATION_FLAG_ENABLED, V4L2_VP9_SEGMENTATION_FLAG_TEMPORAL_UPDATE,
    V4L2_VP9_SEGMENTATION_FLAG_UPDATE_DATA, V4L2_VP9_SEGMENTATION_FLAG_UPDATE_MAP, V4l2CtrlVp9Frame,
    V4l2Vp9LoopFilter, V4l2Vp9Quantization, V4l2Vp9Segmentation,
};

use crate::bits::flags;
use crate::coded::{CodedJob, Control, Event, Parser, Visible};

/// Parses a stream of VP9 frames and superframes.
#[derive(Debug, Default)]
pub(crate) struct Vp9Parser {
    headers: HeaderParser,
    /// Timestamp of the picture in each reference slot.
    slots: [Option<u64>; 8],
    frames: u64,
}

impl Vp9Parser {
    /// Returns a parser at the start of a stream.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn frame(&mut self, frame: &[u8], events: &mut VecDeque<Event>) -> Result<(), String> {
        let header = self.headers.parse_frame(frame, 0, frame.len())?.header;
        if header.show_existing_frame {
            // A slot that was never filled shows nothing: what a decoder does at a stream's broken start.
            let slot = usize::from(header.frame_to_show_map_idx & 7);
            events.extend(self.slots[slot].map(Event::Show));
            return Ok(());
        }
        let key = header.frame_type == FrameType::KeyFrame;
        let references: [Option<u64>; 3] = if key || header.intra_only {
            [None; 3]
        } else {
            header
                .ref_frame_idx
                .map(|index| self.slots[usize::from(index & 7)])
        };
        if !key && !header.intra_only && references.contains(&None) {
            // Pictures before the first key frame of a stream that was joined late. The slots that this
            // frame would have filled no longer hold what the stream means by them.
            self.refresh(&header, None);
            return Ok(());
        }
        let (Ok(width), Ok(height)) = (
            u16::try_from(header.width.wrapping_sub(1)),
            u16::try_from(header.height.wrapping_sub(1)),
        ) else {
            return Err("a frame's size is zero or more than 65536".into());
        };
        self.frames += 1;
        let timestamp = self.frames * 1000;
        let control = frame_control(&header, (width, height), references);
        self.refresh(&header, Some(timestamp));
        events.push_back(Event::Job(Box::new(CodedJob {
            timestamp,
            payload: frame.to_vec(),
            controls: vec![Control::new(V4L2_CID_STATELESS_VP9_FRAME, &control)],
            coded_width: header.width,
            coded_height: header.height,
            bit_depth: header.bit_depth as u8,
            visible: Visible {
                left: 0,
                top: 0,
                width: header.width,
                height: header.height,
            },
            key,
            hold_capture: false,
            same_capture: false,
            references: self.slots.iter().flatten().copied().collect(),
            shows: Vec::new(),
            unit: None,
        })));
        if header.show_frame {
            events.push_back(Event::Show(timestamp));
        }
        Ok(())
    }

    fn refresh(&mut self, header: &Header, picture: Option<u64>) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if (header.refresh_frame_flags >> index) & 1 != 0 {
                *slot = picture;
            }
        }
    }
}

impl Parser for Vp9Parser {
    fn parse(&mut self, unit: &[u8], events: &mut VecDeque<Event>) -> Result<(), String> {
        for frame in superframe(unit)? {
            // A frame without data repeats the one before it (VP9 Annex B); decoders ignore it.
            if !frame.is_empty() {
                self.frame(frame, events)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, _events: &mut VecDeque<Event>) {}
}

/// Returns the frames of a superframe (VP9 Annex B); of anything else, the unit itself.
fn superframe(unit: &[u8]) -> Result<Vec<&[u8]>, String> {
    let Some(&marker) = unit.last() else {
        return Ok(Vec::new());
    };
    if marker & 0xe0 != 0xc0 {
        return Ok(vec![unit]);
    }
    let size_bytes = usize::from((marker >> 3) & 3) + 1;
    let count = usize::from(marker & 7) + 1;
    let Some(index) = unit.len().checked_sub(2 + size_bytes * count) else {
        return Ok(vec![unit]);
    };
    if unit[index] != marker {
        return Ok(vec![unit]);
    }
    let mut rest = &unit[..index];
    let mut frames = Vec::with_capacity(count);
    for size in unit[index + 1..unit.len() - 1].chunks_exact(size_bytes) {
        let size = size
            .iter()
            .rev()
            .fold(0, |value, byte| (value << 8) | usize::from(*byte));
        if size > rest.len() {
            return Err("a superframe's sizes exceed its data".into());
        }
        let (frame, behind) = rest.split_at(size);
        frames.push(frame);
        rest = behind;
    }
    Ok(frames)
}

fn frame_control(
    header: &Header,
    (width, height): (u16, u16),
    references: [Option<u64>; 3],
) -> V4l2CtrlVp9Frame {
    let intra = header.frame_type == FrameType::KeyFrame || header.intra_only;
    // A frame names references that intra frames do not have: those are no picture's timestamp.
    let [last, golden, alt] = references.map(Option::unwrap_or_default);
    let sign_bias = |reference: usize| header.ref_frame_sign_bias[reference] != 0;
    V4l2CtrlVp9Frame {
        lf: loop_filter(header),
        quant: V4l2Vp9Quantization {
            base_q_idx: header.quant.base_q_idx,
            delta_q_y_dc: header.quant.delta_q_y_dc,
            delta_q_uv_dc: header.quant.delta_q_uv_dc,
            delta_q_uv_ac: header.quant.delta_q_uv_ac,
            ..Default::default()
        },
        seg: segmentation(header),
        flags: flags([
            (
                header.frame_type == FrameType::KeyFrame,
                V4L2_VP9_FRAME_FLAG_KEY_FRAME,
            ),
            (header.show_frame, V4L2_VP9_FRAME_FLAG_SHOW_FRAME),
            (header.error_resilient_mode, V4L2_VP9_FRAME_FLAG_ERROR_RESILIENT),
            (header.intra_only, V4L2_VP9_FRAME_FLAG_INTRA_ONLY),
            (
                header.allow_high_precision_mv,
                V4L2_VP9_FRAME_FLAG_ALLOW_HIGH_PREC_MV,
            ),
            (
                header.refresh_frame_context,
                V4L2_VP9_FRAME_FLAG_REFRESH_FRAME_CTX,
            ),
            (
                header.frame_parallel_decoding_mode,
                V4L2_VP9_FRAME_FLAG_PARALLEL_DEC_MODE,
            ),
            (header.subsampling_x, V4L2_VP9_FRAME_FLAG_X_SUBSAMPLING),
            (header.subsampling_y, V4L2_VP9_FRAME_FLAG_Y_SUBSAMPLING),
            (
                header.color_range == ColorRange::FullSwing,
                V4L2_VP9_FRAME_FLAG_COLOR_RANGE_FULL_SWING,
            ),
        ]),
        compressed_header_size: header.header_size_in_bytes,
        uncompressed_header_size: header.uncompressed_header_size_in_bytes,
        frame_width_minus_1: width,
        frame_height_minus_1: height,
        render_width_minus_1: (header.render_width.wrapping_sub(1)) as u16,
        render_height_minus_1: (header.render_height.wrapping_sub(1)) as u16,
        last_frame_ts: last,
        golden_frame_ts: golden,
        alt_frame_ts: alt,
        ref_frame_sign_bias: if intra {
            0
        } else {
            flags([
                (sign_bias(LAST_FRAME), 1),
                (sign_bias(GOLDEN_FRAME), 2),
                (sign_bias(ALTREF_FRAME), 4),
            ])
        },
        // 0 and 1 of the syntax element both mean that nothing is reset (VP9 7.2).
        reset_frame_context: match header.reset_frame_context {
            2 => V4L2_VP9_RESET_FRAME_CTX_SPEC,
            3 => V4L2_VP9_RESET_FRAME_CTX_ALL,
            _ => V4L2_VP9_RESET_FRAME_CTX_NONE,
        },
        frame_context_idx: header.frame_context_idx,
        profile: header.profile as u8,
        bit_depth: header.bit_depth as u8,
        interpolation_filter: match header.interpolation_filter {
            InterpolationFilter::EightTap => V4L2_VP9_INTERP_FILTER_EIGHTTAP,
            InterpolationFilter::EightTapSmooth => V4L2_VP9_INTERP_FILTER_EIGHTTAP_SMOOTH,
            InterpolationFilter::EightTapSharp => V4L2_VP9_INTERP_FILTER_EIGHTTAP_SHARP,
            InterpolationFilter::Bilinear => V4L2_VP9_INTERP_FILTER_BILINEAR,
            InterpolationFilter::Switchable => V4L2_VP9_INTERP_FILTER_SWITCHABLE,
        },
        tile_cols_log2: header.tile_cols_log2,
        tile_rows_log2: header.tile_rows_log2,
        // It is in the compressed header, which the device parses.
        reference_mode: 0,
        reserved: [0; 7],
    }
}

fn loop_filter(header: &Header) -> V4l2Vp9LoopFilter {
    V4l2Vp9LoopFilter {
        ref_deltas: header.lf.ref_deltas,
        mode_deltas: header.lf.mode_deltas,
        level: header.lf.level,
        sharpness: header.lf.sharpness,
        flags: flags([
            (header.lf.delta_enabled, V4L2_VP9_LOOP_FILTER_FLAG_DELTA_ENABLED),
            (
                header.lf.delta_enabled && header.lf.delta_update,
                V4L2_VP9_LOOP_FILTER_FLAG_DELTA_UPDATE,
            ),
        ]),
        ..Default::default()
    }
}

fn segmentation(header: &Header) -> V4l2Vp9Segmentation {
    let seg = &header.seg;
    let enabled = seg.enabled;
    V4l2Vp9Segmentation {
        feature_data: seg.feature_data,
        feature_enabled: seg.feature_enabled.map(|features| {
            (0..)
                .zip(features)
                .fold(0, |all, (index, set)| all | (u8::from(set) << index))
        }),
        tree_probs: seg.tree_probs,
        pred_probs: seg.pred_probs,
        flags: flags([
            (enabled, V4L2_VP9_SEGMENTATION_FLAG_ENABLED),
            (enabled && seg.update_map, V4L2_VP9_SEGMENTATION_FLAG_UPDATE_MAP),
            (
                enabled && seg.update_map && seg.temporal_update,
                V4L2_VP9_SEGMENTATION_FLAG_TEMPORAL_UPDATE,
            ),
            (enabled && seg.update_data, V4L2_VP9_SEGMENTATION_FLAG_UPDATE_DATA),
            (
                enabled && seg.abs_or_delta_update,
                V4L2_VP9_SEGMENTATION_FLAG_ABS_OR_DELTA_UPDATE,
            ),
        ]),
        reserved: [0; 5],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superframe_splits_by_its_index() {
        let unit = [1, 2, 3, 4, 5, 0xc1, 2, 3, 0xc1];
        assert_eq!(superframe(&unit).unwrap(), [&[1, 2][..], &[3, 4, 5]]);
        assert_eq!(superframe(&[1, 2, 3]).unwrap(), [[1, 2, 3]]);
        assert_eq!(superframe(&[0xc7]).unwrap(), [[0xc7]]);
        assert!(superframe(&[]).unwrap().is_empty());
        assert!(superframe(&[1, 0xc0, 9, 0xc0]).is_err());
    }
}
