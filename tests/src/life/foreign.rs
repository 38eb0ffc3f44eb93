// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recognises pieces of somebody else's pictures.

use std::collections::HashSet;

/// Bytes of a piece that is recognised, if they are not all alike.
const PIECE: usize = 12;
/// A piece of this length is found wherever it begins: pictures are looked at in steps.
pub(super) const RECOGNISED: usize = PIECE + STEP - 1;
const STEP: usize = 4;

/// Every piece of some pictures, which are noise: none of them turns up by chance.
#[derive(Debug, Default)]
pub(super) struct ForeignPieces(HashSet<[u8; PIECE]>);

impl ForeignPieces {
    pub(super) fn add(&mut self, picture: &[u8]) {
        for piece in picture.windows(PIECE) {
            let distinct: HashSet<&u8> = piece.iter().collect();
            if let (true, Ok(piece)) = (distinct.len() > PIECE / 2, piece.try_into()) {
                self.0.insert(piece);
            }
        }
    }

    /// Returns whether a piece of theirs is in `picture`.
    pub(super) fn is_in(&self, picture: &[u8]) -> bool {
        picture.windows(PIECE).step_by(STEP).any(|piece| {
            piece
                .try_into()
                .is_ok_and(|piece: [u8; PIECE]| self.0.contains(&piece))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_piece_is_found_at_any_place() {
        let mut random = Random::new(9);
        let mut theirs = vec![0; 5000];
        random.fill(&mut theirs);
        let mut foreign = ForeignPieces::default();
        foreign.add(&theirs);
        assert!(foreign.len() > 4000);
        for at in 0..8 {
            let mut ours = vec![0; 3000];
            random.fill(&mut ours);
            assert!(!foreign.is_in(&ours));
            ours[100 + at..100 + at + RECOGNISED].copy_from_slice(&theirs[333..333 + RECOGNISED]);
            assert!(foreign.is_in(&ours));
        }
        foreign.add(&[0x80; 400]);
        assert!(!foreign.is_in(&[0x80; 400]), "grey is nobody's");
    }
}
