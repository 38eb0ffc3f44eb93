// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A worker: decodes the jobs of one session until the session is over.
//!
//! The loop reads a message, handles it and answers. In steady state a job takes two system calls. The worker
//! answers every job that it has read exactly once, also if the job is unusable. If the process ends, the
//! module answers the jobs that are left. While there are no jobs the worker sleeps in read(), without a
//! timeout.

mod buffers;
pub(crate) mod fault;
pub(crate) mod options;
mod record;
mod stateful;

use std::io::Stdin;
use std::thread;

use anyhow::{Context, Result};
use daedalus_engine as engine;
use daedalus_engine::memory::View;
use daedalus_engine::{EngineError, Job, OpenDecoder, RawPicture, Status};
use daedalus_uapi::fd::{Buffer, DmaBufAccess, MessageBuffer, SessionFd};
use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::{
    Control, FACE_STATEFUL, FEATURE_CLEANS, JOB_F_SAME_CAPTURE, JobMessage, MSG_JOB, MSG_MAX_V1, Message,
    STATUS_ERROR, STATUS_OK,
};
use rustix::io::Errno;
use thiserror::Error;

use crate::sandbox;
use buffers::{BufferCache, BufferError};
use fault::{Action, Fault};
use options::WorkerConfig;
use record::Recording;

/// The most bytes of a message that a worker takes: several times the size of a job's controls.
const MSG_MAX: usize = 1 << 16;

/// Decodes the session whose fd is the standard input. `record` is the session's id if it is recorded; the
/// standard output is the trace then.
///
/// # Errors
/// If the standard input is no session fd, or the module breaks the protocol.
pub(crate) fn run(config: &WorkerConfig, record: Option<u64>) -> Result<()> {
    rustix::thread::set_name(c"daedalus-worker").context("naming the process")?;
    let session = SessionFd::new(std::io::stdin());
    session
        .check()
        .context("the standard input is no session of the module; the broker starts workers")?;
    let attached = session
        .attach(MSG_MAX, FEATURE_CLEANS)
        .context("attaching to the session")?;
    let engine = config.decode.engine();
    // The libraries are loaded, and the processors have been counted, for which files are read. No byte of a
    // client has been read.
    let is_stateful = attached.face == FACE_STATEFUL;
    let threads = if is_stateful {
        engine.threads.all()
    } else {
        engine.threads.most()
    };
    sandbox::enter(&config.sandbox, threads, record.map(|_| 1))
        .context("the worker cannot be confined, so it does not decode")?;
    let cleaned = attached.features & FEATURE_CLEANS != 0;
    if is_stateful {
        // Traces are of jobs, which this face does not have.
        let faults = config.decode.faults.clone();
        return stateful::Worker::new(session, engine, faults, cleaned).run(attached.msg_max);
    }
    let open = move |format| daedalus_engine::open(format, &engine);
    let mut worker = Worker::new(session, open, config.decode.faults.clone());
    worker.msg_max = attached.msg_max;
    worker.buffers.cleaned = cleaned;
    worker.recording = record.map_or_else(Recording::off, Recording::to_stdout);
    worker.run()
}

/// The calls of the module that a worker makes.
trait Session {
    /// Waits for the next message; `None` at the session's end.
    fn read<'b>(&mut self, buffer: &'b mut MessageBuffer) -> rustix::io::Result<Option<&'b [u8]>>;
    /// Returns whether [`Session::read`] would return at once.
    fn has_message(&mut self) -> rustix::io::Result<bool>;
    /// Returns the memory with this id.
    fn buffer(&mut self, id: u64) -> rustix::io::Result<Buffer>;
    /// Answers a job with a `STATUS_*`.
    fn done(&mut self, job: u64, status: u32) -> rustix::io::Result<()>;
}

impl Session for SessionFd<Stdin> {
    fn read<'b>(&mut self, buffer: &'b mut MessageBuffer) -> rustix::io::Result<Option<&'b [u8]>> {
        self.read_message(buffer)
    }

    fn has_message(&mut self) -> rustix::io::Result<bool> {
        SessionFd::has_message(self)
    }

    fn buffer(&mut self, id: u64) -> rustix::io::Result<Buffer> {
        self.buffer_fd(id)
    }

    fn done(&mut self, job: u64, status: u32) -> rustix::io::Result<()> {
        self.job_done(job, status)
    }
}

