// SPDX-License-Identifier: GPL-2.0
/*
 * The table of codecs, the table of picture formats, and geometry.
 */
#include <linux/sizes.h>

#include "daedalus_codec.h"

/*
 * Decoders write whole blocks of up to 128x128 pixels, the largest superblock, and
 * some need lines that start on 64 bytes. To let them write a picture straight
 * into its buffer, a line of luma is a multiple of 128 bytes (so the half line
 * of a chroma plane is a multiple of 64), and a plane has room below the picture
 * for the rest of the last blocks and for one vector beyond its end.
 */
#define LINE_ALIGN	128U
#define BLOCK_LINES	128U
#define PLANE_TAIL	128U

/* OUTPUT has room for one uncompressed 8-bit 4:2:0 picture and for headers. */
#define CODED_EXTRA	SZ_256K
#define CODED_MAX	SZ_256M

const struct daedalus_codec *const daedalus_codecs[DAEDALUS_NUM_CODECS] = {
#define DAEDALUS_CODEC(_name) \
	[DAEDALUS_INDEX_##_name] = &daedalus_##_name,
#include "daedalus_codecs.h"
#undef DAEDALUS_CODEC
};

static const struct daedalus_raw daedalus_raws[] = {
	{ V4L2_PIX_FMT_NV12, false, 1, 1 },
	{ V4L2_PIX_FMT_NV12M, false, 2, 1 },
	{ V4L2_PIX_FMT_YUV420, false, 1, 2 },
	{ V4L2_PIX_FMT_YUV420M, false, 3, 2 },
	{ V4L2_PIX_FMT_P010, true, 1, 1 },
};

/**
 * daedalus_all_codecs() - return the codecs that the module knows
 *
 * Return: DAEDALUS_CODEC_*.
 */
u32 daedalus_all_codecs(void)
{
	u32 all = 0;
	unsigned int i;

	for (i = 0; i < DAEDALUS_NUM_CODECS; i++)
		all |= daedalus_codecs[i]->bit;
	return all;
}

/**
 * daedalus_enum_codec() - enumerate the codecs of a set
 * @codecs: DAEDALUS_CODEC_*
 * @index: index of the codec within the set
 *
 * Return: the codec, or NULL after the last one.
 */
const struct daedalus_codec *daedalus_enum_codec(u32 codecs, unsigned int index)
{
	unsigned int i;

	for (i = 0; i < DAEDALUS_NUM_CODECS; i++)
		if ((daedalus_codecs[i]->bit & codecs) && !index--)
			return daedalus_codecs[i];
	return NULL;
}

/**
 * daedalus_find_codec() - find a codec by its coded format
 * @codecs: DAEDALUS_CODEC_* to search
 * @fourcc: V4L2_PIX_FMT_*, or 0 for the first
 *
 * Return: the codec, or NULL.
 */
const struct daedalus_codec *daedalus_find_codec(u32 codecs, u32 fourcc)
{
	const struct daedalus_codec *codec;
	unsigned int i;

	for (i = 0; (codec = daedalus_enum_codec(codecs, i)); i++)
		if (!fourcc || codec->fourcc == fourcc)
			return codec;
	return NULL;
}

/**
 * daedalus_find_stream() - find a codec by the stateful face's coded format
 * @codecs: DAEDALUS_CODEC_* to search
 * @fourcc: V4L2_PIX_FMT_*, or 0 for the first
 *
 * Return: the codec, or NULL.
 */
const struct daedalus_codec *daedalus_find_stream(u32 codecs, u32 fourcc)
{
	const struct daedalus_codec *codec;
	unsigned int i;

	for (i = 0; (codec = daedalus_enum_codec(codecs, i)); i++)
		if (!fourcc || codec->stream_fourcc == fourcc)
			return codec;
	return NULL;
}

/**
 * daedalus_any_raw() - enumerate the picture formats of all bit depths
 * @index: index of the format
 *
 * Return: the format, or NULL after the last one.
 */
const struct daedalus_raw *daedalus_any_raw(unsigned int index)
{
	return index < ARRAY_SIZE(daedalus_raws) ? &daedalus_raws[index] : NULL;
}

/**
 * daedalus_codec_index() - return a codec's index in daedalus_codecs[]
 * @codec: the codec
 */
unsigned int daedalus_codec_index(const struct daedalus_codec *codec)
{
	unsigned int i;

	for (i = 0; i < DAEDALUS_NUM_CODECS - 1; i++)
		if (daedalus_codecs[i] == codec)
			break;
	return i;
}

/**
 * daedalus_enum_raw() - enumerate the picture formats of a bit depth
 * @depth: bits of a sample
 * @index: index of the format among them
 *
 * Return: the format, or NULL after the last one.
 */
const struct daedalus_raw *daedalus_enum_raw(unsigned int depth, unsigned int index)
{
	const bool deep = depth > 8;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(daedalus_raws); i++)
		if (deep == daedalus_raws[i].deep && !index--)
			return &daedalus_raws[i];
	return NULL;
}

/**
 * daedalus_find_raw() - find a picture format by its fourcc
 * @depth: bits of a sample
 * @fourcc: V4L2_PIX_FMT_*
 *
 * Return: the format, or the depth's default format if it lacks this one.
 */
const struct daedalus_raw *daedalus_find_raw(unsigned int depth, u32 fourcc)
{
	const struct daedalus_raw *raw;
	unsigned int i;

	for (i = 0; (raw = daedalus_enum_raw(depth, i)); i++)
		if (raw->fourcc == fourcc)
			return raw;
	return daedalus_enum_raw(depth, 0);
}

/**
 * daedalus_fill_coded() - complete an OUTPUT format
 * @fourcc: V4L2_PIX_FMT_* of the face
 * @pix: in: width, height, and a sizeimage that is kept if it is larger than needed
 */
void daedalus_fill_coded(u32 fourcc, struct v4l2_pix_format_mplane *pix)
{
	struct v4l2_plane_pix_format *plane = &pix->plane_fmt[0];
	u32 size;

	pix->pixelformat = fourcc;
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

/**
 * daedalus_fill_raw() - complete a CAPTURE format
 * @raw: the picture format
 * @pix: in: width and height
 */
void daedalus_fill_raw(const struct daedalus_raw *raw, struct v4l2_pix_format_mplane *pix)
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

/**
 * daedalus_sizes_suffice() - compare the planes that a client asks for with a format
 * @asked: the client's
 * @needed: the completed format
 *
 * Return: whether there are as many planes, each as large as the format requires.
 */
bool daedalus_sizes_suffice(const struct v4l2_pix_format_mplane *asked,
			    const struct v4l2_pix_format_mplane *needed)
{
	unsigned int i;

	if (asked->num_planes != needed->num_planes)
		return false;
	for (i = 0; i < needed->num_planes; i++)
		if (asked->plane_fmt[i].sizeimage < needed->plane_fmt[i].sizeimage)
			return false;
	return true;
}
