// SPDX-License-Identifier: GPL-2.0
/*
 * The stateless face's video node: open, close and the ioctls.
 *
 * The core looks for the lock of a queue's ioctl in fh->m2m_ctx->q_lock. So a session has
 * a struct v4l2_m2m_ctx for that alone: each session has its own lock, and the core keeps
 * the order req_queue_mutex, ctx->lock. The mem2mem core serves no other purpose here.
 *
 * No ioctl op here uses its second argument: since 7.2 the core passes NULL.
 */
#include <linux/capability.h>
#include <linux/slab.h>
#include <media/v4l2-event.h>
#include <media/v4l2-ioctl.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_video.h"
#include "daedalus_worker.h"

static struct daedalus_ctx *file_to_ctx(struct file *filp)
{
	return container_of(daedalus_file_to_fh(filp), struct daedalus_ctx, fh);
}

static u32 codecs_of(struct daedalus_ctx *ctx)
{
	return ctx->sched.session.codecs;
}

static struct vb2_queue *queue_of(struct daedalus_ctx *ctx, enum v4l2_buf_type type)
{
	return V4L2_TYPE_IS_OUTPUT(type) ? &ctx->src : &ctx->dst;
}

/*
 * Lets the CAPTURE format follow the stream's bit depth as long as no buffer was allocated
 * with it.
 */
static void refresh_raw_fmt(struct daedalus_ctx *ctx)
{
	unsigned int depth = daedalus_bit_depth(ctx);
	const struct daedalus_raw *raw = daedalus_find_raw(depth, ctx->raw_fmt.pixelformat);

	lockdep_assert_held(&ctx->lock);
	if (raw->fourcc == ctx->raw_fmt.pixelformat || vb2_is_busy(&ctx->dst))
		return;
	daedalus_fill_raw(raw, &ctx->raw_fmt);
}

static void copy_colour(struct v4l2_pix_format_mplane *to,
			const struct v4l2_pix_format_mplane *from)
{
	to->colorspace = from->colorspace;
	to->xfer_func = from->xfer_func;
	to->ycbcr_enc = from->ycbcr_enc;
	to->quantization = from->quantization;
}

/* Sets the CAPTURE format that belongs to the OUTPUT format. */
static void reset_raw_fmt(struct daedalus_ctx *ctx)
{
	ctx->raw_fmt.width = ctx->coded_fmt.width;
	ctx->raw_fmt.height = ctx->coded_fmt.height;
	copy_colour(&ctx->raw_fmt, &ctx->coded_fmt);
	daedalus_fill_raw(daedalus_find_raw(daedalus_bit_depth(ctx),
					    ctx->raw_fmt.pixelformat), &ctx->raw_fmt);
}

static int daedalus_querycap(struct file *filp, void *unused, struct v4l2_capability *cap)
{
	struct daedalus_video *video = file_to_ctx(filp)->video;

	strscpy(cap->driver, DAEDALUS_DRIVER_NAME, sizeof(cap->driver));
	strscpy(cap->card, video->requests.mdev.model, sizeof(cap->card));
	return 0;
}

static int daedalus_enum_coded(struct file *filp, void *unused, struct v4l2_fmtdesc *f)
{
	const struct daedalus_codec *codec = daedalus_enum_codec(codecs_of(file_to_ctx(filp)),
								 f->index);

	if (!codec)
		return -EINVAL;
	f->pixelformat = codec->fourcc;
	return 0;
}

static int daedalus_enum_raw_fmt(struct file *filp, void *unused, struct v4l2_fmtdesc *f)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);
	const struct daedalus_raw *raw = daedalus_enum_raw(daedalus_bit_depth(ctx), f->index);

	if (!raw)
		return -EINVAL;
	f->pixelformat = raw->fourcc;
	return 0;
}

