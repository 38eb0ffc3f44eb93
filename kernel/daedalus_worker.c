// SPDX-License-Identifier: GPL-2.0
/*
 * The session fd: what a worker reads, asks for and answers.
 *
 * A worker fd holds a reference of its session, which outlives the client's file.
 * ctx->worker points to the one that decodes; a fd whose worker was dismissed or
 * killed stays open but is over: it reads end of file and answers nothing. What a
 * dismissed worker has mapped is not freed before it lets go, so one that does not
 * end by itself is killed: it may be stopped, with no broker left to see that.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "daedalus_drv.h"

/* Something to read, or the end. Called with job_lock held. */
static bool has_message(struct daedalus_worker *worker)
{
	return worker->over || worker->reset || !list_empty(&worker->gone) ||
	       daedalus_next_job(worker->ctx);
}

static bool readable(struct daedalus_worker *worker)
{
	bool ret;

	spin_lock(&worker->ctx->job_lock);
	ret = has_message(worker);
	spin_unlock(&worker->ctx->job_lock);
	return ret;
}

/*
 * Takes the next message into the bounce buffer: a stop that comes while it is
 * copied to user space need not wait for that. Returns its size, 0 at the end,
 * -EAGAIN if there is none, -EMSGSIZE if it is longer than @room.
 */
static ssize_t take_message(struct daedalus_worker *worker, ssize_t room)
{
	struct daedalus_ctx *ctx = worker->ctx;
	struct daedalus_msg *msg = (void *)worker->bounce;
	struct daedalus_msg_buffer_gone *gone = (void *)worker->bounce;
	struct daedalus_job *job;
	struct daedalus_mem *mem = NULL;
	ssize_t size;

	spin_lock(&ctx->job_lock);
	if (!worker->pid)
		worker->pid = get_task_pid(current, PIDTYPE_TGID);
	if (worker->over) {
		size = 0;
	} else if (worker->reset) {
		size = sizeof(*msg);
		msg->type = DAEDALUS_MSG_RESET;
		msg->size = size;
		if (size <= room)
			worker->reset = false;
	} else if (!list_empty(&worker->gone)) {
		mem = list_first_entry(&worker->gone, struct daedalus_mem, entry);
		size = sizeof(*gone);
		gone->msg.type = DAEDALUS_MSG_BUFFER_GONE;
		gone->msg.size = size;
		gone->buffer = mem->id;
		if (size <= room)
			list_del(&mem->entry);
		else
			mem = NULL;
	} else {
		job = daedalus_next_job(ctx);
		size = job ? (ssize_t)job->msg_size : -EAGAIN;
		if (job && size <= room) {
			memcpy(worker->bounce, job->msg, size);
			daedalus_job_handed(ctx, job);
		}
	}
	spin_unlock(&ctx->job_lock);
	kfree(mem);
	return size > room ? -EMSGSIZE : size;
}

static ssize_t worker_read(struct file *filp, char __user *to, size_t room, loff_t *pos)
{
	struct daedalus_worker *worker = filp->private_data;
	ssize_t size;

	for (;;) {
		if (mutex_lock_interruptible(&worker->read_lock))
			return -ERESTARTSYS;
		size = take_message(worker, min_t(size_t, room, DAEDALUS_MSG_MAX));
		if (size > 0 && copy_to_user(to, worker->bounce, size))
			size = -EFAULT;
		mutex_unlock(&worker->read_lock);
		if (size != -EAGAIN || (filp->f_flags & O_NONBLOCK))
			return size;
		if (wait_event_interruptible(worker->wq, readable(worker)))
			return -ERESTARTSYS;
	}
}

static __poll_t worker_poll(struct file *filp, struct poll_table_struct *wait)
{
	struct daedalus_worker *worker = filp->private_data;
	__poll_t events = 0;

	poll_wait(filp, &worker->wq, wait);
	spin_lock(&worker->ctx->job_lock);
	if (worker->over)
		events = EPOLLIN | EPOLLRDNORM | EPOLLHUP;
	else if (has_message(worker))
		events = EPOLLIN | EPOLLRDNORM;
	spin_unlock(&worker->ctx->job_lock);
	return events;
}

