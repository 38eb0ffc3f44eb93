// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes H.264 with libavcodec.
//!
//! The OUTPUT buffer holds the slices of one frame or field, each after a start code. SPS and PPS are written
//! from the controls, in front of the slices, when they have changed. Cropping is not written: the whole
//! coded picture goes into CAPTURE, and the client crops.
//!
//! libavcodec keeps the reference pictures by the marking commands in the slices. The DPB in the controls is
//! the client's copy of the same state, and serves to judge pictures:
//! - Damage spreads by references. A picture is reported as wrong if a reference in its DPB is wrong, up to
//!   the next intra picture. Pictures that follow an intra picture in output order, too, are taken to refer
//!   to that picture and later ones only, as at a recovery point.
//! - A reference in the DPB that was never decoded was lost on the way, unless the sequence allows gaps in
//!   `frame_num`: clients also list the frames that fill such gaps.
//! - An IDR picture ends all earlier references, and so does another size or depth: libavcodec drops them
//!   then.
//!
//! Progressive pictures are decoded by frame threads, several at a time. A picture is judged when it is
//! final, in decode order. Nothing is in flight when an IDR picture or another geometry begins. Fields are
//! decoded by one thread, one at a time, because libavcodec does not report that a second field is done.
//! Slice threads are not used: with them libavcodec neither conceals nor reports damage.
//!
//! After damage libavcodec keeps more than wrong references. Coefficients of the macroblock in which it gave
//! up stay in its buffers, survive a flush, and spoil the next picture, even an IDR picture. So the decoder
//! is reopened for the first IDR picture after damage.

mod slices;

use daedalus_codecs::h264::{ParameterSets, VuiPolicy, scaling_matrix_in_force};
use daedalus_uapi::codec::Codec;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS,
    V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_H264_SPS, V4L2_H264_BOTTOM_FIELD_REF,
    V4L2_H264_DECODE_PARAM_FLAG_BOTTOM_FIELD, V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC,
    V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC, V4L2_H264_DPB_ENTRY_FLAG_ACTIVE, V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY,
    V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED, V4L2_H264_TOP_FIELD_REF, V4l2CtrlH264DecodeParams,
    V4l2CtrlH264Pps, V4l2CtrlH264ScalingMatrix, V4l2CtrlH264Sps, V4l2H264DpbEntry,
};

use crate::capture::Lines;
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
use crate::payload::{self, Packet, PacketRing};
use crate::stream_codec::{Nal, StreamCodec, first_picture};
use slices::Slices;

/// libavcodec's decoder.
static DECODER: CodecDecoder = CodecDecoder {
    codec: Codec::H264,
    name: c"h264",
    // An access unit delimiter (ITU-T H.264 7.3.2.4).
    blank: Some(&[0, 0, 1, 9, 0xf0]),
    picture: PictureFrame::Last,
    plain_transform: false,
    leaves_parts: false,
};

/// Streams may be cut anywhere: some clients put each NAL unit into a buffer of its own.
pub(crate) const STREAM: StreamCodec = StreamCodec {
    parser: Some(|whole| Parser::open(&DECODER, whole)),
    bytestream: true,
    nal: Some(nal),
    key: Some(is_key),
    // For the reason in the module's description.
    fields_need_one_thread: true,
    ..StreamCodec::new(|threads| Ok(Box::new(Stream::open_strict(&DECODER, threads)?)))
};

/// Tells what a NAL unit is, by `nal_unit_type` (ITU-T H.264 table 7-1).
fn nal(unit: &[u8]) -> Nal {
    match unit.first().map(|header| header & 0x1f) {
        Some(7 | 8 | 13 | 15) => Nal::Header,
        Some(1..=5) => Nal::Picture,
        _ => Nal::Other,
    }
}

/// Tells whether an access unit is an IDR picture.
fn is_key(access_unit: &[u8]) -> bool {
    first_picture(access_unit, nal).is_some_and(|unit| unit[0] & 0x1f == 5)
}

