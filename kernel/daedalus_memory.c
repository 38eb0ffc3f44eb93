// SPDX-License-Identifier: GPL-2.0
/*
 * Memory: one object behind every plane, and the windows through which workers see
 * it.
 *
 * Lifetime
 *	struct daedalus_mem is vb2's mem_priv for MMAP and DMABUF. A reference is held
 *	by the buffer (from alloc or attach_dmabuf to put or detach_dmabuf, which the
 *	core calls exactly once each, however a QBUF failed), by each mapping and each
 *	exported dmabuf of the client, and by the worker's window. The last put frees
 *	the pages from a work item and takes them off the accounts. So what is charged
 *	is what is there. Pages are mapped by number only, so nothing can pin one
 *	beyond that.
 *
 * Windows
 *	A worker gets a dmabuf of its own for each plane. Its mapping is filled by
 *	faults, whole at the first one. daedalus_mem_revoke() takes the window from the
 *	plane: it zaps the mapping, and later faults reach a scratch page of the
 *	window. That waits for no user code, only for a fault that is filling page
 *	tables. Afterwards the plane has another id, and the worker is told that the
 *	old one is gone. Imported memory is the exporter's to map, so its window is
 *	the client's dmabuf itself and cannot be revoked.
 *
 * Caches
 *	Pages are cached, for the kernel and for every process. A device that does not
 *	snoop sees memory, so what the caches hold must be written back before it
 *	looks: dma_map_sgtable() of each attachment does it for a whole plane when the
 *	importer maps (a plane that nobody ever wrote included),
 *	dma_sync_sgtable_for_device() at the end of each DMA_BUF_IOCTL_SYNC bracket,
 *	and daedalus_mem_clean() when a worker has finished a picture.
 *
 * Locks, outermost first
 *	a dmabuf's reservation lock (core)
 *	mem->lock	attachments
 *	window->lock	what a window shows; held while page tables are filled or zapped
 *	pool->lock	spinlock: ids, the window of each plane, the lists
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/iosys-map.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_memory.h"

/* Grey in all picture formats; where a decoder leaves something out, this shows. */
#define FILL_CAPTURE	0x80
/* Pages that are taken from the allocator at a time, at most: 1 << this. */
#define SCATTERED_ORDER	8
/* A queue is contiguous only if the budget has room for this many such buffers. */
#define CONTIGUOUS_BUFFERS	16

enum mem_kind {
	MEM_PAGES,	/* pages of the buddy allocator, each freed by itself */
	MEM_CMA,	/* of the DMA API's contiguous area */
	MEM_IMPORT,	/* a dmabuf that the client brought */
};

/**
 * struct daedalus_pool - the memory of one session
 * @ref: held by the session, by each plane and by each window
 * @dev: the device
 * @memory: bytes that are charged
 * @contiguous: those of them that are contiguous
 * @lock: see the top of this file
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
 * @ref: see "Lifetime"
 * @users: the buffer, and the client's mappings and dmabufs: what vb2 calls users
 * @pool: charged; referenced
 * @kind: how it was got
 * @contiguous: one segment
 * @capture: a worker may write to it
 * @id: never reused; guarded by &daedalus_pool.lock
 * @window: the current worker's, referenced; guarded by &daedalus_pool.lock
 * @size: bytes
 * @num_pages: number of @pages
 * @pages: MEM_PAGES, MEM_CMA
 * @handle: MEM_CMA
 * @import: MEM_IMPORT, referenced
 * @lock: guards @attachments
 * @attachments: struct mem_attachment of all exports
 * @mapped: how many of them are mapped
 * @free_work: frees the pages
 */
