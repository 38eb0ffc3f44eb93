// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes HEVC with libavcodec.
//!
//! The OUTPUT buffer holds the slice segments of one picture, each after a start code. VPS, SPS and PPS are
//! written from the controls, in front of the segments, when they have changed; segments that name reference
//! picture sets of the SPS, which no control has, are rewritten (`daedalus_codecs::hevc`). Cropping is not
//! written: the whole coded picture goes into CAPTURE, and the client crops.
//!
//! libavcodec keeps the reference pictures by the sets in the segments. The DPB in the controls is the
//! client's copy of the same state, and serves to judge pictures: one is reported as wrong if a reference
//! that it may read is not there, is not exact, or has another order count than the control says. An IRAP
//! picture with an empty DPB ends all earlier references.
//!
//! libavcodec conceals nothing, and says nothing of slice segments that are missing. So the frame gets marks
//! before it is decoded, which tell the blocks that are not.
//!
//! Threads decode pictures side by side, and wait for the lines of references that they need. They do not
//! decode the rows of one picture side by side, even if it is coded for that (wavefront parallel processing):
//! libavcodec then filters blocks at the edges of slices before it knows whether it may.

use std::collections::VecDeque;

use daedalus_codecs::hevc::{self, OutputOrder, Writer};
use daedalus_uapi::codec::Codec;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_PPS,
    V4L2_CID_STATELESS_HEVC_SCALING_MATRIX, V4L2_CID_STATELESS_HEVC_SPS, V4L2_HEVC_DECODE_PARAM_FLAG_IDR_PIC,
    V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC, V4l2CtrlHevcDecodeParams, V4l2CtrlHevcPps,
    V4l2CtrlHevcScalingMatrix, V4l2CtrlHevcSps, V4l2HevcDpbEntry,
};

use crate::capture::Lines;
use crate::controls;
use crate::error::{EngineError, JobError};
use crate::frames::Offer;
use crate::history::{DEPTH, History};
use crate::in_flight::References;
use crate::job::Job;
use crate::last_good::Picture;
use crate::libav::stream::{Parser, Stream};
use crate::libav::{CodecDecoder, Context, PictureFrame, Threading};
use crate::library::{Library, Outcome};
use crate::payload::{self, Packet, PacketRing};
use crate::stream_codec::{Nal, StreamCodec, first_picture};
use crate::unwritten::Marks;

/// libavcodec's decoder.
static DECODER: CodecDecoder = CodecDecoder {
    codec: Codec::Hevc,
    name: c"hevc",
    // An access unit delimiter (7.3.2.5).
    blank: Some(&[0, 0, 1, 0x46, 1, 0x50]),
    picture: PictureFrame::First,
    plain_transform: false,
    leaves_parts: false,
};

/// Decodes streams.
pub(crate) const STREAM: StreamCodec = StreamCodec {
    parser: Some(|whole| Parser::open(&DECODER, whole)),
    bytestream: true,
    nal: Some(nal),
    key: Some(is_key),
    ..StreamCodec::new(|threads| Ok(Box::new(Stream::open(&DECODER, threads)?)))
};

/// Tells what a NAL unit is, by `nal_unit_type` (ITU-T H.265 table 7-1).
fn nal(unit: &[u8]) -> Nal {
    match unit.first().map(|header| (header >> 1) & 0x3f) {
        Some(32..=34) => Nal::Header,
        Some(0..=31) => Nal::Picture,
        _ => Nal::Other,
    }
}

/// Tells whether an access unit is an IRAP picture.
fn is_key(access_unit: &[u8]) -> bool {
    first_picture(access_unit, nal).is_some_and(|unit| (16..=23).contains(&((unit[0] >> 1) & 0x3f)))
}

/// Returns whether libavcodec has the decoder.
pub(crate) fn is_available() -> bool {
    DECODER.is_built_in()
}

/// The controls of a job.
pub(crate) struct Controls {
    params: V4l2CtrlHevcDecodeParams,
    sps: V4l2CtrlHevcSps,
    pps: V4l2CtrlHevcPps,
    scaling: Option<V4l2CtrlHevcScalingMatrix>,
}

impl Controls {
    /// Returns whether no later picture can refer to one before this.
    fn ends_references(&self) -> bool {
        let irap = self.params.flags & V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC != 0;
        irap && self.params.num_active_dpb_entries == 0
    }

    /// Returns the side of the blocks of which a picture consists. It is sane whatever the control is.
    fn block(&self) -> usize {
        let sps = &self.sps;
        let log2 = u32::from(sps.log2_min_luma_coding_block_size_minus3)
            + 3
            + u32::from(sps.log2_diff_max_min_luma_coding_block_size);
        1 << log2.clamp(3, 6)
    }
}

/// The part of a job that judges its picture.
#[derive(Debug)]
pub(crate) struct JobRecord {
    /// The tag of its packet.
    tag: u64,
    params: V4l2CtrlHevcDecodeParams,
    marks: Marks,
    /// Slice segments are missing or out of order.
    out_of_order: bool,
    /// A reference has another order count than the control says.
    other_counts: bool,
}

impl References for JobRecord {
    fn references(&self) -> impl Iterator<Item = u64> {
        hevc::current(&self.params).flatten().map(|entry| entry.timestamp)
    }
}

/// HEVC in libavcodec.
#[derive(Debug)]
pub(crate) struct Hevc {
    context: Context,
    packets: PacketRing,
    /// The client's coded data.
    payload: Vec<u8>,
    writer: Writer,
    /// Timestamps and order counts of pictures, in the order in which they were last named.
    counts: VecDeque<(u64, i32)>,
    /// libavcodec has complained of a picture of the sequence.
    complained: bool,
}

