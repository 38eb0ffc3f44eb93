// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Imitates clients of the stateful node: the calls that dev-decoder.rst leaves to the client, in the order
//! in which these clients make them.
//!
//! Chromium (`media/gpu/v4l2/v4l2_stateful_video_decoder.cc` at 00cf75ab, and Raspberry Pi OS's patches):
//! - `S_FMT` of OUTPUT without a size, 8 buffers, `STREAMON` before any unit; events of the source only.
//! - It looks for pictures before it looks for events. Each `V4L2_BUF_FLAG_LAST` is answered with
//!   `V4L2_DEC_CMD_START` at once, whether it ends a drain or a format. So the event that belongs to it has
//!   to be there by then.
//! - At the event: `G_FMT`, `ENUM_FMT` with a `TRY_FMT` of each format, `G_SELECTION`, the control with the
//!   fewest buffers (at most 16), `S_FMT`, 2 buffers more than that or than 8; `STREAMON`, then `QBUF`.
//! - `V4L2_DEC_CMD_STOP` when the last unit is queued, whether CAPTURE streams or not.
//! - A picture with the error flag is not shown, and none in a buffer with `V4L2_BUF_FLAG_LAST`.
//! - After an error of poll() it never polls again.
//!
//! Raspberry Pi's FFmpeg (`libavcodec/v4l2_m2m_dec.c` at 02064879, `v4l2_context.c` at 01463ade):
//! - `S_FMT` of OUTPUT with the container's size, `TRY_FMT` of CAPTURE, `ENUM_FRAMESIZES` of the raw format;
//!   the first unit is queued, then `STREAMON` and `V4L2_DEC_CMD_START`.
//! - CAPTURE streams from then on, with 20 buffers, without an event.
//! - An event is kept until CAPTURE is empty: until the last buffer, `EPIPE`, or until nothing is ready. Then
//!   `G_FMT` of both queues and `G_SELECTION`. Another size of CAPTURE makes new buffers. The same size is
//!   answered with `STREAMOFF` and `STREAMON` of CAPTURE. Another size of OUTPUT would throw its units away.
//! - While it drains, an empty buffer or the last flag is the end. An answer to an event makes it send
//!   `V4L2_DEC_CMD_STOP` again.

use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::device::{ClientError, Device};
use crate::queue::{Backing, DequeuedBuffer, Queue};
use crate::stateful::{OutputPicture, RawFormat, output_format};
use crate::v4l2;

/// A client of the stateful node that is imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatefulPersonality {
    /// Chromium's V4L2 stateful video decoder.
    Chromium,
    /// FFmpeg with Raspberry Pi's changes.
    RaspberryPi,
}

impl StatefulPersonality {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Chromium, Self::RaspberryPi];

    /// Returns its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium-like",
            Self::RaspberryPi => "rpi-ffmpeg-like",
        }
    }
}

/// A stream, as its container describes it.
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// `V4L2_PIX_FMT_*`.
    pub coded_format: u32,
    /// Width and height of the first picture.
    pub size: (u32, u32),
    /// Bytes of the longest unit.
    pub unit_bytes: u32,
}

/// How a client spends its time.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// How long it is busy elsewhere between an event and the calls that follow.
    pub pause: Duration,
    /// Time that anything may take.
    pub patience: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            pause: Duration::ZERO,
            patience: Duration::from_secs(10),
        }
    }
}

/// Buffers of OUTPUT of each client.
const CODED_BUFFERS: u32 = 8;
/// The smallest OUTPUT buffers that Chromium asks for.
const CHROMIUM_UNIT_BYTES: u32 = 1 << 20;
/// The most buffers that Chromium believes a decoder to need.
const CHROMIUM_MOST: u32 = 16;
/// The buffers that it takes at least, and those that it takes beyond.
const CHROMIUM_LEAST: u32 = 8;
const CHROMIUM_MORE: u32 = 2;
/// CAPTURE buffers of FFmpeg.
const FFMPEG_BUFFERS: u32 = 20;

/// Receives each picture.
pub type Show<'a> = &'a mut dyn FnMut(OutputPicture) -> Result<(), ClientError>;

/// Plays units as a client does, from the first to the end of the drain: each unit's timestamp is its index
/// in milliseconds, from 1 on. Returns the number of events about the source.
///
/// # Errors
/// The driver's, those of `show`, and [`ClientError::Unexpected`] for answers that stop the real client.
pub fn play(
    personality: StatefulPersonality,
    video: &Path,
    container: Container,
    habits: Habits,
    units: impl IntoIterator<Item = Vec<u8>>,
    show: Show<'_>,
) -> Result<u32, ClientError> {
    let mut units = (1u64..).zip(units).peekable();
    match personality {
        StatefulPersonality::Chromium => chromium(video, container, habits, &mut units, show),
        StatefulPersonality::RaspberryPi => raspberry_pi(video, container, habits, &mut units, show),
    }
}

