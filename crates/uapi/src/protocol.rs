// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `include/uapi/linux/daedalus.h` in Rust: see that header for what each field means.

pub mod stateful;

use thiserror::Error;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

pub use crate::codec::bits::*;

/// The newest version of the protocol that this crate describes.
pub const VERSION: u32 = 2;
/// The oldest version that is spoken.
pub const MIN_VERSION: u32 = 1;
/// The control device's path.
pub const CONTROL_PATH: &str = "/dev/daedalus-v4l2";
/// The driver name that the video and media nodes report.
pub const DRIVER_NAME: &str = "daedalus";

/// Bit of [`Register::faces`]: clients see a stateless decoder.
pub const FACE_STATELESS: u32 = 1 << 0;
/// Bit of [`Register::faces`]: clients see a stateful decoder.
pub const FACE_STATEFUL: u32 = 1 << 1;

/// Bit of [`Hello::features`]: [`Next`] is there.
pub const FEATURE_NEXT: u64 = 1 << 0;
/// Bit of [`Hello::features`]: the module makes pictures visible to devices, so workers clean no caches.
pub const FEATURE_CLEANS: u64 = 1 << 1;

/// [`Event::kind`]: a session has no worker and needs one.
pub const EVENT_WORKER_WANTED: u32 = 1;

/// In version 1 no message is longer than this, in bytes. Later [`Attach`] says how long they are.
pub const MSG_MAX_V1: usize = 16384;
/// [`Msg::kind`]: [`MsgJob`] and its controls.
pub const MSG_JOB: u32 = 1;
/// [`Msg::kind`]: a [`Msg`] alone.
pub const MSG_RESET: u32 = 2;
/// [`Msg::kind`]: [`MsgBufferGone`].
pub const MSG_BUFFER_GONE: u32 = 3;

/// Bit of [`MsgJob::flags`]: the CAPTURE buffer is the one of the job before.
pub const JOB_F_SAME_CAPTURE: u32 = 1 << 0;
/// Bit of [`Ctrl::flags`]: set by the job's own request.
pub const CTRL_F_IN_REQUEST: u32 = 1 << 0;
/// Bit of [`BufferFd::flags`]: may be mapped writable.
pub const BUFFER_F_WRITE: u32 = 1 << 0;
/// Bit of [`BufferFd::flags`]: memory that the client brought.
pub const BUFFER_F_IMPORTED: u32 = 1 << 1;
/// Bit of [`BufferFd::flags`]: pictures in it are grey where nobody has written.
pub const BUFFER_F_INITIALISED: u32 = 1 << 2;

/// [`JobDone::status`]: the picture is exact.
pub const STATUS_OK: u32 = 0;
/// [`JobDone::status`]: something is wrong or missing.
pub const STATUS_ERROR: u32 = 1;

/// Most memory planes of a CAPTURE buffer.
pub const MAX_PLANES: usize = 3;

/// Defines structures of the protocol with the derives that all of them need.
macro_rules! protocol_structs {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)+ })+) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            pub struct $name {
                $($(#[$fmeta])* pub $field: $ty,)+
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::new_zeroed()
                }
            }
        )+
    };
}

use protocol_structs;

