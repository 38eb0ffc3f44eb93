// SPDX-License-Identifier: GPL-2.0
/*
 * The stateful face's queues, events and drains: dev-decoder.rst's state machine, of which
 * the module never parses a stream.
 *
 * What clients force
 *	An event and the last buffer that belongs to it become visible together: both are
 *	given out under session->lock, under which poll() looks.
 *	A new format is announced when the client has dequeued all older pictures: some
 *	clients stop CAPTURE at the event and would lose them.
 *	If CAPTURE streams with buffers of the first format already, the stream goes on
 *	without a last buffer. So does one whose new format needs no other buffers.
 *	V4L2_DEC_CMD_START while CAPTURE does not suit the format returns 0 and starts
 *	nothing.
 *	A last buffer is always empty: Chromium shows no picture that has the flag. It needs a
 *	queued CAPTURE buffer, goes out on any that no worker has, else on the next that is
 *	queued.
 */
#include <linux/slab.h>
#include <media/v4l2-event.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_flow_worker.h"
#include "daedalus_stateful.h"

static struct daedalus_stream *flow_to_stream(struct daedalus_flow *flow)
{
	return container_of(flow, struct daedalus_stream, flow);
}

static struct daedalus_stream *queue_to_stream(struct vb2_queue *vq)
{
	return container_of(daedalus_queue_planes(vq), struct daedalus_stream, planes);
}

static spinlock_t *stream_lock(struct daedalus_stream *stream)
{
	return &stream->flow.session.lock;
}

static void queue_event(struct daedalus_stream *stream, u32 type)
{
	struct v4l2_event event = { .type = type };

	if (type == V4L2_EVENT_SOURCE_CHANGE)
		event.u.src_change.changes = V4L2_EVENT_SRC_CH_RESOLUTION;
	v4l2_event_queue_fh(&stream->fh, &event);
}

/* --- the last buffer --- */

static void return_raw(struct daedalus_stream *stream, struct daedalus_stream_buf *buf,
		       enum vb2_buffer_state state)
{
	lockdep_assert_held(stream_lock(stream));
	buf->vb.sequence = stream->dst_sequence++;
	vb2_buffer_done(&buf->vb.vb2_buf, state);
}

/* Gives the empty last buffer out, if one is due and there is a buffer for it. */
static void serve_last(struct daedalus_stream *stream)
{
	struct daedalus_stream_buf *buf;
	struct daedalus_lend *raw;
	unsigned int i;

	lockdep_assert_held(stream_lock(stream));
	if (!stream->last_due)
		return;
	list_for_each_entry(raw, &stream->flow.raws, entry) {
		if (raw->lent || raw->held || raw->revoked)
			continue;
		daedalus_flow_take_raw(&stream->flow, raw);
		buf = container_of(raw, struct daedalus_stream_buf, raw);
		for (i = 0; i < buf->vb.vb2_buf.num_planes; i++)
			vb2_set_plane_payload(&buf->vb.vb2_buf, i, 0);
		buf->vb.field = V4L2_FIELD_NONE;
		buf->vb.flags |= V4L2_BUF_FLAG_LAST;
		stream->last_due = false;
		stream->ended = true;
		/* The event is readable no later than the buffer. */
		if (stream->eos_due)
			queue_event(stream, V4L2_EVENT_EOS);
		stream->eos_due = false;
		return_raw(stream, buf, VB2_BUF_STATE_DONE);
		return;
	}
}

/**
 * daedalus_stream_queued() - use buffers after the ioctl that queued them
 * @stream: the session
 */
void daedalus_stream_queued(struct daedalus_stream *stream)
{
	spin_lock(stream_lock(stream));
	daedalus_flow_release(&stream->flow);
	serve_last(stream);
	spin_unlock(stream_lock(stream));
}

/**
 * daedalus_stream_owes_last() - tell whether the last buffer comes once CAPTURE buffers are queued
 * @stream: the session
 *
 * poll() reports no error then, although nothing is queued: Chromium never polls again after one.
 *
 * Context: session->lock is held.
 * Return: false as well if CAPTURE does not stream.
 */