struct daedalus_mem {
	struct list_head entry;
	refcount_t ref;
	atomic_t users;
	struct daedalus_pool *pool;
	enum mem_kind kind;
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

/**
 * struct mem_attachment - a device that imported an export
 * @entry: in &daedalus_mem.attachments
 * @dev: the importer
 * @table: the pages as it sees them
 * @dir: with which it has mapped them, or DMA_NONE
 * @maps: how often it has
 */
struct mem_attachment {
	struct list_head entry;
	struct device *dev;
	struct sg_table table;
	enum dma_data_direction dir;
	unsigned int maps;
};

/**
 * struct daedalus_window - a plane as one worker sees it
 * @ref: held by @windows, by the plane, and by @dbuf if that is the module's
 * @entry: in &daedalus_windows.list
 * @windows: the worker's, or NULL; guarded by &daedalus_pool.lock
 * @pool: referenced
 * @id: under which the worker knows the plane
 * @shut: it shows nothing any more; guarded by &daedalus_pool.lock
 * @dbuf: what the worker has; referenced as long as the window is not shut
 * @lock: guards @mem; held while page tables change
 * @mem: what it shows, referenced; NULL: the scratch page
 * @scratch: where accesses go after that; NULL for imported memory
 */
struct daedalus_window {
	struct kref ref;
	struct list_head entry;
	struct daedalus_windows *windows;
	struct daedalus_pool *pool;
	u64 id;
	bool shut;
	struct dma_buf *dbuf;
	struct mutex lock;	/* mem, page tables */
	struct daedalus_mem *mem;
	struct page *scratch;
};

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
 * daedalus_contiguous_reason() - why contiguous memory is tried, or is not
 * @dev: the device
 *
 * Return: for people.
 */
const char *daedalus_contiguous_reason(struct daedalus_dev *dev)
{
	if (daedalus_contiguous > 0)
		return "tried: the parameter contiguous asks for it";
	if (!daedalus_contiguous)
		return "not tried: the parameter contiguous forbids it";
	return dev->cma ? "tried: there is a CMA area" : "not tried: there is no CMA area";
}

static bool contiguous_wanted(struct daedalus_dev *dev)
{
	return daedalus_contiguous > 0 || (daedalus_contiguous && dev->cma);
}

/**
 * daedalus_contiguous_fits() - whether a new queue of CAPTURE should be contiguous
 * @pool: the session's
 * @size: bytes of one buffer, all planes
 *
 * A display fails in mid-stream when a queue is mixed, so one begins contiguous only
 * if its later buffers have room, too.
 */
bool daedalus_contiguous_fits(struct daedalus_pool *pool, u64 size)
{
	struct daedalus_dev *dev = pool->dev;
	u64 need = size * CONTIGUOUS_BUFFERS;

	if (!contiguous_wanted(dev))
		return false;
	if (dev->cma && free_cma_bytes() < need)
		return false;
	return atomic64_read(&dev->contiguous) + need <= dev->contiguous_budget;
}

/**
 * daedalus_pool_create() - make a session's memory pool
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
 * daedalus_pool_usage() - how much is charged
 * @pool: the pool
 * @contiguous: bytes of contiguous planes
 * @scattered: bytes of the others
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

	if (mem->kind == MEM_CMA) {
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
 * One segment, where devices with 32 address bits reach it. What the allocator
 * rounded up is given back, so that the plane takes what it is charged.
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
		/* Pages of the CMA area are counted one by one, others as one block. */
		if (mem->num_pages > 1 && page_count(page + 1))
			mem->kind = MEM_CMA;
	} else {
		page = alloc_pages(gfp | __GFP_DMA32 | __GFP_NORETRY, order);
		if (!page)
			return -ENOMEM;
	}
	for (i = 0; i < mem->num_pages; i++)
		mem->pages[i] = page + i;
	if (mem->kind == MEM_PAGES && order) {
		split_page(page, order);
		for (i = mem->num_pages; i < 1U << order; i++)
			__free_page(page + i);
	}
	return 0;
}

static struct daedalus_mem *mem_create(struct daedalus_pool *pool, gfp_t gfp)
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

/* Frees a plane and takes it off the accounts: nobody refers to it any more. */
static void mem_destroy(struct daedalus_mem *mem)
{
	struct daedalus_pool *pool = mem->pool;

	if (mem->kind == MEM_IMPORT) {
		dma_buf_put(mem->import);
	} else {
		free_pages_of(mem);
		uncharge(pool, mem->size, mem->contiguous);
	}
	mutex_destroy(&mem->lock);
	kfree(mem);
	daedalus_pool_put(pool);
}

