// SPDX-License-Identifier: GPL-2.0
/*
 * The video node: open, close, and the ioctls. The mem2mem core is used for its
 * ioctl glue only; jobs are daedalus_job.c's.
 *
 * No ioctl op here uses its second argument: since 7.2 the core passes NULL.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/pid.h>
#include <linux/slab.h>
#include <media/v4l2-event.h>
#include <media/v4l2-ioctl.h>

#include "daedalus_drv.h"

static void daedalus_ctx_free(struct kref *ref)
{
	kfree(container_of(ref, struct daedalus_ctx, ref));
}

void daedalus_ctx_put(struct daedalus_ctx *ctx)
{
	kref_put(&ctx->ref, daedalus_ctx_free);
}

/*
 * A CAPTURE format follows the stream's bit depth as long as no buffer was
 * allocated with it. Called with ctx->lock held.
 */
static void refresh_raw_fmt(struct daedalus_ctx *ctx)
{
	unsigned int depth = READ_ONCE(ctx->bit_depth);
	const struct daedalus_raw *raw = daedalus_find_raw(depth, ctx->raw_fmt.pixelformat);

	if (raw->fourcc == ctx->raw_fmt.pixelformat ||
	    vb2_is_busy(v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx)))
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

/* The CAPTURE format that belongs to the OUTPUT format. */
static void reset_raw_fmt(struct daedalus_ctx *ctx)
{
	ctx->raw_fmt.width = ctx->coded_fmt.width;
	ctx->raw_fmt.height = ctx->coded_fmt.height;
	copy_colour(&ctx->raw_fmt, &ctx->coded_fmt);
	daedalus_fill_raw(daedalus_find_raw(READ_ONCE(ctx->bit_depth),
					    ctx->raw_fmt.pixelformat), &ctx->raw_fmt);
}

static int daedalus_querycap(struct file *filp, void *unused, struct v4l2_capability *cap)
{
	struct daedalus_dev *dev = daedalus_file_to_ctx(filp)->dev;

	strscpy(cap->driver, DAEDALUS_DRIVER_NAME, sizeof(cap->driver));
	strscpy(cap->card, dev->mdev.model, sizeof(cap->card));
	return 0;
}

static int daedalus_enum_coded(struct file *filp, void *unused, struct v4l2_fmtdesc *f)
{
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);
	unsigned int i, left = f->index;

	for (i = 0; i < daedalus_num_codecs; i++) {
		if ((daedalus_codecs[i].bit & ctx->codecs) && !left--) {
			f->pixelformat = daedalus_codecs[i].fourcc;
			return 0;
		}
	}
	return -EINVAL;
}

static int daedalus_enum_raw_fmt(struct file *filp, void *unused, struct v4l2_fmtdesc *f)
{
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);
	const struct daedalus_raw *raw = daedalus_enum_raw(READ_ONCE(ctx->bit_depth), f->index);

	if (!raw)
		return -EINVAL;
	f->pixelformat = raw->fourcc;
	return 0;
}

static int daedalus_enum_framesizes(struct file *filp, void *unused,
				    struct v4l2_frmsizeenum *fsize)
{
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);

	if (fsize->index || !fsize->pixel_format ||
	    !daedalus_find_codec(ctx->codecs, fsize->pixel_format))
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
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);

	mutex_lock(&ctx->lock);
	f->fmt.pix_mp = ctx->coded_fmt;
	mutex_unlock(&ctx->lock);
	return 0;
}

static int daedalus_g_fmt_raw(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);

	mutex_lock(&ctx->lock);
	refresh_raw_fmt(ctx);
	f->fmt.pix_mp = ctx->raw_fmt;
	mutex_unlock(&ctx->lock);
	return 0;
}

