// SPDX-License-Identifier: GPL-2.0
/*
 * The stateful face's video node: registration, open, close and the ioctls.
 *
 * As in daedalus_video.c, each session has its own lock, which the core finds in
 * fh->m2m_ctx->q_lock. The node has no media device, so no queue ioctl waits for another
 * session's.
 *
 * No ioctl op here uses its second argument: since 7.2 the core passes NULL.
 */
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <media/v4l2-event.h>
#include <media/v4l2-ioctl.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_stateful.h"
#include "daedalus_worker.h"

/* GStreamer derives names of elements from it. */
#define NODE_NAME	"daedalus-dec-stateful"

/* Pictures are copied into CAPTURE: one is written while the client has another. */
#define MIN_CAPTURE	2

static int stateful_video_nr = -1;
module_param(stateful_video_nr, int, 0444);
MODULE_PARM_DESC(stateful_video_nr,
		 "number of the stateful node, if it is free (default -1: the first free one)");

static struct daedalus_stream *file_to_stream(struct file *filp)
{
	return container_of(daedalus_file_to_fh(filp), struct daedalus_stream, fh);
}

static struct daedalus_stream *session_to_stream(struct daedalus_session *session)
{
	return container_of(session, struct daedalus_stream, flow.session);
}

static u32 codecs_of(struct daedalus_stream *stream)
{
	return stream->flow.session.codecs;
}

static struct vb2_queue *queue_of(struct daedalus_stream *stream, enum v4l2_buf_type type)
{
	return V4L2_TYPE_IS_OUTPUT(type) ? &stream->src : &stream->dst;
}

/* --- formats --- */

static void copy_colour(struct v4l2_pix_format_mplane *to,
			const struct v4l2_pix_format_mplane *from)
{
	to->colorspace = from->colorspace;
	to->xfer_func = from->xfer_func;
	to->ycbcr_enc = from->ycbcr_enc;
	to->quantization = from->quantization;
}

/*
 * Sets CAPTURE's colours: the stream's, or those of OUTPUT where it does not say. Some streams name
 * the matrix and the range alone. A limited range by itself says nothing: it is the usual default.
 */
static void fill_colour(struct daedalus_stream *stream, const struct daedalus_format *format,
			struct v4l2_pix_format_mplane *pix)
{
	copy_colour(pix, &stream->coded_fmt);
	if (!format || (!format->colorspace && !format->xfer_func && !format->ycbcr_enc &&
			format->quantization != V4L2_QUANTIZATION_FULL_RANGE))
		return;
	pix->colorspace = format->colorspace ?: pix->colorspace;
	pix->xfer_func = format->xfer_func ?: pix->xfer_func;
	pix->ycbcr_enc = format->ycbcr_enc ?: pix->ycbcr_enc;
	pix->quantization = format->quantization ?: pix->quantization;
}

/* Finds a raw format: of the stream's depth, or of any depth as long as there is no stream. */
static const struct daedalus_raw *find_raw(const struct daedalus_format *format, u32 fourcc)
{
	const struct daedalus_raw *raw;
	unsigned int i;

	if (format)
		return daedalus_find_raw(format->depth, fourcc);
	for (i = 0; (raw = daedalus_any_raw(i)); i++)
		if (raw->fourcc == fourcc)
			return raw;
	return daedalus_any_raw(0);
}

/* Completes a CAPTURE format. The stream decides about the size, once there is one. */
static void try_raw(struct daedalus_stream *stream, struct v4l2_pix_format_mplane *pix)
{
	struct daedalus_format format, *stream_format = NULL;
	u32 formats;

	if (daedalus_stream_format(stream, &format, &formats))
		stream_format = &format;
	if (stream_format) {
		pix->width = stream_format->width;
		pix->height = stream_format->height;
	} else if (!pix->width || !pix->height) {
		pix->width = stream->coded_fmt.width;
		pix->height = stream->coded_fmt.height;
	}
	fill_colour(stream, stream_format, pix);
	daedalus_fill_raw(find_raw(stream_format, pix->pixelformat), pix);
}

