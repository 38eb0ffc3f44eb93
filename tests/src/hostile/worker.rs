// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A daemon that breaks every rule: its workers. Unknown jobs and buffers, wrong fields, answers that come
//! twice, late or never, short reads, several readers, and ends at any time.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use daedalus_client::memory::Mapping;
use daedalus_uapi::protocol::stateful::{MSG_CODED, MSG_RAW, MsgCoded, MsgRaw};
use daedalus_uapi::protocol::{FACE_STATEFUL, MSG_BUFFER_GONE, MSG_JOB, MSG_MAX_V1, MsgJob};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use zerocopy::FromBytes;

use super::common::Common;
use super::raw::{self, Arena, Arg};
use super::table::{Op, Tally};
use crate::random::Random;

/// Bytes of the longest message that is asked for.
const LONGEST: usize = 1 << 16;

/// Arguments of a worker.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Which of the seed's sequences it follows.
    #[arg(long)]
    part: u64,
}

/// A worker, or one thread of it.
pub(super) struct Worker<'a> {
    session: BorrowedFd<'a>,
    rng: Random,
    pub(super) tally: Tally,
    /// Messages read.
    pub(super) messages: u64,
    arg: Arg,
    message: Vec<u8>,
    /// Where [`Op::Next`] puts messages.
    arena: Arena,
    /// Jobs read and maybe not answered, and answered ones.
    jobs: Vec<u64>,
    /// The session is of the stateful face: units and raw buffers, like jobs.
    is_stream: bool,
    /// Width, height and bit depth of the stream.
    format: [u32; 3],
    /// Of the unit that was read last.
    timestamp: u64,
    units: Vec<u64>,
    raws: Vec<u64>,
    /// Buffers named in messages, some of which are gone.
    buffers: Vec<u64>,
    fds: Vec<OwnedFd>,
    mappings: Vec<Mapping>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(session: BorrowedFd<'a>, rng: Random) -> Self {
        Self {
            session,
            rng,
            tally: Tally::default(),
            messages: 0,
            arg: Arg::default(),
            message: vec![0; LONGEST],
            arena: Arena::new(),
            jobs: Vec::new(),
            is_stream: false,
            format: [320, 240, 8],
            timestamp: 0,
            units: Vec::new(),
            raws: Vec::new(),
            buffers: Vec::new(),
            fds: Vec::new(),
            mappings: Vec::new(),
        }
    }

    /// Goes on for `time`, or `calls`, or until the session is over; calls `done` now and then.
    pub(super) fn play(&mut self, time: Duration, calls: u64, mut done: impl FnMut(&mut Self)) {
        let end = Instant::now() + time;
        // Version 1 knows no attaching, and its module no call for it.
        if !self.rng.one_in(4) {
            self.attach();
        }
        while Instant::now() < end && self.tally.total(None).0 < calls {
            done(self);
            if !self.read() {
                return;
            }
            // Units, raw buffers and the order to drain come one by one.
            for _ in 0..16 {
                if self.is_stream && self.is_ready(0) && !self.read() {
                    return;
                }
            }
            let burst = 20 + self.rng.below(400);
            for _ in 0..burst {
                match self.rng.below(40) {
                    0 => self.attach(),
                    1 => self.next(),
                    2..21 if self.is_stream => self.any_of_stream(),
                    2..21 => self.job_done(),
                    _ => self.buffer_fd(),
                }
            }
            if self.is_stream && !self.rng.one_in(5) {
                self.answer_stream();
            }
            // Most jobs are answered in the end, or nobody would send more.
            if !self.rng.one_in(5) {
                for job in self.jobs.clone() {
                    self.answer(job, self.rng.clone().below(2) as u32);
                }
                if self.rng.one_in(4) {
                    for job in std::mem::take(&mut self.jobs) {
                        self.answer(job, 0);
                    }
                }
            }
            if self.rng.one_in(3) {
                self.mappings.clear();
                self.fds.clear();
            }
        }
    }

    /// Reads a message, most often with room for it. False at the session's end.
    fn read(&mut self) -> bool {
        if !self.is_ready(20_000_000) {
            return true;
        }
        let room = match self.rng.below(8) {
            0 => self.rng.index(256),
            1 => self.rng.index(LONGEST),
            2 => MSG_MAX_V1,
            _ => LONGEST,
        };
        // Another thread may take what is there: then this waits as a worker would.
        match rustix::io::read(self.session, &mut self.message[..room]) {
            Ok(0) => room == 0,
            Ok(bytes) => {
                let message = self.message[..bytes].to_vec();
                self.note(&message);
                true
            }
            Err(Errno::NOTCONN) => {
                self.attach();
                true
            }
            Err(Errno::AGAIN | Errno::MSGSIZE | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    fn is_ready(&self, nanoseconds: i64) -> bool {
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: nanoseconds,
        };
        poll(&mut [PollFd::new(&self.session, PollFlags::IN)], Some(&moment)) == Ok(1)
    }

    /// Attaches this process, which may be attached already.
    fn attach(&mut self) {
        self.arg = Arg::default();
        let longest = if self.rng.one_in(2) { MSG_MAX_V1 } else { LONGEST };
        let features = self.rng.below(8);
        self.arg.set(0, 2).set(4, longest as u32).set64(8, features);
        if self.rng.one_in(4) {
            let (at, value) = (self.rng.index(12) * 4, self.rng.nasty());
            self.arg.set(at, value);
        }
        if self.call(Op::Attach).is_ok() {
            self.is_stream = self.arg.get(28) == FACE_STATEFUL;
        }
    }

    /// Answers a job that there may be, and reads a message if there is one: without, the call would wait.
    fn next(&mut self) {
        let job = match self.rng.below(4) {
            0 => 0,
            1 => self.rng.next(),
            _ => self.jobs.last().copied().unwrap_or_default(),
        };
        self.arg = Arg::default();
        self.arg.set64(0, job).set(8, self.rng.below(2) as u32);
        if self.rng.one_in(4) {
            let (at, value) = (self.rng.index(4) * 4, self.rng.nasty());
            self.arg.set(at, value);
        }
        let room = match self.rng.below(6) {
            0 => self.rng.index(256),
            1 => MSG_MAX_V1,
            _ => LONGEST,
        };
        let nowhere = self.rng.one_in(10);
        let address = if nowhere {
            Arena::nowhere(self.rng.next())
        } else {
            self.arena.address(0)
        };
        self.arg.set64(16, address).set(24, room as u32);
        if !self.is_ready(0) {
            self.arg.set(28, 1);
        }
        if self.call(Op::Next).is_ok() {
            let bytes = self.arg.get(24) as usize;
            let message = self.arena.bytes(bytes.min(LONGEST));
            self.note(&message);
        }
    }

    fn note(&mut self, message: &[u8]) {
        self.messages += u64::from(!message.is_empty());
        let Some(kind) = message.first_chunk() else {
            return;
        };
        match u32::from_ne_bytes(*kind) {
            MSG_JOB => {
                let Ok((job, _)) = MsgJob::read_from_prefix(message) else {
                    return;
                };
                self.jobs.push(job.job);
                let planes = [job.coded, job.raw[0], job.raw[1], job.raw[2]];
                self.buffers
                    .extend(planes.iter().map(|plane| plane.buffer).filter(|id| *id != 0));
            }
            MSG_CODED => {
                if let Ok((coded, _)) = MsgCoded::read_from_prefix(message) {
                    self.units.push(coded.unit);
                    self.timestamp = coded.echo.timestamp;
                    self.buffers.push(coded.coded.buffer);
                }
            }
            MSG_RAW => {
                if let Ok((raw, _)) = MsgRaw::read_from_prefix(message) {
                    self.raws.push(raw.raw);
                    let planes = raw.planes.iter().map(|plane| plane.buffer);
                    self.buffers.extend(planes.filter(|id| *id != 0));
                }
            }
            // The id stays: asking for it has to fail.
            MSG_BUFFER_GONE => {}
            _ => {}
        }
        for ids in [&mut self.jobs, &mut self.units, &mut self.raws] {
            let excess = ids.len().saturating_sub(8);
            ids.drain(..excess);
        }
        let excess = self.buffers.len().saturating_sub(48);
        self.buffers.drain(..excess);
    }

    fn call(&mut self, op: Op) -> rustix::io::Result<i32> {
        let result = raw::call(self.session, op.opcode(), &mut self.arg);
        self.tally.note(op, &result);
        result
    }

    fn damage(&mut self, once_in: u64) {
        if self.rng.one_in(once_in) {
            let (at, value) = (self.rng.index(8) * 4, self.rng.nasty());
            self.arg.set(at, value);
        }
    }

    fn answer(&mut self, job: u64, status: u32) {
        self.arg = Arg::default();
        self.arg.set64(0, job).set(8, status);
        let _ = self.call(Op::JobDone);
    }

    /// Makes one of the calls of the stateful face, about something that there may be.
    fn any_of_stream(&mut self) {
        let near = |rng: &mut Random, ids: &[u64]| {
            let last = ids.last().copied().unwrap_or(1);
            match rng.below(4) {
                0 => rng.next(),
                1 => last + rng.below(4),
                _ => last,
            }
        };
        match self.rng.below(8) {
            0 => {
                self.format();
                self.damage(16);
                let _ = self.call(Op::Format);
            }
            1..=3 => {
                let raw = near(&mut self.rng, &self.raws);
                let flags = self.rng.below(2) as u32;
                self.picture(raw, flags);
                self.damage(3);
                let _ = self.call(Op::Picture);
            }
            4 | 5 => {
                let unit = near(&mut self.rng, &self.units);
                self.arg = Arg::default();
                self.arg.set64(0, unit).set(8, self.rng.below(2) as u32);
                self.damage(3);
                let _ = self.call(Op::CodedDone);
            }
            6 => {
                self.arg = Arg::default();
                let _ = self.call(Op::End);
            }
            _ => {
                self.arg = Arg::default();
                let size = self.rng.below(10_000) as u32;
                let address = if self.rng.one_in(6) {
                    Arena::nowhere(self.rng.next())
                } else {
                    self.arena.address(0)
                };
                self.arg.set64(0, address).set(8, size);
                let _ = self.call(Op::Headers);
            }
        }
    }

    /// Fills in a format, which the client may have asked for. Most often it is that of the last call: a
    /// client that never gets its buffers ready takes no picture.
    fn format(&mut self) {
        if self.rng.one_in(64) {
            self.format = [
                self.rng.pick(&[320, 426, 16, 1921]),
                self.rng.pick(&[240, 15, 1080]),
                self.rng.pick(&[8, 8, 8, 10]),
            ];
        }
        let [width, height, depth] = self.format;
        self.arg = Arg::default();
        for (at, value) in [width, height, width, height, depth].into_iter().enumerate() {
            self.arg.set(at * 4, value);
        }
    }

    /// Fills in a picture, most often of a unit that there was: a client ends at others.
    fn picture(&mut self, raw: u64, flags: u32) {
        let status = self.rng.below(2) as u32;
        let timestamp = if self.rng.one_in(16) {
            self.rng.next()
        } else {
            self.timestamp
        };
        self.arg = Arg::default();
        self.arg.set64(0, raw).set64(8, timestamp);
        self.arg.set(40, status).set(44, flags);
    }

    /// Gives back most of what there is, as a worker would.
    fn answer_stream(&mut self) {
        if self.rng.one_in(3) {
            self.format();
            let _ = self.call(Op::Format);
        }
        for unit in std::mem::take(&mut self.units) {
            self.arg = Arg::default();
            self.arg.set64(0, unit);
            let _ = self.call(Op::CodedDone);
        }
        for raw in std::mem::take(&mut self.raws) {
            self.picture(raw, 0);
            let _ = self.call(Op::Picture);
        }
        self.arg = Arg::default();
        let _ = self.call(Op::End);
    }

    /// Answers a job that there may be.
    fn job_done(&mut self) {
        let last = self.jobs.last().copied().unwrap_or(1);
        let job = match self.rng.below(6) {
            0 => self.rng.next(),
            1 => last + self.rng.below(4),
            2 => last.saturating_sub(self.rng.below(4)),
            _ => last + 1000 + self.rng.below(1000),
        };
        self.arg = Arg::default();
        let status = self.rng.below(2) as u32;
        self.arg.set64(0, job).set(8, status);
        self.damage(3);
        let _ = self.call(Op::JobDone);
    }

    /// Asks for a buffer that there may be.
    fn buffer_fd(&mut self) {
        let count = self.buffers.len();
        let buffer = if count == 0 || self.rng.one_in(3) {
            let near = self.buffers.last().copied().unwrap_or(1);
            if self.rng.one_in(2) {
                self.rng.next()
            } else {
                near + self.rng.below(40)
            }
        } else {
            self.buffers[self.rng.index(count)]
        };
        self.arg = Arg::default();
        self.arg.set64(0, buffer);
        self.damage(5);
        if self.call(Op::BufferFd).is_err() {
            return;
        }
        let Some(fd) = raw::installed(self.arg.get(16)) else {
            return;
        };
        let size = usize::try_from(self.arg.get64(8)).unwrap_or(usize::MAX).max(1);
        if self.rng.one_in(8) {
            // Written to at any time, also when the client has the buffer back.
            if let Ok(mapping) = Mapping::new(fd.as_fd(), 0, size) {
                let at = self.rng.index(size.saturating_sub(64).max(1));
                let _ = mapping.write(at, &[0xa5; 32]);
                self.mappings.push(mapping);
            }
        }
        if self.rng.one_in(8) {
            self.fds.push(fd);
        }
        if self.fds.len() > 32 {
            self.fds.clear();
        }
        if self.mappings.len() > 16 {
            self.mappings.clear();
        }
    }
}

/// Runs a worker's process.
pub(super) fn run(common: &Common, options: &Options) -> Result<()> {
    let mut rng = Random::part(common.seed, options.part);
    let stdin = std::io::stdin();
    let session = stdin.as_fd();
    let time = Duration::from_millis(100 + rng.below(2500));
    let seeds: Vec<u64> = (0..1 + rng.below(3)).map(|_| rng.next()).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = seeds
            .into_iter()
            .map(|seed| {
                scope.spawn(move || {
                    let mut worker = Worker::new(session, Random::new(seed));
                    worker.play(time, u64::MAX, report);
                    report(&mut worker);
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")))
    })
}

/// Prints what was done since the last time: the module may kill this process at any moment.
fn report(worker: &mut Worker<'_>) {
    let done = (
        std::mem::take(&mut worker.tally),
        std::mem::take(&mut worker.messages),
    );
    if let Ok(line) = serde_json::to_string(&done) {
        // Nobody reads it once the broker has ended.
        writeln!(std::io::stdout(), "{line}").ok();
    }
}
