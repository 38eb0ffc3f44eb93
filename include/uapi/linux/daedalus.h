/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/*
 * daedalus: V4L2 decoders, stateless and stateful, that decode in user space.
 *
 * This header is the contract between the kernel module and a daemon. Any
 * program may implement the daemon's side.
 *
 * The parts
 * ---------
 * A *client* opens a video node and drives it by the V4L2 stateless decoder
 * interface, or a second node by the stateful one: these are the *faces*. Each open
 * of a video node is a *session*. The *daemon* is a *broker*, which holds the control
 * fd (one open of /dev/daedalus-v4l2), and one *worker* process per session, which
 * holds one session fd and nothing else. A *job* of the stateless face is one coded
 * buffer (OUTPUT), the request's controls, and the picture buffer (CAPTURE) that it
 * is decoded into. "The stateful face" below describes the other one.
 *
 * The control fd
 * --------------
 *  1. DAEDALUS_IOC_HELLO agrees on the version and the features, and returns the
 *     module's codecs, faces and message size.
 *  2. DAEDALUS_IOC_REGISTER names the codecs and faces served, and returns those
 *     that the module took. The first registration of a face creates its nodes. They
 *     stay until the module is removed.
 *  3. read() returns struct daedalus_event records; poll() waits for them. For
 *     DAEDALUS_EVENT_WORKER_WANTED the broker calls DAEDALUS_IOC_SESSION_FD and
 *     hands the fd to a new worker.
 * Closing the control fd orphans the device. Sessions whose worker lives go on.
 * After the grace period (the module's parameter worker_wait_ms) other jobs end
 * with an error, and open() of the video node fails with ENODEV. A new broker
 * may register at any time. Workers outlive their broker, so each session fd
 * keeps the version with which it was made.
 *
 * The session fd
 * --------------
 * The worker first calls DAEDALUS_IOC_ATTACH. Only this call makes the calling
 * process the session's worker, which the module kills when it hangs. read()
 * then returns exactly one message, which starts with struct daedalus_msg. A
 * buffer of the size that DAEDALUS_IOC_ATTACH returned always suffices; with a
 * smaller one read() may fail with EMSGSIZE and the message stays. read() waits
 * unless the fd is O_NONBLOCK (EAGAIN). It returns 0 once the session is over;
 * the worker then exits. Closing the session fd (or dying) fails the jobs that
 * were read and not answered; jobs not yet read wait for the next worker.
 *
 * Jobs are read in order. They may be answered in any order with
 * DAEDALUS_IOC_JOB_DONE; the client sees them complete in job order.
 * DAEDALUS_IOC_NEXT answers a job and reads the next message in one call.
 *
 * The module may take a plane's memory away at any time: when the client stops a
 * queue, or frees the buffer, or the job took too long. The worker's mapping
 * stays valid, but it then shows a page of the worker's own. A later answer fails
 * with ENOENT, and DAEDALUS_MSG_BUFFER_GONE tells when to unmap. Memory that the
 * client imported cannot be taken away; see DAEDALUS_BUFFER_F_IMPORTED.
 *
 * Rules
 * -----
 * Reserved fields and unknown flag bits are zero, in both directions; otherwise
 * the module returns EINVAL. Integers are in the machine's byte order.
 * Every structure has the same layout on 32-bit and 64-bit ABIs.
 *
 * Numbers
 * -------
 * ioctls 0x00 to 0x1f belong to the control fd, 0x20 to 0x2f to session fds of all
 * faces, 0x30 to 0x4f to the stateful face. Messages 0x00 to 0x1f belong to all
 * faces and to the stateless one, 0x20 to 0x3f to the stateful one.
 *
 * Changes
 * -------
 * version 2: HELLO returns codecs, faces and the message size; REGISTER returns the
 *	codecs and faces that it took instead of refusing unknown codecs; ATTACH, NEXT;
 *	messages of more than 16 KiB; DAEDALUS_BUFFER_F_INITIALISED. A module that
 *	speaks version 2 serves daemons of version 1: DAEDALUS_IOC_REGISTER_V1, no
 *	ATTACH (the first to read a session fd is the worker if it is the broker or
 *	its child), messages of at most DAEDALUS_MSG_MAX_V1 bytes. The stateful face: a
 *	module that has it says so in daedalus_hello.faces.
 * version 1: first version.
 */
