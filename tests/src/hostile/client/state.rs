// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fuzzer's state, the arguments of its calls, and the steps by which it decodes a clip.

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use daedalus_client::CodedJob;
use daedalus_client::device::Nodes;
use daedalus_client::memory::{Mapping, udmabuf};
use daedalus_client::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, MEMORY_DMABUF, MEMORY_MMAP};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::codec;
use crate::guest::clip::Clip;
use crate::hostile::faults::Faults;
use crate::hostile::raw::{self, Arena, Arg};
use crate::hostile::table::{Node, Op, Tally};
use crate::random::Random;

/// `V4L2_EVENT_CTRL`, and the flag that has an event sent at once.
pub(super) const EVENT_CTRL: u32 = 3;
pub(super) const EVENT_SEND_INITIAL: u32 = 1;
/// The first of the values in an arena; headers are before.
pub(super) const VALUES: usize = 4096;
/// Room for each value.
pub(super) const VALUE: usize = 12 << 10;

/// The state of a queue as the fuzzer believes it.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) memory: u32,
    pub(super) count: u32,
    pub(super) planes: usize,
    pub(super) mapped: Vec<Mapping>,
    pub(super) imports: Vec<Arc<OwnedFd>>,
    /// Buffers that are not queued, to its knowledge.
    pub(super) free: Vec<u32>,
    pub(super) streaming: bool,
}

/// The fuzzer: one open video node, or one more user of somebody else's.
pub(crate) struct Client<'a> {
    pub(super) video: OwnedFd,
    pub(super) media: OwnedFd,
    pub(super) clip: &'a Clip,
    /// The menu controls of all codecs.
    pub(super) menus: Vec<u32>,
    /// The compound controls of all codecs.
    pub(super) compound: Vec<u32>,
    pub(super) rng: Random,
    pub(crate) tally: Tally,
    pub(super) arg: Arg,
    pub(super) arena: Arena,
    pub(super) coded: Buffers,
    pub(super) raw: Buffers,
    /// Requests with what they are at: queued or not.
    pub(super) requests: Vec<(OwnedFd, bool)>,
    pub(super) exports: Vec<OwnedFd>,
    pub(super) next_job: usize,
    /// Own steps that failed in a row.
    pub(super) stuck: u32,
    /// OUTPUT buffers that came back.
    pub(crate) returned: u64,
    /// Those without an error.
    pub(crate) decoded: u64,
    /// Calls since the beginning.
    pub(crate) calls: u64,
    /// What makes allocations fail during calls.
    pub(crate) faults: Option<Faults>,
    /// The units of the clip's stream, if the node is the stateful one.
    pub(super) units: Option<Arc<Vec<Vec<u8>>>>,
    /// The format of the stream has changed: CAPTURE needs other buffers.
    changed: bool,
}

/// Makes a call, during which allocations fail if that is asked for.
fn with_faults(
    faults: &mut Option<Faults>,
    op: Op,
    fd: std::os::fd::BorrowedFd<'_>,
    arg: &mut Arg,
) -> rustix::io::Result<i32> {
    let Some(faults) = faults else {
        return raw::call(fd, op.opcode(), arg);
    };
    let input = arg.clone();
    faults.during(&format!("{op:?}"), || {
        *arg = input.clone();
        raw::call(fd, op.opcode(), arg)
    })
}