/// The queues of a client.
struct Queues {
    device: Arc<Device>,
    coded: Queue,
    raw: Queue,
    /// OUTPUT buffers that the client has.
    free_coded: Vec<usize>,
    /// CAPTURE buffers that the client has.
    free_raw: Vec<usize>,
    raw_format: Option<RawFormat>,
}

impl Queues {
    fn open(video: &Path) -> Result<Self, ClientError> {
        let device = Device::open_video(video, false)?;
        Ok(Self {
            coded: Queue::new(&device, v4l2::BUF_TYPE_OUTPUT).demand_queued(),
            raw: Queue::new(&device, v4l2::BUF_TYPE_CAPTURE).demand_queued(),
            device,
            free_coded: Vec::new(),
            free_raw: Vec::new(),
            raw_format: None,
        })
    }

    fn set_coded_format(
        &self,
        container: Container,
        size: (u32, u32),
        bytes: u32,
    ) -> Result<(), ClientError> {
        let format = output_format(container.coded_format, size, bytes);
        let set = self.device.set_format(v4l2::BUF_TYPE_OUTPUT, format)?;
        demand(set.pixelformat == container.coded_format, || {
            "OUTPUT has another coded format".into()
        })
    }

    fn allocate_coded(&mut self) -> Result<(), ClientError> {
        self.coded.allocate(CODED_BUFFERS, &Backing::Mmap)?;
        self.free_coded = (0..self.coded.len()).collect();
        Ok(())
    }

    /// Queues units while buffers are free. Returns whether none is left.
    fn feed(
        &mut self,
        units: &mut Peekable<impl Iterator<Item = (u64, Vec<u8>)>>,
    ) -> Result<bool, ClientError> {
        while units.peek().is_some() {
            let Some(index) = self.free_coded.pop() else {
                return Ok(false);
            };
            if let Some((number, unit)) = units.next() {
                self.coded.queue_unit(index, &unit, number * 1_000_000)?;
            }
        }
        Ok(true)
    }

    /// Takes all OUTPUT buffers that are done.
    fn take_coded(&mut self) -> Result<(), ClientError> {
        while let Some(buffer) = self.coded.dequeue()? {
            self.free_coded.push(buffer.index);
        }
        Ok(())
    }

    /// Allocates CAPTURE buffers of the driver's format, which all are the client's.
    fn allocate_raw(&mut self, count: u32) -> Result<(), ClientError> {
        self.raw_format = Some(RawFormat::of(&self.device)?);
        self.raw.allocate(count, &Backing::Mmap)?;
        self.free_raw = (0..self.raw.len()).collect();
        Ok(())
    }

    /// Queues all CAPTURE buffers that the client has.
    fn queue_raw(&mut self) -> Result<(), ClientError> {
        self.free_raw
            .drain(..)
            .try_for_each(|index| self.raw.queue_picture(index))
    }

    /// Stops CAPTURE: all its buffers are the client's.
    fn stop_raw(&mut self) -> Result<(), ClientError> {
        self.raw.stream(false)?;
        self.free_raw = (0..self.raw.len()).collect();
        Ok(())
    }

