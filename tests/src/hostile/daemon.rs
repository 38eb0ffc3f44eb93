// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A daemon that breaks every rule: its broker. It registers, takes session fds, and gives them to workers
//! that answer nonsense, to nobody, or closes them; it goes at any time and comes back. Real clients run
//! against it all the while: they may get errors, and must never hang.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daedalus_client::decoder::{Options as ClientSettings, Plan, Session};
use daedalus_client::device::ClientError;
use daedalus_client::stateful::{Settings, Stream, Turn, find as find_stream};
use daedalus_uapi::codec::bits::CODECS_V1;
use daedalus_uapi::protocol::{CONTROL_PATH, Event, FACE_STATEFUL, FACE_STATELESS};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;

use super::common::{Common, ended, start};
use super::raw::{self, Arg};
use super::table::{Node, Op, Tally};
use super::worker::Worker;
use super::{client as fuzz, ioctls};
use crate::guest::broker::{self, Broker};
use crate::guest::clip::{Clip, Clips};
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::left;
use crate::guest::module::{parameter, set_parameter};
use crate::random::Random;
use crate::stateful;

/// Arguments of `daemon`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Messages from the daemon, of all its processes together.
    #[arg(long, default_value_t = 20_000)]
    messages: u64,
    /// Clients at the same time.
    #[arg(long, default_value_t = 3)]
    clients: u64,
    /// Milliseconds that a client's call may take.
    #[arg(long, default_value_t = 8000)]
    limit_ms: u64,
    /// The watchdog while the daemon is hostile: most of the time would be spent waiting for it. The good
    /// daemon afterwards has as long as other scenarios'.
    #[arg(long, default_value_t = 1500)]
    watchdog_ms: u64,
    /// Clients of the stateful node.
    #[arg(long)]
    pub(super) stateful: bool,
}

/// Arguments of its broker.
#[derive(Debug, clap::Args)]
pub(super) struct BrokerOptions {
    /// Messages to send.
    #[arg(long)]
    messages: u64,
    /// Offer the stateful face, too.
    #[arg(long)]
    stateful: bool,
}

/// Arguments of a client of it.
#[derive(Debug, clap::Args)]
pub(super) struct ClientOptions {
    /// Which of the seed's sequences it follows.
    #[arg(long)]
    part: u64,
    /// Of the stateful node.
    #[arg(long)]
    stateful: bool,
}

/// What the daemon did.
#[derive(Debug, Default, Serialize, Deserialize)]
struct DaemonReport {
    tally: Tally,
    registrations: u64,
    workers: u64,
    /// Session fds closed at once, and kept without being read.
    closed: u64,
    ignored: u64,
    /// Messages that workers read.
    messages_read: u64,
}

/// What a client saw.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ClientReport {
    sessions: u64,
    jobs: u64,
    failed_jobs: u64,
    /// Sessions that ended with an error number, by number.
    errors: std::collections::BTreeMap<i32, u64>,
    longest_ms: u64,
    /// What must not happen.
    wrong: Option<String>,
}

