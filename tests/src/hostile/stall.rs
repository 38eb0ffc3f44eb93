// SPDX-License-Identifier: Apache-2.0 OR MIT
//! No session waits for another: one plays on while another is given much memory and frees it, while many
//! sessions with jobs in flight stop at once, and while another session's control comes from memory that
//! never answers.
//!
//! The core has a mutex of the whole device for queueing requests, starting and stopping queues, giving out
//! buffers and closing. Everybody sleeps for it now and then, for as long as its holder's own few
//! instructions take. What must not be is that somebody holds it while memory is made or another process is
//! waited for: then others sleep for as long as that call takes. So what is demanded is that no sleep of the
//! victim is nearly as long as the other session's longest call.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use daedalus_client::Control;
use daedalus_client::decoder::{Options as SessionOptions, Plan, Session};
use daedalus_client::device::{Device, Nodes, Request};
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};
use daedalus_uapi::fourcc;
use serde_json::json;

use super::common::Common;
use super::imports::prepared;
use super::leaks::QUEUES;
use super::raw::{self, Arena, Arg};
use super::silent::Silence;
use super::victim::{Span, Victim, VictimReport};
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::left;
use crate::guest::module::{parameter, set_parameter};

/// Width and height of the large pictures: 100 MB each in NV12.
const LARGE: u32 = 8192;
/// A sleep of the victim that proves nothing, in a kernel with sanitizers on two processors. A round takes
/// 5 ms undisturbed; the holder of the core's mutex may be off the processor for as long as this.
const SHORT_SLEEP: Duration = Duration::from_millis(200);
/// What the longest call of the other session has to take, so that waiting for it shows.
const LONG: Duration = Duration::from_millis(100);
/// What a stopping queue of the module may give its worker in this scenario, in ms, where it gives it any
/// time at all: so much that it cannot be taken for anything else.
const DRAIN_MS: u64 = 2000;
/// What the watchdog has to spare workers that are stalled here, in ms.
const WATCHDOG_MS: u64 = 300_000;
/// How long a call may take that waits for nobody, with patience for a busy machine.
const PROMPT: Duration = Duration::from_secs(4);

/// One of the three parts.
type Part<'a> = &'a dyn Fn(&mut Figures) -> Result<()>;

/// Arguments of `stall`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Pictures of 100 MB that the other session is given.
    #[arg(long, default_value_t = 15)]
    pictures: u32,
    /// How often.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Sessions that stop at once.
    #[arg(long, default_value_t = 64)]
    sessions: usize,
    /// Milliseconds for which the core's own wait is shown.
    #[arg(long, default_value_t = 1000)]
    core_ms: u64,
}

