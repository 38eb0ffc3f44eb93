// SPDX-License-Identifier: GPL-2.0
/* MPEG-2: the slices of one frame or field per OUTPUT buffer, each behind its start code. */
#include "daedalus_codec.h"

static const struct daedalus_ctrl_desc mpeg2_ctrls[] = {
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_MPEG2_SEQUENCE),
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_MPEG2_PICTURE),
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_MPEG2_QUANTISATION),
};

const struct daedalus_codec daedalus_mpeg2 = {
	.fourcc = V4L2_PIX_FMT_MPEG2_SLICE,
	.bit = DAEDALUS_CODEC_MPEG2,
	.stream_fourcc = V4L2_PIX_FMT_MPEG2,
	.stream_name = "MPEG-2",
	.bytestream = true,
	.ctrls = mpeg2_ctrls,
	.num_ctrls = ARRAY_SIZE(mpeg2_ctrls),
};
