// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The H.264 decoded picture buffer: reference marking (ITU-T H.264 8.2.5).
//!
//! The unit is the frame; its two fields are marked on their own. Only frames of which a field is used for
//! reference are kept.

use cros_codecs::codec::h264::parser::{MaxLongTermFrameIdx, RefPicMarking};

/// The top field, in masks of fields.
pub(super) const TOP: u8 = 1;
/// The bottom field.
pub(super) const BOTTOM: u8 = 2;
/// Both fields: the frame.
pub(super) const FRAME: u8 = TOP | BOTTOM;

/// A decoded frame, complementary field pair or single field.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// The picture's timestamp; `None` for a "non-existing" frame (8.2.5.2).
    pub(super) timestamp: Option<u64>,
    /// Fields that were decoded.
    pub(super) decoded: u8,
    /// Whether it was coded as fields.
    pub(super) by_field: bool,
    /// `frame_num`.
    pub(super) frame_num: i32,
    /// Fields used for short-term reference.
    pub(super) short: u8,
    /// Fields used for long-term reference; never one that is in `short`.
    pub(super) long: u8,
    /// `LongTermFrameIdx`, if `long` is not 0.
    pub(super) long_term_frame_idx: u32,
    /// `TopFieldOrderCnt` and `BottomFieldOrderCnt`.
    pub(super) order: [i32; 2],
}

impl Frame {
    /// `PicOrderCnt` of the fields that there are (8-1).
    pub(super) fn pic_order_cnt(&self) -> i32 {
        match self.decoded {
            TOP => self.order[0],
            BOTTOM => self.order[1],
            _ => self.order[0].min(self.order[1]),
        }
    }

    /// `FrameNumWrap` while a picture with `frame_num` is decoded (8-27).
    pub(super) fn frame_num_wrap(&self, frame_num: i32, max_frame_num: i32) -> i32 {
        if self.frame_num > frame_num {
            self.frame_num - max_frame_num
        } else {
            self.frame_num
        }
    }
}

/// The picture that is being marked: what the operations refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    /// Its fields.
    pub(super) fields: u8,
    /// `frame_num`.
    pub(super) frame_num: i32,
    /// `MaxFrameNum`.
    pub(super) max_frame_num: i32,
    /// `max_num_ref_frames`.
    pub(super) max_num_ref_frames: usize,
}

impl Current {
    /// Returns the field that an odd or an even picture number names while a field is marked. A field of the
    /// same parity has the odd number (8.2.4.1).
    fn field_of(self, odd: bool) -> u8 {
        if odd { self.fields } else { FRAME ^ self.fields }
    }
}

/// The frames used for reference.
#[derive(Clone, Debug, Default)]
pub(super) struct Dpb {
    frames: Vec<Frame>,
    /// `MaxLongTermFrameIdx` plus 1; 0 is "no long-term frame indices".
    max_long_term_frame_idx_plus1: u32,
}