/// Runs the scenario.
pub(super) fn run(common: &Common, options: &Options, figures: &mut Figures) -> Result<()> {
    // The nodes appear with the first registration.
    let faces = if options.stateful {
        &["--faces=both"][..]
    } else {
        &[]
    };
    let (broker, nodes) = Broker::start_logged(&common.broker_log, faces)?;
    broker.stop()?;
    let watchdog = parameter("watchdog_ms")?;
    set_parameter("watchdog_ms", options.watchdog_ms)?;
    let with_face = |mut words: Vec<String>| {
        words.extend(options.stateful.then(|| "--stateful".to_owned()));
        words
    };
    let words = with_face(vec![format!("--messages={}", options.messages)]);
    let hostile = start(common, "daemon-broker", &words, Stdio::null())?;
    let clients: Vec<Child> = (0..options.clients)
        .map(|part| {
            start(
                common,
                "daemon-client",
                &with_face(vec![format!("--part={part}")]),
                Stdio::piped(),
            )
        })
        .collect::<Result<_>>()?;
    let daemon: DaemonReport = ended(hostile, "the hostile daemon")?;
    let mut reports = Vec::new();
    for mut client in clients {
        drop(client.stdin.take());
        reports.push(ended::<ClientReport>(client, "a client")?);
    }
    let messages = daemon.tally.total(None).0;
    let past = daemon.tally.past_check();
    figures.set("messages", messages);
    figures.set("past_header_check", past);
    figures.set(
        "past_header_check_percent",
        (past as f64 * 1000.0 / messages.max(1) as f64).round() / 10.0,
    );
    figures.set("registrations", daemon.registrations);
    figures.set("workers", daemon.workers);
    figures.set("session_fds_closed_at_once", daemon.closed);
    figures.set("session_fds_never_read", daemon.ignored);
    figures.set("messages_read", daemon.messages_read);
    let sum = |value: fn(&ClientReport) -> u64| reports.iter().map(value).sum::<u64>();
    figures.set("client_sessions", sum(|report| report.sessions));
    figures.set("client_jobs", sum(|report| report.jobs));
    figures.set("client_failed_jobs", sum(|report| report.failed_jobs));
    let longest = reports
        .iter()
        .map(|report| report.longest_ms)
        .max()
        .unwrap_or_default();
    figures.set("client_longest_ms", longest);
    let mut errors = std::collections::BTreeMap::<i32, u64>::new();
    for (errno, times) in reports.iter().flat_map(|report| &report.errors) {
        *errors.entry(*errno).or_default() += times;
    }
    figures.set("client_errors", serde_json::to_value(errors)?);
    if let Some(wrong) = reports.iter().find_map(|report| report.wrong.as_ref()) {
        anyhow::bail!("a client: {wrong}");
    }
    ensure!(messages >= options.messages, "only {messages} messages were sent");
    ensure!(
        past * 4 >= messages,
        "only {past} of {messages} messages came past the check of their form"
    );
    ensure!(sum(|report| report.jobs) > 0, "no client had anything answered");
    ensure!(longest <= options.limit_ms, "a client's call took {longest} ms");
    if options.stateful {
        for op in Op::of(Node::StreamSession) {
            let count = daemon.tally.0.get(&op).map_or(0, |count| count.succeeded);
            ensure!(count > 0, "{op:?} has never succeeded");
        }
    } else {
        ioctls::shares(&daemon.tally, &[Node::Control, Node::Session], figures)?;
    }
    // Whatever the daemon kept is gone with it: a good one finds a device as new.
    ensure!(
        debugfs::stat("busy")? == 0,
        "jobs are still counted as being with workers"
    );
    set_parameter("watchdog_ms", watchdog)?;
    let (broker, _) = Broker::start_logged(&common.broker_log, faces)?;
    for clip in common.small_clips()? {
        let jobs = &clip.jobs[..8.min(clip.jobs.len())];
        let session = daedalus_client::decoder::decode(&nodes, clip.codec, jobs, &ClientSettings::default())
            .context("a session with a good daemon, afterwards")?;
        clip.compare(session.pictures(), 0..jobs.len())?;
    }
    broker.stop()?;
    left::nothing_and_nobody()
}

/// Runs the hostile broker.
pub(super) fn broker(common: &Common, options: &BrokerOptions) -> Result<()> {
    let mut hostile = HostileBroker {
        common,
        rng: Random::part(common.seed, 1000),
        report: DaemonReport::default(),
        arg: Arg::default(),
        workers: Vec::new(),
        idle_fds: Vec::new(),
        sessions: Vec::new(),
        version: 0,
        is_stateful: options.stateful,
    };
    while hostile.report.tally.total(None).0 < options.messages {
        hostile.registration(options.messages)?;
    }
    hostile.idle_fds.clear();
    for worker in &mut hostile.workers {
        worker.kill().ok();
    }
    while !hostile.workers.is_empty() {
        hostile.reap(true)?;
    }
    println!("{}", serde_json::to_string(&hostile.report)?);
    Ok(())
}

struct HostileBroker<'a> {
    common: &'a Common,
    rng: Random,
    report: DaemonReport,
    arg: Arg,
    workers: Vec<Child>,
    /// Session fds that nobody reads.
    idle_fds: Vec<OwnedFd>,
    /// Sessions that wanted a worker, lately.
    sessions: Vec<u64>,
    /// The version that the last greeting agreed on.
    version: u32,
    is_stateful: bool,
}

