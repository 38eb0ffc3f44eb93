// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Controls of arbitrary AV1 frames that a conforming stream could have.

use daedalus_uapi::v4l2_controls::*;

use crate::Draw;

/// Widths and heights of the tiles, in superblocks.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) columns: Vec<u32>,
    pub(crate) rows: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct DrawnFrame {
    pub(crate) sequence: V4l2CtrlAv1Sequence,
    pub(crate) frame: V4l2CtrlAv1Frame,
    pub(crate) film_grain: Option<V4l2CtrlAv1FilmGrain>,
    pub(crate) layout: Layout,
    pub(crate) tiles: Vec<V4l2CtrlAv1TileGroupEntry>,
    /// The data of each tile, in coding order.
    pub(crate) tile_data: Vec<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn sequence(draw: &mut Draw<'_>) -> V4l2CtrlAv1Sequence {
    const SUBSAMPLING: u32 = V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X | V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y;

    let seq_profile = draw.u8(0..=2);
    let bit_depth = [8, 10, 12][usize::from(draw.u8(0..=if seq_profile == 2 { 2 } else { 1 }))];
    let mut flags = draw.within(0..=0xffff) as u32 & !V4L2_AV1_SEQUENCE_FLAG_STILL_PICTURE;
    if draw.flag() {
        flags |= V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT;
    }
    if seq_profile == 1 {
        flags &= !V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME;
    }
    let mono = flags & V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME != 0;
    flags |= match (mono, seq_profile, bit_depth) {
        (true, ..) | (_, 0, _) => SUBSAMPLING,
        (_, 1, _) => 0,
        (_, _, 12) => [0, V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X, SUBSAMPLING][usize::from(draw.u8(0..=2))],
        _ => V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X,
    };
    if !mono && draw.flag() {
        flags |= V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q;
    }
    let mut order_hint_bits = draw.u8(1..=8);
    if flags & V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT == 0 {
        order_hint_bits = 0;
        flags &= !(V4L2_AV1_SEQUENCE_FLAG_ENABLE_JNT_COMP | V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS);
    }
    V4l2CtrlAv1Sequence {
        flags,
        seq_profile,
        order_hint_bits,
        bit_depth,
        reserved: 0,
        max_frame_width_minus_1: draw.within(15..=1999) as u16,
        max_frame_height_minus_1: draw.within(15..=1499) as u16,
    }
}

/// Flags that a VA-API client, which is not told them, sets by what the frame uses.
pub(crate) const TOOLS: u32 = V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES
    | V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS
    | V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION
    | V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION
    | V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q;

/// Draws [`TOOLS`] anew, of those that the sequence could have.
pub(crate) fn tools(draw: &mut Draw<'_>, sequence: &V4l2CtrlAv1Sequence) -> V4l2CtrlAv1Sequence {
    let mut flags = sequence.flags & !TOOLS;
    for tool in (0..32).map(|bit| 1 << bit).filter(|tool| TOOLS & tool != 0) {
        let possible = match tool {
            V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS => sequence.order_hint_bits > 0,
            V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q => flags & V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME == 0,
            _ => true,
        };
        if draw.flag() && possible {
            flags |= tool;
        }
    }
    V4l2CtrlAv1Sequence { flags, ..*sequence }
}

impl DrawnFrame {
    pub(crate) fn new(draw: &mut Draw<'_>, sequence: &V4l2CtrlAv1Sequence, first: bool) -> Self {
        let mut frame = V4l2CtrlAv1Frame::default();
        kind(draw, sequence, &mut frame, first);
        size(draw, sequence, &mut frame, first);
        references(draw, sequence, &mut frame);
        quantization(draw, sequence, &mut frame);
        segmentation(draw, &mut frame);
        filters(draw, sequence, &mut frame);
        motion(draw, &mut frame);
        let layout = layout(draw, sequence, &mut frame);
        let film_grain = draw.flag().then(|| grain(draw));
        let mut drawn = Self {
            sequence: *sequence,
            frame,
            film_grain,
            layout,
            tiles: Vec::new(),
            tile_data: Vec::new(),
            payload: Vec::new(),
        };
        drawn.fill_payload(draw);
        drawn
    }

    /// Data for each tile, in arbitrary order in the payload and in the control.
    fn fill_payload(&mut self, draw: &mut Draw<'_>) {
        let (columns, rows) = (self.layout.columns.len(), self.layout.rows.len());
        let count = columns * rows;
        let large = draw.within(0..=40) * 1000;
        for n in 0..count {
            let size = 1 + draw.within(0..=300) as usize + if n == 0 { large as usize } else { 0 };
            self.tile_data
                .push((0..size).map(|i| (n * 31 + i) as u8).collect());
        }
        let rotation = draw.within(0..=511) as usize;
        for i in 0..count {
            let n = (i + rotation) % count;
            self.payload.extend((0..draw.u8(0..=3)).map(|_| 0xaa));
            self.tiles.push(V4l2CtrlAv1TileGroupEntry {
                tile_offset: self.payload.len() as u32,
                tile_size: self.tile_data[n].len() as u32,
                tile_row: (n / columns) as u32,
                tile_col: (n % columns) as u32,
            });
            self.payload.extend(&self.tile_data[n]);
        }
    }
}

fn set(flags: &mut u32, flag: u32, on: bool) {
    *flags = if on { *flags | flag } else { *flags & !flag };
}

/// Type, show flags and the flags that depend on little else.
fn kind(draw: &mut Draw<'_>, sequence: &V4l2CtrlAv1Sequence, f: &mut V4l2CtrlAv1Frame, first: bool) {
    use V4L2_AV1_FRAME_FLAG_SHOW_FRAME as SHOW;
    f.frame_type = if first {
        V4L2_AV1_KEY_FRAME
    } else {
        [1, 1, 1, 0, 2, 3][usize::from(draw.u8(0..=5))]
    };
    let (key, intra) = (
        f.frame_type == V4L2_AV1_KEY_FRAME,
        f.frame_type == V4L2_AV1_KEY_FRAME || f.frame_type == V4L2_AV1_INTRA_ONLY_FRAME,
    );
    let show = first || draw.flag();
    set(&mut f.flags, SHOW, show);
    set(
        &mut f.flags,
        V4L2_AV1_FRAME_FLAG_SHOWABLE_FRAME,
        if show { !key } else { draw.flag() },
    );
    let implied = key && show || f.frame_type == V4L2_AV1_SWITCH_FRAME;
    let resilient = implied || draw.flag();
    set(&mut f.flags, V4L2_AV1_FRAME_FLAG_ERROR_RESILIENT_MODE, resilient);
    f.refresh_frame_flags = match (implied, f.frame_type) {
        (true, _) => 0xff,
        (_, V4L2_AV1_INTRA_ONLY_FRAME) => draw.u8(0..=0xfe),
        _ => draw.u8(0..=0xff),
    };
    f.primary_ref_frame = if intra || resilient { 7 } else { draw.u8(0..=7) };
    f.order_hint = u32::from(draw.byte()) & ((1 << sequence.order_hint_bits) - 1);
    let disable_cdf_update = draw.flag();
    set(
        &mut f.flags,
        V4L2_AV1_FRAME_FLAG_DISABLE_CDF_UPDATE,
        disable_cdf_update,
    );
    let no_end = disable_cdf_update || draw.flag();
    set(
        &mut f.flags,
        V4L2_AV1_FRAME_FLAG_DISABLE_FRAME_END_UPDATE_CDF,
        no_end,
    );
    let screen = draw.flag();
    set(
        &mut f.flags,
        V4L2_AV1_FRAME_FLAG_ALLOW_SCREEN_CONTENT_TOOLS,
        screen,
    );
    let integer = intra || screen && draw.flag();
    set(&mut f.flags, V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV, integer);
    set(&mut f.flags, V4L2_AV1_FRAME_FLAG_REDUCED_TX_SET, draw.flag());
    f.tx_mode = if draw.flag() {
        V4L2_AV1_TX_MODE_SELECT
    } else {
        V4L2_AV1_TX_MODE_LARGEST
    };
}

fn size(draw: &mut Draw<'_>, sequence: &V4l2CtrlAv1Sequence, f: &mut V4l2CtrlAv1Frame, first: bool) {
    let (max_width, max_height) = (
        i32::from(sequence.max_frame_width_minus_1) + 1,
        i32::from(sequence.max_frame_height_minus_1) + 1,
    );
    let (mut width, mut height) = (max_width, max_height);
    if !first && draw.flag() {
        (width, height) = (draw.within(16..=max_width), draw.within(16..=max_height));
    }
    f.superres_denom = 8;
    if sequence.flags & V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES != 0 && draw.flag() {
        f.flags |= V4L2_AV1_FRAME_FLAG_USE_SUPERRES;
        f.superres_denom = draw.u8(9..=16);
    }
    let denominator = i32::from(f.superres_denom);
    let coded = (width * 8 + denominator / 2) / denominator;
    f.upscaled_width = width as u32;
    f.frame_width_minus_1 = coded as u32 - 1;
    f.frame_height_minus_1 = height as u32 - 1;
    let other = draw.flag();
    f.render_width_minus_1 = if other { draw.within(0..=65535) } else { width - 1 } as u16;
    f.render_height_minus_1 = if other { draw.within(0..=65535) } else { height - 1 } as u16;
    let intra = f.frame_type == V4L2_AV1_KEY_FRAME || f.frame_type == V4L2_AV1_INTRA_ONLY_FRAME;
    if intra && f.flags & V4L2_AV1_FRAME_FLAG_ALLOW_SCREEN_CONTENT_TOOLS != 0 && coded == width {
        set(&mut f.flags, V4L2_AV1_FRAME_FLAG_ALLOW_INTRABC, draw.flag());
    }
}

fn references(draw: &mut Draw<'_>, sequence: &V4l2CtrlAv1Sequence, f: &mut V4l2CtrlAv1Frame) {
    if f.frame_type == V4L2_AV1_KEY_FRAME || f.frame_type == V4L2_AV1_INTRA_ONLY_FRAME {
        return;
    }
    f.ref_frame_idx.iter_mut().for_each(|i| *i = draw.i8(0..=7));
    f.interpolation_filter = draw.u8(0..=4).into();
    let resilient = f.flags & V4L2_AV1_FRAME_FLAG_ERROR_RESILIENT_MODE != 0;
    let integer = f.flags & V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV != 0;
    let mvs = sequence.flags & V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS != 0;
    let warped = sequence.flags & V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION != 0;
    for (flag, possible) in [
        (V4L2_AV1_FRAME_FLAG_ALLOW_HIGH_PRECISION_MV, !integer),
        (V4L2_AV1_FRAME_FLAG_IS_MOTION_MODE_SWITCHABLE, true),
        (V4L2_AV1_FRAME_FLAG_USE_REF_FRAME_MVS, mvs && !resilient),
        (V4L2_AV1_FRAME_FLAG_ALLOW_WARPED_MOTION, warped && !resilient),
        (V4L2_AV1_FRAME_FLAG_REFERENCE_SELECT, true),
        (V4L2_AV1_FRAME_FLAG_SKIP_MODE_PRESENT, true),
    ] {
        let on = draw.flag() && possible;
        set(&mut f.flags, flag, on);
    }
}

fn quantization(draw: &mut Draw<'_>, sequence: &V4l2CtrlAv1Sequence, f: &mut V4l2CtrlAv1Frame) {
    let q = &mut f.quantization;
    let separate = sequence.flags & V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q != 0;
    // Lossless frames often enough.
    q.base_q_idx = if draw.u8(0..=3) == 0 { 0 } else { draw.byte() };
    q.flags = draw.byte();
    let deltas = draw.flag();
    let mut delta = || if deltas { draw.i8(-64..=63) } else { 0 };
    q.delta_q_y_dc = delta();
    (q.delta_q_u_dc, q.delta_q_u_ac) = (delta(), delta());
    (q.delta_q_v_dc, q.delta_q_v_ac) = (q.delta_q_u_dc, q.delta_q_u_ac);
    if separate {
        (q.delta_q_v_dc, q.delta_q_v_ac) = (delta(), delta());
    }
    (q.qm_y, q.qm_u) = (draw.u8(0..=15), draw.u8(0..=15));
    q.qm_v = if separate { draw.u8(0..=15) } else { q.qm_u };
    q.delta_q_res = draw.u8(0..=3);
}

fn segmentation(draw: &mut Draw<'_>, f: &mut V4l2CtrlAv1Frame) {
    let s = &mut f.segmentation;
    s.flags = draw.u8(0..=0x0f);
    for (enabled, data) in s.feature_enabled.iter_mut().zip(&mut s.feature_data) {
        *enabled = draw.byte();
        *data = [255, 63, 63, 63, 63]
            .map(|max| draw.within(-max..=max) as i16)
            .into_iter()
            .chain([draw.within(0..=7) as i16, 0, 0])
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_default();
    }
}

fn filters(draw: &mut Draw<'_>, sequence: &V4l2CtrlAv1Sequence, f: &mut V4l2CtrlAv1Frame) {
    let lf = &mut f.loop_filter;
    lf.flags = draw.u8(0..=0x0f);
    lf.level = [(); 4].map(|()| draw.u8(0..=63));
    lf.sharpness = draw.u8(0..=7);
    lf.ref_deltas = [(); 8].map(|()| draw.i8(-64..=63));
    lf.mode_deltas = [(); 2].map(|()| draw.i8(-64..=63));
    lf.delta_lf_res = draw.u8(0..=3);

    let cdef = &mut f.cdef;
    (cdef.damping_minus_3, cdef.bits) = (draw.u8(0..=3), draw.u8(0..=3));
    cdef.y_pri_strength = [(); 8].map(|()| draw.u8(0..=15));
    cdef.y_sec_strength = [(); 8].map(|()| draw.u8(0..=4));
    cdef.uv_pri_strength = [(); 8].map(|()| draw.u8(0..=15));
    cdef.uv_sec_strength = [(); 8].map(|()| draw.u8(0..=4));

    let lr = &mut f.loop_restoration;
    let restored = sequence.flags & V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION != 0;
    lr.frame_restoration_type = [(); 3].map(|()| draw.u8(0..=if restored { 3 } else { 0 }).into());
    let big = sequence.flags & V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK != 0;
    lr.lr_unit_shift = draw.u8(u8::from(big)..=2);
    let subsampled = V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X | V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y;
    lr.lr_uv_shift = u8::from(sequence.flags & subsampled == subsampled && draw.flag());
    let luma = 64 << lr.lr_unit_shift;
    lr.loop_restoration_size = [luma, luma >> lr.lr_uv_shift, luma >> lr.lr_uv_shift];
}

fn motion(draw: &mut Draw<'_>, f: &mut V4l2CtrlAv1Frame) {
    let one = 1 << 16;
    let high = f.flags & V4L2_AV1_FRAME_FLAG_ALLOW_HIGH_PRECISION_MV != 0;
    for reference in 1..8 {
        let params = &mut f.global_motion.params[reference];
        *params = [0, 0, one, 0, 0, one];
        let kind = if f.primary_ref_frame == 7 {
            0
        } else {
            u32::from(draw.u8(0..=3))
        };
        f.global_motion.type_[reference] = kind;
        if kind == V4L2_AV1_WARP_MODEL_TRANSLATION {
            let (max, shift) = if high { (127, 13) } else { (63, 14) };
            params[..2].fill_with(|| draw.within(-max..=max) << shift);
        } else if kind != V4L2_AV1_WARP_MODEL_IDENTITY {
            params[..2].fill_with(|| draw.within(-1000..=1000) << 10);
            params[2] = one + (draw.within(-100..=100) << 1);
            params[3] = draw.within(-100..=100) << 1;
            (params[4], params[5]) = (-params[3], params[2]);
            if kind == V4L2_AV1_WARP_MODEL_AFFINE {
                params[4] = draw.within(-100..=100) << 1;
                params[5] = one + (draw.within(-100..=100) << 1);
            }
        }
    }
}

/// Parts of `total`: uniform or arbitrary, at most 64 and none larger than `max`.
fn parts(draw: &mut Draw<'_>, total: u32, uniform: bool, max: u32) -> Vec<u32> {
    let mut left = total;
    let size = if uniform {
        total.div_ceil(1 << draw.u8(0..=3))
    } else {
        0
    };
    std::iter::from_fn(|| {
        let size = if uniform {
            size
        } else {
            draw.within(1..=max.min(9) as i32) as u32
        };
        let part = size.min(left);
        left -= part;
        (part > 0).then_some(part)
    })
    .collect()
}

fn layout(draw: &mut Draw<'_>, sequence: &V4l2CtrlAv1Sequence, f: &mut V4l2CtrlAv1Frame) -> Layout {
    let mi_shift = if sequence.flags & V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK != 0 {
        5
    } else {
        4
    };
    let superblocks = |minus_1: u32| (minus_1 + 1).div_ceil(4 << mi_shift);
    let (wide, high) = (
        superblocks(f.frame_width_minus_1),
        superblocks(f.frame_height_minus_1),
    );
    let t = &mut f.tile_info;
    let uniform = draw.flag();
    t.flags = u8::from(uniform);
    // Frames here are below the area from which tiles are required, so that only the shape limits them.
    let columns = parts(draw, wide, uniform, wide);
    let widest = columns.iter().copied().max().unwrap_or(1);
    let rows = parts(draw, high, uniform, (wide * high / widest).max(1));
    (t.tile_cols, t.tile_rows) = (columns.len() as u8, rows.len() as u8);
    // What clients leave out: the sizes or the starts.
    let sizes_given = draw.flag();
    for (parts, minus_1, starts) in [
        (&columns, &mut t.width_in_sbs_minus_1, &mut t.mi_col_starts),
        (&rows, &mut t.height_in_sbs_minus_1, &mut t.mi_row_starts),
    ] {
        let mut start = 0;
        for (i, &part) in parts.iter().enumerate() {
            if sizes_given {
                minus_1[i] = part - 1;
            } else {
                starts[i] = start << mi_shift;
            }
            start += part;
        }
    }
    let count = columns.len() * rows.len();
    t.context_update_tile_id = draw.within(0..=count.min(256) as i32 - 1) as u8;
    t.tile_size_bytes = draw.u8(1..=4);
    Layout { columns, rows }
}

fn grain(draw: &mut Draw<'_>) -> V4l2CtrlAv1FilmGrain {
    let mut points = |max: u8| {
        let count = draw.u8(0..=max);
        let mut values = [0; 16];
        let mut at = 0;
        for value in &mut values[..count.into()] {
            at += draw.u8(1..=17);
            *value = at;
        }
        (count, values, [(); 16].map(|()| draw.byte()))
    };
    let ((num_y_points, point_y_value, point_y_scaling), cb, cr) = (points(14), points(10), points(10));
    V4l2CtrlAv1FilmGrain {
        flags: draw.u8(0..=0x1f),
        cr_mult: draw.byte(),
        grain_seed: draw.within(0..=65535) as u16,
        film_grain_params_ref_idx: draw.u8(0..=7),
        num_y_points,
        point_y_value,
        point_y_scaling,
        num_cb_points: cb.0,
        point_cb_value: cb.1,
        point_cb_scaling: cb.2,
        num_cr_points: cr.0,
        point_cr_value: cr.1,
        point_cr_scaling: cr.2,
        grain_scaling_minus_8: draw.u8(0..=3),
        ar_coeff_lag: draw.u8(0..=3),
        ar_coeffs_y_plus_128: [(); 25].map(|()| draw.byte()),
        ar_coeffs_cb_plus_128: [(); 25].map(|()| draw.byte()),
        ar_coeffs_cr_plus_128: [(); 25].map(|()| draw.byte()),
        ar_coeff_shift_minus_6: draw.u8(0..=3),
        grain_scale_shift: draw.u8(0..=3),
        cb_mult: draw.byte(),
        cb_luma_mult: draw.byte(),
        cr_luma_mult: draw.byte(),
        cb_offset: draw.within(0..=511) as u16,
        cr_offset: draw.within(0..=511) as u16,
        reserved: [0; 4],
    }
}