/* Lets the CAPTURE format follow the stream's, for buffers that are allocated from now on. */
static void refresh_raw_fmt(struct daedalus_stream *stream)
{
	struct daedalus_format format;
	u32 formats;

	lockdep_assert_held(&stream->lock);
	if (!daedalus_stream_format(stream, &format, &formats) || formats == stream->adopted)
		return;
	stream->adopted = formats;
	try_raw(stream, &stream->raw_fmt);
}

static const struct daedalus_codec *try_coded(struct daedalus_stream *stream,
					      struct v4l2_pix_format_mplane *pix)
{
	const struct daedalus_codec *codec = daedalus_find_stream(codecs_of(stream),
								  pix->pixelformat);
	const u32 field = pix->field;

	if (!codec)
		codec = daedalus_find_stream(codecs_of(stream), 0);
	daedalus_fill_coded(codec->stream_fourcc, pix);
	/* GStreamer refuses a device that does not keep the order of fields of its stream. */
	if (V4L2_FIELD_IS_INTERLACED(field))
		pix->field = field;
	return codec;
}

static int stateful_querycap(struct file *filp, void *unused, struct v4l2_capability *cap)
{
	struct daedalus_dev *dev = file_to_stream(filp)->node->dev;

	strscpy(cap->driver, DAEDALUS_DRIVER_NAME, sizeof(cap->driver));
	scnprintf(cap->card, sizeof(cap->card), "daedalus stateful (%.11s)", dev->name);
	return 0;
}

static int stateful_enum_coded(struct file *filp, void *unused, struct v4l2_fmtdesc *f)
{
	const struct daedalus_codec *codec =
		daedalus_enum_codec(codecs_of(file_to_stream(filp)), f->index);

	if (!codec)
		return -EINVAL;
	f->pixelformat = codec->stream_fourcc;
	strscpy(f->description, codec->stream_name, sizeof(f->description));
	f->flags = V4L2_FMT_FLAG_COMPRESSED | V4L2_FMT_FLAG_DYN_RESOLUTION;
	if (codec->bytestream)
		f->flags |= V4L2_FMT_FLAG_CONTINUOUS_BYTESTREAM;
	return 0;
}

static int stateful_enum_raw(struct file *filp, void *unused, struct v4l2_fmtdesc *f)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	const struct daedalus_raw *raw;
	struct daedalus_format format;
	u32 formats;

	if (daedalus_stream_format(stream, &format, &formats))
		raw = daedalus_enum_raw(format.depth, f->index);
	else
		raw = daedalus_any_raw(f->index);
	if (!raw)
		return -EINVAL;
	f->pixelformat = raw->fourcc;
	return 0;
}

static int stateful_enum_framesizes(struct file *filp, void *unused,
				    struct v4l2_frmsizeenum *fsize)
{
	const u32 fourcc = fsize->pixel_format;
	bool raw = find_raw(NULL, fourcc)->fourcc == fourcc;

	if (fsize->index || !fourcc ||
	    (!raw && !daedalus_find_stream(codecs_of(file_to_stream(filp)), fourcc)))
		return -EINVAL;
	/*
	 * GStreamer looks for the visible size among those of raw formats, which may be odd. The
	 * format's size is rounded up.
	 */
	fsize->type = V4L2_FRMSIZE_TYPE_STEPWISE;
	fsize->stepwise.min_width = raw ? 2 : 1;
	fsize->stepwise.max_width = DAEDALUS_MAX_DIM;
	fsize->stepwise.step_width = 1;
	fsize->stepwise.min_height = raw ? 2 : 1;
	fsize->stepwise.max_height = DAEDALUS_MAX_DIM;
	fsize->stepwise.step_height = 1;
	return 0;
}

static int stateful_g_fmt_coded(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_stream *stream = file_to_stream(filp);

	mutex_lock(&stream->lock);
	f->fmt.pix_mp = stream->coded_fmt;
	mutex_unlock(&stream->lock);
	return 0;
}

static int stateful_g_fmt_raw(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_stream *stream = file_to_stream(filp);

	mutex_lock(&stream->lock);
	refresh_raw_fmt(stream);
	f->fmt.pix_mp = stream->raw_fmt;
	mutex_unlock(&stream->lock);
	return 0;
}

