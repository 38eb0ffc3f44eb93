// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes VP8 with libavcodec.
//!
//! The OUTPUT buffer holds the whole frame, which is decoded as it is. Every frame has a CAPTURE buffer, also
//! one that is not shown. There is one thread: with several, libavcodec trusts that no frame has more
//! partitions than the key frame that its memory was allocated for.
//!
//! libavcodec says nothing when a partition ends too early, or when a frame never came, so both are found
//! here:
//! - Where data ends too early, libavcodec stops, and the rest of the picture is not decoded
//!   ([`Context::open_marking`]).
//! - The control has the sizes of the partitions. They are those of the frame, and the last one is not longer
//!   than what there is.
//! - The frame's header says which reference slots it changes. So it is known which pictures libavcodec has
//!   in them, and which ones the stream means; the control says which ones the client means. All three must
//!   be the same. libavcodec and the format differ where golden and alternate slot are both copied
//!   ([`CopyOrder`]).
//!
//! Frames inherit probabilities from those before them. So when one is missing, none is exact up to the next
//! key frame, whatever it refers to.
//!
//! References have whole macroblocks: later frames read what is below and beside the visible part. So a frame
//! is not decoded into CAPTURE where chroma will be written over the lines below it.

use daedalus_codecs::vp8::{self, CopyOrder, FrameHeader, Slots};
use daedalus_uapi::codec::Codec;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP8_FRAME, V4L2_VP8_FRAME_FLAG_SIGN_BIAS_ALT, V4L2_VP8_FRAME_FLAG_SIGN_BIAS_GOLDEN,
    V4l2CtrlVp8Frame,
};

use crate::capture::Lines;
use crate::controls;
use crate::error::{EngineError, JobError};
use crate::frames::Offer;
use crate::history::History;
use crate::in_flight::References;
use crate::job::Job;
use crate::last_good::Picture;
use crate::libav::stream::{Parser, Stream};
use crate::libav::{CodecDecoder, Context, PictureFrame};
use crate::library::{Library, Outcome};
use crate::payload::{self, PacketBuilder};
use crate::stream_codec::StreamCodec;

/// Lines of a macroblock.
const BLOCK: u32 = 16;

/// libavcodec's decoder.
static DECODER: CodecDecoder = CodecDecoder {
    codec: Codec::Vp8,
    name: c"vp8",
    blank: None,
    picture: PictureFrame::Last,
    plain_transform: false,
    leaves_parts: false,
};

/// A unit is a frame. A stream has one thread, for the reason above.
pub(crate) const STREAM: StreamCodec = StreamCodec {
    parser: Some(|whole| Parser::open(&DECODER, whole)),
    // The first bit of a frame is 0 for key frames (RFC 6386, 9.1).
    key: Some(|frame| frame.first().is_some_and(|byte| byte & 1 == 0)),
    ..StreamCodec::new(|_| Ok(Box::new(Stream::open(&DECODER, 1)?)))
};

/// Returns whether libavcodec has the decoder.
pub(crate) fn is_available() -> bool {
    DECODER.is_built_in()
}

/// The part of a job that judges its picture.
#[derive(Debug)]
pub(crate) struct JobRecord {
    /// The tag of its packet.
    tag: u64,
    /// The frame's header; `None` if there is none.
    header: Option<FrameHeader>,
    /// The names of its references, `None` for a key frame; or the error of a control that does not tell
    /// them.
    references: Result<Option<[u64; 3]>, JobError>,
    /// What is wrong with the frame by itself.
    damage: Option<Damage>,
}

impl References for JobRecord {
    fn references(&self) -> impl Iterator<Item = u64> {
        self.references.iter().flatten().flatten().copied()
    }
}

/// What is wrong with a frame by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// It has no header, or the control is another frame's.
    OtherFrame,
    /// The end of its last partition is missing.
    CutOff,
}

impl Damage {
    fn error(self) -> JobError {
        JobError::Payload(match self {
            Self::OtherFrame => "it is not the frame that the control describes",
            Self::CutOff => "its last partition is cut off",
        })
    }
}

/// The reference slots.
#[derive(Debug, Default)]
struct State {
    /// The pictures that libavcodec has.
    held: Slots,
    /// The pictures that the stream means.
    meant: Slots,
    /// A frame is missing or was refused. Probabilities are not those of the stream until a key frame sets
    /// them.
    lost: bool,
}

impl State {
    /// Returns whether a frame that names these references is decoded from other pictures, or from wrong
    /// ones.
    fn is_wrong(&mut self, names: [u64; 3], history: &mut History) -> bool {
        let mut wrong = self.lost;
        let slots = self.held.pictures().into_iter().zip(self.meant.pictures());
        for (name, (held, meant)) in names.into_iter().zip(slots) {
            let name = Some(name);
            // The client knows of a frame that libavcodec does not, or the reverse.
            self.lost |= name != held && name != meant;
            wrong |= name != held || held != meant;
            wrong |= name.is_none_or(|name| history.is_wrong_or_missing(name));
        }
        wrong || self.lost
    }

