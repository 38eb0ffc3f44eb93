// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Other clients of the interface, imitated: which calls they make, in which order, with which controls and
//! which contents of OUTPUT.
//!
//! Each imitation says at its top what it does and where in the real client's source that was read. What is
//! common to them is here: the parsers' jobs go in, pictures come out in display order, read from the
//! CAPTURE buffers in which the client kept them until they were due.

mod chromium;
mod controls;
mod ffmpeg;
mod frames;

use std::collections::VecDeque;
use std::error::Error;

use daedalus_uapi::Codec;

use crate::device::{ClientError, Nodes};
use crate::error::ParseError;
use crate::job::{CodedJob, Jobs, Visible};
use frames::{Frames, missing};

/// A client that is imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// FFmpeg's v4l2request hwaccels.
    Ffmpeg,
    /// Chromium's V4L2 stateless video decoder.
    Chromium,
}

impl Personality {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ffmpeg => "ffmpeg-like",
            Self::Chromium => "chromium-like",
        }
    }
}

/// A picture, when it is due.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The CAPTURE format, `V4L2_PIX_FMT_*`.
    pub format: u32,
    /// The part that is shown.
    pub visible: Visible,
    /// That part: packed NV12 or P010.
    pub pixels: &'a [u8],
}

/// Why a stream was not played to its end.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The stream is broken, or beyond the parsers.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The device.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The real client does not play such a stream.
    #[error("the real client refuses: {0}")]
    Refused(&'static str),
    /// Whoever the pictures are for.
    #[error("a picture was not taken: {0}")]
    Taken(Box<dyn Error + Send + Sync>),
}

/// What a player saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Jobs submitted.
    pub jobs: usize,
    /// Pictures shown.
    pub shown: usize,
    /// CAPTURE buffers that came back with `V4L2_BUF_FLAG_ERROR`.
    pub flagged: usize,
    /// Times that the client prepared the device afresh.
    pub sessions: usize,
    /// Most jobs in flight at once.
    pub in_flight: usize,
}

/// What the client does before a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It goes on.
    None,
    /// It shows what is due, gives up all pictures and prepares the device for what follows.
    Afresh,
    /// It cannot go on.
    Refuse(&'static str),
}

/// A client, as [`play`] drives it.
trait Client {
    /// How many pictures the client's user lets pile up before it takes the first.
    fn lag(&self) -> usize;
    /// What has to be done before `job`.
    fn change(&self, job: &CodedJob) -> Change;
    /// Prepares the device for `job` and what follows.
    fn begin(&mut self, job: &CodedJob) -> Result<(), ClientError>;
    /// Whether there is a CAPTURE buffer for one more picture, or will be without one being shown.
    fn has_room(&mut self) -> Result<bool, ClientError>;
    /// Submits `job` and adds its picture to `frames`.
    fn submit(&mut self, job: &CodedJob, frames: &mut Frames) -> Result<(), ClientError>;
    /// The picture in `buffer` is needed no more.
    fn recycle(&mut self, buffer: usize);
    /// Waits until `buffer` is decoded.
    fn wait_for(&mut self, buffer: usize) -> Result<(), ClientError>;
    /// Reads the visible part of the picture in `buffer`; returns its format too.
    fn read(&self, buffer: usize, visible: &Visible) -> Result<(u32, Vec<u8>), ClientError>;
    /// Ends the session in an orderly way.
    fn end(&mut self) -> Result<(), ClientError>;
    /// What was seen so far.
    fn summary(&self) -> Summary;
}

/// Takes the pictures.
pub type Take<'a> = dyn FnMut(&Shown<'_>) -> Result<(), Box<dyn Error + Send + Sync>> + 'a;

/// Plays `jobs` through the device as `personality` would; gives each picture to `take` when it is due, or when its
/// user would get to it if he is not `prompt`.
///
/// # Errors
/// [`PlayError`]; what was taken until then is right all the same.
pub fn play(
    personality: Personality,
    nodes: &Nodes,
    jobs: Jobs,
    prompt: bool,
    take: &mut Take<'_>,
) -> Result<Summary, PlayError> {
    let codec = jobs.codec();
    let client: Box<dyn Client> = match personality {
        Personality::Ffmpeg => Box::new(ffmpeg::Ffmpeg::new(nodes, codec)),
        Personality::Chromium => Box::new(chromium::Chromium::new(nodes, codec)),
    };
    let mut player = Player {
        lag: if prompt { 0 } else { client.lag() },
        client,
        frames: Frames::new(codec == Codec::H264),
        due: VecDeque::new(),
        take,
        summary: Summary::default(),
    };
    for job in jobs {
        player.job(&job?)?;
    }
    player.show_all()?;
    player.client.end()?;
    let seen = player.client.summary();
    Ok(Summary {
        flagged: seen.flagged,
        in_flight: seen.in_flight,
        ..player.summary
    })
}

struct Player<'a, 'b> {
    client: Box<dyn Client>,
    /// How many pictures pile up before the first is taken.
    lag: usize,
    frames: Frames,
    /// Pictures to be shown, in order.
    due: VecDeque<u64>,
    take: &'a mut Take<'b>,
    summary: Summary,
}

impl Player<'_, '_> {
    fn job(&mut self, job: &CodedJob) -> Result<(), PlayError> {
        match self.client.change(job) {
            Change::None => {}
            Change::Refuse(why) => return Err(PlayError::Refused(why)),
            Change::Afresh => {
                self.show_all()?;
                self.frames.clear();
                self.client.begin(job)?;
                self.summary.sessions += 1;
            }
        }
        while !self.client.has_room()? && self.show_one()? {}
        self.client.submit(job, &mut self.frames)?;
        self.summary.jobs += 1;
        self.frames.set_references(&job.references);
        for picture in &job.shows {
            self.frames.will_show(*picture)?;
            self.due.push_back(*picture);
        }
        self.release();
        while self.due.len() > self.lag {
            self.show_one()?;
        }
        Ok(())
    }

    fn release(&mut self) {
        for buffer in self.frames.release() {
            self.client.recycle(buffer);
        }
    }

    fn show_all(&mut self) -> Result<(), PlayError> {
        while self.show_one()? {}
        Ok(())
    }

    /// Shows the picture that is due next; `false` if none is.
    fn show_one(&mut self) -> Result<bool, PlayError> {
        let Some(picture) = self.due.pop_front() else {
            return Ok(false);
        };
        let frame = *self.frames.get(picture).ok_or_else(|| missing(picture))?;
        self.client.wait_for(frame.buffer)?;
        let (format, pixels) = self.client.read(frame.buffer, &frame.visible)?;
        let shown = Shown {
            format,
            visible: frame.visible,
            pixels: &pixels,
        };
        (self.take)(&shown).map_err(PlayError::Taken)?;
        self.summary.shown += 1;
        self.frames.shown(picture);
        self.release();
        Ok(true)
    }
}
