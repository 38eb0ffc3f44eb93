// SPDX-License-Identifier: GPL-2.0
/*
 * The stateless face's nodes: the video device, the media device and its graph.
 */
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <media/v4l2-ioctl.h>

#include "daedalus_compat.h"
#include "daedalus_core.h"
#include "daedalus_nodes.h"
#include "daedalus_video.h"

/* GStreamer derives names of elements from it. The entities' names begin with it. */
#define NODE_NAME	"daedalus-dec"

/*
 * Creates a device for each attempt to register it: one that was registered and removed
 * may still be open, and cannot be registered again.
 */
static struct video_device *new_video_device(struct daedalus_video *video)
{
	struct video_device *vdev = video_device_alloc();

	if (!vdev)
		return NULL;
	strscpy(vdev->name, NODE_NAME, sizeof(vdev->name));
	vdev->fops = &daedalus_fops;
	vdev->ioctl_ops = &daedalus_ioctl_ops;
	vdev->release = video_device_release;
	vdev->v4l2_dev = &video->v4l2_dev;
	vdev->vfl_dir = VFL_DIR_M2M;
	vdev->device_caps = V4L2_CAP_VIDEO_M2M_MPLANE | V4L2_CAP_STREAMING;
	video_set_drvdata(vdev, video);
	return vdev;
}

static int register_entity(struct daedalus_video *video, struct media_entity *entity,
			   const char *name, u32 function, u16 num_pads,
			   struct media_pad *pads)
{
	int ret;

	entity->name = name;
	entity->function = function;
	entity->obj_type = MEDIA_ENTITY_TYPE_BASE;
	if (function == MEDIA_ENT_F_IO_V4L) {
		entity->info.dev.major = VIDEO_MAJOR;
		entity->info.dev.minor = video->vdev->minor;
	}
	ret = media_entity_pads_init(entity, num_pads, pads);
	if (!ret)
		ret = media_device_register_entity(&video->requests.mdev, entity);
	return ret;
}

static void unregister_graph(struct daedalus_video *video)
{
	struct media_device *mdev = &video->requests.mdev;
	struct media_entity *entity, *next;

	if (video->intf) {
		media_remove_intf_links(&video->intf->intf);
		media_devnode_remove(video->intf);
		video->intf = NULL;
	}
	list_for_each_entry_safe(entity, next, &mdev->entities, graph_obj.list) {
		media_entity_remove_links(entity);
		media_device_unregister_entity(entity);
	}
}

/*
 * Creates the graph that clients look for: a decoder between two queues, both linked to
 * the interface of the video node. The core makes no entities for a memory-to-memory
 * device.
 */
static int register_graph(struct daedalus_video *video)
{
	const u32 fixed = MEDIA_LNK_FL_IMMUTABLE | MEDIA_LNK_FL_ENABLED;
	struct media_device *mdev = &video->requests.mdev;
	struct media_entity *source = &video->vdev->entity;
	int ret;

	video->source_pad.flags = MEDIA_PAD_FL_SOURCE;
	video->sink_pad.flags = MEDIA_PAD_FL_SINK;
	video->proc_pads[0].flags = MEDIA_PAD_FL_SINK;
	video->proc_pads[1].flags = MEDIA_PAD_FL_SOURCE;
	ret = register_entity(video, source, NODE_NAME "-source", MEDIA_ENT_F_IO_V4L, 1,
			      &video->source_pad);
	if (!ret)
		ret = register_entity(video, &video->proc, NODE_NAME "-proc",
				      MEDIA_ENT_F_PROC_VIDEO_DECODER, 2, video->proc_pads);
	if (!ret)
		ret = register_entity(video, &video->sink, NODE_NAME "-sink",
				      MEDIA_ENT_F_IO_V4L, 1, &video->sink_pad);
	if (!ret)
		ret = media_create_pad_link(source, 0, &video->proc, 0, fixed);
	if (!ret)
		ret = media_create_pad_link(&video->proc, 1, &video->sink, 0, fixed);
	if (ret)
		goto err;
	ret = -ENOMEM;
	video->intf = media_devnode_create(mdev, MEDIA_INTF_T_V4L_VIDEO, 0, VIDEO_MAJOR,
					   video->vdev->minor);
	if (!video->intf || !media_create_intf_link(source, &video->intf->intf, fixed) ||
	    !media_create_intf_link(&video->sink, &video->intf->intf, fixed))
		goto err;
	return 0;

err:
	unregister_graph(video);
	return ret;
}

/**
 * daedalus_nodes_register() - show the device to clients, when the first daemon registers
 * @video: the nodes, not registered
 *
 * Context: dev->lock is held.
 * Return: 0 or an error; the caller may try again after an error.
 */
int daedalus_nodes_register(struct daedalus_video *video)
{
	struct media_device *mdev = &video->requests.mdev;
	int ret;

	lockdep_assert_held(&video->dev->lock);
	video->vdev = new_video_device(video);
	if (!video->vdev)
		return -ENOMEM;
	scnprintf(mdev->model, sizeof(mdev->model), "daedalus (%.20s)", video->dev->name);
	ret = video_register_device(video->vdev, VFL_TYPE_VIDEO, -1);
	if (ret) {
		video_device_release(video->vdev);
		goto err_vdev;
	}
	ret = register_graph(video);
	if (ret)
		goto err_video;
	ret = media_device_register(mdev);
	if (ret)
		goto err_graph;
	return 0;

err_graph:
	unregister_graph(video);
err_video:
	video_unregister_device(video->vdev);
err_vdev:
	video->vdev = NULL;
	return ret;
}

static void video_release(struct v4l2_device *v4l2_dev)
{
	struct daedalus_video *video = container_of(v4l2_dev, struct daedalus_video, v4l2_dev);

	/* Waits for the end of closed sessions. */
	daedalus_dev_destroy(video->dev);
	media_device_cleanup(&video->requests.mdev);
	kfree(video);
}

/**
 * daedalus_nodes_create() - prepare the nodes
 * @dev: the device; the nodes own it from now on, and destroy it with themselves
 *
 * Return: the nodes, or an error pointer; the caller still owns @dev after an error.
 */
struct daedalus_video *daedalus_nodes_create(struct daedalus_dev *dev)
{
	struct daedalus_video *video = kzalloc_obj(*video);
	int ret;

	if (!video)
		return ERR_PTR(-ENOMEM);
	video->dev = dev;
	daedalus_requests_init(&video->requests, dev);
	video->v4l2_dev.mdev = &video->requests.mdev;
	video->v4l2_dev.release = video_release;
	ret = v4l2_device_register(dev->parent, &video->v4l2_dev);
	if (ret) {
		media_device_cleanup(&video->requests.mdev);
		kfree(video);
		return ERR_PTR(ret);
	}
	return video;
}

/**
 * daedalus_nodes_destroy() - remove the nodes
 * @video: the nodes; nobody has a file of theirs open
 */
void daedalus_nodes_destroy(struct daedalus_video *video)
{
	if (video->vdev) {
		media_device_unregister(&video->requests.mdev);
		unregister_graph(video);
		video_unregister_device(video->vdev);
	}
	rcu_barrier();
	daedalus_wait_requests_gone(&video->requests.mdev);
	v4l2_device_unregister(&video->v4l2_dev);
	v4l2_device_put(&video->v4l2_dev);
}
