// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264 by libavcodec.
//!
//! The OUTPUT buffer holds the slices of one frame or field, each after a start code. SPS and PPS are
//! written from the controls, in front of the slices, when they changed. Cropping is not written: the
//! whole coded picture goes into CAPTURE, and the client crops.
//!
//! The reference pictures are those that libavcodec keeps, by the marking commands in the slices; the
//! DPB in the controls is the client's copy of the same state.
//!
//! Damage spreads by way of references. A picture is reported as wrong if a reference in its DPB is, up
//! to the next intra picture; pictures which follow that one in output order too are taken to refer
//! to it and to later ones only, as at a recovery point.
//!
//! A reference in the DPB that was never decoded was lost on the way, unless the sequence allows gaps in
//! `frame_num`: clients list the frames that make up for those, too. An IDR picture ends all earlier references, and
//! so does another size or depth: libavcodec gives them up then.
//!
//! Progressive pictures are decoded by frame threads, several at a time; whatever a picture's outcome is judged by
//! (references, recovery, the last good picture) is looked at when it is final, in decode order. Nothing is in
//! flight when an IDR picture or another geometry begins. Fields are decoded in lock-step: libavcodec tells of
//! no second field when it is done.
//!
//! After damage libavcodec keeps more than wrong references: coefficients of the macroblock in which
//! it gave up stay in its buffers, survive a flush and spoil the next picture, even an IDR one. So it
//! is opened anew for the first IDR picture after damage.

use std::sync::Arc;

use daedalus_codecs::h264::{ParameterSets, VuiPolicy, scaling_matrix_in_force};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS,
    V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_H264_SPS, V4L2_H264_BOTTOM_FIELD_REF,
    V4L2_H264_DECODE_PARAM_FLAG_BOTTOM_FIELD, V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC,
    V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC, V4L2_H264_DPB_ENTRY_FLAG_ACTIVE, V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY,
    V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED, V4L2_H264_TOP_FIELD_REF, V4l2CtrlH264DecodeParams,
    V4l2CtrlH264Pps, V4l2CtrlH264ScalingMatrix, V4l2CtrlH264Sps, V4l2H264DpbEntry,
};

use crate::begun::{Begun, Queue, Refers};
use crate::error::{EngineError, JobError};
use crate::frames::Frame;
use crate::history::History;
use crate::libav::{Codec, Context, Threading};
use crate::payload::{self, PacketBuilder};
use crate::picture::{self, Shown};
use crate::raw::{Lines, Target};
use crate::slices::Slices;
use crate::{Decoder, Done, Job, Options, controls};

/// A first field whose second has not come yet.
#[derive(Debug)]
struct FirstField {
    frame: Arc<Frame>,
    bottom: bool,
}

/// What a job's slices are, by its controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Structure {
    Frame,
    Field { bottom: bool },
}

/// The intra picture from which on pictures are right again.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// Position in decode order.
    index: u64,
    /// Picture order count.
    order: i32,
    /// It, or an intra picture before it, is an IDR picture: whatever pictures refer to has been decoded
    /// by this decoder.
    idr: bool,
}

/// What pictures and their references have in common.
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

impl Structure {
    fn of(params: &V4l2CtrlH264DecodeParams) -> Self {
        if params.flags & V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC == 0 {
            Self::Frame
        } else {
            Self::Field {
                bottom: params.flags & V4L2_H264_DECODE_PARAM_FLAG_BOTTOM_FIELD != 0,
            }
        }
    }

    /// Returns whether it may be the second field of a frame whose first one is a `bottom` field, or a top one.
    fn completes(self, bottom: bool) -> bool {
        self == Self::Field { bottom: !bottom }
    }

    /// `PicOrderCnt()` of the picture (ITU-T H.264 8.2.1).
    fn order(self, params: &V4l2CtrlH264DecodeParams) -> i32 {
        match self {
            Self::Frame => params.top_field_order_cnt.min(params.bottom_field_order_cnt),
            Self::Field { bottom: false } => params.top_field_order_cnt,
            Self::Field { bottom: true } => params.bottom_field_order_cnt,
        }
    }
}