#ifndef _UAPI_LINUX_DAEDALUS_H
#define _UAPI_LINUX_DAEDALUS_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The version of the protocol that this header describes, and the oldest served. */
#define DAEDALUS_VERSION		2
#define DAEDALUS_MIN_VERSION		1

/* The control device, and the driver name that both nodes report. */
#define DAEDALUS_CONTROL_NAME		"daedalus-v4l2"
#define DAEDALUS_DRIVER_NAME		"daedalus"

/* Codecs. A module supports a subset: see daedalus_hello.codecs. */
#define DAEDALUS_CODEC_H264		0x1
#define DAEDALUS_CODEC_VP9		0x2
#define DAEDALUS_CODEC_AV1		0x4
#define DAEDALUS_CODEC_VP8		0x8
#define DAEDALUS_CODEC_MPEG2		0x10
#define DAEDALUS_CODEC_HEVC		0x20

/* Faces: the V4L2 interfaces that clients see. */
#define DAEDALUS_FACE_STATELESS		0x1
#define DAEDALUS_FACE_STATEFUL		0x2

/* Bits of daedalus_hello.features. */
#define DAEDALUS_FEATURE_NEXT		0x1	/* DAEDALUS_IOC_NEXT works */
/*
 * The module makes finished pictures visible to devices that imported them; the
 * worker need not clean caches.
 */
#define DAEDALUS_FEATURE_CLEANS		0x2

/**
 * struct daedalus_hello - DAEDALUS_IOC_HELLO, on the control fd
 * @version: in: the newest version that the daemon speaks; out: the version to
 *	use from now on, which is at most that.
 * @min_version: in: the oldest version that the daemon speaks; out: the oldest
 *	that the module speaks.
 * @features: in: the features that the daemon knows; out: those of them that
 *	the module has too. Version 1 has none.
 * @codecs: in: zero; out, from version 2 on: DAEDALUS_CODEC_* of the module
 * @faces: in: zero; out, from version 2 on: DAEDALUS_FACE_* of the module
 * @msg_max: in: zero; out, from version 2 on: bytes of the longest message
 * @reserved: zero
 *
 * Must come first, once per open. EPROTO if there is no common version, EBUSY
 * if it was already called on this fd.
 */
struct daedalus_hello {
	__u32 version;
	__u32 min_version;
	__u64 features;
	__u32 codecs;
	__u32 faces;
	__u32 msg_max;
	__u32 reserved;
};

/**
 * struct daedalus_register - DAEDALUS_IOC_REGISTER, on the control fd
 * @name: the daemon's name, NUL-terminated printable ASCII, not empty. It is
 *	shown as part of the device's card name and in debugfs.
 * @codecs: in: the DAEDALUS_CODEC_* that the daemon can decode; out: those of
 *	them that the module took. They decide what sessions opened from now on
 *	offer.
 * @flags: zero
 * @faces: in: the DAEDALUS_FACE_* that the daemon serves, 0 for the stateless one;
 *	out: those that the module took. Version 1: zero.
 * @stateful_codecs: with DAEDALUS_FACE_STATEFUL, in: the DAEDALUS_CODEC_* that the
 *	stateful face is to offer; out: those that the module took; else zero
 * @reserved: zero
 *
 * EPROTO before DAEDALUS_IOC_HELLO; EBUSY while another daemon is registered or
 * if this fd is registered already; EINVAL for bad fields, or if nothing was left
 * to take. DAEDALUS_IOC_REGISTER_V1 has the same structure, returns nothing, and
 * answers EINVAL for a codec that the module does not know.
 */
struct daedalus_register {
	__u8 name[32];
	__u32 codecs;
	__u32 flags;
	__u32 faces;
	__u32 stateful_codecs;
	__u32 reserved[2];
};

