// SPDX-License-Identifier: GPL-2.0
/*
 * The stateless face's queues turn queued buffers and requests into jobs, and give the
 * buffers back.
 *
 * buf_queue puts buffers on the session's ready lists. The claim work pairs them,
 * oldest first, applies the request's controls, copies all control values into the
 * job's message, finishes the request and submits the job. Buffers come back in job
 * order, CAPTURE first.
 *
 * The claim work waits for the session's control lock. A thread that sets controls holds
 * that lock while it copies them from user memory. Nobody waits for the claim work: a
 * queue that stops takes the job from it (&daedalus_job.cancelled), and the claim work
 * does not touch a buffer of such a job again.
 */
#include <linux/slab.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_video.h"

#include "daedalus_trace.h"

static struct daedalus_ctx *sched_to_ctx(struct daedalus_sched *sched)
{
	return container_of(sched, struct daedalus_ctx, sched);
}

static struct daedalus_ctx *queue_to_ctx(struct vb2_queue *vq)
{
	return container_of(daedalus_queue_planes(vq), struct daedalus_ctx, planes);
}

static spinlock_t *ctx_lock(struct daedalus_ctx *ctx)
{
	return &ctx->sched.session.lock;
}

static void claim_later(struct daedalus_ctx *ctx)
{
	queue_work(ctx->video->dev->claim_wq, &ctx->claim_work);
}

/* --- buffers go back --- */

static void return_dst(struct daedalus_ctx *ctx, struct daedalus_buf *dst)
{
	lockdep_assert_held(ctx_lock(ctx));
	dst->vb.sequence = ctx->dst_sequence++;
	vb2_buffer_done(&dst->vb.vb2_buf,
			dst->failed ? VB2_BUF_STATE_ERROR : VB2_BUF_STATE_DONE);
}

/* Gives an OUTPUT buffer back. The claim work finishes its request, or has done so. */
static void return_src(struct daedalus_ctx *ctx, struct daedalus_buf *src, bool failed)
{
	lockdep_assert_held(ctx_lock(ctx));
	src->vb.sequence = ctx->src_sequence++;
	vb2_buffer_done(&src->vb.vb2_buf, failed ? VB2_BUF_STATE_ERROR : VB2_BUF_STATE_DONE);
}

/* Leaves a queued request to the claim work. */
static void finish_later(struct daedalus_ctx *ctx, struct media_request *req)
{
	lockdep_assert_held(ctx_lock(ctx));
	media_request_get(req);
	list_add_tail(&to_daedalus_request(req)->entry, &ctx->unfinished);
}

/**
 * daedalus_keep_requests() - let the claim work drop the last references of requests
 * @ctx: the session, whose OUTPUT queue is about to drop its buffers' requests
 *
 * The last put of a request waits for the control lock, which is forbidden under the
 * locks that are held here.
 *
 * Context: ctx->lock is held.
 */
void daedalus_keep_requests(struct daedalus_ctx *ctx)
{
	struct daedalus_request *request;
	struct vb2_buffer *vb;
	unsigned int i;

	lockdep_assert_held(&ctx->lock);
	spin_lock(ctx_lock(ctx));
	for (i = 0; i < DAEDALUS_MAX_BUFFERS; i++) {
		vb = vb2_get_buffer(&ctx->src, i);
		if (!vb || !vb->request)
			continue;
		request = to_daedalus_request(vb->request);
		if (!list_empty(&request->kept_entry))
			continue;
		media_request_get(vb->request);
		list_add_tail(&request->kept_entry, &ctx->kept);
	}
	spin_unlock(ctx_lock(ctx));
	claim_later(ctx);
}

/* Drops the references that daedalus_keep_requests() took. */
static void drop_kept(struct daedalus_ctx *ctx)
{
	struct daedalus_request *request;

	for (;;) {
		spin_lock(ctx_lock(ctx));
		request = list_first_entry_or_null(&ctx->kept, struct daedalus_request,
						   kept_entry);
		if (request)
			list_del_init(&request->kept_entry);
		spin_unlock(ctx_lock(ctx));
		if (!request)
			return;
		media_request_put(&request->req);
	}
}

