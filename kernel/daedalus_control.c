// SPDX-License-Identifier: GPL-2.0
/*
 * The control device: one broker registers, reads which sessions need a worker, and
 * creates session fds.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "daedalus_compat.h"
#include "daedalus_control.h"
#include "daedalus_core.h"
#include "daedalus_nodes.h"
#include "daedalus_stateful.h"
#include "daedalus_video.h"
#include "daedalus_worker.h"

#define FACES		(DAEDALUS_FACE_STATELESS | DAEDALUS_FACE_STATEFUL)

/**
 * struct daedalus_broker - an open of the control device
 * @dev: the device
 * @version: version of the protocol, 0 before DAEDALUS_IOC_HELLO; guarded by
 *	&daedalus_dev.lock
 */
struct daedalus_broker {
	struct daedalus_dev *dev;
	u32 version;
};

static struct daedalus_video *control_video;
static struct daedalus_stateful *control_stateful;

static int broker_open(struct inode *inode, struct file *filp)
{
	struct daedalus_broker *broker = kzalloc_obj(*broker);

	if (!broker)
		return -ENOMEM;
	broker->dev = control_video->dev;
	filp->private_data = broker;
	return 0;
}

static int broker_release(struct inode *inode, struct file *filp)
{
	struct daedalus_broker *broker = filp->private_data;
	struct daedalus_dev *dev = broker->dev;

	mutex_lock(&dev->lock);
	if (dev->broker == broker) {
		WRITE_ONCE(dev->broker, NULL);
		/* The next broker must learn about all of them. */
		daedalus_forget_reports(dev);
		dev_info(dev->parent, "the daemon has gone\n");
	}
	mutex_unlock(&dev->lock);
	kfree(broker);
	return 0;
}

static bool is_registered(struct daedalus_broker *broker)
{
	return READ_ONCE(broker->dev->broker) == broker;
}

