/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The stateless face: the video and media nodes, and the state of an open video node.
 */
#ifndef DAEDALUS_VIDEO_H
#define DAEDALUS_VIDEO_H

#include <media/v4l2-ctrls.h>
#include <media/v4l2-device.h>
#include <media/v4l2-fh.h>
#include <media/v4l2-mem2mem.h>
#include <media/videobuf2-v4l2.h>

#include "daedalus_codec.h"
#include "daedalus_planes.h"
#include "daedalus_requests.h"
#include "daedalus_sched.h"

/**
 * struct daedalus_video - the nodes
 * @v4l2_dev: released last, frees this structure
 * @requests: the media node
 * @dev: the device
 * @vdev: the video node; NULL until it is registered
 * @source_pad: pad of the entity that is embedded in @vdev
 * @proc: the decoder's entity
 * @proc_pads: its sink and its source
 * @sink: the entity of CAPTURE
 * @sink_pad: of @sink
 * @intf: the interface entity of the video node
 */
struct daedalus_video {
	struct v4l2_device v4l2_dev;
	struct daedalus_requests requests;
	struct daedalus_dev *dev;
	struct video_device *vdev;
	struct media_pad source_pad;
	struct media_entity proc;
	struct media_pad proc_pads[2];
	struct media_entity sink;
	struct media_pad sink_pad;
	struct media_intf_devnode *intf;
};

/**
 * struct daedalus_ctx - an open of the video node
 * @fh: the V4L2 file handle
 * @m2m: carries @lock to the core, which looks for a queue ioctl's lock there; it has no
 *	other use
 * @sched: the scheduler with the session; session.lock guards the members marked (S)
 * @video: the nodes
 * @hdl: the controls
 * @parked: waits until no request refers to @hdl
 * @depths: bit depth of each codec, from its controls
 * @lock: the lock of both queues; guards @coded_fmt, @raw_fmt, @codec. @codec changes only
 *	while both queues have no buffer.
 * @src: OUTPUT
 * @dst: CAPTURE
 * @codec: codec of the current coded format
 * @coded_fmt: format of OUTPUT
 * @raw_fmt: format of CAPTURE
 * @planes: allocates the planes of both queues
 * @claim_work: turns queued buffers into jobs and finishes requests
 * @destroy_work: ends the session after its file is closed
 * @streaming: (S) DAEDALUS_OUTPUT, DAEDALUS_CAPTURE
 * @stopping: (S) the queue that stops now, with the same bits
 * @src_ready: (S) OUTPUT buffers that wait to be claimed
 * @dst_ready: (S) CAPTURE buffers that wait to be claimed
 * @held: (S) CAPTURE buffer that the last claimed job holds
 * @claiming: (S) the job that the claim work prepares
 * @unfinished: (S) struct daedalus_request whose buffers are back
 * @kept: (S) struct daedalus_request whose reference is to be dropped
 * @finishing: (S) the claim work finishes a request
 * @finished_wq: woken when no request is left to finish
 * @src_sequence: (S) sequence number of the next OUTPUT buffer
 * @dst_sequence: (S) sequence number of the next CAPTURE buffer
 * @num_requests: last known number of requests that hold controls
 */
struct daedalus_ctx {
	struct v4l2_fh fh;
	struct v4l2_m2m_ctx m2m;
	struct daedalus_sched sched;
	struct daedalus_video *video;

	struct v4l2_ctrl_handler hdl;
	struct daedalus_parked parked;
	unsigned int depths[DAEDALUS_NUM_CODECS];

	struct mutex lock;	/* both queues, formats */
	struct vb2_queue src;
	struct vb2_queue dst;
	const struct daedalus_codec *codec;
	struct v4l2_pix_format_mplane coded_fmt;
	struct v4l2_pix_format_mplane raw_fmt;
	struct daedalus_planes planes;

	struct work_struct claim_work;
	struct work_struct destroy_work;
	unsigned int streaming;
	unsigned int stopping;
	struct list_head src_ready;
	struct list_head dst_ready;
	struct daedalus_buf *held;
	struct daedalus_job *claiming;
	struct list_head unfinished;
	struct list_head kept;
	bool finishing;
	wait_queue_head_t finished_wq;
	u32 src_sequence;
	u32 dst_sequence;
	unsigned int num_requests;
};

/**
 * struct daedalus_buf - a buffer of either queue
 * @vb: must be first
 * @entry: in the session's ready list
 * @fmt: CAPTURE: the format at its allocation
 * @job: OUTPUT: a prepared job that was taken back from the scheduler, or NULL
 * @jobs: CAPTURE: number of jobs that will write it
 * @hold: CAPTURE: further jobs may come
 * @failed: CAPTURE: one of its jobs failed
 */
struct daedalus_buf {
	struct vb2_v4l2_buffer vb;
	struct list_head entry;
	struct v4l2_pix_format_mplane fmt;
	struct daedalus_job *job;
	unsigned int jobs;
	bool hold;
	bool failed;
};

static inline struct daedalus_buf *to_daedalus_buf(struct vb2_buffer *vb)
{
	return container_of(to_vb2_v4l2_buffer(vb), struct daedalus_buf, vb);
}

static inline struct daedalus_ctx *session_to_ctx(struct daedalus_session *session)
{
	return container_of(session, struct daedalus_ctx, sched.session);
}

/* daedalus_queue.c */
int daedalus_queue_init(struct daedalus_ctx *ctx);
void daedalus_queue_exit(struct daedalus_ctx *ctx);
void daedalus_flush_held(struct daedalus_ctx *ctx);
void daedalus_keep_requests(struct daedalus_ctx *ctx);
void daedalus_finish_requests(struct daedalus_ctx *ctx);
void daedalus_wait_finished(struct daedalus_ctx *ctx);

/* daedalus_controls.c */
int daedalus_controls_init(struct daedalus_ctx *ctx);
int daedalus_controls_limit(struct daedalus_ctx *ctx, unsigned long arg);
unsigned int daedalus_bit_depth(struct daedalus_ctx *ctx);
unsigned int daedalus_controls_requests(struct daedalus_session *session);

/* daedalus_video.c */
extern const struct v4l2_file_operations daedalus_fops;
extern const struct v4l2_ioctl_ops daedalus_ioctl_ops;

#endif
