// SPDX-License-Identifier: GPL-2.0
/*
 * The scheduler: from submitted jobs to finished ones.
 *
 * A job's life
 *	The face submits it: *claimed*. The worker reads it: *handed*. The worker
 *	answers it: *ended*. Or it is cancelled: *revoked* until its CAPTURE memory is
 *	taken from the worker, then ended. Jobs finish strictly in order, so one that
 *	ended early waits.
 *
 * Who ends a job
 *	Exactly one of these ends a job: the worker's answer, the loss of the worker,
 *	the watchdog, a stopped queue, an abort from debugfs. Each acts under
 *	session->lock and only on a job that is claimed or handed, so no two can.
 *
 * Revocation
 *	Whoever cancels a handed job holds revoke_lock, marks the job as revoked, drops
 *	session->lock to take the memory from the worker, and only then gives the
 *	buffers back. So nothing of a cancelled picture reaches a buffer that the client
 *	has. Imported memory cannot be revoked: a stop gives the worker drain_ms, before
 *	any lock, and then kills it.
 *
 * The oldest job's time
 *	A job ends at most watchdog_ms after it became the oldest one, however many
 *	workers were lost over it: clients get each buffer back in bounded time. The
 *	watchdog kills a worker that has read the job, and one that has stopped reading.
 *	It spares, a few times, one that has not attached itself and is still starting.
 *	If jobs wait and no worker comes for worker_wait_ms, the session is lost. While
 *	user space is frozen, the clock stands still.
 *
 * Locks, outermost first
 *	the media device's req_queue_mutex	(core; STREAMON/OFF, REQBUFS, queueing,
 *			closing)
 *	ctx->lock	(face) both vb2 queues and the formats
 *	revoke_lock
 *	memory's mutexes
 *	session->lock	spinlock
 *	dev->demand_lock, pool->lock, vb2's done_lock, wait queues
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "daedalus_compat.h"
#include "daedalus_memory.h"
#include "daedalus_sched.h"
#include "daedalus_worker.h"

#define CREATE_TRACE_POINTS
#include "daedalus_trace.h"

#define MAX_RESTARTS	5U	/* workers lost in a row without an answered job */

static struct daedalus_sched *to_sched(struct daedalus_session *session)
{
	return container_of(session, struct daedalus_sched, session);
}

static s64 since_ms(ktime_t then)
{
	return ktime_ms_delta(ktime_get(), then);
}

static bool nobody_came(struct daedalus_sched *sched)
{
	lockdep_assert_held(&sched->session.lock);
	return !sched->session.worker && since_ms(sched->alone_since) >= daedalus_worker_wait_ms;
}

/* Returns the time that the oldest job has left; at 0 or less its time is over. */
static s64 left_ms(struct daedalus_sched *sched)
{
	s64 left = daedalus_watchdog_ms - since_ms(sched->head_since);

	lockdep_assert_held(&sched->session.lock);
	if (!sched->session.worker)
		left = min(left, daedalus_worker_wait_ms - since_ms(sched->alone_since));
	return left;
}

static void watchdog_arm(struct daedalus_sched *sched)
{
	mod_delayed_work(sched->session.dev->wq, &sched->watchdog,
			 msecs_to_jiffies(max(left_ms(sched), 0)) + 1);
}

/**
 * daedalus_job_create() - create a job, or reuse a spare one
 * @sched: the session's scheduler
 *
 * Context: sleeps.
 * Return: the job, or NULL.
 */
struct daedalus_job *daedalus_job_create(struct daedalus_sched *sched)
{
	struct daedalus_job *job;

	spin_lock(&sched->session.lock);
	job = list_first_entry_or_null(&sched->spare, struct daedalus_job, entry);
	if (job)
		list_del_init(&job->entry);
	spin_unlock(&sched->session.lock);
	if (!job) {
		job = kzalloc_obj(*job);
		if (!job)
			return NULL;
		INIT_LIST_HEAD(&job->entry);
	}
	refcount_set(&job->ref, 1);
	job->state = DAEDALUS_JOB_CLAIMED;
	job->failed = false;
	job->prepared = false;
	job->cancelled = false;
	job->num_raw = 0;
	job->msg_size = 0;
	return job;
}

/**
 * daedalus_job_put() - drop a reference
 * @sched: the session's scheduler, which keeps the memory for the next job
 * @job: the job
 *
 * Context: session->lock is held.
 */
