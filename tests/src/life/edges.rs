// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that no real client makes, or only on its way out: everything may be stopped, closed, freed and kept
//! in any order, and the next session is exact.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::CodedJob;
use daedalus_client::decoder::{Options, Plan, Session, decode};
use daedalus_client::device::{ClientError, Device, Nodes, Request};
use daedalus_client::memory::Mapping;
use daedalus_client::v4l2::{BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT};
use daedalus_uapi::codec::Codec;
use daedalus_uapi::fourcc;
use rustix::io::Errno;

use super::common::{Common, TurnArgs, within};
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::figures::Figures;

/// How often something that depends on chance is tried.
const ROUNDS: usize = 10;

pub(super) fn flush_held(common: &Common, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.usual("240p")?;
    let (broker, nodes) = Broker::start(common)?;
    let mut session = open(&nodes, &clip)?;
    let with_hold = |job: &CodedJob| CodedJob {
        hold_capture: true,
        ..job.clone()
    };

    // Held: the job is done, its picture does not come.
    session.submit(&with_hold(&clip.jobs[0]))?;
    while session.in_flight() > 0 {
        session.collect()?;
    }
    ensure!(session.pictures().is_empty(), "a held CAPTURE buffer came back");
    match session.device().wait(Duration::from_millis(300)) {
        Err(ClientError::Timeout(..)) => {}
        other => return Err(anyhow!("while a CAPTURE buffer is held, poll says {other:?}")),
    }
    // `drain` flushes, since the last job held its buffer, and waits for the picture.
    let start = Instant::now();
    session.drain().context("V4L2_DEC_CMD_FLUSH")?;
    figures.longest("flush_ms", start.elapsed());
    clip.compare(session.pictures(), 0..1)?;

    // Held again, and released by the next job, which has another timestamp.
    session.submit(&with_hold(&clip.jobs[1]))?;
    for job in &clip.jobs[2..] {
        session.submit(job)?;
    }
    session.drain()?;
    figures.set("pictures", clip.compare_all(session.pictures())?);
    // With nothing held, it does nothing.
    session
        .device()
        .flush()
        .context("V4L2_DEC_CMD_FLUSH with nothing held")?;
    figures.calls(session.longest());
    drop(session);
    broker.stop()?;
    Ok(())
}

/// A device, a clip, and a place for figures.
struct Bench<'a> {
    nodes: &'a Nodes,
    clip: &'a Clip,
    limit: Duration,
    figures: &'a mut Figures,
}

