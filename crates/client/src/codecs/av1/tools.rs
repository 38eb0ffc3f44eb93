// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of a frame header that describe coding tools (AV1 5.9.12 to 5.9.30), into their control.

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN, V4L2_AV1_FILM_GRAIN_FLAG_CHROMA_SCALING_FROM_LUMA,
    V4L2_AV1_FILM_GRAIN_FLAG_CLIP_TO_RESTRICTED_RANGE, V4L2_AV1_FILM_GRAIN_FLAG_OVERLAP,
    V4L2_AV1_FILM_GRAIN_FLAG_UPDATE_GRAIN, V4L2_AV1_GLOBAL_MOTION_FLAG_IS_GLOBAL,
    V4L2_AV1_GLOBAL_MOTION_FLAG_IS_ROT_ZOOM, V4L2_AV1_GLOBAL_MOTION_FLAG_IS_TRANSLATION,
    V4L2_AV1_LOOP_FILTER_FLAG_DELTA_ENABLED, V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_MULTI,
    V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_PRESENT, V4L2_AV1_LOOP_FILTER_FLAG_DELTA_UPDATE,
    V4L2_AV1_LOOP_RESTORATION_FLAG_USES_CHROMA_LR, V4L2_AV1_LOOP_RESTORATION_FLAG_USES_LR,
    V4L2_AV1_QUANTIZATION_FLAG_DELTA_Q_PRESENT, V4L2_AV1_QUANTIZATION_FLAG_DIFF_UV_DELTA,
    V4L2_AV1_QUANTIZATION_FLAG_USING_QMATRIX, V4L2_AV1_SEG_LVL_ALT_Q, V4L2_AV1_SEG_LVL_REF_FRAME,
    V4L2_AV1_SEGMENTATION_FLAG_ENABLED, V4L2_AV1_SEGMENTATION_FLAG_SEG_ID_PRE_SKIP,
    V4L2_AV1_SEGMENTATION_FLAG_TEMPORAL_UPDATE, V4L2_AV1_SEGMENTATION_FLAG_UPDATE_DATA,
    V4L2_AV1_SEGMENTATION_FLAG_UPDATE_MAP, V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q,
    V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X, V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y,
    V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK, V4L2_AV1_TILE_INFO_FLAG_UNIFORM_TILE_SPACING,
    V4L2_AV1_WARP_MODEL_AFFINE, V4L2_AV1_WARP_MODEL_IDENTITY, V4L2_AV1_WARP_MODEL_ROTZOOM,
    V4L2_AV1_WARP_MODEL_TRANSLATION, V4l2Av1Cdef, V4l2Av1GlobalMotion, V4l2Av1LoopFilter,
    V4l2Av1LoopRestoration, V4l2Av1Quantization, V4l2Av1Segmentation, V4l2Av1TileInfo, V4l2CtrlAv1FilmGrain,
};

use super::reader::{Reader, Wrong};
use super::sequence::Sequence;
use crate::bits::flags;

/// `MAX_TILE_WIDTH`, in luma samples.
const MAX_TILE_WIDTH: u32 = 4096;
/// `MAX_TILE_AREA`, in luma samples.
const MAX_TILE_AREA: u32 = 4096 * 2304;
/// `MAX_TILE_COLS` and `MAX_TILE_ROWS`.
const MAX_TILES: u32 = 64;
/// `WARPEDMODEL_PREC_BITS`.
const WARP_BITS: u32 = 16;

/// Warp parameters that mean no motion.
pub(super) const IDENTITY: [i32; 6] = [0, 0, 1 << WARP_BITS, 0, 0, 1 << WARP_BITS];

/// `tile_log2()` (5.9.16).
fn tile_log2(unit: u32, target: u32) -> u32 {
    (0..).find(|log2| unit << log2 >= target).unwrap_or_default()
}

/// One dimension of the tiles of a frame.
struct Division {
    /// Starts in superblocks, and the end.
    starts: Vec<u32>,
    log2: u32,
}

/// Evenly sized tiles, `log2` of which the bits say beyond `minimum`.
fn uniform(r: &mut Reader<'_>, minimum: u32, maximum: u32, superblocks: u32) -> Result<Division, Wrong> {
    let mut log2 = minimum;
    while log2 < maximum && r.flag()? {
        log2 += 1;
    }
    let size = (superblocks + (1 << log2) - 1) >> log2;
    let mut starts: Vec<u32> = (0..superblocks).step_by(size as usize).collect();
    starts.push(superblocks);
    Ok(Division { starts, log2 })
}

