// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damage: what is done to the jobs of a group of pictures. A seed decides everything.

use daedalus_client::{Codec, CodedJob};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS, V4L2_CID_STATELESS_H264_SLICE_PARAMS,
    V4L2_CID_STATELESS_H264_SPS, V4L2_CID_STATELESS_VP9_FRAME, V4l2Av1TileInfo, V4l2CtrlAv1Frame,
    V4l2CtrlAv1Sequence, V4l2CtrlAv1TileGroupEntry, V4l2CtrlH264DecodeParams, V4l2CtrlH264Pps,
    V4l2CtrlH264SliceParams, V4l2CtrlH264Sps, V4l2CtrlVp9Frame,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::random::Random;

/// Kinds of damage, in the order in which they take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    BitFlips,
    WildControls,
    Truncated,
    Offsets,
    Dropped,
    Timestamps,
    ZeroedRange,
    Dimensions,
    Swapped,
    ReferenceLists,
    NoiseRange,
    TileTable,
    Duplicated,
    Oversize,
    Garbage,
    Larger,
    Empty,
    Tiny,
    MissingControl,
}

const KINDS: [Kind; 19] = [
    Kind::BitFlips,
    Kind::WildControls,
    Kind::Truncated,
    Kind::Offsets,
    Kind::Dropped,
    Kind::Timestamps,
    Kind::ZeroedRange,
    Kind::Dimensions,
    Kind::Swapped,
    Kind::ReferenceLists,
    Kind::NoiseRange,
    Kind::TileTable,
    Kind::Duplicated,
    Kind::Oversize,
    Kind::Garbage,
    Kind::Larger,
    Kind::Empty,
    Kind::Tiny,
    Kind::MissingControl,
];

impl Kind {
    pub(super) fn of(seed: u64) -> Self {
        KINDS[(seed % KINDS.len() as u64) as usize]
    }

    /// A decoder can tell, so no picture that is not exact may come without the error flag. All else may be damage
    /// that still decodes. So may a VP9 frame that is cut off in its last tile: nothing says how long that is, and
    /// libavcodec takes zeros for up to ten superblocks more.
    pub(super) fn is_noticeable(self, codec: Codec) -> bool {
        match self {
            Self::Truncated => codec != Codec::Vp9,
            Self::Offsets | Self::Dropped | Self::Larger | Self::Tiny => true,
            _ => false,
        }
    }
}

/// A job of the damaged group.
#[derive(Clone, Debug)]
pub(super) struct Damaged {
    pub(super) job: CodedJob,
    /// Controls to take, one after the other, as long as the device refuses them.
    pub(super) otherwise: Vec<Vec<daedalus_client::Control>>,
}

/// Damages one or a few of `jobs`. `larger` is a key frame of the same codec whose picture is larger than all of
/// theirs; `room` is the size of an OUTPUT buffer.
pub(super) fn damage(
    codec: Codec,
    jobs: &[CodedJob],
    larger: &CodedJob,
    room: usize,
    seed: u64,
) -> Vec<Damaged> {
    let mut random = Random::new(seed);
    let kind = Kind::of(seed);
    let mut jobs: Vec<Damaged> = jobs
        .iter()
        .map(|job| Damaged {
            job: job.clone(),
            otherwise: Vec::new(),
        })
        .collect();
    for _ in 0..1 + random.below(3) {
        let victim = random.below(jobs.len());
        match kind {
            Kind::Swapped => {
                let other = random.below(jobs.len());
                let taken = std::mem::take(&mut jobs[victim].job.payload);
                let given = std::mem::replace(&mut jobs[other].job.payload, taken);
                if other != victim {
                    jobs[victim].job.payload = given;
                }
            }
            Kind::Duplicated => jobs[victim].job.payload = jobs[victim.saturating_sub(1)].job.payload.clone(),
            Kind::Dropped if jobs.len() > 1 => {
                jobs.remove(victim);
            }
            Kind::Larger => {
                let job = &mut jobs[victim].job;
                job.payload = larger.payload.clone();
                job.controls = larger.controls.clone();
            }
            Kind::WildControls
            | Kind::Offsets
            | Kind::Timestamps
            | Kind::Dimensions
            | Kind::ReferenceLists
            | Kind::TileTable => {
                if !jobs[victim].otherwise.is_empty() {
                    // Its controls are damaged already; the ones to fall back to are its own.
                    continue;
                }
                let attempts: Vec<_> = (0..6)
                    .map(|_| {
                        let mut job = jobs[victim].job.clone();
                        controls(kind, codec, &mut job, &mut random);
                        job.controls
                    })
                    .collect();
                let clean = std::mem::take(&mut jobs[victim].job.controls);
                let mut attempts = attempts.into_iter();
                jobs[victim].job.controls = attempts.next().unwrap_or_default();
                jobs[victim].otherwise = attempts.chain([clean]).collect();
            }
            _ => payload(kind, &mut jobs[victim].job, room, &mut random),
        }
    }
    jobs
}