static void free_work(struct work_struct *work)
{
	mem_destroy(container_of(work, struct daedalus_mem, free_work));
}

static struct daedalus_mem *mem_alloc(struct daedalus_pool *pool, size_t size, bool capture,
				      bool contiguous)
{
	/* On the client's control group's account. */
	gfp_t gfp = GFP_KERNEL | __GFP_NOWARN | __GFP_ACCOUNT;
	struct daedalus_mem *mem;
	unsigned int i;
	int ret;

	if (!charge(pool, size, contiguous))
		return ERR_PTR(-ENOMEM);
	mem = mem_create(pool, GFP_KERNEL_ACCOUNT);
	if (!mem) {
		uncharge(pool, size, contiguous);
		return ERR_PTR(-ENOMEM);
	}
	mem->kind = MEM_PAGES;
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
		mem_destroy(mem);
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
 * daedalus_reserve_drop() - free what was not taken
 * @reserve: the reserve
 */
void daedalus_reserve_drop(struct daedalus_reserve *reserve)
{
	struct daedalus_mem *mem, *next;

	list_for_each_entry_safe(mem, next, &reserve->entries, entry) {
		list_del(&mem->entry);
		mem_destroy(mem);
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
 * @reserve: gets them
 * @count: number of buffers
 * @num_planes: of each
 * @sizes: bytes of each plane
 * @capture: they are for pictures: grey, and writable for workers
 * @contiguous: in: one segment for each plane is wanted; out: false if it could not be
 *	had for all buffers. Then none of these is contiguous.
 *
 * Context: takes long, so no lock is to be held.
 * Return: 0 if there is memory for one buffer at least; -ENOMEM; -EINTR.
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
			/* Memory that nobody uses any more may not be freed yet. */
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
 * daedalus_reserve_has() - whether there is a plane for each that would be taken
 * @reserve: the reserve
 * @count: number of buffers
 * @num_planes: of each
 * @sizes: bytes of each plane
 */
bool daedalus_reserve_has(struct daedalus_reserve *reserve, unsigned int count,
			  unsigned int num_planes, const unsigned int *sizes)
{
	unsigned int i, wanted[VB2_MAX_PLANES];
	struct daedalus_mem *mem;

	for (i = 0; i < num_planes; i++)
		wanted[i] = count;
	list_for_each_entry(mem, &reserve->entries, entry) {
		for (i = 0; i < num_planes; i++) {
			if (wanted[i] && mem->size == PAGE_ALIGN(sizes[i])) {
				wanted[i]--;
				break;
			}
		}
	}
	for (i = 0; i < num_planes; i++)
		if (wanted[i])
			return false;
	return true;
}

static void mem_enlist(struct daedalus_mem *mem)
{
	struct daedalus_pool *pool = mem->pool;

	spin_lock(&pool->lock);
	mem->id = atomic64_inc_return(&pool->dev->next_id);
	list_add_tail(&mem->entry, &pool->mems);
	spin_unlock(&pool->lock);
}

/**
 * daedalus_reserve_take() - take a plane out, for a buffer
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
		mem_enlist(mem);
		return mem;
	}
	return NULL;
}

/* --- the object --- */

/**
 * daedalus_mem_import() - make a plane of a client's dmabuf
 * @pool: the session's
 * @dbuf: gets a reference
 * @capture: a worker is to write to it
 *
 * Cannot fail: the core loses the dmabuf of an attach that does.
 *
 * Return: the plane, for daedalus_mem_release().
 */
struct daedalus_mem *daedalus_mem_import(struct daedalus_pool *pool, struct dma_buf *dbuf,
					 bool capture)
{
	struct daedalus_mem *mem = mem_create(pool, GFP_KERNEL | __GFP_NOFAIL);

	get_dma_buf(dbuf);
	mem->kind = MEM_IMPORT;
	mem->import = dbuf;
	mem->capture = capture;
	mem->size = dbuf->size;
	mem_enlist(mem);
	return mem;
}

/**
 * daedalus_mem_usable() - whether a worker can use a plane
 * @mem: the plane
 * @size: bytes that it is to have
 *
 * Return: 0; -EFAULT: smaller; -EOPNOTSUPP: it cannot be mapped; -EACCES: it cannot be
 * written to.
 */
int daedalus_mem_usable(struct daedalus_mem *mem, size_t size)
{
	if (mem->size < size)
		return -EFAULT;
	if (mem->kind != MEM_IMPORT)
		return 0;
	if (!mem->import->ops->mmap)
		return -EOPNOTSUPP;
	if (mem->capture && !(mem->import->file->f_mode & FMODE_WRITE))
		return -EACCES;
	return 0;
}

/**
 * daedalus_mem_get() - take a reference
 * @mem: the plane
 *
 * Return: @mem.
 */
struct daedalus_mem *daedalus_mem_get(struct daedalus_mem *mem)
{
	refcount_inc(&mem->ref);
	return mem;
}

/**
 * daedalus_mem_put() - drop a reference
 * @mem: the plane
 *
 * Context: any; the pages are freed from a work item.
 */
void daedalus_mem_put(struct daedalus_mem *mem)
{
	if (!refcount_dec_and_test(&mem->ref))
		return;
	INIT_WORK(&mem->free_work, free_work);
	queue_work(mem->pool->dev->wq, &mem->free_work);
}

static void mem_user_put(struct daedalus_mem *mem)
{
	atomic_dec(&mem->users);
	daedalus_mem_put(mem);
}

/**
 * daedalus_mem_users() - how many users vb2 is to see
 * @mem: the plane
 *
 * Return: the buffer, and the client's mappings and dmabufs; not the worker.
 */
unsigned int daedalus_mem_users(struct daedalus_mem *mem)
{
	return atomic_read(&mem->users);
}

/**
 * daedalus_mem_id() - the plane's id
 * @mem: the plane
 */
u64 daedalus_mem_id(struct daedalus_mem *mem)
{
	struct daedalus_pool *pool = mem->pool;
	u64 id;

	spin_lock(&pool->lock);
	id = mem->id;
	spin_unlock(&pool->lock);
	return id;
}

/**
 * daedalus_mem_size() - the plane's size
 * @mem: the plane
 *
 * Return: bytes.
 */
size_t daedalus_mem_size(struct daedalus_mem *mem)
{
	return mem->size;
}

/**
 * daedalus_mem_imported() - whether the client brought the memory
 * @mem: the plane
 */
bool daedalus_mem_imported(struct daedalus_mem *mem)
{
	return mem->kind == MEM_IMPORT;
}

/* --- windows --- */

static void window_free(struct kref *ref)
{
	struct daedalus_window *window = container_of(ref, struct daedalus_window, ref);

	if (window->scratch)
		__free_page(window->scratch);
	mutex_destroy(&window->lock);
	daedalus_pool_put(window->pool);
	kfree(window);
}

static void window_put(struct daedalus_window *window)
{
	kref_put(&window->ref, window_free);
}

/* Fills the whole mapping: a picture is written from end to end. */
static vm_fault_t window_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct daedalus_window *window = vma->vm_private_data;
	unsigned long i, pages = vma_pages(vma);
	vm_fault_t ret = VM_FAULT_NOPAGE;
	struct page *page;

	mutex_lock(&window->lock);
	for (i = 0; i < pages && ret == VM_FAULT_NOPAGE; i++) {
		page = window->mem ? window->mem->pages[vma->vm_pgoff + i] : window->scratch;
		ret = vmf_insert_pfn(vma, vma->vm_start + (i << PAGE_SHIFT), page_to_pfn(page));
	}
	mutex_unlock(&window->lock);
	return ret;
}

static const struct vm_operations_struct window_vm_ops = {
	.fault = window_fault,
};

static int window_mmap(struct dma_buf *dbuf, struct vm_area_struct *vma)
{
	if (is_cow_mapping(vma->vm_flags))
		return -EINVAL;
	vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY);
	vma->vm_private_data = dbuf->priv;
	vma->vm_ops = &window_vm_ops;
	return 0;
}

static void window_release(struct dma_buf *dbuf)
{
	window_put(dbuf->priv);
}

/* For the worker's eyes, not for devices. */
static int window_attach(struct dma_buf *dbuf, struct dma_buf_attachment *attachment)
{
	return -EPERM;
}

static struct sg_table *window_map(struct dma_buf_attachment *attachment,
				   enum dma_data_direction dir)
{
	return ERR_PTR(-EPERM);
}

static void window_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
			 enum dma_data_direction dir)
{
}

