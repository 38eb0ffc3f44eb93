// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The worker's loop against a module that is a list of messages.

mod recording;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use daedalus_engine::{Backend, Decoder, JobReport, Options};
use daedalus_uapi::codec::CODECS;
use daedalus_uapi::fourcc::NV12;
use daedalus_uapi::protocol::{
    CTRL_F_IN_REQUEST, Ctrl, MSG_BUFFER_GONE, MSG_RESET, Msg, MsgBufferGone, MsgJob, Plane as WirePlane,
};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use zerocopy::IntoBytes;

use super::*;

const WIDTH: u32 = 64;
const HEIGHT: u32 = 16;
const LUMA: usize = (WIDTH * HEIGHT) as usize;
/// Ids below this have memory.
const BUFFERS: u64 = 10;

/// What the worker did, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JournalEntry {
    Fetch(u64),
    Answer(u64, u32),
    Open(u32),
    Submit(u64, usize),
    Drain,
    Reset,
}
use JournalEntry::{Answer, Drain, Fetch, Open, Reset, Submit};

type Journal = Rc<RefCell<Vec<JournalEntry>>>;

/// Replays messages. Memory with even ids is writable.
struct Replay {
    messages: VecDeque<Vec<u8>>,
    memory: Vec<OwnedFd>,
    journal: Journal,
    /// What answering says, for jobs that the module gave up.
    given_up: fn(u64) -> rustix::io::Result<()>,
}

impl Session for Replay {
    fn read<'b>(&mut self, buffer: &'b mut MessageBuffer) -> rustix::io::Result<Option<&'b [u8]>> {
        Ok(self.messages.pop_front().map(|message| {
            let bytes = &mut buffer.bytes_mut()[..message.len()];
            bytes.copy_from_slice(&message);
            &*bytes
        }))
    }

    fn has_message(&mut self) -> rustix::io::Result<bool> {
        Ok(!self.messages.is_empty())
    }

    fn buffer(&mut self, id: u64) -> rustix::io::Result<Buffer> {
        self.journal.borrow_mut().push(Fetch(id));
        let fd = self.memory.get(id as usize).ok_or(Errno::NOENT)?;
        Ok(Buffer {
            fd: fd.try_clone().unwrap(),
            size: LUMA as u64 * 2,
            writable: id % 2 == 0,
            imported: false,
            initialised: false,
        })
    }

    fn done(&mut self, job: u64, status: u32) -> rustix::io::Result<()> {
        self.journal.borrow_mut().push(Answer(job, status));
        (self.given_up)(job)
    }
}

/// Reports each job `delay` submissions later; forgets the job `lose`.
struct Late {
    journal: Journal,
    delay: usize,
    lose: u64,
    waiting: VecDeque<u64>,
}

impl Late {
    fn report(&mut self, keep: usize, reports: &mut Vec<JobReport>) {
        while self.waiting.len() > keep {
            let job = self.waiting.pop_front().unwrap();
            if job != self.lose {
                reports.push(JobReport {
                    job,
                    status: Status::Ok,
                    reason: None,
                });
            }
        }
    }
}

impl Decoder for Late {
    fn submit(&mut self, job: &Job<'_>, reports: &mut Vec<JobReport>) {
        self.journal.borrow_mut().push(Submit(job.id, job.controls.len()));
        self.waiting.push_back(job.id);
        self.report(self.delay, reports);
    }

    fn drain(&mut self, reports: &mut Vec<JobReport>) {
        self.journal.borrow_mut().push(Drain);
        self.report(0, reports);
    }

    fn reset(&mut self) {
        self.journal.borrow_mut().push(Reset);
    }
}

/// Returns the coded format of most jobs.
fn coded_format() -> u32 {
    CODECS[1].coded_format
}

/// Returns the format of another codec.
fn other_format() -> u32 {
    CODECS[2].coded_format
}

