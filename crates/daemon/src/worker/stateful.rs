// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A worker of the stateful face: decodes the stream of one session until the session is over.
//!
//! Units are given back as the decoder takes them, pictures as raw buffers are lent. If no raw buffer is
//! lent, a few pictures are decoded ahead, and then the units stay where they are. The module tells when the
//! client stops a queue, seeks or drains; this worker tells when the format changes. It waits for messages in
//! read() alone, without a timeout.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use daedalus_engine::stateful::{Step, StreamDecoder, StreamFormat, StreamPicture};
use daedalus_engine::{EngineError, JobError, Options, RawPicture};
use daedalus_uapi::fd::{Buffer, DmaBufAccess, MessageBuffer, SessionFd};
use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::stateful::{Echo, Format, MsgCoded, MsgRaw, Picture, StatefulMessage};
use daedalus_uapi::protocol::{STATUS_ERROR, STATUS_OK};
use rustix::fd::AsFd;
use rustix::io::Errno;
use thiserror::Error;

use super::buffers::{BufferCache, BufferError};
use super::fault::{Action, Fault};

/// Pictures that are decoded ahead while no raw buffer is lent.
const AHEAD: usize = 2;

/// The calls of the module that a worker makes.
pub(super) trait Session {
    /// Waits for the next message; `None` at the session's end.
    fn read<'b>(&mut self, buffer: &'b mut MessageBuffer) -> rustix::io::Result<Option<&'b [u8]>>;
    /// Returns the memory with this id.
    fn buffer(&mut self, id: u64) -> rustix::io::Result<Buffer>;
    /// Tells the stream's format. Returns whether the worker goes on at once.
    fn format(&mut self, format: Format) -> rustix::io::Result<bool>;
    /// Gives a raw buffer back with a picture.
    fn picture(&mut self, picture: Picture) -> rustix::io::Result<()>;
    /// Gives a unit back with a `STATUS_*`.
    fn coded_done(&mut self, unit: u64, status: u32) -> rustix::io::Result<()>;
    /// Ends a drain, whose pictures are all given.
    fn end(&mut self) -> rustix::io::Result<()>;
    /// Leaves parameter sets for the worker that replaces this one.
    fn headers(&mut self, headers: &[u8]) -> rustix::io::Result<()>;
}

impl<F: AsFd> Session for SessionFd<F> {
    fn read<'b>(&mut self, buffer: &'b mut MessageBuffer) -> rustix::io::Result<Option<&'b [u8]>> {
        self.read_message(buffer)
    }

    fn buffer(&mut self, id: u64) -> rustix::io::Result<Buffer> {
        self.buffer_fd(id)
    }

    fn format(&mut self, format: Format) -> rustix::io::Result<bool> {
        SessionFd::format(self, format)
    }

    fn picture(&mut self, picture: Picture) -> rustix::io::Result<()> {
        SessionFd::picture(self, picture)
    }

    fn coded_done(&mut self, unit: u64, status: u32) -> rustix::io::Result<()> {
        SessionFd::coded_done(self, unit, status)
    }

    fn end(&mut self) -> rustix::io::Result<()> {
        SessionFd::end(self)
    }

    fn headers(&mut self, headers: &[u8]) -> rustix::io::Result<()> {
        SessionFd::headers(self, headers)
    }
}

