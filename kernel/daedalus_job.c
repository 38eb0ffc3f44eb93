// SPDX-License-Identifier: GPL-2.0
/*
 * The job engine: from two queued buffers to two finished ones.
 *
 * A job's life
 *	buf_queue puts buffers on the session's ready lists. The claim work pairs
 *	them, oldest first, applies the request's controls, copies all control
 *	values into the job's message and completes the request's control part.
 *	From then on the job is in ctx->jobs, *claimed*. The worker reads it
 *	(*handed*) and answers it (*ended*). Buffers are given back strictly in
 *	job order, CAPTURE first, so a job that ended early waits there.
 *
 * Who ends a job
 *	Exactly one of: the worker's answer, the loss of the worker, the watchdog,
 *	a stopped queue, an abort from debugfs. Each does so under job_lock and
 *	only to a job that has not ended, so there can be no two.
 *
 * Requests
 *	Whoever gives an OUTPUT buffer back may hold the last reference of its
 *	request; freeing it sleeps. finish_src() keeps that out of the locks.
 *
 * Locks, outermost first
 *	the media device's req_queue_mutex	(core; STREAMON/OFF, REQBUFS, queueing)
 *	ctx->lock	both vb2 queues and the formats; the core holds it in queue
 *			ioctls, buf_queue, start and stop_streaming
 *	dev->lock	sessions, broker; never taken with ctx->lock held
 *	ctx->hdl.lock	control values; taken by the claim work; user memory is
 *			faulted in under it, so never within a queue's mmap_lock
 *	ctx->job_lock	spinlock: lists, states, the worker pointer
 *	dev->wanted_lock, vb2's done_lock, wait queues	inside job_lock
 *	The claim work takes neither ctx->lock nor anything outside it, so that a
 *	stop can wait for it.
 *
 * Nothing waits for user space with a lock held, but a stopping queue: it gives
 * a worker that is writing into the client's buffers daedalus_drain_ms to
 * finish, then kills it and takes its mappings away.
 *
 * The oldest job's time
 *	It ends daedalus_watchdog_ms after it became the oldest one, however many
 *	workers were lost over it meanwhile: clients get each buffer back in
 *	bounded time. A worker that had read it is killed, for it may write to
 *	the buffers; so is one that reads no more. One that has never read
 *	anything is still starting, and is spared a few times. When jobs wait
 *	and no worker comes for daedalus_worker_wait_ms, the session is lost.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "daedalus_drv.h"

#define CREATE_TRACE_POINTS
#include "daedalus_trace.h"

static s64 since_ms(ktime_t then)
{
	return ktime_ms_delta(ktime_get(), then);
}

/* Jobs have waited too long for somebody to come. Called with job_lock held. */
static bool nobody_came(struct daedalus_ctx *ctx)
{
	return !ctx->worker && since_ms(ctx->alone_since) >= daedalus_worker_wait_ms;
}

/* What the oldest job has left; nothing or less: its time is over. */
static s64 left_ms(struct daedalus_ctx *ctx)
{
	s64 left = daedalus_watchdog_ms - since_ms(ctx->head_since);

	if (!ctx->worker)
		left = min(left, daedalus_worker_wait_ms - since_ms(ctx->alone_since));
	return left;
}

/* There is an oldest job. Called with job_lock held. */
static void watchdog_arm(struct daedalus_ctx *ctx)
{
	mod_delayed_work(ctx->dev->wq, &ctx->watchdog,
			 msecs_to_jiffies(max(left_ms(ctx), 0)) + 1);
}

/* A CAPTURE buffer goes back to the client. Called with job_lock held. */
static void finish_dst(struct daedalus_ctx *ctx, struct daedalus_buf *dst)
{
	dst->vb.sequence = ctx->dst_sequence++;
	vb2_buffer_done(&dst->vb.vb2_buf,
			dst->failed ? VB2_BUF_STATE_ERROR : VB2_BUF_STATE_DONE);
}

/*
 * An OUTPUT buffer goes back, and its request completes: the client may reuse both
 * from here on. The core drops the buffer's reference of the request with a
 * spinlock held, so that must not be the last one.
 */
static void finish_src(struct daedalus_ctx *ctx, struct daedalus_buf *src,
		       enum vb2_buffer_state state)
{
	struct media_request *req = src->vb.vb2_buf.req_obj.req;

	media_request_get(req);
	vb2_buffer_done(&src->vb.vb2_buf, state);
	daedalus_request_put(ctx->dev, req);
}

