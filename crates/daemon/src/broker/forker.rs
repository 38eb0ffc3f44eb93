// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker's side of the fork server: queues the sessions that need a worker, sends requests, receives
//! answers.
//!
//! Nothing here waits for a server. The broker keeps a session's descriptors until a worker runs for it. If a
//! server fails, the next one gets the same request, and the module notices nothing. A server is killed and
//! replaced
//! - at once if one of its workers crashed, for its later workers would have the same addresses;
//! - if it ends, breaks the protocol or has no descriptors left;
//! - if it does not answer within a share of the time that the module gives a session to get a worker. It may
//!   be stopped.
//!
//! While no session needs a worker there is no deadline, so an idle broker never wakes up: a server without
//! requests may take any time, and one that failed several times is not started again before the next
//! request.
//!
//! A worker does nothing before its server has answered for it (see `fork_server.rs`). So if a killed server
//! has not answered a request, the session has no worker. The answers that it has sent can be read after its
//! end.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, waitid, waitpgid,
};

use super::child::Child;
use super::relay::Relay;
use crate::fork_server::messages::{Answer, Request, pair, send_config};
use crate::sandbox::privileges::User;
use crate::spawn;
use crate::worker::options::WorkerConfig;

/// The most requests that a server has not answered. They are few, so that its socket takes them without
/// delay and little work is lost with a server.
const MAX_IN_FLIGHT: usize = 4;
/// Time between two starts of servers. A client that crashes its workers causes starts.
const START_INTERVAL: Duration = Duration::from_millis(200);
/// Time until a request that failed is sent again.
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// The most times that waiting times double while servers fail one after the other.
const MAX_DOUBLINGS: u32 = 4;
/// The module's parameter `worker_wait_ms`, and its default.
const WORKER_WAIT_FILE: &str = "/sys/module/daedalus_v4l2/parameters/worker_wait_ms";
const WORKER_WAIT: Duration = Duration::from_millis(500);

/// A session that waits for a worker.
#[derive(Debug)]
struct QueueEntry {
    request: Request,
    log: Relay,
    queued_at: Instant,
    /// A server has refused the request or failed with it, or there was no server.
    failed: bool,
}

/// A fork server that runs.
#[derive(Debug)]
struct Server {
    /// The number of servers that were started before it.
    number: u64,
    /// Also its process group.
    pid: Pid,
    socket: OwnedFd,
    /// The number of requests that it has not answered: the first entries of [`Forker::queue`].
    in_flight: usize,
    ready: bool,
    /// The latest of its start, its last answer and the last request that it got while it had none.
    last_progress: Instant,
}

/// The end of a session's wait.
pub(crate) enum Outcome {
    Started(Child),
    /// The session gets no worker this time. The module asks again.
    Failed(u64),
}

/// Keeps a fork server running, and gets workers from it.
#[derive(Debug)]
pub(crate) struct Forker<'c> {
    config: &'c WorkerConfig,
    user: Option<User>,
    program: PathBuf,
    server: Option<Server>,
    /// Oldest first.
    queue: VecDeque<QueueEntry>,
    /// Process groups of servers that were killed and are not reaped.
    unreaped: Vec<Pid>,
    /// The number of the next server.
    next_number: u64,
    /// When the last server was started.
    last_start: Instant,
    /// The time from start to ready of the last server that became ready.
    startup_time: Duration,
    /// Servers that failed since one has started a worker.
    failures: u32,
    /// No request is sent before.
    retry_at: Option<Instant>,
    /// The module's `worker_wait_ms`.
    worker_wait: Duration,
}

impl<'c> Forker<'c> {
    /// Starts the first server.
    pub(crate) fn start(config: &'c WorkerConfig, user: Option<User>) -> io::Result<Self> {
        let worker_wait = std::fs::read_to_string(WORKER_WAIT_FILE)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map_or(WORKER_WAIT, Duration::from_millis);
        Self::with_program(config, user, Path::new(spawn::PROGRAM), worker_wait)
    }

    /// Starts the first server from `program`, which is `daedalusd`.
    fn with_program(
        config: &'c WorkerConfig,
        user: Option<User>,
        program: &Path,
        worker_wait: Duration,
    ) -> io::Result<Self> {
        // Workers become this process's children when what forked them has ended.
        rustix::process::set_child_subreaper(Some(Pid::INIT))?;
        let now = Instant::now();
        let mut forker = Self {
            config,
            user,
            program: program.to_owned(),
            server: None,
            queue: VecDeque::new(),
            unreaped: Vec::new(),
            next_number: 0,
            last_start: now,
            startup_time: Duration::ZERO,
            failures: 0,
            retry_at: None,
            worker_wait,
        };
        forker.server = Some(forker.spawn(now)?);
        Ok(forker)
    }