/// Tiles whose sizes are coded.
fn explicit(r: &mut Reader<'_>, largest: u32, superblocks: u32) -> Result<Division, Wrong> {
    let mut starts = vec![0];
    let mut at = 0;
    while at < superblocks {
        at += r.non_symmetric((superblocks - at).min(largest))? + 1;
        starts.push(at);
    }
    let log2 = tile_log2(1, starts.len() as u32 - 1);
    Ok(Division { starts, log2 })
}

/// `tile_info()` (5.9.15). Also returns `TileColsLog2 + TileRowsLog2`.
pub(super) fn tile_info(
    r: &mut Reader<'_>,
    sequence: &Sequence,
    (mi_cols, mi_rows): (u32, u32),
) -> Result<(V4l2Av1TileInfo, u32), Wrong> {
    let shift = if sequence.has(V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK) {
        5
    } else {
        4
    };
    let superblocks = |mi: u32| (mi + (1 << shift) - 1) >> shift;
    let (cols, rows) = (superblocks(mi_cols), superblocks(mi_rows));
    let max_width = MAX_TILE_WIDTH >> (shift + 2);
    let max_area = MAX_TILE_AREA >> (2 * (shift + 2));
    let min_log2_cols = tile_log2(max_width, cols);
    let min_log2 = min_log2_cols.max(tile_log2(max_area, rows * cols));
    let is_uniform = r.flag()?;
    let (columns, lines);
    if is_uniform {
        columns = uniform(r, min_log2_cols, tile_log2(1, cols.min(MAX_TILES)), cols)?;
        let min_log2_rows = min_log2.saturating_sub(columns.log2);
        lines = uniform(r, min_log2_rows, tile_log2(1, rows.min(MAX_TILES)), rows)?;
    } else {
        columns = explicit(r, max_width, cols)?;
        let widest = columns
            .starts
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or(1);
        let area = if min_log2 > 0 {
            (rows * cols) >> (min_log2 + 1)
        } else {
            rows * cols
        };
        lines = explicit(r, (area / widest).max(1), rows)?;
    }
    let (tile_cols, tile_rows) = (columns.starts.len() - 1, lines.starts.len() - 1);
    if tile_cols > MAX_TILES as usize || tile_rows > MAX_TILES as usize {
        return Err("too many tiles");
    }
    let mut info = V4l2Av1TileInfo {
        flags: flags([(is_uniform, V4L2_AV1_TILE_INFO_FLAG_UNIFORM_TILE_SPACING)]),
        tile_cols: tile_cols as u8,
        tile_rows: tile_rows as u8,
        ..Default::default()
    };
    let log2 = columns.log2 + lines.log2;
    if log2 > 0 {
        info.context_update_tile_id = r.bits(log2)? as u8;
        info.tile_size_bytes = r.small(2)? + 1;
    }
    for (starts, division, end) in [
        (&mut info.mi_col_starts, &columns, mi_cols),
        (&mut info.mi_row_starts, &lines, mi_rows),
    ] {
        for (entry, start) in starts.iter_mut().zip(&division.starts) {
            *entry = (start << shift).min(end);
        }
    }
    for (sizes, division) in [
        (&mut info.width_in_sbs_minus_1, &columns),
        (&mut info.height_in_sbs_minus_1, &lines),
    ] {
        for (entry, pair) in sizes.iter_mut().zip(division.starts.windows(2)) {
            *entry = pair[1] - pair[0] - 1;
        }
    }
    Ok((info, log2))
}

/// `read_delta_q()` (5.9.13).
fn delta_q(r: &mut Reader<'_>) -> Result<i8, Wrong> {
    if r.flag()? {
        r.signed(7).map(|value| value as i8)
    } else {
        Ok(0)
    }
}

