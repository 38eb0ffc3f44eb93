// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The arithmetic encoder of HEVC (ITU-T H.265 9.3), with the contexts that the writer uses.

/// Table 9-52: `rangeTabLps`.
const RANGE_LPS: [[u16; 4]; 64] = [
    [128, 176, 208, 240],
    [128, 167, 197, 227],
    [128, 158, 187, 216],
    [123, 150, 178, 205],
    [116, 142, 169, 195],
    [111, 135, 160, 185],
    [105, 128, 152, 175],
    [100, 122, 144, 166],
    [95, 116, 137, 158],
    [90, 110, 130, 150],
    [85, 104, 123, 142],
    [81, 99, 117, 135],
    [77, 94, 111, 128],
    [73, 89, 105, 122],
    [69, 85, 100, 116],
    [66, 80, 95, 110],
    [62, 76, 90, 104],
    [59, 72, 86, 99],
    [56, 69, 81, 94],
    [53, 65, 77, 89],
    [51, 62, 73, 85],
    [48, 59, 69, 80],
    [46, 56, 66, 76],
    [43, 53, 63, 72],
    [41, 50, 59, 69],
    [39, 48, 56, 65],
    [37, 45, 54, 62],
    [35, 43, 51, 59],
    [33, 41, 48, 56],
    [32, 39, 46, 53],
    [30, 37, 43, 50],
    [29, 35, 41, 48],
    [27, 33, 39, 45],
    [26, 31, 37, 43],
    [24, 30, 35, 41],
    [23, 28, 33, 39],
    [22, 27, 32, 37],
    [21, 26, 30, 35],
    [20, 24, 29, 33],
    [19, 23, 27, 31],
    [18, 22, 26, 30],
    [17, 21, 25, 28],
    [16, 20, 23, 27],
    [15, 19, 22, 25],
    [14, 18, 21, 24],
    [14, 17, 20, 23],
    [13, 16, 19, 22],
    [12, 15, 18, 21],
    [12, 14, 17, 20],
    [11, 14, 16, 19],
    [11, 13, 15, 18],
    [10, 12, 15, 17],
    [10, 12, 14, 16],
    [9, 11, 13, 15],
    [9, 11, 12, 14],
    [8, 10, 12, 14],
    [8, 9, 11, 13],
    [7, 9, 11, 12],
    [7, 9, 10, 12],
    [7, 8, 10, 11],
    [6, 8, 9, 11],
    [6, 7, 9, 10],
    [6, 7, 8, 9],
    [2, 2, 2, 2],
];

/// Table 9-53: `transIdxLps`.
const NEXT_LPS: [u8; 64] = [
    0, 0, 1, 2, 2, 4, 4, 5, 6, 7, 8, 9, 9, 11, 11, 12, 13, 13, 15, 15, 16, 16, 18, 18, 19, 19, 21, 21, 22,
    22, 23, 24, 24, 25, 26, 26, 27, 27, 28, 29, 29, 30, 30, 30, 31, 32, 32, 33, 33, 33, 34, 34, 35, 35, 35,
    36, 36, 36, 37, 37, 37, 38, 38, 63,
];

/// A context variable.
#[derive(Clone, Copy, Default)]
pub(super) struct Variable {
    state: u8,
    mps: bool,
}

impl Variable {
    /// Initialises it (9.3.2.2).
    fn new(init_value: i32, qp: i32) -> Self {
        let (slope, offset) = (init_value >> 4, init_value & 15);
        let (m, n) = (slope * 5 - 45, (offset << 3) - 16);
        let pre = (((m * qp.clamp(0, 51)) >> 4) + n).clamp(1, 126);
        let mps = pre > 63;
        let state = if mps { pre - 64 } else { 63 - pre };
        Self {
            state: state as u8,
            mps,
        }
    }
}

/// The contexts of one slice type.
#[derive(Clone, Copy, Default)]
pub(super) struct Contexts {
    pub(super) skip: [Variable; 3],
    pub(super) intra: Variable,
    pub(super) part_mode: Variable,
}

impl Contexts {
    /// Initialises them for an I slice or a P slice.
    pub(super) fn new(inter: bool, qp: i32) -> Self {
        Self {
            skip: [197, 185, 201].map(|value| Variable::new(value, qp)),
            intra: Variable::new(149, qp),
            part_mode: Variable::new(if inter { 154 } else { 184 }, qp),
        }
    }
}

/// The encoder (9.3.4.5).
pub(super) struct Encoder {
    bytes: Vec<u8>,
    free: u32,
    low: u32,
    range: u32,
    outstanding: u32,
    first: bool,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            free: 0,
            low: 0,
            range: 510,
            outstanding: 0,
            first: true,
        }
    }

    fn write(&mut self, bit: bool) {
        if self.free == 0 {
            self.bytes.push(0);
            self.free = 8;
        }
        self.free -= 1;
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << self.free;
        }
    }

    fn put(&mut self, bit: bool) {
        if self.first {
            self.first = false;
        } else {
            self.write(bit);
        }
        for _ in 0..std::mem::take(&mut self.outstanding) {
            self.write(!bit);
        }
    }

    fn renormalise(&mut self) {
        while self.range < 256 {
            if self.low < 256 {
                self.put(false);
            } else if self.low >= 512 {
                self.low -= 512;
                self.put(true);
            } else {
                self.low -= 256;
                self.outstanding += 1;
            }
            self.range <<= 1;
            self.low <<= 1;
        }
    }

    /// Encodes a bin with a context.
    pub(super) fn decision(&mut self, variable: &mut Variable, bin: bool) {
        let quarter = (self.range >> 6) as usize & 3;
        let lps = u32::from(RANGE_LPS[usize::from(variable.state)][quarter]);
        self.range -= lps;
        if bin == variable.mps {
            variable.state = (variable.state + 1).min(62);
        } else {
            self.low += self.range;
            self.range = lps;
            if variable.state == 0 {
                variable.mps = !variable.mps;
            }
            variable.state = NEXT_LPS[usize::from(variable.state)];
        }
        self.renormalise();
    }

    /// Encodes a bin before termination. After one that is set, the encoder is at the start of a byte, and
    /// begins anew.
    pub(super) fn terminate(&mut self, bin: bool) {
        self.range -= 2;
        if !bin {
            self.renormalise();
            return;
        }
        self.low += self.range;
        self.range = 2;
        self.renormalise();
        self.put((self.low >> 9) & 1 != 0);
        self.write((self.low >> 8) & 1 != 0);
        // It is the stop bit or the alignment bit as well.
        self.write(true);
        self.free = 0;
        (self.low, self.range, self.outstanding, self.first) = (0, 510, 0, true);
    }

    /// Appends samples of 8 bit, after a terminating bin.
    pub(super) fn samples(&mut self, samples: &[u8]) {
        self.bytes.extend_from_slice(samples);
    }

    /// Returns the bytes after a terminating bin, and begins with none.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
