// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Noise that comes out the same for the same seed.

use crate::hostile::random::Rng;

/// Noise from a generator.
#[derive(Clone, Debug)]
pub(super) struct Random(Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A value in `0..bound`; 0 if that is empty.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let noise = self.next().to_ne_bytes();
            chunk.copy_from_slice(&noise[..chunk.len()]);
        }
    }
}