static int stateful_try_fmt_coded(struct file *filp, void *unused, struct v4l2_format *f)
{
	try_coded(file_to_stream(filp), &f->fmt.pix_mp);
	return 0;
}

static int stateful_try_fmt_raw(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_stream *stream = file_to_stream(filp);

	mutex_lock(&stream->lock);
	try_raw(stream, &f->fmt.pix_mp);
	mutex_unlock(&stream->lock);
	return 0;
}

/* Sets the coded format. A new stream begins, whose format is not known. */
static void set_coded(struct daedalus_stream *stream, const struct daedalus_codec *codec,
		      const struct v4l2_pix_format_mplane *pix)
{
	struct daedalus_session *session = &stream->flow.session;

	lockdep_assert_held(&stream->lock);
	stream->codec = codec;
	stream->coded_fmt = *pix;
	spin_lock(&session->lock);
	WRITE_ONCE(session->coded_format, codec->stream_fourcc);
	stream->announce = false;
	daedalus_flow_restart(&stream->flow);
	spin_unlock(&session->lock);
	stream->raw_fmt.width = 0;
	try_raw(stream, &stream->raw_fmt);
}

static int stateful_s_fmt_coded(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	const struct daedalus_codec *codec;
	int ret = 0;

	mutex_lock(&stream->lock);
	codec = try_coded(stream, &f->fmt.pix_mp);
	if (vb2_is_busy(&stream->src) || vb2_is_busy(&stream->dst))
		ret = -EBUSY;
	else
		set_coded(stream, codec, &f->fmt.pix_mp);
	mutex_unlock(&stream->lock);
	return ret;
}

static int stateful_s_fmt_raw(struct file *filp, void *unused, struct v4l2_format *f)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	int ret = 0;

	mutex_lock(&stream->lock);
	if (vb2_is_busy(&stream->dst)) {
		ret = -EBUSY;
	} else {
		refresh_raw_fmt(stream);
		try_raw(stream, &f->fmt.pix_mp);
		stream->raw_fmt = f->fmt.pix_mp;
	}
	mutex_unlock(&stream->lock);
	return ret;
}

/*
 * Returns the rectangle of a target. Pictures are composed at the upper left corner of a buffer.
 * As long as there is no stream, the size that the client gave to OUTPUT counts.
 */
static int find_rect(struct daedalus_stream *stream, u32 target, struct v4l2_rect *r)
{
	struct daedalus_format format;
	u32 formats;
	bool has_format;

	lockdep_assert_held(&stream->lock);
	refresh_raw_fmt(stream);
	has_format = daedalus_stream_format(stream, &format, &formats);
	r->left = 0;
	r->top = 0;
	r->width = stream->raw_fmt.width;
	r->height = stream->raw_fmt.height;
	switch (target) {
	case V4L2_SEL_TGT_CROP:
	case V4L2_SEL_TGT_CROP_DEFAULT:
	case V4L2_SEL_TGT_COMPOSE:
	case V4L2_SEL_TGT_COMPOSE_DEFAULT:
		r->width = has_format ? format.width : min(r->width, stream->coded_fmt.width);
		r->height = has_format ? format.height : min(r->height, stream->coded_fmt.height);
		return 0;
	case V4L2_SEL_TGT_CROP_BOUNDS:
		if (has_format) {
			r->width = format.coded_width;
			r->height = format.coded_height;
		}
		return 0;
	case V4L2_SEL_TGT_COMPOSE_BOUNDS:
	case V4L2_SEL_TGT_COMPOSE_PADDED:
		return 0;
	}
	return -EINVAL;
}

static int stateful_g_selection(struct file *filp, void *unused, struct v4l2_selection *s)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	int ret;

	if (s->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
		return -EINVAL;
	mutex_lock(&stream->lock);
	ret = find_rect(stream, s->target, &s->r);
	mutex_unlock(&stream->lock);
	return ret;
}

