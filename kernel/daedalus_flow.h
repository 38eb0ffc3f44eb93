/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The scheduler of the stateful face: units and raw buffers between the face and the
 * worker, drains, the clock.
 */
#ifndef DAEDALUS_FLOW_H
#define DAEDALUS_FLOW_H

#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "daedalus_core.h"

struct daedalus_flow;
struct daedalus_mem;

/**
 * struct daedalus_unit - an OUTPUT buffer
 * @entry: in &daedalus_flow.units
 * @handed: the worker has read it
 * @held: the worker does not get it before the ioctl that queued it has returned
 * @mem: its memory
 * @msg: the message, except the plane's id
 */
struct daedalus_unit {
	struct list_head entry;
	bool handed;
	bool held;
	struct daedalus_mem *mem;
	struct daedalus_msg_coded msg;
};

/**
 * struct daedalus_lend - a raw buffer: CAPTURE
 * @entry: in &daedalus_flow.raws
 * @lent: the worker has it
 * @held: nobody gets it before the ioctl that queued it has returned
 * @revoked: its memory is to be taken from the worker
 * @mem: its memory
 * @msg: the message, except the planes' ids
 */
struct daedalus_lend {
	struct list_head entry;
	bool lent;
	bool held;
	bool revoked;
	struct daedalus_mem *mem[DAEDALUS_MAX_PLANES];
	struct daedalus_msg_raw msg;
};

/**
 * enum daedalus_drain - how far a drain is
 * @DAEDALUS_DRAIN_NONE: there is none
 * @DAEDALUS_DRAIN_WANTED: the client asked for it
 * @DAEDALUS_DRAIN_HANDED: the worker was told
 * @DAEDALUS_DRAIN_OVER: all pictures are out; units wait until the client starts again
 */
enum daedalus_drain {
	DAEDALUS_DRAIN_NONE,
	DAEDALUS_DRAIN_WANTED,
	DAEDALUS_DRAIN_HANDED,
	DAEDALUS_DRAIN_OVER,
};

/**
 * struct daedalus_flow_ops - the face's operations, called with session->lock held
 * @unit_done: gives an OUTPUT buffer back
 * @picture: gives a CAPTURE buffer with a picture back
 * @format: takes the stream's next format. Returns -EINVAL if the face does not offer it, 1 if
 *	the worker goes on at once, 0 if it waits.
 * @suits: tells whether a picture of the stream's present format goes into a raw buffer
 * @unlent: reports that no raw buffer is lent any more
 * @drained: reports that the drain is over
 * @lost: reports that nobody can decode for this session any more
 */
struct daedalus_flow_ops {
	void (*unit_done)(struct daedalus_flow *flow, struct daedalus_unit *unit, bool failed);
	void (*picture)(struct daedalus_flow *flow, struct daedalus_lend *raw,
			const struct daedalus_echo *echo, bool failed);
	int (*format)(struct daedalus_flow *flow, const struct daedalus_format *format);
	bool (*suits)(struct daedalus_flow *flow, const struct daedalus_lend *raw);
	void (*unlent)(struct daedalus_flow *flow);
	void (*drained)(struct daedalus_flow *flow);
	void (*lost)(struct daedalus_flow *flow);
};

/**
 * struct daedalus_flow - a stateful session's scheduler
 * @session: the session; its lock guards the other members, except @revoke_lock
 * @ops: the face's operations
 * @watchdog: ends a worker that makes no progress
 * @revoke_lock: held from the revocation of raw buffers until they are back; outside
 *	session->lock
 * @active: a queue streams
 * @lost: no worker came; cleared when all queues are stopped
 * @stopping: number of calls that stop a queue now; nothing is handed out meanwhile
 * @started: the worker has read DAEDALUS_MSG_START
 * @flush: DAEDALUS_MSG_FLUSH is due
 * @reclaim: DAEDALUS_MSG_RECLAIM is due
 * @go_on: DAEDALUS_MSG_CONTINUE is due
 * @reading: OUTPUT streams
 * @writing: CAPTURE streams
 * @has_format: the stream's format is known
 * @waiting: the worker waits for DAEDALUS_MSG_CONTINUE, or the client must act before that
 * @width: of the OUTPUT format
 * @height: of the OUTPUT format
 * @drain: the drain
 * @drain_after: id of the last unit before the drain
 * @units: OUTPUT buffers, oldest first; those that were handed come first
 * @handed: number of units that the worker has
 * @raws: CAPTURE buffers, oldest first
 * @lent: number of raw buffers that the worker has
 * @next_unit: the last unit's id
 * @next_raw: the last raw buffer's id
 * @reclaim_wq: woken when the worker has read DAEDALUS_MSG_RECLAIM
 * @ticking: the clock runs
 * @since: when it began to, or when the worker made progress last
 * @lost_in_row: workers lost, or late to start, since a worker made progress
 * @done: pictures that came out well
 * @failed: pictures with errors
 * @headers: parameter sets that a worker left, or NULL
 * @headers_size: bytes of @headers
 */
