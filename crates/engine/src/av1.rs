// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AV1 by dav1d.
//!
//! The OUTPUT buffer holds the tiles of one frame somewhere; where is in a control. Sequence and frame
//! headers are written from the controls. The writer mirrors the eight reference slots and also makes
//! up for key frames that the client shows again without a request.

use daedalus_bitstream::av1::{Av1Frame, Av1Writer};
use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN, V4L2_AV1_FRAME_FLAG_USE_SUPERRES, V4L2_AV1_INTRA_ONLY_FRAME,
    V4L2_AV1_KEY_FRAME, V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME,
    V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY, V4l2CtrlAv1FilmGrain,
    V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence, V4l2CtrlAv1TileGroupEntry,
};

use crate::error::{EngineError, JobError};
use crate::history::History;
use crate::libdav1d::Context;
use crate::payload::{self, PacketBuilder};
use crate::picture::{self, Shown};
use crate::raw::{Lines, Target};
use crate::{Decoder, Done, Job, Options, controls};

/// What is known of the packet that was built.
struct Built {
    /// What is wrong with the references.
    damage: Option<JobError>,
    /// How many frames dav1d asks for before the one that it outputs: with film grain, the reference. `None` if
    /// that is not known.
    others: Option<usize>,
}

/// An AV1 session.
#[derive(Debug)]
pub(crate) struct Av1Decoder {
    context: Context,
    /// Threads of the decoder.
    threads: u32,
    /// It has decoded something since it was opened or reset.
    used: bool,
    options: Options,
    writer: Av1Writer,
    packets: PacketBuilder,
    /// Private copy of the OUTPUT buffer.
    coded: Vec<u8>,
    tiles: Vec<V4l2CtrlAv1TileGroupEntry>,
    history: History,
    shown: Shown,
}

impl Av1Decoder {
    pub(crate) fn open(options: &Options) -> Result<Self, EngineError> {
        let threads = options.threads.for_size(0, 0);
        Ok(Self {
            context: Context::open(threads)?,
            threads,
            used: false,
            options: options.clone(),
            writer: Av1Writer::new(),
            packets: PacketBuilder::default(),
            coded: Vec::new(),
            tiles: Vec::new(),
            history: History::default(),
            shown: Shown::default(),
        })
    }

    fn decode(&mut self, job: &Job<'_>) -> Result<(), JobError> {
        // Decoded even if CAPTURE is unusable: later pictures refer to this one.
        let target = Target::of(&job.raw);
        let offer = picture::offer(&target, self.options.direct);
        let mut spoiled = false;
        let ready = self.provide_threads(job);
        let picture = ready.and_then(|()| self.build_packet(job)).and_then(|built| {
            let offer = offer.filter(|_| built.others.is_some());
            let others = built.others.unwrap_or(0);
            let frame = self.context.decode(&self.packets.finish(), offer, others);
            spoiled = self.context.took_offer();
            Ok((frame?, built.damage))
        });
        self.history.add(job.timestamp, matches!(picture, Ok((_, None))));
        let target = target?;
        match picture {
            Ok((frame, damage)) => self.shown.picture(&target, frame, Lines::All, damage),
            Err(error) => {
                // dav1d conceals nothing.
                self.shown.substitute(&target, spoiled);
                Err(error)
            }
        }
    }

    /// Puts the frame, headers and tiles, into the packet. If the client has shown a key frame again
    /// before it, a temporal unit that does the same comes first; dav1d's picture for that one is
    /// followed, and so superseded, by the frame's.
    fn build_packet(&mut self, job: &Job<'_>) -> Result<Built, JobError> {
        let (sequence, _) =
            controls::get::<V4l2CtrlAv1Sequence>(job.controls, V4L2_CID_STATELESS_AV1_SEQUENCE)?;
        let (frame, _) = controls::get::<V4l2CtrlAv1Frame>(job.controls, V4L2_CID_STATELESS_AV1_FRAME)?;
        // An older value belongs to another frame: each frame that has grain has its own seed.
        let film_grain =
            controls::get::<V4l2CtrlAv1FilmGrain>(job.controls, V4L2_CID_STATELESS_AV1_FILM_GRAIN)
                .ok()
                .and_then(|(grain, in_request)| in_request.then_some(grain));
        self.tiles.clear();
        controls::get_array(
            job.controls,
            V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
            &mut self.tiles,
        )?;
        self.coded.clear();
        payload::append(&job.coded, &mut self.coded)?;
        let written = self.writer.write(
            &Av1Frame {
                sequence: &sequence,
                frame: &frame,
                tiles: &self.tiles,
                film_grain: film_grain.as_ref(),
                payload: &self.coded,
                timestamp: job.timestamp,
            },
            self.packets.start(),
        );
        let written = written.map_err(|error| JobError::Av1Headers(error.to_string()))?;
        let grain = film_grain.is_some_and(|grain| grain.flags & V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN != 0);
        let superres = frame.flags & V4L2_AV1_FRAME_FLAG_USE_SUPERRES != 0;
        Ok(Built {
            damage: (written.stale_reference || self.has_wrong_references(&frame))
                .then_some(JobError::References),
            others: (!superres && written.reshown.is_none()).then_some(usize::from(grain)),
        })
    }

    /// Opens the decoder anew if, before the first picture, it has not the threads that such pictures are worth.
    fn provide_threads(&mut self, job: &Job<'_>) -> Result<(), JobError> {
        let threads = self.options.threads.for_size(job.raw.width, job.raw.height);
        if !self.used && threads != self.threads {
            let opened = Context::open(threads);
            self.context = opened.map_err(|error| JobError::Reopen(error.to_string()))?;
            self.threads = threads;
        }
        self.used = true;
        Ok(())
    }

    /// A reference is known not to be exact. One that is missing is the writer's to notice, which knows what is in
    /// the slots.
    fn has_wrong_references(&mut self, frame: &V4l2CtrlAv1Frame) -> bool {
        let intra = matches!(frame.frame_type, V4L2_AV1_KEY_FRAME | V4L2_AV1_INTRA_ONLY_FRAME);
        !intra
            && frame.ref_frame_idx.iter().any(|&slot| {
                let timestamp = usize::try_from(slot)
                    .ok()
                    .and_then(|slot| frame.reference_frame_ts.get(slot));
                timestamp.is_some_and(|&timestamp| self.history.is_wrong(timestamp))
            })
    }
}

impl Decoder for Av1Decoder {
    fn submit(&mut self, job: &Job<'_>, done: &mut Vec<Done>) {
        let result = self.decode(job);
        done.push(Done::from_result(job.id, result));
    }

    fn drain(&mut self, _done: &mut Vec<Done>) {}

    fn reset(&mut self) {
        self.context.flush();
        self.used = false;
        self.writer.reset();
        self.history.reset();
        self.shown.reset();
    }
}