protocol_structs! {
    /// `struct daedalus_hello`.
    Hello {
        /// Newest version spoken (in), version to use (out).
        version: u32,
        /// Oldest version spoken, by the daemon (in) and the module (out).
        min_version: u32,
        /// `FEATURE_*` bits known (in), agreed (out).
        features: u64,
        /// `CODEC_*` bits of the module (out); 0 in version 1.
        codecs: u32,
        /// `FACE_*` bits of the module (out); 0 in version 1.
        faces: u32,
        /// Bytes of the longest message (out); 0 in version 1.
        msg_max: u32,
        /// Zero.
        reserved: u32,
    }
    /// `struct daedalus_register`.
    Register {
        /// NUL-terminated printable ASCII.
        name: [u8; 32],
        /// `CODEC_*` bits offered (in), taken (out).
        codecs: u32,
        /// Zero.
        flags: u32,
        /// `FACE_*` bits offered, 0 for the stateless one (in), taken (out). 0 in version 1.
        faces: u32,
        /// With [`FACE_STATEFUL`]: `CODEC_*` bits offered (in), taken (out). Else 0.
        stateful_codecs: u32,
        /// Zero.
        reserved: [u32; 2],
    }
    /// `struct daedalus_attach`.
    Attach {
        /// Newest version spoken (in), that of the session fd (out).
        version: u32,
        /// Bytes of the longest message that the worker takes (in), that it gets (out).
        msg_max: u32,
        /// `FEATURE_*` bits known (in), agreed (out).
        features: u64,
        /// The session's id (out).
        session: u64,
        /// Fourcc of OUTPUT (out).
        coded_format: u32,
        /// `FACE_*` (out).
        face: u32,
        /// Zero.
        reserved: [u64; 2],
    }
    /// `struct daedalus_next`.
    Next {
        /// The job to answer, or 0 (in); 0 once that was done (out).
        job: u64,
        /// `STATUS_*` of the job.
        status: u32,
        /// 0, or why the answer was refused, an errno (out).
        answer: u32,
        /// Address of the memory for the next message.
        message: u64,
        /// Bytes of that memory (in), of the message (out).
        size: u32,
        /// Zero.
        flags: u32,
    }
    /// `struct daedalus_event`.
    Event {
        /// `EVENT_*`; unknown ones are to be ignored.
        kind: u32,
        /// The session's coded format, a fourcc.
        coded_format: u32,
        /// The session's id.
        session: u64,
        /// The client's process id, for logs.
        client_pid: u32,
        /// Workers that this session has lost so far.
        restarts: u32,
        /// Zero.
        reserved: u64,
    }
    /// `struct daedalus_session_fd`.
    SessionFdRequest {
        /// The session's id (in).
        session: u64,
        /// The new session fd (out).
        fd: i32,
        /// `O_NONBLOCK` or 0.
        flags: u32,
        /// Zero.
        reserved: [u64; 2],
    }
    /// `struct daedalus_msg`.
    Msg {
        /// `MSG_*`; unknown ones are to be skipped.
        kind: u32,
        /// Bytes of the whole message, a multiple of 8.
        size: u32,
    }
    /// `struct daedalus_plane`.
    Plane {
        /// Id of the memory, for [`BufferFd`]; never 0.
        buffer: u64,
        /// First byte that counts.
        offset: u32,
        /// Bytes from `offset` on.
        length: u32,
        /// Bytes between two lines of the first colour plane; 0 for coded data.
        bytesperline: u32,
        /// Zero.
        reserved: u32,
    }
    /// `struct daedalus_msg_job`.
    MsgJob {
        /// The header.
        msg: Msg,
        /// The job's id, increasing within the session.
        job: u64,
        /// The OUTPUT buffer's, in ns; it names the picture as a reference.
        timestamp: u64,
        /// Fourcc of OUTPUT.
        coded_format: u32,
        /// `JOB_F_*` bits.
        flags: u32,
        /// The coded data.
        coded: Plane,
        /// Fourcc of the CAPTURE buffer.
        raw_format: u32,
        /// Pixels of the CAPTURE buffer's format.
        width: u32,
        /// Lines of the CAPTURE buffer's format.
        height: u32,
        /// Memory planes of CAPTURE.
        num_planes: u32,
        /// Number of [`Ctrl`] records that follow.
        num_ctrls: u32,
        /// Zero.
        reserved: u32,
        /// The CAPTURE planes.
        raw: [Plane; MAX_PLANES],
    }
    /// `struct daedalus_ctrl`.
    Ctrl {
        /// `V4L2_CID_*`.
        id: u32,
        /// `CTRL_F_*` bits.
        flags: u32,
        /// Bytes of the value, which follows.
        size: u32,
        /// Elements of which the value consists.
        elems: u32,
    }
    /// `struct daedalus_msg_buffer_gone`.
    MsgBufferGone {
        /// The header.
        msg: Msg,
        /// Id of the memory that no later job uses.
        buffer: u64,
    }
    /// `struct daedalus_buffer_fd`.
    BufferFd {
        /// Id of the memory (in).
        buffer: u64,
        /// Bytes of the dmabuf (out).
        size: u64,
        /// The new dmabuf fd (out).
        fd: i32,
        /// `BUFFER_F_*` bits (out).
        flags: u32,
        /// Zero.
        reserved: u64,
    }
    /// `struct daedalus_job_done`.
    JobDone {
        /// The job's id.
        job: u64,
        /// `STATUS_*`.
        status: u32,
        /// Zero.
        flags: u32,
        /// Zero.
        reserved: [u64; 2],
    }
}

/// Why a message is not one of the protocol's.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// Fewer bytes than the structure, or than its own size field says.
    #[error("message is cut short: {have} of {need} bytes")]
    Short {
        /// Bytes that there are.
        have: usize,
        /// Bytes that there should be.
        need: usize,
    },
    /// A count or size field contradicts another.
    #[error("message contradicts itself: {0}")]
    Inconsistent(&'static str),
}