static bool contains(const struct v4l2_rect *a, const struct v4l2_rect *b)
{
	return a->left <= b->left && a->top <= b->top &&
	       a->left + (s64)a->width >= b->left + (s64)b->width &&
	       a->top + (s64)a->height >= b->top + (s64)b->height;
}

/*
 * Adjusts the client's rectangle to the only one that there is: nothing is scaled. Some clients
 * read the visible rectangle only if this succeeds.
 */
static int stateful_s_selection(struct file *filp, void *unused, struct v4l2_selection *s)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	struct v4l2_rect r;
	int ret;

	if (s->type != V4L2_BUF_TYPE_VIDEO_CAPTURE ||
	    (s->target != V4L2_SEL_TGT_CROP && s->target != V4L2_SEL_TGT_COMPOSE))
		return -EINVAL;
	mutex_lock(&stream->lock);
	ret = find_rect(stream, s->target, &r);
	mutex_unlock(&stream->lock);
	if (ret)
		return ret;
	if (((s->flags & V4L2_SEL_FLAG_GE) && !contains(&r, &s->r)) ||
	    ((s->flags & V4L2_SEL_FLAG_LE) && !contains(&s->r, &r)))
		return -ERANGE;
	s->r = r;
	return 0;
}

/* --- buffers --- */

/*
 * Stores the format of CAPTURE buffers at allocation: the stream may have another one when
 * they are queued. The queue ioctls hold stream->lock.
 */
static void remember_fmt(struct daedalus_stream *stream, unsigned int first, unsigned int count,
			 const struct v4l2_pix_format_mplane *pix)
{
	static const struct v4l2_pix_format_mplane none;
	struct vb2_buffer *vb;
	unsigned int i;

	for (i = first; i < first + count; i++) {
		vb = vb2_get_buffer(&stream->dst, i);
		if (vb)
			to_stream_buf(vb)->fmt = *pix;
	}
	daedalus_stream_allocated(stream, count ? pix : &none);
}

static int stateful_reqbufs(struct file *filp, void *unused, struct v4l2_requestbuffers *rb)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	int ret;

	/* The core has found this lock in fh->m2m_ctx. */
	lockdep_assert_held(&stream->lock);
	/* Planes were reserved for this format, whichever the stream has by now. */
	if (!stream->planes.reserved) {
		refresh_raw_fmt(stream);
		stream->request_fmt = stream->raw_fmt;
	}
	ret = daedalus_planes_request(queue_of(stream, rb->type), rb);
	if (!ret && V4L2_TYPE_IS_CAPTURE(rb->type))
		remember_fmt(stream, 0, rb->count, &stream->request_fmt);
	return ret;
}

static int stateful_create_bufs(struct file *filp, void *unused,
				struct v4l2_create_buffers *create)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	struct v4l2_pix_format_mplane *asked = &create->format.fmt.pix_mp;
	struct v4l2_pix_format_mplane pix = *asked;
	const bool capture = V4L2_TYPE_IS_CAPTURE(create->format.type);
	int ret;

	refresh_raw_fmt(stream);
	if (create->count && capture)
		daedalus_fill_raw(find_raw(NULL, asked->pixelformat), &pix);
	if (create->count && !capture) {
		pix.plane_fmt[0].sizeimage = 0;
		daedalus_fill_coded(stream->codec->stream_fourcc, &pix);
	}
	if (create->count && (pix.pixelformat != asked->pixelformat ||
			      !daedalus_sizes_suffice(asked, &pix)))
		return -EINVAL;
	ret = daedalus_planes_create(queue_of(stream, create->format.type), create);
	if (!ret && create->count && capture)
		remember_fmt(stream, create->index, create->count, &pix);
	return ret;
}

static int stateful_remove_bufs(struct file *filp, void *unused, struct v4l2_remove_buffers *remove)
{
	struct vb2_queue *vq = queue_of(file_to_stream(filp), remove->type);

	if (vq->type != remove->type)
		return -EINVAL;
	return daedalus_planes_remove(vq, remove->index, remove->count);
}