/* Releases the held CAPTURE buffer: no further job comes for it. */
static void release_held(struct daedalus_ctx *ctx)
{
	struct daedalus_buf *dst = ctx->held;

	lockdep_assert_held(ctx_lock(ctx));
	if (!dst)
		return;
	ctx->held = NULL;
	dst->hold = false;
	if (!dst->jobs)
		return_dst(ctx, dst);
}

static void release_job_dst(struct daedalus_ctx *ctx, struct daedalus_buf *dst)
{
	if (!--dst->jobs && !dst->hold)
		return_dst(ctx, dst);
}

/* Gives back the buffers of a queue that belong to no job. */
static void return_ready(struct daedalus_ctx *ctx, struct list_head *ready)
{
	struct daedalus_buf *buf, *next;

	lockdep_assert_held(ctx_lock(ctx));
	list_for_each_entry_safe(buf, next, ready, entry) {
		list_del(&buf->entry);
		if (buf->job)
			daedalus_job_put(&ctx->sched, buf->job);
		else if (buf->vb.vb2_buf.req_obj.req)
			finish_later(ctx, buf->vb.vb2_buf.req_obj.req);
		buf->job = NULL;
		vb2_buffer_done(&buf->vb.vb2_buf, VB2_BUF_STATE_ERROR);
	}
}

static void sched_finish(struct daedalus_sched *sched, struct daedalus_job *job)
{
	struct daedalus_ctx *ctx = sched_to_ctx(sched);

	job->dst->failed |= job->failed;
	release_job_dst(ctx, job->dst);
	return_src(ctx, job->src, job->failed);
}

/*
 * Takes back a job that no worker has read: the stopping queue's buffer goes to the
 * client, the other one waits for a new partner. The youngest job comes first.
 */
static void sched_requeue(struct daedalus_sched *sched, struct daedalus_job *job)
{
	struct daedalus_ctx *ctx = sched_to_ctx(sched);
	struct daedalus_buf *src = job->src, *dst = job->dst;

	lockdep_assert_held(ctx_lock(ctx));
	if (job->same_capture) {
		/* The lines that the older jobs wrote stay. */
		dst->failed = true;
		release_job_dst(ctx, dst);
	} else {
		if (ctx->held == dst)
			ctx->held = NULL;
		dst->hold = false;
		dst->jobs = 0;
		if (ctx->stopping == DAEDALUS_OUTPUT) {
			list_add(&dst->entry, &ctx->dst_ready);
		} else {
			dst->failed = true;
			return_dst(ctx, dst);
		}
	}
	if (ctx->stopping == DAEDALUS_CAPTURE) {
		src->job = job;
		list_add(&src->entry, &ctx->src_ready);
	} else {
		return_src(ctx, src, true);
		daedalus_job_put(sched, job);
	}
}

static void sched_lost(struct daedalus_sched *sched)
{
	struct daedalus_ctx *ctx = sched_to_ctx(sched);

	release_held(ctx);
	vb2_queue_error(&ctx->src);
	vb2_queue_error(&ctx->dst);
	return_ready(ctx, &ctx->src_ready);
	claim_later(ctx);
}

static const struct daedalus_sched_ops sched_ops = {
	.finish = sched_finish,
	.requeue = sched_requeue,
	.lost = sched_lost,
};

/* --- claiming --- */

/* Appends one control's current value to the message. */
static int add_ctrl(struct daedalus_ctx *ctx, struct daedalus_job *job, u32 id, bool in_request)
{
	struct v4l2_ctrl *ctrl = v4l2_ctrl_find(&ctx->hdl, id);
	struct daedalus_ctrl *head;
	u32 size, padded;
	int ret;

	if (WARN_ON(!ctrl))
		return -EINVAL;
	/* The lock is for dynamic arrays: p_cur moves when the client sets one. */
	v4l2_ctrl_lock(ctrl);
	size = ctrl->elems * ctrl->elem_size;
	padded = ALIGN(size, 8);
	ret = daedalus_job_reserve(job, job->msg_size + sizeof(*head) + padded);
	if (ret)
		goto unlock;
	head = job->msg + job->msg_size;
	head->id = id;
	head->flags = in_request ? DAEDALUS_CTRL_F_IN_REQUEST : 0;
	head->size = size;
	head->elems = ctrl->elems;
	memcpy(head + 1, ctrl->p_cur.p, size);
	memset((void *)(head + 1) + size, 0, padded - size);
	job->msg_size += sizeof(*head) + padded;
unlock:
	v4l2_ctrl_unlock(ctrl);
	return ret;
}

