// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg's v4l2request hwaccels.
//!
//! Read in the series by J. Karlman, J. Skrabec and B. Brezillon as LibreELEC carries it
//! (packages/multimedia/ffmpeg/patches/v4l2-request/0001-v4l2-request.patch, August 2026), and in FFmpeg
//! itself. What FFmpeg does, and so does this client:
//!
//! * Probing (libavutil/hwcontext_v4l2request.c, `v4l2request_probe_video_device`): the node is opened with
//!   `O_NONBLOCK`; QUERYCAP; CREATE_BUFS of 0 OUTPUT buffers, which must support requests; ENUM_FMT and
//!   ENUM_FRAMESIZES; S_FMT of OUTPUT with a `sizeimage` of width * height * 3 / 2, at least 256 KiB
//!   (`v4l2request_frames_init`); G_FMT; the codec's initial control, which tells the bit depth; S_FMT of
//!   CAPTURE with the format that G_FMT gave (`v4l2request_select_capture_format`); CREATE_BUFS of 0 CAPTURE
//!   buffers; G_FMT.
//! * Some codecs' controls are set or asked for then (`post_frames_ctx` of the codec's hwaccel).
//! * Every CAPTURE and OUTPUT buffer is made by a CREATE_BUFS of one (`v4l2request_v4l2_buffer_alloc`).
//!   There are four CAPTURE buffers to begin with (`ff_v4l2_request_frame_params`: one; libavcodec/decode.c,
//!   `avcodec_get_hw_frames_parameters`: three more), before the codec's controls and OUTPUT, and more when a
//!   picture finds none free. They are handed on as an `O_RDONLY` EXPBUF
//!   (`v4l2request_frame_alloc`), through which pictures are read here. Buffers are reused last in, first
//!   out (libavutil/buffer.c, `pool_get_buffer`).
//! * Four OUTPUT buffers, each with its request, in turn (libavcodec/v4l2_request.c, `V4L2RequestContext`
//!   and `v4l2_request_next_output`): four requests in flight.
//! * The timestamp of a job is the CAPTURE buffer's index plus 1, in microseconds
//!   (`v4l2_request_queue_decode`): timestamps come again and again.
//! * The wait for a CAPTURE buffer before it is queued, `poll` with `POLLIN`, and `poll` with `POLLPRI` on
//!   the request before it is reused (`v4l2_request_wait_on_capture`, `v4l2_request_wait_on_request`).
//!   Requests are made new before their first use too. Order: controls, OUTPUT, CAPTURE, request.
//! * A buffer that nothing refers to any more is queued again while a job that refers to it may still be in
//!   flight: devices decode in order.
//! * 64 zero bytes behind the payload, not counted in `bytesused`.
//! * A field is a job of its own, without `V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF`: the second field waits for
//!   the first and queues the same CAPTURE buffer again, with the same timestamp
//!   (`ff_v4l2_request_decode_frame`: first and last slice at once).
//! * Controls and payloads: see the codecs' hwaccels, `ffmpeg.rs` in their folders.
//! * A new size or bit depth ends the session and begins another one. A frame that is smaller than the
//!   largest of its sequence goes into a CAPTURE buffer of the largest size.
//!
//! Differences of this client:
//!
//! * Where FFmpeg loses the references of an inter frame with a new size (`Hwaccel::keeps_session`), this
//!   client sets the new OUTPUT format on the busy queue and makes CAPTURE buffers of the new size next to
//!   the old ones, which it gives back by REMOVE_BUFS when they are free.
//! * FFmpeg may begin a session with every sequence header that it reads, this client only if it says
//!   something new.
//! * FFmpeg shows a picture as soon as it may; frame threads and players that queue pictures are what keeps
//!   several jobs in flight. Here the pictures are taken four later, unless the user takes them promptly.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use daedalus_uapi::Codec;

use super::client::{Change, Client, Summary};
use super::controls::rename_references;
use super::frames::{Frame, Frames};
use crate::codecs;
use crate::coded::{CodedJob, Visible};
use crate::device::{ClientError, Device, Nodes, Request, call};
use crate::memory::Mapping;
use crate::picture::Layout;
use crate::queue::Queue;
use crate::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};