static int stateful_querybuf(struct file *filp, void *unused, struct v4l2_buffer *buf)
{
	struct vb2_queue *vq = queue_of(file_to_stream(filp), buf->type);
	int ret = vb2_querybuf(vq, buf);

	if (!ret)
		daedalus_mark_offsets(vq, buf);
	return ret;
}

static int stateful_prepare_buf(struct file *filp, void *unused, struct v4l2_buffer *buf)
{
	struct vb2_queue *vq = queue_of(file_to_stream(filp), buf->type);
	int ret = vb2_prepare_buf(vq, NULL, buf);

	if (!ret)
		daedalus_mark_offsets(vq, buf);
	return ret;
}

static int stateful_qbuf(struct file *filp, void *unused, struct v4l2_buffer *buf)
{
	struct vb2_queue *vq = queue_of(file_to_stream(filp), buf->type);
	int ret = vb2_qbuf(vq, NULL, buf);

	if (!ret)
		daedalus_mark_offsets(vq, buf);
	return ret;
}

static int stateful_dqbuf(struct file *filp, void *unused, struct v4l2_buffer *buf)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	struct vb2_queue *vq = queue_of(stream, buf->type);
	int ret = vb2_dqbuf(vq, buf, filp->f_flags & O_NONBLOCK);

	if (ret)
		return ret;
	daedalus_mark_offsets(vq, buf);
	if (!vq->is_output)
		daedalus_stream_announce(stream);
	return 0;
}

static int stateful_expbuf(struct file *filp, void *unused, struct v4l2_exportbuffer *eb)
{
	return vb2_expbuf(queue_of(file_to_stream(filp), eb->type), eb);
}

static int stateful_streamon(struct file *filp, void *unused, enum v4l2_buf_type type)
{
	return vb2_streamon(queue_of(file_to_stream(filp), type), type);
}

static int stateful_streamoff(struct file *filp, void *unused, enum v4l2_buf_type type)
{
	return vb2_streamoff(queue_of(file_to_stream(filp), type), type);
}

/* --- commands and events --- */

static int stateful_try_decoder_cmd(struct file *filp, void *unused, struct v4l2_decoder_cmd *cmd)
{
	if (cmd->cmd != V4L2_DEC_CMD_START && cmd->cmd != V4L2_DEC_CMD_STOP)
		return -EINVAL;
	cmd->flags = 0;
	if (cmd->cmd == V4L2_DEC_CMD_STOP)
		cmd->stop.pts = 0;
	else
		memset(&cmd->start, 0, sizeof(cmd->start));
	return 0;
}

static int stateful_decoder_cmd(struct file *filp, void *unused, struct v4l2_decoder_cmd *cmd)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	int ret = stateful_try_decoder_cmd(filp, unused, cmd);

	if (ret)
		return ret;
	mutex_lock(&stream->lock);
	ret = cmd->cmd == V4L2_DEC_CMD_STOP ? daedalus_stream_drain(stream) :
					      daedalus_stream_resume(stream);
	mutex_unlock(&stream->lock);
	return ret;
}

static int stateful_subscribe_event(struct v4l2_fh *fh,
				    const struct v4l2_event_subscription *sub)
{
	switch (sub->type) {
	case V4L2_EVENT_EOS:
		return v4l2_event_subscribe(fh, sub, 0, NULL);
	case V4L2_EVENT_SOURCE_CHANGE:
		return v4l2_src_change_event_subscribe(fh, sub);
	}
	return v4l2_ctrl_subscribe_event(fh, sub);
}

