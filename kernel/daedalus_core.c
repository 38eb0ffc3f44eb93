// SPDX-License-Identifier: GPL-2.0
/*
 * The core: parameters, the registry of sessions, the list of sessions that need a
 * worker.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"

unsigned int daedalus_watchdog_ms = 900;
module_param_named(watchdog_ms, daedalus_watchdog_ms, uint, 0644);
MODULE_PARM_DESC(watchdog_ms, "time in ms that the oldest job may take (default 900)");

unsigned int daedalus_drain_ms = 50;
module_param_named(drain_ms, daedalus_drain_ms, uint, 0644);
MODULE_PARM_DESC(drain_ms,
		 "time in ms that a stopping queue gives a worker that writes to imported memory (default 50)");

unsigned int daedalus_worker_wait_ms = 500;
module_param_named(worker_wait_ms, daedalus_worker_wait_ms, uint, 0644);
MODULE_PARM_DESC(worker_wait_ms,
		 "time in ms that clients wait for a daemon or a worker (default 500)");

unsigned int daedalus_max_sessions = 192;
module_param_named(max_sessions, daedalus_max_sessions, uint, 0644);
MODULE_PARM_DESC(max_sessions, "opens of the video node at one time (default 192)");

unsigned int daedalus_max_sessions_per_user = 128;
module_param_named(max_sessions_per_user, daedalus_max_sessions_per_user, uint, 0644);
MODULE_PARM_DESC(max_sessions_per_user,
		 "the same of one user without CAP_SYS_RESOURCE (default 128)");

unsigned int daedalus_max_session_mb;
module_param_named(max_session_mb, daedalus_max_session_mb, uint, 0644);
MODULE_PARM_DESC(max_session_mb,
		 "MiB of MMAP buffers of one open (default 0: half of the machine's memory)");

unsigned int daedalus_max_memory_mb;
module_param_named(max_memory_mb, daedalus_max_memory_mb, uint, 0644);
MODULE_PARM_DESC(max_memory_mb,
		 "MiB of MMAP buffers of all (default 0: three quarters of the memory)");

unsigned int daedalus_min_available_mb;
module_param_named(min_available_mb, daedalus_min_available_mb, uint, 0644);
MODULE_PARM_DESC(min_available_mb,
		 "MiB of available memory that buffers leave to others (default 0: a sixteenth of the memory)");

int daedalus_contiguous = -1;
module_param_named(contiguous, daedalus_contiguous, int, 0644);
MODULE_PARM_DESC(contiguous,
		 "contiguous CAPTURE memory: 1 try, 0 never, -1 try if there is a CMA area (default -1)");

unsigned int daedalus_max_contiguous_mb;
module_param_named(max_contiguous_mb, daedalus_max_contiguous_mb, uint, 0444);
MODULE_PARM_DESC(max_contiguous_mb,
		 "MiB of contiguous memory of all (default 0: half of the CMA area, or 64)");

unsigned int daedalus_max_requests = 64 * 192;
module_param_named(max_requests, daedalus_max_requests, uint, 0644);
MODULE_PARM_DESC(max_requests, "requests at one time (default 12288)");

unsigned int daedalus_max_requests_per_user = 64 * 128;
module_param_named(max_requests_per_user, daedalus_max_requests_per_user, uint, 0644);
MODULE_PARM_DESC(max_requests_per_user,
		 "the same of one user without CAP_SYS_RESOURCE (default 8192)");

unsigned int daedalus_max_requests_per_session = 64;
module_param_named(max_requests_per_session, daedalus_max_requests_per_session, uint, 0644);
MODULE_PARM_DESC(max_requests_per_session,
		 "requests that hold controls of one open (default 64)");

/**
 * daedalus_dev_create() - create the device
 * @parent: the platform device
 *
 * Return: the device, or NULL if there is no memory.
 */
struct daedalus_dev *daedalus_dev_create(struct device *parent)
{
	struct daedalus_dev *dev = kzalloc_obj(*dev);

