// SPDX-License-Identifier: GPL-2.0
/*
 * daedalus_v4l2: a V4L2 decoder that decodes in user space.
 *
 * This file has the module, the platform device and driver, and the notifier of suspend
 * and hibernation. Open nodes, session fds, requests and exported buffers pin the module.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/suspend.h>

#include "daedalus_compat.h"
#include "daedalus_control.h"
#include "daedalus_core.h"
#include "daedalus_debugfs.h"
#include "daedalus_memory.h"
#include "daedalus_nodes.h"
#include "daedalus_stateful.h"
#include "daedalus_video.h"

static struct daedalus_video *drv_video;
static struct daedalus_stateful *drv_stateful;

/*
 * The kernel freezes user space before it suspends devices, and thaws it after it has
 * resumed them, while time goes on. A frozen worker cannot answer and must not be killed
 * for that. A freezable work queue would not help: it thaws before the tasks do.
 */
static int pm_event(struct notifier_block *block, unsigned long event, void *unused)
{
	struct daedalus_dev *dev = drv_video->dev;
	struct daedalus_session *session;

	switch (event) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		WRITE_ONCE(dev->frozen, true);
		break;
	case PM_POST_SUSPEND:
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		mutex_lock(&dev->lock);
		list_for_each_entry(session, &dev->sessions, entry)
			session->ops->thaw(session);
		mutex_unlock(&dev->lock);
		WRITE_ONCE(dev->frozen, false);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block pm_block = {
	.notifier_call = pm_event,
};

/* The first is the device, the second carries the stateful node and needs nothing. */
static const struct platform_device_id device_ids[] = {
	{ .name = DAEDALUS_DRIVER_NAME },
	{ .name = DAEDALUS_STATEFUL_DEVICE },
	{}
};

static bool is_node(struct platform_device *pdev)
{
	return platform_get_device_id(pdev) != &device_ids[0];
}

static int daedalus_probe(struct platform_device *pdev)
{
	struct daedalus_video *video;
	struct daedalus_dev *dev;
	int ret;

	if (is_node(pdev))
		return 0;
	/* Contiguous memory is for displays. Some of them have 32 address bits. */
	ret = dma_set_mask(&pdev->dev, DMA_BIT_MASK(64));
	if (!ret)
		ret = dma_set_coherent_mask(&pdev->dev, DMA_BIT_MASK(32));
	if (ret)
		return ret;
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);

	dev = daedalus_dev_create(&pdev->dev);
	if (!dev)
		return -ENOMEM;
	daedalus_memory_init(dev);
	video = daedalus_nodes_create(dev);
	if (IS_ERR(video)) {
		daedalus_dev_destroy(dev);
		return PTR_ERR(video);
	}
	drv_video = video;
	drv_stateful = daedalus_stateful_create(dev);
	if (IS_ERR(drv_stateful)) {
		ret = PTR_ERR(drv_stateful);
		goto err_nodes;
	}
	daedalus_debugfs_init(dev);
	ret = register_pm_notifier(&pm_block);
	if (ret)
		goto err_debugfs;
	ret = daedalus_control_init(video, drv_stateful);
	if (ret)
		goto err_pm;
	platform_set_drvdata(pdev, video);
	return 0;

err_pm:
	unregister_pm_notifier(&pm_block);
err_debugfs:
	daedalus_debugfs_exit();
	daedalus_stateful_destroy(drv_stateful);
err_nodes:
	daedalus_nodes_destroy(video);
	return ret;
}

static void daedalus_remove(struct platform_device *pdev)
{
	if (is_node(pdev))
		return;
	daedalus_control_exit();
	unregister_pm_notifier(&pm_block);
	daedalus_debugfs_exit();
	daedalus_stateful_destroy(drv_stateful);
	/* It destroys the device, too, and waits for the end of closed sessions of both faces. */
	daedalus_nodes_destroy(platform_get_drvdata(pdev));
}

static struct platform_driver daedalus_driver = {
	.probe = daedalus_probe,
	.remove = daedalus_remove,
	.id_table = device_ids,
	.driver = {
		.name = DAEDALUS_DRIVER_NAME,
		/* Module init needs the result of the probe. */
		.probe_type = PROBE_FORCE_SYNCHRONOUS,
		/* Unbinding by hand would remove the device while fds are open. */
		.suppress_bind_attrs = true,
	},
};

static struct platform_device *daedalus_pdev;

static int __init daedalus_init(void)
{
	int ret;

	ret = platform_driver_register(&daedalus_driver);
	if (ret)
		return ret;
	daedalus_pdev = platform_device_register_simple(DAEDALUS_DRIVER_NAME,
							PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(daedalus_pdev)) {
		platform_driver_unregister(&daedalus_driver);
		return PTR_ERR(daedalus_pdev);
	}
	/* The registration does not return the error of a failed probe. */
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

MODULE_DESCRIPTION("V4L2 video decoders served by a user space daemon");
MODULE_LICENSE("GPL");
DAEDALUS_IMPORT_DMA_BUF();
