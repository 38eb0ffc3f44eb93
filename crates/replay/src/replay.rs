// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Replay: decoding a trace and comparing every job with what was recorded.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::time::{Duration, Instant};

use daedalus_engine as engine;
use daedalus_trace::{JobResult, JobStatus, Reader, Record, TraceError};

use crate::error::ReplayError;
use crate::picture::{Md5Sum, checksum};
use crate::player::{FinishedJob, Pace, Player};

/// Differences that a [`Report`] lists; it counts all.
const LISTED: usize = 100;
/// Most jobs between a job's submission and its answer, in the trace and here. A client has 64 buffers.
const OUTSTANDING: usize = 1024;

/// Options of a replay.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Options of the engine.
    pub engine: engine::Options,
    /// When to complete.
    pub pace: Pace,
    /// Compare statuses only, so that time is spent on decoding alone.
    pub unchecked: bool,
}

/// The result of a replay.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Jobs decoded.
    pub jobs: u64,
    /// Jobs whose status was compared.
    pub statuses: u64,
    /// Jobs whose picture was compared.
    pub pictures: u64,
    /// Jobs whose picture was not compared, since the next job goes on in it: no client sees it as it is
    /// in between.
    pub held: u64,
    /// Jobs of a trace that is cut off which the recording worker read and never answered: it was lost in
    /// the first of them, perhaps.
    pub unanswered: u64,
    /// Jobs that the recording worker answered without decoding them.
    pub refused: u64,
    /// Jobs whose recorded status is an error.
    pub errors: u64,
    /// The trace has no end record.
    pub cut: bool,
    /// Jobs with another status or another picture.
    pub different: u64,
    /// The first of these.
    pub differences: Vec<Difference>,
    /// Time in the decoder; see [`Player::decoding`].
    pub decoding: Duration,
    /// Time from the first record to the last, with reading and comparing.
    pub elapsed: Duration,
}

impl Report {
    /// Everything that could be compared is as it was recorded, and that is something.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.different == 0 && self.statuses > 0
    }
}

/// A job that is not as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The job's id.
    pub job: u64,
    /// Its position among the trace's jobs, from 0.
    pub index: u64,
    /// The kind of the difference.
    pub what: What,
}

/// A kind of difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The status.
    Status {
        /// As recorded.
        recorded: JobStatus,
        /// Why, as recorded.
        recorded_reason: String,
        /// As replayed.
        replayed: JobStatus,
        /// Why, as replayed.
        replayed_reason: String,
    },
    /// The picture.
    Picture {
        /// MD5 as recorded.
        recorded: Md5Sum,
        /// MD5 as replayed; `None`: there is no such picture.
        replayed: Option<Md5Sum>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} (number {} of the trace): ", self.job, self.index + 1)?;
        match &self.what {
            What::Status {
                recorded,
                recorded_reason,
                replayed,
                replayed_reason,
            } => {
                let because = |reason: &str| {
                    if reason.is_empty() {
                        String::new()
                    } else {
                        format!(" ({reason})")
                    }
                };
                write!(
                    f,
                    "recorded as {recorded}{}, replayed as {replayed}{}",
                    because(recorded_reason),
                    because(replayed_reason)
                )
            }
            What::Picture { recorded, replayed } => write!(
                f,
                "the picture was {}, and is {}",
                hex(recorded),
                replayed.as_ref().map_or("not there".to_owned(), hex)
            ),
        }
    }
}

fn hex(sum: &Md5Sum) -> String {
    format!("{:032x}", u128::from_be_bytes(*sum))
}

/// Decodes what is left of the trace, and compares. A trace that is cut off is replayed as far as it
/// goes, and the report says so.
///
/// # Errors
/// [`ReplayError`] if it cannot be read to its end, or cannot be decoded. Differences are no errors.
pub fn replay<R: Read>(trace: &mut Reader<R>, options: &Options) -> Result<Report, ReplayError> {
    if trace.session().big_endian != cfg!(target_endian = "big") {
        return Err(ReplayError::ByteOrder);
    }
    let start = Instant::now();
    let mut player = Player::new(options.engine.clone(), options.pace);
    let mut comparison = Comparison {
        unchecked: options.unchecked,
        ..Comparison::default()
    };
    loop {
        let record = match trace.next_record() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(TraceError::Cut { .. }) => {
                comparison.report.cut = true;
                break;
            }
            Err(error) => return Err(error.into()),
        };
        comparison.recorded(&record)?;
        player.feed(&record, &mut |finished| comparison.finished(&finished))?;
        comparison.settle();
    }
    player.drain(&mut |finished| comparison.finished(&finished));
    comparison.next_job(None);
    comparison.settle();
    // A worker answers all that it reads before it ends its trace.
    let forgotten = comparison.open.keys().min().filter(|_| !comparison.report.cut);
    if let Some(&job) = forgotten {
        return Err(ReplayError::Inconsistent {
            job,
            what: "it is never answered",
        });
    }
    let mut report = comparison.report;
    report.unanswered = comparison.open.len() as u64;
    report.decoding = player.decoding();
    report.elapsed = start.elapsed();
    Ok(report)
}

