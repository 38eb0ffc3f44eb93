// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes MPEG-2 with libavcodec.
//!
//! The OUTPUT buffer holds the slices of one frame or field, each behind its start code. The headers in front
//! of them are written from the controls, for each picture.
//!
//! A frame's second field goes into the frame of the first: with V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF, or when
//! the client queues the same buffer with the same timestamp again, as FFmpeg does. Any other picture ends a
//! frame that has one field.
//!
//! libavcodec predicts from the last two I or P frames that it decoded, whatever the controls say. These are
//! its anchors. A picture is reported as wrong
//! - if its controls name other pictures than the anchors, or an anchor that is not exact. It may name none
//!   where there is none yet: for the forward reference of B pictures behind the first I picture, whose group
//!   is closed then, and for a second field behind an intra field;
//! - if a slice is missing. libavcodec reports that of frames, and conceals it; it says nothing of fields;
//! - if the payload has anything but slices of the picture and, behind them, the end of the sequence. All
//!   that is no slice is left out.
//!
//! Another size ends all earlier references: libavcodec drops them then. The threads of a session decode
//! slices side by side. A picture is final when the call returns.

mod slices;

use daedalus_codecs::mpeg2::{Headers, NO_PICTURE, PictureControls};
use daedalus_uapi::codec::Codec;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_CID_STATELESS_MPEG2_QUANTISATION,
    V4L2_CID_STATELESS_MPEG2_SEQUENCE, V4L2_MPEG2_PIC_BOTTOM_FIELD, V4L2_MPEG2_PIC_CODING_TYPE_B,
    V4L2_MPEG2_PIC_CODING_TYPE_I, V4L2_MPEG2_PIC_CODING_TYPE_P, V4L2_MPEG2_PIC_FRAME,
    V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE, V4l2CtrlMpeg2Picture, V4l2CtrlMpeg2Quantisation, V4l2CtrlMpeg2Sequence,
};

use crate::controls;
use crate::error::{EngineError, JobError};
use crate::fields::{FieldPair, Structure};
use crate::frames::Offer;
use crate::history::History;
use crate::in_flight::References;
use crate::job::Job;
use crate::last_good::Picture;
use crate::libav::stream::{Parser, Stream};
use crate::libav::{CodecDecoder, Context, PictureFrame, Threading};
use crate::library::{Library, Outcome};
use crate::payload::{self, Packet, PacketBuilder};
use crate::stream_codec::{StreamCodec, behind_start_codes};
use slices::Rows;

/// libavcodec's decoder.
static DECODER: CodecDecoder = CodecDecoder {
    codec: Codec::Mpeg2,
    name: c"mpeg2video",
    blank: None,
    picture: PictureFrame::First,
    plain_transform: true,
    leaves_parts: true,
};

/// Streams may be cut anywhere. Sequence headers are repeated, and the parser keeps them with their pictures.
pub(crate) const STREAM: StreamCodec = StreamCodec {
    parser: Some(|whole| Parser::open(&DECODER, whole)),
    bytestream: true,
    sequence: Some(sequence),
    key: Some(|access_unit| sequence(access_unit).is_some()),
    ..StreamCodec::new(|threads| Ok(Box::new(Stream::open(&DECODER, threads)?)))
};

/// Reads the sizes, progressive_sequence and chroma_format from the headers of a sequence in front of a
/// picture (ITU-T H.262, 6.2.2). At other ones libavcodec begins anew, without the last picture in output
/// order.
fn sequence(access_unit: &[u8]) -> Option<u64> {
    const PICTURE: u8 = 0x00;
    const SEQUENCE: u8 = 0xb3;
    const EXTENSION: u8 = 0xb5;
    const SEQUENCE_EXTENSION: u8 = 1;
    let mut found = None;
    for unit in behind_start_codes(access_unit) {
        match *unit {
            [PICTURE, ..] => break,
            [SEQUENCE, a, b, c, ..] => found = Some(u64::from_be_bytes([0, 0, 0, 0, 0, a, b, c]) << 16),
            // Behind the identifier: profile and level, progressive_sequence, chroma_format, the upper bits
            // of the sizes.
            [EXTENSION, a, b, c, ..] if a >> 4 == SEQUENCE_EXTENSION => {
                let extension = u64::from(u16::from_be_bytes([b & 0x0f, c & 0xe0]));
                found = found.map(|size| (size & !0xffff) | extension);
            }
            _ => {}
        }
    }
    found
}