bool daedalus_stream_owes_last(struct daedalus_stream *stream)
{
	lockdep_assert_held(stream_lock(stream));
	return (stream->streaming & DAEDALUS_CAPTURE) && !stream->dst.error &&
	       (stream->last_due || daedalus_flow_is_draining(&stream->flow));
}

static bool has_pictures(struct daedalus_stream *stream)
{
	unsigned long flags;
	bool ret;

	spin_lock_irqsave(&stream->dst.done_lock, flags);
	ret = !list_empty(&stream->dst.done_list);
	spin_unlock_irqrestore(&stream->dst.done_lock, flags);
	return ret;
}

/* Announces a new format, if one is unknown to the client and it has all older pictures. */
static void announce(struct daedalus_stream *stream)
{
	lockdep_assert_held(stream_lock(stream));
	if (!stream->announce)
		return;
	if ((stream->streaming & DAEDALUS_CAPTURE) && has_pictures(stream))
		return;
	stream->announce = false;
	queue_event(stream, V4L2_EVENT_SOURCE_CHANGE);
	if ((stream->streaming & DAEDALUS_CAPTURE) && !stream->ended) {
		stream->last_due = true;
		serve_last(stream);
	}
}

static bool is_deep(const struct v4l2_pix_format_mplane *pix)
{
	return daedalus_find_raw(10, pix->pixelformat)->fourcc == pix->pixelformat;
}

/* Tells whether a picture of the stream's format goes into a buffer of this format. */
static bool fits(struct daedalus_stream *stream, u32 width, u32 height, bool deep)
{
	const struct daedalus_format *format = &stream->format;

	return width == ALIGN(format->width, 2) && height == ALIGN(format->height, 2) &&
	       deep == (format->depth > 8);
}

/* Tells whether CAPTURE streams with buffers of the stream's format. */
static bool is_set_up(struct daedalus_stream *stream)
{
	const struct v4l2_pix_format_mplane *alloc = &stream->alloc;

	lockdep_assert_held(stream_lock(stream));
	return (stream->streaming & DAEDALUS_CAPTURE) && alloc->num_planes && !stream->ended &&
	       fits(stream, alloc->width, alloc->height, is_deep(alloc));
}

/* Tells whether the client has done its part for a new format. */
static bool may_continue(struct daedalus_stream *stream)
{
	return !stream->announce && !stream->last_due && !stream->unanswered && is_set_up(stream);
}

/* Goes on after a new format if the client has done its part. */
static void try_continue(struct daedalus_stream *stream)
{
	lockdep_assert_held(stream_lock(stream));
	if (stream->flow.waiting && may_continue(stream))
		daedalus_flow_continue(&stream->flow);
}

/*
 * A client whose CAPTURE streams with the right buffers before the first event has nothing to do at
 * it, and some do nothing. Others start again with V4L2_DEC_CMD_START or stop CAPTURE and start it,
 * as they do at any event, and would lose the pictures that they have not dequeued by then. So no
 * picture is output before the answer, or for this long.
 */
#define ANSWER_MS	250

static bool awaits_source(struct daedalus_stream *stream)
{
	struct v4l2_subscribed_event *sev;
	unsigned long flags;
	bool ret = false;

	spin_lock_irqsave(&stream->fh.vdev->fh_lock, flags);
	list_for_each_entry(sev, &stream->fh.subscribed, list)
		ret |= sev->type == V4L2_EVENT_SOURCE_CHANGE;
	spin_unlock_irqrestore(&stream->fh.vdev->fh_lock, flags);
	return ret;
}

/* Notes that the client has answered the first event, if it did not before. */
static void note_answer(struct daedalus_stream *stream)
{
	lockdep_assert_held(stream_lock(stream));
	stream->unanswered = false;
	try_continue(stream);
}

