// SPDX-License-Identifier: GPL-2.0
/*
 * Files in /sys/kernel/debug/daedalus/: `sessions` has a line of key=value pairs for
 * each session, `stats` has them for the device, and `abort` takes a session's id.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "daedalus_core.h"
#include "daedalus_debugfs.h"
#include "daedalus_memory.h"

static struct dentry *debugfs_dir;

static void show_session(struct seq_file *m, struct daedalus_session *session)
{
	struct daedalus_session_status status = {};
	u32 format = READ_ONCE(session->coded_format);
	u64 contiguous, scattered;

	daedalus_pool_usage(session->pool, &contiguous, &scattered);
	session->ops->status(session, &status);
	seq_printf(m, "id=%llu client=%d worker=%d format=%p4cc state=%s waiting=%u claimed=%u in_flight=%u done=%llu failed=%llu restarts=%u oldest_ms=%lld memory=%llu contiguous=%llu scattered=%llu requests=%u face=%s\n",
		   session->id, session->pid, status.worker, &format, status.state,
		   status.waiting, status.claimed, status.handed, status.done, status.failed,
		   session->restarts, status.oldest_ms, contiguous + scattered, contiguous,
		   scattered, status.requests,
		   session->face == DAEDALUS_FACE_STATELESS ? "stateless" : "stateful");
}

static int sessions_show(struct seq_file *m, void *unused)
{
	struct daedalus_dev *dev = m->private;
	struct daedalus_session *session;

	mutex_lock(&dev->lock);
	list_for_each_entry(session, &dev->sessions, entry)
		show_session(m, session);
	mutex_unlock(&dev->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(sessions);

static int stats_show(struct seq_file *m, void *unused)
{
	struct daedalus_dev *dev = m->private;

	mutex_lock(&dev->lock);
	seq_printf(m, "state=%s\ndaemon=%s\ncodecs=%#x\nstateful_codecs=%#x\nfaces=%#x\n",
		   dev->broker ? "serving" : dev->nodes ? "orphaned" : "unserved",
		   dev->name, dev->codecs, dev->stateful_codecs, dev->faces);
	seq_printf(m, "sessions=%zu\nsessions_ever=%d\n", list_count_nodes(&dev->sessions),
		   atomic_read(&dev->opened));
	mutex_unlock(&dev->lock);
	seq_printf(m, "busy=%d\nbusy_peak=%d\nmemory=%lld\nrequests=%d\n",
		   atomic_read(&dev->busy), atomic_read(&dev->busy_peak),
		   (long long)atomic64_read(&dev->memory), atomic_read(&dev->requests));
	seq_printf(m, "contiguous=%lld\ncontiguous_budget=%llu\ncontiguous_reason=%s\nmixed=%d\n",
		   (long long)atomic64_read(&dev->contiguous), dev->contiguous_budget,
		   daedalus_contiguous_reason(dev), atomic_read(&dev->mixed));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static ssize_t abort_write(struct file *filp, const char __user *from, size_t size, loff_t *pos)
{
	struct daedalus_session *session;
	u64 id;
	int ret = kstrtou64_from_user(from, size, 10, &id);

	if (ret)
		return ret;
	session = daedalus_session_find(filp->private_data, id);
	if (!session)
		return -ENOENT;
	session->ops->abort(session);
	daedalus_session_put(session);
	return size;
}

static const struct file_operations abort_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = abort_write,
};

/**
 * daedalus_debugfs_init() - create the files
 * @dev: the device
 */
void daedalus_debugfs_init(struct daedalus_dev *dev)
{
	debugfs_dir = debugfs_create_dir("daedalus", NULL);
	debugfs_create_file("sessions", 0444, debugfs_dir, dev, &sessions_fops);
	debugfs_create_file("stats", 0444, debugfs_dir, dev, &stats_fops);
	debugfs_create_file("abort", 0200, debugfs_dir, dev, &abort_fops);
}

/** daedalus_debugfs_exit() - remove the files; waits until nobody reads them */
void daedalus_debugfs_exit(void)
{
	debugfs_remove_recursive(debugfs_dir);
}