/// The reason why a unit or a picture is lost.
#[derive(Debug, Error)]
enum Unusable {
    #[error(transparent)]
    Buffer(#[from] BufferError),
    #[error(transparent)]
    Coded(#[from] JobError),
}

/// A raw buffer that is lent.
struct RawBuffer {
    id: u64,
    /// The ids of its memory planes.
    memory: Vec<u64>,
    picture: RawPicture,
}

/// What keeps the decoder from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Nothing.
    None,
    /// The client must adapt CAPTURE to the format.
    Format,
    /// A message that says to flush is on its way.
    Flush,
    /// The module offers no CAPTURE format for the stream.
    Unsupported,
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    None,
    /// Units are left.
    Pending,
    /// The decoder knows that no unit follows.
    Running,
    /// Every picture has come out of the decoder.
    Complete,
}

/// A worker of the stateful face.
pub(super) struct Worker<S> {
    session: S,
    options: Options,
    faults: Vec<Fault>,
    buffers: BufferCache,
    decoder: Option<StreamDecoder<(u64, Echo)>>,
    /// Units that the decoder has not got.
    units: VecDeque<MsgCoded>,
    /// The unit that began a format for which the client is not ready.
    held: Option<u64>,
    raws: VecDeque<RawBuffer>,
    /// Pictures that wait for a raw buffer.
    ready: VecDeque<StreamPicture<(u64, Echo)>>,
    /// The format that the module knows.
    format: Option<StreamFormat>,
    pause: Pause,
    drain: Drain,
}

impl<S: Session> Worker<S> {
    /// Creates a worker. `cleaned` says that the module makes written data visible to devices.
    pub(super) fn new(session: S, options: Options, faults: Vec<Fault>, cleaned: bool) -> Self {
        let mut buffers = BufferCache::default();
        buffers.cleaned = cleaned;
        Self {
            session,
            options,
            faults,
            buffers,
            decoder: None,
            units: VecDeque::new(),
            held: None,
            raws: VecDeque::new(),
            ready: VecDeque::new(),
            format: None,
            pause: Pause::None,
            drain: Drain::None,
        }
    }

    /// Serves the session until it is over.
    ///
    /// # Errors
    /// If the module breaks the protocol, or no decoder can be opened.
    pub(super) fn run(&mut self, msg_max: usize) -> Result<()> {
        let mut buffer = MessageBuffer::with_size(msg_max);
        loop {
            self.advance()?;
            let Some(bytes) = self.session.read(&mut buffer).context("reading a message")? else {
                tracing::debug!("the session is over");
                return Ok(());
            };
            match StatefulMessage::parse(bytes) {
                Ok(message) => self.handle(message)?,
                Err(error) => tracing::error!(%error, "a message cannot be read"),
            }
        }
    }

    fn handle(&mut self, message: StatefulMessage<'_>) -> Result<()> {
        match message {
            StatefulMessage::Start(start, headers) => self.start(start.coded_format, headers)?,
            StatefulMessage::Coded(unit) => {
                tracing::trace!(unit = unit.unit, bytes = unit.coded.length, "read");
                self.units.push_back(*unit);
            }
            StatefulMessage::Raw(raw) => self.lend(raw),
            StatefulMessage::Continue => {
                if self.pause == Pause::Format {
                    self.pause = Pause::None;
                    self.give_back_held()?;
                }
            }
            StatefulMessage::Drain => self.drain = Drain::Pending,
            StatefulMessage::Flush => self.flush(),
            StatefulMessage::Reclaim => self.raws.clear(),
            StatefulMessage::BufferGone(id) => {
                tracing::trace!(buffer = id, "gone");
                self.buffers.remove(id);
            }
            StatefulMessage::Unknown(kind) => tracing::debug!(kind, "message of an unknown type skipped"),
        }
        Ok(())
    }

    /// Begins a stream of this coded format, with the parameter sets that an earlier worker had.
    fn start(&mut self, coded_format: u32, headers: &[u8]) -> Result<(), EngineError> {
        self.flush();
        self.decoder = None;
        let mut decoder = StreamDecoder::open(coded_format, &self.options)?;
        if !headers.is_empty() {
            decoder.prime(headers);
        }
        self.decoder = Some(decoder);
        tracing::info!(codec = %fourcc::name(coded_format), "decoder opened");
        Ok(())
    }

    /// Forgets all units and pictures, because the client stopped OUTPUT.
    fn flush(&mut self) {
        self.units.clear();
        self.ready.clear();
        self.raws.clear();
        self.held = None;
        // The format is told again, since the module may wait for the client.
        self.format = None;
        self.pause = Pause::None;
        self.drain = Drain::None;
        if let Some(decoder) = &mut self.decoder {
            decoder.flush();
        }
    }