/// Opens a node without waiting for pictures.
pub(crate) fn open(path: &std::path::Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

impl<'a> Client<'a> {
    /// Makes a fuzzer of `video` that goes on with `clip`.
    pub(crate) fn new(video: OwnedFd, nodes: &Nodes, clip: &'a Clip, rng: Random) -> Result<Self> {
        Ok(Self {
            video,
            media: open(&nodes.media)?,
            clip,
            menus: codec::menus(),
            compound: codec::compound_controls(),
            rng,
            tally: Tally::default(),
            arg: Arg::default(),
            arena: Arena::new(),
            coded: Buffers::default(),
            raw: Buffers::default(),
            requests: Vec::new(),
            exports: Vec::new(),
            next_job: 0,
            stuck: 0,
            returned: 0,
            decoded: 0,
            calls: 0,
            faults: None,
            units: None,
            changed: false,
        })
    }

    /// From now on the node is the stateful one, which gets these units.
    pub(crate) fn with_units(mut self, units: &Arc<Vec<Vec<u8>>>) -> Self {
        self.units = Some(Arc::clone(units));
        self
    }

    /// Returns the clip's format of OUTPUT.
    pub(super) fn coded_format(&self) -> u32 {
        match self.units {
            Some(_) => self.clip.codec.info().stateful_formats[0],
            None => self.clip.codec.coded_format(),
        }
    }

    /// Returns the video node's descriptor, for another user.
    pub(crate) fn share(&self) -> Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(&self.video, 3)?)
    }

    pub(super) fn call(&mut self, op: Op) -> rustix::io::Result<i32> {
        self.calls += 1;
        let fd = match op {
            Op::RequestQueue | Op::RequestReinit => return Err(Errno::BADF),
            _ if op.node() == Node::Media => self.media.as_fd(),
            _ => self.video.as_fd(),
        };
        let result = with_faults(&mut self.faults, op, fd, &mut self.arg);
        self.tally.note(op, &result);
        result
    }

    pub(super) fn call_request(&mut self, op: Op, index: usize) -> rustix::io::Result<i32> {
        self.calls += 1;
        // Without a request, some other file.
        let fd = self
            .requests
            .get(index)
            .map_or(self.media.as_fd(), |(fd, _)| fd.as_fd());
        let result = with_faults(&mut self.faults, op, fd, &mut self.arg);
        self.tally.note(op, &result);
        result
    }

    pub(super) fn buffers(&mut self, buf_type: u32) -> &mut Buffers {
        if buf_type == BUF_TYPE_OUTPUT {
            &mut self.coded
        } else {
            &mut self.raw
        }
    }

    // --- the steps of decoding

    pub(crate) fn advance(&mut self) {
        let result = if self.coded.count == 0 || self.raw.count == 0 {
            self.prepare()
        } else if self.changed {
            self.adapt()
        } else if !self.coded.streaming {
            self.stream(true, BUF_TYPE_OUTPUT)
        } else if !self.raw.streaming {
            self.stream(true, BUF_TYPE_CAPTURE)
        } else if let Some(index) = self.raw.free.pop() {
            self.queue_picture(index)
        } else if let Some(index) = self.coded.free.pop() {
            match self.units.clone() {
                Some(units) => self.submit_unit(index, &units),
                None => self.submit(index),
            }
        } else {
            self.collect()
        };
        match result {
            Ok(()) => self.stuck = 0,
            Err(_) => {
                self.stuck += 1;
                if self.stuck == 5 {
                    // What it believed is wrong: it begins anew.
                    self.coded.count = 0;
                }
            }
        }
    }

    /// Sets formats and allocates buffers.
    pub(crate) fn prepare(&mut self) -> rustix::io::Result<()> {
        for buf_type in [BUF_TYPE_OUTPUT, BUF_TYPE_CAPTURE] {
            self.stream(false, buf_type)?;
            self.request_buffers(buf_type, 0, MEMORY_MMAP)?;
        }
        let job = &self.clip.jobs[0];
        let (width, height) = (job.coded_width, job.coded_height);
        let codec = self.coded_format();
        self.format(BUF_TYPE_OUTPUT, codec, width, height);
        self.call(Op::SFmt)?;
        if self.units.is_some() {
            for event in [v4l2::EVENT_EOS, v4l2::EVENT_SOURCE_CHANGE] {
                self.arg = Arg::default();
                self.arg.set(0, event);
                self.call(Op::SubscribeEvent)?;
            }
            self.changed = false;
        } else {
            let initial: Vec<usize> = (0..job.controls.len().min(1)).collect();
            self.controls(job, &initial, None);
            self.call(Op::SExtCtrls)?;
        }
        for buf_type in [BUF_TYPE_OUTPUT, BUF_TYPE_CAPTURE] {
            let count = if buf_type == BUF_TYPE_OUTPUT { 3 } else { 10 };
            let memory = if self.rng.one_in(4) {
                MEMORY_DMABUF
            } else {
                MEMORY_MMAP
            };
            self.request_buffers(buf_type, count, memory)?;
            self.back(buf_type);
        }
        self.next_job = 0;
        Ok(())
    }

    /// Gives CAPTURE buffers of the stream's format.
    fn adapt(&mut self) -> rustix::io::Result<()> {
        self.stream(false, BUF_TYPE_CAPTURE)?;
        self.request_buffers(BUF_TYPE_CAPTURE, 0, MEMORY_MMAP)?;
        self.request_buffers(BUF_TYPE_CAPTURE, 6, MEMORY_MMAP)?;
        self.back(BUF_TYPE_CAPTURE);
        self.changed = false;
        Ok(())
    }

    /// Queues the stream's next unit; now and then a drain follows.
    fn submit_unit(&mut self, index: u32, units: &[Vec<u8>]) -> rustix::io::Result<()> {
        let unit = &units[self.next_job % units.len()];
        self.next_job += 1;
        if let Some(mapping) = self.coded.mapped.get(index as usize) {
            // A unit that does not fit stays out, which is a damaged unit.
            let _ = mapping.write(0, unit);
        }
        self.buffer(BUF_TYPE_OUTPUT, index, self.coded.memory);
        self.arena.set(
            offset_of!(v4l2::Plane, bytesused),
            u32::try_from(unit.len()).unwrap_or(u32::MAX),
        );
        self.call(Op::QBuf)?;
        if self.rng.one_in(40) {
            self.command(v4l2::DEC_CMD_STOP)?;
        }
        Ok(())
    }

    fn command(&mut self, command: u32) -> rustix::io::Result<()> {
        self.arg = Arg::default();
        self.arg.set(0, command);
        self.call(Op::DecoderCmd).map(drop)
    }

    pub(super) fn request_buffers(
        &mut self,
        buf_type: u32,
        count: u32,
        memory: u32,
    ) -> rustix::io::Result<()> {
        self.arg = Arg::default();
        self.arg.set(0, count).set(4, buf_type).set(8, memory);
        self.call(Op::ReqBufs)?;
        let count = self.arg.get(0);
        *self.buffers(buf_type) = Buffers {
            memory,
            count,
            streaming: false,
            free: (0..count).rev().collect(),
            ..Buffers::default()
        };
        Ok(())
    }

    /// Maps the buffers of a queue, or makes memory to import.
    pub(super) fn back(&mut self, buf_type: u32) {
        let (memory, count) = (self.buffers(buf_type).memory, self.buffers(buf_type).count);
        for index in 0..count {
            self.buffer(buf_type, index, memory);
            if self.call(Op::QueryBuf).is_err() {
                return;
            }
            let planes = self.arg.get(offset_of!(v4l2::Buffer, length)) as usize;
            self.buffers(buf_type).planes = planes;
            for plane in 0..planes.min(v4l2::MAX_PLANES) {
                let at = plane * size_of::<v4l2::Plane>();
                let length = self.arena.get(at + offset_of!(v4l2::Plane, length)) as usize;
                let offset = self.arena.get(at + offset_of!(v4l2::Plane, m));
                if memory == MEMORY_MMAP {
                    if let Ok(mapping) = Mapping::new(self.video.as_fd(), u64::from(offset), length) {
                        self.buffers(buf_type).mapped.push(mapping);
                    }
                } else if let Ok(fd) = udmabuf(length.max(1)) {
                    if let Ok(mapping) = Mapping::new(fd.as_fd(), 0, length.max(1)) {
                        self.buffers(buf_type).mapped.push(mapping);
                    }
                    self.buffers(buf_type).imports.push(Arc::new(fd));
                }
            }
        }
    }

    pub(crate) fn stream(&mut self, on: bool, buf_type: u32) -> rustix::io::Result<()> {
        self.arg = Arg::default();
        self.arg.set(0, buf_type);
        self.call(if on { Op::StreamOn } else { Op::StreamOff })?;
        let buffers = self.buffers(buf_type);
        buffers.streaming = on;
        if !on {
            buffers.free = (0..buffers.count).rev().collect();
        }
        Ok(())
    }

    pub(crate) fn queue_picture(&mut self, index: u32) -> rustix::io::Result<()> {
        self.buffer(BUF_TYPE_CAPTURE, index, self.raw.memory);
        if self.rng.one_in(12) {
            self.call(Op::PrepareBuf)?;
            self.buffer(BUF_TYPE_CAPTURE, index, self.raw.memory);
        }
        self.call(Op::QBuf).map(drop)
    }

    /// Submits a whole request: controls, coded buffer, queue.
    pub(crate) fn submit(&mut self, index: u32) -> rustix::io::Result<()> {
        let clip = self.clip;
        let job = &clip.jobs[self.next_job % clip.jobs.len()];
        self.next_job += 1;
        let request = match self.requests.iter().position(|(_, queued)| !queued) {
            Some(request) => request,
            None => self.request()?,
        };
        let all: Vec<usize> = (0..job.controls.len()).collect();
        self.controls(job, &all, Some(request));
        self.call(Op::SExtCtrls)?;
        let payload = &job.payload;
        if let Some(mapping) = self.coded.mapped.get(index as usize) {
            // A payload that does not fit stays out, which is a damaged payload.
            let _ = mapping.write(0, payload);
        }
        self.buffer(BUF_TYPE_OUTPUT, index, self.coded.memory);
        self.arena.set(
            offset_of!(v4l2::Plane, bytesused),
            u32::try_from(payload.len()).unwrap_or(u32::MAX),
        );
        let hold = if self.rng.one_in(16) {
            v4l2::BUF_FLAG_HOLD_CAPTURE
        } else {
            0
        };
        let fd = self.requests[request].0.as_raw_fd();
        self.arg
            .set(offset_of!(v4l2::Buffer, flags), v4l2::BUF_FLAG_REQUEST_FD | hold)
            .set(offset_of!(v4l2::Buffer, request_fd), fd as u32)
            .set64(offset_of!(v4l2::Buffer, tv_sec), 0)
            .set64(
                offset_of!(v4l2::Buffer, tv_usec),
                job.timestamp / 1000 % 1_000_000,
            );
        self.call(Op::QBuf)?;
        self.call_request(Op::RequestQueue, request)?;
        if let Some(entry) = self.requests.get_mut(request) {
            entry.1 = true;
        }
        // Closed while it is queued: what nobody does, and everybody may.
        if self.rng.one_in(8) {
            self.requests.swap_remove(request);
        }
        Ok(())
    }

    pub(super) fn request(&mut self) -> rustix::io::Result<usize> {
        self.arg = Arg::default();
        self.call(Op::RequestAlloc)?;
        let fd = raw::installed(self.arg.get(0)).ok_or(Errno::BADF)?;
        if self.requests.len() > 12 {
            let index = self.rng.index(self.requests.len());
            self.requests.swap_remove(index);
        }
        self.requests.push((fd, false));
        Ok(self.requests.len() - 1)
    }

    /// Waits a moment and takes what is ready.
    pub(crate) fn collect(&mut self) -> rustix::io::Result<()> {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 30_000_000,
        };
        let mut events = PollFlags::IN | PollFlags::OUT;
        if self.units.is_some() {
            events |= PollFlags::PRI;
        }
        let mut fds = [PollFd::new(&self.video, events)];
        poll(&mut fds, Some(&timeout))?;
        let ready = fds[0].revents();
        if ready.contains(PollFlags::PRI) {
            self.arg = Arg::default();
            self.call(Op::DqEvent)?;
            self.changed |= self.arg.get(0) == v4l2::EVENT_SOURCE_CHANGE;
            return Ok(());
        }
        if ready.contains(PollFlags::IN) {
            self.dequeue(BUF_TYPE_CAPTURE)?;
        }
        if ready.contains(PollFlags::OUT) {
            self.dequeue(BUF_TYPE_OUTPUT)?;
            let done = self.requests.iter().position(|(_, queued)| *queued);
            if let Some(request) = done {
                if self.call_request(Op::RequestReinit, request).is_ok() {
                    self.requests[request].1 = false;
                }
            }
        }
        if ready.intersects(PollFlags::IN | PollFlags::OUT) {
            Ok(())
        } else {
            Err(Errno::TIMEDOUT)
        }
    }

    pub(super) fn dequeue(&mut self, buf_type: u32) -> rustix::io::Result<()> {
        let memory = self.buffers(buf_type).memory;
        self.buffer(buf_type, 0, memory);
        self.call(Op::DqBuf)?;
        let index = self.arg.get(offset_of!(v4l2::Buffer, index));
        let flags = self.arg.get(offset_of!(v4l2::Buffer, flags));
        if buf_type == BUF_TYPE_OUTPUT {
            self.returned += 1;
            self.decoded += u64::from(self.units.is_none() && flags & v4l2::BUF_FLAG_ERROR == 0);
        } else if self.units.is_some() {
            let bytes = self.arena.get(offset_of!(v4l2::Plane, bytesused));
            self.decoded += u64::from(bytes > 0 && flags & v4l2::BUF_FLAG_ERROR == 0);
        }
        self.buffers(buf_type).free.push(index);
        if buf_type == BUF_TYPE_CAPTURE && flags & v4l2::BUF_FLAG_LAST != 0 {
            self.command(v4l2::DEC_CMD_START)?;
        }
        Ok(())
    }

    /// Returns how many OUTPUT and CAPTURE buffers there are, as far as the fuzzer knows.
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.coded.count, self.raw.count)
    }

    /// Makes the calls that decoding does without: exports, further buffers, events, queries.
    pub(crate) fn others(&mut self) -> rustix::io::Result<()> {
        for buf_type in [BUF_TYPE_OUTPUT, BUF_TYPE_CAPTURE] {
            self.arg = Arg::default();
            self.arg.set(0, buf_type);
            self.call(Op::GFmt)?;
            // The same format, for one buffer more.
            const FORMAT: usize = offset_of!(v4l2::CreateBuffers, format);
            let format = std::mem::take(&mut self.arg);
            let memory = self.buffers(buf_type).memory;
            self.arg
                .set(offset_of!(v4l2::CreateBuffers, count), 1)
                .set(offset_of!(v4l2::CreateBuffers, memory), memory);
            for at in (0..size_of::<v4l2::Format>()).step_by(4) {
                self.arg.set(FORMAT + at, format.get(at));
            }
            self.call(Op::CreateBufs)?;
            let index = self.arg.get(offset_of!(v4l2::CreateBuffers, index));
            if memory == MEMORY_MMAP {
                self.arg = Arg::default();
                self.arg.set(0, buf_type).set(4, index).set(12, 2);
                self.call(Op::ExpBuf)?;
                drop(raw::installed(self.arg.get(offset_of!(v4l2::ExportBuffer, fd))));
            }
            self.arg = Arg::default();
            self.arg.set(0, index).set(4, 1).set(8, buf_type);
            self.call(Op::RemoveBufs)?;
        }
        self.arg = Arg::default();
        self.arg
            .set(0, EVENT_CTRL)
            .set(4, self.menus[0])
            .set(8, EVENT_SEND_INITIAL);
        self.call(Op::SubscribeEvent)?;
        self.arg = Arg::default();
        self.call(Op::DqEvent)?;
        self.arg = Arg::default();
        self.arg.set(0, EVENT_CTRL).set(4, self.menus[0]);
        self.call(Op::UnsubscribeEvent)?;
        for op in [Op::GExtCtrls, Op::TryExtCtrls] {
            let clip = self.clip;
            self.controls(&clip.jobs[0], &[0], None);
            self.call(op)?;
        }
        for (op, word) in [
            (Op::QueryCtrl, self.menus[0]),
            (Op::QueryExtCtrl, self.menus[0]),
            (Op::GCtrl, self.menus[0]),
            (Op::SCtrl, self.menus[0]),
            (Op::DecoderCmd, v4l2::DEC_CMD_FLUSH),
            (Op::QueryCap, 0),
            (Op::Topology, 0),
        ] {
            self.arg = Arg::default();
            self.arg.set(0, word);
            self.call(op)?;
        }
        Ok(())
    }

    // --- arguments

    /// Fills in a `v4l2_format` for the queue `buf_type`.
    pub(super) fn format(&mut self, buf_type: u32, pixelformat: u32, width: u32, height: u32) {
        const PIX: usize = offset_of!(v4l2::Format, pix_mp);
        self.arg = Arg::default();
        self.arg
            .set(0, buf_type)
            .set(PIX + offset_of!(v4l2::PixFormatMplane, width), width)
            .set(PIX + offset_of!(v4l2::PixFormatMplane, height), height)
            .set(PIX + offset_of!(v4l2::PixFormatMplane, pixelformat), pixelformat)
            .set(PIX + offset_of!(v4l2::PixFormatMplane, field), v4l2::FIELD_NONE)
            .set(PIX + offset_of!(v4l2::PixFormatMplane, num_planes), 1);
    }

    /// Fills in a `v4l2_buffer`, with as many planes as there can be, in the arena.
    pub(super) fn buffer(&mut self, buf_type: u32, index: u32, memory: u32) {
        self.arena.clear(v4l2::MAX_PLANES * size_of::<v4l2::Plane>());
        let buffers = if buf_type == BUF_TYPE_OUTPUT {
            &self.coded
        } else {
            &self.raw
        };
        let planes = buffers.planes.max(1);
        for plane in 0..planes {
            let at = plane * size_of::<v4l2::Plane>();
            let which = index as usize * planes + plane;
            if let Some(fd) = buffers.imports.get(which).filter(|_| memory == MEMORY_DMABUF) {
                self.arena
                    .set(at + offset_of!(v4l2::Plane, m), fd.as_raw_fd() as u32);
                let length = buffers.mapped.get(which).map_or(0, Mapping::len);
                self.arena.set(
                    at + offset_of!(v4l2::Plane, length),
                    u32::try_from(length).unwrap_or(u32::MAX),
                );
            }
        }
        self.arg = Arg::default();
        self.arg
            .set(offset_of!(v4l2::Buffer, index), index)
            .set(offset_of!(v4l2::Buffer, type_), buf_type)
            .set(offset_of!(v4l2::Buffer, field), v4l2::FIELD_NONE)
            .set(offset_of!(v4l2::Buffer, memory), memory)
            .set(offset_of!(v4l2::Buffer, length), v4l2::MAX_PLANES as u32)
            .set64(offset_of!(v4l2::Buffer, planes), self.arena.address(0));
    }

    /// Fills in a `v4l2_ext_controls` with those of `job` that `which` names. It leaves out values that do
    /// not fit.
    pub(super) fn controls(&mut self, job: &CodedJob, which: &[usize], request: Option<usize>) {
        let mut at = VALUES;
        let mut count = 0;
        for control in which.iter().filter_map(|index| job.controls.get(*index)) {
            if control.value.len() > VALUE {
                continue;
            }
            self.control(
                count,
                control.id,
                u32::try_from(control.value.len()).unwrap_or(0),
                at,
            );
            self.arena.write(at, &control.value);
            at += control.value.len().next_multiple_of(64);
            count += 1;
        }
        self.ext_controls(count, request);
    }

    /// Fills in the `number`th element of a list of controls, with its value at `at` in the arena. They are
    /// packed: 20 bytes.
    pub(super) fn control(&mut self, number: u32, id: u32, size: u32, at: usize) {
        let element = number as usize * 20;
        let address = self.arena.address(at);
        self.arena.set(element, id);
        self.arena.set(element + 4, size);
        self.arena.set(element + 8, 0);
        self.arena.set(element + 12, address as u32);
        self.arena.set(element + 16, (address >> 32) as u32);
    }

    pub(super) fn ext_controls(&mut self, count: u32, request: Option<usize>) {
        let request = request.and_then(|index| self.requests.get(index));
        let (which, fd) = match request {
            Some((fd, _)) => (v4l2::CTRL_WHICH_REQUEST_VAL, fd.as_raw_fd()),
            None => (v4l2::CTRL_WHICH_CUR_VAL, 0),
        };
        self.arg = Arg::default();
        self.arg
            .set(offset_of!(v4l2::ExtControls, which), which)
            .set(offset_of!(v4l2::ExtControls, count), count)
            .set(offset_of!(v4l2::ExtControls, request_fd), fd as u32)
            .set64(offset_of!(v4l2::ExtControls, controls), self.arena.address(0));
    }

    /// Maps a buffer anew, or lets go of a mapping, an export or all requests: no ioctl, and yet it counts.
    pub(crate) fn let_go(&mut self) {
        match self.rng.below(4) {
            0 => drop(self.coded.mapped.pop()),
            1 => drop(self.raw.mapped.pop()),
            2 => self.exports.clear(),
            _ => self.requests.clear(),
        }
    }

    /// Draws how long a session goes on, in calls.
    pub(crate) fn length(&mut self) -> u64 {
        200 + self.rng.below(4000)
    }

    /// Returns the client's own random numbers.
    pub(crate) fn rng(&mut self) -> &mut Random {
        &mut self.rng
    }
}

/// Sleeps for a moment in which others may do something.
pub(crate) fn moment(rng: &mut Random) {
    std::thread::sleep(Duration::from_micros(rng.below(3000)));
}