static const struct dma_buf_ops window_dmabuf_ops = {
	.attach = window_attach,
	.map_dma_buf = window_map,
	.unmap_dma_buf = window_unmap,
	.mmap = window_mmap,
	.release = window_release,
};

/*
 * Takes from the worker what the window shows, once. The caller has a reference and
 * has unlinked the window from its plane.
 */
static void window_shut(struct daedalus_window *window)
{
	struct daedalus_pool *pool = window->pool;
	struct daedalus_mem *mem;
	struct dma_buf *dbuf;

	mutex_lock(&window->lock);
	mem = window->mem;
	window->mem = NULL;
	if (mem && window->scratch)
		unmap_mapping_range(window->dbuf->file->f_mapping, 0, 0, 1);
	mutex_unlock(&window->lock);
	if (!mem)
		return;

	spin_lock(&pool->lock);
	dbuf = window->dbuf;
	window->dbuf = NULL;
	window->shut = true;
	if (window->windows) {
		/* First in the list are those to report. */
		list_move(&window->entry, &window->windows->list);
		window->windows->gone++;
		wake_up(window->windows->wq);
	}
	spin_unlock(&pool->lock);
	dma_buf_put(dbuf);
	daedalus_mem_put(mem);
}

/* Shuts a window, if there is one, and drops the caller's reference. */
static void window_close(struct daedalus_window *window)
{
	if (!window)
		return;
	window_shut(window);
	window_put(window);
}

