/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Workers: session fds, messages, the process to kill.
 */
#ifndef DAEDALUS_WORKER_H
#define DAEDALUS_WORKER_H

#include <linux/sizes.h>
#include <linux/types.h>

struct daedalus_session;
struct daedalus_session_fd;
struct daedalus_worker;
struct pid;

/* DAEDALUS_FEATURE_* of the module, for brokers and for workers. */
#define DAEDALUS_FEATURES	(DAEDALUS_FEATURE_NEXT | DAEDALUS_FEATURE_CLEANS)

/* The largest message, whatever a worker accepts. */
#define DAEDALUS_MSG_LIMIT	((u32)SZ_1M)

/**
 * struct daedalus_worker_ops - operations of a session for its worker
 * @wants: tells whether the session waits for a worker; session->lock is held
 * @seated: reports that it has one now; session->lock is held
 * @pending: tells whether @next has a message; session->lock is held
 * @next: copies the next message to a buffer with that much room, and marks it as read;
 *	session->lock is held. A job whose message exceeds the limit fails. Returns the
 *	size, -EAGAIN, or -EMSGSIZE if the room is too small.
 * @done: answers a job. Returns 0 or -ENOENT. NULL: the face has no jobs.
 * @ioctl: handles an ioctl of the face; NULL: it has none
 * @lost: reports that the worker is gone.
 */
struct daedalus_worker_ops {
	bool (*wants)(struct daedalus_session *session);
	void (*seated)(struct daedalus_session *session);
	bool (*pending)(struct daedalus_session *session);
	ssize_t (*next)(struct daedalus_session *session, void *buffer, size_t room, size_t limit);
	int (*done)(struct daedalus_session *session, struct daedalus_worker *worker, u64 job,
		    bool failed);
	long (*ioctl)(struct daedalus_session *session, struct daedalus_worker *worker,
		      unsigned int cmd, void __user *arg);
	void (*lost)(struct daedalus_session *session, struct daedalus_worker *worker);
};

int daedalus_worker_open(struct daedalus_session *session, u32 version, struct pid *broker,
			 u32 flags, struct daedalus_session_fd __user *arg);
struct daedalus_worker *daedalus_worker_get(struct daedalus_worker *worker);
void daedalus_worker_put(struct daedalus_worker *worker);
void daedalus_worker_wake(struct daedalus_worker *worker);
void daedalus_worker_reset(struct daedalus_worker *worker);
bool daedalus_worker_started(struct daedalus_worker *worker);
pid_t daedalus_worker_pid(struct daedalus_worker *worker);
void daedalus_worker_end(struct daedalus_worker *worker);
void daedalus_worker_kill(struct daedalus_worker *worker);
void daedalus_worker_close_windows(struct daedalus_worker *worker);
void daedalus_worker_dismiss(struct daedalus_session *session);

#endif
