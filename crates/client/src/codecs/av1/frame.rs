// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The frame header (AV1 5.9.2) and the state that it depends on: the reference slots.

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FRAME_FLAG_ALLOW_HIGH_PRECISION_MV, V4L2_AV1_FRAME_FLAG_ALLOW_INTRABC,
    V4L2_AV1_FRAME_FLAG_ALLOW_SCREEN_CONTENT_TOOLS, V4L2_AV1_FRAME_FLAG_ALLOW_WARPED_MOTION,
    V4L2_AV1_FRAME_FLAG_BUFFER_REMOVAL_TIME_PRESENT, V4L2_AV1_FRAME_FLAG_DISABLE_CDF_UPDATE,
    V4L2_AV1_FRAME_FLAG_DISABLE_FRAME_END_UPDATE_CDF, V4L2_AV1_FRAME_FLAG_ERROR_RESILIENT_MODE,
    V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV, V4L2_AV1_FRAME_FLAG_FRAME_REFS_SHORT_SIGNALING,
    V4L2_AV1_FRAME_FLAG_FRAME_SIZE_OVERRIDE, V4L2_AV1_FRAME_FLAG_IS_MOTION_MODE_SWITCHABLE,
    V4L2_AV1_FRAME_FLAG_REDUCED_TX_SET, V4L2_AV1_FRAME_FLAG_REFERENCE_SELECT, V4L2_AV1_FRAME_FLAG_SHOW_FRAME,
    V4L2_AV1_FRAME_FLAG_SHOWABLE_FRAME, V4L2_AV1_FRAME_FLAG_SKIP_MODE_ALLOWED,
    V4L2_AV1_FRAME_FLAG_SKIP_MODE_PRESENT, V4L2_AV1_FRAME_FLAG_USE_REF_FRAME_MVS,
    V4L2_AV1_FRAME_FLAG_USE_SUPERRES, V4L2_AV1_INTER_FRAME, V4L2_AV1_INTERPOLATION_FILTER_SWITCHABLE,
    V4L2_AV1_INTRA_ONLY_FRAME, V4L2_AV1_KEY_FRAME, V4L2_AV1_SEQUENCE_FLAG_ENABLE_CDEF,
    V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT, V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS,
    V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION, V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES,
    V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION, V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT,
    V4L2_AV1_SWITCH_FRAME, V4L2_AV1_TX_MODE_LARGEST, V4L2_AV1_TX_MODE_ONLY_4X4, V4L2_AV1_TX_MODE_SELECT,
    V4l2Av1Segmentation, V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame,
};

use super::reader::{Reader, Wrong};
use super::references::{forward_and_backward, short_signaled};
use super::sequence::{SELECT, Sequence};
use super::tools;
use crate::bits::flags;

/// `PRIMARY_REF_NONE`.
const PRIMARY_REF_NONE: u8 = 7;
/// `SUPERRES_NUM`.
const SUPERRES_NUM: u32 = 8;

/// Sizes of a frame, in luma samples (`frame_size()`, 5.9.5).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) upscaled_width: u32,
    pub(super) frame_width: u32,
    pub(super) frame_height: u32,
    pub(super) render_width: u32,
    pub(super) render_height: u32,
    pub(super) superres_denom: u32,
}

/// The state of a frame that the reference frame update process keeps (7.20), as far as headers depend on it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The picture.
    pub(super) timestamp: u64,
    pub(super) frame_type: u32,
    pub(super) order_hint: u32,
    pub(super) size: Size,
    pub(super) global_motion: [[i32; 6]; 8],
    pub(super) loop_filter_deltas: ([i8; 8], [i8; 2]),
    pub(super) segmentation: V4l2Av1Segmentation,
    pub(super) film_grain: V4l2CtrlAv1FilmGrain,
}

/// The reference slots.
pub(super) type Slots = [Option<Slot>; 8];

/// A parsed frame header.
#[derive(Clone, Debug)]
pub(super) enum Header {
    /// `show_existing_frame`: the slot to show.
    ShowExisting(usize),
    /// A frame that is coded.
    Frame(Box<Frame>),
}

/// A parsed header of a frame that is coded.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) control: V4l2CtrlAv1Frame,
    pub(super) film_grain: V4l2CtrlAv1FilmGrain,
    pub(super) size: Size,
    /// `TileColsLog2 + TileRowsLog2`.
    pub(super) tiles_log2: u32,
}

impl Frame {
    pub(super) fn has(&self, flag: u32) -> bool {
        self.control.flags & flag != 0
    }

