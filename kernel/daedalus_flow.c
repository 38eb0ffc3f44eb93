// SPDX-License-Identifier: GPL-2.0
/*
 * The scheduler of the stateful face: from OUTPUT buffers to the worker and from the worker
 * to CAPTURE buffers.
 *
 * Units and raw buffers
 *	Units are handed out in order, a few at a time. The worker gives each back when it
 *	has taken all of it, so a worker whose decoder is full leaves the client's buffers
 *	where they are. Raw buffers are lent in order. The worker decodes into memory of its
 *	own and copies into a lent buffer at output, so a buffer that the client has is
 *	never a reference. Units and raw buffers end independently of each other.
 *	A buffer is held until the ioctl that queued it has returned: VIDIOC_QBUF answers
 *	that it is queued, and a worker that is faster must not change that.
 *
 * Who gives a buffer back
 *	A unit: the worker, the loss of the worker, a stopped queue, the loss of the session.
 *	A raw buffer: the worker with a picture, the face for an empty last buffer, a stopped
 *	queue. Each acts under session->lock on an entry of the lists and takes it off.
 *	Raw buffers of a lost worker are lent to the next one.
 *
 * Revocation
 *	As in daedalus_sched.c: whoever takes a lent raw buffer from a worker holds
 *	revoke_lock, drops session->lock while the memory is taken, and gives the buffer back
 *	afterwards. Imported memory cannot be revoked. A worker that has read
 *	DAEDALUS_MSG_RECLAIM does not write to it any more. A stop gives it drain_ms to do
 *	so, before any lock, and then kills it. A worker also gives up all raw buffers by
 *	DAEDALUS_MSG_FLUSH, DAEDALUS_IOC_FORMAT and DAEDALUS_IOC_END.
 *
 * The clock
 *	It runs while there is something that the worker owes: a unit or a drain, and, once
 *	the format is known, a raw buffer to write to. It stands still while the client owes
 *	a raw buffer or a new format, and while user space is frozen. A worker that reads its
 *	first message, the end of the oldest unit and each picture restart it. A worker that
 *	makes no progress for watchdog_ms is killed; one that has not attached itself is
 *	spared a few times. If no worker comes for worker_wait_ms, the session is lost.
 *
 * Locks: as in daedalus_sched.c.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/videodev2.h>

#include "daedalus_compat.h"
#include "daedalus_flow.h"
#include "daedalus_memory.h"
#include "daedalus_worker.h"

#define MAX_RESTARTS	5U	/* workers lost in a row without progress */
#define MAX_HANDED	8U	/* units that a worker has at a time */

/**
 * daedalus_flow_wants_worker() - tell whether the session should have a worker
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 */
bool daedalus_flow_wants_worker(struct daedalus_flow *flow)
{
	lockdep_assert_held(&flow->session.lock);
	return flow->active && !flow->lost && !flow->stopping;
}

/**
 * daedalus_flow_is_draining() - tell whether a drain is on its way
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 */
bool daedalus_flow_is_draining(struct daedalus_flow *flow)
{
	return flow->drain == DAEDALUS_DRAIN_WANTED || flow->drain == DAEDALUS_DRAIN_HANDED;
}

/**
 * daedalus_flow_next_unit() - return the next unit to hand out
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 * Return: the unit, or NULL.
 */
struct daedalus_unit *daedalus_flow_next_unit(struct daedalus_flow *flow)
{
	struct daedalus_unit *unit;

	lockdep_assert_held(&flow->session.lock);
	if (!flow->reading || flow->handed >= MAX_HANDED)
		return NULL;
	list_for_each_entry(unit, &flow->units, entry) {
		if (unit->handed)
			continue;
		if (unit->held)
			return NULL;
		if (flow->drain == DAEDALUS_DRAIN_NONE)
			return unit;
		if (daedalus_flow_is_draining(flow) && unit->msg.unit <= flow->drain_after)
			return unit;
		return NULL;
	}
	return NULL;
}

