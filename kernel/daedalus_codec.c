// SPDX-License-Identifier: GPL-2.0
/*
 * The tables of coded and picture formats, geometry, and the controls.
 */
#include <linux/sizes.h>

#include "daedalus_drv.h"

/*
 * Decoders write whole blocks of up to 128x128 pixels (AV1's superblock) and
 * some want lines that start on 64 bytes. So that they can write a picture
 * where it belongs, a line of luma is a multiple of 128 bytes (then the half
 * line of a chroma plane is one of 64), and a plane has room below the picture
 * for the rest of the last blocks and for one vector beyond its end.
 */
#define LINE_ALIGN	128U
#define BLOCK_LINES	128U
#define PLANE_TAIL	128U

/* OUTPUT: one uncompressed 4:2:0 picture of 8 bit, and something for headers. */
#define CODED_EXTRA	SZ_256K
#define CODED_MAX	SZ_256M

static unsigned int h264_depth(union v4l2_ctrl_ptr p)
{
	return 8 + p.p_h264_sps->bit_depth_luma_minus8;
}

static unsigned int vp9_depth(union v4l2_ctrl_ptr p)
{
	return p.p_vp9_frame->bit_depth;
}

static unsigned int av1_depth(union v4l2_ctrl_ptr p)
{
	return p.p_av1_sequence->bit_depth;
}

/*
 * Chromium's first AV1_SEQUENCE has a bit depth and nothing else. Newer cores
 * refuse profile 0 without the subsampling that profile 0 always has.
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

static int daedalus_s_ctrl(struct v4l2_ctrl *ctrl);

static const struct v4l2_ctrl_ops daedalus_ctrl_ops = {
	.s_ctrl = daedalus_s_ctrl,
};

/* A control whose value every job carries. */
#define JOB_CTRL(_id) { .cfg = { .id = (_id) }, .in_job = true }
/* The one among them that tells the bit depth. */
#define DEPTH_CTRL(_id) \
	{ .cfg = { .id = (_id), .ops = &daedalus_ctrl_ops }, .in_job = true }
/* A menu that says what is possible; @_skip has a bit for each item that is not. */
#define MENU_CTRL(_id, _max, _skip) \
	{ .cfg = { .id = (_id), .max = (_max), .menu_skip_mask = (_skip) } }

static const struct daedalus_ctrl_desc h264_ctrls[] = {
	DEPTH_CTRL(V4L2_CID_STATELESS_H264_SPS),
	JOB_CTRL(V4L2_CID_STATELESS_H264_PPS),
	JOB_CTRL(V4L2_CID_STATELESS_H264_SCALING_MATRIX),
	JOB_CTRL(V4L2_CID_STATELESS_H264_PRED_WEIGHTS),
	JOB_CTRL(V4L2_CID_STATELESS_H264_SLICE_PARAMS),
	JOB_CTRL(V4L2_CID_STATELESS_H264_DECODE_PARAMS),
	{
		.cfg = {
			.id = V4L2_CID_STATELESS_H264_DECODE_MODE,
			.min = V4L2_STATELESS_H264_DECODE_MODE_FRAME_BASED,
			.max = V4L2_STATELESS_H264_DECODE_MODE_FRAME_BASED,
			.def = V4L2_STATELESS_H264_DECODE_MODE_FRAME_BASED,
		},
	},
	{
		.cfg = {
			.id = V4L2_CID_STATELESS_H264_START_CODE,
			.min = V4L2_STATELESS_H264_START_CODE_ANNEX_B,
			.max = V4L2_STATELESS_H264_START_CODE_ANNEX_B,
			.def = V4L2_STATELESS_H264_START_CODE_ANNEX_B,
		},
	},
	MENU_CTRL(V4L2_CID_MPEG_VIDEO_H264_PROFILE,
		  V4L2_MPEG_VIDEO_H264_PROFILE_CONSTRAINED_HIGH,
		  ~(BIT_ULL(V4L2_MPEG_VIDEO_H264_PROFILE_BASELINE) |
		    BIT_ULL(V4L2_MPEG_VIDEO_H264_PROFILE_CONSTRAINED_BASELINE) |
		    BIT_ULL(V4L2_MPEG_VIDEO_H264_PROFILE_MAIN) |
		    BIT_ULL(V4L2_MPEG_VIDEO_H264_PROFILE_HIGH) |
		    BIT_ULL(V4L2_MPEG_VIDEO_H264_PROFILE_HIGH_10) |
		    BIT_ULL(V4L2_MPEG_VIDEO_H264_PROFILE_HIGH_10_INTRA) |
		    BIT_ULL(V4L2_MPEG_VIDEO_H264_PROFILE_CONSTRAINED_HIGH))),
	MENU_CTRL(V4L2_CID_MPEG_VIDEO_H264_LEVEL, V4L2_MPEG_VIDEO_H264_LEVEL_6_2, 0),
};