/// `quantization_params()` (5.9.12), without the delta fields of 5.9.17.
pub(super) fn quantization(r: &mut Reader<'_>, sequence: &Sequence) -> Result<V4l2Av1Quantization, Wrong> {
    let mut q = V4l2Av1Quantization {
        base_q_idx: r.small(8)?,
        ..Default::default()
    };
    q.delta_q_y_dc = delta_q(r)?;
    let separate = sequence.has(V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q);
    if !sequence.mono_chrome() {
        let differ = separate && r.flag()?;
        q.delta_q_u_dc = delta_q(r)?;
        q.delta_q_u_ac = delta_q(r)?;
        (q.delta_q_v_dc, q.delta_q_v_ac) = (q.delta_q_u_dc, q.delta_q_u_ac);
        if differ {
            q.flags |= V4L2_AV1_QUANTIZATION_FLAG_DIFF_UV_DELTA;
            q.delta_q_v_dc = delta_q(r)?;
            q.delta_q_v_ac = delta_q(r)?;
        }
    }
    if r.flag()? {
        q.flags |= V4L2_AV1_QUANTIZATION_FLAG_USING_QMATRIX;
        q.qm_y = r.small(4)?;
        q.qm_u = r.small(4)?;
        q.qm_v = if separate { r.small(4)? } else { q.qm_u };
    }
    Ok(q)
}

/// `delta_q_params()` and `delta_lf_params()` (5.9.17, 5.9.18).
pub(super) fn deltas(
    r: &mut Reader<'_>,
    q: &mut V4l2Av1Quantization,
    lf: &mut V4l2Av1LoopFilter,
    allow_intrabc: bool,
) -> Result<(), Wrong> {
    if q.base_q_idx > 0 && r.flag()? {
        q.flags |= V4L2_AV1_QUANTIZATION_FLAG_DELTA_Q_PRESENT;
        q.delta_q_res = r.small(2)?;
        if !allow_intrabc && r.flag()? {
            lf.flags |= V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_PRESENT;
            lf.delta_lf_res = r.small(2)?;
            if r.flag()? {
                lf.flags |= V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_MULTI;
            }
        }
    }
    Ok(())
}

/// `segmentation_params()` (5.9.14); `previous` is the primary reference's, if there is one.
pub(super) fn segmentation(
    r: &mut Reader<'_>,
    previous: Option<&V4l2Av1Segmentation>,
) -> Result<V4l2Av1Segmentation, Wrong> {
    const BITS: [u32; 8] = [8, 6, 6, 6, 6, 3, 0, 0];
    const MAX: [i32; 8] = [255, 63, 63, 63, 63, 7, 0, 0];
    let mut seg = V4l2Av1Segmentation::default();
    if !r.flag()? {
        return Ok(seg);
    }
    let (mut update_map, mut temporal_update, mut update_data) = (true, false, true);
    if previous.is_some() {
        update_map = r.flag()?;
        temporal_update = update_map && r.flag()?;
        update_data = r.flag()?;
    }
    seg.flags = flags([
        (true, V4L2_AV1_SEGMENTATION_FLAG_ENABLED),
        (update_map, V4L2_AV1_SEGMENTATION_FLAG_UPDATE_MAP),
        (temporal_update, V4L2_AV1_SEGMENTATION_FLAG_TEMPORAL_UPDATE),
        (update_data, V4L2_AV1_SEGMENTATION_FLAG_UPDATE_DATA),
    ]);
    match previous {
        Some(previous) if !update_data => {
            seg.feature_enabled = previous.feature_enabled;
            seg.feature_data = previous.feature_data;
        }
        _ => {
            for (enabled, data) in seg.feature_enabled.iter_mut().zip(&mut seg.feature_data) {
                for (feature, value) in data.iter_mut().enumerate() {
                    if r.flag()? {
                        *enabled |= 1 << feature;
                        let (bits, max) = (BITS[feature], MAX[feature]);
                        *value = if feature < V4L2_AV1_SEG_LVL_REF_FRAME {
                            r.signed(bits + 1)?.clamp(-max, max) as i16
                        } else {
                            (r.bits(bits)? as i32).min(max) as i16
                        };
                    }
                }
            }
        }
    }
    for (segment, enabled) in (0..).zip(seg.feature_enabled) {
        if enabled != 0 {
            seg.last_active_seg_id = segment;
        }
        if enabled >> V4L2_AV1_SEG_LVL_REF_FRAME != 0 {
            seg.flags |= V4L2_AV1_SEGMENTATION_FLAG_SEG_ID_PRE_SKIP;
        }
    }
    Ok(seg)
}