/// Runs the scenario.
pub(super) fn run(common: &Common, options: &Options, figures: &mut Figures) -> Result<()> {
    let clips = common.small_clips()?;
    let clip = &clips[0];
    let watchdog = parameter("watchdog_ms")?;
    set_parameter("watchdog_ms", WATCHDOG_MS)?;
    // A module whose stopping queues wait for nobody has no such parameter.
    let drain = parameter("drain_ms").ok();
    if drain.is_some() {
        set_parameter("drain_ms", DRAIN_MS)?;
    }
    let mut wrong = Vec::new();
    let (broker, nodes) = Broker::start_logged(&common.broker_log, &["--fault", "stall:all:600000"])?;
    let parts: [(&str, Part<'_>); 3] = [
        ("memory", &|figures| memory(common, &nodes, options, figures)),
        ("stops", &|figures| {
            stops(common, &nodes, &clips, options, figures)
        }),
        ("silence", &|figures| {
            silence(common, &nodes, clip, options, figures)
        }),
    ];
    for (name, part) in parts {
        if let Err(error) = part(figures) {
            wrong.push(format!("{name}: {error:#}"));
        }
    }
    set_parameter("watchdog_ms", watchdog)?;
    if let Some(drain) = drain {
        set_parameter("drain_ms", drain)?;
    }
    broker.stop()?;
    if let Err(error) = left::nothing_and_nobody() {
        wrong.push(format!("{error:#}"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Lets a victim play beside threads that only use the processor.
fn undisturbed(common: &Common, threads: usize, duration: Duration) -> Result<VictimReport> {
    let done = AtomicBool::new(false);
    let ((), report) = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = Victim::play(common, |_| {
            std::thread::sleep(duration);
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        result
    })?;
    Ok(report)
}

/// Reports what became of the victim beside the calls `spans`. Returns the longest of them.
fn report_on(name: &str, report: &VictimReport, spans: &[Span], figures: &mut Figures) -> Duration {
    let longest = spans.iter().map(Span::took).max().unwrap_or_default();
    figures.set(
        name,
        json!({
            "victim": report.figures(),
            "calls": spans.len(),
            "longest_call_ms": longest.as_millis() as u64,
            "largest_share_asleep_percent": (report.largest_share(spans, LONG) * 100.0).round(),
        }),
    );
    longest
}

/// Demands that the victim did not wait for the calls `spans`: who waits for one sleeps for as long as it
/// takes, so a sleep of half the longest call is one too many.
fn judge(name: &str, report: &VictimReport, spans: &[Span], figures: &mut Figures) -> Result<()> {
    let longest = report_on(name, report, spans, figures);
    ensure!(
        longest >= LONG,
        "{name}: the longest call of another session took {} ms, so there was nothing to wait for",
        longest.as_millis()
    );
    ensure!(
        report.longest_sleep() <= SHORT_SLEEP.max(longest / 2),
        "{name}: the victim slept {} ms in one round beside calls of another session, of which the longest \
         took {} ms",
        report.longest_sleep().as_millis(),
        longest.as_millis()
    );
    Ok(())
}

/// A session with a large CAPTURE format, and a request that can be queued.
struct Large {
    device: Arc<Device>,
    raw: PixFormatMplane,
    request: Request,
    _output: Queue,
}

impl Large {
    /// Opens it.
    fn open(nodes: &Nodes) -> Result<Self> {
        let device = Device::open(nodes, false)?;
        let format = |pixelformat| PixFormatMplane {
            width: LARGE,
            height: LARGE,
            pixelformat,
            num_planes: 1,
            ..Default::default()
        };
        device.set_format(BUF_TYPE_OUTPUT, format(codec::USUAL.coded_format()))?;
        let raw = device.set_format(BUF_TYPE_CAPTURE, format(fourcc::NV12))?;
        let mut output = Queue::new(&device, BUF_TYPE_OUTPUT);
        output.allocate(1, &Backing::Mmap)?;
        let request = device.request()?;
        output.queue_coded(0, &[0; 64], 1000, false, &request)?;
        Ok(Self {
            device,
            raw,
            request,
            _output: output,
        })
    }

    /// Asks for `count` pictures by REQBUFS.
    fn request_buffers(&self, count: u32) -> Result<Span> {
        let mut request = v4l2::RequestBuffers {
            count,
            type_: BUF_TYPE_CAPTURE,
            memory: v4l2::MEMORY_MMAP,
            ..Default::default()
        };
        let (result, span) = Span::of(|| v4l2::reqbufs(self.device.video(), &mut request));
        result.with_context(|| format!("REQBUFS({count})"))?;
        ensure!(request.count == count, "{} buffers, not {count}", request.count);
        Ok(span)
    }

    /// Asks for `count` pictures by CREATE_BUFS, and queues a request meanwhile. Nobody else may wait for the
    /// one by way of the other.
    fn create_buffers(&self, count: u32) -> Result<Span> {
        let mut create = v4l2::CreateBuffers {
            count,
            memory: v4l2::MEMORY_MMAP,
            format: v4l2::Format {
                type_: BUF_TYPE_CAPTURE,
                pix_mp: self.raw,
                ..Default::default()
            },
            ..Default::default()
        };
        let (result, span) = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(5));
                // It waits for nothing, or for CREATE_BUFS.
                self.request.queue()
            });
            Span::of(|| v4l2::create_bufs(self.device.video(), &mut create))
        });
        result.with_context(|| format!("CREATE_BUFS({count})"))?;
        ensure!(create.count == count, "{} buffers, not {count}", create.count);
        Ok(span)
    }
}

/// Has another session be given much memory by REQBUFS and by CREATE_BUFS, and free it by REQBUFS and by
/// closing.
fn memory(common: &Common, nodes: &Nodes, options: &Options, figures: &mut Figures) -> Result<()> {
    let control = undisturbed(common, 1, Duration::from_secs(2))?;
    figures.set("memory_control", control.figures());
    let (spans, report) = Victim::play(common, |victim| {
        let mut spans = Vec::new();
        let mut most = 0;
        for round in 0..options.rounds {
            let other = Large::open(nodes)?;
            spans.push(if round % 2 == 0 {
                other.request_buffers(options.pictures)?
            } else {
                other.create_buffers(options.pictures)?
            });
            most = most.max(debugfs::stat("memory")?);
            victim.moves(1, PROMPT)?;
            if round % 4 < 2 {
                spans.push(other.request_buffers(0)?);
            }
            let ((), span) = Span::of(|| drop(other));
            spans.push(span);
            victim.moves(1, PROMPT)?;
        }
        figures.set("memory_bytes", most);
        Ok(spans)
    })?;
    judge("memory", &report, &spans, figures)
}