/* Unlinks the window from its plane: the plane's reference becomes the caller's. */
static struct daedalus_window *window_unlink(struct daedalus_mem *mem)
{
	struct daedalus_window *window = mem->window;

	lockdep_assert_held(&mem->pool->lock);
	mem->window = NULL;
	return window;
}

/**
 * daedalus_mem_revoke() - take a plane from the worker
 * @mem: the plane; it has another id afterwards
 *
 * From then on no access of a worker reaches the memory, unless it is imported.
 *
 * Context: sleeps, but waits for no user code.
 */
void daedalus_mem_revoke(struct daedalus_mem *mem)
{
	struct daedalus_pool *pool = mem->pool;
	struct daedalus_window *window;

	spin_lock(&pool->lock);
	window = window_unlink(mem);
	mem->id = atomic64_inc_return(&pool->dev->next_id);
	spin_unlock(&pool->lock);
	window_close(window);
}

/**
 * daedalus_mem_release() - end a buffer's reference of a plane
 * @mem: the plane; whoever maps or exported it keeps it, no worker does
 *
 * Context: sleeps, but waits for no user code.
 */
void daedalus_mem_release(struct daedalus_mem *mem)
{
	struct daedalus_pool *pool = mem->pool;
	struct daedalus_window *window;

	spin_lock(&pool->lock);
	list_del_init(&mem->entry);
	window = window_unlink(mem);
	spin_unlock(&pool->lock);
	window_close(window);
	mem_user_put(mem);
}

static struct daedalus_mem *mem_find(struct daedalus_pool *pool, u64 id)
{
	struct daedalus_mem *mem;

	lockdep_assert_held(&pool->lock);
	list_for_each_entry(mem, &pool->mems, entry)
		if (mem->id == id)
			return mem;
	return NULL;
}

