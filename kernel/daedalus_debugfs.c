// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/debug/daedalus/: `sessions`, a line of key=value pairs for each;
 * `stats`, the same for the device; `abort`, which takes a session's id.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "daedalus_drv.h"

static struct dentry *root;

static const char * const state_names[] = {
	[DAEDALUS_IDLE] = "idle",
	[DAEDALUS_WAITING] = "waiting",
	[DAEDALUS_STREAMING] = "streaming",
	[DAEDALUS_DRAINING] = "draining",
	[DAEDALUS_LOST] = "lost",
};

static void show_session(struct seq_file *m, struct daedalus_ctx *ctx)
{
	unsigned int waiting = 0, claimed = 0, handed;
	struct daedalus_buf *buf;
	struct daedalus_job *job;
	s64 age = 0;
	pid_t worker;

	spin_lock(&ctx->job_lock);
	list_for_each_entry(buf, &ctx->src_ready, entry)
		waiting++;
	list_for_each_entry(job, &ctx->jobs, entry)
		claimed += job->state == DAEDALUS_JOB_CLAIMED;
	handed = ctx->handed;
	if (!list_empty(&ctx->jobs))
		age = ktime_ms_delta(ktime_get(), ctx->head_since);
	worker = ctx->worker ? pid_nr(ctx->worker->pid) : 0;
	seq_printf(m, "id=%llu client=%d worker=%d format=%p4cc state=%s waiting=%u claimed=%u in_flight=%u done=%llu failed=%llu restarts=%u oldest_ms=%lld memory=%lld\n",
		   ctx->id, ctx->pid, worker, &ctx->codec->fourcc, state_names[ctx->state],
		   waiting, claimed, handed, ctx->done, ctx->failed, ctx->restarts, age,
		   (long long)atomic64_read(&ctx->memory));
	spin_unlock(&ctx->job_lock);
}

static int sessions_show(struct seq_file *m, void *unused)
{
	struct daedalus_dev *dev = m->private;
	struct daedalus_ctx *ctx;

	mutex_lock(&dev->lock);
	list_for_each_entry(ctx, &dev->sessions, entry)
		show_session(m, ctx);
	mutex_unlock(&dev->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(sessions);

static int stats_show(struct seq_file *m, void *unused)
{
	struct daedalus_dev *dev = m->private;
	struct daedalus_ctx *ctx;
	unsigned int open = 0;

	mutex_lock(&dev->lock);
	list_for_each_entry(ctx, &dev->sessions, entry)
		open++;
	seq_printf(m, "state=%s\ndaemon=%s\ncodecs=%#x\nsessions=%u\nsessions_ever=%d\nbusy=%d\nbusy_peak=%d\nmemory=%lld\n",
		   dev->broker ? "serving" : dev->nodes ? "orphaned" : "unserved",
		   dev->name, dev->codecs, open, atomic_read(&dev->opened),
		   atomic_read(&dev->busy), atomic_read(&dev->busy_peak),
		   (long long)atomic64_read(&dev->memory));
	mutex_unlock(&dev->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static ssize_t abort_write(struct file *filp, const char __user *from, size_t size, loff_t *pos)
{
	struct daedalus_ctx *ctx;
	u64 id;
	int ret = kstrtou64_from_user(from, size, 10, &id);

	if (ret)
		return ret;
	ctx = daedalus_find_session(filp->private_data, id);
	if (!ctx)
		return -ENOENT;
	daedalus_abort(ctx);
	daedalus_ctx_put(ctx);
	return size;
}

static const struct file_operations abort_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = abort_write,
};

void daedalus_debugfs_init(struct daedalus_dev *dev)
{
	root = debugfs_create_dir("daedalus", NULL);
	debugfs_create_file("sessions", 0444, root, dev, &sessions_fops);
	debugfs_create_file("stats", 0444, root, dev, &stats_fops);
	debugfs_create_file("abort", 0200, root, dev, &abort_fops);
}

void daedalus_debugfs_exit(void)
{
	debugfs_remove_recursive(root);
}
