// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A foreign parser, cros-codecs where it knows the codec, finds the controls' values in the writers' output;
//! and no control's bytes make the writers panic.

#[path = "controls/av1.rs"]
mod av1;
#[path = "controls/h264.rs"]
mod h264;
#[path = "controls/hevc.rs"]
mod hevc;
#[path = "controls/mpeg2.rs"]
mod mpeg2;

/// Draws control values from arbitrary bytes; zeros after their end, so that shrinking simplifies.
struct Draw<'a>(std::slice::Iter<'a, u8>);

impl<'a> Draw<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.iter())
    }

    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// Draws a value of `range`, which has at most 65536.
    fn within(&mut self, range: std::ops::RangeInclusive<i32>) -> i32 {
        let drawn = i32::from(u16::from_le_bytes([self.byte(), self.byte()]));
        range.start() + drawn % (range.end() - range.start() + 1)
    }

    fn u8(&mut self, range: std::ops::RangeInclusive<u8>) -> u8 {
        self.within((*range.start()).into()..=(*range.end()).into()) as u8
    }

    fn i8(&mut self, range: std::ops::RangeInclusive<i8>) -> i8 {
        self.within((*range.start()).into()..=(*range.end()).into()) as i8
    }
}
