// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chromium's video decoder for V4L2 stateless devices.
//!
//! Read in chromium/chromium, media/gpu and media/gpu/v4l2, as of 2024 and later. What it does, and so does
//! this client:
//!
//! * Start (v4l2_video_decoder.cc, `InitializeBackend` and `SetupInputFormat`): QUERYCAP; ENUM_FMT of
//!   OUTPUT; S_FMT of OUTPUT with a size of **0x0** and a `sizeimage` by the picture's area (1, 2 or 4 MiB,
//!   `GetInputBufferSizeForResolution`); REQBUFS of **17** OUTPUT buffers
//!   (v4l2_video_decoder_backend_stateless.cc, `GetNumOUTPUTQueueBuffers`); STREAMON of OUTPUT alone.
//! * At the first frame, and at every new size or bit depth (`ContinueChangeResolution`): everything is
//!   shown; STREAMOFF of both; REQBUFS(0) of CAPTURE; S_FMT of OUTPUT with the size, while OUTPUT **has its
//!   buffers** (`ApplyResolution`); for 10 bit a control that is zero but for the depth
//!   (`SetExtCtrls10Bit`);
//!   ENUM_FMT, TRY_FMT and S_FMT of CAPTURE (`SetupOutputFormat`); REQBUFS of 32 CAPTURE buffers for
//!   **DMABUF import**; STREAMON of both. Nothing of this happens if only the profile changes
//!   (`PumpDecodeTask`).
//! * Any frame of the pool goes behind any free CAPTURE buffer (`CreateSecureSurface`: `GetFreeBuffer` and
//!   `GetFrame` know nothing of each other). Here every other frame is ordinary memory (udmabuf), the rest
//!   is exported by another session of the same device.
//! * The timestamp of a job is the CAPTURE buffer's index in microseconds (v4l2_decode_surface.cc, `Submit`
//!   and `GetReferenceID`): 0 is one, and they come again and again. Order: controls, OUTPUT, CAPTURE,
//!   request.
//! * As many jobs in flight as there are OUTPUT buffers. Buffers come back in the order in which they were
//!   queued, CAPTURE checked by index (`OnOutputBufferDequeued`); one `poll` on the node for both queues
//!   (v4l2_device_poller.cc), CAPTURE taken before OUTPUT (`ServiceDeviceTask`). The buffer with the lowest
//!   index is taken first (v4l2_queue.cc, `V4L2BuffersList::GetFreeBuffer`).
//! * Up to 32 requests, made on demand; the one that came back first is made new and used again if it is
//!   complete by then (v4l2_queue.cc, `V4L2RequestsQueue::GetFreeRequest`).
//! * A surface is held by the jobs in flight that refer to it (`SetReferenceSurfaces`): its CAPTURE buffer is
//!   queued again only when they are back.
//! * Controls and payloads, and what is refused: see the codecs' delegates, `chromium.rs` in their folders.
//!
//! Differences of this client:
//!
//! * Builds for Linux (Debian's 156, seen by strace) have the device allocate as many CAPTURE buffers as the
//!   codec's references need and some more (MMAP), and export each once (EXPBUF). This is what ChromeOS does.
//! * Chromium crops to the render size where streams have one; the whole frame is shown here, since all of it
//!   was decoded.

mod pool;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use daedalus_uapi::{Codec, fourcc};

use super::client::{Change, Client, Summary};
use super::controls::rename_references;
use super::frames::{Frame, Frames};
use crate::codecs::{self, Row};
use crate::coded::{CodedJob, Visible};
use crate::device::{ClientError, Device, Nodes, Request};
use crate::picture::Layout;
use crate::queue::Queue;
use crate::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};
use pool::Pool;

/// `kNumInputBuffers`.
const OUTPUTS: u32 = 16 + 1;
/// `VIDEO_MAX_FRAME`.
const PICTURES: u32 = 32;
/// `kMaxNumRequests`.
const REQUESTS: usize = 32;
/// Time that a job may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The client.
#[derive(Debug)]
pub(super) struct Chromium {
    nodes: Nodes,
    codec: Codec,
    device: Option<OpenDevice>,
    stream: Option<Stream>,
    summary: Summary,
}

/// The device, from the start on.
#[derive(Debug)]
struct OpenDevice {
    device: Arc<Device>,
    coded: Queue,
    raw: Queue,
    coded_length: u32,
    requests: Vec<Request>,
    free_outputs: BTreeSet<usize>,
    free_requests: VecDeque<usize>,
    /// OUTPUT buffers in flight, with their requests, in order.
    outputs: VecDeque<(usize, usize)>,
}

