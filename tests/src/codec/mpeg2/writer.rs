// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes MPEG-2 streams with what no encoder at hand uses: field pictures, 16x8 and dual-prime prediction,
//! concealment vectors, matrices that change from field to field.
//!
//! The syntax is drawn: there is no picture behind it, only macroblocks of allowed types with vectors that
//! stay within their references, DC coefficients, and now and then another coefficient. Numbers of clauses
//! and tables are those of ITU-T H.262.

use crate::random::Random;

/// Picture types (table 6-12).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    I = 1,
    P = 2,
    B = 3,
}

/// Picture structures (table 6-14).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Structure {
    Top = 1,
    Bottom = 2,
    Frame = 3,
}

/// The tools of a stream.
#[derive(Clone, Copy, Default)]
pub(super) struct Tools {
    /// The frames are pairs of fields, else frames.
    pub(super) fields: bool,
    /// There are B pictures; no dual prime then (7.6.3.6).
    pub(super) b_pictures: bool,
    pub(super) dual_prime: bool,
    pub(super) concealment: bool,
    /// Intra VLC format, alternate scan and the other scale of quantisers.
    pub(super) alternatives: bool,
    /// The matrices are not the default ones, and change from picture to picture.
    pub(super) matrices: bool,
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

    /// Appends a code as the tables print it.
    fn code(&mut self, code: &str) {
        code.bytes().for_each(|bit| self.put(1, u32::from(bit == b'1')));
    }

    fn start_code(&mut self, code: u8) {
        self.free = 0;
        self.bytes.extend([0, 0, 1, code]);
    }
}

/// `motion_code` without its sign (table B-10).
const MOTION_CODES: [&str; 17] = [
    "1",
    "01",
    "001",
    "0001",
    "000011",
    "0000101",
    "0000100",
    "0000011",
    "000001011",
    "000001010",
    "000001001",
    "0000010001",
    "0000010000",
    "0000001111",
    "0000001110",
    "0000001101",
    "0000001100",
];
/// `dct_dc_size_luminance` and `dct_dc_size_chrominance` (tables B-12 and B-13).
const DC_SIZES: [[&str; 12]; 2] = [
    [
        "100",
        "00",
        "01",
        "101",
        "110",
        "1110",
        "11110",
        "111110",
        "1111110",
        "11111110",
        "111111110",
        "111111111",
    ],
    [
        "00",
        "01",
        "10",
        "110",
        "1110",
        "11110",
        "111110",
        "1111110",
        "11111110",
        "111111110",
        "1111111110",
        "1111111111",
    ],
];
/// Some of `coded_block_pattern` (table B-9).
const PATTERNS: [(u32, &str); 8] = [
    (60, "111"),
    (4, "1101"),
    (8, "1100"),
    (16, "1011"),
    (32, "1010"),
    (63, "001100"),
    (1, "01011"),
    (2, "01001"),
];
/// Escape (table B-16).
const ESCAPE: &str = "000001";
/// `f_code` of every vector: vectors of 7.5 samples and more, up to 63.5.
const F_CODE: u32 = 3;
/// Half the range of vectors, in half samples: differences are coded modulo twice as much (7.6.3.1).
const HALF_RANGE: i32 = 16 << (F_CODE - 1);

/// How a macroblock is predicted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Motion {
    /// One vector for the structure of the picture: a frame, or a field of the reference.
    Whole,
    /// Two vectors: for the fields of a frame, or the halves of a field's macroblock.
    Halves,
    DualPrime,
}

/// A stream that is being written.
pub(super) struct Writer {
    bits: Bits,
    random: Random,
    tools: Tools,
    width: i32,
    height: i32,
    /// `PMV` (7.6.3.1): by vector, direction and component.
    predictors: [[[i32; 2]; 2]; 2],
    dc: [i32; 3],
    /// Macroblocks with dual-prime prediction and with concealment vectors.
    pub(super) dual_primes: usize,
    pub(super) concealed: usize,
    pub(super) halves: usize,
}

/// A picture's header.
#[derive(Clone, Copy)]
struct Picture {
    coding: Type,
    structure: Structure,
    /// `temporal_reference`.
    place: u32,
    precision: u32,
    alternative: bool,
}

impl Picture {
    fn is_frame(&self) -> bool {
        self.structure == Structure::Frame
    }
}

