// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Short-term reference picture sets (ITU-T H.265 7.3.7), which SPS and slice segment headers have.

use super::reader::{Reader, Wrong};

/// A picture of a short-term set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delta {
    /// `DeltaPocS0` or `DeltaPocS1`.
    pub(super) poc: i32,
    /// `UsedByCurrPicS0` or `UsedByCurrPicS1`.
    pub(super) used: bool,
}

/// A short-term reference picture set (7.4.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShortTermSet {
    /// The pictures before the current one in output order, the nearest first.
    pub(super) before: Vec<Delta>,
    /// Those after it.
    pub(super) after: Vec<Delta>,
}

/// A set, as it was coded.
#[derive(Clone, Debug, Default)]
pub(super) struct CodedSet {
    /// The set.
    pub(super) set: ShortTermSet,
    /// `NumDeltaPocs[RefRpsIdx]`; 0 if it is not predicted.
    pub(super) predicted_from: usize,
}

impl ShortTermSet {
    /// `st_ref_pic_set()`: the set that follows `sets`, in the SPS or in a slice header.
    pub(super) fn parse(r: &mut Reader, sets: &[Self], in_slice: bool) -> Result<CodedSet, Wrong> {
        let predicted = !sets.is_empty() && r.flag()?;
        if predicted {
            return Self::parse_predicted(r, sets, in_slice);
        }
        let counts = [r.small_ue(16)?, r.small_ue(16)?];
        let mut sides = [Vec::new(), Vec::new()];
        for ((side, count), sign) in sides.iter_mut().zip(counts).zip([-1, 1]) {
            let mut poc = 0;
            for _ in 0..count {
                let delta_poc_minus1 = r.ue()?.min(1 << 16) as i32;
                poc += sign * (delta_poc_minus1 + 1);
                let used = r.flag()?;
                side.push(Delta { poc, used });
            }
        }
        let [before, after] = sides;
        Ok(CodedSet {
            set: Self { before, after },
            predicted_from: 0,
        })
    }

    /// The set is predicted from an earlier one, whose pictures are seen from another place (7-61, 7-62).
    fn parse_predicted(r: &mut Reader, sets: &[Self], in_slice: bool) -> Result<CodedSet, Wrong> {
        let delta_idx = if in_slice { r.ue()? as usize + 1 } else { 1 };
        let from = sets
            .len()
            .checked_sub(delta_idx)
            .ok_or("a set is predicted from none")?;
        let from = &sets[from];
        let negative = r.flag()?;
        let distance = r.ue()?.min(1 << 15) as i32 + 1;
        let shift = if negative { -distance } else { distance };
        // The pictures in the order of their flags: before, after, and the one at the other place itself.
        let sources = from.before.iter().chain(&from.after).map(|delta| delta.poc);
        let mut moved = Vec::new();
        for poc in sources.chain([0]) {
            let used = r.flag()?;
            let use_delta = used || r.flag()?;
            if use_delta {
                let poc = poc + shift;
                moved.push(Delta { poc, used });
            }
        }
        let side = |sign: i32| {
            let mut side: Vec<Delta> = moved
                .iter()
                .copied()
                .filter(|delta| delta.poc.signum() == sign)
                .collect();
            side.sort_by_key(|delta| delta.poc.abs());
            side
        };
        Ok(CodedSet {
            set: Self {
                before: side(-1),
                after: side(1),
            },
            predicted_from: from.before.len() + from.after.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deltas(pocs: &[(i32, bool)]) -> Vec<Delta> {
        pocs.iter().map(|&(poc, used)| Delta { poc, used }).collect()
    }

    #[test]
    fn a_predicted_set_sees_the_pictures_from_another_place() {
        let sets = [ShortTermSet {
            before: deltas(&[(-4, true), (-8, true)]),
            after: deltas(&[(4, true)]),
        }];
        // Predicted, delta_rps −2; −4 used, −8 not used and dropped, 4 unused and kept, the other used.
        let bits = [0x42, 1, 0b1101_0100, 0b0110_0000];
        let set = ShortTermSet::parse(&mut Reader::new(&bits, 10), &sets, false).unwrap();
        assert_eq!(set.predicted_from, 3);
        assert_eq!(set.set.before, deltas(&[(-2, true), (-6, true)]));
        assert_eq!(set.set.after, deltas(&[(2, false)]));
    }
}
