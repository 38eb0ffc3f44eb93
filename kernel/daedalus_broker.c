// SPDX-License-Identifier: GPL-2.0
/*
 * The control device: one broker registers and learns which sessions need a
 * worker. There is no queue of events that could overflow: a session that needs
 * a worker is on dev->wanted until it has one or gives up, and is reported to
 * each broker once.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "daedalus_drv.h"

#define DAEDALUS_ALL_CODECS (DAEDALUS_CODEC_H264 | DAEDALUS_CODEC_VP9 | DAEDALUS_CODEC_AV1)

/**
 * struct daedalus_broker - an open of the control device
 * @dev: the device
 * @greeted: DAEDALUS_IOC_HELLO was called; guarded by &daedalus_dev.lock
 */
struct daedalus_broker {
	struct daedalus_dev *dev;
	bool greeted;
};

static struct daedalus_dev *the_dev;

void daedalus_want_worker(struct daedalus_ctx *ctx)
{
	struct daedalus_dev *dev = ctx->dev;

	spin_lock(&dev->wanted_lock);
	if (list_empty(&ctx->wanted_entry))
		list_add_tail(&ctx->wanted_entry, &dev->wanted);
	ctx->reported = false;
	spin_unlock(&dev->wanted_lock);
	wake_up(&dev->wanted_wq);
}

void daedalus_unwant_worker(struct daedalus_ctx *ctx)
{
	spin_lock(&ctx->dev->wanted_lock);
	list_del_init(&ctx->wanted_entry);
	spin_unlock(&ctx->dev->wanted_lock);
}

/* A broker that restarts is worth a short wait; without one, -ENODEV. */
int daedalus_wait_broker(struct daedalus_dev *dev)
{
	long left = wait_event_interruptible_timeout(dev->broker_wq, READ_ONCE(dev->broker),
						     msecs_to_jiffies(daedalus_worker_wait_ms));

	if (left < 0)
		return left;
	return left ? 0 : -ENODEV;
}

static int broker_open(struct inode *inode, struct file *filp)
{
	struct daedalus_broker *broker = kzalloc_obj(*broker);

	if (!broker)
		return -ENOMEM;
	broker->dev = the_dev;
	filp->private_data = broker;
	return 0;
}

static int broker_release(struct inode *inode, struct file *filp)
{
	struct daedalus_broker *broker = filp->private_data;
	struct daedalus_dev *dev = broker->dev;
	struct daedalus_ctx *ctx;

	mutex_lock(&dev->lock);
	if (dev->broker == broker) {
		WRITE_ONCE(dev->broker, NULL);
		/* The next broker has to be told again. */
		spin_lock(&dev->wanted_lock);
		list_for_each_entry(ctx, &dev->wanted, wanted_entry)
			ctx->reported = false;
		spin_unlock(&dev->wanted_lock);
		dev_info(&dev->pdev->dev, "the daemon has gone\n");
	}
	mutex_unlock(&dev->lock);
	kfree(broker);
	return 0;
}

static bool registered(struct daedalus_broker *broker)
{
	return READ_ONCE(broker->dev->broker) == broker;
}

/* Called with dev->wanted_lock held. */
static struct daedalus_ctx *next_wanted(struct daedalus_dev *dev)
{
	struct daedalus_ctx *ctx;

	list_for_each_entry(ctx, &dev->wanted, wanted_entry)
		if (!ctx->reported)
			return ctx;
	return NULL;
}

static bool any_wanted(struct daedalus_dev *dev)
{
	bool ret;

	spin_lock(&dev->wanted_lock);
	ret = next_wanted(dev);
	spin_unlock(&dev->wanted_lock);
	return ret;
}

static bool take_event(struct daedalus_dev *dev, struct daedalus_event *event)
{
	struct daedalus_ctx *ctx;

	memset(event, 0, sizeof(*event));
	spin_lock(&dev->wanted_lock);
	ctx = next_wanted(dev);
	if (ctx) {
		ctx->reported = true;
		event->type = DAEDALUS_EVENT_WORKER_WANTED;
		event->coded_format = ctx->codec->fourcc;
		event->session = ctx->id;
		event->client_pid = ctx->pid;
		event->restarts = ctx->restarts;
	}
	spin_unlock(&dev->wanted_lock);
	return ctx;
}

