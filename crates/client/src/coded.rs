// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Coded buffers with their controls, which a stateless client hands to a decoder one at a time, and the
//! parser that makes them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// One control's value, as `VIDIOC_S_EXT_CTRLS` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `V4L2_CID_STATELESS_*`.
    pub id: u32,
    /// The structure, or for a dynamic array its elements, one after the other.
    pub value: Vec<u8>,
}

impl Control {
    /// Returns a control whose value is `value`.
    #[must_use]
    pub fn new<T: IntoBytes + Immutable + ?Sized>(id: u32, value: &T) -> Self {
        Self {
            id,
            value: value.as_bytes().to_vec(),
        }
    }

    /// Returns the value as the structure `T`; `None` if the size is another.
    #[must_use]
    pub fn get<T: FromBytes>(&self) -> Option<T> {
        T::read_from_bytes(&self.value).ok()
    }
}

/// The part of a decoded picture that is to be shown, in luma samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    /// Left edge.
    pub left: u32,
    /// Upper edge.
    pub top: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// A tile group, where it lies in its temporal unit.
#[derive(Clone, Debug)]
pub struct TileGroup {
    /// Its tiles' data with the sizes between them: the bytes behind the tile group's header.
    pub data: Range<usize>,
    /// Its tiles.
    pub tiles: Vec<Tile>,
}

/// A tile, where it lies in its temporal unit.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Bytes before it, from the start of the temporal unit.
    pub offset: u32,
    /// Bytes of its data.
    pub size: u32,
    /// Its row, in tiles.
    pub row: u32,
    /// Its column, in tiles.
    pub column: u32,
}

/// The origin of a payload whose codec has temporal units of tile groups. Clients other than GStreamer need
/// it to fill OUTPUT in their own ways.
#[derive(Clone, Debug)]
pub struct TemporalUnit {
    /// The whole temporal unit that the frame is in.
    pub bytes: Arc<[u8]>,
    /// The frame's tile groups.
    pub groups: Vec<TileGroup>,
    /// `OperatingPointIdc` of the operating point that is decoded.
    pub operating_point: u32,
}

/// One coded buffer with its controls: one request.
#[derive(Clone, Debug)]
pub struct CodedJob {
    /// The OUTPUT buffer's timestamp in ns, a multiple of 1000 (it travels as a `timeval`). It names the
    /// picture, in controls of later jobs and in [`CodedJob::shows`]. Both fields of a frame have the same.
    /// It is never 0, which in controls names no picture.
    pub timestamp: u64,
    /// The OUTPUT buffer's contents.
    pub payload: Vec<u8>,
    /// The request's controls.
    pub controls: Vec<Control>,
    /// Width of the picture as decoded, in luma samples.
    pub coded_width: u32,
    /// Height of the picture as decoded (the whole frame, for a field), in luma samples.
    pub coded_height: u32,
    /// Bits per sample.
    pub bit_depth: u8,
    /// The part of the picture that is shown.
    pub visible: Visible,
    /// The picture can be decoded without any other.
    pub key: bool,
    /// A further job decodes into this job's CAPTURE buffer: `V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF`.
    pub hold_capture: bool,
    /// This job decodes into the CAPTURE buffer of the job before: the second field of its frame.
    pub same_capture: bool,
    /// The pictures, by timestamp, that later jobs may refer to once this one is done: their CAPTURE buffers
    /// must not be queued again.
    pub references: Vec<u64>,
    /// The pictures, by timestamp, which are shown after this job and before the next, in display order.
    /// Over all jobs it is the stream's display order. A picture may be shown more than once, or never.
    pub shows: Vec<u64>,
    /// The payload's origin; `None` if the codec has no temporal units.
    pub unit: Option<Box<TemporalUnit>>,
}

impl CodedJob {
    /// Returns the value of the control `id` of this request.
    #[must_use]
    pub fn control(&self, id: u32) -> Option<&Control> {
        self.controls.iter().find(|control| control.id == id)
    }
}

/// An event in an access unit, as a codec's parser reports it.
#[derive(Debug)]
pub(crate) enum Event {
    /// A job; its `shows` is filled in later, from the events which follow it.
    Job(Box<CodedJob>),
    /// The picture with this timestamp is shown now.
    Show(u64),
}

/// A codec's parser.
pub(crate) trait Parser {
    /// Parses one access unit of the container.
    fn parse(&mut self, unit: &[u8], events: &mut VecDeque<Event>) -> Result<(), String>;
    /// The stream ended: what remains to be shown.
    fn finish(&mut self, events: &mut VecDeque<Event>);
}
