// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decoding of V4L2 stateless jobs with libavcodec and dav1d.
//!
//! A [`Job`] is what the kernel module hands out for one request: the coded data, the controls and
//! the CAPTURE memory. A [`Decoder`] holds one session's decoding state. It turns jobs into pixels
//! and answers each with a [`Done`].
//!
//! ```text
//! Job ──► h264 / vp9 / av1        rebuilds the headers the client did not send, keeps the order
//!           │ private copy of the coded data (payload)
//!           ▼
//!         libav / libdav1d        the only modules that call the C libraries
//!           │ allocator callback: which picture does this packet decode into?
//!           ▼
//!         frames                  CAPTURE itself, or a pool of private memory
//!           │ convert
//!           ▼
//!         raw ──► memory          what is not in CAPTURE yet, written once, within its bounds
//! ```
//!
//! What holds everywhere:
//! - The order in which a library outputs pictures is ignored. Pixels are final when
//!   [`Decoder::submit`] has reported the job.
//! - A failed job leaves sane pixels in CAPTURE: what the decoder concealed, otherwise this
//!   session's last good picture, otherwise grey.
//! - Nothing that comes from a client (controls, coded data, geometry) can cause a panic or an
//!   access out of bounds.

mod av1;
mod begun;
mod cache;
mod controls;
mod convert;
mod error;
mod frames;
mod h264;
mod history;
mod libav;
mod libdav1d;
pub mod memory;
mod null;
mod payload;
mod picture;
mod raw;
mod slices;
mod vp9;

use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::{CODEC_AV1, CODEC_H264, CODEC_VP9, Control};

pub use error::{EngineError, JobError};
use memory::Plane;

/// Most luma samples of a picture that a decoder accepts: 8192 × 8192.
///
/// A client states the picture size in its controls, and it decides how much private memory a worker
/// allocates.
pub const MAX_PIXELS: u32 = 1 << 26;

/// The CAPTURE buffer of a job.
#[derive(Clone, Debug)]
pub struct RawPicture {
    /// `V4L2_PIX_FMT_*`: NV12, NV12M, YUV420, YUV420M or P010 (see [`fourcc`]).
    pub format: u32,
    /// Width of the buffer's format, in pixels.
    pub width: u32,
    /// Height of the buffer's format, in lines. In a format with several colour planes in one memory
    /// plane, the second starts at `bytesperline * height`.
    pub height: u32,
    /// The memory planes.
    pub planes: Vec<Plane>,
}

/// One coded buffer to decode.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The job's id; returned in [`Done::job`].
    pub id: u64,
    /// The OUTPUT buffer's timestamp in ns: the name by which later jobs' controls refer to the
    /// picture. May be 0 and may repeat.
    pub timestamp: u64,
    /// The CAPTURE buffer is the one of the job before: this is the frame's second field.
    pub same_capture: bool,
    /// The coded data, exactly the bytes that the client filled.
    pub coded: Plane,
    /// All controls of the session's codec.
    pub controls: &'a [Control<'a>],
    /// Where the picture goes.
    pub raw: RawPicture,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The picture is exact, as far as can be known: its data is whole, and so are the pictures that its
    /// controls name as references.
    Ok,
    /// Something is wrong or missing. CAPTURE holds sane pixels nevertheless.
    Error,
}

/// The answer to a job.
#[derive(Debug)]
pub struct Done {
    /// [`Job::id`].
    pub job: u64,
    /// How it ended.
    pub status: Status,
    /// What was wrong, for logs; `None` if the status is [`Status::Ok`].
    pub reason: Option<JobError>,
}

impl Done {
    fn from_result(job: u64, result: Result<(), JobError>) -> Self {
        match result {
            Ok(()) => Self {
                job,
                status: Status::Ok,
                reason: None,
            },
            Err(reason) => {
                tracing::debug!(job, %reason, "job failed");
                Self {
                    job,
                    status: Status::Error,
                    reason: Some(reason),
                }
            }
        }
    }
}

/// The decoding state of one session.
///
/// Every submitted job is reported exactly once, in the order of submission, by the same call or by a
/// later one. Memory of a job is not touched after its report. A decoder is used from one thread.
pub trait Decoder {
    /// Decodes `job`. Appends the report of this job and of earlier ones to `done`.
    fn submit(&mut self, job: &Job<'_>, done: &mut Vec<Done>);

    /// Waits until the oldest job that was not reported is complete, and appends its report, with those of later
    /// jobs that are complete by then. Without such a job it does nothing.
    fn advance(&mut self, done: &mut Vec<Done>) {
        self.drain(done);
    }

    /// Completes everything that was submitted.
    fn drain(&mut self, done: &mut Vec<Done>);

    /// The client stopped a queue: earlier pictures are no longer references. Call [`Decoder::drain`]
    /// before; jobs that were not reported are forgotten.
    fn reset(&mut self);
}

/// What decodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// libavcodec for H.264 and VP9, dav1d for AV1.
    #[default]
    Auto,
    /// Nothing: every job is answered at once with a grey picture. For measuring everything else.
    Null,
}

