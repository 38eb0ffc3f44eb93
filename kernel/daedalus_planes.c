// SPDX-License-Identifier: GPL-2.0
/*
 * What the queues of both faces share.
 *
 * Nothing slow happens under the locks of a queue. An ioctl that allocates finds out there
 * what it lacks, returns, allocates it without a lock, and goes in again.
 */
#include <linux/dma-buf.h>
#include <linux/mm.h>
#include <media/v4l2-ioctl.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_planes.h"

/* This bit distinguishes the queues' mmap() offsets. */
#define CAPTURE_OFFSET	BIT(30)

static void *op_alloc(struct vb2_buffer *vb, struct device *dev, unsigned long size)
{
	struct daedalus_planes *planes = daedalus_queue_planes(vb->vb2_queue);

	return daedalus_reserve_take(&planes->reserve, size) ?: ERR_PTR(-ENOMEM);
}

static void op_release(void *mem)
{
	daedalus_mem_release(mem);
}

static struct dma_buf *op_get_dmabuf(struct vb2_buffer *vb, void *mem, unsigned long flags)
{
	return daedalus_mem_export(mem, flags);
}

static unsigned int op_num_users(void *mem)
{
	return daedalus_mem_users(mem);
}

static int op_mmap(void *mem, struct vm_area_struct *vma)
{
	return daedalus_mem_mmap(mem, vma);
}

static void *op_attach_dmabuf(struct vb2_buffer *vb, struct device *dev, struct dma_buf *dbuf,
			      unsigned long size)
{
	struct daedalus_planes *planes = daedalus_queue_planes(vb->vb2_queue);

	return daedalus_mem_import(planes->pool, dbuf, !vb->vb2_queue->is_output);
}

/* Workers map imported memory. The module needs no address of it. */
static int op_map_dmabuf(void *mem)
{
	return 0;
}

static void op_unmap_dmabuf(void *mem)
{
}

static const struct vb2_mem_ops mem_ops = {
	.alloc = op_alloc,
	.put = op_release,
	.get_dmabuf = op_get_dmabuf,
	.num_users = op_num_users,
	.mmap = op_mmap,
	.attach_dmabuf = op_attach_dmabuf,
	.detach_dmabuf = op_release,
	.map_dmabuf = op_map_dmabuf,
	.unmap_dmabuf = op_unmap_dmabuf,
};

/**
 * daedalus_planes_init() - prepare the allocation of a session's planes
 * @planes: zeroed memory
 * @dev: the device
 * @pool: the session's memory
 */
void daedalus_planes_init(struct daedalus_planes *planes, struct daedalus_dev *dev,
			  struct daedalus_pool *pool)
{
	planes->dev = dev;
	planes->pool = pool;
	mutex_init(&planes->lock);
	mutex_init(&planes->map_lock);
	INIT_LIST_HEAD(&planes->reserve.entries);
}

/**
 * daedalus_planes_exit() - end the allocation of a session's planes
 * @planes: nobody uses it any more
 */
void daedalus_planes_exit(struct daedalus_planes *planes)
{
	mutex_destroy(&planes->map_lock);
	mutex_destroy(&planes->lock);
}

/**
 * daedalus_planes_queue() - initialise a queue whose planes these are
 * @planes: becomes the queue's drv_priv
 * @vq: the queue, zeroed but for what only one face needs
 * @lock: the queue's lock
 * @type: V4L2_BUF_TYPE_*
 * @ops: the face's operations
 * @size: bytes of a buffer's structure
 *
 * Return: 0 or an error.
 */
int daedalus_planes_queue(struct daedalus_planes *planes, struct vb2_queue *vq, struct mutex *lock,
			  enum v4l2_buf_type type, const struct vb2_ops *ops, size_t size)
{
	vq->type = type;
	vq->io_modes = VB2_MMAP | VB2_DMABUF;
	vq->drv_priv = planes;
	vq->buf_struct_size = size;
	vq->ops = ops;
	vq->mem_ops = &mem_ops;
	vq->timestamp_flags = V4L2_BUF_FLAG_TIMESTAMP_COPY;
	vq->lock = lock;
	vq->dev = planes->dev->parent;
	vq->allow_cache_hints = 1;
	vq->max_num_buffers = DAEDALUS_MAX_BUFFERS;
	return vb2_queue_init(vq);
}

/**
 * daedalus_planes_setup() - size the planes of new buffers, and check whether they are reserved
 * @vq: the queue
 * @pix: the queue's format
 * @count: number of buffers
 * @num_planes: planes of each buffer; 0 for those of the format, otherwise the sizes were
 *	checked against it
 * @sizes: bytes of each plane
 *
 * Context: called by queue_setup, under daedalus_planes_ioctl().
 * Return: 0, or -EAGAIN: the ioctl is called again when they are.
 */