/* A session has jobs, or began to stream, and has no worker. */
#define DAEDALUS_EVENT_WORKER_WANTED	1

/**
 * struct daedalus_event - one record of read() on the control fd
 * @type: DAEDALUS_EVENT_*; a daemon ignores types that it does not know
 * @coded_format: the session's coded format (a V4L2_PIX_FMT_* fourcc)
 * @session: the session's id, never reused while the module is loaded
 * @client_pid: process id of the client in the initial pid namespace, for logs
 * @restarts: how many workers this session has lost so far
 * @reserved: zero
 *
 * read() returns as many whole records as there are and as fit; EINVAL if not
 * even one fits; ENOTCONN before DAEDALUS_IOC_REGISTER.
 */
struct daedalus_event {
	__u32 type;
	__u32 coded_format;
	__u64 session;
	__u32 client_pid;
	__u32 restarts;
	__u64 reserved;
};

/**
 * struct daedalus_session_fd - DAEDALUS_IOC_SESSION_FD, on the control fd
 * @session: in: the session's id, from the event
 * @fd: out: a new session fd of the calling process, close-on-exec
 * @flags: in: O_NONBLOCK or 0
 * @reserved: zero
 *
 * The broker hands the fd to a worker and closes its own copy. The process that
 * calls DAEDALUS_IOC_ATTACH is the session's worker. ENOENT if the session is
 * gone or has a worker already, ENOTCONN before DAEDALUS_IOC_REGISTER.
 */
struct daedalus_session_fd {
	__u64 session;
	__s32 fd;
	__u32 flags;
	__u64 reserved[2];
};

/**
 * struct daedalus_attach - DAEDALUS_IOC_ATTACH, on a session fd
 * @version: in: the newest version that the worker speaks; out: the version of
 *	this session fd
 * @msg_max: in: bytes of the longest message that the worker takes, at least
 *	DAEDALUS_MSG_MAX_V1; out: bytes of the longest that it gets
 * @features: in: the features that the worker knows; out: those of them that the
 *	module has too
 * @session: out: the session's id
 * @coded_format: out: V4L2_PIX_FMT_* of OUTPUT
 * @face: out: the session's DAEDALUS_FACE_*
 * @reserved: zero
 *
 * From then on the module may kill the calling process. EBUSY if the session fd was
 * attached already, EPROTO if @version is less than 2.
 */
struct daedalus_attach {
	__u32 version;
	__u32 msg_max;
	__u64 features;
	__u64 session;
	__u32 coded_format;
	__u32 face;
	__u64 reserved[2];
};

/* Version 1: no message is longer than this, in bytes. Later: ATTACH tells. */
#define DAEDALUS_MSG_MAX_V1		16384

/* struct daedalus_msg_job */
#define DAEDALUS_MSG_JOB		1
/*
 * struct daedalus_msg alone: the client stopped a queue. No job is in flight;
 * pictures decoded so far are no longer references.
 */
#define DAEDALUS_MSG_RESET		2
/* struct daedalus_msg_buffer_gone */
#define DAEDALUS_MSG_BUFFER_GONE	3

/**
 * struct daedalus_msg - header of every message of read() on a session fd
 * @type: DAEDALUS_MSG_*; a worker skips types that it does not know
 * @size: bytes of the message, this header included; a multiple of 8
 */
struct daedalus_msg {
	__u32 type;
	__u32 size;
};

/**
 * struct daedalus_plane - location of one plane of a buffer
 * @buffer: id of the plane's memory, for DAEDALUS_IOC_BUFFER_FD; never reused
 *	while the module is loaded, never 0
 * @offset: first byte to use, from the start of the dmabuf
 * @length: bytes from @offset on that may be read (coded: those that the client
 *	filled) or written (raw: up to the end of the plane)
 * @bytesperline: raw: distance between two lines of the (first) colour plane,
 *	in bytes; coded: 0
 * @reserved: zero
 *
 * @offset + @length never exceeds the dmabuf's size.
 */
