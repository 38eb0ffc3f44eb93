// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Holds the jobs that a library was given and that are not reported: several, if it decodes several at a
//! time.
//!
//! A client may queue a picture's buffer again once it has queued the last job that refers to the picture,
//! because jobs are done in order. So an earlier job that is still being decoded may refer to the buffer of a
//! new job. Such a job is decoded into private memory, and is copied when its turn comes.

use std::collections::VecDeque;

use crate::error::JobError;
use crate::history::DEPTH;
use crate::job::{Job, RawPicture};

/// Most references of a picture, in any codec.
const REFERENCES: usize = 16;

/// The pictures that a coded picture may refer to.
pub(crate) trait References {
    /// Iterates their timestamps.
    fn references(&self) -> impl Iterator<Item = u64>;
}

/// A job in flight. `C` is the codec's record of the job, for when its picture is final.
#[derive(Debug)]
pub(crate) struct JobInFlight<C> {
    pub(crate) job: u64,
    pub(crate) timestamp: u64,
    pub(crate) raw: RawPicture,
    /// The picture in the library, or the error that kept it from the library.
    pub(crate) record: Result<C, JobError>,
    /// Addresses of the pictures that it refers to, by [`address`].
    references: [usize; REFERENCES],
}

/// The jobs in flight of a session, in decode order.
#[derive(Debug)]
pub(crate) struct InFlight<C> {
    jobs: VecDeque<JobInFlight<C>>,
    /// Memory for the next jobs, so that nothing is allocated for them.
    spare: Vec<RawPicture>,
    /// Timestamps and addresses of pictures, in the order in which they were last referred to.
    addresses: VecDeque<(u64, usize)>,
}

/// Returns the address of a picture's first plane, 0 if it has none.
fn address(raw: &RawPicture) -> usize {
    raw.planes.first().map_or(0, |plane| plane.as_ptr().addr())
}

impl<C> Default for InFlight<C> {
    fn default() -> Self {
        Self {
            jobs: VecDeque::new(),
            spare: Vec::new(),
            addresses: VecDeque::with_capacity(DEPTH),
        }
    }
}

impl<C: References> InFlight<C> {
    /// Returns whether a job in flight refers to a picture in the buffer.
    pub(crate) fn refers_to(&self, raw: &RawPicture) -> bool {
        let address = address(raw);
        self.jobs.iter().any(|job| job.references.contains(&address))
    }

    /// Adds the job that was just begun. `several` says that the library decodes several jobs at a time. If
    /// it does not, no job is in flight when the next is begun, and addresses are not needed.
    pub(crate) fn push(&mut self, job: &Job<'_>, record: Result<C, JobError>, several: bool) {
        let mut references = [0; REFERENCES];
        if let Some(record) = record.as_ref().ok().filter(|_| several) {
            for (to, timestamp) in references.iter_mut().zip(record.references()) {
                *to = self.find(timestamp);
            }
        }
        if several {
            if self.addresses.len() == DEPTH {
                self.addresses.pop_front();
            }
            self.addresses.push_back((job.timestamp, address(&job.raw)));
        }
        let mut raw = self.spare.pop().unwrap_or_else(|| RawPicture {
            format: 0,
            width: 0,
            height: 0,
            planes: Vec::new(),
        });
        (raw.format, raw.width, raw.height) = (job.raw.format, job.raw.width, job.raw.height);
        raw.planes.clone_from(&job.raw.planes);
        self.jobs.push_back(JobInFlight {
            job: job.id,
            timestamp: job.timestamp,
            raw,
            record,
            references,
        });
    }

    /// Returns the address of the latest picture with the timestamp, 0 if there is none.
    fn find(&mut self, timestamp: u64) -> usize {
        let at = self.addresses.iter().rposition(|(name, _)| *name == timestamp);
        let Some(found) = at.and_then(|at| self.addresses.remove(at)) else {
            return 0;
        };
        self.addresses.push_back(found);
        found.1
    }

    /// Takes the oldest job. Its `raw` goes to [`InFlight::give_back`].
    pub(crate) fn pop(&mut self) -> Option<JobInFlight<C>> {
        self.jobs.pop_front()
    }

    /// Drops a job's references to CAPTURE, and keeps the memory around them.
    pub(crate) fn give_back(&mut self, mut raw: RawPicture) {
        raw.planes.clear();
        self.spare.push(raw);
    }

    /// Returns whether there is a job, and the oldest waits for nothing: its picture `is_final`, or it never
    /// reached the library.
    pub(crate) fn oldest_is_complete(&self, is_final: impl Fn(&C) -> bool) -> bool {
        let record = self.jobs.front().map(|job| &job.record);
        record.is_some_and(|record| record.as_ref().map_or(true, is_final))
    }

    /// Returns the number of jobs.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Forgets all jobs and all pictures.
    pub(crate) fn clear(&mut self) {
        self.addresses.clear();
        while let Some(job) = self.jobs.pop_front() {
            self.give_back(job.raw);
        }
    }
}