static struct daedalus_window *window_create(struct daedalus_pool *pool, struct daedalus_mem *mem,
					     u64 id)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct daedalus_window *window = kzalloc_obj(*window);

	if (!window)
		return ERR_PTR(-ENOMEM);
	kref_init(&window->ref);
	kref_get(&pool->ref);
	window->pool = pool;
	window->id = id;
	mutex_init(&window->lock);
	window->mem = mem;
	if (mem->kind == MEM_IMPORT) {
		get_dma_buf(mem->import);
		window->dbuf = mem->import;
		return window;
	}
	window->scratch = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!window->scratch)
		goto err;
	info.ops = &window_dmabuf_ops;
	info.size = mem->size;
	info.flags = (mem->capture ? O_RDWR : O_RDONLY) | O_CLOEXEC;
	info.priv = window;
	kref_get(&window->ref);
	window->dbuf = dma_buf_export(&info);
	if (IS_ERR(window->dbuf)) {
		window_put(window);
		goto err;
	}
	return window;
err:
	window->mem = NULL;
	window_put(window);
	return ERR_PTR(-ENOMEM);
}

/**
 * daedalus_window_open() - show a plane to a worker
 * @pool: the session's
 * @id: the plane's
 * @windows: the worker's; one that another worker had is taken from it
 * @flags: DAEDALUS_BUFFER_F_* of the plane
 *
 * Return: a dmabuf, referenced, which can be mapped; -ENOENT; -ENOMEM.
 */
struct dma_buf *daedalus_window_open(struct daedalus_pool *pool, u64 id,
				     struct daedalus_windows *windows, u32 *flags)
{
	struct daedalus_window *window, *old;
	struct daedalus_mem *mem;
	struct dma_buf *dbuf;

	spin_lock(&pool->lock);
	mem = mem_find(pool, id);
	if (mem)
		daedalus_mem_get(mem);
	spin_unlock(&pool->lock);
	if (!mem)
		return ERR_PTR(-ENOENT);
	window = window_create(pool, mem, id);
	if (IS_ERR(window)) {
		daedalus_mem_put(mem);
		return ERR_CAST(window);
	}
	*flags = mem->kind == MEM_IMPORT ? DAEDALUS_BUFFER_F_IMPORTED :
					   DAEDALUS_BUFFER_F_INITIALISED;
	if (mem->capture)
		*flags |= DAEDALUS_BUFFER_F_WRITE;
	dbuf = window->dbuf;
	get_dma_buf(dbuf);

	spin_lock(&pool->lock);
	/* It may have been taken from the workers meanwhile. */
	if (mem_find(pool, id) != mem) {
		spin_unlock(&pool->lock);
		window_close(window);
		dma_buf_put(dbuf);
		return ERR_PTR(-ENOENT);
	}
	old = window_unlink(mem);
	kref_get(&window->ref);
	mem->window = window;
	window->windows = windows;
	list_add_tail(&window->entry, &windows->list);
	spin_unlock(&pool->lock);
	window_close(old);
	return dbuf;
}

/**
 * daedalus_windows_gone() - the next plane of which the worker is to be told the end
 * @pool: the session's
 * @windows: the worker's
 * @id: the plane's id
 *
 * Return: whether there is one.
 */
bool daedalus_windows_gone(struct daedalus_pool *pool, struct daedalus_windows *windows, u64 *id)
{
	struct daedalus_window *window;

	spin_lock(&pool->lock);
	window = list_first_entry_or_null(&windows->list, struct daedalus_window, entry);
	if (!window || !window->shut) {
		spin_unlock(&pool->lock);
		return false;
	}
	list_del(&window->entry);
	window->windows = NULL;
	windows->gone--;
	spin_unlock(&pool->lock);
	*id = window->id;
	window_put(window);
	return true;
}

/**
 * daedalus_windows_close() - take everything from a worker
 * @pool: the session's
 * @windows: the worker's
 *
 * Context: as daedalus_mem_revoke().
 */
