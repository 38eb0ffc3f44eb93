/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the queues of both faces share: vb2's memory operations, the allocation of planes
 * outside of the locks, mmap offsets, poll.
 */
#ifndef DAEDALUS_PLANES_H
#define DAEDALUS_PLANES_H

#include <linux/bits.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <media/videobuf2-v4l2.h>

#include "daedalus_memory.h"

struct daedalus_dev;

#define DAEDALUS_MAX_BUFFERS	64U	/* per queue */
#define DAEDALUS_OUTPUT		BIT(0)
#define DAEDALUS_CAPTURE	BIT(1)

/**
 * struct daedalus_need - planes that an ioctl lacks
 * @capture: for the queue of CAPTURE
 * @fresh: for a queue without buffers
 * @count: number of buffers; 0: it lacks none
 * @num_planes: planes of each buffer
 * @sizes: bytes of each plane
 */
struct daedalus_need {
	bool capture;
	bool fresh;
	unsigned int count;
	unsigned int num_planes;
	unsigned int sizes[VB2_MAX_PLANES];
};

/**
 * struct daedalus_planes - allocates the planes of a session's two queues; both queues'
 *	drv_priv points to it
 * @dev: the device
 * @pool: the session's memory
 * @lock: outermost; held over an ioctl that allocates
 * @map_lock: held while buffers come and go, and while one is mapped: vb2_mmap() looks for
 *	buffers that vb2_reqbufs() is still making. Innermost but for vb2's own locks.
 * @reserve: planes for the ioctl that holds @lock
 * @need: planes that the ioctl lacks
 * @reserved: the ioctl runs for the second time, and has got all the memory there is
 * @contiguous: the buffers of CAPTURE are contiguous
 */
struct daedalus_planes {
	struct daedalus_dev *dev;
	struct daedalus_pool *pool;
	struct mutex lock;	/* reserve, need */
	struct mutex map_lock;	/* planes that a client may map */
	struct daedalus_reserve reserve;
	struct daedalus_need need;
	bool reserved;
	bool contiguous;
};

void daedalus_planes_init(struct daedalus_planes *planes, struct daedalus_dev *dev,
			  struct daedalus_pool *pool);
void daedalus_planes_exit(struct daedalus_planes *planes);
int daedalus_planes_queue(struct daedalus_planes *planes, struct vb2_queue *vq, struct mutex *lock,
			  enum v4l2_buf_type type, const struct vb2_ops *ops, size_t size);
int daedalus_planes_setup(struct vb2_queue *vq, const struct v4l2_pix_format_mplane *pix,
			  unsigned int count, unsigned int *num_planes, unsigned int *sizes);
int daedalus_planes_validate(struct vb2_buffer *vb);
int daedalus_planes_prepare(struct vb2_buffer *vb, const struct v4l2_pix_format_mplane *pix);
int daedalus_planes_usable(struct vb2_buffer *vb);
int daedalus_planes_request(struct vb2_queue *vq, struct v4l2_requestbuffers *rb);
int daedalus_planes_create(struct vb2_queue *vq, struct v4l2_create_buffers *create);
int daedalus_planes_remove(struct vb2_queue *vq, unsigned int index, unsigned int count);
long daedalus_planes_ioctl(struct daedalus_planes *planes, struct file *filp, unsigned int cmd,
			   unsigned long arg);
void daedalus_fill_plane(struct daedalus_plane *plane, struct vb2_buffer *vb, unsigned int i,
			 u32 offset, u32 end, u32 bytesperline);
void daedalus_mark_offsets(struct vb2_queue *vq, struct v4l2_buffer *buf);
int daedalus_queues_mmap(struct vb2_queue *src, struct vb2_queue *dst, struct vm_area_struct *vma);
__poll_t daedalus_queues_poll(struct vb2_queue *src, struct vb2_queue *dst);

static inline struct daedalus_planes *daedalus_queue_planes(struct vb2_queue *vq)
{
	return vb2_get_drv_priv(vq);
}

#endif