struct daedalus_plane {
	__u64 buffer;
	__u32 offset;
	__u32 length;
	__u32 bytesperline;
	__u32 reserved;
};

/*
 * The CAPTURE buffer is that of the previous job, which a client's
 * V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF kept: this is the picture's second field or a
 * further slice of it.
 */
#define DAEDALUS_JOB_F_SAME_CAPTURE	0x1

#define DAEDALUS_MAX_PLANES		3

/**
 * struct daedalus_msg_job - DAEDALUS_MSG_JOB: decode one coded buffer
 * @msg: the header
 * @job: the job's id, unique within the session, increasing
 * @timestamp: of the OUTPUT buffer, in ns, as clients use it to name reference
 *	pictures in controls. May be 0 and may repeat.
 * @coded_format: V4L2_PIX_FMT_* of OUTPUT
 * @flags: DAEDALUS_JOB_F_*
 * @coded: the coded data
 * @raw_format: V4L2_PIX_FMT_* of the CAPTURE buffer
 * @width: of the CAPTURE buffer's format, in pixels
 * @height: of the CAPTURE buffer's format, in lines. A format with several
 *	colour planes in one memory plane has the second at bytesperline * height.
 * @num_planes: memory planes of CAPTURE, 1 to DAEDALUS_MAX_PLANES
 * @num_ctrls: number of struct daedalus_ctrl records which follow
 * @raw: the CAPTURE planes; the first @num_planes count, the others are zero
 *
 * The geometry is that of this buffer's allocation; it can differ between the
 * jobs of a session. The picture may be smaller or, with a client in error,
 * larger than the buffer: the worker checks.
 */
struct daedalus_msg_job {
	struct daedalus_msg msg;
	__u64 job;
	__u64 timestamp;
	__u32 coded_format;
	__u32 flags;
	struct daedalus_plane coded;
	__u32 raw_format;
	__u32 width;
	__u32 height;
	__u32 num_planes;
	__u32 num_ctrls;
	__u32 reserved;
	struct daedalus_plane raw[DAEDALUS_MAX_PLANES];
};

/* The client set the control in this job's request; otherwise the value is older. */
#define DAEDALUS_CTRL_F_IN_REQUEST	0x1

/**
 * struct daedalus_ctrl - a compound or integer control's value within a job
 * @id: V4L2_CID_*
 * @flags: DAEDALUS_CTRL_F_*
 * @size: bytes of the value, which follows this record. The next record starts
 *	at the next multiple of 8.
 * @elems: number of elements of which the value consists (1 if it is no array)
 *
 * All controls of the session's codec come with every job.
 */
struct daedalus_ctrl {
	__u32 id;
	__u32 flags;
	__u32 size;
	__u32 elems;
};

/**
 * struct daedalus_msg_buffer_gone - DAEDALUS_MSG_BUFFER_GONE
 * @msg: the header
 * @buffer: the id of a plane's memory which no later job will use
 *
 * The worker unmaps it and closes its dmabuf fd. Sent only for buffers whose fd
 * this worker has asked for.
 */
struct daedalus_msg_buffer_gone {
	struct daedalus_msg msg;
	__u64 buffer;
};

/* The fd may be mapped writable (CAPTURE); otherwise only readable (OUTPUT). */
#define DAEDALUS_BUFFER_F_WRITE		0x1
/*
 * The client brought the memory (V4L2_MEMORY_DMABUF): bracket accesses with
 * DMA_BUF_IOCTL_SYNC and treat reads as slow.
 */
#define DAEDALUS_BUFFER_F_IMPORTED	0x2
/* From version 2 on: pictures in this memory are grey where nobody has written. */
#define DAEDALUS_BUFFER_F_INITIALISED	0x4

/**
 * struct daedalus_buffer_fd - DAEDALUS_IOC_BUFFER_FD, on a session fd
 * @buffer: in: the id in struct daedalus_plane
 * @size: out: the dmabuf's size in bytes
 * @fd: out: a new close-on-exec dmabuf fd of the caller
 * @flags: out: DAEDALUS_BUFFER_F_*
 * @reserved: zero
 *
 * To be called once per buffer: the mapping is good until
 * DAEDALUS_MSG_BUFFER_GONE. ENOENT if there is no such buffer (any more).
 */
