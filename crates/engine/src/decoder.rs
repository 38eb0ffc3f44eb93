// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes jobs with a codec's library: keeps the jobs in flight, and reports each once and in order.
//!
//! This is the part that codecs have in common: threads, jobs in flight, the history of exact pictures, the
//! last good picture, CAPTURE. A codec supplies the rest as a [`Library`].

use crate::capture::Target;
use crate::error::{EngineError, JobError};
use crate::history::History;
use crate::in_flight::{InFlight, JobInFlight};
use crate::job::{Decoder, Job, JobReport};
use crate::last_good::LastGood;
use crate::library::{Library, Outcome};
use crate::options::Options;

/// A decoder that uses a library.
pub(crate) struct LibraryDecoder<L: Library> {
    library: L,
    options: Options,
    /// Threads of the library's decoder.
    threads: u32,
    /// Nothing was decoded since the decoder was opened or reset.
    first: bool,
    in_flight: InFlight<L::JobRecord>,
    history: History,
    last_good: LastGood,
}

impl<L: Library> LibraryDecoder<L> {
    /// Opens the library's decoder.
    pub(crate) fn open(options: &Options) -> Result<Self, EngineError> {
        let threads = options.threads.for_size(0, 0).min(L::MOST_THREADS);
        Ok(Self {
            library: L::open(threads)?,
            options: options.clone(),
            threads,
            first: true,
            in_flight: InFlight::default(),
            history: History::default(),
            last_good: LastGood::default(),
        })
    }

    /// Gives a job to the library.
    fn begin(&mut self, job: &Job<'_>, reports: &mut Vec<JobReport>) -> Result<L::JobRecord, JobError> {
        let controls = L::controls(job)?;
        let most = self.library.in_flight_before(&controls);
        while self.in_flight.len() > most {
            self.complete(reports);
        }
        self.provide_threads(job, &controls)?;
        // CAPTURE may be unusable: the picture is decoded nevertheless, since later ones refer to it.
        let direct = self.options.direct && !self.in_flight.refers_to(&job.raw);
        let target = Target::of(&job.raw).ok().filter(|_| direct);
        let offer = target.and_then(|target| target.offer());
        self.library.begin(job, controls, offer, &mut self.history)
    }

    /// Reopens the library's decoder where it should have another number of threads, or must be reopened
    /// anyway.
    fn provide_threads(&mut self, job: &Job<'_>, controls: &L::Controls) -> Result<(), JobError> {
        let threads = self.options.threads.for_size(job.raw.width, job.raw.height);
        let threads = L::threads(controls, threads).min(L::MOST_THREADS);
        let other = threads != self.threads && self.library.may_reopen(controls, self.first);
        if other || self.library.must_reopen(controls) {
            self.library.reopen(threads).map_err(JobError::Reopen)?;
            self.threads = threads;
        }
        self.first = false;
        Ok(())
    }

    /// Waits for the oldest job, and reports it.
    fn complete(&mut self, reports: &mut Vec<JobReport>) {
        let Some(JobInFlight {
            job,
            timestamp,
            raw,
            record,
            ..
        }) = self.in_flight.pop()
        else {
            return;
        };
        let Outcome { picture, took_offer } = match record {
            Ok(record) => self.library.finish(record, timestamp, &mut self.history),
            Err(error) => Outcome {
                picture: Err(error),
                took_offer: false,
            },
        };
        let exact = matches!(&picture, Ok(picture) if picture.damage.is_none());
        self.history.add(timestamp, exact);
        let result = Target::of(&raw).and_then(|target| match picture {
            Ok(picture) => self.last_good.write(&target, picture),
            Err(error) => {
                self.last_good.substitute(&target, took_offer);
                Err(error)
            }
        });
        reports.push(JobReport::new(job, result));
        self.in_flight.give_back(raw);
    }

    /// Reports jobs from the oldest on, as long as they wait for nothing or more than `most` are in flight.
    fn complete_finished(&mut self, most: usize, reports: &mut Vec<JobReport>) {
        while self.in_flight.len() > most || self.oldest_is_complete() {
            self.complete(reports);
        }
    }

    fn oldest_is_complete(&self) -> bool {
        self.in_flight
            .oldest_is_complete(|record| self.library.is_final(record))
    }
}

impl<L: Library> Decoder for LibraryDecoder<L> {
    fn submit(&mut self, job: &Job<'_>, reports: &mut Vec<JobReport>) {
        let record = self.begin(job, reports);
        let depth = self.library.depth();
        self.in_flight.push(job, record, depth > 1);
        self.complete_finished(depth, reports);
    }

    fn advance(&mut self, reports: &mut Vec<JobReport>) {
        self.complete(reports);
        self.complete_finished(usize::MAX, reports);
    }

    fn drain(&mut self, reports: &mut Vec<JobReport>) {
        self.complete_finished(0, reports);
    }

    fn reset(&mut self) {
        self.in_flight.clear();
        self.library.reset();
        self.first = true;
        self.history.reset();
        self.last_good.reset();
    }
}
