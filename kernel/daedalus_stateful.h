/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The stateful face: its node, and the state of an open.
 */
#ifndef DAEDALUS_STATEFUL_H
#define DAEDALUS_STATEFUL_H

#include <media/v4l2-ctrls.h>
#include <media/v4l2-device.h>
#include <media/v4l2-fh.h>
#include <media/v4l2-mem2mem.h>
#include <media/videobuf2-v4l2.h>

#include "daedalus_codec.h"
#include "daedalus_flow.h"
#include "daedalus_planes.h"

struct platform_device;

/* The platform device of the node. The module's driver is bound to it, for those who look. */
#define DAEDALUS_STATEFUL_DEVICE	"daedalus_stateful"

/**
 * struct daedalus_stateful - the stateful face's node
 * @v4l2_dev: without a media device, so that queue ioctls take no lock of the device;
 *	released last, frees this structure
 * @dev: the device
 * @pdev: the node's own platform device
 * @vdev: the video node; NULL until it is registered
 */
struct daedalus_stateful {
	struct v4l2_device v4l2_dev;
	struct daedalus_dev *dev;
	struct platform_device *pdev;
	struct video_device *vdev;
};

/**
 * struct daedalus_stream - an open of the stateful face's node
 * @fh: the V4L2 file handle
 * @m2m: carries @lock to the core, which looks for a queue ioctl's lock there; it has no
 *	other use
 * @flow: the scheduler with the session; session.lock guards the members marked (S)
 * @node: the node
 * @hdl: the controls
 * @lock: the lock of both queues; guards @codec, @coded_fmt, @raw_fmt, @request_fmt, @adopted
 * @src: OUTPUT
 * @dst: CAPTURE
 * @planes: allocates the planes of both queues
 * @codec: codec of the coded format; changes only while both queues have no buffer
 * @coded_fmt: format of OUTPUT
 * @raw_fmt: format of CAPTURE
 * @request_fmt: format of the CAPTURE buffers that VIDIOC_REQBUFS allocates, in both of its calls
 * @adopted: value of @formats that @raw_fmt has followed
 * @destroy_work: ends the session after its file is closed
 * @streaming: (S) DAEDALUS_OUTPUT, DAEDALUS_CAPTURE
 * @format: (S) the stream's format, valid if flow.has_format
 * @formats: (S) number of formats so far
 * @announce: (S) the client does not know @format yet
 * @last_due: (S) the next CAPTURE buffer goes back empty, as the last one
 * @eos_due: (S) with it comes the event of a drain's end
 * @ended: (S) the last buffer went back; nothing follows until the client starts again
 * @unanswered: (S) the client may still answer the first event by stopping CAPTURE
 * @answer_work: goes on with a client that does not answer
 * @alloc: (S) the format of the CAPTURE buffers that were allocated last
 * @src_sequence: (S) sequence number of the next OUTPUT buffer
 * @dst_sequence: (S) sequence number of the next CAPTURE buffer
 */
struct daedalus_stream {
	struct v4l2_fh fh;
	struct v4l2_m2m_ctx m2m;
	struct daedalus_flow flow;
	struct daedalus_stateful *node;
	struct v4l2_ctrl_handler hdl;

	struct mutex lock;	/* both queues, formats */
	struct vb2_queue src;
	struct vb2_queue dst;
	struct daedalus_planes planes;
	const struct daedalus_codec *codec;
	struct v4l2_pix_format_mplane coded_fmt;
	struct v4l2_pix_format_mplane raw_fmt;
	struct v4l2_pix_format_mplane request_fmt;
	u32 adopted;

	struct work_struct destroy_work;
	unsigned int streaming;
	struct daedalus_format format;
	u32 formats;
	bool announce;
	bool last_due;
	bool eos_due;
	bool ended;
	bool unanswered;
	struct delayed_work answer_work;
	struct v4l2_pix_format_mplane alloc;
	u32 src_sequence;
	u32 dst_sequence;
};

/**
 * struct daedalus_stream_buf - a buffer of either queue
 * @vb: must be first
 * @fmt: CAPTURE: the format at its allocation
 * @unit: OUTPUT
 * @raw: CAPTURE
 */
struct daedalus_stream_buf {
	struct vb2_v4l2_buffer vb;
	struct v4l2_pix_format_mplane fmt;
	struct daedalus_unit unit;
	struct daedalus_lend raw;
};

static inline struct daedalus_stream_buf *to_stream_buf(struct vb2_buffer *vb)
{
	return container_of(to_vb2_v4l2_buffer(vb), struct daedalus_stream_buf, vb);
}

/* daedalus_stream.c */
int daedalus_stream_init(struct daedalus_stream *stream);
void daedalus_stream_exit(struct daedalus_stream *stream);
void daedalus_stream_allocated(struct daedalus_stream *stream,
			       const struct v4l2_pix_format_mplane *pix);
bool daedalus_stream_format(struct daedalus_stream *stream, struct daedalus_format *format,
			    u32 *formats);
bool daedalus_stream_owes_last(struct daedalus_stream *stream);
void daedalus_stream_queued(struct daedalus_stream *stream);
void daedalus_stream_announce(struct daedalus_stream *stream);
int daedalus_stream_drain(struct daedalus_stream *stream);
int daedalus_stream_resume(struct daedalus_stream *stream);

/* daedalus_stateful.c */
struct daedalus_stateful *daedalus_stateful_create(struct daedalus_dev *dev);
int daedalus_stateful_register(struct daedalus_stateful *node);
void daedalus_stateful_destroy(struct daedalus_stateful *node);

#endif
