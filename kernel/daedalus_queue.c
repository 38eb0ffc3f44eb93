// SPDX-License-Identifier: GPL-2.0
/*
 * The vb2 queues, and the memory behind buffers as workers see it.
 *
 * Memory: a plane of an MMAP buffer is vb2-dma-contig's, or vb2-dma-sg's if that
 * is wanted or if there is no contiguous memory for it. Each plane gets, in
 * buf_init, one dmabuf export of its own for workers (own export, own inode:
 * zapping it does not touch the client's mappings). Imported dmabufs are handed to
 * workers as they are: nothing here needs a DMA address, so they are neither
 * attached nor mapped, and scattered memory is as good as any.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <media/videobuf2-dma-contig.h>
#include <media/videobuf2-dma-sg.h>

#include "daedalus_drv.h"

/* Kinds of memory that there are besides contiguous. */
#define HAVE_SCATTERED IS_REACHABLE(CONFIG_VIDEOBUF2_DMA_SG)

static struct vb2_mem_ops daedalus_mem_ops;

/*
 * The core hands our memory operations the memory of a plane and says nothing of
 * its kind. All kinds are pointers to something aligned, so the kind is in the low
 * bits; 0 is contiguous.
 */
#define IMPORT_TAG 1UL
#define SCATTERED_TAG 2UL
#define KIND_MASK 3UL

static void *memory_of(void *priv)
{
	return (void *)((unsigned long)priv & ~KIND_MASK);
}

/* What made the memory of an MMAP buffer's plane. */
static const struct vb2_mem_ops *maker(void *priv)
{
#if HAVE_SCATTERED
	if ((unsigned long)priv & SCATTERED_TAG)
		return &vb2_dma_sg_memops;
#endif
	return &vb2_dma_contig_memops;
}

/*
 * Where devices that have 32 address bits reach it without a bounce buffer. The
 * DMA allocator of contiguous memory knows that by itself and warns of the flag.
 * The queue's lock is held, as for every allocation.
 */
static void *scattered_alloc(struct vb2_buffer *vb, struct device *dev, unsigned long size)
{
#if HAVE_SCATTERED
	struct vb2_queue *vq = vb->vb2_queue;
	gfp_t flags = vq->gfp_flags;
	void *mem;

	vq->gfp_flags |= __GFP_DMA32;
	mem = vb2_dma_sg_memops.alloc(vb, dev, size);
	vq->gfp_flags = flags;
	return IS_ERR(mem) ? mem : (void *)((unsigned long)mem | SCATTERED_TAG);
#else
	return ERR_PTR(-ENOMEM);
#endif
}

static void mmap_put(void *priv)
{
	maker(priv)->put(memory_of(priv));
}

static struct dma_buf *mmap_get_dmabuf(struct vb2_buffer *vb, void *priv,
				       unsigned long flags)
{
	return maker(priv)->get_dmabuf(vb, memory_of(priv), flags);
}

static int mmap_mmap(void *priv, struct vm_area_struct *vma)
{
	return maker(priv)->mmap(memory_of(priv), vma);
}

static void *import_attach(struct vb2_buffer *vb, struct device *dev,
			   struct dma_buf *dbuf, unsigned long size)
{
	if (dbuf->size < size)
		return ERR_PTR(-EFAULT);
	if (!dbuf->ops->mmap)
		return ERR_PTR(-EOPNOTSUPP);
	if (!vb->vb2_queue->is_output && !(dbuf->file->f_mode & FMODE_WRITE))
		return ERR_PTR(-EACCES);
	return (void *)((unsigned long)dbuf | IMPORT_TAG);
}

static void import_detach(void *priv)
{
}

static int import_map(void *priv)
{
	return 0;
}

static void import_unmap(void *priv)
{
}

static void uncharge(struct daedalus_ctx *ctx, struct daedalus_buf *buf)
{
	atomic64_sub(buf->charged, &ctx->memory);
	atomic64_sub(buf->charged, &ctx->dev->memory);
	buf->charged = 0;
}

/*
 * MMAP memory within the limits. If one plane cannot be had, vb2 drops the
 * buffer's others without a buf_cleanup, so they are uncharged here.
 */
