// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Picture order count (ITU-T H.264 8.2.1).

use cros_codecs::codec::h264::parser::{SliceHeader, Sps};

use super::dpb::{BOTTOM, FRAME, TOP};

/// The state that earlier pictures leave behind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OrderState {
    /// `prevPicOrderCntMsb` and `prevPicOrderCntLsb` (type 0): of the last reference picture.
    previous_msb: i32,
    previous_lsb: i32,
    /// `prevFrameNumOffset` and `prevFrameNum` (types 1 and 2): of the last picture.
    previous_frame_num_offset: i32,
    previous_frame_num: i32,
}

/// The counts of one picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// `TopFieldOrderCnt` and `BottomFieldOrderCnt`; of a field, only its own counts.
    pub(super) counts: [i32; 2],
    msb: i32,
    lsb: i32,
    frame_num_offset: i32,
    frame_num: i32,
}

impl OrderState {
    /// Returns the counts of the picture with `header`, whose fields are `fields`.
    pub(super) fn counts(
        &self,
        sps: &Sps,
        header: &SliceHeader,
        fields: u8,
        reference: bool,
        idr: bool,
    ) -> Order {
        let frame_num = i32::from(header.frame_num);
        let before = if idr { Self::default() } else { *self };
        let frame_num_offset = if !idr && before.previous_frame_num > frame_num {
            before
                .previous_frame_num_offset
                .wrapping_add(1 << (sps.log2_max_frame_num_minus4 + 4))
        } else {
            before.previous_frame_num_offset
        };
        let lsb = i32::from(header.pic_order_cnt_lsb);
        let mut msb = 0;
        let counts = match sps.pic_order_cnt_type {
            0 => {
                msb = before.msb(lsb, 1 << (sps.log2_max_pic_order_cnt_lsb_minus4 + 4));
                let first = msb.wrapping_add(lsb);
                let bottom = if fields == FRAME {
                    header.delta_pic_order_cnt_bottom
                } else {
                    0
                };
                [first, first.wrapping_add(bottom)]
            }
            1 => {
                let expected = expected_count(sps, frame_num_offset.wrapping_add(frame_num), reference);
                let [delta0, delta1] = header.delta_pic_order_cnt;
                let top = expected.wrapping_add(delta0);
                let to_bottom = sps.offset_for_top_to_bottom_field;
                let bottom = top.wrapping_add(to_bottom);
                [
                    top,
                    if fields == FRAME {
                        bottom.wrapping_add(delta1)
                    } else {
                        bottom
                    },
                ]
            }
            _ => {
                let twice = frame_num_offset.wrapping_add(frame_num).wrapping_mul(2);
                [if idr { 0 } else { twice - i32::from(!reference) }; 2]
            }
        };
        Order {
            counts,
            msb,
            lsb,
            frame_num_offset,
            frame_num,
        }
    }

    /// `PicOrderCntMsb` (8-3).
    fn msb(&self, lsb: i32, max_lsb: i32) -> i32 {
        if lsb < self.previous_lsb && self.previous_lsb - lsb >= max_lsb / 2 {
            self.previous_msb.wrapping_add(max_lsb)
        } else if lsb > self.previous_lsb && lsb - self.previous_lsb > max_lsb / 2 {
            self.previous_msb.wrapping_sub(max_lsb)
        } else {
            self.previous_msb
        }
    }

    /// Notes that a picture was decoded. After a memory management control operation 5 its counts have
    /// been made relative to its own; `fields` and the new top count tell what follows from that.
    pub(super) fn decoded(&mut self, order: &Order, reference: bool, operation_5: Option<(u8, i32)>) {
        if let Some((fields, top)) = operation_5 {
            *self = Self::default();
            if fields != BOTTOM {
                self.previous_lsb = top;
            }
            return;
        }
        self.previous_frame_num = order.frame_num;
        self.previous_frame_num_offset = order.frame_num_offset;
        if reference {
            self.previous_msb = order.msb;
            self.previous_lsb = order.lsb;
        }
    }

