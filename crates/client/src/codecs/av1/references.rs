// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Processes that choose reference frames by order hints: short signaling (AV1 7.8), skip mode (5.9.22).

use super::sequence::Sequence;

/// `LAST_FRAME`; indices of references in a frame header count from it.
const LAST_FRAME: u8 = 1;

/// `set_frame_refs()` (7.8): `ref_frame_idx` when only two of them are coded. `hints` are the slots'.
pub(super) fn short_signaled(
    sequence: &Sequence,
    hints: [u32; 8],
    order_hint: u32,
    last: u8,
    golden: u8,
) -> [u8; 7] {
    const GOLDEN: usize = 3;
    const BWDREF: usize = 4;
    const ALTREF2: usize = 5;
    const ALTREF: usize = 6;
    let mut reference_slots: [Option<u8>; 7] = [None; 7];
    let mut used = [false; 8];
    reference_slots[0] = Some(last);
    reference_slots[GOLDEN] = Some(golden);
    used[usize::from(last & 7)] = true;
    used[usize::from(golden & 7)] = true;
    let current = 1i32 << (sequence.order_hint_bits().max(1) - 1);
    let shifted = hints.map(|hint| current + sequence.relative_distance(hint, order_hint));
    let slots = || (0u8..8).zip(shifted);
    // Of equals, the last slot counts when the largest is sought, the first when the smallest is.
    let latest_backward = |used: &[bool; 8]| {
        slots()
            .filter(|(slot, hint)| !used[usize::from(*slot)] && *hint >= current)
            .max_by_key(|(_, hint)| *hint)
    };
    let earliest_backward = |used: &[bool; 8]| {
        slots()
            .filter(|(slot, hint)| !used[usize::from(*slot)] && *hint >= current)
            .min_by_key(|(_, hint)| *hint)
    };
    let latest_forward = |used: &[bool; 8]| {
        slots()
            .filter(|(slot, hint)| !used[usize::from(*slot)] && *hint < current)
            .max_by_key(|(_, hint)| *hint)
    };
    let mut take = |reference: usize, found: Option<(u8, i32)>, used: &mut [bool; 8]| {
        if let Some((slot, _)) = found {
            reference_slots[reference] = Some(slot);
            used[usize::from(slot)] = true;
        }
    };
    take(ALTREF, latest_backward(&used), &mut used);
    take(BWDREF, earliest_backward(&used), &mut used);
    take(ALTREF2, earliest_backward(&used), &mut used);
    for reference in [1, 2, BWDREF, ALTREF2, ALTREF] {
        if reference_slots[reference].is_none() {
            if let Some((slot, _)) = latest_forward(&used) {
                reference_slots[reference] = Some(slot);
                used[usize::from(slot)] = true;
            }
        }
    }
    let earliest = slots().min_by_key(|(_, hint)| *hint).map_or(0, |(slot, _)| slot);
    reference_slots.map(|slot| slot.unwrap_or(earliest))
}

/// `SkipModeFrame`, if skip mode is allowed (5.9.22). `hints` are those of the frame's references.
pub(super) fn forward_and_backward(sequence: &Sequence, hints: [u32; 7], order_hint: u32) -> Option<[u8; 2]> {
    let distance = |a: u32, b: u32| sequence.relative_distance(a, b);
    let mut forward: Option<(u8, u32)> = None;
    let mut backward: Option<(u8, u32)> = None;
    for (index, hint) in (0..).zip(hints) {
        if distance(hint, order_hint) < 0 {
            if forward.is_none_or(|(_, best)| distance(hint, best) > 0) {
                forward = Some((index, hint));
            }
        } else if distance(hint, order_hint) > 0 && backward.is_none_or(|(_, best)| distance(hint, best) < 0)
        {
            backward = Some((index, hint));
        }
    }
    let (first, first_hint) = forward?;
    let second = match backward {
        Some((index, _)) => index,
        None => {
            let mut second: Option<(u8, u32)> = None;
            for (index, hint) in (0..).zip(hints) {
                if distance(hint, first_hint) < 0 && second.is_none_or(|(_, best)| distance(hint, best) > 0) {
                    second = Some((index, hint));
                }
            }
            second?.0
        }
    };
    Some([LAST_FRAME + first.min(second), LAST_FRAME + first.max(second)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence() -> Sequence {
        let mut sequence = Sequence::default();
        sequence.control.order_hint_bits = 7;
        sequence
    }

    #[test]
    fn skip_mode_wants_the_nearest_on_both_sides_or_two_before() {
        let pick = |hints| forward_and_backward(&sequence(), hints, 10);
        assert_eq!(pick([8, 9, 4, 4, 12, 14, 16]), Some([2, 5]));
        assert_eq!(pick([8, 9, 4, 4, 4, 4, 4]), Some([1, 2]));
        assert_eq!(pick([9; 7]), None);
        assert_eq!(pick([12; 7]), None);
    }

    #[test]
    fn short_signaling_fills_all_references() {
        // Slots: order hints 0, 8, 4, 16, 12, 6, 7, 2; the frame is 9; LAST is slot 1 (8), GOLDEN slot 0.
        let indices = short_signaled(&sequence(), [0, 8, 4, 16, 12, 6, 7, 2], 9, 1, 0);
        // ALTREF: 16 (slot 3); BWDREF: 12 (slot 4); LAST2, LAST3, ALTREF2: 7, 6, 4 (slots 6, 5, 2).
        assert_eq!(indices, [1, 6, 5, 0, 4, 2, 3]);
    }
}
