// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frame header (5.9). The sequence has all tools of `sequence::TOOLS`; the header codes which the frame
//! uses.

use daedalus_uapi::v4l2_controls::*;

use super::error::{Av1Error, at_most};
use super::grain;
use super::kind::FrameKind;
use super::motion::{self, GlobalMotion};
use super::sequence::{MAX_SIZE, SequenceInfo};
use super::size::{SUPERRES_NUM, Size};
use super::slot::{SLOTS, Slot};
use super::tiles::TileLayout;
use crate::bits::BitWriter;

/// `primary_ref_frame` of a frame that loads no state.
const PRIMARY_REF_NONE: u8 = 7;

/// The values on which the parts of the header depend.
pub(super) struct Context<'a> {
    pub(super) sequence: &'a SequenceInfo,
    pub(super) frame: &'a V4l2CtrlAv1Frame,
    pub(super) kind: FrameKind,
    pub(super) size: &'a Size,
    /// The slots as the decoder has them when it reads the header.
    pub(super) slots: &'a [Slot; SLOTS],
}

impl Context<'_> {
    /// Returns whether a `V4L2_AV1_FRAME_FLAG_*` is set.
    fn flag(&self, flag: u32) -> bool {
        self.frame.flags & flag != 0
    }

    fn error_resilient_mode(&self) -> bool {
        self.kind.implied_resilient || self.flag(V4L2_AV1_FRAME_FLAG_ERROR_RESILIENT_MODE)
    }

    /// `primary_ref_frame` as it applies.
    fn primary_ref_frame(&self) -> u8 {
        if self.kind.intra || self.error_resilient_mode() {
            PRIMARY_REF_NONE
        } else {
            self.frame.primary_ref_frame
        }
    }

    fn allow_screen_content_tools(&self) -> bool {
        self.flag(V4L2_AV1_FRAME_FLAG_ALLOW_SCREEN_CONTENT_TOOLS)
    }

    /// `force_integer_mv` of an inter frame.
    fn force_integer_mv(&self) -> bool {
        self.allow_screen_content_tools() && self.flag(V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV)
    }

    fn allow_high_precision_mv(&self) -> bool {
        !self.force_integer_mv() && self.flag(V4L2_AV1_FRAME_FLAG_ALLOW_HIGH_PRECISION_MV)
    }

    fn superres(&self) -> bool {
        self.size.superres_denom != SUPERRES_NUM
    }

    /// `UpscaledWidth != FrameWidth`.
    fn upscaled(&self) -> bool {
        self.size.coded_width() != self.size.width
    }

    fn allow_intrabc(&self) -> bool {
        self.kind.intra
            && self.allow_screen_content_tools()
            && !self.upscaled()
            && self.flag(V4L2_AV1_FRAME_FLAG_ALLOW_INTRABC)
    }

    fn delta_q_present(&self) -> bool {
        self.frame.quantization.base_q_idx > 0
            && self.frame.quantization.flags & V4L2_AV1_QUANTIZATION_FLAG_DELTA_Q_PRESENT != 0
    }

    fn slot(&self, reference: usize) -> Result<&Slot, Av1Error> {
        let index = self.frame.ref_frame_idx[reference];
        usize::try_from(index)
            .ok()
            .and_then(|i| self.slots.get(i))
            .ok_or(Av1Error::OutOfRange {
                field: "ref_frame_idx",
                value: index.into(),
            })
    }

    /// `CodedLossless` (5.9.2): no segment has a quantizer.
    fn coded_lossless(&self) -> bool {
        let q = &self.frame.quantization;
        let chroma = [q.delta_q_u_dc, q.delta_q_u_ac, q.delta_q_v_dc, q.delta_q_v_ac];
        if q.delta_q_y_dc != 0 || (!self.sequence.mono_chrome && chroma.iter().any(|&d| d != 0)) {
            return false;
        }
        let segmentation = &self.frame.segmentation;
        let enabled = segmentation.flags & V4L2_AV1_SEGMENTATION_FLAG_ENABLED != 0;
        (0..V4L2_AV1_MAX_SEGMENTS).all(|segment| {
            let alt_q = enabled && segmentation.feature_enabled[segment] & (1 << V4L2_AV1_SEG_LVL_ALT_Q) != 0;
            let delta = if alt_q {
                segmentation.feature_data[segment][V4L2_AV1_SEG_LVL_ALT_Q]
            } else {
                0
            };
            i32::from(q.base_q_idx) + i32::from(delta) <= 0
        })
    }
}