    /// Notes a frame that was inferred for a gap in `frame_num` (8.2.5.2).
    pub(super) fn inferred(&mut self, frame_num: i32, max_frame_num: i32) {
        if self.previous_frame_num > frame_num {
            self.previous_frame_num_offset = self.previous_frame_num_offset.wrapping_add(max_frame_num);
        }
        self.previous_frame_num = frame_num;
    }
}

/// `expectedPicOrderCnt` (8-9); `frame_num` with its offset.
fn expected_count(sps: &Sps, frame_num: i32, reference: bool) -> i32 {
    let cycle = i32::from(sps.num_ref_frames_in_pic_order_cnt_cycle);
    let mut absolute = if cycle == 0 { 0 } else { frame_num };
    if !reference && absolute > 0 {
        absolute -= 1;
    }
    let mut expected = 0;
    if absolute > 0 {
        let whole = (absolute - 1) / cycle;
        let within = (absolute - 1) % cycle;
        expected = whole.wrapping_mul(sps.expected_delta_per_pic_order_cnt_cycle);
        for offset in sps.offset_for_ref_frame.iter().take(within as usize + 1) {
            expected = expected.wrapping_add(*offset);
        }
    }
    if reference {
        expected
    } else {
        expected.wrapping_add(sps.offset_for_non_ref_pic)
    }
}

/// Returns the counts of a picture with a memory management control operation 5, once it is decoded: relative
/// to its own (8.2.1).
pub(super) fn relative_to_own(counts: [i32; 2], fields: u8) -> [i32; 2] {
    let own = match fields {
        TOP => counts[0],
        BOTTOM => counts[1],
        _ => counts[0].min(counts[1]),
    };
    counts.map(|count| count.wrapping_sub(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(frame_num: u16, lsb: u16) -> SliceHeader {
        SliceHeader {
            frame_num,
            pic_order_cnt_lsb: lsb,
            ..Default::default()
        }
    }

    #[test]
    fn type_0_wraps_both_ways() {
        let sps = Sps {
            log2_max_pic_order_cnt_lsb_minus4: 0,
            ..Default::default()
        };
        let mut state = OrderState::default();
        let mut counts = Vec::new();
        for lsb in [0, 6, 12, 2, 14] {
            let order = state.counts(&sps, &header(0, lsb), FRAME, true, false);
            state.decoded(&order, true, None);
            counts.push(order.counts[0]);
        }
        assert_eq!(counts, [0, 6, 12, 18, 14]);
    }

    #[test]
    fn type_2_counts_non_reference_pictures_between() {
        let sps = Sps {
            pic_order_cnt_type: 2,
            log2_max_frame_num_minus4: 0,
            ..Default::default()
        };
        let mut state = OrderState::default();
        let mut counts = Vec::new();
        for (frame_num, reference) in [(0, true), (1, false), (1, true), (15, true), (0, true)] {
            let idr = counts.is_empty();
            let order = state.counts(&sps, &header(frame_num, 0), FRAME, reference, idr);
            state.decoded(&order, reference, None);
            counts.push(order.counts[0]);
        }
        assert_eq!(counts, [0, 1, 2, 30, 32]);
    }

    #[test]
    fn type_1_adds_the_cycle() {
        let mut sps = Sps {
            pic_order_cnt_type: 1,
            num_ref_frames_in_pic_order_cnt_cycle: 2,
            expected_delta_per_pic_order_cnt_cycle: 6,
            offset_for_non_ref_pic: -1,
            ..Default::default()
        };
        sps.offset_for_ref_frame[..2].copy_from_slice(&[2, 4]);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|number| expected_count(&sps, number, true)),
            [0, 2, 6, 8, 12]
        );
        assert_eq!(expected_count(&sps, 3, false), 5);
    }
}