static const struct daedalus_ctrl_desc vp9_ctrls[] = {
	DEPTH_CTRL(V4L2_CID_STATELESS_VP9_FRAME),
	JOB_CTRL(V4L2_CID_STATELESS_VP9_COMPRESSED_HDR),
	MENU_CTRL(V4L2_CID_MPEG_VIDEO_VP9_PROFILE, V4L2_MPEG_VIDEO_VP9_PROFILE_2,
		  BIT_ULL(V4L2_MPEG_VIDEO_VP9_PROFILE_1)),
	MENU_CTRL(V4L2_CID_MPEG_VIDEO_VP9_LEVEL, V4L2_MPEG_VIDEO_VP9_LEVEL_6_2, 0),
};

static const struct daedalus_ctrl_desc av1_ctrls[] = {
	{
		.cfg = {
			.id = V4L2_CID_STATELESS_AV1_SEQUENCE,
			.ops = &daedalus_ctrl_ops,
			.type_ops = &av1_sequence_type_ops,
		},
		.in_job = true,
	},
	JOB_CTRL(V4L2_CID_STATELESS_AV1_FRAME),
	{
		.cfg = {
			.id = V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
			.dims = { V4L2_AV1_MAX_TILE_COUNT },
		},
		.in_job = true,
	},
	JOB_CTRL(V4L2_CID_STATELESS_AV1_FILM_GRAIN),
	MENU_CTRL(V4L2_CID_MPEG_VIDEO_AV1_PROFILE, V4L2_MPEG_VIDEO_AV1_PROFILE_MAIN, 0),
	MENU_CTRL(V4L2_CID_MPEG_VIDEO_AV1_LEVEL, V4L2_MPEG_VIDEO_AV1_LEVEL_7_3, 0),
};

const struct daedalus_codec daedalus_codecs[] = {
	{
		.fourcc = V4L2_PIX_FMT_H264_SLICE,
		.bit = DAEDALUS_CODEC_H264,
		.depth_ctrl = V4L2_CID_STATELESS_H264_SPS,
		.depth = h264_depth,
		.ctrls = h264_ctrls,
		.num_ctrls = ARRAY_SIZE(h264_ctrls),
	},
	{
		.fourcc = V4L2_PIX_FMT_VP9_FRAME,
		.bit = DAEDALUS_CODEC_VP9,
		.depth_ctrl = V4L2_CID_STATELESS_VP9_FRAME,
		.depth = vp9_depth,
		.ctrls = vp9_ctrls,
		.num_ctrls = ARRAY_SIZE(vp9_ctrls),
	},
	{
		.fourcc = V4L2_PIX_FMT_AV1_FRAME,
		.bit = DAEDALUS_CODEC_AV1,
		.depth_ctrl = V4L2_CID_STATELESS_AV1_SEQUENCE,
		.depth = av1_depth,
		.ctrls = av1_ctrls,
		.num_ctrls = ARRAY_SIZE(av1_ctrls),
	},
};

const unsigned int daedalus_num_codecs = ARRAY_SIZE(daedalus_codecs);

static const struct daedalus_raw daedalus_raws[] = {
	{ V4L2_PIX_FMT_NV12, false, 1, 1 },
	{ V4L2_PIX_FMT_NV12M, false, 2, 1 },
	{ V4L2_PIX_FMT_YUV420, false, 1, 2 },
	{ V4L2_PIX_FMT_YUV420M, false, 3, 2 },
	{ V4L2_PIX_FMT_P010, true, 1, 1 },
};

/* The codec of @fourcc if it is among @codecs; fourcc 0: the first of them. */
const struct daedalus_codec *daedalus_find_codec(u32 codecs, u32 fourcc)
{
	unsigned int i;

	for (i = 0; i < daedalus_num_codecs; i++)
		if ((daedalus_codecs[i].bit & codecs) &&
		    (!fourcc || daedalus_codecs[i].fourcc == fourcc))
			return &daedalus_codecs[i];
	return NULL;
}

/* The @index-th picture format for streams of @depth bits, or NULL. */
const struct daedalus_raw *daedalus_enum_raw(unsigned int depth, unsigned int index)
{
	const bool deep = depth > 8;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(daedalus_raws); i++)
		if (deep == daedalus_raws[i].deep && !index--)
			return &daedalus_raws[i];
	return NULL;
}