impl HostileBroker<'_> {
    fn call(&mut self, fd: &OwnedFd, op: Op) -> rustix::io::Result<i32> {
        let result = raw::call(fd.as_fd(), op.opcode(), &mut self.arg);
        self.report.tally.note(op, &result);
        result
    }

    /// Opens the control device and uses it, from greeting to close.
    fn registration(&mut self, messages: u64) -> Result<()> {
        let control = fuzz::open(std::path::Path::new(CONTROL_PATH))?;
        for _ in 0..self.rng.below(4) {
            self.misplaced(&control);
        }
        for _ in 0..8 {
            if self.hello(&control) {
                break;
            }
        }
        let mut registered = false;
        for _ in 0..6 {
            registered |= self.register(&control);
            if registered {
                break;
            }
        }
        self.report.registrations += u64::from(registered);
        let end = Instant::now() + Duration::from_millis(20 + self.rng.below(600));
        while Instant::now() < end {
            self.serve_events(&control)?;
            if self.rng.one_in(6) {
                self.misplaced(&control);
            }
            self.reap(self.workers.len() > 5)?;
            let done = self.report.tally.total(None).0;
            if done >= messages || self.idle_fds.len() > 6 {
                self.idle_fds.clear();
                break;
            }
        }
        if self.rng.one_in(3) {
            self.idle_fds.clear();
        }
        Ok(())
    }

    fn hello(&mut self, control: &OwnedFd) -> bool {
        self.arg = Arg::default();
        let newest = 1 + self.rng.below(3) as u32;
        self.arg.set(0, newest).set(4, 1).set64(8, self.rng.below(8));
        if self.rng.one_in(3) {
            let (at, value) = (self.rng.index(8) * 4, self.rng.nasty());
            self.arg.set(at, value);
        }
        let result = self.call(control, Op::Hello);
        if result.is_ok() {
            self.version = self.arg.get(0);
        }
        matches!(result, Ok(_) | Err(Errno::BUSY))
    }

    fn register(&mut self, control: &OwnedFd) -> bool {
        self.arg = Arg::default();
        self.arg
            .set(0, u32::from_ne_bytes(*b"host"))
            .set(4, u32::from_ne_bytes(*b"ile\0"));
        let old = (self.version < 2) != self.rng.one_in(6);
        let (op, faces) = if old {
            (Op::RegisterV1, 0)
        } else {
            (Op::Register, 1)
        };
        self.arg.set(32, CODECS_V1).set(40, faces);
        if self.is_stateful && !old {
            self.arg
                .set(40, FACE_STATELESS | FACE_STATEFUL)
                .set(44, CODECS_V1);
        }
        if self.rng.one_in(3) {
            let (at, value) = (self.rng.index(14) * 4, self.rng.nasty());
            // Without its codec a client has nothing to play.
            if ![32, 44].contains(&at) {
                self.arg.set(at, value);
            }
        }
        self.call(control, op).is_ok()
    }

    /// Makes calls that do not belong on this descriptor.
    fn misplaced(&mut self, control: &OwnedFd) {
        match self.rng.below(5) {
            0 => drop(self.hello(control)),
            1 => drop(self.register(control)),
            2 => {
                let session = self.rng.below(500);
                drop(self.session_fd(control, session));
            }
            3 => {
                let mut bytes = [0; 100];
                let length = self.rng.index(bytes.len());
                let _ = rustix::io::read(control, &mut bytes[..length]);
            }
            _ => {
                // An ioctl of another node.
                self.arg = Arg::default();
                let result = raw::call(control.as_fd(), Op::JobDone.opcode(), &mut self.arg);
                debug_assert!(result.is_err());
            }
        }
    }

    fn session_fd(&mut self, control: &OwnedFd, session: u64) -> Option<OwnedFd> {
        self.arg = Arg::default();
        let flags = if self.rng.one_in(4) {
            rustix::fs::OFlags::NONBLOCK.bits()
        } else {
            0
        };
        self.arg.set64(0, session).set(12, flags);
        if self.rng.one_in(8) {
            let (at, value) = (self.rng.index(8) * 4, self.rng.nasty());
            self.arg.set(at, value);
        }
        self.call(control, Op::SessionFd).ok()?;
        raw::installed(self.arg.get(8))
    }

    /// Reads events and gives the sessions what it likes.
    fn serve_events(&mut self, control: &OwnedFd) -> Result<()> {
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 4_000_000,
        };
        poll(&mut [PollFd::new(control, PollFlags::IN)], Some(&moment)).ok();
        let mut events = [Event::default(); 3];
        let room = self.rng.index(4 * size_of::<Event>()).min(size_of_val(&events));
        if let Ok(bytes) = rustix::io::read(control, &mut events.as_mut_bytes()[..room]) {
            let count = bytes / size_of::<Event>();
            self.sessions
                .extend(events[..count].iter().map(|event| event.session));
        }
        let Some(session) = self.sessions.pop() else {
            return Ok(());
        };
        if self.rng.one_in(12) {
            return Ok(());
        }
        let Some(fd) = self.session_fd(control, session) else {
            return Ok(());
        };
        match self.rng.below(12) {
            0 => self.report.closed += 1,
            1 => {
                self.report.ignored += 1;
                self.idle_fds.push(fd);
            }
            2 => {
                // In this process: what the broker reads makes it the worker.
                let mut worker = Worker::new(fd.as_fd(), Random::new(self.rng.next()));
                worker.play(Duration::from_millis(50), 400, |_| {});
                self.report.tally.add(&worker.tally);
                self.report.messages_read += worker.messages;
            }
            _ => {
                self.report.workers += 1;
                let words = [format!("--part={}", self.rng.next() >> 8)];
                self.workers
                    .push(start(self.common, "daemon-worker", &words, Stdio::from(fd))?);
            }
        }
        Ok(())
    }

    /// Collects what ended workers report; waits for the oldest if there are too many.
    fn reap(&mut self, wait: bool) -> Result<()> {
        let mut at = 0;
        while at < self.workers.len() {
            if (wait && at == 0) || self.workers[at].try_wait()?.is_some() {
                let output = self.workers.remove(at).wait_with_output()?;
                let text = String::from_utf8_lossy(&output.stdout);
                for line in text.lines() {
                    // The last one is cut short if the module killed it.
                    if let Ok((tally, messages)) = serde_json::from_str::<(Tally, u64)>(line) {
                        self.report.tally.add(&tally);
                        self.report.messages_read += messages;
                    }
                }
                if wait {
                    break;
                }
            } else {
                at += 1;
            }
        }
        Ok(())
    }
}

