// SPDX-License-Identifier: GPL-2.0
/*
 * The session fd: messages that a worker reads, its questions and its answers.
 *
 * A session fd holds a reference of its session, which outlives the client's file.
 * session->worker points to the worker that decodes. The fd of a dismissed or killed
 * worker stays open but is over: it reads end of file, and its answers have no effect.
 *
 * The module kills only a process that attached itself. With a broker of protocol
 * version 1, the first reader of the fd is attached if it is the broker or its child; the
 * module never kills another reader.
 *
 * Locks: session->lock guards session->worker and the flags here.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/dma-buf.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_memory.h"
#include "daedalus_worker.h"

/**
 * struct daedalus_worker - a session fd
 * @ref: held by the file, and by whoever ends the worker
 * @session: the session, referenced
 * @version: version of the protocol
 * @broker: the process that made it, for version 1
 * @pid: the process that attached itself, or NULL; set once
 * @started: a process attached itself or, in version 1, read
 * @read_lock: admits one reader at a time; guards @bounce
 * @wq: woken when there is a message to read
 * @expire: kills a dismissed worker that does not end
 * @over: it is no longer the session's worker
 * @reset: a reset message is due
 * @windows: its windows of the session's memory
 * @msg_max: bytes of @bounce
 * @bounce: a message on its way to user space
 */
struct daedalus_worker {
	struct kref ref;
	struct daedalus_session *session;
	u32 version;
	struct pid *broker;
	struct pid *pid;
	bool started;
	struct mutex read_lock;	/* bounce */
	wait_queue_head_t wq;
	struct delayed_work expire;
	bool over;
	bool reset;
	struct daedalus_windows windows;
	u32 msg_max;
	void *bounce;
};

static void worker_free(struct kref *ref)
{
	struct daedalus_worker *worker = container_of(ref, struct daedalus_worker, ref);

	put_pid(worker->pid);
	put_pid(worker->broker);
	mutex_destroy(&worker->read_lock);
	kvfree(worker->bounce);
	daedalus_session_put(worker->session);
	kfree(worker);
}

/**
 * daedalus_worker_get() - take a reference
 * @worker: the worker
 *
 * Return: @worker.
 */
struct daedalus_worker *daedalus_worker_get(struct daedalus_worker *worker)
{
	kref_get(&worker->ref);
	return worker;
}

/**
 * daedalus_worker_put() - drop a reference
 * @worker: the worker
 */
void daedalus_worker_put(struct daedalus_worker *worker)
{
	kref_put(&worker->ref, worker_free);
}

/* Tells whether there is a message or the end to read. */
static bool has_message(struct daedalus_worker *worker)
{
	struct daedalus_session *session = worker->session;

	lockdep_assert_held(&session->lock);
	return worker->over || worker->reset || READ_ONCE(worker->windows.gone) ||
	       session->worker_ops->pending(session);
}

static bool readable(struct daedalus_worker *worker)
{
	bool ret;

	spin_lock(&worker->session->lock);
	ret = has_message(worker);
	spin_unlock(&worker->session->lock);
	return ret;
}

static bool made_by_parent(struct daedalus_worker *worker)
{
	bool ret;

	rcu_read_lock();
	ret = task_tgid(current) == worker->broker ||
	      task_tgid(rcu_dereference(current->real_parent)) == worker->broker;
	rcu_read_unlock();
	return ret;
}

/*
 * Copies the next message to the bounce buffer, so that a stop need not wait for the copy
 * to user space. Returns its size, 0 at the end, -EAGAIN if there is none, -EMSGSIZE if it
 * is longer than @room.
 */
static ssize_t take_message(struct daedalus_worker *worker, size_t room)
{
	struct daedalus_session *session = worker->session;
	struct daedalus_msg_buffer_gone *gone = worker->bounce;
	struct daedalus_msg *msg = worker->bounce;
	ssize_t size;
	u64 id;

	lockdep_assert_held(&worker->read_lock);
	spin_lock(&session->lock);
	if (!worker->started) {
		worker->started = true;
		if (made_by_parent(worker))
			worker->pid = get_task_pid(current, PIDTYPE_TGID);
	}
	if (worker->over) {
		size = 0;
	} else if (room < sizeof(*gone)) {
		size = has_message(worker) ? -EMSGSIZE : -EAGAIN;
	} else if (worker->reset) {
		worker->reset = false;
		size = sizeof(*msg);
		msg->type = DAEDALUS_MSG_RESET;
		msg->size = size;
	} else if (daedalus_windows_gone(session->pool, &worker->windows, &id)) {
		size = sizeof(*gone);
		gone->msg.type = DAEDALUS_MSG_BUFFER_GONE;
		gone->msg.size = size;
		gone->buffer = id;
	} else {
		size = session->worker_ops->next(session, worker->bounce, room, worker->msg_max);
	}
	spin_unlock(&session->lock);
	return size;
}