static const struct v4l2_ioctl_ops ioctl_ops = {
	.vidioc_querycap = stateful_querycap,
	.vidioc_enum_framesizes = stateful_enum_framesizes,
	.vidioc_enum_fmt_vid_out = stateful_enum_coded,
	.vidioc_g_fmt_vid_out_mplane = stateful_g_fmt_coded,
	.vidioc_try_fmt_vid_out_mplane = stateful_try_fmt_coded,
	.vidioc_s_fmt_vid_out_mplane = stateful_s_fmt_coded,
	.vidioc_enum_fmt_vid_cap = stateful_enum_raw,
	.vidioc_g_fmt_vid_cap_mplane = stateful_g_fmt_raw,
	.vidioc_try_fmt_vid_cap_mplane = stateful_try_fmt_raw,
	.vidioc_s_fmt_vid_cap_mplane = stateful_s_fmt_raw,
	.vidioc_g_selection = stateful_g_selection,
	.vidioc_s_selection = stateful_s_selection,
	.vidioc_reqbufs = stateful_reqbufs,
	.vidioc_create_bufs = stateful_create_bufs,
	.vidioc_remove_bufs = stateful_remove_bufs,
	.vidioc_querybuf = stateful_querybuf,
	.vidioc_prepare_buf = stateful_prepare_buf,
	.vidioc_qbuf = stateful_qbuf,
	.vidioc_dqbuf = stateful_dqbuf,
	.vidioc_expbuf = stateful_expbuf,
	.vidioc_streamon = stateful_streamon,
	.vidioc_streamoff = stateful_streamoff,
	.vidioc_try_decoder_cmd = stateful_try_decoder_cmd,
	.vidioc_decoder_cmd = stateful_decoder_cmd,
	.vidioc_subscribe_event = stateful_subscribe_event,
	.vidioc_unsubscribe_event = v4l2_event_unsubscribe,
};

/* As daedalus_ioctl() in daedalus_video.c. */
static long stateful_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	struct daedalus_session *session = &stream->flow.session;
	long ret;

	if (_IOC_TYPE(cmd) != 'V')
		return video_ioctl2(filp, cmd, arg);
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(VIDIOC_S_PRIORITY):
		if (!capable(CAP_SYS_ADMIN))
			return -EPERM;
		break;
	case _IOC_NR(VIDIOC_CREATE_BUFS):
	case _IOC_NR(VIDIOC_REQBUFS):
		return daedalus_planes_ioctl(&stream->planes, filp, cmd, arg);
	case _IOC_NR(VIDIOC_STREAMOFF):
		daedalus_flow_reclaim_imported(&stream->flow);
		ret = video_ioctl2(filp, cmd, arg);
		daedalus_flow_reclaimed(&stream->flow);
		return ret;
	case _IOC_NR(VIDIOC_QBUF):
	case _IOC_NR(VIDIOC_STREAMON):
		ret = video_ioctl2(filp, cmd, arg);
		daedalus_stream_queued(stream);
		return ret;
	case _IOC_NR(VIDIOC_DQEVENT):
		ret = video_ioctl2(filp, cmd, arg);
		/* The buffer that belongs to the event is out when this lock is free. */
		spin_lock(&session->lock);
		spin_unlock(&session->lock);
		return ret;
	}
	return video_ioctl2(filp, cmd, arg);
}

/* Looks at buffers and events under one lock: what becomes visible together is seen together. */
static __poll_t stateful_poll(struct file *filp, struct poll_table_struct *wait)
{
	struct daedalus_stream *stream = file_to_stream(filp);
	__poll_t interest = poll_requested_events(wait), events = 0;

	poll_wait(filp, &stream->src.done_wq, wait);
	poll_wait(filp, &stream->dst.done_wq, wait);
	poll_wait(filp, &stream->fh.wait, wait);
	spin_lock(&stream->flow.session.lock);
	if (interest & (EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM))
		events = daedalus_queues_poll(&stream->src, &stream->dst);
	if ((events & EPOLLERR) && daedalus_stream_owes_last(stream))
		events &= ~EPOLLERR;
	if (v4l2_event_pending(&stream->fh))
		events |= EPOLLPRI;
	spin_unlock(&stream->flow.session.lock);
	return events;
}

static int stateful_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct daedalus_stream *stream = file_to_stream(filp);

	return daedalus_queues_mmap(&stream->src, &stream->dst, vma);
}

/* --- controls --- */