/// What is to be known of a picture when it is final.
#[derive(Debug)]
struct Coded {
    /// The tag of its packet.
    tag: u64,
    params: V4l2CtrlH264DecodeParams,
    structure: Structure,
    /// Gaps in `frame_num` are no errors.
    gaps: bool,
    /// See [`Slices::inter`].
    inter: bool,
}

impl Refers for Coded {
    fn references(&self) -> impl Iterator<Item = u64> {
        active(&self.params).map(|entry| entry.reference_ts)
    }
}

/// An H.264 session.
#[derive(Debug)]
pub(crate) struct H264Decoder {
    context: Context,
    threading: Threading,
    options: Options,
    /// Packets in turn, as many as may be in flight: the memory of each is used again.
    packets: Vec<PacketBuilder>,
    parameter_sets: ParameterSets,
    begun: Queue<Coded>,
    first_field: Option<FirstField>,
    history: History,
    recovery: Option<Recovery>,
    /// There was damage since the decoder was opened.
    spoiled: bool,
    /// Of the last picture.
    geometry: Option<Geometry>,
    shown: Shown,
}

/// A decoded picture, the lines of it that are decoded, and what libavcodec complained about.
type Picture = (Arc<Frame>, Lines, Option<JobError>);

impl H264Decoder {
    pub(crate) fn open(options: &Options) -> Result<Self, EngineError> {
        let threading = Threading::Slices(1);
        Ok(Self {
            context: Context::open(Codec::H264, threading)?,
            threading,
            options: options.clone(),
            packets: Vec::new(),
            parameter_sets: ParameterSets::default(),
            begun: Queue::default(),
            first_field: None,
            history: History::default(),
            recovery: None,
            spoiled: false,
            geometry: None,
            shown: Shown::default(),
        })
    }

    /// Gives the job's slices to libavcodec.
    fn begin(&mut self, job: &Job<'_>, done: &mut Vec<Done>) -> Result<Coded, JobError> {
        let (params, _) =
            controls::get::<V4l2CtrlH264DecodeParams>(job.controls, V4L2_CID_STATELESS_H264_DECODE_PARAMS)?;
        let (sps, _) = controls::get::<V4l2CtrlH264Sps>(job.controls, V4L2_CID_STATELESS_H264_SPS)?;
        let geometry = Geometry::of(&sps);
        let changed = self.geometry != Some(geometry);
        let idr = params.flags & V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC != 0;
        if changed || idr {
            self.complete_all(done);
        }
        let structure = Structure::of(&params);
        let second = self
            .first_field
            .as_ref()
            .is_some_and(|first| structure.completes(first.bottom));
        // Both fields of an IDR picture may say that they are one.
        let idr = idr && !(second && job.same_capture);
        let threading = self.threading(&geometry, job);
        let first = self.geometry.is_none();
        if self.spoiled && idr || threading != self.threading && (changed || idr) {
            self.reopen(threading)?;
        }
        self.geometry = Some(geometry);
        if changed && !first || idr {
            self.history.reset();
        }
        if changed {
            self.recovery = None;
        }
        let slices = self
            .build_packet(job, &sps)
            .inspect_err(|_| self.first_field = None)?;
        // CAPTURE may be unusable: the picture is decoded nevertheless, since later ones refer to it.
        let direct = self.options.direct && !self.begun.reads(&job.raw);
        let offer = picture::offer(&Target::of(&job.raw), direct);
        let packet = self.packets[0].finish();
        self.context.begin(&packet, job.id, offer);
        Ok(Coded {
            tag: job.id,
            params,
            structure,
            gaps: sps.flags & V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED != 0,
            inter: slices.inter,
        })
    }

