// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decoding the jobs of a trace into private memory, as the worker decoded them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daedalus_engine as engine;
use daedalus_engine::RawPicture;
use daedalus_engine::memory::{Mapping, View};
use daedalus_trace::{Job, JobStatus, Record};
use daedalus_uapi::formats::Size;
use daedalus_uapi::protocol;

use crate::error::ReplayError;
use crate::status::job_status;

/// Most memory of all buffers of a trace at a time, in bytes: 100 of 2160p with 10 bit.
const MEMORY: u64 = 4 << 30;
/// Most buffers of a trace at a time: both queues have at most 64 buffers of at most 3 planes, and
/// sessions with buffers of several sizes have a few times that.
const BUFFERS: usize = 4096;

/// When the decoder is made to complete what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// After every job, as for a client that waits for each picture.
    #[default]
    LockStep,
    /// Only before a buffer is used again into which it still decodes, at resets and at the end: as for
    /// a client that is always ahead.
    FreeRunning,
}

/// A job that the decoder has reported.
#[derive(Debug)]
pub struct FinishedJob<'a> {
    /// The job's id.
    pub job: u64,
    /// How it ended.
    pub status: JobStatus,
    /// What was wrong; empty for [`JobStatus::Ok`].
    pub reason: String,
    /// The CAPTURE buffer. It is this job's only during the call that hands this over.
    pub raw: &'a RawPicture,
    /// The picture's part of it.
    pub size: Size,
    /// A later job has this buffer already: the picture is not final.
    pub busy: bool,
}

/// Feeds a session with the records of a trace.
pub struct Player {
    session: engine::Session<Submission>,
    pace: Pace,
    buffers: HashMap<u64, Memory>,
    /// Bytes of all mappings in `buffers`.
    mapped: u64,
    /// Memory for coded data that no pending job uses.
    coded: Vec<Arc<Mapping>>,
    decoding: Duration,
}

/// A buffer's memory, which is allocated when a picture first goes there.
struct Memory {
    size: u64,
    mapping: Option<Arc<Mapping>>,
}

/// The memory of a job that is not reported.
struct Submission {
    buffers: Vec<u64>,
    raw: RawPicture,
    size: Size,
    coded: Arc<Mapping>,
}

impl Player {
    /// A player of one session.
    #[must_use]
    pub fn new(options: engine::Options, pace: Pace) -> Self {
        Self {
            session: engine::Session::new(options),
            pace,
            buffers: HashMap::new(),
            mapped: 0,
            coded: Vec::new(),
            decoding: Duration::ZERO,
        }
    }

    /// Time spent in the decoder so far. With several threads, and free-running, the decoder also works
    /// at other times: measure from the first record to the last then.
    #[must_use]
    pub fn decoding(&self) -> Duration {
        self.decoding
    }