/* The menus of profiles and levels, which both faces have, and the number of buffers. */
static int init_controls(struct daedalus_stream *stream)
{
	struct v4l2_ctrl_handler *hdl = &stream->hdl;
	const struct daedalus_codec *codec;
	struct v4l2_ctrl_config cfg;
	unsigned int i, j;
	int ret;

	ret = v4l2_ctrl_handler_init(hdl, 16);
	if (ret)
		return ret;
	v4l2_ctrl_new_std(hdl, NULL, V4L2_CID_MIN_BUFFERS_FOR_CAPTURE, 1, DAEDALUS_MAX_BUFFERS, 1,
			  MIN_CAPTURE);
	for (i = 0; (codec = daedalus_enum_codec(codecs_of(stream), i)); i++) {
		for (j = 0; j < codec->num_ctrls; j++) {
			cfg = codec->ctrls[j].cfg;
			if (V4L2_CTRL_ID2WHICH(cfg.id) == V4L2_CTRL_CLASS_CODEC)
				v4l2_ctrl_new_custom(hdl, &cfg, NULL);
		}
	}
	ret = hdl->error;
	if (!ret)
		ret = v4l2_ctrl_handler_setup(hdl);
	if (ret)
		v4l2_ctrl_handler_free(hdl);
	return ret;
}

/* --- the session --- */

static void session_status(struct daedalus_session *session, struct daedalus_session_status *status)
{
	daedalus_flow_status(&session_to_stream(session)->flow, status);
}

static const struct daedalus_session_ops session_ops = {
	.status = session_status,
	.abort = daedalus_flow_abort,
	.thaw = daedalus_flow_thaw,
};

static void stream_release(struct daedalus_session *session)
{
	struct daedalus_stream *stream = session_to_stream(session);

	if (session->pool)
		daedalus_pool_put(session->pool);
	mutex_destroy(&stream->lock);
	kfree(stream);
}

static void init_formats(struct daedalus_stream *stream)
{
	struct v4l2_pix_format_mplane pix = {
		.width = 1920,
		.height = 1080,
		.colorspace = V4L2_COLORSPACE_REC709,
	};

	mutex_lock(&stream->lock);
	set_coded(stream, try_coded(stream, &pix), &pix);
	mutex_unlock(&stream->lock);
}

static int stateful_open(struct file *filp)
{
	struct video_device *vdev = video_devdata(filp);
	struct daedalus_stateful *node = video_get_drvdata(vdev);
	struct daedalus_session *session;
	struct daedalus_stream *stream;
	int ret;

	ret = daedalus_wait_broker(node->dev);
	if (ret)
		return ret;
	stream = kzalloc_obj(*stream);
	if (!stream)
		return -ENOMEM;
	session = &stream->flow.session;
	stream->node = node;
	mutex_init(&stream->lock);
	daedalus_session_init(session, node->dev, DAEDALUS_FACE_STATEFUL, stream_release);
	session->ops = &session_ops;
	/* The present daemon may not serve this face. */
	if (!codecs_of(stream)) {
		ret = -ENODEV;
		goto err_put;
	}
	session->pool = daedalus_pool_create(node->dev);
	if (!session->pool) {
		ret = -ENOMEM;
		goto err_put;
	}
	ret = init_controls(stream);
	if (ret)
		goto err_put;
	ret = daedalus_stream_init(stream);
	if (ret)
		goto err_controls;
	v4l2_fh_init(&stream->fh, vdev);
	stream->fh.ctrl_handler = &stream->hdl;
	stream->m2m.q_lock = &stream->lock;
	stream->fh.m2m_ctx = &stream->m2m;
	init_formats(stream);

	ret = daedalus_session_add(session);
	if (ret)
		goto err_fh;
	daedalus_fh_add(&stream->fh, filp);
	return 0;

err_fh:
	v4l2_fh_exit(&stream->fh);
	vb2_queue_release(&stream->dst);
	vb2_queue_release(&stream->src);
	daedalus_stream_exit(stream);
err_controls:
	v4l2_ctrl_handler_free(&stream->hdl);
err_put:
	daedalus_session_put(session);
	return ret;
}

/* Ends a session. It waits for work items, which is forbidden under the core's locks. */
static void destroy_work(struct work_struct *work)
{
	struct daedalus_stream *stream = container_of(work, struct daedalus_stream, destroy_work);

	daedalus_stream_exit(stream);
	v4l2_ctrl_handler_free(&stream->hdl);
	daedalus_session_put(&stream->flow.session);
}