    /// Waits for the oldest job, and reports it.
    fn complete(&mut self, done: &mut Vec<Done>) {
        let Some(Begun {
            job,
            timestamp,
            raw,
            coded,
            ..
        }) = self.begun.pop()
        else {
            return;
        };
        let (took_offer, picture) = match coded {
            Ok(coded) => {
                let (took_offer, picture) = self.finish_packet(&coded);
                (
                    took_offer,
                    picture.map(|picture| self.judge(timestamp, &coded, picture)),
                )
            }
            Err(error) => (false, Err(error)),
        };
        if picture.is_err() {
            self.history.add(timestamp, false);
        }
        let result = Target::of(&raw).and_then(|target| match picture {
            Ok((frame, lines, damage)) => self.shown.picture(&target, frame, lines, damage),
            Err(error) => {
                self.shown.substitute(&target, took_offer);
                Err(error)
            }
        });
        done.push(Done::from_result(job, result));
        self.begun.give_back(raw);
    }

    fn complete_all(&mut self, done: &mut Vec<Done>) {
        while self.begun.len() > 0 {
            self.complete(done);
        }
    }

    /// The oldest job is reported at once when asked for.
    fn is_complete(&self) -> bool {
        self.begun
            .oldest_is_complete(|coded| self.context.is_final(coded.tag))
    }

    /// Finds out whether a picture is exact, and remembers it.
    fn judge(&mut self, timestamp: u64, coded: &Coded, picture: Picture) -> Picture {
        let (frame, lines, damage) = picture;
        let order = coded.structure.order(&coded.params);
        let second_field = coded.structure != Structure::Frame && lines == Lines::All;
        let wrong_references = coded.inter && self.has_wrong_references(&coded.params, order, coded.gaps)
            || second_field && self.history.is_wrong(timestamp);
        let damage = damage.or(wrong_references.then_some(JobError::References));
        let index = self.history.add(timestamp, damage.is_none());
        if damage.is_none() && !coded.inter {
            let idr = coded.params.flags & V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC != 0
                || self.recovery.is_some_and(|before| before.idr);
            self.recovery = Some(Recovery { index, order, idr });
        }
        (frame, lines, damage)
    }

    /// Waits for the picture of a job's packet; the other value is whether it may be in CAPTURE.
    fn finish_packet(&mut self, coded: &Coded) -> (bool, Result<Picture, JobError>) {
        let decoded = self.context.finish(coded.tag);
        let first_field = self.first_field.take();
        self.spoiled |= decoded.complaints > 0 || decoded.result.is_err();
        if let Err(error) = decoded.result {
            return (decoded.took_offer, Err(error));
        }
        let damage = (decoded.complaints > 0).then_some(JobError::Damaged(decoded.complaints));
        let picture = match (decoded.frame, coded.structure, first_field) {
            (Some(frame), Structure::Frame, _) => Ok((frame, Lines::All, damage)),
            (Some(frame), Structure::Field { bottom }, _) => {
                self.first_field = Some(FirstField {
                    frame: frame.clone(),
                    bottom,
                });
                // Were the second field never to come, the picture would be this one, as libavcodec
                // shows it too.
                let lines = if bottom {
                    Lines::BottomField
                } else {
                    Lines::TopField
                };
                Ok((frame, lines, damage))
            }
            // A second field begins no frame of its own.
            (None, Structure::Field { bottom }, Some(first)) if bottom != first.bottom => {
                Ok((first.frame, Lines::All, damage))
            }
            (None, ..) => Err(damage.unwrap_or(JobError::NoPicture)),
        };
        self.spoiled |= picture.is_err();
        (decoded.took_offer, picture)
    }

    /// How pictures of a geometry are decoded.
    fn threading(&self, geometry: &Geometry, job: &Job<'_>) -> Threading {
        let threads = self.options.threads.for_size(job.raw.width, job.raw.height);
        if geometry.frame_mbs_only && threads > 1 {
            Threading::Frames(threads)
        } else {
            // With slice threads H.264 conceals nothing, and of damage nothing is heard.
            Threading::Slices(1)
        }
    }

