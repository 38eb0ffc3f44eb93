// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Passes on a worker's log lines with the session's id. Length, rate and characters are limited: the author
//! of a video may control the worker that decodes it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::{Errno, read, retry_on_intr};
use tracing::Level;

use crate::logging::split_level;

/// The most bytes of a line. The rest is cut off.
const MAX_LINE: usize = 512;
/// The most lines of one worker in one [`WINDOW`]. The others are dropped.
const BUDGET: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);
/// The most bytes that are read from the pipe at once. A pipe holds 64 KiB.
const CHUNK: usize = 4096;

/// The reading end of a worker's log pipe.
#[derive(Debug)]
pub(crate) struct Relay {
    session: u64,
    pipe: OwnedFd,
    /// The pipe has ended.
    ended: bool,
    lines: Lines,
    window: Instant,
    budget: u32,
}

impl Relay {
    /// `pipe` must be non-blocking.
    pub(crate) fn new(session: u64, pipe: OwnedFd) -> Self {
        Self {
            session,
            pipe,
            ended: false,
            lines: Lines::default(),
            window: Instant::now(),
            budget: BUDGET,
        }
    }

    /// Returns when the pipe is to be read: now, or when the limit allows it; `None` after its end.
    pub(crate) fn next_read(&self, now: Instant) -> Option<Instant> {
        let limited = self.budget == 0 && now < self.window + WINDOW;
        (!self.ended).then_some(if limited { self.window + WINDOW } else { now })
    }

    /// Logs the lines that are in the pipe, as many as the limit allows.
    pub(crate) fn forward(&mut self) {
        let now = Instant::now();
        if now >= self.window + WINDOW {
            (self.window, self.budget) = (now, BUDGET);
        }
        while self.budget > 0 && !self.ended {
            let mut bytes = [0; CHUNK];
            match retry_on_intr(|| read(&self.pipe, &mut bytes)) {
                Ok(0) => self.ended = true,
                Ok(count) => self.take(bytes.get(..count).unwrap_or_default()),
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    tracing::warn!(session = self.session, %error, "reading the worker's log");
                    self.ended = true;
                }
            }
        }
    }

    /// Logs the last lines of a worker that has ended, which may tell why. They have a limit of their own.
    pub(crate) fn finish(&mut self) {
        (self.window, self.budget) = (Instant::now(), BUDGET);
        self.forward();
        self.take(b"\n");
    }

    fn take(&mut self, bytes: &[u8]) {
        let Self {
            session,
            lines,
            budget,
            ..
        } = self;
        lines.feed(bytes, |line| {
            if *budget > 0 {
                log(*session, line);
                *budget -= 1;
                if *budget == 0 {
                    tracing::warn!(session = *session, "the worker logs too much; lines are dropped");
                }
            }
        });
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

fn log(session: u64, line: &str) {
    let (level, text) = split_level(line);
    match level {
        Level::ERROR => tracing::error!(session, "{text}"),
        Level::WARN => tracing::warn!(session, "{text}"),
        Level::INFO => tracing::info!(session, "{text}"),
        Level::DEBUG => tracing::debug!(session, "{text}"),
        Level::TRACE => tracing::trace!(session, "{text}"),
    }
}

/// Cuts a stream of bytes into lines of printable characters, of at most [`MAX_LINE`] bytes.
#[derive(Debug, Default)]
struct Lines {
    line: String,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(&str)) {
        for &byte in bytes {
            if byte == b'\n' {
                if !self.line.is_empty() {
                    emit(&self.line);
                }
                self.line.clear();
            } else if self.line.len() < MAX_LINE {
                // Terminals and log viewers act upon the others.
                let printable = byte.is_ascii_graphic() || byte == b' ';
                self.line.push(if printable { char::from(byte) } else { '?' });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.feed(chunk, |line| out.push(line.to_owned()));
        }
        out
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(lines(&[b"one\ntw", b"o\n\n", b"three"]), ["one", "two"]);
    }

    #[test]
    fn escapes_and_length_are_tamed() {
        assert_eq!(lines(&[b"\x1b[2Jred\xff\n"]), ["?[2Jred?"]);
        let long = [&[b'x'; 2000][..], b"\nshort\n"].concat();
        let cut = lines(&[&long]);
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 5]);
    }

    #[test]
    fn a_flood_is_left_in_the_pipe() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut relay = Relay::new(1, read);
        let now = Instant::now();
        assert_eq!(relay.next_read(now), Some(now));
        while rustix::io::write(&write, b"INFO again and again and again\n").is_ok() {}
        relay.forward();
        assert_eq!(relay.budget, 0);
        let later = relay.window + WINDOW;
        assert_eq!(relay.next_read(relay.window), Some(later));
        assert_eq!(relay.next_read(later + WINDOW), Some(later + WINDOW));
        // The window has not passed, so nothing is read.
        let before = relay.window;
        relay.forward();
        assert!(relay.window == before && relay.budget == 0);
    }

    #[test]
    fn the_end_of_the_pipe_is_no_busy_loop() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut relay = Relay::new(1, read);
        drop(write);
        relay.forward();
        assert_eq!(relay.next_read(Instant::now()), None);
    }
}