static int stateful_release(struct file *filp)
{
	struct daedalus_stream *stream = file_to_stream(filp);

	daedalus_session_remove(&stream->flow.session);
	mutex_lock(&stream->lock);
	vb2_queue_release(&stream->dst);
	vb2_queue_release(&stream->src);
	mutex_unlock(&stream->lock);
	daedalus_worker_dismiss(&stream->flow.session);
	daedalus_fh_del(&stream->fh, filp);
	v4l2_fh_exit(&stream->fh);
	INIT_WORK(&stream->destroy_work, destroy_work);
	queue_work(stream->node->dev->wq, &stream->destroy_work);
	return 0;
}

static const struct v4l2_file_operations fops = {
	.owner = THIS_MODULE,
	.open = stateful_open,
	.release = stateful_release,
	.poll = stateful_poll,
	.unlocked_ioctl = stateful_ioctl,
	.mmap = stateful_mmap,
};

/* --- the node --- */

/**
 * daedalus_stateful_register() - show the node, when the first daemon serves the face
 * @node: the node, not registered
 *
 * Context: dev->lock is held.
 * Return: 0 or an error; the caller may try again after an error.
 */
int daedalus_stateful_register(struct daedalus_stateful *node)
{
	struct video_device *vdev;
	int ret;

	lockdep_assert_held(&node->dev->lock);
	vdev = video_device_alloc();
	if (!vdev)
		return -ENOMEM;
	strscpy(vdev->name, NODE_NAME, sizeof(vdev->name));
	vdev->fops = &fops;
	vdev->ioctl_ops = &ioctl_ops;
	vdev->release = video_device_release;
	vdev->v4l2_dev = &node->v4l2_dev;
	vdev->vfl_dir = VFL_DIR_M2M;
	vdev->device_caps = V4L2_CAP_VIDEO_M2M_MPLANE | V4L2_CAP_STREAMING;
	video_set_drvdata(vdev, node);
	/* Another number than the wish is nothing to warn about. */
	ret = video_register_device_no_warn(vdev, VFL_TYPE_VIDEO, stateful_video_nr);
	if (ret)
		video_device_release(vdev);
	else
		node->vdev = vdev;
	return ret;
}

static void node_release(struct v4l2_device *v4l2_dev)
{
	kfree(container_of(v4l2_dev, struct daedalus_stateful, v4l2_dev));
}

/**
 * daedalus_stateful_create() - prepare the node
 * @dev: the device, which outlives the node
 *
 * Return: the node, or an error pointer.
 */
struct daedalus_stateful *daedalus_stateful_create(struct daedalus_dev *dev)
{
	struct daedalus_stateful *node = kzalloc_obj(*node);
	int ret;

	if (!node)
		return ERR_PTR(-ENOMEM);
	node->dev = dev;
	/* Programs look for a media node beside the video node, and would find the other face's. */
	node->pdev = platform_device_register_simple(DAEDALUS_STATEFUL_DEVICE,
						     PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(node->pdev)) {
		ret = PTR_ERR(node->pdev);
		goto err_free;
	}
	node->v4l2_dev.release = node_release;
	strscpy(node->v4l2_dev.name, DAEDALUS_STATEFUL_DEVICE, sizeof(node->v4l2_dev.name));
	ret = v4l2_device_register(&node->pdev->dev, &node->v4l2_dev);
	if (ret)
		goto err_device;
	return node;

err_device:
	platform_device_unregister(node->pdev);
err_free:
	kfree(node);
	return ERR_PTR(ret);
}

/**
 * daedalus_stateful_destroy() - remove the node
 * @node: the node; nobody has a file of it open
 */
void daedalus_stateful_destroy(struct daedalus_stateful *node)
{
	struct platform_device *pdev = node->pdev;

	if (node->vdev)
		video_unregister_device(node->vdev);
	v4l2_device_unregister(&node->v4l2_dev);
	v4l2_device_put(&node->v4l2_dev);
	platform_device_unregister(pdev);
}
