// SPDX-License-Identifier: GPL-2.0
/*
 * Accounts and pages: the charge of a session's planes, the source of their pages, and
 * allocation before the core's locks are taken.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_mem_object.h"
#include "daedalus_memory.h"

/* Grey in all picture formats. It shows where a decoder wrote nothing. */
#define FILL_CAPTURE	0x80
/* The largest order of one allocation of pages. */
#define SCATTERED_ORDER	8
/* A queue is contiguous only if the budget has room for this many of its buffers. */
#define CONTIGUOUS_BUFFERS	16

/* --- accounts --- */

static u64 ram_bytes(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
}

static u64 free_cma_bytes(void)
{
	return (u64)global_zone_page_state(NR_FREE_CMA_PAGES) << PAGE_SHIFT;
}

static void uncharge(struct daedalus_pool *pool, u64 bytes, bool contiguous)
{
	atomic64_sub(bytes, &pool->memory);
	atomic64_sub(bytes, &pool->dev->memory);
	if (contiguous) {
		atomic64_sub(bytes, &pool->contiguous);
		atomic64_sub(bytes, &pool->dev->contiguous);
	}
}

static bool charge(struct daedalus_pool *pool, u64 bytes, bool contiguous)
{
	u64 own = (u64)daedalus_max_session_mb << 20 ?: ram_bytes() / 2;
	u64 all = (u64)daedalus_max_memory_mb << 20 ?: ram_bytes() / 4 * 3;
	u64 spare = (u64)daedalus_min_available_mb << 20 ?: ram_bytes() / 16;
	bool fits;

	fits = atomic64_add_return(bytes, &pool->memory) <= own;
	fits &= atomic64_add_return(bytes, &pool->dev->memory) <= all;
	if (contiguous) {
		atomic64_add(bytes, &pool->contiguous);
		fits &= atomic64_add_return(bytes, &pool->dev->contiguous) <=
			pool->dev->contiguous_budget;
	}
	fits &= ((u64)max(si_mem_available(), 0L) << PAGE_SHIFT) >= bytes + spare;
	if (!fits)
		uncharge(pool, bytes, contiguous);
	return fits;
}

/**
 * daedalus_memory_init() - decide the budget of contiguous memory
 * @dev: the device
 */
void daedalus_memory_init(struct daedalus_dev *dev)
{
	u64 cma = free_cma_bytes();

	dev->contiguous_budget = (u64)daedalus_max_contiguous_mb << 20 ?: cma / 2 ?: SZ_64M;
	dev->cma = cma;
}

/**
 * daedalus_contiguous_reason() - say why contiguous memory is tried or not
 * @dev: the device
 *
 * Return: a text for debugfs.
 */
const char *daedalus_contiguous_reason(struct daedalus_dev *dev)
{
	if (daedalus_contiguous > 0)
		return "tried: the parameter contiguous asks for it";
	if (!daedalus_contiguous)
		return "not tried: the parameter contiguous forbids it";
	return dev->cma ? "tried: there is a CMA area" : "not tried: there is no CMA area";
}

static bool wants_contiguous(struct daedalus_dev *dev)
{
	return daedalus_contiguous > 0 || (daedalus_contiguous && dev->cma);
}

/**
 * daedalus_contiguous_fits() - decide whether a new queue of CAPTURE is contiguous
 * @pool: the session's pool
 * @size: bytes of one buffer, all planes
 *
 * A display fails in mid-stream when a queue is mixed, so a queue begins contiguous
 * only if there is room for its later buffers, too.
 */
bool daedalus_contiguous_fits(struct daedalus_pool *pool, u64 size)
{
	struct daedalus_dev *dev = pool->dev;
	u64 need = size * CONTIGUOUS_BUFFERS;

	if (!wants_contiguous(dev))
		return false;
	if (dev->cma && free_cma_bytes() < need)
		return false;
	return atomic64_read(&dev->contiguous) + need <= dev->contiguous_budget;
}