/// `FF_ARRAY_ELEMS(ctx->output)`.
const OUTPUTS: usize = 4;
/// CAPTURE buffers to begin with.
const INITIAL_PICTURES: usize = 4;
/// `AV_INPUT_BUFFER_PADDING_SIZE`.
const PADDING: usize = 64;
/// The timeout of every `poll`.
const PATIENCE: Duration = Duration::from_millis(2000);

/// The client.
#[derive(Debug)]
pub(super) struct Ffmpeg {
    nodes: Nodes,
    codec: Codec,
    session: Option<Session>,
    summary: Summary,
}

/// A CAPTURE buffer.
#[derive(Debug)]
struct Picture {
    size: (u32, u32),
    format: u32,
    layout: Layout,
    /// Its export, for reading.
    memory: Mapping,
}

#[derive(Debug)]
struct Session {
    codec: Codec,
    device: Arc<Device>,
    coded: Queue,
    raw: Queue,
    /// Size and bit depth with which the session began.
    parameters: ((u32, u32), u8),
    /// The formats of OUTPUT and of new CAPTURE buffers, and the size of both.
    coded_format: PixFormatMplane,
    raw_format: PixFormatMplane,
    size: (u32, u32),
    requests: Vec<Request>,
    next_output: usize,
    /// By index: which OUTPUT buffers, requests and CAPTURE buffers are in flight.
    queued_outputs: Vec<bool>,
    queued_requests: Vec<bool>,
    queued_pictures: Vec<bool>,
    /// CAPTURE buffers; `None` for an index that REMOVE_BUFS gave back.
    pictures: Vec<Option<Picture>>,
    free: Vec<usize>,
    /// The picture that was decoded last, and whether nothing else needs it, if the decoder lets go of it
    /// only when it has got a buffer for the next one.
    current: Option<(usize, bool)>,
    /// The device has the control that some requests have only then.
    optional: bool,
    flagged: usize,
}

impl Ffmpeg {
    pub(super) fn new(nodes: &Nodes, codec: Codec) -> Self {
        Self {
            nodes: nodes.clone(),
            codec,
            session: None,
            summary: Summary::default(),
        }
    }

    fn session(&mut self) -> Result<&mut Session, ClientError> {
        let none = || ClientError::Unexpected("no session".into());
        self.session.as_mut().ok_or_else(none)
    }
}

impl Client for Ffmpeg {
    fn lag(&self) -> usize {
        OUTPUTS - 1
    }

    fn change(&self, job: &CodedJob) -> Change {
        let Some(session) = &self.session else {
            return Change::Afresh;
        };
        let row = codecs::row(self.codec);
        let parameters = ((row.session_size)(job), job.bit_depth);
        let keeps = row.hwaccel.keeps_session(job);
        if parameters == session.parameters || keeps && parameters.1 == session.parameters.1 {
            Change::None
        } else {
            Change::Afresh
        }
    }

    fn begin(&mut self, job: &CodedJob) -> Result<(), ClientError> {
        self.end()?;
        self.session = Some(Session::open(&self.nodes, self.codec, job)?);
        Ok(())
    }

    fn has_room(&mut self) -> Result<bool, ClientError> {
        // Another buffer is made when none is free.
        Ok(true)
    }

    fn submit(&mut self, job: &CodedJob, frames: &mut Frames) -> Result<(), ClientError> {
        let session = self.session()?;
        let in_flight = session.submit(job, frames)?;
        self.summary.in_flight = self.summary.in_flight.max(in_flight);
        Ok(())
    }

    fn recycle(&mut self, buffer: usize) {
        if let Some(session) = &mut self.session {
            match &mut session.current {
                Some((current, released)) if *current == buffer => *released = true,
                _ => session.free.push(buffer),
            }
        }
    }

    fn wait_for(&mut self, buffer: usize) -> Result<(), ClientError> {
        self.session()?.wait_on_capture(buffer)
    }

