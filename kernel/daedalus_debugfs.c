// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/debug/daedalus/: `sessions`, a line of key=value pairs for each,
 * and `stats`, the same for the device.
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
	seq_printf(m, "id=%llu client=%d worker=%d format=%p4cc state=%s waiting=%u claimed=%u in_flight=%u done=%llu failed=%llu restarts=%u oldest_ms=%lld\n",
		   ctx->id, ctx->pid, worker, &ctx->codec->fourcc, state_names[ctx->state],
		   waiting, claimed, handed, ctx->done, ctx->failed, ctx->restarts, age);
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
	seq_printf(m, "state=%s\ndaemon=%s\ncodecs=%#x\nsessions=%u\nsessions_ever=%d\nbusy=%d\nbusy_peak=%d\n",
		   dev->broker ? "serving" : dev->nodes ? "orphaned" : "unserved",
		   dev->name, dev->codecs, open, atomic_read(&dev->opened),
		   atomic_read(&dev->busy), atomic_read(&dev->busy_peak));
	mutex_unlock(&dev->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

void daedalus_debugfs_init(struct daedalus_dev *dev)
{
	root = debugfs_create_dir("daedalus", NULL);
	debugfs_create_file("sessions", 0444, root, dev, &sessions_fops);
	debugfs_create_file("stats", 0444, root, dev, &stats_fops);
}

void daedalus_debugfs_exit(void)
{
	debugfs_remove_recursive(root);
}
