// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264: NAL units to jobs.
//!
//! Frame based decoding with Annex B start codes: the payload is all slices of a picture, each behind a
//! 3-byte start code, and the controls describe the picture (SPS, PPS, the scaling matrix if there is
//! one, decode parameters with the decoded picture buffer). A field is a job of its own; the second field
//! of a frame has the timestamp of the first and goes into the same CAPTURE buffer.
//!
//! Headers are parsed by cros-codecs, whose limits hold here: no slice groups, no data partitions, no
//! scalable or multiview extension (their NAL units are dropped, which leaves the base layer).

pub(super) mod chromium;
mod controls;
mod dpb;
pub(super) mod ffmpeg;
mod order;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use cros_codecs::codec::h264::parser::{
    Nalu, NaluHeader, NaluType, Parser as HeaderParser, Pps, SliceHeader, Sps,
};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS,
    V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_H264_SPS,
};

use crate::coded::{CodedJob, Control, Event, Parser, Visible};
use dpb::{BOTTOM, Current, Dpb, FRAME, Frame, TOP};
use order::{Order, OrderState};

const START_CODE: [u8; 3] = [0, 0, 1];

/// The picture whose slices are being collected.
struct PartialPicture {
    job: CodedJob,
    header: SliceHeader,
    nal_ref_idc: u8,
    idr: bool,
    fields: u8,
    order: Order,
    pps: Rc<Pps>,
    /// Its frame, with the marks of the first field if this is the second.
    frame: Frame,
    second: bool,
}

/// Parses a stream of NAL units.
#[derive(Default)]
pub(crate) struct H264Parser {
    headers: HeaderParser,
    /// The picture parameter sets as they came, by id: they are interpreted again when the sequence
    /// parameter set that they name changes (7.4.1.2.1: the set in effect is that at activation).
    pps_units: BTreeMap<u32, Vec<u8>>,
    dpb: Dpb,
    order: OrderState,
    /// `PrevRefFrameNum` (7.4.3); `None` before the first picture.
    previous_ref_frame_num: Option<i32>,
    collected: Option<PartialPicture>,
    /// A first field whose second has not come: its frame, with its marks.
    unpaired: Option<(Frame, bool)>,
    /// Count and timestamp of the pictures since the last IDR picture or operation 5 that were not shown
    /// yet: output is in order of the count within this period (C.4.5.3).
    period: Vec<(i32, u64)>,
    /// Show a picture when more than so many wait, instead of when the decoded picture buffer is full.
    delay: Option<usize>,
    frames: u64,
}

impl std::fmt::Debug for H264Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H264Parser")
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

/// Returns a NAL unit as cros-codecs takes it.
fn nalu(unit: &[u8], type_: NaluType) -> Nalu<'_> {
    let ref_idc = (unit[0] >> 5) & 3;
    let idr_pic_flag = type_ == NaluType::SliceIdr;
    Nalu {
        header: NaluHeader {
            ref_idc,
            type_,
            idr_pic_flag,
        },
        data: Cow::Borrowed(unit),
        size: unit.len(),
        offset: 0,
    }
}

/// Returns the first `ue(v)` of a NAL unit's payload: a parameter set's own id, for those sets that begin
/// with it.
fn leading_ue(unit: &[u8]) -> Option<u32> {
    let bytes = unit.get(1..)?;
    let bit = |index: usize| bytes.get(index / 8).map(|byte| (byte >> (7 - index % 8)) & 1);
    let zeros = (0..16).take_while(|index| bit(*index) == Some(0)).count();
    let value =
        (zeros..=2 * zeros).try_fold(0u32, |value, index| Some((value << 1) | u32::from(bit(index)?)));
    value?.checked_sub(1)
}

impl H264Parser {
    /// Returns a parser at the start of a stream.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Returns a parser that shows pictures when more than `delay` of them wait.
    pub(crate) fn with_delay(delay: usize) -> Self {
        Self {
            delay: Some(delay),
            ..Self::default()
        }
    }

