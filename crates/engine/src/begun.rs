// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Jobs that were given to a library and are not reported: several, where it decodes several at one time.
//!
//! A client may queue the buffer of a picture again when it has queued the last job that refers to the picture: jobs
//! are done in order. So the buffer of a job may be one that an earlier job, still being decoded, refers to. It is
//! decoded into private memory then, and copied when its turn has come.

use std::collections::VecDeque;

use crate::error::JobError;
use crate::memory::Plane;
use crate::{Job, RawPicture};

/// Pictures whose buffers are remembered: as in [`crate::history`].
const PICTURES: usize = 4096;

/// Most references of a picture: H.264 has 16.
const REFERENCES: usize = 16;

/// What is known of a picture.
pub(crate) trait Refers {
    /// The timestamps of the pictures that it may refer to.
    fn references(&self) -> impl Iterator<Item = u64>;
}

/// A job that was begun and is not reported. `C` is what is to be known of its picture when that is final.
#[derive(Debug)]
pub(crate) struct Begun<C> {
    pub(crate) job: u64,
    pub(crate) timestamp: u64,
    pub(crate) raw: RawPicture,
    /// What the library was given, or why nothing.
    pub(crate) coded: Result<C, JobError>,
    /// Where the pictures are that it refers to, by [`place`].
    reads: [usize; REFERENCES],
}

/// The begun jobs of a session, in decode order.
#[derive(Debug)]
pub(crate) struct Queue<C> {
    begun: VecDeque<Begun<C>>,
    /// For the next jobs, so that nothing is allocated for them.
    spare: Vec<RawPicture>,
    /// Timestamps and places of pictures, in the order in which they were last referred to.
    places: VecDeque<(u64, usize)>,
}

/// Where a picture goes: the address of its first plane, 0 if it has none.
fn place(raw: &RawPicture) -> usize {
    raw.planes.first().map_or(0, Plane::address)
}

impl<C> Default for Queue<C> {
    fn default() -> Self {
        Self {
            begun: VecDeque::new(),
            spare: Vec::new(),
            places: VecDeque::with_capacity(PICTURES),
        }
    }
}

impl<C: Refers> Queue<C> {
    /// Whether the buffer has a picture that a begun job refers to.
    pub(crate) fn reads(&self, raw: &RawPicture) -> bool {
        let place = place(raw);
        self.begun.iter().any(|begun| begun.reads.contains(&place))
    }

    /// Adds the job that was just begun.
    pub(crate) fn push(&mut self, job: &Job<'_>, coded: Result<C, JobError>) {
        let mut reads = [0; REFERENCES];
        if let Ok(coded) = &coded {
            for (to, timestamp) in reads.iter_mut().zip(coded.references()) {
                *to = self.find(timestamp);
            }
        }
        if self.places.len() == PICTURES {
            self.places.pop_front();
        }
        self.places.push_back((job.timestamp, place(&job.raw)));
        let mut raw = self.spare.pop().unwrap_or_else(|| RawPicture {
            format: 0,
            width: 0,
            height: 0,
            planes: Vec::new(),
        });
        (raw.format, raw.width, raw.height) = (job.raw.format, job.raw.width, job.raw.height);
        raw.planes.clone_from(&job.raw.planes);
        self.begun.push_back(Begun {
            job: job.id,
            timestamp: job.timestamp,
            raw,
            coded,
            reads,
        });
    }

    /// The place of the latest picture with the timestamp, 0 if there is none.
    fn find(&mut self, timestamp: u64) -> usize {
        let at = self.places.iter().rposition(|(known, _)| *known == timestamp);
        let Some(found) = at.and_then(|at| self.places.remove(at)) else {
            return 0;
        };
        self.places.push_back(found);
        found.1
    }

    /// Takes the oldest job. Its `raw` is to be given back.
    pub(crate) fn pop(&mut self) -> Option<Begun<C>> {
        self.begun.pop_front()
    }

    /// Takes back what a job held of CAPTURE.
    pub(crate) fn give_back(&mut self, mut raw: RawPicture) {
        raw.planes.clear();
        self.spare.push(raw);
    }

    /// There is a job, and the oldest waits for nothing: its picture `is_final`, or it never reached the library.
    pub(crate) fn oldest_is_complete(&self, is_final: impl Fn(&C) -> bool) -> bool {
        let coded = self.begun.front().map(|begun| &begun.coded);
        coded.is_some_and(|coded| coded.as_ref().map_or(true, is_final))
    }

    pub(crate) fn len(&self) -> usize {
        self.begun.len()
    }

    /// Forgets all of them, and all pictures.
    pub(crate) fn clear(&mut self) {
        self.places.clear();
        while let Some(begun) = self.begun.pop_front() {
            self.give_back(begun.raw);
        }
    }
}
