/* SPDX-License-Identifier: GPL-2.0 */
/* The object behind a plane, private to daedalus_memory.c and daedalus_pool.c. */
#ifndef DAEDALUS_MEM_OBJECT_H
#define DAEDALUS_MEM_OBJECT_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>

struct daedalus_dev;
struct daedalus_window;
struct dma_buf;

enum daedalus_mem_kind {
	DAEDALUS_MEM_PAGES,	/* pages of the buddy allocator, each freed by itself */
	DAEDALUS_MEM_CMA,	/* of the DMA API's contiguous area */
	DAEDALUS_MEM_IMPORT,	/* a dmabuf that the client brought */
};

/**
 * struct daedalus_pool - the memory of one session
 * @ref: held by the session, by each plane and by each window
 * @dev: the device
 * @memory: charged bytes
 * @contiguous: charged bytes of contiguous planes
 * @lock: see the top of daedalus_memory.c
 * @mems: planes that belong to a buffer
 */
struct daedalus_pool {
	struct kref ref;
	struct daedalus_dev *dev;
	atomic64_t memory;
	atomic64_t contiguous;
	spinlock_t lock;	/* ids, windows, lists */
	struct list_head mems;
};

/**
 * struct daedalus_mem - the memory of one plane
 * @entry: in &daedalus_pool.mems or &daedalus_reserve.entries
 * @ref: see "Lifetime" in daedalus_memory.c
 * @users: number of users by vb2's definition: the buffer, and the client's mappings and
 *	dmabufs
 * @pool: charged; referenced
 * @kind: where the memory comes from
 * @contiguous: one segment
 * @capture: a worker may write to it
 * @id: never reused; guarded by &daedalus_pool.lock
 * @window: the current worker's window, referenced; guarded by &daedalus_pool.lock
 * @size: bytes
 * @num_pages: number of @pages
 * @pages: of DAEDALUS_MEM_PAGES and DAEDALUS_MEM_CMA
 * @handle: DMA address, of DAEDALUS_MEM_CMA
 * @import: the client's dmabuf, referenced, of DAEDALUS_MEM_IMPORT
 * @lock: guards @attachments
 * @attachments: struct mem_attachment of all exports
 * @mapped: number of mappings of attachments
 * @free_work: frees the pages
 */
struct daedalus_mem {
	struct list_head entry;
	refcount_t ref;
	atomic_t users;
	struct daedalus_pool *pool;
	enum daedalus_mem_kind kind;
	bool contiguous;
	bool capture;
	u64 id;
	struct daedalus_window *window;
	size_t size;
	unsigned int num_pages;
	struct page **pages;
	dma_addr_t handle;
	struct dma_buf *import;
	struct mutex lock;	/* attachments */
	struct list_head attachments;
	atomic_t mapped;
	struct work_struct free_work;
};

struct daedalus_mem *daedalus_mem_create(struct daedalus_pool *pool, gfp_t gfp);
void daedalus_mem_destroy(struct daedalus_mem *mem);
void daedalus_mem_enlist(struct daedalus_mem *mem);

#endif