/// `CodedLossless` (5.9.2).
pub(super) fn coded_lossless(q: &V4l2Av1Quantization, seg: &V4l2Av1Segmentation) -> bool {
    let deltas = [
        q.delta_q_y_dc,
        q.delta_q_u_dc,
        q.delta_q_u_ac,
        q.delta_q_v_dc,
        q.delta_q_v_ac,
    ];
    let index = |segment: usize| {
        let base = i32::from(q.base_q_idx);
        if seg.flags & V4L2_AV1_SEGMENTATION_FLAG_ENABLED != 0
            && (seg.feature_enabled[segment] >> V4L2_AV1_SEG_LVL_ALT_Q) & 1 != 0
        {
            (base + i32::from(seg.feature_data[segment][V4L2_AV1_SEG_LVL_ALT_Q])).clamp(0, 255)
        } else {
            base
        }
    };
    deltas == [0; 5] && (0..8).all(|segment| index(segment) == 0)
}

/// Deltas of a loop filter that depends on no frame before (`setup_past_independence()`, 7.20).
pub(super) const DEFAULT_REF_DELTAS: [i8; 8] = [1, 0, 0, 0, -1, 0, -1, -1];

/// `loop_filter_params()` (5.9.11); `lf` comes with the deltas that are in effect before.
pub(super) fn loop_filter(
    r: &mut Reader<'_>,
    lf: &mut V4l2Av1LoopFilter,
    sequence: &Sequence,
    lossless_or_intrabc: bool,
) -> Result<(), Wrong> {
    if lossless_or_intrabc {
        lf.ref_deltas = DEFAULT_REF_DELTAS;
        lf.mode_deltas = [0; 2];
        return Ok(());
    }
    lf.level[0] = r.small(6)?;
    lf.level[1] = r.small(6)?;
    if !sequence.mono_chrome() && (lf.level[0] != 0 || lf.level[1] != 0) {
        lf.level[2] = r.small(6)?;
        lf.level[3] = r.small(6)?;
    }
    lf.sharpness = r.small(3)?;
    if r.flag()? {
        lf.flags |= V4L2_AV1_LOOP_FILTER_FLAG_DELTA_ENABLED;
        if r.flag()? {
            lf.flags |= V4L2_AV1_LOOP_FILTER_FLAG_DELTA_UPDATE;
            for delta in lf.ref_deltas.iter_mut().chain(&mut lf.mode_deltas) {
                if r.flag()? {
                    *delta = r.signed(7)? as i8;
                }
            }
        }
    }
    Ok(())
}

/// `cdef_params()` (5.9.19), of a frame that has them.
pub(super) fn cdef(r: &mut Reader<'_>, sequence: &Sequence) -> Result<V4l2Av1Cdef, Wrong> {
    let mut cdef = V4l2Av1Cdef {
        damping_minus_3: r.small(2)?,
        bits: r.small(2)?,
        ..Default::default()
    };
    // The code 3 of a secondary strength means 4.
    let secondary = |code: u8| if code == 3 { 4 } else { code };
    for index in 0..1 << cdef.bits {
        cdef.y_pri_strength[index] = r.small(4)?;
        cdef.y_sec_strength[index] = secondary(r.small(2)?);
        if !sequence.mono_chrome() {
            cdef.uv_pri_strength[index] = r.small(4)?;
            cdef.uv_sec_strength[index] = secondary(r.small(2)?);
        }
    }
    Ok(cdef)
}