    /// Jobs that were submitted and not reported.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.session.jobs().count()
    }

    /// Does what the record says. `finished` is called for each job that ends by it, in the order of
    /// submission. [`Record::Done`] is none of a player's business, and is ignored.
    ///
    /// # Errors
    /// [`ReplayError`] if the record makes no sense here. The player may be fed with further ones.
    pub fn feed(
        &mut self,
        record: &Record,
        finished: &mut dyn FnMut(FinishedJob<'_>),
    ) -> Result<(), ReplayError> {
        match record {
            Record::Buffer(buffer) => {
                self.forget(buffer.id);
                if self.buffers.len() >= BUFFERS {
                    return Err(ReplayError::TooMuchMemory { limit: MEMORY });
                }
                let memory = Memory {
                    size: buffer.size,
                    mapping: None,
                };
                self.buffers.insert(buffer.id, memory);
            }
            Record::Job(job) => self.job(job, finished)?,
            Record::Done(_) => {}
            Record::Reset => {
                self.drain(finished);
                self.session.reset();
            }
            // What is pending keeps its memory.
            Record::BufferGone(id) => self.forget(*id),
        }
        Ok(())
    }

    /// Completes every pending job.
    pub fn drain(&mut self, finished: &mut dyn FnMut(FinishedJob<'_>)) {
        let start = Instant::now();
        self.session.drain();
        self.decoding += start.elapsed();
        self.complete(finished);
    }

    fn job(&mut self, job: &Job, finished: &mut dyn FnMut(FinishedJob<'_>)) -> Result<(), ReplayError> {
        let buffers: Vec<u64> = job.planes.iter().map(|plane| plane.buffer).collect();
        let in_use = self
            .session
            .jobs()
            .any(|pending| pending.buffers.iter().any(|id| buffers.contains(id)));
        if in_use && !job.same_capture {
            self.drain(finished);
        }
        let raw = self.raw(job)?;
        self.open(job.coded_format, finished)?;
        let coded = self.coded(&job.coded)?;
        let plane = View::new(Arc::clone(&coded), 0, job.coded.len(), 0)
            .map_err(|_| inconsistent(job, "its coded data"))?;
        let controls: Vec<protocol::Control<'_>> = job
            .controls
            .iter()
            .map(|control| protocol::Control {
                id: control.id,
                in_request: control.in_request,
                elems: control.elems,
                value: &control.value,
            })
            .collect();
        let submitted = engine::Job {
            id: job.job,
            timestamp: job.timestamp,
            same_capture: job.same_capture,
            coded: plane,
            controls: &controls,
            raw,
        };
        let submission = Submission {
            buffers,
            raw: submitted.raw.clone(),
            size: Size {
                width: job.picture_width,
                height: job.picture_height,
            },
            coded,
        };
        let start = Instant::now();
        self.session.submit(&submitted, submission);
        self.decoding += start.elapsed();
        self.complete(finished);
        if self.pace == Pace::LockStep && !self.session.is_idle() {
            self.drain(finished);
        }
        Ok(())
    }

    /// The decoder for the format.
    fn open(&mut self, format: u32, finished: &mut dyn FnMut(FinishedJob<'_>)) -> Result<(), ReplayError> {
        if self.session.coded_format() != Some(format) {
            self.drain(finished);
        }
        self.session.select(format)?;
        Ok(())
    }

    /// The job's CAPTURE buffer.
    fn raw(&mut self, job: &Job) -> Result<RawPicture, ReplayError> {
        let mut planes = Vec::with_capacity(job.planes.len());
        for plane in &job.planes {
            let mapping = self.mapping(job, plane.buffer)?;
            let plane = View::new(
                mapping,
                plane.offset as usize,
                plane.length as usize,
                plane.bytesperline as usize,
            );
            planes.push(plane.map_err(|_| inconsistent(job, "a plane is not inside of its buffer"))?);
        }
        Ok(RawPicture {
            format: job.raw_format,
            width: job.width,
            height: job.height,
            planes,
        })
    }

    fn mapping(&mut self, job: &Job, id: u64) -> Result<Arc<Mapping>, ReplayError> {
        let Some(memory) = self.buffers.get_mut(&id) else {
            return Err(inconsistent(job, "a plane's buffer was never mapped, or is gone"));
        };
        if let Some(mapping) = &memory.mapping {
            return Ok(Arc::clone(mapping));
        }
        let bytes = memory.size;
        if self.mapped.saturating_add(bytes) > MEMORY {
            return Err(ReplayError::TooMuchMemory { limit: MEMORY });
        }
        let mapping = allocate(bytes)?;
        // As the worker does, since a picture that was concealed may show it.
        let filled = mapping.fill_grey();
        filled.map_err(|error| ReplayError::Memory {
            bytes,
            error: std::io::Error::other(error),
        })?;
        self.mapped += bytes;
        memory.mapping = Some(Arc::clone(&mapping));
        Ok(mapping)
    }

    fn forget(&mut self, id: u64) {
        if let Some(memory) = self.buffers.remove(&id) {
            if memory.mapping.is_some() {
                self.mapped -= memory.size;
            }
        }
    }

    /// Memory that begins with the bytes, and which no pending job uses.
    fn coded(&mut self, bytes: &[u8]) -> Result<Arc<Mapping>, ReplayError> {
        let size = bytes.len().max(1).next_multiple_of(1 << 16);
        let mapping = match self.coded.pop().filter(|mapping| mapping.len() >= size) {
            Some(mapping) => mapping,
            None => allocate(size as u64)?,
        };
        mapping.write(0, bytes).map_err(|error| ReplayError::Memory {
            bytes: size as u64,
            error: std::io::Error::other(error),
        })?;
        Ok(mapping)
    }

    /// Hands over what the decoder has reported.
    fn complete(&mut self, finished: &mut dyn FnMut(FinishedJob<'_>)) {
        while let Some((report, ended)) = self.session.next_done() {
            let busy = self
                .session
                .jobs()
                .any(|later| later.buffers.iter().any(|id| ended.buffers.contains(id)));
            let reason = report.reason.map(|reason| reason.to_string());
            finished(FinishedJob {
                job: report.job,
                status: job_status(report.status),
                reason: reason.unwrap_or_default(),
                raw: &ended.raw,
                size: ended.size,
                busy,
            });
            self.coded.push(ended.coded);
        }
    }
}

fn allocate(bytes: u64) -> Result<Arc<Mapping>, ReplayError> {
    let failed = |error| ReplayError::Memory { bytes, error };
    let size = usize::try_from(bytes).map_err(|error| failed(std::io::Error::other(error)))?;
    Mapping::anonymous(size).map_err(failed)
}

fn inconsistent(job: &Job, what: &'static str) -> ReplayError {
    ReplayError::Inconsistent { job: job.job, what }
}