/// Returns whether libavcodec has the decoder.
pub(crate) fn is_available() -> bool {
    DECODER.is_built_in()
}

/// The controls of a job.
pub(crate) struct Controls {
    sequence: V4l2CtrlMpeg2Sequence,
    picture: V4l2CtrlMpeg2Picture,
    quantisation: V4l2CtrlMpeg2Quantisation,
}

impl Controls {
    fn structure(&self) -> Structure {
        match self.picture.picture_structure {
            V4L2_MPEG2_PIC_FRAME => Structure::Frame,
            structure => Structure::Field {
                bottom: structure == V4L2_MPEG2_PIC_BOTTOM_FIELD,
            },
        }
    }

    fn is_b(&self) -> bool {
        self.picture.picture_coding_type == V4L2_MPEG2_PIC_CODING_TYPE_B
    }

    fn geometry(&self) -> Geometry {
        let progressive = self.sequence.flags & V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE != 0;
        Geometry {
            width: self.sequence.horizontal_size,
            height: self.sequence.vertical_size,
            rows: Rows::in_frame(self.sequence.vertical_size.into(), progressive),
        }
    }
}

/// The properties of a sequence with which libavcodec keeps its references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    width: u16,
    height: u16,
    /// Rows of macroblocks.
    rows: usize,
}

/// The job before, if it was the first field of a frame.
#[derive(Clone, Copy, Debug)]
struct FirstField {
    timestamp: u64,
    structure: Structure,
    is_b: bool,
    is_intra: bool,
}

/// The part of a job that judges its picture.
#[derive(Debug)]
pub(crate) struct JobRecord {
    /// The tag of its packet.
    tag: u64,
    picture: V4l2CtrlMpeg2Picture,
    structure: Structure,
    /// The first field, if this is the second.
    first: Option<FirstField>,
    /// Damage that was found in the payload, or its first field is lost.
    damage: Option<JobError>,
}

impl JobRecord {
    fn is_b(&self) -> bool {
        self.picture.picture_coding_type == V4L2_MPEG2_PIC_CODING_TYPE_B
    }
}

impl References for JobRecord {
    fn references(&self) -> impl Iterator<Item = u64> {
        let picture = &self.picture;
        let count = match picture.picture_coding_type {
            V4L2_MPEG2_PIC_CODING_TYPE_B => 2,
            V4L2_MPEG2_PIC_CODING_TYPE_P => 1,
            _ => 0,
        };
        [picture.forward_ref_ts, picture.backward_ref_ts]
            .into_iter()
            .take(count)
    }
}

/// The timestamps of the frames that libavcodec predicts from.
#[derive(Clone, Copy, Debug, Default)]
struct Anchors {
    before_last: Option<u64>,
    last: Option<u64>,
}

/// MPEG-2 in libavcodec.
#[derive(Debug)]
pub(crate) struct Mpeg2 {
    context: Context,
    packet: PacketBuilder,
    headers: Headers,
    fields: FieldPair,
    /// The first field of the frame that [`Mpeg2::fields`] waits for, or of one that was lost.
    first: Option<FirstField>,
    anchors: Anchors,
    /// Of the last picture.
    geometry: Option<Geometry>,
}

impl Mpeg2 {
    /// Puts headers and slices into a packet. Returns it, and the damage that was found in the payload.
    fn build_packet(
        &mut self,
        job: &Job<'_>,
        controls: &Controls,
        second: bool,
    ) -> Result<(Packet, Option<JobError>), JobError> {
        let bytes = self.packet.start();
        let of_picture = PictureControls {
            sequence: &controls.sequence,
            picture: &controls.picture,
            quantisation: &controls.quantisation,
        };
        self.headers
            .write(&of_picture, second, bytes)
            .map_err(|error| JobError::Headers(error.into()))?;
        let start = bytes.len();
        let rows = Rows::of(
            controls.sequence.vertical_size.into(),
            controls.geometry().rows,
            controls.structure(),
        );
        let checked = payload::append(&job.coded, bytes).and_then(|()| slices::check(bytes, start, &rows));
        if checked.is_err() {
            // The headers do not reach the library either.
            self.headers.reset();
        }
        let damage = checked?;
        Ok((self.packet.finish(), damage.map(JobError::Payload)))
    }

