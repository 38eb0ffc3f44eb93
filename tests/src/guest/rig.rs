// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A session that looks at every buffer. Each job gets one CAPTURE buffer of its picture's size, queued with
//! it. A new one is full of noise that has to be gone when it comes back; one that had a picture is left as
//! it is, since it may be the last good one. Buffers are made and removed while it streams.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::device::{ClientError, Device, Nodes, Request};
use daedalus_client::memory::Mapping;
use daedalus_client::picture::Layout;
use daedalus_client::queue::{Backing, DequeuedBuffer, Queue};
use daedalus_client::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};
use daedalus_client::{CodedJob, Control, Visible};
use daedalus_uapi::codec::Codec;

use crate::random::Random;

/// Jobs in flight.
const DEPTH: usize = 4;
/// Attempts to make a buffer of the stream's raw format while jobs with wild controls are in flight.
const ATTEMPTS: usize = 100;
/// A session without an answer for so long is hung.
const PATIENCE: Duration = Duration::from_secs(20);
/// Offsets at which the noise of a buffer may begin: it is another one each time.
const NOISE_OFFSETS: usize = 1 << 16;

/// Width and height of a picture as decoded.
type Size = (u32, u32);

/// A picture that came back.
pub(crate) struct ReturnedPicture {
    pub(crate) timestamp: u64,
    /// `V4L2_BUF_FLAG_ERROR`.
    pub(crate) error: bool,
    /// The visible part, packed.
    pub(crate) packed: Vec<u8>,
    /// Bytes of the longest piece of the visible part of a new buffer in which the noise was not overwritten.
    pub(crate) stale: usize,
    /// From the job's submission on.
    pub(crate) took: Duration,
}

/// A CAPTURE buffer.
struct Buffer {
    size: Size,
    /// It was not queued yet.
    new: bool,
    layout: Layout,
}

struct JobInFlight {
    timestamp: u64,
    coded: usize,
    request: usize,
    raw: usize,
    visible: Visible,
    /// The noise that was visible when the buffer was queued; empty if it was not new.
    before: Vec<u8>,
    submitted: Instant,
    needs: Vec<u64>,
    /// The picture came back, the job did not yet.
    shown: bool,
}

/// The session.
pub(crate) struct Rig {
    device: Arc<Device>,
    coded: Queue,
    raw: Queue,
    codec: Codec,
    payload: u32,
    /// OUTPUT's format's size.
    size: Size,
    /// CAPTURE's format that suits the stream's bit depth.
    raw_format: u32,
    /// The control that says the stream's bit depth.
    depth: Option<Control>,
    /// By index; `None` where a buffer was removed.
    buffers: Vec<Option<Buffer>>,
    free_raw: Vec<usize>,
    requests: Vec<Request>,
    free_coded: Vec<usize>,
    free_requests: Vec<usize>,
    in_flight: VecDeque<JobInFlight>,
    reference_buffers: HashMap<u64, usize>,
    references: Vec<u64>,
    random: Random,
    noise: Vec<u8>,
    streaming: bool,
    removed: usize,
    most_sizes: usize,
}

impl Rig {
    /// Opens a session for jobs like `first` with payloads of up to `payload` bytes.
    pub(crate) fn open(
        nodes: &Nodes,
        codec: Codec,
        first: &CodedJob,
        payload: usize,
        seed: u64,
    ) -> Result<Self> {
        let device = Device::open(nodes, false)?;
        let mut rig = Self {
            coded: Queue::new(&device, BUF_TYPE_OUTPUT),
            raw: Queue::new(&device, BUF_TYPE_CAPTURE),
            codec,
            payload: u32::try_from(payload)?,
            size: (0, 0),
            raw_format: 0,
            depth: None,
            buffers: Vec::new(),
            free_raw: Vec::new(),
            requests: (0..DEPTH)
                .map(|_| device.request())
                .collect::<Result<_, ClientError>>()?,
            free_coded: Vec::new(),
            free_requests: (0..DEPTH).collect(),
            in_flight: VecDeque::new(),
            reference_buffers: HashMap::new(),
            references: Vec::new(),
            random: Random::new(seed),
            noise: Vec::new(),
            streaming: false,
            removed: 0,
            most_sizes: 0,
            device,
        };
        rig.resize((first.coded_width, first.coded_height))?;
        let depth_control = codec.info().depth_control;
        let mut controls = first.controls.iter();
        rig.depth = controls.find(|control| control.id == depth_control).cloned();
        rig.set_depth()?;
        rig.raw_format = rig.capture_format()?.pixelformat;
        rig.coded.allocate(u32::try_from(DEPTH)?, &Backing::Mmap)?;
        rig.free_coded = (0..rig.coded.len().min(DEPTH)).collect();
        Ok(rig)
    }

