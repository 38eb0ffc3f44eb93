// SPDX-License-Identifier: GPL-2.0
/*
 * What a stateful session's worker reads and answers: messages and ioctls.
 *
 * Each ioctl names what it answers by an id, under session->lock, and is refused if the
 * session has another worker by then or if the worker has not got it.
 */
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/videodev2.h>

#include "daedalus_compat.h"
#include "daedalus_flow.h"
#include "daedalus_flow_worker.h"
#include "daedalus_memory.h"
#include "daedalus_worker.h"

static bool wants_worker(struct daedalus_session *session)
{
	return daedalus_flow_wants_worker(daedalus_session_to_flow(session));
}

static void worker_seated(struct daedalus_session *session)
{
	struct daedalus_flow *flow = daedalus_session_to_flow(session);

	daedalus_unwant_worker(session);
	flow->started = false;
	daedalus_flow_tick(flow, true);
}

static bool worker_pending(struct daedalus_session *session)
{
	struct daedalus_flow *flow = daedalus_session_to_flow(session);

	if (!flow->started || flow->flush || flow->reclaim)
		return true;
	if (flow->stopping)
		return false;
	return flow->go_on || daedalus_flow_next_raw(flow) || daedalus_flow_next_unit(flow) ||
	       daedalus_flow_may_drain(flow);
}

static ssize_t put_start(struct daedalus_flow *flow, void *buffer, size_t room)
{
	struct daedalus_msg_start *msg = buffer;
	size_t size = sizeof(*msg) + ALIGN(flow->headers_size, 8);

	if (size > room)
		return -EMSGSIZE;
	memset(msg, 0, size);
	msg->msg.type = DAEDALUS_MSG_START;
	msg->msg.size = size;
	msg->coded_format = READ_ONCE(flow->session.coded_format);
	msg->restarts = flow->session.restarts;
	msg->width = flow->width;
	msg->height = flow->height;
	msg->headers_size = flow->headers_size;
	memcpy(msg + 1, flow->headers, flow->headers_size);
	flow->started = true;
	/* The time that the process took to start is not the decoder's. */
	daedalus_flow_tick(flow, true);
	return size;
}

static ssize_t put_bare(void *buffer, u32 type, bool *due)
{
	struct daedalus_msg *msg = buffer;

	msg->type = type;
	msg->size = sizeof(*msg);
	*due = false;
	return sizeof(*msg);
}

static ssize_t put_raw(struct daedalus_flow *flow, struct daedalus_lend *raw, void *buffer,
		       size_t room)
{
	struct daedalus_msg_raw *msg = buffer;
	unsigned int i;

	if (room < sizeof(*msg))
		return -EMSGSIZE;
	*msg = raw->msg;
	/* Not earlier: a plane gets another id when it is revoked. */
	for (i = 0; i < msg->num_planes; i++)
		msg->planes[i].buffer = daedalus_mem_id(raw->mem[i]);
	raw->lent = true;
	flow->lent++;
	return sizeof(*msg);
}

static ssize_t put_unit(struct daedalus_flow *flow, struct daedalus_unit *unit, void *buffer,
			size_t room)
{
	struct daedalus_msg_coded *msg = buffer;

	if (room < sizeof(*msg))
		return -EMSGSIZE;
	*msg = unit->msg;
	msg->coded.buffer = daedalus_mem_id(unit->mem);
	unit->handed = true;
	flow->handed++;
	return sizeof(*msg);
}

static ssize_t worker_next(struct daedalus_session *session, void *buffer, size_t room,
			   size_t limit)
{
	struct daedalus_flow *flow = daedalus_session_to_flow(session);
	struct daedalus_unit *unit;
	struct daedalus_lend *raw;
	bool drain;

	if (!flow->started)
		return put_start(flow, buffer, room);
	if (flow->flush) {
		daedalus_flow_unlend(flow);
		return put_bare(buffer, DAEDALUS_MSG_FLUSH, &flow->flush);
	}
	if (flow->reclaim) {
		daedalus_flow_unlend(flow);
		wake_up(&flow->reclaim_wq);
		return put_bare(buffer, DAEDALUS_MSG_RECLAIM, &flow->reclaim);
	}
	if (flow->stopping)
		return -EAGAIN;
	if (flow->go_on)
		return put_bare(buffer, DAEDALUS_MSG_CONTINUE, &flow->go_on);
	raw = daedalus_flow_next_raw(flow);
	if (raw)
		return put_raw(flow, raw, buffer, room);
	unit = daedalus_flow_next_unit(flow);
	if (unit)
		return put_unit(flow, unit, buffer, room);
	if (daedalus_flow_may_drain(flow)) {
		flow->drain = DAEDALUS_DRAIN_HANDED;
		return put_bare(buffer, DAEDALUS_MSG_DRAIN, &drain);
	}
	return -EAGAIN;
}