/// `lr_params()` (5.9.20), of a frame that has them.
pub(super) fn loop_restoration(
    r: &mut Reader<'_>,
    sequence: &Sequence,
) -> Result<V4l2Av1LoopRestoration, Wrong> {
    // Remap_Lr_Type: none, switchable, Wiener, self-guided.
    const REMAP: [u32; 4] = [0, 3, 1, 2];
    let mut lr = V4l2Av1LoopRestoration::default();
    let planes = if sequence.mono_chrome() { 1 } else { 3 };
    for kind in &mut lr.frame_restoration_type[..planes] {
        *kind = REMAP[r.bits(2)? as usize];
    }
    let uses = lr.frame_restoration_type != [0; 3];
    let uses_chroma = lr.frame_restoration_type[1..] != [0; 2];
    lr.flags = flags([
        (uses, V4L2_AV1_LOOP_RESTORATION_FLAG_USES_LR),
        (uses_chroma, V4L2_AV1_LOOP_RESTORATION_FLAG_USES_CHROMA_LR),
    ]);
    if uses {
        lr.lr_unit_shift = r.small(1)?;
        if sequence.has(V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK) {
            lr.lr_unit_shift += 1;
        } else if lr.lr_unit_shift != 0 {
            lr.lr_unit_shift += r.small(1)?;
        }
        let subsampled = sequence.has(V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X)
            && sequence.has(V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y);
        if subsampled && uses_chroma {
            lr.lr_uv_shift = r.small(1)?;
        }
        let luma = 64 << lr.lr_unit_shift;
        let chroma = luma >> lr.lr_uv_shift;
        lr.loop_restoration_size = [luma, chroma, chroma];
    }
    Ok(lr)
}

/// `global_motion_params()` (5.9.24) of a frame with references. `invalid` stays 0: a device derives
/// warpValid itself (7.11.3.6).
pub(super) fn global_motion(
    r: &mut Reader<'_>,
    previous: &[[i32; 6]; 8],
    allow_high_precision_mv: bool,
) -> Result<V4l2Av1GlobalMotion, Wrong> {
    let mut gm = no_global_motion();
    for (reference, previous) in previous.iter().enumerate().skip(1) {
        let mut all = 0;
        let kind = if !r.flag()? {
            V4L2_AV1_WARP_MODEL_IDENTITY
        } else {
            all |= V4L2_AV1_GLOBAL_MOTION_FLAG_IS_GLOBAL;
            if r.flag()? {
                all |= V4L2_AV1_GLOBAL_MOTION_FLAG_IS_ROT_ZOOM;
                V4L2_AV1_WARP_MODEL_ROTZOOM
            } else if r.flag()? {
                all |= V4L2_AV1_GLOBAL_MOTION_FLAG_IS_TRANSLATION;
                V4L2_AV1_WARP_MODEL_TRANSLATION
            } else {
                V4L2_AV1_WARP_MODEL_AFFINE
            }
        };
        gm.flags[reference] = all;
        gm.type_[reference] = kind;
        let params = &mut gm.params[reference];
        let mut read = |index: usize| {
            let value = global_param(r, kind, index, previous[index], allow_high_precision_mv);
            value.map(|value| params[index] = value)
        };
        if kind >= V4L2_AV1_WARP_MODEL_ROTZOOM {
            read(2)?;
            read(3)?;
            if kind == V4L2_AV1_WARP_MODEL_AFFINE {
                read(4)?;
                read(5)?;
            }
        }
        if kind >= V4L2_AV1_WARP_MODEL_TRANSLATION {
            read(0)?;
            read(1)?;
        }
        if kind == V4L2_AV1_WARP_MODEL_ROTZOOM {
            params[4] = -params[3];
            params[5] = params[2];
        }
    }
    Ok(gm)
}

/// Global motion of a frame without any.
pub(super) fn no_global_motion() -> V4l2Av1GlobalMotion {
    V4l2Av1GlobalMotion {
        params: [IDENTITY; 8],
        ..Default::default()
    }
}

/// `read_global_param()` (5.9.25).
fn global_param(
    r: &mut Reader<'_>,
    kind: u32,
    index: usize,
    previous: i32,
    allow_high_precision_mv: bool,
) -> Result<i32, Wrong> {
    let low = u32::from(!allow_high_precision_mv);
    let (abs_bits, precision) = match (index < 2, kind) {
        (true, V4L2_AV1_WARP_MODEL_TRANSLATION) => (9 - low, 3 - low),
        (true, _) => (12, 6),
        (false, _) => (12, 15),
    };
    let shift = WARP_BITS - precision;
    let diagonal = index % 3 == 2;
    let round = if diagonal { 1 << WARP_BITS } else { 0 };
    let sub = if diagonal { 1 << precision } else { 0 };
    let limit = 1 << abs_bits;
    let value = r.signed_subexp(-limit, limit + 1, (previous >> shift) - sub)?;
    Ok((value << shift) + round)
}

