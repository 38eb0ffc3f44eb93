// SPDX-License-Identifier: GPL-2.0
/*
 * HEVC: profiles Main and Main 10, Annex B, one access unit per OUTPUT buffer.
 *
 * Clients that find no SLICE_PARAMS and ENTRY_POINT_OFFSETS send whole pictures.
 */
#include "daedalus_codec.h"

static unsigned int hevc_depth(union v4l2_ctrl_ptr p)
{
	return 8 + p.p_hevc_sps->bit_depth_luma_minus8;
}

static const struct daedalus_ctrl_desc hevc_ctrls[] = {
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_HEVC_SPS),
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_HEVC_PPS),
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_HEVC_SCALING_MATRIX),
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_HEVC_DECODE_PARAMS),
	{
		.cfg = {
			.id = V4L2_CID_STATELESS_HEVC_DECODE_MODE,
			.min = V4L2_STATELESS_HEVC_DECODE_MODE_FRAME_BASED,
			.max = V4L2_STATELESS_HEVC_DECODE_MODE_FRAME_BASED,
			.def = V4L2_STATELESS_HEVC_DECODE_MODE_FRAME_BASED,
		},
	},
	{
		.cfg = {
			.id = V4L2_CID_STATELESS_HEVC_START_CODE,
			.min = V4L2_STATELESS_HEVC_START_CODE_ANNEX_B,
			.max = V4L2_STATELESS_HEVC_START_CODE_ANNEX_B,
			.def = V4L2_STATELESS_HEVC_START_CODE_ANNEX_B,
		},
	},
	DAEDALUS_MENU_CTRL(V4L2_CID_MPEG_VIDEO_HEVC_PROFILE,
			   V4L2_MPEG_VIDEO_HEVC_PROFILE_MAIN_10, 0),
	DAEDALUS_MENU_CTRL(V4L2_CID_MPEG_VIDEO_HEVC_LEVEL, V4L2_MPEG_VIDEO_HEVC_LEVEL_6_2, 0),
};

const struct daedalus_codec daedalus_hevc = {
	.fourcc = V4L2_PIX_FMT_HEVC_SLICE,
	.bit = DAEDALUS_CODEC_HEVC,
	.stream_fourcc = V4L2_PIX_FMT_HEVC,
	.stream_name = "HEVC",
	.bytestream = true,
	.depth_ctrl = V4L2_CID_STATELESS_HEVC_SPS,
	.depth = hevc_depth,
	.ctrls = hevc_ctrls,
	.num_ctrls = ARRAY_SIZE(hevc_ctrls),
};
