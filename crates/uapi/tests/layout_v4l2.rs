// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares the Rust mirror of the V4L2 stateless controls with the C header of the system.
//!
//! One list per structure names each field once: from it come both the Rust layout and the C
//! program that prints the header's layout, so the two sides cannot be compared on different
//! fields. A field that is missing from a list shows as a hole in the structure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use daedalus_uapi::v4l2_controls::*;

/// A field's name in C, its offset and size in Rust.
struct Field(&'static str, usize, usize);

/// A structure's name in C, its size in Rust and its fields.
struct Layout(&'static str, usize, Vec<Field>);

/// Returns the C name of a field whose Rust name had to differ from it.
fn c_field(rust: &'static str) -> &'static str {
    rust.strip_suffix('_').unwrap_or(rust)
}

macro_rules! layouts {
    ($($rust:ident $c:literal { $($field:ident)* })*) => {
        vec![$({
            fn size_of_field<S, T>(_: impl Fn(&S) -> &T) -> usize {
                size_of::<T>()
            }
            Layout($c, size_of::<$rust>(), vec![$(Field(
                c_field(stringify!($field)),
                core::mem::offset_of!($rust, $field),
                size_of_field(|s: &$rust| &s.$field),
            )),*])
        }),*]
    };
}

fn structures() -> Vec<Layout> {
    layouts! {
        V4l2CtrlH264Sps "v4l2_ctrl_h264_sps" {
            profile_idc constraint_set_flags level_idc seq_parameter_set_id chroma_format_idc
            bit_depth_luma_minus8 bit_depth_chroma_minus8 log2_max_frame_num_minus4
            pic_order_cnt_type log2_max_pic_order_cnt_lsb_minus4 max_num_ref_frames
            num_ref_frames_in_pic_order_cnt_cycle offset_for_ref_frame offset_for_non_ref_pic
            offset_for_top_to_bottom_field pic_width_in_mbs_minus1 pic_height_in_map_units_minus1
            flags
        }
        V4l2CtrlH264Pps "v4l2_ctrl_h264_pps" {
            pic_parameter_set_id seq_parameter_set_id num_slice_groups_minus1
            num_ref_idx_l0_default_active_minus1 num_ref_idx_l1_default_active_minus1
            weighted_bipred_idc pic_init_qp_minus26 pic_init_qs_minus26 chroma_qp_index_offset
            second_chroma_qp_index_offset flags
        }
        V4l2CtrlH264ScalingMatrix "v4l2_ctrl_h264_scaling_matrix" {
            scaling_list_4x4 scaling_list_8x8
        }
        V4l2H264WeightFactors "v4l2_h264_weight_factors" {
            luma_weight luma_offset chroma_weight chroma_offset
        }
        V4l2CtrlH264PredWeights "v4l2_ctrl_h264_pred_weights" {
            luma_log2_weight_denom chroma_log2_weight_denom weight_factors
        }
        V4l2H264Reference "v4l2_h264_reference" { fields index }
        V4l2CtrlH264SliceParams "v4l2_ctrl_h264_slice_params" {
            header_bit_size first_mb_in_slice slice_type colour_plane_id redundant_pic_cnt
            cabac_init_idc slice_qp_delta slice_qs_delta disable_deblocking_filter_idc
            slice_alpha_c0_offset_div2 slice_beta_offset_div2 num_ref_idx_l0_active_minus1
            num_ref_idx_l1_active_minus1 reserved ref_pic_list0 ref_pic_list1 flags
        }
        V4l2H264DpbEntry "v4l2_h264_dpb_entry" {
            reference_ts pic_num frame_num fields reserved top_field_order_cnt
            bottom_field_order_cnt flags
        }
        V4l2CtrlH264DecodeParams "v4l2_ctrl_h264_decode_params" {
            dpb nal_ref_idc frame_num top_field_order_cnt bottom_field_order_cnt idr_pic_id
            pic_order_cnt_lsb delta_pic_order_cnt_bottom delta_pic_order_cnt0
            delta_pic_order_cnt1 dec_ref_pic_marking_bit_size pic_order_cnt_bit_size
            slice_group_change_cycle reserved flags
        }
        V4l2Vp9LoopFilter "v4l2_vp9_loop_filter" {
            ref_deltas mode_deltas level sharpness flags reserved
        }
        V4l2Vp9Quantization "v4l2_vp9_quantization" {
            base_q_idx delta_q_y_dc delta_q_uv_dc delta_q_uv_ac reserved
        }
        V4l2Vp9Segmentation "v4l2_vp9_segmentation" {
            feature_data feature_enabled tree_probs pred_probs flags reserved
        }
        V4l2CtrlVp9Frame "v4l2_ctrl_vp9_frame" {
            lf quant seg flags compressed_header_size uncompressed_header_size
            frame_width_minus_1 frame_height_minus_1 render_width_minus_1 render_height_minus_1
            last_frame_ts golden_frame_ts alt_frame_ts ref_frame_sign_bias reset_frame_context
            frame_context_idx profile bit_depth interpolation_filter tile_cols_log2
            tile_rows_log2 reference_mode reserved
        }
        V4l2Vp9MvProbs "v4l2_vp9_mv_probs" {
            joint sign classes class0_bit bits class0_fr fr class0_hp hp
        }
        V4l2CtrlVp9CompressedHdr "v4l2_ctrl_vp9_compressed_hdr" {
            tx_mode tx8 tx16 tx32 coef skip inter_mode interp_filter is_inter comp_mode
            single_ref comp_ref y_mode uv_mode partition mv
        }
        V4l2CtrlAv1Sequence "v4l2_ctrl_av1_sequence" {
            flags seq_profile order_hint_bits bit_depth reserved max_frame_width_minus_1
            max_frame_height_minus_1
        }
        V4l2CtrlAv1TileGroupEntry "v4l2_ctrl_av1_tile_group_entry" {
            tile_offset tile_size tile_row tile_col
        }
        V4l2Av1GlobalMotion "v4l2_av1_global_motion" { flags type_ params invalid reserved }
        V4l2Av1LoopRestoration "v4l2_av1_loop_restoration" {
            flags lr_unit_shift lr_uv_shift reserved frame_restoration_type loop_restoration_size
        }
        V4l2Av1Cdef "v4l2_av1_cdef" {
            damping_minus_3 bits y_pri_strength y_sec_strength uv_pri_strength uv_sec_strength
        }
        V4l2Av1Segmentation "v4l2_av1_segmentation" {
            flags last_active_seg_id feature_enabled feature_data
        }
        V4l2Av1LoopFilter "v4l2_av1_loop_filter" {
            flags level sharpness ref_deltas mode_deltas delta_lf_res
        }
        V4l2Av1Quantization "v4l2_av1_quantization" {
            flags base_q_idx delta_q_y_dc delta_q_u_dc delta_q_u_ac delta_q_v_dc delta_q_v_ac
            qm_y qm_u qm_v delta_q_res
        }
        V4l2Av1TileInfo "v4l2_av1_tile_info" {
            flags context_update_tile_id tile_cols tile_rows mi_col_starts mi_row_starts
            width_in_sbs_minus_1 height_in_sbs_minus_1 tile_size_bytes reserved
        }
        V4l2CtrlAv1Frame "v4l2_ctrl_av1_frame" {
            tile_info quantization superres_denom segmentation loop_filter cdef skip_mode_frame
            primary_ref_frame loop_restoration global_motion flags frame_type order_hint
            upscaled_width interpolation_filter tx_mode frame_width_minus_1
            frame_height_minus_1 render_width_minus_1 render_height_minus_1 current_frame_id
            buffer_removal_time reserved order_hints reference_frame_ts ref_frame_idx
            refresh_frame_flags
        }
        V4l2CtrlAv1FilmGrain "v4l2_ctrl_av1_film_grain" {
            flags cr_mult grain_seed film_grain_params_ref_idx num_y_points point_y_value
            point_y_scaling num_cb_points point_cb_value point_cb_scaling num_cr_points
            point_cr_value point_cr_scaling grain_scaling_minus_8 ar_coeff_lag
            ar_coeffs_y_plus_128 ar_coeffs_cb_plus_128 ar_coeffs_cr_plus_128
            ar_coeff_shift_minus_6 grain_scale_shift cb_mult cb_luma_mult cr_luma_mult
            cb_offset cr_offset reserved
        }
        V4l2Vp8Segment "v4l2_vp8_segment" { quant_update lf_update segment_probs padding flags }
        V4l2Vp8LoopFilter "v4l2_vp8_loop_filter" {
            ref_frm_delta mb_mode_delta sharpness_level level padding flags
        }
        V4l2Vp8Quantization "v4l2_vp8_quantization" {
            y_ac_qi y_dc_delta y2_dc_delta y2_ac_delta uv_dc_delta uv_ac_delta padding
        }
        V4l2Vp8Entropy "v4l2_vp8_entropy" { coeff_probs y_mode_probs uv_mode_probs mv_probs padding }
        V4l2Vp8EntropyCoderState "v4l2_vp8_entropy_coder_state" { range value bit_count padding }
        V4l2CtrlVp8Frame "v4l2_ctrl_vp8_frame" {
            segment lf quant entropy coder_state width height horizontal_scale vertical_scale
            version prob_skip_false prob_intra prob_last prob_gf num_dct_parts first_part_size
            first_part_header_bits dct_part_sizes last_frame_ts golden_frame_ts alt_frame_ts flags
        }
        V4l2CtrlMpeg2Sequence "v4l2_ctrl_mpeg2_sequence" {
            horizontal_size vertical_size vbv_buffer_size profile_and_level_indication chroma_format flags
        }
        V4l2CtrlMpeg2Picture "v4l2_ctrl_mpeg2_picture" {
            backward_ref_ts forward_ref_ts flags f_code picture_coding_type picture_structure
            intra_dc_precision reserved
        }
        V4l2CtrlMpeg2Quantisation "v4l2_ctrl_mpeg2_quantisation" {
            intra_quantiser_matrix non_intra_quantiser_matrix chroma_intra_quantiser_matrix
            chroma_non_intra_quantiser_matrix
        }
        V4l2CtrlHevcSps "v4l2_ctrl_hevc_sps" {
            video_parameter_set_id seq_parameter_set_id pic_width_in_luma_samples
            pic_height_in_luma_samples bit_depth_luma_minus8 bit_depth_chroma_minus8
            log2_max_pic_order_cnt_lsb_minus4 sps_max_dec_pic_buffering_minus1
            sps_max_num_reorder_pics sps_max_latency_increase_plus1
            log2_min_luma_coding_block_size_minus3 log2_diff_max_min_luma_coding_block_size
            log2_min_luma_transform_block_size_minus2 log2_diff_max_min_luma_transform_block_size
            max_transform_hierarchy_depth_inter max_transform_hierarchy_depth_intra
            pcm_sample_bit_depth_luma_minus1 pcm_sample_bit_depth_chroma_minus1
            log2_min_pcm_luma_coding_block_size_minus3 log2_diff_max_min_pcm_luma_coding_block_size
            num_short_term_ref_pic_sets num_long_term_ref_pics_sps chroma_format_idc
            sps_max_sub_layers_minus1 reserved flags
        }
        V4l2CtrlHevcPps "v4l2_ctrl_hevc_pps" {
            pic_parameter_set_id num_extra_slice_header_bits num_ref_idx_l0_default_active_minus1
            num_ref_idx_l1_default_active_minus1 init_qp_minus26 diff_cu_qp_delta_depth
            pps_cb_qp_offset pps_cr_qp_offset num_tile_columns_minus1 num_tile_rows_minus1
            column_width_minus1 row_height_minus1 pps_beta_offset_div2 pps_tc_offset_div2
            log2_parallel_merge_level_minus2 reserved flags
        }
        V4l2CtrlHevcScalingMatrix "v4l2_ctrl_hevc_scaling_matrix" {
            scaling_list_4x4 scaling_list_8x8 scaling_list_16x16 scaling_list_32x32
            scaling_list_dc_coef_16x16 scaling_list_dc_coef_32x32
        }
        V4l2HevcDpbEntry "v4l2_hevc_dpb_entry" {
            timestamp flags field_pic reserved pic_order_cnt_val
        }
        V4l2CtrlHevcDecodeParams "v4l2_ctrl_hevc_decode_params" {
            pic_order_cnt_val short_term_ref_pic_set_size long_term_ref_pic_set_size
            num_active_dpb_entries num_poc_st_curr_before num_poc_st_curr_after num_poc_lt_curr
            poc_st_curr_before poc_st_curr_after poc_lt_curr num_delta_pocs_of_ref_rps_idx reserved
            dpb flags
        }
    }
}

/// Every public constant of the modules: read from their source, so that none is forgotten.
fn constants() -> Vec<(String, u64)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/v4l2_controls");
    let files = std::fs::read_dir(folder).expect("the modules' folder");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    // The numbers on which the others build come first.
    files.sort_by_key(|file| (!file.ends_with("base.rs"), file.clone()));
    let modules = files
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("a module"));
    let modules: Vec<String> = modules.collect();
    let mut values: Vec<(String, u64)> = Vec::new();
    for line in modules.iter().flat_map(|m| m.lines()) {
        let Some(rest) = line.strip_prefix("pub const ") else {
            continue;
        };
        let (name, rest) = rest.split_once(": ").expect("a constant has a type");
        let (_, expression) = rest.split_once(" = ").expect("a constant has a value");
        let value = evaluate(expression.trim_end_matches(';'), &values);
        values.push((name.to_owned(), value));
    }
    values
}

/// Returns the value of a sum or product of literals and earlier constants: all that the modules use.
fn evaluate(expression: &str, known: &[(String, u64)]) -> u64 {
    if let Some((a, b)) = expression.split_once(" + ") {
        return evaluate(a, known) + evaluate(b, known);
    }
    if let Some((a, b)) = expression.split_once(" * ") {
        return evaluate(a, known) * evaluate(b, known);
    }
    let digits = expression.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
    .or_else(|| {
        known
            .iter()
            .find(|(name, _)| name == expression)
            .map(|&(_, value)| value)
    })
    .unwrap_or_else(|| panic!("constant expression not understood: {expression}"))
}

/// Compiles and runs a C program and returns what it printed.
fn run_c(name: &str, source: &str) -> String {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (c, exe) = (dir.join(format!("{name}.c")), dir.join(name));
    std::fs::write(&c, source).expect("write the C program");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&cc)
        .args(["-std=gnu11", "-Wall", "-Werror", "-o"])
        .args([&exe, &c])
        .status()
        .unwrap_or_else(|e| panic!("this test needs a C compiler (environment CC, or cc): {cc}: {e}"));
    assert!(status.success(), "{cc} failed on {}", c.display());
    let output = Command::new(&exe).output().expect("run the C program");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("the table is text")
}

