/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The scheduler: jobs between the face that submits them and the worker that answers
 * them, the clock, and who ends a job.
 */
#ifndef DAEDALUS_SCHED_H
#define DAEDALUS_SCHED_H

#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/workqueue.h>

#include "daedalus_core.h"

struct daedalus_buf;
struct daedalus_mem;
struct daedalus_sched;

enum daedalus_job_state {
	DAEDALUS_JOB_CLAIMED,	/* waits for the worker to read it */
	DAEDALUS_JOB_HANDED,	/* the worker has read it */
	DAEDALUS_JOB_REVOKED,	/* given up; its memory is being taken from the worker */
	DAEDALUS_JOB_ENDED,	/* waits for older jobs to end */
};

/**
 * struct daedalus_job - one coded buffer to decode
 * @entry: in &daedalus_sched.jobs
 * @ref: the face may keep a job that is not submitted; a submitted one must not vanish
 * @id: unique within the session
 * @state: see enum daedalus_job_state
 * @failed: it ends with an error
 * @shut: REVOKED: the worker does not see its CAPTURE memory any more
 * @prepared: for the face: the message has the controls
 * @cancelled: for the face: cancelled before it was submitted
 * @same_capture: for the face: it decodes into the buffer of the job before
 * @src: the face's OUTPUT buffer
 * @dst: the face's CAPTURE buffer
 * @coded: memory of OUTPUT; valid while the job is submitted, as is @raw
 * @raw: memory planes of CAPTURE
 * @num_raw: number of @raw
 * @msg: the message that the worker reads, except the planes' ids
 * @msg_size: bytes of @msg in use
 * @msg_alloc: bytes of @msg
 */
struct daedalus_job {
	struct list_head entry;
	refcount_t ref;
	u64 id;
	enum daedalus_job_state state;
	bool failed;
	bool shut;
	bool prepared;
	bool cancelled;
	bool same_capture;
	struct daedalus_buf *src;
	struct daedalus_buf *dst;
	struct daedalus_mem *coded;
	struct daedalus_mem *raw[DAEDALUS_MAX_PLANES];
	unsigned int num_raw;
	void *msg;
	u32 msg_size;
	u32 msg_alloc;
};

/**
 * struct daedalus_sched_ops - a face's operations, called with session->lock held
 * @finish: gives a job's buffers back; the job and all before it have ended
 * @requeue: takes back a job that no worker has read, because a queue stops. Called
 *	from the youngest job to the oldest.
 * @lost: reports that nobody can decode for this session any more
 */
struct daedalus_sched_ops {
	void (*finish)(struct daedalus_sched *sched, struct daedalus_job *job);
	void (*requeue)(struct daedalus_sched *sched, struct daedalus_job *job);
	void (*lost)(struct daedalus_sched *sched);
};

/**
 * struct daedalus_sched - a session's scheduler
 * @session: the session; its lock guards the other members, except @revoke_lock
 * @ops: the face's operations
 * @watchdog: ends the oldest job when its time is over
 * @revoke_lock: held from the revocation of jobs until their buffers are back;
 *	outside session->lock
 * @active: a queue streams
 * @lost: no worker came; cleared when all queues are stopped
 * @draining: number of calls that stop a queue now; no job is handed meanwhile
 * @jobs: submitted jobs, oldest first
 * @spare: jobs to use again
 * @drain_wq: woken when jobs end
 * @head_since: when the oldest job became the oldest
 * @alone_since: when the first job began to wait, or when the last worker was lost
 * @handed: jobs that the worker has read and not answered
 * @lost_in_row: workers lost, or late to start, since a job was last answered
 * @next_job: the last job's id
 * @done: jobs that ended well
 * @failed: jobs that ended with an error
 */
struct daedalus_sched {
	struct daedalus_session session;
	const struct daedalus_sched_ops *ops;
	struct delayed_work watchdog;
	struct mutex revoke_lock;	/* revoked jobs */
	bool active;
	bool lost;
	unsigned int draining;
	struct list_head jobs;
	struct list_head spare;
	wait_queue_head_t drain_wq;
	ktime_t head_since;
	ktime_t alone_since;
	unsigned int handed;
	u32 lost_in_row;
	u64 next_job;
	u64 done;
	u64 failed;
};

void daedalus_sched_init(struct daedalus_sched *sched, const struct daedalus_sched_ops *ops);
void daedalus_sched_exit(struct daedalus_sched *sched);
struct daedalus_job *daedalus_job_create(struct daedalus_sched *sched);
void daedalus_job_put(struct daedalus_sched *sched, struct daedalus_job *job);
int daedalus_job_reserve(struct daedalus_job *job, u32 size);
void daedalus_sched_submit(struct daedalus_sched *sched, struct daedalus_job *job);
void daedalus_sched_start(struct daedalus_sched *sched);
void daedalus_sched_stop(struct daedalus_sched *sched);
void daedalus_sched_stopped(struct daedalus_sched *sched, bool active);
void daedalus_sched_drain_imported(struct daedalus_sched *sched);
void daedalus_sched_undrain(struct daedalus_sched *sched);
void daedalus_sched_abort(struct daedalus_session *session);
void daedalus_sched_thaw(struct daedalus_session *session);
void daedalus_sched_status(struct daedalus_session *session,
			   struct daedalus_session_status *status);

#endif
