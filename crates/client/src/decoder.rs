// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Drives a device: submits jobs in requests, keeps references, and takes pictures in order.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use daedalus_uapi::Codec;
use md5::{Digest, Md5};

use crate::coded::{CodedJob, Control, Visible};
use crate::device::{ClientError, Device, Longest, Nodes, Request};
use crate::memory::Mapping;
use crate::picture::Layout;
use crate::queue::{Backing, Queue};
use crate::v4l2;

/// Options of a session.
#[derive(Clone, Debug)]
pub struct Options {
    /// Jobs in flight at most, from 1.
    pub depth: usize,
    /// CAPTURE format to ask for; the driver's default if absent.
    pub raw_format: Option<u32>,
    /// OUTPUT memory.
    pub coded: Backing,
    /// CAPTURE memory.
    pub raw: Backing,
    /// Whether `DQBUF` waits; else `poll` does.
    pub blocking: bool,
    /// Time that `poll` waits for a job before that is an error.
    pub patience: Duration,
    /// Whether to read pictures at all.
    pub hash: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            depth: 4,
            raw_format: None,
            coded: Backing::Mmap,
            raw: Backing::Mmap,
            blocking: false,
            patience: Duration::from_secs(10),
            hash: true,
        }
    }
}

/// The preparation of a session: for the largest of a stream's jobs.
#[derive(Clone, Debug)]
pub struct Plan {
    codec: Codec,
    width: u32,
    height: u32,
    payload: usize,
    references: usize,
    /// Menus, and the control that tells the bit depth: set outside of requests before buffers are allocated.
    initial: Vec<Control>,
}

impl Plan {
    /// Returns the plan for `jobs`, which are not empty.
    #[must_use]
    pub fn new(codec: Codec, jobs: &[CodedJob]) -> Self {
        let most = |size: fn(&CodedJob) -> usize| jobs.iter().map(size).max().unwrap_or_default();
        let row = codec.info();
        let menus = row.menus.iter().map(|(id, value)| Control::new(*id, value));
        let depth = jobs.first().and_then(|job| job.control(row.depth_control));
        let initial = menus.chain(depth.cloned()).collect();
        Self {
            codec,
            width: jobs.iter().map(|job| job.coded_width).max().unwrap_or_default(),
            height: jobs.iter().map(|job| job.coded_height).max().unwrap_or_default(),
            payload: most(|job| job.payload.len()),
            references: most(|job| job.references.len()),
            initial,
        }
    }

    /// CAPTURE buffers that are needed for `depth` jobs in flight.
    #[must_use]
    pub fn pictures(&self, depth: usize) -> usize {
        self.references + depth + 1
    }
}

/// A picture that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// MD5 of the visible part as packed NV12 or P010; zero if not asked for.
    pub md5: [u8; 16],
    /// The buffer had `V4L2_BUF_FLAG_ERROR`.
    pub error: bool,
}

/// A job that the device has not given back.
#[derive(Debug)]
struct InFlight {
    timestamp: u64,
    coded: usize,
    request: usize,
    /// The pictures that it may refer to.
    needs: Vec<u64>,
    /// It ends its picture: a CAPTURE buffer comes with it.
    ends_picture: bool,
}

/// A decoding session.
#[derive(Debug)]
pub struct Session {
    device: Arc<Device>,
    coded: Queue,
    raw: Queue,
    layout: Layout,
    options: Options,
    requests: Vec<Request>,
    free_coded: Vec<usize>,
    free_raw: Vec<usize>,
    free_requests: Vec<usize>,
    in_flight: VecDeque<InFlight>,
    /// Pictures in the order in which they have to come, with what is visible of each.
    expected: VecDeque<(u64, Visible)>,
    /// CAPTURE buffers of pictures that came back: they may be references.
    reference_buffers: HashMap<u64, usize>,
    /// Where the last picture of each timestamp came back.
    buffers: HashMap<u64, usize>,
    /// References after the last job submitted.
    references: Vec<u64>,
    pictures: HashMap<u64, Picture>,
    failed_jobs: usize,
    held: bool,
}

