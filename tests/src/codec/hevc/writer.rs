// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes HEVC streams with what no encoder at hand uses: reference picture sets and long-term pictures of
//! the SPS, grids of tiles, dependent slice segments, extensions of headers, ends of sequences.
//!
//! Blocks have 16 x 16 samples. Those of I pictures are coded as they are (PCM). A P picture repeats one of
//! its references, which the changed list names, but for some blocks that are coded as they are. So a picture
//! is right only if the decoder has found the reference that is meant. Each has an MD5 of its planes. Numbers
//! of clauses are those of ITU-T H.265.

use std::collections::BTreeMap;

use md5::{Digest, Md5};

use super::cabac::{Contexts, Encoder};
use crate::random::Random;

/// Side of a block.
const BLOCK: usize = 16;
/// Bits of `slice_pic_order_cnt_lsb`.
const LSB_BITS: u32 = 4;
/// `SliceQpY`.
const QP: i32 = 26;
/// Pictures that a short-term set names, at most.
const SET: usize = 3;

/// The tools of a stream.
#[derive(Clone, Copy, Default)]
pub(super) struct Tools {
    /// The SPS has sets; pictures name one, predict from one, or have their own, in turn.
    pub(super) sets: bool,
    /// The SPS has long-term pictures.
    pub(super) long_term: bool,
    /// Ends of tile columns and rows in blocks; none is one tile.
    pub(super) tiles: Option<(&'static [usize], &'static [usize])>,
    /// A picture has several slice segments, of which every other one is dependent.
    pub(super) segments: bool,
    /// Headers have extra bits and an extension.
    pub(super) extensions: bool,
    /// Pictures from one IDR picture to the next; an IDR picture has `no_output_of_prior_pics_flag`.
    pub(super) idr: Option<usize>,
    /// Pictures from one end of a sequence to the next; a CRA picture follows, and a leading picture that
    /// cannot be decoded.
    pub(super) ends: Option<usize>,
}

/// Bits, the most significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    fn put(&mut self, count: u32, value: u32) {
        for bit in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= (((value >> bit) & 1) as u8) << self.free;
            }
        }
    }

    fn flag(&mut self, value: bool) {
        self.put(1, value.into());
    }

    /// `ue(v)`.
    fn ue(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        self.put(length - 1, 0);
        self.put(length, value + 1);
    }

    fn ues(&mut self, values: &[u32]) {
        for value in values {
            self.ue(*value);
        }
    }

    /// A bit that is set, and zeros up to the next byte.
    fn trailing(mut self) -> Vec<u8> {
        self.put(1, 1);
        self.bytes
    }
}

/// Appends bytes with emulation prevention. `zeros` are those at the end of what was written.
fn protect(bytes: &[u8], zeros: &mut u32, out: &mut Vec<u8>) {
    for &byte in bytes {
        if *zeros >= 2 && byte <= 3 {
            out.push(3);
            *zeros = 0;
        }
        out.push(byte);
        *zeros = if byte == 0 { *zeros + 1 } else { 0 };
    }
}

/// The planes of a picture.
#[derive(Clone)]
struct Planes([Vec<u8>; 3]);

/// A writer at some place of its stream.
pub(super) struct Writer {
    tools: Tools,
    /// Width and height in blocks.
    size: (usize, usize),
    random: Random,
    out: Vec<u8>,
    /// Pictures by order count since the last IRAP picture that begins a sequence.
    pictures: BTreeMap<usize, Planes>,
}

/// A picture's references: order counts, and the one that is repeated.
struct References {
    short: Vec<usize>,
    /// With whether the picture may read it.
    long: Vec<(usize, bool)>,
    /// Index into the pictures that the picture may read.
    repeated: usize,
}

impl References {
    /// Returns the pictures that may be read, in the order of the list before it is changed.
    fn current(&self) -> Vec<usize> {
        let long = self
            .long
            .iter()
            .filter(|(_, used)| *used)
            .map(|(count, _)| *count);
        self.short.iter().copied().chain(long).collect()
    }
}

/// The kind of a picture (table 7-1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Trailing = 1,
    Rasl = 9,
    Idr = 20,
    Cra = 21,
}

fn ceil_log2(count: usize) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