/* No further job comes for the held CAPTURE buffer. Called with job_lock held. */
static void release_held(struct daedalus_ctx *ctx)
{
	struct daedalus_buf *dst = ctx->held;

	if (!dst)
		return;
	ctx->held = NULL;
	dst->hold = false;
	if (!dst->jobs)
		finish_dst(ctx, dst);
}

/* Gives back, in order, what has ended. Called with job_lock held. */
static void finish_ended(struct daedalus_ctx *ctx)
{
	struct daedalus_job *job;
	struct daedalus_buf *src, *dst;
	bool any = false;

	while ((job = list_first_entry_or_null(&ctx->jobs, struct daedalus_job, entry)) &&
	       job->state == DAEDALUS_JOB_ENDED) {
		src = job->src;
		dst = job->dst;
		list_del(&job->entry);
		trace_daedalus_job_end(ctx->id, job->id, job->failed);
		if (job->failed) {
			dst->failed = true;
			ctx->failed++;
		} else {
			ctx->done++;
		}
		if (!--dst->jobs && !dst->hold)
			finish_dst(ctx, dst);
		src->vb.sequence = ctx->src_sequence++;
		/* The last touch. */
		finish_src(ctx, src, job->failed ? VB2_BUF_STATE_ERROR : VB2_BUF_STATE_DONE);
		any = true;
	}
	if (!any)
		return;
	ctx->head_since = ktime_get();
	wake_up(&ctx->drain_wq);
}

/* Called with job_lock held. */
static void end_job(struct daedalus_ctx *ctx, struct daedalus_job *job, bool failed)
{
	if (job->state == DAEDALUS_JOB_HANDED && !--ctx->handed)
		atomic_dec(&ctx->dev->busy);
	job->state = DAEDALUS_JOB_ENDED;
	job->failed |= failed;
}

/* Ends with an error every job that is in @state. Called with job_lock held. */
static void fail_jobs(struct daedalus_ctx *ctx, enum daedalus_job_state state)
{
	struct daedalus_job *job;

	list_for_each_entry(job, &ctx->jobs, entry)
		if (job->state == state)
			end_job(ctx, job, true);
	finish_ended(ctx);
}

/* The oldest job nobody has read, or NULL. Called with job_lock held. */
struct daedalus_job *daedalus_next_job(struct daedalus_ctx *ctx)
{
	struct daedalus_job *job;

	if (ctx->state == DAEDALUS_DRAINING)
		return NULL;
	list_for_each_entry(job, &ctx->jobs, entry)
		if (job->state == DAEDALUS_JOB_CLAIMED)
			return job;
	return NULL;
}

/* The worker has its message. Called with job_lock held. */
void daedalus_job_handed(struct daedalus_ctx *ctx, struct daedalus_job *job)
{
	int busy, peak;

	trace_daedalus_job_hand(ctx->id, job->id);
	job->state = DAEDALUS_JOB_HANDED;
	if (ctx->handed++)
		return;
	busy = atomic_inc_return(&ctx->dev->busy);
	peak = atomic_read(&ctx->dev->busy_peak);
	while (busy > peak && !atomic_try_cmpxchg(&ctx->dev->busy_peak, &peak, busy))
		;
}

int daedalus_job_reply(struct daedalus_worker *worker, u64 id, bool failed)
{
	struct daedalus_ctx *ctx = worker->ctx;
	struct daedalus_job *job;
	int ret = -ENOENT;

	spin_lock(&ctx->job_lock);
	if (ctx->worker != worker)
		goto unlock;
	list_for_each_entry(job, &ctx->jobs, entry) {
		if (job->id != id || job->state != DAEDALUS_JOB_HANDED)
			continue;
		ctx->lost_in_row = 0;
		end_job(ctx, job, failed);
		finish_ended(ctx);
		ret = 0;
		break;
	}
unlock:
	spin_unlock(&ctx->job_lock);
	return ret;
}

/*
 * Nobody can decode for this session. Called with job_lock held. The claim work
 * gives back what is not claimed, so that every request completes.
 */
static void session_lost(struct daedalus_ctx *ctx)
{
	ctx->state = DAEDALUS_LOST;
	daedalus_unwant_worker(ctx);
	fail_jobs(ctx, DAEDALUS_JOB_HANDED);
	fail_jobs(ctx, DAEDALUS_JOB_CLAIMED);
	release_held(ctx);
	vb2_queue_error(v4l2_m2m_get_src_vq(ctx->fh.m2m_ctx));
	vb2_queue_error(v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx));
	queue_work(ctx->dev->wq, &ctx->claim_work);
}

