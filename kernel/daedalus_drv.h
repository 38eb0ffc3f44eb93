/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the module's files share. Lifetimes are told here, locking at the top
 * of daedalus_job.c.
 */
#ifndef DAEDALUS_DRV_H
#define DAEDALUS_DRV_H

#include <linux/dma-buf.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <media/media-device.h>
#include <media/v4l2-ctrls.h>
#include <media/v4l2-device.h>
#include <media/v4l2-fh.h>
#include <media/v4l2-mem2mem.h>
#include <media/videobuf2-v4l2.h>
#include <linux/daedalus.h>

#include "daedalus_compat.h"

#define DAEDALUS_MAX_DIM	8192U	/* pixels or lines of a picture */
#define DAEDALUS_MAX_BUFFERS	64U	/* per queue */
#define DAEDALUS_MAX_RESTARTS	5U	/* workers lost in a row without a job */

/* Module parameters, in ms. */
extern unsigned int daedalus_watchdog_ms;
extern unsigned int daedalus_drain_ms;
extern unsigned int daedalus_worker_wait_ms;

/* Module parameters: limits. */
extern unsigned int daedalus_max_sessions;
extern unsigned int daedalus_max_sessions_per_user;
extern bool daedalus_scattered;
extern unsigned int daedalus_max_session_mb;
extern unsigned int daedalus_max_memory_mb;

/**
 * struct daedalus_ctrl_desc - one control of a codec
 * @cfg: as v4l2_ctrl_new_custom() wants it
 * @in_job: its value is sent with every job
 */
struct daedalus_ctrl_desc {
	struct v4l2_ctrl_config cfg;
	bool in_job;
};

/**
 * struct daedalus_codec - everything that is special about a coded format
 * @fourcc: V4L2_PIX_FMT_* of OUTPUT
 * @bit: DAEDALUS_CODEC_*
 * @depth_ctrl: id of the control that tells the bit depth
 * @depth: reads the bit depth from a value of @depth_ctrl
 * @ctrls: its controls
 * @num_ctrls: number of @ctrls
 */
struct daedalus_codec {
	u32 fourcc;
	u32 bit;
	u32 depth_ctrl;
	unsigned int (*depth)(union v4l2_ctrl_ptr p);
	const struct daedalus_ctrl_desc *ctrls;
	unsigned int num_ctrls;
};

/**
 * struct daedalus_raw - a picture format
 * @fourcc: V4L2_PIX_FMT_* of CAPTURE
 * @deep: for streams of more than 8 bit; a sample then has two bytes
 * @mem_planes: memory planes
 * @chroma_planes: colour planes besides luma: 1 (interleaved) or 2
 */
struct daedalus_raw {
	u32 fourcc;
	bool deep;
	u8 mem_planes;
	u8 chroma_planes;
};

/**
 * struct daedalus_dev - the device
 * @pdev: parent of everything; bound to the module's platform driver
 * @v4l2_dev: released last, frees this structure
 * @vdev: the video node; NULL until @nodes
 * @mdev: the media node
 * @m2m: the mem2mem core's device; only its ioctl glue is used
 * @wq: runs claims and watchdogs
 * @lock: guards @broker, @nodes, @codecs, @name and @sessions
 * @broker: the registered daemon, or NULL: then the device is orphaned
 * @broker_wq: woken when a broker registers
 * @nodes: the nodes are registered; they stay until the module goes
 * @codecs: DAEDALUS_CODEC_* that new sessions offer
 * @name: of the daemon
 * @sessions: every struct daedalus_ctx with an open file
 * @wanted_lock: guards @wanted
 * @wanted: sessions in need of a worker
 * @wanted_wq: woken when @wanted gets an entry
 * @next_session: the next session's id
 * @next_id: the next plane's or worker's id
 * @busy: sessions that have a job with their worker now
 * @busy_peak: the most there ever were
 * @opened: sessions there ever were
 * @memory: bytes of all sessions' MMAP buffers
 * @unused_requests: requests of which nobody but @unused_work knows any more
 * @unused_work: frees them
 *
 * Open nodes, requests and session fds pin the module, so this lives from
 * module init until after the last of them is gone.
 */