impl Dpb {
    /// Returns the frames of which a field is used for reference, in decode order.
    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Marks the frames as an IDR picture demands (8.2.5.1): none is a reference any more.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.max_long_term_frame_idx_plus1 = 0;
    }

    /// Takes up `frame`, which is new.
    pub(super) fn add(&mut self, frame: Frame) {
        self.frames.push(frame);
        self.forget_unused();
    }

    /// Returns the frame with `timestamp`, taken out.
    pub(super) fn take(&mut self, timestamp: u64) -> Option<Frame> {
        let index = self
            .frames
            .iter()
            .position(|frame| frame.timestamp == Some(timestamp))?;
        Some(self.frames.remove(index))
    }

    /// Sliding window marking (8.2.5.3), before a frame or first field is added.
    pub(super) fn slide(&mut self, current: Current) {
        let limit = current.max_num_ref_frames.max(1);
        while self.frames.len() >= limit {
            let oldest = self
                .frames
                .iter()
                .enumerate()
                .filter(|(_, frame)| frame.short != 0)
                .min_by_key(|(_, frame)| frame.frame_num_wrap(current.frame_num, current.max_frame_num))
                .map(|(index, _)| index);
            match oldest {
                // A frame with one field of each kind stays, with its long-term field.
                Some(index) => self.frames[index].short = 0,
                // All are long-term: a broken stream; nothing slides.
                None => return,
            }
            self.forget_unused();
        }
    }

    /// Adaptive marking (8.2.5.4) for a picture whose frame is `frame` (not in the buffer; with its first
    /// field's marks, if that is decoded). Marks the picture itself too. Returns whether an operation 5 was
    /// among them.
    pub(super) fn adapt(&mut self, marking: &RefPicMarking, current: Current, frame: &mut Frame) -> bool {
        let mut emptied = false;
        for operation in &marking.inner {
            match operation.memory_management_control_operation {
                1 => {
                    let difference = operation.difference_of_pic_nums_minus1;
                    if let Some((target, fields)) = self.short_term(difference, current, frame) {
                        target.short &= !fields;
                    }
                }
                2 => {
                    let number = operation.long_term_pic_num;
                    if let Some((target, fields)) = self.long_term(number, current, frame) {
                        target.long &= !fields;
                    }
                }
                3 => {
                    let index = operation.long_term_frame_idx;
                    let difference = operation.difference_of_pic_nums_minus1;
                    let owner = self
                        .short_term(difference, current, frame)
                        .map(|(target, _)| (target.timestamp, target.frame_num));
                    if let Some(owner) = owner {
                        self.free_long_term(index, owner, frame);
                        if let Some((target, fields)) = self.short_term(difference, current, frame) {
                            target.short &= !fields;
                            target.long |= fields;
                            target.long_term_frame_idx = index;
                        }
                    }
                }
                4 => {
                    let limit = match operation.max_long_term_frame_idx {
                        MaxLongTermFrameIdx::NoLongTermFrameIndices => 0,
                        MaxLongTermFrameIdx::Idx(index) => index.saturating_add(1),
                    };
                    self.max_long_term_frame_idx_plus1 = limit;
                    for frame in self.frames.iter_mut().chain([&mut *frame]) {
                        if frame.long_term_frame_idx >= limit {
                            frame.long = 0;
                        }
                    }
                }
                5 => {
                    self.clear();
                    frame.short = 0;
                    frame.long = 0;
                    emptied = true;
                }
                6 => {
                    let index = operation.long_term_frame_idx;
                    self.free_long_term(index, (frame.timestamp, frame.frame_num), frame);
                    frame.long |= current.fields;
                    frame.long_term_frame_idx = index;
                }
                _ => {}
            }
        }
        frame.short |= current.fields & !frame.long;
        self.forget_unused();
        emptied
    }

    /// Returns the frame and fields that `difference_of_pic_nums_minus1` names (8.2.5.4.1).
    fn short_term<'a>(
        &'a mut self,
        difference_minus1: u32,
        current: Current,
        own: &'a mut Frame,
    ) -> Option<(&'a mut Frame, u8)> {
        let difference = i32::try_from(difference_minus1).ok()?.checked_add(1)?;
        let frame_num = current.frame_num;
        let numbers = |frame: &Frame| frame.frame_num_wrap(frame_num, current.max_frame_num);
        if current.fields == FRAME {
            let number = frame_num.checked_sub(difference)?;
            self.frames
                .iter_mut()
                .find(|frame| frame.short == FRAME && numbers(frame) == number)
                .map(|frame| (frame, FRAME))
        } else {
            let number = (2 * frame_num + 1).checked_sub(difference)?;
            let fields = current.field_of(number & 1 != 0);
            self.frames
                .iter_mut()
                .chain([own])
                .find(|frame| frame.short & fields != 0 && numbers(frame) == number >> 1)
                .map(|frame| (frame, fields))
        }
    }

    /// Returns the frame and fields that `long_term_pic_num` names (8.2.5.4.2).
    fn long_term<'a>(
        &'a mut self,
        number: u32,
        current: Current,
        own: &'a mut Frame,
    ) -> Option<(&'a mut Frame, u8)> {
        if current.fields == FRAME {
            self.frames
                .iter_mut()
                .find(|frame| frame.long == FRAME && frame.long_term_frame_idx == number)
                .map(|frame| (frame, FRAME))
        } else {
            let fields = current.field_of(number & 1 != 0);
            self.frames
                .iter_mut()
                .chain([own])
                .find(|frame| frame.long & fields != 0 && frame.long_term_frame_idx == number >> 1)
                .map(|frame| (frame, fields))
        }
    }

    /// Takes the long-term index from whatever frame has it but the `owner` (8.2.5.4.3, 8.2.5.4.6).
    fn free_long_term(&mut self, index: u32, owner: (Option<u64>, i32), own: &mut Frame) {
        for frame in self.frames.iter_mut().chain([own]) {
            if frame.long_term_frame_idx == index && (frame.timestamp, frame.frame_num) != owner {
                frame.long = 0;
            }
        }
    }

    fn forget_unused(&mut self) {
        self.frames.retain(|frame| frame.short | frame.long != 0);
    }
}