    fn read(&self, buffer: usize, visible: &Visible) -> Result<(u32, Vec<u8>), ClientError> {
        let picture = self
            .session
            .as_ref()
            .and_then(|session| session.pictures.get(buffer)?.as_ref());
        let picture = picture.ok_or_else(|| ClientError::Unexpected("no such picture".into()))?;
        Ok((
            picture.format,
            picture.layout.packed(&[&picture.memory], visible)?,
        ))
    }

    fn end(&mut self) -> Result<(), ClientError> {
        if let Some(mut session) = self.session.take() {
            session.flush()?;
            session.coded.stream(false)?;
            session.raw.stream(false)?;
            self.summary.flagged += session.flagged;
        }
        Ok(())
    }

    fn summary(&self) -> Summary {
        self.summary
    }
}

impl Session {
    fn open(nodes: &Nodes, codec: Codec, job: &CodedJob) -> Result<Self, ClientError> {
        let row = codecs::row(codec);
        let size = (row.session_size)(job);
        let device = Device::open(nodes, false)?;
        let coded = Queue::of_any_field(&device, BUF_TYPE_OUTPUT);
        let raw = Queue::of_any_field(&device, BUF_TYPE_CAPTURE);
        let coded_format = probe(&device, &coded, codec, size)?;
        let initial = job.control(codec.info().depth_control).cloned();
        device.set_controls(initial.as_slice(), None)?;
        let pixelformat = device.format(BUF_TYPE_CAPTURE)?.pixelformat;
        device.set_format(BUF_TYPE_CAPTURE, format_request(pixelformat, size, 0))?;
        raw.capabilities()?;
        let raw_format = device.format(BUF_TYPE_CAPTURE)?;
        let mut session = Self {
            codec,
            device,
            coded,
            raw,
            parameters: (size, job.bit_depth),
            coded_format,
            raw_format,
            size,
            requests: Vec::new(),
            next_output: 0,
            queued_outputs: vec![false; OUTPUTS],
            queued_requests: vec![false; OUTPUTS],
            queued_pictures: Vec::new(),
            pictures: Vec::new(),
            free: Vec::new(),
            current: None,
            optional: false,
            flagged: 0,
        };
        for _ in 0..INITIAL_PICTURES {
            let picture = session.new_picture()?;
            session.free.push(picture);
        }
        session.optional = row.hwaccel.prepare(&session.device)?;
        for _ in 0..OUTPUTS {
            session.coded.create(1, coded_format)?;
            session.requests.push(session.device.request()?);
        }
        session.coded.stream(true)?;
        session.raw.stream(true)?;
        Ok(session)
    }

    /// Returns a CAPTURE buffer of the current format, made by CREATE_BUFS and exported.
    fn new_picture(&mut self) -> Result<usize, ClientError> {
        let format = self.raw_format;
        let index = self.raw.create(1, format)? as usize;
        let export = self.raw.export(index, 0, false)?;
        let length = self.raw.mappings(index)?.map(Mapping::len).sum();
        let memory = call("mmap of an export", Mapping::read_only(export.as_fd(), length))?;
        let picture = Picture {
            size: self.size,
            format: format.pixelformat,
            layout: Layout::new(&format)?,
            memory,
        };
        while self.pictures.len() <= index {
            self.pictures.push(None);
            self.queued_pictures.push(false);
        }
        self.pictures[index] = Some(picture);
        Ok(index)
    }

    /// Takes a free CAPTURE buffer of the current size: the one that was freed last, or a new one.
    fn get_picture(&mut self) -> Result<usize, ClientError> {
        let fits = |index: &usize| {
            self.pictures[*index]
                .as_ref()
                .is_some_and(|picture| picture.size == self.size)
        };
        match self.free.iter().rposition(fits) {
            Some(position) => Ok(self.free.remove(position)),
            None => {
                self.remove_free()?;
                self.new_picture()
            }
        }
    }

