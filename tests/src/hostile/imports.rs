// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CAPTURE and OUTPUT memory that the client brought, in every state: decoded exactly, or refused with an
//! errno that says why, and nothing is ever written beside it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::decoder::{Options, Plan, Session};
use daedalus_client::device::{Device, Nodes};
use daedalus_client::memory::{Mapping, udmabuf};
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, BufferCall, UdmabufCreate};
use md5::Digest;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use super::common::Common;
use super::raw::{self, Arg};
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::figures::Figures;
use crate::guest::left;

/// Bytes before and after memory that is watched.
const GUARD: usize = 64 << 10;
/// What they are filled with.
const CANARY: u8 = 0x5c;

/// Memory with a guard on either side, of which only the middle is a dmabuf.
struct GuardedMemory {
    dmabuf: Arc<OwnedFd>,
    whole: Mapping,
    length: usize,
}

impl GuardedMemory {
    fn new(length: usize) -> Result<Self> {
        let length = length.next_multiple_of(rustix::param::page_size());
        let memfd = rustix::fs::memfd_create("guarded", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&memfd, (length + 2 * GUARD) as u64)?;
        rustix::fs::fcntl_add_seals(&memfd, SealFlags::SHRINK)?;
        let device = rustix::fs::open("/dev/udmabuf", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let mut arg = Arg::default();
        arg.set(0, memfd.as_raw_fd() as u32)
            .set(4, v4l2::UDMABUF_FLAGS_CLOEXEC)
            .set64(std::mem::offset_of!(UdmabufCreate, offset), GUARD as u64)
            .set64(std::mem::offset_of!(UdmabufCreate, size), length as u64);
        let fd = raw::call(device.as_fd(), v4l2::UDMABUF_CREATE, &mut arg).context("udmabuf")?;
        let dmabuf = raw::installed(fd as u32).context("udmabuf gave no descriptor")?;
        let whole = Mapping::new(memfd.as_fd(), 0, length + 2 * GUARD)?;
        whole.write(0, &vec![CANARY; length + 2 * GUARD])?;
        Ok(Self {
            dmabuf: Arc::new(dmabuf),
            whole,
            length,
        })
    }

    /// Fails unless the guards are as they were; whether anything was written between them.
    fn check(&self, what: &str) -> Result<bool> {
        let mut bytes = vec![0; self.length + 2 * GUARD];
        self.whole.read(0, &mut bytes)?;
        let (before, rest) = bytes.split_at(GUARD);
        let (inside, after) = rest.split_at(self.length);
        for (side, guard) in [("before", before), ("after", after)] {
            if let Some(at) = guard.iter().position(|byte| *byte != CANARY) {
                bail!("{what}: byte {at} of the guard {side} the memory was written");
            }
        }
        Ok(inside.iter().any(|byte| *byte != CANARY))
    }
}

/// A device with formats set for a clip, and no buffers.
pub(super) fn prepared(nodes: &Nodes, clip: &Clip) -> Result<(Arc<Device>, v4l2::PixFormatMplane)> {
    let device = Device::open(nodes, false)?;
    let format = v4l2::PixFormatMplane {
        width: clip.jobs[0].coded_width,
        height: clip.jobs[0].coded_height,
        pixelformat: clip.codec.coded_format(),
        field: v4l2::FIELD_NONE,
        num_planes: 1,
        ..Default::default()
    };
    device.set_format(BUF_TYPE_OUTPUT, format)?;
    let raw = device.format(BUF_TYPE_CAPTURE)?;
    Ok((device, raw))
}

/// Asks for one buffer of CAPTURE whose memory comes with each QBUF.
pub(super) fn expect_import(device: &Device) -> Result<()> {
    let mut request = v4l2::RequestBuffers {
        count: 1,
        type_: BUF_TYPE_CAPTURE,
        memory: v4l2::MEMORY_DMABUF,
        ..Default::default()
    };
    v4l2::reqbufs(device.video(), &mut request).context("REQBUFS of memory to import")
}

/// QBUF of buffer 0 of CAPTURE with one plane of imported memory.
pub(super) fn queue(device: &Device, fd: i32, length: u32) -> rustix::io::Result<()> {
    let mut buffer = v4l2::Buffer {
        type_: BUF_TYPE_CAPTURE,
        memory: v4l2::MEMORY_DMABUF,
        field: v4l2::FIELD_NONE,
        ..Default::default()
    };
    let mut planes = [v4l2::Plane {
        length,
        m: u64::from(fd as u32),
        ..Default::default()
    }];
    v4l2::buffer_call(device.video(), BufferCall::Queue, &mut buffer, &mut planes)
}

/// Arguments of `imports`.
#[derive(Debug, clap::Args)]
pub(super) struct ImportOptions {
    /// How many of the codecs; all of them, if it is more.
    #[arg(long, default_value_t = usize::MAX)]
    codecs: usize,
}

/// The scenario.
pub(super) fn run(common: &Common, options: &ImportOptions, figures: &mut Figures) -> Result<()> {
    let mut clips = common.small_clips()?;
    clips.truncate(options.codecs);
    let (broker, nodes) = Broker::start_logged(&common.broker_log, &[])?;
    let mut exact = 0;
    let mut refusals = Vec::new();
    for clip in &clips {
        exact += guarded(&nodes, clip).with_context(|| format!("{}: guarded memory", clip.name))?;
        exact += replaced(&nodes, clip)
            .with_context(|| format!("{}: memory replaced behind its index", clip.name))?;
        exact += freed(&nodes, clip).with_context(|| format!("{}: memory freed mid-job", clip.name))?;
        exact += closed(&nodes, clip).with_context(|| format!("{}: of a closed exporter", clip.name))?;
        shrunk(&nodes, clip).with_context(|| format!("{}: smaller than the picture", clip.name))?;
        left::nothing().with_context(|| format!("{}: before refusals", clip.name))?;
        refusals.extend(refused(&nodes, clip).with_context(|| clip.name.clone())?);
        left::nothing().with_context(|| format!("{}: after refusals", clip.name))?;
    }
    figures.set("exact_pictures", exact);
    figures.set("refused", refusals);
    broker.stop()?;
    left::nothing_and_nobody()
}

/// Whole streams in guarded memory, OUTPUT too.
fn guarded(nodes: &Nodes, clip: &Clip) -> Result<usize> {
    let plan = Plan::new(clip.codec, &clip.jobs);
    let (device, raw) = prepared(nodes, clip)?;
    let coded = device.format(BUF_TYPE_OUTPUT)?;
    drop(device);
    let memory = |count: usize, length: usize| {
        (0..count)
            .map(|_| GuardedMemory::new(length))
            .collect::<Result<Vec<_>>>()
    };
    let options = Options::default();
    let pictures = memory(plan.pictures(options.depth) + 4, raw.plane_fmt[0].size() as usize)?;
    let largest = clip
        .jobs
        .iter()
        .map(|job| job.payload.len())
        .max()
        .unwrap_or_default();
    let streams = memory(options.depth + 2, largest.max(coded.plane_fmt[0].size() as usize))?;
    let fds = |memory: &[GuardedMemory]| {
        Backing::Imported(memory.iter().map(|one| Arc::clone(&one.dmabuf)).collect())
    };
    let options = Options {
        raw: fds(&pictures),
        coded: fds(&streams),
        ..options
    };
    let session = daedalus_client::decoder::decode(nodes, clip.codec, &clip.jobs, &options)?;
    let exact = clip.compare_all(session.pictures())?;
    drop(session);
    let mut written = 0;
    for one in &pictures {
        written += usize::from(one.check("CAPTURE")?);
    }
    ensure!(written > 0, "no picture was written into the memory");
    for one in &streams {
        one.check("OUTPUT")?;
    }
    Ok(exact)
}

/// Other memory behind the same index for every picture.
fn replaced(nodes: &Nodes, clip: &Clip) -> Result<usize> {
    let (device, raw) = prepared(nodes, clip)?;
    let length = raw.plane_fmt[0].size();
    let mut output = Queue::new(&device, BUF_TYPE_OUTPUT);
    output.allocate(1, &Backing::Mmap)?;
    expect_import(&device)?;
    output.stream(true)?;
    v4l2::stream(device.video(), true, BUF_TYPE_CAPTURE)?;
    let layout = daedalus_client::picture::Layout::new(&raw)?;
    let media_request = device.request()?;
    let mut memories = Vec::new();
    let mut pictures = std::collections::HashMap::new();
    // Key frames only: one buffer cannot hold references as well.
    let job = &clip.jobs[0];
    for round in 0..12 {
        let memory = GuardedMemory::new(length as usize)?;
        queue(&device, memory.dmabuf.as_raw_fd(), length).context("QBUF")?;
        device.set_controls(&job.controls, Some(&media_request))?;
        output.queue_coded(0, &job.payload, job.timestamp, false, &media_request)?;
        media_request.queue()?;
        media_request.wait(Duration::from_secs(20))?;
        media_request.reinit()?;
        ensure!(
            output.dequeue()?.is_some_and(|buffer| !buffer.error),
            "job {round} failed"
        );
        let mut planes = [v4l2::Plane::default(); v4l2::MAX_PLANES];
        let mut buffer = v4l2::Buffer {
            type_: BUF_TYPE_CAPTURE,
            memory: v4l2::MEMORY_DMABUF,
            ..Default::default()
        };
        v4l2::buffer_call(device.video(), BufferCall::Dequeue, &mut buffer, &mut planes).context("DQBUF")?;
        ensure!(
            memory.check("CAPTURE")?,
            "round {round}: the new memory has no picture"
        );
        let mapping = Mapping::new(memory.dmabuf.as_fd(), 0, length as usize)?;
        let md5 = md5::Md5::digest(layout.packed(&[&mapping], &job.visible)?).into();
        pictures.insert(
            job.timestamp,
            daedalus_client::decoder::Picture { md5, error: false },
        );
        clip.compare(&pictures, 0..1)?;
        memories.push((memory, md5));
    }
    // What was put aside is left alone.
    for (memory, md5) in &memories {
        let mapping = Mapping::new(memory.dmabuf.as_fd(), 0, length as usize)?;
        let now: [u8; 16] = md5::Md5::digest(layout.packed(&[&mapping], &job.visible)?).into();
        ensure!(now == *md5, "memory that was replaced was written again");
    }
    Ok(memories.len())
}

/// The client's descriptors are closed while the jobs run: the memory lives until they are done.
fn freed(nodes: &Nodes, clip: &Clip) -> Result<usize> {
    let (device, raw) = prepared(nodes, clip)?;
    drop(device);
    let plan = Plan::new(clip.codec, &clip.jobs);
    let mut options = Options::default();
    let memory: Vec<GuardedMemory> = (0..plan.pictures(options.depth) + 4)
        .map(|_| GuardedMemory::new(raw.plane_fmt[0].size() as usize))
        .collect::<Result<_>>()?;
    options.raw = Backing::Imported(memory.iter().map(|one| Arc::clone(&one.dmabuf)).collect());
    for round in 0..6 {
        let mut session = Session::open(nodes, &plan, &options)?;
        for job in &clip.jobs[..4] {
            session.submit(job)?;
        }
        if round % 2 == 0 {
            // Closed with everything in flight.
            drop(session);
        } else {
            session.restart()?;
        }
    }
    drop(options);
    for one in memory {
        one.check("CAPTURE, after its session")?;
    }
    // Nothing but the session knows the memory any more.
    let options = Options {
        raw: Backing::Udmabuf,
        ..Options::default()
    };
    let session = daedalus_client::decoder::decode(nodes, clip.codec, &clip.jobs, &options)?;
    clip.compare_all(session.pictures())
}

/// Memory that another session exported, and which is gone but for its dmabufs.
fn closed(nodes: &Nodes, clip: &Clip) -> Result<usize> {
    let plan = Plan::new(clip.codec, &clip.jobs);
    let exporter = Session::open(nodes, &plan, &Options::default())?;
    let fds = exporter.export()?;
    let options = Options {
        raw: Backing::Imported(fds),
        ..Options::default()
    };
    let mut session = Session::open(nodes, &plan, &options)?;
    let half = clip.jobs.len() / 2;
    for job in &clip.jobs[..half] {
        session.submit(job)?;
    }
    drop(exporter);
    for job in &clip.jobs[half..] {
        session.submit(job)?;
    }
    session.drain()?;
    clip.compare_all(session.pictures())
}

/// A picture larger than the buffers, whose format was for a smaller one: an error, and nothing beside them.
fn shrunk(nodes: &Nodes, clip: &Clip) -> Result<()> {
    let device = Device::open(nodes, false)?;
    let job = &clip.jobs[0];
    let format = v4l2::PixFormatMplane {
        width: job.coded_width / 2,
        height: job.coded_height / 2,
        pixelformat: clip.codec.coded_format(),
        field: v4l2::FIELD_NONE,
        num_planes: 1,
        ..Default::default()
    };
    device.set_format(BUF_TYPE_OUTPUT, format)?;
    let raw = device.format(BUF_TYPE_CAPTURE)?;
    let memory = GuardedMemory::new(raw.plane_fmt[0].size() as usize)?;
    let mut output = Queue::new(&device, BUF_TYPE_OUTPUT);
    output.allocate(1, &Backing::Mmap)?;
    let mut picture = Queue::new(&device, BUF_TYPE_CAPTURE);
    picture.allocate(1, &Backing::Imported(vec![Arc::clone(&memory.dmabuf); 4]))?;
    output.stream(true)?;
    picture.stream(true)?;
    picture.queue_picture(0)?;
    let request = device.request()?;
    device.set_controls(&job.controls, Some(&request))?;
    output.queue_coded(0, &job.payload, 0, false, &request)?;
    request.queue()?;
    request.wait(Duration::from_secs(20))?;
    let answer = output.dequeue()?.context("the job did not come back")?;
    ensure!(
        answer.error,
        "a picture of twice the buffer's size was decoded into it"
    );
    memory.check("CAPTURE")?;
    Ok(())
}

/// What cannot be imported, with the errno that says why.
fn refused(nodes: &Nodes, clip: &Clip) -> Result<Vec<String>> {
    let (device, raw) = prepared(nodes, clip)?;
    let length = raw.plane_fmt[0].size();
    expect_import(&device)?;
    let mut other = Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &Options::default())?;
    let readable = other.queues().1.export(0, 0, false)?;
    let small = udmabuf(4096)?;
    let memfd = rustix::fs::memfd_create("no dmabuf", MemfdFlags::CLOEXEC)?;
    let good = udmabuf(length as usize)?;
    let mut refusals = Vec::new();
    let mut expect = |what: &str, fd: i32, length: u32, errnos: &[Errno]| -> Result<()> {
        match queue(&device, fd, length) {
            Err(errno) if errnos.contains(&errno) => {
                refusals.push(format!("{}: {what}: {errno}", clip.name));
                Ok(())
            }
            other => bail!("{what}: {other:?}, not {errnos:?}"),
        }
    };
    expect(
        "read-only memory for pictures",
        readable.as_raw_fd(),
        length,
        &[Errno::ACCESS],
    )?;
    expect(
        "memory smaller than the picture",
        small.as_raw_fd(),
        0,
        &[Errno::INVAL],
    )?;
    expect(
        "memory smaller than it says",
        small.as_raw_fd(),
        length,
        &[Errno::FAULT, Errno::INVAL],
    )?;
    expect(
        "memory that is no dmabuf",
        memfd.as_raw_fd(),
        length,
        &[Errno::INVAL],
    )?;
    expect("no descriptor", -1, length, &[Errno::INVAL, Errno::BADF])?;
    expect(
        "a length that is too small",
        good.as_raw_fd(),
        length - 4096,
        &[Errno::INVAL],
    )?;
    // And the buffer is none the worse for it.
    queue(&device, good.as_raw_fd(), length).context("good memory after all refusals")?;
    Ok(refusals)
}