struct daedalus_dev {
	struct platform_device *pdev;
	struct v4l2_device v4l2_dev;
	struct video_device *vdev;
	struct media_device mdev;
	struct v4l2_m2m_dev *m2m;
	struct workqueue_struct *wq;

	struct mutex lock;	/* broker, nodes, sessions */
	struct daedalus_broker *broker;
	wait_queue_head_t broker_wq;
	bool nodes;
	u32 codecs;
	char name[32];
	struct list_head sessions;

	spinlock_t wanted_lock;	/* wanted */
	struct list_head wanted;
	wait_queue_head_t wanted_wq;

	u64 next_session;
	atomic64_t next_id;
	atomic_t busy;
	atomic_t busy_peak;
	atomic_t opened;
	atomic64_t memory;

	struct llist_head unused_requests;
	struct work_struct unused_work;
};

/* Who decodes for a session; shown in debugfs by these names. */
enum daedalus_state {
	DAEDALUS_IDLE,		/* nothing streams; there may be a worker */
	DAEDALUS_WAITING,	/* a worker is wanted */
	DAEDALUS_STREAMING,	/* a worker is attached */
	DAEDALUS_DRAINING,	/* a queue is being stopped */
	DAEDALUS_LOST,		/* nobody came; STREAMOFF and STREAMON try anew */
};

/**
 * struct daedalus_ctx - a session: one open of the video node
 * @fh: the V4L2 file handle
 * @ref: held by the open file and by each worker fd
 * @dev: the device
 * @entry: in &daedalus_dev.sessions
 * @wanted_entry: in &daedalus_dev.wanted
 * @reported: the broker knows that a worker is wanted; guarded by
 *	&daedalus_dev.wanted_lock
 * @id: never reused
 * @pid: the client's, for people
 * @uid: who opened it
 * @memory: bytes of its MMAP buffers
 * @codecs: DAEDALUS_CODEC_* that this session offers
 * @hdl: the controls
 * @bit_depth: of the stream, from the controls
 * @lock: the lock of both vb2 queues; guards @coded_fmt, @raw_fmt, @codec
 * @codec: of the current coded format
 * @coded_fmt: OUTPUT
 * @raw_fmt: CAPTURE
 * @claim_work: turns queued buffers into jobs
 * @watchdog: ends the oldest job when its time is over
 * @job_lock: guards what follows
 * @state: see enum daedalus_state
 * @streaming: bit 0: OUTPUT, bit 1: CAPTURE
 * @src_ready: OUTPUT buffers (struct daedalus_buf) not claimed yet
 * @dst_ready: CAPTURE buffers not claimed yet
 * @jobs: claimed jobs, oldest first
 * @held: CAPTURE buffer which the last claimed job keeps
 * @planes: every struct daedalus_mem of the session
 * @worker: who decodes, or NULL
 * @drain_wq: woken when jobs end
 * @head_since: when the oldest job became the oldest
 * @alone_since: when the first job came to wait, or when the last worker was lost
 * @handed: jobs that the worker has read and not answered
 * @restarts: workers lost
 * @lost_in_row: workers lost, or late to start, since a job was last answered
 * @next_job: the next job's id
 * @done: jobs that ended well
 * @failed: jobs that ended with an error
 * @src_sequence: of the next OUTPUT buffer
 * @dst_sequence: of the next CAPTURE buffer
 */
struct daedalus_ctx {
	struct v4l2_fh fh;
	struct kref ref;
	struct daedalus_dev *dev;
	struct list_head entry;
	struct list_head wanted_entry;
	bool reported;
	u64 id;
	pid_t pid;
	kuid_t uid;
	atomic64_t memory;
	u32 codecs;

	struct v4l2_ctrl_handler hdl;
	unsigned int bit_depth;

