/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory: the object behind each plane, and the windows through which workers see it.
 */
#ifndef DAEDALUS_MEMORY_H
#define DAEDALUS_MEMORY_H

#include <linux/types.h>
#include <media/videobuf2-core.h>

struct daedalus_dev;
struct daedalus_mem;
struct daedalus_pool;
struct dma_buf;

/**
 * struct daedalus_windows - the windows of one worker
 * @list: struct daedalus_window, guarded by the pool's lock
 * @gone: number of windows that lost their plane and were not reported yet
 * @wq: woken when @gone grows
 */
struct daedalus_windows {
	struct list_head list;
	unsigned int gone;
	wait_queue_head_t *wq;
};

/**
 * struct daedalus_reserve - planes allocated before the locks are taken
 * @entries: struct daedalus_mem, oldest first
 */
struct daedalus_reserve {
	struct list_head entries;
};

struct daedalus_pool *daedalus_pool_create(struct daedalus_dev *dev);
void daedalus_pool_put(struct daedalus_pool *pool);
void daedalus_pool_usage(struct daedalus_pool *pool, u64 *contiguous, u64 *scattered);
void daedalus_memory_init(struct daedalus_dev *dev);
const char *daedalus_contiguous_reason(struct daedalus_dev *dev);

bool daedalus_contiguous_fits(struct daedalus_pool *pool, u64 size);
int daedalus_reserve_add(struct daedalus_pool *pool, struct daedalus_reserve *reserve,
			 unsigned int count, unsigned int num_planes, const unsigned int *sizes,
			 bool capture, bool *contiguous);
struct daedalus_mem *daedalus_reserve_take(struct daedalus_reserve *reserve, unsigned long size);
bool daedalus_reserve_has(struct daedalus_reserve *reserve, unsigned int count,
			  unsigned int num_planes, const unsigned int *sizes);
void daedalus_reserve_drop(struct daedalus_reserve *reserve);

struct daedalus_mem *daedalus_mem_import(struct daedalus_pool *pool, struct dma_buf *dbuf,
					 bool capture);
void daedalus_mem_release(struct daedalus_mem *mem);
struct daedalus_mem *daedalus_mem_get(struct daedalus_mem *mem);
void daedalus_mem_put(struct daedalus_mem *mem);
unsigned int daedalus_mem_users(struct daedalus_mem *mem);
struct dma_buf *daedalus_mem_export(struct daedalus_mem *mem, unsigned long flags);
int daedalus_mem_mmap(struct daedalus_mem *mem, struct vm_area_struct *vma);
int daedalus_mem_usable(struct daedalus_mem *mem, size_t size);
u64 daedalus_mem_id(struct daedalus_mem *mem);
size_t daedalus_mem_size(struct daedalus_mem *mem);
bool daedalus_mem_imported(struct daedalus_mem *mem);
bool daedalus_mem_attached(struct daedalus_mem *mem);
void daedalus_mem_clean(struct daedalus_mem *mem);
void daedalus_mem_revoke(struct daedalus_mem *mem);

struct dma_buf *daedalus_window_open(struct daedalus_pool *pool, u64 id,
				     struct daedalus_windows *windows, u32 *flags);
bool daedalus_windows_gone(struct daedalus_pool *pool, struct daedalus_windows *windows, u64 *id);
void daedalus_windows_close(struct daedalus_pool *pool, struct daedalus_windows *windows);

#endif