/// Runs a client that decodes, stops and closes against whatever daemon there is.
pub(super) fn client(common: &Common, options: &ClientOptions) -> Result<()> {
    let over = AtomicBool::new(false);
    let nodes = broker::nodes()?;
    let mut clips = common.small_clips()?;
    // The codecs that the hostile daemon registers, whichever version it speaks.
    clips.retain(|clip| clip.codec.bit() & CODECS_V1 != 0);
    let mut streams = Vec::new();
    if options.stateful {
        let list = Clips::load(&common.clips)?;
        for clip in &clips {
            let (file, codec) = list.file(&clip.name)?;
            streams.push((codec.info().stateful_formats[0], stateful::units(codec, &file)?));
        }
    }
    let mut rng = Random::part(common.seed, 2000 + options.part);
    let mut report = ClientReport::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The end of the standard input is the sign to end.
            std::io::stdin().read_to_end(&mut Vec::new()).ok();
            over.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            let clip = rng.index(clips.len());
            let played = match streams.get(clip) {
                Some(stream) => one_stream(stream, &mut rng, &mut report, &over),
                None => one_session(&nodes, &clips[clip], &mut rng, &mut report, &over),
            };
            match played {
                Ok(()) => {}
                Err(error @ ClientError::Call { errno, .. }) => {
                    *report.errors.entry(errno.raw_os_error()).or_default() += 1;
                    let allowed = [Errno::IO, Errno::NODEV];
                    if !allowed.contains(&errno) {
                        report.wrong.get_or_insert_with(|| error.to_string());
                    }
                }
                Err(other) => {
                    report.wrong.get_or_insert_with(|| other.to_string());
                }
            }
        }
        println!("{}", serde_json::to_string(&report)?);
        Ok(())
    })
}

