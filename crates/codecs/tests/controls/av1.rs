// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AV1 frames.
//!
//! cros-codecs 0.0.6 bounds what is compared: it starts global motion without a primary reference from
//! wrong parameters, forgets an addend in the longest code of a parameter, and overflows on steep
//! affine parameters. Frames without a primary reference therefore have no global motion here, and the
//! parameters are small; the code itself is tested beside the writer.

#[path = "av1_draw.rs"]
mod draw;

use cros_codecs::codec::av1::parser::{ObuAction, ParsedObu, Parser};
use daedalus_codecs::av1::{Av1Error, Av1Frame, Av1Writer};
use daedalus_uapi::v4l2_controls::*;
use proptest::prelude::*;
use zerocopy::FromBytes;

use crate::Draw;
use draw::{DrawnFrame, Layout};

/// Parses the OBUs of one temporal unit: the frame's header and its tiles' data.
fn parse(parser: &mut Parser, unit: &[u8]) -> Result<(FrameHeader, Vec<Vec<u8>>), String> {
    let mut rest = unit;
    let mut frame = None;
    while !rest.is_empty() {
        let ObuAction::Process(obu) = parser.read_obu(rest)? else {
            return Err("dropped".to_owned());
        };
        rest = &rest[obu.bytes_used..];
        if let ParsedObu::Frame(f) = parser.parse_obu(obu)? {
            let data = f.tile_group.obu.as_ref();
            let tile = |offset: u32, size: u32| data[offset as usize..(offset + size) as usize].to_vec();
            let tiles = f
                .tile_group
                .tiles
                .iter()
                .map(|t| tile(t.tile_offset, t.tile_size))
                .collect();
            frame = Some((f.header, tiles));
        }
    }
    frame.ok_or("no frame OBU".to_owned())
}

type FrameHeader = cros_codecs::codec::av1::parser::FrameHeaderObu;

fn job(drawn: &DrawnFrame, timestamp: u64) -> Av1Frame<'_> {
    Av1Frame {
        sequence: &drawn.sequence,
        frame: &drawn.frame,
        tiles: &drawn.tiles,
        film_grain: drawn.film_grain.as_ref(),
        payload: &drawn.payload,
        timestamp,
    }
}

/// Compares all but the tools that are always on and the largest size, which each frame codes otherwise.
fn same_sequence(parser: &Parser, control: &V4l2CtrlAv1Sequence) -> Result<(), TestCaseError> {
    let s = parser
        .sequence_header
        .clone()
        .ok_or_else(|| TestCaseError::fail("no sequence header"))?;
    let flag = |f: u32| match f {
        V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS => control.order_hint_bits > 0,
        V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q => control.flags & V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME == 0,
        _ => (control.flags | draw::TOOLS) & f != 0,
    };
    let cc = &s.color_config;
    prop_assert_eq!(s.seq_profile as u8, control.seq_profile);
    prop_assert_eq!(8 + 2 * (s.bit_depth as u8), control.bit_depth);
    prop_assert_eq!(s.max_frame_width_minus_1, 0xffff);
    prop_assert_eq!(s.max_frame_height_minus_1, 0xffff);
    prop_assert_eq!(s.order_hint_bits, i32::from(control.order_hint_bits));
    let flags = [
        (
            s.use_128x128_superblock,
            V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK,
        ),
        (s.enable_filter_intra, V4L2_AV1_SEQUENCE_FLAG_ENABLE_FILTER_INTRA),
        (
            s.enable_intra_edge_filter,
            V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTRA_EDGE_FILTER,
        ),
        (
            s.enable_interintra_compound,
            V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTERINTRA_COMPOUND,
        ),
        (
            s.enable_masked_compound,
            V4L2_AV1_SEQUENCE_FLAG_ENABLE_MASKED_COMPOUND,
        ),
        (
            s.enable_warped_motion,
            V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION,
        ),
        (s.enable_dual_filter, V4L2_AV1_SEQUENCE_FLAG_ENABLE_DUAL_FILTER),
        (s.enable_order_hint, V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT),
        (s.enable_jnt_comp, V4L2_AV1_SEQUENCE_FLAG_ENABLE_JNT_COMP),
        (
            s.enable_ref_frame_mvs,
            V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS,
        ),
        (s.enable_superres, V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES),
        (s.enable_cdef, V4L2_AV1_SEQUENCE_FLAG_ENABLE_CDEF),
        (s.enable_restoration, V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION),
        (cc.mono_chrome, V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME),
        (cc.color_range, V4L2_AV1_SEQUENCE_FLAG_COLOR_RANGE),
        (cc.subsampling_x, V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X),
        (cc.subsampling_y, V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y),
        (
            s.film_grain_params_present,
            V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT,
        ),
        (cc.separate_uv_delta_q, V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q),
    ];
    for (parsed, bit) in flags {
        prop_assert_eq!(parsed, flag(bit), "sequence flag {:#x}", bit);
    }
    Ok(())
}