/* Takes no vb2 lock: a client may hold those for as long as it likes. */
static long buffer_fd(struct daedalus_worker *worker, struct daedalus_buffer_fd __user *arg)
{
	struct daedalus_ctx *ctx = worker->ctx;
	struct daedalus_buffer_fd req;
	struct daedalus_mem *mem;
	struct dma_buf *dbuf = NULL;
	int fd;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.size || req.fd || req.flags || req.reserved)
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;

	spin_lock(&ctx->job_lock);
	if (ctx->worker == worker) {
		list_for_each_entry(mem, &ctx->planes, entry) {
			if (mem->id != req.buffer)
				continue;
			dbuf = mem->dbuf;
			get_dma_buf(dbuf);
			mem->asked = worker->id;
			req.flags = mem->flags;
			break;
		}
	}
	spin_unlock(&ctx->job_lock);
	if (!dbuf) {
		put_unused_fd(fd);
		return -ENOENT;
	}
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
	struct daedalus_job_done done;

	if (copy_from_user(&done, arg, sizeof(done)))
		return -EFAULT;
	if (done.status > DAEDALUS_STATUS_ERROR || done.flags || done.reserved[0] ||
	    done.reserved[1])
		return -EINVAL;
	return daedalus_job_reply(worker, done.job, done.status != DAEDALUS_STATUS_OK);
}

static long worker_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct daedalus_worker *worker = filp->private_data;

	switch (cmd) {
	case DAEDALUS_IOC_BUFFER_FD:
		return buffer_fd(worker, (void __user *)arg);
	case DAEDALUS_IOC_JOB_DONE:
		return job_done(worker, (void __user *)arg);
	}
	return -ENOTTY;
}

/* The worker is the session's no more. Called with job_lock held. */
static void worker_end(struct daedalus_ctx *ctx)
{
	ctx->worker->over = true;
	wake_up(&ctx->worker->wq);
	ctx->worker = NULL;
}

/* A dismissed worker had its time to end. */
static void expire_work(struct work_struct *work)
{
	struct daedalus_worker *worker = container_of(to_delayed_work(work),
						      struct daedalus_worker, expire);

	spin_lock(&worker->ctx->job_lock);
	if (worker->pid)
		kill_pid(worker->pid, SIGKILL, 1);
	spin_unlock(&worker->ctx->job_lock);
}

/*
 * The client has closed the session: its worker is told to end, and killed if it
 * has not done so within daedalus_worker_wait_ms.
 */
void daedalus_worker_dismiss(struct daedalus_ctx *ctx)
{
	daedalus_unwant_worker(ctx);
	spin_lock(&ctx->job_lock);
	if (ctx->worker) {
		queue_delayed_work(ctx->dev->wq, &ctx->worker->expire,
				   msecs_to_jiffies(daedalus_worker_wait_ms));
		worker_end(ctx);
	}
	spin_unlock(&ctx->job_lock);
}

/*
 * Kills the session's worker, for it may be writing to buffers which the client
 * gets back. Called with job_lock held. Returns the worker's id, for
 * daedalus_worker_unmap() once the lock is dropped.
 */
u64 daedalus_worker_kill(struct daedalus_ctx *ctx)
{
	u64 id = ctx->worker->id;

	if (ctx->worker->pid)
		kill_pid(ctx->worker->pid, SIGKILL, 1);
	worker_end(ctx);
	daedalus_worker_lost(ctx);
	return id;
}

/*
 * Takes the mappings away that a killed worker has of the session's memory: it
 * may take a moment to die. Imported memory is left alone: other processes'
 * mappings of it hang on the same inode.
 */
