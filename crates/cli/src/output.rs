// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes to the standard output, whose reader may close it at any time.

use std::fmt;
use std::io::{self, Write};

/// Writes a line to the standard output. `println!` would panic if the reader has closed the pipe.
pub(crate) fn print_line(line: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Writes a text to the standard output.
pub(crate) fn print_text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Returns whether the reader of the standard output has closed the pipe.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        // serde_json does not return its cause.
        let of_json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        of_io.or(of_json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}