/*
 * The worker is gone: what it had read is lost, what it had not waits for the
 * next one. Called with job_lock held and ctx->worker NULL already.
 */
void daedalus_worker_lost(struct daedalus_ctx *ctx)
{
	ctx->restarts++;
	ctx->lost_in_row++;
	fail_jobs(ctx, DAEDALUS_JOB_HANDED);
	if (ctx->state != DAEDALUS_STREAMING)
		return;
	if (ctx->lost_in_row > DAEDALUS_MAX_RESTARTS) {
		dev_err(&ctx->dev->pdev->dev,
			"session %llu: %u workers lost in a row, given up\n",
			ctx->id, ctx->lost_in_row);
		session_lost(ctx);
		return;
	}
	ctx->state = DAEDALUS_WAITING;
	daedalus_want_worker(ctx);
	if (!list_empty(&ctx->jobs)) {
		ctx->alone_since = ktime_get();
		watchdog_arm(ctx);
	}
}

static void watchdog_work(struct work_struct *work)
{
	struct daedalus_ctx *ctx = container_of(to_delayed_work(work), struct daedalus_ctx,
						watchdog);
	struct daedalus_job *job;
	bool starting;
	u64 killed = 0;

	spin_lock(&ctx->job_lock);
	job = list_first_entry_or_null(&ctx->jobs, struct daedalus_job, entry);
	if (!job || ctx->state == DAEDALUS_DRAINING)
		goto unlock;
	if (left_ms(ctx) > 0)
		goto rearm;
	if (nobody_came(ctx)) {
		dev_err_ratelimited(&ctx->dev->pdev->dev,
				    "session %llu: no worker within %lld ms\n", ctx->id,
				    since_ms(ctx->alone_since));
		session_lost(ctx);
		goto unlock;
	}
	dev_err_ratelimited(&ctx->dev->pdev->dev,
			    "session %llu: job %llu not %s within %lld ms\n", ctx->id, job->id,
			    job->state == DAEDALUS_JOB_CLAIMED ? "read" : "answered",
			    since_ms(ctx->head_since));
	if (job->state == DAEDALUS_JOB_CLAIMED) {
		end_job(ctx, job, true);
		finish_ended(ctx);
	}
	starting = ctx->worker && !ctx->worker->pid;
	if (starting && ctx->lost_in_row < DAEDALUS_MAX_RESTARTS)
		ctx->lost_in_row++;
	else if (ctx->worker)
		killed = daedalus_worker_kill(ctx);
rearm:
	if (!list_empty(&ctx->jobs))
		watchdog_arm(ctx);
unlock:
	spin_unlock(&ctx->job_lock);
	daedalus_worker_unmap(ctx, killed);
}

/*
 * Somebody wants the session's work to end now. Its queues are there for as long
 * as they stream, and a session that streams is waiting or streaming; one that is
 * being stopped ends its jobs itself.
 */
void daedalus_abort(struct daedalus_ctx *ctx)
{
	u64 killed = 0;

	spin_lock(&ctx->job_lock);
	if (ctx->worker)
		killed = daedalus_worker_kill(ctx);
	if (ctx->state == DAEDALUS_WAITING || ctx->state == DAEDALUS_STREAMING)
		session_lost(ctx);
	spin_unlock(&ctx->job_lock);
	daedalus_worker_unmap(ctx, killed);
	dev_info(&ctx->dev->pdev->dev, "session %llu: aborted\n", ctx->id);
}

/* Appends one control's current value to the message. */
static int add_ctrl(struct daedalus_ctx *ctx, struct daedalus_job *job, u32 id, bool in_request)
{
	struct v4l2_ctrl *ctrl = v4l2_ctrl_find(&ctx->hdl, id);
	struct daedalus_ctrl *head;
	u32 size, padded, need;
	void *msg;
	int ret = 0;

	if (WARN_ON(!ctrl))
		return -EINVAL;
	/* p_cur of a dynamic array moves when the client sets it: hence the lock. */
	v4l2_ctrl_lock(ctrl);
	size = ctrl->elems * ctrl->elem_size;
	padded = ALIGN(size, 8);
	need = job->msg_size + sizeof(*head) + padded;
	if (need > DAEDALUS_MSG_MAX) {
		ret = -E2BIG;
		goto unlock;
	}
	if (need > job->msg_alloc) {
		msg = kvmalloc(ALIGN(need, SZ_4K), GFP_KERNEL);
		if (!msg) {
			ret = -ENOMEM;
			goto unlock;
		}
		memcpy(msg, job->msg, job->msg_size);
		kvfree(job->msg);
		job->msg = msg;
		job->msg_alloc = ALIGN(need, SZ_4K);
	}
	head = job->msg + job->msg_size;
	head->id = id;
	head->flags = in_request ? DAEDALUS_CTRL_F_IN_REQUEST : 0;
	head->size = size;
	head->elems = ctrl->elems;
	memcpy(head + 1, ctrl->p_cur.p, size);
	memset((void *)(head + 1) + size, 0, padded - size);
	job->msg_size = need;
unlock:
	v4l2_ctrl_unlock(ctrl);
	return ret;
}

