/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Media requests: limits, completion away from the locks, and control handlers that
 * outlive their session.
 */
#ifndef DAEDALUS_REQUESTS_H
#define DAEDALUS_REQUESTS_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <media/media-device.h>
#include <media/media-request.h>

struct daedalus_dev;
struct daedalus_request_user;
struct v4l2_ctrl_handler;

/**
 * struct daedalus_request - a request of the media node
 * @req: the core's request
 * @part: the module's own part of a queued request. While it is incomplete, so is the
 *	request; so its controls can be completed later.
 * @entry: in a list of requests to finish
 * @kept_entry: in a list of requests whose references are to be dropped
 * @user: the user whose limit it counts against
 * @rcu: delays the free, since the core touches the media device after req_free
 */
struct daedalus_request {
	struct media_request req;
	struct media_request_object part;
	struct list_head entry;
	struct list_head kept_entry;
	struct daedalus_request_user *user;
	struct rcu_head rcu;
};

/**
 * struct daedalus_parked - a control handler to free when no request refers to it
 * @entry: in &daedalus_requests.parked
 * @hdl: the handler
 * @release: frees it, from a work item
 */
struct daedalus_parked {
	struct list_head entry;
	struct v4l2_ctrl_handler *hdl;
	void (*release)(struct daedalus_parked *parked);
};

/**
 * struct daedalus_requests - the media device and its requests
 * @mdev: the media device
 * @dev: the device
 * @lock: guards @users and @parked
 * @users: struct daedalus_request_user
 * @parked: struct daedalus_parked
 * @reap_work: frees parked handlers
 */
struct daedalus_requests {
	struct media_device mdev;
	struct daedalus_dev *dev;
	spinlock_t lock;	/* users, parked */
	struct list_head users;
	struct list_head parked;
	struct work_struct reap_work;
};

void daedalus_requests_init(struct daedalus_requests *requests, struct daedalus_dev *dev);
bool daedalus_request_has(struct media_request *req, const void *owner);
void daedalus_request_finish(struct media_request *req, struct v4l2_ctrl_handler *hdl);
void daedalus_park(struct daedalus_requests *requests, struct daedalus_parked *parked);

static inline struct daedalus_request *to_daedalus_request(struct media_request *req)
{
	return container_of(req, struct daedalus_request, req);
}

#endif