impl Writer {
    /// Begins a stream of pictures of `width` x `height`, which are multiples of 16.
    pub(super) fn new(width: usize, height: usize, tools: Tools, seed: u64) -> Self {
        let mut writer = Self {
            tools,
            size: (width / BLOCK, height / BLOCK),
            random: Random::new(seed),
            out: Vec::new(),
            pictures: BTreeMap::new(),
        };
        writer.video_parameter_set();
        writer.sequence_parameter_set();
        writer.picture_parameter_set();
        writer
    }

    /// Returns a stream of so many pictures that are shown.
    pub(super) fn write(mut self, frames: usize) -> Vec<u8> {
        let mut count = 0;
        for frame in 0..frames {
            let is_due = |every: Option<usize>| every.is_some_and(|every| frame % every == 0);
            if frame == 0 || is_due(self.tools.idr) {
                self.pictures.clear();
                count = 0;
                self.picture(Kind::Idr, 0);
            } else if is_due(self.tools.ends) {
                self.unit(36, &[]);
                self.pictures.clear();
                // FFmpeg 7.1 does not tell it from a picture of the same count before the end.
                count = 13;
                self.picture(Kind::Cra, count);
                // It refers to a picture before the CRA picture, and is left out by everybody.
                self.leading(count - 1);
            } else {
                count += 1;
                self.picture(Kind::Trailing, count);
            }
        }
        self.out
    }

    /// Appends a NAL unit of the payload with emulation prevention.
    fn unit(&mut self, nal_type: u8, payload: &[u8]) {
        self.out.extend([0, 0, 0, 1, nal_type << 1, 1]);
        protect(payload, &mut 0, &mut self.out);
    }

    fn profile_tier_level(b: &mut Bits) {
        // Main, level 4.
        b.put(8, 1);
        b.put(32, 0x6000_0000);
        b.put(16, 0x9000);
        b.put(32, 0);
        b.put(8, 120);
    }

    fn video_parameter_set(&mut self) {
        let mut b = Bits::default();
        b.put(16, 0x0c01);
        b.put(16, 0xffff);
        Self::profile_tier_level(&mut b);
        b.flag(true);
        b.ues(&[15, 0, 0]);
        b.put(6, 0);
        b.ue(0);
        b.put(2, 0);
        self.unit(32, &b.trailing());
    }

    fn sequence_parameter_set(&mut self) {
        let mut b = Bits::default();
        b.put(8, 1);
        Self::profile_tier_level(&mut b);
        let (width, height) = (self.size.0 * BLOCK, self.size.1 * BLOCK);
        b.ues(&[0, 1, width as u32, height as u32]);
        b.flag(false);
        // 8 bit, and counts of 4 bits.
        b.ues(&[0, 0, LSB_BITS - 4]);
        b.flag(true);
        b.ues(&[15, 0, 0]);
        // Coding blocks of 16, transform blocks from 4 to 16.
        b.ues(&[1, 0, 0, 2, 0, 0]);
        b.put(3, 0);
        // Samples that are coded as they are, of 8 bit, in blocks of 16; no loop filter there.
        b.flag(true);
        b.put(4, 7);
        b.put(4, 7);
        b.ue(1);
        b.ue(0);
        b.flag(true);
        let sets = if self.tools.sets { SET } else { 0 };
        b.ue(sets as u32);
        for index in 0..sets {
            if index == 0 {
                b.ue(1);
                b.ue(0);
                b.ue(0);
                b.flag(true);
            } else {
                Self::predicted_set(&mut b, None, index);
            }
        }
        b.flag(self.tools.long_term);
        if self.tools.long_term {
            // Picture 0, which is read, and picture 2, which is not.
            b.ue(2);
            for (lsb, used) in [(0, true), (2, false)] {
                b.put(LSB_BITS, lsb);
                b.flag(used);
            }
        }
        b.put(4, 0);
        self.unit(33, &b.trailing());
    }

    /// The set of the pictures 1 to `from + 1` before, predicted from that of those 1 to `from` before.
    fn predicted_set(b: &mut Bits, delta_idx: Option<u32>, from: usize) {
        let inter_ref_pic_set_prediction = true;
        b.flag(inter_ref_pic_set_prediction);
        if let Some(delta_idx) = delta_idx {
            b.ue(delta_idx - 1);
        }
        // delta_rps is -1: the same pictures, seen from the next one, and that one itself.
        b.flag(true);
        b.ue(0);
        (0..=from).for_each(|_| b.flag(true));
    }