/// Returns whether libavcodec has the decoder.
pub(crate) fn is_available() -> bool {
    DECODER.is_built_in()
}

/// The controls of a job.
pub(crate) struct Controls {
    params: V4l2CtrlH264DecodeParams,
    sps: V4l2CtrlH264Sps,
    pps: V4l2CtrlH264Pps,
    scaling: Option<(V4l2CtrlH264ScalingMatrix, bool)>,
    geometry: Geometry,
    structure: Structure,
    /// The CAPTURE buffer is the one of the job before.
    same_capture: bool,
}

impl Controls {
    fn of(job: &Job<'_>) -> Result<Self, JobError> {
        let values = job.controls;
        let (params, _) = controls::get(values, V4L2_CID_STATELESS_H264_DECODE_PARAMS)?;
        let (sps, _) = controls::get(values, V4L2_CID_STATELESS_H264_SPS)?;
        let (pps, _) = controls::get(values, V4L2_CID_STATELESS_H264_PPS)?;
        Ok(Self {
            geometry: Geometry::of(&sps),
            structure: structure_of(&params),
            params,
            sps,
            pps,
            scaling: controls::get(values, V4L2_CID_STATELESS_H264_SCALING_MATRIX).ok(),
            same_capture: job.same_capture,
        })
    }

    /// Returns whether the picture says that it is an IDR picture. Both fields of one may say so.
    fn is_idr(&self) -> bool {
        self.params.flags & V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC != 0
    }
}

/// The intra picture from which pictures are right again.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// Position in decode order.
    index: u64,
    /// Picture order count.
    order: i32,
    /// It, or an intra picture before it, is an IDR picture: every reference was decoded by this decoder.
    idr: bool,
}

/// The properties that a picture shares with its references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    width: u16,
    height: u16,
    frame_mbs_only: bool,
    depth: u8,
    chroma_format: u8,
}

impl Geometry {
    fn of(sps: &V4l2CtrlH264Sps) -> Self {
        Self {
            width: sps.pic_width_in_mbs_minus1,
            height: sps.pic_height_in_map_units_minus1,
            frame_mbs_only: sps.flags & V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY != 0,
            depth: sps.bit_depth_luma_minus8,
            chroma_format: sps.chroma_format_idc,
        }
    }
}

/// Returns the structure of the picture.
fn structure_of(params: &V4l2CtrlH264DecodeParams) -> Structure {
    if params.flags & V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC == 0 {
        Structure::Frame
    } else {
        Structure::Field {
            bottom: params.flags & V4L2_H264_DECODE_PARAM_FLAG_BOTTOM_FIELD != 0,
        }
    }
}

/// Returns `PicOrderCnt()` of a picture with this structure (ITU-T H.264 8.2.1).
fn picture_order(structure: Structure, params: &V4l2CtrlH264DecodeParams) -> i32 {
    match structure {
        Structure::Frame => params.top_field_order_cnt.min(params.bottom_field_order_cnt),
        Structure::Field { bottom: false } => params.top_field_order_cnt,
        Structure::Field { bottom: true } => params.bottom_field_order_cnt,
    }
}

/// The part of a job that judges its picture.
#[derive(Debug)]
pub(crate) struct JobRecord {
    /// The tag of its packet.
    tag: u64,
    params: V4l2CtrlH264DecodeParams,
    structure: Structure,
    /// Gaps in `frame_num` are no errors.
    gaps: bool,
    /// See [`Slices::inter`].
    inter: bool,
}

impl References for JobRecord {
    fn references(&self) -> impl Iterator<Item = u64> {
        active(&self.params).map(|entry| entry.reference_ts)
    }
}

/// H.264 in libavcodec.
#[derive(Debug)]
pub(crate) struct H264 {
    context: Context,
    packets: PacketRing,
    parameter_sets: ParameterSets,
    fields: FieldPair,
    recovery: Option<Recovery>,
    /// There was damage since the decoder was opened.
    spoiled: bool,
    /// Of the last picture.
    geometry: Option<Geometry>,
}

