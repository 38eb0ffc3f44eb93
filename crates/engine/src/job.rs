// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Jobs, their reports, and the interface of the decoders that turn one into the other.

use daedalus_uapi::protocol::Control;

use crate::error::JobError;
use crate::memory::View;

/// The CAPTURE buffer of a job.
#[derive(Clone, Debug)]
pub struct RawPicture {
    /// `V4L2_PIX_FMT_*` of a raw format (see [`daedalus_uapi::formats`]).
    pub format: u32,
    /// Width of the buffer's format, in pixels.
    pub width: u32,
    /// Height of the buffer's format, in lines. In a format with several colour planes in one memory
    /// plane, the second starts at `stride * height`.
    pub height: u32,
    /// The memory planes.
    pub planes: Vec<View>,
}

/// One coded buffer to decode.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The job's id; returned in [`JobReport::job`].
    pub id: u64,
    /// The OUTPUT buffer's timestamp in ns: the name by which later jobs' controls refer to the
    /// picture. May be 0 and may repeat.
    pub timestamp: u64,
    /// The CAPTURE buffer is the one of the job before: this is the frame's second field.
    pub same_capture: bool,
    /// The coded data, exactly the bytes that the client filled.
    pub coded: View,
    /// All controls of the session's codec.
    pub controls: &'a [Control<'a>],
    /// The buffer that the picture goes into.
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

/// The report of a job.
#[derive(Debug)]
pub struct JobReport {
    /// [`Job::id`].
    pub job: u64,
    /// How it ended.
    pub status: Status,
    /// The reason of [`Status::Error`], for logs; `None` if the status is [`Status::Ok`].
    pub reason: Option<JobError>,
}

impl JobReport {
    pub(crate) fn new(job: u64, result: Result<(), JobError>) -> Self {
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

/// A decoder of one coded format.
///
/// It reports every submitted job exactly once, in the order of submission, during the same call or a later
/// one. It does not touch memory of a job after the report. It is used from one thread.
pub trait Decoder {
    /// Decodes `job`. Appends its report, and those of earlier jobs, to `reports`.
    fn submit(&mut self, job: &Job<'_>, reports: &mut Vec<JobReport>);

    /// Waits until the oldest job that was not reported is complete. Appends its report, and those of later
    /// jobs that are complete by then. Without such a job it does nothing.
    fn advance(&mut self, reports: &mut Vec<JobReport>) {
        self.drain(reports);
    }

    /// Completes every submitted job, and appends the reports.
    fn drain(&mut self, reports: &mut Vec<JobReport>);

    /// Forgets earlier pictures: the client stopped a queue, and no later picture refers to them. Call
    /// [`Decoder::drain`] before: jobs that were not reported are forgotten, too.
    fn reset(&mut self);
}