struct daedalus_flow {
	struct daedalus_session session;
	const struct daedalus_flow_ops *ops;
	struct delayed_work watchdog;
	struct mutex revoke_lock;	/* revoked raw buffers */
	bool active;
	bool lost;
	unsigned int stopping;
	bool started;
	bool flush;
	bool reclaim;
	bool go_on;
	bool reading;
	bool writing;
	bool has_format;
	bool waiting;
	u32 width;
	u32 height;
	enum daedalus_drain drain;
	u64 drain_after;
	struct list_head units;
	unsigned int handed;
	struct list_head raws;
	unsigned int lent;
	u64 next_unit;
	u64 next_raw;
	wait_queue_head_t reclaim_wq;
	bool ticking;
	ktime_t since;
	u32 lost_in_row;
	u64 done;
	u64 failed;
	void *headers;
	u32 headers_size;
};

static inline struct daedalus_flow *daedalus_session_to_flow(struct daedalus_session *session)
{
	return container_of(session, struct daedalus_flow, session);
}

bool daedalus_flow_wants_worker(struct daedalus_flow *flow);
bool daedalus_flow_is_draining(struct daedalus_flow *flow);
struct daedalus_unit *daedalus_flow_next_unit(struct daedalus_flow *flow);
struct daedalus_lend *daedalus_flow_next_raw(struct daedalus_flow *flow);
bool daedalus_flow_may_drain(struct daedalus_flow *flow);
void daedalus_flow_tick(struct daedalus_flow *flow, bool progress);
void daedalus_flow_end_unit(struct daedalus_flow *flow, struct daedalus_unit *unit, bool failed);
void daedalus_flow_end_drain(struct daedalus_flow *flow);
void daedalus_flow_lose_worker(struct daedalus_flow *flow, struct daedalus_worker *worker,
			       bool kill);
void daedalus_flow_init(struct daedalus_flow *flow, const struct daedalus_flow_ops *ops);
void daedalus_flow_exit(struct daedalus_flow *flow);
void daedalus_flow_add_unit(struct daedalus_flow *flow, struct daedalus_unit *unit);
void daedalus_flow_add_raw(struct daedalus_flow *flow, struct daedalus_lend *raw);
void daedalus_flow_release(struct daedalus_flow *flow);
void daedalus_flow_take_raw(struct daedalus_flow *flow, struct daedalus_lend *raw);
void daedalus_flow_unlend(struct daedalus_flow *flow);
void daedalus_flow_restart(struct daedalus_flow *flow);
void daedalus_flow_start(struct daedalus_flow *flow);
void daedalus_flow_drain(struct daedalus_flow *flow);
void daedalus_flow_resume(struct daedalus_flow *flow);
void daedalus_flow_continue(struct daedalus_flow *flow);
void daedalus_flow_update(struct daedalus_flow *flow);
void daedalus_flow_stop_units(struct daedalus_flow *flow);
void daedalus_flow_reclaim_imported(struct daedalus_flow *flow);
void daedalus_flow_reclaimed(struct daedalus_flow *flow);
void daedalus_flow_stop_raws(struct daedalus_flow *flow);
void daedalus_flow_stopped(struct daedalus_flow *flow, bool active);
void daedalus_flow_abort(struct daedalus_session *session);
void daedalus_flow_thaw(struct daedalus_session *session);
void daedalus_flow_status(struct daedalus_flow *flow, struct daedalus_session_status *status);

#endif
