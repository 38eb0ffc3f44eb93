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
//! After damage libavcodec keeps more than wrong references: coefficients of the macroblock in which
//! it gave up stay in its buffers, survive a flush and spoil the next picture, even an IDR one. So it
//! is opened anew for the first IDR picture after damage.

use std::sync::Arc;

use daedalus_bitstream::h264::{ParameterSets, VuiPolicy, scaling_matrix_in_force};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS,
    V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_H264_SPS, V4L2_H264_BOTTOM_FIELD_REF,
    V4L2_H264_DECODE_PARAM_FLAG_BOTTOM_FIELD, V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC,
    V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC, V4L2_H264_DPB_ENTRY_FLAG_ACTIVE, V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY,
    V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED, V4L2_H264_TOP_FIELD_REF, V4l2CtrlH264DecodeParams,
    V4l2CtrlH264Pps, V4l2CtrlH264ScalingMatrix, V4l2CtrlH264Sps, V4l2H264DpbEntry,
};

use crate::error::{EngineError, JobError};
use crate::frames::{Frame, Offer};
use crate::history::History;
use crate::libav::{Codec, Context};
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

    /// `PicOrderCnt()` of the picture (ITU-T H.264 8.2.1).
    fn order(self, params: &V4l2CtrlH264DecodeParams) -> i32 {
        match self {
            Self::Frame => params.top_field_order_cnt.min(params.bottom_field_order_cnt),
            Self::Field { bottom: false } => params.top_field_order_cnt,
            Self::Field { bottom: true } => params.bottom_field_order_cnt,
        }
    }
}

/// An H.264 session.
#[derive(Debug)]
pub(crate) struct H264Decoder {
    context: Context,
    /// [`Options::direct`].
    direct: bool,
    /// The last packet has begun to write into its job's CAPTURE buffer.
    took_offer: bool,
    packets: PacketBuilder,
    parameter_sets: ParameterSets,
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
        Ok(Self {
            context: Context::open(Codec::H264, 1)?,
            direct: options.direct,
            took_offer: false,
            packets: PacketBuilder::default(),
            parameter_sets: ParameterSets::default(),
            first_field: None,
            history: History::default(),
            recovery: None,
            spoiled: false,
            geometry: None,
            shown: Shown::default(),
        })
    }

    fn run(&mut self, job: &Job<'_>) -> Result<(), JobError> {
        // Decoded even if CAPTURE is unusable: later pictures refer to this one.
        let target = Target::of(&job.raw);
        self.took_offer = false;
        let picture = self.decode(job, picture::offer(&target, self.direct));
        if picture.is_err() {
            self.history.add(job.timestamp, false);
        }
        let target = target?;
        match picture {
            Ok((frame, lines, damage)) => self.shown.picture(&target, frame, lines, damage),
            Err(error) => {
                self.shown.substitute(&target, self.took_offer);
                Err(error)
            }
        }
    }

    fn decode(&mut self, job: &Job<'_>, offer: Option<Offer>) -> Result<Picture, JobError> {
        let (params, _) =
            controls::get::<V4l2CtrlH264DecodeParams>(job.controls, V4L2_CID_STATELESS_H264_DECODE_PARAMS)?;
        let structure = Structure::of(&params);
        let idr = params.flags & V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC != 0;
        if self.spoiled && idr && self.first_field.is_none() {
            self.reopen()?;
        }
        let (sps, _) = controls::get::<V4l2CtrlH264Sps>(job.controls, V4L2_CID_STATELESS_H264_SPS)?;
        let geometry = Geometry::of(&sps);
        let changed = self
            .geometry
            .replace(geometry)
            .is_some_and(|before| before != geometry);
        let first_field = self.first_field.take();
        if changed || idr && first_field.is_none() {
            self.history.reset();
        }
        if changed {
            self.recovery = None;
        }
        let slices = self.build_packet(job, &sps)?;
        let (frame, lines, damage) = self.decode_packet(job, structure, first_field, offer)?;
        let order = structure.order(&params);
        let second_field = structure != Structure::Frame && lines == Lines::All;
        let gaps = sps.flags & V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED != 0;
        let wrong_references = slices.inter && self.has_wrong_references(&params, order, gaps)
            || second_field && self.history.is_wrong(job.timestamp);
        let damage = damage.or(wrong_references.then_some(JobError::References));
        let index = self.history.add(job.timestamp, damage.is_none());
        if damage.is_none() && !slices.inter {
            let idr = idr || self.recovery.is_some_and(|before| before.idr);
            self.recovery = Some(Recovery { index, order, idr });
        }
        Ok((frame, lines, damage))
    }

    /// Decodes the packet that was built last.
    fn decode_packet(
        &mut self,
        job: &Job<'_>,
        structure: Structure,
        first_field: Option<FirstField>,
        offer: Option<Offer>,
    ) -> Result<Picture, JobError> {
        let decoded = self.context.decode(&self.packets.finish(), job.id, offer);
        self.took_offer = decoded.took_offer;
        self.spoiled |= decoded.complaints > 0 || decoded.result.is_err();
        decoded.result?;
        let damage = (decoded.complaints > 0).then_some(JobError::Damaged(decoded.complaints));
        match (decoded.frame, structure, first_field) {
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
        }
    }

    /// A reference that the picture may use is not exact, or was not decoded by this decoder. With `gaps` in
    /// `frame_num`, references that were never decoded need not be errors.
    fn has_wrong_references(&mut self, params: &V4l2CtrlH264DecodeParams, order: i32, gaps: bool) -> bool {
        let after = |recovery: &Recovery| order >= recovery.order;
        let recovery = self.recovery;
        params
            .dpb
            .iter()
            .filter(|entry| entry.flags & V4L2_H264_DPB_ENTRY_FLAG_ACTIVE != 0)
            .any(|entry| match (self.history.find(entry.reference_ts), &recovery) {
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
        let bytes = self.packets.start();
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
    fn reopen(&mut self) -> Result<(), JobError> {
        self.context = Context::open(Codec::H264, 1).map_err(|error| JobError::Reopen(error.to_string()))?;
        self.parameter_sets.reset();
        self.spoiled = false;
        Ok(())
    }
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
        let result = self.run(job);
        done.push(Done::from_result(job.id, result));
    }

    fn drain(&mut self, _done: &mut Vec<Done>) {}

    fn reset(&mut self) {
        self.context.renew(Codec::H264, 1);
        self.parameter_sets.reset();
        self.first_field = None;
        self.history.reset();
        self.recovery = None;
        self.geometry = None;
        self.shown.reset();
    }
}