static int daedalus_enum_framesizes(struct file *filp, void *unused,
				    struct v4l2_frmsizeenum *fsize)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);

	if (fsize->index || !fsize->pixel_format ||
	    !daedalus_find_codec(codecs_of(ctx), fsize->pixel_format))
		return -EINVAL;
	fsize->type = V4L2_FRMSIZE_TYPE_STEPWISE;
	fsize->stepwise.min_width = 1;
	fsize->stepwise.max_width = DAEDALUS_MAX_DIM;
	fsize->stepwise.step_width = 1;
	fsize->stepwise.min_height = 1;
	fsize->stepwise.max_height = DAEDALUS_MAX_DIM;
	fsize->stepwise.step_height = 1;
	return 0;
}

static int daedalus_g_fmt_coded(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);

	mutex_lock(&ctx->lock);
	f->fmt.pix_mp = ctx->coded_fmt;
	mutex_unlock(&ctx->lock);
	return 0;
}

static int daedalus_g_fmt_raw(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);

	mutex_lock(&ctx->lock);
	refresh_raw_fmt(ctx);
	f->fmt.pix_mp = ctx->raw_fmt;
	mutex_unlock(&ctx->lock);
	return 0;
}

static const struct daedalus_codec *try_coded(struct daedalus_ctx *ctx, struct v4l2_format *f)
{
	const struct daedalus_codec *codec =
		daedalus_find_codec(codecs_of(ctx), f->fmt.pix_mp.pixelformat);

	if (!codec)
		codec = daedalus_find_codec(codecs_of(ctx), 0);
	daedalus_fill_coded(codec->fourcc, &f->fmt.pix_mp);
	return codec;
}

static int daedalus_try_fmt_coded(struct file *filp, void *unused, struct v4l2_format *f)
{
	try_coded(file_to_ctx(filp), f);
	return 0;
}

/* OUTPUT determines the size and the colours. */
static void try_raw(struct daedalus_ctx *ctx, struct v4l2_pix_format_mplane *pix)
{
	pix->width = ctx->coded_fmt.width;
	pix->height = ctx->coded_fmt.height;
	copy_colour(pix, &ctx->coded_fmt);
	daedalus_fill_raw(daedalus_find_raw(daedalus_bit_depth(ctx), pix->pixelformat), pix);
}

static int daedalus_try_fmt_raw(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);

	mutex_lock(&ctx->lock);
	try_raw(ctx, &f->fmt.pix_mp);
	mutex_unlock(&ctx->lock);
	return 0;
}

/*
 * A client may change the size of the coded format, but not its codec, while the queues
 * have buffers: a stream can change its resolution between any two frames. CAPTURE follows
 * a new size at once, for buffers that the client adds later. The present buffers keep the
 * format of their allocation.
 */
static int daedalus_s_fmt_coded(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);
	const struct v4l2_pix_format_mplane *pix = &f->fmt.pix_mp;
	const struct daedalus_codec *codec;
	bool resized;
	int ret = 0;

	mutex_lock(&ctx->lock);
	codec = try_coded(ctx, f);
	if (codec != ctx->codec && (vb2_is_busy(&ctx->src) ||
				    vb2_is_busy(&ctx->dst))) {
		ret = -EBUSY;
		goto unlock;
	}
	resized = pix->width != ctx->coded_fmt.width || pix->height != ctx->coded_fmt.height;
	ctx->codec = codec;
	WRITE_ONCE(ctx->sched.session.coded_format, codec->fourcc);
	ctx->coded_fmt = *pix;
	if (resized || !vb2_is_busy(&ctx->dst))
		reset_raw_fmt(ctx);
	else
		copy_colour(&ctx->raw_fmt, &ctx->coded_fmt);
unlock:
	mutex_unlock(&ctx->lock);
	return ret;
}

static int daedalus_s_fmt_raw(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);
	int ret = 0;

	mutex_lock(&ctx->lock);
	if (vb2_is_busy(&ctx->dst)) {
		ret = -EBUSY;
	} else {
		try_raw(ctx, &f->fmt.pix_mp);
		ctx->raw_fmt = f->fmt.pix_mp;
	}
	mutex_unlock(&ctx->lock);
	return ret;
}