static ssize_t read_message(struct daedalus_worker *worker, char __user *to, size_t room,
			    bool nonblocking)
{
	ssize_t size;

	if (worker->version > 1 && !READ_ONCE(worker->started))
		return -ENOTCONN;
	for (;;) {
		if (mutex_lock_interruptible(&worker->read_lock))
			return -ERESTARTSYS;
		size = take_message(worker, min_t(size_t, room, worker->msg_max));
		if (size > 0 && copy_to_user(to, worker->bounce, size))
			size = -EFAULT;
		mutex_unlock(&worker->read_lock);
		if (size != -EAGAIN || nonblocking)
			return size;
		if (wait_event_interruptible(worker->wq, readable(worker)))
			return -ERESTARTSYS;
	}
}

static ssize_t worker_read(struct file *filp, char __user *to, size_t room, loff_t *pos)
{
	return read_message(filp->private_data, to, room, filp->f_flags & O_NONBLOCK);
}

static __poll_t worker_poll(struct file *filp, struct poll_table_struct *wait)
{
	struct daedalus_worker *worker = filp->private_data;
	__poll_t events = 0;

	poll_wait(filp, &worker->wq, wait);
	spin_lock(&worker->session->lock);
	if (worker->over)
		events = EPOLLIN | EPOLLRDNORM | EPOLLHUP;
	else if (has_message(worker))
		events = EPOLLIN | EPOLLRDNORM;
	spin_unlock(&worker->session->lock);
	return events;
}

static long attach(struct daedalus_worker *worker, struct daedalus_attach __user *arg)
{
	struct daedalus_session *session = worker->session;
	struct daedalus_attach req;
	void *bounce;
	long ret = 0;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.session || req.coded_format || req.face || req.reserved[0] || req.reserved[1] ||
	    req.msg_max < DAEDALUS_MSG_MAX_V1)
		return -EINVAL;
	if (req.version < 2)
		return -EPROTO;
	req.version = DAEDALUS_VERSION;
	req.msg_max = min(req.msg_max, DAEDALUS_MSG_LIMIT);
	req.features &= DAEDALUS_FEATURES;
	req.session = session->id;
	req.coded_format = READ_ONCE(session->coded_format);
	req.face = session->face;
	bounce = kvzalloc(req.msg_max, GFP_KERNEL_ACCOUNT);
	if (!bounce)
		return -ENOMEM;
	if (copy_to_user(arg, &req, sizeof(req))) {
		kvfree(bounce);
		return -EFAULT;
	}

	mutex_lock(&worker->read_lock);
	spin_lock(&session->lock);
	if (worker->started) {
		ret = -EBUSY;
	} else {
		swap(worker->bounce, bounce);
		worker->msg_max = req.msg_max;
		worker->version = 2;
		worker->pid = get_task_pid(current, PIDTYPE_TGID);
		WRITE_ONCE(worker->started, true);
	}
	spin_unlock(&session->lock);
	mutex_unlock(&worker->read_lock);
	kvfree(bounce);
	return ret;
}

/* Takes no vb2 lock, since a client can hold these for any time. */
static long buffer_fd(struct daedalus_worker *worker, struct daedalus_buffer_fd __user *arg)
{
	struct daedalus_session *session = worker->session;
	struct daedalus_buffer_fd req;
	struct dma_buf *dbuf;
	bool over;
	int fd;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.size || req.fd || req.flags || req.reserved)
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;

	dbuf = ERR_PTR(-ENOENT);
	spin_lock(&session->lock);
	over = worker->over;
	spin_unlock(&session->lock);
	if (!over)
		dbuf = daedalus_window_open(session->pool, req.buffer, &worker->windows,
					    &req.flags);
	if (IS_ERR(dbuf)) {
		put_unused_fd(fd);
		return PTR_ERR(dbuf);
	}
	/* A worker that ended meanwhile keeps no window. */
	spin_lock(&session->lock);
	over = worker->over;
	spin_unlock(&session->lock);
	if (over)
		daedalus_windows_close(session->pool, &worker->windows);
	if (worker->version < 2)
		req.flags &= ~DAEDALUS_BUFFER_F_INITIALISED;
	req.fd = fd;
	req.size = dbuf->size;
	if (copy_to_user(arg, &req, sizeof(req))) {
		put_unused_fd(fd);
		dma_buf_put(dbuf);
		return -EFAULT;
	}
	fd_install(fd, dbuf->file);
	return 0;
}