void daedalus_job_put(struct daedalus_sched *sched, struct daedalus_job *job)
{
	lockdep_assert_held(&sched->session.lock);
	if (refcount_dec_and_test(&job->ref))
		list_add(&job->entry, &sched->spare);
}

/**
 * daedalus_job_reserve() - make room in a job's message
 * @job: a job that is not submitted
 * @size: required bytes of the message; its contents are kept
 *
 * Return: 0; -E2BIG; -ENOMEM.
 */
int daedalus_job_reserve(struct daedalus_job *job, u32 size)
{
	u32 alloc = ALIGN(size, SZ_4K);
	void *msg;

	if (size > DAEDALUS_MSG_LIMIT)
		return -E2BIG;
	if (size <= job->msg_alloc)
		return 0;
	msg = kvmalloc(alloc, GFP_KERNEL_ACCOUNT);
	if (!msg)
		return -ENOMEM;
	memcpy(msg, job->msg, job->msg_size);
	kvfree(job->msg);
	job->msg = msg;
	job->msg_alloc = alloc;
	return 0;
}

static struct daedalus_job *oldest_job(struct daedalus_sched *sched)
{
	lockdep_assert_held(&sched->session.lock);
	return list_first_entry_or_null(&sched->jobs, struct daedalus_job, entry);
}

/* Finishes, in order, the jobs that have ended. */
static void finish_ended(struct daedalus_sched *sched)
{
	struct daedalus_job *job;
	bool any = false;

	while ((job = oldest_job(sched)) && job->state == DAEDALUS_JOB_ENDED) {
		list_del_init(&job->entry);
		trace_daedalus_job_end(sched->session.id, job->id, job->failed);
		if (job->failed)
			sched->failed++;
		else
			sched->done++;
		sched->ops->finish(sched, job);
		daedalus_job_put(sched, job);
		any = true;
	}
	if (!any)
		return;
	sched->head_since = ktime_get();
	wake_up(&sched->drain_wq);
}

static void set_state(struct daedalus_sched *sched, struct daedalus_job *job,
		      enum daedalus_job_state state)
{
	lockdep_assert_held(&sched->session.lock);
	if (job->state == DAEDALUS_JOB_HANDED && !--sched->handed)
		atomic_dec(&sched->session.dev->busy);
	job->state = state;
}

/* Cancels every job that the worker has. */
static void revoke_handed(struct daedalus_sched *sched)
{
	struct daedalus_job *job;

	lockdep_assert_held(&sched->revoke_lock);
	list_for_each_entry(job, &sched->jobs, entry) {
		if (job->state != DAEDALUS_JOB_HANDED)
			continue;
		set_state(sched, job, DAEDALUS_JOB_REVOKED);
		job->failed = true;
		job->shut = false;
	}
}

/* Takes the CAPTURE memory of revoked jobs from the worker. */
static void shut_revoked(struct daedalus_sched *sched)
{
	struct daedalus_mem *raw[DAEDALUS_MAX_PLANES];
	struct daedalus_session *session = &sched->session;
	unsigned int i, num_raw;
	struct daedalus_job *job;

	lockdep_assert_held(&sched->revoke_lock);
	do {
		num_raw = 0;
		spin_lock(&session->lock);
		list_for_each_entry(job, &sched->jobs, entry) {
			if (job->state != DAEDALUS_JOB_REVOKED || job->shut)
				continue;
			job->shut = true;
			for (; num_raw < job->num_raw; num_raw++)
				raw[num_raw] = daedalus_mem_get(job->raw[num_raw]);
			break;
		}
		spin_unlock(&session->lock);
		for (i = 0; i < num_raw; i++) {
			daedalus_mem_revoke(raw[i]);
			daedalus_mem_put(raw[i]);
		}
	} while (num_raw);
}

/* Ends the revoked jobs. */
static void end_revoked(struct daedalus_sched *sched)
{
	struct daedalus_job *job;

	lockdep_assert_held(&sched->revoke_lock);
	list_for_each_entry(job, &sched->jobs, entry)
		if (job->state == DAEDALUS_JOB_REVOKED)
			set_state(sched, job, DAEDALUS_JOB_ENDED);
	finish_ended(sched);
}

