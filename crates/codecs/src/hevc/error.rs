// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Errors.

/// Why a picture cannot be written from its controls and slice segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HevcError {
    /// A value which the syntax element cannot have.
    #[error("{field} is {value}, not {min} to {max}")]
    OutOfRange {
        /// The control's field.
        field: &'static str,
        /// Its value.
        value: i64,
        /// The smallest value that is possible.
        min: i64,
        /// The largest value that is possible.
        max: i64,
    },
    /// A scaling list of 16x16 or 32x32 blocks has a DC coefficient of 0.
    #[error("a scaling list has a DC coefficient of 0")]
    ScalingList,
    /// The SPS changed at a picture that may refer to earlier ones.
    #[error("the SPS changes within a sequence")]
    SpsChange,
    /// The buffer has no slice segment.
    #[error("no slice segment")]
    NoSegment,
    /// A slice segment's header ends too early, or names what the parameter sets have not got.
    #[error("a slice segment header cannot be read")]
    Header,
    /// The slice segments of a picture have different reference picture sets.
    #[error("the slice segments have different reference picture sets")]
    Sets,
}

/// Returns an error unless `value` is in `range`.
pub(super) fn within(
    field: &'static str,
    value: impl Into<i64>,
    range: std::ops::RangeInclusive<i64>,
) -> Result<(), HevcError> {
    let value = value.into();
    if range.contains(&value) {
        Ok(())
    } else {
        Err(HevcError::OutOfRange {
            field,
            value,
            min: *range.start(),
            max: *range.end(),
        })
    }
}