    fn parameter_set(&mut self, unit: &[u8], type_: NaluType) -> Result<(), String> {
        if type_ == NaluType::Sps {
            self.headers.parse_sps(&nalu(unit, type_))?;
            for unit in self.pps_units.values() {
                // One that is broken, or names a set that is not there, is missed when a slice names it.
                let _ = self.headers.parse_pps(&nalu(unit, NaluType::Pps));
            }
        } else if let Some(id) = leading_ue(unit) {
            self.pps_units.insert(id, unit.to_vec());
            let _ = self.headers.parse_pps(&nalu(unit, type_));
        }
        Ok(())
    }

    fn slice(&mut self, unit: &[u8], type_: NaluType, events: &mut VecDeque<Event>) -> Result<(), String> {
        let slice = self.headers.parse_slice_header(nalu(unit, type_))?;
        let header = slice.header;
        if header.redundant_pic_cnt > 0 {
            return Ok(());
        }
        let nal_ref_idc = (unit[0] >> 5) & 3;
        let idr = type_ == NaluType::SliceIdr;
        let same = self
            .collected
            .as_ref()
            .is_some_and(|collected| same_picture(collected, &header, nal_ref_idc, idr));
        if !same {
            self.finish_picture(events);
            self.begin_picture(header, nal_ref_idc, idr, events)?;
        }
        if let Some(collected) = &mut self.collected {
            collected.job.payload.extend(START_CODE);
            collected.job.payload.extend(unit);
        }
        Ok(())
    }

    fn begin_picture(
        &mut self,
        header: SliceHeader,
        nal_ref_idc: u8,
        idr: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), String> {
        let pps = Rc::clone(
            self.headers
                .get_pps(header.pic_parameter_set_id)
                .ok_or("a slice names no picture parameter set")?,
        );
        let sps = &pps.sps;
        let fields = match (header.field_pic_flag, header.bottom_field_flag) {
            (false, _) => FRAME,
            (true, false) => TOP,
            (true, true) => BOTTOM,
        };
        let frame_num = i32::from(header.frame_num);
        let reference = nal_ref_idc != 0;
        let first_field = self.unpaired.take().filter(|(first, first_reference)| {
            fields == FRAME ^ first.decoded
                && first.frame_num == frame_num
                && !idr
                && (*first_reference || !reference)
        });
        if first_field.is_none() {
            if idr {
                self.dpb.clear();
            } else {
                self.fill_gap(&pps, frame_num);
            }
        }
        let order = self.order.counts(sps, &header, fields, reference, idr);
        let operation_5 = has_operation_5(&header);
        if first_field.is_none() && (idr || operation_5) {
            self.show_period(events);
        }
        let (frame, second) = match first_field {
            Some((mut frame, _)) => {
                let index = usize::from(fields == BOTTOM);
                frame.order[index] = order.counts[index];
                (frame, true)
            }
            None => {
                self.frames += 1;
                let timestamp = self.frames * 1000;
                let mut counts = order.counts;
                if fields != FRAME {
                    counts[usize::from(fields == TOP)] = 0;
                }
                let by_field = fields != FRAME;
                let timestamp = Some(timestamp);
                (
                    Frame {
                        timestamp,
                        by_field,
                        frame_num,
                        order: counts,
                        ..Frame::default()
                    },
                    false,
                )
            }
        };
        let control = controls::decode_params(
            &controls::Picture {
                header: &header,
                nal_ref_idc,
                idr,
                fields,
                counts: frame.order,
                max_frame_num: 1 << (sps.log2_max_frame_num_minus4 + 4),
            },
            // While a second field is decoded, the first is in the buffer if it is a reference.
            self.dpb.frames().iter(),
        );
        let mut controls = vec![
            Control::new(V4L2_CID_STATELESS_H264_SPS, &controls::sps_control(sps)),
            Control::new(V4L2_CID_STATELESS_H264_PPS, &controls::pps_control(&pps)),
        ];
        if controls::has_scaling_matrix(&pps) {
            let matrix = controls::scaling_matrix(&pps);
            controls.push(Control::new(V4L2_CID_STATELESS_H264_SCALING_MATRIX, &matrix));
        }
        controls.push(Control::new(V4L2_CID_STATELESS_H264_DECODE_PARAMS, &control));
        let crop = sps.visible_rectangle();
        let job = CodedJob {
            timestamp: frame.timestamp.unwrap_or_default(),
            payload: Vec::new(),
            controls,
            coded_width: sps.width(),
            coded_height: sps.height(),
            bit_depth: 8 + sps.bit_depth_luma_minus8,
            visible: Visible {
                left: crop.min.x,
                top: crop.min.y,
                width: crop.max.x.saturating_sub(crop.min.x),
                height: crop.max.y.saturating_sub(crop.min.y),
            },
            key: idr,
            hold_capture: fields != FRAME && !second,
            same_capture: second,
            references: Vec::new(),
            shows: Vec::new(),
            unit: None,
        };
        self.collected = Some(PartialPicture {
            job,
            header,
            nal_ref_idc,
            idr,
            fields,
            order,
            pps,
            frame,
            second,
        });
        Ok(())
    }