struct daedalus_buffer_fd {
	__u64 buffer;
	__u64 size;
	__s32 fd;
	__u32 flags;
	__u64 reserved;
};

/* The picture is exact. */
#define DAEDALUS_STATUS_OK		0
/* Something is wrong or missing; the buffer holds sane pixels nevertheless. */
#define DAEDALUS_STATUS_ERROR		1

/**
 * struct daedalus_job_done - DAEDALUS_IOC_JOB_DONE, on a session fd
 * @job: the job's id
 * @status: DAEDALUS_STATUS_*
 * @flags: zero
 * @reserved: zero
 *
 * The worker does not touch the job's buffers after this. ENOENT if this worker has
 * not read the job, if the job is answered already, or if it was cancelled.
 */
struct daedalus_job_done {
	__u64 job;
	__u32 status;
	__u32 flags;
	__u64 reserved[2];
};

/**
 * struct daedalus_next - DAEDALUS_IOC_NEXT, on a session fd
 * @job: in: the job to answer, or 0; out: 0 once the answer was taken or refused,
 *	so that a call which a signal ended can be repeated as it is
 * @status: DAEDALUS_STATUS_*, of @job
 * @answer: out: 0, or ENOENT as DAEDALUS_IOC_JOB_DONE returns it
 * @message: in: address of the memory for the next message
 * @size: in: bytes of that memory; out: bytes of the message, 0 if the session is
 *	over
 * @flags: zero
 *
 * Does the same as DAEDALUS_IOC_JOB_DONE followed by read(), with read()'s errors.
 */
struct daedalus_next {
	__u64 job;
	__u32 status;
	__u32 answer;
	__u64 message;
	__u32 size;
	__u32 flags;
};

/*
 * The stateful face
 * -----------------
 * The client queues coded data of any stream on OUTPUT, and gets pictures in output
 * order on CAPTURE. The module keeps the states that the client sees, and never looks
 * into a stream; the worker keeps the stream's state. A *unit* is one OUTPUT buffer. It
 * need not be an access unit: the worker splits and joins. A *raw buffer* is a CAPTURE
 * buffer that is *lent* to the worker, which copies a picture into it. Only a worker that
 * called DAEDALUS_IOC_ATTACH gets these messages.
 *
 *  - DAEDALUS_MSG_START comes first, and again after the client changed the coded format.
 *  - DAEDALUS_MSG_CODED hands out a unit. DAEDALUS_IOC_CODED_DONE gives it back, once the
 *    worker has taken all of it. Several units are handed out at a time; a worker whose
 *    decoder is full leaves them unanswered.
 *  - DAEDALUS_MSG_RAW lends a raw buffer. DAEDALUS_IOC_PICTURE gives it back with a
 *    picture.
 *  - DAEDALUS_IOC_FORMAT tells the first format of the stream and each later one, before
 *    the first picture of that format. Unless the answer says that the worker goes on at
 *    once, no raw buffer is lent any more, and the worker waits for
 *    DAEDALUS_MSG_CONTINUE before it decodes the unit and outputs pictures.
 *  - DAEDALUS_MSG_DRAIN asks for all pictures of the units so far. The worker outputs
 *    them and calls DAEDALUS_IOC_END. No raw buffer is lent after that.
 *  - DAEDALUS_MSG_FLUSH: the client stopped OUTPUT. No unit is handed out, no raw buffer is
 *    lent, and pictures of earlier units are not wanted. Parameter sets stay.
 *  - DAEDALUS_MSG_RECLAIM: the client stopped CAPTURE. No raw buffer is lent. A worker
 *    that reads this message writes to no raw buffer that was lent before.
 *
 * The module ends a worker if the oldest unit is not given back, and no picture comes, for
 * watchdog_ms, while raw buffers are lent and no format waits for the client.
 */

