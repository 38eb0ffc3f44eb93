// SPDX-License-Identifier: GPL-2.0
/* AV1: main profile, one frame (its tile groups) per OUTPUT buffer. */
#include "daedalus_codec.h"

static unsigned int av1_depth(union v4l2_ctrl_ptr p)
{
	return p.p_av1_sequence->bit_depth;
}

/*
 * Chromium's first AV1_SEQUENCE has only a bit depth. Newer cores refuse
 * profile 0 without the subsampling that profile 0 always has.
 */
static int av1_sequence_validate(const struct v4l2_ctrl *ctrl, union v4l2_ctrl_ptr ptr)
{
	struct v4l2_ctrl_av1_sequence *seq = ptr.p_av1_sequence;

	if (seq->seq_profile == 0)
		seq->flags |= V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X |
			      V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y;
	return v4l2_ctrl_type_op_validate(ctrl, ptr);
}

static const struct v4l2_ctrl_type_ops av1_sequence_type_ops = {
	.equal = v4l2_ctrl_type_op_equal,
	.init = v4l2_ctrl_type_op_init,
	.log = v4l2_ctrl_type_op_log,
	.validate = av1_sequence_validate,
};

static const struct daedalus_ctrl_desc av1_ctrls[] = {
	{
		.cfg = {
			.id = V4L2_CID_STATELESS_AV1_SEQUENCE,
			.type_ops = &av1_sequence_type_ops,
		},
		.in_job = true,
	},
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_AV1_FRAME),
	{
		.cfg = {
			.id = V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
			.dims = { V4L2_AV1_MAX_TILE_COUNT },
		},
		.in_job = true,
	},
	DAEDALUS_JOB_CTRL(V4L2_CID_STATELESS_AV1_FILM_GRAIN),
	DAEDALUS_MENU_CTRL(V4L2_CID_MPEG_VIDEO_AV1_PROFILE, V4L2_MPEG_VIDEO_AV1_PROFILE_MAIN, 0),
	DAEDALUS_MENU_CTRL(V4L2_CID_MPEG_VIDEO_AV1_LEVEL, V4L2_MPEG_VIDEO_AV1_LEVEL_7_3, 0),
};

const struct daedalus_codec daedalus_av1 = {
	.fourcc = V4L2_PIX_FMT_AV1_FRAME,
	.bit = DAEDALUS_CODEC_AV1,
	.stream_fourcc = v4l2_fourcc('A', 'V', '0', '1'),
	.stream_name = "AV1",
	.depth_ctrl = V4L2_CID_STATELESS_AV1_SEQUENCE,
	.depth = av1_depth,
	.ctrls = av1_ctrls,
	.num_ctrls = ARRAY_SIZE(av1_ctrls),
};