/// A job whose coded data is in buffer 1 and whose picture goes into `raw`.
fn job(id: u64, raw: u64) -> MsgJob {
    let mut head = MsgJob {
        msg: Msg {
            kind: MSG_JOB,
            size: size_of::<MsgJob>() as u32,
        },
        job: id,
        coded_format: coded_format(),
        coded: WirePlane {
            buffer: 1,
            length: 100,
            ..WirePlane::default()
        },
        raw_format: NV12,
        width: WIDTH,
        height: HEIGHT,
        num_planes: 1,
        ..MsgJob::default()
    };
    head.raw[0] = WirePlane {
        buffer: raw,
        length: LUMA as u32 * 3 / 2,
        bytesperline: WIDTH,
        ..WirePlane::default()
    };
    head
}

fn bytes(head: MsgJob) -> Vec<u8> {
    head.as_bytes().to_vec()
}

fn with_controls(mut head: MsgJob, count: u32) -> Vec<u8> {
    let ctrl = Ctrl {
        id: 1,
        flags: CTRL_F_IN_REQUEST,
        size: 3,
        elems: 1,
    };
    let record = [ctrl.as_bytes(), &[1, 2, 3, 0, 0, 0, 0, 0]].concat();
    head.num_ctrls = count;
    head.msg.size += count * record.len() as u32;
    [bytes(head), record.repeat(count as usize)].concat()
}

fn reset() -> Vec<u8> {
    Msg {
        kind: MSG_RESET,
        size: 8,
    }
    .as_bytes()
    .to_vec()
}

fn gone(buffer: u64) -> Vec<u8> {
    let msg = Msg {
        kind: MSG_BUFFER_GONE,
        size: size_of::<MsgBufferGone>() as u32,
    };
    MsgBufferGone { msg, buffer }.as_bytes().to_vec()
}

/// A run of the worker over `messages`.
struct Run {
    delay: usize,
    lose: u64,
    opens: bool,
    faults: Vec<Fault>,
    given_up: fn(u64) -> rustix::io::Result<()>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            delay: 0,
            lose: 0,
            opens: true,
            faults: Vec::new(),
            given_up: |_| Ok(()),
        }
    }
}

fn replay(messages: &[Vec<u8>], given_up: fn(u64) -> rustix::io::Result<()>) -> Replay {
    let memory = (0..BUFFERS).map(|_| {
        let fd = memfd_create("plane", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, LUMA as u64 * 2).unwrap();
        fd
    });
    Replay {
        messages: messages.to_vec().into(),
        memory: memory.collect(),
        journal: Journal::default(),
        given_up,
    }
}

impl Run {
    fn of(self, messages: &[Vec<u8>]) -> (Result<()>, Vec<JournalEntry>) {
        let session = replay(messages, self.given_up);
        let journal = Rc::clone(&session.journal);
        let (log, delay, lose, opens) = (Rc::clone(&journal), self.delay, self.lose, self.opens);
        let open = move |format| -> Result<Box<dyn Decoder>, EngineError> {
            log.borrow_mut().push(Open(format));
            if !opens {
                return Err(EngineError::UnknownFormat(format));
            }
            Ok(Box::new(Late {
                journal: Rc::clone(&log),
                delay,
                lose,
                waiting: VecDeque::new(),
            }))
        };
        let result = Worker::new(session, open, self.faults).run();
        let journal = journal.borrow().clone();
        (result, journal)
    }

    /// As [`Run::of`] when the session ends well.
    fn journal(self, messages: &[Vec<u8>]) -> Vec<JournalEntry> {
        let (result, journal) = self.of(messages);
        result.unwrap();
        journal
    }
}

#[test]
fn the_sessions_end_ends_the_worker() {
    assert_eq!(Run::default().journal(&[]), []);
}

#[test]
fn the_null_decoder_paints_the_capture_buffer() {
    let messages = [bytes(job(1, 2)), bytes(job(2, 4))];
    let session = replay(&messages, |_| Ok(()));
    let journal = Rc::clone(&session.journal);
    let options = Options {
        backend: Backend::Null,
        ..Options::default()
    };
    let mut worker = Worker::new(
        session,
        |format| daedalus_engine::open(format, &options),
        Vec::new(),
    );
    worker.run().unwrap();
    assert_eq!(
        *journal.borrow(),
        [
            Fetch(1),
            Fetch(2),
            Answer(1, STATUS_OK),
            Fetch(4),
            Answer(2, STATUS_OK)
        ]
    );
    for id in [2, 4] {
        let mut chroma = [0; LUMA / 2];
        rustix::io::pread(&worker.session.memory[id], &mut chroma, LUMA as u64).unwrap();
        assert!(
            chroma.iter().all(|&sample| sample == 128),
            "buffer {id} is not grey"
        );
    }
}