    /// Returns the server's socket, which is readable when there is an answer.
    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        self.server.as_ref().map(|server| &server.socket)
    }

    /// Returns when [`Forker::update`] has something to do although nothing is readable; `None`: never.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = match &self.server {
            Some(server) => self.answer_deadline(server),
            None => self.next_start(),
        };
        let in_flight = self.server.as_ref().map_or(0, |server| server.in_flight);
        let retry_at = self.retry_at.filter(|_| self.queue.len() > in_flight);
        due.into_iter().chain(retry_at).min()
    }

    /// Kills the server with this number, one of whose workers crashed, so that no later worker has its
    /// addresses. [`Forker::update`] starts another one.
    pub(crate) fn retire(&mut self, number: u64, now: Instant, outcomes: &mut Vec<Outcome>) {
        if let Some(server) = self.server.take_if(|server| server.number == number) {
            self.kill(server, now, outcomes);
        }
    }

    /// Queues `session` for a worker. Its `fd`, and the file to which the worker records, are closed here
    /// when it has one. `log` is the two ends of a pipe that does not block: if the broker does not read it,
    /// the worker loses log lines and no time.
    pub(crate) fn enqueue(
        &mut self,
        session: u64,
        fd: OwnedFd,
        log: (OwnedFd, OwnedFd),
        trace: Option<File>,
        now: Instant,
    ) {
        let (read, write) = log;
        self.queue.push_back(QueueEntry {
            request: Request {
                session,
                fd,
                log: write,
                trace: trace.map(OwnedFd::from),
            },
            log: Relay::new(session, read),
            queued_at: now,
            failed: false,
        });
    }

    /// Receives answers, sends requests, and replaces a server that has failed.
    pub(crate) fn update(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        self.receive_answers(now, outcomes);
        self.reap(now, outcomes);
        let late = |server: &Server| self.answer_deadline(server).is_some_and(|due| due <= now);
        if self.server.as_ref().is_some_and(late) {
            self.replace("it does not answer", now, outcomes);
        }
        self.expire(now, outcomes);
        if self.server.is_none() && self.next_start().is_some_and(|start| start <= now) {
            match self.spawn(now) {
                Ok(server) => self.server = Some(server),
                Err(error) => {
                    tracing::error!(%error, "no fork server can be started");
                    self.failures += 1;
                    self.queue.iter_mut().for_each(|entry| entry.failed = true);
                }
            }
        }
        self.send_requests(now, outcomes);
    }

    /// Sends the requests that the server can take.
    fn send_requests(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        if self.retry_at.is_some_and(|retry| retry > now) {
            return;
        }
        self.retry_at = None;
        while let Some(server) = &mut self.server {
            let next = self.queue.get(server.in_flight);
            let Some(entry) = next.filter(|_| server.in_flight < MAX_IN_FLIGHT) else {
                return;
            };
            match entry.request.send(&server.socket) {
                Ok(()) => {
                    if server.in_flight == 0 {
                        server.last_progress = now;
                    }
                    server.in_flight += 1;
                }
                // Its deadline comes if it does not read.
                Err(Errno::AGAIN) if server.in_flight > 0 => return,
                Err(error) => self.replace(&error.to_string(), now, outcomes),
            }
        }
    }

    fn receive_answers(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        while let Some(server) = &mut self.server {
            match Answer::receive(&server.socket) {
                Ok(Some(Answer::Ready)) => {
                    server.ready = true;
                    server.last_progress = now;
                    self.startup_time = now.saturating_duration_since(self.last_start);
                    tracing::debug!(took = ?self.startup_time, "fork server ready");
                }
                Ok(Some(answer)) => {
                    let Some(in_flight) = server.in_flight.checked_sub(1) else {
                        return self.replace("it answers without a request", now, outcomes);
                    };
                    server.in_flight = in_flight;
                    server.last_progress = now;
                    let number = server.number;
                    self.handle_answer(answer, number, in_flight, now, outcomes);
                }
                Err(Errno::AGAIN) => return,
                Ok(None) => self.replace("it has ended", now, outcomes),
                Err(error) => self.replace(&error.to_string(), now, outcomes),
            }
        }
    }

    /// Handles the answer to the oldest request. `number` is the server's, `in_flight` the number of requests
    /// that it has still to answer.
    fn handle_answer(
        &mut self,
        answer: Answer,
        number: u64,
        in_flight: usize,
        now: Instant,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(mut entry) = self.queue.pop_front() else {
            return;
        };
        let errno = match answer {
            Answer::Started {
                pid,
                pidfd: Some(pidfd),
            } => {
                self.failures = 0;
                let session = entry.request.session;
                let child = Child::new(session, number, pid, pidfd, entry.log);
                outcomes.push(Outcome::Started(child));
                return;
            }
            Answer::Started { pid, pidfd: None } => {
                // This process has no descriptor left. The worker has not been reaped, so no other process
                // has its pid.
                let _ = kill_process(pid, Signal::KILL);
                Errno::MFILE
            }
            Answer::Failed(errno) => errno,
            Answer::Ready => Errno::PROTO,
        };
        let session = entry.request.session;
        tracing::warn!(session, error = %errno, "no worker can be forked; trying again");
        entry.failed = true;
        self.retry_at = Some(now + RETRY_DELAY);
        // Before the entries whose requests have not been sent.
        self.queue.insert(in_flight.min(self.queue.len()), entry);
        if errno == Errno::MFILE {
            self.replace("it has no descriptors left", now, outcomes);
        }
    }

    /// Kills the server, which has failed. Its unanswered requests count as failed.
    fn replace(&mut self, why: &str, now: Instant, outcomes: &mut Vec<Outcome>) {
        let Some(server) = self.server.take() else {
            return;
        };
        tracing::warn!(
            pid = server.pid.as_raw_pid(),
            "the fork server is replaced: {why}"
        );
        self.failures += 1;
        let unanswered = self.queue.iter_mut().take(server.in_flight);
        unanswered.for_each(|entry| entry.failed = true);
        self.kill(server, now, outcomes);
    }

    /// Kills the server and the workers that it has not answered for. Handles the answers that it has sent.
    fn kill(&mut self, mut server: Server, now: Instant, outcomes: &mut Vec<Outcome>) {
        // It fails only if all of them have ended.
        let _ = kill_process_group(server.pid, Signal::KILL);
        self.unreaped.push(server.pid);
        while let Ok(Some(answer)) = Answer::receive(&server.socket) {
            let Some(in_flight) = server.in_flight.checked_sub(1) else {
                return;
            };
            if !matches!(answer, Answer::Ready) {
                server.in_flight = in_flight;
                self.handle_answer(answer, server.number, in_flight, now, outcomes);
            }
        }
    }

    /// Reaps servers that have ended, and processes that they have forked and not answered for.
    fn reap(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        if let Some(pid) = self.server.as_ref().map(|server| server.pid) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if !matches!(waitid(WaitId::Pid(pid), options), Ok(None)) {
                self.replace("it has ended", now, outcomes);
            } else {
                reap_group(pid);
            }
        }
        // No other group gets the number before the last member is reaped.
        self.unreaped.retain(|&group| reap_group(group));
    }

    /// Removes the sessions whose requests failed and that have waited for too long.
    fn expire(&mut self, now: Instant, outcomes: &mut Vec<Outcome>) {
        let in_flight = self.server.as_ref().map_or(0, |server| server.in_flight);
        let mut index = 0;
        self.queue.retain(|entry| {
            let end = entry.queued_at + 3 * self.worker_wait / 2;
            let waits = index < in_flight || !entry.failed || now < end;
            index += 1;
            if !waits {
                outcomes.push(Outcome::Failed(entry.request.session));
            }
            waits
        });
    }

    /// Returns when the server counts as stopped; `None` if it has answered all requests.
    fn answer_deadline(&self, server: &Server) -> Option<Instant> {
        if server.in_flight == 0 {
            return None;
        }
        // A busy machine may keep a sound server from running for a while, and another one would start no
        // faster there: libraries are loaded at a start.
        let patience = if server.ready {
            2 * self.worker_wait / 3
        } else {
            (4 * self.worker_wait).max(2 * self.startup_time)
        };
        Some(server.last_progress + patience * (1 << self.failures.min(MAX_DOUBLINGS)))
    }

    /// Returns when another server may be started; `None`: not before a session needs a worker.
    fn next_start(&self) -> Option<Instant> {
        if !self.queue.is_empty() {
            return Some(self.last_start + START_INTERVAL);
        }
        let doublings = Some(self.failures).filter(|&failures| failures <= MAX_DOUBLINGS);
        doublings.map(|doublings| self.last_start + START_INTERVAL * (1 << doublings))
    }

    fn spawn(&mut self, now: Instant) -> io::Result<Server> {
        self.last_start = now;
        let (socket, other) = pair()?;
        send_config(&socket, self.config)?;
        let process = spawn::command(&self.program, self.user)
            .arg("workers")
            .process_group(0)
            .stdin(Stdio::from(other))
            .stdout(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        let number = self.next_number;
        self.next_number += 1;
        tracing::debug!(pid = pid.as_raw_pid(), "fork server started");
        Ok(Server {
            number,
            pid,
            socket,
            in_flight: 0,
            ready: false,
            last_progress: now,
        })
    }
}