/**
 * daedalus_flow_next_raw() - return the next raw buffer to lend
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 * Return: the raw buffer, or NULL.
 */
struct daedalus_lend *daedalus_flow_next_raw(struct daedalus_flow *flow)
{
	struct daedalus_lend *raw;

	lockdep_assert_held(&flow->session.lock);
	if (!flow->writing || !flow->has_format || flow->waiting ||
	    flow->drain == DAEDALUS_DRAIN_OVER)
		return NULL;
	list_for_each_entry(raw, &flow->raws, entry)
		if (!raw->lent && !raw->held && !raw->revoked && flow->ops->suits(flow, raw))
			return raw;
	return NULL;
}

/**
 * daedalus_flow_may_drain() - tell whether every unit before a drain has been handed out
 * @flow: the session's scheduler
 *
 * A drain does not end while the client must adapt CAPTURE: the last buffer of the old format is
 * not that of the drain.
 *
 * Context: session->lock is held.
 * Return: false if there is no drain to tell the worker about.
 */
bool daedalus_flow_may_drain(struct daedalus_flow *flow)
{
	struct daedalus_unit *unit;

	lockdep_assert_held(&flow->session.lock);
	if (flow->drain != DAEDALUS_DRAIN_WANTED || flow->waiting)
		return false;
	list_for_each_entry(unit, &flow->units, entry)
		if (!unit->handed && unit->msg.unit <= flow->drain_after)
			return false;
	return true;
}

/* --- the clock --- */

static bool owes(struct daedalus_flow *flow)
{
	lockdep_assert_held(&flow->session.lock);
	if (flow->stopping || flow->lost || !flow->active)
		return false;
	if (!daedalus_flow_is_draining(flow) &&
	    (list_empty(&flow->units) || flow->drain == DAEDALUS_DRAIN_OVER))
		return false;
	if (!flow->session.worker || !flow->has_format)
		return true;
	return !flow->waiting && (flow->lent || daedalus_flow_next_raw(flow));
}

static s64 left_ms(struct daedalus_flow *flow)
{
	u32 limit = flow->session.worker ? daedalus_watchdog_ms : daedalus_worker_wait_ms;

	return limit - ktime_ms_delta(ktime_get(), flow->since);
}

/**
 * daedalus_flow_tick() - start or stop the clock after a change
 * @flow: the session's scheduler
 * @progress: restart it: the worker made progress
 *
 * Context: session->lock is held.
 */
void daedalus_flow_tick(struct daedalus_flow *flow, bool progress)
{
	const bool owing = owes(flow);

	if (owing && (progress || !flow->ticking)) {
		flow->since = ktime_get();
		mod_delayed_work(flow->session.dev->wq, &flow->watchdog,
				 msecs_to_jiffies(max(left_ms(flow), 0)) + 1);
	}
	flow->ticking = owing;
}

/**
 * daedalus_flow_update() - act on a change that the face made
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 */
void daedalus_flow_update(struct daedalus_flow *flow)
{
	lockdep_assert_held(&flow->session.lock);
	daedalus_flow_tick(flow, false);
	if (flow->session.worker)
		daedalus_worker_wake(flow->session.worker);
}

/* --- giving back --- */

/**
 * daedalus_flow_end_unit() - give a unit back to the client
 * @flow: the session's scheduler
 * @unit: in &daedalus_flow.units
 * @failed: it was not decoded
 *
 * Context: session->lock is held.
 */
void daedalus_flow_end_unit(struct daedalus_flow *flow, struct daedalus_unit *unit, bool failed)
{
	lockdep_assert_held(&flow->session.lock);
	list_del_init(&unit->entry);
	if (unit->handed)
		flow->handed--;
	flow->ops->unit_done(flow, unit, failed);
}

/**
 * daedalus_flow_end_drain() - end the drain
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 */
void daedalus_flow_end_drain(struct daedalus_flow *flow)
{
	lockdep_assert_held(&flow->session.lock);
	flow->drain = DAEDALUS_DRAIN_OVER;
	flow->ops->drained(flow);
}

