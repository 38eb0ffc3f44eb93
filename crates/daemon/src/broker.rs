// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker: registers the device and gets a worker for every session that wants one, from a fork server.
//!
//! It holds the control fd, the fork server's socket and, for each worker, a pidfd and the reading end of the log
//! pipe; a session fd only until a worker has it. Nothing that a worker or the fork server does can make it
//! wait: it reads only what poll() reports, and sends only what a socket takes at once.

mod child;
mod forker;
mod relay;
mod restarts;
mod traces;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use daedalus_uapi::fd::ControlFd;
use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::{CODECS_V1, EVENT_WORKER_WANTED, Event, Hello, MIN_VERSION, VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Resource, Rlimit, Signal, getpriority_process, getrlimit, setpriority_process, setrlimit,
};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::cli::{BrokerOptions, Codec};
use crate::config::{self, Config, Offer};
use crate::hardware;
use crate::sandbox;
use crate::sandbox::privileges;
use child::{Child, State};
pub(crate) use child::{PROGRAM, worker_command};
use forker::{Forker, Outcome};
use restarts::{Restarts, Verdict};
use traces::Traces;

/// Events that are read at once.
const EVENTS: usize = 16;
/// Time until descriptors are asked for again that were not to be had.
const SHORT: Duration = Duration::from_millis(50);
/// How long workers may take to end by themselves when the broker stops.
const GRACE: Duration = Duration::from_millis(500);
/// How long the kernel may take to end a killed worker.
const KILL: Duration = Duration::from_millis(300);
/// The exit status that asks for another broker: EX_TEMPFAIL of sysexits.h. The service's unit knows it.
const REPLACE: u8 = 75;

/// Serves the device until a signal says to stop.
///
/// # Errors
/// If the device cannot be opened, registered or read; the message says what to do about it.
pub(crate) fn run(options: &BrokerOptions) -> Result<ExitCode> {
    let signals = Signals::install().context("installing signal handlers")?;
    let Some(codecs) = codecs(options)? else {
        // No failure: there is nothing to do, and systemd is not to try again.
        notify(&NotifyState::Ready);
        return Ok(ExitCode::SUCCESS);
    };
    sandbox::check(options.sandbox.mode)?;
    let user = privileges::worker_user(options.worker_user.as_deref())?;
    let traces = options.record.as_deref().map(Traces::open).transpose()?;
    let control = register(options, codecs)?;
    prioritise(options.nice);
    raise_descriptors();
    // Nothing but opening the device may have needed more.
    privileges::keep_for_broker(user).context("dropping privileges")?;
    let shown = user.map_or("the broker's".to_owned(), |user| user.to_string());
    tracing::info!(worker_user = shown, sandbox = ?options.sandbox.mode, "confining workers");
    let forker = Forker::start(options, user).context("starting the fork server")?;
    let mut broker = Broker {
        control,
        options,
        forker,
        traces,
        children: Vec::new(),
        restarts: Restarts::default(),
        short: Vec::new(),
        outcomes: Vec::new(),
    };
    notify(&NotifyState::Ready);
    let result = broker.serve(&signals);
    notify(&NotifyState::Stopping);
    let replaced = matches!(result, Ok(End::Replaced));
    broker.stop(replaced);
    result.map(|_| {
        if replaced {
            ExitCode::from(REPLACE)
        } else {
            ExitCode::SUCCESS
        }
    })
}

/// Why a broker ends.
#[derive(Debug)]
enum End {
    /// There is to be none.
    Stopped,
    /// Another one follows: sessions keep their workers.
    Replaced,
}

/// Streams that become readable at signals.
struct Signals {
    stop: UnixStream,
    replace: UnixStream,
    /// A child has ended. What has is found out by waiting, so the bytes only wake the broker.
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

    /// Forgets the ends of children that were reported.
    fn clear_child(&self) {
        while matches!(read(&self.child, &mut [0; 64]), Ok(1..)) {}
    }
}