#[test]
fn unknown_types_are_skipped() {
    let unknown = Msg { kind: 99, size: 8 }.as_bytes().to_vec();
    let did = Run::default().journal(&[unknown, bytes(job(1, 2))]);
    assert_eq!(did.last(), Some(&Answer(1, STATUS_OK)));
}

#[test]
fn controls_reach_the_decoder() {
    let did = Run::default().journal(&[with_controls(job(1, 2), 3), with_controls(job(2, 2), 5)]);
    let submits: Vec<_> = did.into_iter().filter(|d| matches!(d, Submit(..))).collect();
    assert_eq!(submits, [Submit(1, 3), Submit(2, 5)]);
}

#[test]
fn unusable_jobs_are_answered_and_the_next_decodes() {
    let mut outside = job(2, 2);
    outside.raw[0].offset = u32::MAX;
    // 3 can be read only.
    let messages = [
        bytes(job(1, BUFFERS)),
        bytes(outside),
        bytes(job(3, 3)),
        bytes(job(4, 2)),
    ];
    assert_eq!(
        Run::default().journal(&messages),
        [
            Fetch(1),
            Fetch(BUFFERS),
            Answer(1, STATUS_ERROR),
            Fetch(2),
            Answer(2, STATUS_ERROR),
            Fetch(3),
            Answer(3, STATUS_ERROR),
            Open(coded_format()),
            Submit(4, 0),
            Answer(4, STATUS_OK),
        ]
    );
}

#[test]
fn a_job_that_cannot_be_read_is_answered() {
    let mut bad = job(7, 2);
    bad.num_planes = 4;
    let cut = bytes(job(8, 2))[..16].to_vec();
    let headless = bytes(job(9, 2))[..12].to_vec();
    let did = Run::default().journal(&[bytes(bad), cut, headless, bytes(job(10, 2))]);
    assert_eq!(did[..2], [Answer(7, STATUS_ERROR), Answer(8, STATUS_ERROR)]);
    assert_eq!(did.last(), Some(&Answer(10, STATUS_OK)));
    assert!(!did.iter().any(|d| matches!(d, Answer(9, _))));
}

#[test]
fn a_decoder_that_does_not_open_is_an_error_of_each_job() {
    let run = Run {
        opens: false,
        ..Run::default()
    };
    assert_eq!(
        run.journal(&[bytes(job(1, 2)), bytes(job(2, 2))]),
        [
            Fetch(1),
            Fetch(2),
            Open(coded_format()),
            Answer(1, STATUS_ERROR),
            Open(coded_format()),
            Answer(2, STATUS_ERROR)
        ]
    );
}

#[test]
fn a_buffer_is_fetched_again_only_after_it_is_gone() {
    let messages = [
        bytes(job(1, 2)),
        bytes(job(2, 2)),
        gone(2),
        gone(8),
        bytes(job(3, 2)),
    ];
    let did = Run::default().journal(&messages);
    assert_eq!(did.iter().filter(|d| **d == Fetch(2)).count(), 2);
    assert_eq!(did.last(), Some(&Answer(3, STATUS_OK)));
}

#[test]
fn late_reports_are_collected_when_nothing_else_waits() {
    let run = Run {
        delay: 2,
        ..Run::default()
    };
    let did = run.journal(&[
        bytes(job(1, 2)),
        bytes(job(2, 4)),
        bytes(job(3, 6)),
        bytes(job(4, 8)),
    ]);
    let order: Vec<_> = did
        .into_iter()
        .filter(|d| !matches!(d, Fetch(_) | Open(_)))
        .collect();
    assert_eq!(
        order,
        [
            Submit(1, 0),
            Submit(2, 0),
            Submit(3, 0),
            Answer(1, STATUS_OK),
            Submit(4, 0),
            Answer(2, STATUS_OK),
            Drain,
            Answer(3, STATUS_OK),
            Answer(4, STATUS_OK),
        ]
    );
}

