// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP8: frames to jobs. Clauses are those of RFC 6386.
//!
//! The payload is the whole frame. The header is parsed to its end here, since the control has everything
//! that it says and the state of the decoder of booleans behind it.
//!
//! Reference slots are copied as libvpx copies them, the alternate one first; GStreamer does the same. FFmpeg
//! and Chromium copy both from the slots as they were, which differs in streams that no encoder is known to
//! write. Like all of them, this parser names references in the control of a key frame, too: those that the
//! slots held before.
//!
//! A job is Chromium's request as it is (media/gpu/v4l2/v4l2_video_decoder_delegate_vp8.cc, `SubmitDecode`).
//! There, vp8_decoder.cc (`DecodeAndOutputCurrentFrame`) refreshes the references when the frame was
//! submitted, and forgets them at a new size.

mod booleans;
pub(super) mod ffmpeg;

use std::collections::VecDeque;

use daedalus_codecs::vp8::tables::{
    COEFFICIENT_UPDATES, COEFFICIENTS, Coefficients, KEY_UV_MODES, KEY_Y_MODES, MOTION_VECTOR_UPDATES,
    MOTION_VECTORS, MotionVectors, UV_MODES, Y_MODES,
};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP8_FRAME, V4L2_VP8_FRAME_FLAG_EXPERIMENTAL, V4L2_VP8_FRAME_FLAG_KEY_FRAME,
    V4L2_VP8_FRAME_FLAG_MB_NO_SKIP_COEFF, V4L2_VP8_FRAME_FLAG_SHOW_FRAME, V4L2_VP8_FRAME_FLAG_SIGN_BIAS_ALT,
    V4L2_VP8_FRAME_FLAG_SIGN_BIAS_GOLDEN, V4L2_VP8_LF_ADJ_ENABLE, V4L2_VP8_LF_DELTA_UPDATE,
    V4L2_VP8_LF_FILTER_TYPE_SIMPLE, V4L2_VP8_SEGMENT_FLAG_DELTA_VALUE_MODE, V4L2_VP8_SEGMENT_FLAG_ENABLED,
    V4L2_VP8_SEGMENT_FLAG_UPDATE_FEATURE_DATA, V4L2_VP8_SEGMENT_FLAG_UPDATE_MAP, V4l2CtrlVp8Frame,
    V4l2Vp8Entropy, V4l2Vp8EntropyCoderState, V4l2Vp8LoopFilter, V4l2Vp8Quantization, V4l2Vp8Segment,
};

use crate::bits::flags;
use crate::coded::{CodedJob, Control, Event, Parser, Visible};
use booleans::Booleans;

/// Bytes of the frame tag, and of what a key frame has behind it (9.1).
const TAG: usize = 3;
const KEY_START: usize = 7;

/// The probabilities that a frame leaves to the next one.
#[derive(Clone, Debug)]
struct Probabilities {
    coefficients: Coefficients,
    motion_vectors: MotionVectors,
    y_modes: [u8; 4],
    uv_modes: [u8; 3],
}

impl Probabilities {
    /// Those that a key frame starts from.
    const INITIAL: Self = Self {
        coefficients: COEFFICIENTS,
        motion_vectors: MOTION_VECTORS,
        y_modes: Y_MODES,
        uv_modes: UV_MODES,
    };
}

/// Parses a stream of VP8 frames.
#[derive(Debug)]
pub(crate) struct Vp8Parser {
    /// Fields of the last control that stay until they are coded again.
    segment: V4l2Vp8Segment,
    filter: V4l2Vp8LoopFilter,
    probabilities: Probabilities,
    /// Width, height and their scales, of the last key frame.
    width: (u16, u8),
    height: (u16, u8),
    /// The pictures in the slots: last, golden, alternate. `None` before the first key frame.
    slots: Option<[u64; 3]>,
    frames: u64,
}

/// The changes of the slots by a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Refresh {
    last: bool,
    golden: bool,
    alternate: bool,
    /// `copy_buffer_to_golden`, `copy_buffer_to_alternate`.
    to_golden: u8,
    to_alternate: u8,
}

impl Refresh {
    /// Returns the slots after the frame (9.7).
    fn apply(self, [last, golden, alternate]: [u64; 3], picture: u64) -> [u64; 3] {
        let alternate = match self.to_alternate {
            1 => last,
            2 => golden,
            _ => alternate,
        };
        let golden = match self.to_golden {
            1 => last,
            2 => alternate,
            _ => golden,
        };
        let refresh = |refreshed, old| if refreshed { picture } else { old };
        [
            refresh(self.last, last),
            refresh(self.golden, golden),
            refresh(self.alternate, alternate),
        ]
    }
}