/// The `CODEC_*` bits to register; `None` if others decode all that could be offered.
fn codecs(options: &BrokerOptions) -> Result<Option<u32>> {
    let config = Config::read(options.config.as_deref())?;
    let served = daedalus_engine::served_codecs();
    if served == 0 {
        bail!(
            "the installed libraries decode none of {}",
            Codec::names(u32::MAX)
        );
    }
    if served != Codec::all() {
        tracing::warn!("the installed libraries do not decode {}", Codec::names(!served));
    }
    let named = options.codecs.iter().fold(0, |set, codec| set | codec.bit());
    let offer = if named == 0 {
        config.codecs
    } else {
        Offer::These(named)
    };
    match offer {
        Offer::All => Ok(Some(served)),
        Offer::These(wanted) if wanted & served == 0 => bail!(
            "codecs: the installed libraries do not decode {}",
            Codec::names(wanted)
        ),
        Offer::These(wanted) => Ok(Some(wanted & served)),
        Offer::Auto => {
            let others = match &options.hardware {
                Some(file) => hardware::read(file)?,
                None => hardware::look(),
            };
            let (elsewhere, who) = hardware::union(&others);
            let left = served & !elsewhere;
            if left == 0 {
                tracing::info!(
                    "nothing is offered: this machine decodes {who}; 'codecs = all' in {} offers all",
                    config::PATH
                );
            } else if elsewhere != 0 {
                tracing::info!("left to other devices: {who}");
            }
            Ok((left != 0).then_some(left))
        }
    }
}

/// Opens the control device and becomes its daemon.
fn register(options: &BrokerOptions, codecs: u32) -> Result<ControlFd> {
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
            "the loaded module speaks none of the versions {MIN_VERSION} to {VERSION} of the protocol: it is of a \
             release that is too old or too new; reload it, or install the daemon of its release"
        ),
        Errno::NOTTY => anyhow!("{path} is no control device of the module"),
        other => anyhow!("hello: {other}"),
    })?;
    let name = concat!("daedalusd ", env!("CARGO_PKG_VERSION"));
    // A module of version 1 refuses everything if it does not know one of them.
    let known = if agreed.version < 2 {
        codecs & CODECS_V1
    } else {
        codecs
    };
    let taken = control
        .register(name, known, agreed.version)
        .map_err(|error| match error {
            Errno::BUSY => anyhow!("another daemon serves the device already; stop it first"),
            Errno::INVAL => anyhow!(
                "register: {error}: the loaded module knows none of {}",
                Codec::names(codecs)
            ),
            other => anyhow!("register: {other}"),
        })?;
    if taken != codecs {
        tracing::warn!(
            "not offered, for the loaded module does not know it: {}",
            Codec::names(codecs & !taken)
        );
    }
    tracing::info!(version = agreed.version, codecs = %Codec::names(taken), "serving");
    Ok(control)
}

/// Has this process, and what it starts, go before others of the machine.
fn prioritise(nice: i32) {
    // The service has it from systemd.
    if getpriority_process(None).is_ok_and(|own| own <= nice) {
        return;
    }
    if let Err(error) = setpriority_process(None, nice) {
        tracing::debug!(nice, %error, "the priority stays as it is");
    }
}

/// Lets this process have as many descriptors as it may: two for each worker, four for each that is wanted.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of descriptors stays");
    }
}

/// Tells systemd, if it runs the broker.
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
    /// Events of sessions that got no descriptors, of which the system or this process had none left.
    short: Vec<Event>,
    /// What the forker has to say; empty but while [`Broker::tend`] runs.
    outcomes: Vec<Outcome>,
}

