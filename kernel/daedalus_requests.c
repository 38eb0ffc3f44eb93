// SPDX-License-Identifier: GPL-2.0
/*
 * Media requests.
 *
 * Lifetime
 *	The core does not pin the module for a request fd, so each request does it here,
 *	until an RCU grace period after it is freed: the core touches the media device
 *	after req_free has returned.
 *
 * Completion
 *	A request is complete when all its objects are. To complete the controls one
 *	takes the session's control lock. A thread that sets controls holds that lock
 *	while it copies from user memory, for as long as that takes. So nothing under
 *	the core's req_queue_mutex or the session's lock completes controls: buffers go
 *	back there, and the session's claim work finishes the request. Until then the
 *	request's own @part keeps the request incomplete.
 *
 * Sessions, requests and video fds close in any order
 *	The controls of a request refer to the session's handler. If a session is closed
 *	while requests refer to its handler, it parks the handler. The last of these
 *	requests frees it.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <media/v4l2-ctrls.h>
#include <media/videobuf2-v4l2.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_requests.h"

/**
 * struct daedalus_request_user - a user's number of requests
 * @entry: in &daedalus_requests.users
 * @uid: the user
 * @count: number of requests
 */
struct daedalus_request_user {
	struct list_head entry;
	kuid_t uid;
	unsigned int count;
};

static struct daedalus_requests *to_requests(struct media_device *mdev)
{
	return container_of(mdev, struct daedalus_requests, mdev);
}

static struct daedalus_request_user *request_user(struct daedalus_requests *requests, kuid_t uid)
{
	struct daedalus_request_user *user;

	lockdep_assert_held(&requests->lock);
	list_for_each_entry(user, &requests->users, entry)
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

static void uncount_request(struct daedalus_requests *requests, struct daedalus_request_user *user)
{
	bool last;

	spin_lock(&requests->lock);
	last = !--user->count;
	if (last)
		list_del(&user->entry);
	spin_unlock(&requests->lock);
	if (last)
		kfree(user);
	atomic_dec(&requests->dev->requests);
}

/* Counts a request of the current process. Returns NULL at the limit. */
static struct daedalus_request_user *count_request(struct daedalus_requests *requests)
{
	struct daedalus_request_user *user, *fresh = kzalloc_obj(*fresh);
	bool privileged = capable(CAP_SYS_RESOURCE), fits;

	if (!fresh)
		return NULL;
	fits = atomic_inc_return(&requests->dev->requests) <= daedalus_max_requests;
	spin_lock(&requests->lock);
	user = request_user(requests, current_euid());
	if (!user) {
		user = fresh;
		fresh = NULL;
		user->uid = current_euid();
		list_add(&user->entry, &requests->users);
	}
	fits &= ++user->count <= daedalus_max_requests_per_user || privileged;
	spin_unlock(&requests->lock);
	kfree(fresh);
	if (fits)
		return user;
	uncount_request(requests, user);
	return NULL;
}

static struct media_request *req_alloc(struct media_device *mdev)
{
	struct daedalus_request *request = kzalloc_obj(*request);

	if (!request)
		return NULL;
	request->user = count_request(to_requests(mdev));
	if (!request->user) {
		kfree(request);
		return NULL;
	}
	INIT_LIST_HEAD(&request->entry);
	INIT_LIST_HEAD(&request->kept_entry);
	__module_get(THIS_MODULE);
	return &request->req;
}

static void req_free_rcu(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct daedalus_request, rcu));
	module_put(THIS_MODULE);
}

static void req_free(struct media_request *req)
{
	struct daedalus_request *request = to_daedalus_request(req);
	struct daedalus_requests *requests = to_requests(req->mdev);

	uncount_request(requests, request->user);
	/* This may be the last request that refers to a parked handler. */
	queue_work(requests->dev->wq, &requests->reap_work);
	/* Hurry: whoever removes the module after the last client waits for this. */
	call_rcu_hurry(&request->rcu, req_free_rcu);
}

