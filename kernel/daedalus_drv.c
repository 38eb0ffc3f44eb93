// SPDX-License-Identifier: GPL-2.0
/*
 * daedalus_v4l2: a V4L2 stateless decoder that decodes in user space.
 *
 * Module, platform device and driver, the nodes, and what keeps them alive: open
 * nodes and session fds pin the module through their file operations. A request
 * fd does not, in the core; here each request pins the module until an RCU grace
 * period after it is freed, since the core returns into our req_free and touches
 * the media device after it.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <media/v4l2-ioctl.h>

#include "daedalus_drv.h"

unsigned int daedalus_watchdog_ms = 900;
module_param_named(watchdog_ms, daedalus_watchdog_ms, uint, 0644);
MODULE_PARM_DESC(watchdog_ms, "time in ms that the oldest job may take (default 900)");

unsigned int daedalus_drain_ms = 50;
module_param_named(drain_ms, daedalus_drain_ms, uint, 0644);
MODULE_PARM_DESC(drain_ms, "time in ms that a stopping queue gives its worker (default 50)");

unsigned int daedalus_worker_wait_ms = 500;
module_param_named(worker_wait_ms, daedalus_worker_wait_ms, uint, 0644);
MODULE_PARM_DESC(worker_wait_ms,
		 "time in ms that clients wait for a daemon or a worker (default 500)");

unsigned int daedalus_max_sessions = 192;
module_param_named(max_sessions, daedalus_max_sessions, uint, 0644);
MODULE_PARM_DESC(max_sessions, "opens of the video node at one time (default 192)");

unsigned int daedalus_max_sessions_per_user = 128;
module_param_named(max_sessions_per_user, daedalus_max_sessions_per_user, uint, 0644);
MODULE_PARM_DESC(max_sessions_per_user,
		 "the same of one user without CAP_SYS_RESOURCE (default 128)");

unsigned int daedalus_max_session_mb;
module_param_named(max_session_mb, daedalus_max_session_mb, uint, 0644);
MODULE_PARM_DESC(max_session_mb,
		 "MiB of MMAP buffers of one open (default 0: half of the machine's memory)");

unsigned int daedalus_max_memory_mb;
module_param_named(max_memory_mb, daedalus_max_memory_mb, uint, 0644);
MODULE_PARM_DESC(max_memory_mb,
		 "MiB of MMAP buffers of all (default 0: three quarters of the memory)");

bool daedalus_scattered;
module_param_named(scattered, daedalus_scattered, bool, 0644);
MODULE_PARM_DESC(scattered,
		 "MMAP buffers of scattered pages only (default N: contiguous, while there is such memory)");

struct daedalus_request {
	struct media_request req;
	struct rcu_head rcu;
	struct llist_node unused_entry;
};

static struct media_request *daedalus_req_alloc(struct media_device *mdev)
{
	struct daedalus_request *req;

	req = kzalloc_obj(*req);
	if (!req)
		return NULL;
	__module_get(THIS_MODULE);
	return &req->req;
}

static void daedalus_req_free_rcu(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct daedalus_request, rcu));
	module_put(THIS_MODULE);
}

static void daedalus_req_free(struct media_request *req)
{
	/* Not lazily: who removes the module after the last client waits for this. */
	call_rcu_hurry(&container_of(req, struct daedalus_request, req)->rcu,
		       daedalus_req_free_rcu);
}

/*
 * Drops a reference where nothing may sleep. A client may close a request that is
 * queued; whoever drops the last reference then frees the request's controls,
 * which takes mutexes. The last one is left to a work item.
 */
void daedalus_request_put(struct daedalus_dev *dev, struct media_request *req)
{
	if (refcount_dec_not_one(&req->kref.refcount))
		return;
	llist_add(&container_of(req, struct daedalus_request, req)->unused_entry,
		  &dev->unused_requests);
	queue_work(dev->wq, &dev->unused_work);
}

static void unused_work(struct work_struct *work)
{
	struct daedalus_dev *dev = container_of(work, struct daedalus_dev, unused_work);
	struct daedalus_request *req, *next;

	llist_for_each_entry_safe(req, next, llist_del_all(&dev->unused_requests), unused_entry)
		media_request_put(&req->req);
}