static ssize_t broker_read(struct file *filp, char __user *to, size_t room, loff_t *pos)
{
	struct daedalus_broker *broker = filp->private_data;
	struct daedalus_dev *dev = broker->dev;
	struct daedalus_event event;
	ssize_t done = 0;

	if (!registered(broker))
		return -ENOTCONN;
	if (room < sizeof(event))
		return -EINVAL;
	while (room - done >= sizeof(event)) {
		if (!take_event(dev, &event)) {
			if (done)
				return done;
			if (filp->f_flags & O_NONBLOCK)
				return -EAGAIN;
			if (wait_event_interruptible(dev->wanted_wq, any_wanted(dev)))
				return -ERESTARTSYS;
			continue;
		}
		if (copy_to_user(to + done, &event, sizeof(event)))
			return -EFAULT;
		done += sizeof(event);
	}
	return done;
}

static __poll_t broker_poll(struct file *filp, struct poll_table_struct *wait)
{
	struct daedalus_broker *broker = filp->private_data;

	poll_wait(filp, &broker->dev->wanted_wq, wait);
	if (!registered(broker))
		return EPOLLERR;
	return any_wanted(broker->dev) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int broker_hello(struct daedalus_broker *broker, struct daedalus_hello __user *arg)
{
	struct daedalus_hello hello;
	int ret = 0;

	if (copy_from_user(&hello, arg, sizeof(hello)))
		return -EFAULT;
	if (hello.reserved[0] || hello.reserved[1] || hello.min_version > hello.version)
		return -EINVAL;
	if (hello.min_version > DAEDALUS_VERSION || hello.version < DAEDALUS_VERSION)
		ret = -EPROTO;
	hello.version = DAEDALUS_VERSION;
	hello.min_version = DAEDALUS_VERSION;
	hello.features = 0;
	if (copy_to_user(arg, &hello, sizeof(hello)))
		return -EFAULT;
	if (ret)
		return ret;
	mutex_lock(&broker->dev->lock);
	if (broker->greeted)
		ret = -EBUSY;
	broker->greeted = true;
	mutex_unlock(&broker->dev->lock);
	return ret;
}

static bool name_is_good(const u8 *name, size_t size)
{
	size_t len = strnlen(name, size), i;

	if (!len || len == size)
		return false;
	for (i = 0; i < len; i++)
		if (name[i] < 0x20 || name[i] > 0x7e)
			return false;
	return !memchr_inv(name + len, 0, size - len);
}

static int broker_register(struct daedalus_broker *broker, struct daedalus_register __user *arg)
{
	struct daedalus_dev *dev = broker->dev;
	struct daedalus_register reg;
	int ret = 0;

	if (copy_from_user(&reg, arg, sizeof(reg)))
		return -EFAULT;
	if (!reg.codecs || (reg.codecs & ~DAEDALUS_ALL_CODECS) || reg.flags ||
	    reg.reserved[0] || reg.reserved[1] || !name_is_good(reg.name, sizeof(reg.name)))
		return -EINVAL;

	mutex_lock(&dev->lock);
	if (!broker->greeted) {
		ret = -EPROTO;
		goto unlock;
	}
	if (dev->broker) {
		ret = -EBUSY;
		goto unlock;
	}
	dev->codecs = reg.codecs;
	memcpy(dev->name, reg.name, sizeof(dev->name));
	if (!dev->nodes) {
		ret = daedalus_register_nodes(dev);
		if (ret)
			goto unlock;
		dev->nodes = true;
	}
	WRITE_ONCE(dev->broker, broker);
	dev_info(&dev->pdev->dev, "served by %s\n", dev->name);
unlock:
	mutex_unlock(&dev->lock);
	if (!ret)
		wake_up_all(&dev->broker_wq);
	return ret;
}

static long broker_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct daedalus_broker *broker = filp->private_data;

	switch (cmd) {
	case DAEDALUS_IOC_HELLO:
		return broker_hello(broker, (void __user *)arg);
	case DAEDALUS_IOC_REGISTER:
		return broker_register(broker, (void __user *)arg);
	case DAEDALUS_IOC_SESSION_FD:
		if (!registered(broker))
			return -ENOTCONN;
		return daedalus_session_fd(broker->dev, (void __user *)arg);
	}
	return -ENOTTY;
}

static const struct file_operations broker_fops = {
	.owner = THIS_MODULE,
	.open = broker_open,
	.release = broker_release,
	.read = broker_read,
	.poll = broker_poll,
	.unlocked_ioctl = broker_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice broker_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = DAEDALUS_CONTROL_NAME,
	.fops = &broker_fops,
	.mode = 0660,
};

int daedalus_broker_init(struct daedalus_dev *dev)
{
	the_dev = dev;
	return misc_register(&broker_misc);
}

void daedalus_broker_exit(void)
{
	misc_deregister(&broker_misc);
}