impl Session {
    /// Opens the device and prepares it: formats, buffers, streaming.
    ///
    /// # Errors
    /// The device's.
    pub fn open(nodes: &Nodes, plan: &Plan, options: &Options) -> Result<Self, ClientError> {
        let device = Device::open(nodes, options.blocking)?;
        Self::prepare(device, plan, options)
    }

    /// As [`Session::open`], on a device that is open and was not used yet.
    ///
    /// # Errors
    /// The device's.
    pub fn prepare(device: Arc<Device>, plan: &Plan, options: &Options) -> Result<Self, ClientError> {
        let mut format = v4l2::PixFormatMplane {
            width: plan.width,
            height: plan.height,
            pixelformat: plan.codec.coded_format(),
            field: v4l2::FIELD_NONE,
            num_planes: 1,
            ..Default::default()
        };
        let size = u32::try_from(plan.payload).unwrap_or(u32::MAX);
        format.plane_fmt[0].sizeimage = size.to_ne_bytes();
        let answer = device.set_format(v4l2::BUF_TYPE_OUTPUT, format)?;
        if answer.pixelformat != format.pixelformat || answer.plane_fmt[0].size() < size {
            return Err(ClientError::Unexpected("the coded format was not granted".into()));
        }
        for control in &plan.initial {
            device.set_controls(std::slice::from_ref(control), None)?;
        }
        let mut raw_format = device.format(v4l2::BUF_TYPE_CAPTURE)?;
        if let Some(pixelformat) = options.raw_format {
            raw_format.pixelformat = pixelformat;
            raw_format = device.set_format(v4l2::BUF_TYPE_CAPTURE, raw_format)?;
            if raw_format.pixelformat != pixelformat {
                return Err(ClientError::Unexpected(
                    "the CAPTURE format was not granted".into(),
                ));
            }
        }
        let mut coded = Queue::new(&device, v4l2::BUF_TYPE_OUTPUT);
        coded.allocate(u32::try_from(options.depth).unwrap_or(u32::MAX), &options.coded)?;
        let mut raw = Queue::new(&device, v4l2::BUF_TYPE_CAPTURE);
        let pictures = plan.pictures(options.depth);
        raw.allocate(u32::try_from(pictures).unwrap_or(u32::MAX), &options.raw)?;
        let requests = (0..options.depth)
            .map(|_| device.request())
            .collect::<Result<Vec<_>, _>>()?;
        let session = Self {
            free_coded: (0..coded.len().min(options.depth)).rev().collect(),
            free_raw: (0..raw.len()).rev().collect(),
            free_requests: (0..requests.len()).collect(),
            layout: Layout::new(&raw_format)?,
            device,
            coded,
            raw,
            requests,
            options: options.clone(),
            in_flight: VecDeque::new(),
            expected: VecDeque::new(),
            reference_buffers: HashMap::new(),
            buffers: HashMap::new(),
            references: Vec::new(),
            pictures: HashMap::new(),
            failed_jobs: 0,
            held: false,
        };
        session.coded.stream(true)?;
        session.raw.stream(true)?;
        Ok(session)
    }

    /// Returns the device.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Returns the OUTPUT and the CAPTURE queue.
    #[must_use]
    pub fn queues(&mut self) -> (&mut Queue, &mut Queue) {
        (&mut self.coded, &mut self.raw)
    }

    /// Returns the pictures that came back so far, by timestamp.
    #[must_use]
    pub fn pictures(&self) -> &HashMap<u64, Picture> {
        &self.pictures
    }

    /// Returns the CAPTURE buffer in which the last picture of `timestamp` came back. It keeps the picture
    /// until a later job is submitted, even if it is queued again before.
    #[must_use]
    pub fn buffer_of(&self, timestamp: u64) -> Option<usize> {
        self.buffers.get(&timestamp).copied()
    }