/* Writes the values of the codec's controls after the message's fixed part. */
static int add_ctrls(struct daedalus_ctx *ctx, struct daedalus_job *job,
		     const struct daedalus_codec *codec, struct media_request *req)
{
	struct daedalus_msg_job *msg;
	struct v4l2_ctrl_handler *set;
	unsigned int i;
	int ret;

	ret = daedalus_job_reserve(job, SZ_4K);
	if (ret)
		return ret;
	memset(job->msg, 0, sizeof(*msg));
	job->msg_size = sizeof(*msg);
	set = v4l2_ctrl_request_hdl_find(req, &ctx->hdl);
	for (i = 0; i < codec->num_ctrls && !ret; i++) {
		const struct daedalus_ctrl_desc *desc = &codec->ctrls[i];

		if (!desc->in_job)
			continue;
		ret = add_ctrl(ctx, job, desc->cfg.id,
			       set && v4l2_ctrl_request_hdl_ctrl_find(set, desc->cfg.id));
		msg = job->msg;
		msg->num_ctrls++;
	}
	if (set)
		v4l2_ctrl_request_hdl_put(set);
	msg = job->msg;
	msg->coded_format = codec->fourcc;
	msg->msg.type = DAEDALUS_MSG_JOB;
	msg->msg.size = job->msg_size;
	return ret;
}

/* Writes the fixed part of the message, except the planes' ids. */
static void fill_header(struct daedalus_job *job)
{
	struct vb2_buffer *src = &job->src->vb.vb2_buf, *dst = &job->dst->vb.vb2_buf;
	const struct v4l2_pix_format_mplane *fmt = &job->dst->fmt;
	struct daedalus_msg_job *msg = job->msg;
	unsigned int i;

	msg->job = job->id;
	msg->timestamp = src->timestamp;
	msg->flags = job->same_capture ? DAEDALUS_JOB_F_SAME_CAPTURE : 0;
	daedalus_fill_plane(&msg->coded, src, 0, src->planes[0].data_offset,
			    vb2_get_plane_payload(src, 0), 0);
	msg->raw_format = fmt->pixelformat;
	msg->width = fmt->width;
	msg->height = fmt->height;
	msg->num_planes = fmt->num_planes;
	memset(msg->raw, 0, sizeof(msg->raw));
	job->coded = src->planes[0].mem_priv;
	job->num_raw = fmt->num_planes;
	for (i = 0; i < fmt->num_planes; i++) {
		job->raw[i] = dst->planes[i].mem_priv;
		daedalus_fill_plane(&msg->raw[i], dst, i, 0, fmt->plane_fmt[i].sizeimage,
				    fmt->plane_fmt[i].bytesperline);
	}
}

/* Copies the metadata that CAPTURE inherits. The core's helper changed its arguments. */
static void copy_metadata(const struct daedalus_buf *src, struct daedalus_buf *dst)
{
	const u32 mask = V4L2_BUF_FLAG_TIMECODE | V4L2_BUF_FLAG_TSTAMP_SRC_MASK;

	dst->vb.vb2_buf.timestamp = src->vb.vb2_buf.timestamp;
	dst->vb.vb2_buf.copied_timestamp = 1;
	dst->vb.timecode = src->vb.timecode;
	dst->vb.field = src->vb.field;
	dst->vb.flags = (dst->vb.flags & ~mask) | (src->vb.flags & mask);
}

static bool may_claim(struct daedalus_ctx *ctx)
{
	return ctx->streaming == (DAEDALUS_OUTPUT | DAEDALUS_CAPTURE) && !ctx->stopping &&
	       !ctx->sched.lost;
}

