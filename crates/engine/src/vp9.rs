// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP9 by libavcodec. The OUTPUT buffer holds the whole frame; of the controls only the references'
//! timestamps are of use, to know whether they are there and exact. A key frame takes all reference slots.
//!
//! Every frame has a CAPTURE buffer, also one that is not shown. Frames may change size from one to the
//! next; libavcodec scales its references.

use daedalus_uapi::protocol::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP9_FRAME, V4L2_VP9_FRAME_FLAG_INTRA_ONLY, V4L2_VP9_FRAME_FLAG_KEY_FRAME,
    V4l2CtrlVp9Frame,
};

use crate::error::{EngineError, JobError};
use crate::history::History;
use crate::libav::{Codec, Context, Threading};
use crate::payload::{self, PacketBuilder};
use crate::picture::{self, Shown};
use crate::raw::{Lines, Target};
use crate::{Decoder, Done, Job, Options, controls};

/// A VP9 session.
#[derive(Debug)]
pub(crate) struct Vp9Decoder {
    context: Context,
    /// Threads of the decoder.
    threads: u32,
    /// It has decoded something since it was opened or reset.
    used: bool,
    options: Options,
    packets: PacketBuilder,
    history: History,
    shown: Shown,
}

impl Vp9Decoder {
    pub(crate) fn open(options: &Options) -> Result<Self, EngineError> {
        let threads = options.threads.for_size(0, 0);
        Ok(Self {
            context: Context::open(Codec::Vp9, Threading::Slices(threads))?,
            threads,
            used: false,
            options: options.clone(),
            packets: PacketBuilder::default(),
            history: History::default(),
            shown: Shown::default(),
        })
    }

    fn decode(&mut self, job: &Job<'_>) -> Result<(), JobError> {
        // Decoded even if CAPTURE is unusable: later pictures refer to this one.
        let target = Target::of(&job.raw);
        let mut spoiled = false;
        let mut complaints = 0;
        let offer = picture::offer(&target, self.options.direct);
        let ready = self.provide_threads(job);
        let copied = ready.and_then(|()| payload::append(&job.coded, self.packets.start()));
        let frame = copied.and_then(|()| {
            let decoded = self.context.decode(&self.packets.finish(), job.id, offer);
            spoiled = decoded.took_offer;
            complaints = decoded.complaints;
            decoded.result?;
            decoded.frame.ok_or(JobError::NoPicture)
        });
        let references = self.check_references(job.controls).err();
        let damage = (complaints > 0)
            .then_some(JobError::Damaged(complaints))
            .or(references);
        self.history.add(job.timestamp, frame.is_ok() && damage.is_none());
        let target = target?;
        match frame {
            Ok(frame) => self.shown.picture(&target, frame, Lines::All, damage),
            Err(error) => {
                // libavcodec conceals nothing in VP9.
                self.shown.substitute(&target, spoiled);
                Err(error)
            }
        }
    }
}

impl Vp9Decoder {
    /// Opens the decoder anew if, before the first picture, it has not the threads that such pictures are worth.
    fn provide_threads(&mut self, job: &Job<'_>) -> Result<(), JobError> {
        let threads = self.options.threads.for_size(job.raw.width, job.raw.height);
        if !self.used && threads != self.threads {
            let opened = Context::open(Codec::Vp9, Threading::Slices(threads));
            self.context = opened.map_err(|error| JobError::Reopen(error.to_string()))?;
            self.threads = threads;
        }
        self.used = true;
        Ok(())
    }

    /// Fails if the control does not say which the references are, or if one is not exact or was never decoded.
    /// libavcodec takes whatever is in the slot.
    fn check_references(&mut self, controls: &[Control<'_>]) -> Result<(), JobError> {
        let (frame, _) = controls::get::<V4l2CtrlVp9Frame>(controls, V4L2_CID_STATELESS_VP9_FRAME)?;
        if frame.flags & V4L2_VP9_FRAME_FLAG_KEY_FRAME != 0 {
            self.history.reset();
            return Ok(());
        }
        let wrong = frame.flags & V4L2_VP9_FRAME_FLAG_INTRA_ONLY == 0
            && [frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts]
                .iter()
                .any(|&timestamp| self.history.is_wrong_or_missing(timestamp));
        if wrong { Err(JobError::References) } else { Ok(()) }
    }
}

impl Decoder for Vp9Decoder {
    fn submit(&mut self, job: &Job<'_>, done: &mut Vec<Done>) {
        let result = self.decode(job);
        done.push(Done::from_result(job.id, result));
    }

    fn drain(&mut self, _done: &mut Vec<Done>) {}

    fn reset(&mut self) {
        self.context.renew(Codec::Vp9, Threading::Slices(self.threads));
        self.used = false;
        self.history.reset();
        self.shown.reset();
    }
}
