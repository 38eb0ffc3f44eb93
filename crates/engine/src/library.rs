// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Defines the hooks that a codec supplies: they turn jobs into packets of a library, and those into
//! pictures.

use crate::error::{EngineError, JobError};
use crate::frames::Offer;
use crate::history::History;
use crate::in_flight::References;
use crate::job::Job;
use crate::last_good::Picture;

/// The outcome of a job's packet.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The picture, or the reason why there is none.
    pub(crate) picture: Result<Picture, JobError>,
    /// The memory on offer was taken, and may have been written to.
    pub(crate) took_offer: bool,
}

/// A codec's decoder in a library. [`crate::decoder::LibraryDecoder`] calls the hooks, for each job in this
/// order: [`Library::controls`], [`Library::in_flight_before`], perhaps [`Library::reopen`],
/// [`Library::begin`], later [`Library::finish`]. Jobs are finished in the order in which they were begun.
pub(crate) trait Library: Sized {
    /// The most threads that the library's decoder is opened with.
    const MOST_THREADS: u32 = u32::MAX;

    /// The controls of a job that the codec reads.
    type Controls;
    /// The codec's record of a job, until its picture is final.
    type JobRecord: References;

    /// Opens the library's decoder with `threads` threads.
    fn open(threads: u32) -> Result<Self, EngineError>;

    /// Opens the library's decoder anew with `threads` threads. It knows nothing of earlier pictures.
    fn reopen(&mut self, threads: u32) -> Result<(), EngineError>;

    /// Reads a job's controls.
    fn controls(job: &Job<'_>) -> Result<Self::Controls, JobError>;

    /// Returns how many threads serve the picture, of `threads` that its size is worth.
    fn threads(_controls: &Self::Controls, threads: u32) -> u32 {
        threads
    }

    /// Returns whether another number of threads is reason enough to reopen before the picture. `first` says
    /// that nothing was decoded since the decoder was opened or reset.
    fn may_reopen(&self, _controls: &Self::Controls, first: bool) -> bool {
        first
    }

    /// Returns whether the decoder must be reopened before the picture.
    fn must_reopen(&self, _controls: &Self::Controls) -> bool {
        false
    }

    /// Returns how many earlier jobs may be in flight when a job with these controls is begun.
    fn in_flight_before(&self, _controls: &Self::Controls) -> usize {
        usize::MAX
    }

    /// Returns how many jobs may stay in flight after one was begun.
    fn depth(&self) -> usize;

    /// Gives a job to the library. Its picture may be decoded into `offer`. On an error the library has not
    /// got it.
    fn begin(
        &mut self,
        job: &Job<'_>,
        controls: Self::Controls,
        offer: Option<Offer>,
        history: &mut History,
    ) -> Result<Self::JobRecord, JobError>;

    /// Returns whether [`Library::finish`] would return at once.
    fn is_final(&self, record: &Self::JobRecord) -> bool;

    /// Waits until a job's picture is final, and judges whether it is exact. `timestamp` names the picture,
    /// which is added to the history afterwards.
    fn finish(&mut self, record: Self::JobRecord, timestamp: u64, history: &mut History) -> Outcome;

    /// Forgets earlier pictures, and jobs that were not finished.
    fn reset(&mut self);
}