static ssize_t broker_read(struct file *filp, char __user *to, size_t room, loff_t *pos)
{
	struct daedalus_broker *broker = filp->private_data;
	struct daedalus_dev *dev = broker->dev;
	struct daedalus_event event;
	ssize_t done = 0;

	if (!is_registered(broker))
		return -ENOTCONN;
	if (room < sizeof(event))
		return -EINVAL;
	while (room - done >= sizeof(event)) {
		if (!daedalus_take_demand(dev, &event)) {
			if (done)
				return done;
			if (filp->f_flags & O_NONBLOCK)
				return -EAGAIN;
			if (wait_event_interruptible(dev->demand_wq, daedalus_any_demand(dev)))
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

	poll_wait(filp, &broker->dev->demand_wq, wait);
	if (!is_registered(broker))
		return EPOLLERR;
	return daedalus_any_demand(broker->dev) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int broker_hello(struct daedalus_broker *broker, struct daedalus_hello __user *arg)
{
	struct daedalus_dev *dev = broker->dev;
	struct daedalus_hello hello;
	u32 version;
	int ret = 0;

	if (copy_from_user(&hello, arg, sizeof(hello)))
		return -EFAULT;
	if (hello.codecs || hello.faces || hello.msg_max || hello.reserved ||
	    hello.min_version > hello.version)
		return -EINVAL;
	version = min(hello.version, DAEDALUS_VERSION);
	if (hello.min_version > DAEDALUS_VERSION || hello.version < DAEDALUS_MIN_VERSION) {
		ret = -EPROTO;
		version = DAEDALUS_VERSION;
	}
	hello.version = version;
	hello.min_version = DAEDALUS_MIN_VERSION;
	if (version > 1) {
		hello.features &= DAEDALUS_FEATURES;
		hello.codecs = daedalus_all_codecs();
		hello.faces = FACES;
		hello.msg_max = DAEDALUS_MSG_LIMIT;
	} else {
		hello.features = 0;
	}
	if (copy_to_user(arg, &hello, sizeof(hello)))
		return -EFAULT;
	if (ret)
		return ret;
	mutex_lock(&dev->lock);
	if (broker->version)
		ret = -EBUSY;
	else
		broker->version = version;
	mutex_unlock(&dev->lock);
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

/* Reduces @reg to the codecs and faces that the module supports. A face has a codec. */
static int check_register(struct daedalus_register *reg, bool first_version)
{
	if (!(reg->codecs | reg->stateful_codecs) || reg->flags ||
	    memchr_inv(reg->reserved, 0, sizeof(reg->reserved)) ||
	    !name_is_good(reg->name, sizeof(reg->name)))
		return -EINVAL;
	if (first_version &&
	    ((reg->codecs & ~daedalus_all_codecs()) || reg->faces || reg->stateful_codecs))
		return -EINVAL;
	reg->codecs &= daedalus_all_codecs();
	reg->stateful_codecs &= daedalus_all_codecs();
	reg->faces = reg->faces ? reg->faces & FACES : DAEDALUS_FACE_STATELESS;
	if (!(reg->faces & DAEDALUS_FACE_STATELESS))
		reg->codecs = 0;
	if (!(reg->faces & DAEDALUS_FACE_STATEFUL))
		reg->stateful_codecs = 0;
	if (!reg->codecs)
		reg->faces &= ~DAEDALUS_FACE_STATELESS;
	if (!reg->stateful_codecs)
		reg->faces &= ~DAEDALUS_FACE_STATEFUL;
	return reg->faces ? 0 : -EINVAL;
}

/* Registers the nodes of faces that have none yet. */
static int register_nodes(struct daedalus_dev *dev, u32 faces)
{
	int ret;

	lockdep_assert_held(&dev->lock);
	if (faces & ~dev->nodes & DAEDALUS_FACE_STATELESS) {
		ret = daedalus_nodes_register(control_video);
		if (ret)
			return ret;
		dev->nodes |= DAEDALUS_FACE_STATELESS;
	}
	if (faces & ~dev->nodes & DAEDALUS_FACE_STATEFUL) {
		ret = daedalus_stateful_register(control_stateful);
		if (ret)
			return ret;
		dev->nodes |= DAEDALUS_FACE_STATEFUL;
	}
	return 0;
}

static int broker_register(struct daedalus_broker *broker, struct daedalus_register __user *arg,
			   bool first_version)
{
	struct daedalus_dev *dev = broker->dev;
	struct daedalus_register reg;
	int ret;

	if (copy_from_user(&reg, arg, sizeof(reg)))
		return -EFAULT;
	ret = check_register(&reg, first_version);
	if (ret)
		return ret;
	if (!first_version && copy_to_user(arg, &reg, sizeof(reg)))
		return -EFAULT;

	mutex_lock(&dev->lock);
	if (!broker->version || (!first_version && broker->version < 2)) {
		ret = -EPROTO;
		goto unlock;
	}
	if (dev->broker) {
		ret = -EBUSY;
		goto unlock;
	}
	dev->codecs = reg.codecs;
	dev->stateful_codecs = reg.stateful_codecs;
	dev->faces = reg.faces;
	memcpy(dev->name, reg.name, sizeof(dev->name));
	ret = register_nodes(dev, reg.faces);
	if (ret)
		goto unlock;
	WRITE_ONCE(dev->broker, broker);
	dev_info(dev->parent, "served by %s\n", dev->name);
unlock:
	mutex_unlock(&dev->lock);
	if (!ret)
		wake_up_all(&dev->broker_wq);
	return ret;
}

static int broker_session_fd(struct daedalus_broker *broker,
			     struct daedalus_session_fd __user *arg)
{
	struct daedalus_session *session;
	struct daedalus_session_fd req;
	int ret;

	if (!is_registered(broker))
		return -ENOTCONN;
	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;
	if (req.fd || (req.flags & ~O_NONBLOCK) || req.reserved[0] || req.reserved[1])
		return -EINVAL;
	session = daedalus_session_find(broker->dev, req.session);
	if (!session)
		return -ENOENT;
	ret = daedalus_worker_open(session, broker->version, task_tgid(current), req.flags, arg);
	daedalus_session_put(session);
	return ret;
}

static long broker_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct daedalus_broker *broker = filp->private_data;

	switch (cmd) {
	case DAEDALUS_IOC_HELLO:
		return broker_hello(broker, (void __user *)arg);
	case DAEDALUS_IOC_REGISTER_V1:
		return broker_register(broker, (void __user *)arg, true);
	case DAEDALUS_IOC_REGISTER:
		return broker_register(broker, (void __user *)arg, false);
	case DAEDALUS_IOC_SESSION_FD:
		return broker_session_fd(broker, (void __user *)arg);
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

/**
 * daedalus_control_init() - create the control device
 * @video: the stateless face's nodes, which the first broker that serves it registers
 * @stateful: the stateful face's node, likewise
 *
 * Return: 0 or an error.
 */
int daedalus_control_init(struct daedalus_video *video, struct daedalus_stateful *stateful)
{
	control_video = video;
	control_stateful = stateful;
	return misc_register(&broker_misc);
}

/** daedalus_control_exit() - remove the control device, which nobody has open */
void daedalus_control_exit(void)
{
	misc_deregister(&broker_misc);
}