fn same_frame(h: &FrameHeader, drawn: &DrawnFrame) -> Result<(), TestCaseError> {
    let c = &drawn.frame;
    let mono = drawn.sequence.flags & V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME != 0;
    prop_assert_eq!(h.frame_type as u32, c.frame_type);
    prop_assert_eq!(
        u32::from(h.refresh_frame_flags as u8),
        u32::from(c.refresh_frame_flags)
    );
    prop_assert_eq!(h.order_hint, c.order_hint);
    prop_assert_eq!(h.primary_ref_frame, u32::from(c.primary_ref_frame));
    prop_assert_eq!(
        (h.upscaled_width, h.frame_width - 1),
        (c.upscaled_width, c.frame_width_minus_1)
    );
    prop_assert_eq!(h.frame_height - 1, c.frame_height_minus_1);
    prop_assert_eq!(h.render_width - 1, u32::from(c.render_width_minus_1));
    prop_assert_eq!(h.render_height - 1, u32::from(c.render_height_minus_1));
    let flags = [
        (h.show_frame, V4L2_AV1_FRAME_FLAG_SHOW_FRAME),
        (h.showable_frame, V4L2_AV1_FRAME_FLAG_SHOWABLE_FRAME),
        (h.error_resilient_mode, V4L2_AV1_FRAME_FLAG_ERROR_RESILIENT_MODE),
        (h.disable_cdf_update, V4L2_AV1_FRAME_FLAG_DISABLE_CDF_UPDATE),
        (
            h.allow_screen_content_tools != 0,
            V4L2_AV1_FRAME_FLAG_ALLOW_SCREEN_CONTENT_TOOLS,
        ),
        (h.force_integer_mv != 0, V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV),
        (h.allow_intrabc, V4L2_AV1_FRAME_FLAG_ALLOW_INTRABC),
        (h.use_superres, V4L2_AV1_FRAME_FLAG_USE_SUPERRES),
        (
            h.allow_high_precision_mv,
            V4L2_AV1_FRAME_FLAG_ALLOW_HIGH_PRECISION_MV,
        ),
        (
            h.is_motion_mode_switchable,
            V4L2_AV1_FRAME_FLAG_IS_MOTION_MODE_SWITCHABLE,
        ),
        (h.use_ref_frame_mvs, V4L2_AV1_FRAME_FLAG_USE_REF_FRAME_MVS),
        (
            h.disable_frame_end_update_cdf,
            V4L2_AV1_FRAME_FLAG_DISABLE_FRAME_END_UPDATE_CDF,
        ),
        (h.allow_warped_motion, V4L2_AV1_FRAME_FLAG_ALLOW_WARPED_MOTION),
        (h.reference_select, V4L2_AV1_FRAME_FLAG_REFERENCE_SELECT),
        (h.reduced_tx_set, V4L2_AV1_FRAME_FLAG_REDUCED_TX_SET),
    ];
    for (parsed, bit) in flags {
        // The parser reads use_superres into nothing; the denominator is compared below.
        if bit != V4L2_AV1_FRAME_FLAG_USE_SUPERRES {
            prop_assert_eq!(parsed, c.flags & bit != 0, "frame flag {:#x}", bit);
        }
    }
    prop_assert_eq!(h.superres_denom, u32::from(c.superres_denom));
    if h.skip_mode_frame != [0, 0] {
        prop_assert_eq!(
            h.skip_mode_present,
            c.flags & V4L2_AV1_FRAME_FLAG_SKIP_MODE_PRESENT != 0
        );
    }
    let inter = c.frame_type == V4L2_AV1_INTER_FRAME || c.frame_type == V4L2_AV1_SWITCH_FRAME;
    if inter {
        prop_assert_eq!(h.ref_frame_idx.map(|i| i as i8), c.ref_frame_idx);
        prop_assert_eq!(h.interpolation_filter as u32, c.interpolation_filter);
        let gm = &h.global_motion_params;
        for reference in 1..8 {
            prop_assert_eq!(gm.gm_type[reference] as u32, c.global_motion.type_[reference]);
            prop_assert_eq!(gm.gm_params[reference], c.global_motion.params[reference]);
        }
    }

    let (q, cq) = (&h.quantization_params, &c.quantization);
    prop_assert_eq!(q.base_q_idx, u32::from(cq.base_q_idx));
    prop_assert_eq!(q.delta_q_y_dc, i32::from(cq.delta_q_y_dc));
    if !mono {
        let parsed = [q.delta_q_u_dc, q.delta_q_u_ac, q.delta_q_v_dc, q.delta_q_v_ac];
        let control = [cq.delta_q_u_dc, cq.delta_q_u_ac, cq.delta_q_v_dc, cq.delta_q_v_ac];
        prop_assert_eq!(parsed, control.map(i32::from));
    }
    let using_qmatrix = cq.flags & V4L2_AV1_QUANTIZATION_FLAG_USING_QMATRIX != 0;
    prop_assert_eq!(q.using_qmatrix, using_qmatrix);
    if using_qmatrix {
        prop_assert_eq!(
            [q.qm_y, q.qm_u, q.qm_v],
            [cq.qm_y, cq.qm_u, cq.qm_v].map(u32::from)
        );
    }
    let delta_q_present = cq.base_q_idx > 0 && cq.flags & V4L2_AV1_QUANTIZATION_FLAG_DELTA_Q_PRESENT != 0;
    prop_assert_eq!(q.delta_q_present, delta_q_present);
    let (lf, clf) = (&h.loop_filter_params, &c.loop_filter);
    if delta_q_present {
        prop_assert_eq!(q.delta_q_res, u32::from(cq.delta_q_res));
        if !h.allow_intrabc {
            let present = clf.flags & V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_PRESENT != 0;
            prop_assert_eq!(lf.delta_lf_present, present);
            if present {
                prop_assert_eq!(lf.delta_lf_res, clf.delta_lf_res);
                let multi = clf.flags & V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_MULTI != 0;
                prop_assert_eq!(lf.delta_lf_multi, multi);
            }
        }
    }

    let (s, cs) = (&h.segmentation_params, &c.segmentation);
    let enabled = cs.flags & V4L2_AV1_SEGMENTATION_FLAG_ENABLED != 0;
    prop_assert_eq!(s.segmentation_enabled, enabled);
    if enabled {
        if c.primary_ref_frame != 7 {
            let update_map = cs.flags & V4L2_AV1_SEGMENTATION_FLAG_UPDATE_MAP != 0;
            prop_assert_eq!(s.segmentation_update_map, update_map);
            let temporal = update_map && cs.flags & V4L2_AV1_SEGMENTATION_FLAG_TEMPORAL_UPDATE != 0;
            prop_assert_eq!(s.segmentation_temporal_update, temporal);
        }
        for segment in 0..8 {
            for feature in 0..8 {
                let on = cs.feature_enabled[segment] & (1 << feature) != 0;
                prop_assert_eq!(s.feature_enabled[segment][feature], on);
                if on {
                    prop_assert_eq!(
                        s.feature_data[segment][feature],
                        cs.feature_data[segment][feature]
                    );
                }
            }
        }
    }
    if !h.coded_lossless && !h.allow_intrabc {
        prop_assert_eq!(lf.loop_filter_level[..2].to_vec(), clf.level[..2].to_vec());
        if !mono && (clf.level[0] > 0 || clf.level[1] > 0) {
            prop_assert_eq!(lf.loop_filter_level, clf.level);
        }
        prop_assert_eq!(lf.loop_filter_sharpness, clf.sharpness);
        let delta_enabled = clf.flags & V4L2_AV1_LOOP_FILTER_FLAG_DELTA_ENABLED != 0;
        prop_assert_eq!(lf.loop_filter_delta_enabled, delta_enabled);
        if delta_enabled {
            prop_assert_eq!(lf.loop_filter_ref_deltas, clf.ref_deltas);
            prop_assert_eq!(lf.loop_filter_mode_deltas, clf.mode_deltas);
        }
        if drawn.sequence.flags & V4L2_AV1_SEQUENCE_FLAG_ENABLE_CDEF != 0 {
            same_cdef(h, c, mono)?;
        }
    }
    if !h.all_lossless && !h.allow_intrabc {
        same_restoration(h, drawn, mono)?;
    }
    if !h.coded_lossless {
        prop_assert_eq!(h.tx_mode as u32, c.tx_mode);
    }
    same_grain(h, drawn, mono)
}

