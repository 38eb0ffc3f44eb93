// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Jobs: what a stateless client hands to a decoder, one coded buffer at a time.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use daedalus_uapi::Codec;
use daedalus_uapi::v4l2_controls::V4l2CtrlAv1TileGroupEntry;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::container::{self, Contents};
use crate::error::ParseError;
use crate::{av1, h264, vp9};

/// One control's value, as `VIDIOC_S_EXT_CTRLS` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `V4L2_CID_STATELESS_*`.
    pub id: u32,
    /// The structure, or for a dynamic array its elements, one after the other.
    pub value: Vec<u8>,
}

impl Control {
    /// A control whose value is `value`.
    #[must_use]
    pub fn new<T: IntoBytes + Immutable + ?Sized>(id: u32, value: &T) -> Self {
        Self {
            id,
            value: value.as_bytes().to_vec(),
        }
    }

    /// The value as the structure `T`; `None` if the size is another.
    #[must_use]
    pub fn get<T: FromBytes>(&self) -> Option<T> {
        T::read_from_bytes(&self.value).ok()
    }
}

/// The part of a decoded picture that is to be shown, in luma samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    /// Left edge.
    pub left: u32,
    /// Upper edge.
    pub top: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// A tile group of an AV1 frame, where it lies in its temporal unit.
#[derive(Clone, Debug)]
pub struct TileGroup {
    /// Its tiles' data with the sizes between them: what follows the tile group's header.
    pub data: Range<usize>,
    /// Its tiles, with offsets from the start of the temporal unit.
    pub tiles: Vec<V4l2CtrlAv1TileGroupEntry>,
}

/// What clients other than GStreamer need to know of an AV1 frame to fill OUTPUT in their own ways.
#[derive(Clone, Debug)]
pub struct TemporalUnit {
    /// The whole temporal unit that the frame is in.
    pub bytes: Arc<[u8]>,
    /// The frame's tile groups.
    pub groups: Vec<TileGroup>,
    /// `OperatingPointIdc` of the operating point that is decoded.
    pub operating_point: u32,
}

/// One coded buffer with its controls: one request.
#[derive(Clone, Debug)]
pub struct CodedJob {
    /// The OUTPUT buffer's timestamp in ns, a multiple of 1000 (it travels as a `timeval`). It names the
    /// picture, in controls of later jobs and in [`CodedJob::shows`]. Both fields of a frame have the same.
    /// It is never 0, which in controls names no picture.
    pub timestamp: u64,
    /// The OUTPUT buffer's contents.
    pub payload: Vec<u8>,
    /// The request's controls.
    pub controls: Vec<Control>,
    /// Width of the picture as decoded, in luma samples.
    pub coded_width: u32,
    /// Height of the picture as decoded (the whole frame, for a field), in luma samples.
    pub coded_height: u32,
    /// Bits per sample.
    pub bit_depth: u8,
    /// What is shown of the picture.
    pub visible: Visible,
    /// The picture can be decoded without any other.
    pub key: bool,
    /// A further job decodes into this job's CAPTURE buffer: `V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF`.
    pub hold_capture: bool,
    /// This job decodes into the CAPTURE buffer of the job before: the second field of its frame.
    pub same_capture: bool,
    /// The pictures, by timestamp, that later jobs may refer to once this one is done: their CAPTURE buffers
    /// must not be queued again.
    pub references: Vec<u64>,
    /// The pictures, by timestamp, which are shown after this job and before the next, in display order.
    /// Over all jobs it is the stream's display order. A picture may be shown more than once, or never.
    pub shows: Vec<u64>,
    /// AV1 only: the payload's origin.
    pub unit: Option<Box<TemporalUnit>>,
}

impl CodedJob {
    /// The value of the control `id` of this request.
    #[must_use]
    pub fn control(&self, id: u32) -> Option<&Control> {
        self.controls.iter().find(|control| control.id == id)
    }
}

/// What a codec's parser has to say about an access unit.
#[derive(Debug)]
pub(crate) enum Event {
    /// A job; its `shows` is filled in later, from the events which follow it.
    Job(Box<CodedJob>),
    /// The picture with this timestamp is shown now.
    Show(u64),
}

/// A codec's parser.
pub(crate) trait Parser {
    /// Parses one access unit of the container.
    fn parse(&mut self, unit: &[u8], events: &mut VecDeque<Event>) -> Result<(), String>;
    /// The stream ended: what remains to be shown.
    fn finish(&mut self, events: &mut VecDeque<Event>);
}

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
    /// The file's codec.
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

/// The jobs of the coded file at `path`: IVF with VP9 or AV1, WebM with VP9, H.264 Annex B or AV1 OBUs
/// (low-overhead or AV1's Annex B).
///
/// # Errors
///
/// The file cannot be read or is none of these. Errors further inside come from the iterator.
pub fn jobs(path: impl AsRef<Path>) -> Result<Jobs, ParseError> {
    jobs_of(read(path.as_ref())?)
}

/// As [`jobs`], but pictures of H.264 are shown with the least delay that gives the stream's own order, the same from
/// its first picture to its last: what a player does that has looked through the stream before. [`jobs`] shows them
/// when a decoded picture buffer that is as large as the stream allows would.
///
/// # Errors
///
/// As [`jobs`], and whatever is wrong with an H.264 stream further inside.
pub fn prompt_jobs(path: impl AsRef<Path>) -> Result<Jobs, ParseError> {
    let bytes = read(path.as_ref())?;
    let mut jobs = jobs_of(bytes.clone())?;
    if jobs.codec != Codec::H264 {
        return Ok(jobs);
    }
    let delay = least_delay(&mut jobs)?;
    Ok(Jobs {
        parser: Box::new(h264::H264Parser::with_delay(delay)),
        ..jobs_of(bytes)?
    })
}

/// How many pictures wait at most for one that is decoded after them and shown before them.
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

/// The jobs of a coded file that is in memory; see [`jobs`].
///
/// # Errors
///
/// As [`jobs`].
pub fn jobs_of(bytes: Vec<u8>) -> Result<Jobs, ParseError> {
    let Contents { codec, units } = container::open(bytes)?;
    let parser: Box<dyn Parser> = match codec {
        Codec::Vp9 => Box::new(vp9::Vp9Parser::new()),
        Codec::H264 => Box::new(h264::H264Parser::new()),
        Codec::Av1 => Box::new(av1::Av1Parser::new()),
    };
    Ok(Jobs {
        codec,
        units,
        parser,
        events: VecDeque::new(),
        unit: 0,
        ended: false,
    })
}