#[test]
fn a_reset_completes_what_is_pending_first() {
    let run = Run {
        delay: 2,
        ..Run::default()
    };
    let did = run.journal(&[reset(), bytes(job(1, 2)), reset(), bytes(job(2, 2))]);
    let order: Vec<_> = did
        .into_iter()
        .filter(|d| !matches!(d, Fetch(_) | Open(_)))
        .collect();
    assert_eq!(
        order,
        [
            Submit(1, 0),
            Drain,
            Answer(1, STATUS_OK),
            Reset,
            Submit(2, 0),
            Drain,
            Answer(2, STATUS_OK)
        ]
    );
}

#[test]
fn a_job_that_the_decoder_loses_is_answered() {
    let run = Run {
        lose: 1,
        ..Run::default()
    };
    let did = run.journal(&[bytes(job(1, 2)), bytes(job(2, 2))]);
    assert!(did.contains(&Answer(1, STATUS_ERROR)) && did.contains(&Answer(2, STATUS_OK)));
}

#[test]
fn another_format_is_another_decoder() {
    let mut other = job(2, 2);
    other.coded_format = other_format();
    let run = Run {
        delay: 2,
        ..Run::default()
    };
    let did = run.journal(&[bytes(job(1, 2)), bytes(other)]);
    let order: Vec<_> = did.into_iter().filter(|d| !matches!(d, Fetch(_))).collect();
    assert_eq!(
        order,
        [
            Open(coded_format()),
            Submit(1, 0),
            Drain,
            Open(other_format()),
            Submit(2, 0),
            Answer(1, STATUS_OK),
            Drain,
            Answer(2, STATUS_OK),
        ]
    );
}

#[test]
fn a_job_given_up_by_the_module_is_no_failure() {
    let run = Run {
        given_up: |job| if job == 1 { Err(Errno::NOENT) } else { Ok(()) },
        ..Run::default()
    };
    let did = run.journal(&[bytes(job(1, 2)), bytes(job(2, 2))]);
    assert_eq!(did.last(), Some(&Answer(2, STATUS_OK)));
}

#[test]
fn another_error_of_an_answer_ends_the_worker() {
    let run = Run {
        given_up: |_| Err(Errno::INVAL),
        ..Run::default()
    };
    let (result, did) = run.of(&[bytes(job(1, 2)), bytes(job(2, 2))]);
    assert!(result.is_err());
    assert_eq!(did.last(), Some(&Answer(1, STATUS_OK)));
}

#[test]
fn faults_hit_their_job() {
    let run = Run {
        faults: vec!["error:2".parse().unwrap(), "stall:1:20".parse().unwrap()],
        ..Run::default()
    };
    let start = std::time::Instant::now();
    let did = run.journal(&[bytes(job(1, 2)), bytes(job(2, 2)), bytes(job(3, 2))]);
    assert!(start.elapsed() >= std::time::Duration::from_millis(20));
    let answers: Vec<_> = did.into_iter().filter(|d| matches!(d, Answer(..))).collect();
    assert_eq!(
        answers,
        [
            Answer(1, STATUS_OK),
            Answer(2, STATUS_ERROR),
            Answer(3, STATUS_OK)
        ]
    );
}

#[test]
fn a_dropped_job_is_not_answered() {
    let run = Run {
        faults: vec!["drop:2".parse().unwrap()],
        ..Run::default()
    };
    let did = run.journal(&[bytes(job(1, 2)), bytes(job(2, 2)), bytes(job(3, 2))]);
    let answers: Vec<_> = did.into_iter().filter(|d| matches!(d, Answer(..))).collect();
    assert_eq!(answers, [Answer(1, STATUS_OK), Answer(3, STATUS_OK)]);
}

#[test]
fn recycled_memory_is_the_same() {
    let controls: Vec<Control<'_>> = Vec::with_capacity(16);
    let memory = controls.as_ptr() as usize;
    let again: Vec<Control<'_>> = recycle(controls);
    assert_eq!((again.as_ptr() as usize, again.capacity()), (memory, 16));
}
