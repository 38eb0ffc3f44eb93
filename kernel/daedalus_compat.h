/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The differences between Linux 6.12 and 7.3. No other file checks the version.
 */
#ifndef DAEDALUS_COMPAT_H
#define DAEDALUS_COMPAT_H

#include <linux/delay.h>
#include <linux/device.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/version.h>
#include <media/media-device.h>
#include <media/v4l2-fh.h>
#include <media/videobuf2-v4l2.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define DAEDALUS_IMPORT_DMA_BUF() MODULE_IMPORT_NS("DMA_BUF")
#else
#define DAEDALUS_IMPORT_DMA_BUF() MODULE_IMPORT_NS(DMA_BUF)
#endif

#ifndef kzalloc_obj
#define kzalloc_obj(obj) kzalloc(sizeof(obj), GFP_KERNEL)
#endif
#ifndef kvzalloc_obj
#define kvzalloc_obj(obj) kvzalloc(sizeof(obj), GFP_KERNEL)
#endif

static inline struct v4l2_fh *daedalus_file_to_fh(struct file *filp)
{
	return filp->private_data;
}

static inline void daedalus_fh_add(struct v4l2_fh *fh, struct file *filp)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
	v4l2_fh_add(fh, filp);
#else
	filp->private_data = fh;
	v4l2_fh_add(fh);
#endif
}

static inline void daedalus_fh_del(struct v4l2_fh *fh, struct file *filp)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
	v4l2_fh_del(fh, filp);
#else
	v4l2_fh_del(fh);
#endif
}

/* vb2 drops the queue's lock by itself since 6.13. Before, drivers had to do it. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define DAEDALUS_VB2_WAIT_OPS \
	.wait_prepare = vb2_ops_wait_prepare, \
	.wait_finish = vb2_ops_wait_finish,
#else
#define DAEDALUS_VB2_WAIT_OPS
#endif

/*
 * User Mode Linux only records that a mapping is gone. A process that runs on another
 * processor uses the mapping until it enters the kernel the next time.
 */
static inline void daedalus_sync_user_mappings(void)
{
	if (IS_ENABLED(CONFIG_UML))
		kick_all_cpus_sync();
}

/*
 * Newer cores still decrement a counter of the media device after they called
 * req_free. The device's memory must outlive that.
 */
static inline void daedalus_wait_requests_gone(struct media_device *mdev)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
	while (atomic_read(&mdev->num_requests))
		msleep(20);
#endif
}

#endif