    /// Returns the frame as a reference.
    pub(super) fn slot(&self, timestamp: u64) -> Slot {
        Slot {
            timestamp,
            frame_type: self.control.frame_type,
            order_hint: self.control.order_hint,
            size: self.size,
            global_motion: self.control.global_motion.params,
            loop_filter_deltas: (
                self.control.loop_filter.ref_deltas,
                self.control.loop_filter.mode_deltas,
            ),
            segmentation: self.control.segmentation,
            film_grain: self.film_grain,
        }
    }
}

/// Reads one frame header.
struct HeaderReader<'a, 's> {
    r: Reader<'a>,
    sequence: &'s Sequence,
    slots: &'s Slots,
    frame: Frame,
}

/// Parses `uncompressed_header()` (5.9.2) at the start of an OBU's payload; returns its length in bytes,
/// alignment included. `layers` are the OBU's temporal and spatial id.
pub(super) fn parse(
    payload: &[u8],
    sequence: &Sequence,
    slots: &Slots,
    layers: (u32, u32),
) -> Result<(Header, usize), Wrong> {
    let mut r = Reader::new(payload);
    let reduced = sequence.reduced_still_picture_header;
    let frame = Frame {
        control: V4l2CtrlAv1Frame::default(),
        film_grain: V4l2CtrlAv1FilmGrain::default(),
        size: Size::default(),
        tiles_log2: 0,
    };
    if !reduced && r.flag()? {
        let slot = r.bits(3)? as usize;
        return Ok((Header::ShowExisting(slot), 0));
    }
    let mut reader = HeaderReader {
        r,
        sequence,
        slots,
        frame,
    };
    reader.kind(reduced)?;
    reader.identity(reduced, layers)?;
    reader.references_and_size()?;
    reader.coding_tools(reduced)?;
    let length = reader.r.align();
    Ok((Header::Frame(Box::new(reader.frame)), length))
}

impl HeaderReader<'_, '_> {
    fn set(&mut self, condition: bool, flag: u32) {
        self.frame.control.flags |= flags([(condition, flag)]);
    }

    fn has(&self, flag: u32) -> bool {
        self.frame.has(flag)
    }

    fn intra(&self) -> bool {
        matches!(
            self.frame.control.frame_type,
            V4L2_AV1_KEY_FRAME | V4L2_AV1_INTRA_ONLY_FRAME
        )
    }

    fn error_resilient(&self) -> bool {
        self.has(V4L2_AV1_FRAME_FLAG_ERROR_RESILIENT_MODE)
    }

    /// Returns whether the frame is a key frame that is shown, which empties all slots (5.9.2).
    fn shown_key(&self) -> bool {
        self.frame.control.frame_type == V4L2_AV1_KEY_FRAME && self.has(V4L2_AV1_FRAME_FLAG_SHOW_FRAME)
    }

    /// Type of the frame, and whether it is shown.
    fn kind(&mut self, reduced: bool) -> Result<(), Wrong> {
        if reduced {
            self.frame.control.frame_type = V4L2_AV1_KEY_FRAME;
            self.set(
                true,
                V4L2_AV1_FRAME_FLAG_SHOW_FRAME | V4L2_AV1_FRAME_FLAG_ERROR_RESILIENT_MODE,
            );
            return Ok(());
        }
        self.frame.control.frame_type = self.r.bits(2)?;
        let show = self.r.flag()?;
        self.set(show, V4L2_AV1_FRAME_FLAG_SHOW_FRAME);
        if show && self.sequence.decoder_model_info_present && !self.sequence.equal_picture_interval {
            self.r.bits(self.sequence.frame_presentation_time_length)?;
        }
        let key = self.frame.control.frame_type == V4L2_AV1_KEY_FRAME;
        let showable = if show { !key } else { self.r.flag()? };
        self.set(showable, V4L2_AV1_FRAME_FLAG_SHOWABLE_FRAME);
        let resilient =
            self.frame.control.frame_type == V4L2_AV1_SWITCH_FRAME || key && show || self.r.flag()?;
        self.set(resilient, V4L2_AV1_FRAME_FLAG_ERROR_RESILIENT_MODE);
        Ok(())
    }

