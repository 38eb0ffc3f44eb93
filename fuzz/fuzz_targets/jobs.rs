// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Feeds whole sessions to the engine: every job is answered once and in order, whatever controls, geometry
//! and coded data are, and nothing outside of its planes is touched.
//!
//! The decoders' C libraries take part, since that is what a worker runs; a crash in one of them is no fault
//! of the engine's, but is to be seen.

#![no_main]

use std::collections::HashMap;
use std::sync::Arc;

use daedalus_engine::memory::{Mapping, View};
use daedalus_engine::{Job, JobError, Options, RawPicture, Session};
use daedalus_fuzz::messages;
use daedalus_uapi::protocol::{self, JOB_F_SAME_CAPTURE, JobMessage, Message};
use libfuzzer_sys::{Corpus, fuzz_target};

/// Bytes of a buffer at most, and buffers at most: what a run may take of the machine.
const MOST_BYTES: usize = 1 << 20;
const MOST_BUFFERS: usize = 12;
const MOST_JOBS: usize = 24;

/// Memory by the ids that the messages use.
#[derive(Default)]
struct Memory(HashMap<u64, Arc<Mapping>>);

impl Memory {
    fn plane(&mut self, plane: &protocol::Plane) -> Option<View> {
        let id = plane.buffer % MOST_BUFFERS as u64;
        let length = (plane.length as usize).min(MOST_BYTES);
        let offset = plane.offset as usize % 4096;
        let mapping = match self.0.get(&id) {
            Some(mapping) if mapping.len() >= offset + length => mapping.clone(),
            _ => {
                let mapping = Mapping::anonymous(offset + length.max(1)).ok()?;
                self.0.insert(id, mapping.clone());
                mapping
            }
        };
        View::new(mapping, offset, length, plane.bytesperline as usize).ok()
    }
}

struct Run {
    session: Session<()>,
    memory: Memory,
    submitted: Vec<u64>,
    answered: Vec<u64>,
}

impl Run {
    fn job(&mut self, message: &JobMessage<'_>, data: &[u8]) -> Option<()> {
        let head = message.head;
        self.session.select(head.coded_format).ok()?;
        let memory = Mapping::anonymous(data.len().max(1)).ok()?;
        memory.write(0, data).ok()?;
        let coded = View::new(memory, 0, data.len(), 0).ok()?;
        let planes = message
            .raw_planes()
            .iter()
            .map(|plane| self.memory.plane(plane))
            .collect::<Option<Vec<_>>>()?;
        let controls: Vec<_> = message.controls().collect();
        // Ids are the module's to give, not the client's: they increase.
        let id = self.submitted.len() as u64 + 1;
        self.submitted.push(id);
        let job = Job {
            id,
            timestamp: head.timestamp,
            same_capture: head.flags & JOB_F_SAME_CAPTURE != 0,
            coded,
            controls: &controls,
            raw: RawPicture {
                format: head.raw_format,
                width: head.width,
                height: head.height,
                planes,
            },
        };
        self.session.submit(&job, ());
        self.answers();
        Some(())
    }

    /// Takes the answers, none of which may be for a job that the decoder has lost.
    fn answers(&mut self) {
        while let Some((report, ())) = self.session.next_done() {
            assert!(!matches!(report.reason, Some(JobError::Unreported)), "{report:?}");
            self.answered.push(report.job);
        }
    }

    fn drain(&mut self) {
        self.session.drain();
        self.answers();
        assert_eq!(
            self.answered, self.submitted,
            "every job is answered once, in order"
        );
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut run = Run {
        session: Session::new(Options::default()),
        memory: Memory::default(),
        submitted: Vec::new(),
        answered: Vec::new(),
    };
    let mut jobs = 0;
    for (message, coded) in messages(data).take(MOST_JOBS) {
        match Message::parse(message.bytes()) {
            Ok(Message::Job(job)) => jobs += usize::from(run.job(&job, coded).is_some()),
            Ok(Message::Reset) => {
                run.drain();
                run.session.reset();
            }
            Ok(Message::BufferGone(id)) => {
                run.memory.0.remove(&(id % MOST_BUFFERS as u64));
            }
            Ok(Message::Unknown(_)) | Err(_) => {}
        }
    }
    run.drain();
    if jobs > 0 { Corpus::Keep } else { Corpus::Reject }
});
