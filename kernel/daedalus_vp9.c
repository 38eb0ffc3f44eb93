// SPDX-License-Identifier: GPL-2.0
/* VP9: profiles 0 and 2, one frame per OUTPUT buffer. */
#include "daedalus_codec.h"

static unsigned int vp9_depth(union v4l2_ctrl_ptr p)
{
	return p.p_vp9_frame->bit_depth;
}

static const struct daedalus_ctrl_desc vp9_ctrls[] = {
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_VP9_FRAME),
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_VP9_COMPRESSED_HDR),
	DAEDALUS_MENU_CTRL(V4L2_CID_MPEG_VIDEO_VP9_PROFILE, V4L2_MPEG_VIDEO_VP9_PROFILE_2,
			   BIT_ULL(V4L2_MPEG_VIDEO_VP9_PROFILE_1)),
	DAEDALUS_MENU_CTRL(V4L2_CID_MPEG_VIDEO_VP9_LEVEL, V4L2_MPEG_VIDEO_VP9_LEVEL_6_2, 0),
};

const struct daedalus_codec daedalus_vp9 = {
	.fourcc = V4L2_PIX_FMT_VP9_FRAME,
	.bit = DAEDALUS_CODEC_VP9,
	.stream_fourcc = V4L2_PIX_FMT_VP9,
	.stream_name = "VP9",
	.depth_ctrl = V4L2_CID_STATELESS_VP9_FRAME,
	.depth = vp9_depth,
	.ctrls = vp9_ctrls,
	.num_ctrls = ARRAY_SIZE(vp9_ctrls),
};