/**
 * daedalus_pool_create() - create a session's memory pool
 * @dev: the device
 *
 * Return: the pool, or NULL.
 */
struct daedalus_pool *daedalus_pool_create(struct daedalus_dev *dev)
{
	struct daedalus_pool *pool = kzalloc_obj(*pool);

	if (!pool)
		return NULL;
	kref_init(&pool->ref);
	pool->dev = dev;
	spin_lock_init(&pool->lock);
	INIT_LIST_HEAD(&pool->mems);
	return pool;
}

static void pool_free(struct kref *ref)
{
	kfree(container_of(ref, struct daedalus_pool, ref));
}

/**
 * daedalus_pool_put() - drop a reference
 * @pool: the pool
 */
void daedalus_pool_put(struct daedalus_pool *pool)
{
	kref_put(&pool->ref, pool_free);
}

/**
 * daedalus_pool_usage() - return the charge
 * @pool: the pool
 * @contiguous: out: bytes of contiguous planes
 * @scattered: out: bytes of the others
 */
void daedalus_pool_usage(struct daedalus_pool *pool, u64 *contiguous, u64 *scattered)
{
	u64 all = atomic64_read(&pool->memory);

	*contiguous = atomic64_read(&pool->contiguous);
	*scattered = all > *contiguous ? all - *contiguous : 0;
}

/* --- pages --- */

static void free_pages_of(struct daedalus_mem *mem)
{
	unsigned int i;

	if (mem->kind == DAEDALUS_MEM_CMA) {
		dma_free_pages(mem->pool->dev->parent, mem->size, mem->pages[0], mem->handle,
			       DMA_BIDIRECTIONAL);
	} else {
		for (i = 0; i < mem->num_pages && mem->pages[i]; i++)
			__free_page(mem->pages[i]);
	}
	kvfree(mem->pages);
}

