// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Jobs that were given to a library and are not reported: several, where it decodes several at one time.

use std::collections::VecDeque;

use crate::error::JobError;
use crate::{Job, RawPicture};

/// A job that was begun and is not reported. `C` is what is to be known of its picture when that is final.
#[derive(Debug)]
pub(crate) struct Begun<C> {
    pub(crate) job: u64,
    pub(crate) timestamp: u64,
    pub(crate) raw: RawPicture,
    /// What the library was given, or why nothing.
    pub(crate) coded: Result<C, JobError>,
}

/// The begun jobs of a session, in decode order.
#[derive(Debug)]
pub(crate) struct Queue<C> {
    begun: VecDeque<Begun<C>>,
    /// For the next jobs, so that nothing is allocated for them.
    spare: Vec<RawPicture>,
}

impl<C> Default for Queue<C> {
    fn default() -> Self {
        Self {
            begun: VecDeque::new(),
            spare: Vec::new(),
        }
    }
}

impl<C> Queue<C> {
    /// Adds the job that was just begun.
    pub(crate) fn push(&mut self, job: &Job<'_>, coded: Result<C, JobError>) {
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
        });
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

    /// What the oldest job waits for.
    pub(crate) fn oldest(&self) -> Option<&Result<C, JobError>> {
        self.begun.front().map(|begun| &begun.coded)
    }

    pub(crate) fn len(&self) -> usize {
        self.begun.len()
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        while let Some(begun) = self.begun.pop_front() {
            self.give_back(begun.raw);
        }
    }
}