static void session_lost(struct daedalus_sched *sched)
{
	struct daedalus_job *job;

	lockdep_assert_held(&sched->session.lock);
	sched->lost = true;
	daedalus_unwant_worker(&sched->session);
	list_for_each_entry(job, &sched->jobs, entry) {
		if (job->state != DAEDALUS_JOB_CLAIMED)
			continue;
		set_state(sched, job, DAEDALUS_JOB_ENDED);
		job->failed = true;
	}
	finish_ended(sched);
	sched->ops->lost(sched);
}

/* Tells whether the session should have a worker now. */
static bool should_have_worker(struct daedalus_sched *sched)
{
	lockdep_assert_held(&sched->session.lock);
	return sched->active && !sched->lost && !sched->draining;
}

/*
 * Ends the session's worker. Jobs that it has read are lost; the others wait for the next
 * worker. Returns false if @worker is no longer the session's worker.
 */
static bool lose_worker(struct daedalus_sched *sched, struct daedalus_worker *worker, bool kill)
{
	struct daedalus_session *session = &sched->session;

	mutex_lock(&sched->revoke_lock);
	spin_lock(&session->lock);
	if (session->worker != worker) {
		spin_unlock(&session->lock);
		mutex_unlock(&sched->revoke_lock);
		return false;
	}
	if (kill)
		daedalus_worker_kill(worker);
	daedalus_worker_end(worker);
	revoke_handed(sched);
	session->restarts++;
	sched->lost_in_row++;
	spin_unlock(&session->lock);

	daedalus_worker_close_windows(worker);
	shut_revoked(sched);

	spin_lock(&session->lock);
	end_revoked(sched);
	if (should_have_worker(sched) && !session->worker) {
		if (sched->lost_in_row > MAX_RESTARTS) {
			dev_err_ratelimited(session->dev->parent,
					    "session %llu: %u workers lost in a row, given up\n",
					    session->id, sched->lost_in_row);
			session_lost(sched);
		} else {
			daedalus_want_worker(session);
			if (!list_empty(&sched->jobs)) {
				sched->alone_since = ktime_get();
				watchdog_arm(sched);
			}
		}
	}
	spin_unlock(&session->lock);
	mutex_unlock(&sched->revoke_lock);
	return true;
}

static void watchdog_work(struct work_struct *work)
{
	struct daedalus_sched *sched = container_of(to_delayed_work(work), struct daedalus_sched,
						    watchdog);
	struct daedalus_session *session = &sched->session;
	struct daedalus_worker *worker = NULL;
	struct daedalus_job *job;

	spin_lock(&session->lock);
	job = oldest_job(sched);
	if (!job || sched->draining)
		goto unlock;
	if (READ_ONCE(session->dev->frozen)) {
		sched->head_since = ktime_get();
		sched->alone_since = sched->head_since;
	}
	if (left_ms(sched) > 0)
		goto rearm;
	if (nobody_came(sched)) {
		dev_err_ratelimited(session->dev->parent,
				    "session %llu: no worker within %lld ms\n", session->id,
				    since_ms(sched->alone_since));
		session_lost(sched);
		goto unlock;
	}
	dev_err_ratelimited(session->dev->parent,
			    "session %llu: job %llu not %s within %lld ms\n", session->id, job->id,
			    job->state == DAEDALUS_JOB_CLAIMED ? "read" : "answered",
			    since_ms(sched->head_since));
	if (job->state == DAEDALUS_JOB_CLAIMED) {
		set_state(sched, job, DAEDALUS_JOB_ENDED);
		job->failed = true;
		finish_ended(sched);
	}
	worker = session->worker;
	if (worker && !daedalus_worker_started(worker) && sched->lost_in_row < MAX_RESTARTS) {
		sched->lost_in_row++;
		worker = NULL;
	}
	if (worker)
		daedalus_worker_get(worker);
rearm:
	if (oldest_job(sched))
		watchdog_arm(sched);
unlock:
	spin_unlock(&session->lock);
	if (worker) {
		lose_worker(sched, worker, true);
		daedalus_worker_put(worker);
	}
}

/* --- operations for workers --- */

static bool wants_worker(struct daedalus_session *session)
{
	return should_have_worker(to_sched(session));
}

static void worker_seated(struct daedalus_session *session)
{
	daedalus_unwant_worker(session);
}

static struct daedalus_job *next_job(struct daedalus_sched *sched)
{
	struct daedalus_job *job;

	lockdep_assert_held(&sched->session.lock);
	if (sched->draining)
		return NULL;
	list_for_each_entry(job, &sched->jobs, entry)
		if (job->state == DAEDALUS_JOB_CLAIMED)
			return job;
	return NULL;
}