/*
 * Stores the format of CAPTURE buffers at allocation: buffers of different sizes live side
 * by side. The queue ioctls hold ctx->lock.
 */
static void remember_fmt(struct vb2_queue *vq, unsigned int first, unsigned int count,
			 const struct v4l2_pix_format_mplane *pix)
{
	struct vb2_buffer *vb;
	unsigned int i;

	for (i = first; i < first + count; i++) {
		vb = vb2_get_buffer(vq, i);
		if (vb)
			to_daedalus_buf(vb)->fmt = *pix;
	}
}

static int daedalus_reqbufs(struct file *filp, void *unused, struct v4l2_requestbuffers *rb)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);
	struct vb2_queue *vq = queue_of(ctx, rb->type);
	int ret;

	/* The core has found this lock in fh->m2m_ctx. */
	lockdep_assert_held(&ctx->lock);
	/*
	 * REQBUFS drops requests with the queue's mmap_lock held. mmap() takes that lock
	 * inside the lock under which a thread that sets controls reads user memory. So
	 * the queue drops the requests before.
	 */
	if (!vb2_is_streaming(vq) &&
	    (rb->memory == V4L2_MEMORY_MMAP || rb->memory == V4L2_MEMORY_DMABUF)) {
		daedalus_keep_requests(ctx);
		vb2_streamoff(vq, rb->type);
	}
	refresh_raw_fmt(ctx);
	ret = daedalus_planes_request(vq, rb);
	if (!ret && V4L2_TYPE_IS_CAPTURE(rb->type))
		remember_fmt(&ctx->dst, 0, rb->count, &ctx->raw_fmt);
	return ret;
}

static int daedalus_create_bufs(struct file *filp, void *unused,
				struct v4l2_create_buffers *create)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);
	struct v4l2_pix_format_mplane *asked = &create->format.fmt.pix_mp;
	struct v4l2_pix_format_mplane pix = *asked;
	const struct daedalus_codec *codec;
	const struct daedalus_raw *raw;
	int ret;

	refresh_raw_fmt(ctx);
	if (create->count && V4L2_TYPE_IS_CAPTURE(create->format.type)) {
		raw = daedalus_find_raw(daedalus_bit_depth(ctx), asked->pixelformat);
		if (raw->fourcc != asked->pixelformat)
			return -EINVAL;
		daedalus_fill_raw(raw, &pix);
	} else if (create->count) {
		codec = daedalus_find_codec(codecs_of(ctx), asked->pixelformat);
		if (!asked->pixelformat || codec != ctx->codec)
			return -EINVAL;
		pix.plane_fmt[0].sizeimage = 0;
		daedalus_fill_coded(codec->fourcc, &pix);
	}
	if (create->count && !daedalus_sizes_suffice(asked, &pix))
		return -EINVAL;
	ret = daedalus_planes_create(queue_of(ctx, create->format.type), create);
	if (!ret && create->count && V4L2_TYPE_IS_CAPTURE(create->format.type))
		remember_fmt(&ctx->dst, create->index, create->count, &pix);
	return ret;
}

static int daedalus_remove_bufs(struct file *filp, void *unused, struct v4l2_remove_buffers *remove)
{
	struct vb2_queue *vq = queue_of(file_to_ctx(filp), remove->type);

	if (vq->type != remove->type)
		return -EINVAL;
	return daedalus_planes_remove(vq, remove->index, remove->count);
}

static int daedalus_querybuf(struct file *filp, void *unused, struct v4l2_buffer *buf)
{
	struct vb2_queue *vq = queue_of(file_to_ctx(filp), buf->type);
	int ret = vb2_querybuf(vq, buf);

	if (!ret)
		daedalus_mark_offsets(vq, buf);
	return ret;
}