static void fill_plane(struct daedalus_plane *plane, struct daedalus_buf *buf, unsigned int i,
		       u32 offset, u32 end, u32 bytesperline)
{
	plane->buffer = buf->mem[i]->id;
	plane->offset = offset;
	plane->length = min_t(size_t, end, buf->mem[i]->dbuf->size) - offset;
	plane->bytesperline = bytesperline;
}

/* Writes the message: geometry, then the values of the codec's controls. */
static int build_msg(struct daedalus_ctx *ctx, struct daedalus_job *job, bool same_capture)
{
	struct media_request *req = job->src->vb.vb2_buf.req_obj.req;
	struct vb2_buffer *src = &job->src->vb.vb2_buf;
	const struct daedalus_codec *codec = ctx->codec;
	const struct v4l2_pix_format_mplane *fmt = &job->dst->fmt;
	struct v4l2_ctrl_handler *set;
	struct daedalus_msg_job *msg;
	unsigned int i;
	int ret = 0;

	if (job->msg_alloc < sizeof(*msg)) {
		job->msg = kvmalloc(SZ_4K, GFP_KERNEL);
		if (!job->msg)
			return -ENOMEM;
		job->msg_alloc = SZ_4K;
	}
	msg = job->msg;
	memset(msg, 0, sizeof(*msg));
	msg->msg.type = DAEDALUS_MSG_JOB;
	msg->job = job->id;
	msg->timestamp = src->timestamp;
	msg->coded_format = codec->fourcc;
	msg->flags = same_capture ? DAEDALUS_JOB_F_SAME_CAPTURE : 0;
	fill_plane(&msg->coded, job->src, 0, src->planes[0].data_offset,
		   vb2_get_plane_payload(src, 0), 0);
	msg->raw_format = fmt->pixelformat;
	msg->width = fmt->width;
	msg->height = fmt->height;
	msg->num_planes = fmt->num_planes;
	for (i = 0; i < fmt->num_planes; i++)
		fill_plane(&msg->raw[i], job->dst, i, 0, fmt->plane_fmt[i].sizeimage,
			   fmt->plane_fmt[i].bytesperline);
	job->msg_size = sizeof(*msg);

	set = v4l2_ctrl_request_hdl_find(req, &ctx->hdl);
	for (i = 0; i < codec->num_ctrls && !ret; i++) {
		const struct daedalus_ctrl_desc *desc = &codec->ctrls[i];

		if (!desc->in_job)
			continue;
		ret = add_ctrl(ctx, job, desc->cfg.id,
			       set && v4l2_ctrl_request_hdl_ctrl_find(set, desc->cfg.id));
		((struct daedalus_msg_job *)job->msg)->num_ctrls++;
	}
	if (set)
		v4l2_ctrl_request_hdl_put(set);
	((struct daedalus_msg_job *)job->msg)->msg.size = job->msg_size;
	return ret;
}

/* What a CAPTURE buffer inherits. The core's helper changed its arguments. */
static void copy_metadata(const struct daedalus_buf *src, struct daedalus_buf *dst)
{
	const u32 mask = V4L2_BUF_FLAG_TIMECODE | V4L2_BUF_FLAG_TSTAMP_SRC_MASK;

	dst->vb.vb2_buf.timestamp = src->vb.vb2_buf.timestamp;
	dst->vb.vb2_buf.copied_timestamp = 1;
	dst->vb.timecode = src->vb.timecode;
	dst->vb.field = src->vb.field;
	dst->vb.flags = (dst->vb.flags & ~mask) | (src->vb.flags & mask);
}