    /// Returns whether the references that the picture names are those that libavcodec has, and are exact.
    fn has_right_references(&self, record: &JobRecord, timestamp: u64, history: &mut History) -> bool {
        let Anchors { before_last, last } = self.anchors;
        let mut is_exact = |anchor: Option<u64>| anchor.is_none_or(|name| !history.is_wrong_or_missing(name));
        let picture = &record.picture;
        let names_none = |name: u64| [0, NO_PICTURE].contains(&name);
        match (picture.picture_coding_type, &record.first) {
            (V4L2_MPEG2_PIC_CODING_TYPE_I, _) => true,
            // Its own frame is an anchor by now. Its other reference is the frame before.
            (V4L2_MPEG2_PIC_CODING_TYPE_P, Some(first)) => {
                let name = picture.forward_ref_ts;
                let is_named = before_last == Some(name);
                let needs_none = first.is_intra && (before_last.is_none() || names_none(name));
                (is_named || needs_none || name == timestamp) && is_exact(before_last)
            }
            (V4L2_MPEG2_PIC_CODING_TYPE_P, None) => last == Some(picture.forward_ref_ts) && is_exact(last),
            _ => {
                let forward = match before_last {
                    Some(anchor) => picture.forward_ref_ts == anchor,
                    None => names_none(picture.forward_ref_ts),
                };
                let backward = last == Some(picture.backward_ref_ts);
                forward && backward && is_exact(before_last) && is_exact(last)
            }
        }
    }
}

impl Library for Mpeg2 {
    type Controls = Controls;
    type JobRecord = JobRecord;

    fn open(threads: u32) -> Result<Self, EngineError> {
        Ok(Self {
            context: Context::open(&DECODER, Threading::Slices(threads))?,
            packet: PacketBuilder::default(),
            headers: Headers::default(),
            fields: FieldPair::default(),
            first: None,
            anchors: Anchors::default(),
            geometry: None,
        })
    }

    fn reopen(&mut self, threads: u32) -> Result<(), EngineError> {
        let context = Context::open(&DECODER, Threading::Slices(threads))?;
        *self = Self {
            context,
            packet: PacketBuilder::default(),
            headers: Headers::default(),
            fields: FieldPair::default(),
            first: None,
            anchors: Anchors::default(),
            geometry: None,
        };
        Ok(())
    }

    fn controls(job: &Job<'_>) -> Result<Controls, JobError> {
        let (sequence, _) = controls::get(job.controls, V4L2_CID_STATELESS_MPEG2_SEQUENCE)?;
        let (picture, _) = controls::get(job.controls, V4L2_CID_STATELESS_MPEG2_PICTURE)?;
        let (quantisation, _) = controls::get(job.controls, V4L2_CID_STATELESS_MPEG2_QUANTISATION)?;
        Ok(Controls {
            sequence,
            picture,
            quantisation,
        })
    }

    fn depth(&self) -> usize {
        0
    }