int daedalus_planes_setup(struct vb2_queue *vq, const struct v4l2_pix_format_mplane *pix,
			  unsigned int count, unsigned int *num_planes, unsigned int *sizes)
{
	struct daedalus_planes *planes = daedalus_queue_planes(vq);
	struct daedalus_need *need = &planes->need;
	unsigned int i;

	if (!*num_planes) {
		*num_planes = pix->num_planes;
		for (i = 0; i < pix->num_planes; i++)
			sizes[i] = pix->plane_fmt[i].sizeimage;
	}
	if (vq->memory != VB2_MEMORY_MMAP || planes->reserved ||
	    daedalus_reserve_has(&planes->reserve, count, *num_planes, sizes))
		return 0;
	need->capture = !vq->is_output;
	need->fresh = !vb2_get_num_buffers(vq);
	need->count = count;
	need->num_planes = *num_planes;
	memcpy(need->sizes, sizes, *num_planes * sizeof(*sizes));
	return -EAGAIN;
}

/**
 * daedalus_planes_validate() - check a coded buffer that a client queues
 * @vb: the buffer
 *
 * Return: 0.
 */
int daedalus_planes_validate(struct vb2_buffer *vb)
{
	to_vb2_v4l2_buffer(vb)->field = V4L2_FIELD_NONE;
	return 0;
}

/**
 * daedalus_planes_prepare() - check whether a raw buffer has room for a picture
 * @vb: the buffer
 * @pix: the buffer's format
 *
 * Return: 0, or -EINVAL if it has not.
 */
int daedalus_planes_prepare(struct vb2_buffer *vb, const struct v4l2_pix_format_mplane *pix)
{
	unsigned int i;

	if (!pix->num_planes || pix->num_planes != vb->num_planes)
		return -EINVAL;
	for (i = 0; i < vb->num_planes; i++) {
		if (vb2_plane_size(vb, i) < pix->plane_fmt[i].sizeimage)
			return -EINVAL;
		vb2_set_plane_payload(vb, i, pix->plane_fmt[i].sizeimage);
	}
	return 0;
}

/**
 * daedalus_planes_usable() - check whether a worker can use a buffer
 * @vb: the buffer, which gets its memory
 *
 * Return: as daedalus_mem_usable().
 */
int daedalus_planes_usable(struct vb2_buffer *vb)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < vb->num_planes && !ret; i++)
		ret = daedalus_mem_usable(vb->planes[i].mem_priv, vb->planes[i].length);
	return ret;
}

/**
 * daedalus_planes_request() - allocate or free the buffers of a queue (VIDIOC_REQBUFS)
 * @vq: the queue, whose lock is held
 * @rb: the ioctl's argument
 *
 * Return: as vb2_reqbufs().
 */
int daedalus_planes_request(struct vb2_queue *vq, struct v4l2_requestbuffers *rb)
{
	struct daedalus_planes *planes = daedalus_queue_planes(vq);
	int ret;

	mutex_lock(&planes->map_lock);
	ret = vb2_reqbufs(vq, rb);
	mutex_unlock(&planes->map_lock);
	return ret;
}

/**
 * daedalus_planes_create() - allocate more buffers of a queue (VIDIOC_CREATE_BUFS)
 * @vq: the queue, whose lock is held
 * @create: the ioctl's argument
 *
 * Return: as vb2_create_bufs().
 */
int daedalus_planes_create(struct vb2_queue *vq, struct v4l2_create_buffers *create)
{
	struct daedalus_planes *planes = daedalus_queue_planes(vq);
	int ret;

	mutex_lock(&planes->map_lock);
	ret = vb2_create_bufs(vq, create);
	mutex_unlock(&planes->map_lock);
	return ret;
}

/**
 * daedalus_planes_remove() - free buffers of a queue (VIDIOC_REMOVE_BUFS)
 * @vq: the queue, whose lock is held
 * @index: the first buffer
 * @count: number of buffers
 *
 * Return: as vb2_core_remove_bufs().
 */
int daedalus_planes_remove(struct vb2_queue *vq, unsigned int index, unsigned int count)
{
	struct daedalus_planes *planes = daedalus_queue_planes(vq);
	int ret;

	mutex_lock(&planes->map_lock);
	ret = vb2_core_remove_bufs(vq, index, count);
	mutex_unlock(&planes->map_lock);
	return ret;
}

