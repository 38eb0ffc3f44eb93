// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes pictures into raw buffers in a thread of its own, so that a decoder of one thread goes on meanwhile.
//!
//! One picture is on its way at a time, so pictures are given back in order. From [`Writer::begin`] to
//! [`Writer::end`] the raw buffer is the thread's, which writes to it and gives it back to the module.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use daedalus_engine::RawPicture;
use daedalus_engine::stateful::StreamPicture;
use daedalus_uapi::protocol::STATUS_ERROR;
use daedalus_uapi::protocol::stateful::{Echo, Picture};
use rustix::io::Errno;

/// Gives a raw buffer back to the module with a picture.
pub(crate) type Give = Box<dyn FnMut(Picture) -> rustix::io::Result<()> + Send>;

/// A picture, with the id and the echo of its unit.
pub(super) type UnitPicture = StreamPicture<(u64, Echo)>;

/// A raw buffer that is lent.
pub(super) struct RawBuffer {
    pub(super) id: u64,
    /// The ids of its memory planes.
    pub(super) memory: Vec<u64>,
    pub(super) picture: RawPicture,
}

/// A picture, the raw buffer for it, and the message that gives that back.
struct Job {
    picture: UnitPicture,
    raw: RawBuffer,
    message: Picture,
}

/// The end of a picture's way.
pub(super) struct Written {
    /// The picture; `None` if the thread is gone.
    pub(super) picture: Option<UnitPicture>,
    /// The module's answer.
    pub(super) answer: rustix::io::Result<()>,
}

/// The thread, as the worker has it.
pub(super) struct Writer {
    jobs: SyncSender<Job>,
    written: Receiver<Written>,
    busy: bool,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(mut give: Give) -> io::Result<Self> {
        let (jobs, next) = sync_channel::<Job>(1);
        let (sender, written) = sync_channel(1);
        thread::Builder::new().name("writer".into()).spawn(move || {
            while let Ok(job) = next.recv() {
                let answer = give(write(&job));
                let picture = Some(job.picture);
                if sender.send(Written { picture, answer }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            jobs,
            written,
            busy: false,
        })
    }

    /// Returns whether a picture is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Begins a picture. None may be on its way.
    pub(super) fn begin(&mut self, picture: UnitPicture, raw: RawBuffer, message: Picture) {
        let job = Job {
            picture,
            raw,
            message,
        };
        // If the thread is gone, `end` says so.
        let _ = self.jobs.send(job);
        self.busy = true;
    }

    /// Returns the picture that was on its way, if there is one. With `wait`, waits until it has arrived.
    pub(super) fn end(&mut self, wait: bool) -> Option<Written> {
        if !self.busy {
            return None;
        }
        let gone = Written {
            picture: None,
            answer: Err(Errno::PIPE),
        };
        let written = if wait {
            self.written.recv().unwrap_or(gone)
        } else {
            match self.written.try_recv() {
                Ok(written) => written,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => gone,
            }
        };
        self.busy = false;
        Some(written)
    }
}

/// Writes the picture. Returns the message that tells how that went.
fn write(job: &Job) -> Picture {
    let mut message = job.message;
    if let Err(error) = job.picture.write(&job.raw.picture) {
        tracing::warn!(raw = job.raw.id, %error, "a picture is not written");
        message.status = STATUS_ERROR;
    }
    message
}