    /// From `disable_cdf_update` to `refresh_frame_flags` and `ref_order_hint`.
    fn identity(&mut self, reduced: bool, (temporal_id, spatial_id): (u32, u32)) -> Result<(), Wrong> {
        let sequence = self.sequence;
        let disable_cdf_update = self.r.flag()?;
        self.set(disable_cdf_update, V4L2_AV1_FRAME_FLAG_DISABLE_CDF_UPDATE);
        let mut choose = |value: u32| {
            if value == SELECT {
                self.r.bits(1)
            } else {
                Ok(value)
            }
        };
        let screen_content = choose(sequence.screen_content_tools)? != 0;
        let integer_mv = screen_content && choose(sequence.integer_mv)? != 0;
        self.set(screen_content, V4L2_AV1_FRAME_FLAG_ALLOW_SCREEN_CONTENT_TOOLS);
        self.set(integer_mv || self.intra(), V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV);
        if let Some(length) = sequence.frame_id_length {
            self.frame.control.current_frame_id = self.r.bits(length)?;
        }
        let switch = self.frame.control.frame_type == V4L2_AV1_SWITCH_FRAME;
        let size_override = switch || !reduced && self.r.flag()?;
        self.set(size_override, V4L2_AV1_FRAME_FLAG_FRAME_SIZE_OVERRIDE);
        self.frame.control.order_hint = self.r.bits(sequence.order_hint_bits())?;
        let independent = self.intra() || self.error_resilient();
        self.frame.control.primary_ref_frame = if independent {
            PRIMARY_REF_NONE
        } else {
            self.r.small(3)?
        };
        if sequence.decoder_model_info_present && self.r.flag()? {
            self.set(true, V4L2_AV1_FRAME_FLAG_BUFFER_REMOVAL_TIME_PRESENT);
            let points = sequence.operating_points.iter();
            for (point, time) in points.zip(&mut self.frame.control.buffer_removal_time) {
                let inside = (point.idc >> temporal_id) & 1 != 0 && (point.idc >> (spatial_id + 8)) & 1 != 0;
                if point.decoder_model_present && (point.idc == 0 || inside) {
                    *time = self.r.bits(sequence.buffer_removal_time_length)?;
                }
            }
        }
        let refreshes_all = switch || self.shown_key();
        self.frame.control.refresh_frame_flags = if refreshes_all { 0xff } else { self.r.small(8)? };
        let all = self.frame.control.refresh_frame_flags == 0xff;
        if (!self.intra() || !all)
            && self.error_resilient()
            && sequence.has(V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT)
        {
            for slot in self.slots {
                let hint = self.r.bits(sequence.order_hint_bits())?;
                if slot.as_ref().is_some_and(|slot| slot.order_hint != hint) {
                    return Err("a slot's order hint is not the expected: pictures are missing");
                }
            }
        }
        Ok(())
    }

    /// Reference indices, sizes, and what depends on them up to `use_ref_frame_mvs`.
    fn references_and_size(&mut self) -> Result<(), Wrong> {
        if self.intra() {
            self.frame_size()?;
            self.render_size()?;
            let unscaled = self.frame.size.upscaled_width == self.frame.size.frame_width;
            if self.has(V4L2_AV1_FRAME_FLAG_ALLOW_SCREEN_CONTENT_TOOLS) && unscaled {
                let allow = self.r.flag()?;
                self.set(allow, V4L2_AV1_FRAME_FLAG_ALLOW_INTRABC);
            }
            return Ok(());
        }
        let sequence = self.sequence;
        let mut indices = [0u8; 7];
        let short = sequence.has(V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT) && self.r.flag()?;
        self.set(short, V4L2_AV1_FRAME_FLAG_FRAME_REFS_SHORT_SIGNALING);
        if short {
            let (last, golden) = (self.r.small(3)?, self.r.small(3)?);
            let hints = self
                .slots
                .each_ref()
                .map(|slot| slot.as_ref().map_or(0, |slot| slot.order_hint));
            indices = short_signaled(sequence, hints, self.frame.control.order_hint, last, golden);
        }
        for index in &mut indices {
            if !short {
                *index = self.r.small(3)?;
            }
            if sequence.frame_id_length.is_some() {
                self.r.bits(sequence.delta_frame_id_length)?;
            }
        }
        self.frame.control.ref_frame_idx = indices.map(|index| index as i8);
        if self.has(V4L2_AV1_FRAME_FLAG_FRAME_SIZE_OVERRIDE) && !self.error_resilient() {
            self.frame_size_with_refs(indices)?;
        } else {
            self.frame_size()?;
            self.render_size()?;
        }
        if !self.has(V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV) {
            let allow = self.r.flag()?;
            self.set(allow, V4L2_AV1_FRAME_FLAG_ALLOW_HIGH_PRECISION_MV);
        }
        self.frame.control.interpolation_filter = if self.r.flag()? {
            V4L2_AV1_INTERPOLATION_FILTER_SWITCHABLE
        } else {
            self.r.bits(2)?
        };
        let switchable = self.r.flag()?;
        self.set(switchable, V4L2_AV1_FRAME_FLAG_IS_MOTION_MODE_SWITCHABLE);
        if !self.error_resilient() && sequence.has(V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS) {
            let uses = self.r.flag()?;
            self.set(uses, V4L2_AV1_FRAME_FLAG_USE_REF_FRAME_MVS);
        }
        for (hint, index) in self.frame.control.order_hints[1..].iter_mut().zip(indices) {
            let slot = self.slots[usize::from(index)].as_ref();
            *hint = slot
                .ok_or("a reference is a picture that is not there")?
                .order_hint;
        }
        Ok(())
    }