/* Takes the next pair of buffers off the ready lists. Returns false if there is none. */
static bool claim_pair(struct daedalus_ctx *ctx, struct daedalus_buf **src_out,
		       struct daedalus_buf **dst_out, bool *same_capture)
{
	struct daedalus_buf *src, *dst;

	lockdep_assert_held(ctx_lock(ctx));
	if (!may_claim(ctx))
		return false;
	src = list_first_entry_or_null(&ctx->src_ready, struct daedalus_buf, entry);
	if (!src)
		return false;
	if (ctx->held && ctx->held->vb.vb2_buf.timestamp != src->vb.vb2_buf.timestamp)
		release_held(ctx);
	*same_capture = ctx->held;
	dst = ctx->held ?: list_first_entry_or_null(&ctx->dst_ready, struct daedalus_buf, entry);
	if (!dst)
		return false;
	list_del(&src->entry);
	if (!*same_capture) {
		list_del(&dst->entry);
		dst->failed = false;
		dst->jobs = 0;
		copy_metadata(src, dst);
	}
	dst->jobs++;
	dst->hold = src->vb.flags & V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF;
	ctx->held = dst->hold ? dst : NULL;
	*src_out = src;
	*dst_out = dst;
	return true;
}

/*
 * Makes the next job, which becomes ctx->claiming, with a reference for the caller. Uses
 * @spare or gives it back. Returns NULL if there is no pair of buffers.
 */
static struct daedalus_job *claim_job(struct daedalus_ctx *ctx, struct daedalus_job *spare)
{
	struct daedalus_job *job = NULL;
	struct daedalus_buf *src, *dst;
	bool same_capture;

	lockdep_assert_held(ctx_lock(ctx));
	while (!job && claim_pair(ctx, &src, &dst, &same_capture)) {
		if (src->job) {
			swap(job, src->job);
		} else if (spare) {
			swap(job, spare);
		} else {
			/* Without memory there is no job that could wait for the older ones. */
			dst->failed = true;
			release_job_dst(ctx, dst);
			finish_later(ctx, src->vb.vb2_buf.req_obj.req);
			return_src(ctx, src, true);
		}
	}
	if (spare)
		daedalus_job_put(&ctx->sched, spare);
	if (!job)
		return NULL;
	job->id = ++ctx->sched.next_job;
	job->state = DAEDALUS_JOB_CLAIMED;
	job->cancelled = false;
	job->src = src;
	job->dst = dst;
	job->same_capture = same_capture;
	refcount_inc(&job->ref);
	ctx->claiming = job;
	return job;
}

/**
 * daedalus_finish_requests() - finish the requests whose buffers are back
 * @ctx: the session
 *
 * Context: waits for the control lock.
 */
void daedalus_finish_requests(struct daedalus_ctx *ctx)
{
	struct daedalus_request *request;

	for (;;) {
		spin_lock(ctx_lock(ctx));
		request = list_first_entry_or_null(&ctx->unfinished, struct daedalus_request,
						   entry);
		ctx->finishing = request;
		if (request)
			list_del_init(&request->entry);
		spin_unlock(ctx_lock(ctx));
		if (!request)
			break;
		daedalus_request_finish(&request->req, &ctx->hdl);
		media_request_put(&request->req);
	}
	wake_up_all(&ctx->finished_wq);
	drop_kept(ctx);
}

static bool all_finished(struct daedalus_ctx *ctx)
{
	bool ret;

	spin_lock(ctx_lock(ctx));
	ret = list_empty(&ctx->unfinished) && !ctx->finishing &&
	      (!ctx->claiming || !ctx->claiming->cancelled);
	spin_unlock(ctx_lock(ctx));
	return ret;
}

/**
 * daedalus_wait_finished() - wait until the requests of a stopped queue are complete
 * @ctx: the session
 *
 * A client may use its requests again after STREAMOFF. This waits only for threads that
 * set this session's controls, at most worker_wait_ms, and holds no lock.
 */
void daedalus_wait_finished(struct daedalus_ctx *ctx)
{
	wait_event_killable_timeout(ctx->finished_wq, all_finished(ctx),
				    msecs_to_jiffies(daedalus_worker_wait_ms));
}