/**
 * daedalus_flow_take_raw() - take a raw buffer that no worker has, to give it back
 * @flow: the session's scheduler
 * @raw: in &daedalus_flow.raws
 *
 * Context: session->lock is held.
 */
void daedalus_flow_take_raw(struct daedalus_flow *flow, struct daedalus_lend *raw)
{
	lockdep_assert_held(&flow->session.lock);
	WARN_ON(raw->lent);
	list_del_init(&raw->entry);
}

/**
 * daedalus_flow_unlend() - count no raw buffer as lent any more
 * @flow: the session's scheduler; the worker has given them up, or is gone
 *
 * Context: session->lock is held.
 */
void daedalus_flow_unlend(struct daedalus_flow *flow)
{
	struct daedalus_lend *raw;

	lockdep_assert_held(&flow->session.lock);
	list_for_each_entry(raw, &flow->raws, entry)
		raw->lent = false;
	flow->lent = 0;
	flow->ops->unlent(flow);
}

static void session_lost(struct daedalus_flow *flow)
{
	struct daedalus_unit *unit, *next;

	lockdep_assert_held(&flow->session.lock);
	flow->lost = true;
	flow->drain = DAEDALUS_DRAIN_NONE;
	daedalus_unwant_worker(&flow->session);
	list_for_each_entry_safe(unit, next, &flow->units, entry)
		daedalus_flow_end_unit(flow, unit, true);
	flow->ops->lost(flow);
	daedalus_flow_tick(flow, false);
}

/* --- the worker's end --- */

/**
 * daedalus_flow_lose_worker() - end the session's worker
 * @flow: the session's scheduler
 * @worker: the worker; nothing happens if the session has another one
 * @kill: kill its process, too
 *
 * Units that it has read are lost; raw buffers and the other units wait for the next worker.
 *
 * Context: takes &daedalus_flow.revoke_lock and session->lock.
 */
void daedalus_flow_lose_worker(struct daedalus_flow *flow, struct daedalus_worker *worker,
			       bool kill)
{
	struct daedalus_session *session = &flow->session;
	struct daedalus_unit *unit, *next;

	mutex_lock(&flow->revoke_lock);
	spin_lock(&session->lock);
	if (session->worker != worker) {
		spin_unlock(&session->lock);
		mutex_unlock(&flow->revoke_lock);
		return;
	}
	if (kill)
		daedalus_worker_kill(worker);
	daedalus_worker_end(worker);
	/* Nothing is lent to another worker before this one has lost the memory. */
	flow->stopping++;
	session->restarts++;
	flow->lost_in_row++;
	spin_unlock(&session->lock);

	daedalus_worker_close_windows(worker);

	spin_lock(&session->lock);
	flow->stopping--;
	daedalus_flow_unlend(flow);
	flow->reclaim = false;
	flow->flush = false;
	flow->go_on = false;
	wake_up(&flow->reclaim_wq);
	list_for_each_entry_safe(unit, next, &flow->units, entry)
		if (unit->handed)
			daedalus_flow_end_unit(flow, unit, true);
	if (flow->drain == DAEDALUS_DRAIN_HANDED)
		flow->drain = DAEDALUS_DRAIN_WANTED;
	/* The next worker would have nothing to drain. */
	if (daedalus_flow_may_drain(flow))
		daedalus_flow_end_drain(flow);
	if (daedalus_flow_wants_worker(flow)) {
		if (flow->lost_in_row > MAX_RESTARTS) {
			dev_err_ratelimited(session->dev->parent,
					    "session %llu: %u workers lost in a row, given up\n",
					    session->id, flow->lost_in_row);
			session_lost(flow);
		} else {
			daedalus_want_worker(session);
		}
	}
	daedalus_flow_tick(flow, true);
	spin_unlock(&session->lock);
	mutex_unlock(&flow->revoke_lock);
}