static void answer_late(struct work_struct *work)
{
	struct daedalus_stream *stream =
		container_of(to_delayed_work(work), struct daedalus_stream, answer_work);

	spin_lock(stream_lock(stream));
	note_answer(stream);
	spin_unlock(stream_lock(stream));
}

/* --- the scheduler's operations --- */

static void flow_unit_done(struct daedalus_flow *flow, struct daedalus_unit *unit, bool failed)
{
	struct daedalus_stream *stream = flow_to_stream(flow);
	struct daedalus_stream_buf *buf = container_of(unit, struct daedalus_stream_buf, unit);

	buf->vb.sequence = stream->src_sequence++;
	vb2_buffer_done(&buf->vb.vb2_buf, failed ? VB2_BUF_STATE_ERROR : VB2_BUF_STATE_DONE);
}

static void flow_picture(struct daedalus_flow *flow, struct daedalus_lend *raw,
			 const struct daedalus_echo *echo, bool failed)
{
	const u32 mask = V4L2_BUF_FLAG_TIMECODE | V4L2_BUF_FLAG_TSTAMP_SRC_MASK;
	struct daedalus_stream *stream = flow_to_stream(flow);
	struct daedalus_stream_buf *buf = container_of(raw, struct daedalus_stream_buf, raw);
	struct vb2_buffer *vb = &buf->vb.vb2_buf;
	unsigned int i;

	for (i = 0; i < vb->num_planes; i++)
		vb2_set_plane_payload(vb, i, buf->fmt.plane_fmt[i].sizeimage);
	vb->timestamp = echo->timestamp;
	vb->copied_timestamp = 1;
	memcpy(&buf->vb.timecode, echo->timecode, sizeof(buf->vb.timecode));
	buf->vb.flags = (buf->vb.flags & ~mask) | echo->flags;
	buf->vb.field = V4L2_FIELD_NONE;
	return_raw(stream, buf, failed ? VB2_BUF_STATE_ERROR : VB2_BUF_STATE_DONE);
}

static int flow_format(struct daedalus_flow *flow, const struct daedalus_format *format)
{
	struct daedalus_stream *stream = flow_to_stream(flow);
	const bool first = !flow->has_format;
	bool same;

	if (!format->width || format->width > format->coded_width ||
	    !format->height || format->height > format->coded_height ||
	    ALIGN(format->width, 2) > DAEDALUS_MAX_DIM ||
	    ALIGN(format->height, 2) > DAEDALUS_MAX_DIM ||
	    (format->depth != 8 && format->depth != 10))
		return -EINVAL;
	same = !first && format->width == stream->format.width &&
	       format->height == stream->format.height && format->depth == stream->format.depth;
	stream->format = *format;
	stream->formats++;
	if (same)
		return !flow->waiting || may_continue(stream);
	if (first && is_set_up(stream)) {
		queue_event(stream, V4L2_EVENT_SOURCE_CHANGE);
		stream->unanswered = awaits_source(stream);
		if (!stream->unanswered)
			return 1;
		mod_delayed_work(flow->session.dev->wq, &stream->answer_work,
				 msecs_to_jiffies(ANSWER_MS));
		return 0;
	}
	/* The worker gives its buffers up: one of them may have to be the last one. */
	daedalus_flow_unlend(flow);
	stream->announce = true;
	announce(stream);
	return 0;
}

static bool flow_suits(struct daedalus_flow *flow, const struct daedalus_lend *raw)
{
	const struct daedalus_stream_buf *buf = container_of(raw, struct daedalus_stream_buf, raw);

	return fits(flow_to_stream(flow), buf->fmt.width, buf->fmt.height, is_deep(&buf->fmt));
}

static void flow_unlent(struct daedalus_flow *flow)
{
	serve_last(flow_to_stream(flow));
}