static int daedalus_prepare_buf(struct file *filp, void *unused, struct v4l2_buffer *buf)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);
	struct vb2_queue *vq = queue_of(ctx, buf->type);
	int ret = vb2_prepare_buf(vq, &ctx->video->requests.mdev, buf);

	if (!ret)
		daedalus_mark_offsets(vq, buf);
	return ret;
}

static int daedalus_qbuf(struct file *filp, void *unused, struct v4l2_buffer *buf)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);
	struct vb2_queue *vq = queue_of(ctx, buf->type);
	int ret;

	if (!vq->is_output && (buf->flags & V4L2_BUF_FLAG_REQUEST_FD))
		return -EPERM;
	ret = vb2_qbuf(vq, &ctx->video->requests.mdev, buf);
	if (!ret)
		daedalus_mark_offsets(vq, buf);
	return ret;
}

static int daedalus_dqbuf(struct file *filp, void *unused, struct v4l2_buffer *buf)
{
	struct vb2_queue *vq = queue_of(file_to_ctx(filp), buf->type);
	int ret = vb2_dqbuf(vq, buf, filp->f_flags & O_NONBLOCK);

	if (!ret)
		daedalus_mark_offsets(vq, buf);
	return ret;
}

static int daedalus_expbuf(struct file *filp, void *unused, struct v4l2_exportbuffer *eb)
{
	return vb2_expbuf(queue_of(file_to_ctx(filp), eb->type), eb);
}

static int daedalus_streamon(struct file *filp, void *unused, enum v4l2_buf_type type)
{
	return vb2_streamon(queue_of(file_to_ctx(filp), type), type);
}

static int daedalus_streamoff(struct file *filp, void *unused, enum v4l2_buf_type type)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);

	daedalus_keep_requests(ctx);
	return vb2_streamoff(queue_of(ctx, type), type);
}

/* The stateless interface has only one command. */
static int daedalus_try_decoder_cmd(struct file *filp, void *unused, struct v4l2_decoder_cmd *cmd)
{
	if (cmd->cmd != V4L2_DEC_CMD_FLUSH)
		return -EINVAL;
	cmd->flags = 0;
	return 0;
}

static int daedalus_decoder_cmd(struct file *filp, void *unused, struct v4l2_decoder_cmd *cmd)
{
	int ret = daedalus_try_decoder_cmd(filp, unused, cmd);

	if (!ret)
		daedalus_flush_held(file_to_ctx(filp));
	return ret;
}

static int daedalus_subscribe_event(struct v4l2_fh *fh,
				    const struct v4l2_event_subscription *sub)
{
	return sub->type == V4L2_EVENT_CTRL ? v4l2_ctrl_subscribe_event(fh, sub) : -EINVAL;
}

const struct v4l2_ioctl_ops daedalus_ioctl_ops = {
	.vidioc_querycap = daedalus_querycap,
	.vidioc_enum_framesizes = daedalus_enum_framesizes,
	.vidioc_enum_fmt_vid_out = daedalus_enum_coded,
	.vidioc_g_fmt_vid_out_mplane = daedalus_g_fmt_coded,
	.vidioc_try_fmt_vid_out_mplane = daedalus_try_fmt_coded,
	.vidioc_s_fmt_vid_out_mplane = daedalus_s_fmt_coded,
	.vidioc_enum_fmt_vid_cap = daedalus_enum_raw_fmt,
	.vidioc_g_fmt_vid_cap_mplane = daedalus_g_fmt_raw,
	.vidioc_try_fmt_vid_cap_mplane = daedalus_try_fmt_raw,
	.vidioc_s_fmt_vid_cap_mplane = daedalus_s_fmt_raw,
	.vidioc_reqbufs = daedalus_reqbufs,
	.vidioc_create_bufs = daedalus_create_bufs,
	.vidioc_remove_bufs = daedalus_remove_bufs,
	.vidioc_querybuf = daedalus_querybuf,
	.vidioc_prepare_buf = daedalus_prepare_buf,
	.vidioc_qbuf = daedalus_qbuf,
	.vidioc_dqbuf = daedalus_dqbuf,
	.vidioc_expbuf = daedalus_expbuf,
	.vidioc_streamon = daedalus_streamon,
	.vidioc_streamoff = daedalus_streamoff,
	.vidioc_try_decoder_cmd = daedalus_try_decoder_cmd,
	.vidioc_decoder_cmd = daedalus_decoder_cmd,
	.vidioc_subscribe_event = daedalus_subscribe_event,
	.vidioc_unsubscribe_event = v4l2_event_unsubscribe,
};