static void watchdog_work(struct work_struct *work)
{
	struct daedalus_flow *flow = container_of(to_delayed_work(work), struct daedalus_flow,
						  watchdog);
	struct daedalus_session *session = &flow->session;
	struct daedalus_worker *worker = NULL;

	spin_lock(&session->lock);
	if (!owes(flow)) {
		flow->ticking = false;
		goto unlock;
	}
	if (READ_ONCE(session->dev->frozen))
		flow->since = ktime_get();
	if (left_ms(flow) > 0) {
		mod_delayed_work(session->dev->wq, &flow->watchdog,
				 msecs_to_jiffies(left_ms(flow)) + 1);
		goto unlock;
	}
	worker = session->worker;
	if (!worker) {
		dev_err_ratelimited(session->dev->parent, "session %llu: no worker within %u ms\n",
				    session->id, daedalus_worker_wait_ms);
		session_lost(flow);
		goto unlock;
	}
	if (!daedalus_worker_started(worker) && flow->lost_in_row < MAX_RESTARTS) {
		flow->lost_in_row++;
		daedalus_flow_tick(flow, true);
		worker = NULL;
		goto unlock;
	}
	dev_err_ratelimited(session->dev->parent,
			    "session %llu: no progress within %u ms, %u units handed out\n",
			    session->id, daedalus_watchdog_ms, flow->handed);
	daedalus_worker_get(worker);
unlock:
	spin_unlock(&session->lock);
	if (worker) {
		daedalus_flow_lose_worker(flow, worker, true);
		daedalus_worker_put(worker);
	}
}

/* --- functions for the face --- */

/**
 * daedalus_flow_add_unit() - add an OUTPUT buffer
 * @flow: the session's scheduler; hands it out after daedalus_flow_release()
 * @unit: with its memory and its message
 *
 * Context: session->lock is held.
 */
void daedalus_flow_add_unit(struct daedalus_flow *flow, struct daedalus_unit *unit)
{
	lockdep_assert_held(&flow->session.lock);
	unit->handed = false;
	unit->held = true;
	unit->msg.msg.type = DAEDALUS_MSG_CODED;
	unit->msg.msg.size = sizeof(unit->msg);
	unit->msg.unit = ++flow->next_unit;
	list_add_tail(&unit->entry, &flow->units);
	/* Nobody decodes for this session any more. */
	if (flow->lost)
		daedalus_flow_end_unit(flow, unit, true);
}

/**
 * daedalus_flow_add_raw() - add a CAPTURE buffer
 * @flow: the session's scheduler; lends it after daedalus_flow_release()
 * @raw: with its memory and its message
 *
 * Context: session->lock is held.
 */
void daedalus_flow_add_raw(struct daedalus_flow *flow, struct daedalus_lend *raw)
{
	lockdep_assert_held(&flow->session.lock);
	raw->lent = false;
	raw->held = true;
	raw->revoked = false;
	raw->msg.msg.type = DAEDALUS_MSG_RAW;
	raw->msg.msg.size = sizeof(raw->msg);
	raw->msg.raw = ++flow->next_raw;
	list_add_tail(&raw->entry, &flow->raws);
}

/**
 * daedalus_flow_release() - hold no buffer any more
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 */
void daedalus_flow_release(struct daedalus_flow *flow)
{
	struct daedalus_unit *unit;
	struct daedalus_lend *raw;

	lockdep_assert_held(&flow->session.lock);
	/* The last ones were queued last. */
	list_for_each_entry_reverse(unit, &flow->units, entry) {
		if (!unit->held)
			break;
		unit->held = false;
	}
	list_for_each_entry_reverse(raw, &flow->raws, entry) {
		if (!raw->held)
			break;
		raw->held = false;
	}
	daedalus_flow_update(flow);
}

/**
 * daedalus_flow_restart() - begin with another coded format
 * @flow: the session's scheduler, whose queues have no buffers
 *
 * Context: session->lock is held.
 */