/// Everything that belongs to one size and depth.
#[derive(Debug)]
struct Stream {
    size: (u32, u32),
    depth: u8,
    format: u32,
    layout: Layout,
    pool: Pool,
    free: BTreeSet<usize>,
    /// The pool's frame behind each CAPTURE buffer.
    behind: Vec<Option<usize>>,
    /// Surfaces at the device, in order: the buffer, and the buffers of its references.
    surfaces: VecDeque<(usize, Vec<usize>)>,
    /// Buffers whose pictures are needed no more, but which surfaces at the device hold.
    dropped: BTreeSet<usize>,
}

impl Chromium {
    pub(super) fn new(nodes: &Nodes, codec: Codec) -> Self {
        Self {
            nodes: nodes.clone(),
            codec,
            device: None,
            stream: None,
            summary: Summary::default(),
        }
    }

    fn row(&self) -> &'static Row {
        codecs::row(self.codec)
    }

    fn parts(&mut self) -> Result<(&mut OpenDevice, &mut Stream, &mut Summary), ClientError> {
        match (&mut self.device, &mut self.stream) {
            (Some(device), Some(stream)) => Ok((device, stream, &mut self.summary)),
            _ => Err(ClientError::Unexpected("no session".into())),
        }
    }

    /// Takes what is back; waits for something if asked to.
    fn service(&mut self, wait: bool) -> Result<(), ClientError> {
        let (opened, stream, summary) = self.parts()?;
        if wait {
            if stream.surfaces.is_empty() && opened.outputs.is_empty() {
                return Err(ClientError::Unexpected("out of buffers, and none is due".into()));
            }
            opened.device.wait(PATIENCE)?;
        }
        while !stream.surfaces.is_empty() {
            let Some(buffer) = opened.raw.dequeue()? else {
                break;
            };
            let due = stream.surfaces.pop_front().map(|(due, _)| due);
            if due != Some(buffer.index) {
                return Err(ClientError::Unexpected(format!(
                    "CAPTURE buffer {} came back where {due:?} was due",
                    buffer.index
                )));
            }
            summary.flagged += usize::from(buffer.error);
        }
        while !opened.outputs.is_empty() {
            let Some(buffer) = opened.coded.dequeue()? else {
                break;
            };
            match opened.outputs.pop_front() {
                Some((due, request)) if due == buffer.index => {
                    opened.free_outputs.insert(due);
                    opened.free_requests.push_back(request);
                }
                due => {
                    return Err(ClientError::Unexpected(format!(
                        "OUTPUT buffer {} came back where {due:?} was due",
                        buffer.index
                    )));
                }
            }
        }
        stream.settle();
        Ok(())
    }

    /// Waits until nothing is at the device.
    fn drain(&mut self) -> Result<(), ClientError> {
        loop {
            let (opened, stream, _) = self.parts()?;
            if stream.surfaces.is_empty() && opened.outputs.is_empty() {
                return Ok(());
            }
            self.service(true)?;
        }
    }
}

impl Client for Chromium {
    fn lag(&self) -> usize {
        OUTPUTS as usize - 1
    }

    fn change(&self, job: &CodedJob) -> Change {
        let row = self.row();
        let session = self.stream.as_ref().map(|stream| (stream.size, stream.depth));
        if let Some(why) = row.delegate.refusal(job, session) {
            return Change::Refuse(why);
        }
        if session == Some(((row.session_size)(job), job.bit_depth)) {
            Change::None
        } else {
            Change::Afresh
        }
    }

    fn begin(&mut self, job: &CodedJob) -> Result<(), ClientError> {
        if self.stream.is_some() {
            self.drain()?;
        }
        self.stream = None;
        let mut opened = match self.device.take() {
            Some(opened) => opened,
            None => OpenDevice::new(&self.nodes, self.codec, job)?,
        };
        self.stream = Some(opened.change_resolution(&self.nodes, self.codec, job)?);
        self.device = Some(opened);
        Ok(())
    }

    fn has_room(&mut self) -> Result<bool, ClientError> {
        self.service(false)?;
        let (_, stream, _) = self.parts()?;
        Ok(!stream.free.is_empty())
    }