    /// Infers the frames that a gap in `frame_num` stands for (8.2.5.2). A gap that the sequence does not
    /// allow is a loss, and is treated in the same way, as decoders do.
    fn fill_gap(&mut self, pps: &Pps, frame_num: i32) {
        let max_frame_num = 1 << (pps.sps.log2_max_frame_num_minus4 + 4);
        let Some(previous) = self.previous_ref_frame_num else {
            return;
        };
        if frame_num == previous {
            return;
        }
        let mut inferred = (previous + 1) % max_frame_num;
        while inferred != frame_num {
            self.dpb.slide(Current {
                fields: FRAME,
                frame_num: inferred,
                max_frame_num,
                max_num_ref_frames: usize::from(pps.sps.max_num_ref_frames),
            });
            self.dpb.add(Frame {
                decoded: FRAME,
                frame_num: inferred,
                short: FRAME,
                ..Frame::default()
            });
            self.order.inferred(inferred, max_frame_num);
            self.previous_ref_frame_num = Some(inferred);
            inferred = (inferred + 1) % max_frame_num;
        }
    }

    /// Ends the picture that is being collected: marks references and hands out its job.
    fn finish_picture(&mut self, events: &mut VecDeque<Event>) {
        let Some(collected) = self.collected.take() else {
            return;
        };
        let PartialPicture {
            mut job,
            header,
            nal_ref_idc,
            idr,
            fields,
            order,
            pps,
            mut frame,
            second,
        } = collected;
        let timestamp = job.timestamp;
        let reference = nal_ref_idc != 0;
        frame.decoded |= fields;
        let marking = &header.dec_ref_pic_marking;
        let mut operation_5 = false;
        // The first field's frame is in the buffer while it is a reference; from here on there is one copy.
        if second {
            if let Some(stored) = self.dpb.take(timestamp) {
                frame.short = stored.short;
                frame.long = stored.long;
                frame.long_term_frame_idx = stored.long_term_frame_idx;
            }
        }
        if reference {
            let current = Current {
                fields,
                frame_num: i32::from(header.frame_num),
                max_frame_num: 1 << (pps.sps.log2_max_frame_num_minus4 + 4),
                max_num_ref_frames: usize::from(pps.sps.max_num_ref_frames),
            };
            if idr {
                if marking.long_term_reference_flag {
                    frame.long |= fields;
                    frame.long_term_frame_idx = 0;
                } else {
                    frame.short |= fields;
                }
            } else if marking.adaptive_ref_pic_marking_mode_flag {
                operation_5 = self.dpb.adapt(marking, current, &mut frame);
            } else {
                // 8.2.5.3: for the second field of a reference frame nothing slides.
                if !(second && frame.short != 0) {
                    self.dpb.slide(current);
                }
                frame.short |= fields;
            }
        }
        if operation_5 {
            frame.frame_num = 0;
            frame.order = order::relative_to_own(frame.order, frame.decoded);
        }
        self.order
            .decoded(&order, reference, operation_5.then_some((fields, frame.order[0])));
        if reference || self.previous_ref_frame_num.is_none() {
            self.previous_ref_frame_num = Some(if operation_5 {
                0
            } else {
                i32::from(header.frame_num)
            });
        }
        let count = frame.pic_order_cnt();
        match self.period.iter_mut().find(|(_, shown)| *shown == timestamp) {
            Some(entry) => entry.0 = count,
            None => self.period.push((count, timestamp)),
        }
        if frame.short | frame.long != 0 {
            self.dpb.add(frame.clone());
        }
        if fields != FRAME && !second {
            self.unpaired = Some((frame, reference));
        }
        job.references = self
            .dpb
            .frames()
            .iter()
            .filter_map(|frame| frame.timestamp)
            .collect();
        events.push_back(Event::Job(Box::new(job)));
        if fields == FRAME || second {
            self.bump(&pps.sps, events);
        }
    }