/// Returns the use of this number of threads.
fn threading(threads: u32) -> Threading {
    if threads > 1 {
        Threading::Frames(threads)
    } else {
        Threading::Slices(1)
    }
}

impl H264 {
    /// Returns whether another geometry begins with the picture.
    fn is_change(&self, controls: &Controls) -> bool {
        self.geometry != Some(controls.geometry)
    }

    /// Returns whether the picture begins an IDR picture. The second field of one continues it. Nothing is in
    /// flight.
    fn begins_idr(&self, controls: &Controls) -> bool {
        let second = self.fields.is_completed_by(controls.structure);
        controls.is_idr() && !(second && controls.same_capture)
    }

    /// Finds out why a picture is not exact, `damage` apart, and notes an intra picture that is.
    fn judge(
        &mut self,
        record: &JobRecord,
        timestamp: u64,
        lines: Lines,
        damage: Option<JobError>,
        history: &mut History,
    ) -> Option<JobError> {
        let order = picture_order(record.structure, &record.params);
        let second_field = record.structure != Structure::Frame && lines == Lines::All;
        let wrong_references = record.inter && self.has_wrong_references(record, order, history)
            || second_field && history.is_wrong(timestamp);
        let damage = damage.or(wrong_references.then_some(JobError::References));
        if damage.is_none() && !record.inter {
            let idr = record.params.flags & V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC != 0
                || self.recovery.is_some_and(|before| before.idr);
            self.recovery = Some(Recovery {
                index: history.next_index(),
                order,
                idr,
            });
        }
        damage
    }

    /// Returns whether a reference that the picture may use is not exact, or was not decoded by this decoder.
    /// With `gaps` in `frame_num`, references that were never decoded need not be errors.
    fn has_wrong_references(&self, record: &JobRecord, order: i32, history: &mut History) -> bool {
        let after = |recovery: &Recovery| order >= recovery.order;
        let recovery = self.recovery;
        active(&record.params).any(|entry| match (history.find(entry.reference_ts), &recovery) {
            (Some(picture), _) if picture.exact => false,
            (Some(picture), Some(recovery)) => picture.index >= recovery.index || !after(recovery),
            (None, Some(recovery)) => {
                let lost = !record.gaps && order_of(entry) >= recovery.order;
                lost || !recovery.idr && !after(recovery)
            }
            (_, None) => true,
        })
    }

    /// Puts parameter sets and slices into a packet.
    fn build_packet(&mut self, job: &Job<'_>, controls: &Controls) -> Result<(Packet, Slices), JobError> {
        let Controls {
            sps, pps, scaling, ..
        } = controls;
        let scaling = scaling
            .as_ref()
            .and_then(|(matrix, in_request)| scaling_matrix_in_force(pps, matrix, *in_request));
        let builder = self.packets.next(self.context.depth() + 1);
        let bytes = builder.start();
        self.parameter_sets
            .write(sps, pps, scaling, VuiPolicy::decode_order(sps), bytes)
            .map_err(|error| JobError::Headers(error.into()))?;
        let start = bytes.len();
        let copied = payload::append(&job.coded, bytes).and_then(|()| {
            let slices = Slices::of(&bytes[start..]);
            if slices.count > 0 {
                Ok(slices)
            } else {
                Err(JobError::Payload("no slice"))
            }
        });
        if copied.is_err() {
            // The parameter sets do not reach the library either.
            self.parameter_sets.reset();
        }
        Ok((builder.finish(), copied?))
    }
}

impl Library for H264 {
    type Controls = Controls;
    type JobRecord = JobRecord;

    fn open(threads: u32) -> Result<Self, EngineError> {
        Ok(Self {
            context: Context::open(&DECODER, threading(threads))?,
            packets: PacketRing::default(),
            parameter_sets: ParameterSets::default(),
            fields: FieldPair::default(),
            recovery: None,
            spoiled: false,
            geometry: None,
        })
    }