    fn submit(&mut self, job: &CodedJob, frames: &mut Frames) -> Result<(), ClientError> {
        loop {
            let (opened, stream, _) = self.parts()?;
            if !opened.free_outputs.is_empty() && !stream.free.is_empty() {
                break;
            }
            self.service(true)?;
        }
        let (codec, delegate) = (self.codec, self.row().delegate);
        let (opened, stream, summary) = self.parts()?;
        let (Some(buffer), Some(output)) = (stream.free.pop_first(), opened.free_outputs.pop_first()) else {
            return Err(ClientError::Unexpected("no free buffer".into()));
        };
        let memory = stream.pool.get()?;
        stream.behind[buffer] = Some(memory);
        opened.raw.import(buffer, stream.pool.planes(memory))?;
        let request = opened.free_request()?;
        let mut controls = job.controls.clone();
        rename_references(codec, &mut controls, delegate.absent(), |picture| {
            frames.get(picture).map(|frame| frame.timestamp)
        });
        let parts = delegate.request(job, controls, frames);
        for values in &parts.controls {
            let request = &opened.requests[request];
            opened.device.set_controls(values, Some(request))?;
        }
        let fd = &opened.requests[request];
        opened
            .coded
            .queue_coded(output, &parts.payload, timestamp_of(buffer), false, fd)?;
        opened.raw.queue_picture(buffer)?;
        opened.device.timed(false, || fd.queue())?;
        opened.outputs.push_back((output, request));
        let references = frames
            .iter()
            .filter(|frame| frame.is_reference())
            .map(|frame| frame.buffer);
        stream.surfaces.push_back((buffer, references.collect()));
        summary.in_flight = summary.in_flight.max(opened.outputs.len());
        let mut frame = Frame::new(job, buffer, timestamp_of(buffer));
        frame.counts = delegate.order_counts(job);
        frames.add(job.timestamp, frame);
        Ok(())
    }

    fn recycle(&mut self, buffer: usize) {
        if let Some(stream) = &mut self.stream {
            stream.dropped.insert(buffer);
            stream.settle();
        }
    }

    fn wait_for(&mut self, buffer: usize) -> Result<(), ClientError> {
        loop {
            let (_, stream, _) = self.parts()?;
            if stream.surfaces.iter().all(|(at_device, _)| *at_device != buffer) {
                return Ok(());
            }
            self.service(true)?;
        }
    }

    fn read(&self, buffer: usize, visible: &Visible) -> Result<(u32, Vec<u8>), ClientError> {
        let no = || ClientError::Unexpected("no such picture".into());
        let stream = self.stream.as_ref().ok_or_else(no)?;
        let memory = stream.behind.get(buffer).copied().flatten().ok_or_else(no)?;
        let planes = stream.pool.mappings(memory);
        Ok((stream.format, stream.layout.packed(&planes, visible)?))
    }

    fn end(&mut self) -> Result<(), ClientError> {
        if self.stream.is_none() {
            return Ok(());
        }
        self.drain()?;
        let (opened, _, _) = self.parts()?;
        opened.stream(false)?;
        opened.coded.request_buffers(0)?;
        opened.raw.request_buffers(0)?;
        Ok(())
    }

    fn summary(&self) -> Summary {
        self.summary
    }
}

impl OpenDevice {
    fn new(nodes: &Nodes, codec: Codec, job: &CodedJob) -> Result<Self, ClientError> {
        let device = Device::open(nodes, false)?;
        let needed = v4l2::CAP_STREAMING | v4l2::CAP_VIDEO_M2M_MPLANE;
        let fits = device.capability()?.capabilities & needed == needed
            && device.formats(BUF_TYPE_OUTPUT)?.contains(&codec.coded_format());
        if !fits {
            return Err(ClientError::Unexpected(
                "the device is no decoder of this codec".into(),
            ));
        }
        let mut opened = Self {
            coded: Queue::of_any_field(&device, BUF_TYPE_OUTPUT),
            raw: Queue::of_any_field(&device, BUF_TYPE_CAPTURE),
            device,
            coded_length: 0,
            requests: Vec::new(),
            free_outputs: BTreeSet::new(),
            free_requests: VecDeque::new(),
            outputs: VecDeque::new(),
        };
        opened.set_up_input(codec, coded_length(&job.visible))?;
        opened.coded.stream(true)?;
        Ok(opened)
    }

    /// OUTPUT's format, without a size, and its buffers.
    fn set_up_input(&mut self, codec: Codec, length: u32) -> Result<(), ClientError> {
        let mut format = PixFormatMplane {
            pixelformat: codec.coded_format(),
            num_planes: 1,
            ..Default::default()
        };
        format.plane_fmt[0].sizeimage = length.to_ne_bytes();
        let answer = self.device.set_format(BUF_TYPE_OUTPUT, format)?;
        if answer.pixelformat != format.pixelformat || answer.plane_fmt[0].size() < length {
            return Err(ClientError::Unexpected("the coded format was not granted".into()));
        }
        self.coded.allocate(OUTPUTS, &crate::queue::Backing::Mmap)?;
        self.free_outputs = (0..self.coded.len()).collect();
        self.coded_length = length;
        Ok(())
    }