    /// Takes the pictures that came back so far, by timestamp.
    pub fn take_pictures(&mut self) -> HashMap<u64, Picture> {
        std::mem::take(&mut self.pictures)
    }

    /// Jobs that came back with `V4L2_BUF_FLAG_ERROR` on their OUTPUT buffer.
    #[must_use]
    pub fn failed_jobs(&self) -> usize {
        self.failed_jobs
    }

    /// Jobs that did not come back yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns the longest calls so far.
    #[must_use]
    pub fn longest(&self) -> Longest {
        self.device.longest()
    }

    /// Exports all planes of all CAPTURE buffers, for another session to import.
    ///
    /// # Errors
    /// The driver's.
    pub fn export(&self) -> Result<Vec<Arc<OwnedFd>>, ClientError> {
        let mut fds = Vec::new();
        for index in 0..self.raw.len() {
            for plane in 0..self.raw.mappings(index)?.count() {
                fds.push(Arc::new(self.raw.export(index, plane, true)?));
            }
        }
        Ok(fds)
    }

    /// Submits a job; waits for earlier ones if there is no room.
    ///
    /// # Errors
    /// The device's; [`ClientError::Unexpected`] if what comes back is out of order.
    pub fn submit(&mut self, job: &CodedJob) -> Result<(), ClientError> {
        loop {
            self.feed_pictures()?;
            if !self.free_coded.is_empty() && !self.free_requests.is_empty() {
                break;
            }
            self.collect()?;
        }
        let (Some(coded), Some(index)) = (self.free_coded.pop(), self.free_requests.pop()) else {
            return Err(ClientError::Unexpected("no OUTPUT buffer".into()));
        };
        let request = &self.requests[index];
        self.device.set_controls(&job.controls, Some(request))?;
        self.coded
            .queue_coded(coded, &job.payload, job.timestamp, job.hold_capture, request)?;
        self.device.timed(false, || request.queue())?;
        let ends_picture = !job.hold_capture;
        self.in_flight.push_back(InFlight {
            timestamp: job.timestamp,
            coded,
            request: index,
            needs: std::mem::replace(&mut self.references, job.references.clone()),
            ends_picture,
        });
        if !job.same_capture {
            self.expected.push_back((job.timestamp, job.visible));
        }
        self.held = job.hold_capture;
        Ok(())
    }

    /// Queues every CAPTURE buffer that no later or pending job needs.
    fn feed_pictures(&mut self) -> Result<(), ClientError> {
        let needed = |timestamp: &u64| {
            self.references.contains(timestamp)
                || self.in_flight.iter().any(|job| job.needs.contains(timestamp))
        };
        let free: Vec<u64> = self
            .reference_buffers
            .keys()
            .copied()
            .filter(|timestamp| !needed(timestamp))
            .collect();
        for timestamp in free {
            self.free_raw.extend(self.reference_buffers.remove(&timestamp));
        }
        while let Some(index) = self.free_raw.pop() {
            self.raw.queue_picture(index)?;
        }
        Ok(())
    }

    /// Waits for something to come back and takes it.
    ///
    /// # Errors
    /// As [`Session::submit`].
    pub fn collect(&mut self) -> Result<(), ClientError> {
        self.feed_pictures()?;
        if self.device.is_blocking() {
            // A picture comes back before the job that ends it; one that is held, with a later job.
            let picture = self.in_flight.front().is_some_and(|job| job.ends_picture);
            if picture {
                self.take_picture()?;
            }
            self.take_job()?;
            return Ok(());
        }
        let ready = self.device.wait(self.options.patience)?;
        let mut progress = false;
        while (ready.raw || ready.error) && self.take_picture()? {
            progress = true;
        }
        while (ready.coded || ready.error) && self.take_job()? {
            progress = true;
        }
        if ready.error && !progress {
            return Err(ClientError::Unexpected(
                "poll reports an error and there is none".into(),
            ));
        }
        Ok(())
    }