fn same_cdef(h: &FrameHeader, c: &V4l2CtrlAv1Frame, mono: bool) -> Result<(), TestCaseError> {
    let (cdef, control) = (&h.cdef_params, &c.cdef);
    prop_assert_eq!(cdef.cdef_damping, u32::from(control.damping_minus_3) + 3);
    prop_assert_eq!(cdef.cdef_bits, u32::from(control.bits));
    let secondary = |s: u8| if s == 3 { 4 } else { u32::from(s) };
    for i in 0..1 << control.bits {
        prop_assert_eq!(cdef.cdef_y_pri_strength[i], u32::from(control.y_pri_strength[i]));
        prop_assert_eq!(cdef.cdef_y_sec_strength[i], secondary(control.y_sec_strength[i]));
        if !mono {
            prop_assert_eq!(
                cdef.cdef_uv_pri_strength[i],
                u32::from(control.uv_pri_strength[i])
            );
            prop_assert_eq!(
                cdef.cdef_uv_sec_strength[i],
                secondary(control.uv_sec_strength[i])
            );
        }
    }
    Ok(())
}

fn same_restoration(h: &FrameHeader, drawn: &DrawnFrame, mono: bool) -> Result<(), TestCaseError> {
    let (lr, control) = (&h.loop_restoration_params, &drawn.frame.loop_restoration);
    let planes = if mono { 1 } else { 3 };
    for plane in 0..planes {
        prop_assert_eq!(
            lr.frame_restoration_type[plane] as u32,
            control.frame_restoration_type[plane]
        );
    }
    if control.frame_restoration_type[..planes].iter().any(|&t| t != 0) {
        prop_assert_eq!(
            u32::from(lr.loop_restoration_size[0]),
            control.loop_restoration_size[0]
        );
        if control.frame_restoration_type[1..planes].iter().any(|&t| t != 0) {
            prop_assert_eq!(
                u32::from(lr.loop_restoration_size[1]),
                control.loop_restoration_size[1]
            );
        }
    }
    Ok(())
}