    fn stream(&self, on: bool) -> Result<(), ClientError> {
        self.coded.stream(on)?;
        self.raw.stream(on)
    }

    /// `ContinueChangeResolution`.
    fn change_resolution(
        &mut self,
        nodes: &Nodes,
        codec: Codec,
        job: &CodedJob,
    ) -> Result<Stream, ClientError> {
        self.stream(false)?;
        let length = coded_length(&job.visible);
        if length != self.coded_length {
            self.coded.request_buffers(0)?;
            self.set_up_input(codec, length)?;
        }
        self.raw.request_buffers(0)?;
        let row = codecs::row(codec);
        let size = (row.session_size)(job);
        let mut format = self.device.format(BUF_TYPE_OUTPUT)?;
        (format.width, format.height) = size;
        self.device.set_format(BUF_TYPE_OUTPUT, format)?;
        let depth_control = row.delegate.depth_control(job.bit_depth);
        if let Some(control) = &depth_control {
            self.device.set_controls(std::slice::from_ref(control), None)?;
        }
        let pixelformat = if job.bit_depth == 8 {
            fourcc::NV12
        } else {
            fourcc::P010
        };
        if !self.device.formats(BUF_TYPE_CAPTURE)?.contains(&pixelformat) {
            return Err(ClientError::Unexpected(
                "no CAPTURE format of the stream's depth".into(),
            ));
        }
        let format_request = PixFormatMplane {
            width: size.0,
            height: size.1,
            pixelformat,
            ..Default::default()
        };
        let format_request = self.device.try_format(BUF_TYPE_CAPTURE, format_request)?;
        let raw_format = self.device.set_format(BUF_TYPE_CAPTURE, format_request)?;
        if raw_format.pixelformat != pixelformat || raw_format.width < size.0 || raw_format.height < size.1 {
            return Err(ClientError::Unexpected(
                "the CAPTURE format does not hold the picture".into(),
            ));
        }
        let buffers = self.raw.allocate_for_import(PICTURES)? as usize;
        self.stream(true)?;
        Ok(Stream {
            size,
            depth: job.bit_depth,
            format: pixelformat,
            layout: Layout::new(&raw_format)?,
            pool: Pool::new(nodes, format, depth_control, raw_format),
            free: (0..buffers).collect(),
            behind: vec![None; buffers],
            surfaces: VecDeque::new(),
            dropped: BTreeSet::new(),
        })
    }

    /// Returns a request that is not in use.
    fn free_request(&mut self) -> Result<usize, ClientError> {
        if let Some(index) = self.free_requests.front().copied() {
            let request = &self.requests[index];
            let full = self.requests.len() >= REQUESTS;
            let patience = if full { PATIENCE } else { Duration::ZERO };
            match request.wait(patience) {
                Ok(()) => {
                    self.device.timed(false, || request.reinit())?;
                    self.free_requests.pop_front();
                    return Ok(index);
                }
                Err(ClientError::Timeout(..)) if !full => {}
                Err(error) => return Err(error),
            }
        }
        self.requests.push(self.device.request()?);
        Ok(self.requests.len() - 1)
    }
}

impl Stream {
    /// Frees the dropped buffers that no surface at the device holds any more.
    fn settle(&mut self) {
        let surfaces = &self.surfaces;
        let held = |buffer: &usize| {
            surfaces
                .iter()
                .any(|(own, references)| own == buffer || references.contains(buffer))
        };
        let (dropped, freed): (BTreeSet<usize>, BTreeSet<usize>) =
            self.dropped.iter().copied().partition(held);
        self.dropped = dropped;
        for buffer in freed {
            if let Some(memory) = self.behind[buffer].take() {
                self.pool.put(memory);
            }
            self.free.insert(buffer);
        }
    }
}

/// Returns the timestamp of jobs that go into CAPTURE buffer `index`, in ns.
fn timestamp_of(index: usize) -> u64 {
    index as u64 * 1000
}

/// `GetInputBufferSizeForResolution`.
fn coded_length(visible: &Visible) -> u32 {
    const MIB: u32 = 1024 * 1024;
    match visible.width * visible.height {
        area if area < 720 * 480 => MIB,
        area if area < 1920 * 1088 => 2 * MIB,
        _ => 4 * MIB,
    }
}