/// One message of a session fd.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// Decode a picture.
    Job(JobMessage<'a>),
    /// The client stopped a queue; forget the references.
    Reset,
    /// Unmap this memory and close its fd.
    BufferGone(u64),
    /// A type that this version does not know; skip it.
    Unknown(u32),
}

/// A [`MsgJob`] and its controls, borrowed from the bytes that were read.
#[derive(Debug, Clone, Copy)]
pub struct JobMessage<'a> {
    /// The fixed part.
    pub head: &'a MsgJob,
    ctrls: &'a [u8],
}

/// One control value of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control<'a> {
    /// `V4L2_CID_*`.
    pub id: u32,
    /// The client set it in this job's request; otherwise it is older.
    pub in_request: bool,
    /// Elements in `value`.
    pub elems: u32,
    /// The value's bytes, 8-byte aligned if the message was.
    pub value: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the message that `bytes` begin with.
    ///
    /// `bytes` must be 8-byte aligned, as a buffer of `u64` is.
    ///
    /// # Errors
    /// [`MessageError`] if the bytes are not a whole, consistent message. Every size inside is
    /// checked here, so the accessors cannot fail.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let (kind, whole) = checked_message(bytes)?;
        match kind {
            MSG_JOB => JobMessage::parse(whole).map(Message::Job),
            MSG_RESET => Ok(Message::Reset),
            MSG_BUFFER_GONE => prefix::<MsgBufferGone>(whole).map(|(m, _)| Message::BufferGone(m.buffer)),
            kind => Ok(Message::Unknown(kind)),
        }
    }
}

impl<'a> JobMessage<'a> {
    fn parse(whole: &'a [u8]) -> Result<Self, MessageError> {
        let (head, ctrls) = prefix::<MsgJob>(whole)?;
        if head.num_planes == 0 || head.num_planes as usize > MAX_PLANES {
            return Err(MessageError::Inconsistent("num_planes"));
        }
        let job = Self { head, ctrls };
        let mut rest = ctrls;
        for _ in 0..head.num_ctrls {
            (_, rest) = split_control(rest)?;
        }
        if !rest.is_empty() {
            return Err(MessageError::Inconsistent("bytes after the last control"));
        }
        Ok(job)
    }

    /// Returns the CAPTURE planes that count.
    #[must_use]
    pub fn raw_planes(&self) -> &'a [Plane] {
        &self.head.raw[..self.head.num_planes as usize]
    }

    /// Returns the controls, in the order in which the module lists them.
    pub fn controls(&self) -> impl Iterator<Item = Control<'a>> + use<'a> {
        let mut rest = self.ctrls;
        std::iter::from_fn(move || {
            let (control, tail) = split_control(rest).ok()?;
            rest = tail;
            Some(control)
        })
    }
}

/// Returns the type and all bytes of the message that `bytes` begin with.
fn checked_message(bytes: &[u8]) -> Result<(u32, &[u8]), MessageError> {
    let (msg, _) = prefix::<Msg>(bytes)?;
    let size = msg.size as usize;
    if size < size_of::<Msg>() || size % 8 != 0 {
        return Err(MessageError::Inconsistent("size"));
    }
    let whole = bytes.get(..size).ok_or(MessageError::Short {
        have: bytes.len(),
        need: size,
    })?;
    Ok((msg.kind, whole))
}

/// Splits `T` off the front of `bytes`.
fn prefix<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<(&T, &[u8]), MessageError> {
    let short = MessageError::Short {
        have: bytes.len(),
        need: size_of::<T>(),
    };
    if bytes.len() < size_of::<T>() {
        return Err(short);
    }
    T::ref_from_prefix(bytes).map_err(|_| MessageError::Inconsistent("buffer is not aligned"))
}

/// Splits one control record and its value, padding included, off the front of `bytes`.
fn split_control(bytes: &[u8]) -> Result<(Control<'_>, &[u8]), MessageError> {
    let (head, tail) = prefix::<Ctrl>(bytes)?;
    let size = head.size as usize;
    let padded = size
        .checked_next_multiple_of(8)
        .filter(|&n| n <= tail.len())
        .ok_or(MessageError::Short {
            have: tail.len(),
            need: size,
        })?;
    let control = Control {
        id: head.id,
        in_request: head.flags & CTRL_F_IN_REQUEST != 0,
        elems: head.elems,
        value: &tail[..size],
    };
    Ok((control, &tail[padded..]))
}