void daedalus_flow_restart(struct daedalus_flow *flow)
{
	lockdep_assert_held(&flow->session.lock);
	flow->has_format = false;
	flow->waiting = false;
	flow->go_on = false;
	flow->started = false;
	flow->headers_size = 0;
	daedalus_flow_update(flow);
}

/**
 * daedalus_flow_start() - ask for a worker when a queue begins to stream
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 */
void daedalus_flow_start(struct daedalus_flow *flow)
{
	struct daedalus_session *session = &flow->session;

	lockdep_assert_held(&session->lock);
	if (!flow->active && !flow->lost && !session->worker) {
		flow->lost_in_row = 0;
		daedalus_want_worker(session);
	}
	flow->active = true;
	daedalus_flow_update(flow);
}

/**
 * daedalus_flow_drain() - have the worker output all pictures of the units so far
 * @flow: the session's scheduler, without a drain
 *
 * Context: session->lock is held.
 */
void daedalus_flow_drain(struct daedalus_flow *flow)
{
	lockdep_assert_held(&flow->session.lock);
	flow->drain = DAEDALUS_DRAIN_WANTED;
	flow->drain_after = flow->next_unit;
	daedalus_flow_update(flow);
}

/**
 * daedalus_flow_resume() - go on with units after a drain
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 */
void daedalus_flow_resume(struct daedalus_flow *flow)
{
	lockdep_assert_held(&flow->session.lock);
	if (flow->drain == DAEDALUS_DRAIN_OVER)
		flow->drain = DAEDALUS_DRAIN_NONE;
	daedalus_flow_update(flow);
}

/**
 * daedalus_flow_continue() - go on after a format, to which the client has adapted CAPTURE
 * @flow: the session's scheduler
 *
 * Context: session->lock is held.
 */
void daedalus_flow_continue(struct daedalus_flow *flow)
{
	lockdep_assert_held(&flow->session.lock);
	flow->waiting = false;
	flow->go_on = flow->session.worker;
	daedalus_flow_update(flow);
}

/**
 * daedalus_flow_stop_units() - give all units back, because OUTPUT stops
 * @flow: the session's scheduler
 *
 * A drain ends here. The worker forgets what it has of the units.
 *
 * Context: session->lock is held.
 */
void daedalus_flow_stop_units(struct daedalus_flow *flow)
{
	struct daedalus_unit *unit, *next;

	lockdep_assert_held(&flow->session.lock);
	flow->reading = false;
	list_for_each_entry_safe(unit, next, &flow->units, entry)
		daedalus_flow_end_unit(flow, unit, true);
	/* A worker that has not read START yet has nothing to forget. */
	flow->flush = flow->session.worker && flow->started;
	flow->go_on = false;
	if (daedalus_flow_is_draining(flow))
		daedalus_flow_end_drain(flow);
	daedalus_flow_update(flow);
}

static bool lends_imported(struct daedalus_flow *flow)
{
	struct daedalus_lend *raw;

	lockdep_assert_held(&flow->session.lock);
	list_for_each_entry(raw, &flow->raws, entry)
		if (raw->lent && daedalus_mem_imported(raw->mem[0]))
			return true;
	return false;
}

static bool reclaimed(struct daedalus_flow *flow)
{
	bool ret;

	spin_lock(&flow->session.lock);
	ret = !flow->reclaim;
	spin_unlock(&flow->session.lock);
	return ret;
}

/**
 * daedalus_flow_reclaim_imported() - give a worker time to leave imported raw buffers alone
 * @flow: the session's scheduler; hands out nothing until daedalus_flow_reclaimed()
 *
 * Context: waits up to drain_ms, so hold no lock.
 */
void daedalus_flow_reclaim_imported(struct daedalus_flow *flow)
{
	bool imported;

	spin_lock(&flow->session.lock);
	flow->stopping++;
	imported = lends_imported(flow);
	if (imported) {
		flow->reclaim = true;
		daedalus_flow_update(flow);
	}
	spin_unlock(&flow->session.lock);
	if (imported)
		wait_event_killable_timeout(flow->reclaim_wq, reclaimed(flow),
					    msecs_to_jiffies(daedalus_drain_ms) + 1);
}