static void *mmap_alloc(struct vb2_buffer *vb, struct device *dev, unsigned long size)
{
	struct daedalus_ctx *ctx = vb2_get_drv_priv(vb->vb2_queue);
	struct daedalus_buf *buf = to_daedalus_buf(vb);
	u64 ram = (u64)totalram_pages() << PAGE_SHIFT;
	u64 own = (u64)daedalus_max_session_mb << 20 ?: ram / 2;
	u64 all = (u64)daedalus_max_memory_mb << 20 ?: ram / 4 * 3;
	void *mem = ERR_PTR(-ENOMEM);
	bool fits;

	buf->charged += size;
	fits = atomic64_add_return(size, &ctx->memory) <= own;
	fits &= atomic64_add_return(size, &ctx->dev->memory) <= all;
	if (fits && !daedalus_scattered)
		mem = vb2_dma_contig_memops.alloc(vb, dev, size);
	if (fits && IS_ERR(mem))
		mem = scattered_alloc(vb, dev, size);
	if (IS_ERR(mem))
		uncharge(ctx, buf);
	return mem;
}

/* The worker's export is no user that a client should hear of. */
static unsigned int num_client_users(void *priv)
{
	unsigned int users;

	if ((unsigned long)priv & IMPORT_TAG)
		return 1;
	users = maker(priv)->num_users(memory_of(priv));
	return users > 1 ? users - 1 : users;
}

void daedalus_queue_module_init(void)
{
	daedalus_mem_ops = vb2_dma_contig_memops;
	daedalus_mem_ops.alloc = mmap_alloc;
	daedalus_mem_ops.put = mmap_put;
	daedalus_mem_ops.get_dmabuf = mmap_get_dmabuf;
	daedalus_mem_ops.mmap = mmap_mmap;
	daedalus_mem_ops.get_userptr = NULL;
	daedalus_mem_ops.put_userptr = NULL;
	/* The device is coherent: there is nothing to sync. */
	daedalus_mem_ops.prepare = NULL;
	daedalus_mem_ops.finish = NULL;
	daedalus_mem_ops.vaddr = NULL;
	daedalus_mem_ops.cookie = NULL;
	daedalus_mem_ops.attach_dmabuf = import_attach;
	daedalus_mem_ops.detach_dmabuf = import_detach;
	daedalus_mem_ops.map_dmabuf = import_map;
	daedalus_mem_ops.unmap_dmabuf = import_unmap;
	daedalus_mem_ops.num_users = num_client_users;
}

static int daedalus_queue_setup(struct vb2_queue *vq, unsigned int *num_buffers,
				unsigned int *num_planes, unsigned int sizes[],
				struct device *alloc_devs[])
{
	struct daedalus_ctx *ctx = vb2_get_drv_priv(vq);
	const struct v4l2_pix_format_mplane *pix =
		vq->is_output ? &ctx->coded_fmt : &ctx->raw_fmt;
	unsigned int i;

	/* CREATE_BUFS: daedalus_video.c has checked the sizes against the format. */
	if (*num_planes)
		return 0;
	*num_planes = pix->num_planes;
	for (i = 0; i < pix->num_planes; i++)
		sizes[i] = pix->plane_fmt[i].sizeimage;
	return 0;
}

static void daedalus_mem_free(struct daedalus_ctx *ctx, struct daedalus_mem *mem)
{
	struct dma_buf *dbuf = mem->dbuf;
	bool tell;

	spin_lock(&ctx->job_lock);
	list_del(&mem->entry);
	mem->dbuf = NULL;
	tell = ctx->worker && ctx->worker->id == mem->asked;
	if (tell) {
		list_add_tail(&mem->entry, &ctx->worker->gone);
		wake_up(&ctx->worker->wq);
	}
	spin_unlock(&ctx->job_lock);
	dma_buf_put(dbuf);
	if (!tell)
		kfree(mem);
}

static void daedalus_buf_cleanup(struct vb2_buffer *vb)
{
	struct daedalus_ctx *ctx = vb2_get_drv_priv(vb->vb2_queue);
	struct daedalus_buf *buf = to_daedalus_buf(vb);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(buf->mem); i++) {
		if (buf->mem[i])
			daedalus_mem_free(ctx, buf->mem[i]);
		buf->mem[i] = NULL;
	}
	uncharge(ctx, buf);
	kvfree(buf->job.msg);
	buf->job.msg = NULL;
	buf->job.msg_alloc = 0;
}

static struct dma_buf *daedalus_plane_dmabuf(struct vb2_buffer *vb, unsigned int plane)
{
	struct vb2_plane *p = &vb->planes[plane];

	if (vb->memory == VB2_MEMORY_DMABUF) {
		get_dma_buf(p->dbuf);
		return p->dbuf;
	}
	return vb->vb2_queue->mem_ops->get_dmabuf(vb, p->mem_priv,
			(vb->vb2_queue->is_output ? O_RDONLY : O_RDWR) | O_CLOEXEC);
}