    /// Returns the event about the source if it is there. Others are passed over.
    fn source_event(&self) -> Result<bool, ClientError> {
        while let Some(event) = self.device.event()? {
            if event.type_ == v4l2::EVENT_SOURCE_CHANGE {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn picture(&self, buffer: &DequeuedBuffer) -> Result<OutputPicture, ClientError> {
        self.raw_format
            .as_ref()
            .ok_or_else(|| ClientError::Unexpected("a picture before any format".into()))?
            .picture(&self.raw, buffer)
    }
}

fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), ClientError> {
    if holds {
        Ok(())
    } else {
        Err(ClientError::Unexpected(otherwise()))
    }
}

/// Takes a buffer of CAPTURE.
fn dequeue_raw(queues: &Queues) -> Result<Dequeued, ClientError> {
    match queues.raw.dequeue() {
        Ok(Some(buffer)) => Ok(Dequeued::Buffer(buffer)),
        Ok(None) => Ok(Dequeued::Nothing),
        Err(error) if error.errno() == Some(Errno::PIPE) => Ok(Dequeued::End),
        Err(error) => Err(error),
    }
}

/// What `DQBUF` of CAPTURE says.
enum Dequeued {
    Buffer(DequeuedBuffer),
    Nothing,
    End,
}

fn chromium(
    video: &Path,
    container: Container,
    habits: Habits,
    units: &mut Peekable<impl Iterator<Item = (u64, Vec<u8>)>>,
    show: Show<'_>,
) -> Result<u32, ClientError> {
    let mut queues = Queues::open(video)?;
    queues.device.formats(v4l2::BUF_TYPE_OUTPUT)?;
    queues.device.largest(container.coded_format)?;
    queues.set_coded_format(container, (0, 0), container.unit_bytes.max(CHROMIUM_UNIT_BYTES))?;
    queues.allocate_coded()?;
    queues.coded.stream(true)?;
    queues.device.subscribe(v4l2::EVENT_SOURCE_CHANGE)?;

    let (mut events, mut stopped, mut streams) = (0, false, false);
    loop {
        if queues.feed(units)? && !stopped {
            queues.device.command(v4l2::DEC_CMD_STOP)?;
            stopped = true;
        }
        let ready = queues.device.wait_all(habits.patience)?;
        demand(!ready.error || ready.raw || ready.event, || {
            "poll() reports an error".into()
        })?;
        let mut changed = ready.event && !(streams && ready.raw);
        if streams && ready.raw {
            while let Dequeued::Buffer(buffer) = dequeue_raw(&queues)? {
                if !buffer.last && !buffer.error {
                    show(queues.picture(&buffer)?)?;
                }
                queues.free_raw.push(buffer.index);
                queues.take_coded()?;
                if buffer.last {
                    // It makes nothing of an error.
                    let _ = queues.device.command(v4l2::DEC_CMD_START);
                    let ready = queues.device.wait_all(Duration::ZERO);
                    changed = ready.is_ok_and(|ready| ready.event);
                    if !changed {
                        demand(stopped, || "a last buffer without an event or a drain".into())?;
                        return Ok(events);
                    }
                    break;
                }
            }
        }
        if changed && queues.source_event()? {
            events += 1;
            std::thread::sleep(habits.pause);
            set_up_chromium(&mut queues, streams)?;
            streams = true;
        } else if streams {
            queues.queue_raw()?;
        }
        queues.take_coded()?;
    }
}

/// Sets CAPTURE up as Chromium does.
fn set_up_chromium(queues: &mut Queues, streams: bool) -> Result<(), ClientError> {
    if streams {
        queues.stop_raw()?;
        queues.raw.allocate(0, &Backing::Mmap)?;
    }
    let device = Arc::clone(&queues.device);
    let format = device.format(v4l2::BUF_TYPE_CAPTURE)?;
    for pixelformat in device.formats(v4l2::BUF_TYPE_CAPTURE)? {
        device.try_format(
            v4l2::BUF_TYPE_CAPTURE,
            v4l2::PixFormatMplane {
                pixelformat,
                ..format
            },
        )?;
    }
    let visible = device.visible()?;
    demand(
        visible.left + visible.width <= format.width && visible.top + visible.height <= format.height,
        || format!("{visible:?} is not within {} x {}", format.width, format.height),
    )?;
    let control = device.query_control(v4l2::CID_MIN_BUFFERS_FOR_CAPTURE)?;
    let count = u32::try_from(control.default_value)
        .unwrap_or(u32::MAX)
        .max(CHROMIUM_LEAST);
    demand(count <= CHROMIUM_MOST, || format!("{count} buffers are demanded"))?;
    device.set_format(v4l2::BUF_TYPE_CAPTURE, format)?;
    queues.allocate_raw(count + CHROMIUM_MORE)?;
    queues.raw.stream(true)?;
    queues.queue_raw()
}

/// The state of Raspberry Pi's FFmpeg.
#[derive(Default)]
struct FfmpegState {
    /// There was an event that was not answered yet.
    pending: bool,
    draining: bool,
    /// CAPTURE came to an end.
    done: bool,
    events: u32,
}

fn raspberry_pi(
    video: &Path,
    container: Container,
    habits: Habits,
    units: &mut Peekable<impl Iterator<Item = (u64, Vec<u8>)>>,
    show: Show<'_>,
) -> Result<u32, ClientError> {
    let mut queues = Queues::open(video)?;
    queues.set_coded_format(container, container.size, container.unit_bytes)?;
    let raw_format = prepare_raspberry_pi(&queues, container)?;
    queues.allocate_coded()?;
    queues.device.subscribe(v4l2::EVENT_SOURCE_CHANGE)?;
    queues.device.subscribe(v4l2::EVENT_EOS)?;
    if let (Some((number, unit)), Some(index)) = (units.next(), queues.free_coded.pop()) {
        queues.coded.queue_unit(index, &unit, number * 1_000_000)?;
    }
    queues.coded.stream(true)?;
    queues.device.command(v4l2::DEC_CMD_START)?;
    queues.device.set_format(v4l2::BUF_TYPE_CAPTURE, raw_format)?;
    queues.allocate_raw(FFMPEG_BUFFERS)?;
    queues.queue_raw()?;
    queues.raw.stream(true)?;

    let coded = queues.device.format(v4l2::BUF_TYPE_OUTPUT)?;
    let mut state = FfmpegState::default();
    loop {
        if queues.feed(units)? && !state.draining {
            // It makes nothing of an error.
            let _ = queues.device.command(v4l2::DEC_CMD_STOP);
            state.draining = true;
        }
        let patience = if state.pending {
            Duration::ZERO
        } else {
            habits.patience
        };
        let ready = match queues.device.wait_all(patience) {
            Ok(ready) => ready,
            Err(ClientError::Timeout(..)) if state.pending => {
                answer(&mut queues, &mut state, &coded, habits)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if ready.event && queues.source_event()? {
            state.events += 1;
            state.pending = true;
            if state.done {
                answer(&mut queues, &mut state, &coded, habits)?;
            }
            continue;
        }
        if ready.raw {
            take_raspberry_pi(&mut queues, &mut state, show)?;
            if state.done && state.pending {
                answer(&mut queues, &mut state, &coded, habits)?;
            } else if state.done {
                return Ok(state.events);
            }
        } else if ready.coded {
            queues.take_coded()?;
            if state.pending {
                answer(&mut queues, &mut state, &coded, habits)?;
            }
        }
        queues.queue_raw()?;
    }
}

/// Makes the calls before the first unit, and returns the format of CAPTURE that is taken.
fn prepare_raspberry_pi(queues: &Queues, container: Container) -> Result<v4l2::PixFormatMplane, ClientError> {
    let device = &queues.device;
    let first = device.formats(v4l2::BUF_TYPE_CAPTURE)?;
    let pixelformat = first
        .first()
        .copied()
        .ok_or_else(|| ClientError::Unexpected("CAPTURE has no format".into()))?;
    let (width, height) = container.size;
    let asked = v4l2::PixFormatMplane {
        pixelformat,
        width,
        height,
        ..device.format(v4l2::BUF_TYPE_CAPTURE)?
    };
    let tried = device.try_format(v4l2::BUF_TYPE_CAPTURE, asked)?;
    demand(
        tried.width >= width && tried.height >= height && tried.pixelformat == pixelformat,
        || format!("TRY_FMT of CAPTURE gives {} x {}", tried.width, tried.height),
    )?;
    let (most_width, most_height) = device.largest(pixelformat)?;
    demand(width <= most_width && height <= most_height, || {
        "ENUM_FRAMESIZES of the raw format has no such size".into()
    })?;
    Ok(tried)
}

/// Takes one buffer of CAPTURE.
fn take_raspberry_pi(
    queues: &mut Queues,
    state: &mut FfmpegState,
    show: Show<'_>,
) -> Result<(), ClientError> {
    let buffer = match dequeue_raw(queues)? {
        Dequeued::Buffer(buffer) => buffer,
        Dequeued::Nothing => return Ok(()),
        Dequeued::End => {
            state.done = true;
            return Ok(());
        }
    };
    queues.free_raw.push(buffer.index);
    if buffer.bytes > 0 {
        show(queues.picture(&buffer)?)?;
    }
    state.done |= state.draining && (buffer.bytes == 0 || buffer.last);
    Ok(())
}

/// Answers an event about the source.
fn answer(
    queues: &mut Queues,
    state: &mut FfmpegState,
    coded: &v4l2::PixFormatMplane,
    habits: Habits,
) -> Result<(), ClientError> {
    (state.pending, state.done) = (false, false);
    std::thread::sleep(habits.pause);
    let now = queues.device.format(v4l2::BUF_TYPE_OUTPUT)?;
    demand((now.width, now.height) == (coded.width, coded.height), || {
        format!(
            "OUTPUT has another size, {} x {}: its units are thrown away",
            now.width, now.height
        )
    })?;
    let raw = RawFormat::of(&queues.device)?;
    let size = |format: &RawFormat| (format.pix.width, format.pix.height);
    let same = queues
        .raw_format
        .as_ref()
        .is_some_and(|old| size(old) == size(&raw));
    queues.stop_raw()?;
    if same {
        queues.raw_format = Some(raw);
        state.draining = false;
    } else {
        queues.raw.allocate(0, &Backing::Mmap)?;
        queues.device.set_format(v4l2::BUF_TYPE_CAPTURE, raw.pix)?;
        queues.allocate_raw(FFMPEG_BUFFERS)?;
    }
    queues.queue_raw()?;
    queues.raw.stream(true)
}