#[test]
fn structures_match_the_c_header() {
    let structures = structures();
    let mut source = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/v4l2-controls.h>\nint main(void)\n{\n",
    );
    let mut expected = String::new();
    for Layout(name, size, fields) in &structures {
        writeln!(source, "printf(\"{name} %zu\\n\", sizeof(struct {name}));").unwrap();
        writeln!(expected, "{name} {size}").unwrap();
        let mut end = 0;
        for Field(field, offset, size) in fields {
            assert_eq!(*offset, end, "{name}.{field}: the field before it is not listed");
            end = offset + size;
            writeln!(
                source,
                "printf(\"{name}.{field} %zu %zu\\n\", offsetof(struct {name}, {field}), \
                 sizeof(((struct {name} *)0)->{field}));"
            )
            .unwrap();
            writeln!(expected, "{name}.{field} {offset} {size}").unwrap();
        }
        assert_eq!(end, *size, "{name}: its last field is not listed");
    }
    source.push_str("return 0;\n}\n");
    assert_eq!(run_c("layout_v4l2", &source), expected);
    assert_eq!(structures.len(), 40);
}

#[test]
fn constants_match_the_c_header() {
    let constants = constants();
    assert!(constants.len() > 200, "only {} constants found", constants.len());
    let mut source =
        String::from("#include <stdio.h>\n#include <linux/v4l2-controls.h>\nint main(void)\n{\n");
    let mut expected = String::new();
    for (name, value) in &constants {
        writeln!(
            source,
            "printf(\"{name} %llu\\n\", (unsigned long long)({name}));"
        )
        .unwrap();
        writeln!(expected, "{name} {value}").unwrap();
    }
    source.push_str("return 0;\n}\n");
    assert_eq!(run_c("constants_v4l2", &source), expected);
}