static int daedalus_buf_init(struct vb2_buffer *vb)
{
	struct daedalus_ctx *ctx = vb2_get_drv_priv(vb->vb2_queue);
	struct daedalus_buf *buf = to_daedalus_buf(vb);
	struct daedalus_mem *mem;
	unsigned int i;

	for (i = 0; i < vb->num_planes; i++) {
		mem = kzalloc_obj(*mem);
		if (!mem)
			goto err;
		mem->dbuf = daedalus_plane_dmabuf(vb, i);
		if (!mem->dbuf) {
			kfree(mem);
			goto err;
		}
		mem->id = atomic64_inc_return(&ctx->dev->next_id);
		if (vb->memory == VB2_MEMORY_DMABUF)
			mem->flags |= DAEDALUS_BUFFER_F_IMPORTED;
		if (!vb->vb2_queue->is_output)
			mem->flags |= DAEDALUS_BUFFER_F_WRITE;
		buf->mem[i] = mem;
		spin_lock(&ctx->job_lock);
		list_add_tail(&mem->entry, &ctx->planes);
		spin_unlock(&ctx->job_lock);
	}
	return 0;

err:
	daedalus_buf_cleanup(vb);
	return -ENOMEM;
}

static int daedalus_buf_out_validate(struct vb2_buffer *vb)
{
	to_vb2_v4l2_buffer(vb)->field = V4L2_FIELD_NONE;
	return 0;
}

static int daedalus_buf_prepare(struct vb2_buffer *vb)
{
	struct daedalus_buf *buf = to_daedalus_buf(vb);
	unsigned int i;

	if (vb->vb2_queue->is_output)
		return 0;
	if (!buf->fmt.num_planes || buf->fmt.num_planes != vb->num_planes)
		return -EINVAL;
	for (i = 0; i < vb->num_planes; i++) {
		if (vb2_plane_size(vb, i) < buf->fmt.plane_fmt[i].sizeimage)
			return -EINVAL;
		vb2_set_plane_payload(vb, i, buf->fmt.plane_fmt[i].sizeimage);
	}
	return 0;
}

static void daedalus_buf_queue(struct vb2_buffer *vb)
{
	daedalus_buf_ready(vb2_get_drv_priv(vb->vb2_queue), to_daedalus_buf(vb));
}

static void daedalus_buf_request_complete(struct vb2_buffer *vb)
{
	struct daedalus_ctx *ctx = vb2_get_drv_priv(vb->vb2_queue);

	v4l2_ctrl_request_complete(vb->req_obj.req, &ctx->hdl);
}

static int daedalus_start_streaming(struct vb2_queue *vq, unsigned int count)
{
	daedalus_start(vb2_get_drv_priv(vq), vq->is_output ? BIT(0) : BIT(1));
	return 0;
}

static void daedalus_stop_streaming(struct vb2_queue *vq)
{
	daedalus_stop(vb2_get_drv_priv(vq), vq->is_output ? BIT(0) : BIT(1));
}

static const struct vb2_ops daedalus_vb2_ops = {
	.queue_setup = daedalus_queue_setup,
	.buf_init = daedalus_buf_init,
	.buf_cleanup = daedalus_buf_cleanup,
	.buf_out_validate = daedalus_buf_out_validate,
	.buf_prepare = daedalus_buf_prepare,
	.buf_queue = daedalus_buf_queue,
	.buf_request_complete = daedalus_buf_request_complete,
	.start_streaming = daedalus_start_streaming,
	.stop_streaming = daedalus_stop_streaming,
	DAEDALUS_VB2_WAIT_OPS
};

int daedalus_queue_init(void *priv, struct vb2_queue *src, struct vb2_queue *dst)
{
	struct daedalus_ctx *ctx = priv;
	struct vb2_queue *vq;
	int ret;

	src->type = V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE;
	src->supports_requests = 1;
	src->requires_requests = 1;
	src->subsystem_flags = VB2_V4L2_FL_SUPPORTS_M2M_HOLD_CAPTURE_BUF;
	dst->type = V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE;

	for (vq = src; ; vq = dst) {
		vq->io_modes = VB2_MMAP | VB2_DMABUF;
		vq->drv_priv = ctx;
		vq->buf_struct_size = sizeof(struct daedalus_buf);
		vq->ops = &daedalus_vb2_ops;
		vq->mem_ops = &daedalus_mem_ops;
		vq->timestamp_flags = V4L2_BUF_FLAG_TIMESTAMP_COPY;
		vq->lock = &ctx->lock;
		vq->dev = &ctx->dev->pdev->dev;
		/* On the client's control group's account. */
		vq->gfp_flags = __GFP_NOWARN | __GFP_ACCOUNT;
		vq->allow_cache_hints = 1;
		vq->max_num_buffers = DAEDALUS_MAX_BUFFERS;
		ret = vb2_queue_init(vq);
		if (ret || vq == dst)
			return ret;
	}
}
