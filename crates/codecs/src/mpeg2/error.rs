// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Errors.

/// Why the headers cannot be written from the controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mpeg2Error {
    /// A value which the syntax element cannot have.
    #[error("{field} is {value}")]
    Value {
        /// The control's field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// A quantiser matrix has an entry of 0.
    #[error("{matrix} has an entry of 0")]
    Matrix {
        /// The control's field.
        matrix: &'static str,
    },
    /// The picture is a field, and the sequence or the frame is progressive.
    #[error("a field of a progressive frame or sequence")]
    ProgressiveField,
}