/// `film_grain_params()` (5.9.30), of a frame that may have grain. `load` gives those of a slot; what it
/// gives is repeated in the control.
pub(super) fn film_grain(
    r: &mut Reader<'_>,
    sequence: &Sequence,
    inter_frame: bool,
    load: impl Fn(u8) -> Option<V4l2CtrlAv1FilmGrain>,
) -> Result<V4l2CtrlAv1FilmGrain, Wrong> {
    let mut grain = V4l2CtrlAv1FilmGrain::default();
    if !r.flag()? {
        return Ok(grain);
    }
    let grain_seed = r.bits(16)? as u16;
    if inter_frame && !r.flag()? {
        let slot = r.small(3)?;
        grain = load(slot).ok_or("film grain of a picture that is not there")?;
        grain.grain_seed = grain_seed;
        grain.film_grain_params_ref_idx = slot;
        grain.flags &= !V4L2_AV1_FILM_GRAIN_FLAG_UPDATE_GRAIN;
        return Ok(grain);
    }
    grain.grain_seed = grain_seed;
    let count = r.small(4)?;
    read_points(r, count, 14, &mut grain.point_y_value, &mut grain.point_y_scaling)?;
    grain.num_y_points = count;
    let from_luma = !sequence.mono_chrome() && r.flag()?;
    let subsampled = sequence.has(V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X)
        && sequence.has(V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y);
    if !(sequence.mono_chrome() || from_luma || subsampled && grain.num_y_points == 0) {
        let count = r.small(4)?;
        read_points(
            r,
            count,
            10,
            &mut grain.point_cb_value,
            &mut grain.point_cb_scaling,
        )?;
        grain.num_cb_points = count;
        let count = r.small(4)?;
        read_points(
            r,
            count,
            10,
            &mut grain.point_cr_value,
            &mut grain.point_cr_scaling,
        )?;
        grain.num_cr_points = count;
    }
    grain.grain_scaling_minus_8 = r.small(2)?;
    grain.ar_coeff_lag = r.small(2)?;
    let lag = usize::from(grain.ar_coeff_lag);
    let luma = 2 * lag * (lag + 1);
    let chroma = luma + usize::from(grain.num_y_points > 0);
    let (cb, cr) = (
        from_luma || grain.num_cb_points > 0,
        from_luma || grain.num_cr_points > 0,
    );
    for (present, count, coefficients) in [
        (grain.num_y_points > 0, luma, &mut grain.ar_coeffs_y_plus_128),
        (cb, chroma, &mut grain.ar_coeffs_cb_plus_128),
        (cr, chroma, &mut grain.ar_coeffs_cr_plus_128),
    ] {
        for coefficient in coefficients.iter_mut().take(if present { count } else { 0 }) {
            *coefficient = r.small(8)?;
        }
    }
    grain.ar_coeff_shift_minus_6 = r.small(2)?;
    grain.grain_scale_shift = r.small(2)?;
    if grain.num_cb_points > 0 {
        grain.cb_mult = r.small(8)?;
        grain.cb_luma_mult = r.small(8)?;
        grain.cb_offset = r.bits(9)? as u16;
    }
    if grain.num_cr_points > 0 {
        grain.cr_mult = r.small(8)?;
        grain.cr_luma_mult = r.small(8)?;
        grain.cr_offset = r.bits(9)? as u16;
    }
    grain.flags = flags([
        (true, V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN),
        (true, V4L2_AV1_FILM_GRAIN_FLAG_UPDATE_GRAIN),
        (from_luma, V4L2_AV1_FILM_GRAIN_FLAG_CHROMA_SCALING_FROM_LUMA),
        (r.flag()?, V4L2_AV1_FILM_GRAIN_FLAG_OVERLAP),
        (r.flag()?, V4L2_AV1_FILM_GRAIN_FLAG_CLIP_TO_RESTRICTED_RANGE),
    ]);
    Ok(grain)
}

/// The points of a scaling function: `count` of them, at most `limit`.
fn read_points(
    r: &mut Reader<'_>,
    count: u8,
    limit: u8,
    values: &mut [u8; 16],
    scalings: &mut [u8; 16],
) -> Result<(), Wrong> {
    if count > limit {
        return Err("too many film grain points");
    }
    for (value, scaling) in values.iter_mut().zip(scalings).take(usize::from(count)) {
        *value = r.small(8)?;
        *scaling = r.small(8)?;
    }
    Ok(())
}