    /// Returns the bytes of an OUTPUT buffer.
    pub(crate) fn room(&self) -> Result<usize> {
        let first = self.coded.mappings(0)?.next();
        Ok(first.context("an OUTPUT buffer without planes")?.len())
    }

    /// Returns the number of CAPTURE buffers that were removed, and the most sizes that lived side by side.
    pub(crate) fn turnover(&self) -> (usize, usize) {
        (self.removed, self.most_sizes)
    }

    /// Sets OUTPUT's size, as a client does that meets a frame of another size.
    fn resize(&mut self, size: Size) -> Result<()> {
        if size == self.size {
            return Ok(());
        }
        let mut format = PixFormatMplane {
            width: size.0,
            height: size.1,
            pixelformat: self.codec.coded_format(),
            field: v4l2::FIELD_NONE,
            num_planes: 1,
            ..Default::default()
        };
        format.plane_fmt[0].sizeimage = self.payload.to_ne_bytes();
        let answer = self
            .device
            .set_format(BUF_TYPE_OUTPUT, format)
            .context("a new OUTPUT size")?;
        ensure!(
            (answer.width, answer.height) == size && answer.pixelformat == format.pixelformat,
            "OUTPUT of {}x{} was not granted",
            size.0,
            size.1
        );
        self.size = size;
        Ok(())
    }

    /// Tells the device the stream's bit depth, from which CAPTURE's formats follow.
    fn set_depth(&self) -> Result<()> {
        if let Some(control) = &self.depth {
            self.device.set_controls(std::slice::from_ref(control), None)?;
        }
        Ok(())
    }

    /// Returns CAPTURE's format for pictures of the size that OUTPUT has.
    fn capture_format(&self) -> Result<PixFormatMplane> {
        let mut format = v4l2::Format {
            type_: BUF_TYPE_CAPTURE,
            pix_mp: self.device.format(BUF_TYPE_CAPTURE)?,
            ..Default::default()
        };
        v4l2::try_fmt(self.device.video(), &mut format).context("TRY_FMT")?;
        Ok(format.pix_mp)
    }