/* Checks that the request has exactly one OUTPUT buffer. */
static int req_validate(struct media_request *req)
{
	unsigned int buffers = vb2_request_buffer_cnt(req);

	if (!buffers)
		return -ENOENT;
	if (buffers > 1)
		return -EINVAL;
	return vb2_request_validate(req);
}

/* The part is embedded in the request: there is nothing to free. */
static void part_release(struct media_request_object *part)
{
}

static const struct media_request_object_ops part_ops = {
	.release = part_release,
};

static void req_queue(struct media_request *req)
{
	struct daedalus_request *request = to_daedalus_request(req);

	media_request_object_init(&request->part);
	WARN_ON(media_request_object_bind(req, &part_ops, NULL, false, &request->part));
	vb2_request_queue(req);
}

static const struct media_device_ops media_ops = {
	.req_alloc = req_alloc,
	.req_free = req_free,
	.req_validate = req_validate,
	.req_queue = req_queue,
};

/**
 * daedalus_request_has() - tell whether a request has an object of an owner
 * @req: the request
 * @owner: a control handler
 */
bool daedalus_request_has(struct media_request *req, const void *owner)
{
	struct media_request_object *object;
	unsigned long flags;
	bool has = false;

	spin_lock_irqsave(&req->lock, flags);
	list_for_each_entry(object, &req->objects, list)
		has |= object->priv == owner;
	spin_unlock_irqrestore(&req->lock, flags);
	return has;
}

/**
 * daedalus_request_finish() - complete a queued request's controls
 * @req: the request, whose buffer the session has or has given back
 * @hdl: the session's controls
 *
 * Context: waits for the control lock.
 */
void daedalus_request_finish(struct media_request *req, struct v4l2_ctrl_handler *hdl)
{
	v4l2_ctrl_request_complete(req, hdl);
	media_request_object_complete(&to_daedalus_request(req)->part);
}

static bool is_referred_to(struct daedalus_parked *parked)
{
	bool ret;

	/* A request unlinks itself under this lock. */
	mutex_lock(parked->hdl->lock);
	ret = !list_empty(&parked->hdl->requests);
	mutex_unlock(parked->hdl->lock);
	return ret;
}

static void reap_work(struct work_struct *work)
{
	struct daedalus_requests *requests = container_of(work, struct daedalus_requests,
							  reap_work);
	struct daedalus_parked *parked, *next;
	LIST_HEAD(list);

	spin_lock(&requests->lock);
	list_splice_init(&requests->parked, &list);
	spin_unlock(&requests->lock);
	list_for_each_entry_safe(parked, next, &list, entry) {
		if (is_referred_to(parked))
			continue;
		list_del(&parked->entry);
		parked->release(parked);
	}
	spin_lock(&requests->lock);
	list_splice(&list, &requests->parked);
	spin_unlock(&requests->lock);
}

/**
 * daedalus_park() - free a control handler when no request refers to it
 * @requests: the media device's requests
 * @parked: the handler; its session is closed, so no further request can refer to it
 */
void daedalus_park(struct daedalus_requests *requests, struct daedalus_parked *parked)
{
	spin_lock(&requests->lock);
	list_add(&parked->entry, &requests->parked);
	spin_unlock(&requests->lock);
	queue_work(requests->dev->wq, &requests->reap_work);
}

/**
 * daedalus_requests_init() - prepare the media device
 * @requests: zeroed memory
 * @dev: the device
 */
void daedalus_requests_init(struct daedalus_requests *requests, struct daedalus_dev *dev)
{
	requests->dev = dev;
	spin_lock_init(&requests->lock);
	INIT_LIST_HEAD(&requests->users);
	INIT_LIST_HEAD(&requests->parked);
	INIT_WORK(&requests->reap_work, reap_work);
	requests->mdev.dev = dev->parent;
	requests->mdev.ops = &media_ops;
	strscpy(requests->mdev.bus_info, "platform:" DAEDALUS_DRIVER_NAME,
		sizeof(requests->mdev.bus_info));
	media_device_init(&requests->mdev);
}