static bool worker_pending(struct daedalus_session *session)
{
	return next_job(to_sched(session));
}

static void count_busy(struct daedalus_dev *dev)
{
	int busy = atomic_inc_return(&dev->busy);
	int peak = atomic_read(&dev->busy_peak);

	while (busy > peak && !atomic_try_cmpxchg(&dev->busy_peak, &peak, busy))
		;
}

static ssize_t worker_next(struct daedalus_session *session, void *buffer, size_t room,
			   size_t limit)
{
	struct daedalus_sched *sched = to_sched(session);
	struct daedalus_msg_job *msg = buffer;
	struct daedalus_job *job;
	unsigned int i;

	while ((job = next_job(sched)) && job->msg_size > limit) {
		set_state(sched, job, DAEDALUS_JOB_ENDED);
		job->failed = true;
		finish_ended(sched);
	}
	if (!job)
		return -EAGAIN;
	if (job->msg_size > room)
		return -EMSGSIZE;
	memcpy(buffer, job->msg, job->msg_size);
	/* Not earlier: a plane gets another id when it is revoked. */
	msg->coded.buffer = daedalus_mem_id(job->coded);
	for (i = 0; i < job->num_raw; i++)
		msg->raw[i].buffer = daedalus_mem_id(job->raw[i]);
	trace_daedalus_job_hand(session->id, job->id);
	job->state = DAEDALUS_JOB_HANDED;
	if (!sched->handed++)
		count_busy(session->dev);
	return job->msg_size;
}

static struct daedalus_job *handed_job(struct daedalus_sched *sched,
				       struct daedalus_worker *worker, u64 id)
{
	struct daedalus_job *job;

	lockdep_assert_held(&sched->session.lock);
	if (sched->session.worker != worker)
		return NULL;
	list_for_each_entry(job, &sched->jobs, entry)
		if (job->id == id && job->state == DAEDALUS_JOB_HANDED)
			return job;
	return NULL;
}

static int worker_done(struct daedalus_session *session, struct daedalus_worker *worker, u64 id,
		       bool failed)
{
	struct daedalus_mem *attached[DAEDALUS_MAX_PLANES];
	struct daedalus_sched *sched = to_sched(session);
	unsigned int i, num_attached = 0;
	struct daedalus_job *job;

	spin_lock(&session->lock);
	job = handed_job(sched, worker, id);
	for (i = 0; job && i < job->num_raw; i++)
		if (daedalus_mem_attached(job->raw[i]))
			attached[num_attached++] = daedalus_mem_get(job->raw[i]);
	if (num_attached) {
		spin_unlock(&session->lock);
		for (i = 0; i < num_attached; i++) {
			daedalus_mem_clean(attached[i]);
			daedalus_mem_put(attached[i]);
		}
		spin_lock(&session->lock);
		/* It may have been cancelled meanwhile. */
		job = handed_job(sched, worker, id);
	}
	if (job) {
		sched->lost_in_row = 0;
		set_state(sched, job, DAEDALUS_JOB_ENDED);
		job->failed |= failed;
		finish_ended(sched);
	}
	spin_unlock(&session->lock);
	return job ? 0 : -ENOENT;
}

static void worker_lost(struct daedalus_session *session, struct daedalus_worker *worker)
{
	lose_worker(to_sched(session), worker, false);
}

static const struct daedalus_worker_ops worker_ops = {
	.wants = wants_worker,
	.seated = worker_seated,
	.pending = worker_pending,
	.next = worker_next,
	.done = worker_done,
	.lost = worker_lost,
};

/* --- functions for faces --- */

/**
 * daedalus_sched_submit() - add a job
 * @sched: the session's scheduler
 * @job: a claimed job, or an ended one that waits for its turn; the scheduler takes
 *	over the caller's reference
 *
 * Context: session->lock is held.
 */
void daedalus_sched_submit(struct daedalus_sched *sched, struct daedalus_job *job)
{
	struct daedalus_session *session = &sched->session;

	lockdep_assert_held(&session->lock);
	if (list_empty(&sched->jobs)) {
		sched->head_since = ktime_get();
		sched->alone_since = sched->head_since;
		if (!delayed_work_pending(&sched->watchdog))
			watchdog_arm(sched);
	}
	/* The session may be lost meanwhile: no worker comes for the job. */
	if (sched->lost && job->state == DAEDALUS_JOB_CLAIMED) {
		job->state = DAEDALUS_JOB_ENDED;
		job->failed = true;
	}
	list_add_tail(&job->entry, &sched->jobs);
	if (job->state == DAEDALUS_JOB_ENDED)
		finish_ended(sched);
	else if (session->worker)
		daedalus_worker_wake(session->worker);
}