/*
 * VIDIOC_S_PRIORITY needs a capability because priorities are the device's, not a
 * session's: while a client is at RECORD, the core refuses every other client's S_FMT,
 * REQBUFS and STREAMON with EBUSY.
 */
static long daedalus_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);
	long ret;

	if (_IOC_TYPE(cmd) != 'V')
		return video_ioctl2(filp, cmd, arg);
	/* Compares numbers, because 32-bit programs have other sizes for some. */
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(VIDIOC_S_PRIORITY):
		if (!capable(CAP_SYS_ADMIN))
			return -EPERM;
		break;
	case _IOC_NR(VIDIOC_S_EXT_CTRLS):
		ret = daedalus_controls_limit(ctx, arg);
		if (ret)
			return ret;
		break;
	case _IOC_NR(VIDIOC_CREATE_BUFS):
		return daedalus_planes_ioctl(&ctx->planes, filp, cmd, arg);
	case _IOC_NR(VIDIOC_REQBUFS):
		ret = daedalus_planes_ioctl(&ctx->planes, filp, cmd, arg);
		daedalus_wait_finished(ctx);
		return ret;
	case _IOC_NR(VIDIOC_STREAMOFF):
		daedalus_sched_drain_imported(&ctx->sched);
		ret = video_ioctl2(filp, cmd, arg);
		daedalus_sched_undrain(&ctx->sched);
		daedalus_wait_finished(ctx);
		return ret;
	}
	return video_ioctl2(filp, cmd, arg);
}

static __poll_t daedalus_poll(struct file *filp, struct poll_table_struct *wait)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);
	__poll_t interest = poll_requested_events(wait), events = 0;

	/* Waits on all of them unconditionally: only the first call adds wait queues. */
	poll_wait(filp, &ctx->src.done_wq, wait);
	poll_wait(filp, &ctx->dst.done_wq, wait);
	poll_wait(filp, &ctx->fh.wait, wait);
	if (interest & (EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM))
		events = daedalus_queues_poll(&ctx->src, &ctx->dst);
	if (v4l2_event_pending(&ctx->fh))
		events |= EPOLLPRI;
	return events;
}

static int daedalus_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);

	return daedalus_queues_mmap(&ctx->src, &ctx->dst, vma);
}

/* --- the session --- */

static void session_status(struct daedalus_session *session, struct daedalus_session_status *status)
{
	status->requests = daedalus_controls_requests(session);
	spin_lock(&session->lock);
	daedalus_sched_status(session, status);
	status->waiting = list_count_nodes(&session_to_ctx(session)->src_ready);
	spin_unlock(&session->lock);
}

static const struct daedalus_session_ops session_ops = {
	.status = session_status,
	.abort = daedalus_sched_abort,
	.thaw = daedalus_sched_thaw,
};

/* --- open and close --- */

static void ctx_release(struct daedalus_session *session)
{
	struct daedalus_ctx *ctx = session_to_ctx(session);

	if (session->pool)
		daedalus_pool_put(session->pool);
	mutex_destroy(&ctx->lock);
	kfree(ctx);
}

