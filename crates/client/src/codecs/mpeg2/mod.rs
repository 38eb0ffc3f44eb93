// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MPEG-2: units behind start codes to jobs.
//!
//! The payload is all slices of a picture, each behind its start code, and nothing else. A field is a job of
//! its own: the second field of a frame has the timestamp of the first and goes into the same CAPTURE buffer.
//! As GStreamer does, a reference that does not exist has the timestamp `GST_CLOCK_TIME_NONE`.
//!
//! B pictures that follow the first I picture of a stream are left out unless their group is closed, as
//! decoders do: their forward reference never came.
//!
//! References and display order follow from the types alone (ITU-T H.262, 6.1.1.11): the last two I or P
//! pictures are references, and such a picture is shown when the next one has been decoded.

pub(super) mod chromium;
pub(super) mod ffmpeg;
mod headers;

use std::collections::VecDeque;

use daedalus_codecs::mpeg2::NO_PICTURE;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_CID_STATELESS_MPEG2_QUANTISATION,
    V4L2_CID_STATELESS_MPEG2_SEQUENCE, V4L2_MPEG2_PIC_CODING_TYPE_B, V4L2_MPEG2_PIC_CODING_TYPE_I,
    V4L2_MPEG2_PIC_CODING_TYPE_P, V4L2_MPEG2_PIC_FRAME, V4l2CtrlMpeg2Picture, V4l2CtrlMpeg2Quantisation,
};

use crate::coded::{CodedJob, Control, Event, Parser, Visible};
use headers::{Bits, Sequence, SequenceHeader};

/// Start codes (table 6-1).
const PICTURE: u8 = 0x00;
const SLICES: std::ops::RangeInclusive<u8> = 0x01..=0xaf;
const SEQUENCE_HEADER: u8 = 0xb3;
const EXTENSION: u8 = 0xb5;
const SEQUENCE_END: u8 = 0xb7;
const GROUP: u8 = 0xb8;

/// `chroma_format` 4:2:0.
const CHROMA_420: u8 = 1;

/// The picture whose slices are being collected.
#[derive(Debug)]
struct PartialPicture {
    job: CodedJob,
    coding_type: u8,
    structure: u8,
    second: bool,
}

/// A first field whose second has not come.
#[derive(Clone, Copy, Debug)]
struct FirstField {
    timestamp: u64,
    coding_type: u8,
    structure: u8,
}

/// Parses a stream of MPEG-2's units.
#[derive(Debug, Default)]
pub(crate) struct Mpeg2Parser {
    sequence_header: Option<SequenceHeader>,
    sequence: Option<Sequence>,
    /// The matrices in force.
    quantisation: V4l2CtrlMpeg2Quantisation,
    closed_gop: bool,
    /// The headers of the picture whose first slice comes next.
    next: Option<V4l2CtrlMpeg2Picture>,
    collected: Option<PartialPicture>,
    unpaired: Option<FirstField>,
    /// The last two reference frames, the last one second.
    anchors: [Option<u64>; 2],
    /// The last reference frame, until it is shown.
    waiting: Option<u64>,
    /// Show each picture at once.
    prompt: bool,
    frames: u64,
}

impl Mpeg2Parser {
    /// Returns a parser at the start of a stream.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Returns a parser that shows pictures when more than `delay` of them wait; one waits at most.
    pub(crate) fn with_delay(delay: usize) -> Self {
        Self {
            prompt: delay == 0,
            ..Self::default()
        }
    }