static void flow_drained(struct daedalus_flow *flow)
{
	struct daedalus_stream *stream = flow_to_stream(flow);

	/* The buffer of a new format's announcement ends the drain, too. */
	if (!(stream->streaming & DAEDALUS_CAPTURE) || stream->ended) {
		queue_event(stream, V4L2_EVENT_EOS);
		return;
	}
	stream->last_due = true;
	stream->eos_due = true;
	serve_last(stream);
}

static void flow_lost(struct daedalus_flow *flow)
{
	struct daedalus_stream *stream = flow_to_stream(flow);

	vb2_queue_error(&stream->src);
	vb2_queue_error(&stream->dst);
}

static const struct daedalus_flow_ops flow_ops = {
	.unit_done = flow_unit_done,
	.picture = flow_picture,
	.format = flow_format,
	.suits = flow_suits,
	.unlent = flow_unlent,
	.drained = flow_drained,
	.lost = flow_lost,
};

/* --- functions for the ioctls --- */

/**
 * daedalus_stream_allocated() - note the format of new CAPTURE buffers
 * @stream: the session
 * @pix: the format; without planes if all buffers are gone
 */
void daedalus_stream_allocated(struct daedalus_stream *stream,
			       const struct v4l2_pix_format_mplane *pix)
{
	spin_lock(stream_lock(stream));
	stream->alloc = *pix;
	spin_unlock(stream_lock(stream));
}

/**
 * daedalus_stream_format() - return the stream's format
 * @stream: the session
 * @format: out: the format
 * @formats: out: number of formats so far
 *
 * Return: whether it is known.
 */
bool daedalus_stream_format(struct daedalus_stream *stream, struct daedalus_format *format,
			    u32 *formats)
{
	bool has_format;

	spin_lock(stream_lock(stream));
	has_format = stream->flow.has_format;
	*format = stream->format;
	*formats = stream->formats;
	spin_unlock(stream_lock(stream));
	return has_format;
}

/**
 * daedalus_stream_announce() - announce a new format after the client has dequeued a picture
 * @stream: the session
 */
void daedalus_stream_announce(struct daedalus_stream *stream)
{
	spin_lock(stream_lock(stream));
	announce(stream);
	spin_unlock(stream_lock(stream));
}

/**
 * daedalus_stream_drain() - begin a drain (V4L2_DEC_CMD_STOP)
 * @stream: the session
 *
 * CAPTURE need not stream yet: a client whose stream ends before it has set CAPTURE up waits for
 * the last buffer all the same.
 *
 * Return: 0, also if OUTPUT does not stream or a drain is over already; -EBUSY during one.
 */
int daedalus_stream_drain(struct daedalus_stream *stream)
{
	struct daedalus_flow *flow = &stream->flow;
	int ret = 0;

	spin_lock(stream_lock(stream));
	if (daedalus_flow_is_draining(flow))
		ret = -EBUSY;
	else if (flow->drain == DAEDALUS_DRAIN_NONE && !flow->lost &&
		 (stream->streaming & DAEDALUS_OUTPUT))
		daedalus_flow_drain(flow);
	spin_unlock(stream_lock(stream));
	return ret;
}

/* Lets the client dequeue pictures again after the last buffer. */
static void forget_last(struct daedalus_stream *stream)
{
	lockdep_assert_held(&stream->lock);
	lockdep_assert_held(stream_lock(stream));
	stream->ended = false;
	stream->last_due = false;
	if (stream->eos_due)
		queue_event(stream, V4L2_EVENT_EOS);
	stream->eos_due = false;
	vb2_clear_last_buffer_dequeued(&stream->dst);
}

/**
 * daedalus_stream_resume() - go on after the last buffer (V4L2_DEC_CMD_START)
 * @stream: the session
 *
 * Context: stream->lock is held.
 * Return: 0; -EBUSY during a drain.
 */