/* Exactly one OUTPUT buffer per request. */
static int daedalus_req_validate(struct media_request *req)
{
	unsigned int count = vb2_request_buffer_cnt(req);

	if (!count)
		return -ENOENT;
	if (count > 1)
		return -EINVAL;
	return vb2_request_validate(req);
}

static const struct media_device_ops daedalus_media_ops = {
	.req_alloc = daedalus_req_alloc,
	.req_free = daedalus_req_free,
	.req_validate = daedalus_req_validate,
	.req_queue = v4l2_m2m_request_queue,
};

/* Never reached: jobs are not the mem2mem core's. */
static void daedalus_device_run(void *priv)
{
	WARN_ON_ONCE(1);
}

static const struct v4l2_m2m_ops daedalus_m2m_ops = {
	.device_run = daedalus_device_run,
};

/*
 * A new one for each attempt to register it: one that was registered and taken back
 * may still be open, and cannot be registered again.
 */
static struct video_device *new_video_device(struct daedalus_dev *dev)
{
	struct video_device *vdev = video_device_alloc();

	if (!vdev)
		return NULL;
	strscpy(vdev->name, "daedalus-dec", sizeof(vdev->name));
	vdev->fops = &daedalus_fops;
	vdev->ioctl_ops = &daedalus_ioctl_ops;
	vdev->release = video_device_release;
	vdev->v4l2_dev = &dev->v4l2_dev;
	vdev->vfl_dir = VFL_DIR_M2M;
	vdev->device_caps = V4L2_CAP_VIDEO_M2M_MPLANE | V4L2_CAP_STREAMING;
	video_set_drvdata(vdev, dev);
	return vdev;
}

/* When the mem2mem core fails halfway, it forgets one of its entities in the device. */
static void unregister_entities(struct media_device *mdev)
{
	struct media_entity *entity, *next;

	list_for_each_entry_safe(entity, next, &mdev->entities, graph_obj.list) {
		media_device_unregister_entity(entity);
		kfree(entity->name);
		entity->name = NULL;
	}
}

/* The first daemon is here: clients may see the device. Called with dev->lock held. */
int daedalus_register_nodes(struct daedalus_dev *dev)
{
	struct video_device *vdev = new_video_device(dev);
	int ret;

	if (!vdev)
		return -ENOMEM;
	scnprintf(dev->mdev.model, sizeof(dev->mdev.model), "daedalus (%.20s)", dev->name);
	ret = video_register_device(vdev, VFL_TYPE_VIDEO, -1);
	if (ret) {
		video_device_release(vdev);
		return ret;
	}
	ret = v4l2_m2m_register_media_controller(dev->m2m, vdev, MEDIA_ENT_F_PROC_VIDEO_DECODER);
	if (ret) {
		unregister_entities(&dev->mdev);
		goto err_video;
	}
	ret = media_device_register(&dev->mdev);
	if (ret)
		goto err_mc;
	dev->vdev = vdev;
	return 0;

err_mc:
	v4l2_m2m_unregister_media_controller(dev->m2m);
err_video:
	video_unregister_device(vdev);
	return ret;
}

static void daedalus_v4l2_release(struct v4l2_device *v4l2_dev)
{
	struct daedalus_dev *dev = container_of(v4l2_dev, struct daedalus_dev, v4l2_dev);

	media_device_cleanup(&dev->mdev);
	v4l2_m2m_release(dev->m2m);
	destroy_workqueue(dev->wq);
	mutex_destroy(&dev->lock);
	kfree(dev);
}