void daedalus_windows_close(struct daedalus_pool *pool, struct daedalus_windows *windows)
{
	struct daedalus_window *window, *linked;

	for (;;) {
		linked = NULL;
		spin_lock(&pool->lock);
		window = list_first_entry_or_null(&windows->list, struct daedalus_window, entry);
		if (!window) {
			windows->gone = 0;
			spin_unlock(&pool->lock);
			return;
		}
		list_del(&window->entry);
		window->windows = NULL;
		if (!window->shut && window->mem && window->mem->window == window)
			linked = window_unlink(window->mem);
		spin_unlock(&pool->lock);
		window_close(window);
		if (linked)
			window_put(linked);
	}
}

/* --- the client's exports and mappings --- */

static void mem_vm_open(struct vm_area_struct *vma)
{
	struct daedalus_mem *mem = vma->vm_private_data;

	daedalus_mem_get(mem);
	atomic_inc(&mem->users);
}

static void mem_vm_close(struct vm_area_struct *vma)
{
	mem_user_put(vma->vm_private_data);
}

static const struct vm_operations_struct mem_vm_ops = {
	.open = mem_vm_open,
	.close = mem_vm_close,
};

/**
 * daedalus_mem_mmap() - map a plane for the client
 * @mem: the plane, not imported
 * @vma: where
 *
 * Return: 0 or an error.
 */
int daedalus_mem_mmap(struct daedalus_mem *mem, struct vm_area_struct *vma)
{
	unsigned long i, run, first = vma->vm_pgoff, pages = vma_pages(vma);
	struct page **page = mem->pages + first;
	int ret;

	if (is_cow_mapping(vma->vm_flags) || first > mem->num_pages ||
	    pages > mem->num_pages - first)
		return -EINVAL;
	for (i = 0; i < pages; i += run) {
		for (run = 1; i + run < pages; run++)
			if (page_to_pfn(page[i + run]) != page_to_pfn(page[i]) + run)
				break;
		ret = remap_pfn_range(vma, vma->vm_start + (i << PAGE_SHIFT), page_to_pfn(page[i]),
				      run << PAGE_SHIFT, vma->vm_page_prot);
		if (ret)
			return ret;
	}
	vma->vm_private_data = mem;
	vma->vm_ops = &mem_vm_ops;
	mem_vm_open(vma);
	return 0;
}

static int export_attach(struct dma_buf *dbuf, struct dma_buf_attachment *attachment)
{
	struct daedalus_mem *mem = dbuf->priv;
	struct mem_attachment *a = kzalloc_obj(*a);
	int ret;

	if (!a)
		return -ENOMEM;
	ret = sg_alloc_table_from_pages(&a->table, mem->pages, mem->num_pages, 0, mem->size,
					GFP_KERNEL);
	if (ret) {
		kfree(a);
		return ret;
	}
	a->dev = attachment->dev;
	a->dir = DMA_NONE;
	attachment->priv = a;
	mutex_lock(&mem->lock);
	list_add_tail(&a->entry, &mem->attachments);
	mutex_unlock(&mem->lock);
	return 0;
}

static void export_detach(struct dma_buf *dbuf, struct dma_buf_attachment *attachment)
{
	struct daedalus_mem *mem = dbuf->priv;
	struct mem_attachment *a = attachment->priv;

	mutex_lock(&mem->lock);
	list_del(&a->entry);
	mutex_unlock(&mem->lock);
	sg_free_table(&a->table);
	kfree(a);
}

static struct sg_table *export_map(struct dma_buf_attachment *attachment,
				   enum dma_data_direction dir)
{
	struct daedalus_mem *mem = attachment->dmabuf->priv;
	struct mem_attachment *a = attachment->priv;
	int ret = 0;

	if (dir == DMA_NONE)
		return ERR_PTR(-EINVAL);
	mutex_lock(&mem->lock);
	if (a->maps)
		ret = a->dir == dir ? 0 : -EBUSY;
	else
		ret = dma_map_sgtable(a->dev, &a->table, dir, 0);
	if (!ret) {
		a->dir = dir;
		a->maps++;
		atomic_inc(&mem->mapped);
	}
	mutex_unlock(&mem->lock);
	return ret ? ERR_PTR(ret) : &a->table;
}