impl Writer {
    /// Begins a stream. Width and height are multiples of 32.
    pub(super) fn new((width, height): (usize, usize), tools: Tools, seed: u64) -> Self {
        Self {
            bits: Bits::default(),
            random: Random::new(seed),
            tools,
            width: width as i32,
            height: height as i32,
            predictors: [[[0; 2]; 2]; 2],
            dc: [0; 3],
            dual_primes: 0,
            concealed: 0,
            halves: 0,
        }
    }

    /// Writes `frames` frames, each of which is shown once, and ends the stream.
    pub(super) fn stream(&mut self, shown_height: usize, frames: usize) -> Vec<u8> {
        self.sequence(shown_height as u32);
        let mut left = frames;
        let mut reference = 0;
        // The place of the next frame within its group, in display order.
        let mut shown = 0;
        while left > 0 {
            let coding = if reference % 4 == 0 { Type::I } else { Type::P };
            left -= 1;
            // A group begins with its I picture, also in display order.
            let between = if self.tools.b_pictures && coding == Type::P {
                left.min(2)
            } else {
                0
            };
            if coding == Type::I {
                self.group();
                shown = 0;
            }
            self.frame(coding, reference, shown + between);
            for place in 0..between {
                self.frame(Type::B, reference, shown + place);
            }
            left -= between;
            shown += between + 1;
            reference += 1;
        }
        self.bits.start_code(0xb7);
        std::mem::take(&mut self.bits.bytes)
    }

    fn sequence(&mut self, shown_height: u32) {
        self.bits.start_code(0xb3);
        self.bits.put(12, self.width as u32);
        self.bits.put(12, shown_height);
        // Square samples, 30 Hz, 80 Mbit/s, marker, the largest buffer, no constraint.
        self.bits.put(4, 1);
        self.bits.put(4, 5);
        self.bits.put(18, 200_000);
        self.bits.put(1, 1);
        self.bits.put(10, 597);
        self.bits.put(1, 0);
        if self.tools.matrices {
            self.matrix(true);
            self.matrix(false);
        } else {
            self.bits.put(2, 0);
        }
        self.bits.start_code(0xb5);
        // Sequence extension: Main profile at High level, interlaced, 4:2:0.
        self.bits.put(4, 1);
        self.bits.put(8, 0x44);
        self.bits.put(1, 0);
        self.bits.put(2, 1);
        self.bits.put(4, 0);
        self.bits.put(12, 0);
        self.bits.put(1, 1);
        self.bits.put(16, 0);
    }

    /// Writes a flag and a matrix; the first entry of an intra matrix is 8.
    fn matrix(&mut self, intra: bool) {
        self.bits.put(1, 1);
        for entry in 0..64 {
            let value = if intra && entry == 0 {
                8
            } else {
                8 + self.random.below(56) as u32
            };
            self.bits.put(8, value);
        }
    }

    /// Begins a closed group.
    fn group(&mut self) {
        self.bits.start_code(0xb8);
        self.bits.put(12, 0);
        self.bits.put(1, 1);
        self.bits.put(12, 0);
        self.bits.put(2, 2);
    }

    /// Writes a frame, or both its fields. `place` is its place in the group, in display order.
    fn frame(&mut self, coding: Type, number: usize, place: usize) {
        let picture = Picture {
            coding,
            structure: Structure::Frame,
            place: place as u32,
            precision: number as u32 % 4,
            alternative: self.tools.alternatives && number % 2 == 1,
        };
        if !self.tools.fields {
            self.picture(picture);
            return;
        }
        // The second field of an intra frame may be predicted from the first.
        let second = if coding == Type::I && number % 8 != 0 {
            Type::P
        } else {
            coding
        };
        let (first, last) = if number % 3 == 2 {
            (Structure::Bottom, Structure::Top)
        } else {
            (Structure::Top, Structure::Bottom)
        };
        self.picture(Picture {
            structure: first,
            ..picture
        });
        self.picture(Picture {
            structure: last,
            coding: second,
            ..picture
        });
    }

    fn picture(&mut self, picture: Picture) {
        self.headers(&picture);
        let rows = if picture.is_frame() {
            self.height / 16
        } else {
            self.height / 32
        };
        for row in 0..rows {
            self.bits.start_code(row as u8 + 1);
            let scale = 1 + self.random.below(6) as u32;
            self.bits.put(5, scale);
            self.bits.put(1, 0);
            self.predictors = Default::default();
            self.reset_dc(&picture);
            for column in 0..self.width / 16 {
                // macroblock_address_increment 1.
                self.bits.code("1");
                self.macroblock(&picture, (column * 16, row * 16));
            }
        }
    }