/// Damages a job's payload, or leaves a control out.
fn payload(kind: Kind, job: &mut CodedJob, room: usize, random: &mut Random) {
    let bytes = &mut job.payload;
    let length = bytes.len();
    match kind {
        Kind::BitFlips => {
            for _ in 0..1 + random.below(24) {
                let at = random.below(length);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        Kind::Truncated => bytes.truncate(1 + random.below(length * 3 / 4)),
        Kind::Tiny => bytes.truncate(1 + random.below(4)),
        Kind::Empty => bytes.clear(),
        Kind::ZeroedRange | Kind::NoiseRange => {
            let start = random.below(length);
            let end = start + random.below(length - start);
            if kind == Kind::ZeroedRange {
                bytes[start..end].fill(0);
            } else {
                random.fill(&mut bytes[start..end]);
            }
        }
        Kind::Garbage => random.fill(bytes),
        Kind::Oversize => {
            bytes.resize(room, 0);
            random.fill(&mut bytes[length..]);
        }
        Kind::MissingControl if !job.controls.is_empty() => {
            let at = random.below(job.controls.len());
            job.controls.remove(at);
        }
        _ => {}
    }
}

/// Changes the control that holds a structure `T`, if the job has it.
fn edit<T: FromBytes + IntoBytes + Immutable>(job: &mut CodedJob, id: u32, change: impl FnOnce(&mut T)) {
    let control = job.controls.iter_mut().find(|control| control.id == id);
    if let Some(control) = control {
        if let Some(mut value) = control.get::<T>() {
            change(&mut value);
            control.value = value.as_bytes().to_vec();
        }
    }
}

/// Damages a job's controls.
fn controls(kind: Kind, codec: Codec, job: &mut CodedJob, random: &mut Random) {
    match kind {
        Kind::WildControls => {
            let at = random.below(job.controls.len());
            if let Some(control) = job.controls.get_mut(at) {
                for _ in 0..1 + random.below(4) {
                    let at = random.below(control.value.len());
                    if let Some(byte) = control.value.get_mut(at) {
                        *byte = random.byte();
                    }
                }
            }
        }
        Kind::Offsets => offsets(job, random),
        Kind::Timestamps => timestamps(codec, job, random),
        Kind::Dimensions => dimensions(codec, job, random),
        Kind::ReferenceLists => reference_lists(codec, job, random),
        _ => tile_table(codec, job, random),
    }
}

/// Offsets and sizes that point past the coded data.
fn offsets(job: &mut CodedJob, random: &mut Random) {
    let length = u32::try_from(job.payload.len()).unwrap_or(u32::MAX);
    let past = match random.below(4) {
        0 => u32::MAX,
        1 => length,
        2 => length + 1 + random.below(4096) as u32,
        _ => u32::MAX - random.below(64) as u32,
    };
    let in_size = random.below(2) == 0;
    edit::<V4l2CtrlH264DecodeParams>(job, V4L2_CID_STATELESS_H264_DECODE_PARAMS, |params| {
        params.dec_ref_pic_marking_bit_size = past;
        params.pic_order_cnt_bit_size = past;
    });
    edit::<V4l2CtrlH264SliceParams>(job, V4L2_CID_STATELESS_H264_SLICE_PARAMS, |slice| {
        slice.header_bit_size = past;
        slice.first_mb_in_slice = past;
    });
    edit::<V4l2CtrlVp9Frame>(job, V4L2_CID_STATELESS_VP9_FRAME, |frame| {
        frame.compressed_header_size = (past as u16).max(1);
        frame.uncompressed_header_size = (past as u16).max(1);
    });
    let tiles = job
        .controls
        .iter_mut()
        .find(|control| control.id == V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY);
    if let Some(tiles) = tiles {
        const SIZE: usize = size_of::<V4l2CtrlAv1TileGroupEntry>();
        let at = random.below(tiles.value.len() / SIZE) * SIZE;
        if let Ok(mut entry) = V4l2CtrlAv1TileGroupEntry::read_from_bytes(&tiles.value[at..at + SIZE]) {
            if in_size {
                entry.tile_size = past;
            } else {
                entry.tile_offset = past;
            }
            tiles.value[at..at + SIZE].copy_from_slice(entry.as_bytes());
        }
    }
}

/// References by timestamps of no picture, or of another one.
fn timestamps(codec: Codec, job: &mut CodedJob, random: &mut Random) {
    let own = job.timestamp;
    let mut other = || match random.below(4) {
        0 => random.next(),
        1 => 0,
        2 => own,
        _ => own.saturating_sub(1000 * (1 + random.below(40) as u64)),
    };
    match codec {
        Codec::H264 => {
            edit::<V4l2CtrlH264DecodeParams>(job, V4L2_CID_STATELESS_H264_DECODE_PARAMS, |params| {
                for entry in &mut params.dpb {
                    entry.reference_ts = other();
                }
            })
        }
        Codec::Vp9 => edit::<V4l2CtrlVp9Frame>(job, V4L2_CID_STATELESS_VP9_FRAME, |frame| {
            (frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts) = (other(), other(), other());
        }),
        Codec::Av1 => edit::<V4l2CtrlAv1Frame>(job, V4L2_CID_STATELESS_AV1_FRAME, |frame| {
            for timestamp in &mut frame.reference_frame_ts {
                *timestamp = other();
            }
        }),
    }
}

/// Another size of the picture than the stream has.
fn dimensions(codec: Codec, job: &mut CodedJob, random: &mut Random) {
    let mut other = |value: u32, most: u32| {
        let value = match random.below(5) {
            0 => value / 2,
            1 => value * 2,
            2 => value + 1 + random.below(64) as u32,
            3 => most,
            _ => random.below(most as usize + 1) as u32,
        };
        value.min(most)
    };
    match codec {
        Codec::H264 => edit::<V4l2CtrlH264Sps>(job, V4L2_CID_STATELESS_H264_SPS, |sps| {
            let (width, height) = (sps.pic_width_in_mbs_minus1, sps.pic_height_in_map_units_minus1);
            sps.pic_width_in_mbs_minus1 = other(width.into(), u16::MAX.into()) as u16;
            sps.pic_height_in_map_units_minus1 = other(height.into(), u16::MAX.into()) as u16;
        }),
        Codec::Vp9 => edit::<V4l2CtrlVp9Frame>(job, V4L2_CID_STATELESS_VP9_FRAME, |frame| {
            let (width, height) = (frame.frame_width_minus_1, frame.frame_height_minus_1);
            frame.frame_width_minus_1 = other(width.into(), u16::MAX.into()) as u16;
            frame.frame_height_minus_1 = other(height.into(), u16::MAX.into()) as u16;
        }),
        Codec::Av1 => {
            let mut size = (0, 0);
            edit::<V4l2CtrlAv1Frame>(job, V4L2_CID_STATELESS_AV1_FRAME, |frame| {
                size = (
                    other(frame.frame_width_minus_1, u16::MAX.into()),
                    other(frame.frame_height_minus_1, u16::MAX.into()),
                );
                (frame.frame_width_minus_1, frame.frame_height_minus_1) = size;
                frame.upscaled_width = size.0 + 1;
            });
            if random.below(2) == 0 {
                edit::<V4l2CtrlAv1Sequence>(job, V4L2_CID_STATELESS_AV1_SEQUENCE, |sequence| {
                    sequence.max_frame_width_minus_1 = size.0 as u16;
                    sequence.max_frame_height_minus_1 = size.1 as u16;
                });
            }
        }
    }
}

/// Reference lists, DPB entries and slots.
fn reference_lists(codec: Codec, job: &mut CodedJob, random: &mut Random) {
    match codec {
        Codec::H264 => {
            edit::<V4l2CtrlH264DecodeParams>(job, V4L2_CID_STATELESS_H264_DECODE_PARAMS, |params| {
                for entry in &mut params.dpb {
                    entry.frame_num = random.next() as u16;
                    entry.pic_num = random.next() as u32;
                    entry.fields = random.byte();
                    entry.flags = random.next() as u32;
                    entry.top_field_order_cnt = random.next() as i32;
                }
                params.frame_num = random.next() as u16;
            });
            edit::<V4l2CtrlH264Pps>(job, V4L2_CID_STATELESS_H264_PPS, |pps| {
                pps.num_ref_idx_l0_default_active_minus1 = random.below(32) as u8;
                pps.num_ref_idx_l1_default_active_minus1 = random.below(32) as u8;
            });
            edit::<V4l2CtrlH264SliceParams>(job, V4L2_CID_STATELESS_H264_SLICE_PARAMS, |slice| {
                for entry in slice.ref_pic_list0.iter_mut().chain(&mut slice.ref_pic_list1) {
                    (entry.index, entry.fields) = (random.byte(), random.byte());
                }
            });
        }
        Codec::Vp9 => edit::<V4l2CtrlVp9Frame>(job, V4L2_CID_STATELESS_VP9_FRAME, |frame| {
            frame.ref_frame_sign_bias = random.byte() & 7;
            frame.reset_frame_context = random.byte() % 3;
            frame.reference_mode = random.byte() % 3;
        }),
        Codec::Av1 => edit::<V4l2CtrlAv1Frame>(job, V4L2_CID_STATELESS_AV1_FRAME, |frame| {
            for index in &mut frame.ref_frame_idx {
                *index = if random.below(4) == 0 {
                    random.byte() as i8
                } else {
                    random.below(8) as i8
                };
            }
            for hint in &mut frame.order_hints {
                *hint = random.below(256) as u32;
            }
            frame.primary_ref_frame = random.below(8) as u8;
            frame.refresh_frame_flags = random.byte();
        }),
    }
}

/// Numbers and places of tiles (AV1, VP9), slice groups and slices (H.264).
fn tile_table(codec: Codec, job: &mut CodedJob, random: &mut Random) {
    match codec {
        Codec::H264 => edit::<V4l2CtrlH264Pps>(job, V4L2_CID_STATELESS_H264_PPS, |pps| {
            pps.num_slice_groups_minus1 = random.below(8) as u8;
            pps.pic_init_qp_minus26 = random.byte() as i8;
        }),
        Codec::Vp9 => edit::<V4l2CtrlVp9Frame>(job, V4L2_CID_STATELESS_VP9_FRAME, |frame| {
            frame.tile_cols_log2 = random.below(7) as u8;
            frame.tile_rows_log2 = random.below(3) as u8;
        }),
        Codec::Av1 => {
            edit::<V4l2CtrlAv1Frame>(job, V4L2_CID_STATELESS_AV1_FRAME, |frame| {
                wild_tile_info(&mut frame.tile_info, random);
            });
            let id = V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY;
            if let Some(tiles) = job.controls.iter_mut().find(|control| control.id == id) {
                match random.below(3) {
                    0 => {
                        let at = random.below(tiles.value.len());
                        tiles.value[at] = random.byte();
                    }
                    1 => {
                        let entry = tiles.value.clone();
                        tiles.value.extend(entry);
                    }
                    _ => {}
                }
            }
        }
    }
}

fn wild_tile_info(info: &mut V4l2Av1TileInfo, random: &mut Random) {
    match random.below(4) {
        0 => info.tile_cols = random.byte(),
        1 => info.tile_rows = random.byte(),
        2 => info.context_update_tile_id = random.byte(),
        _ => {
            info.flags ^= 1;
            info.width_in_sbs_minus_1[0] = random.next() as u32;
            info.mi_col_starts[1] = random.next() as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_it_all_and_every_kind_has_its_turn() {
        let job = CodedJob {
            timestamp: 1000,
            payload: (0..200).collect(),
            controls: Vec::new(),
            coded_width: 16,
            coded_height: 16,
            bit_depth: 8,
            visible: daedalus_client::Visible::default(),
            key: true,
            hold_capture: false,
            same_capture: false,
            references: Vec::new(),
            shows: Vec::new(),
            unit: None,
        };
        let jobs = vec![job.clone(); 4];
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            seen.insert(Kind::of(seed));
            let payloads = |damaged: Vec<Damaged>| -> Vec<Vec<u8>> {
                damaged.into_iter().map(|damaged| damaged.job.payload).collect()
            };
            let first = payloads(damage(Codec::Vp9, &jobs, &job, 300, seed));
            assert_eq!(first, payloads(damage(Codec::Vp9, &jobs, &job, 300, seed)));
            match Kind::of(seed) {
                Kind::Dropped => assert!(first.len() < 4),
                Kind::Truncated | Kind::Tiny | Kind::Empty => assert!(first.iter().any(|p| p.len() < 200)),
                Kind::Oversize => assert!(first.iter().any(|p| p.len() == 300)),
                _ => {}
            }
        }
        assert_eq!(seen.len(), KINDS.len());
    }
}