/* Allocates the planes that the ioctl of this process lacked. */
static int fill_reserve(struct daedalus_planes *planes)
{
	struct daedalus_need *need = &planes->need;
	bool contiguous = false;
	unsigned int i;
	u64 size = 0;
	int ret;

	if (need->capture) {
		for (i = 0; i < need->num_planes; i++)
			size += PAGE_ALIGN(need->sizes[i]);
		if (need->fresh)
			planes->contiguous = daedalus_contiguous_fits(planes->pool, size);
		contiguous = planes->contiguous;
	}
	ret = daedalus_reserve_add(planes->pool, &planes->reserve, need->count,
				   need->num_planes, need->sizes, need->capture, &contiguous);
	if (need->capture && planes->contiguous && !contiguous) {
		planes->contiguous = false;
		if (!need->fresh)
			atomic_inc(&planes->dev->mixed);
	}
	return ret;
}

/**
 * daedalus_planes_ioctl() - run an ioctl that allocates, with the allocation outside its locks
 * @planes: of the session
 * @filp: the open video node
 * @cmd: VIDIOC_REQBUFS or VIDIOC_CREATE_BUFS, in either ABI
 * @arg: its argument
 *
 * Return: the ioctl's result.
 */
long daedalus_planes_ioctl(struct daedalus_planes *planes, struct file *filp, unsigned int cmd,
			   unsigned long arg)
{
	long ret;

	if (mutex_lock_killable(&planes->lock))
		return -ERESTARTSYS;
	planes->need.count = 0;
	planes->reserved = false;
	ret = video_ioctl2(filp, cmd, arg);
	if (ret == -EAGAIN && planes->need.count) {
		ret = fill_reserve(planes);
		planes->reserved = true;
		if (!ret)
			ret = video_ioctl2(filp, cmd, arg);
	}
	daedalus_reserve_drop(&planes->reserve);
	mutex_unlock(&planes->lock);
	return ret;
}

/**
 * daedalus_fill_plane() - describe a buffer's plane to the worker, except its id
 * @plane: the description
 * @vb: the buffer
 * @i: index of the plane
 * @offset: first byte to use
 * @end: byte after the last one to use
 * @bytesperline: bytes of a line, or 0
 */
void daedalus_fill_plane(struct daedalus_plane *plane, struct vb2_buffer *vb, unsigned int i,
			 u32 offset, u32 end, u32 bytesperline)
{
	plane->offset = offset;
	plane->length = min_t(size_t, end, daedalus_mem_size(vb->planes[i].mem_priv)) - offset;
	plane->bytesperline = bytesperline;
}

/**
 * daedalus_mark_offsets() - give CAPTURE's mmap offsets their own range
 * @vq: the buffer's queue
 * @buf: the buffer on its way to the client
 */
void daedalus_mark_offsets(struct vb2_queue *vq, struct v4l2_buffer *buf)
{
	unsigned int i;

	if (vq->is_output || buf->memory != V4L2_MEMORY_MMAP)
		return;
	for (i = 0; i < buf->length; i++)
		buf->m.planes[i].m.mem_offset += CAPTURE_OFFSET;
}

/**
 * daedalus_queues_mmap() - map a plane of either queue
 * @src: OUTPUT
 * @dst: CAPTURE
 * @vma: the mapping
 *
 * Return: 0 or an error.
 */
int daedalus_queues_mmap(struct vb2_queue *src, struct vb2_queue *dst, struct vm_area_struct *vma)
{
	const unsigned long first = CAPTURE_OFFSET >> PAGE_SHIFT;
	struct daedalus_planes *planes = daedalus_queue_planes(src);
	struct vb2_queue *vq = src;
	int ret;

	if (vma->vm_pgoff >= first) {
		vma->vm_pgoff -= first;
		vq = dst;
	}
	mutex_lock(&planes->map_lock);
	ret = vb2_mmap(vq, vma);
	mutex_unlock(&planes->map_lock);
	return ret;
}

static bool has_done(struct vb2_queue *vq)
{
	unsigned long flags;
	bool ret;

	spin_lock_irqsave(&vq->done_lock, flags);
	ret = !list_empty(&vq->done_list);
	spin_unlock_irqrestore(&vq->done_lock, flags);
	return ret;
}

/**
 * daedalus_queues_poll() - tell which queues have a buffer to dequeue
 * @src: OUTPUT
 * @dst: CAPTURE
 *
 * Return: EPOLL*; EPOLLERR if no queued buffer can come back.
 */
__poll_t daedalus_queues_poll(struct vb2_queue *src, struct vb2_queue *dst)
{
	__poll_t events = 0;

	/* After the last buffer, DQBUF returns EPIPE at once. */
	if (dst->last_buffer_dequeued)
		events |= EPOLLIN | EPOLLRDNORM;
	if (!events &&
	    (!vb2_is_streaming(src) || src->error || list_empty(&src->queued_list)) &&
	    (!vb2_is_streaming(dst) || dst->error || list_empty(&dst->queued_list)))
		return EPOLLERR;
	if (has_done(src))
		events |= EPOLLOUT | EPOLLWRNORM;
	if (has_done(dst))
		events |= EPOLLIN | EPOLLRDNORM;
	return events;
}