static int take_format(struct daedalus_flow *flow, struct daedalus_format *format)
{
	int ret;

	lockdep_assert_held(&flow->session.lock);
	if (flow->flush)
		return -ECANCELED;
	ret = flow->ops->format(flow, format);
	if (ret < 0)
		return ret;
	flow->has_format = true;
	flow->waiting = !ret;
	flow->go_on = false;
	if (ret)
		format->flags = DAEDALUS_FORMAT_F_CONTINUE;
	daedalus_flow_update(flow);
	return 0;
}

static long worker_format(struct daedalus_flow *flow, struct daedalus_worker *worker,
			  struct daedalus_format __user *arg)
{
	struct daedalus_session *session = &flow->session;
	struct daedalus_format format;
	long ret;

	if (copy_from_user(&format, arg, sizeof(format)))
		return -EFAULT;
	if (format.flags || format.reserved[0] || format.reserved[1])
		return -EINVAL;
	spin_lock(&session->lock);
	ret = session->worker == worker ? take_format(flow, &format) : -ENOENT;
	spin_unlock(&session->lock);
	if (ret)
		return ret;
	return copy_to_user(arg, &format, sizeof(format)) ? -EFAULT : 0;
}

static struct daedalus_lend *lent_raw(struct daedalus_flow *flow, struct daedalus_worker *worker,
				      u64 id)
{
	struct daedalus_lend *raw;

	lockdep_assert_held(&flow->session.lock);
	if (flow->session.worker != worker)
		return NULL;
	list_for_each_entry(raw, &flow->raws, entry)
		if (raw->lent && raw->msg.raw == id)
			return raw;
	return NULL;
}

static int take_picture(struct daedalus_flow *flow, struct daedalus_lend *raw,
			const struct daedalus_picture *picture)
{
	const bool failed = picture->status != DAEDALUS_STATUS_OK;

	lockdep_assert_held(&flow->session.lock);
	if (!raw)
		return -ENOENT;
	if (flow->flush)
		return -ECANCELED;
	raw->lent = false;
	flow->lent--;
	list_del_init(&raw->entry);
	flow->lost_in_row = 0;
	if (failed)
		flow->failed++;
	else
		flow->done++;
	flow->ops->picture(flow, raw, &picture->echo, failed);
	daedalus_flow_tick(flow, true);
	return 0;
}

static bool echo_is_good(const struct daedalus_echo *echo)
{
	const u32 flags = V4L2_BUF_FLAG_TIMECODE | V4L2_BUF_FLAG_TSTAMP_SRC_MASK;

	return !(echo->flags & ~flags) && !echo->reserved;
}

static long worker_picture(struct daedalus_flow *flow, struct daedalus_worker *worker,
			   const struct daedalus_picture __user *arg)
{
	struct daedalus_mem *attached[DAEDALUS_MAX_PLANES];
	struct daedalus_session *session = &flow->session;
	unsigned int i, num_attached = 0;
	struct daedalus_picture picture;
	struct daedalus_lend *raw;
	long ret;

	if (copy_from_user(&picture, arg, sizeof(picture)))
		return -EFAULT;
	if (picture.status > DAEDALUS_STATUS_ERROR || !echo_is_good(&picture.echo) ||
	    picture.reserved)
		return -EINVAL;
	spin_lock(&session->lock);
	raw = lent_raw(flow, worker, picture.raw);
	for (i = 0; raw && i < raw->msg.num_planes; i++)
		if (daedalus_mem_attached(raw->mem[i]))
			attached[num_attached++] = daedalus_mem_get(raw->mem[i]);
	if (num_attached) {
		spin_unlock(&session->lock);
		for (i = 0; i < num_attached; i++) {
			daedalus_mem_clean(attached[i]);
			daedalus_mem_put(attached[i]);
		}
		spin_lock(&session->lock);
		/* It may have been taken back meanwhile. */
		raw = lent_raw(flow, worker, picture.raw);
	}
	ret = take_picture(flow, raw, &picture);
	spin_unlock(&session->lock);
	return ret;
}

