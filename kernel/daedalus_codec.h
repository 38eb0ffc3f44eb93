/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Coded and raw formats. Each codec has one file with one struct daedalus_codec and a
 * line in daedalus_codecs.h, the only list.
 */
#ifndef DAEDALUS_CODEC_H
#define DAEDALUS_CODEC_H

#include <linux/videodev2.h>
#include <linux/daedalus.h>
#include <media/v4l2-ctrls.h>

#define DAEDALUS_MAX_DIM	8192U	/* pixels or lines of a picture */

/**
 * struct daedalus_ctrl_desc - one control of a codec
 * @cfg: argument of v4l2_ctrl_new_custom()
 * @in_job: every job carries its value
 */
struct daedalus_ctrl_desc {
	struct v4l2_ctrl_config cfg;
	bool in_job;
};

/* A control whose value every job carries. */
#define DAEDALUS_JOB_CTRL(_id) { .cfg = { .id = (_id) }, .in_job = true }
/* A menu of supported items; @_skip has a bit for each item that is not supported. */
#define DAEDALUS_MENU_CTRL(_id, _max, _skip) \
	{ .cfg = { .id = (_id), .max = (_max), .menu_skip_mask = (_skip) } }
/**
 * struct daedalus_codec - everything that is special about a coded format
 * @fourcc: V4L2_PIX_FMT_* of OUTPUT
 * @bit: DAEDALUS_CODEC_*
 * @stream_fourcc: V4L2_PIX_FMT_* of the stateful face's OUTPUT
 * @stream_name: description of @stream_fourcc, which older cores lack
 * @bytestream: the stateful face takes the stream cut anywhere
 * @depth_ctrl: id of the control that has the bit depth, or 0: always 8
 * @depth: reads the bit depth from a value of @depth_ctrl
 * @ctrls: its controls
 * @num_ctrls: number of @ctrls
 */
struct daedalus_codec {
	u32 fourcc;
	u32 bit;
	u32 stream_fourcc;
	const char *stream_name;
	bool bytestream;
	u32 depth_ctrl;
	unsigned int (*depth)(union v4l2_ctrl_ptr p);
	const struct daedalus_ctrl_desc *ctrls;
	unsigned int num_ctrls;
};

#define DAEDALUS_CODEC(_name) \
	extern const struct daedalus_codec daedalus_##_name;
#include "daedalus_codecs.h"
#undef DAEDALUS_CODEC

/* The places of codecs in daedalus_codecs[]. */
enum {
#define DAEDALUS_CODEC(_name) DAEDALUS_INDEX_##_name,
#include "daedalus_codecs.h"
#undef DAEDALUS_CODEC
	DAEDALUS_NUM_CODECS
};

extern const struct daedalus_codec *const daedalus_codecs[DAEDALUS_NUM_CODECS];

/**
 * struct daedalus_raw - a picture format
 * @fourcc: V4L2_PIX_FMT_* of CAPTURE
 * @deep: for streams of more than 8 bit; a sample then has two bytes
 * @mem_planes: memory planes
 * @chroma_planes: colour planes besides luma: 1 (interleaved) or 2
 */
struct daedalus_raw {
	u32 fourcc;
	bool deep;
	u8 mem_planes;
	u8 chroma_planes;
};

u32 daedalus_all_codecs(void);
const struct daedalus_codec *daedalus_enum_codec(u32 codecs, unsigned int index);
const struct daedalus_codec *daedalus_find_codec(u32 codecs, u32 fourcc);
const struct daedalus_codec *daedalus_find_stream(u32 codecs, u32 fourcc);
const struct daedalus_raw *daedalus_any_raw(unsigned int index);
unsigned int daedalus_codec_index(const struct daedalus_codec *codec);
const struct daedalus_raw *daedalus_enum_raw(unsigned int depth, unsigned int index);
const struct daedalus_raw *daedalus_find_raw(unsigned int depth, u32 fourcc);
void daedalus_fill_coded(u32 fourcc, struct v4l2_pix_format_mplane *pix);
bool daedalus_sizes_suffice(const struct v4l2_pix_format_mplane *asked,
			    const struct v4l2_pix_format_mplane *needed);
void daedalus_fill_raw(const struct daedalus_raw *raw, struct v4l2_pix_format_mplane *pix);

#endif