/* The picture format @fourcc, or the default one for streams of @depth bits. */
const struct daedalus_raw *daedalus_find_raw(unsigned int depth, u32 fourcc)
{
	const struct daedalus_raw *raw;
	unsigned int i;

	for (i = 0; (raw = daedalus_enum_raw(depth, i)); i++)
		if (raw->fourcc == fourcc)
			return raw;
	return daedalus_enum_raw(depth, 0);
}

/* Completes an OUTPUT format: a sizeimage larger than needed is the client's. */
void daedalus_fill_coded(const struct daedalus_codec *codec,
			 struct v4l2_pix_format_mplane *pix)
{
	struct v4l2_plane_pix_format *plane = &pix->plane_fmt[0];
	u32 size;

	pix->pixelformat = codec->fourcc;
	pix->width = clamp(pix->width, 1U, DAEDALUS_MAX_DIM);
	pix->height = clamp(pix->height, 1U, DAEDALUS_MAX_DIM);
	pix->field = V4L2_FIELD_NONE;
	pix->num_planes = 1;
	pix->flags = 0;
	size = PAGE_ALIGN(pix->width * pix->height / 2 * 3 + CODED_EXTRA);
	plane->sizeimage = clamp_t(u32, plane->sizeimage, size, CODED_MAX);
	plane->bytesperline = 0;
	memset(plane->reserved, 0, sizeof(plane->reserved));
	memset(pix->reserved, 0, sizeof(pix->reserved));
}

/* Completes a CAPTURE format from its width and height. */
void daedalus_fill_raw(const struct daedalus_raw *raw,
		       struct v4l2_pix_format_mplane *pix)
{
	u32 line, lines, luma, chroma, room;
	unsigned int i;

	pix->pixelformat = raw->fourcc;
	pix->width = ALIGN(clamp(pix->width, 1U, DAEDALUS_MAX_DIM), 2);
	pix->height = ALIGN(clamp(pix->height, 1U, DAEDALUS_MAX_DIM), 2);
	pix->field = V4L2_FIELD_NONE;
	pix->num_planes = raw->mem_planes;
	pix->flags = 0;
	memset(pix->reserved, 0, sizeof(pix->reserved));

	line = ALIGN(pix->width << raw->deep, LINE_ALIGN);
	lines = ALIGN(pix->height, BLOCK_LINES);
	luma = line * pix->height;
	chroma = luma / 2;
	room = line * lines;

	memset(pix->plane_fmt, 0, sizeof(pix->plane_fmt));
	pix->plane_fmt[0].bytesperline = line;
	if (raw->mem_planes == 1) {
		pix->plane_fmt[0].sizeimage = max(luma + chroma, room) + PLANE_TAIL;
		return;
	}
	pix->plane_fmt[0].sizeimage = room + PLANE_TAIL;
	for (i = 1; i < raw->mem_planes; i++) {
		pix->plane_fmt[i].bytesperline = line / raw->chroma_planes;
		pix->plane_fmt[i].sizeimage = room / 2 / raw->chroma_planes + PLANE_TAIL;
	}
}

/* Runs with the handler's lock held, also from the claim work: no other lock. */
static int daedalus_s_ctrl(struct v4l2_ctrl *ctrl)
{
	struct daedalus_ctx *ctx = container_of(ctrl->handler, struct daedalus_ctx, hdl);
	unsigned int i;

	for (i = 0; i < daedalus_num_codecs; i++)
		if (daedalus_codecs[i].depth_ctrl == ctrl->id)
			WRITE_ONCE(ctx->bit_depth, daedalus_codecs[i].depth(ctrl->p_new));
	return 0;
}

/* Every control of every codec that the session offers. */
int daedalus_init_controls(struct daedalus_ctx *ctx)
{
	struct v4l2_ctrl_handler *hdl = &ctx->hdl;
	unsigned int c, i;
	int ret;

	ret = v4l2_ctrl_handler_init(hdl, 32);
	if (ret)
		return ret;
	for (c = 0; c < daedalus_num_codecs; c++) {
		if (!(daedalus_codecs[c].bit & ctx->codecs))
			continue;
		for (i = 0; i < daedalus_codecs[c].num_ctrls; i++)
			v4l2_ctrl_new_custom(hdl, &daedalus_codecs[c].ctrls[i].cfg, NULL);
	}
	ret = hdl->error;
	if (!ret)
		ret = v4l2_ctrl_handler_setup(hdl);
	if (ret)
		v4l2_ctrl_handler_free(hdl);
	return ret;
}
