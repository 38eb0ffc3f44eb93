// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AV1 by dav1d.
//!
//! The OUTPUT buffer holds the tiles of one frame somewhere; where is in a control. Sequence and frame
//! headers are written from the controls. The writer mirrors the eight reference slots and also makes
//! up for key frames that the client shows again without a request.

use daedalus_codecs::av1::{Av1Frame, Av1Writer};
use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN, V4L2_AV1_FRAME_FLAG_USE_SUPERRES, V4L2_AV1_INTRA_ONLY_FRAME,
    V4L2_AV1_KEY_FRAME, V4L2_AV1_REFS_PER_FRAME, V4L2_CID_STATELESS_AV1_FILM_GRAIN,
    V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
    V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence, V4l2CtrlAv1TileGroupEntry,
};

use crate::begun::{Queue, Refers};
use crate::error::{EngineError, JobError};
use crate::frames::Offer;
use crate::history::History;
use crate::libdav1d::{Context, Request};
use crate::payload::{self, PacketBuilder};
use crate::picture::{self, Shown};
use crate::raw::{Lines, Target};
use crate::{Decoder, Done, Job, Options, controls};

/// What is to be known of a picture when it is final.
#[derive(Debug)]
struct Coded {
    /// The tag of its packet.
    tag: i64,
    /// A slot that it refers to does not hold what the client says.
    stale_reference: bool,
    /// The timestamps of its references.
    references: [Option<u64>; V4L2_AV1_REFS_PER_FRAME],
}

impl Refers for Coded {
    fn references(&self) -> impl Iterator<Item = u64> {
        self.references.iter().flatten().copied()
    }
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
    /// Packets in turn, as many as may be in flight: the memory of each is used again.
    packets: Vec<PacketBuilder>,
    begun: Queue<Coded>,
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
            packets: Vec::new(),
            begun: Queue::default(),
            coded: Vec::new(),
            tiles: Vec::new(),
            history: History::default(),
            shown: Shown::default(),
        })
    }

    /// Gives the job's frame to dav1d.
    fn begin(&mut self, job: &Job<'_>) -> Result<Coded, JobError> {
        self.provide_threads(job)?;
        // CAPTURE may be unusable: the picture is decoded nevertheless, since later ones refer to it.
        let direct = self.options.direct && !self.begun.reads(&job.raw);
        let offer = picture::offer(&Target::of(&job.raw), direct);
        let (request, mut coded) = self.build_packet(job, offer)?;
        coded.tag = self.context.begin(request);
        Ok(coded)
    }

    /// Waits for the oldest job, and reports it.
    fn complete(&mut self, done: &mut Vec<Done>) {
        let Some(begun) = self.begun.pop() else {
            return;
        };
        let (took_offer, picture) = match begun.coded {
            Ok(coded) => {
                let decoded = self.context.finish(coded.tag);
                let wrong = coded.stale_reference || self.has_wrong_references(&coded);
                let damage = wrong.then_some(JobError::References);
                (decoded.took_offer, decoded.picture.map(|frame| (frame, damage)))
            }
            Err(error) => (false, Err(error)),
        };
        self.history
            .add(begun.timestamp, matches!(picture, Ok((_, None))));
        let result = Target::of(&begun.raw).and_then(|target| match picture {
            Ok((frame, damage)) => self.shown.picture(&target, frame, Lines::All, damage),
            Err(error) => {
                // dav1d conceals nothing.
                self.shown.substitute(&target, took_offer);
                Err(error)
            }
        });
        done.push(Done::from_result(begun.job, result));
        self.begun.give_back(begun.raw);
    }

    /// The oldest job is reported at once when asked for.
    fn is_complete(&self) -> bool {
        self.begun
            .oldest_is_complete(|coded| self.context.is_final(coded.tag))
    }

    /// Puts the frame, headers and tiles, into a packet. If the client has shown a key frame again
    /// before it, a temporal unit that does the same comes first; dav1d's picture for that one is
    /// followed, and so superseded, by the frame's.
    fn build_packet(&mut self, job: &Job<'_>, offer: Option<Offer>) -> Result<(Request, Coded), JobError> {
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
        // The one that was used longest ago.
        self.packets
            .resize_with(self.context.depth() + 2, PacketBuilder::default);
        self.packets.rotate_right(1);
        let packet = &mut self.packets[0];
        let written = self.writer.write(
            &Av1Frame {
                sequence: &sequence,
                frame: &frame,
                tiles: &self.tiles,
                film_grain: film_grain.as_ref(),
                payload: &self.coded,
                timestamp: job.timestamp,
            },
            packet.start(),
        );
        let written = written.map_err(|error| JobError::Av1Headers(error.to_string()))?;
        let superres = frame.flags & V4L2_AV1_FRAME_FLAG_USE_SUPERRES != 0;
        let request = Request {
            packet: packet.finish(),
            pictures: 1 + u32::from(written.reshown.is_some()),
            grain: film_grain.is_some_and(|grain| grain.flags & V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN != 0),
            offer: offer.filter(|_| !superres && written.reshown.is_none()),
            independent: written.independent,
        };
        let coded = Coded {
            tag: 0,
            stale_reference: written.stale_reference,
            references: references(&frame),
        };
        Ok((request, coded))
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
    fn has_wrong_references(&mut self, coded: &Coded) -> bool {
        coded
            .references()
            .any(|timestamp| self.history.is_wrong(timestamp))
    }
}

/// The timestamps of the pictures that a frame may refer to.
fn references(frame: &V4l2CtrlAv1Frame) -> [Option<u64>; V4L2_AV1_REFS_PER_FRAME] {
    let intra = matches!(frame.frame_type, V4L2_AV1_KEY_FRAME | V4L2_AV1_INTRA_ONLY_FRAME);
    frame.ref_frame_idx.map(|slot| {
        let slot = usize::try_from(slot).ok().filter(|_| !intra)?;
        frame.reference_frame_ts.get(slot).copied()
    })
}

impl Decoder for Av1Decoder {
    fn submit(&mut self, job: &Job<'_>, done: &mut Vec<Done>) {
        let coded = self.begin(job);
        self.begun.push(job, coded);
        while self.begun.len() > self.context.depth() || self.is_complete() {
            self.complete(done);
        }
    }

    fn advance(&mut self, done: &mut Vec<Done>) {
        self.complete(done);
        while self.is_complete() {
            self.complete(done);
        }
    }

    fn drain(&mut self, done: &mut Vec<Done>) {
        while self.begun.len() > 0 {
            self.complete(done);
        }
    }

    fn reset(&mut self) {
        self.begun.clear();
        self.context.flush();
        self.used = false;
        self.writer.reset();
        self.history.reset();
        self.shown.reset();
    }
}