static const struct daedalus_codec *try_coded(struct daedalus_ctx *ctx, struct v4l2_format *f)
{
	const struct daedalus_codec *codec =
		daedalus_find_codec(ctx->codecs, f->fmt.pix_mp.pixelformat);

	if (!codec)
		codec = daedalus_find_codec(ctx->codecs, 0);
	daedalus_fill_coded(codec, &f->fmt.pix_mp);
	return codec;
}

static int daedalus_try_fmt_coded(struct file *filp, void *unused, struct v4l2_format *f)
{
	try_coded(daedalus_file_to_ctx(filp), f);
	return 0;
}

/* Called with ctx->lock held: the size and the colours are OUTPUT's to say. */
static void try_raw(struct daedalus_ctx *ctx, struct v4l2_pix_format_mplane *pix)
{
	pix->width = ctx->coded_fmt.width;
	pix->height = ctx->coded_fmt.height;
	copy_colour(pix, &ctx->coded_fmt);
	daedalus_fill_raw(daedalus_find_raw(READ_ONCE(ctx->bit_depth), pix->pixelformat), pix);
}

static int daedalus_try_fmt_raw(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);

	mutex_lock(&ctx->lock);
	try_raw(ctx, &f->fmt.pix_mp);
	mutex_unlock(&ctx->lock);
	return 0;
}

/*
 * The coded format may be changed in size, not in kind, while the queues have
 * buffers: a stream can change its resolution between any two frames. CAPTURE
 * follows a new size at once, for the buffers that the client is about to add;
 * those that it has keep the format of their allocation.
 */
static int daedalus_s_fmt_coded(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);
	const struct v4l2_pix_format_mplane *pix = &f->fmt.pix_mp;
	const struct daedalus_codec *codec;
	bool resized;
	int ret = 0;

	mutex_lock(&ctx->lock);
	codec = try_coded(ctx, f);
	if (codec != ctx->codec && (vb2_is_busy(v4l2_m2m_get_src_vq(ctx->fh.m2m_ctx)) ||
				    vb2_is_busy(v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx)))) {
		ret = -EBUSY;
		goto unlock;
	}
	resized = pix->width != ctx->coded_fmt.width || pix->height != ctx->coded_fmt.height;
	ctx->codec = codec;
	ctx->coded_fmt = *pix;
	if (resized || !vb2_is_busy(v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx)))
		reset_raw_fmt(ctx);
	else
		copy_colour(&ctx->raw_fmt, &ctx->coded_fmt);
unlock:
	mutex_unlock(&ctx->lock);
	return ret;
}

static int daedalus_s_fmt_raw(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);
	int ret = 0;

	mutex_lock(&ctx->lock);
	if (vb2_is_busy(v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx))) {
		ret = -EBUSY;
	} else {
		try_raw(ctx, &f->fmt.pix_mp);
		ctx->raw_fmt = f->fmt.pix_mp;
	}
	mutex_unlock(&ctx->lock);
	return ret;
}

/*
 * Remembers the format of CAPTURE buffers at allocation: buffers of different
 * sizes live side by side. The queue ioctls hold ctx->lock.
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
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);
	struct vb2_queue *vq = v4l2_m2m_get_vq(ctx->fh.m2m_ctx, rb->type);
	int ret;

	if (!vq)
		return -EINVAL;
	/*
	 * REQBUFS takes back what is queued with the queue's mmap_lock held, and to
	 * complete a request takes the controls' lock. S_EXT_CTRLS holds that one
	 * while it faults user memory in, and mmap() of a buffer nests mmap_lock in
	 * the lock that the fault takes. So everything is taken back before.
	 */
	if (!vb2_is_streaming(vq) &&
	    (rb->memory == V4L2_MEMORY_MMAP || rb->memory == V4L2_MEMORY_DMABUF))
		vb2_streamoff(vq, rb->type);
	refresh_raw_fmt(ctx);
	ret = v4l2_m2m_reqbufs(filp, ctx->fh.m2m_ctx, rb);
	if (!ret && V4L2_TYPE_IS_CAPTURE(rb->type))
		remember_fmt(v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx), 0, rb->count,
			     &ctx->raw_fmt);
	return ret;
}