    /// A reference that the picture may use is not exact, or was not decoded by this decoder. With `gaps` in
    /// `frame_num`, references that were never decoded need not be errors.
    fn has_wrong_references(&mut self, params: &V4l2CtrlH264DecodeParams, order: i32, gaps: bool) -> bool {
        let after = |recovery: &Recovery| order >= recovery.order;
        let recovery = self.recovery;
        active(params).any(|entry| match (self.history.find(entry.reference_ts), &recovery) {
            (Some(picture), _) if picture.exact => false,
            (Some(picture), Some(recovery)) => picture.index >= recovery.index || !after(recovery),
            (None, Some(recovery)) => {
                let lost = !gaps && order_of(entry) >= recovery.order;
                lost || !recovery.idr && !after(recovery)
            }
            (_, None) => true,
        })
    }

    /// Puts parameter sets and slices into the packet.
    fn build_packet(&mut self, job: &Job<'_>, sps: &V4l2CtrlH264Sps) -> Result<Slices, JobError> {
        let (pps, _) = controls::get::<V4l2CtrlH264Pps>(job.controls, V4L2_CID_STATELESS_H264_PPS)?;
        let matrix =
            controls::get::<V4l2CtrlH264ScalingMatrix>(job.controls, V4L2_CID_STATELESS_H264_SCALING_MATRIX);
        let scaling = match &matrix {
            Ok((matrix, in_request)) => scaling_matrix_in_force(&pps, matrix, *in_request),
            Err(_) => None,
        };
        // The one that was used longest ago.
        self.packets
            .resize_with(self.context.depth() + 1, PacketBuilder::default);
        self.packets.rotate_right(1);
        let bytes = self.packets[0].start();
        self.parameter_sets
            .write(sps, &pps, scaling, VuiPolicy::decode_order(sps), bytes)
            .map_err(|error| JobError::H264Headers(error.to_string()))?;
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
        copied
    }

    /// Replaces the decoder by a new one, which knows nothing.
    fn reopen(&mut self, threading: Threading) -> Result<(), JobError> {
        self.context =
            Context::open(Codec::H264, threading).map_err(|error| JobError::Reopen(error.to_string()))?;
        self.threading = threading;
        self.parameter_sets.reset();
        self.spoiled = false;
        Ok(())
    }
}

/// The references of a picture.
fn active(params: &V4l2CtrlH264DecodeParams) -> impl Iterator<Item = &V4l2H264DpbEntry> {
    let dpb = params.dpb.iter();
    dpb.filter(|entry| entry.flags & V4L2_H264_DPB_ENTRY_FLAG_ACTIVE != 0)
}

/// `PicOrderCnt()` of a reference.
fn order_of(entry: &V4l2H264DpbEntry) -> i32 {
    match entry.fields {
        V4L2_H264_TOP_FIELD_REF => entry.top_field_order_cnt,
        V4L2_H264_BOTTOM_FIELD_REF => entry.bottom_field_order_cnt,
        _ => entry.top_field_order_cnt.min(entry.bottom_field_order_cnt),
    }
}

impl Decoder for H264Decoder {
    fn submit(&mut self, job: &Job<'_>, done: &mut Vec<Done>) {
        while self.begun.len() >= self.context.depth() {
            self.complete(done);
        }
        let coded = self.begin(job, done);
        self.begun.push(job, coded);
        while self.is_complete() {
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
        self.complete_all(done);
    }

    fn reset(&mut self) {
        self.begun.clear();
        self.context.renew(Codec::H264, self.threading);
        self.parameter_sets.reset();
        self.first_field = None;
        self.history.reset();
        self.recovery = None;
        self.geometry = None;
        self.shown.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_field_has_the_other_parity() {
        let (top, bottom) = (
            Structure::Field { bottom: false },
            Structure::Field { bottom: true },
        );
        assert!(bottom.completes(false) && top.completes(true));
        // A lone field before a frame, or before a frame whose first field has the same parity.
        assert!(!Structure::Frame.completes(false) && !Structure::Frame.completes(true));
        assert!(!top.completes(false) && !bottom.completes(true));
    }
}