static int take_unit(struct daedalus_flow *flow, const struct daedalus_coded_done *done)
{
	struct daedalus_unit *unit;
	bool oldest;

	lockdep_assert_held(&flow->session.lock);
	list_for_each_entry(unit, &flow->units, entry) {
		if (!unit->handed || unit->msg.unit != done->unit)
			continue;
		oldest = list_is_first(&unit->entry, &flow->units);
		if (oldest)
			flow->lost_in_row = 0;
		daedalus_flow_end_unit(flow, unit, done->status != DAEDALUS_STATUS_OK);
		daedalus_flow_tick(flow, oldest);
		return 0;
	}
	return -ENOENT;
}

static long worker_coded_done(struct daedalus_flow *flow, struct daedalus_worker *worker,
			      const struct daedalus_coded_done __user *arg)
{
	struct daedalus_session *session = &flow->session;
	struct daedalus_coded_done done;
	long ret;

	if (copy_from_user(&done, arg, sizeof(done)))
		return -EFAULT;
	if (done.status > DAEDALUS_STATUS_ERROR || done.reserved)
		return -EINVAL;
	spin_lock(&session->lock);
	ret = session->worker == worker ? take_unit(flow, &done) : -ENOENT;
	spin_unlock(&session->lock);
	return ret;
}

static long worker_end(struct daedalus_flow *flow, struct daedalus_worker *worker)
{
	struct daedalus_session *session = &flow->session;
	long ret = 0;

	spin_lock(&session->lock);
	if (session->worker != worker) {
		ret = -ENOENT;
	} else if (flow->flush) {
		ret = -ECANCELED;
	} else if (flow->drain != DAEDALUS_DRAIN_HANDED) {
		ret = -EINVAL;
	} else {
		flow->lost_in_row = 0;
		daedalus_flow_unlend(flow);
		daedalus_flow_end_drain(flow);
		daedalus_flow_update(flow);
	}
	spin_unlock(&session->lock);
	return ret;
}

static long worker_headers(struct daedalus_flow *flow, struct daedalus_worker *worker,
			   const struct daedalus_headers __user *arg)
{
	struct daedalus_session *session = &flow->session;
	struct daedalus_headers req;
	void *headers;
	long ret = 0;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (!req.size || req.size > DAEDALUS_HEADERS_MAX || req.reserved)
		return -EINVAL;
	headers = memdup_user(u64_to_user_ptr(req.data), req.size);
	if (IS_ERR(headers))
		return PTR_ERR(headers);
	spin_lock(&session->lock);
	if (session->worker == worker) {
		swap(flow->headers, headers);
		flow->headers_size = req.size;
	} else {
		ret = -ENOENT;
	}
	spin_unlock(&session->lock);
	kfree(headers);
	return ret;
}

static long worker_ioctl(struct daedalus_session *session, struct daedalus_worker *worker,
			 unsigned int cmd, void __user *arg)
{
	struct daedalus_flow *flow = daedalus_session_to_flow(session);

	switch (cmd) {
	case DAEDALUS_IOC_FORMAT:
		return worker_format(flow, worker, arg);
	case DAEDALUS_IOC_PICTURE:
		return worker_picture(flow, worker, arg);
	case DAEDALUS_IOC_CODED_DONE:
		return worker_coded_done(flow, worker, arg);
	case DAEDALUS_IOC_END:
		return worker_end(flow, worker);
	case DAEDALUS_IOC_HEADERS:
		return worker_headers(flow, worker, arg);
	}
	return -ENOTTY;
}

static void worker_lost(struct daedalus_session *session, struct daedalus_worker *worker)
{
	daedalus_flow_lose_worker(daedalus_session_to_flow(session), worker, false);
}

const struct daedalus_worker_ops daedalus_flow_worker_ops = {
	.wants = wants_worker,
	.seated = worker_seated,
	.pending = worker_pending,
	.next = worker_next,
	.ioctl = worker_ioctl,
	.lost = worker_lost,
};