/* Every plane is at least as large as the format, completed by us, wants it. */
static bool sizes_suffice(const struct v4l2_pix_format_mplane *asked,
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

static int daedalus_create_bufs(struct file *filp, void *unused,
				struct v4l2_create_buffers *create)
{
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);
	struct v4l2_pix_format_mplane *asked = &create->format.fmt.pix_mp;
	struct v4l2_pix_format_mplane pix = *asked;
	const struct daedalus_codec *codec;
	const struct daedalus_raw *raw;
	int ret;

	refresh_raw_fmt(ctx);
	if (create->count && V4L2_TYPE_IS_CAPTURE(create->format.type)) {
		raw = daedalus_find_raw(READ_ONCE(ctx->bit_depth), asked->pixelformat);
		if (raw->fourcc != asked->pixelformat)
			return -EINVAL;
		daedalus_fill_raw(raw, &pix);
	} else if (create->count) {
		codec = daedalus_find_codec(ctx->codecs, asked->pixelformat);
		if (!asked->pixelformat || codec != ctx->codec)
			return -EINVAL;
		pix.plane_fmt[0].sizeimage = 0;
		daedalus_fill_coded(codec, &pix);
	}
	if (create->count && !sizes_suffice(asked, &pix))
		return -EINVAL;
	ret = v4l2_m2m_create_bufs(filp, ctx->fh.m2m_ctx, create);
	if (!ret && create->count && V4L2_TYPE_IS_CAPTURE(create->format.type))
		remember_fmt(v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx), create->index,
			     create->count, &pix);
	return ret;
}

static int daedalus_decoder_cmd(struct file *filp, void *unused, struct v4l2_decoder_cmd *cmd)
{
	int ret = v4l2_m2m_ioctl_stateless_try_decoder_cmd(filp, unused, cmd);

	if (!ret)
		daedalus_flush_held(daedalus_file_to_ctx(filp));
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
	.vidioc_remove_bufs = v4l2_m2m_ioctl_remove_bufs,
	.vidioc_querybuf = v4l2_m2m_ioctl_querybuf,
	.vidioc_prepare_buf = v4l2_m2m_ioctl_prepare_buf,
	.vidioc_qbuf = v4l2_m2m_ioctl_qbuf,
	.vidioc_dqbuf = v4l2_m2m_ioctl_dqbuf,
	.vidioc_expbuf = v4l2_m2m_ioctl_expbuf,
	.vidioc_streamon = v4l2_m2m_ioctl_streamon,
	.vidioc_streamoff = v4l2_m2m_ioctl_streamoff,
	.vidioc_try_decoder_cmd = v4l2_m2m_ioctl_stateless_try_decoder_cmd,
	.vidioc_decoder_cmd = daedalus_decoder_cmd,
	.vidioc_subscribe_event = daedalus_subscribe_event,
	.vidioc_unsubscribe_event = v4l2_event_unsubscribe,
};

/* Puts the session on the device's list if the limits have room for it. */
static int enlist(struct daedalus_ctx *ctx)
{
	struct daedalus_dev *dev = ctx->dev;
	unsigned int all = 0, own = 0;
	struct daedalus_ctx *other;
	int ret = -EMFILE;

	mutex_lock(&dev->lock);
	list_for_each_entry(other, &dev->sessions, entry) {
		all++;
		own += uid_eq(other->uid, ctx->uid);
	}
	if (all < daedalus_max_sessions &&
	    (own < daedalus_max_sessions_per_user || capable(CAP_SYS_RESOURCE))) {
		list_add_tail(&ctx->entry, &dev->sessions);
		ret = 0;
	}
	mutex_unlock(&dev->lock);
	return ret;
}