/// Stops many sessions at once: idle ones, then as many whose workers have a job.
fn stops(
    common: &Common,
    nodes: &Nodes,
    clips: &[Clip],
    options: &Options,
    figures: &mut Figures,
) -> Result<()> {
    let control = undisturbed(common, options.sessions.min(4), Duration::from_secs(2))?;
    figures.set("stops_control", control.figures());
    let idle = stopped(common, nodes, clips, options.sessions, false)?;
    report_on("stops_idle", &idle.0, &[], figures);
    let busy = stopped(common, nodes, clips, options.sessions, true)?;
    report_on("stops_busy", &busy.0, &[], figures);
    figures.longest("stops_idle_ms", idle.1.took());
    figures.longest("stops_busy_ms", busy.1.took());
    // Stops come one after the other and are short, and the victim may sleep while they do: idle sessions
    // show for how long. Waiting for one worker adds DRAIN_MS to that, or the stall.
    let (longest, control) = (busy.0.longest_sleep(), idle.0.longest_sleep());
    ensure!(
        longest < control + Duration::from_millis(DRAIN_MS / 2),
        "the victim slept {} ms in one round while {} sessions with jobs in flight stopped, {} ms while idle \
         ones did",
        longest.as_millis(),
        options.sessions,
        control.as_millis()
    );
    Ok(())
}

