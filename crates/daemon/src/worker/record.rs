// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records the session of a worker, for `daedalusd replay`.
//!
//! The broker opens the trace, which is the worker's standard output, so the worker opens no file. An error
//! of the trace ends the recording and never the session.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use daedalus_replay::Recorder;
use daedalus_trace::Session;
use rustix::io::retry_on_intr;

/// The trace of this worker, if there is one.
pub(crate) struct Recording(Option<Recorder<Box<dyn Write>>>);

impl Recording {
    /// Records nothing.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Records `session` to the standard output.
    pub(crate) fn to_stdout(session: u64) -> Self {
        Self::to(Box::new(Stdout), session)
    }

    /// Records `session` to `out`.
    pub(crate) fn to(out: Box<dyn Write>, session: u64) -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH);
        let session = Session {
            session,
            started: start.map_or(0, |time| time.as_secs()),
            big_endian: cfg!(target_endian = "big"),
            writer: concat!("daedalusd ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Self(Recorder::new(out, &session).inspect_err(warn).ok())
    }

    /// Adds to the trace. The first error ends it.
    pub(crate) fn note(&mut self, what: impl FnOnce(&mut Recorder<Box<dyn Write>>) -> io::Result<()>) {
        if let Some(trace) = &mut self.0 {
            if let Err(error) = what(trace) {
                warn(&error);
                self.0 = None;
            }
        }
    }

    /// The session is over.
    pub(crate) fn finish(&mut self) {
        if let Some(Err(error)) = self.0.take().map(Recorder::finish) {
            warn(&error);
        }
    }
}

fn warn(error: &io::Error) {
    tracing::warn!(%error, "the trace cannot be written; it ends here, and the session goes on");
}

/// The standard output without the line buffer that the standard library puts before it.
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::write(io::stdout(), bytes))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
