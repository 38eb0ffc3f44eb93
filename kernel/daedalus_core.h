/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The core: the device, its sessions, the list of sessions without a worker, the
 * limits.
 *
 * Layers. Each file calls only those below it. A lower layer reaches a higher one
 * only through a structure of operations that the higher one registered.
 *
 *	daedalus_drv				module, platform device, suspend
 *	daedalus_debugfs			debugfs files
 *	daedalus_control			the control fd: the daemon's broker
 *	daedalus_nodes				the stateless face: its nodes,
 *	daedalus_video				open, close and ioctls,
 *	daedalus_controls  daedalus_queue	controls; buffers to jobs and back
 *	daedalus_requests			requests
 *	daedalus_stateful			the stateful face: its node, ioctls,
 *	daedalus_stream				formats, events, drains; its queues
 *	daedalus_codec				coded and raw formats
 *	daedalus_<codec>			one file per codec
 *	daedalus_flow_worker			the messages of a stateful session's worker
 *	daedalus_sched  daedalus_flow		jobs; units and pictures: clocks, who ends what
 *	daedalus_planes				vb2's memory operations, mmap, poll
 *	daedalus_worker				session fds, messages
 *	daedalus_memory				planes, exports, workers' windows
 *	daedalus_pool				accounts, pages
 *	daedalus_core				this file
 */
#ifndef DAEDALUS_CORE_H
#define DAEDALUS_CORE_H

#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/daedalus.h>

struct daedalus_event;
struct daedalus_pool;
struct daedalus_session;
struct daedalus_worker;
struct daedalus_worker_ops;
struct device;

/* Module parameters. */
extern unsigned int daedalus_watchdog_ms;
extern unsigned int daedalus_drain_ms;
extern unsigned int daedalus_worker_wait_ms;
extern unsigned int daedalus_max_sessions;
extern unsigned int daedalus_max_sessions_per_user;
extern unsigned int daedalus_max_session_mb;
extern unsigned int daedalus_max_memory_mb;
extern unsigned int daedalus_min_available_mb;
extern unsigned int daedalus_max_contiguous_mb;
extern int daedalus_contiguous;
extern unsigned int daedalus_max_requests;
extern unsigned int daedalus_max_requests_per_user;
extern unsigned int daedalus_max_requests_per_session;

/**
 * struct daedalus_dev - the device
 * @parent: the platform device, which owns DMA memory and prefixes log lines
 * @wq: runs watchdogs, frees memory, ends sessions; nothing on it waits for user
 *	space
 * @claim_wq: runs claims, which wait for the lock of a session's control handler; a
 *	thread that sets controls holds that lock while it copies from user memory
 * @lock: guards @broker, @nodes, @codecs, @stateful_codecs, @faces, @name and @sessions
 * @broker: the registered broker (an opaque key), or NULL: the device is orphaned
 * @broker_wq: woken when a broker registers
 * @nodes: DAEDALUS_FACE_* whose nodes are registered; they stay until the module goes
 * @codecs: DAEDALUS_CODEC_* that new sessions of the stateless face offer
 * @stateful_codecs: DAEDALUS_CODEC_* that new sessions of the stateful face offer
 * @faces: DAEDALUS_FACE_* that are offered
 * @name: the daemon's name
 * @sessions: every struct daedalus_session with an open file
 * @demand_lock: guards @demand
 * @demand: sessions that need a worker
 * @demand_wq: woken when @demand gets an entry
 * @next_session: the next session's id
 * @next_id: the next plane's id
 * @frozen: user space is frozen, or about to be: clocks stand still
 * @busy: sessions whose worker has a job now
 * @busy_peak: the highest value of @busy
 * @opened: number of sessions since loading
 * @requests: requests that exist
 * @memory: bytes of MMAP planes, until the last reference of each is gone
 * @contiguous: those of them that are contiguous
 * @contiguous_budget: limit of @contiguous; set once
 * @cma: free bytes of the CMA area when the module was loaded; 0: no CMA area
 * @mixed: contiguous queues that got a scattered buffer since loading
 *
 * Open nodes, requests, session fds and exported buffers pin the module, so this
 * structure lives from module init until after the last of them is gone.
 */
struct daedalus_dev {
	struct device *parent;
	struct workqueue_struct *wq;
	struct workqueue_struct *claim_wq;

