// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Feeds a session's jobs to its decoder, and returns each of them once.
//!
//! A client may change the coded format of its session. So the decoder is replaced when a job of another
//! format comes; the jobs of the old one are completed before.

use std::collections::VecDeque;

use crate::codecs;
use crate::error::{EngineError, JobError};
use crate::job::{Decoder, Job, JobReport};
use crate::options::Options;

/// Opens decoders.
pub trait OpenDecoder {
    /// Opens a decoder of `coded_format`, a `V4L2_PIX_FMT_*`.
    ///
    /// # Errors
    /// [`EngineError`] if there is none.
    fn open(&mut self, coded_format: u32) -> Result<Box<dyn Decoder>, EngineError>;
}

impl OpenDecoder for Options {
    fn open(&mut self, coded_format: u32) -> Result<Box<dyn Decoder>, EngineError> {
        codecs::open(coded_format, self)
    }
}

impl<F: FnMut(u32) -> Result<Box<dyn Decoder>, EngineError>> OpenDecoder for F {
    fn open(&mut self, coded_format: u32) -> Result<Box<dyn Decoder>, EngineError> {
        self(coded_format)
    }
}

/// A session: its decoder, and its jobs that were not returned.
///
/// `T` is the caller's record of a job, for when the job is done. Each job that was submitted is returned
/// exactly once by [`Session::next_done`], with its `T`.
pub struct Session<T, O = Options> {
    open: O,
    /// The decoder, and the coded format that it is for.
    decoder: Option<(u32, Box<dyn Decoder>)>,
    /// Jobs that the decoder has, in the order of submission.
    pending: VecDeque<(u64, T)>,
    /// Jobs that are done and were not returned.
    done: VecDeque<(JobReport, T)>,
    /// Reports of one call, kept so that nothing is allocated for each.
    reports: Vec<JobReport>,
}

impl<T, O: OpenDecoder> Session<T, O> {
    /// Creates a session whose decoders come from `open`: [`Options`], or a function.
    pub fn new(open: O) -> Self {
        Self {
            open,
            decoder: None,
            pending: VecDeque::new(),
            done: VecDeque::new(),
            reports: Vec::new(),
        }
    }

    /// Returns the coded format of the decoder, `None` if there is no decoder.
    pub fn coded_format(&self) -> Option<u32> {
        self.decoder.as_ref().map(|(format, _)| *format)
    }

    /// Provides a decoder of `coded_format`. Returns whether it was opened now; if so, every job of the
    /// decoder before is done.
    ///
    /// # Errors
    /// [`EngineError`] if none can be opened. The session has no decoder then.
    pub fn select(&mut self, coded_format: u32) -> Result<bool, EngineError> {
        if self.coded_format() == Some(coded_format) {
            return Ok(false);
        }
        self.drain();
        self.decoder = None;
        self.decoder = Some((coded_format, self.open.open(coded_format)?));
        Ok(true)
    }

    /// Submits a job to the decoder. Without one, the job is lost, and done.
    pub fn submit(&mut self, job: &Job<'_>, with: T) {
        self.pending.push_back((job.id, with));
        match &mut self.decoder {
            Some((_, decoder)) => decoder.submit(job, &mut self.reports),
            None => self.lose_pending(),
        }
        self.collect();
    }

    /// Waits until the oldest job at least is done. Without a job it does nothing.
    pub fn advance(&mut self) {
        let before = self.pending.len();
        if let Some((_, decoder)) = self.decoder.as_mut().filter(|_| before > 0) {
            decoder.advance(&mut self.reports);
            self.collect();
            if self.pending.len() == before {
                self.drain();
            }
        }
    }

    /// Waits until every job is done. Without a job it does nothing.
    pub fn drain(&mut self) {
        if let Some((_, decoder)) = self.decoder.as_mut().filter(|_| !self.pending.is_empty()) {
            decoder.drain(&mut self.reports);
            self.collect();
        }
        self.lose_pending();
    }

    /// Forgets earlier pictures, since the client has stopped a queue. Every job is done.
    pub fn reset(&mut self) {
        self.drain();
        if let Some((_, decoder)) = &mut self.decoder {
            decoder.reset();
        }
    }

    /// Returns the next job that is done, in the order in which the decoder reported them.
    pub fn next_done(&mut self) -> Option<(JobReport, T)> {
        self.done.pop_front()
    }

