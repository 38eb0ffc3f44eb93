// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker: registers the device and gets each session a worker from the fork server.
//!
//! It holds the control fd, the fork server's socket and, for each worker, a pidfd and the reading end of the
//! log pipe. It holds a session fd only until a worker has it. Neither a worker nor the fork server can make
//! it wait: it reads only after poll() has reported data, and it never sends more than a socket takes at
//! once. While nothing happens it sleeps without a timeout.

mod child;
mod forker;
mod offer;
pub(crate) mod options;
mod relay;
mod restarts;
mod traces;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use daedalus_uapi::codec::CodecSet;
use daedalus_uapi::fd::{ControlFd, FaceCodecs};
use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::{
    CODECS_V1, EVENT_WORKER_WANTED, Event, FACE_STATEFUL, Hello, MIN_VERSION, VERSION,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Resource, Rlimit, Signal, getpriority_process, getrlimit, setpriority_process, setrlimit,
};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::sandbox;
use crate::sandbox::privileges;
use child::{Child, State};
use forker::{Forker, Outcome};
use offer::CodecSets;
use options::BrokerOptions;
use restarts::{Decision, Restarts};
use traces::Traces;

/// The most events that are read at once.
const MAX_EVENTS: usize = 16;
/// Time until a session that got no descriptors is tried again.
const DESCRIPTOR_RETRY: Duration = Duration::from_millis(50);
/// Time that workers have to end by themselves when the broker stops.
const TERM_TIMEOUT: Duration = Duration::from_millis(500);
/// Time that the kernel has to end killed workers.
const KILL_TIMEOUT: Duration = Duration::from_millis(300);
/// The exit status that asks for another broker: EX_TEMPFAIL of sysexits.h. The service's unit knows it.
const EXIT_REPLACED: u8 = 75;

/// Serves the device until a signal says to stop.
///
/// # Errors
/// If the device cannot be opened, registered or read; the message says what to do about it.
pub(crate) fn run(options: &BrokerOptions) -> Result<ExitCode> {
    let signals = Signals::install().context("installing signal handlers")?;
    let Some(codecs) = offer::codec_sets(options)? else {
        // This is no failure, and systemd must not try again.
        notify(&NotifyState::Ready);
        return Ok(ExitCode::SUCCESS);
    };
    sandbox::check(options.worker.sandbox.mode)?;
    let user = privileges::worker_user(options.worker_user.as_deref())?;
    let traces = options.record.as_deref().map(Traces::open).transpose()?;
    let control = register(options, codecs)?;
    raise_priority(options.nice);
    raise_descriptor_limit();
    // Only opening the device may need more privileges.
    privileges::keep_for_broker(user).context("dropping privileges")?;
    let worker_user = user.map_or("the broker's".to_owned(), |user| user.to_string());
    tracing::info!(worker_user, sandbox = ?options.worker.sandbox.mode, "confining workers");
    let forker = Forker::start(&options.worker, user).context("starting the fork server")?;
    let mut broker = Broker {
        control,
        options,
        forker,
        traces,
        children: Vec::new(),
        restarts: Restarts::default(),
        short_of_descriptors: Vec::new(),
        outcomes: Vec::new(),
    };
    notify(&NotifyState::Ready);
    let result = broker.serve(&signals);
    notify(&NotifyState::Stopping);
    let replaced = matches!(result, Ok(Shutdown::Replaced));
    broker.stop(replaced);
    result.map(|_| {
        if replaced {
            ExitCode::from(EXIT_REPLACED)
        } else {
            ExitCode::SUCCESS
        }
    })
}

/// The reason for the broker's end.
#[derive(Debug)]
enum Shutdown {
    /// No broker follows.
    Stopped,
    /// Another broker follows, and sessions keep their workers.
    Replaced,
}