impl Vp8Parser {
    /// Returns a parser at the start of a stream.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            segment: V4l2Vp8Segment::default(),
            filter: V4l2Vp8LoopFilter::default(),
            probabilities: Probabilities::INITIAL,
            width: (0, 0),
            height: (0, 0),
            slots: None,
            frames: 0,
        }
    }

    /// Parses a frame; returns its control without the references, and how it changes the slots.
    fn frame(&mut self, data: &[u8]) -> Result<(V4l2CtrlVp8Frame, Refresh), String> {
        let tag = data.get(..TAG).ok_or("the frame tag is cut off")?;
        let tag = u32::from_le_bytes([tag[0], tag[1], tag[2], 0]);
        let key = tag & 1 == 0;
        let version = ((tag >> 1) & 7) as u8;
        let mut start = TAG;
        if key {
            self.start(data.get(TAG..TAG + KEY_START).ok_or("the start is cut off")?)?;
            start += KEY_START;
        }
        let first_part_size = tag >> 5;
        let end = start + first_part_size as usize;
        let first = data.get(start..end).ok_or("the first partition is cut off")?;
        let mut bits = Booleans::new(first);
        if key {
            // color_space and clamping_type have no field in the control.
            bits.literal(2);
        }
        self.segmentation(&mut bits);
        self.loop_filter(&mut bits);
        let num_dct_parts = 1 << bits.literal(2);
        let quant = quantization(&mut bits);
        let (mut refresh, mut biases) = (Refresh::default(), (false, false));
        if key {
            (refresh.last, refresh.golden, refresh.alternate) = (true, true, true);
        } else {
            (refresh.golden, refresh.alternate) = (bits.flag(), bits.flag());
            if !refresh.golden {
                refresh.to_golden = bits.literal(2) as u8;
            }
            if !refresh.alternate {
                refresh.to_alternate = bits.literal(2) as u8;
            }
            biases = (bits.flag(), bits.flag());
        }
        // refresh_entropy_probs: without it, the updates below are for this frame alone.
        let backup = (!bits.flag()).then(|| self.probabilities.clone());
        if !key {
            refresh.last = bits.flag();
        }
        for (updates, own) in COEFFICIENT_UPDATES
            .iter()
            .zip(&mut self.probabilities.coefficients)
        {
            for (update, own) in updates.iter().zip(own) {
                if bits.boolean(*update) {
                    *own = bits.literal(8) as u8;
                }
            }
        }
        let skips = bits.flag();
        let mut frame = V4l2CtrlVp8Frame {
            prob_skip_false: if skips { bits.literal(8) as u8 } else { 0 },
            ..Default::default()
        };
        if !key {
            frame.prob_intra = bits.literal(8) as u8;
            frame.prob_last = bits.literal(8) as u8;
            frame.prob_gf = bits.literal(8) as u8;
            self.modes(&mut bits);
        }
        frame.segment = self.segment;
        frame.lf = self.filter;
        frame.quant = quant;
        frame.entropy = entropy(&self.probabilities, key);
        let (range, value, bit_count) = bits.state();
        frame.coder_state = V4l2Vp8EntropyCoderState {
            range,
            value,
            bit_count,
            padding: 0,
        };
        (frame.width, frame.horizontal_scale) = self.width;
        (frame.height, frame.vertical_scale) = self.height;
        frame.version = version & 3;
        frame.num_dct_parts = num_dct_parts;
        frame.first_part_size = first_part_size;
        frame.first_part_header_bits = bits.consumed();
        frame.dct_part_sizes = sizes(&data[end..], usize::from(num_dct_parts))?;
        frame.flags = flags([
            (key, V4L2_VP8_FRAME_FLAG_KEY_FRAME),
            (version & 4 != 0, V4L2_VP8_FRAME_FLAG_EXPERIMENTAL),
            (tag & 0x10 != 0, V4L2_VP8_FRAME_FLAG_SHOW_FRAME),
            (skips, V4L2_VP8_FRAME_FLAG_MB_NO_SKIP_COEFF),
            (biases.0, V4L2_VP8_FRAME_FLAG_SIGN_BIAS_GOLDEN),
            (biases.1, V4L2_VP8_FRAME_FLAG_SIGN_BIAS_ALT),
        ]);
        if let Some(backup) = backup {
            self.probabilities = backup;
        }
        Ok((frame, refresh))
    }

    /// Parses start code and size of a key frame, which forgets all that frames leave to the next one (9.1,
    /// 9.3, 9.6).
    fn start(&mut self, start: &[u8]) -> Result<(), String> {
        let [0x9d, 0x01, 0x2a, width_low, width_high, height_low, height_high] = *start else {
            return Err("the start code is missing".into());
        };
        let dimension = |low, high: u8| (u16::from_le_bytes([low, high & 0x3f]), high >> 6);
        self.width = dimension(width_low, width_high);
        self.height = dimension(height_low, height_high);
        if self.width.0 == 0 || self.height.0 == 0 {
            return Err("the size is zero".into());
        }
        self.segment = V4l2Vp8Segment::default();
        self.filter = V4l2Vp8LoopFilter::default();
        self.probabilities = Probabilities::INITIAL;
        Ok(())
    }

    /// `update_segmentation()` (19.2).
    fn segmentation(&mut self, bits: &mut Booleans<'_>) {
        let segment = &mut self.segment;
        let absolute = segment.flags & V4L2_VP8_SEGMENT_FLAG_DELTA_VALUE_MODE == 0;
        let (mut map, mut values, mut delta) = (false, false, !absolute);
        let enabled = bits.flag();
        if enabled {
            (map, values) = (bits.flag(), bits.flag());
        }
        if values {
            delta = !bits.flag();
            for value in &mut segment.quant_update {
                *value = bits.optional_signed(7).unwrap_or_default();
            }
            for value in &mut segment.lf_update {
                *value = bits.optional_signed(6).unwrap_or_default();
            }
        }
        if map {
            for probability in &mut segment.segment_probs {
                *probability = if bits.flag() { bits.literal(8) as u8 } else { 255 };
            }
        }
        segment.flags = flags([
            (enabled, V4L2_VP8_SEGMENT_FLAG_ENABLED),
            (map, V4L2_VP8_SEGMENT_FLAG_UPDATE_MAP),
            (values, V4L2_VP8_SEGMENT_FLAG_UPDATE_FEATURE_DATA),
            (delta, V4L2_VP8_SEGMENT_FLAG_DELTA_VALUE_MODE),
        ]);
    }

    /// `filter_type` to `mb_lf_adjustments()` (19.2).
    fn loop_filter(&mut self, bits: &mut Booleans<'_>) {
        let filter = &mut self.filter;
        let simple = bits.flag();
        filter.level = bits.literal(6) as u8;
        filter.sharpness_level = bits.literal(3) as u8;
        let enabled = bits.flag();
        let update = enabled && bits.flag();
        if update {
            let deltas = filter.ref_frm_delta.iter_mut().chain(&mut filter.mb_mode_delta);
            for delta in deltas {
                *delta = bits.optional_signed(6).unwrap_or(*delta);
            }
        }
        filter.flags = flags([
            (enabled, V4L2_VP8_LF_ADJ_ENABLE),
            (update, V4L2_VP8_LF_DELTA_UPDATE),
            (simple, V4L2_VP8_LF_FILTER_TYPE_SIMPLE),
        ]);
    }

    /// The probabilities of modes and motion vectors (16.2, 17.2).
    fn modes(&mut self, bits: &mut Booleans<'_>) {
        let own = &mut self.probabilities;
        for modes in [&mut own.y_modes[..], &mut own.uv_modes[..]] {
            if bits.flag() {
                modes.fill_with(|| bits.literal(8) as u8);
            }
        }
        for (updates, own) in MOTION_VECTOR_UPDATES.iter().zip(&mut own.motion_vectors) {
            for (update, own) in updates.iter().zip(own) {
                if bits.boolean(*update) {
                    let value = bits.literal(7) as u8;
                    *own = if value == 0 { 1 } else { value << 1 };
                }
            }
        }
    }
}

