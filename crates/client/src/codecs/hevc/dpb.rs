// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The decoded picture buffer: reference picture sets (ITU-T H.265 8.3.2) and the order of output (C.5.2).

use daedalus_uapi::v4l2_controls::{
    V4L2_HEVC_DPB_ENTRIES_NUM_MAX, V4L2_HEVC_DPB_ENTRY_LONG_TERM_REFERENCE, V4l2CtrlHevcDecodeParams,
    V4l2CtrlHevcSps, V4l2HevcDpbEntry,
};

use super::slice::Header;

/// The index of a picture that is not there, as GStreamer writes it.
const ABSENT: u8 = 0xff;

/// A picture's marking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marking {
    Unused,
    ShortTerm,
    LongTerm,
}

/// A decoded picture.
#[derive(Clone, Debug)]
struct Picture {
    timestamp: u64,
    poc: i32,
    marking: Marking,
    /// It waits to be shown, since so many pictures (`PicLatencyCount`).
    waiting: Option<u32>,
}

/// The limits by which pictures are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most pictures that wait.
    reorder: usize,
    /// Pictures in the buffer, of which one that waits must go.
    buffering: usize,
    /// Most pictures that one waits for.
    latency: Option<u32>,
}

impl Limits {
    pub(super) fn of(sps: &V4l2CtrlHevcSps, delay: Option<usize>) -> Self {
        let reorder = usize::from(sps.sps_max_num_reorder_pics);
        let increase = u32::from(sps.sps_max_latency_increase_plus1).checked_sub(1);
        match delay {
            Some(delay) => Self {
                reorder: delay,
                buffering: usize::MAX,
                latency: None,
            },
            None => Self {
                reorder,
                buffering: usize::from(sps.sps_max_dec_pic_buffering_minus1) + 1,
                latency: increase.map(|increase| reorder as u32 + increase),
            },
        }
    }
}

/// The pictures that are references or wait to be shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Dpb {
    pictures: Vec<Picture>,
}

impl Dpb {
    /// Marks all pictures as unused for reference: an IRAP picture begins a sequence.
    pub(super) fn mark_unused(&mut self) {
        for picture in &mut self.pictures {
            picture.marking = Marking::Unused;
        }
    }

    /// Finds the pictures of a picture's sets, marks them, and fills in the control (8.3.2). `lsb_bits` is
    /// the length of `slice_pic_order_cnt_lsb`.
    pub(super) fn refer(
        &mut self,
        header: &Header,
        poc: i32,
        lsb_bits: u32,
        params: &mut V4l2CtrlHevcDecodeParams,
    ) {
        let mask = (1i64 << lsb_bits) - 1;
        let mut marked = vec![Marking::Unused; self.pictures.len()];
        let mut lists: [Vec<Option<usize>>; 3] = Default::default();
        for long_term in &header.long_term {
            let found = match long_term.cycle {
                Some(cycle) => {
                    let full = i64::from(poc) - (i64::from(cycle) << lsb_bits) - (i64::from(poc) & mask)
                        + i64::from(long_term.lsb);
                    self.find(|picture| i64::from(picture.poc) == full)
                }
                None => self.find(|picture| i64::from(picture.poc) & mask == i64::from(long_term.lsb)),
            };
            if let Some(index) = found {
                marked[index] = Marking::LongTerm;
            }
            if long_term.used {
                lists[2].push(found);
            }
        }
        let set = &header.short_term.set;
        for (list, side) in [&set.before, &set.after].into_iter().enumerate() {
            for delta in side {
                let found = self.find(|picture| {
                    picture.marking == Marking::ShortTerm && picture.poc == poc.wrapping_add(delta.poc)
                });
                let found = found.filter(|index| marked[*index] != Marking::LongTerm);
                if let Some(index) = found {
                    marked[index] = Marking::ShortTerm;
                }
                if delta.used {
                    lists[list].push(found);
                }
            }
        }
        for (picture, marking) in self.pictures.iter_mut().zip(marked) {
            picture.marking = marking;
        }
        self.fill(&lists, params);
    }

    /// Returns the latest reference for which `is` holds.
    fn find(&self, is: impl Fn(&Picture) -> bool) -> Option<usize> {
        self.pictures
            .iter()
            .rposition(|picture| picture.marking != Marking::Unused && is(picture))
    }

    /// Fills in the entries and the lists of indices.
    fn fill(&self, lists: &[Vec<Option<usize>>; 3], params: &mut V4l2CtrlHevcDecodeParams) {
        let mut entry_of = vec![ABSENT; self.pictures.len()];
        let mut count = 0;
        let references = self.pictures.iter().enumerate();
        let references = references.filter(|(_, picture)| picture.marking != Marking::Unused);
        for (index, picture) in references.take(V4L2_HEVC_DPB_ENTRIES_NUM_MAX) {
            params.dpb[count] = V4l2HevcDpbEntry {
                timestamp: picture.timestamp,
                flags: match picture.marking {
                    Marking::LongTerm => V4L2_HEVC_DPB_ENTRY_LONG_TERM_REFERENCE,
                    _ => 0,
                },
                pic_order_cnt_val: picture.poc,
                ..Default::default()
            };
            entry_of[index] = count as u8;
            count += 1;
        }
        params.num_active_dpb_entries = count as u8;
        let [before, after, long_term] = lists;
        let fill = |list: &[Option<usize>], into: &mut [u8], count: &mut u8| {
            for (into, found) in into.iter_mut().zip(list) {
                *into = found.map_or(ABSENT, |index| entry_of[index]);
                *count += 1;
            }
        };
        fill(
            before,
            &mut params.poc_st_curr_before,
            &mut params.num_poc_st_curr_before,
        );
        fill(
            after,
            &mut params.poc_st_curr_after,
            &mut params.num_poc_st_curr_after,
        );
        fill(long_term, &mut params.poc_lt_curr, &mut params.num_poc_lt_curr);
    }