    /// Gives back the free CAPTURE buffers, all of which have another size than the current one.
    fn remove_free(&mut self) -> Result<(), ClientError> {
        while let Some(index) = self.free.pop() {
            self.wait_on_capture(index)?;
            self.pictures[index] = None;
            self.raw.forget(index)?;
            self.raw.remove(u32::try_from(index).unwrap_or(u32::MAX), 1)?;
        }
        Ok(())
    }

    /// Sets the new size, between two inter frames.
    fn resize(&mut self, size: (u32, u32)) -> Result<(), ClientError> {
        let length = self.coded_format.plane_fmt[0].size();
        let format = format_request(self.codec.coded_format(), size, length);
        self.coded_format = self.device.set_format(BUF_TYPE_OUTPUT, format)?;
        // With CAPTURE buffers of the older size about, the queue's own format stays that of the older size.
        self.raw_format = self.device.try_format(BUF_TYPE_CAPTURE, self.raw_format)?;
        self.size = size;
        Ok(())
    }

    /// Submits a job; returns how many are in flight then.
    fn submit(&mut self, job: &CodedJob, frames: &mut Frames) -> Result<usize, ClientError> {
        let row = codecs::row(self.codec);
        let size = (row.session_size)(job);
        if size != self.size {
            self.resize(size)?;
        }
        let target = match frames.get(job.timestamp) {
            Some(first_field) => first_field.buffer,
            None => {
                let buffer = self.get_picture()?;
                if row.hwaccel.keeps_last_picture() {
                    if let Some((last, true)) = self.current.replace((buffer, false)) {
                        self.free.push(last);
                    }
                }
                frames.add(job.timestamp, Frame::new(job, buffer, timestamp_of(buffer)));
                buffer
            }
        };
        let output = self.next_output()?;
        self.wait_on_capture(target)?;
        let (mut values, payload) = row.hwaccel.request(job, self.optional);
        rename_references(self.codec, &mut values, 0, |picture| {
            frames.get(picture).map(|frame| frame.timestamp)
        });
        self.wait_on_capture(target)?;
        self.wait_on_request(output)?;
        self.dequeue_all(BUF_TYPE_OUTPUT)?;
        self.device.set_controls(&values, Some(&self.requests[output]))?;
        if let Some(memory) = self.coded.mappings(output)?.next() {
            call(
                "a payload larger than its buffer",
                memory.write(payload.len(), &[0; PADDING]),
            )?;
        }
        let timestamp = timestamp_of(target);
        let request = &self.requests[output];
        self.coded
            .queue_coded(output, &payload, timestamp, false, request)?;
        self.queued_outputs[output] = true;
        self.raw.queue_picture(target)?;
        self.queued_pictures[target] = true;
        self.device.timed(false, || request.queue())?;
        self.queued_requests[output] = true;
        Ok(self.queued_outputs.iter().filter(|queued| **queued).count())
    }

    /// Waits for the next of the OUTPUT buffers.
    fn next_output(&mut self) -> Result<usize, ClientError> {
        let output = self.next_output;
        self.next_output = (output + 1) % OUTPUTS;
        self.dequeue_all(BUF_TYPE_OUTPUT)?;
        while self.queued_outputs[output] {
            self.device.wait_queue(BUF_TYPE_OUTPUT, PATIENCE)?;
            self.dequeue(BUF_TYPE_OUTPUT)?;
        }
        Ok(output)
    }

    fn wait_on_capture(&mut self, index: usize) -> Result<(), ClientError> {
        self.dequeue_all(BUF_TYPE_CAPTURE)?;
        while self.queued_pictures[index] {
            self.device.wait_queue(BUF_TYPE_CAPTURE, PATIENCE)?;
            self.dequeue(BUF_TYPE_CAPTURE)?;
        }
        Ok(())
    }

    fn wait_on_request(&mut self, output: usize) -> Result<(), ClientError> {
        let request = &self.requests[output];
        if self.queued_requests[output] {
            request.wait(PATIENCE)?;
        }
        self.device.timed(false, || request.reinit())?;
        self.queued_requests[output] = false;
        Ok(())
    }