    /// `frame_size()` (5.9.5).
    fn frame_size(&mut self) -> Result<(), Wrong> {
        let (width, height) = if self.has(V4L2_AV1_FRAME_FLAG_FRAME_SIZE_OVERRIDE) {
            (
                self.r.bits(self.sequence.frame_width_bits)? + 1,
                self.r.bits(self.sequence.frame_height_bits)? + 1,
            )
        } else {
            (
                u32::from(self.sequence.control.max_frame_width_minus_1) + 1,
                u32::from(self.sequence.control.max_frame_height_minus_1) + 1,
            )
        };
        self.frame.size.upscaled_width = width;
        self.frame.size.frame_height = height;
        self.superres()
    }

    /// `superres_params()` (5.9.8).
    fn superres(&mut self) -> Result<(), Wrong> {
        let uses = self.sequence.has(V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES) && self.r.flag()?;
        self.set(uses, V4L2_AV1_FRAME_FLAG_USE_SUPERRES);
        let denominator = if uses {
            self.r.bits(3)? + SUPERRES_NUM + 1
        } else {
            SUPERRES_NUM
        };
        let size = &mut self.frame.size;
        size.superres_denom = denominator;
        size.frame_width = (size.upscaled_width * SUPERRES_NUM + denominator / 2) / denominator;
        Ok(())
    }

    /// `render_size()` (5.9.6).
    fn render_size(&mut self) -> Result<(), Wrong> {
        let (width, height) = if self.r.flag()? {
            (self.r.bits(16)? + 1, self.r.bits(16)? + 1)
        } else {
            (self.frame.size.upscaled_width, self.frame.size.frame_height)
        };
        self.frame.size.render_width = width;
        self.frame.size.render_height = height;
        Ok(())
    }

    /// `frame_size_with_refs()` (5.9.7).
    fn frame_size_with_refs(&mut self, indices: [u8; 7]) -> Result<(), Wrong> {
        for index in indices {
            if self.r.flag()? {
                let slot = self.slots[usize::from(index)].as_ref();
                self.frame.size = slot.ok_or("the size of a picture that is not there")?.size;
                return self.superres();
            }
        }
        self.frame_size()?;
        self.render_size()
    }