/* Continues after a stop. */
static void go_on(struct daedalus_flow *flow)
{
	struct daedalus_session *session = &flow->session;

	lockdep_assert_held(&session->lock);
	if (flow->stopping)
		return;
	if (!session->worker && daedalus_flow_wants_worker(flow)) {
		if (daedalus_flow_may_drain(flow))
			daedalus_flow_end_drain(flow);
		daedalus_want_worker(session);
	}
	daedalus_flow_tick(flow, true);
	if (session->worker)
		daedalus_worker_wake(session->worker);
}

/**
 * daedalus_flow_reclaimed() - continue after daedalus_flow_reclaim_imported()
 * @flow: the session's scheduler
 */
void daedalus_flow_reclaimed(struct daedalus_flow *flow)
{
	spin_lock(&flow->session.lock);
	flow->stopping--;
	go_on(flow);
	spin_unlock(&flow->session.lock);
}

/* Takes the memory of revoked raw buffers from the worker. */
static void revoke_raws(struct daedalus_flow *flow)
{
	struct daedalus_mem *mem[DAEDALUS_MAX_PLANES];
	struct daedalus_session *session = &flow->session;
	struct daedalus_lend *raw;
	unsigned int i, num;

	lockdep_assert_held(&flow->revoke_lock);
	do {
		num = 0;
		spin_lock(&session->lock);
		list_for_each_entry(raw, &flow->raws, entry) {
			if (!raw->revoked)
				continue;
			raw->revoked = false;
			for (; num < raw->msg.num_planes; num++)
				mem[num] = daedalus_mem_get(raw->mem[num]);
			break;
		}
		spin_unlock(&session->lock);
		for (i = 0; i < num; i++) {
			daedalus_mem_revoke(mem[i]);
			daedalus_mem_put(mem[i]);
		}
	} while (num);
}

/**
 * daedalus_flow_stop_raws() - take all raw buffers from the worker, because CAPTURE stops
 * @flow: the session's scheduler
 *
 * The worker lives on, unless imported memory is lent to it. The face then gives back what is
 * in &daedalus_flow.raws.
 *
 * Context: sleeps, but waits for no user code.
 */
void daedalus_flow_stop_raws(struct daedalus_flow *flow)
{
	struct daedalus_session *session = &flow->session;
	struct daedalus_worker *killed = NULL;
	struct daedalus_unit *unit, *next;
	struct daedalus_lend *raw;

	mutex_lock(&flow->revoke_lock);
	spin_lock(&session->lock);
	flow->stopping++;
	flow->writing = false;
	if (session->worker && lends_imported(flow)) {
		killed = daedalus_worker_get(session->worker);
		daedalus_worker_kill(killed);
		daedalus_worker_end(killed);
		session->restarts++;
		list_for_each_entry_safe(unit, next, &flow->units, entry)
			if (unit->handed)
				daedalus_flow_end_unit(flow, unit, true);
		if (flow->drain == DAEDALUS_DRAIN_HANDED)
			flow->drain = DAEDALUS_DRAIN_WANTED;
		flow->flush = false;
		flow->go_on = false;
	}
	list_for_each_entry(raw, &flow->raws, entry)
		raw->revoked = raw->lent;
	daedalus_flow_unlend(flow);
	flow->reclaim = session->worker && flow->started;
	spin_unlock(&session->lock);

	if (killed) {
		daedalus_worker_close_windows(killed);
		daedalus_worker_put(killed);
	}
	revoke_raws(flow);

	spin_lock(&session->lock);
	flow->stopping--;
	spin_unlock(&session->lock);
	mutex_unlock(&flow->revoke_lock);
}

/**
 * daedalus_flow_stopped() - continue after a queue has stopped
 * @flow: the session's scheduler
 * @active: a queue streams
 */