/// The reason why a job does not reach the decoder.
#[derive(Debug, Error)]
enum Unusable {
    #[error(transparent)]
    Buffer(#[from] BufferError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The open access brackets of a job's imported buffers. Most jobs have none.
type Brackets = Vec<(u64, DmaBufAccess)>;

/// Lists of a job, which are kept so that a job allocates nothing.
#[derive(Default)]
struct Scratch {
    controls: Vec<Control<'static>>,
    planes: Vec<View>,
}

struct Worker<S, O> {
    session: S,
    /// Bytes of the longest message.
    msg_max: usize,
    faults: Vec<Fault>,
    recording: Recording,
    buffers: BufferCache,
    /// The engine's part of the session, with the brackets of each job.
    engine: engine::Session<Brackets, O>,
    scratch: Scratch,
    /// The last answer was an error, so another one is logged for debugging only.
    failing: bool,
}

impl<S, O> Worker<S, O>
where
    S: Session,
    O: OpenDecoder,
{
    fn new(session: S, open: O, faults: Vec<Fault>) -> Self {
        Self {
            session,
            msg_max: MSG_MAX_V1,
            faults,
            recording: Recording::off(),
            buffers: BufferCache::default(),
            engine: engine::Session::new(open),
            scratch: Scratch::default(),
            failing: false,
        }
    }

    /// Serves the session until it is over.
    fn run(&mut self) -> Result<()> {
        let mut buffer = MessageBuffer::with_size(self.msg_max);
        loop {
            while !self.engine.is_idle() && !self.session.has_message().context("poll")? {
                // The client may wait for these before it sends more.
                self.advance()?;
            }
            let Some(bytes) = self.session.read(&mut buffer).context("reading a message")? else {
                tracing::debug!("the session is over");
                self.recording.finish();
                return Ok(());
            };
            match Message::parse(bytes) {
                Ok(Message::Job(message)) => self.job(&message)?,
                Ok(Message::Reset) => self.reset()?,
                Ok(Message::BufferGone(id)) => {
                    tracing::trace!(buffer = id, "gone");
                    if self.buffers.remove(id) {
                        self.recording.note(|trace| trace.buffer_gone(id));
                    } else {
                        tracing::debug!(buffer = id, "gone, but was not mapped");
                    }
                }
                Ok(Message::Unknown(kind)) => tracing::debug!(kind, "message of an unknown type skipped"),
                Err(error) => {
                    tracing::error!(%error, "a message cannot be read");
                    if let Some(job) = job_id(bytes) {
                        self.recording.note(|trace| trace.failed(job, error.to_string()));
                        self.answer(job, STATUS_ERROR)?;
                    }
                }
            }
        }
    }

    /// Submits a job, and answers the jobs that are complete then.
    fn job(&mut self, message: &JobMessage<'_>) -> Result<()> {
        let head = message.head;
        tracing::trace!(
            job = head.job,
            timestamp = head.timestamp,
            bytes = head.coded.length,
            width = head.width,
            height = head.height,
            "read"
        );
        self.make_faults_before(head.job);
        let submitted = self.submit(message);
        self.complete()?;
        if let Err(error) = submitted {
            self.recording
                .note(|trace| trace.failed(head.job, error.to_string()));
            let status = self.warn(head.job, &error);
            self.answer(head.job, status)?;
        }
        Ok(())
    }

    fn submit(&mut self, message: &JobMessage<'_>) -> Result<(), Unusable> {
        let head = message.head;
        let coded = self.buffers.plane(&head.coded, false, |id| {
            fetch(&mut self.session, &mut self.recording, id)
        })?;
        let mut planes = std::mem::take(&mut self.scratch.planes);
        for plane in message.raw_planes() {
            planes.push(self.buffers.plane(plane, true, |id| {
                fetch(&mut self.session, &mut self.recording, id)
            })?);
        }
        if self.engine.select(head.coded_format)? {
            tracing::info!(codec = %fourcc::name(head.coded_format), "decoder opened");
        }
        let brackets = self.begin(message)?;
        let mut controls = recycle(std::mem::take(&mut self.scratch.controls));
        controls.extend(message.controls());
        let mut job = Job {
            id: head.job,
            timestamp: head.timestamp,
            same_capture: head.flags & JOB_F_SAME_CAPTURE != 0,
            coded,
            controls: &controls,
            raw: RawPicture {
                format: head.raw_format,
                width: head.width,
                height: head.height,
                planes,
            },
        };
        self.recording.note(|trace| trace.job(head, &job));
        self.engine.submit(&job, brackets);
        self.scratch.planes = std::mem::take(&mut job.raw.planes);
        self.scratch.planes.clear();
        drop(job);
        self.scratch.controls = recycle(controls);
        Ok(())
    }

    /// Opens the access brackets of a job's imported buffers: all, or none if one is refused.
    fn begin(&mut self, message: &JobMessage<'_>) -> Result<Brackets, BufferError> {
        let mut open = Vec::new();
        let raw = message
            .raw_planes()
            .iter()
            .map(|plane| (plane.buffer, DmaBufAccess::ReadWrite));
        let coded = (message.head.coded.buffer, DmaBufAccess::Read);
        for (id, access) in std::iter::once(coded).chain(raw) {
            match self.buffers.begin(id, access) {
                Ok(true) => open.push((id, access)),
                Ok(false) => {}
                Err(error) => {
                    self.end(&open);
                    return Err(error);
                }
            }
        }
        Ok(open)
    }

    fn end(&self, brackets: &[(u64, DmaBufAccess)]) {
        for &(id, access) in brackets.iter().rev() {
            if let Err(error) = self.buffers.end(id, access) {
                tracing::warn!(%error, "after an access");
            }
        }
    }

    /// Answers the jobs that the decoder has completed.
    fn complete(&mut self) -> Result<()> {
        while let Some((report, brackets)) = self.engine.next_done() {
            // After the answer the client may write to the buffers.
            self.recording.note(|trace| trace.done(&report));
            self.end(&brackets);
            if self.has_fault(Action::Drop, report.job) {
                tracing::warn!(job = report.job, "not answered on purpose");
                continue;
            }
            let status = match (report.status, &report.reason) {
                (Status::Error, Some(reason)) => self.warn(report.job, reason),
                (Status::Error, None) => self.warn(report.job, &"the decoder gives no reason"),
                (Status::Ok, _) if self.has_fault(Action::Error, report.job) => {
                    self.warn(report.job, &"on purpose")
                }
                (Status::Ok, _) => {
                    self.failing = false;
                    STATUS_OK
                }
            };
            self.answer(report.job, status)?;
        }
        Ok(())
    }

    /// Completes and answers at least the oldest pending job.
    fn advance(&mut self) -> Result<()> {
        self.engine.advance();
        self.complete()
    }

    fn reset(&mut self) -> Result<()> {
        tracing::trace!("reset");
        self.engine.drain();
        self.complete()?;
        self.recording.note(|trace| trace.reset());
        self.engine.reset();
        Ok(())
    }

    fn answer(&mut self, job: u64, status: u32) -> Result<()> {
        match self.session.done(job, status) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => {
                tracing::debug!(job, "was given up by the module");
                Ok(())
            }
            Err(error) => Err(error).context(format!("answering job {job}")),
        }
    }

    /// Logs why a job failed: as a warning for the first of a row of failures. Returns its status.
    fn warn(&mut self, job: u64, reason: &dyn std::fmt::Display) -> u32 {
        if self.failing {
            tracing::debug!(job, %reason, "failed");
        } else {
            tracing::warn!(job, %reason, "failed");
        }
        self.failing = true;
        STATUS_ERROR
    }

    /// Makes the faults that come before the job is decoded.
    fn make_faults_before(&self, job: u64) {
        for fault in self.faults.iter().filter(|fault| fault.hits(job)) {
            match fault.action {
                Action::Stall(time) => {
                    tracing::warn!(job, ?time, "stalling on purpose");
                    thread::sleep(time);
                }
                Action::Crash => {
                    tracing::error!(job, "crashing on purpose");
                    std::process::abort();
                }
                Action::Error | Action::Drop => {}
            }
        }
    }

    fn has_fault(&self, action: Action, job: u64) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.action == action && fault.hits(job))
    }
}

/// Fetches a buffer's memory from the module, and records it.
fn fetch<S: Session>(session: &mut S, recording: &mut Recording, id: u64) -> rustix::io::Result<Buffer> {
    let buffer = session.buffer(id)?;
    recording.note(|trace| {
        trace.buffer(daedalus_trace::Buffer {
            id,
            size: buffer.size,
            writable: buffer.writable,
            imported: buffer.imported,
        })
    });
    Ok(buffer)
}

/// Returns the job's id of a message that is a job, also if it cannot be parsed.
fn job_id(bytes: &[u8]) -> Option<u64> {
    let (kind, rest) = bytes.split_first_chunk()?;
    let (_size, rest) = rest.split_first_chunk::<4>()?;
    let id = rest.first_chunk()?;
    (u32::from_ne_bytes(*kind) == MSG_JOB).then_some(u64::from_ne_bytes(*id))
}

/// Returns an empty vector for controls of another lifetime, with the memory of this one: collecting from a
/// `Vec`'s own iterator happens in place.
fn recycle<'to>(mut controls: Vec<Control<'_>>) -> Vec<Control<'to>> {
    controls.clear();
    controls.into_iter().map_while(|_| None).collect()
}

#[cfg(test)]
mod tests;