/// `quant_indices()` (19.2).
fn quantization(bits: &mut Booleans<'_>) -> V4l2Vp8Quantization {
    let mut quant = V4l2Vp8Quantization {
        y_ac_qi: bits.literal(7) as u8,
        ..Default::default()
    };
    let deltas = [
        &mut quant.y_dc_delta,
        &mut quant.y2_dc_delta,
        &mut quant.y2_ac_delta,
        &mut quant.uv_dc_delta,
        &mut quant.uv_ac_delta,
    ];
    for delta in deltas {
        *delta = bits.optional_signed(4).unwrap_or_default();
    }
    quant
}

/// Returns the probabilities in force.
fn entropy(own: &Probabilities, key: bool) -> V4l2Vp8Entropy {
    let mut entropy = V4l2Vp8Entropy {
        y_mode_probs: if key { KEY_Y_MODES } else { own.y_modes },
        uv_mode_probs: if key { KEY_UV_MODES } else { own.uv_modes },
        mv_probs: own.motion_vectors,
        ..Default::default()
    };
    let to = entropy.coeff_probs.iter_mut().flatten().flatten();
    to.zip(&own.coefficients).for_each(|(to, own)| *to = *own);
    entropy
}

/// Returns the sizes of the partitions of coefficients, whose table is in front of them (9.5).
fn sizes(data: &[u8], count: usize) -> Result<[u32; 8], String> {
    let mut sizes = [0; 8];
    let table = data
        .get(..3 * (count - 1))
        .ok_or("the table of sizes is cut off")?;
    let mut end = table.len();
    for (size, bytes) in sizes.iter_mut().zip(table.chunks(3)) {
        *size = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        end += *size as usize;
    }
    let rest = data.len().checked_sub(end).ok_or("a partition is cut off")?;
    sizes[count - 1] = u32::try_from(rest).map_err(|_| "the frame is too long")?;
    Ok(sizes)
}