    fn picture_parameter_set(&mut self) {
        let mut b = Bits::default();
        b.ue(0);
        b.ue(0);
        b.flag(self.tools.segments);
        b.flag(false);
        b.put(3, if self.tools.extensions { 2 } else { 0 });
        b.put(2, 0);
        b.ue(0);
        b.ue(0);
        // init_qp_minus26 and what follows, the chroma offsets, weights, bypass: none.
        b.ue(0);
        b.put(3, 0);
        b.ue(0);
        b.ue(0);
        b.put(4, 0);
        b.flag(self.tools.tiles.is_some());
        b.flag(false);
        if let Some((columns, rows)) = self.tools.tiles {
            b.ue(columns.len() as u32);
            b.ue(rows.len() as u32);
            b.flag(false);
            for ends in [columns, rows] {
                let mut before = 0;
                for end in ends {
                    b.ue((end - before - 1) as u32);
                    before = *end;
                }
            }
            b.flag(false);
        }
        b.flag(false);
        // No deblocking: deblocking_filter_control_present, no override, disabled.
        b.put(3, 0b101);
        b.flag(false);
        let lists_modification_present = true;
        b.flag(lists_modification_present);
        b.ue(0);
        b.flag(self.tools.extensions);
        b.flag(false);
        self.unit(34, &b.trailing());
    }

    /// Draws the references of the picture with this count.
    fn references(&mut self, count: usize) -> References {
        let first = self.pictures.keys().next().copied().unwrap_or(count);
        let short = (1..=SET)
            .filter(|back| count - first >= *back)
            .map(|back| count - back);
        let mut references = References {
            short: short.collect(),
            long: Vec::new(),
            repeated: 0,
        };
        if self.tools.long_term && first == 0 && count > SET {
            references.long.push((0, true));
            if count > SET + 2 {
                references.long.push((2, count % 4 == 1));
            }
        }
        references.repeated = self.random.index(references.current().len().max(1));
        references
    }

    /// A leading picture whose reference no decoder has.
    fn leading(&mut self, count: usize) {
        let references = References {
            short: vec![count - 2],
            long: Vec::new(),
            repeated: 0,
        };
        let blocks = self.size.0 * self.size.1;
        self.segments(Kind::Rasl, count, &references, &vec![false; blocks], None);
    }

    fn picture(&mut self, kind: Kind, count: usize) {
        let references = match kind {
            Kind::Trailing => self.references(count),
            _ => References {
                short: Vec::new(),
                long: Vec::new(),
                repeated: 0,
            },
        };
        let (width, height) = (self.size.0 * BLOCK, self.size.1 * BLOCK);
        let mut planes = match references.current().get(references.repeated) {
            Some(repeated) => self.pictures[repeated].clone(),
            None => Planes([
                vec![0; width * height],
                vec![0; width * height / 4],
                vec![0; width * height / 4],
            ]),
        };
        let intra = kind != Kind::Trailing;
        let coded: Vec<bool> = (0..self.size.0 * self.size.1)
            .map(|_| intra || self.random.index(8) == 0)
            .collect();
        for (address, _) in coded.iter().enumerate().filter(|(_, coded)| **coded) {
            self.draw(&mut planes, address);
        }
        self.segments(kind, count, &references, &coded, Some(&planes));
        self.checksum(&planes);
        self.pictures.insert(count, planes);
    }

    /// Draws the samples of a block.
    fn draw(&mut self, planes: &mut Planes, address: usize) {
        let (x, y) = (address % self.size.0, address / self.size.0);
        for (plane, samples) in planes.0.iter_mut().enumerate() {
            let side = if plane == 0 { BLOCK } else { BLOCK / 2 };
            let stride = self.size.0 * side;
            let (base, step) = (self.random.byte() / 2 + 20, self.random.byte() % 5);
            for line in 0..side {
                let at = (y * side + line) * stride + x * side;
                for (column, sample) in samples[at..at + side].iter_mut().enumerate() {
                    *sample = base + step * ((line + column) % 16) as u8;
                }
            }
        }
    }

    /// Returns the samples of a block, plane by plane.
    fn block(&self, planes: &Planes, address: usize) -> Vec<u8> {
        let (x, y) = (address % self.size.0, address / self.size.0);
        let mut block = Vec::new();
        for (plane, samples) in planes.0.iter().enumerate() {
            let side = if plane == 0 { BLOCK } else { BLOCK / 2 };
            for line in y * side..(y + 1) * side {
                let at = line * self.size.0 * side + x * side;
                block.extend_from_slice(&samples[at..at + side]);
            }
        }
        block
    }

