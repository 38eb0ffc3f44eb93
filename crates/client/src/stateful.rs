// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client of the V4L2 stateful decoder interface, which follows the kernel's dev-decoder.rst to the letter
//! and checks that the driver does.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daedalus_uapi::protocol::DRIVER_NAME;
use rustix::io::Errno;

use crate::coded::Visible;
use crate::device::{ClientError, Device, Ready};
use crate::picture::Layout;
use crate::queue::{Backing, DequeuedBuffer, Queue};
use crate::v4l2::{self, text};

/// Finds the stateful node of the device: a node of the driver that takes `coded_format`.
///
/// # Errors
/// [`ClientError::NoDevice`].
pub fn find(coded_format: u32) -> Result<PathBuf, ClientError> {
    for number in 0..64 {
        let path = PathBuf::from(format!("/dev/video{number}"));
        let Ok(device) = Device::open_video(&path, false) else {
            continue;
        };
        let Ok(capability) = device.capability() else {
            continue;
        };
        if text(&capability.driver) == DRIVER_NAME && device.offers(v4l2::BUF_TYPE_OUTPUT, coded_format)? {
            return Ok(path);
        }
    }
    Err(ClientError::NoDevice("stateful decoder for this format".into()))
}

/// How the client sets itself up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// OUTPUT buffers.
    pub coded_buffers: u32,
    /// Bytes of the longest unit.
    pub unit_bytes: u32,
    /// CAPTURE buffers beyond the control's minimum.
    pub more_buffers: u32,
    /// The memory of CAPTURE is imported.
    pub imported: bool,
    /// The size of the OUTPUT format; 0: the client does not know it.
    pub size: (u32, u32),
    /// CAPTURE streams from the beginning, in the format that OUTPUT's size makes.
    pub early: bool,
    /// Time that anything may take.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            coded_buffers: 4,
            unit_bytes: 1 << 20,
            more_buffers: 2,
            imported: false,
            size: (0, 0),
            early: false,
            patience: Duration::from_secs(10),
        }
    }
}

/// A picture.
#[derive(Clone, Debug)]
pub struct OutputPicture {
    /// Its timestamp: that of a unit.
    pub timestamp: u64,
    /// `V4L2_BUF_FLAG_ERROR`.
    pub error: bool,
    /// NV12 or P010.
    pub format: u32,
    /// The visible part.
    pub visible: Visible,
    /// The visible part without padding.
    pub pixels: Vec<u8>,
}

/// What came next.
#[derive(Debug)]
pub enum Turn {
    /// A picture; the last before a change or the end, if the second is set.
    Picture(Box<OutputPicture>, bool),
    /// An empty last buffer.
    Last,
    /// The stream has another format: [`Stream::set_up`] comes next, after the last buffer if CAPTURE
    /// streams.
    NewFormat,
    /// A drain is over.
    End,
    /// An OUTPUT buffer is free.
    Coded,
}

/// A decoder in use.
#[derive(Debug)]
pub struct Stream {
    device: Arc<Device>,
    coded: Queue,
    raw: Queue,
    free: Vec<usize>,
    settings: Settings,
    raw_format: Option<RawFormat>,
    raw_streams: bool,
    /// Timestamps of the units so far.
    units: HashSet<u64>,
    /// Sequence number that the next picture has at least.
    sequence: u32,
    /// Ends of drains that were announced and not asked for.
    ends: u32,
    /// OUTPUT buffers that came back with an error.
    lost: u64,
    /// Pictures' buffers stay with the client until [`Stream::release_one`].
    keeps: bool,
    held: Vec<usize>,
}

/// The format of CAPTURE's buffers.
#[derive(Debug)]
pub(crate) struct RawFormat {
    layout: Layout,
    /// As the driver told it.
    pub(crate) pix: v4l2::PixFormatMplane,
    visible: Visible,
}

impl RawFormat {
    /// Asks for it.
    pub(crate) fn of(device: &Device) -> Result<Self, ClientError> {
        let pix = device.format(v4l2::BUF_TYPE_CAPTURE)?;
        Ok(Self {
            layout: Layout::new(&pix)?,
            pix,
            visible: device.visible()?,
        })
    }

