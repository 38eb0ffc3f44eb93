// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Imitates other clients of the interface: their calls and the order of these, their controls and the
//! contents of OUTPUT.
//!
//! Each imitation lists at its top the behaviour of the real client, with the places in its source. This file
//! has the common part: the parsers' jobs go in, pictures come out in display order, read from the CAPTURE
//! buffers in which the client kept them until they were due.

mod chromium;
mod client;
pub(crate) mod controls;
pub(crate) mod delegate;
mod ffmpeg;
pub(crate) mod frames;
pub(crate) mod hwaccel;
pub mod stateful;

use std::collections::VecDeque;
use std::error::Error;

use crate::codecs;
use crate::coded::{CodedJob, Visible};
use crate::device::{ClientError, Nodes};
use crate::error::ParseError;
use crate::jobs::Jobs;
pub use client::Summary;
use client::{Change, Client};
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
    /// Returns its name in reports.
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
pub struct ShownPicture<'a> {
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
    /// The receiver of the pictures.
    #[error("a picture was not taken: {0}")]
    Taken(Box<dyn Error + Send + Sync>),
}

/// Takes the pictures.
pub type Take<'a> = dyn FnMut(&ShownPicture<'_>) -> Result<(), Box<dyn Error + Send + Sync>> + 'a;

/// Plays `jobs` through the device as `personality` would; gives each picture to `take` when it is due, or
/// when its user would get to it if he is not `prompt`.
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
        frames: Frames::new(codecs::row(codec).shows_every_picture),
        due: VecDeque::new(),
        take,
        summary: Summary::default(),
    };
    for job in jobs {
        player.job(&job?)?;
    }
    player.show_all()?;
    player.client.end()?;
    let summary = player.client.summary();
    Ok(Summary {
        flagged: summary.flagged,
        in_flight: summary.in_flight,
        ..player.summary
    })
}

struct Player<'a, 'b> {
    client: Box<dyn Client>,
    /// Pictures that pile up before the first is taken.
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
        let shown = ShownPicture {
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
