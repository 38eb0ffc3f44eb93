// SPDX-License-Identifier: GPL-2.0
/* VP8: every profile, one whole frame per OUTPUT buffer. A sample always has 8 bits. */
#include "daedalus_codec.h"

static const struct daedalus_ctrl_desc vp8_ctrls[] = {
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_VP8_FRAME),
	DAEDALUS_MENU_CTRL(V4L2_CID_MPEG_VIDEO_VP8_PROFILE, V4L2_MPEG_VIDEO_VP8_PROFILE_3, 0),
};

const struct daedalus_codec daedalus_vp8 = {
	.fourcc = V4L2_PIX_FMT_VP8_FRAME,
	.bit = DAEDALUS_CODEC_VP8,
	.stream_fourcc = V4L2_PIX_FMT_VP8,
	.stream_name = "VP8",
	.ctrls = vp8_ctrls,
	.num_ctrls = ARRAY_SIZE(vp8_ctrls),
};