    /// Takes a raw buffer. If its memory cannot be mapped, pictures go elsewhere.
    fn lend(&mut self, raw: &MsgRaw) {
        let mut planes = Vec::new();
        for plane in raw.raw_planes() {
            match self.buffers.plane(plane, true, |id| self.session.buffer(id)) {
                Ok(view) => planes.push(view),
                Err(error) => {
                    tracing::warn!(raw = raw.raw, %error, "unusable");
                    return;
                }
            }
        }
        self.raws.push_back(RawBuffer {
            id: raw.raw,
            memory: raw.raw_planes().iter().map(|plane| plane.buffer).collect(),
            picture: RawPicture {
                format: raw.raw_format,
                width: raw.width,
                height: raw.height,
                planes,
            },
        });
    }

    /// Decodes and outputs as much as can be done without another message.
    fn advance(&mut self) -> Result<()> {
        loop {
            if self.pause == Pause::Unsupported {
                return self.refuse_units();
            }
            if self.pause != Pause::None || !self.output()? {
                return Ok(());
            }
            if self.ready.len() >= AHEAD {
                return Ok(());
            }
            if self.drain == Drain::Complete {
                return self.finish_drain();
            }
            let Some(decoder) = &mut self.decoder else {
                return Ok(());
            };
            match decoder.step() {
                Step::Picture(picture) => self.ready.push_back(picture),
                Step::Drained => self.drain = Drain::Complete,
                Step::Hungry => match self.units.pop_front() {
                    Some(unit) => self.feed(&unit)?,
                    None if self.drain == Drain::Pending => {
                        decoder.drain();
                        self.drain = Drain::Running;
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    /// Outputs the pictures that are ready, as long as raw buffers are lent. Returns false if the client must
    /// act first.
    fn output(&mut self) -> Result<bool> {
        while let Some(picture) = self.ready.front() {
            let format = picture.format;
            if self.format != Some(format) {
                self.tell_format(format)?;
                if self.pause != Pause::None {
                    return Ok(false);
                }
            }
            let Some(raw) = self.raws.pop_front() else {
                return Ok(self.drain != Drain::Complete);
            };
            self.write(&raw)?;
            if self.pause != Pause::None {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells the module the format of the next picture.
    fn tell_format(&mut self, format: StreamFormat) -> Result<()> {
        let message = Format {
            width: format.width,
            height: format.height,
            coded_width: format.coded_width,
            coded_height: format.coded_height,
            depth: u32::from(format.depth),
            colorspace: format.colorspace,
            xfer_func: format.xfer_func,
            ycbcr_enc: format.ycbcr_enc,
            quantization: format.quantization,
            ..Format::default()
        };
        match self.session.format(message) {
            Ok(true) => self.format = Some(format),
            Ok(false) => {
                self.format = Some(format);
                // The module may give the client any buffer as the last one.
                self.raws.clear();
                self.pause = Pause::Format;
            }
            Err(Errno::CANCELED) => self.pause = Pause::Flush,
            Err(Errno::INVAL) => {
                tracing::warn!(?format, "no CAPTURE format for the stream");
                self.pause = Pause::Unsupported;
            }
            Err(error) => return Err(error).context("telling the format"),
        }
        Ok(())
    }

    /// Writes the first picture that is ready into a raw buffer, and gives it back.
    fn write(&mut self, raw: &RawBuffer) -> Result<()> {
        let Some(picture) = self.ready.front() else {
            return Ok(());
        };
        let (unit, echo) = picture.echo.unwrap_or_default();
        let written = self.begin(raw).map_err(Unusable::from).and_then(|brackets| {
            let written = picture.write(&raw.picture);
            self.end(&brackets);
            Ok(written?)
        });
        if let Err(error) = &written {
            tracing::warn!(unit, %error, "a picture is not written");
        }
        let failed = picture.damaged || written.is_err() || self.has_fault(Action::Error, unit);
        let message = Picture {
            raw: raw.id,
            echo,
            status: if failed { STATUS_ERROR } else { STATUS_OK },
            reserved: 0,
        };
        match self.session.picture(message) {
            Ok(()) => {
                self.ready.pop_front();
            }
            // CAPTURE was stopped: the picture goes into another buffer.
            Err(Errno::NOENT) => {}
            Err(Errno::CANCELED) => self.pause = Pause::Flush,
            Err(error) => return Err(error).context("giving a picture"),
        }
        Ok(())
    }

    /// Opens the access brackets of a raw buffer's imported planes: all, or none if one is refused.
    fn begin(&self, raw: &RawBuffer) -> Result<Vec<u64>, BufferError> {
        let mut open = Vec::new();
        for &id in &raw.memory {
            match self.buffers.begin(id, DmaBufAccess::ReadWrite) {
                Ok(true) => open.push(id),
                Ok(false) => {}
                Err(error) => {
                    self.end(&open);
                    return Err(error);
                }
            }
        }
        Ok(open)
    }

    fn end(&self, brackets: &[u64]) {
        for &id in brackets.iter().rev() {
            if let Err(error) = self.buffers.end(id, DmaBufAccess::ReadWrite) {
                tracing::warn!(%error, "after an access");
            }
        }
    }

    /// Gives a unit to the decoder, and back to the module.
    fn feed(&mut self, unit: &MsgCoded) -> Result<()> {
        self.make_faults_before(unit.unit);
        let found = match self.take(unit) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(unit = unit.unit, %error, "a unit is lost");
                return self.give_back(unit.unit, STATUS_ERROR);
            }
        };
        let changed = self.decoder.as_mut().and_then(StreamDecoder::changed_headers);
        if let Some(headers) = changed {
            self.session.headers(&headers).context("leaving parameter sets")?;
        }
        if let Some(format) = found {
            self.tell_format(format)?;
            if self.pause == Pause::Format {
                self.held = Some(unit.unit);
                return Ok(());
            }
        }
        self.give_back(unit.unit, STATUS_OK)
    }

    /// Copies a unit into the decoder. Returns the stream's format if it is new and the unit tells it.
    fn take(&mut self, unit: &MsgCoded) -> Result<Option<StreamFormat>, Unusable> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(None);
        };
        let coded = self
            .buffers
            .plane(&unit.coded, false, |id| self.session.buffer(id))?;
        let bracket = self.buffers.begin(unit.coded.buffer, DmaBufAccess::Read)?;
        let found = decoder.feed(&coded, (unit.unit, unit.echo), self.format.is_none());
        if bracket {
            if let Err(error) = self.buffers.end(unit.coded.buffer, DmaBufAccess::Read) {
                tracing::warn!(%error, "after an access");
            }
        }
        Ok(found?)
    }

    fn give_back(&mut self, unit: u64, status: u32) -> Result<()> {
        if self.has_fault(Action::Drop, unit) {
            tracing::warn!(unit, "not given back on purpose");
            return Ok(());
        }
        match self.session.coded_done(unit, status) {
            // The client has stopped OUTPUT.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).context(format!("giving unit {unit} back")),
        }
    }

    fn give_back_held(&mut self) -> Result<()> {
        match self.held.take() {
            Some(unit) => self.give_back(unit, STATUS_OK),
            None => Ok(()),
        }
    }

    /// Gives back the units of a stream that cannot be shown.
    fn refuse_units(&mut self) -> Result<()> {
        self.ready.clear();
        while let Some(unit) = self.units.pop_front() {
            self.give_back(unit.unit, STATUS_ERROR)?;
        }
        match self.drain {
            Drain::None => Ok(()),
            _ => self.finish_drain(),
        }
    }

    /// Ends a drain: no raw buffer is lent any more.
    fn finish_drain(&mut self) -> Result<()> {
        match self.session.end() {
            Ok(()) => {
                self.drain = Drain::None;
                self.raws.clear();
            }
            Err(Errno::CANCELED) => self.pause = Pause::Flush,
            Err(error) => return Err(error).context("ending a drain"),
        }
        Ok(())
    }

    /// Makes the faults that come before a unit is decoded.
    fn make_faults_before(&self, unit: u64) {
        for fault in self.faults.iter().filter(|fault| fault.hits(unit)) {
            match fault.action {
                Action::Stall(time) => {
                    tracing::warn!(unit, ?time, "stalling on purpose");
                    std::thread::sleep(time);
                }
                Action::Crash => {
                    tracing::error!(unit, "crashing on purpose");
                    std::process::abort();
                }
                Action::Error | Action::Drop => {}
            }
        }
    }

    fn has_fault(&self, action: Action, unit: u64) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.action == action && fault.hits(unit))
    }
}

#[cfg(test)]
mod tests;