static long job_done(struct daedalus_worker *worker, struct daedalus_job_done __user *arg)
{
	struct daedalus_session *session = worker->session;
	struct daedalus_job_done done;

	if (!session->worker_ops->done)
		return -ENOTTY;
	if (copy_from_user(&done, arg, sizeof(done)))
		return -EFAULT;
	if (done.status > DAEDALUS_STATUS_ERROR || done.flags || done.reserved[0] ||
	    done.reserved[1])
		return -EINVAL;
	return session->worker_ops->done(session, worker, done.job,
					 done.status != DAEDALUS_STATUS_OK);
}

static long next(struct daedalus_worker *worker, struct daedalus_next __user *arg,
		 bool nonblocking)
{
	struct daedalus_session *session = worker->session;
	struct daedalus_next req;
	u32 answer = 0;
	ssize_t size;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	/* A call that a signal ended may be repeated with the answer that it returned. */
	if (req.status > DAEDALUS_STATUS_ERROR || (req.job && req.answer) || req.flags)
		return -EINVAL;
	if (worker->version < 2 || !session->worker_ops->done)
		return -ENOTTY;
	if (req.job) {
		if (session->worker_ops->done(session, worker, req.job,
					      req.status != DAEDALUS_STATUS_OK))
			answer = ENOENT;
		if (put_user(0, &arg->job) || put_user(answer, &arg->answer))
			return -EFAULT;
	}
	size = read_message(worker, u64_to_user_ptr(req.message), req.size, nonblocking);
	if (size < 0)
		return size;
	return put_user((u32)size, &arg->size) ? -EFAULT : 0;
}

static long worker_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct daedalus_worker *worker = filp->private_data;
	struct daedalus_session *session = worker->session;

	switch (cmd) {
	case DAEDALUS_IOC_BUFFER_FD:
		return buffer_fd(worker, (void __user *)arg);
	case DAEDALUS_IOC_JOB_DONE:
		return job_done(worker, (void __user *)arg);
	case DAEDALUS_IOC_ATTACH:
		return attach(worker, (void __user *)arg);
	case DAEDALUS_IOC_NEXT:
		return next(worker, (void __user *)arg, filp->f_flags & O_NONBLOCK);
	}
	if (!session->worker_ops->ioctl)
		return -ENOTTY;
	return session->worker_ops->ioctl(session, worker, cmd, (void __user *)arg);
}

/**
 * daedalus_worker_wake() - wake a worker that waits for messages
 * @worker: the worker
 */
void daedalus_worker_wake(struct daedalus_worker *worker)
{
	wake_up(&worker->wq);
}

/**
 * daedalus_worker_reset() - tell a worker that the client stopped a queue
 * @worker: the worker
 *
 * Context: session->lock is held.
 */
void daedalus_worker_reset(struct daedalus_worker *worker)
{
	lockdep_assert_held(&worker->session->lock);
	worker->reset = true;
	wake_up(&worker->wq);
}

/**
 * daedalus_worker_started() - tell whether a process attached itself
 * @worker: the worker
 */
bool daedalus_worker_started(struct daedalus_worker *worker)
{
	return READ_ONCE(worker->started);
}

/**
 * daedalus_worker_pid() - return the worker's process id
 * @worker: the worker
 *
 * Context: session->lock is held.
 * Return: the id in the initial namespace, or 0.
 */
pid_t daedalus_worker_pid(struct daedalus_worker *worker)
{
	lockdep_assert_held(&worker->session->lock);
	return pid_nr(worker->pid);
}

/**
 * daedalus_worker_end() - separate a worker from its session
 * @worker: the session's worker; reads the end of file from now on
 *
 * The caller takes the worker's memory with daedalus_worker_close_windows(), without the
 * lock.
 *
 * Context: session->lock is held.
 */
void daedalus_worker_end(struct daedalus_worker *worker)
{
	lockdep_assert_held(&worker->session->lock);
	worker->over = true;
	worker->session->worker = NULL;
	wake_up(&worker->wq);
}

/**
 * daedalus_worker_kill() - kill the process that attached itself, if one did
 * @worker: the worker
 *
 * Context: session->lock is held.
 */
void daedalus_worker_kill(struct daedalus_worker *worker)
{
	lockdep_assert_held(&worker->session->lock);
	if (worker->pid)
		kill_pid(worker->pid, SIGKILL, 1);
}

/* Kills a dismissed worker whose time to end is over. */
static void expire_work(struct work_struct *work)
{
	struct daedalus_worker *worker = container_of(to_delayed_work(work),
						      struct daedalus_worker, expire);

	spin_lock(&worker->session->lock);
	daedalus_worker_kill(worker);
	spin_unlock(&worker->session->lock);
}