static int daedalus_probe(struct platform_device *pdev)
{
	struct daedalus_dev *dev;
	int ret;

	/* Before any allocation, so that all of them get cached mappings. */
	daedalus_set_dma_coherent(&pdev->dev);
	ret = dma_set_mask(&pdev->dev, DMA_BIT_MASK(64));
	if (!ret)
		ret = dma_set_coherent_mask(&pdev->dev, DMA_BIT_MASK(32));
	if (ret)
		return ret;
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);

	dev = kzalloc_obj(*dev);
	if (!dev)
		return -ENOMEM;
	dev->pdev = pdev;
	mutex_init(&dev->lock);
	spin_lock_init(&dev->wanted_lock);
	INIT_LIST_HEAD(&dev->sessions);
	INIT_LIST_HEAD(&dev->wanted);
	init_llist_head(&dev->unused_requests);
	INIT_WORK(&dev->unused_work, unused_work);
	init_waitqueue_head(&dev->broker_wq);
	init_waitqueue_head(&dev->wanted_wq);

	dev->wq = alloc_workqueue("daedalus", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!dev->wq) {
		ret = -ENOMEM;
		goto err_free;
	}
	dev->m2m = v4l2_m2m_init(&daedalus_m2m_ops);
	if (IS_ERR(dev->m2m)) {
		ret = PTR_ERR(dev->m2m);
		goto err_wq;
	}

	dev->mdev.dev = &pdev->dev;
	dev->mdev.ops = &daedalus_media_ops;
	strscpy(dev->mdev.bus_info, "platform:" DAEDALUS_DRIVER_NAME,
		sizeof(dev->mdev.bus_info));
	media_device_init(&dev->mdev);
	dev->v4l2_dev.mdev = &dev->mdev;
	dev->v4l2_dev.release = daedalus_v4l2_release;
	ret = v4l2_device_register(&pdev->dev, &dev->v4l2_dev);
	if (ret)
		goto err_media;

	platform_set_drvdata(pdev, dev);
	daedalus_debugfs_init(dev);
	ret = daedalus_broker_init(dev);
	if (ret) {
		platform_set_drvdata(pdev, NULL);
		daedalus_debugfs_exit();
		v4l2_device_unregister(&dev->v4l2_dev);
		v4l2_device_put(&dev->v4l2_dev);
	}
	return ret;

err_media:
	media_device_cleanup(&dev->mdev);
	v4l2_m2m_release(dev->m2m);
err_wq:
	destroy_workqueue(dev->wq);
err_free:
	kfree(dev);
	return ret;
}

static void daedalus_remove(struct platform_device *pdev)
{
	struct daedalus_dev *dev = platform_get_drvdata(pdev);

	daedalus_broker_exit();
	daedalus_debugfs_exit();
	if (dev->nodes) {
		media_device_unregister(&dev->mdev);
		v4l2_m2m_unregister_media_controller(dev->m2m);
		video_unregister_device(dev->vdev);
	}
	rcu_barrier();
	daedalus_wait_requests_gone(&dev->mdev);
	v4l2_device_unregister(&dev->v4l2_dev);
	v4l2_device_put(&dev->v4l2_dev);
}

static struct platform_driver daedalus_driver = {
	.probe = daedalus_probe,
	.remove = daedalus_remove,
	.driver = {
		.name = DAEDALUS_DRIVER_NAME,
		/* Unbinding by hand would pull the device from under open fds. */
		.suppress_bind_attrs = true,
	},
};

static struct platform_device *daedalus_pdev;

static int __init daedalus_init(void)
{
	int ret;

	daedalus_queue_module_init();
	ret = platform_driver_register(&daedalus_driver);
	if (ret)
		return ret;
	daedalus_pdev = platform_device_register_simple(DAEDALUS_DRIVER_NAME,
							PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(daedalus_pdev)) {
		platform_driver_unregister(&daedalus_driver);
		return PTR_ERR(daedalus_pdev);
	}
	/* A probe that failed is silent here. */
	if (!platform_get_drvdata(daedalus_pdev)) {
		platform_device_unregister(daedalus_pdev);
		platform_driver_unregister(&daedalus_driver);
		return -ENODEV;
	}
	return 0;
}
module_init(daedalus_init);

static void __exit daedalus_exit(void)
{
	platform_device_unregister(daedalus_pdev);
	platform_driver_unregister(&daedalus_driver);
}
module_exit(daedalus_exit);

MODULE_DESCRIPTION("V4L2 stateless video decoder served by a user space daemon");
MODULE_LICENSE("GPL");
DAEDALUS_IMPORT_DMA_BUF();