int daedalus_stream_resume(struct daedalus_stream *stream)
{
	struct daedalus_flow *flow = &stream->flow;
	int ret = 0;

	lockdep_assert_held(&stream->lock);
	spin_lock(stream_lock(stream));
	if (daedalus_flow_is_draining(flow)) {
		note_answer(stream);
		ret = -EBUSY;
	} else {
		forget_last(stream);
		note_answer(stream);
		daedalus_flow_resume(flow);
	}
	spin_unlock(stream_lock(stream));
	return ret;
}

/* --- vb2 --- */

static int queue_setup(struct vb2_queue *vq, unsigned int *num_buffers, unsigned int *num_planes,
		       unsigned int sizes[], struct device *alloc_devs[])
{
	struct daedalus_stream *stream = queue_to_stream(vq);

	return daedalus_planes_setup(vq,
				     vq->is_output ? &stream->coded_fmt : &stream->request_fmt,
				     *num_buffers, num_planes, sizes);
}

/* Gives a coded buffer the order of fields of its format, whatever the client says. */
static int buf_out_validate(struct vb2_buffer *vb)
{
	struct daedalus_stream *stream = queue_to_stream(vb->vb2_queue);

	lockdep_assert_held(&stream->lock);
	to_vb2_v4l2_buffer(vb)->field = stream->coded_fmt.field;
	return 0;
}

static int buf_prepare(struct vb2_buffer *vb)
{
	if (vb->vb2_queue->is_output)
		return 0;
	return daedalus_planes_prepare(vb, &to_stream_buf(vb)->fmt);
}

static void queue_unit(struct daedalus_stream *stream, struct daedalus_stream_buf *buf)
{
	const u32 mask = V4L2_BUF_FLAG_TIMECODE | V4L2_BUF_FLAG_TSTAMP_SRC_MASK;
	struct daedalus_msg_coded *msg = &buf->unit.msg;
	struct vb2_buffer *vb = &buf->vb.vb2_buf;

	BUILD_BUG_ON(sizeof(msg->echo.timecode) != sizeof(buf->vb.timecode));
	memset(msg, 0, sizeof(*msg));
	msg->echo.timestamp = vb->timestamp;
	msg->echo.flags = buf->vb.flags & mask;
	memcpy(msg->echo.timecode, &buf->vb.timecode, sizeof(buf->vb.timecode));
	daedalus_fill_plane(&msg->coded, vb, 0, vb->planes[0].data_offset,
			    vb2_get_plane_payload(vb, 0), 0);
	buf->unit.mem = vb->planes[0].mem_priv;
	daedalus_flow_add_unit(&stream->flow, &buf->unit);
}

static void queue_raw(struct daedalus_stream *stream, struct daedalus_stream_buf *buf)
{
	const struct v4l2_pix_format_mplane *fmt = &buf->fmt;
	struct daedalus_msg_raw *msg = &buf->raw.msg;
	struct vb2_buffer *vb = &buf->vb.vb2_buf;
	unsigned int i;

	memset(msg, 0, sizeof(*msg));
	msg->raw_format = fmt->pixelformat;
	msg->width = fmt->width;
	msg->height = fmt->height;
	msg->num_planes = fmt->num_planes;
	for (i = 0; i < fmt->num_planes; i++) {
		daedalus_fill_plane(&msg->planes[i], vb, i, 0, fmt->plane_fmt[i].sizeimage,
				    fmt->plane_fmt[i].bytesperline);
		buf->raw.mem[i] = vb->planes[i].mem_priv;
	}
	daedalus_flow_add_raw(&stream->flow, &buf->raw);
}

static void buf_queue(struct vb2_buffer *vb)
{
	struct daedalus_stream *stream = queue_to_stream(vb->vb2_queue);
	struct daedalus_stream_buf *buf = to_stream_buf(vb);

	spin_lock(stream_lock(stream));
	if (vb->vb2_queue->is_output)
		queue_unit(stream, buf);
	else
		queue_raw(stream, buf);
	spin_unlock(stream_lock(stream));
}