static void prepare_job(struct daedalus_ctx *ctx, struct daedalus_job *job,
			const struct daedalus_codec *codec, struct media_request *req)
{
	int ret;

	ret = v4l2_ctrl_request_setup(req, &ctx->hdl);
	if (!ret)
		ret = add_ctrls(ctx, job, codec, req);
	daedalus_request_finish(req, &ctx->hdl);
	trace_daedalus_job_claim(ctx->sched.session.id, job->id, job->msg_size, ret);
	job->prepared = true;
	if (ret)
		job->failed = true;
}

static void claim_work(struct work_struct *work)
{
	struct daedalus_ctx *ctx = container_of(work, struct daedalus_ctx, claim_work);
	const struct daedalus_codec *codec;
	struct media_request *req;
	struct daedalus_job *job;

	for (;;) {
		daedalus_finish_requests(ctx);
		job = daedalus_job_create(&ctx->sched);
		spin_lock(ctx_lock(ctx));
		job = claim_job(ctx, job);
		req = job && !job->prepared ? job->src->vb.vb2_buf.req_obj.req : NULL;
		if (req)
			media_request_get(req);
		codec = ctx->codec;
		spin_unlock(ctx_lock(ctx));
		if (!job) {
			/* claim_job() may have left requests of buffers without a job. */
			daedalus_finish_requests(ctx);
			return;
		}

		/* Until the lock is taken, the client may get the job's buffers back. */
		if (req)
			prepare_job(ctx, job, codec, req);

		spin_lock(ctx_lock(ctx));
		ctx->claiming = NULL;
		if (!job->cancelled) {
			if (job->failed)
				job->state = DAEDALUS_JOB_ENDED;
			else
				fill_header(job);
			daedalus_sched_submit(&ctx->sched, job);
		}
		daedalus_job_put(&ctx->sched, job);
		spin_unlock(ctx_lock(ctx));
		if (req)
			media_request_put(req);
	}
}

/**
 * daedalus_flush_held() - complete the last picture as it is (V4L2_DEC_CMD_FLUSH)
 * @ctx: the session
 */
void daedalus_flush_held(struct daedalus_ctx *ctx)
{
	struct daedalus_buf *src;

	spin_lock(ctx_lock(ctx));
	if (!list_empty(&ctx->src_ready)) {
		src = list_last_entry(&ctx->src_ready, struct daedalus_buf, entry);
		src->vb.flags &= ~V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF;
	} else {
		release_held(ctx);
	}
	spin_unlock(ctx_lock(ctx));
}

/* --- vb2 --- */

static int queue_setup(struct vb2_queue *vq, unsigned int *num_buffers, unsigned int *num_planes,
		       unsigned int sizes[], struct device *alloc_devs[])
{
	struct daedalus_ctx *ctx = queue_to_ctx(vq);

	return daedalus_planes_setup(vq, vq->is_output ? &ctx->coded_fmt : &ctx->raw_fmt,
				     *num_buffers, num_planes, sizes);
}

static int buf_prepare(struct vb2_buffer *vb)
{
	if (vb->vb2_queue->is_output)
		return 0;
	return daedalus_planes_prepare(vb, &to_daedalus_buf(vb)->fmt);
}

static void buf_queue(struct vb2_buffer *vb)
{
	struct daedalus_ctx *ctx = queue_to_ctx(vb->vb2_queue);
	struct daedalus_buf *buf = to_daedalus_buf(vb);

	spin_lock(ctx_lock(ctx));
	list_add_tail(&buf->entry, vb->vb2_queue->is_output ? &ctx->src_ready : &ctx->dst_ready);
	spin_unlock(ctx_lock(ctx));
	claim_later(ctx);
}

/* Runs if the queue stopped before it got the buffer of this queued request. */
static void buf_request_complete(struct vb2_buffer *vb)
{
	struct daedalus_ctx *ctx = queue_to_ctx(vb->vb2_queue);

	spin_lock(ctx_lock(ctx));
	finish_later(ctx, vb->req_obj.req);
	spin_unlock(ctx_lock(ctx));
	claim_later(ctx);
}