/**
 * daedalus_worker_close_windows() - take all memory from a worker
 * @worker: the worker
 *
 * Context: sleeps, but waits for no user code. Hold no lock of the session.
 */
void daedalus_worker_close_windows(struct daedalus_worker *worker)
{
	daedalus_windows_close(worker->session->pool, &worker->windows);
}

/**
 * daedalus_worker_dismiss() - end the worker of a session that the client has closed
 * @session: the session, without work
 *
 * The worker may be stopped, and no broker may be left to notice that: it is killed
 * unless it closes its session fd within worker_wait_ms.
 *
 * Context: sleeps, but waits for no user code.
 */
void daedalus_worker_dismiss(struct daedalus_session *session)
{
	struct daedalus_worker *worker;

	daedalus_unwant_worker(session);
	spin_lock(&session->lock);
	worker = session->worker;
	if (worker) {
		daedalus_worker_get(worker);
		daedalus_worker_end(worker);
		queue_delayed_work(session->dev->wq, &worker->expire,
				   msecs_to_jiffies(daedalus_worker_wait_ms));
	}
	spin_unlock(&session->lock);
	if (worker) {
		daedalus_worker_close_windows(worker);
		daedalus_worker_put(worker);
	}
}

static int worker_release(struct inode *inode, struct file *filp)
{
	struct daedalus_worker *worker = filp->private_data;
	struct daedalus_session *session = worker->session;

	session->worker_ops->lost(session, worker);
	daedalus_worker_close_windows(worker);
	/* Nobody can dismiss it any more. */
	cancel_delayed_work_sync(&worker->expire);
	daedalus_worker_put(worker);
	return 0;
}

static const struct file_operations worker_fops = {
	.owner = THIS_MODULE,
	.read = worker_read,
	.poll = worker_poll,
	.unlocked_ioctl = worker_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = worker_release,
};

static struct daedalus_worker *worker_create(struct daedalus_session *session, u32 version,
					     struct pid *broker)
{
	struct daedalus_worker *worker = kzalloc_obj(*worker);

	if (!worker)
		return NULL;
	worker->msg_max = DAEDALUS_MSG_MAX_V1;
	worker->bounce = kvzalloc(worker->msg_max, GFP_KERNEL);
	if (!worker->bounce) {
		kfree(worker);
		return NULL;
	}
	kref_init(&worker->ref);
	kref_get(&session->ref);
	worker->session = session;
	worker->version = version;
	worker->broker = get_pid(broker);
	mutex_init(&worker->read_lock);
	init_waitqueue_head(&worker->wq);
	INIT_DELAYED_WORK(&worker->expire, expire_work);
	INIT_LIST_HEAD(&worker->windows.list);
	worker->windows.wq = &worker->wq;
	return worker;
}

/**
 * daedalus_worker_open() - create a session fd for a session that waits for a worker
 * @session: the session
 * @version: version of the broker's protocol
 * @broker: the calling process
 * @flags: O_NONBLOCK or 0
 * @arg: out: the fd
 *
 * Return: 0; -ENOENT if the session does not wait for one; another error.
 */
int daedalus_worker_open(struct daedalus_session *session, u32 version, struct pid *broker,
			 u32 flags, struct daedalus_session_fd __user *arg)
{
	struct daedalus_worker *worker;
	bool seated = false;
	struct file *filp;
	int fd, ret;

	/* Version 1 has messages of the stateless face only. */
	if (version < 2 && session->face != DAEDALUS_FACE_STATELESS)
		return -ENOENT;
	worker = worker_create(session, version, broker);
	if (!worker)
		return -ENOMEM;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		daedalus_worker_put(worker);
		return fd;
	}
	filp = anon_inode_getfile("[daedalus-session]", &worker_fops, worker,
				  O_RDWR | (flags & O_NONBLOCK));
	if (IS_ERR(filp)) {
		daedalus_worker_put(worker);
		ret = PTR_ERR(filp);
		goto err_fd;
	}
	if (put_user(fd, &arg->fd)) {
		ret = -EFAULT;
		goto err_file;
	}

	spin_lock(&session->lock);
	if (!session->worker && session->worker_ops->wants(session)) {
		session->worker = worker;
		/* Needs the lock: the session may lose the worker and need another at once. */
		session->worker_ops->seated(session);
		seated = true;
	}
	spin_unlock(&session->lock);
	if (!seated) {
		ret = -ENOENT;
		goto err_file;
	}
	fd_install(fd, filp);
	return 0;

err_file:
	fput(filp);
err_fd:
	put_unused_fd(fd);
	return ret;
}