    fn headers(&mut self, picture: &Picture) {
        let bits = &mut self.bits;
        bits.start_code(0x00);
        bits.put(10, picture.place);
        bits.put(3, picture.coding as u32);
        bits.put(16, 0xffff);
        for _ in 0..picture.coding as u32 - 1 {
            bits.put(4, 0b0111);
        }
        bits.put(1, 0);
        bits.start_code(0xb5);
        bits.put(4, 8);
        let concealment = self.tools.concealment;
        for direction in 0..2 {
            let used = picture.coding as u32 > direction + 1 || direction == 0 && concealment;
            let code = if used { F_CODE } else { 15 };
            bits.put(4, code);
            bits.put(4, code);
        }
        bits.put(2, picture.precision);
        bits.put(2, picture.structure as u32);
        // The top field is first; of field pictures their order says so.
        bits.put(1, u32::from(picture.is_frame()));
        let frame_pred_frame_dct = 0;
        bits.put(1, frame_pred_frame_dct);
        bits.put(1, concealment.into());
        bits.put(1, picture.alternative.into());
        bits.put(1, picture.alternative.into());
        bits.put(1, picture.alternative.into());
        // No repeated field, 4:2:0 by field, interlaced, no composite display.
        bits.put(4, 0);
        if self.tools.matrices {
            self.bits.start_code(0xb5);
            self.bits.put(4, 3);
            self.matrix(true);
            self.matrix(false);
            self.bits.put(2, 0);
        }
    }

    fn reset_dc(&mut self, picture: &Picture) {
        self.dc = [128 << picture.precision; 3];
    }

    fn macroblock(&mut self, picture: &Picture, place: (i32, i32)) {
        let intra = picture.coding == Type::I || self.random.below(8) == 0;
        // macroblock_type (tables B-2 to B-4).
        if intra {
            self.bits
                .code(if picture.coding == Type::I { "1" } else { "00011" });
            if picture.is_frame() {
                let dct_type = self.random.below(2) as u32;
                self.bits.put(1, dct_type);
            }
            if self.tools.concealment {
                self.concealed += 1;
                self.vectors(picture, place, 0, Motion::Whole);
                self.bits.put(1, 1);
            } else {
                self.predictors = Default::default();
            }
            for block in 0..6 {
                self.intra_block(picture, block);
            }
            return;
        }
        let pattern = self.random.below(2) == 1;
        let directions = if picture.coding == Type::P {
            1
        } else {
            1 + self.random.below(3) as usize
        };
        self.bits.code(match (picture.coding, directions, pattern) {
            (Type::P, _, false) => "001",
            (Type::P, _, true) => "1",
            (_, 1, false) => "0010",
            (_, 1, true) => "0011",
            (_, 2, false) => "010",
            (_, 2, true) => "011",
            (_, _, false) => "10",
            (_, _, true) => "11",
        });
        let motion = self.motion(picture, place);
        self.bits.code(match (motion, picture.is_frame()) {
            (Motion::Whole, true) | (Motion::Halves, false) => "10",
            (Motion::Halves, true) | (Motion::Whole, false) => "01",
            (Motion::DualPrime, _) => "11",
        });
        if picture.is_frame() && pattern {
            let dct_type = self.random.below(2) as u32;
            self.bits.put(1, dct_type);
        }
        for direction in 0..2 {
            if directions & (1 << direction) != 0 {
                self.vectors(picture, place, direction, motion);
            }
        }
        self.reset_dc(picture);
        if pattern {
            let (blocks, code) = self.random.pick(&PATTERNS);
            self.bits.code(code);
            for block in 0..6 {
                if blocks & (32 >> block) != 0 {
                    self.coefficients();
                }
            }
        }
    }

    fn motion(&mut self, picture: &Picture, (x, y): (i32, i32)) -> Motion {
        let rows = if picture.is_frame() {
            self.height
        } else {
            self.height / 2
        };
        // Derived vectors of dual prime are half as long again: they need room on all sides.
        let inside = x >= 32 && y >= 32 && x < self.width - 48 && y < rows - 48;
        match self.random.below(3) {
            0 if self.tools.dual_prime && picture.coding == Type::P && inside => {
                self.dual_primes += 1;
                Motion::DualPrime
            }
            1 => {
                self.halves += 1;
                Motion::Halves
            }
            _ => Motion::Whole,
        }
    }