impl Hevc {
    /// Returns whether the latest picture with the timestamp of `entry` has another order count.
    fn has_other_count(&mut self, entry: &V4l2HevcDpbEntry) -> bool {
        let at = self.counts.iter().rposition(|(name, _)| *name == entry.timestamp);
        let Some(found) = at.and_then(|at| self.counts.remove(at)) else {
            return false;
        };
        self.counts.push_back(found);
        found.1 != entry.pic_order_cnt_val
    }

    /// Returns whether a picture of the sequence has this order count.
    fn has_count(&self, count: i32) -> bool {
        self.counts.iter().any(|(_, other)| *other == count)
    }

    fn build_packet(&mut self, job: &Job<'_>, controls: &Controls) -> Result<(Packet, bool), JobError> {
        self.payload.clear();
        payload::append(&job.coded, &mut self.payload)?;
        let controls = hevc::Controls {
            sps: &controls.sps,
            pps: &controls.pps,
            scaling: controls.scaling.as_ref(),
            params: &controls.params,
        };
        let builder = self.packets.next(self.context.depth() + 1);
        let written = self
            .writer
            .write(&controls, OutputOrder::Decode, &self.payload, builder.start())
            .map_err(|error| JobError::Headers(error.into()))?;
        Ok((builder.finish(), written.in_order))
    }
}

impl Library for Hevc {
    type Controls = Controls;
    type JobRecord = JobRecord;

    fn open(threads: u32) -> Result<Self, EngineError> {
        Ok(Self {
            context: Context::open(&DECODER, Threading::Frames(threads))?,
            packets: PacketRing::default(),
            payload: Vec::new(),
            writer: Writer::default(),
            counts: VecDeque::with_capacity(DEPTH),
            complained: false,
        })
    }

    fn reopen(&mut self, threads: u32) -> Result<(), EngineError> {
        self.context = Context::open(&DECODER, Threading::Frames(threads))?;
        self.writer.reset();
        Ok(())
    }

    fn controls(job: &Job<'_>) -> Result<Controls, JobError> {
        let values = job.controls;
        let (params, _) = controls::get(values, V4L2_CID_STATELESS_HEVC_DECODE_PARAMS)?;
        let (sps, _) = controls::get(values, V4L2_CID_STATELESS_HEVC_SPS)?;
        let (pps, _) = controls::get(values, V4L2_CID_STATELESS_HEVC_PPS)?;
        let scaling = controls::get(values, V4L2_CID_STATELESS_HEVC_SCALING_MATRIX);
        Ok(Controls {
            params,
            sps,
            pps,
            scaling: scaling.ok().map(|(matrix, _)| matrix),
        })
    }

    fn may_reopen(&self, controls: &Controls, first: bool) -> bool {
        first || controls.ends_references()
    }

    /// The picture that ends all references needs to know of every complaint before it. The next one needs
    /// all of its lines, so that it gains little from an early start, and would delay it.
    fn in_flight_before(&self, controls: &Controls) -> usize {
        if controls.ends_references() || self.counts.len() == 1 {
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
        let params = controls.params;
        if controls.ends_references() {
            history.reset();
            // libavcodec refuses a picture with the order count of one that it holds: of one of the sequence
            // before, if this is a CRA picture, or of what it took for a missing reference.
            let idr = params.flags & V4L2_HEVC_DECODE_PARAM_FLAG_IDR_PIC != 0;
            if self.complained || !idr && self.has_count(params.pic_order_cnt_val) {
                self.context.renew();
                self.writer.reset();
            }
            self.complained = false;
            self.counts.clear();
        }
        let named = hevc::current(&params).flatten();
        let other_counts = named.filter(|entry| self.has_other_count(entry)).count() > 0;
        if self.counts.len() == DEPTH {
            self.counts.pop_front();
        }
        self.counts.push_back((job.timestamp, params.pic_order_cnt_val));
        let marks = Marks {
            block: controls.block(),
            key: job.id,
        };
        let (packet, in_order) = self.build_packet(job, &controls)?;
        self.context.begin_marked(&packet, job.id, offer, marks);
        Ok(JobRecord {
            tag: job.id,
            params,
            marks,
            out_of_order: !in_order,
            other_counts,
        })
    }

    fn is_final(&self, record: &JobRecord) -> bool {
        self.context.is_final(record.tag)
    }

    fn finish(&mut self, record: JobRecord, _timestamp: u64, history: &mut History) -> Outcome {
        let outcome = self.context.finish(record.tag);
        // libavcodec takes something grey for a reference that it has not got.
        let absent = hevc::current(&record.params).any(|entry| entry.is_none());
        let wrong = record
            .references()
            .filter(|timestamp| history.is_wrong_or_missing(*timestamp))
            .count()
            > 0;
        let references = (absent || wrong || record.other_counts).then_some(JobError::References);
        let out_of_order = record
            .out_of_order
            .then_some(JobError::Payload("slice segments are missing"));
        let complaints = outcome.complaints;
        // With several threads, complaints of a packet that has no frame are not counted.
        self.complained |= complaints > 0 || !matches!(outcome.frame, Ok(Some(_)));
        let frame = outcome.frame.and_then(|frame| frame.ok_or(JobError::NoPicture));
        Outcome {
            picture: frame.map(|frame| {
                let missing = record.marks.take(&frame).unwrap_or(1);
                let found = complaints.saturating_add(missing);
                let damage = (found > 0).then_some(JobError::Damaged(found));
                Picture {
                    frame,
                    lines: Lines::All,
                    damage: damage.or(out_of_order).or(references),
                }
            }),
            took_offer: outcome.took_offer,
        }
    }

    fn reset(&mut self) {
        self.context.renew();
        self.writer.reset();
        self.counts.clear();
        self.complained = false;
    }
}