/* struct daedalus_msg_start */
#define DAEDALUS_MSG_START		0x20
/* struct daedalus_msg_coded */
#define DAEDALUS_MSG_CODED		0x21
/* struct daedalus_msg_raw */
#define DAEDALUS_MSG_RAW		0x22
/* struct daedalus_msg alone, as are those after it */
#define DAEDALUS_MSG_CONTINUE		0x23
#define DAEDALUS_MSG_DRAIN		0x24
#define DAEDALUS_MSG_FLUSH		0x25
#define DAEDALUS_MSG_RECLAIM		0x26

/**
 * struct daedalus_msg_start - DAEDALUS_MSG_START
 * @msg: the header
 * @coded_format: V4L2_PIX_FMT_* of OUTPUT
 * @restarts: how many workers the session has lost
 * @width: of the OUTPUT format, as the client set it; the stream decides
 * @height: of the OUTPUT format
 * @headers_size: bytes of DAEDALUS_IOC_HEADERS of the worker before, which follow, up to
 *	the next multiple of 8
 * @reserved: zero
 */
struct daedalus_msg_start {
	struct daedalus_msg msg;
	__u32 coded_format;
	__u32 restarts;
	__u32 width;
	__u32 height;
	__u32 headers_size;
	__u32 reserved;
};

/**
 * struct daedalus_echo - what a picture inherits from its unit
 * @timestamp: of the OUTPUT buffer, in ns; it may repeat
 * @flags: of the OUTPUT buffer: V4L2_BUF_FLAG_TIMECODE, V4L2_BUF_FLAG_TSTAMP_SRC_MASK
 * @timecode: struct v4l2_timecode of the OUTPUT buffer
 * @reserved: zero
 */
struct daedalus_echo {
	__u64 timestamp;
	__u32 flags;
	__u32 timecode[4];
	__u32 reserved;
};

/**
 * struct daedalus_msg_coded - DAEDALUS_MSG_CODED
 * @msg: the header
 * @unit: the unit's id, unique within the session, increasing
 * @echo: for pictures whose data begins in this unit
 * @coded: the coded data
 */
struct daedalus_msg_coded {
	struct daedalus_msg msg;
	__u64 unit;
	struct daedalus_echo echo;
	struct daedalus_plane coded;
};

/**
 * struct daedalus_msg_raw - DAEDALUS_MSG_RAW
 * @msg: the header
 * @raw: the raw buffer's id, unique within the session
 * @raw_format: V4L2_PIX_FMT_* of the buffer
 * @width: of the buffer's format, in pixels
 * @height: of the buffer's format, in lines
 * @num_planes: memory planes, 1 to DAEDALUS_MAX_PLANES
 * @planes: the first @num_planes count, the others are zero
 */
struct daedalus_msg_raw {
	struct daedalus_msg msg;
	__u64 raw;
	__u32 raw_format;
	__u32 width;
	__u32 height;
	__u32 num_planes;
	struct daedalus_plane planes[DAEDALUS_MAX_PLANES];
};

/* The worker goes on: the format is the present one, or CAPTURE suits it already. */
#define DAEDALUS_FORMAT_F_CONTINUE	0x1

/**
 * struct daedalus_format - DAEDALUS_IOC_FORMAT, on a session fd
 * @width: luma samples of a line that are shown
 * @height: lines that are shown
 * @coded_width: luma samples of a line that are decoded, at least @width
 * @coded_height: lines that are decoded, at least @height
 * @depth: bits of a sample: 8 or 10
 * @colorspace: V4L2_COLORSPACE_*, 0 if the stream does not say
 * @xfer_func: V4L2_XFER_FUNC_*
 * @ycbcr_enc: V4L2_YCBCR_ENC_*
 * @quantization: V4L2_QUANTIZATION_*
 * @flags: in: zero; out: DAEDALUS_FORMAT_F_*
 * @reserved: zero
 *
 * Pictures begin at the upper left corner of their buffer. EINVAL for a size or depth that
 * the module does not offer; ECANCELED if a DAEDALUS_MSG_FLUSH waits.
 */