    /// Returns the blocks in the order of decoding (6.5.1), with the number of the tile of each.
    fn scan(&self) -> Vec<(usize, usize)> {
        let (columns, rows) = self.tools.tiles.unwrap_or((&[], &[]));
        let tile = |ends: &[usize], place: usize| ends.iter().filter(|end| **end <= place).count();
        let mut scan: Vec<(usize, usize)> = (0..self.size.0 * self.size.1)
            .map(|address| {
                let (x, y) = (address % self.size.0, address / self.size.0);
                (address, tile(rows, y) * (columns.len() + 1) + tile(columns, x))
            })
            .collect();
        scan.sort_by_key(|(address, tile)| (*tile, *address));
        scan
    }

    /// Returns where segments start: each is a part of a tile, or some tiles (6.3.1).
    fn starts(&mut self, scan: &[(usize, usize)]) -> Vec<usize> {
        let mut starts = vec![0];
        if self.tools.segments {
            let mut at = 1 + self.random.index(scan.len() / 3);
            while at < scan.len() {
                if scan[at].1 == scan[at - 1].1 && self.tools.tiles.is_some() {
                    at += 1;
                } else {
                    starts.push(at);
                    at += 1 + self.random.index(scan.len() / 3);
                }
            }
        }
        starts
    }

    /// Appends the slice segments of a picture. `coded` are the blocks that are coded as they are.
    fn segments(
        &mut self,
        kind: Kind,
        count: usize,
        references: &References,
        coded: &[bool],
        planes: Option<&Planes>,
    ) {
        let scan = self.scan();
        let inter = matches!(kind, Kind::Trailing | Kind::Rasl);
        let starts = self.starts(&scan);
        let mut contexts = Contexts::new(inter, QP);
        // The slice and the tile of each block that is coded, and whether it is skipped.
        let mut done: Vec<Option<(usize, usize, bool)>> = vec![None; scan.len()];
        let mut slice = 0;
        for (index, &start) in starts.iter().enumerate() {
            let dependent = index % 2 == 1;
            if !dependent {
                slice = start;
                contexts = Contexts::new(inter, QP);
            }
            let end = starts.get(index + 1).copied().unwrap_or(scan.len());
            let mut encoder = Encoder::new();
            let mut subsets = Vec::new();
            for at in start..end {
                let (address, tile) = scan[at];
                if at > 0 && scan[at - 1].1 != tile {
                    contexts = Contexts::new(inter, QP);
                }
                let skipped = inter && !coded[address];
                if inter {
                    let neighbour = |there: bool, back: usize| {
                        let block = there.then(|| done[address - back]).flatten();
                        block.is_some_and(|block| block == (slice, tile, true))
                    };
                    let left = neighbour(address % self.size.0 > 0, 1);
                    let above = neighbour(address >= self.size.0, self.size.0);
                    let context = usize::from(left) + usize::from(above);
                    encoder.decision(&mut contexts.skip[context], skipped);
                }
                if !skipped {
                    if inter {
                        let pred_mode_intra = true;
                        encoder.decision(&mut contexts.intra, pred_mode_intra);
                    }
                    let part_2n_x_2n = true;
                    encoder.decision(&mut contexts.part_mode, part_2n_x_2n);
                    let pcm = true;
                    encoder.terminate(pcm);
                    if let Some(planes) = planes {
                        encoder.samples(&self.block(planes, address));
                    }
                }
                done[address] = Some((slice, tile, skipped));
                let end_of_segment = at + 1 == end;
                encoder.terminate(end_of_segment);
                if !end_of_segment && scan[at + 1].1 != tile {
                    let end_of_subset = true;
                    encoder.terminate(end_of_subset);
                    subsets.push(encoder.take());
                }
            }
            subsets.push(encoder.take());
            let address = scan[start].0;
            self.segment(kind, count, references, address, dependent, &subsets);
        }
    }

