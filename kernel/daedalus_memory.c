// SPDX-License-Identifier: GPL-2.0
/*
 * Memory: one object behind every plane, and the windows through which workers see
 * it.
 *
 * Lifetime
 *	struct daedalus_mem is vb2's mem_priv for MMAP and DMABUF. These hold a
 *	reference: the buffer (from alloc or attach_dmabuf to put or detach_dmabuf,
 *	which the core calls exactly once each, however a QBUF failed), each mapping
 *	and each exported dmabuf of the client, and the worker's window. The last put
 *	frees the pages from a work item and uncharges them. So the charge always
 *	equals the memory that exists. Pages are mapped by number only, so nothing can
 *	pin one beyond that.
 *
 * Windows
 *	A worker gets a dmabuf of its own for each plane. The first fault fills the
 *	whole mapping. daedalus_mem_revoke() takes the window from the plane: it zaps
 *	the mapping, and later faults reach a scratch page of the window. It waits for
 *	no user code, only for a fault that is filling page tables. Afterwards the
 *	plane has another id, and the worker reads that the old one is gone. When the
 *	client frees a plane, the worker keeps it until it unmaps it: later pictures
 *	may refer to the picture in it. The exporter maps imported memory, so its
 *	window is the client's dmabuf itself and cannot be revoked.
 *
 * Caches
 *	Pages are cached, for the kernel and for every process. A device that does not
 *	snoop sees memory, so the caches must be written back before it reads.
 *	dma_map_sgtable() of each attachment does that for a whole plane when the
 *	importer maps it, even if nobody ever wrote the plane.
 *	dma_sync_sgtable_for_device() does it at the end of each DMA_BUF_IOCTL_SYNC
 *	bracket, and daedalus_mem_clean() when a worker has finished a picture.
 *
 * Locks, outermost first
 *	a dmabuf's reservation lock (core)
 *	mem->lock	attachments
 *	window->lock	what a window shows; held while page tables are filled or zapped
 *	pool->lock	spinlock: ids, the window of each plane, the lists
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/iosys-map.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_mem_object.h"
#include "daedalus_memory.h"

/**
 * struct mem_attachment - a device that imported an export
 * @entry: in &daedalus_mem.attachments
 * @dev: the importer
 * @table: the pages as it sees them
 * @dir: direction of its mapping, or DMA_NONE
 * @maps: number of its mappings
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
 * @ref: held by @windows, by the plane, and by @dbuf unless that is imported
 * @entry: in &daedalus_windows.list
 * @windows: the worker's windows, or NULL; guarded by &daedalus_pool.lock
 * @pool: referenced
 * @id: the worker's id of the plane
 * @gone: the worker will read, or has read, that the plane is gone; guarded by
 *	&daedalus_pool.lock
 * @dbuf: the worker's dmabuf; referenced until @gone
 * @lock: guards @mem; held while page tables change
 * @mem: the plane that it shows, referenced; NULL: it shows the scratch page
 * @scratch: page that accesses reach after that; NULL for imported memory
 */
struct daedalus_window {
	struct kref ref;
	struct list_head entry;
	struct daedalus_windows *windows;
	struct daedalus_pool *pool;
	u64 id;
	bool gone;
	struct dma_buf *dbuf;
	struct mutex lock;	/* mem, page tables */
	struct daedalus_mem *mem;
	struct page *scratch;
};

/* --- the object --- */

/**
 * daedalus_mem_import() - make a plane of a client's dmabuf
 * @pool: the session's pool
 * @dbuf: gets a reference
 * @capture: workers may write to it
 *
 * Must not fail: the core leaks the dmabuf of a failed attach.
 *
 * Return: the plane, for daedalus_mem_release().
 */
struct daedalus_mem *daedalus_mem_import(struct daedalus_pool *pool, struct dma_buf *dbuf,
					 bool capture)
{
	struct daedalus_mem *mem = daedalus_mem_create(pool, GFP_KERNEL | __GFP_NOFAIL);

	get_dma_buf(dbuf);
	mem->kind = DAEDALUS_MEM_IMPORT;
	mem->import = dbuf;
	mem->capture = capture;
	mem->size = dbuf->size;
	daedalus_mem_enlist(mem);
	return mem;
}

/**
 * daedalus_mem_usable() - check whether a worker can use a plane
 * @mem: the plane
 * @size: required bytes
 *
 * Return: 0; -EFAULT: it is smaller; -EOPNOTSUPP: it cannot be mapped; -EACCES: it
 * cannot be written to.
 */