/*
 * Takes the next pair of buffers off the ready lists and makes it a job, not
 * listed yet. NULL if there is none. Called with job_lock held.
 */
static struct daedalus_job *claim_pair(struct daedalus_ctx *ctx, bool *same_capture)
{
	struct daedalus_buf *src, *dst;

	if (ctx->streaming != (BIT(0) | BIT(1)) || ctx->state == DAEDALUS_DRAINING ||
	    ctx->state == DAEDALUS_LOST)
		return NULL;
	src = list_first_entry_or_null(&ctx->src_ready, struct daedalus_buf, entry);
	if (!src)
		return NULL;
	if (ctx->held && ctx->held->vb.vb2_buf.timestamp != src->vb.vb2_buf.timestamp)
		release_held(ctx);
	*same_capture = ctx->held;
	dst = ctx->held ?: list_first_entry_or_null(&ctx->dst_ready, struct daedalus_buf, entry);
	if (!dst)
		return NULL;
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

	src->job.id = ++ctx->next_job;
	src->job.state = DAEDALUS_JOB_CLAIMED;
	src->job.failed = false;
	src->job.src = src;
	src->job.dst = dst;
	return &src->job;
}

/* Gives back a queue's unclaimed buffers; requests are completed first. */
static void return_ready(struct daedalus_ctx *ctx, struct list_head *ready)
{
	struct daedalus_buf *buf;
	LIST_HEAD(list);

	spin_lock(&ctx->job_lock);
	list_splice_init(ready, &list);
	spin_unlock(&ctx->job_lock);
	while ((buf = list_first_entry_or_null(&list, struct daedalus_buf, entry))) {
		list_del(&buf->entry);
		if (!buf->vb.vb2_buf.req_obj.req) {
			vb2_buffer_done(&buf->vb.vb2_buf, VB2_BUF_STATE_ERROR);
			continue;
		}
		v4l2_ctrl_request_complete(buf->vb.vb2_buf.req_obj.req, &ctx->hdl);
		finish_src(ctx, buf, VB2_BUF_STATE_ERROR);
	}
}

static void claim_work(struct work_struct *work)
{
	struct daedalus_ctx *ctx = container_of(work, struct daedalus_ctx, claim_work);
	struct media_request *req;
	struct daedalus_job *job;
	bool same_capture, lost;
	int ret;

	for (;;) {
		spin_lock(&ctx->job_lock);
		job = claim_pair(ctx, &same_capture);
		lost = ctx->state == DAEDALUS_LOST;
		spin_unlock(&ctx->job_lock);
		if (lost)
			return_ready(ctx, &ctx->src_ready);
		if (!job)
			return;

		/*
		 * The buffers are on no list: a stop waits for this work first.
		 * The values are copied and the request's control part is completed
		 * before the next request can change them.
		 */
		req = job->src->vb.vb2_buf.req_obj.req;
		ret = v4l2_ctrl_request_setup(req, &ctx->hdl);
		if (!ret)
			ret = build_msg(ctx, job, same_capture);
		v4l2_ctrl_request_complete(req, &ctx->hdl);

		spin_lock(&ctx->job_lock);
		trace_daedalus_job_claim(ctx->id, job->id, job->msg_size, ret);
		if (list_empty(&ctx->jobs)) {
			ctx->head_since = ktime_get();
			ctx->alone_since = ctx->head_since;
			if (!delayed_work_pending(&ctx->watchdog))
				watchdog_arm(ctx);
		}
		list_add_tail(&job->entry, &ctx->jobs);
		/* Lost meanwhile: nobody is to come for it. */
		if (ret || ctx->state == DAEDALUS_LOST) {
			end_job(ctx, job, true);
			finish_ended(ctx);
		} else if (ctx->worker) {
			wake_up(&ctx->worker->wq);
		}
		spin_unlock(&ctx->job_lock);
	}
}

void daedalus_buf_ready(struct daedalus_ctx *ctx, struct daedalus_buf *buf)
{
	spin_lock(&ctx->job_lock);
	list_add_tail(&buf->entry, buf->vb.vb2_buf.vb2_queue->is_output ?
		      &ctx->src_ready : &ctx->dst_ready);
	spin_unlock(&ctx->job_lock);
	queue_work(ctx->dev->wq, &ctx->claim_work);
}