	struct mutex lock;	/* both queues, formats */
	const struct daedalus_codec *codec;
	struct v4l2_pix_format_mplane coded_fmt;
	struct v4l2_pix_format_mplane raw_fmt;

	struct work_struct claim_work;
	struct delayed_work watchdog;

	spinlock_t job_lock;	/* jobs, lists, worker */
	enum daedalus_state state;
	unsigned int streaming;
	struct list_head src_ready;
	struct list_head dst_ready;
	struct list_head jobs;
	struct daedalus_buf *held;
	struct list_head planes;
	struct daedalus_worker *worker;
	wait_queue_head_t drain_wq;
	ktime_t head_since;
	ktime_t alone_since;
	unsigned int handed;
	u32 restarts;
	u32 lost_in_row;
	u64 next_job;
	u64 done;
	u64 failed;
	u32 src_sequence;
	u32 dst_sequence;
};

/**
 * struct daedalus_mem - one plane's memory, as workers know it
 * @entry: in &daedalus_ctx.planes, or in &daedalus_worker.gone afterwards
 * @id: never reused; belongs to this dmabuf
 * @dbuf: what the worker gets; a reference is held until the buffer is cleaned up
 * @flags: DAEDALUS_BUFFER_F_*
 * @asked: id of the worker that has an fd of it, or 0
 */
struct daedalus_mem {
	struct list_head entry;
	u64 id;
	struct dma_buf *dbuf;
	u32 flags;
	u64 asked;
};

enum daedalus_job_state {
	DAEDALUS_JOB_CLAIMED,	/* waits for the worker to read it */
	DAEDALUS_JOB_HANDED,	/* the worker has read it */
	DAEDALUS_JOB_ENDED,	/* waits for older jobs to end */
};

/**
 * struct daedalus_job - one coded buffer to decode
 * @entry: in &daedalus_ctx.jobs
 * @id: unique within the session
 * @state: see enum daedalus_job_state
 * @failed: it ends with an error
 * @src: its OUTPUT buffer, in which this structure is embedded
 * @dst: its CAPTURE buffer
 * @msg: what the worker reads; owned by the buffer and reused
 * @msg_size: bytes of @msg in use
 * @msg_alloc: bytes of @msg
 */
struct daedalus_job {
	struct list_head entry;
	u64 id;
	enum daedalus_job_state state;
	bool failed;
	struct daedalus_buf *src;
	struct daedalus_buf *dst;
	void *msg;
	u32 msg_size;
	u32 msg_alloc;
};

/**
 * struct daedalus_buf - a buffer of either queue
 * @vb: must be first
 * @entry: in the session's ready list
 * @mem: one per memory plane, from buf_init to buf_cleanup
 * @job: OUTPUT: the job that it becomes
 * @charged: bytes that count against the limits on memory
 * @fmt: CAPTURE: the format with which it was allocated
 * @jobs: CAPTURE: jobs that are to write it
 * @hold: CAPTURE: further jobs may come
 * @failed: CAPTURE: one of its jobs failed
 */
struct daedalus_buf {
	struct vb2_v4l2_buffer vb;
	struct list_head entry;
	struct daedalus_mem *mem[DAEDALUS_MAX_PLANES];
	struct daedalus_job job;
	unsigned long charged;
	struct v4l2_pix_format_mplane fmt;
	unsigned int jobs;
	bool hold;
	bool failed;
};

/**
 * struct daedalus_worker - a session fd
 * @ctx: the session, referenced
 * @id: unique while the module is loaded
 * @pid: the process that reads, once it has
 * @read_lock: one reader at a time; guards @bounce
 * @wq: woken when there is something to read
 * @expire: kills a dismissed worker that does not end
 * @over: no longer the session's worker; guarded by &daedalus_ctx.job_lock, as
 *	are the rest
 * @reset: a reset message is due
 * @gone: struct daedalus_mem whose end the worker is to be told
 * @bounce: a message on its way to user space
 */