/**
 * daedalus_sched_start() - ask for a worker when a queue begins to stream
 * @sched: the session's scheduler
 */
void daedalus_sched_start(struct daedalus_sched *sched)
{
	struct daedalus_session *session = &sched->session;

	spin_lock(&session->lock);
	if (!sched->active && !sched->lost && !session->worker) {
		sched->lost_in_row = 0;
		daedalus_want_worker(session);
	}
	sched->active = true;
	spin_unlock(&session->lock);
}

static bool worker_writes_imported(struct daedalus_sched *sched)
{
	struct daedalus_job *job;

	lockdep_assert_held(&sched->session.lock);
	list_for_each_entry(job, &sched->jobs, entry)
		if ((job->state == DAEDALUS_JOB_HANDED || job->state == DAEDALUS_JOB_REVOKED) &&
		    job->num_raw && daedalus_mem_imported(job->raw[0]))
			return true;
	return false;
}

static bool no_imported_handed(struct daedalus_sched *sched)
{
	bool ret;

	spin_lock(&sched->session.lock);
	ret = !worker_writes_imported(sched);
	spin_unlock(&sched->session.lock);
	return ret;
}

/**
 * daedalus_sched_drain_imported() - give a worker time to finish pictures in imported memory
 * @sched: the session's scheduler; hands out no job until daedalus_sched_undrain()
 *
 * Imported memory cannot be taken from the worker.
 *
 * Context: waits up to drain_ms, so hold no lock.
 */
void daedalus_sched_drain_imported(struct daedalus_sched *sched)
{
	spin_lock(&sched->session.lock);
	sched->draining++;
	spin_unlock(&sched->session.lock);
	wait_event_killable_timeout(sched->drain_wq, no_imported_handed(sched),
				    msecs_to_jiffies(daedalus_drain_ms) + 1);
}

/* Continues after a stop. */
static void resume(struct daedalus_sched *sched)
{
	struct daedalus_session *session = &sched->session;

	lockdep_assert_held(&session->lock);
	if (sched->draining)
		return;
	if (session->worker) {
		daedalus_worker_wake(session->worker);
	} else if (should_have_worker(sched)) {
		sched->alone_since = ktime_get();
		daedalus_want_worker(session);
	}
	if (oldest_job(sched))
		watchdog_arm(sched);
}

/**
 * daedalus_sched_undrain() - continue after daedalus_sched_drain_imported()
 * @sched: the session's scheduler
 */
void daedalus_sched_undrain(struct daedalus_sched *sched)
{
	spin_lock(&sched->session.lock);
	sched->draining--;
	resume(sched);
	spin_unlock(&sched->session.lock);
}

/**
 * daedalus_sched_stop() - end or requeue all jobs, because a queue stops
 * @sched: the session's scheduler; hands out no job until daedalus_sched_stopped()
 *
 * Jobs that the worker has end with an error; the others are requeued. The worker gets a
 * reset message and lives on, unless it writes to imported memory.
 *
 * Context: sleeps, but waits for no user code.
 */
void daedalus_sched_stop(struct daedalus_sched *sched)
{
	struct daedalus_session *session = &sched->session;
	struct daedalus_worker *killed = NULL;
	struct daedalus_job *job, *previous;

	mutex_lock(&sched->revoke_lock);
	spin_lock(&session->lock);
	sched->draining++;
	daedalus_unwant_worker(session);
	revoke_handed(sched);
	if (session->worker && worker_writes_imported(sched)) {
		dev_dbg(session->dev->parent, "session %llu: worker still writing, killed\n",
			session->id);
		killed = daedalus_worker_get(session->worker);
		daedalus_worker_kill(killed);
		daedalus_worker_end(killed);
		session->restarts++;
	}
	spin_unlock(&session->lock);

	if (killed) {
		daedalus_worker_close_windows(killed);
		daedalus_worker_put(killed);
	}
	shut_revoked(sched);

	spin_lock(&session->lock);
	end_revoked(sched);
	list_for_each_entry_safe_reverse(job, previous, &sched->jobs, entry) {
		if (job->state != DAEDALUS_JOB_CLAIMED)
			continue;
		list_del_init(&job->entry);
		sched->ops->requeue(sched, job);
	}
	finish_ended(sched);
	if (session->worker)
		daedalus_worker_reset(session->worker);
	spin_unlock(&session->lock);
	mutex_unlock(&sched->revoke_lock);
}