/* V4L2_DEC_CMD_FLUSH: the last picture is complete as it is. */
void daedalus_flush_held(struct daedalus_ctx *ctx)
{
	struct daedalus_buf *src;

	spin_lock(&ctx->job_lock);
	if (!list_empty(&ctx->src_ready)) {
		src = list_last_entry(&ctx->src_ready, struct daedalus_buf, entry);
		src->vb.flags &= ~V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF;
	} else {
		release_held(ctx);
	}
	spin_unlock(&ctx->job_lock);
}

/* start_streaming of one queue. */
void daedalus_start(struct daedalus_ctx *ctx, unsigned int queue_bit)
{
	spin_lock(&ctx->job_lock);
	ctx->streaming |= queue_bit;
	if (queue_bit == BIT(0))
		ctx->src_sequence = 0;
	else
		ctx->dst_sequence = 0;
	/* Lost: the other queue is still in error. */
	if (ctx->state != DAEDALUS_LOST && ctx->state != DAEDALUS_WAITING) {
		ctx->state = ctx->worker ? DAEDALUS_STREAMING : DAEDALUS_WAITING;
		if (!ctx->worker) {
			ctx->lost_in_row = 0;
			daedalus_want_worker(ctx);
		}
	}
	spin_unlock(&ctx->job_lock);
	queue_work(ctx->dev->wq, &ctx->claim_work);
}

static bool none_handed(struct daedalus_ctx *ctx)
{
	bool none;

	spin_lock(&ctx->job_lock);
	none = !ctx->handed;
	spin_unlock(&ctx->job_lock);
	return none;
}

/*
 * stop_streaming of one queue: no job outlives it. Jobs that no worker has read
 * end at once; those read get a moment to finish.
 */
void daedalus_stop(struct daedalus_ctx *ctx, unsigned int queue_bit)
{
	u64 killed = 0;
	bool lost;

	spin_lock(&ctx->job_lock);
	lost = ctx->state == DAEDALUS_LOST;
	ctx->state = DAEDALUS_DRAINING;
	ctx->streaming &= ~queue_bit;
	daedalus_unwant_worker(ctx);
	spin_unlock(&ctx->job_lock);
	cancel_work_sync(&ctx->claim_work);

	spin_lock(&ctx->job_lock);
	fail_jobs(ctx, DAEDALUS_JOB_CLAIMED);
	spin_unlock(&ctx->job_lock);
	wait_event_timeout(ctx->drain_wq, none_handed(ctx),
			   msecs_to_jiffies(daedalus_drain_ms) + 1);

	spin_lock(&ctx->job_lock);
	if (ctx->handed) {
		dev_dbg(&ctx->dev->pdev->dev, "session %llu: worker still writing, killed\n",
			ctx->id);
		killed = daedalus_worker_kill(ctx);
	}
	if (ctx->held) {
		ctx->held->failed = true;
		release_held(ctx);
	}
	if (ctx->worker) {
		ctx->worker->reset = true;
		wake_up(&ctx->worker->wq);
	}
	spin_unlock(&ctx->job_lock);
	daedalus_worker_unmap(ctx, killed);
	cancel_delayed_work_sync(&ctx->watchdog);

	return_ready(ctx, queue_bit == BIT(0) ? &ctx->src_ready : &ctx->dst_ready);

	spin_lock(&ctx->job_lock);
	if (!ctx->streaming) {
		ctx->state = DAEDALUS_IDLE;
	} else if (lost) {
		/* The other queue is still in error. */
		ctx->state = DAEDALUS_LOST;
	} else if (ctx->worker) {
		ctx->state = DAEDALUS_STREAMING;
	} else {
		ctx->state = DAEDALUS_WAITING;
		daedalus_want_worker(ctx);
	}
	spin_unlock(&ctx->job_lock);
}

void daedalus_job_init(struct daedalus_ctx *ctx)
{
	spin_lock_init(&ctx->job_lock);
	INIT_LIST_HEAD(&ctx->src_ready);
	INIT_LIST_HEAD(&ctx->dst_ready);
	INIT_LIST_HEAD(&ctx->jobs);
	INIT_LIST_HEAD(&ctx->planes);
	init_waitqueue_head(&ctx->drain_wq);
	INIT_WORK(&ctx->claim_work, claim_work);
	INIT_DELAYED_WORK(&ctx->watchdog, watchdog_work);
}

/* After both queues are gone: nothing may run any more. */
void daedalus_job_exit(struct daedalus_ctx *ctx)
{
	cancel_work_sync(&ctx->claim_work);
	cancel_delayed_work_sync(&ctx->watchdog);
	WARN_ON(!list_empty(&ctx->jobs));
}
