// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HEVC: NAL units to jobs.
//!
//! Frame based decoding with Annex B start codes: the payload is all slice segments of a picture, each behind
//! a 3-byte start code, and the controls describe the picture (SPS, PPS, the scaling matrix if the sequence
//! has one, decode parameters with the decoded picture buffer). Of a stream with several layers, the base
//! layer is decoded.
//!
//! Pictures that cannot be decoded are left out: RASL pictures of an IRAP picture that begins a sequence, and
//! those before the first IRAP picture.

pub(super) mod chromium;
mod controls;
mod dpb;
pub(super) mod ffmpeg;
mod reader;
mod reference_set;
mod scaling;
mod sets;
mod slice;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_PPS,
    V4L2_CID_STATELESS_HEVC_SCALING_MATRIX, V4L2_CID_STATELESS_HEVC_SPS, V4L2_HEVC_DECODE_PARAM_FLAG_IDR_PIC,
    V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC, V4L2_HEVC_DECODE_PARAM_FLAG_NO_OUTPUT_OF_PRIOR,
    V4l2CtrlHevcDecodeParams,
};

use crate::bits::flags;
use crate::coded::{CodedJob, Control, Event, Parser};
use dpb::{Dpb, Limits};
use reader::Reader;
use sets::{Pps, Sps};
use slice::Header;

const START_CODE: [u8; 3] = [0, 0, 1];

/// Bytes of a slice segment that hold the part of its header that is read.
const HEADER: usize = 1024;

/// `nal_unit_type` (table 7-1).
mod nal {
    pub(super) const RASL_N: u8 = 8;
    pub(super) const RASL_R: u8 = 9;
    pub(super) const BLA_W_LP: u8 = 16;
    pub(super) const IDR_W_RADL: u8 = 19;
    pub(super) const IDR_N_LP: u8 = 20;
    pub(super) const CRA: u8 = 21;
    pub(super) const SPS: u8 = 33;
    pub(super) const PPS: u8 = 34;
    pub(super) const END_OF_SEQUENCE: u8 = 36;
    pub(super) const END_OF_BITSTREAM: u8 = 37;
}

/// The kind of a picture.
#[derive(Clone, Copy, Debug)]
struct Kind {
    nal_type: u8,
    temporal_id: u8,
}

impl Kind {
    fn is_idr(self) -> bool {
        matches!(self.nal_type, nal::IDR_W_RADL | nal::IDR_N_LP)
    }

    fn is_irap(self) -> bool {
        matches!(self.nal_type, nal::BLA_W_LP..=nal::CRA)
    }

    fn is_rasl(self) -> bool {
        matches!(self.nal_type, nal::RASL_N | nal::RASL_R)
    }

    /// Returns whether later pictures count from its order count (8.3.1): it is of the lowest sub-layer, no
    /// leading picture, and a reference of its sub-layer.
    fn is_counted_from(self) -> bool {
        let leading = matches!(self.nal_type, 6..=nal::RASL_R);
        let sub_layer_non_reference = self.nal_type < 16 && self.nal_type % 2 == 0;
        self.temporal_id == 0 && !leading && !sub_layer_non_reference
    }
}

/// The picture whose slice segments are being collected.
struct PartialPicture {
    job: CodedJob,
    poc: i32,
    output: bool,
    limits: Limits,
}

/// Parses a stream of NAL units.
#[derive(Default)]
pub(crate) struct HevcParser {
    /// The sequence parameter sets by id, as they came last.
    sps: BTreeMap<u8, Rc<Sps>>,
    /// The picture parameter sets.
    pps: BTreeMap<u8, Rc<Pps>>,
    dpb: Dpb,
    collected: Option<PartialPicture>,
    /// `prevTid0Pic`'s order count.
    previous: i32,
    /// A sequence has begun. It has not before the first IRAP picture, nor behind an end of sequence.
    in_sequence: bool,
    /// `NoRaslOutputFlag` of the last IRAP picture.
    no_rasl_output: bool,
    /// Show a picture when more than so many wait, instead of when the sequence says so.
    delay: Option<usize>,
    pictures: u64,
}

impl std::fmt::Debug for HevcParser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HevcParser")
            .field("pictures", &self.pictures)
            .finish_non_exhaustive()
    }
}

fn show(events: &mut VecDeque<Event>, shown: Vec<u64>) {
    events.extend(shown.into_iter().map(Event::Show));
}

impl HevcParser {
    /// Returns a parser that shows pictures when more than `delay` of them wait.
    pub(crate) fn with_delay(delay: usize) -> Self {
        Self {
            delay: Some(delay),
            ..Self::default()
        }
    }

    fn segment(&mut self, unit: &[u8], kind: Kind, events: &mut VecDeque<Event>) -> Result<(), String> {
        let mut reader = Reader::new(unit, HEADER);
        let header = Header::begin(&mut reader, kind.is_irap())?;
        if header.first {
            self.finish_picture(events);
            self.begin_picture(header, &mut reader, kind, events)?;
        }
        if let Some(collected) = &mut self.collected {
            collected.job.payload.extend(START_CODE);
            collected.job.payload.extend(unit);
        }
        Ok(())
    }