    /// Notes that a frame was decoded.
    fn add(&mut self, header: &FrameHeader, timestamp: u64) {
        self.held = self.held.after(header, timestamp, CopyOrder::AtOnce);
        self.meant = self.meant.after(header, timestamp, CopyOrder::AlternateFirst);
    }
}

/// VP8 in libavcodec.
#[derive(Debug)]
pub(crate) struct Vp8 {
    context: Context,
    packet: PacketBuilder,
    /// Lines of the pictures, since the last key frame.
    height: u32,
    state: State,
}

impl Library for Vp8 {
    const MOST_THREADS: u32 = 1;

    /// The frame is decoded without its control, too: later ones refer to it.
    type Controls = Result<V4l2CtrlVp8Frame, JobError>;
    type JobRecord = JobRecord;

    fn open(_threads: u32) -> Result<Self, EngineError> {
        Ok(Self {
            context: Context::open_marking(&DECODER)?,
            packet: PacketBuilder::default(),
            height: 0,
            state: State::default(),
        })
    }

    fn reopen(&mut self, _threads: u32) -> Result<(), EngineError> {
        self.context = Context::open_marking(&DECODER)?;
        self.state = State::default();
        Ok(())
    }

    fn controls(job: &Job<'_>) -> Result<Self::Controls, JobError> {
        Ok(controls::get(job.controls, V4L2_CID_STATELESS_VP8_FRAME).map(|(frame, _)| frame))
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
        payload::append(&job.coded, self.packet.start())?;
        let packet = self.packet.finish();
        let header = FrameHeader::read(packet.data()).ok();
        let key = header.as_ref().is_some_and(|header| header.key);
        if key {
            history.reset();
            self.state = State::default();
        }
        if let Some(size) = header.as_ref().and_then(|header| header.size) {
            self.height = size.height;
        }
        let lines = self.height.next_multiple_of(BLOCK);
        let offer = offer.filter(|offer| job.raw.planes.len() > 1 || lines <= offer.size.1);
        let damage = match (&header, &controls) {
            (Some(header), Ok(frame)) => damage(header, frame),
            (None, _) => Some(Damage::OtherFrame),
            (_, Err(_)) => None,
        };
        self.context.begin(&packet, job.id, offer);
        Ok(JobRecord {
            tag: job.id,
            header,
            references: controls.map(|frame| {
                let names = [frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts];
                (!key).then_some(names)
            }),
            damage,
        })
    }

    fn is_final(&self, record: &JobRecord) -> bool {
        self.context.is_final(record.tag)
    }

    fn finish(&mut self, record: JobRecord, timestamp: u64, history: &mut History) -> Outcome {
        let outcome = self.context.finish(record.tag);
        let frame = outcome.frame.and_then(|frame| frame.ok_or(JobError::NoPicture));
        let (references, control) = match record.references {
            Ok(references) => (references, None),
            Err(error) => (None, Some(error)),
        };
        let wrong = references.is_some_and(|names| self.state.is_wrong(names, history));
        // An unfinished picture is in the slots nevertheless.
        let decoded_it = matches!(&frame, Ok(_) | Err(JobError::Unfinished));
        match &record.header {
            Some(header) if decoded_it => self.state.add(header, timestamp),
            _ => self.state.lost = true,
        }
        self.state.lost |= outcome.complaints > 0 || record.damage == Some(Damage::OtherFrame);
        let damage = (outcome.complaints > 0)
            .then_some(JobError::Damaged(outcome.complaints))
            .or(control)
            .or(record.damage.map(Damage::error))
            .or((wrong || self.state.lost).then_some(JobError::References));
        Outcome {
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
        self.state = State::default();
    }
}

/// Compares a frame with its control.
fn damage(header: &FrameHeader, frame: &V4l2CtrlVp8Frame) -> Option<Damage> {
    let count = usize::from(header.num_dct_parts);
    let (sizes, due) = (&header.dct_part_sizes[..count], &frame.dct_part_sizes[..count]);
    let has = |flag| frame.flags & flag != 0;
    let biases = [
        (header.sign_bias_golden, V4L2_VP8_FRAME_FLAG_SIGN_BIAS_GOLDEN),
        (header.sign_bias_alternate, V4L2_VP8_FRAME_FLAG_SIGN_BIAS_ALT),
    ];
    // A key frame has no biases; clients leave the older ones in its control.
    let same = header.key == vp8::is_key(frame)
        && header.first_part_size == frame.first_part_size
        && header.num_dct_parts == frame.num_dct_parts
        && sizes[..count - 1] == due[..count - 1]
        && header
            .size
            .is_none_or(|size| (size.width, size.height) == (frame.width.into(), frame.height.into()))
        && (header.key || biases.into_iter().all(|(set, flag)| set == has(flag)));
    if !same {
        Some(Damage::OtherFrame)
    } else if sizes[count - 1] < due[count - 1] {
        Some(Damage::CutOff)
    } else {
        None
    }
}