	struct mutex lock;	/* broker, nodes, sessions */
	const void *broker;
	wait_queue_head_t broker_wq;
	u32 nodes;
	u32 codecs;
	u32 stateful_codecs;
	u32 faces;
	char name[32];
	struct list_head sessions;

	spinlock_t demand_lock;	/* demand */
	struct list_head demand;
	wait_queue_head_t demand_wq;

	u64 next_session;
	atomic64_t next_id;
	bool frozen;
	atomic_t busy;
	atomic_t busy_peak;
	atomic_t opened;
	atomic_t requests;
	atomic64_t memory;
	atomic64_t contiguous;
	u64 contiguous_budget;
	u64 cma;
	atomic_t mixed;
};

/**
 * struct daedalus_session_status - a session's state for debugfs
 * @state: name of the state
 * @waiting: OUTPUT buffers that wait to become jobs or units
 * @claimed: jobs or units that nobody has read
 * @handed: jobs or units that the worker has
 * @done: jobs or pictures that ended well
 * @failed: jobs or pictures that ended with an error
 * @worker: the worker's process, or 0
 * @oldest_ms: age of the oldest job or unit
 * @requests: requests that hold controls
 */
struct daedalus_session_status {
	const char *state;
	unsigned int waiting;
	unsigned int claimed;
	unsigned int handed;
	u64 done;
	u64 failed;
	pid_t worker;
	s64 oldest_ms;
	unsigned int requests;
};

/**
 * struct daedalus_session_ops - what a face does for its sessions
 * @status: describes a session
 * @abort: ends the session's work now
 * @thaw: restarts the session's clock after user space was frozen
 */
struct daedalus_session_ops {
	void (*status)(struct daedalus_session *session, struct daedalus_session_status *status);
	void (*abort)(struct daedalus_session *session);
	void (*thaw)(struct daedalus_session *session);
};

/**
 * struct daedalus_session - one open of a video node, as the lower layers see it
 * @ref: held by the open file and by each session fd
 * @release: frees it; may run in any context that may sleep
 * @dev: the device
 * @face: DAEDALUS_FACE_* of the node
 * @ops: the face's operations; set before the session is listed
 * @entry: in &daedalus_dev.sessions
 * @demand_entry: in &daedalus_dev.demand
 * @reported: the broker knows that a worker is wanted; guarded by
 *	&daedalus_dev.demand_lock
 * @id: never reused
 * @pid: the client's process id, for logs and debugfs
 * @uid: the user who opened it
 * @codecs: DAEDALUS_CODEC_* that it offers
 * @coded_format: fourcc of OUTPUT, for the broker's event
 * @pool: its memory
 * @lock: guards the state of the scheduler and of the worker layer
 * @worker: the worker that decodes, or NULL
 * @worker_ops: operations for the worker; set before the session is listed
 * @restarts: number of workers lost
 */
struct daedalus_session {
	struct kref ref;
	void (*release)(struct daedalus_session *session);
	struct daedalus_dev *dev;
	u32 face;
	const struct daedalus_session_ops *ops;
	struct list_head entry;
	struct list_head demand_entry;
	bool reported;
	u64 id;
	pid_t pid;
	kuid_t uid;
	u32 codecs;
	u32 coded_format;
	struct daedalus_pool *pool;

	spinlock_t lock;	/* jobs, lists, worker */
	struct daedalus_worker *worker;
	const struct daedalus_worker_ops *worker_ops;
	u32 restarts;
};

struct daedalus_dev *daedalus_dev_create(struct device *parent);
void daedalus_dev_destroy(struct daedalus_dev *dev);

void daedalus_session_init(struct daedalus_session *session, struct daedalus_dev *dev,
			   u32 face, void (*release)(struct daedalus_session *session));
int daedalus_session_add(struct daedalus_session *session);
void daedalus_session_remove(struct daedalus_session *session);
struct daedalus_session *daedalus_session_find(struct daedalus_dev *dev, u64 id);
void daedalus_session_put(struct daedalus_session *session);

void daedalus_want_worker(struct daedalus_session *session);
void daedalus_unwant_worker(struct daedalus_session *session);
bool daedalus_any_demand(struct daedalus_dev *dev);
bool daedalus_take_demand(struct daedalus_dev *dev, struct daedalus_event *event);
void daedalus_forget_reports(struct daedalus_dev *dev);
int daedalus_wait_broker(struct daedalus_dev *dev);

#endif