/// Streams that become readable at signals.
struct Signals {
    stop: UnixStream,
    replace: UnixStream,
    /// A child has ended. The bytes only wake the broker; waitid() tells which child it was.
    child: UnixStream,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        let stream = |signals: &[i32]| -> std::io::Result<UnixStream> {
            let (read, write) = UnixStream::pair()?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
            }
            Ok(read)
        };
        Ok(Self {
            stop: stream(&[SIGTERM, SIGINT, SIGHUP])?,
            replace: stream(&[SIGUSR1])?,
            child: {
                let stream = stream(&[SIGCHLD])?;
                stream.set_nonblocking(true)?;
                stream
            },
        })
    }

    /// Discards the bytes of [`Signals::child`].
    fn clear_child(&self) {
        while matches!(read(&self.child, &mut [0; 64]), Ok(1..)) {}
    }
}

/// Opens the control device and becomes its daemon.
fn register(options: &BrokerOptions, codecs: CodecSets) -> Result<ControlFd> {
    let path = options.device.display();
    let control = ControlFd::open(&options.device).map_err(|error| match error {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            anyhow!("{path}: {error}: the module is not loaded; run 'modprobe daedalus_v4l2'")
        }
        Errno::ACCESS | Errno::PERM => {
            anyhow!("{path}: {error}: the broker runs as root or as a user who may write to this file")
        }
        other => anyhow!("{path}: {other}"),
    })?;
    let offer = Hello {
        version: VERSION,
        min_version: MIN_VERSION,
        ..Hello::default()
    };
    let agreed = control.hello(offer).map_err(|error| match error {
        Errno::PROTO => anyhow!(
            "the loaded module speaks none of the versions {MIN_VERSION} to {VERSION} of the protocol: it \
             is of a release that is too old or too new; reload it, or install the daemon of its release"
        ),
        Errno::NOTTY => anyhow!("{path} is no control device of the module"),
        other => anyhow!("hello: {other}"),
    })?;
    let name = concat!("daedalusd ", env!("CARGO_PKG_VERSION"));
    // A module of version 1 refuses the registration if it does not know one of the codecs.
    let mut requested = FaceCodecs {
        stateless: codecs.stateless.bits(),
        stateful: codecs.stateful.bits(),
    };
    if agreed.version < 2 {
        requested.stateless &= CODECS_V1;
    }
    if agreed.faces & FACE_STATEFUL == 0 && requested.stateful != 0 {
        tracing::warn!("the loaded module is of an earlier release, which has no stateful face");
        requested.stateful = 0;
    }
    let accepted = control
        .register(name, requested, agreed.version)
        .map_err(|error| match error {
            Errno::BUSY => anyhow!("another daemon serves the device already; stop it first"),
            Errno::INVAL => anyhow!(
                "register: {error}: the loaded module knows none of {}",
                codecs.stateless.union(codecs.stateful)
            ),
            other => anyhow!("register: {other}"),
        })?;
    let accepted = CodecSets {
        stateless: CodecSet::from_bits(accepted.stateless),
        stateful: CodecSet::from_bits(accepted.stateful),
    };
    let unknown = codecs.stateless.difference(accepted.stateless);
    if !unknown.is_empty() {
        tracing::warn!("not offered, for the loaded module does not know it: {unknown}");
    }
    if agreed.version < VERSION {
        tracing::warn!(
            version = agreed.version,
            "the loaded module is of an earlier release; it is served as it is until it is reloaded"
        );
    }
    tracing::info!(
        version = agreed.version,
        codecs = %accepted.stateless,
        stateful = %accepted.stateful,
        "serving"
    );
    Ok(control)
}

/// Raises the scheduling priority of this process and its children.
fn raise_priority(nice: i32) {
    // In the service systemd has set it.
    if getpriority_process(None).is_ok_and(|own| own <= nice) {
        return;
    }
    if let Err(error) = setpriority_process(None, nice) {
        tracing::debug!(nice, %error, "the priority stays as it is");
    }
}

/// Raises the limit of open descriptors as far as allowed. The broker holds two for each worker, and four for
/// each session that waits for one.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of descriptors stays");
    }
}