    fn begin(
        &mut self,
        job: &Job<'_>,
        controls: Controls,
        offer: Option<Offer>,
        history: &mut History,
    ) -> Result<JobRecord, JobError> {
        let geometry = controls.geometry();
        if self
            .geometry
            .replace(geometry)
            .is_some_and(|before| before != geometry)
        {
            history.reset();
            self.anchors = Anchors::default();
            self.fields.clear();
            self.first = None;
        }
        let structure = controls.structure();
        let this = FirstField {
            timestamp: job.timestamp,
            structure,
            is_b: controls.is_b(),
            is_intra: controls.picture.picture_coding_type == V4L2_MPEG2_PIC_CODING_TYPE_I,
        };
        let waits = self.fields.is_completed_by(structure);
        let before = self.first.take();
        let partner = before.filter(|first| {
            let same_frame = job.same_capture || first.timestamp == job.timestamp;
            let other = first.structure != structure && structure != Structure::Frame;
            same_frame && other && first.is_b == this.is_b
        });
        let second = partner.is_some() && waits;
        if !second {
            // A field that stays alone is no whole frame for later pictures.
            if let Some(lone) = before.filter(|_| self.fields.is_waiting()) {
                history.add(lone.timestamp, false);
            }
            self.fields.clear();
        }
        if structure != Structure::Frame && partner.is_none() {
            self.first = Some(this);
        }
        let (packet, damage) = self
            .build_packet(job, &controls, second)
            .inspect_err(|_| self.fields.clear())?;
        // libavcodec predicts from whole macroblocks, also from those below the picture. A second field
        // begins no frame: what libavcodec allocates then stands for a reference that is missing.
        let lines = u32::try_from(16 * geometry.rows).unwrap_or(u32::MAX);
        let offer = offer.filter(|offer| !second && (controls.is_b() || offer.keeps_lines(lines)));
        self.context.begin(&packet, job.id, offer);
        let lost = (partner.is_some() && !second).then_some(JobError::References);
        Ok(JobRecord {
            tag: job.id,
            picture: controls.picture,
            structure,
            first: partner.filter(|_| second),
            damage: damage.or(lost),
        })
    }

    fn is_final(&self, record: &JobRecord) -> bool {
        self.context.is_final(record.tag)
    }

    fn finish(&mut self, record: JobRecord, timestamp: u64, history: &mut History) -> Outcome {
        let outcome = self.context.finish(record.tag);
        let complaints = (outcome.complaints > 0).then_some(JobError::Damaged(outcome.complaints));
        let right = self.has_right_references(&record, timestamp, history)
            // The first field was judged by itself.
            && !(record.first.is_some() && history.is_wrong(timestamp));
        let frame = outcome
            .frame
            .map(|frame| frame.filter(|_| record.first.is_none()));
        let has_picture = matches!(&frame, Ok(Some(_)));
        if has_picture && !record.is_b() {
            self.anchors = Anchors {
                before_last: self.anchors.last,
                last: Some(timestamp),
            };
        }
        let placed = frame
            .map(|frame| self.fields.place(record.structure, frame))
            .inspect_err(|_| self.fields.clear());
        let damage = complaints
            .or(record.damage)
            .or((!right).then_some(JobError::References));
        let picture = match placed {
            Ok(Some((frame, lines))) => Ok(Picture { frame, lines, damage }),
            Ok(None) => Err(damage.unwrap_or(JobError::NoPicture)),
            Err(error) => Err(error),
        };
        Outcome {
            picture,
            took_offer: outcome.took_offer,
        }
    }

    fn reset(&mut self) {
        self.context.renew();
        self.headers.reset();
        self.fields.clear();
        self.first = None;
        self.anchors = Anchors::default();
        self.geometry = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_size_is_another_sequence() {
        let headers = |width: u8, chroma: u8, rest: &[u8]| {
            let start = [0, 0, 1, 0xb3, width, 0x01, 0x20, 0x13, 0xff, 0xff, 0xe0, 0x18];
            let extension = [0, 0, 1, 0xb5, 0x14, 0x80 | chroma, 0x00, 0x01, 0, 0];
            [&start[..], &extension, rest].concat()
        };
        let first = sequence(&headers(0x16, 2, &[0, 0, 1, 0, 0, 0x0f]));
        assert!(first.is_some());
        // Bit rate and what follows a picture's header are no matter.
        assert_eq!(
            first,
            sequence(&headers(0x16, 2, &[0, 0, 1, 0, 0, 0, 1, 0xb3, 9, 9, 9]))
        );
        assert_ne!(first, sequence(&headers(0x14, 2, &[])));
        assert_ne!(first, sequence(&headers(0x16, 4, &[])));
        assert_eq!(sequence(&[0, 0, 1, 0, 0, 0x0f, 0, 0, 1, 0xb3, 9, 9, 9]), None);
        assert_eq!(sequence(&[0, 0, 1, 0xb3, 9]), None);
    }
}