static unsigned int queue_bit(struct vb2_queue *vq)
{
	return vq->is_output ? DAEDALUS_OUTPUT : DAEDALUS_CAPTURE;
}

static int start_streaming(struct vb2_queue *vq, unsigned int count)
{
	struct daedalus_ctx *ctx = queue_to_ctx(vq);

	daedalus_sched_start(&ctx->sched);
	spin_lock(ctx_lock(ctx));
	ctx->streaming |= queue_bit(vq);
	if (vq->is_output)
		ctx->src_sequence = 0;
	else
		ctx->dst_sequence = 0;
	spin_unlock(ctx_lock(ctx));
	claim_later(ctx);
	return 0;
}

static void stop_streaming(struct vb2_queue *vq)
{
	struct daedalus_ctx *ctx = queue_to_ctx(vq);
	struct daedalus_job *job;

	lockdep_assert_held(&ctx->lock);
	spin_lock(ctx_lock(ctx));
	ctx->stopping = queue_bit(vq);
	ctx->streaming &= ~ctx->stopping;
	job = ctx->claiming;
	/* The other queue may have just stopped and cancelled it. */
	if (job && !job->cancelled) {
		job->cancelled = true;
		sched_requeue(&ctx->sched, job);
	}
	spin_unlock(ctx_lock(ctx));

	daedalus_sched_stop(&ctx->sched);

	spin_lock(ctx_lock(ctx));
	if (ctx->held) {
		ctx->held->failed = true;
		release_held(ctx);
	}
	return_ready(ctx, vq->is_output ? &ctx->src_ready : &ctx->dst_ready);
	ctx->stopping = 0;
	spin_unlock(ctx_lock(ctx));
	daedalus_sched_stopped(&ctx->sched, ctx->streaming);
	claim_later(ctx);
}

static const struct vb2_ops vb2_ops = {
	.queue_setup = queue_setup,
	.buf_init = daedalus_planes_usable,
	.buf_out_validate = daedalus_planes_validate,
	.buf_prepare = buf_prepare,
	.buf_queue = buf_queue,
	.buf_request_complete = buf_request_complete,
	.start_streaming = start_streaming,
	.stop_streaming = stop_streaming,
	DAEDALUS_VB2_WAIT_OPS
};

/**
 * daedalus_queue_init() - prepare a session's queues
 * @ctx: the session
 *
 * Return: 0 or an error.
 */
int daedalus_queue_init(struct daedalus_ctx *ctx)
{
	int ret;

	daedalus_planes_init(&ctx->planes, ctx->video->dev, ctx->sched.session.pool);
	INIT_LIST_HEAD(&ctx->src_ready);
	INIT_LIST_HEAD(&ctx->dst_ready);
	INIT_LIST_HEAD(&ctx->unfinished);
	INIT_LIST_HEAD(&ctx->kept);
	init_waitqueue_head(&ctx->finished_wq);
	INIT_WORK(&ctx->claim_work, claim_work);
	daedalus_sched_init(&ctx->sched, &sched_ops);

	ctx->src.supports_requests = 1;
	ctx->src.requires_requests = 1;
	ctx->src.subsystem_flags = VB2_V4L2_FL_SUPPORTS_M2M_HOLD_CAPTURE_BUF;
	ret = daedalus_planes_queue(&ctx->planes, &ctx->src, &ctx->lock,
				    V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE, &vb2_ops,
				    sizeof(struct daedalus_buf));
	if (ret)
		return ret;
	return daedalus_planes_queue(&ctx->planes, &ctx->dst, &ctx->lock,
				     V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE, &vb2_ops,
				     sizeof(struct daedalus_buf));
}

/**
 * daedalus_queue_exit() - end the claim work and the scheduler
 * @ctx: the session, whose queues are released
 *
 * Context: waits for the claim work, so hold no lock of the core.
 */
void daedalus_queue_exit(struct daedalus_ctx *ctx)
{
	cancel_work_sync(&ctx->claim_work);
	daedalus_finish_requests(ctx);
	daedalus_sched_exit(&ctx->sched);
	daedalus_planes_exit(&ctx->planes);
}
