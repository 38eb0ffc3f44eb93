// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damage to the jobs of a group of pictures. A seed decides everything.

use daedalus_client::CodedJob;
use daedalus_uapi::codec::Codec;

use crate::codec;
use crate::random::Random;

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

    /// Returns whether a decoder can tell, so that no picture that is not exact may come without the error
    /// flag. All else may be damage that still decodes.
    pub(super) fn is_noticeable(self, codec: Codec) -> bool {
        match self {
            Self::Truncated => codec::row(codec).damage.notices_truncation,
            Self::Offsets | Self::Dropped | Self::Larger | Self::Tiny => true,
            _ => false,
        }
    }
}

/// A job of the damaged group.
#[derive(Clone, Debug)]
pub(super) struct DamagedJob {
    pub(super) job: CodedJob,
    /// Controls to take, one after the other, as long as the device refuses them.
    pub(super) otherwise: Vec<Vec<daedalus_client::Control>>,
}

/// Damages one or a few of `jobs`. `larger` is a key frame of the same codec whose picture is larger than all
/// of theirs; `room` is the size of an OUTPUT buffer.
pub(super) fn damage(
    codec: Codec,
    jobs: &[CodedJob],
    larger: &CodedJob,
    room: usize,
    seed: u64,
) -> Vec<DamagedJob> {
    let mut random = Random::new(seed);
    let kind = Kind::of(seed);
    let mut jobs: Vec<DamagedJob> = jobs
        .iter()
        .map(|job| DamagedJob {
            job: job.clone(),
            otherwise: Vec::new(),
        })
        .collect();
    for _ in 0..1 + random.index(3) {
        let victim = random.index(jobs.len());
        match kind {
            Kind::Swapped => {
                let other = random.index(jobs.len());
                let first = std::mem::take(&mut jobs[victim].job.payload);
                let second = std::mem::replace(&mut jobs[other].job.payload, first);
                if other != victim {
                    jobs[victim].job.payload = second;
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
            for _ in 0..1 + random.index(24) {
                let at = random.index(length);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.index(8);
                }
            }
        }
        Kind::Truncated => bytes.truncate(1 + random.index(length * 3 / 4)),
        Kind::Tiny => bytes.truncate(1 + random.index(4)),
        Kind::Empty => bytes.clear(),
        Kind::ZeroedRange | Kind::NoiseRange => {
            let start = random.index(length);
            let end = start + random.index(length - start);
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
            let at = random.index(job.controls.len());
            job.controls.remove(at);
        }
        _ => {}
    }
}

/// Damages a job's controls.
fn controls(kind: Kind, codec: Codec, job: &mut CodedJob, random: &mut Random) {
    let row = &codec::row(codec).damage;
    match kind {
        Kind::WildControls => {
            let at = random.index(job.controls.len());
            if let Some(control) = job.controls.get_mut(at) {
                for _ in 0..1 + random.index(4) {
                    let at = random.index(control.value.len());
                    if let Some(byte) = control.value.get_mut(at) {
                        *byte = random.byte();
                    }
                }
            }
        }
        Kind::Offsets => (row.offsets)(job, random),
        Kind::Timestamps => (row.timestamps)(job, random),
        Kind::Dimensions => (row.dimensions)(job, random),
        Kind::ReferenceLists => (row.reference_lists)(job, random),
        _ => (row.tile_table)(job, random),
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
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            kinds.insert(Kind::of(seed));
            let payloads = |damaged: Vec<DamagedJob>| -> Vec<Vec<u8>> {
                damaged.into_iter().map(|damaged| damaged.job.payload).collect()
            };
            let first = payloads(damage(codec::USUAL, &jobs, &job, 300, seed));
            assert_eq!(first, payloads(damage(codec::USUAL, &jobs, &job, 300, seed)));
            match Kind::of(seed) {
                Kind::Dropped => assert!(first.len() < 4),
                Kind::Truncated | Kind::Tiny | Kind::Empty => assert!(first.iter().any(|p| p.len() < 200)),
                Kind::Oversize => assert!(first.iter().any(|p| p.len() == 300)),
                _ => {}
            }
        }
        assert_eq!(kinds.len(), KINDS.len());
    }
}