impl Broker<'_> {
    /// Starts and reaps workers until a signal says to end.
    fn serve(&mut self, signals: &Signals) -> Result<End> {
        loop {
            let ready = self.wait(signals).context("poll")?;
            if ready.stop {
                tracing::info!("stopping");
                return Ok(End::Stopped);
            }
            if ready.replace {
                return Ok(End::Replaced);
            }
            signals.clear_child();
            if ready.events {
                self.events()?;
            }
            for event in std::mem::take(&mut self.short) {
                self.start(event);
            }
            self.tend();
        }
    }

    /// Waits until something is to be done.
    fn wait(&self, signals: &Signals) -> rustix::io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(&signals.stop, PollFlags::IN),
            PollFd::new(&signals.replace, PollFlags::IN),
            PollFd::new(&self.control, PollFlags::IN),
            PollFd::new(&signals.child, PollFlags::IN),
        ];
        let now = Instant::now();
        let mut wake = self.forker.wake();
        if !self.short.is_empty() {
            wake = Some(wake.map_or(now + SHORT, |wake| wake.min(now + SHORT)));
        }
        for child in &self.children {
            fds.push(PollFd::new(child.pidfd(), PollFlags::IN));
            match child.log().next_read(now) {
                Some(end) if end > now => wake = Some(wake.map_or(end, |wake| wake.min(end))),
                Some(_) => fds.push(PollFd::new(child.log(), PollFlags::IN)),
                None => {}
            }
        }
        let socket = self.forker.socket();
        fds.extend(socket.map(|socket| PollFd::new(socket, PollFlags::IN)));
        let timeout = wake.map(|end| timespec(end.saturating_duration_since(now)));
        retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            stop: ready(0),
            replace: ready(1),
            events: ready(2),
        })
    }

    /// Passes the workers' logs on, reaps those that have ended, and lets the forker get others.
    fn tend(&mut self) {
        let now = Instant::now();
        let (restarts, forker, outcomes) = (&mut self.restarts, &mut self.forker, &mut self.outcomes);
        self.children.retain_mut(|child| match child.tend() {
            State::Running => true,
            State::Ended => false,
            State::Crashed => {
                forker.renew(child.server(), now, outcomes);
                false
            }
            State::Killed => {
                restarts.excuse(child.session());
                false
            }
        });
        forker.tend(now, outcomes);
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

    fn events(&mut self) -> Result<()> {
        let mut buffer = [Event::default(); EVENTS];
        let events = self.control.read_events(&mut buffer).context("reading events")?;
        for event in events {
            match event.kind {
                EVENT_WORKER_WANTED => self.worker_wanted(event),
                kind => tracing::debug!(kind, "event of an unknown type ignored"),
            }
        }
        Ok(())
    }

    fn worker_wanted(&mut self, event: &Event) {
        let session = event.session;
        match self.restarts.request(session, Instant::now()) {
            Verdict::Start => {}
            Verdict::Refuse => {
                tracing::error!(
                    session,
                    client_pid = event.client_pid,
                    lost = event.restarts,
                    "the session's workers keep failing; none is started any more, so its jobs fail"
                );
                return;
            }
            Verdict::Refused => return,
            Verdict::Busy => {
                tracing::error!(
                    session,
                    client_pid = event.client_pid,
                    "too many workers were started lately; the session gets none"
                );
                return;
            }
        }
        self.start(*event);
        if self.short.contains(event) {
            tracing::warn!(session, "no descriptors are left; the session waits");
        }
    }

    /// Takes the session's fd, which the forker keeps until a worker has it.
    fn start(&mut self, event: Event) {
        let session = event.session;
        // First, so that the session's fd is not taken in vain.
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let taken = pipe.and_then(|log| Ok((log, self.control.session_fd(session)?)));
        match taken {
            Ok((log, fd)) => {
                tracing::info!(
                    session,
                    client_pid = event.client_pid,
                    codec = %fourcc::name(event.coded_format),
                    lost = event.restarts,
                    "worker wanted"
                );
                let trace = self.trace(&event);
                self.forker.want(session, fd, log, trace, Instant::now());
            }
            Err(Errno::NOENT) => tracing::debug!(session, "is over, or has a worker, already"),
            // The module does not ask again.
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                tracing::debug!(session, %error, "no session fd yet");
                self.short.push(event);
            }
            Err(error) => tracing::error!(session, %error, "no session fd"),
        }
    }

    /// The file to which the event's worker is to record. Without one the session plays all the same.
    fn trace(&self, event: &Event) -> Option<File> {
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

    /// Unregisters, and ends the workers unless they are to play on. No fd of the module is left in
    /// any of these processes afterwards, so the module can be removed.
    fn stop(self, replaced: bool) {
        let Self {
            control,
            options,
            forker,
            mut children,
            ..
        } = self;
        // First, so that the module starts nothing new for the sessions that are lost now.
        drop(control);
        drop(forker);
        if options.keep_workers || replaced {
            tracing::info!(workers = children.len(), "left running");
            return;
        }
        for (signal, time) in [(Signal::TERM, GRACE), (Signal::KILL, KILL)] {
            for child in &children {
                child.signal(signal);
            }
            let end = Instant::now() + time;
            while !children.is_empty() && wait_for_one(&children, end) {
                children.retain_mut(|child| child.tend() == State::Running);
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

/// What poll() reported.
struct Ready {
    stop: bool,
    replace: bool,
    events: bool,
}

/// Waits until one of the processes has ended. False: none has until `end`.
fn wait_for_one(children: &[Child], end: Instant) -> bool {
    let mut fds: Vec<_> = children
        .iter()
        .map(|child| PollFd::from_borrowed_fd(child.pidfd().as_fd(), PollFlags::IN))
        .collect();
    let left = |end: Instant| timespec(end.saturating_duration_since(Instant::now()));
    retry_on_intr(|| poll(&mut fds, Some(&left(end)))).is_ok_and(|ready| ready > 0)
}

/// Rounded up to a millisecond, so that waiting for a moment never ends just before it.
fn timespec(time: Duration) -> Timespec {
    Timespec::try_from(time + Duration::from_millis(1)).unwrap_or(Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    })
}