fn one_session(
    nodes: &daedalus_client::device::Nodes,
    clip: &Clip,
    rng: &mut Random,
    report: &mut ClientReport,
    over: &AtomicBool,
) -> Result<(), ClientError> {
    let settings = ClientSettings {
        hash: false,
        blocking: rng.one_in(3),
        patience: Duration::from_secs(20),
        ..ClientSettings::default()
    };
    let mut session = Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &settings)?;
    report.sessions += 1;
    let mut submitted = 0;
    let result = loop {
        if over.load(Ordering::Relaxed) || submitted == 200 {
            break session.drain();
        }
        let job = &clip.jobs[submitted % clip.jobs.len()];
        if submitted % clip.jobs.len() == 0 && submitted > 0 {
            if let Err(error) = session.drain().and_then(|()| session.restart()) {
                break Err(error);
            }
        }
        if let Err(error) = session.submit(job) {
            break Err(error);
        }
        submitted += 1;
        if rng.one_in(12) {
            if let Err(error) = session.restart() {
                break Err(error);
            }
            submitted = submitted.next_multiple_of(clip.jobs.len());
        }
        if rng.one_in(60) {
            break Ok(());
        }
    };
    report.jobs += submitted as u64;
    report.failed_jobs += session.failed_jobs() as u64;
    let longest = session.longest();
    let longest = longest.call.max(longest.wait).as_millis();
    report.longest_ms = report.longest_ms.max(u64::try_from(longest).unwrap_or(u64::MAX));
    result
}

/// Plays a stream through the stateful node. The daemon may give it nonsense, or nothing for long.
fn one_stream(
    (coded_format, units): &(u32, Vec<Vec<u8>>),
    rng: &mut Random,
    report: &mut ClientReport,
    over: &AtomicBool,
) -> Result<(), ClientError> {
    let Ok(node) = find_stream(*coded_format) else {
        return Ok(());
    };
    let settings = Settings {
        patience: Duration::from_secs(3),
        ..Settings::default()
    };
    let mut stream = Stream::open(&node, *coded_format, settings)?;
    report.sessions += 1;
    let mut next = 0;
    let result = loop {
        if over.load(Ordering::Relaxed) || next == 200 {
            break Ok(());
        }
        let result = turn(&mut stream, units, &mut next, rng, report);
        match result {
            Ok(()) => {}
            Err(ClientError::Call { .. }) => break result,
            // Nonsense, or nothing.
            Err(_) => break Ok(()),
        }
    };
    report.failed_jobs += stream.lost();
    let longest = stream.device().longest().call.as_millis();
    report.longest_ms = report.longest_ms.max(u64::try_from(longest).unwrap_or(u64::MAX));
    result
}

fn turn(
    stream: &mut Stream,
    units: &[Vec<u8>],
    next: &mut usize,
    rng: &mut Random,
    report: &mut ClientReport,
) -> Result<(), ClientError> {
    while stream.feed(&units[*next % units.len()], *next as u64 * 1_000_000)? {
        *next += 1;
    }
    match rng.below(60) {
        0 => stream.seek()?,
        1 if stream.streams() => stream.set_up()?,
        2 => ignore_busy(stream.start())?,
        3..9 => ignore_busy(stream.stop())?,
        _ => {}
    }
    match stream.turn()? {
        Turn::NewFormat => stream.set_up(),
        Turn::Last | Turn::End | Turn::Picture(_, true) => {
            ignore_busy(stream.start())?;
            stream.queue_all()
        }
        Turn::Coded => {
            report.jobs += 1;
            Ok(())
        }
        Turn::Picture(..) => Ok(()),
    }
}

/// A drain is on its way.
fn ignore_busy(result: Result<(), ClientError>) -> Result<(), ClientError> {
    match result {
        Err(error) if error.errno() == Some(Errno::BUSY) => Ok(()),
        other => other,
    }
}
