// SPDX-License-Identifier: GPL-2.0
/*
 * A test's device that imports dmabufs and does not snoop, and a record of what memory
 * it would see.
 *
 * What such a device reads is what the caches were told to write back last. So each call
 * of the kernel's cache-cleaning functions is recorded by a kprobe: of each page that it
 * covers, a sum of what the page held then. A page that was not cleaned, or that holds
 * something else now, is one that the device would see wrongly. This needs no hardware
 * with caches: an emulator without them calls the same functions.
 *
 * /dev/daedalus-importer: one open file imports one dmabuf. What is written to it are
 * commands, one a call:
 *	map FD DIRECTION	imports a dmabuf of the caller's and maps it; DIRECTION is
 *				to, from or both. The record ends as soon as it is mapped.
 *	unmap			undoes that.
 *	limit BYTES		the longest segment that the device takes from now on; at first
 *				there is no limit.
 *	forget			begins the record anew, of the mapped dmabuf's pages if
 *				there is one, else of all.
 *	forget until-done	The same; the record ends when videobuf2 has the next buffer
 *				as done.
 * Reading gives what the device would see, in words KEY=VALUE:
 *	pages		of the dmabuf
 *	cleaned		those of them that were cleaned, as recorded
 *	stale		those of the cleaned that hold something else now
 *	segments	addresses that the device needs for it, with their lengths
 *	longest		bytes of the longest of them
 *	runs		segments that do not begin where the one before ends
 *	coherent	whether the device snoops after all: then nothing is cleaned for it
 *	recording	whether the record goes on
 *	missed		pages that were cleaned beyond the memory that is recorded
 */
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "../../kernel/daedalus_compat.h"

/* Memory from address 0 on that is recorded. */
#define RECORDED_PAGES	((u64)SZ_4G >> PAGE_SHIFT)

enum recording {
	RECORD_NOTHING,
	RECORD_ON,
	RECORD_UNTIL_DONE,
};

/**
 * struct importer - an open file
 * @lock: guards the rest
 * @dbuf: what is imported, referenced, or NULL
 * @attachment: to @dbuf
 * @table: @dbuf as the device sees it
 * @dir: with which it is mapped
 */
struct importer {
	struct mutex lock;	/* all of it */
	struct dma_buf *dbuf;
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
	enum dma_data_direction dir;
};

static struct platform_device *importer_device;
static enum recording recording;
static atomic_t missed;
/* By page frame number: what the page held when it was cleaned; 0 if it was not. */
static u64 *sums;

/* --- the record --- */

/* Never 0. Any change of one word changes it: each step is a bijection. */
static u64 page_sum(const void *page)
{
	const u64 *word = page;
	u64 sum = 0xcbf29ce484222325ULL;
	unsigned int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*word); i++)
		sum = (sum ^ READ_ONCE(word[i])) * 0x100000001b3ULL;
	return sum ?: 1;
}

/* Called before a function that cleans from its first argument to its second. */
static int record_clean(struct kprobe *probe, struct pt_regs *regs)
{
	/* A page that is cleaned in part is not clean. */
	unsigned long at = PAGE_ALIGN(regs_get_kernel_argument(regs, 0));
	unsigned long end = regs_get_kernel_argument(regs, 1);
	unsigned long pfn;

	if (READ_ONCE(recording) == RECORD_NOTHING)
		return 0;
	for (; at < end && end - at >= PAGE_SIZE; at += PAGE_SIZE) {
		if (!virt_addr_valid((void *)at))
			return 0;
		pfn = virt_to_phys((void *)at) >> PAGE_SHIFT;
		if (pfn < RECORDED_PAGES)
			WRITE_ONCE(sums[pfn], page_sum((void *)at));
		else
			atomic_inc(&missed);
	}
	return 0;
}

NOKPROBE_SYMBOL(record_clean);

/* What is cleaned after a client can have the buffer is cleaned too late. */
static int record_done(struct kprobe *probe, struct pt_regs *regs)
{
	if (READ_ONCE(recording) == RECORD_UNTIL_DONE)
		WRITE_ONCE(recording, RECORD_NOTHING);
	return 0;
}

NOKPROBE_SYMBOL(record_done);

/* The functions that arch_sync_dma_for_device() reaches, in one kernel or another. */
static struct kprobe cleaning[] = {
	{ .symbol_name = "dcache_clean_poc", .pre_handler = record_clean },
	{ .symbol_name = "dcache_clean_poc_nosync", .pre_handler = record_clean },
	{ .symbol_name = "dcache_clean_inval_poc", .pre_handler = record_clean },
};

static struct kprobe done = {
	.symbol_name = "vb2_buffer_done",
	.pre_handler = record_done,
};