impl Parser for Vp8Parser {
    fn parse(&mut self, unit: &[u8], events: &mut VecDeque<Event>) -> Result<(), String> {
        // A unit without data says that the encoder dropped a frame. Decoders show nothing new for it.
        if unit.is_empty() {
            return Ok(());
        }
        let key = unit[0] & 1 == 0;
        if !key && self.slots.is_none() {
            // Pictures before the first key frame of a stream that was joined late.
            return Ok(());
        }
        let (mut frame, refresh) = self.frame(unit)?;
        self.frames += 1;
        let timestamp = self.frames * 1000;
        let before = self.slots.unwrap_or_default();
        [frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts] = before;
        let after = refresh.apply(before, timestamp);
        self.slots = Some(after);
        let (width, height) = (u32::from(frame.width), u32::from(frame.height));
        let mut references = after.to_vec();
        references.sort_unstable();
        references.dedup();
        events.push_back(Event::Job(Box::new(CodedJob {
            timestamp,
            payload: unit.to_vec(),
            controls: vec![Control::new(V4L2_CID_STATELESS_VP8_FRAME, &frame)],
            coded_width: width,
            coded_height: height,
            bit_depth: 8,
            visible: Visible {
                left: 0,
                top: 0,
                width,
                height,
            },
            key,
            hold_capture: false,
            same_capture: false,
            references,
            shows: Vec::new(),
            unit: None,
        })));
        if frame.flags & V4L2_VP8_FRAME_FLAG_SHOW_FRAME != 0 {
            events.push_back(Event::Show(timestamp));
        }
        Ok(())
    }

    fn finish(&mut self, _events: &mut VecDeque<Event>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_copied_before_they_are_refreshed() {
        let slots = [1, 2, 3];
        let both = Refresh {
            to_golden: 2,
            to_alternate: 2,
            ..Refresh::default()
        };
        assert_eq!(both.apply(slots, 9), [1, 2, 2]);
        let golden = Refresh {
            last: true,
            golden: true,
            to_alternate: 2,
            ..Refresh::default()
        };
        assert_eq!(golden.apply(slots, 9), [9, 9, 2]);
        let last = Refresh {
            last: true,
            to_golden: 1,
            ..Refresh::default()
        };
        assert_eq!(last.apply(slots, 9), [9, 1, 3]);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        assert!(sizes(&[1, 0, 0, 5, 6], 2).is_ok_and(|sizes| sizes[..3] == [1, 1, 0]));
        assert!(sizes(&[1, 0], 2).is_err() && sizes(&[1, 0, 0], 2).is_err());
        let mut parser = Vp8Parser::new();
        let mut events = VecDeque::new();
        // An inter frame before any key frame is no job, and no error.
        assert!(parser.parse(&[1, 0, 0], &mut events).is_ok() && events.is_empty());
        assert!(parser.parse(&[], &mut events).is_ok() && events.is_empty());
        assert!(
            parser
                .parse(&[0, 0, 0, 0x9d, 1, 0x2a, 16, 0, 16], &mut events)
                .is_err()
        );
        assert!(
            parser
                .parse(&[0, 0, 0, 0x9d, 1, 0x2b, 16, 0, 16, 0], &mut events)
                .is_err()
        );
        assert!(
            parser
                .parse(&[0, 0, 0, 0x9d, 1, 0x2a, 0, 0, 16, 0], &mut events)
                .is_err()
        );
        assert!(
            parser
                .parse(&[0, 1, 0, 0x9d, 1, 0x2a, 16, 0, 16, 0], &mut events)
                .is_err()
        );
        assert!(events.is_empty());
    }
}