/// `uncompressed_header()`. Returns the global motion parameters that the decoder then has.
pub(super) fn write(
    w: &mut BitWriter<'_>,
    c: &Context<'_>,
    layout: &TileLayout,
    tile_size_bytes: usize,
    film_grain: Option<&V4l2CtrlAv1FilmGrain>,
) -> Result<GlobalMotion, Av1Error> {
    let show_existing_frame = false;
    w.flag(show_existing_frame);
    w.bits(2, c.frame.frame_type.into());
    w.flag(c.kind.show);
    if !c.kind.show {
        w.flag(c.kind.showable);
    }
    if !c.kind.implied_resilient {
        w.flag(c.error_resilient_mode());
    }
    let disable_cdf_update = c.flag(V4L2_AV1_FRAME_FLAG_DISABLE_CDF_UPDATE);
    w.flag(disable_cdf_update);
    w.flag(c.allow_screen_content_tools());
    if c.allow_screen_content_tools() {
        // Coded for intra frames too, where it has no effect.
        w.flag(c.flag(V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV));
    }
    let switch = c.frame.frame_type == V4L2_AV1_SWITCH_FRAME;
    let size_override = switch || (c.size.width, c.size.height) != MAX_SIZE;
    if !switch {
        w.flag(size_override);
    }
    let max_hint = (1 << c.sequence.order_hint_bits) - 1;
    w.bits(
        c.sequence.order_hint_bits,
        at_most("order_hint", c.frame.order_hint, max_hint)?,
    );
    if !c.kind.intra && !c.error_resilient_mode() {
        w.bits(3, at_most("primary_ref_frame", c.frame.primary_ref_frame, 7)?);
    }
    if !c.kind.implied_resilient {
        w.bits(8, c.kind.refresh.into());
    }
    if (!c.kind.intra || c.kind.refresh != 0xff) && c.error_resilient_mode() {
        for slot in c.slots {
            w.bits(c.sequence.order_hint_bits, slot.order_hint.into());
        }
    }

    if c.kind.intra {
        size(w, c, size_override);
        if c.allow_screen_content_tools() && !c.upscaled() {
            w.flag(c.allow_intrabc());
        }
    } else {
        references(w, c, size_override)?;
    }
    if !disable_cdf_update {
        w.flag(c.flag(V4L2_AV1_FRAME_FLAG_DISABLE_FRAME_END_UPDATE_CDF));
    }

    layout.write(w, tile_size_bytes);
    quantization(w, c)?;
    segmentation(w, c)?;
    delta_q_and_lf(w, c)?;
    let coded_lossless = c.coded_lossless();
    if !coded_lossless && !c.allow_intrabc() {
        loop_filter(w, c)?;
        if c.sequence.flag(V4L2_AV1_SEQUENCE_FLAG_ENABLE_CDEF) {
            cdef(w, c)?;
        }
    }
    let all_lossless = coded_lossless && !c.upscaled();
    if !all_lossless && !c.allow_intrabc() {
        loop_restoration(w, c)?;
    }
    if !coded_lossless {
        let tx_mode_select = c.frame.tx_mode == V4L2_AV1_TX_MODE_SELECT;
        w.flag(tx_mode_select);
    }
    if !c.kind.intra {
        w.flag(c.flag(V4L2_AV1_FRAME_FLAG_REFERENCE_SELECT));
        if skip_mode_allowed(c)? {
            w.flag(c.flag(V4L2_AV1_FRAME_FLAG_SKIP_MODE_PRESENT));
        }
        if !c.error_resilient_mode() {
            w.flag(c.flag(V4L2_AV1_FRAME_FLAG_ALLOW_WARPED_MOTION));
        }
    }
    w.flag(c.flag(V4L2_AV1_FRAME_FLAG_REDUCED_TX_SET));
    let motion = if c.kind.intra {
        GlobalMotion::DEFAULT
    } else {
        let previous = match c.primary_ref_frame() {
            PRIMARY_REF_NONE => &GlobalMotion::DEFAULT,
            primary => &c.slot(primary.into())?.motion,
        };
        motion::write(w, &c.frame.global_motion, previous, c.allow_high_precision_mv())?
    };
    if c.sequence.flag(V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT) && (c.kind.show || c.kind.showable) {
        grain::write(
            w,
            c.sequence,
            c.frame.frame_type == V4L2_AV1_INTER_FRAME,
            film_grain,
        )?;
    }
    Ok(motion)
}