void daedalus_worker_unmap(struct daedalus_ctx *ctx, u64 worker)
{
	struct daedalus_mem *mem;
	struct dma_buf *dbuf;

	while (worker) {
		dbuf = NULL;
		spin_lock(&ctx->job_lock);
		list_for_each_entry(mem, &ctx->planes, entry) {
			if (mem->asked != worker || (mem->flags & DAEDALUS_BUFFER_F_IMPORTED))
				continue;
			mem->asked = 0;
			dbuf = mem->dbuf;
			get_dma_buf(dbuf);
			break;
		}
		spin_unlock(&ctx->job_lock);
		if (!dbuf)
			return;
		unmap_mapping_range(dbuf->file->f_mapping, 0, 0, 1);
		dma_buf_put(dbuf);
	}
}

static int worker_release(struct inode *inode, struct file *filp)
{
	struct daedalus_worker *worker = filp->private_data;
	struct daedalus_ctx *ctx = worker->ctx;
	struct daedalus_mem *mem, *next;

	spin_lock(&ctx->job_lock);
	if (ctx->worker == worker) {
		worker_end(ctx);
		daedalus_worker_lost(ctx);
	}
	spin_unlock(&ctx->job_lock);
	/* Nobody dismisses it any more. */
	cancel_delayed_work_sync(&worker->expire);
	list_for_each_entry_safe(mem, next, &worker->gone, entry)
		kfree(mem);
	put_pid(worker->pid);
	mutex_destroy(&worker->read_lock);
	kvfree(worker);
	daedalus_ctx_put(ctx);
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

/* A referenced session by its id, or NULL. */
struct daedalus_ctx *daedalus_find_session(struct daedalus_dev *dev, u64 id)
{
	struct daedalus_ctx *ctx, *found = NULL;

	mutex_lock(&dev->lock);
	list_for_each_entry(ctx, &dev->sessions, entry) {
		if (ctx->id == id) {
			found = ctx;
			kref_get(&ctx->ref);
			break;
		}
	}
	mutex_unlock(&dev->lock);
	return found;
}

/* DAEDALUS_IOC_SESSION_FD: makes a worker for a session that waits for one. */
int daedalus_session_fd(struct daedalus_dev *dev, struct daedalus_session_fd __user *arg)
{
	struct daedalus_session_fd req;
	struct daedalus_worker *worker;
	struct daedalus_ctx *ctx;
	struct file *filp;
	bool attached = false;
	int fd, ret;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.fd || (req.flags & ~O_NONBLOCK) || req.reserved[0] || req.reserved[1])
		return -EINVAL;
	ctx = daedalus_find_session(dev, req.session);
	if (!ctx)
		return -ENOENT;
	worker = kvzalloc_obj(*worker);
	if (!worker) {
		daedalus_ctx_put(ctx);
		return -ENOMEM;
	}
	worker->ctx = ctx;
	worker->id = atomic64_inc_return(&dev->next_id);
	mutex_init(&worker->read_lock);
	init_waitqueue_head(&worker->wq);
	INIT_DELAYED_WORK(&worker->expire, expire_work);
	INIT_LIST_HEAD(&worker->gone);

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		ret = fd;
		goto err_free;
	}
	filp = anon_inode_getfile("[daedalus-session]", &worker_fops, worker,
				  O_RDWR | (req.flags & O_NONBLOCK));
	if (IS_ERR(filp)) {
		ret = PTR_ERR(filp);
		goto err_fd;
	}
	req.fd = fd;
	if (copy_to_user(arg, &req, sizeof(req))) {
		ret = -EFAULT;
		goto err_file;
	}

	spin_lock(&ctx->job_lock);
	if (!ctx->worker && ctx->state == DAEDALUS_WAITING) {
		ctx->worker = worker;
		ctx->state = DAEDALUS_STREAMING;
		/* Within the lock: the worker may be lost, and another wanted, at once. */
		daedalus_unwant_worker(ctx);
		attached = true;
	}
	spin_unlock(&ctx->job_lock);
	if (!attached) {
		ret = -ENOENT;
		goto err_file;
	}
	fd_install(fd, filp);
	return 0;

err_file:
	fput(filp);
	put_unused_fd(fd);
	return ret;
err_fd:
	put_unused_fd(fd);
err_free:
	kvfree(worker);
	daedalus_ctx_put(ctx);
	return ret;
}