/// Stops or closes `count` sessions at once beside a victim. Returns what became of it, and when they
/// stopped.
fn stopped(
    common: &Common,
    nodes: &Nodes,
    clips: &[Clip],
    count: usize,
    busy: bool,
) -> Result<(VictimReport, Span)> {
    let settings = SessionOptions {
        hash: false,
        ..SessionOptions::default()
    };
    // Many workers that start at once take their time. Those whose sessions have gone do not have it.
    let worker_wait = parameter("worker_wait_ms")?;
    set_parameter("worker_wait_ms", WATCHDOG_MS)?;
    let mut sessions = Vec::new();
    for number in 0..count {
        let clip = &clips[number % clips.len()];
        let mut session = Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &settings)
            .with_context(|| format!("session {number}"))?;
        if busy {
            session.submit(&clip.jobs[0])?;
        }
        sessions.push(session);
    }
    let start = Instant::now();
    loop {
        let sessions = debugfs::own_sessions()?;
        let reading = sessions.iter().filter(|session| session.number("in_flight") > 0);
        if !busy || reading.count() == count {
            break;
        }
        ensure!(
            start.elapsed() < Duration::from_secs(120),
            "not every session has a worker with a job"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    set_parameter("worker_wait_ms", worker_wait)?;
    let (span, report) = Victim::play(common, |victim| {
        let barrier = Barrier::new(count + 1);
        let stop = |mut session: Session, number: usize| -> Result<()> {
            barrier.wait();
            // Half of them close with everything in flight.
            if number % 2 == 0 {
                let (coded, raw) = session.queues();
                raw.stream(false)?;
                coded.stream(false)?;
            }
            Ok(())
        };
        let (result, span) = std::thread::scope(|scope| {
            let threads: Vec<_> = sessions
                .into_iter()
                .enumerate()
                .map(|(number, session)| scope.spawn(move || stop(session, number)))
                .collect();
            barrier.wait();
            Span::of(|| -> Result<()> {
                for thread in threads {
                    thread.join().map_err(|_| anyhow!("a session panicked"))??;
                }
                Ok(())
            })
        });
        result?;
        victim.moves(1, PROMPT)?;
        Ok(span)
    })?;
    Ok((report, span))
}

/// Calls S_EXT_CTRLS with one control of the session, whose payload is `silence`.
fn set_silent(device: BorrowedFd<'_>, id: u32, size: usize, silence: &Silence) -> Result<()> {
    let mut arena = Arena::new();
    arena.set(0, id);
    arena.set(4, u32::try_from(size)?);
    let payload = silence.address();
    arena.set(12, payload as u32);
    arena.set(16, (payload >> 32) as u32);
    let mut arg = Arg::default();
    arg.set(std::mem::offset_of!(v4l2::ExtControls, count), 1).set64(
        std::mem::offset_of!(v4l2::ExtControls, controls),
        arena.address(0),
    );
    // Zeros are not a value that every control can have.
    let _ = raw::call(device, v4l2::VIDIOC_S_EXT_CTRLS, &mut arg);
    Ok(())
}

/// A session whose first job lacks only a picture, and whose second is not queued yet.
struct StalledSession {
    device: Arc<Device>,
    capture: Queue,
    requests: Vec<Request>,
}

impl StalledSession {
    /// Opens it.
    fn open(nodes: &Nodes, clip: &Clip) -> Result<Self> {
        let (device, _) = prepared(nodes, clip)?;
        let mut output = Queue::new(&device, BUF_TYPE_OUTPUT);
        output.allocate(2, &Backing::Mmap)?;
        let mut capture = Queue::new(&device, BUF_TYPE_CAPTURE);
        capture.allocate(2, &Backing::Mmap)?;
        for queue in [&output, &capture] {
            queue.stream(true)?;
        }
        let requests = (0..2)
            .map(|_| device.request())
            .collect::<Result<Vec<Request>, _>>()?;
        for (index, request) in requests.iter().enumerate() {
            let job = &clip.jobs[index];
            device.set_controls(&job.controls, Some(request))?;
            output.queue_coded(index, &job.payload, job.timestamp, false, request)?;
        }
        requests[0].queue()?;
        Ok(Self {
            device,
            capture,
            requests,
        })
    }
}

/// Has another session set a control from memory that does not answer. Meanwhile its job, which needs the
/// control, gets its picture, its queues stop and its requests are closed.
fn silence(
    common: &Common,
    nodes: &Nodes,
    clip: &Clip,
    options: &Options,
    figures: &mut Figures,
) -> Result<()> {
    let control = undisturbed(common, 1, Duration::from_secs(1))?;
    figures.set("silence_control", control.figures());
    let blob = clip.jobs[0]
        .controls
        .iter()
        .find(|control| control.value.len() > 8);
    let blob = blob.context("the clip's first job has no compound control")?;

    let stalled = StalledSession::open(nodes, clip)?;
    let silence = Silence::new(blob.value.len())?;
    let ((stopped, moves), report) = Victim::play(common, |victim| {
        std::thread::scope(|scope| {
            let StalledSession {
                device,
                capture,
                requests,
            } = stalled;
            let (setter, silence) = (Arc::clone(&device), &silence);
            scope.spawn(move || set_silent(setter.video(), blob.id, blob.value.len(), silence));
            let touched = silence.touched(PROMPT);
            // Claiming the job may have to wait for the control, and nobody else for that.
            scope.spawn(move || capture.queue_picture(0));
            let waiting = victim.moves(3, PROMPT);
            let (sender, receiver) = mpsc::channel();
            scope.spawn(move || {
                for queue in QUEUES {
                    let (result, span) = Span::of(|| v4l2::stream(device.video(), false, queue));
                    // Nobody listens any more if it took too long.
                    let _ = sender.send(result.map(|()| span));
                }
                drop(requests);
                drop(device);
            });
            let stopped = QUEUES.map(|_| receiver.recv_timeout(PROMPT).ok());
            let moves = victim.moves(3, PROMPT);
            // Nothing before this may return early: all threads wait for it.
            silence.end();
            touched?;
            waiting.context("beside a control that does not come")?;
            Ok((stopped, moves))
        })
    })?;
    figures.set("silence", report.figures());
    for result in stopped {
        let Some(span) = result else {
            bail!(
                "a session whose control does not come did not stop within {} ms ({})",
                PROMPT.as_millis(),
                match moves {
                    Ok(()) => "others went on".into(),
                    Err(error) => format!("{error:#}"),
                }
            );
        };
        figures.longest("streamoff_beside_silence_ms", span.context("STREAMOFF")?.took());
    }
    moves.context("while a session stops whose control does not come")?;
    core_wait(common, nodes, clip, blob, options, figures)
}

/// Shows what the core adds to it: it queues a request of such a session with the device's mutex held. No
/// driver can help that, so it is measured and not judged.
fn core_wait(
    common: &Common,
    nodes: &Nodes,
    clip: &Clip,
    blob: &Control,
    options: &Options,
    figures: &mut Figures,
) -> Result<()> {
    let stalled = StalledSession::open(nodes, clip)?;
    let silence = Silence::new(blob.value.len())?;
    let (touched, report) = Victim::play(common, |victim| {
        std::thread::scope(|scope| {
            scope.spawn(|| set_silent(stalled.device.video(), blob.id, blob.value.len(), &silence));
            let touched = silence.touched(PROMPT);
            scope.spawn(|| stalled.requests[1].queue());
            std::thread::sleep(Duration::from_millis(options.core_ms));
            silence.end();
            victim.moves(1, PROMPT)?;
            Ok(touched)
        })
    })?;
    touched?;
    figures.set("core_wait_for_ms", options.core_ms);
    figures.longest("core_wait_ms", report.longest_sleep());
    Ok(())
}