    fn extension(&mut self, payload: &[u8], events: &mut VecDeque<Event>) -> Result<(), String> {
        let mut bits = Bits::new(payload);
        // Table 6-2.
        match (bits.take(4), &self.sequence_header, &self.sequence) {
            (1, Some(header), _) => {
                let (sequence, quantisation) = header.extended(&mut bits);
                self.begin_sequence(sequence, quantisation, events)?;
            }
            (3, ..) => headers::read_matrices(&mut bits, &mut self.quantisation),
            (8, _, Some(sequence)) => {
                if let Some(picture) = &mut self.next {
                    headers::read_picture_coding(&mut bits, sequence, picture);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn begin_sequence(
        &mut self,
        sequence: Sequence,
        quantisation: V4l2CtrlMpeg2Quantisation,
        events: &mut VecDeque<Event>,
    ) -> Result<(), String> {
        if sequence.control.chroma_format != CHROMA_420 {
            return Err("the chroma format is not 4:2:0".into());
        }
        let size = |sequence: &Sequence| (sequence.control.horizontal_size, sequence.control.vertical_size);
        if [size(&sequence).0, size(&sequence).1].contains(&0) {
            return Err("a sequence's size is zero".into());
        }
        if self
            .sequence
            .as_ref()
            .is_some_and(|before| size(before) != size(&sequence))
        {
            self.show_waiting(events);
            self.anchors = [None; 2];
        }
        self.sequence = Some(sequence);
        self.quantisation = quantisation;
        Ok(())
    }

    fn slice(&mut self, unit: &[u8], events: &mut VecDeque<Event>) {
        if let Some(picture) = self.next.take() {
            self.begin_picture(&picture, events);
        }
        if let Some(collected) = &mut self.collected {
            collected.job.payload.extend([0, 0, 1]);
            collected.job.payload.extend(unit);
            // The splitter cuts zeros off: the last bits of a slice may be among them.
            collected.job.payload.push(0);
        }
    }

    fn begin_picture(&mut self, picture: &V4l2CtrlMpeg2Picture, events: &mut VecDeque<Event>) {
        let Some(sequence) = self.sequence else { return };
        let (coding_type, structure) = (picture.picture_coding_type, picture.picture_structure);
        let is_b = coding_type == V4L2_MPEG2_PIC_CODING_TYPE_B;
        let first_field = self.unpaired.take();
        let first = first_field.filter(|first| {
            let types = first.coding_type == V4L2_MPEG2_PIC_CODING_TYPE_B;
            first.structure ^ structure == V4L2_MPEG2_PIC_FRAME && types == is_b
        });
        if let (Some(lone), None) = (first_field, first) {
            self.end_frame(lone.timestamp, lone.coding_type, events);
        }
        if is_b && self.anchors[0].is_none() && !self.closed_gop {
            return;
        }
        let timestamp = match first {
            Some(first) => first.timestamp,
            None => {
                self.frames += 1;
                self.frames * 1000
            }
        };
        let [before, last] = self.anchors;
        // A second field is predicted from the frame before its own, too, which is the last one by now.
        let forward = if is_b || first.is_some() { before } else { last };
        let [forward, backward] = [forward, last].map(|name| name.unwrap_or(NO_PICTURE));
        let control = V4l2CtrlMpeg2Picture {
            forward_ref_ts: match coding_type {
                V4L2_MPEG2_PIC_CODING_TYPE_P | V4L2_MPEG2_PIC_CODING_TYPE_B => forward,
                _ => 0,
            },
            backward_ref_ts: if is_b { backward } else { 0 },
            ..*picture
        };
        let (width, height) = (
            sequence.control.horizontal_size.into(),
            sequence.control.vertical_size.into(),
        );
        let job = CodedJob {
            timestamp,
            payload: Vec::new(),
            controls: vec![
                Control::new(V4L2_CID_STATELESS_MPEG2_SEQUENCE, &sequence.control),
                Control::new(V4L2_CID_STATELESS_MPEG2_PICTURE, &control),
                Control::new(V4L2_CID_STATELESS_MPEG2_QUANTISATION, &self.quantisation),
            ],
            coded_width: width,
            coded_height: height,
            bit_depth: 8,
            visible: Visible {
                left: 0,
                top: 0,
                width,
                height,
            },
            key: coding_type == V4L2_MPEG2_PIC_CODING_TYPE_I && first.is_none(),
            hold_capture: structure != V4L2_MPEG2_PIC_FRAME && first.is_none(),
            same_capture: first.is_some(),
            references: Vec::new(),
            shows: Vec::new(),
            unit: None,
        };
        self.collected = Some(PartialPicture {
            job,
            coding_type,
            structure,
            second: first.is_some(),
        });
    }

    /// Ends the picture that is being collected, and hands out its job.
    fn finish_picture(&mut self, events: &mut VecDeque<Event>) {
        let Some(collected) = self.collected.take() else {
            return;
        };
        let PartialPicture {
            mut job,
            coding_type,
            structure,
            second,
        } = collected;
        let timestamp = job.timestamp;
        if !second && coding_type != V4L2_MPEG2_PIC_CODING_TYPE_B {
            self.anchors = [self.anchors[1], Some(timestamp)];
        }
        job.references = self.anchors.into_iter().flatten().collect();
        events.push_back(Event::Job(Box::new(job)));
        if structure == V4L2_MPEG2_PIC_FRAME || second {
            self.end_frame(timestamp, coding_type, events);
        } else {
            self.unpaired = Some(FirstField {
                timestamp,
                coding_type,
                structure,
            });
        }
    }

    /// Shows what is due once a frame is decoded.
    fn end_frame(&mut self, timestamp: u64, coding_type: u8, events: &mut VecDeque<Event>) {
        let low_delay = self.prompt || self.sequence.is_some_and(|sequence| sequence.low_delay);
        if coding_type == V4L2_MPEG2_PIC_CODING_TYPE_B || low_delay {
            events.push_back(Event::Show(timestamp));
        } else {
            self.show_waiting(events);
            self.waiting = Some(timestamp);
        }
    }

    fn show_waiting(&mut self, events: &mut VecDeque<Event>) {
        events.extend(self.waiting.take().map(Event::Show));
    }

    /// Ends a sequence: no later picture completes its last frame, or is shown before it.
    fn end_sequence(&mut self, events: &mut VecDeque<Event>) {
        if let Some(lone) = self.unpaired.take() {
            self.end_frame(lone.timestamp, lone.coding_type, events);
        }
        self.show_waiting(events);
    }
}

impl Parser for Mpeg2Parser {
    fn parse(&mut self, unit: &[u8], events: &mut VecDeque<Event>) -> Result<(), String> {
        let Some((&code, payload)) = unit.split_first() else {
            return Ok(());
        };
        if SLICES.contains(&code) {
            self.slice(unit, events);
            return Ok(());
        }
        match code {
            PICTURE => {
                self.finish_picture(events);
                let mut bits = Bits::new(payload);
                let temporal_reference = 10;
                bits.skip(temporal_reference);
                let picture_coding_type = bits.take(3) as u8;
                let types = V4L2_MPEG2_PIC_CODING_TYPE_I..=V4L2_MPEG2_PIC_CODING_TYPE_B;
                self.next = types
                    .contains(&picture_coding_type)
                    .then(|| V4l2CtrlMpeg2Picture {
                        picture_coding_type,
                        picture_structure: V4L2_MPEG2_PIC_FRAME,
                        ..Default::default()
                    });
            }
            SEQUENCE_HEADER => {
                self.finish_picture(events);
                self.sequence_header = Some(SequenceHeader::read(payload));
            }
            EXTENSION => {
                self.extension(payload, events)?;
            }
            GROUP => {
                self.finish_picture(events);
                let mut bits = Bits::new(payload);
                let time_code = 25;
                bits.skip(time_code);
                self.closed_gop = bits.flag();
            }
            SEQUENCE_END => {
                self.finish_picture(events);
                self.end_sequence(events);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut VecDeque<Event>) {
        self.finish_picture(events);
        self.end_sequence(events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const I: u8 = V4L2_MPEG2_PIC_CODING_TYPE_I;
    const P: u8 = V4L2_MPEG2_PIC_CODING_TYPE_P;
    const B: u8 = V4L2_MPEG2_PIC_CODING_TYPE_B;
    const TOP: u8 = 1;
    const BOTTOM: u8 = 2;
    const FRAME: u8 = 3;

    /// Returns the jobs' timestamps with their forward and backward references, and the display order.
    fn parse(closed: bool, pictures: &[(u8, u8)]) -> (Vec<(u64, u64, u64)>, Vec<u64>) {
        let mut parser = Mpeg2Parser::new();
        let mut events = VecDeque::new();
        let mut unit = |bytes: &[u8]| parser.parse(bytes, &mut events).expect("a unit");
        unit(&[SEQUENCE_HEADER, 0x02, 0x00, 0x20, 0x13, 0xff, 0xff, 0xe0]);
        unit(&[EXTENSION, 0x14, 0x82, 0, 1]);
        unit(&[GROUP, 0, 8, 0, if closed { 0x40 } else { 0 }]);
        for (coding_type, structure) in pictures {
            unit(&[PICTURE, 0, coding_type << 3]);
            unit(&[EXTENSION, 0x81, 0x11, 0x10 | structure]);
            unit(&[1, 0x80]);
            unit(&[2, 0x80]);
        }
        parser.finish(&mut events);
        let (mut jobs, mut shown) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Show(timestamp) => shown.push(timestamp),
                Event::Job(job) => {
                    let picture = job.control(V4L2_CID_STATELESS_MPEG2_PICTURE);
                    let picture: V4l2CtrlMpeg2Picture = picture.and_then(Control::get).expect("a picture");
                    assert_eq!(job.payload, [0, 0, 1, 1, 0x80, 0, 0, 0, 1, 2, 0x80, 0]);
                    jobs.push((job.timestamp, picture.forward_ref_ts, picture.backward_ref_ts));
                }
            }
        }
        (jobs, shown)
    }

    #[test]
    fn frames_are_shown_in_their_order() {
        let frames = [I, P, B, B, P, B].map(|coding_type| (coding_type, FRAME));
        let (jobs, shown) = parse(false, &frames);
        let expected = [
            (1000, 0, 0),
            (2000, 1000, 0),
            (3000, 1000, 2000),
            (4000, 1000, 2000),
            (5000, 2000, 0),
            (6000, 2000, 5000),
        ];
        assert_eq!(jobs, expected);
        assert_eq!(shown, [1000, 3000, 4000, 2000, 6000, 5000]);
    }

    #[test]
    fn a_first_b_picture_needs_a_closed_group() {
        let frames = [(I, FRAME), (B, FRAME)];
        assert_eq!(parse(false, &frames).0.len(), 1);
        let (jobs, shown) = parse(true, &frames);
        assert_eq!(jobs[1], (2000, NO_PICTURE, 1000));
        assert_eq!(shown, [2000, 1000]);
    }

    #[test]
    fn fields_pair_up() {
        let fields = [
            (I, TOP),
            (P, BOTTOM),
            (P, TOP),
            (P, BOTTOM),
            (B, BOTTOM),
            (B, TOP),
        ];
        let (jobs, shown) = parse(false, &fields);
        let expected = [
            (1000, 0, 0),
            (1000, NO_PICTURE, 0),
            (2000, 1000, 0),
            (2000, 1000, 0),
            (3000, 1000, 2000),
            (3000, 1000, 2000),
        ];
        assert_eq!(jobs, expected);
        assert_eq!(shown, [1000, 3000, 2000]);
        // A lone field, before one of the same parity and before a B field.
        let (jobs, shown) = parse(false, &[(I, TOP), (P, TOP), (B, BOTTOM), (B, TOP)]);
        let names: Vec<u64> = jobs.iter().map(|job| job.0).collect();
        assert_eq!(names, [1000, 2000, 3000, 3000]);
        assert_eq!(shown, [1000, 3000, 2000]);
    }
}