fn same_grain(h: &FrameHeader, drawn: &DrawnFrame, mono: bool) -> Result<(), TestCaseError> {
    let g = &h.film_grain_params;
    let present = drawn.sequence.flags & V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT != 0;
    let applied = drawn
        .film_grain
        .filter(|c| c.flags & V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN != 0)
        .filter(|_| present && (h.show_frame || h.showable_frame));
    prop_assert_eq!(g.apply_grain, applied.is_some());
    let Some(c) = applied else { return Ok(()) };
    let flag = |f: u8| c.flags & f != 0;
    prop_assert!(g.update_grain);
    prop_assert_eq!(g.grain_seed, c.grain_seed);
    prop_assert_eq!(g.num_y_points, c.num_y_points);
    let from_luma = !mono && flag(V4L2_AV1_FILM_GRAIN_FLAG_CHROMA_SCALING_FROM_LUMA);
    prop_assert_eq!(g.chroma_scaling_from_luma, from_luma);
    let subsampled = V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X | V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y;
    let is_420 = drawn.sequence.flags & subsampled == subsampled;
    let chroma = !(mono || from_luma || is_420 && c.num_y_points == 0);
    let (cb, cr) = if chroma {
        (c.num_cb_points, c.num_cr_points)
    } else {
        (0, 0)
    };
    prop_assert_eq!((g.num_cb_points, g.num_cr_points), (cb, cr));
    for (parsed, control, count) in [
        (&g.point_y_value, &c.point_y_value, c.num_y_points),
        (&g.point_y_scaling, &c.point_y_scaling, c.num_y_points),
        (&g.point_cb_value, &c.point_cb_value, cb),
        (&g.point_cb_scaling, &c.point_cb_scaling, cb),
        (&g.point_cr_value, &c.point_cr_value, cr),
        (&g.point_cr_scaling, &c.point_cr_scaling, cr),
    ] {
        prop_assert_eq!(&parsed[..count.into()], &control[..count.into()]);
    }
    prop_assert_eq!(g.grain_scaling_minus_8, c.grain_scaling_minus_8);
    prop_assert_eq!(g.ar_coeff_lag, u32::from(c.ar_coeff_lag));
    let luma = 2 * usize::from(c.ar_coeff_lag) * (usize::from(c.ar_coeff_lag) + 1);
    let both = luma + usize::from(c.num_y_points > 0);
    for (parsed, control, count) in [
        (
            &g.ar_coeffs_y_plus_128,
            &c.ar_coeffs_y_plus_128,
            if c.num_y_points > 0 { luma } else { 0 },
        ),
        (
            &g.ar_coeffs_cb_plus_128,
            &c.ar_coeffs_cb_plus_128,
            if from_luma || cb > 0 { both } else { 0 },
        ),
        (
            &g.ar_coeffs_cr_plus_128,
            &c.ar_coeffs_cr_plus_128,
            if from_luma || cr > 0 { both } else { 0 },
        ),
    ] {
        prop_assert_eq!(&parsed[..count], &control[..count]);
    }
    prop_assert_eq!(g.ar_coeff_shift_minus_6, c.ar_coeff_shift_minus_6);
    prop_assert_eq!(g.grain_scale_shift, c.grain_scale_shift);
    if cb > 0 {
        prop_assert_eq!(
            (g.cb_mult, g.cb_luma_mult, g.cb_offset),
            (c.cb_mult, c.cb_luma_mult, c.cb_offset)
        );
    }
    if cr > 0 {
        prop_assert_eq!(
            (g.cr_mult, g.cr_luma_mult, g.cr_offset),
            (c.cr_mult, c.cr_luma_mult, c.cr_offset)
        );
    }
    prop_assert_eq!(g.overlap_flag, flag(V4L2_AV1_FILM_GRAIN_FLAG_OVERLAP));
    let clip = flag(V4L2_AV1_FILM_GRAIN_FLAG_CLIP_TO_RESTRICTED_RANGE);
    prop_assert_eq!(g.clip_to_restricted_range, clip);
    Ok(())
}

