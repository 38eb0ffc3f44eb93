// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which earlier pictures are exact, by the timestamps with which controls name them.
//!
//! The libraries decode on after damage, from references that are wrong. Such pictures are written, and
//! reported as errors: only this record knows.

use std::collections::VecDeque;

/// Pictures that are remembered. No codec here keeps more than 16 references; a hidden or
/// non-reference picture takes a place as well.
const DEPTH: usize = 64;

/// What is known of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Position in decode order.
    pub(crate) index: u64,
    /// All of its pixels are right.
    pub(crate) exact: bool,
}

/// The pictures of a session.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Timestamps in decode order. Clients may use one again; the latest picture has it then.
    pictures: VecDeque<(u64, Known)>,
    next: u64,
}

impl History {
    /// The latest picture with the timestamp.
    pub(crate) fn find(&self, timestamp: u64) -> Option<Known> {
        self.pictures
            .iter()
            .rev()
            .find(|(known, _)| *known == timestamp)
            .map(|(_, picture)| *picture)
    }

    /// Whether it is known that the picture is not exact. Clients name pictures that never were (of
    /// slots that were never filled, of gaps in `frame_num`), so that an unknown one is no error.
    pub(crate) fn is_wrong(&self, timestamp: u64) -> bool {
        self.find(timestamp).is_some_and(|picture| !picture.exact)
    }

    /// Adds the picture that was just decoded. Returns its position.
    pub(crate) fn add(&mut self, timestamp: u64, exact: bool) -> u64 {
        if self.pictures.len() == DEPTH {
            self.pictures.pop_front();
        }
        let index = self.next;
        self.next += 1;
        self.pictures.push_back((timestamp, Known { index, exact }));
        index
    }

    /// Forgets all pictures.
    pub(crate) fn reset(&mut self) {
        self.pictures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_picture_has_the_timestamp() {
        let mut history = History::default();
        history.add(0, false);
        assert!(history.is_wrong(0));
        history.add(0, true);
        assert!(!history.is_wrong(0));
        assert!(!history.is_wrong(1));
        assert_eq!(history.find(0).map(|picture| picture.index), Some(1));
    }

    #[test]
    fn memory_is_bounded() {
        let mut history = History::default();
        for timestamp in 0..1000 {
            history.add(timestamp, false);
        }
        assert_eq!(history.pictures.len(), DEPTH);
        assert!(history.is_wrong(999) && !history.is_wrong(0));
    }
}