static int daedalus_open(struct file *filp)
{
	struct video_device *vdev = video_devdata(filp);
	struct daedalus_dev *dev = video_get_drvdata(vdev);
	struct daedalus_ctx *ctx;
	int ret;

	ret = daedalus_wait_broker(dev);
	if (ret)
		return ret;
	ctx = kzalloc_obj(*ctx);
	if (!ctx)
		return -ENOMEM;
	kref_init(&ctx->ref);
	ctx->dev = dev;
	ctx->pid = task_tgid_nr(current);
	ctx->uid = current_euid();
	ctx->bit_depth = 8;
	mutex_init(&ctx->lock);
	INIT_LIST_HEAD(&ctx->wanted_entry);
	daedalus_job_init(ctx);

	mutex_lock(&dev->lock);
	ctx->codecs = dev->codecs;
	ctx->id = ++dev->next_session;
	mutex_unlock(&dev->lock);

	ret = daedalus_init_controls(ctx);
	if (ret)
		goto err_put;
	v4l2_fh_init(&ctx->fh, vdev);
	ctx->fh.ctrl_handler = &ctx->hdl;
	ctx->fh.m2m_ctx = v4l2_m2m_ctx_init(dev->m2m, ctx, daedalus_queue_init);
	if (IS_ERR(ctx->fh.m2m_ctx)) {
		ret = PTR_ERR(ctx->fh.m2m_ctx);
		goto err_fh;
	}

	ctx->codec = daedalus_find_codec(ctx->codecs, 0);
	ctx->coded_fmt.width = 1920;
	ctx->coded_fmt.height = 1080;
	ctx->coded_fmt.colorspace = V4L2_COLORSPACE_REC709;
	daedalus_fill_coded(ctx->codec, &ctx->coded_fmt);
	reset_raw_fmt(ctx);

	ret = enlist(ctx);
	if (ret)
		goto err_m2m;
	daedalus_fh_add(&ctx->fh, filp);
	atomic_inc(&dev->opened);
	return 0;

err_m2m:
	v4l2_m2m_ctx_release(ctx->fh.m2m_ctx);
err_fh:
	v4l2_fh_exit(&ctx->fh);
	v4l2_ctrl_handler_free(&ctx->hdl);
err_put:
	daedalus_ctx_put(ctx);
	return ret;
}

static int daedalus_release(struct file *filp)
{
	struct daedalus_ctx *ctx = daedalus_file_to_ctx(filp);

	mutex_lock(&ctx->dev->lock);
	list_del(&ctx->entry);
	mutex_unlock(&ctx->dev->lock);

	v4l2_m2m_ctx_release(ctx->fh.m2m_ctx);
	daedalus_job_exit(ctx);
	daedalus_worker_dismiss(ctx);

	daedalus_fh_del(&ctx->fh, filp);
	v4l2_fh_exit(&ctx->fh);
	v4l2_ctrl_handler_free(&ctx->hdl);
	daedalus_ctx_put(ctx);
	return 0;
}

/*
 * Priorities are the device's, not a session's: one client at RECORD would have
 * every other's S_FMT, REQBUFS and STREAMON refused with EBUSY.
 */
static long daedalus_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	if (cmd == VIDIOC_S_PRIORITY && !capable(CAP_SYS_ADMIN))
		return -EPERM;
	return video_ioctl2(filp, cmd, arg);
}

static __poll_t daedalus_poll(struct file *filp, struct poll_table_struct *wait)
{
	return v4l2_m2m_poll(filp, daedalus_file_to_ctx(filp)->fh.m2m_ctx, wait);
}

static int daedalus_mmap(struct file *filp, struct vm_area_struct *vma)
{
	return v4l2_m2m_mmap(filp, daedalus_file_to_ctx(filp)->fh.m2m_ctx, vma);
}

const struct v4l2_file_operations daedalus_fops = {
	.owner = THIS_MODULE,
	.open = daedalus_open,
	.release = daedalus_release,
	.poll = daedalus_poll,
	.unlocked_ioctl = daedalus_ioctl,
	.mmap = daedalus_mmap,
};