/// `frame_size()`, `superres_params()` and `render_size()` (5.9.5 to 5.9.8).
fn size(w: &mut BitWriter<'_>, c: &Context<'_>, size_override: bool) {
    if size_override {
        w.bits(16, u64::from(c.size.width) - 1);
        w.bits(16, u64::from(c.size.height) - 1);
    }
    w.flag(c.superres());
    if c.superres() {
        w.bits(3, u64::from(c.size.superres_denom) - 9);
    }
    let render = (c.frame.render_width_minus_1, c.frame.render_height_minus_1);
    let different = (u32::from(render.0) + 1, u32::from(render.1) + 1) != (c.size.width, c.size.height);
    w.flag(different);
    if different {
        w.bits(16, render.0.into());
        w.bits(16, render.1.into());
    }
}

/// From the references to the motion vectors: what only inter frames have.
fn references(w: &mut BitWriter<'_>, c: &Context<'_>, size_override: bool) -> Result<(), Av1Error> {
    if c.sequence.order_hint_bits > 0 {
        let frame_refs_short_signaling = false;
        w.flag(frame_refs_short_signaling);
    }
    for index in c.frame.ref_frame_idx {
        w.bits(3, at_most("ref_frame_idx", index, SLOTS as i64 - 1)?);
    }
    if size_override && !c.error_resilient_mode() {
        // found_ref of each reference: none has the size, it is coded.
        w.bits(V4L2_AV1_REFS_PER_FRAME as u32, 0);
    }
    size(w, c, size_override);
    if !c.force_integer_mv() {
        w.flag(c.allow_high_precision_mv());
    }
    let filter = at_most(
        "interpolation_filter",
        c.frame.interpolation_filter,
        V4L2_AV1_INTERPOLATION_FILTER_SWITCHABLE.into(),
    )?;
    let is_filter_switchable = c.frame.interpolation_filter == V4L2_AV1_INTERPOLATION_FILTER_SWITCHABLE;
    w.flag(is_filter_switchable);
    if !is_filter_switchable {
        w.bits(2, filter);
    }
    w.flag(c.flag(V4L2_AV1_FRAME_FLAG_IS_MOTION_MODE_SWITCHABLE));
    // Without order hints the sequence header does not code enable_ref_frame_mvs, which is then 0.
    if !c.error_resilient_mode() && c.sequence.order_hint_bits > 0 {
        w.flag(c.flag(V4L2_AV1_FRAME_FLAG_USE_REF_FRAME_MVS));
    }
    Ok(())
}

/// Returns a value of `su(1+6)`.
fn su7(w: &mut BitWriter<'_>, field: &'static str, value: i8) -> Result<(), Av1Error> {
    if !(-64..=63).contains(&value) {
        return Err(Av1Error::OutOfRange {
            field,
            value: value.into(),
        });
    }
    w.su(7, value.into());
    Ok(())
}

/// `read_delta_q()` (5.9.13).
fn delta_q(w: &mut BitWriter<'_>, field: &'static str, value: i8) -> Result<(), Av1Error> {
    w.flag(value != 0);
    if value != 0 {
        su7(w, field, value)?;
    }
    Ok(())
}

/// `quantization_params()` (5.9.12).
fn quantization(w: &mut BitWriter<'_>, c: &Context<'_>) -> Result<(), Av1Error> {
    let q = &c.frame.quantization;
    w.bits(8, q.base_q_idx.into());
    delta_q(w, "delta_q_y_dc", q.delta_q_y_dc)?;
    if !c.sequence.mono_chrome {
        let diff_uv_delta = (q.delta_q_u_dc, q.delta_q_u_ac) != (q.delta_q_v_dc, q.delta_q_v_ac);
        w.flag(diff_uv_delta);
        delta_q(w, "delta_q_u_dc", q.delta_q_u_dc)?;
        delta_q(w, "delta_q_u_ac", q.delta_q_u_ac)?;
        if diff_uv_delta {
            delta_q(w, "delta_q_v_dc", q.delta_q_v_dc)?;
            delta_q(w, "delta_q_v_ac", q.delta_q_v_ac)?;
        }
    }
    let using_qmatrix = q.flags & V4L2_AV1_QUANTIZATION_FLAG_USING_QMATRIX != 0;
    w.flag(using_qmatrix);
    if using_qmatrix {
        w.bits(4, at_most("qm_y", q.qm_y, 15)?);
        w.bits(4, at_most("qm_u", q.qm_u, 15)?);
        if !c.sequence.mono_chrome {
            w.bits(4, at_most("qm_v", q.qm_v, 15)?);
        }
    }
    Ok(())
}

