// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes AV1 with dav1d.
//!
//! The OUTPUT buffer holds the tiles of one frame; a control tells where. Sequence and frame headers are
//! written from the controls. The writer mirrors the eight reference slots. It also makes up for key frames
//! that the client shows again without a request.
//!
//! dav1d decodes several pictures at a time, each with all threads.

use daedalus_codecs::av1::{Av1Frame, Av1Writer};
use daedalus_uapi::codec::Codec;
use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN, V4L2_AV1_FRAME_FLAG_USE_SUPERRES, V4L2_AV1_INTRA_ONLY_FRAME,
    V4L2_AV1_KEY_FRAME, V4L2_AV1_REFS_PER_FRAME, V4L2_CID_STATELESS_AV1_FILM_GRAIN,
    V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
    V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence, V4l2CtrlAv1TileGroupEntry,
};

use crate::capture::Lines;
use crate::controls;
use crate::error::{EngineError, JobError};
use crate::frames::Offer;
use crate::history::History;
use crate::in_flight::References;
use crate::job::Job;
use crate::last_good::Picture;
use crate::libdav1d::stream::{Stream, find_format};
use crate::libdav1d::{self, Context, Request};
use crate::library::{Library, Outcome};
use crate::payload::{self, PacketRing};
use crate::stream_codec::StreamCodec;

/// A unit is a temporal unit.
pub(crate) const STREAM: StreamCodec = StreamCodec {
    find: Some(find_format),
    ..StreamCodec::new(|threads| Ok(Box::new(Stream::open(threads, Codec::Av1)?)))
};

/// Returns whether dav1d is there in a version that can be used.
pub(crate) fn is_available() -> bool {
    libdav1d::is_usable()
}

/// The controls of a job, but for the tiles.
pub(crate) struct Controls {
    sequence: V4l2CtrlAv1Sequence,
    frame: V4l2CtrlAv1Frame,
    film_grain: Option<V4l2CtrlAv1FilmGrain>,
}

impl Controls {
    fn of(job: &Job<'_>) -> Result<Self, JobError> {
        let (sequence, _) = controls::get(job.controls, V4L2_CID_STATELESS_AV1_SEQUENCE)?;
        let (frame, _) = controls::get(job.controls, V4L2_CID_STATELESS_AV1_FRAME)?;
        let film_grain = controls::get(job.controls, V4L2_CID_STATELESS_AV1_FILM_GRAIN).ok();
        Ok(Self {
            sequence,
            frame,
            // An older value belongs to another frame: each frame that has grain has its own seed.
            film_grain: film_grain.and_then(|(grain, in_request)| in_request.then_some(grain)),
        })
    }

    fn has_grain(&self) -> bool {
        self.film_grain
            .as_ref()
            .is_some_and(|grain| grain.flags & V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN != 0)
    }

    fn has_superres(&self) -> bool {
        self.frame.flags & V4L2_AV1_FRAME_FLAG_USE_SUPERRES != 0
    }

    /// Returns the timestamps of the pictures that the frame may refer to.
    fn references(&self) -> [Option<u64>; V4L2_AV1_REFS_PER_FRAME] {
        let frame = &self.frame;
        let intra = matches!(frame.frame_type, V4L2_AV1_KEY_FRAME | V4L2_AV1_INTRA_ONLY_FRAME);
        frame.ref_frame_idx.map(|slot| {
            let slot = usize::try_from(slot).ok().filter(|_| !intra)?;
            frame.reference_frame_ts.get(slot).copied()
        })
    }
}

/// The part of a job that judges its picture.
#[derive(Debug)]
pub(crate) struct JobRecord {
    /// The tag of its packet.
    tag: u64,
    /// A slot that it refers to does not hold the picture that the client names.
    stale_reference: bool,
    /// The timestamps of its references.
    references: [Option<u64>; V4L2_AV1_REFS_PER_FRAME],
}

impl References for JobRecord {
    fn references(&self) -> impl Iterator<Item = u64> {
        self.references.iter().flatten().copied()
    }
}

/// AV1 in dav1d.
#[derive(Debug)]
pub(crate) struct Av1 {
    context: Context,
    writer: Av1Writer,
    packets: PacketRing,
    /// Private copy of the OUTPUT buffer.
    payload: Vec<u8>,
    tiles: Vec<V4l2CtrlAv1TileGroupEntry>,
}

impl Library for Av1 {
    type Controls = Controls;
    type JobRecord = JobRecord;

    fn open(threads: u32) -> Result<Self, EngineError> {
        Ok(Self {
            context: Context::open(threads, Codec::Av1)?,
            writer: Av1Writer::new(),
            packets: PacketRing::default(),
            payload: Vec::new(),
            tiles: Vec::new(),
        })
    }

    fn reopen(&mut self, threads: u32) -> Result<(), EngineError> {
        self.context = Context::open(threads, Codec::Av1)?;
        Ok(())
    }

    fn controls(job: &Job<'_>) -> Result<Controls, JobError> {
        Controls::of(job)
    }

    fn depth(&self) -> usize {
        self.context.depth()
    }

    /// Writes headers and tiles into a packet. If the client has shown a key frame again before this frame, a
    /// temporal unit that does the same comes first. dav1d outputs a picture for that unit, too; the frame's
    /// follows, and replaces it.
    fn begin(
        &mut self,
        job: &Job<'_>,
        controls: Controls,
        offer: Option<Offer>,
        _history: &mut History,
    ) -> Result<JobRecord, JobError> {
        self.tiles.clear();
        controls::get_array(
            job.controls,
            V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
            &mut self.tiles,
        )?;
        self.payload.clear();
        payload::append(&job.coded, &mut self.payload)?;
        let packet = self.packets.next(self.context.depth() + 2);
        let written = self.writer.write(
            &Av1Frame {
                sequence: &controls.sequence,
                frame: &controls.frame,
                tiles: &self.tiles,
                film_grain: controls.film_grain.as_ref(),
                payload: &self.payload,
                timestamp: job.timestamp,
            },
            packet.start(),
        );
        let written = written.map_err(|error| JobError::Headers(error.into()))?;
        let direct = !controls.has_superres() && written.reshown.is_none();
        let tag = self.context.begin(Request {
            packet: packet.finish(),
            pictures: 1 + u32::from(written.reshown.is_some()),
            grain: controls.has_grain(),
            offer: offer.filter(|_| direct),
            independent: written.independent,
        });
        Ok(JobRecord {
            tag,
            stale_reference: written.stale_reference,
            references: controls.references(),
        })
    }

    fn is_final(&self, record: &JobRecord) -> bool {
        self.context.is_final(record.tag)
    }

    fn finish(&mut self, record: JobRecord, _timestamp: u64, history: &mut History) -> Outcome {
        let outcome = self.context.finish(record.tag);
        // The writer knows what is in the slots, so it notices a missing reference.
        let wrong =
            record.stale_reference || record.references().any(|timestamp| history.is_wrong(timestamp));
        let frame = outcome.frame.and_then(|frame| frame.ok_or(JobError::NoPicture));
        Outcome {
            // dav1d conceals nothing: there is a whole picture or none.
            picture: frame.map(|frame| Picture {
                frame,
                lines: Lines::All,
                damage: wrong.then_some(JobError::References),
            }),
            took_offer: outcome.took_offer,
        }
    }

    fn reset(&mut self) {
        self.context.flush();
        self.writer.reset();
    }
}