    /// Returns the timestamps of the references.
    pub(super) fn references(&self) -> Vec<u64> {
        let references = self
            .pictures
            .iter()
            .filter(|picture| picture.marking != Marking::Unused);
        references.map(|picture| picture.timestamp).collect()
    }

    /// Makes room for a picture that begins no sequence: shows pictures until the limits hold (C.5.2.2).
    pub(super) fn make_room(&mut self, limits: Limits) -> Vec<u64> {
        self.bump(|dpb| dpb.exceeds(limits) || dpb.pictures.len() >= limits.buffering)
    }

    /// Adds the picture that was just decoded, a short-term reference, and shows pictures until the limits
    /// hold (C.5.2.3).
    pub(super) fn add(&mut self, timestamp: u64, poc: i32, output: bool, limits: Limits) -> Vec<u64> {
        if output {
            let waiting = self
                .pictures
                .iter_mut()
                .filter_map(|picture| picture.waiting.as_mut());
            waiting.for_each(|count| *count += 1);
        }
        self.pictures.push(Picture {
            timestamp,
            poc,
            marking: Marking::ShortTerm,
            waiting: output.then_some(0),
        });
        self.bump(|dpb| dpb.exceeds(limits))
    }

    fn exceeds(&self, limits: Limits) -> bool {
        let mut waiting = self.pictures.iter().filter_map(|picture| picture.waiting);
        let late = |limit: u32| waiting.clone().any(|count| count >= limit);
        limits.latency.is_some_and(late) || waiting.by_ref().count() > limits.reorder
    }

    /// Shows all pictures that wait.
    pub(super) fn show_all(&mut self) -> Vec<u64> {
        self.bump(|_| true)
    }

    /// Forgets the pictures that wait.
    pub(super) fn drop_waiting(&mut self) {
        for picture in &mut self.pictures {
            picture.waiting = None;
        }
        self.forget();
    }

    /// Shows pictures in the order of their counts, for as long as `more` says so.
    fn bump(&mut self, more: impl Fn(&Self) -> bool) -> Vec<u64> {
        let mut shown = Vec::new();
        self.forget();
        while more(self) {
            let waiting = self
                .pictures
                .iter_mut()
                .filter(|picture| picture.waiting.is_some());
            let Some(first) = waiting.min_by_key(|picture| picture.poc) else {
                break;
            };
            first.waiting = None;
            shown.push(first.timestamp);
            self.forget();
        }
        shown
    }

    fn forget(&mut self) {
        self.pictures
            .retain(|picture| picture.marking != Marking::Unused || picture.waiting.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference_set::{CodedSet, Delta, ShortTermSet};
    use super::super::slice::LongTerm;
    use super::*;

    const LIMITS: Limits = Limits {
        reorder: 1,
        buffering: 4,
        latency: None,
    };

    #[test]
    fn pictures_are_shown_in_the_order_of_their_counts() {
        let mut dpb = Dpb::default();
        let shown: Vec<_> = [0, 8, 4, 2]
            .into_iter()
            .flat_map(|poc| dpb.add(poc as u64, poc, true, LIMITS))
            .collect();
        assert_eq!(shown, [0, 4, 2], "more wait than the limit says");
        dpb.mark_unused();
        assert_eq!(dpb.show_all(), [8]);
        assert!(dpb.pictures.is_empty());
    }

    #[test]
    fn sets_mark_pictures_and_absent_ones_have_an_index_too() {
        let mut dpb = Dpb::default();
        for poc in [0, 1, 2, 8] {
            dpb.add(1000 + poc as u64, poc, false, LIMITS);
        }
        let header = Header {
            short_term: CodedSet {
                set: ShortTermSet {
                    before: vec![Delta { poc: -1, used: true }, Delta { poc: -2, used: true }],
                    after: vec![Delta { poc: 4, used: false }],
                },
                predicted_from: 0,
            },
            long_term: vec![LongTerm {
                lsb: 0,
                used: true,
                cycle: None,
            }],
            ..Header::default()
        };
        let mut params = V4l2CtrlHevcDecodeParams::default();
        dpb.refer(&header, 4, 4, &mut params);
        assert_eq!(dpb.references(), [1000, 1002, 1008]);
        assert_eq!(params.num_active_dpb_entries, 3);
        assert_eq!(params.dpb[0].flags, V4L2_HEVC_DPB_ENTRY_LONG_TERM_REFERENCE);
        assert_eq!(
            (
                params.num_poc_st_curr_before,
                params.poc_st_curr_before[..2].to_vec()
            ),
            (2, vec![ABSENT, 1])
        );
        assert_eq!(
            (
                params.num_poc_st_curr_after,
                params.num_poc_lt_curr,
                params.poc_lt_curr[0]
            ),
            (0, 1, 0)
        );
    }
}