    /// Makes one more CAPTURE buffer of the present size. The controls of a damaged job, which take effect
    /// when it is decoded, may name another bit depth: a buffer for that is of no use.
    fn create(&mut self) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            let format = self.capture_format()?;
            if format.pixelformat != self.raw_format {
                self.set_depth()?;
                continue;
            }
            let index = self.raw.create(1, format)? as usize;
            let planes = format.plane_fmt.iter().take(format.num_planes.into());
            let asked: Vec<_> = planes.map(|plane| plane.size() as usize).collect();
            let made: Vec<_> = self.raw.mappings(index)?.map(Mapping::len).collect();
            if made == asked {
                self.add(index, &format)?;
                return Ok(index);
            }
            self.raw.remove(u32::try_from(index)?, 1)?;
        }
        Err(anyhow!("CAPTURE does not get the stream's format"))
    }

    /// Adds the buffer that was made.
    fn add(&mut self, index: usize, format: &PixFormatMplane) -> Result<()> {
        if self.buffers.len() <= index {
            self.buffers.resize_with(index + 1, || None);
        }
        let longest = self
            .raw
            .mappings(index)?
            .map(Mapping::len)
            .max()
            .unwrap_or_default();
        if self.noise.len() < longest + NOISE_OFFSETS {
            self.noise.resize(longest + NOISE_OFFSETS, 0);
            self.random.fill(&mut self.noise);
        }
        self.buffers[index] = Some(Buffer {
            size: self.size,
            new: true,
            layout: Layout::new(format)?,
        });
        let mut sizes: Vec<Size> = self.buffers.iter().flatten().map(|buffer| buffer.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        self.most_sizes = self.most_sizes.max(sizes.len());
        Ok(())
    }

    fn buffer(&self, index: usize) -> Result<&Buffer> {
        let buffer = self.buffers.get(index).and_then(Option::as_ref);
        buffer.with_context(|| format!("CAPTURE buffer {index} was removed"))
    }

    /// Frees the buffers of pictures that nothing needs any more, and removes those of another size.
    fn release(&mut self) -> Result<()> {
        let needed = |timestamp: &u64| {
            self.references.contains(timestamp)
                || self.in_flight.iter().any(|job| job.needs.contains(timestamp))
        };
        let free: Vec<u64> = self
            .reference_buffers
            .keys()
            .copied()
            .filter(|ts| !needed(ts))
            .collect();
        for timestamp in free {
            self.free_raw.extend(self.reference_buffers.remove(&timestamp));
        }
        let size = self.size;
        self.remove_free(|buffer| buffer.size != size)
    }

    /// Removes the free buffers, so that the next job gets a new one.
    pub(crate) fn renew(&mut self) -> Result<()> {
        self.release()?;
        self.remove_free(|_| true)
    }

    fn remove_free(&mut self, which: impl Fn(&Buffer) -> bool) -> Result<()> {
        let mut at = 0;
        while at < self.free_raw.len() {
            let index = self.free_raw[at];
            if !which(self.buffer(index)?) {
                at += 1;
                continue;
            }
            self.raw.remove(u32::try_from(index)?, 1)?;
            self.buffers[index] = None;
            self.free_raw.swap_remove(at);
            self.removed += 1;
        }
        Ok(())
    }

    fn packed(&self, index: usize, visible: &Visible) -> Result<Vec<u8>> {
        let planes: Vec<&Mapping> = self.raw.mappings(index)?.collect();
        Ok(self.buffer(index)?.layout.packed(&planes, visible)?)
    }

    /// Returns a CAPTURE buffer and, if it is new, the noise that is visible in it.
    fn prefilled(&mut self, visible: &Visible) -> Result<(usize, Vec<u8>)> {
        self.release()?;
        let index = match self.free_raw.pop() {
            Some(index) => index,
            None => self.create()?,
        };
        let new = self.buffers[index]
            .as_mut()
            .is_some_and(|buffer| std::mem::take(&mut buffer.new));
        if !new {
            return Ok((index, Vec::new()));
        }
        let planes: Vec<&Mapping> = self.raw.mappings(index)?.collect();
        for plane in planes {
            let offset = self.random.index(NOISE_OFFSETS);
            plane.write(0, &self.noise[offset..offset + plane.len()])?;
        }
        let before = self.packed(index, visible)?;
        Ok((index, before))
    }

    /// Submits `job`, whose picture is of the size that `job` says. It appends to `returned` the pictures
    /// that came back while there was no room for the job. If the controls are refused, nothing was
    /// submitted, and the answer is the error number.
    pub(crate) fn submit(
        &mut self,
        job: &CodedJob,
        returned: &mut Vec<ReturnedPicture>,
    ) -> Result<std::result::Result<(), rustix::io::Errno>> {
        ensure!(
            !job.hold_capture && !job.same_capture,
            "fields are not what this is for"
        );
        while self.free_coded.is_empty() || self.free_requests.is_empty() {
            self.collect(returned)?;
        }
        self.resize((job.coded_width, job.coded_height))?;
        let (Some(&coded), Some(&number)) = (self.free_coded.last(), self.free_requests.last()) else {
            return Err(anyhow!("no OUTPUT buffer"));
        };
        if let Err(error) = self
            .device
            .set_controls(&job.controls, Some(&self.requests[number]))
        {
            return error.errno().map(Err).ok_or_else(|| error.into());
        }
        let (raw, before) = self.prefilled(&job.visible)?;
        if job.payload.is_empty() {
            // The core takes no bytes for all bytes.
            let plane = self.coded.mappings(coded)?.next().context("no plane")?;
            plane.write(0, &vec![0; plane.len()])?;
        }
        if !self.streaming {
            self.coded.stream(true)?;
            self.raw.stream(true)?;
            self.streaming = true;
        }
        let request = &self.requests[number];
        self.raw.queue_picture(raw)?;
        self.coded
            .queue_coded(coded, &job.payload, job.timestamp, false, request)?;
        request.queue()?;
        self.free_coded.pop();
        self.free_requests.pop();
        self.in_flight.push_back(JobInFlight {
            timestamp: job.timestamp,
            coded,
            request: number,
            raw,
            visible: job.visible,
            before,
            submitted: Instant::now(),
            needs: std::mem::replace(&mut self.references, job.references.clone()),
            shown: false,
        });
        Ok(Ok(()))
    }

    /// Waits for something to come back, and takes all of it.
    fn collect(&mut self, returned: &mut Vec<ReturnedPicture>) -> Result<()> {
        let ready = self.device.wait(PATIENCE)?;
        ensure!(!ready.error, "a queue is in error");
        if ready.raw {
            while let Some(buffer) = self.raw.dequeue()? {
                self.take_picture(&buffer, returned)?;
            }
        }
        // A job that ends meanwhile has its picture on the other queue: both are taken the next time.
        while ready.coded && self.in_flight.front().is_some_and(|job| job.shown) {
            let Some(buffer) = self.coded.dequeue()? else {
                break;
            };
            let job = self
                .in_flight
                .pop_front()
                .context("a job that was never submitted")?;
            ensure!(
                (job.coded, job.shown) == (buffer.index, true),
                "jobs out of order, or a job without its picture"
            );
            let request = &self.requests[job.request];
            request.wait(PATIENCE)?;
            request.reinit()?;
            self.free_coded.push(job.coded);
            self.free_requests.push(job.request);
        }
        Ok(())
    }

    /// Takes the picture that came back in `buffer`, which has to be that of the oldest job without one.
    fn take_picture(&mut self, buffer: &DequeuedBuffer, returned: &mut Vec<ReturnedPicture>) -> Result<()> {
        let at = self.in_flight.iter().position(|job| !job.shown);
        let at = at.context("a picture that no job asked for")?;
        let job = &self.in_flight[at];
        ensure!(
            (job.timestamp, job.raw) == (buffer.timestamp, buffer.index),
            "pictures out of order: {} ns in buffer {} where {} ns in {} was due",
            buffer.timestamp,
            buffer.index,
            job.timestamp,
            job.raw
        );
        let packed = self.packed(job.raw, &job.visible)?;
        let job = &mut self.in_flight[at];
        job.shown = true;
        returned.push(ReturnedPicture {
            timestamp: job.timestamp,
            error: buffer.error,
            stale: longest_run(&job.before, &packed),
            packed,
            took: job.submitted.elapsed(),
        });
        let before = self.reference_buffers.insert(buffer.timestamp, buffer.index);
        self.free_raw.extend(before);
        Ok(())
    }

    /// Stops both queues and gives all CAPTURE buffers back, as a client does where a new sequence begins.
    /// Nothing is in flight.
    pub(crate) fn restart(&mut self) -> Result<()> {
        ensure!(self.in_flight.is_empty(), "jobs are in flight");
        self.coded.stream(false)?;
        self.raw.stream(false)?;
        self.streaming = false;
        self.raw.allocate(0, &Backing::Mmap)?;
        self.buffers.clear();
        self.free_raw.clear();
        self.reference_buffers.clear();
        self.references.clear();
        Ok(())
    }

    /// Waits until everything has come back.
    pub(crate) fn drain(&mut self, returned: &mut Vec<ReturnedPicture>) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.collect(returned)?;
        }
        Ok(())
    }
}

/// Returns the bytes of the longest piece in which both are equal.
pub(crate) fn longest_run(before: &[u8], after: &[u8]) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for (one, other) in before.iter().zip(after) {
        run = if one == other { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_was_not_overwritten_is_seen() {
        let mut random = Random::new(5);
        let mut before = vec![0; 4096];
        random.fill(&mut before);
        let mut after = vec![0x80; 4096];
        assert!(longest_run(&before, &after) < 4);
        after[1000..1010].copy_from_slice(&before[1000..1010]);
        assert!(longest_run(&before, &after) >= 10);
        assert_eq!(longest_run(&before, &before), 4096);
    }
}