type Edge = fn(&mut Bench<'_>) -> Result<()>;

const EDGES: [(&str, Edge); 12] = [
    ("streamoff with jobs in flight", streamoff_in_flight),
    ("close with jobs in flight", close_in_flight),
    ("REQBUFS(0) with jobs in flight", reqbufs_in_flight),
    ("requests that outlive the device", requests_outlive),
    ("REINIT of a queued request", reinit_queued),
    ("a request without a buffer, a buffer without a request", halves),
    ("exports and mappings that outlive the session", exports_outlive),
    ("S_FMT while buffers exist", set_format_busy),
    ("CREATE_BUFS and REMOVE_BUFS", create_and_remove),
    ("a blocked DQBUF and STREAMOFF", blocked_dequeue),
    ("a damaged payload", damaged_payload),
    ("open and close, nothing else", open_and_close),
];

pub(super) fn edges(common: &Common, turns: &TurnArgs, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?.every_usual_first("qvga")?;
    let (broker, nodes) = Broker::start(common)?;
    let mut passed = Vec::new();
    for (codec, clip) in clips.iter().enumerate() {
        let name = &clip.name;
        for (case, (what, edge)) in EDGES.into_iter().enumerate() {
            if !turns.take(case, codec, clips.len()) {
                continue;
            }
            let mut bench = Bench {
                nodes: &nodes,
                clip,
                limit: common.limit(),
                figures,
            };
            edge(&mut bench).with_context(|| format!("{what} ({name})"))?;
            let session = decode(&nodes, clip.codec, &clip.jobs[..8], &Options::default());
            let session = session.with_context(|| format!("a session after: {what} ({name})"))?;
            clip.compare(session.pictures(), 0..8)
                .with_context(|| format!("a session after: {what} ({name})"))?;
            passed.push(format!("{name}: {what}"));
        }
    }
    figures.set("edges", passed.len());
    broker.stop()?;
    Ok(())
}

fn open(nodes: &Nodes, clip: &Clip) -> Result<Session> {
    Ok(Session::open(
        nodes,
        &Plan::new(clip.codec, &clip.jobs),
        &Options::default(),
    )?)
}

/// Demands that a call fails with `errno`.
fn refused<T: std::fmt::Debug>(what: &str, result: Result<T, ClientError>, errno: Errno) -> Result<()> {
    match result {
        Err(error) if error.errno() == Some(errno) => Ok(()),
        other => Err(anyhow!("{what}: {other:?} instead of {errno:?}")),
    }
}

fn streamoff_in_flight(bench: &mut Bench<'_>) -> Result<()> {
    let mut session = open(bench.nodes, bench.clip)?;
    for round in 0..ROUNDS {
        for job in &bench.clip.jobs[..round + 1] {
            session.submit(job)?;
        }
        session.restart()?;
    }
    for job in &bench.clip.jobs {
        session.submit(job)?;
    }
    session.drain()?;
    bench.clip.compare_all(session.pictures())?;
    bench.figures.calls(session.longest());
    within(
        "STREAMOFF with jobs in flight",
        session.longest().call,
        bench.limit,
    )
}

fn close_in_flight(bench: &mut Bench<'_>) -> Result<()> {
    for round in 0..ROUNDS {
        let mut session = open(bench.nodes, bench.clip)?;
        for job in &bench.clip.jobs[..round + 1] {
            session.submit(job)?;
        }
        let start = Instant::now();
        drop(session);
        bench.figures.longest("longest_close_ms", start.elapsed());
        within("close with jobs in flight", start.elapsed(), bench.limit)?;
    }
    Ok(())
}

fn reqbufs_in_flight(bench: &mut Bench<'_>) -> Result<()> {
    let mut session = open(bench.nodes, bench.clip)?;
    for job in &bench.clip.jobs[..4] {
        session.submit(job)?;
    }
    let (coded, raw) = session.queues();
    refused(
        "REQBUFS(0) of OUTPUT while it streams",
        coded.request_buffers(0),
        Errno::BUSY,
    )?;
    refused(
        "REQBUFS(0) of CAPTURE while it streams",
        raw.request_buffers(0),
        Errno::BUSY,
    )?;
    session.drain()?;
    bench.clip.compare(session.pictures(), 0..4)?;
    for job in &bench.clip.jobs[4..8] {
        session.submit(job)?;
    }
    // With a queue stopped its buffers go, mapped as they are, while the other queue still has its own.
    let (coded, raw) = session.queues();
    coded.stream(false)?;
    coded.request_buffers(0)?;
    raw.stream(false)?;
    raw.request_buffers(0)?;
    Ok(())
}

fn requests_outlive(bench: &mut Bench<'_>) -> Result<()> {
    let device = Device::open(bench.nodes, false)?;
    let requests: Vec<Request> = (0..4)
        .map(|_| device.request())
        .collect::<Result<_, ClientError>>()?;
    let job = &bench.clip.jobs[0];
    let plan = Plan::new(bench.clip.codec, &bench.clip.jobs);
    let mut session = Session::prepare(device, &plan, &Options::default())?;
    // One with controls only, one with a buffer, one queued with both, one untouched.
    session.device().set_controls(&job.controls, Some(&requests[0]))?;
    let (coded, raw) = session.queues();
    raw.queue_picture(0)?;
    coded.queue_coded(1, &job.payload, 1000, false, &requests[1])?;
    coded.queue_coded(0, &job.payload, 0, false, &requests[2])?;
    session.device().set_controls(&job.controls, Some(&requests[2]))?;
    requests[2].queue()?;
    drop(session);
    requests[2]
        .wait(bench.limit)
        .context("a queued request after its device was closed")?;
    for request in &requests {
        request.reinit().context("REINIT after the device was closed")?;
    }
    Ok(())
}

fn reinit_queued(bench: &mut Bench<'_>) -> Result<()> {
    let device = Device::open(bench.nodes, false)?;
    let plan = Plan::new(bench.clip.codec, &bench.clip.jobs);
    let mut session = Session::prepare(device, &plan, &Options::default())?;
    let job = &bench.clip.jobs[0];
    let request = session.device().request()?;
    session.device().set_controls(&job.controls, Some(&request))?;
    // No CAPTURE buffer is queued: the job has to wait.
    session
        .queues()
        .0
        .queue_coded(0, &job.payload, 0, false, &request)?;
    request.queue()?;
    refused("REINIT of a queued request", request.reinit(), Errno::BUSY)?;
    refused("a second QUEUE", request.queue(), Errno::BUSY)?;
    let values = session.device().set_controls(&job.controls, Some(&request));
    refused("S_EXT_CTRLS of a queued request", values, Errno::BUSY)?;
    session.queues().1.queue_picture(0)?;
    request.wait(Duration::from_secs(10))?;
    request.reinit()?;
    Ok(())
}

fn halves(bench: &mut Bench<'_>) -> Result<()> {
    let mut session = open(bench.nodes, bench.clip)?;
    let request = session.device().request()?;
    refused("QUEUE of an empty request", request.queue(), Errno::NOENT)?;
    session
        .device()
        .set_controls(&bench.clip.jobs[0].controls, Some(&request))?;
    refused(
        "QUEUE of a request without a buffer",
        request.queue(),
        Errno::NOENT,
    )?;
    let (coded, _) = session.queues();
    refused(
        "QBUF without a request",
        coded.queue_without_request(0),
        Errno::BADR,
    )?;
    Ok(())
}

fn exports_outlive(bench: &mut Bench<'_>) -> Result<()> {
    let mut session = open(bench.nodes, bench.clip)?;
    let (coded, raw) = session.queues();
    let mapped_length = raw.mappings(0)?.next().context("a buffer without planes")?.len();
    let exported = raw.export(0, 0, true)?;
    let readable = coded.export(0, 0, false)?;
    ensure!(
        Mapping::new(readable.as_fd(), 0, 4096).is_err(),
        "a read-only export can be mapped writable"
    );
    let other = Mapping::new(exported.as_fd(), 0, mapped_length)?;
    session.submit(&bench.clip.jobs[0])?;
    session.drain()?;
    bench.clip.compare(session.pictures(), 0..1)?;
    let mut before = vec![0; mapped_length];
    other.read(0, &mut before)?;
    drop(session);
    let mut after = vec![0; mapped_length];
    other.read(0, &mut after)?;
    ensure!(
        before == after,
        "the memory of an export changed when the session was closed"
    );
    // A mapping made from the export after all else is gone.
    let late = Mapping::new(exported.as_fd(), 0, mapped_length)?;
    late.read(0, &mut after)?;
    ensure!(
        before == after,
        "a late mapping of an export shows something else"
    );
    Ok(())
}

fn set_format_busy(bench: &mut Bench<'_>) -> Result<()> {
    let mut session = open(bench.nodes, bench.clip)?;
    let (first, rest) = bench.clip.jobs.split_at(4);
    for job in first {
        session.submit(job)?;
    }
    let device = session.device().clone();
    let before = device.format(BUF_TYPE_CAPTURE)?;
    let mut coded = device.format(BUF_TYPE_OUTPUT)?;
    let own = coded.pixelformat;
    let mut others = codec::usual_first().map(Codec::coded_format);
    let other = others.find(|format| *format != own);
    coded.pixelformat = other.context("there is one codec only")?;
    refused(
        "S_FMT to another codec",
        device.set_format(BUF_TYPE_OUTPUT, coded),
        Errno::BUSY,
    )?;
    let mut raw = before;
    raw.pixelformat = fourcc::YUV420;
    refused(
        "S_FMT of a CAPTURE queue with buffers",
        device.set_format(BUF_TYPE_CAPTURE, raw),
        Errno::BUSY,
    )?;
    // A stream may change its size between any two frames.
    coded.pixelformat = own;
    let (width, height) = (coded.width, coded.height);
    coded.width *= 2;
    coded.height *= 2;
    let answer = device
        .set_format(BUF_TYPE_OUTPUT, coded)
        .context("S_FMT to another size")?;
    ensure!(answer.width == 2 * width, "S_FMT to another size was not granted");
    // For buffers yet to be added; those that there are keep the format of their allocation.
    let now = device.format(BUF_TYPE_CAPTURE)?;
    ensure!(
        (now.width, now.height) == (2 * before.width, 2 * before.height),
        "the CAPTURE format does not follow a new size of OUTPUT"
    );
    let (enlarged, rest) = rest.split_at(4);
    for job in enlarged {
        session.submit(job)?;
    }
    session.drain()?;
    coded.width = width;
    coded.height = height;
    device.set_format(BUF_TYPE_OUTPUT, coded)?;
    for job in rest {
        session.submit(job)?;
    }
    session.drain()?;
    bench.clip.compare_all(session.pictures())?;
    Ok(())
}

fn create_and_remove(bench: &mut Bench<'_>) -> Result<()> {
    let mut session = open(bench.nodes, bench.clip)?;
    let format = session.device().format(BUF_TYPE_CAPTURE)?;
    for job in &bench.clip.jobs[..4] {
        session.submit(job)?;
    }
    let (_, raw) = session.queues();
    let had = u32::try_from(raw.len())?;
    ensure!(
        raw.create(0, format)? == had,
        "CREATE_BUFS(0) does not tell the number of buffers"
    );
    let first = raw.create(3, format)?;
    ensure!(first == had, "the new buffers begin at {first}, not {had}");
    let index = usize::try_from(first)?;
    let whole = raw.mappings(index)?.next().context("a buffer without planes")?;
    ensure!(
        whole.len() >= format.plane_fmt[0].size() as usize,
        "a created buffer is too small"
    );
    raw.remove(first + 1, 2)?;
    refused(
        "REMOVE_BUFS of what is not there",
        raw.remove(first + 1, 1),
        Errno::INVAL,
    )?;
    // The third is used: queued last, it comes back after all others.
    raw.queue_picture(index)?;
    refused(
        "REMOVE_BUFS of a queued buffer",
        raw.remove(first, 1),
        Errno::BUSY,
    )?;
    for job in &bench.clip.jobs[4..] {
        session.submit(job)?;
    }
    session.drain()?;
    bench.clip.compare_all(session.pictures())?;
    let mut small = format;
    small.width = 16;
    small.height = 16;
    for plane in &mut small.plane_fmt {
        plane.sizeimage = 1u32.to_ne_bytes();
    }
    refused(
        "CREATE_BUFS of one byte",
        session.queues().1.create(1, small),
        Errno::INVAL,
    )?;
    Ok(())
}

fn blocked_dequeue(bench: &mut Bench<'_>) -> Result<()> {
    let options = Options {
        blocking: true,
        ..Options::default()
    };
    let plan = Plan::new(bench.clip.codec, &bench.clip.jobs);
    let mut session = Session::open(bench.nodes, &plan, &options)?;
    let (coded, raw) = session.queues();
    raw.queue_picture(0)?;
    let start = Instant::now();
    let (raw, coded) = (&*raw, &*coded);
    let (answer, took) = std::thread::scope(|scope| {
        let blocked = scope.spawn(|| raw.dequeue());
        std::thread::sleep(Duration::from_millis(100));
        let stopped = raw.stream(false);
        let answer = blocked.join().map_err(|_| anyhow!("the blocked thread panicked"));
        (stopped.map_err(anyhow::Error::from).and(answer), start.elapsed())
    });
    refused("a DQBUF that was pending at STREAMOFF", answer?, Errno::INVAL)?;
    coded.stream(false)?;
    within(
        "DQBUF and STREAMOFF",
        took,
        bench.limit + Duration::from_millis(100),
    )
}

fn damaged_payload(bench: &mut Bench<'_>) -> Result<()> {
    let mut session = open(bench.nodes, bench.clip)?;
    for round in 0..4usize {
        for (index, job) in bench.clip.jobs[..8].iter().enumerate() {
            let mut job = job.clone();
            // Not the first: what is damaged has references.
            if index > 0 {
                let length = job.payload.len();
                let start = (length / 4).max(4).min(length);
                for (at, byte) in job.payload[start..].iter_mut().enumerate() {
                    *byte ^= (at * 31 + index * 7 + round * 13) as u8;
                }
                if round == 3 {
                    job.payload.truncate(5);
                }
            }
            session.submit(&job)?;
        }
        session.drain().context("damaged jobs did not come back")?;
        bench.clip.compare(session.pictures(), 0..1)?;
        session.restart()?;
    }
    for job in &bench.clip.jobs {
        session.submit(job)?;
    }
    session.drain()?;
    bench.clip.compare_all(session.pictures())?;
    Ok(())
}

fn open_and_close(bench: &mut Bench<'_>) -> Result<()> {
    for _ in 0..ROUNDS {
        let device = Device::open(bench.nodes, false)?;
        device.capability()?;
        ensure!(
            device.formats(BUF_TYPE_OUTPUT)?.len() == Codec::ALL.len(),
            "not {} coded formats",
            Codec::ALL.len()
        );
        ensure!(!device.formats(BUF_TYPE_CAPTURE)?.is_empty(), "no CAPTURE format");
    }
    Ok(())
}