int daedalus_mem_usable(struct daedalus_mem *mem, size_t size)
{
	if (mem->size < size)
		return -EFAULT;
	if (mem->kind != DAEDALUS_MEM_IMPORT)
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

static void free_work(struct work_struct *work)
{
	daedalus_mem_destroy(container_of(work, struct daedalus_mem, free_work));
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
 * daedalus_mem_users() - count the users for vb2
 * @mem: the plane
 *
 * Return: the number of buffers, and of the client's mappings and dmabufs; it does not
 * include the worker.
 */
unsigned int daedalus_mem_users(struct daedalus_mem *mem)
{
	return atomic_read(&mem->users);
}

/**
 * daedalus_mem_id() - return the plane's id
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
 * daedalus_mem_size() - return the plane's size
 * @mem: the plane
 *
 * Return: bytes.
 */
size_t daedalus_mem_size(struct daedalus_mem *mem)
{
	return mem->size;
}

/**
 * daedalus_mem_imported() - tell whether the client brought the memory
 * @mem: the plane
 */
bool daedalus_mem_imported(struct daedalus_mem *mem)
{
	return mem->kind == DAEDALUS_MEM_IMPORT;
}

/* --- windows --- */

static void window_free(struct kref *ref)
{
	struct daedalus_window *window = container_of(ref, struct daedalus_window, ref);

	/* The client has freed the plane, and the worker kept it until now. */
	if (window->mem)
		daedalus_mem_put(window->mem);
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

/* Fills the whole mapping, because a decoder writes the whole picture. */
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
	if (!(vma->vm_flags & VM_MAYSHARE))
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

/* Windows are for workers. Devices cannot attach. */
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

/* Reports to the worker that the plane is gone. Returns the module's own reference. */
static struct dma_buf *window_report(struct daedalus_window *window)
{
	struct dma_buf *dbuf = window->dbuf;

	lockdep_assert_held(&window->pool->lock);
	window->dbuf = NULL;
	window->gone = true;
	if (window->windows) {
		/* Unreported ones come first in the list. */
		list_move(&window->entry, &window->windows->list);
		window->windows->gone++;
		wake_up(window->windows->wq);
	}
	return dbuf;
}

/*
 * Takes the plane that the window shows from the worker, once. The caller has a
 * reference and has unlinked the window from its plane.
 */
static void window_shut(struct daedalus_window *window)
{
	struct daedalus_pool *pool = window->pool;
	struct daedalus_mem *mem;
	struct dma_buf *dbuf;

	mutex_lock(&window->lock);
	mem = window->mem;
	window->mem = NULL;
	if (mem && window->scratch) {
		unmap_mapping_range(window->dbuf->file->f_mapping, 0, 0, 1);
		daedalus_sync_user_mappings();
	}
	mutex_unlock(&window->lock);
	if (!mem)
		return;

	spin_lock(&pool->lock);
	dbuf = window_report(window);
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

/* Unlinks the window from its plane. The plane's reference becomes the caller's. */
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
 * Afterwards no access of a worker reaches the memory, unless it is imported.
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
 * daedalus_mem_release() - drop a buffer's reference of a plane
 * @mem: the plane; mappings and exported dmabufs keep it
 *
 * A worker keeps it, too, as long as later pictures refer to the one in it: clients free
 * buffers of an old size while the stream still refers to them. The plane stays charged.
 *
 * Context: sleeps, but waits for no user code.
 */
void daedalus_mem_release(struct daedalus_mem *mem)
{
	struct daedalus_pool *pool = mem->pool;
	struct daedalus_window *window;
	struct dma_buf *dbuf = NULL;

	spin_lock(&pool->lock);
	list_del_init(&mem->entry);
	window = window_unlink(mem);
	/* At once: the loss of the worker shuts a window that is not reported. */
	if (window)
		dbuf = window_report(window);
	spin_unlock(&pool->lock);
	if (window) {
		dma_buf_put(dbuf);
		window_put(window);
	}
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
	if (mem->kind == DAEDALUS_MEM_IMPORT) {
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

static void window_flags(struct daedalus_mem *mem, u32 *flags)
{
	*flags = mem->kind == DAEDALUS_MEM_IMPORT ? DAEDALUS_BUFFER_F_IMPORTED :
						    DAEDALUS_BUFFER_F_INITIALISED;
	if (mem->capture)
		*flags |= DAEDALUS_BUFFER_F_WRITE;
}

/* Returns the window of the plane that this worker already has, or NULL. */
static struct dma_buf *window_again(struct daedalus_mem *mem, struct daedalus_windows *windows,
				    u32 *flags)
{
	struct daedalus_window *window = mem->window;

	lockdep_assert_held(&mem->pool->lock);
	if (!window || window->windows != windows || !window->dbuf)
		return NULL;
	window_flags(mem, flags);
	get_dma_buf(window->dbuf);
	return window->dbuf;
}

/**
 * daedalus_window_open() - open a worker's window of a plane
 * @pool: the session's pool
 * @id: the plane's id
 * @windows: the worker's windows; another worker loses its window of the plane
 * @flags: out: DAEDALUS_BUFFER_F_* of the plane
 *
 * Return: a mappable dmabuf, referenced; -ENOENT; -ENOMEM.
 */
struct dma_buf *daedalus_window_open(struct daedalus_pool *pool, u64 id,
				     struct daedalus_windows *windows, u32 *flags)
{
	struct daedalus_window *window, *old;
	struct daedalus_mem *mem;
	struct dma_buf *dbuf;

	spin_lock(&pool->lock);
	mem = mem_find(pool, id);
	dbuf = mem ? window_again(mem, windows, flags) : NULL;
	if (mem && !dbuf)
		daedalus_mem_get(mem);
	spin_unlock(&pool->lock);
	if (!mem)
		return ERR_PTR(-ENOENT);
	if (dbuf)
		return dbuf;
	window = window_create(pool, mem, id);
	if (IS_ERR(window)) {
		daedalus_mem_put(mem);
		return ERR_CAST(window);
	}
	window_flags(mem, flags);
	dbuf = window->dbuf;
	get_dma_buf(dbuf);

	spin_lock(&pool->lock);
	/* The plane may have been revoked meanwhile. */
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
 * daedalus_windows_gone() - take the next plane that is gone and not yet reported
 * @pool: the session's pool
 * @windows: the worker's windows
 * @id: out: the plane's id
 *
 * Return: true if there is one.
 */
bool daedalus_windows_gone(struct daedalus_pool *pool, struct daedalus_windows *windows, u64 *id)
{
	struct daedalus_window *window;

	spin_lock(&pool->lock);
	window = list_first_entry_or_null(&windows->list, struct daedalus_window, entry);
	if (!window || !window->gone) {
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
 * daedalus_windows_close() - take all planes from a worker
 * @pool: the session's pool
 * @windows: the worker's windows
 *
 * Context: like daedalus_mem_revoke().
 */
void daedalus_windows_close(struct daedalus_pool *pool, struct daedalus_windows *windows)
{
	struct daedalus_window *window, *linked;
	struct daedalus_mem *mem;
	bool gone;

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
		gone = window->gone;
		mem = READ_ONCE(window->mem);
		if (!gone && mem && mem->window == window)
			linked = window_unlink(mem);
		spin_unlock(&pool->lock);
		if (gone)
			window_put(window);
		else
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
 * @vma: the mapping to fill
 *
 * Return: 0 or an error.
 */
int daedalus_mem_mmap(struct daedalus_mem *mem, struct vm_area_struct *vma)
{
	unsigned long i, run, first = vma->vm_pgoff, pages = vma_pages(vma);
	struct page **page = mem->pages + first;
	int ret;

	if (!(vma->vm_flags & VM_MAYSHARE) || first > mem->num_pages ||
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

/* What the importer takes in one piece, and what can be copied for it if it must be. */
static unsigned int longest_segment(struct device *dev)
{
	size_t longest = min_t(size_t, dma_get_max_seg_size(dev), dma_max_mapping_size(dev));

	return max_t(size_t, longest, PAGE_SIZE);
}

static int export_attach(struct dma_buf *dbuf, struct dma_buf_attachment *attachment)
{
	struct daedalus_mem *mem = dbuf->priv;
	struct mem_attachment *a = kzalloc_obj(*a);
	int ret;

	if (!a)
		return -ENOMEM;
	ret = sg_alloc_table_from_pages_segment(&a->table, mem->pages, mem->num_pages, 0,
						mem->size, longest_segment(attachment->dev),
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
 * @flags: flags of the file
 *
 * Return: a dmabuf; NULL on failure, as vb2 requires.
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
 * daedalus_mem_attached() - tell whether a device has the plane mapped
 * @mem: the plane
 */
bool daedalus_mem_attached(struct daedalus_mem *mem)
{
	return atomic_read(&mem->mapped);
}

/**
 * daedalus_mem_clean() - make the processors' writes visible to importing devices
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