    /// Appends a slice segment with its header (7.3.6.1).
    fn segment(
        &mut self,
        kind: Kind,
        count: usize,
        references: &References,
        address: usize,
        dependent: bool,
        subsets: &[Vec<u8>],
    ) {
        let mut b = Bits::default();
        b.flag(address == 0);
        if matches!(kind, Kind::Idr | Kind::Cra) {
            let no_output_of_prior_pics = self.tools.idr.is_some();
            b.flag(no_output_of_prior_pics);
        }
        b.ue(0);
        if address > 0 {
            b.flag(dependent);
            b.put(ceil_log2(self.size.0 * self.size.1), address as u32);
        }
        if !dependent {
            b.put(if self.tools.extensions { 2 } else { 0 }, 0b10);
            let inter = matches!(kind, Kind::Trailing | Kind::Rasl);
            b.ue(if inter { 1 } else { 2 });
            if kind != Kind::Idr {
                b.put(LSB_BITS, count as u32 & ((1 << LSB_BITS) - 1));
                self.short_term(&mut b, kind, count, references);
                if self.tools.long_term {
                    self.long_term(&mut b, count, references);
                }
            }
            if inter {
                let num_ref_idx_active_override = false;
                b.flag(num_ref_idx_active_override);
                let total = references.current().len();
                if total > 1 {
                    b.flag(true);
                    b.put(ceil_log2(total), references.repeated as u32);
                }
                let five_minus_max_num_merge_cand = 4;
                b.ue(five_minus_max_num_merge_cand);
            }
            let slice_qp_delta = 0;
            b.ue(slice_qp_delta);
        }
        // The offsets count the bytes that prevent emulation, too.
        let (mut data, mut zeros, mut lengths) = (Vec::new(), 0, Vec::new());
        for subset in subsets {
            let before = data.len();
            protect(subset, &mut zeros, &mut data);
            lengths.push(data.len() - before);
        }
        if self.tools.tiles.is_some() {
            b.ue(subsets.len() as u32 - 1);
            if subsets.len() > 1 {
                b.ue(15);
                for length in &lengths[..lengths.len() - 1] {
                    b.put(16, *length as u32 - 1);
                }
            }
        }
        if self.tools.extensions {
            let length = self.random.index(6) as u32;
            b.ue(length);
            (0..length).for_each(|_| b.put(8, u32::from(self.random.byte() / 64)));
        }
        self.unit(kind as u8, &b.trailing());
        self.out.extend(data);
    }

    /// The set of the pictures before, in one of three ways.
    fn short_term(&self, b: &mut Bits, kind: Kind, count: usize, references: &References) {
        let size = references.short.len();
        let named = self.tools.sets && kind == Kind::Trailing && size > 0;
        match count % 3 {
            0 if named => {
                b.flag(true);
                b.put(ceil_log2(SET), size as u32 - 1);
            }
            1 if named && size > 1 => {
                b.flag(false);
                Self::predicted_set(b, Some((SET - (size - 2)) as u32), size - 1);
            }
            _ => {
                b.flag(false);
                if self.tools.sets {
                    b.flag(false);
                }
                b.ue(size as u32);
                b.ue(0);
                let mut before = count;
                for &picture in &references.short {
                    b.ue((before - picture - 1) as u32);
                    b.flag(true);
                    before = picture;
                }
            }
        }
    }

    /// The long-term pictures: those of the SPS by their index, where they are used as it says.
    fn long_term(&self, b: &mut Bits, count: usize, references: &References) {
        let of_sps = references
            .long
            .iter()
            .take_while(|(picture, used)| *used == (*picture == 0))
            .count();
        b.ue(of_sps as u32);
        b.ue((references.long.len() - of_sps) as u32);
        let cycle = (count >> LSB_BITS) as u32;
        for (index, (picture, used)) in references.long.iter().enumerate() {
            if index < of_sps {
                b.put(1, u32::from(*picture != 0));
            } else {
                b.put(LSB_BITS, *picture as u32);
                b.flag(*used);
            }
            // Later pictures have the same low bits.
            b.flag(cycle > 0);
            if cycle > 0 {
                b.ue(if index == 0 || index == of_sps { cycle } else { 0 });
            }
        }
    }

    /// Appends the MD5 of a picture's planes (D.2.19).
    fn checksum(&mut self, planes: &Planes) {
        let mut payload = vec![132, 49, 0];
        for plane in &planes.0 {
            payload.extend(Md5::digest(plane));
        }
        payload.push(0x80);
        self.unit(40, &payload);
    }
}
