// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Remembers which earlier pictures are exact, by the timestamps with which controls name them.
//!
//! After damage the libraries go on and decode from references that are wrong, and they do not say so. Such
//! pictures are written, and are reported as errors because of this record.

use std::collections::VecDeque;

/// Number of pictures that are remembered. No codec here keeps more than 16 references, but a reference can
/// be as old as the stream. A picture that controls name is moved to the end, and is remembered as if it were
/// new.
pub(crate) const DEPTH: usize = 4096;

/// The record of one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PictureRecord {
    /// Position in decode order.
    pub(crate) index: u64,
    /// All of its pixels are right.
    pub(crate) exact: bool,
}

/// The pictures of a session.
#[derive(Debug)]
pub(crate) struct History {
    /// Timestamps and records, in the order in which they were last named. A client may use a timestamp
    /// again; it names the latest picture then.
    pictures: VecDeque<(u64, PictureRecord)>,
    next: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            // At once, so that it does not grow while a stream runs.
            pictures: VecDeque::with_capacity(DEPTH),
            next: 0,
        }
    }
}

impl History {
    /// Returns the latest picture with the timestamp.
    pub(crate) fn find(&mut self, timestamp: u64) -> Option<PictureRecord> {
        let at = self.pictures.iter().rposition(|(name, _)| *name == timestamp)?;
        let found = self.pictures.remove(at)?;
        self.pictures.push_back(found);
        Some(found.1)
    }

    /// Returns whether the picture is there and is not exact.
    pub(crate) fn is_wrong(&mut self, timestamp: u64) -> bool {
        self.find(timestamp).is_some_and(|picture| !picture.exact)
    }

    /// Returns whether the picture is not exact, or there never was such a picture.
    pub(crate) fn is_wrong_or_missing(&mut self, timestamp: u64) -> bool {
        self.find(timestamp).is_none_or(|picture| !picture.exact)
    }

    /// Returns the position of the picture that is added next.
    pub(crate) fn next_index(&self) -> u64 {
        self.next
    }

    /// Adds the picture that was just decoded.
    pub(crate) fn add(&mut self, timestamp: u64, exact: bool) {
        if self.pictures.len() == DEPTH {
            self.pictures.pop_front();
        }
        let index = self.next;
        self.next += 1;
        self.pictures
            .push_back((timestamp, PictureRecord { index, exact }));
    }

    /// Forgets all pictures: no later one can refer to them.
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
        history.add(u64::MAX, false);
        for timestamp in 0..3 * DEPTH as u64 {
            history.add(timestamp, false);
            assert!(history.is_wrong(u64::MAX), "it is named all the time");
        }
        assert_eq!(history.pictures.len(), DEPTH);
        assert!(history.is_wrong(3 * DEPTH as u64 - 1) && !history.is_wrong(0));
        assert!(history.is_wrong_or_missing(0));
    }
}