static int start_streaming(struct vb2_queue *vq, unsigned int count)
{
	struct daedalus_stream *stream = queue_to_stream(vq);
	struct daedalus_flow *flow = &stream->flow;

	lockdep_assert_held(&stream->lock);
	spin_lock(stream_lock(stream));
	if (flow->drain == DAEDALUS_DRAIN_OVER)
		forget_last(stream);
	daedalus_flow_resume(flow);
	if (vq->is_output) {
		stream->streaming |= DAEDALUS_OUTPUT;
		stream->src_sequence = 0;
		flow->width = stream->coded_fmt.width;
		flow->height = stream->coded_fmt.height;
		flow->reading = true;
	} else {
		stream->streaming |= DAEDALUS_CAPTURE;
		stream->dst_sequence = 0;
		flow->writing = true;
		note_answer(stream);
	}
	daedalus_flow_start(flow);
	spin_unlock(stream_lock(stream));
	return 0;
}

static void stop_output(struct daedalus_stream *stream)
{
	spin_lock(stream_lock(stream));
	daedalus_flow_stop_units(&stream->flow);
	stream->streaming &= ~DAEDALUS_OUTPUT;
	spin_unlock(stream_lock(stream));
}

static void stop_capture(struct daedalus_stream *stream)
{
	struct daedalus_stream_buf *buf;
	struct daedalus_lend *raw, *next;

	daedalus_flow_stop_raws(&stream->flow);
	spin_lock(stream_lock(stream));
	stream->streaming &= ~DAEDALUS_CAPTURE;
	forget_last(stream);
	list_for_each_entry_safe(raw, next, &stream->flow.raws, entry) {
		daedalus_flow_take_raw(&stream->flow, raw);
		buf = container_of(raw, struct daedalus_stream_buf, raw);
		vb2_buffer_done(&buf->vb.vb2_buf, VB2_BUF_STATE_ERROR);
	}
	/* The pictures that it waited for are gone. */
	announce(stream);
	spin_unlock(stream_lock(stream));
}

static void stop_streaming(struct vb2_queue *vq)
{
	struct daedalus_stream *stream = queue_to_stream(vq);

	lockdep_assert_held(&stream->lock);
	if (vq->is_output)
		stop_output(stream);
	else
		stop_capture(stream);
	daedalus_flow_stopped(&stream->flow, stream->streaming);
}

static const struct vb2_ops vb2_ops = {
	.queue_setup = queue_setup,
	.buf_init = daedalus_planes_usable,
	.buf_out_validate = buf_out_validate,
	.buf_prepare = buf_prepare,
	.buf_queue = buf_queue,
	.start_streaming = start_streaming,
	.stop_streaming = stop_streaming,
	DAEDALUS_VB2_WAIT_OPS
};

/**
 * daedalus_stream_init() - prepare a session's queues
 * @stream: the session
 *
 * Return: 0 or an error.
 */
int daedalus_stream_init(struct daedalus_stream *stream)
{
	int ret;

	daedalus_planes_init(&stream->planes, stream->node->dev, stream->flow.session.pool);
	stream->flow.session.worker_ops = &daedalus_flow_worker_ops;
	daedalus_flow_init(&stream->flow, &flow_ops);
	INIT_DELAYED_WORK(&stream->answer_work, answer_late);
	ret = daedalus_planes_queue(&stream->planes, &stream->src, &stream->lock,
				    V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE, &vb2_ops,
				    sizeof(struct daedalus_stream_buf));
	if (ret)
		return ret;
	return daedalus_planes_queue(&stream->planes, &stream->dst, &stream->lock,
				     V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE, &vb2_ops,
				     sizeof(struct daedalus_stream_buf));
}

/**
 * daedalus_stream_exit() - end the scheduler
 * @stream: the session, whose queues are released
 *
 * Context: waits for work items, so hold no lock of the core.
 */
void daedalus_stream_exit(struct daedalus_stream *stream)
{
	cancel_delayed_work_sync(&stream->answer_work);
	daedalus_flow_exit(&stream->flow);
	daedalus_planes_exit(&stream->planes);
}