struct daedalus_worker {
	struct daedalus_ctx *ctx;
	u64 id;
	struct pid *pid;
	struct mutex read_lock;	/* bounce */
	wait_queue_head_t wq;
	struct delayed_work expire;
	bool over;
	bool reset;
	struct list_head gone;
	u8 bounce[DAEDALUS_MSG_MAX] __aligned(8);
};

static inline struct daedalus_buf *to_daedalus_buf(struct vb2_buffer *vb)
{
	return container_of(to_vb2_v4l2_buffer(vb), struct daedalus_buf, vb);
}

static inline struct daedalus_ctx *daedalus_file_to_ctx(struct file *filp)
{
	return container_of(daedalus_file_to_fh(filp), struct daedalus_ctx, fh);
}

/* daedalus_drv.c */
int daedalus_register_nodes(struct daedalus_dev *dev);
void daedalus_request_put(struct daedalus_dev *dev, struct media_request *req);

/* daedalus_codec.c */
extern const struct daedalus_codec daedalus_codecs[];
extern const unsigned int daedalus_num_codecs;
const struct daedalus_codec *daedalus_find_codec(u32 codecs, u32 fourcc);
const struct daedalus_raw *daedalus_enum_raw(unsigned int depth, unsigned int index);
const struct daedalus_raw *daedalus_find_raw(unsigned int depth, u32 fourcc);
void daedalus_fill_coded(const struct daedalus_codec *codec,
			 struct v4l2_pix_format_mplane *pix);
void daedalus_fill_raw(const struct daedalus_raw *raw,
		       struct v4l2_pix_format_mplane *pix);
int daedalus_init_controls(struct daedalus_ctx *ctx);

/* daedalus_video.c */
extern const struct v4l2_file_operations daedalus_fops;
extern const struct v4l2_ioctl_ops daedalus_ioctl_ops;
void daedalus_ctx_put(struct daedalus_ctx *ctx);

/* daedalus_queue.c */
void daedalus_queue_module_init(void);
int daedalus_queue_init(void *priv, struct vb2_queue *src, struct vb2_queue *dst);

/* daedalus_job.c */
void daedalus_job_init(struct daedalus_ctx *ctx);
void daedalus_job_exit(struct daedalus_ctx *ctx);
void daedalus_buf_ready(struct daedalus_ctx *ctx, struct daedalus_buf *buf);
void daedalus_start(struct daedalus_ctx *ctx, unsigned int queue_bit);
void daedalus_stop(struct daedalus_ctx *ctx, unsigned int queue_bit);
void daedalus_flush_held(struct daedalus_ctx *ctx);
struct daedalus_job *daedalus_next_job(struct daedalus_ctx *ctx);
int daedalus_job_reply(struct daedalus_worker *worker, u64 id, bool failed);
void daedalus_job_handed(struct daedalus_ctx *ctx, struct daedalus_job *job);
void daedalus_worker_lost(struct daedalus_ctx *ctx);
void daedalus_abort(struct daedalus_ctx *ctx);

/* daedalus_worker.c */
struct daedalus_ctx *daedalus_find_session(struct daedalus_dev *dev, u64 id);
int daedalus_session_fd(struct daedalus_dev *dev, struct daedalus_session_fd __user *arg);
void daedalus_worker_dismiss(struct daedalus_ctx *ctx);
u64 daedalus_worker_kill(struct daedalus_ctx *ctx);
void daedalus_worker_unmap(struct daedalus_ctx *ctx, u64 worker);

/* daedalus_broker.c */
int daedalus_broker_init(struct daedalus_dev *dev);
void daedalus_broker_exit(void);
void daedalus_want_worker(struct daedalus_ctx *ctx);
void daedalus_unwant_worker(struct daedalus_ctx *ctx);
int daedalus_wait_broker(struct daedalus_dev *dev);

/* daedalus_debugfs.c */
void daedalus_debugfs_init(struct daedalus_dev *dev);
void daedalus_debugfs_exit(void);

#endif