/**
 * daedalus_sched_stopped() - continue after a queue has stopped
 * @sched: the session's scheduler
 * @active: the other queue streams
 */
void daedalus_sched_stopped(struct daedalus_sched *sched, bool active)
{
	spin_lock(&sched->session.lock);
	sched->draining--;
	sched->active = active;
	if (!active)
		sched->lost = false;
	resume(sched);
	spin_unlock(&sched->session.lock);
}

/**
 * daedalus_sched_abort() - end the session's work now
 * @session: the session
 *
 * A session that is being stopped ends its jobs itself.
 */
void daedalus_sched_abort(struct daedalus_session *session)
{
	struct daedalus_sched *sched = to_sched(session);
	struct daedalus_worker *worker;

	spin_lock(&session->lock);
	/* Prevents a request for another worker. */
	sched->draining++;
	worker = session->worker;
	if (worker)
		daedalus_worker_get(worker);
	spin_unlock(&session->lock);
	if (worker) {
		lose_worker(sched, worker, true);
		daedalus_worker_put(worker);
	}
	spin_lock(&session->lock);
	sched->draining--;
	if (should_have_worker(sched))
		session_lost(sched);
	spin_unlock(&session->lock);
	dev_info(session->dev->parent, "session %llu: aborted\n", session->id);
}

/**
 * daedalus_sched_thaw() - restart a session's clock after user space was frozen
 * @session: the session
 */
void daedalus_sched_thaw(struct daedalus_session *session)
{
	struct daedalus_sched *sched = to_sched(session);

	spin_lock(&session->lock);
	sched->head_since = ktime_get();
	sched->alone_since = sched->head_since;
	spin_unlock(&session->lock);
}

static const char *state_name(struct daedalus_sched *sched)
{
	lockdep_assert_held(&sched->session.lock);
	if (sched->draining)
		return "draining";
	if (sched->lost)
		return "lost";
	if (!sched->active)
		return "idle";
	return sched->session.worker ? "streaming" : "waiting";
}

/**
 * daedalus_sched_status() - describe a session
 * @session: the session
 * @status: in: zero; out: the members that the scheduler knows
 *
 * Context: session->lock is held.
 */
void daedalus_sched_status(struct daedalus_session *session,
			   struct daedalus_session_status *status)
{
	struct daedalus_sched *sched = to_sched(session);
	struct daedalus_job *job;

	lockdep_assert_held(&session->lock);
	list_for_each_entry(job, &sched->jobs, entry)
		status->claimed += job->state == DAEDALUS_JOB_CLAIMED;
	status->handed = sched->handed;
	status->done = sched->done;
	status->failed = sched->failed;
	status->state = state_name(sched);
	if (session->worker)
		status->worker = daedalus_worker_pid(session->worker);
	if (oldest_job(sched))
		status->oldest_ms = since_ms(sched->head_since);
}

/**
 * daedalus_sched_init() - initialise a scheduler
 * @sched: the scheduler, whose session is initialised
 * @ops: the face's operations
 */
void daedalus_sched_init(struct daedalus_sched *sched, const struct daedalus_sched_ops *ops)
{
	sched->ops = ops;
	sched->session.worker_ops = &worker_ops;
	INIT_LIST_HEAD(&sched->jobs);
	INIT_LIST_HEAD(&sched->spare);
	mutex_init(&sched->revoke_lock);
	init_waitqueue_head(&sched->drain_wq);
	INIT_DELAYED_WORK(&sched->watchdog, watchdog_work);
}

/**
 * daedalus_sched_exit() - end a scheduler
 * @sched: the scheduler, without jobs and without a worker
 *
 * Context: waits for the watchdog.
 */
void daedalus_sched_exit(struct daedalus_sched *sched)
{
	struct daedalus_job *job, *next;

	cancel_delayed_work_sync(&sched->watchdog);
	WARN_ON(!list_empty(&sched->jobs));
	list_for_each_entry_safe(job, next, &sched->spare, entry) {
		kvfree(job->msg);
		kfree(job);
	}
}
