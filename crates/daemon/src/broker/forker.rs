// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker's side of the fork server: keeps the sessions that want a worker, asks for the workers, takes the answers.
//!
//! Nothing here waits for a server. A session's descriptors are kept until a worker runs for it, so whatever becomes
//! of a server, the next one is asked again, and the module notices nothing. A server is killed and replaced
//! - at once if one of its workers crashed, for its later workers would have the same addresses;
//! - if it ends, breaks the protocol or has no descriptors left;
//! - if it answers nothing for a share of the time that the module gives a session to get a worker, whatever holds
//!   it up: it may be stopped.
//!
//! A worker does nothing before its server has answered for it (see [`crate::fork_server`]). So a session whose request
//! a killed server has not answered has no worker, and the answers that it did send can all be read after its end.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, waitid, waitpgid,
};

use super::child::{Child, PROGRAM, worker_command};
use super::relay::Relay;
use crate::cli::BrokerOptions;
use crate::fork_server::{Answer, Request};
use crate::sandbox::privileges::User;

/// How many requests a server has before it answers. They are few, so that its socket takes them without delay,
/// and that a server which is replaced has started little.
const IN_FLIGHT: usize = 4;
/// Time between two starts of servers: what starts them may be a client that crashes its workers.
const PAUSE: Duration = Duration::from_millis(200);
/// Time until a request that failed is made again.
const RETRY: Duration = Duration::from_millis(50);
/// How often waiting times double while servers fail one after the other.
const DOUBLINGS: u32 = 4;
/// The module's parameter `worker_wait_ms`, and what it is by default.
const WORKER_WAIT_FILE: &str = "/sys/module/daedalus_v4l2/parameters/worker_wait_ms";
const WORKER_WAIT: Duration = Duration::from_millis(500);

/// A session that waits for a worker.
#[derive(Debug)]
struct Wanted {
    request: Request,
    log: Relay,
    since: Instant,
    /// A request was refused, or no server could take it.
    failed: bool,
}

/// A fork server that runs.
#[derive(Debug)]
struct Server {
    /// How many were started before it.
    number: u64,
    /// Its process group, too.
    pid: Pid,
    socket: OwnedFd,
    /// How many of the oldest [`Forker::wanted`] it was asked for.
    asked: usize,
    ready: bool,
    /// When it was started, answered last, or was asked while it had nothing to do: the latest of these.
    since: Instant,
}

/// The end of a session's wait.
pub(crate) enum Outcome {
    Started(Child),
    /// The session gets no worker this time; the module asks again.
    Failed(u64),
}

/// Gets workers from a fork server, and the server where there is none.
#[derive(Debug)]
pub(crate) struct Forker<'o> {
    options: &'o BrokerOptions,
    user: Option<User>,
    program: PathBuf,
    server: Option<Server>,
    wanted: VecDeque<Wanted>,
    /// Process groups of servers that were killed and are not reaped.
    killed: Vec<Pid>,
    /// The number of the next server.
    number: u64,
    /// When the last server was started, and how long the last one took that is, or was, ready.
    started: Instant,
    took: Duration,
    /// Servers that failed since one has answered.
    failures: u32,
    /// No request is made before.
    retry: Option<Instant>,
    /// The module's `worker_wait_ms`.
    worker_wait: Duration,
}

impl<'o> Forker<'o> {
    /// Starts the first server.
    pub(crate) fn start(options: &'o BrokerOptions, user: Option<User>) -> io::Result<Self> {
        let worker_wait = std::fs::read_to_string(WORKER_WAIT_FILE)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map_or(WORKER_WAIT, Duration::from_millis);
        Self::with_program(options, user, Path::new(PROGRAM), worker_wait)
    }

    /// Starts the first server from `program`, which is `daedalusd`.
    fn with_program(
        options: &'o BrokerOptions,
        user: Option<User>,
        program: &Path,
        worker_wait: Duration,
    ) -> io::Result<Self> {
        // Workers become this process's children when what forked them has ended.
        rustix::process::set_child_subreaper(Some(Pid::INIT))?;
        let now = Instant::now();
        let mut forker = Self {
            options,
            user,
            program: program.to_owned(),
            server: None,
            wanted: VecDeque::new(),
            killed: Vec::new(),
            number: 0,
            started: now,
            took: Duration::ZERO,
            failures: 0,
            retry: None,
            worker_wait,
        };
        forker.server = Some(forker.spawn(now)?);
        Ok(forker)
    }

