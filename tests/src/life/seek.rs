// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Seeking: both queues stop with jobs in flight and start again at a key frame, again and again. The session
//! keeps its worker, pictures are exact at once, and of the pictures that were given up not one byte comes
//! into a buffer that the client has back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::decoder::{Picture, Plan};
use daedalus_client::device::{Device, Nodes, Request};
use daedalus_client::memory::Mapping;
use daedalus_client::picture::Layout;
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::{BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, FIELD_NONE, PixFormatMplane};
use md5::{Digest, Md5};
use serde_json::json;

use super::common::Common;
use super::sessions::patiently;
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::left;
use crate::guest::module::{parameter, set_parameter};
use crate::random::Random;

/// Jobs in flight at most.
const DEPTH: usize = 4;
/// How long a picture may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a buffer is filled with that the client has back.
const GUARD: u8 = 0xa7;
/// Of how many rounds one is made with slow workers.
const SLOW_SHARE: usize = 20;
/// Milliseconds that a slow worker waits before each job.
const SLOW_MS: u64 = 120;
/// What a stopping queue may give its worker beside slow workers, where it gives it any time at all: less
/// than they take.
const DRAIN_MS: u64 = 40;

/// Arguments of `seek`.
#[derive(Debug, clap::Args)]
pub(super) struct SeekArgs {
    /// How often the queues stop, in all.
    #[arg(long, default_value_t = 2000)]
    rounds: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the scenario.
pub(super) fn seek(common: &Common, args: &SeekArgs, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?.every("1080p")?;
    let mut rng = Random::new(args.seed);
    let mut wrong = Vec::new();
    let slow = format!("--fault=stall:all:{SLOW_MS}");
    // A module whose stopping queues wait for nobody has no such parameter.
    let drain = parameter("drain_ms").ok();
    for (name, arguments, rounds) in [
        ("fast", vec![], args.rounds),
        ("slow", vec![slow.as_str()], args.rounds.div_ceil(SLOW_SHARE)),
    ] {
        let (broker, nodes) = Broker::start_with(common, &arguments)?;
        if let (false, Some(_)) = (arguments.is_empty(), drain) {
            set_parameter("drain_ms", DRAIN_MS)?;
        }
        for clip in &clips {
            let rounds = rounds.div_ceil(clips.len());
            let mut tally = SeekTally::default();
            let result = patiently(|| seeks(&nodes, clip, rounds, &mut rng, &mut tally));
            figures.set(&format!("{name}_{}", clip.name), tally.figures());
            if let Err(error) = result.and_then(|()| tally.judge()) {
                wrong.push(format!("{}, {name} worker: {error:#}", clip.name));
            }
        }
        if let Some(drain) = drain {
            set_parameter("drain_ms", drain)?;
        }
        broker.stop()?;
    }
    left::nothing_and_nobody()?;
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// What was seen of one session.
#[derive(Debug, Default)]
struct SeekTally {
    stops: Vec<Duration>,
    /// Jobs that were in flight when the queues stopped.
    given_up: usize,
    /// Of those, jobs that the worker had.
    in_worker: usize,
    exact: usize,
    /// Rounds after which the session had another worker.
    other_worker: usize,
    /// Buffers that were written although the client had them back.
    written: usize,
}

impl SeekTally {
    /// Returns its figures.
    fn figures(&self) -> serde_json::Value {
        let mut stops = self.stops.clone();
        stops.sort_unstable();
        let at = |percent: usize| {
            let index = (stops.len() * percent / 100).min(stops.len().saturating_sub(1));
            let took = stops.get(index).copied().unwrap_or_default();
            (took.as_secs_f64() * 1e5).round() / 100.0
        };
        json!({
            "rounds": stops.len(),
            "jobs_given_up": self.given_up,
            "jobs_given_up_in_worker": self.in_worker,
            "exact_pictures": self.exact,
            "worker_changes": self.other_worker,
            "buffers_written_late": self.written,
            "streamoff_median_ms": at(50),
            "streamoff_p99_ms": at(99),
            "streamoff_max_ms": at(100),
        })
    }

    /// Fails unless all was as it has to be.
    fn judge(&self) -> Result<()> {
        ensure!(
            self.given_up >= self.stops.len(),
            "only {} jobs were in flight in {} rounds",
            self.given_up,
            self.stops.len()
        );
        ensure!(self.in_worker > 0, "no worker had a job when the queues stopped");
        ensure!(
            self.other_worker == 0,
            "the worker was another after {} of {} rounds",
            self.other_worker,
            self.stops.len()
        );
        ensure!(
            self.written == 0,
            "{} buffers were written although the client had them back",
            self.written
        );
        Ok(())
    }
}

/// A session whose buffers are all in sight.
struct Player {
    output: Queue,
    capture: Queue,
    requests: Vec<Request>,
    layout: Layout,
}

impl Player {
    /// Opens a session with enough buffers, which streams.
    fn open(nodes: &Nodes, clip: &Clip) -> Result<Self> {
        let device = Device::open(nodes, false)?;
        let most = clip
            .jobs
            .iter()
            .map(|job| job.payload.len())
            .max()
            .unwrap_or_default();
        let mut format = PixFormatMplane {
            width: clip.jobs[0].coded_width,
            height: clip.jobs[0].coded_height,
            pixelformat: clip.codec.coded_format(),
            field: FIELD_NONE,
            num_planes: 1,
            ..Default::default()
        };
        format.plane_fmt[0].sizeimage = u32::try_from(most)?.to_ne_bytes();
        device.set_format(BUF_TYPE_OUTPUT, format)?;
        let raw = device.format(BUF_TYPE_CAPTURE)?;
        let mut output = Queue::new(&device, BUF_TYPE_OUTPUT);
        output.allocate(DEPTH as u32, &Backing::Mmap)?;
        let mut capture = Queue::new(&device, BUF_TYPE_CAPTURE);
        let pictures = Plan::new(clip.codec, &clip.jobs).pictures(DEPTH);
        capture.allocate(pictures as u32, &Backing::Mmap)?;
        let requests = (0..DEPTH).map(|_| device.request()).collect::<Result<_, _>>()?;
        let player = Self {
            output,
            capture,
            requests,
            layout: Layout::new(&raw)?,
        };
        player.stream(true)?;
        Ok(player)
    }

    /// Starts or stops both queues.
    fn stream(&self, on: bool) -> Result<()> {
        self.output.stream(on)?;
        self.capture.stream(on)?;
        Ok(())
    }

    /// Submits a job with the OUTPUT buffer and the request `slot`.
    fn submit(&self, clip: &Clip, job: usize, slot: usize) -> Result<()> {
        let (job, request) = (&clip.jobs[job], &self.requests[slot]);
        self.output.device().set_controls(&job.controls, Some(request))?;
        self.output
            .queue_coded(slot, &job.payload, job.timestamp, job.hold_capture, request)?;
        request.queue()?;
        Ok(())
    }

    /// Decodes the clip's first picture into the buffer `index`, and demands that it is exact.
    fn first_picture(&self, clip: &Clip, index: usize) -> Result<()> {
        self.capture.queue_picture(index)?;
        self.submit(clip, 0, 0)?;
        self.requests[0].wait(PATIENCE)?;
        self.requests[0].reinit()?;
        let job = self.output.dequeue()?.context("the job did not come back")?;
        let picture = self.capture.dequeue()?.context("the picture did not come back")?;
        ensure!(picture.index == index, "another buffer came back");
        let planes: Vec<&Mapping> = self.capture.mappings(index)?.collect();
        let first = &clip.jobs[0];
        let md5 = Md5::digest(self.layout.packed(&planes, &first.visible)?).into();
        let error = job.error || picture.error;
        clip.compare(&HashMap::from([(first.timestamp, Picture { md5, error })]), 0..1)?;
        Ok(())
    }

    /// Fills a buffer, to its end.
    fn guard(&self, index: usize) -> Result<()> {
        for mapping in self.capture.mappings(index)? {
            mapping.write(0, &vec![GUARD; mapping.len()])?;
        }
        Ok(())
    }

    /// Returns whether a buffer is as it was filled.
    fn is_guarded(&self, index: usize, bytes: &mut Vec<u8>) -> Result<bool> {
        for mapping in self.capture.mappings(index)? {
            bytes.resize(mapping.len(), 0);
            mapping.read(0, bytes)?;
            if bytes.iter().any(|byte| *byte != GUARD) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Returns the worker of this process's only session, and how many jobs it has.
fn worker() -> Result<(u64, usize)> {
    match debugfs::own_sessions()?.as_slice() {
        [session] => Ok((session.number("worker"), session.number("in_flight") as usize)),
        others => bail!("{} sessions, not one", others.len()),
    }
}

/// Waits until the worker has a job, for few rounds may all have ended before. Returns how many it has; 0 if
/// it takes none.
fn jobs_in_worker() -> Result<usize> {
    let start = Instant::now();
    loop {
        let (_, jobs) = worker()?;
        if jobs > 0 || start.elapsed() > PATIENCE {
            return Ok(jobs);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Stops and starts one session's queues, `rounds` times.
fn seeks(nodes: &Nodes, clip: &Clip, rounds: usize, rng: &mut Random, tally: &mut SeekTally) -> Result<()> {
    ensure!(
        clip.jobs[0].key && !clip.jobs[0].hold_capture,
        "it begins with no key frame of one job"
    );
    let player = Player::open(nodes, clip)?;
    let mut usual = Duration::ZERO;
    // The first picture takes the start of a worker, too.
    for _ in 0..2 {
        let start = Instant::now();
        player.first_picture(clip, 0).context("the first picture")?;
        usual = start.elapsed().min(Duration::from_secs(1));
        player.stream(false)?;
        player.stream(true)?;
    }
    let (mut own, _) = worker()?;
    let mut bytes = Vec::new();
    for round in 0..rounds {
        for index in 0..player.capture.len() {
            player.capture.queue_picture(index)?;
        }
        let jobs = 1 + rng.index(DEPTH);
        for job in 0..jobs {
            player.submit(clip, job, job)?;
        }
        let in_worker = if tally.in_worker == 0 && round + 1 == rounds {
            jobs_in_worker()?
        } else {
            // From before the worker reads the first job to when it writes the last one.
            std::thread::sleep(usual.mul_f64(rng.index(100) as f64 / 100.0));
            worker()?.1
        };
        let start = Instant::now();
        player.stream(false)?;
        tally.stops.push(start.elapsed());
        tally.given_up += jobs;
        tally.in_worker += in_worker;
        for request in &player.requests[..jobs] {
            request.wait(PATIENCE)?;
            request.reinit()?;
        }
        for index in 0..player.capture.len() {
            player.guard(index)?;
        }
        player.stream(true)?;
        // When this picture has come, the worker is done with all that was before.
        let used = round % player.capture.len();
        player
            .first_picture(clip, used)
            .with_context(|| format!("after {} stops", round + 1))?;
        tally.exact += 1;
        for index in (0..player.capture.len()).filter(|index| *index != used) {
            tally.written += usize::from(!player.is_guarded(index, &mut bytes)?);
        }
        let (now, _) = worker()?;
        if now != own {
            tally.other_worker += 1;
            own = now;
        }
        player.stream(false)?;
        player.stream(true)?;
    }
    Ok(())
}