    /// Takes all buffers that are back, if any were queued.
    fn dequeue_all(&mut self, buf_type: u32) -> Result<(), ClientError> {
        let queued = if buf_type == BUF_TYPE_OUTPUT {
            &self.queued_outputs
        } else {
            &self.queued_pictures
        };
        if queued.contains(&true) {
            while self.dequeue(buf_type)? {}
        }
        Ok(())
    }

    /// DQBUF; `false` if nothing was ready.
    fn dequeue(&mut self, buf_type: u32) -> Result<bool, ClientError> {
        let (queue, queued) = if buf_type == BUF_TYPE_OUTPUT {
            (&self.coded, &mut self.queued_outputs)
        } else {
            (&self.raw, &mut self.queued_pictures)
        };
        let Some(buffer) = queue.dequeue()? else {
            return Ok(false);
        };
        match queued.get_mut(buffer.index) {
            Some(queued) if *queued => *queued = false,
            _ => {
                return Err(ClientError::Unexpected(format!(
                    "buffer {} came back and was not queued",
                    buffer.index
                )));
            }
        }
        if buf_type == BUF_TYPE_CAPTURE {
            // What FFmpeg takes for granted: the job went into the buffer that was queued for it.
            if buffer.timestamp != timestamp_of(buffer.index) {
                return Err(ClientError::Unexpected(format!(
                    "CAPTURE buffer {} came back with the timestamp {} of another",
                    buffer.index, buffer.timestamp
                )));
            }
            self.flagged += usize::from(buffer.error);
        }
        Ok(true)
    }

    /// `ff_v4l2_request_flush`.
    fn flush(&mut self) -> Result<(), ClientError> {
        self.dequeue_all(BUF_TYPE_OUTPUT)?;
        while self.queued_outputs.contains(&true) {
            self.device.wait_queue(BUF_TYPE_OUTPUT, PATIENCE)?;
            self.dequeue(BUF_TYPE_OUTPUT)?;
        }
        self.dequeue_all(BUF_TYPE_CAPTURE)
    }
}

/// Returns the timestamp of jobs that go into CAPTURE buffer `index`, in ns.
fn timestamp_of(index: usize) -> u64 {
    (index as u64 + 1) * 1000
}

/// Returns a format as S_FMT gets it.
fn format_request(pixelformat: u32, (width, height): (u32, u32), sizeimage: u32) -> PixFormatMplane {
    let mut format = PixFormatMplane {
        width,
        height,
        pixelformat,
        num_planes: 1,
        ..Default::default()
    };
    format.plane_fmt[0].sizeimage = sizeimage.to_ne_bytes();
    format
}

/// Checks that the device can do it at all, sets the format of OUTPUT and returns the granted one.
fn probe(
    device: &Arc<Device>,
    coded: &Queue,
    codec: Codec,
    size: (u32, u32),
) -> Result<PixFormatMplane, ClientError> {
    let unfit = |what: &str| Err(ClientError::Unexpected(format!("the device has no {what}")));
    let capability = device.capability()?;
    let needed = v4l2::CAP_STREAMING | v4l2::CAP_VIDEO_M2M_MPLANE;
    if capability.device_caps & needed != needed {
        return unfit("multi-planar mem2mem streaming");
    }
    if coded.capabilities()? & v4l2::BUF_CAP_SUPPORTS_REQUESTS == 0 {
        return unfit("requests");
    }
    if !device.offers(BUF_TYPE_OUTPUT, codec.coded_format())? {
        return unfit("such codec");
    }
    let largest = device.largest(codec.coded_format())?;
    if size.0 > largest.0 || size.1 > largest.1 {
        return unfit("pictures of this size");
    }
    let sizeimage = (size.0 * size.1 * 3 / 2).max(256 * 1024);
    device.set_format(
        BUF_TYPE_OUTPUT,
        format_request(codec.coded_format(), size, sizeimage),
    )?;
    device.format(BUF_TYPE_OUTPUT)
}
