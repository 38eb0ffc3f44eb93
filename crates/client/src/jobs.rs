// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The jobs of a coded file.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use daedalus_uapi::Codec;

use crate::codecs;
use crate::coded::{CodedJob, Event, Parser};
use crate::container::{self, Contents};
use crate::error::ParseError;

/// The jobs of a file, in decode order. Ends after the first error.
pub struct Jobs {
    codec: Codec,
    units: Box<dyn Iterator<Item = Result<Vec<u8>, ParseError>>>,
    parser: Box<dyn Parser>,
    events: VecDeque<Event>,
    unit: u64,
    ended: bool,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs")
            .field("codec", &self.codec)
            .field("unit", &self.unit)
            .finish_non_exhaustive()
    }
}

impl Jobs {
    /// Returns the file's codec.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Reads one more unit, or notices the end.
    fn advance(&mut self) -> Result<(), ParseError> {
        match self.units.next() {
            Some(unit) => {
                let number = self.unit;
                self.unit += 1;
                self.parser
                    .parse(&unit?, &mut self.events)
                    .map_err(|what| ParseError::Stream {
                        codec: self.codec.title(),
                        unit: number,
                        what,
                    })
            }
            None => {
                self.ended = true;
                self.parser.finish(&mut self.events);
                Ok(())
            }
        }
    }
}

impl Iterator for Jobs {
    type Item = Result<CodedJob, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut job: Option<CodedJob> = None;
        loop {
            match self.events.front() {
                Some(Event::Job(_)) if job.is_some() => return job.map(Ok),
                Some(_) => match (self.events.pop_front(), &mut job) {
                    (Some(Event::Job(next)), _) => job = Some(*next),
                    (Some(Event::Show(timestamp)), Some(job)) => job.shows.push(timestamp),
                    // A picture cannot be shown before the first job: no parser says so.
                    (Some(Event::Show(_)), None) | (None, _) => {}
                },
                None if self.ended => return job.map(Ok),
                None => {
                    if let Err(error) = self.advance() {
                        self.ended = true;
                        self.events.clear();
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

/// Returns the jobs of the coded file at `path`: IVF, WebM, or a codec's own stream format ([`container`]).
///
/// # Errors
///
/// The file cannot be read or is none of these. Errors further inside come from the iterator.
pub fn jobs(path: impl AsRef<Path>) -> Result<Jobs, ParseError> {
    jobs_of(read(path.as_ref())?)
}

/// As [`jobs`], but pictures of a codec that reorders them are shown with the least delay that gives the
/// stream's own order, the same from its first picture to its last: a player does so that has looked through
/// the stream before. [`jobs`] shows them when a decoded picture buffer that is as large as the stream allows
/// would.
///
/// # Errors
///
/// As [`jobs`], and an error further inside a stream that is looked through.
pub fn prompt_jobs(path: impl AsRef<Path>) -> Result<Jobs, ParseError> {
    let bytes = read(path.as_ref())?;
    let mut jobs = jobs_of(bytes.clone())?;
    let Some(parser_with_delay) = codecs::row(jobs.codec).parser_with_delay else {
        return Ok(jobs);
    };
    let delay = least_delay(&mut jobs)?;
    Ok(Jobs {
        parser: parser_with_delay(delay),
        ..jobs_of(bytes)?
    })
}

/// Returns how many pictures wait at most for one that is decoded after them and shown before them.
fn least_delay(jobs: &mut Jobs) -> Result<usize, ParseError> {
    let (mut decoded, mut shown) = (Vec::new(), Vec::new());
    for job in jobs {
        let job = job?;
        // The second field of a frame has the timestamp of the first.
        if decoded.last() != Some(&job.timestamp) {
            decoded.push(job.timestamp);
        }
        shown.extend(job.shows);
    }
    let places: HashMap<u64, usize> = shown.iter().copied().zip(0..).collect();
    let waiting = |index: usize, timestamp: &u64| {
        let place = places.get(timestamp)?;
        let later = |earlier: &&u64| places.get(earlier).is_some_and(|other| other > place);
        Some(decoded[..index].iter().filter(later).count())
    };
    let delays = decoded.iter().enumerate();
    Ok(delays
        .filter_map(|(index, timestamp)| waiting(index, timestamp))
        .max()
        .unwrap_or(0))
}

fn read(path: &Path) -> Result<Vec<u8>, ParseError> {
    std::fs::read(path).map_err(|source| ParseError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Returns the jobs of a coded file that is in memory; see [`jobs`].
///
/// # Errors
///
/// As [`jobs`].
pub fn jobs_of(bytes: Vec<u8>) -> Result<Jobs, ParseError> {
    let Contents { codec, units } = container::open(bytes)?;
    Ok(Jobs {
        codec,
        units,
        parser: (codecs::row(codec).parser)(),
        events: VecDeque::new(),
        unit: 0,
        ended: false,
    })
}
