// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams of units behind start codes, split into units.

use crate::error::ParseError;

/// Returns the place of the next `00 00 01`.
fn start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|window| window == [0, 0, 1])
}

/// The units of a stream, without start codes and trailing zeros: no unit ends in a zero byte.
pub(super) struct Units {
    bytes: Vec<u8>,
    /// Just behind a start code; `None` at the end.
    at: Option<usize>,
}

impl Units {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let at = start_code(&bytes).map(|at| at + 3);
        Self { bytes, at }
    }
}

impl Iterator for Units {
    type Item = Result<Vec<u8>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.at?;
            let rest = &self.bytes[start..];
            let end = start_code(rest);
            self.at = end.map(|end| start + end + 3);
            let unit = &rest[..end.unwrap_or(rest.len())];
            let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
            if zeros < unit.len() {
                return Some(Ok(unit[..unit.len() - zeros].to_vec()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_of_both_lengths_separate() {
        let bytes = [
            0, 0, 0, 1, 9, 16, 0, 0, 0, 1, 7, 1, 2, 0, 0, 1, 8, 0, 0, 3, 1, 0, 0,
        ];
        let units: Vec<_> = Units::new(bytes.to_vec()).map(Result::unwrap).collect();
        assert_eq!(units, [vec![9, 16], vec![7, 1, 2], vec![8, 0, 0, 3, 1]]);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(Units::new(vec![]).count(), 0);
        assert_eq!(Units::new(vec![0, 0, 1, 0, 0, 1]).count(), 0);
    }
}