    /// Reads the picture in a buffer.
    pub(crate) fn picture(&self, raw: &Queue, buffer: &DequeuedBuffer) -> Result<OutputPicture, ClientError> {
        let planes: Vec<_> = raw.mappings(buffer.index)?.collect();
        Ok(OutputPicture {
            timestamp: buffer.timestamp,
            error: buffer.error,
            format: self.pix.pixelformat,
            visible: self.visible,
            pixels: self.layout.packed(&planes, &self.visible)?,
        })
    }
}

/// Returns a format of OUTPUT whose buffers have room for `unit_bytes`.
pub(crate) fn output_format(
    coded_format: u32,
    (width, height): (u32, u32),
    unit_bytes: u32,
) -> v4l2::PixFormatMplane {
    let mut format = v4l2::PixFormatMplane {
        width,
        height,
        pixelformat: coded_format,
        num_planes: 1,
        ..Default::default()
    };
    format.plane_fmt[0].sizeimage = unit_bytes.to_ne_bytes();
    format
}

impl Stream {
    /// Opens a decoder: the initialization up to the queueing of coded buffers.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(video: &Path, coded_format: u32, settings: Settings) -> Result<Self, ClientError> {
        let device = Device::open_video(video, false)?;
        device.subscribe(v4l2::EVENT_SOURCE_CHANGE)?;
        device.subscribe(v4l2::EVENT_EOS)?;
        let format = output_format(coded_format, settings.size, settings.unit_bytes);
        device.set_format(v4l2::BUF_TYPE_OUTPUT, format)?;
        let mut coded = Queue::new(&device, v4l2::BUF_TYPE_OUTPUT).demand_queued();
        coded.allocate(settings.coded_buffers, &Backing::Mmap)?;
        let mut this = Self {
            free: (0..coded.len()).collect(),
            raw: Queue::new(&device, v4l2::BUF_TYPE_CAPTURE).demand_queued(),
            coded,
            device,
            settings,
            raw_format: None,
            raw_streams: false,
            units: HashSet::new(),
            sequence: 0,
            ends: 0,
            lost: 0,
            keeps: false,
            held: Vec::new(),
        };
        if settings.early {
            this.set_up()?;
        }
        this.coded.stream(true)?;
        Ok(this)
    }

    /// Returns the device.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Returns CAPTURE.
    #[must_use]
    pub fn raw(&self) -> &Queue {
        &self.raw
    }

    /// Returns whether CAPTURE streams.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.raw_streams
    }

    /// From now on, buffers of pictures stay with the client.
    pub fn keep_pictures(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// Returns how many buffers stay with the client.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Queues the buffer that has stayed longest, if there is one.
    ///
    /// # Errors
    /// The driver's.
    pub fn release_one(&mut self) -> Result<(), ClientError> {
        if let Some(&index) = self.held.first() {
            self.raw.queue_picture(index)?;
            self.held.remove(0);
        }
        Ok(())
    }

    /// Returns whether [`Stream::feed`] has a buffer.
    #[must_use]
    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Queues a unit. Returns false if no buffer is free.
    ///
    /// # Errors
    /// The driver's.
    pub fn feed(&mut self, unit: &[u8], timestamp: u64) -> Result<bool, ClientError> {
        let Some(&index) = self.free.last() else {
            return Ok(false);
        };
        self.coded.queue_unit(index, unit, timestamp)?;
        self.units.insert(timestamp);
        self.free.pop();
        Ok(true)
    }

    /// Sets CAPTURE up for the format that the driver reports, and streams.
    ///
    /// # Errors
    /// The driver's.
    pub fn set_up(&mut self) -> Result<(), ClientError> {
        if self.raw_streams {
            self.raw.stream(false)?;
            self.raw_streams = false;
        }
        self.raw.allocate(0, &Backing::Mmap)?;
        self.held.clear();
        let format = RawFormat::of(&self.device)?;
        // The control is read-only, and has one value.
        let control = self.device.query_control(v4l2::CID_MIN_BUFFERS_FOR_CAPTURE)?;
        let minimum = control.default_value;
        let count = u32::try_from(minimum).unwrap_or(1) + self.settings.more_buffers;
        let backing = if self.settings.imported {
            Backing::Udmabuf
        } else {
            Backing::Mmap
        };
        self.raw.allocate(count, &backing)?;
        self.raw_format = Some(format);
        for index in 0..self.raw.len() {
            self.raw.queue_picture(index)?;
        }
        self.raw.stream(true)?;
        self.raw_streams = true;
        self.sequence = 0;
        Ok(())
    }

    /// Returns whether the buffers of CAPTURE suit the format that the driver reports.
    fn suits(&mut self) -> Result<bool, ClientError> {
        let new = RawFormat::of(&self.device)?;
        let key = |format: &RawFormat| (format.pix.width, format.pix.height, format.pix.pixelformat);
        let suits = self.raw_format.as_ref().is_some_and(|old| key(old) == key(&new));
        if suits {
            self.raw_format = Some(new);
        }
        Ok(suits)
    }

    /// Waits for the next thing that the driver has. Events come first.
    ///
    /// # Errors
    /// The driver's, and [`ClientError::Unexpected`] for what dev-decoder.rst forbids.
    pub fn turn(&mut self) -> Result<Turn, ClientError> {
        self.turn_within(self.settings.patience)
    }

    /// Returns the next thing that the driver has now, if any. Events come first.
    ///
    /// # Errors
    /// As [`Stream::turn`].
    pub fn turn_if_ready(&mut self) -> Result<Option<Turn>, ClientError> {
        match self.turn_within(Duration::ZERO) {
            Ok(turn) => Ok(Some(turn)),
            Err(ClientError::Timeout(..)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn turn_within(&mut self, patience: Duration) -> Result<Turn, ClientError> {
        loop {
            let ready = self.device.wait_all(patience)?;
            if ready.event {
                if let Some(turn) = self.take_event()? {
                    return Ok(turn);
                }
                continue;
            }
            if let Some(turn) = self.take_buffer(ready)? {
                return Ok(turn);
            }
        }
    }

    fn take_event(&mut self) -> Result<Option<Turn>, ClientError> {
        let Some(event) = self.device.event()? else {
            return Ok(None);
        };
        match event.type_ {
            v4l2::EVENT_SOURCE_CHANGE => Ok(Some(Turn::NewFormat)),
            v4l2::EVENT_EOS => {
                self.ends += 1;
                Ok(None)
            }
            other => Err(ClientError::Unexpected(format!("event {other}"))),
        }
    }

    fn take_buffer(&mut self, ready: Ready) -> Result<Option<Turn>, ClientError> {
        if ready.raw && self.raw_streams {
            return match self.raw.dequeue() {
                Ok(Some(buffer)) => self.take_picture(buffer).map(Some),
                Ok(None) => Ok(None),
                Err(error) if error.errno() == Some(Errno::PIPE) => Ok(Some(Turn::End)),
                Err(error) => Err(error),
            };
        }
        if ready.coded {
            if let Some(buffer) = self.coded.dequeue()? {
                self.lost += u64::from(buffer.error);
                self.free.push(buffer.index);
                return Ok(Some(Turn::Coded));
            }
            return Ok(None);
        }
        if ready.error {
            // DQBUF says which.
            self.coded.dequeue()?;
            if self.raw_streams {
                self.raw.dequeue()?;
            }
            return Err(ClientError::Unexpected("poll() reports an error".into()));
        }
        Ok(None)
    }

    /// Reads a picture, and queues its buffer again unless it is the last.
    fn take_picture(&mut self, buffer: DequeuedBuffer) -> Result<Turn, ClientError> {
        if buffer.last && buffer.bytes == 0 {
            return Ok(Turn::Last);
        }
        if buffer.bytes == 0 {
            return Err(ClientError::Unexpected(
                "an empty picture that is not the last".into(),
            ));
        }
        if !self.units.contains(&buffer.timestamp) {
            return Err(ClientError::Unexpected(format!(
                "a picture has the timestamp {}, which no unit had",
                buffer.timestamp
            )));
        }
        if buffer.sequence < self.sequence {
            return Err(ClientError::Unexpected(format!(
                "sequence number {} after {}",
                buffer.sequence, self.sequence
            )));
        }
        self.sequence = buffer.sequence + 1;
        let format = self
            .raw_format
            .as_ref()
            .ok_or_else(|| ClientError::Unexpected("a picture before any format".into()))?;
        let picture = format.picture(&self.raw, &buffer)?;
        if self.keeps {
            self.held.push(buffer.index);
        } else if !buffer.last {
            self.raw.queue_picture(buffer.index)?;
        }
        Ok(Turn::Picture(Box::new(picture), buffer.last))
    }

    /// Begins a drain: `V4L2_DEC_CMD_STOP`.
    ///
    /// # Errors
    /// The driver's: `EBUSY` during a drain.
    pub fn stop(&mut self) -> Result<(), ClientError> {
        self.device.command(v4l2::DEC_CMD_STOP)
    }

    /// Goes on after a last buffer: `V4L2_DEC_CMD_START`. All CAPTURE buffers are queued again.
    ///
    /// # Errors
    /// The driver's: `EBUSY` during a drain.
    pub fn start(&mut self) -> Result<(), ClientError> {
        self.device.command(v4l2::DEC_CMD_START)
    }

    /// Queues every CAPTURE buffer that the client has, after a last buffer.
    ///
    /// # Errors
    /// The driver's, but for buffers that are queued.
    pub fn queue_all(&mut self) -> Result<(), ClientError> {
        for index in 0..self.raw.len() {
            match self.raw.queue_picture(index) {
                Err(error) if error.errno() != Some(Errno::INVAL) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Seeks: stops OUTPUT and starts it again. All its buffers are free.
    ///
    /// # Errors
    /// The driver's.
    pub fn seek(&mut self) -> Result<(), ClientError> {
        self.coded.stream(false)?;
        self.free = (0..self.coded.len()).collect();
        self.coded.stream(true)
    }

    /// Returns how many OUTPUT buffers came back with an error.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns how many ends of drains were announced since the last call.
    pub fn take_ends(&mut self) -> u32 {
        std::mem::take(&mut self.ends)
    }
}

/// Plays units from the first to the last, and drains: each unit's timestamp is its index in milliseconds,
/// from 1 on. Returns the number of formats that the stream had.
///
/// # Errors
/// The driver's, those of `show`, and [`ClientError::Unexpected`] for what dev-decoder.rst forbids.
pub fn play(
    stream: &mut Stream,
    units: impl IntoIterator<Item = Vec<u8>>,
    show: &mut dyn FnMut(OutputPicture) -> Result<(), ClientError>,
) -> Result<u32, ClientError> {
    let mut units = (1u64..).zip(units);
    let mut next = units.next();
    let (mut formats, mut changing, mut stopped) = (0, false, false);
    loop {
        while let Some((index, unit)) = next.take() {
            if !stream.feed(&unit, index * 1_000_000)? {
                next = Some((index, unit));
                break;
            }
            next = units.next();
        }
        if next.is_none() && !stopped && stream.raw_streams && !changing {
            stream.stop()?;
            stopped = true;
        }
        let over = match stream.turn()? {
            Turn::Picture(picture, last) => {
                show(*picture)?;
                last
            }
            Turn::Last => true,
            Turn::NewFormat => {
                formats += 1;
                changing = stream.raw_streams && !stream.suits()?;
                if !stream.raw_streams {
                    stream.set_up()?;
                }
                false
            }
            Turn::End => return Err(ClientError::Unexpected("EPIPE without a last buffer".into())),
            Turn::Coded => false,
        };
        if over && changing {
            changing = false;
            stream.set_up()?;
        } else if over && stopped {
            if stream.take_ends() != 1 {
                return Err(ClientError::Unexpected("the end was not announced once".into()));
            }
            match stream.turn()? {
                Turn::End => return Ok(formats),
                turn => return Err(ClientError::Unexpected(format!("{turn:?} after the end"))),
            }
        } else if over {
            return Err(ClientError::Unexpected(
                "a last buffer without a change or a drain".into(),
            ));
        }
    }
}