    /// Writes `motion_vectors()` (6.2.5.2).
    fn vectors(&mut self, picture: &Picture, (x, y): (i32, i32), direction: usize, motion: Motion) {
        let frame_vector = picture.is_frame() && motion == Motion::Whole;
        let count = if motion == Motion::Halves { 2 } else { 1 };
        for vector in 0..count {
            if !frame_vector && motion != Motion::DualPrime {
                let field_select = self.random.below(2) as u32;
                self.bits.put(1, field_select);
            }
            // The samples that the vector's block may lie in, in units of its own lines.
            let (top, lines, rows) = match (picture.is_frame(), motion) {
                (true, Motion::Whole) => (y, 16, self.height),
                (true, _) => (y / 2, 8, self.height / 2),
                (false, Motion::Halves) => (y + 8 * vector as i32, 8, self.height / 2),
                (false, _) => (y, 16, self.height / 2),
            };
            let target = match motion {
                Motion::DualPrime => [self.near(8), self.near(8)],
                _ => [self.within(x, 16, self.width), self.within(top, lines, rows)],
            };
            // 7.6.3.1: of a frame's fields, predictors count lines of the frame.
            let halved = picture.is_frame() && !frame_vector;
            for (component, value) in target.into_iter().enumerate() {
                let halved = halved && component == 1;
                let predictor = self.predictors[vector][direction][component];
                let predictor = if halved {
                    predictor.div_euclid(2)
                } else {
                    predictor
                };
                self.vector_difference(value - predictor);
                if motion == Motion::DualPrime {
                    let dmvector = self.random.pick(&["0", "10", "11"]);
                    self.bits.code(dmvector);
                }
                let value = if halved { value * 2 } else { value };
                self.predictors[vector][direction][component] = value;
                if count == 1 {
                    self.predictors[1][direction][component] = value;
                }
            }
        }
    }

    /// Draws a component of a vector, in half samples, for a block of `size` at `at` that stays within
    /// `whole`.
    fn within(&mut self, at: i32, size: i32, whole: i32) -> i32 {
        // Half a sample needs one more.
        let (least, most) = (-2 * at, 2 * (whole - size - at) - 1);
        let (least, most) = (least.max(-24), most.clamp(0, 24));
        least.min(0) + self.random.below((most - least.min(0) + 1) as u64) as i32
    }

    fn near(&mut self, most: i32) -> i32 {
        self.random.below(2 * most as u64 + 1) as i32 - most
    }

    /// Writes `motion_code` and `motion_residual` (6.2.5.2.1, 7.6.3.1).
    fn vector_difference(&mut self, difference: i32) {
        let wrapped = (difference + HALF_RANGE).rem_euclid(2 * HALF_RANGE) - HALF_RANGE;
        let scale = F_CODE - 1;
        let magnitude = wrapped.abs();
        if magnitude == 0 {
            self.bits.code(MOTION_CODES[0]);
            return;
        }
        let code = ((magnitude - 1) >> scale) + 1;
        self.bits.code(MOTION_CODES[code as usize]);
        self.bits.put(1, u32::from(wrapped < 0));
        self.bits
            .put(scale, ((magnitude - 1) & ((1 << scale) - 1)) as u32);
    }

    fn intra_block(&mut self, picture: &Picture, block: usize) {
        let component = block.saturating_sub(3);
        let value = (40 + self.random.below(176) as i32) << picture.precision;
        let difference = value - self.dc[component];
        self.dc[component] = value;
        let size = 32 - difference.unsigned_abs().leading_zeros();
        self.bits
            .code(DC_SIZES[usize::from(component > 0)][size as usize]);
        let bits = if difference < 0 {
            difference + (1 << size) - 1
        } else {
            difference
        };
        self.bits.put(size, bits as u32);
        if self.random.below(4) == 0 {
            let run = self.random.below(20) as u32;
            self.escape(run);
        }
        // Table B-15 has another end of block.
        self.bits.code(if picture.alternative { "0110" } else { "10" });
    }

    /// Writes the coefficients of a block that is not intra.
    fn coefficients(&mut self) {
        let run = if self.random.below(2) == 0 {
            0
        } else {
            self.random.below(30) as u32
        };
        self.escape(run);
        self.bits.code("10");
    }

    fn escape(&mut self, run: u32) {
        self.bits.code(ESCAPE);
        self.bits.put(6, run);
        let level = 1 + self.random.below(12) as i32;
        let level = if self.random.below(2) == 0 { level } else { -level };
        self.bits.put(12, level as u32 & 0xfff);
    }
}