/// Reaps the members of a process group that have ended. Returns false if none is left.
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
    /// Kills the server and the workers that it has not answered for. The others play on.
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::{Resource, Rlimit, prlimit};

    use super::*;

    /// Time that a session may wait; more than the module's default, for machines that do much else
    /// meanwhile.
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
        let config = Box::leak(Box::new(WorkerConfig::unusual()));
        Forker::with_program(config, None, &program(), WAIT).unwrap()
    }

    fn enqueue(forker: &mut Forker<'_>, session: u64) {
        let fd = File::open("/dev/null").unwrap().into();
        let log = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        forker.enqueue(session, fd, log, None, Instant::now());
    }

    /// Updates the forker until `done`, as the broker does. Fails if that takes as long as a session may
    /// wait, or if one call takes long.
    fn run(forker: &mut Forker<'_>, done: impl Fn(&Forker<'_>, &[Outcome]) -> bool) -> Vec<Outcome> {
        let (start, mut outcomes) = (Instant::now(), Vec::new());
        loop {
            let now = Instant::now();
            forker.update(now, &mut outcomes);
            let took = now.elapsed();
            assert!(took < WAIT / 6, "the forker takes {took:?}");
            if done(forker, &outcomes) {
                return outcomes;
            }
            assert!(start.elapsed() < WAIT, "{forker:?}");
            let time = forker
                .deadline()
                .map_or(WAIT, |deadline| deadline.saturating_duration_since(now));
            let mut fds: Vec<_> = forker
                .socket()
                .map(|socket| PollFd::new(socket, PollFlags::IN))
                .into_iter()
                .collect();
            // SIGCHLD wakes the broker.
            let timeout = Timespec::try_from(time.min(WAIT / 50)).unwrap();
            poll(&mut fds, Some(&timeout)).unwrap();
        }
    }

    fn ready(forker: &mut Forker<'_>) -> Pid {
        run(forker, |forker, _| {
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
        (1..=20).for_each(|session| enqueue(&mut forker, session));
        let outcomes = run(&mut forker, all(20));
        assert_eq!(started(&outcomes), (1..=20).collect::<Vec<_>>());
        assert!(forker.queue.is_empty() && forker.failures == 0);
    }

    #[test]
    fn a_stopped_server_is_replaced_in_time_and_blocks_nobody() {
        let mut forker = forker();
        let stopped = ready(&mut forker);
        kill_process(stopped, Signal::STOP).unwrap();
        (1..=300).for_each(|session| enqueue(&mut forker, session));
        let outcomes = run(&mut forker, |_, outcomes| !outcomes.is_empty());
        assert_eq!(started(&outcomes).first(), Some(&1));
        assert_ne!(forker.server.as_ref().unwrap().pid, stopped);
    }

    #[test]
    fn a_server_that_is_killed_loses_no_session_and_leaves_no_zombie() {
        let mut forker = forker();
        let killed = ready(&mut forker);
        kill_process(killed, Signal::STOP).unwrap();
        (1..=6).for_each(|session| enqueue(&mut forker, session));
        run(&mut forker, |forker, _| {
            forker
                .server
                .as_ref()
                .is_some_and(|server| server.in_flight == MAX_IN_FLIGHT)
        });
        kill_process(killed, Signal::KILL).unwrap();
        let outcomes = run(&mut forker, |forker, outcomes| {
            outcomes.len() == 6 && forker.unreaped.is_empty()
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
        (1..=8).for_each(|session| enqueue(&mut forker, session));
        let mut outcomes = Vec::new();
        forker.update(Instant::now(), &mut outcomes);
        assert_eq!(forker.server.as_ref().unwrap().in_flight, MAX_IN_FLIGHT);
        let mut now = Instant::now();
        forker.retire(0, now, &mut outcomes);
        while forker.server.is_none() {
            now += START_INTERVAL;
            forker.update(now, &mut outcomes);
        }
        assert!(outcomes.is_empty());
        // Another worker of the first: those of the second do not have its addresses.
        forker.retire(0, now, &mut outcomes);
        assert_eq!(forker.server.as_ref().unwrap().number, 1);
        assert_ne!(forker.server.as_ref().unwrap().pid, tainted);
        let outcomes = run(&mut forker, all(8));
        assert_eq!(started(&outcomes), (1..=8).collect::<Vec<_>>());
        assert_eq!(forker.failures, 0, "a crash is no fault of the server");
    }

    #[test]
    fn a_server_without_descriptors_is_replaced() {
        for free in [0, 2, 4, 6] {
            let mut forker = forker();
            let short = ready(&mut forker);
            // Besides its three, the server has those that this process was started with, at any numbers.
            let open = PathBuf::from(format!("/proc/{}/fd", short.as_raw_pid()));
            let mut unused =
                (0_u64..).filter(|number| open.join(number.to_string()).symlink_metadata().is_err());
            let limit = unused.nth(free).unwrap();
            let most = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            prlimit(Some(short), Resource::Nofile, most).unwrap();
            enqueue(&mut forker, 1);
            let outcomes = run(&mut forker, all(1));
            assert_eq!(started(&outcomes), [1], "{free} free descriptors");
            let now = forker.server.as_ref().unwrap().pid;
            // A request, two pipes of which one end each is closed early, and a pidfd.
            assert_eq!(now == short, free >= 6, "{free} free descriptors");
        }
    }

    #[test]
    fn a_request_that_is_refused_is_made_again() {
        let mut forker = forker();
        ready(&mut forker);
        enqueue(&mut forker, 1);
        enqueue(&mut forker, 2);
        let (now, mut outcomes) = (Instant::now(), Vec::new());
        forker.handle_answer(Answer::Failed(Errno::AGAIN), 0, 0, now, &mut outcomes);
        forker.update(now, &mut outcomes);
        assert!(outcomes.is_empty());
        assert_eq!(forker.server.as_ref().unwrap().in_flight, 0, "not at once");
        assert_eq!(forker.deadline(), Some(now + RETRY_DELAY));
        let outcomes = run(&mut forker, all(2));
        assert_eq!(started(&outcomes), [1, 2]);
    }

    #[test]
    fn a_session_is_let_go_when_there_can_be_no_server() {
        let mut forker = forker();
        ready(&mut forker);
        forker.program = "/nonexistent".into();
        let mut outcomes = Vec::new();
        forker.retire(0, Instant::now(), &mut outcomes);
        enqueue(&mut forker, 7);
        let start = Instant::now();
        let mut now = start;
        while outcomes.is_empty() {
            now = forker.deadline().expect("it has something to do").max(now);
            assert!(now < start + 2 * WAIT, "never");
            forker.update(now, &mut outcomes);
        }
        assert!(matches!(outcomes[..], [Outcome::Failed(7)]));
        assert!(now >= start + WAIT, "after {:?}", now - start);
    }

    #[test]
    fn an_idle_forker_has_no_deadline() {
        let mut forker = forker();
        assert_eq!(forker.deadline(), None, "while the server starts");
        ready(&mut forker);
        assert_eq!(forker.deadline(), None, "before the first session");
        enqueue(&mut forker, 1);
        run(&mut forker, all(1));
        assert_eq!(forker.deadline(), None, "after a session");
    }

    #[test]
    fn a_server_that_keeps_failing_is_started_again_only_for_a_session() {
        let mut forker = forker();
        ready(&mut forker);
        forker.program = "/nonexistent".into();
        let (mut outcomes, mut starts) = (Vec::new(), 0);
        let mut now = Instant::now();
        forker.retire(0, now, &mut outcomes);
        while let Some(deadline) = forker.deadline() {
            now = deadline.max(now);
            forker.update(now, &mut outcomes);
            starts += 1;
            assert!(starts < 20, "for ever");
        }
        assert!(starts > 1, "not again");
        // No other event starts one, and none is late for the next session.
        forker.update(now + WAIT, &mut outcomes);
        assert_eq!((forker.server.is_none(), forker.deadline()), (true, None));
        forker.program = program();
        // The time above was ahead of the clock.
        forker.last_start = Instant::now();
        enqueue(&mut forker, 7);
        let outcomes = run(&mut forker, all(1));
        assert_eq!(started(&outcomes), [7]);
    }
}
