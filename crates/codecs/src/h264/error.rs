// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Errors.

/// Why the parameter sets cannot be written from the controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum H264Error {
    /// A value which the syntax element cannot have.
    #[error("{field} is {value}, not {min} to {max}")]
    OutOfRange {
        /// The control's field.
        field: &'static str,
        /// Its value.
        value: i32,
        /// The smallest value that H.264 allows.
        min: i32,
        /// The largest value that H.264 allows.
        max: i32,
    },
    /// A scaling list that applies to the picture has an entry of 0.
    #[error("scaling list {list} has an entry of 0")]
    ScalingList {
        /// Index in the order of table 7-2: 0 to 5 the 4x4 lists, 6 to 11 the 8x8 lists.
        list: usize,
    },
    /// The PPS has more than one slice group, whose map is not in the control.
    #[error("{count} slice groups: their map is not in the control")]
    SliceGroups {
        /// Number of slice groups.
        count: u32,
    },
    /// The PPS control names another SPS than the SPS control.
    #[error("the PPS is for SPS {pps}, the SPS is {sps}")]
    SpsMismatch {
        /// `seq_parameter_set_id` of the PPS.
        pps: u8,
        /// `seq_parameter_set_id` of the SPS.
        sps: u8,
    },
}