struct daedalus_format {
	__u32 width;
	__u32 height;
	__u32 coded_width;
	__u32 coded_height;
	__u32 depth;
	__u32 colorspace;
	__u32 xfer_func;
	__u32 ycbcr_enc;
	__u32 quantization;
	__u32 flags;
	__u32 reserved[2];
};

/**
 * struct daedalus_picture - DAEDALUS_IOC_PICTURE, on a session fd
 * @raw: the raw buffer that has it
 * @echo: of the picture's unit
 * @status: DAEDALUS_STATUS_*
 * @reserved: 0
 *
 * The worker does not touch the raw buffer after this. ENOENT if it is not lent to this
 * worker; ECANCELED, and it stays lent, if a DAEDALUS_MSG_FLUSH waits.
 */
struct daedalus_picture {
	__u64 raw;
	struct daedalus_echo echo;
	__u32 status;
	__u32 reserved;
};

/**
 * struct daedalus_coded_done - DAEDALUS_IOC_CODED_DONE, on a session fd
 * @unit: the unit's id
 * @status: DAEDALUS_STATUS_ERROR if nothing in it can be decoded
 * @reserved: zero
 *
 * ENOENT if the unit is not handed out to this worker.
 */
struct daedalus_coded_done {
	__u64 unit;
	__u32 status;
	__u32 reserved;
};

#define DAEDALUS_HEADERS_MAX		8192

/**
 * struct daedalus_headers - DAEDALUS_IOC_HEADERS, on a session fd
 * @data: address of the parameter sets in force
 * @size: their bytes, at most DAEDALUS_HEADERS_MAX
 * @reserved: zero
 *
 * The module keeps them for the worker that replaces this one, until the session ends.
 */
struct daedalus_headers {
	__u64 data;
	__u32 size;
	__u32 reserved;
};

#define DAEDALUS_IOC_MAGIC		0xDA

/* On the control fd. */
#define DAEDALUS_IOC_HELLO	_IOWR(DAEDALUS_IOC_MAGIC, 0x00, struct daedalus_hello)
#define DAEDALUS_IOC_REGISTER_V1 _IOW(DAEDALUS_IOC_MAGIC, 0x01, struct daedalus_register)
#define DAEDALUS_IOC_REGISTER	_IOWR(DAEDALUS_IOC_MAGIC, 0x01, struct daedalus_register)
#define DAEDALUS_IOC_SESSION_FD	_IOWR(DAEDALUS_IOC_MAGIC, 0x02, struct daedalus_session_fd)

/* On a session fd. */
#define DAEDALUS_IOC_BUFFER_FD	_IOWR(DAEDALUS_IOC_MAGIC, 0x20, struct daedalus_buffer_fd)
#define DAEDALUS_IOC_JOB_DONE	_IOW(DAEDALUS_IOC_MAGIC, 0x21, struct daedalus_job_done)
#define DAEDALUS_IOC_ATTACH	_IOWR(DAEDALUS_IOC_MAGIC, 0x22, struct daedalus_attach)
#define DAEDALUS_IOC_NEXT	_IOWR(DAEDALUS_IOC_MAGIC, 0x23, struct daedalus_next)

/* On a session fd of the stateful face. */
#define DAEDALUS_IOC_FORMAT	_IOWR(DAEDALUS_IOC_MAGIC, 0x30, struct daedalus_format)
#define DAEDALUS_IOC_PICTURE	_IOW(DAEDALUS_IOC_MAGIC, 0x31, struct daedalus_picture)
#define DAEDALUS_IOC_CODED_DONE	_IOW(DAEDALUS_IOC_MAGIC, 0x32, struct daedalus_coded_done)
#define DAEDALUS_IOC_END	_IO(DAEDALUS_IOC_MAGIC, 0x33)
#define DAEDALUS_IOC_HEADERS	_IOW(DAEDALUS_IOC_MAGIC, 0x34, struct daedalus_headers)

#endif /* _UAPI_LINUX_DAEDALUS_H */