    /// Shows pictures for as long as the buffer cannot hold them all, or more wait than the stream's
    /// order needs (C.4.5.3), or than the delay that was asked for.
    fn bump(&mut self, sps: &Sps, events: &mut VecDeque<Event>) {
        let (size, reordered) = match self.delay {
            Some(delay) => (usize::MAX, delay),
            None => (
                sps.max_dpb_frames()
                    .max(usize::from(sps.max_num_ref_frames))
                    .max(1),
                sps.max_num_order_frames() as usize,
            ),
        };
        loop {
            let frames = self.dpb.frames();
            let waits = |frame: &&Frame| {
                let shown = |(_, timestamp): &(i32, u64)| frame.timestamp == Some(*timestamp);
                self.period.iter().any(shown)
            };
            let held = frames.len() - frames.iter().filter(waits).count() + self.period.len();
            let first = (0..self.period.len()).min_by_key(|index| self.period[*index].0);
            match first {
                Some(index) if held > size || self.period.len() > reordered => {
                    events.push_back(Event::Show(self.period.remove(index).1));
                }
                _ => return,
            }
        }
    }

    fn show_period(&mut self, events: &mut VecDeque<Event>) {
        self.period.sort_by_key(|(count, _)| *count);
        events.extend(self.period.drain(..).map(|(_, timestamp)| Event::Show(timestamp)));
    }
}

fn has_operation_5(header: &SliceHeader) -> bool {
    let operations = &header.dec_ref_pic_marking.inner;
    operations
        .iter()
        .any(|operation| operation.memory_management_control_operation == 5)
}

/// Returns whether a slice belongs to the picture that is being collected (7.4.1.2.4).
fn same_picture(collected: &PartialPicture, header: &SliceHeader, nal_ref_idc: u8, idr: bool) -> bool {
    let first = &collected.header;
    first.frame_num == header.frame_num
        && first.pic_parameter_set_id == header.pic_parameter_set_id
        && first.field_pic_flag == header.field_pic_flag
        && first.bottom_field_flag == header.bottom_field_flag
        && (collected.nal_ref_idc == 0) == (nal_ref_idc == 0)
        && collected.idr == idr
        && first.idr_pic_id == header.idr_pic_id
        && first.pic_order_cnt_lsb == header.pic_order_cnt_lsb
        && first.delta_pic_order_cnt_bottom == header.delta_pic_order_cnt_bottom
        && first.delta_pic_order_cnt == header.delta_pic_order_cnt
}

impl Parser for H264Parser {
    fn parse(&mut self, unit: &[u8], events: &mut VecDeque<Event>) -> Result<(), String> {
        let Some(header) = unit.first() else { return Ok(()) };
        // Types that may not be known to cros-codecs are of no interest either.
        let Ok(type_) = NaluType::try_from(header & 0x1f) else {
            return Ok(());
        };
        match type_ {
            NaluType::Slice | NaluType::SliceIdr => self.slice(unit, type_, events),
            NaluType::SliceDpa | NaluType::SliceDpb | NaluType::SliceDpc => {
                Err("data partitions are not supported".into())
            }
            // 7.4.1.2.3: these follow the last slice of a picture.
            NaluType::Sps | NaluType::Pps => {
                self.finish_picture(events);
                self.parameter_set(unit, type_)
            }
            NaluType::AuDelimiter | NaluType::Sei | NaluType::SeqEnd | NaluType::StreamEnd => {
                self.finish_picture(events);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, events: &mut VecDeque<Event>) {
        self.finish_picture(events);
        self.show_period(events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_numbers_are_read() {
        assert_eq!(leading_ue(&[0x68, 0b1000_0000]), Some(0));
        assert_eq!(leading_ue(&[0x68, 0b0010_1000]), Some(4));
        assert_eq!(leading_ue(&[0x68]), None);
    }
}