fn same_tiles(h: &FrameHeader, tiles: &[Vec<u8>], drawn: &DrawnFrame) -> Result<(), TestCaseError> {
    let (t, Layout { columns, rows }) = (&h.tile_info, &drawn.layout);
    prop_assert_eq!(
        (t.tile_cols as usize, t.tile_rows as usize),
        (columns.len(), rows.len())
    );
    let widths = t.width_in_sbs_minus_1.iter().map(|w| w + 1).take(columns.len());
    let heights = t.height_in_sbs_minus_1.iter().map(|h| h + 1).take(rows.len());
    prop_assert_eq!(&widths.collect::<Vec<_>>(), columns);
    prop_assert_eq!(&heights.collect::<Vec<_>>(), rows);
    if columns.len() * rows.len() > 1 {
        prop_assert_eq!(
            t.context_update_tile_id,
            u32::from(drawn.frame.tile_info.context_update_tile_id)
        );
    }
    prop_assert_eq!(tiles, &drawn.tile_data);
    Ok(())
}

proptest! {
    #[test]
    fn frames_parse_back(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        let draw = &mut Draw::new(&bytes);
        let sequence = draw::sequence(draw);
        let mut writer = Av1Writer::new();
        let mut parser = Parser::default();
        for n in 0..8 {
            let of_frame = draw::tools(draw, &sequence);
            let mut drawn = DrawnFrame::new(draw, &of_frame, n == 0);
            drawn.sequence.max_frame_width_minus_1 = (drawn.frame.upscaled_width - 1) as u16;
            drawn.sequence.max_frame_height_minus_1 = drawn.frame.frame_height_minus_1 as u16;
            let mut out = vec![0xee];
            let written = writer.write(&job(&drawn, n), &mut out);
            let written = written.map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(written.frame.clone(), 1..out.len());
            prop_assert_eq!(written.new_sequence, n == 0);
            prop_assert_eq!(written.refresh, drawn.frame.refresh_frame_flags);
            let (header, tiles) = parse(&mut parser, &out[written.frame]).map_err(TestCaseError::fail)?;
            prop_assert_eq!(header.show_frame, written.shown);
            same_sequence(&parser, &sequence)?;
            same_frame(&header, &drawn)?;
            same_tiles(&header, &tiles, &drawn)?;
            parser.ref_frame_update(&header).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn arbitrary_bytes_give_an_error_or_a_stream(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        garbage in any::<bool>(),
    ) {
        use zerocopy::IntoBytes;

        let draw = &mut Draw::new(&bytes);
        let sequence = draw::sequence(draw);
        let mut writer = Av1Writer::new();
        let mut out = Vec::new();
        for n in 0..4 {
            let mut drawn = DrawnFrame::new(draw, &sequence, n == 0);
            // Patched controls reach further into the writer than arbitrary ones do.
            let mut controls = [
                drawn.sequence.as_mut_bytes(),
                drawn.frame.as_mut_bytes(),
                drawn.tiles.as_mut_slice().as_mut_bytes(),
            ];
            for (index, value) in &patches {
                let control = &mut controls[index.index(3)];
                let at = index.index(control.len());
                control[at] = *value;
            }
            if garbage {
                drawn.frame = V4l2CtrlAv1Frame::read_from_bytes(
                    &(0..size_of::<V4l2CtrlAv1Frame>()).map(|_| draw.byte()).collect::<Vec<_>>(),
                )
                .expect("the size is right");
            }
            let before = out.len();
            match writer.write(&job(&drawn, n), &mut out) {
                Ok(written) => prop_assert_eq!(written.frame.end, out.len()),
                Err(_) => prop_assert_eq!(out.len(), before),
            }
        }
    }
}

/// Returns a shown key frame of one tile.
fn simple() -> DrawnFrame {
    let draw = &mut Draw::new(&[]);
    let sequence = draw::sequence(draw);
    DrawnFrame::new(draw, &sequence, true)
}

fn error_of(drawn: &DrawnFrame) -> Option<Av1Error> {
    Av1Writer::new().write(&job(drawn, 0), &mut Vec::new()).err()
}

#[test]
fn tiles_must_be_in_the_payload_and_complete() {
    let mut drawn = simple();
    assert_eq!(error_of(&drawn), None);
    let payload = drawn.payload.len();
    let entry = drawn.tiles[0];
    drawn.tiles[0].tile_size = payload as u32 + 1 - entry.tile_offset;
    assert!(matches!(
        error_of(&drawn),
        Some(Av1Error::TileBounds {
            row: 0,
            column: 0,
            ..
        })
    ));
    drawn.tiles[0].tile_offset = u32::MAX;
    assert!(matches!(
        error_of(&drawn),
        Some(Av1Error::TileBounds { offset: u32::MAX, .. })
    ));
    drawn.tiles[0] = V4l2CtrlAv1TileGroupEntry {
        tile_size: 0,
        ..entry
    };
    assert_eq!(error_of(&drawn), Some(Av1Error::TileEntry { row: 0, column: 0 }));
    drawn.tiles[0] = V4l2CtrlAv1TileGroupEntry { tile_col: 1, ..entry };
    assert_eq!(error_of(&drawn), Some(Av1Error::TileEntry { row: 0, column: 1 }));
    drawn.tiles = vec![entry, entry];
    assert_eq!(
        error_of(&drawn),
        Some(Av1Error::TileCount {
            given: 2,
            expected: 1
        })
    );
    drawn.tiles.clear();
    assert_eq!(
        error_of(&drawn),
        Some(Av1Error::TileCount {
            given: 0,
            expected: 1
        })
    );
}

#[test]
fn a_reference_that_the_writer_has_not_seen_is_told() {
    let mut writer = Av1Writer::new();
    let mut write = |drawn: &DrawnFrame, timestamp| {
        writer
            .write(&job(drawn, timestamp), &mut Vec::new())
            .map(|w| w.stale_reference)
    };
    let mut drawn = simple();
    assert_eq!(write(&drawn, 1000), Ok(false));
    drawn.frame.frame_type = V4L2_AV1_INTER_FRAME;
    drawn.frame.refresh_frame_flags = 1;
    drawn.frame.reference_frame_ts = [1000; 8];
    assert_eq!(write(&drawn, 2000), Ok(false));
    // Slot 0 has another frame now, which this one says that it does not refer to.
    assert_eq!(write(&drawn, 3000), Ok(true));
    drawn.frame.ref_frame_idx = [1; 7];
    assert_eq!(write(&drawn, 4000), Ok(false));
}

/// libva-v4l2_request derives these from each frame.
#[test]
fn what_only_the_frame_decides_begins_no_sequence() {
    let mut writer = Av1Writer::new();
    let mut out = Vec::new();
    let mut drawn = simple();
    let mut write = |drawn: &DrawnFrame, timestamp| {
        out.clear();
        let written = writer.write(&job(drawn, timestamp), &mut out);
        written.map(|w| (w.new_sequence, w.stale_reference, out[w.frame].to_vec()))
    };
    let first = write(&drawn, 1000).map(|(new, stale, _)| (new, stale));
    assert_eq!(first, Ok((true, false)));
    drawn.frame.frame_type = V4L2_AV1_INTER_FRAME;
    drawn.frame.refresh_frame_flags = 0;
    drawn.frame.reference_frame_ts = [1000; 8];
    let plain = write(&drawn, 2000);
    assert!(matches!(&plain, Ok((false, false, _))), "{plain:?}");
    let sequence = drawn.sequence;
    for tool in (0..32).map(|bit| 1 << bit).filter(|tool| draw::TOOLS & tool != 0) {
        drawn.sequence.flags = sequence.flags ^ tool;
        assert_eq!(write(&drawn, 2000), plain, "{tool:#x}");
    }
    drawn.sequence = sequence;
    drawn.sequence.max_frame_width_minus_1 += 8;
    drawn.sequence.max_frame_height_minus_1 += 8;
    assert_eq!(write(&drawn, 2000), plain);
    // What the tiles are coded by is of the sequence.
    drawn.sequence.flags ^= V4L2_AV1_SEQUENCE_FLAG_ENABLE_FILTER_INTRA;
    assert!(matches!(write(&drawn, 2000), Ok((true, true, _))));
}

#[test]
fn a_key_frame_that_the_client_shows_again_is_shown_to_the_decoder() {
    let mut writer = Av1Writer::new();
    let mut out = Vec::new();
    let mut write = |drawn: &DrawnFrame, timestamp| {
        out.clear();
        let written = writer
            .write(&job(drawn, timestamp), &mut out)
            .expect("the controls are right");
        let reshown = written.reshown.map(|r| out[r].to_vec());
        (reshown, written.refresh)
    };
    // A shown key frame into all slots, then a hidden one into slot 5.
    let mut drawn = simple();
    assert_eq!(write(&drawn, 1000), (None, 0xff));
    drawn.frame.flags = V4L2_AV1_FRAME_FLAG_SHOWABLE_FRAME | V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV;
    drawn.frame.refresh_frame_flags = 1 << 5;
    drawn.frame.reference_frame_ts = [1000; 8];
    assert_eq!(write(&drawn, 2000), (None, 1 << 5));
    // Slots as the writer has them: nothing was shown in between.
    drawn.frame.refresh_frame_flags = 1 << 6;
    drawn.frame.reference_frame_ts[5] = 2000;
    assert_eq!(write(&drawn, 3000), (None, 1 << 6));
    // All slots have the hidden key frame: temporal delimiter, frame header with show_existing_frame
    // and slot 5.
    drawn.frame.reference_frame_ts = [2000; 8];
    assert_eq!(
        write(&drawn, 4000),
        (Some(vec![0x12, 0, 0x1a, 1, 0b1101_1000]), 1 << 6)
    );
    // From then on the writer has it in all slots as well, and it cannot be shown once more.
    drawn.frame.reference_frame_ts[6] = 4000;
    assert_eq!(write(&drawn, 5000).0, None);
    drawn.frame.reference_frame_ts = [2000; 8];
    assert_eq!(write(&drawn, 6000).0, None);
    // A shown key frame needs no slots.
    assert_eq!(write(&simple(), 7000).0, None);
}