    fn reopen(&mut self, threads: u32) -> Result<(), EngineError> {
        self.context = Context::open(&DECODER, threading(threads))?;
        self.parameter_sets.reset();
        self.spoiled = false;
        Ok(())
    }

    fn controls(job: &Job<'_>) -> Result<Controls, JobError> {
        Controls::of(job)
    }

    fn threads(controls: &Controls, threads: u32) -> u32 {
        if controls.geometry.frame_mbs_only {
            threads
        } else {
            1
        }
    }

    fn may_reopen(&self, controls: &Controls, _first: bool) -> bool {
        self.is_change(controls) || self.begins_idr(controls)
    }

    fn must_reopen(&self, controls: &Controls) -> bool {
        self.spoiled && self.begins_idr(controls)
    }

    fn in_flight_before(&self, controls: &Controls) -> usize {
        if self.is_change(controls) || controls.is_idr() {
            0
        } else {
            self.context.depth() - 1
        }
    }

    fn depth(&self) -> usize {
        self.context.depth()
    }

    fn begin(
        &mut self,
        job: &Job<'_>,
        controls: Controls,
        offer: Option<Offer>,
        history: &mut History,
    ) -> Result<JobRecord, JobError> {
        let changed = self.is_change(&controls);
        let first = self.geometry.is_none();
        if changed && !first || self.begins_idr(&controls) {
            history.reset();
        }
        self.geometry = Some(controls.geometry);
        if changed {
            self.recovery = None;
        }
        let (packet, slices) = self
            .build_packet(job, &controls)
            .inspect_err(|_| self.fields.clear())?;
        self.context.begin(&packet, job.id, offer);
        Ok(JobRecord {
            tag: job.id,
            gaps: controls.sps.flags & V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED != 0,
            params: controls.params,
            structure: controls.structure,
            inter: slices.inter,
        })
    }

    fn is_final(&self, record: &JobRecord) -> bool {
        self.context.is_final(record.tag)
    }

    fn finish(&mut self, record: JobRecord, timestamp: u64, history: &mut History) -> Outcome {
        let outcome = self.context.finish(record.tag);
        let damage = (outcome.complaints > 0).then_some(JobError::Damaged(outcome.complaints));
        let found = outcome
            .frame
            .map(|frame| self.fields.place(record.structure, frame))
            .inspect_err(|_| self.fields.clear());
        let picture = match found {
            Ok(Some((frame, lines))) => Ok((frame, lines, damage)),
            Ok(None) => Err(damage.unwrap_or(JobError::NoPicture)),
            Err(error) => Err(error),
        };
        self.spoiled |= outcome.complaints > 0 || picture.is_err();
        Outcome {
            picture: picture.map(|(frame, lines, damage)| {
                let damage = self.judge(&record, timestamp, lines, damage, history);
                Picture { frame, lines, damage }
            }),
            took_offer: outcome.took_offer,
        }
    }

    fn reset(&mut self) {
        self.context.renew();
        self.parameter_sets.reset();
        self.fields.clear();
        self.recovery = None;
        self.geometry = None;
    }
}

/// Iterates the references of a picture.
fn active(params: &V4l2CtrlH264DecodeParams) -> impl Iterator<Item = &V4l2H264DpbEntry> {
    let dpb = params.dpb.iter();
    dpb.filter(|entry| entry.flags & V4L2_H264_DPB_ENTRY_FLAG_ACTIVE != 0)
}

/// Returns `PicOrderCnt()` of a reference.
fn order_of(entry: &V4l2H264DpbEntry) -> i32 {
    match entry.fields {
        V4L2_H264_TOP_FIELD_REF => entry.top_field_order_cnt,
        V4L2_H264_BOTTOM_FIELD_REF => entry.bottom_field_order_cnt,
        _ => entry.top_field_order_cnt.min(entry.bottom_field_order_cnt),
    }
}