/// Threads of a session.
///
/// VP9 has use for as many as a picture has tile columns. AV1 decodes several pictures at a time, each by all
/// threads. In H.264 each decodes a picture of its own, where the sequence is progressive; of what is not, one
/// thread decodes everything. libavcodec's slice threads do not conceal damage, and do not report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// So many, 1 or more.
    Fixed(u32),
    /// As many as pay for pictures of a session's size, but not more than `most` (the cores that there are).
    Auto {
        /// Upper limit.
        most: u32,
    },
}

/// The most that [`Threads::Auto`] takes.
const MOST_USEFUL: u32 = 4;

impl Threads {
    /// As many as a session of any size may have.
    #[must_use]
    pub fn most(self) -> u32 {
        match self {
            Self::Fixed(threads) => threads.max(1),
            Self::Auto { most } => most.clamp(1, MOST_USEFUL),
        }
    }

    /// How many for pictures of the size. Below about 480 lines, waking a second thread costs as much as it
    /// saves.
    #[must_use]
    pub fn for_size(self, width: u32, height: u32) -> u32 {
        match self {
            Self::Fixed(threads) => threads.max(1),
            Self::Auto { most } => {
                let useful = match u64::from(width) * u64::from(height) {
                    0..300_000 => 1,
                    300_000..1_000_000 => 2,
                    _ => MOST_USEFUL,
                };
                useful.min(most).max(1)
            }
        }
    }
}

/// How to decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads of a session. A picture is final when its job is reported, whatever the value.
    pub threads: Threads,
    /// Decode into CAPTURE itself where that is possible; else everything is decoded into private memory and
    /// copied.
    pub direct: bool,
    /// What decodes.
    pub backend: Backend,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: Threads::Fixed(1),
            direct: true,
            backend: Backend::Auto,
        }
    }
}

/// Creates the decoder of a session whose coded format is `coded_format`, a `V4L2_PIX_FMT_*`.
///
/// # Errors
/// [`EngineError`] if the format is none of H264_SLICE, VP9_FRAME and AV1_FRAME, or if its library is
/// unable to decode.
pub fn open(coded_format: u32, options: &Options) -> Result<Box<dyn Decoder>, EngineError> {
    let known = matches!(
        coded_format,
        fourcc::H264_SLICE | fourcc::VP9_FRAME | fourcc::AV1_FRAME
    );
    if !known {
        return Err(EngineError::UnknownFormat(coded_format));
    }
    if options.backend == Backend::Null {
        return Ok(Box::new(null::NullDecoder));
    }
    Ok(match coded_format {
        fourcc::H264_SLICE => Box::new(h264::H264Decoder::open(options)?),
        fourcc::VP9_FRAME => Box::new(vp9::Vp9Decoder::open(options)?),
        _ => Box::new(av1::Av1Decoder::open(options)?),
    })
}

/// Has the libraries make what they make once in a process: tables, mostly. Processes that are forked afterwards have
/// it. No thread is started.
pub fn warm_up() {
    for format in [fourcc::H264_SLICE, fourcc::VP9_FRAME, fourcc::AV1_FRAME] {
        // A library that cannot decode says so when it is to.
        drop(open(format, &Options::default()));
    }
}

/// The codecs that the linked libraries can decode, as `CODEC_*` bits of
/// [`daedalus_uapi::protocol`]. A distribution may build libavcodec without one of them.
#[must_use]
pub fn served_codecs() -> u32 {
    let mut codecs = 0;
    if libav::Codec::H264.is_built_in() {
        codecs |= CODEC_H264;
    }
    if libav::Codec::Vp9.is_built_in() {
        codecs |= CODEC_VP9;
    }
    if libdav1d::is_usable() {
        codecs |= CODEC_AV1;
    }
    codecs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_have_one_thread() {
        let auto = Threads::Auto { most: 8 };
        assert_eq!(auto.for_size(320, 240), 1);
        assert_eq!(auto.for_size(1280, 720), 2);
        assert_eq!(auto.for_size(1920, 1088), 4);
        assert_eq!(auto.for_size(u32::MAX, u32::MAX), 4);
        assert_eq!(Threads::Auto { most: 2 }.for_size(1920, 1088), 2);
        assert_eq!(Threads::Auto { most: 0 }.for_size(1920, 1088), 1);
        assert_eq!(Threads::Fixed(3).for_size(16, 16), 3);
        assert_eq!(Threads::Fixed(0).for_size(16, 16), 1);
    }
}