static void export_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
			 enum dma_data_direction dir)
{
	struct daedalus_mem *mem = attachment->dmabuf->priv;
	struct mem_attachment *a = attachment->priv;

	mutex_lock(&mem->lock);
	if (!--a->maps) {
		dma_unmap_sgtable(a->dev, table, a->dir, 0);
		a->dir = DMA_NONE;
	}
	atomic_dec(&mem->mapped);
	mutex_unlock(&mem->lock);
}

static int export_begin_cpu_access(struct dma_buf *dbuf, enum dma_data_direction dir)
{
	struct daedalus_mem *mem = dbuf->priv;
	struct mem_attachment *a;

	mutex_lock(&mem->lock);
	list_for_each_entry(a, &mem->attachments, entry)
		if (a->dir != DMA_NONE)
			dma_sync_sgtable_for_cpu(a->dev, &a->table, a->dir);
	mutex_unlock(&mem->lock);
	return 0;
}

static int export_end_cpu_access(struct dma_buf *dbuf, enum dma_data_direction dir)
{
	daedalus_mem_clean(dbuf->priv);
	return 0;
}

static int export_mmap(struct dma_buf *dbuf, struct vm_area_struct *vma)
{
	return daedalus_mem_mmap(dbuf->priv, vma);
}

static int export_vmap(struct dma_buf *dbuf, struct iosys_map *map)
{
	struct daedalus_mem *mem = dbuf->priv;
	void *address = vmap(mem->pages, mem->num_pages, VM_MAP, PAGE_KERNEL);

	if (!address)
		return -ENOMEM;
	iosys_map_set_vaddr(map, address);
	return 0;
}

static void export_vunmap(struct dma_buf *dbuf, struct iosys_map *map)
{
	vunmap(map->vaddr);
}

static void export_release(struct dma_buf *dbuf)
{
	mem_user_put(dbuf->priv);
}

static const struct dma_buf_ops export_dmabuf_ops = {
	.attach = export_attach,
	.detach = export_detach,
	.map_dma_buf = export_map,
	.unmap_dma_buf = export_unmap,
	.begin_cpu_access = export_begin_cpu_access,
	.end_cpu_access = export_end_cpu_access,
	.mmap = export_mmap,
	.vmap = export_vmap,
	.vunmap = export_vunmap,
	.release = export_release,
};

/**
 * daedalus_mem_export() - export a plane for the client
 * @mem: the plane, not imported
 * @flags: of the file
 *
 * Return: a dmabuf, or NULL as vb2 wants it.
 */
struct dma_buf *daedalus_mem_export(struct daedalus_mem *mem, unsigned long flags)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dma_buf *dbuf;

	info.ops = &export_dmabuf_ops;
	info.size = mem->size;
	info.flags = flags;
	info.priv = mem;
	daedalus_mem_get(mem);
	atomic_inc(&mem->users);
	dbuf = dma_buf_export(&info);
	if (IS_ERR(dbuf)) {
		mem_user_put(mem);
		return NULL;
	}
	return dbuf;
}

/**
 * daedalus_mem_attached() - whether a device has the plane mapped
 * @mem: the plane
 */
bool daedalus_mem_attached(struct daedalus_mem *mem)
{
	return atomic_read(&mem->mapped);
}

/**
 * daedalus_mem_clean() - make what processors wrote visible to importing devices
 * @mem: the plane
 *
 * Context: sleeps.
 */
void daedalus_mem_clean(struct daedalus_mem *mem)
{
	struct mem_attachment *a;

	mutex_lock(&mem->lock);
	list_for_each_entry(a, &mem->attachments, entry)
		if (a->dir != DMA_NONE)
			dma_sync_sgtable_for_device(a->dev, &a->table, a->dir);
	mutex_unlock(&mem->lock);
}
