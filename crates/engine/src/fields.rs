// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pairs the fields of a frame. Each field is a job of its own; both are decoded into one frame.

use std::sync::Arc;

use crate::capture::Lines;
use crate::frames::Frame;

/// The structure of a job's picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Structure {
    Frame,
    Field { bottom: bool },
}

/// A first field whose second field has not come yet.
#[derive(Debug)]
struct FirstField {
    frame: Arc<Frame>,
    bottom: bool,
}

/// The field that waits for the other one of its frame.
#[derive(Debug, Default)]
pub(crate) struct FieldPair {
    first: Option<FirstField>,
}

impl FieldPair {
    /// Returns whether a picture of this structure can be the second field of the frame whose first field
    /// was decoded last.
    pub(crate) fn is_completed_by(&self, structure: Structure) -> bool {
        let first = self.first.as_ref();
        first.is_some_and(|first| {
            structure
                == Structure::Field {
                    bottom: !first.bottom,
                }
        })
    }

    /// Finds the picture that a packet was decoded into. `frame` is the frame that the packet began; a second
    /// field begins none. Returns the picture's frame, and the lines of it that are decoded.
    pub(crate) fn place(
        &mut self,
        structure: Structure,
        frame: Option<Arc<Frame>>,
    ) -> Option<(Arc<Frame>, Lines)> {
        let completed = self.is_completed_by(structure);
        let first = self.first.take();
        match (frame, structure) {
            (Some(frame), Structure::Frame) => Some((frame, Lines::All)),
            (Some(frame), Structure::Field { bottom }) => {
                self.first = Some(FirstField {
                    frame: frame.clone(),
                    bottom,
                });
                // Until the second field comes the picture has this field on all lines, as libavcodec shows
                // it, too.
                let lines = if bottom {
                    Lines::BottomField
                } else {
                    Lines::TopField
                };
                Some((frame, lines))
            }
            (None, _) => first.filter(|_| completed).map(|first| (first.frame, Lines::All)),
        }
    }

    /// Forgets the first field.
    pub(crate) fn clear(&mut self) {
        self.first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Layout, Pool};

    #[test]
    fn a_second_field_has_the_other_parity() {
        let frame = || {
            let layout = Layout::new((16, 16), (16, 16), 8, true).expect("layout");
            Some(Pool::default().acquire(layout, None).expect("frame"))
        };
        let (top, bottom) = (
            Structure::Field { bottom: false },
            Structure::Field { bottom: true },
        );
        let mut pair = FieldPair::default();
        assert!(!pair.is_completed_by(bottom) && pair.place(bottom, None).is_none());
        let (first, lines) = pair.place(top, frame()).expect("it begins a frame");
        assert_eq!(lines, Lines::TopField);
        // A lone field before a frame, or before a frame whose first field has the same parity.
        assert!(!pair.is_completed_by(Structure::Frame) && !pair.is_completed_by(top));
        assert!(pair.is_completed_by(bottom));
        let (second, lines) = pair.place(bottom, None).expect("it completes the frame");
        assert!(Arc::ptr_eq(&first, &second) && lines == Lines::All);
        assert!(pair.place(top, None).is_none(), "the frame is complete");
        pair.place(bottom, frame()).expect("it begins a frame");
        let (_, lines) = pair.place(Structure::Frame, frame()).expect("a frame of its own");
        assert!(lines == Lines::All && !pair.is_completed_by(top));
    }
}