#[cfg(test)]
mod tests {
    use cros_codecs::codec::h264::parser::RefPicMarkingInner;

    use super::*;

    fn frame(number: i32) -> Frame {
        Frame {
            timestamp: Some(number as u64),
            decoded: FRAME,
            frame_num: number,
            short: FRAME,
            ..Frame::default()
        }
    }

    fn current(frame_num: i32, fields: u8) -> Current {
        Current {
            fields,
            frame_num,
            max_frame_num: 16,
            max_num_ref_frames: 3,
        }
    }

    fn operations(operations: &[(u8, u32, u32)]) -> RefPicMarking {
        let inner = operations
            .iter()
            .map(|&(operation, number, index)| RefPicMarkingInner {
                memory_management_control_operation: operation,
                difference_of_pic_nums_minus1: number,
                long_term_pic_num: number,
                long_term_frame_idx: index,
                ..Default::default()
            });
        RefPicMarking {
            adaptive_ref_pic_marking_mode_flag: true,
            inner: inner.collect(),
            ..Default::default()
        }
    }

    fn numbers(dpb: &Dpb) -> Vec<i32> {
        dpb.frames().iter().map(|frame| frame.frame_num).collect()
    }

    #[test]
    fn the_window_slides_over_the_wrap() {
        let mut dpb = Dpb::default();
        for number in [14, 15, 0] {
            dpb.slide(current(number, FRAME));
            dpb.add(frame(number));
        }
        dpb.slide(current(1, FRAME));
        dpb.add(frame(1));
        assert_eq!(numbers(&dpb), [15, 0, 1]);
    }

    #[test]
    fn operations_name_pictures_by_difference() {
        let mut dpb = Dpb::default();
        for number in [3, 4, 5] {
            dpb.add(frame(number));
        }
        let mut own = frame(6);
        own.short = 0;
        // Unmark 5, make 4 long-term 1, then unmark that again through its long-term number.
        let marking = operations(&[(1, 0, 0), (3, 1, 1)]);
        assert!(!dpb.adapt(&marking, current(6, FRAME), &mut own));
        assert_eq!(numbers(&dpb), [3, 4]);
        assert_eq!((dpb.frames()[1].short, dpb.frames()[1].long), (0, FRAME));
        assert_eq!(own.short, FRAME);
        assert!(!dpb.adapt(&operations(&[(2, 1, 0)]), current(6, FRAME), &mut own));
        assert_eq!(numbers(&dpb), [3]);
    }

    #[test]
    fn a_second_field_can_unmark_the_first() {
        let mut dpb = Dpb::default();
        dpb.add(frame(3));
        let mut own = frame(6);
        own.short = TOP;
        // CurrPicNum is 13; the first field (opposite parity) has number 12.
        assert!(!dpb.adapt(&operations(&[(1, 0, 0)]), current(6, BOTTOM), &mut own));
        assert_eq!(own.short, BOTTOM);
        // One field of a frame: number 7 is the bottom field of frame 3.
        assert!(!dpb.adapt(&operations(&[(1, 5, 0)]), current(6, BOTTOM), &mut own));
        assert_eq!(dpb.frames()[0].short, TOP);
    }

    #[test]
    fn operation_5_empties_and_6_keeps_the_current() {
        let mut dpb = Dpb::default();
        dpb.add(frame(3));
        let mut own = frame(6);
        own.short = 0;
        assert!(dpb.adapt(&operations(&[(5, 0, 0), (6, 0, 2)]), current(6, FRAME), &mut own));
        assert!(dpb.frames().is_empty());
        assert_eq!((own.short, own.long, own.long_term_frame_idx), (0, FRAME, 2));
    }
}
