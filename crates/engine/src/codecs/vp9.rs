// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes VP9 with libavcodec.
//!
//! The OUTPUT buffer holds the whole frame. Of the controls, only the references' timestamps serve: they tell
//! whether the references are there and exact. A key frame takes all reference slots.
//!
//! Every frame has a CAPTURE buffer, also one that is not shown. Frames may change size from one to the next;
//! libavcodec scales its references. Threads decode tile columns, as many as a picture has.

use daedalus_uapi::codec::Codec;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP9_FRAME, V4L2_VP9_FRAME_FLAG_INTRA_ONLY, V4L2_VP9_FRAME_FLAG_KEY_FRAME,
    V4l2CtrlVp9Frame,
};

use crate::capture::Lines;
use crate::controls;
use crate::error::{EngineError, JobError};
use crate::frames::Offer;
use crate::history::History;
use crate::in_flight::References;
use crate::job::Job;
use crate::last_good::Picture;
use crate::libav::stream::Stream;
use crate::libav::{CodecDecoder, Context, PictureFrame, Threading};
use crate::library::{Library, Outcome};
use crate::payload::{self, PacketBuilder};
use crate::stream_codec::StreamCodec;
use crate::stream_library::PictureFormat;

/// libavcodec's decoder.
static DECODER: CodecDecoder = CodecDecoder {
    codec: Codec::Vp9,
    name: c"vp9",
    blank: None,
    picture: PictureFrame::Last,
    plain_transform: false,
    leaves_parts: false,
};

/// A unit is a frame, or a superframe, which libavcodec splits.
pub(crate) const STREAM: StreamCodec = StreamCodec {
    find: Some(find_format),
    key: Some(|frame| find_format(frame).is_some()),
    ..StreamCodec::new(|threads| Ok(Box::new(Stream::open(&DECODER, threads)?)))
};

/// Finds the format that a key frame's uncompressed header tells (VP9 Bitstream Specification 6.2).
fn find_format(frame: &[u8]) -> Option<PictureFormat> {
    let mut at = 0;
    let mut bits = |count: u32| {
        let mut value = 0;
        for _ in 0..count {
            let byte = frame.get(at / 8)?;
            value = (value << 1) | u32::from((byte >> (7 - at % 8)) & 1);
            at += 1;
        }
        Some(value)
    };
    if bits(2)? != 2 {
        return None;
    }
    let profile = bits(1)? | (bits(1)? << 1);
    if profile == 3 && bits(1)? != 0 {
        return None;
    }
    // show_existing_frame, frame_type; show_frame and error_resilient_mode do not count.
    if bits(1)? != 0 || bits(1)? != 0 {
        return None;
    }
    bits(2)?;
    if bits(24)? != 0x49_83_42 {
        return None;
    }
    let depth = if profile >= 2 { 10 + 2 * bits(1)? } else { 8 };
    const RGB: u32 = 7;
    if bits(3)? == RGB {
        return None;
    }
    bits(1)?;
    if profile & 1 != 0 {
        bits(3)?;
    }
    let size = (bits(16)? + 1, bits(16)? + 1);
    Some(PictureFormat {
        size,
        coded: size,
        depth: u8::try_from(depth).ok()?,
        interlaced: false,
    })
}

/// Returns whether libavcodec has the decoder.
pub(crate) fn is_available() -> bool {
    DECODER.is_built_in()
}

/// The part of a job that judges its picture.
#[derive(Debug)]
pub(crate) struct JobRecord {
    /// The tag of its packet.
    tag: u64,
    /// The timestamps of its references; or the error of a control that does not tell them.
    references: Result<Option<[u64; 3]>, JobError>,
}

impl References for JobRecord {
    fn references(&self) -> impl Iterator<Item = u64> {
        self.references.iter().flatten().flatten().copied()
    }
}

/// VP9 in libavcodec.
#[derive(Debug)]
pub(crate) struct Vp9 {
    context: Context,
    packet: PacketBuilder,
}

impl Library for Vp9 {
    /// The frame is decoded without its control, too: later ones refer to it.
    type Controls = Result<V4l2CtrlVp9Frame, JobError>;
    type JobRecord = JobRecord;

    fn open(threads: u32) -> Result<Self, EngineError> {
        Ok(Self {
            context: Context::open(&DECODER, Threading::Slices(threads))?,
            packet: PacketBuilder::default(),
        })
    }

    fn reopen(&mut self, threads: u32) -> Result<(), EngineError> {
        self.context = Context::open(&DECODER, Threading::Slices(threads))?;
        Ok(())
    }

    fn controls(job: &Job<'_>) -> Result<Self::Controls, JobError> {
        Ok(controls::get(job.controls, V4L2_CID_STATELESS_VP9_FRAME).map(|(frame, _)| frame))
    }

    fn depth(&self) -> usize {
        0
    }

    fn begin(
        &mut self,
        job: &Job<'_>,
        controls: Self::Controls,
        offer: Option<Offer>,
        history: &mut History,
    ) -> Result<JobRecord, JobError> {
        let has = |frame: &V4l2CtrlVp9Frame, flag| frame.flags & flag != 0;
        if let Ok(frame) = &controls {
            if has(frame, V4L2_VP9_FRAME_FLAG_KEY_FRAME) {
                history.reset();
            }
        }
        payload::append(&job.coded, self.packet.start())?;
        self.context.begin(&self.packet.finish(), job.id, offer);
        let intra = V4L2_VP9_FRAME_FLAG_KEY_FRAME | V4L2_VP9_FRAME_FLAG_INTRA_ONLY;
        Ok(JobRecord {
            tag: job.id,
            references: controls.map(|frame| {
                let references = [frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts];
                (!has(&frame, intra)).then_some(references)
            }),
        })
    }

    fn is_final(&self, record: &JobRecord) -> bool {
        self.context.is_final(record.tag)
    }

    fn finish(&mut self, record: JobRecord, _timestamp: u64, history: &mut History) -> Outcome {
        let outcome = self.context.finish(record.tag);
        // libavcodec takes whatever is in the slot.
        let wrong = record
            .references()
            .any(|timestamp| history.is_wrong_or_missing(timestamp));
        let damage = (outcome.complaints > 0)
            .then_some(JobError::Damaged(outcome.complaints))
            .or(record.references.err())
            .or(wrong.then_some(JobError::References));
        let frame = outcome.frame.and_then(|frame| frame.ok_or(JobError::NoPicture));
        Outcome {
            // libavcodec conceals nothing in VP9: there is a whole picture or none.
            picture: frame.map(|frame| Picture {
                frame,
                lines: Lines::All,
                damage,
            }),
            took_offer: outcome.took_offer,
        }
    }

    fn reset(&mut self) {
        self.context.renew();
    }
}