    /// Returns whether every job was returned.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.done.is_empty()
    }

    /// Iterates the jobs that were not returned.
    pub fn jobs(&self) -> impl Iterator<Item = &T> {
        let done = self.done.iter().map(|(_, with)| with);
        done.chain(self.pending.iter().map(|(_, with)| with))
    }

    /// Finds the jobs of the decoder's reports.
    fn collect(&mut self) {
        for report in self.reports.drain(..) {
            let at = self.pending.iter().position(|(job, _)| *job == report.job);
            match at.and_then(|at| self.pending.remove(at)) {
                Some((_, with)) => self.done.push_back((report, with)),
                None => tracing::error!(job = report.job, "the decoder reports a job that is not pending"),
            }
        }
    }

    /// Ends jobs that the decoder never reported.
    fn lose_pending(&mut self) {
        for (job, with) in self.pending.drain(..) {
            tracing::error!(job, "the decoder never reported the job");
            self.done
                .push_back((JobReport::new(job, Err(JobError::Unreported)), with));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{RawPicture, Status};
    use crate::memory::{Mapping, View};

    /// Reports all jobs but `lose` when it is drained, in the order of submission.
    struct Late {
        lose: u64,
        waiting: Vec<u64>,
    }

    impl Decoder for Late {
        fn submit(&mut self, job: &Job<'_>, _reports: &mut Vec<JobReport>) {
            self.waiting.push(job.id);
        }

        fn drain(&mut self, reports: &mut Vec<JobReport>) {
            let reported = self.waiting.drain(..).filter(|job| *job != self.lose);
            reports.extend(reported.map(|job| JobReport::new(job, Ok(()))));
        }

        fn reset(&mut self) {}
    }

    fn session(lose: u64) -> Session<char, impl OpenDecoder> {
        Session::new(move |format| {
            let late = Late {
                lose,
                waiting: Vec::new(),
            };
            if format == 0 {
                return Err(EngineError::UnknownFormat(format));
            }
            Ok(Box::new(late) as Box<dyn Decoder>)
        })
    }

    fn submit(session: &mut Session<char, impl OpenDecoder>, id: u64, name: char) {
        let memory = Mapping::anonymous(1).expect("memory");
        let job = Job {
            id,
            timestamp: 0,
            same_capture: false,
            coded: View::new(memory, 0, 1, 0).expect("view"),
            controls: &[],
            raw: RawPicture {
                format: 0,
                width: 0,
                height: 0,
                planes: Vec::new(),
            },
        };
        session.submit(&job, name);
    }

    fn returned(session: &mut Session<char, impl OpenDecoder>) -> Vec<(u64, Status, char)> {
        std::iter::from_fn(|| session.next_done())
            .map(|(report, name)| (report.job, report.status, name))
            .collect()
    }

    #[test]
    fn each_job_is_returned_once_even_if_the_decoder_loses_it() {
        let mut session = session(2);
        session.select(1).expect("decoder");
        for (id, name) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            submit(&mut session, id, name);
        }
        assert!(returned(&mut session).is_empty() && session.jobs().eq(&['a', 'b', 'c']));
        session.advance();
        assert_eq!(
            returned(&mut session),
            [(1, Status::Ok, 'a'), (3, Status::Ok, 'c')]
        );
        assert!(!session.is_idle());
        session.advance();
        assert_eq!(returned(&mut session), [(2, Status::Error, 'b')]);
        assert!(session.is_idle());
        session.advance();
        assert!(returned(&mut session).is_empty());
    }

    #[test]
    fn another_format_completes_the_jobs_before() {
        let mut session = session(0);
        assert!(session.select(1).expect("decoder"));
        submit(&mut session, 1, 'a');
        assert!(!session.select(1).expect("decoder"));
        assert!(returned(&mut session).is_empty());
        assert!(session.select(2).expect("decoder"));
        assert_eq!(returned(&mut session), [(1, Status::Ok, 'a')]);
        submit(&mut session, 2, 'b');
        assert!(session.select(0).is_err() && session.coded_format().is_none());
        assert_eq!(returned(&mut session), [(2, Status::Ok, 'b')]);
        submit(&mut session, 3, 'c');
        assert_eq!(returned(&mut session), [(3, Status::Error, 'c')]);
    }
}