    /// Returns the server's socket, which is readable when there is an answer.
    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        self.server.as_ref().map(|server| &server.socket)
    }

    /// Returns when [`Forker::tend`] has something to do, if nothing is readable before.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let due = match &self.server {
            Some(server) => self.deadline(server),
            None => Some(self.next_start()),
        };
        let unasked = self.wanted.len() > self.server.as_ref().map_or(0, |server| server.asked);
        let retry = self.retry.filter(|_| unasked);
        due.into_iter().chain(retry).min()
    }

    /// Kills the server with this number, one of whose workers crashed: later workers are not to have its addresses.
    /// [`Forker::tend`] starts another one.
    pub(crate) fn renew(&mut self, number: u64, now: Instant, outcomes: &mut Vec<Outcome>) {
        if let Some(server) = self.server.take_if(|server| server.number == number) {
            self.end(server, now, outcomes);
        }
    }

    /// Asks for a worker of `session`, whose fd it closes when there is one, as it does the file to which the worker is
    /// to record. `log` is a pipe that does not block: a broker that does not read it costs the worker log lines, not
    /// time, and a broker that is gone costs it nothing at all.
    pub(crate) fn want(
        &mut self,
        session: u64,
        fd: OwnedFd,
        log: (OwnedFd, OwnedFd),
        trace: Option<File>,
        now: Instant,
    ) {
        let (read, write) = log;
        self.wanted.push_back(Wanted {
            request: Request {
                session,
                fd,
                log: write,
                trace: trace.map(OwnedFd::from),
            },
            log: Relay::new(session, read),
            since: now,
            failed: false,
        });
    }

    /// Takes the answers that there are, asks for workers, and replaces a server that is of no use.
    pub(crate) fn tend(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        self.take_answers(now, outcomes);
        self.reap(now, outcomes);
        let late = |server: &Server| self.deadline(server).is_some_and(|due| due <= now);
        if self.server.as_ref().is_some_and(late) {
            self.fail("it does not answer", now, outcomes);
        }
        self.give_up(now, outcomes);
        if self.server.is_none() && self.next_start() <= now {
            match self.spawn(now) {
                Ok(server) => self.server = Some(server),
                Err(error) => {
                    tracing::error!(%error, "no fork server can be started");
                    self.failures += 1;
                    self.wanted.iter_mut().for_each(|wanted| wanted.failed = true);
                }
            }
        }
        self.ask(now, outcomes);
    }

    /// Makes the requests that the server can take.
    fn ask(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        if self.retry.is_some_and(|retry| retry > now) {
            return;
        }
        self.retry = None;
        while let Some(server) = &mut self.server {
            let next = self.wanted.get(server.asked);
            let Some(wanted) = next.filter(|_| server.asked < IN_FLIGHT) else {
                return;
            };
            match wanted.request.send(&server.socket) {
                Ok(()) => {
                    if server.asked == 0 {
                        server.since = now;
                    }
                    server.asked += 1;
                }
                // Its deadline comes if it does not read.
                Err(Errno::AGAIN) if server.asked > 0 => return,
                Err(error) => self.fail(&error.to_string(), now, outcomes),
            }
        }
    }

    fn take_answers(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        while let Some(server) = &mut self.server {
            match Answer::receive(&server.socket) {
                Ok(Some(Answer::Ready)) => {
                    server.ready = true;
                    server.since = now;
                    self.took = now.saturating_duration_since(self.started);
                    tracing::debug!(took = ?self.took, "fork server ready");
                }
                Ok(Some(answer)) => {
                    let Some(left) = server.asked.checked_sub(1) else {
                        return self.fail("it answers what was not asked", now, outcomes);
                    };
                    server.asked = left;
                    server.since = now;
                    let number = server.number;
                    self.answered(answer, number, left, now, outcomes);
                }
                Err(Errno::AGAIN) => return,
                Ok(None) => self.fail("it has ended", now, outcomes),
                Err(error) => self.fail(&error.to_string(), now, outcomes),
            }
        }
    }

    /// Acts on the answer of the server with this number to the oldest request, behind which it was asked for `behind`
    /// others.
    fn answered(
        &mut self,
        answer: Answer,
        number: u64,
        behind: usize,
        now: Instant,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(mut wanted) = self.wanted.pop_front() else {
            return;
        };
        let errno = match answer {
            Answer::Started {
                pid,
                pidfd: Some(pidfd),
            } => {
                self.failures = 0;
                let session = wanted.request.session;
                let child = Child::new(session, number, pid, pidfd, wanted.log);
                outcomes.push(Outcome::Started(child));
                return;
            }
            Answer::Started { pid, pidfd: None } => {
                // This process has no descriptor left. The worker has not been reaped, so the pid is its own.
                let _ = kill_process(pid, Signal::KILL);
                Errno::MFILE
            }
            Answer::Failed(errno) => errno,
            Answer::Ready => Errno::PROTO,
        };
        tracing::warn!(session = wanted.request.session, error = %errno, "no worker can be forked; trying again");
        wanted.failed = true;
        self.retry = Some(now + RETRY);
        // In front of those that were not asked for.
        self.wanted.insert(behind.min(self.wanted.len()), wanted);
        if errno == Errno::MFILE {
            self.fail("it has no descriptors left", now, outcomes);
        }
    }

    /// Gives the server up. What it was asked for counts as failed once.
    fn fail(&mut self, why: &str, now: Instant, outcomes: &mut Vec<Outcome>) {
        let Some(server) = self.server.take() else {
            return;
        };
        tracing::warn!(
            pid = server.pid.as_raw_pid(),
            "the fork server is replaced: {why}"
        );
        self.failures += 1;
        let asked = self.wanted.iter_mut().take(server.asked);
        asked.for_each(|wanted| wanted.failed = true);
        self.end(server, now, outcomes);
    }

    /// Kills the server, with what it has forked and not answered for, and takes the answers that it has sent.
    fn end(&mut self, mut server: Server, now: Instant, outcomes: &mut Vec<Outcome>) {
        // It fails only if all of them have ended.
        let _ = kill_process_group(server.pid, Signal::KILL);
        self.killed.push(server.pid);
        while let Ok(Some(answer)) = Answer::receive(&server.socket) {
            let Some(left) = server.asked.checked_sub(1) else {
                return;
            };
            if !matches!(answer, Answer::Ready) {
                server.asked = left;
                self.answered(answer, server.number, left, now, outcomes);
            }
        }
    }

    /// Reaps servers that have ended, and processes that they forked and did not answer for.
    fn reap(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        if let Some(pid) = self.server.as_ref().map(|server| server.pid) {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if !matches!(waitid(WaitId::Pid(pid), look), Ok(None)) {
                self.fail("it has ended", now, outcomes);
            } else {
                reap_group(pid);
            }
        }
        // A group is there until its last member is reaped, so its number is not another's.
        self.killed.retain(|&group| reap_group(group));
    }

    /// Lets go of sessions that have waited for too long in vain.
    fn give_up(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        let asked = self.server.as_ref().map_or(0, |server| server.asked);
        let mut index = 0;
        self.wanted.retain(|wanted| {
            let waits = index < asked || !wanted.failed || now < wanted.since + 3 * self.worker_wait / 2;
            index += 1;
            if !waits {
                outcomes.push(Outcome::Failed(wanted.request.session));
            }
            waits
        });
    }

    /// Returns when the server counts as stopped; `None` if nothing was asked of it.
    fn deadline(&self, server: &Server) -> Option<Instant> {
        if server.asked == 0 {
            return None;
        }
        // A busy machine may keep a sound server from running for a while, and another one would start no faster
        // there: libraries are loaded at a start.
        let patience = if server.ready {
            2 * self.worker_wait / 3
        } else {
            (4 * self.worker_wait).max(2 * self.took)
        };
        Some(server.since + patience * (1 << self.failures.min(DOUBLINGS)))
    }

    /// Returns when another server may be started.
    fn next_start(&self) -> Instant {
        let doublings = if self.wanted.is_empty() {
            self.failures.min(DOUBLINGS)
        } else {
            0
        };
        self.started + PAUSE * (1 << doublings)
    }

    fn spawn(&mut self, now: Instant) -> io::Result<Server> {
        self.started = now;
        let (socket, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = worker_command(&self.program, self.user)
            .args(self.options.worker_arguments())
            .process_group(0)
            .stdin(Stdio::from(other))
            .stdout(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        let number = self.number;
        self.number += 1;
        tracing::debug!(pid = pid.as_raw_pid(), "fork server started");
        Ok(Server {
            number,
            pid,
            socket,
            asked: 0,
            ready: false,
            since: now,
        })
    }
}

/// Reaps those of a process group that have ended; false if none is left.
fn reap_group(group: Pid) -> bool {
    loop {
        match waitpgid(group, WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => tracing::debug!(pid = pid.as_raw_pid(), ?status, "reaped"),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

impl Drop for Server {
    /// Kills it, and what it has not answered for. Its workers play on.
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use clap::Parser;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::{Resource, Rlimit, prlimit};

    use super::*;
    use crate::cli::{Cli, Command};

    /// Time that a session may wait; more than the module's default, for machines that do much else meanwhile.
    const WAIT: Duration = Duration::from_secs(3);

    /// Returns the program, which cargo has built before this test.
    fn program() -> PathBuf {
        let own = std::env::current_exe().unwrap();
        let program = own.ancestors().nth(2).unwrap().join("daedalusd");
        assert!(
            program.exists(),
            "{}: cargo test -p daedalus-daemon builds it",
            program.display()
        );
        program
    }

    /// Returns a forker whose workers are real, and end at once, since they get no session fd.
    fn forker() -> Forker<'static> {
        let words = ["daedalusd", "broker"];
        let Command::Broker(options) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not a broker");
        };
        let options = Box::leak(Box::new(options));
        Forker::with_program(options, None, &program(), WAIT).unwrap()
    }

    fn want(forker: &mut Forker<'_>, session: u64) {
        let fd = File::open("/dev/null").unwrap().into();
        let log = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        forker.want(session, fd, log, None, Instant::now());
    }

    /// Tends until `done`, as the broker does; fails if that takes as long as a session may wait, or one call long.
    fn tend(forker: &mut Forker<'_>, done: impl Fn(&Forker<'_>, &[Outcome]) -> bool) -> Vec<Outcome> {
        let (begun, mut outcomes) = (Instant::now(), Vec::new());
        loop {
            let now = Instant::now();
            forker.tend(now, &mut outcomes);
            let took = now.elapsed();
            assert!(took < WAIT / 6, "the forker takes {took:?}");
            if done(forker, &outcomes) {
                return outcomes;
            }
            assert!(begun.elapsed() < WAIT, "{forker:?}");
            let wake = forker
                .wake()
                .map_or(WAIT, |wake| wake.saturating_duration_since(now));
            let mut fds: Vec<_> = forker
                .socket()
                .map(|socket| PollFd::new(socket, PollFlags::IN))
                .into_iter()
                .collect();
            // SIGCHLD wakes the broker.
            let timeout = Timespec::try_from(wake.min(WAIT / 50)).unwrap();
            poll(&mut fds, Some(&timeout)).unwrap();
        }
    }

    fn ready(forker: &mut Forker<'_>) -> Pid {
        tend(forker, |forker, _| {
            forker.server.as_ref().is_some_and(|server| server.ready)
        });
        forker.server.as_ref().unwrap().pid
    }

    /// Returns the sessions that got workers, in the order in which they did.
    fn started(outcomes: &[Outcome]) -> Vec<u64> {
        let child = |outcome: &Outcome| match outcome {
            Outcome::Started(child) => Some(child.session()),
            Outcome::Failed(_) => None,
        };
        outcomes.iter().filter_map(child).collect()
    }

    fn all(count: usize) -> impl Fn(&Forker<'_>, &[Outcome]) -> bool {
        move |_, outcomes| outcomes.len() == count
    }

    #[test]
    fn every_session_gets_a_worker_in_its_turn() {
        let mut forker = forker();
        (1..=20).for_each(|session| want(&mut forker, session));
        let outcomes = tend(&mut forker, all(20));
        assert_eq!(started(&outcomes), (1..=20).collect::<Vec<_>>());
        assert!(forker.wanted.is_empty() && forker.failures == 0);
    }

    #[test]
    fn a_stopped_server_is_replaced_in_time_and_blocks_nobody() {
        let mut forker = forker();
        let stopped = ready(&mut forker);
        kill_process(stopped, Signal::STOP).unwrap();
        (1..=300).for_each(|session| want(&mut forker, session));
        let outcomes = tend(&mut forker, |_, outcomes| !outcomes.is_empty());
        assert_eq!(started(&outcomes).first(), Some(&1));
        assert_ne!(forker.server.as_ref().unwrap().pid, stopped);
    }

    #[test]
    fn a_server_that_is_killed_loses_no_session_and_leaves_no_zombie() {
        let mut forker = forker();
        let killed = ready(&mut forker);
        kill_process(killed, Signal::STOP).unwrap();
        (1..=6).for_each(|session| want(&mut forker, session));
        tend(&mut forker, |forker, _| {
            forker
                .server
                .as_ref()
                .is_some_and(|server| server.asked == IN_FLIGHT)
        });
        kill_process(killed, Signal::KILL).unwrap();
        let outcomes = tend(&mut forker, |forker, outcomes| {
            outcomes.len() == 6 && forker.killed.is_empty()
        });
        assert_eq!(started(&outcomes), (1..=6).collect::<Vec<_>>());
        assert!(!Path::new(&format!("/proc/{}", killed.as_raw_pid())).exists());
    }

    #[test]
    fn a_server_whose_worker_crashed_gets_no_request_any_more() {
        let mut forker = forker();
        let tainted = ready(&mut forker);
        // It cannot answer, so that requests are waiting whatever the machine does.
        kill_process(tainted, Signal::STOP).unwrap();
        (1..=8).for_each(|session| want(&mut forker, session));
        let mut outcomes = Vec::new();
        forker.tend(Instant::now(), &mut outcomes);
        assert_eq!(forker.server.as_ref().unwrap().asked, IN_FLIGHT);
        let mut now = Instant::now();
        forker.renew(0, now, &mut outcomes);
        while forker.server.is_none() {
            now += PAUSE;
            forker.tend(now, &mut outcomes);
        }
        assert!(outcomes.is_empty());
        // Another worker of the first: those of the second do not have its addresses.
        forker.renew(0, now, &mut outcomes);
        assert_eq!(forker.server.as_ref().unwrap().number, 1);
        assert_ne!(forker.server.as_ref().unwrap().pid, tainted);
        let outcomes = tend(&mut forker, all(8));
        assert_eq!(started(&outcomes), (1..=8).collect::<Vec<_>>());
        assert_eq!(forker.failures, 0, "a crash is no fault of the server");
    }

    #[test]
    fn a_server_without_descriptors_is_replaced() {
        for limit in [3, 5, 7, 9] {
            let mut forker = forker();
            let short = ready(&mut forker);
            let most = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            prlimit(Some(short), Resource::Nofile, most).unwrap();
            want(&mut forker, 1);
            let outcomes = tend(&mut forker, all(1));
            assert_eq!(started(&outcomes), [1], "{limit} descriptors");
            let now = forker.server.as_ref().unwrap().pid;
            // A request, two pipes of which one end each is closed early, and a pidfd.
            assert_eq!(now == short, limit >= 9, "{limit} descriptors");
        }
    }

    #[test]
    fn a_request_that_is_refused_is_made_again() {
        let mut forker = forker();
        ready(&mut forker);
        want(&mut forker, 1);
        want(&mut forker, 2);
        let (now, mut outcomes) = (Instant::now(), Vec::new());
        forker.answered(Answer::Failed(Errno::AGAIN), 0, 0, now, &mut outcomes);
        forker.tend(now, &mut outcomes);
        assert!(outcomes.is_empty());
        assert_eq!(forker.server.as_ref().unwrap().asked, 0, "not at once");
        assert_eq!(forker.wake(), Some(now + RETRY));
        let outcomes = tend(&mut forker, all(2));
        assert_eq!(started(&outcomes), [1, 2]);
    }

    #[test]
    fn a_session_is_let_go_when_there_can_be_no_server() {
        let mut forker = forker();
        ready(&mut forker);
        forker.program = "/nonexistent".into();
        let mut outcomes = Vec::new();
        forker.renew(0, Instant::now(), &mut outcomes);
        want(&mut forker, 7);
        let begun = Instant::now();
        let mut now = begun;
        while outcomes.is_empty() {
            now = forker.wake().expect("it has something to do").max(now);
            assert!(now < begun + 2 * WAIT, "never");
            forker.tend(now, &mut outcomes);
        }
        assert!(matches!(outcomes[..], [Outcome::Failed(7)]));
        assert!(now >= begun + WAIT, "after {:?}", now - begun);
    }
}