    /// Takes a CAPTURE buffer, if there is one.
    fn take_picture(&mut self) -> Result<bool, ClientError> {
        let Some(buffer) = self.raw.dequeue()? else {
            return Ok(false);
        };
        let (timestamp, visible) = self
            .expected
            .pop_front()
            .ok_or_else(|| ClientError::Unexpected("a picture that no job asked for".into()))?;
        if timestamp != buffer.timestamp {
            return Err(ClientError::Unexpected(format!(
                "pictures out of order: {} ns where {timestamp} ns was due",
                buffer.timestamp
            )));
        }
        let mut md5 = [0; 16];
        if self.options.hash {
            let planes: Vec<&Mapping> = self.raw.mappings(buffer.index)?.collect();
            md5 = Md5::digest(self.layout.packed(&planes, &visible)?).into();
        }
        self.pictures.insert(
            timestamp,
            Picture {
                md5,
                error: buffer.error,
            },
        );
        self.reference_buffers.insert(timestamp, buffer.index);
        self.buffers.insert(timestamp, buffer.index);
        Ok(true)
    }

    /// Takes an OUTPUT buffer, if there is one, and makes its request ready for use.
    fn take_job(&mut self) -> Result<bool, ClientError> {
        let Some(buffer) = self.coded.dequeue()? else {
            return Ok(false);
        };
        let job = self
            .in_flight
            .pop_front()
            .ok_or_else(|| ClientError::Unexpected("a job that was never submitted".into()))?;
        if job.coded != buffer.index || job.timestamp != buffer.timestamp {
            return Err(ClientError::Unexpected(format!(
                "jobs out of order: {} ns where {} ns was due",
                buffer.timestamp, job.timestamp
            )));
        }
        self.failed_jobs += usize::from(buffer.error);
        let request = &self.requests[job.request];
        request.wait(self.options.patience)?;
        self.device.timed(false, || request.reinit())?;
        self.free_coded.push(job.coded);
        self.free_requests.push(job.request);
        Ok(true)
    }

    /// Waits until all jobs have come back, and all their pictures.
    ///
    /// # Errors
    /// As [`Session::submit`].
    pub fn drain(&mut self) -> Result<(), ClientError> {
        while !self.in_flight.is_empty() {
            self.collect()?;
        }
        if self.held {
            self.device.flush()?;
            self.held = false;
        }
        while !self.expected.is_empty() {
            if !self.device.is_blocking() {
                self.device.wait(self.options.patience)?;
            }
            self.take_picture()?;
        }
        Ok(())
    }

    /// `STREAMOFF` and `STREAMON` of both queues: everything in flight is given up.
    ///
    /// # Errors
    /// The driver's.
    pub fn restart(&mut self) -> Result<(), ClientError> {
        self.coded.stream(false)?;
        self.raw.stream(false)?;
        while let Some(job) = self.in_flight.pop_front() {
            let request = &self.requests[job.request];
            request.wait(self.options.patience)?;
            request.reinit()?;
            self.free_coded.push(job.coded);
            self.free_requests.push(job.request);
        }
        self.expected.clear();
        self.reference_buffers.clear();
        self.references.clear();
        self.held = false;
        self.free_raw = (0..self.raw.len()).rev().collect();
        self.coded.stream(true)?;
        self.raw.stream(true)
    }
}

/// Decodes `jobs` from the first to the last in one session, and returns it with all pictures.
///
/// # Errors
/// As [`Session::submit`].
pub fn decode(
    nodes: &Nodes,
    codec: Codec,
    jobs: &[CodedJob],
    options: &Options,
) -> Result<Session, ClientError> {
    let mut session = Session::open(nodes, &Plan::new(codec, jobs), options)?;
    for job in jobs {
        session.submit(job)?;
    }
    session.drain()?;
    Ok(session)
}