/// Notifies systemd, if it runs the broker.
fn notify(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::warn!(%error, "systemd is not told");
    }
}

struct Broker<'o> {
    control: ControlFd,
    options: &'o BrokerOptions,
    forker: Forker<'o>,
    traces: Option<Traces>,
    children: Vec<Child>,
    restarts: Restarts,
    /// Requests of sessions for which the system or this process had no descriptors left.
    short_of_descriptors: Vec<Event>,
    /// The forker's outcomes; empty except in [`Broker::update`].
    outcomes: Vec<Outcome>,
}

impl Broker<'_> {
    /// Starts and reaps workers until a signal ends the broker.
    fn serve(&mut self, signals: &Signals) -> Result<Shutdown> {
        loop {
            let ready = self.wait(signals).context("poll")?;
            if ready.stop {
                tracing::info!("stopping");
                return Ok(Shutdown::Stopped);
            }
            if ready.replace {
                return Ok(Shutdown::Replaced);
            }
            signals.clear_child();
            if ready.events {
                self.handle_events()?;
            }
            for event in std::mem::take(&mut self.short_of_descriptors) {
                self.request_worker(event);
            }
            self.update();
        }
    }

    /// Waits until a descriptor is ready or a deadline has passed.
    fn wait(&self, signals: &Signals) -> rustix::io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(&signals.stop, PollFlags::IN),
            PollFd::new(&signals.replace, PollFlags::IN),
            PollFd::new(&self.control, PollFlags::IN),
            PollFd::new(&signals.child, PollFlags::IN),
        ];
        let now = Instant::now();
        let mut deadlines: Vec<Instant> = self.forker.deadline().into_iter().collect();
        if !self.short_of_descriptors.is_empty() {
            deadlines.push(now + DESCRIPTOR_RETRY);
        }
        for child in &self.children {
            fds.push(PollFd::new(child.pidfd(), PollFlags::IN));
            match child.log().next_read(now) {
                Some(end) if end > now => deadlines.push(end),
                Some(_) => fds.push(PollFd::new(child.log(), PollFlags::IN)),
                None => {}
            }
        }
        let socket = self.forker.socket();
        fds.extend(socket.map(|socket| PollFd::new(socket, PollFlags::IN)));
        let first = deadlines.into_iter().min();
        let timeout = first.map(|deadline| timespec(deadline.saturating_duration_since(now)));
        retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            stop: ready(0),
            replace: ready(1),
            events: ready(2),
        })
    }

    /// Passes on the workers' logs, reaps workers that have ended, and lets the forker start others.
    fn update(&mut self) {
        let now = Instant::now();
        let (restarts, forker, outcomes) = (&mut self.restarts, &mut self.forker, &mut self.outcomes);
        self.children.retain_mut(|child| match child.update() {
            State::Running => true,
            State::Ended => false,
            State::Crashed => {
                forker.retire(child.server(), now, outcomes);
                false
            }
            State::Killed => {
                restarts.forget_last(child.session());
                false
            }
        });
        forker.update(now, outcomes);
        for outcome in outcomes.drain(..) {
            match outcome {
                Outcome::Started(child) => {
                    tracing::info!(
                        session = child.session(),
                        worker_pid = child.id(),
                        "worker started"
                    );
                    self.children.push(child);
                }
                Outcome::Failed(session) => tracing::error!(session, "no worker was started"),
            }
        }
    }

    fn handle_events(&mut self) -> Result<()> {
        let mut buffer = [Event::default(); MAX_EVENTS];
        let events = self.control.read_events(&mut buffer).context("reading events")?;
        for event in events {
            match event.kind {
                EVENT_WORKER_WANTED => self.handle_request(event),
                kind => tracing::debug!(kind, "event of an unknown type ignored"),
            }
        }
        Ok(())
    }

    /// Gets a worker for the event's session, unless it or all sessions together have had too many.
    fn handle_request(&mut self, event: &Event) {
        let session = event.session;
        match self.restarts.decide(session, Instant::now()) {
            Decision::Start => {}
            Decision::Refuse => {
                tracing::error!(
                    session,
                    client_pid = event.client_pid,
                    lost = event.restarts,
                    "the session's workers keep failing; none is started any more, so its jobs fail"
                );
                return;
            }
            Decision::RefuseAgain => return,
            Decision::Overload => {
                tracing::error!(
                    session,
                    client_pid = event.client_pid,
                    "too many workers were started lately; the session gets none"
                );
                return;
            }
        }
        self.request_worker(*event);
        if self.short_of_descriptors.contains(event) {
            tracing::warn!(session, "no descriptors are left; the session waits");
        }
    }

    /// Gets the session's fd and passes it to the forker.
    fn request_worker(&mut self, event: Event) {
        let session = event.session;
        // The pipe comes first: without it the session's fd would be of no use.
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let descriptors = pipe.and_then(|log| Ok((log, self.control.session_fd(session)?)));
        match descriptors {
            Ok((log, fd)) => {
                tracing::info!(
                    session,
                    client_pid = event.client_pid,
                    codec = %fourcc::name(event.coded_format),
                    lost = event.restarts,
                    "worker wanted"
                );
                let trace = self.create_trace(&event);
                self.forker.enqueue(session, fd, log, trace, Instant::now());
            }
            Err(Errno::NOENT) => tracing::debug!(session, "is over, or has a worker, already"),
            // The module does not repeat the event.
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                tracing::debug!(session, %error, "no session fd yet");
                self.short_of_descriptors.push(event);
            }
            Err(error) => tracing::error!(session, %error, "no session fd"),
        }
    }

    /// Creates the file to which the event's worker records. If that fails, the session plays without it.
    fn create_trace(&self, event: &Event) -> Option<File> {
        let session = event.session;
        match self.traces.as_ref()?.create(event) {
            Ok((file, name)) => {
                tracing::info!(session, trace = name, "recording");
                Some(file)
            }
            Err(error) => {
                tracing::error!(session, "not recorded: {error:#}");
                None
            }
        }
    }

    /// Unregisters. Ends the workers, unless another broker follows or the options say otherwise; then no
    /// process has an fd of the module any more, so the module can be removed.
    fn stop(self, replaced: bool) {
        let Self {
            control,
            options,
            forker,
            mut children,
            ..
        } = self;
        // The module must not ask for new workers of the sessions that lose theirs now.
        drop(control);
        drop(forker);
        if options.keep_workers || replaced {
            tracing::info!(workers = children.len(), "left running");
            return;
        }
        for (signal, time) in [(Signal::TERM, TERM_TIMEOUT), (Signal::KILL, KILL_TIMEOUT)] {
            for child in &children {
                child.signal(signal);
            }
            let end = Instant::now() + time;
            while !children.is_empty() && wait_for_one(&children, end) {
                children.retain_mut(|child| child.update() == State::Running);
            }
        }
        for child in &children {
            tracing::error!(
                session = child.session(),
                worker_pid = child.id(),
                "the worker does not end"
            );
        }
    }
}

/// The events that poll() reported.
struct Ready {
    stop: bool,
    replace: bool,
    events: bool,
}

/// Waits until one of the processes has ended. Returns false if none has at `end`.
fn wait_for_one(children: &[Child], end: Instant) -> bool {
    let mut fds: Vec<_> = children
        .iter()
        .map(|child| PollFd::from_borrowed_fd(child.pidfd().as_fd(), PollFlags::IN))
        .collect();
    let left = |end: Instant| timespec(end.saturating_duration_since(Instant::now()));
    retry_on_intr(|| poll(&mut fds, Some(&left(end)))).is_ok_and(|ready| ready > 0)
}

/// Converts a time, rounded up by a millisecond, so that poll() does not return just before a deadline.
fn timespec(time: Duration) -> Timespec {
    Timespec::try_from(time + Duration::from_millis(1)).unwrap_or(Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    })
}