static void unregister_probes(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cleaning); i++)
		if (cleaning[i].addr)
			unregister_kprobe(&cleaning[i]);
	unregister_kprobe(&done);
}

static int register_probes(void)
{
	unsigned int i, count = 0;
	int ret;

	ret = register_kprobe(&done);
	if (ret) {
		pr_err("no probe of %s: is videobuf2 loaded?\n", done.symbol_name);
		return ret;
	}
	for (i = 0; i < ARRAY_SIZE(cleaning); i++) {
		ret = register_kprobe(&cleaning[i]);
		if (ret)
			cleaning[i].addr = NULL;
		else
			count++;
		/* A kernel that has such a function and no probe of it would look wrong. */
		if (ret && ret != -ENOENT) {
			pr_err("no probe of %s: %d\n", cleaning[i].symbol_name, ret);
			unregister_probes();
			return ret;
		}
	}
	if (!count) {
		pr_err("no function that cleans caches\n");
		unregister_probes();
		return -ENODEV;
	}
	return 0;
}

/* --- an import --- */

static void importer_unmap(struct importer *importer)
{
	lockdep_assert_held(&importer->lock);
	if (!importer->dbuf)
		return;
	dma_buf_unmap_attachment_unlocked(importer->attachment, importer->table, importer->dir);
	dma_buf_detach(importer->dbuf, importer->attachment);
	dma_buf_put(importer->dbuf);
	importer->dbuf = NULL;
}

static int importer_map(struct importer *importer, int fd, enum dma_data_direction dir)
{
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
	struct dma_buf *dbuf;

	lockdep_assert_held(&importer->lock);
	if (importer->dbuf)
		return -EBUSY;
	dbuf = dma_buf_get(fd);
	if (IS_ERR(dbuf))
		return PTR_ERR(dbuf);
	attachment = dma_buf_attach(dbuf, &importer_device->dev);
	if (IS_ERR(attachment)) {
		dma_buf_put(dbuf);
		return PTR_ERR(attachment);
	}
	table = dma_buf_map_attachment_unlocked(attachment, dir);
	WRITE_ONCE(recording, RECORD_NOTHING);
	if (IS_ERR(table)) {
		dma_buf_detach(dbuf, attachment);
		dma_buf_put(dbuf);
		return PTR_ERR(table);
	}
	importer->dbuf = dbuf;
	importer->attachment = attachment;
	importer->table = table;
	importer->dir = dir;
	return 0;
}

/* The page frame of each page that the device sees goes to @each. */
static void visit_pages(struct importer *importer, void (*each)(unsigned long pfn, void *data),
			void *data)
{
	struct scatterlist *sg;
	unsigned int i;
	size_t at;

	for_each_sgtable_dma_sg(importer->table, sg, i) {
		phys_addr_t phys = dma_to_phys(&importer_device->dev, sg_dma_address(sg));

		for (at = 0; at < sg_dma_len(sg); at += PAGE_SIZE)
			each((phys + at) >> PAGE_SHIFT, data);
	}
}

static void forget_pfn(unsigned long pfn, void *data)
{
	if (pfn < RECORDED_PAGES)
		WRITE_ONCE(sums[pfn], 0);
}

static void importer_forget(struct importer *importer, enum recording next)
{
	lockdep_assert_held(&importer->lock);
	if (importer->dbuf)
		visit_pages(importer, forget_pfn, NULL);
	else
		memset(sums, 0, RECORDED_PAGES * sizeof(*sums));
	atomic_set(&missed, 0);
	WRITE_ONCE(recording, next);
}

struct counts {
	unsigned int pages;
	unsigned int cleaned;
	unsigned int stale;
};

static void count_pfn(unsigned long pfn, void *data)
{
	struct counts *counts = data;
	u64 sum = pfn < RECORDED_PAGES ? READ_ONCE(sums[pfn]) : 0;

	counts->pages++;
	if (!sum)
		return;
	counts->cleaned++;
	if (sum != page_sum(page_address(pfn_to_page(pfn))))
		counts->stale++;
}

struct layout {
	unsigned int segments;
	unsigned int longest;
	unsigned int runs;
};

static struct layout importer_layout(struct importer *importer)
{
	struct layout layout = {};
	struct scatterlist *sg;
	dma_addr_t end = 0;
	unsigned int i;

	for_each_sgtable_dma_sg(importer->table, sg, i) {
		layout.segments++;
		layout.longest = max(layout.longest, sg_dma_len(sg));
		if (!i || sg_dma_address(sg) != end)
			layout.runs++;
		end = sg_dma_address(sg) + sg_dma_len(sg);
	}
	return layout;
}