/// A job that is not compared yet.
#[derive(Default)]
struct OpenJob {
    index: u64,
    recorded: Option<JobResult>,
    replayed: Option<ReplayResult>,
    /// Whether the next job goes on in the same buffer; `None` while it is not known.
    held: Option<bool>,
}

struct ReplayResult {
    status: JobStatus,
    reason: String,
    md5: Option<Md5Sum>,
}

#[derive(Default)]
struct Comparison {
    unchecked: bool,
    open: HashMap<u64, OpenJob>,
    /// The job that was submitted last.
    last: Option<u64>,
    report: Report,
}

impl Comparison {
    /// Takes note of a record before it is played.
    fn recorded(&mut self, record: &Record) -> Result<(), ReplayError> {
        match record {
            Record::Job(job) => {
                self.next_job(Some(job.same_capture));
                self.settle();
                let index = self.report.jobs;
                self.report.jobs += 1;
                self.last = Some(job.job);
                let old = self.open.insert(
                    job.job,
                    OpenJob {
                        index,
                        ..OpenJob::default()
                    },
                );
                let what = match old {
                    Some(_) => "a job with this id is not answered yet",
                    None if self.open.len() > OUTSTANDING => "too many jobs before it are not answered",
                    None => return Ok(()),
                };
                Err(ReplayError::Inconsistent { job: job.job, what })
            }
            Record::Done(done) => {
                match self.open.get_mut(&done.job) {
                    Some(open) if open.recorded.is_none() => open.recorded = Some(done.clone()),
                    Some(_) => {
                        return Err(ReplayError::Inconsistent {
                            job: done.job,
                            what: "it is answered twice",
                        });
                    }
                    None => self.report.refused += 1,
                }
                Ok(())
            }
            Record::Reset => {
                self.next_job(None);
                Ok(())
            }
            Record::Buffer(_) | Record::BufferGone(_) => Ok(()),
        }
    }

    /// It is known by now whether the last job's picture is its own.
    fn next_job(&mut self, same_capture: Option<bool>) {
        if let Some(open) = self.last.take().and_then(|job| self.open.get_mut(&job)) {
            open.held = Some(same_capture.unwrap_or(false));
        }
    }

    fn finished(&mut self, finished: &FinishedJob<'_>) {
        let Some(open) = self.open.get_mut(&finished.job) else {
            return;
        };
        let md5 = if self.unchecked || finished.busy || open.held == Some(true) {
            None
        } else {
            checksum(finished.raw, finished.size)
        };
        open.replayed = Some(ReplayResult {
            status: finished.status,
            reason: finished.reason.clone(),
            md5,
        });
    }

    /// Compares the jobs of which everything is known.
    fn settle(&mut self) {
        let is_complete =
            |open: &OpenJob| open.recorded.is_some() && open.replayed.is_some() && open.held.is_some();
        let ids: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| is_complete(open))
            .map(|(&job, _)| job)
            .collect();
        let mut ready: Vec<_> = ids.iter().filter_map(|job| self.open.remove_entry(job)).collect();
        ready.sort_by_key(|(_, open)| open.index);
        for (job, open) in ready {
            self.compare(job, open);
        }
    }

    fn compare(&mut self, job: u64, open: OpenJob) {
        let OpenJob {
            index,
            recorded: Some(recorded),
            replayed: Some(replayed),
            held,
        } = open
        else {
            return;
        };
        let report = &mut self.report;
        report.statuses += 1;
        report.errors += u64::from(recorded.status == JobStatus::Error);
        let mut what = None;
        if recorded.status != replayed.status {
            what = Some(What::Status {
                recorded: recorded.status,
                recorded_reason: recorded.reason,
                replayed: replayed.status,
                replayed_reason: replayed.reason,
            });
        }
        match recorded.md5 {
            _ if self.unchecked => {}
            _ if held == Some(true) => report.held += 1,
            Some(md5) => {
                report.pictures += 1;
                if replayed.md5 != Some(md5) {
                    what = what.or(Some(What::Picture {
                        recorded: md5,
                        replayed: replayed.md5,
                    }));
                }
            }
            None => {}
        }
        if let Some(what) = what {
            report.different += 1;
            if report.differences.len() < LISTED {
                report.differences.push(Difference { job, index, what });
            }
        }
    }
}