	if (!dev)
		return NULL;
	dev->parent = parent;
	mutex_init(&dev->lock);
	spin_lock_init(&dev->demand_lock);
	INIT_LIST_HEAD(&dev->sessions);
	INIT_LIST_HEAD(&dev->demand);
	init_waitqueue_head(&dev->broker_wq);
	init_waitqueue_head(&dev->demand_wq);
	dev->wq = alloc_workqueue("daedalus", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	/* Each session may have one waiting claim, which must not delay another's. */
	dev->claim_wq = alloc_workqueue("daedalus_claim", WQ_UNBOUND, WQ_MAX_ACTIVE);
	if (!dev->wq || !dev->claim_wq) {
		daedalus_dev_destroy(dev);
		return NULL;
	}
	return dev;
}

/**
 * daedalus_dev_destroy() - free the device
 * @dev: the device; only queued work still refers to it
 *
 * Context: waits for that work.
 */
void daedalus_dev_destroy(struct daedalus_dev *dev)
{
	if (dev->claim_wq)
		destroy_workqueue(dev->claim_wq);
	if (dev->wq)
		destroy_workqueue(dev->wq);
	mutex_destroy(&dev->lock);
	kfree(dev);
}

/**
 * daedalus_session_init() - initialise a session that the current process opens
 * @session: zeroed memory
 * @dev: the device
 * @face: DAEDALUS_FACE_* of the node
 * @release: called when the last reference is gone
 */
void daedalus_session_init(struct daedalus_session *session, struct daedalus_dev *dev,
			   u32 face, void (*release)(struct daedalus_session *session))
{
	kref_init(&session->ref);
	session->release = release;
	session->dev = dev;
	session->face = face;
	session->pid = task_tgid_nr(current);
	session->uid = current_euid();
	INIT_LIST_HEAD(&session->demand_entry);
	spin_lock_init(&session->lock);
	mutex_lock(&dev->lock);
	session->codecs = face == DAEDALUS_FACE_STATELESS ? dev->codecs : dev->stateful_codecs;
	session->id = ++dev->next_session;
	mutex_unlock(&dev->lock);
}

/**
 * daedalus_session_add() - list a session if the limits allow it
 * @session: the session
 *
 * Return: 0, or -EMFILE.
 */
int daedalus_session_add(struct daedalus_session *session)
{
	struct daedalus_dev *dev = session->dev;
	struct daedalus_session *other;
	unsigned int all = 0, own = 0;
	int ret = -EMFILE;

	mutex_lock(&dev->lock);
	list_for_each_entry(other, &dev->sessions, entry) {
		all++;
		own += uid_eq(other->uid, session->uid);
	}
	if (all < daedalus_max_sessions &&
	    (own < daedalus_max_sessions_per_user || capable(CAP_SYS_RESOURCE))) {
		list_add_tail(&session->entry, &dev->sessions);
		atomic_inc(&dev->opened);
		ret = 0;
	}
	mutex_unlock(&dev->lock);
	return ret;
}

/**
 * daedalus_session_remove() - remove a session, whose file is closed, from the list
 * @session: the session
 */
void daedalus_session_remove(struct daedalus_session *session)
{
	mutex_lock(&session->dev->lock);
	list_del(&session->entry);
	mutex_unlock(&session->dev->lock);
}

/**
 * daedalus_session_find() - look up a session
 * @dev: the device
 * @id: the session's id
 *
 * Return: the session, referenced, or NULL.
 */
struct daedalus_session *daedalus_session_find(struct daedalus_dev *dev, u64 id)
{
	struct daedalus_session *session, *found = NULL;

	mutex_lock(&dev->lock);
	list_for_each_entry(session, &dev->sessions, entry) {
		if (session->id == id) {
			found = session;
			kref_get(&session->ref);
			break;
		}
	}
	mutex_unlock(&dev->lock);
	return found;
}

static void session_release(struct kref *ref)
{
	struct daedalus_session *session = container_of(ref, struct daedalus_session, ref);

	session->release(session);
}

/**
 * daedalus_session_put() - drop a reference
 * @session: the session
 *
 * Context: may sleep.
 */
void daedalus_session_put(struct daedalus_session *session)
{
	kref_put(&session->ref, session_release);
}

/**
 * daedalus_want_worker() - tell the broker that a session needs a worker
 * @session: the session; each broker reads it once, until daedalus_unwant_worker()
 *
 * No queue of events can overflow: a session stays on the list until it has a worker
 * or gives up.
 */
void daedalus_want_worker(struct daedalus_session *session)
{
	struct daedalus_dev *dev = session->dev;

	spin_lock(&dev->demand_lock);
	if (list_empty(&session->demand_entry))
		list_add_tail(&session->demand_entry, &dev->demand);
	session->reported = false;
	spin_unlock(&dev->demand_lock);
	wake_up(&dev->demand_wq);
}

/**
 * daedalus_unwant_worker() - withdraw the request for a worker
 * @session: the session
 */
void daedalus_unwant_worker(struct daedalus_session *session)
{
	spin_lock(&session->dev->demand_lock);
	list_del_init(&session->demand_entry);
	spin_unlock(&session->dev->demand_lock);
}

static struct daedalus_session *next_demand(struct daedalus_dev *dev)
{
	struct daedalus_session *session;

	lockdep_assert_held(&dev->demand_lock);
	list_for_each_entry(session, &dev->demand, demand_entry)
		if (!session->reported)
			return session;
	return NULL;
}

/**
 * daedalus_any_demand() - tell whether daedalus_take_demand() would find a session
 * @dev: the device
 */
bool daedalus_any_demand(struct daedalus_dev *dev)
{
	bool ret;

	spin_lock(&dev->demand_lock);
	ret = next_demand(dev);
	spin_unlock(&dev->demand_lock);
	return ret;
}

/**
 * daedalus_take_demand() - describe, once, a session that needs a worker
 * @dev: the device
 * @event: the description
 *
 * Return: whether there is one.
 */
bool daedalus_take_demand(struct daedalus_dev *dev, struct daedalus_event *event)
{
	struct daedalus_session *session;

	memset(event, 0, sizeof(*event));
	spin_lock(&dev->demand_lock);
	session = next_demand(dev);
	if (session) {
		session->reported = true;
		event->type = DAEDALUS_EVENT_WORKER_WANTED;
		event->coded_format = READ_ONCE(session->coded_format);
		event->session = session->id;
		event->client_pid = session->pid;
		event->restarts = READ_ONCE(session->restarts);
	}
	spin_unlock(&dev->demand_lock);
	return session;
}

/**
 * daedalus_forget_reports() - report all waiting sessions again, to the next broker
 * @dev: the device
 */
void daedalus_forget_reports(struct daedalus_dev *dev)
{
	struct daedalus_session *session;

	spin_lock(&dev->demand_lock);
	list_for_each_entry(session, &dev->demand, demand_entry)
		session->reported = false;
	spin_unlock(&dev->demand_lock);
}

/**
 * daedalus_wait_broker() - wait until a broker is registered
 * @dev: the device
 *
 * Return: 0; -ENODEV if none came within worker_wait_ms; -ERESTARTSYS.
 */
int daedalus_wait_broker(struct daedalus_dev *dev)
{
	long left = wait_event_interruptible_timeout(dev->broker_wq, READ_ONCE(dev->broker),
						     msecs_to_jiffies(daedalus_worker_wait_ms));

	if (left < 0)
		return left;
	return left ? 0 : -ENODEV;
}