    /// Returns the rest of the header.
    fn coding_tools(&mut self, reduced: bool) -> Result<(), Wrong> {
        let (sequence, slots) = (self.sequence, self.slots);
        let keeps = reduced || self.has(V4L2_AV1_FRAME_FLAG_DISABLE_CDF_UPDATE) || self.r.flag()?;
        self.set(keeps, V4L2_AV1_FRAME_FLAG_DISABLE_FRAME_END_UPDATE_CDF);
        let intrabc = self.has(V4L2_AV1_FRAME_FLAG_ALLOW_INTRABC);
        let primary = match self.frame.control.primary_ref_frame {
            PRIMARY_REF_NONE => None,
            primary => {
                let index = self.frame.control.ref_frame_idx[usize::from(primary)];
                let slot = slots[index as usize].as_ref();
                Some(slot.ok_or("the primary reference is a picture that is not there")?)
            }
        };
        let size = self.frame.size;
        let control = &mut self.frame.control;
        let mi = |samples: u32| 2 * ((samples + 7) >> 3);
        let r = &mut self.r;
        (control.tile_info, self.frame.tiles_log2) =
            tools::tile_info(r, sequence, (mi(size.frame_width), mi(size.frame_height)))?;
        control.quantization = tools::quantization(r, sequence)?;
        control.segmentation = tools::segmentation(r, primary.map(|slot| &slot.segmentation))?;
        let lf = &mut control.loop_filter;
        (lf.ref_deltas, lf.mode_deltas) = primary.map_or((tools::DEFAULT_REF_DELTAS, [0; 2]), |slot| {
            slot.loop_filter_deltas
        });
        tools::deltas(r, &mut control.quantization, lf, intrabc)?;
        let lossless = tools::coded_lossless(&control.quantization, &control.segmentation);
        let all_lossless = lossless && size.frame_width == size.upscaled_width;
        tools::loop_filter(r, lf, sequence, lossless || intrabc)?;
        if sequence.has(V4L2_AV1_SEQUENCE_FLAG_ENABLE_CDEF) && !lossless && !intrabc {
            control.cdef = tools::cdef(r, sequence)?;
        }
        if sequence.has(V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION) && !all_lossless && !intrabc {
            control.loop_restoration = tools::loop_restoration(r, sequence)?;
        }
        control.tx_mode = if lossless {
            V4L2_AV1_TX_MODE_ONLY_4X4
        } else if r.flag()? {
            V4L2_AV1_TX_MODE_SELECT
        } else {
            V4L2_AV1_TX_MODE_LARGEST
        };
        let inter = !self.intra();
        let select = inter && self.r.flag()?;
        self.set(select, V4L2_AV1_FRAME_FLAG_REFERENCE_SELECT);
        self.skip_mode(select)?;
        let may_warp =
            inter && !self.error_resilient() && sequence.has(V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION);
        let warps = may_warp && self.r.flag()?;
        self.set(warps, V4L2_AV1_FRAME_FLAG_ALLOW_WARPED_MOTION);
        let reduced_tx_set = self.r.flag()?;
        self.set(reduced_tx_set, V4L2_AV1_FRAME_FLAG_REDUCED_TX_SET);
        self.frame.control.global_motion = if inter {
            let previous = primary.map_or([tools::IDENTITY; 8], |slot| slot.global_motion);
            let precise = self.has(V4L2_AV1_FRAME_FLAG_ALLOW_HIGH_PRECISION_MV);
            tools::global_motion(&mut self.r, &previous, precise)?
        } else {
            tools::no_global_motion()
        };
        let visible =
            self.has(V4L2_AV1_FRAME_FLAG_SHOW_FRAME) || self.has(V4L2_AV1_FRAME_FLAG_SHOWABLE_FRAME);
        if sequence.has(V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT) && visible {
            let inter_frame = self.frame.control.frame_type == V4L2_AV1_INTER_FRAME;
            self.frame.film_grain = tools::film_grain(&mut self.r, sequence, inter_frame, |slot| {
                slots[usize::from(slot)].as_ref().map(|slot| slot.film_grain)
            })?;
        }
        self.fill_sizes();
        Ok(())
    }

    /// `skip_mode_params()` (5.9.22).
    fn skip_mode(&mut self, reference_select: bool) -> Result<(), Wrong> {
        let indices = self.frame.control.ref_frame_idx;
        if !reference_select || !self.sequence.has(V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT) {
            return Ok(());
        }
        let hints: [u32; 7] = std::array::from_fn(|index| {
            self.slots[indices[index] as usize]
                .as_ref()
                .map_or(0, |slot| slot.order_hint)
        });
        let order_hint = self.frame.control.order_hint;
        if let Some(frames) = forward_and_backward(self.sequence, hints, order_hint) {
            self.frame.control.skip_mode_frame = frames;
            self.set(true, V4L2_AV1_FRAME_FLAG_SKIP_MODE_ALLOWED);
            let present = self.r.flag()?;
            self.set(present, V4L2_AV1_FRAME_FLAG_SKIP_MODE_PRESENT);
        }
        Ok(())
    }

    fn fill_sizes(&mut self) {
        let size = self.frame.size;
        let control = &mut self.frame.control;
        control.superres_denom = size.superres_denom as u8;
        control.upscaled_width = size.upscaled_width;
        control.frame_width_minus_1 = size.frame_width - 1;
        control.frame_height_minus_1 = size.frame_height - 1;
        control.render_width_minus_1 = (size.render_width - 1) as u16;
        control.render_height_minus_1 = (size.render_height - 1) as u16;
        for (entry, slot) in control.reference_frame_ts.iter_mut().zip(self.slots) {
            *entry = slot.as_ref().map_or(0, |slot| slot.timestamp);
        }
    }
}