void daedalus_flow_stopped(struct daedalus_flow *flow, bool active)
{
	struct daedalus_session *session = &flow->session;

	spin_lock(&session->lock);
	flow->active = active;
	if (!active) {
		flow->lost = false;
		daedalus_unwant_worker(session);
	}
	go_on(flow);
	spin_unlock(&session->lock);
}

/**
 * daedalus_flow_abort() - end the session's work now
 * @session: the session
 */
void daedalus_flow_abort(struct daedalus_session *session)
{
	struct daedalus_flow *flow = daedalus_session_to_flow(session);
	struct daedalus_worker *worker;

	spin_lock(&session->lock);
	/* Prevents a request for another worker. */
	flow->stopping++;
	worker = session->worker;
	if (worker)
		daedalus_worker_get(worker);
	spin_unlock(&session->lock);
	if (worker) {
		daedalus_flow_lose_worker(flow, worker, true);
		daedalus_worker_put(worker);
	}
	spin_lock(&session->lock);
	flow->stopping--;
	if (daedalus_flow_wants_worker(flow))
		session_lost(flow);
	spin_unlock(&session->lock);
	dev_info(session->dev->parent, "session %llu: aborted\n", session->id);
}

/**
 * daedalus_flow_thaw() - restart a session's clock after user space was frozen
 * @session: the session
 */
void daedalus_flow_thaw(struct daedalus_session *session)
{
	spin_lock(&session->lock);
	daedalus_flow_tick(daedalus_session_to_flow(session), true);
	spin_unlock(&session->lock);
}

static const char *state_name(struct daedalus_flow *flow)
{
	lockdep_assert_held(&flow->session.lock);
	if (flow->lost)
		return "lost";
	if (!flow->active)
		return "idle";
	if (flow->stopping || daedalus_flow_is_draining(flow))
		return "draining";
	if (flow->drain == DAEDALUS_DRAIN_OVER)
		return "stopped";
	if (!flow->session.worker)
		return "waiting";
	if (flow->waiting)
		return "format";
	return flow->has_format ? "streaming" : "parsing";
}

/**
 * daedalus_flow_status() - describe a session
 * @flow: its scheduler
 * @status: in: zero; out: the members that the scheduler knows
 */
void daedalus_flow_status(struct daedalus_flow *flow, struct daedalus_session_status *status)
{
	struct daedalus_session *session = &flow->session;

	spin_lock(&session->lock);
	status->state = state_name(flow);
	status->handed = flow->handed;
	status->claimed = list_count_nodes(&flow->units) - flow->handed;
	status->done = flow->done;
	status->failed = flow->failed;
	if (session->worker)
		status->worker = daedalus_worker_pid(session->worker);
	if (flow->ticking)
		status->oldest_ms = ktime_ms_delta(ktime_get(), flow->since);
	spin_unlock(&session->lock);
}

/**
 * daedalus_flow_init() - initialise a scheduler
 * @flow: the scheduler, whose session is initialised
 * @ops: the face's operations
 */
void daedalus_flow_init(struct daedalus_flow *flow, const struct daedalus_flow_ops *ops)
{
	flow->ops = ops;
	INIT_LIST_HEAD(&flow->units);
	INIT_LIST_HEAD(&flow->raws);
	mutex_init(&flow->revoke_lock);
	init_waitqueue_head(&flow->reclaim_wq);
	INIT_DELAYED_WORK(&flow->watchdog, watchdog_work);
}

/**
 * daedalus_flow_exit() - end a scheduler
 * @flow: the scheduler, with neither a unit nor a raw buffer nor a worker
 *
 * The session fd of a dismissed worker may be closed later, which takes @flow->revoke_lock.
 *
 * Context: waits for the watchdog.
 */
void daedalus_flow_exit(struct daedalus_flow *flow)
{
	cancel_delayed_work_sync(&flow->watchdog);
	WARN_ON(!list_empty(&flow->units) || !list_empty(&flow->raws));
	kfree(flow->headers);
}