    fn begin_picture(
        &mut self,
        mut header: Header,
        reader: &mut Reader,
        kind: Kind,
        events: &mut VecDeque<Event>,
    ) -> Result<(), String> {
        let begins = kind.is_irap() && (kind.nal_type < nal::CRA || !self.in_sequence);
        if kind.is_irap() {
            self.no_rasl_output = begins;
        }
        if !kind.is_irap() && (!self.in_sequence || kind.is_rasl() && self.no_rasl_output) {
            return Ok(());
        }
        let pps = self.pps.get(&header.pps_id).ok_or("a slice names no PPS")?;
        let sps = self.sps.get(&pps.sps_id).ok_or("a PPS names no SPS")?;
        let (pps, sps) = (Rc::clone(pps), Rc::clone(sps));
        header.complete(reader, &sps, &pps, kind.is_idr())?;
        self.in_sequence = true;

        let poc = self.order_count(header.lsb, sps.lsb_bits(), begins);
        if kind.is_counted_from() {
            self.previous = poc;
        }
        let mut params = V4l2CtrlHevcDecodeParams {
            pic_order_cnt_val: poc,
            short_term_ref_pic_set_size: header.short_term_bits as u16,
            long_term_ref_pic_set_size: header.long_term_bits as u16,
            num_delta_pocs_of_ref_rps_idx: header.short_term.predicted_from as u8,
            flags: flags([
                (kind.is_irap(), V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC),
                (kind.is_idr(), V4L2_HEVC_DECODE_PARAM_FLAG_IDR_PIC),
                (
                    header.no_output_of_prior_pics,
                    V4L2_HEVC_DECODE_PARAM_FLAG_NO_OUTPUT_OF_PRIOR,
                ),
            ]),
            ..Default::default()
        };
        let limits = Limits::of(&sps.control, self.delay);
        if begins {
            self.dpb.mark_unused();
        }
        self.dpb.refer(&header, poc, sps.lsb_bits(), &mut params);
        if !begins {
            show(events, self.dpb.make_room(limits));
        } else if self.pictures > 0 && (header.no_output_of_prior_pics || kind.nal_type == nal::CRA) {
            // C.5.2.2.
            self.dpb.drop_waiting();
        } else {
            show(events, self.dpb.show_all());
        }

        self.pictures += 1;
        let mut controls = vec![
            Control::new(V4L2_CID_STATELESS_HEVC_SPS, &sps.control),
            Control::new(V4L2_CID_STATELESS_HEVC_PPS, &pps.control),
        ];
        if let Some(of_sps) = &sps.scaling {
            let lists = pps.scaling.as_ref().unwrap_or(of_sps);
            controls.push(Control::new(
                V4L2_CID_STATELESS_HEVC_SCALING_MATRIX,
                &lists.control(),
            ));
        }
        controls.push(Control::new(V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, &params));
        let job = CodedJob {
            timestamp: self.pictures * 1000,
            payload: Vec::new(),
            controls,
            coded_width: sps.control.pic_width_in_luma_samples.into(),
            coded_height: sps.control.pic_height_in_luma_samples.into(),
            bit_depth: 8 + sps.control.bit_depth_luma_minus8,
            visible: sps.visible,
            key: kind.is_irap(),
            hold_capture: false,
            same_capture: false,
            references: Vec::new(),
            shows: Vec::new(),
            unit: None,
        };
        self.collected = Some(PartialPicture {
            job,
            poc,
            output: header.output,
            limits,
        });
        Ok(())
    }

    /// `PicOrderCntVal` (8.3.1) of a picture that begins a sequence or does not.
    fn order_count(&self, lsb: u32, lsb_bits: u32, begins: bool) -> i32 {
        let lsb = lsb as i32;
        if begins {
            return lsb;
        }
        let cycle = 1i32 << lsb_bits;
        let previous_lsb = self.previous & (cycle - 1);
        let previous_msb = self.previous.wrapping_sub(previous_lsb);
        let msb = if lsb < previous_lsb && previous_lsb - lsb >= cycle / 2 {
            previous_msb.wrapping_add(cycle)
        } else if lsb > previous_lsb && lsb - previous_lsb > cycle / 2 {
            previous_msb.wrapping_sub(cycle)
        } else {
            previous_msb
        };
        msb.wrapping_add(lsb)
    }

    /// Ends the picture that is being collected, and hands out its job.
    fn finish_picture(&mut self, events: &mut VecDeque<Event>) {
        let Some(PartialPicture {
            mut job,
            poc,
            output,
            limits,
        }) = self.collected.take()
        else {
            return;
        };
        let shown = self.dpb.add(job.timestamp, poc, output, limits);
        job.references = self.dpb.references();
        events.push_back(Event::Job(Box::new(job)));
        show(events, shown);
    }
}

impl Parser for HevcParser {
    fn parse(&mut self, unit: &[u8], events: &mut VecDeque<Event>) -> Result<(), String> {
        let [first, second, ..] = *unit else { return Ok(()) };
        let layer = ((first & 1) << 5) | (second >> 3);
        if layer > 0 {
            return Ok(());
        }
        let kind = Kind {
            nal_type: (first >> 1) & 0x3f,
            temporal_id: (second & 7).saturating_sub(1),
        };
        match kind.nal_type {
            0..=nal::RASL_R | nal::BLA_W_LP..=nal::CRA => self.segment(unit, kind, events),
            nal::SPS => {
                self.finish_picture(events);
                let sps = Sps::parse(unit)?;
                self.sps.insert(sps.control.seq_parameter_set_id, Rc::new(sps));
                Ok(())
            }
            nal::PPS => {
                self.finish_picture(events);
                let pps = Pps::parse(unit)?;
                self.pps.insert(pps.control.pic_parameter_set_id, Rc::new(pps));
                Ok(())
            }
            nal::END_OF_SEQUENCE | nal::END_OF_BITSTREAM => {
                self.finish_picture(events);
                self.in_sequence = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, events: &mut VecDeque<Event>) {
        self.finish_picture(events);
        show(events, self.dpb.show_all());
    }
}