static int daedalus_open(struct file *filp)
{
	struct video_device *vdev = video_devdata(filp);
	struct daedalus_video *video = video_get_drvdata(vdev);
	struct daedalus_session *session;
	struct daedalus_ctx *ctx;
	int ret;

	ret = daedalus_wait_broker(video->dev);
	if (ret)
		return ret;
	ctx = kzalloc_obj(*ctx);
	if (!ctx)
		return -ENOMEM;
	session = &ctx->sched.session;
	ctx->video = video;
	mutex_init(&ctx->lock);
	daedalus_session_init(session, video->dev, DAEDALUS_FACE_STATELESS, ctx_release);
	session->ops = &session_ops;
	/* The present daemon may not serve this face. */
	if (!codecs_of(ctx)) {
		ret = -ENODEV;
		goto err_put;
	}
	session->pool = daedalus_pool_create(video->dev);
	if (!session->pool) {
		ret = -ENOMEM;
		goto err_put;
	}
	ctx->codec = daedalus_find_codec(codecs_of(ctx), 0);
	ret = daedalus_controls_init(ctx);
	if (ret)
		goto err_put;
	ret = daedalus_queue_init(ctx);
	if (ret)
		goto err_controls;
	v4l2_fh_init(&ctx->fh, vdev);
	ctx->fh.ctrl_handler = &ctx->hdl;
	ctx->m2m.q_lock = &ctx->lock;
	ctx->fh.m2m_ctx = &ctx->m2m;

	ctx->coded_fmt.width = 1920;
	ctx->coded_fmt.height = 1080;
	ctx->coded_fmt.colorspace = V4L2_COLORSPACE_REC709;
	daedalus_fill_coded(ctx->codec->fourcc, &ctx->coded_fmt);
	session->coded_format = ctx->codec->fourcc;
	reset_raw_fmt(ctx);

	ret = daedalus_session_add(session);
	if (ret)
		goto err_fh;
	daedalus_fh_add(&ctx->fh, filp);
	return 0;

err_fh:
	v4l2_fh_exit(&ctx->fh);
	vb2_queue_release(&ctx->dst);
	vb2_queue_release(&ctx->src);
	daedalus_queue_exit(ctx);
err_controls:
	v4l2_ctrl_handler_free(&ctx->hdl);
err_put:
	daedalus_session_put(session);
	return ret;
}

static void unpark(struct daedalus_parked *parked)
{
	struct daedalus_ctx *ctx = container_of(parked, struct daedalus_ctx, parked);

	v4l2_ctrl_handler_free(&ctx->hdl);
	daedalus_session_put(&ctx->sched.session);
}

/* Ends a session. It waits for the claim work, which is forbidden under the core's locks. */
static void destroy_work(struct work_struct *work)
{
	struct daedalus_ctx *ctx = container_of(work, struct daedalus_ctx, destroy_work);

	daedalus_queue_exit(ctx);
	ctx->parked.hdl = &ctx->hdl;
	ctx->parked.release = unpark;
	daedalus_park(&ctx->video->requests, &ctx->parked);
}

static int daedalus_release(struct file *filp)
{
	struct daedalus_ctx *ctx = file_to_ctx(filp);

	daedalus_session_remove(&ctx->sched.session);
	mutex_lock(&ctx->lock);
	daedalus_keep_requests(ctx);
	/* For the reason in daedalus_reqbufs(). */
	vb2_streamoff(&ctx->src, ctx->src.type);
	vb2_queue_release(&ctx->dst);
	vb2_queue_release(&ctx->src);
	mutex_unlock(&ctx->lock);
	daedalus_worker_dismiss(&ctx->sched.session);
	daedalus_fh_del(&ctx->fh, filp);
	v4l2_fh_exit(&ctx->fh);
	INIT_WORK(&ctx->destroy_work, destroy_work);
	queue_work(ctx->video->dev->wq, &ctx->destroy_work);
	return 0;
}

const struct v4l2_file_operations daedalus_fops = {
	.owner = THIS_MODULE,
	.open = daedalus_open,
	.release = daedalus_release,
	.poll = daedalus_poll,
	.unlocked_ioctl = daedalus_ioctl,
	.mmap = daedalus_mmap,
};