/// `segmentation_params()` (5.9.14).
fn segmentation(w: &mut BitWriter<'_>, c: &Context<'_>) -> Result<(), Av1Error> {
    /// `Segmentation_Feature_Bits`, and whether the value has a sign besides.
    const FEATURES: [(u32, bool); V4L2_AV1_SEG_LVL_MAX] = [
        (8, true),
        (6, true),
        (6, true),
        (6, true),
        (6, true),
        (3, false),
        (0, false),
        (0, false),
    ];

    let s = &c.frame.segmentation;
    let flag = |f: u8| s.flags & f != 0;
    w.flag(flag(V4L2_AV1_SEGMENTATION_FLAG_ENABLED));
    if !flag(V4L2_AV1_SEGMENTATION_FLAG_ENABLED) {
        return Ok(());
    }
    if c.primary_ref_frame() != PRIMARY_REF_NONE {
        w.flag(flag(V4L2_AV1_SEGMENTATION_FLAG_UPDATE_MAP));
        if flag(V4L2_AV1_SEGMENTATION_FLAG_UPDATE_MAP) {
            w.flag(flag(V4L2_AV1_SEGMENTATION_FLAG_TEMPORAL_UPDATE));
        }
        let segmentation_update_data = true;
        w.flag(segmentation_update_data);
    }
    for (enabled, data) in s.feature_enabled.iter().zip(&s.feature_data) {
        for (feature, (&(bits, signed), &value)) in FEATURES.iter().zip(data).enumerate() {
            let feature_enabled = enabled & (1 << feature) != 0;
            w.flag(feature_enabled);
            if !feature_enabled {
                continue;
            }
            let max = (1 << bits) - 1;
            let min = if signed { -max } else { 0 };
            let value = i32::from(value);
            if !(min..=max).contains(&value) {
                return Err(Av1Error::OutOfRange {
                    field: "feature_data",
                    value: value.into(),
                });
            }
            w.su(bits + u32::from(signed), value);
        }
    }
    Ok(())
}

/// `delta_q_params()` and `delta_lf_params()` (5.9.17, 5.9.18).
fn delta_q_and_lf(w: &mut BitWriter<'_>, c: &Context<'_>) -> Result<(), Av1Error> {
    let (q, lf) = (&c.frame.quantization, &c.frame.loop_filter);
    if q.base_q_idx > 0 {
        w.flag(c.delta_q_present());
    }
    if !c.delta_q_present() {
        return Ok(());
    }
    w.bits(2, at_most("delta_q_res", q.delta_q_res, 3)?);
    if c.allow_intrabc() {
        return Ok(());
    }
    let delta_lf_present = lf.flags & V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_PRESENT != 0;
    w.flag(delta_lf_present);
    if delta_lf_present {
        w.bits(2, at_most("delta_lf_res", lf.delta_lf_res, 3)?);
        w.flag(lf.flags & V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_MULTI != 0);
    }
    Ok(())
}

/// `loop_filter_params()` (5.9.11) of a frame that codes them.
fn loop_filter(w: &mut BitWriter<'_>, c: &Context<'_>) -> Result<(), Av1Error> {
    let lf = &c.frame.loop_filter;
    w.bits(6, at_most("loop_filter.level", lf.level[0], 63)?);
    w.bits(6, at_most("loop_filter.level", lf.level[1], 63)?);
    if !c.sequence.mono_chrome && (lf.level[0] > 0 || lf.level[1] > 0) {
        w.bits(6, at_most("loop_filter.level", lf.level[2], 63)?);
        w.bits(6, at_most("loop_filter.level", lf.level[3], 63)?);
    }
    w.bits(3, at_most("loop_filter.sharpness", lf.sharpness, 7)?);
    let delta_enabled = lf.flags & V4L2_AV1_LOOP_FILTER_FLAG_DELTA_ENABLED != 0;
    w.flag(delta_enabled);
    if delta_enabled {
        let (delta_update, update_each) = (true, true);
        w.flag(delta_update);
        for &delta in lf.ref_deltas.iter().chain(&lf.mode_deltas) {
            w.flag(update_each);
            su7(w, "loop_filter.deltas", delta)?;
        }
    }
    Ok(())
}

