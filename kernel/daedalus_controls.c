// SPDX-License-Identifier: GPL-2.0
/*
 * The stateless face's controls: the controls of all codecs of a session, the stream's
 * bit depth, and the limit of requests that hold a copy of the controls.
 */
#include <linux/uaccess.h>

#include "daedalus_compat.h"
#include "daedalus_video.h"

/* Runs with the handler's lock held, also in the claim work. Takes no other lock. */
static int depth_s_ctrl(struct v4l2_ctrl *ctrl)
{
	struct daedalus_ctx *ctx = container_of(ctrl->handler, struct daedalus_ctx, hdl);
	unsigned int i;

	for (i = 0; i < DAEDALUS_NUM_CODECS; i++)
		if (daedalus_codecs[i]->depth_ctrl == ctrl->id)
			WRITE_ONCE(ctx->depths[i], daedalus_codecs[i]->depth(ctrl->p_new));
	return 0;
}

static const struct v4l2_ctrl_ops depth_ctrl_ops = {
	.s_ctrl = depth_s_ctrl,
};

/**
 * daedalus_bit_depth() - return the bit depth of the current codec's stream
 * @ctx: the session
 */
unsigned int daedalus_bit_depth(struct daedalus_ctx *ctx)
{
	return READ_ONCE(ctx->depths[daedalus_codec_index(ctx->codec)]);
}

static void add_controls(struct v4l2_ctrl_handler *hdl, const struct daedalus_codec *codec)
{
	struct v4l2_ctrl_config cfg;
	unsigned int i;

	for (i = 0; i < codec->num_ctrls; i++) {
		cfg = codec->ctrls[i].cfg;
		if (cfg.id == codec->depth_ctrl)
			cfg.ops = &depth_ctrl_ops;
		v4l2_ctrl_new_custom(hdl, &cfg, NULL);
	}
}

/**
 * daedalus_controls_init() - create every control of every codec that a session offers
 * @ctx: the session
 *
 * Return: 0 or an error.
 */
int daedalus_controls_init(struct daedalus_ctx *ctx)
{
	struct v4l2_ctrl_handler *hdl = &ctx->hdl;
	const struct daedalus_codec *codec;
	unsigned int i;
	int ret;

	for (i = 0; i < DAEDALUS_NUM_CODECS; i++)
		ctx->depths[i] = 8;
	ret = v4l2_ctrl_handler_init(hdl, 32);
	if (ret)
		return ret;
	for (i = 0; (codec = daedalus_enum_codec(ctx->sched.session.codecs, i)); i++)
		add_controls(hdl, codec);
	ret = hdl->error;
	if (!ret)
		ret = v4l2_ctrl_handler_setup(hdl);
	if (ret)
		v4l2_ctrl_handler_free(hdl);
	return ret;
}

static unsigned int count_requests(struct daedalus_ctx *ctx)
{
	lockdep_assert_held(ctx->hdl.lock);
	WRITE_ONCE(ctx->num_requests, list_count_nodes(&ctx->hdl.requests));
	return ctx->num_requests;
}

/**
 * daedalus_controls_limit() - check whether VIDIOC_S_EXT_CTRLS may proceed
 * @ctx: the session
 * @arg: the ioctl's argument
 *
 * Each request that holds controls of a session has a copy of all its controls.
 *
 * Return: 0; -ENOMEM if the call would exceed the limit; -EFAULT; -EINTR.
 */
int daedalus_controls_limit(struct daedalus_ctx *ctx, unsigned long arg)
{
	struct v4l2_ext_controls cs;
	struct media_request *req;
	int ret = 0;

	/* The part that is the same in both ABIs. */
	if (copy_from_user(&cs, (void __user *)arg, offsetof(struct v4l2_ext_controls, reserved)))
		return -EFAULT;
	if (cs.which != V4L2_CTRL_WHICH_REQUEST_VAL)
		return 0;
	req = media_request_get_by_fd(&ctx->video->requests.mdev, cs.request_fd);
	/* The core returns the right error. */
	if (IS_ERR(req))
		return 0;
	if (!daedalus_request_has(req, &ctx->hdl)) {
		ret = mutex_lock_killable(ctx->hdl.lock);
		if (!ret) {
			if (count_requests(ctx) >= daedalus_max_requests_per_session)
				ret = -ENOMEM;
			mutex_unlock(ctx->hdl.lock);
		}
	}
	media_request_put(req);
	return ret;
}

/**
 * daedalus_controls_requests() - count the requests that hold controls of a session
 * @session: the session
 *
 * Return: the number; the last known one while another thread sets controls.
 */
unsigned int daedalus_controls_requests(struct daedalus_session *session)
{
	struct daedalus_ctx *ctx = session_to_ctx(session);

	if (mutex_trylock(ctx->hdl.lock)) {
		count_requests(ctx);
		mutex_unlock(ctx->hdl.lock);
	}
	return READ_ONCE(ctx->num_requests);
}