static int alloc_scattered(struct daedalus_mem *mem, gfp_t gfp)
{
	unsigned int most = SCATTERED_ORDER, done = 0, order, i;
	struct page *page;

	while (done < mem->num_pages) {
		order = min_t(unsigned int, most, ilog2(mem->num_pages - done));
		if (order)
			page = alloc_pages((gfp & ~__GFP_DIRECT_RECLAIM) | __GFP_NORETRY, order);
		else
			page = alloc_page(gfp | __GFP_RETRY_MAYFAIL);
		if (!page) {
			if (!order)
				return -ENOMEM;
			most = order - 1;
			continue;
		}
		if (order)
			split_page(page, order);
		for (i = 0; i < 1U << order; i++)
			mem->pages[done++] = page + i;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/*
 * Allocates one segment that devices with 32 address bits reach. Returns the pages that
 * the allocator rounded up to, so that the plane takes exactly its charge.
 */
static int alloc_one_segment(struct daedalus_mem *mem, gfp_t gfp)
{
	struct device *parent = mem->pool->dev->parent;
	unsigned int order = get_order(mem->size), i;
	struct page *page;

	if (mem->pool->dev->cma) {
		if (free_cma_bytes() < mem->size)
			return -ENOMEM;
		page = dma_alloc_pages(parent, mem->size, &mem->handle, DMA_BIDIRECTIONAL, gfp);
		if (!page)
			return -ENOMEM;
		/* Pages of the CMA area have a reference each, others have one per block. */
		if (mem->num_pages > 1 && page_count(page + 1))
			mem->kind = DAEDALUS_MEM_CMA;
	} else {
		page = alloc_pages(gfp | __GFP_DMA32 | __GFP_NORETRY, order);
		if (!page)
			return -ENOMEM;
	}
	for (i = 0; i < mem->num_pages; i++)
		mem->pages[i] = page + i;
	if (mem->kind == DAEDALUS_MEM_PAGES && order) {
		split_page(page, order);
		for (i = mem->num_pages; i < 1U << order; i++)
			__free_page(page + i);
	}
	return 0;
}

/**
 * daedalus_mem_create() - create a plane without memory
 * @pool: gets a reference
 * @gfp: flags of the allocation
 *
 * Return: the plane, or NULL.
 */
struct daedalus_mem *daedalus_mem_create(struct daedalus_pool *pool, gfp_t gfp)
{
	struct daedalus_mem *mem = kzalloc(sizeof(*mem), gfp);

	if (!mem)
		return NULL;
	refcount_set(&mem->ref, 1);
	atomic_set(&mem->users, 1);
	kref_get(&pool->ref);
	mem->pool = pool;
	INIT_LIST_HEAD(&mem->entry);
	mutex_init(&mem->lock);
	INIT_LIST_HEAD(&mem->attachments);
	return mem;
}

/**
 * daedalus_mem_destroy() - free a plane and uncharge it
 * @mem: the plane, without references
 *
 * Context: takes long, so hold no lock.
 */
void daedalus_mem_destroy(struct daedalus_mem *mem)
{
	struct daedalus_pool *pool = mem->pool;

	if (mem->kind == DAEDALUS_MEM_IMPORT) {
		dma_buf_put(mem->import);
	} else {
		free_pages_of(mem);
		uncharge(pool, mem->size, mem->contiguous);
	}
	mutex_destroy(&mem->lock);
	kfree(mem);
	daedalus_pool_put(pool);
}

static struct daedalus_mem *mem_alloc(struct daedalus_pool *pool, size_t size, bool capture,
				      bool contiguous)
{
	/* Charged to the client's control group. */
	gfp_t gfp = GFP_KERNEL | __GFP_NOWARN | __GFP_ACCOUNT;
	struct daedalus_mem *mem;
	unsigned int i;
	int ret;

	if (!charge(pool, size, contiguous))
		return ERR_PTR(-ENOMEM);
	mem = daedalus_mem_create(pool, GFP_KERNEL_ACCOUNT);
	if (!mem) {
		uncharge(pool, size, contiguous);
		return ERR_PTR(-ENOMEM);
	}
	mem->kind = DAEDALUS_MEM_PAGES;
	mem->contiguous = contiguous;
	mem->capture = capture;
	mem->size = size;
	mem->num_pages = size >> PAGE_SHIFT;
	mem->pages = kvcalloc(mem->num_pages, sizeof(*mem->pages), GFP_KERNEL_ACCOUNT);
	if (!mem->pages) {
		mem->num_pages = 0;
		ret = -ENOMEM;
	} else {
		ret = contiguous ? alloc_one_segment(mem, gfp) : alloc_scattered(mem, gfp);
	}
	if (ret) {
		daedalus_mem_destroy(mem);
		return ERR_PTR(ret);
	}
	for (i = 0; i < mem->num_pages; i++) {
		memset_page(mem->pages[i], 0, capture ? FILL_CAPTURE : 0, PAGE_SIZE);
		if (i % 256 == 255)
			cond_resched();
	}
	return mem;
}

/* --- allocation before the locks --- */

/**
 * daedalus_reserve_drop() - free the planes that were not taken
 * @reserve: the reserve
 */
void daedalus_reserve_drop(struct daedalus_reserve *reserve)
{
	struct daedalus_mem *mem, *next;

	list_for_each_entry_safe(mem, next, &reserve->entries, entry) {
		list_del(&mem->entry);
		daedalus_mem_destroy(mem);
	}
}

static int reserve_buffer(struct daedalus_pool *pool, struct list_head *entries,
			  unsigned int num_planes, const unsigned int *sizes, bool capture,
			  bool contiguous)
{
	struct daedalus_reserve buffer = { LIST_HEAD_INIT(buffer.entries) };
	struct daedalus_mem *mem;
	unsigned int i;

	for (i = 0; i < num_planes; i++) {
		mem = mem_alloc(pool, PAGE_ALIGN(sizes[i]), capture, contiguous);
		if (IS_ERR(mem)) {
			daedalus_reserve_drop(&buffer);
			return PTR_ERR(mem);
		}
		list_add_tail(&mem->entry, &buffer.entries);
	}
	list_splice_tail(&buffer.entries, entries);
	return 0;
}

/**
 * daedalus_reserve_add() - allocate the planes of buffers
 * @pool: charged
 * @reserve: gets the planes
 * @count: number of buffers
 * @num_planes: planes of each buffer
 * @sizes: bytes of each plane
 * @capture: they are for pictures: grey, and writable for workers
 * @contiguous: in: try one segment for each plane; out: false if that failed for one
 *	buffer. Then none of them is contiguous.
 *
 * Context: takes long, so hold no lock.
 * Return: 0 if there is memory for at least one buffer; -ENOMEM; -EINTR.
 */
int daedalus_reserve_add(struct daedalus_pool *pool, struct daedalus_reserve *reserve,
			 unsigned int count, unsigned int num_planes, const unsigned int *sizes,
			 bool capture, bool *contiguous)
{
	struct daedalus_reserve fresh = { LIST_HEAD_INIT(fresh.entries) };
	bool flushed = false;
	unsigned int done = 0;
	int ret = 0;

	while (done < count) {
		ret = reserve_buffer(pool, &fresh.entries, num_planes, sizes, capture,
				     *contiguous);
		if (!ret) {
			done++;
		} else if (ret == -EINTR || fatal_signal_pending(current)) {
			daedalus_reserve_drop(&fresh);
			return -EINTR;
		} else if (!flushed) {
			/* Work items may still have to free memory that nobody uses. */
			flush_workqueue(pool->dev->wq);
			flushed = true;
		} else if (*contiguous) {
			*contiguous = false;
			daedalus_reserve_drop(&fresh);
			done = 0;
		} else {
			break;
		}
	}
	list_splice_tail(&fresh.entries, &reserve->entries);
	return done ? 0 : ret;
}

/**
 * daedalus_reserve_has() - check whether the reserve has all planes of buffers
 * @reserve: the reserve
 * @count: number of buffers
 * @num_planes: planes of each buffer
 * @sizes: bytes of each plane
 */
bool daedalus_reserve_has(struct daedalus_reserve *reserve, unsigned int count,
			  unsigned int num_planes, const unsigned int *sizes)
{
	unsigned int i, need[VB2_MAX_PLANES];
	struct daedalus_mem *mem;

	for (i = 0; i < num_planes; i++)
		need[i] = count;
	list_for_each_entry(mem, &reserve->entries, entry) {
		for (i = 0; i < num_planes; i++) {
			if (need[i] && mem->size == PAGE_ALIGN(sizes[i])) {
				need[i]--;
				break;
			}
		}
	}
	for (i = 0; i < num_planes; i++)
		if (need[i])
			return false;
	return true;
}

/**
 * daedalus_mem_enlist() - give a plane to a buffer
 * @mem: the plane; gets its id
 */
void daedalus_mem_enlist(struct daedalus_mem *mem)
{
	struct daedalus_pool *pool = mem->pool;

	spin_lock(&pool->lock);
	mem->id = atomic64_inc_return(&pool->dev->next_id);
	list_add_tail(&mem->entry, &pool->mems);
	spin_unlock(&pool->lock);
}

/**
 * daedalus_reserve_take() - take a plane for a buffer
 * @reserve: the reserve
 * @size: bytes, a multiple of the page size
 *
 * Return: the plane, for daedalus_mem_release(); NULL if there is none of this size.
 */
struct daedalus_mem *daedalus_reserve_take(struct daedalus_reserve *reserve, unsigned long size)
{
	struct daedalus_mem *mem;

	list_for_each_entry(mem, &reserve->entries, entry) {
		if (mem->size != size)
			continue;
		list_del(&mem->entry);
		daedalus_mem_enlist(mem);
		return mem;
	}
	return NULL;
}