/* --- the file --- */

static int importer_command(struct importer *importer, const char *text)
{
	char direction[8];
	unsigned int limit;
	int fd;

	if (sysfs_streq(text, "unmap")) {
		importer_unmap(importer);
		return 0;
	}
	if (sscanf(text, "limit %u", &limit) == 1) {
		dma_set_max_seg_size(&importer_device->dev, limit);
		return 0;
	}
	if (sysfs_streq(text, "forget") || sysfs_streq(text, "forget until-done")) {
		importer_forget(importer, strstr(text, "until-done") ? RECORD_UNTIL_DONE :
								       RECORD_ON);
		return 0;
	}
	if (sscanf(text, "map %d %7s", &fd, direction) != 2)
		return -EINVAL;
	if (sysfs_streq(direction, "to"))
		return importer_map(importer, fd, DMA_TO_DEVICE);
	if (sysfs_streq(direction, "from"))
		return importer_map(importer, fd, DMA_FROM_DEVICE);
	if (sysfs_streq(direction, "both"))
		return importer_map(importer, fd, DMA_BIDIRECTIONAL);
	return -EINVAL;
}

static ssize_t importer_write(struct file *filp, const char __user *user, size_t size,
			      loff_t *pos)
{
	struct importer *importer = filp->private_data;
	char text[32];
	int ret;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, size))
		return -EFAULT;
	text[size] = '\0';
	mutex_lock(&importer->lock);
	ret = importer_command(importer, text);
	mutex_unlock(&importer->lock);
	return ret ?: size;
}

static ssize_t importer_read(struct file *filp, char __user *user, size_t size, loff_t *pos)
{
	struct importer *importer = filp->private_data;
	struct layout layout = {};
	struct counts counts = {};
	char text[200];
	int length;

	mutex_lock(&importer->lock);
	if (importer->dbuf) {
		visit_pages(importer, count_pfn, &counts);
		layout = importer_layout(importer);
	}
	mutex_unlock(&importer->lock);
	length = scnprintf(text, sizeof(text),
			   "pages=%u cleaned=%u stale=%u segments=%u longest=%u runs=%u coherent=%d recording=%d missed=%d\n",
			   counts.pages, counts.cleaned, counts.stale, layout.segments,
			   layout.longest, layout.runs, dev_is_dma_coherent(&importer_device->dev),
			   READ_ONCE(recording) != RECORD_NOTHING, atomic_read(&missed));
	return simple_read_from_buffer(user, size, pos, text, length);
}

static int importer_open(struct inode *inode, struct file *filp)
{
	struct importer *importer = kzalloc_obj(*importer);

	if (!importer)
		return -ENOMEM;
	mutex_init(&importer->lock);
	filp->private_data = importer;
	return 0;
}

static int importer_release(struct inode *inode, struct file *filp)
{
	struct importer *importer = filp->private_data;

	mutex_lock(&importer->lock);
	importer_unmap(importer);
	mutex_unlock(&importer->lock);
	mutex_destroy(&importer->lock);
	kfree(importer);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.read = importer_read,
	.write = importer_write,
	.llseek = default_llseek,
};

static struct miscdevice importer_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "daedalus-importer",
	.fops = &importer_fops,
	.mode = 0600,
};

static int __init importer_init(void)
{
	int ret;

	importer_device = platform_device_register_simple("daedalus-importer", PLATFORM_DEVID_NONE,
							  NULL, 0);
	if (IS_ERR(importer_device))
		return PTR_ERR(importer_device);
	/* It reaches all memory, in pieces of any length: nothing is copied for it. */
	ret = dma_set_mask_and_coherent(&importer_device->dev, DMA_BIT_MASK(64));
	if (ret)
		goto err_device;
	dma_set_max_seg_size(&importer_device->dev, UINT_MAX);
	sums = vcalloc(RECORDED_PAGES, sizeof(*sums));
	if (!sums) {
		ret = -ENOMEM;
		goto err_device;
	}
	ret = register_probes();
	if (ret)
		goto err_sums;
	ret = misc_register(&importer_misc);
	if (ret)
		goto err_probes;
	return 0;
err_probes:
	unregister_probes();
err_sums:
	vfree(sums);
err_device:
	platform_device_unregister(importer_device);
	return ret;
}
module_init(importer_init);

static void __exit importer_exit(void)
{
	misc_deregister(&importer_misc);
	unregister_probes();
	vfree(sums);
	platform_device_unregister(importer_device);
}
module_exit(importer_exit);

MODULE_DESCRIPTION("Test device that imports dmabufs and does not snoop");
MODULE_LICENSE("GPL");
DAEDALUS_IMPORT_DMA_BUF();