/// `cdef_params()` (5.9.19) of a frame that codes them.
fn cdef(w: &mut BitWriter<'_>, c: &Context<'_>) -> Result<(), Av1Error> {
    let cdef = &c.frame.cdef;
    // The decoded strength skips 3: clients send 4, or the code 3.
    let secondary = |strength: u8| at_most("cdef.sec_strength", strength, 4).map(|s| s.min(3));
    w.bits(2, at_most("cdef.damping_minus_3", cdef.damping_minus_3, 3)?);
    w.bits(2, at_most("cdef.bits", cdef.bits, 3)?);
    for i in 0..1 << cdef.bits {
        w.bits(4, at_most("cdef.y_pri_strength", cdef.y_pri_strength[i], 15)?);
        w.bits(2, secondary(cdef.y_sec_strength[i])?);
        if !c.sequence.mono_chrome {
            w.bits(4, at_most("cdef.uv_pri_strength", cdef.uv_pri_strength[i], 15)?);
            w.bits(2, secondary(cdef.uv_sec_strength[i])?);
        }
    }
    Ok(())
}

/// `lr_params()` (5.9.20) of a frame that codes them.
fn loop_restoration(w: &mut BitWriter<'_>, c: &Context<'_>) -> Result<(), Av1Error> {
    let lr = &c.frame.loop_restoration;
    let kinds = &lr.frame_restoration_type[..c.sequence.planes()];
    for &kind in kinds {
        // The inverse of Remap_Lr_Type.
        w.bits(
            2,
            match kind {
                V4L2_AV1_FRAME_RESTORE_NONE => 0,
                V4L2_AV1_FRAME_RESTORE_SWITCHABLE => 1,
                V4L2_AV1_FRAME_RESTORE_WIENER => 2,
                V4L2_AV1_FRAME_RESTORE_SGRPROJ => 3,
                _ => {
                    let value = kind.into();
                    return Err(Av1Error::OutOfRange {
                        field: "frame_restoration_type",
                        value,
                    });
                }
            },
        );
    }
    let used = |&kind: &u32| kind != V4L2_AV1_FRAME_RESTORE_NONE;
    if !kinds.iter().any(used) {
        return Ok(());
    }
    let unit_shift = match lr.loop_restoration_size[0] {
        64 => 0,
        128 => 1,
        256 => 2,
        _ => at_most("lr_unit_shift", lr.lr_unit_shift, 2)?,
    };
    if c.sequence.flag(V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK) {
        if unit_shift == 0 {
            // A restoration unit is at least as large as a superblock.
            return Err(Av1Error::OutOfRange {
                field: "lr_unit_shift",
                value: 0,
            });
        }
        w.bits(1, unit_shift - 1);
    } else {
        w.flag(unit_shift > 0);
        if unit_shift > 0 {
            w.bits(1, unit_shift - 1);
        }
    }
    if c.sequence.subsampling == (true, true) && kinds[1..].iter().any(used) {
        w.bits(1, at_most("lr_uv_shift", lr.lr_uv_shift, 1)?);
    }
    Ok(())
}

/// `skipModeAllowed` (5.9.22) of an inter frame.
fn skip_mode_allowed(c: &Context<'_>) -> Result<bool, Av1Error> {
    if !c.flag(V4L2_AV1_FRAME_FLAG_REFERENCE_SELECT) || c.sequence.order_hint_bits == 0 {
        return Ok(false);
    }
    let distance = |a, b| c.sequence.relative_distance(a, b);
    let hint = |reference| c.slot(reference).map(|s| s.order_hint);
    let (mut forward, mut backward) = (None, None);
    for reference in 0..V4L2_AV1_REFS_PER_FRAME {
        let hint = hint(reference)?;
        let ahead = distance(hint, c.frame.order_hint);
        if ahead < 0 && forward.is_none_or(|f| distance(hint, f) > 0) {
            forward = Some(hint);
        } else if ahead > 0 && backward.is_none_or(|b| distance(hint, b) < 0) {
            backward = Some(hint);
        }
    }
    let Some(forward) = forward else { return Ok(false) };
    if backward.is_some() {
        return Ok(true);
    }
    for reference in 0..V4L2_AV1_REFS_PER_FRAME {
        if distance(hint(reference)?, forward) < 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
