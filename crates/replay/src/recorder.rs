// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recording: what a worker calls while it decodes.

use std::collections::VecDeque;
use std::io::{self, Write};

use daedalus_engine as engine;
use daedalus_engine::RawPicture;
use daedalus_trace::format::MAX_CONTROLS;
use daedalus_trace::{Buffer, Control, Job, JobResult, JobStatus, Plane, Record, Session, Writer};
use daedalus_uapi::Codec;
use daedalus_uapi::formats::Size;
use daedalus_uapi::protocol::{JOB_F_SAME_CAPTURE, MsgJob};

use crate::picture::checksum;
use crate::status::job_status;

/// Writes the trace of a session. Nothing that it does can be seen by the decoder or by the client, but
/// for the time that it takes.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    writer: Writer<W>,
    /// Jobs that the decoder has and has not reported.
    pending: VecDeque<PendingJob>,
    /// Kept, so that their memory is.
    job: Job,
    coded: Vec<u8>,
}

#[derive(Debug)]
struct PendingJob {
    job: u64,
    /// The memory of the first plane names the CAPTURE buffer.
    buffer: u64,
    raw: RawPicture,
    size: Size,
}

impl<W: Write> Recorder<W> {
    /// Begins a trace.
    ///
    /// # Errors
    /// Those of `out`, here and below. A trace is to be given up at its first error.
    pub fn new(out: W, session: &Session) -> io::Result<Self> {
        Ok(Self {
            writer: Writer::new(out, session)?,
            pending: VecDeque::new(),
            job: Job::default(),
            coded: Vec::new(),
        })
    }

    /// Records that the worker has mapped a buffer.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn buffer(&mut self, buffer: Buffer) -> io::Result<()> {
        self.writer.write(&Record::Buffer(buffer))
    }

    /// Records a job that is about to be handed to the decoder. `head` names its buffers.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn job(&mut self, head: &MsgJob, job: &engine::Job<'_>) -> io::Result<()> {
        let format = Size {
            width: job.raw.width,
            height: job.raw.height,
        };
        let size = Codec::from_coded_format(head.coded_format)
            .and_then(|codec| daedalus_codecs::of(codec).picture_size(job.controls))
            .map_or(format, |size| size.within(format));
        let record = &mut self.job;
        record.job = job.id;
        record.timestamp = job.timestamp;
        record.coded_format = head.coded_format;
        record.same_capture = head.flags & JOB_F_SAME_CAPTURE != 0;
        record.raw_format = job.raw.format;
        (record.width, record.height) = (format.width, format.height);
        (record.picture_width, record.picture_height) = (size.width, size.height);
        record.coded_buffer = head.coded.buffer;
        record.planes.clear();
        record
            .planes
            .extend(head.raw.iter().take(job.raw.planes.len()).map(|plane| Plane {
                buffer: plane.buffer,
                offset: plane.offset,
                length: plane.length,
                bytesperline: plane.bytesperline,
            }));
        let count = job.controls.len().min(MAX_CONTROLS);
        record.controls.resize_with(count, || Control {
            id: 0,
            in_request: false,
            elems: 0,
            value: Vec::new(),
        });
        for (to, from) in record.controls.iter_mut().zip(job.controls) {
            (to.id, to.in_request, to.elems) = (from.id, from.in_request, from.elems);
            to.value.clear();
            to.value.extend_from_slice(from.value);
        }
        self.coded.resize(job.coded.len(), 0);
        job.coded.read(0, &mut self.coded).map_err(io::Error::other)?;
        self.pending.push_back(PendingJob {
            job: job.id,
            buffer: head.raw.first().map_or(0, |plane| plane.buffer),
            raw: job.raw.clone(),
            size,
        });
        self.writer.write_job(&self.job, &self.coded)
    }

    /// Records the decoder's report of a job, whose buffers are not the client's yet.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn done(&mut self, report: &engine::JobReport) -> io::Result<()> {
        let reason = report.reason.as_ref().map(ToString::to_string);
        self.answer(report.job, job_status(report.status), reason.unwrap_or_default())
    }

    /// Records a job that is answered with an error, and about which the decoder has reported nothing.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn failed(&mut self, job: u64, reason: String) -> io::Result<()> {
        self.pending.retain(|pending| pending.job != job);
        self.answer(job, JobStatus::Error, reason)
    }

    fn answer(&mut self, job: u64, status: JobStatus, reason: String) -> io::Result<()> {
        let at = self.pending.iter().position(|pending| pending.job == job);
        let md5 = at.and_then(|at| self.pending.remove(at)).and_then(|ended| {
            // With several threads the decoder may be writing the second field already.
            let busy = self.pending.iter().any(|later| later.buffer == ended.buffer);
            if busy {
                None
            } else {
                checksum(&ended.raw, ended.size)
            }
        });
        self.writer.write(&Record::Done(JobResult {
            job,
            status,
            md5,
            reason,
        }))
    }

    /// Records that the client has stopped a queue.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn reset(&mut self) -> io::Result<()> {
        self.pending.clear();
        self.writer.write(&Record::Reset)
    }

    /// Records that a buffer is gone.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn buffer_gone(&mut self, id: u64) -> io::Result<()> {
        self.writer.write(&Record::BufferGone(id))
    }

    /// Ends the trace, and returns the file.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn finish(self) -> io::Result<W> {
        self.writer.finish()
    }
}
