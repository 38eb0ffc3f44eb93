// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A worker without a kernel: decodes a stream's jobs with the engine and records them, with buffers that are
//! used again as a client does.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use daedalus_client::CodedJob;
use daedalus_engine::memory::{Mapping, View};
use daedalus_engine::{Job, Options, RawPicture};
use daedalus_replay::Recorder;
use daedalus_trace::{Buffer, Session};
use daedalus_uapi::codec::elements;
use daedalus_uapi::formats::{RawFormat, Size};
use daedalus_uapi::protocol::{self, Control, JOB_F_SAME_CAPTURE, MsgJob};

/// The id of the memory that coded data is said to be in.
const CODED: u64 = 1;

/// A CAPTURE buffer and the picture in it.
struct Slot {
    id: u64,
    mapping: std::sync::Arc<Mapping>,
    head: MsgJob,
    timestamp: u64,
}

impl Slot {
    fn new(id: u64, job: &CodedJob) -> Result<Self> {
        let format = RawFormat::default_for(job.bit_depth);
        let size = Size {
            width: job.coded_width,
            height: job.coded_height,
        };
        let [memory, ..] = format.memory(size);
        let Size { width, height } = size.rounded();
        let (length, stride) = (memory.sizeimage as u32, memory.bytesperline as u32);
        let mut head = MsgJob {
            raw_format: format.fourcc,
            width,
            height,
            num_planes: 1,
            ..MsgJob::default()
        };
        head.raw[0] = protocol::Plane {
            buffer: id,
            length,
            bytesperline: stride,
            ..protocol::Plane::default()
        };
        Ok(Self {
            id,
            mapping: Mapping::anonymous(length as usize)?,
            head,
            timestamp: job.timestamp,
        })
    }

    fn fits(&self, other: &Self) -> bool {
        (self.head.raw_format, self.head.width, self.head.height)
            == (other.head.raw_format, other.head.width, other.head.height)
    }
}

/// Decodes and records the jobs. A reset is put before each job of `resets`.
pub(crate) fn record(coded_format: u32, jobs: &[CodedJob], resets: &[usize]) -> Result<Vec<u8>> {
    let session = Session {
        session: 1,
        started: 0,
        big_endian: cfg!(target_endian = "big"),
        writer: "a test".to_owned(),
    };
    let mut recorder = Recorder::new(Vec::new(), &session)?;
    let mut decoder = daedalus_engine::open(coded_format, &Options::default())?;
    let mut sticky: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut slots: Vec<Slot> = Vec::new();
    let mut references: Vec<u64> = Vec::new();
    let (mut next, mut last) = (CODED + 1, 0);
    recorder.buffer(Buffer {
        id: CODED,
        size: 1 << 20,
        writable: false,
        imported: false,
    })?;
    for (index, coded) in jobs.iter().enumerate() {
        let mut done = Vec::new();
        if resets.contains(&index) {
            decoder.drain(&mut done);
            ensure!(done.is_empty(), "a job was left over");
            decoder.reset();
            recorder.reset()?;
        }
        if !coded.same_capture {
            let fresh = Slot::new(next, coded)?;
            let idle = slots
                .iter()
                .position(|slot| slot.fits(&fresh) && !references.contains(&slot.timestamp));
            last = idle.unwrap_or(slots.len());
            if let Some(slot) = slots.get_mut(last) {
                slot.timestamp = coded.timestamp;
            } else {
                recorder.buffer(Buffer {
                    id: fresh.id,
                    size: fresh.mapping.len() as u64,
                    writable: true,
                    imported: false,
                })?;
                slots.push(fresh);
                next += 1;
            }
        }
        let slot = slots.get(last).context("no CAPTURE buffer")?;
        for control in &coded.controls {
            sticky.insert(control.id, control.value.clone());
        }
        let controls: Vec<Control<'_>> = sticky
            .iter()
            .map(|(&id, value)| Control {
                id,
                in_request: coded.control(id).is_some(),
                elems: elements(id, value.len()),
                value,
            })
            .collect();
        let mapping = Mapping::anonymous(coded.payload.len().max(1))?;
        mapping.write(0, &coded.payload)?;
        let head = MsgJob {
            job: index as u64 + 1,
            timestamp: coded.timestamp,
            coded_format,
            flags: if coded.same_capture { JOB_F_SAME_CAPTURE } else { 0 },
            coded: protocol::Plane {
                buffer: CODED,
                length: u32::try_from(coded.payload.len())?,
                ..protocol::Plane::default()
            },
            ..slot.head
        };
        let plane = head.raw[0];
        let job = Job {
            id: head.job,
            timestamp: coded.timestamp,
            same_capture: coded.same_capture,
            coded: View::new(mapping, 0, coded.payload.len(), 0)?,
            controls: &controls,
            raw: RawPicture {
                format: head.raw_format,
                width: head.width,
                height: head.height,
                planes: vec![View::new(
                    slot.mapping.clone(),
                    0,
                    plane.length as usize,
                    plane.bytesperline as usize,
                )?],
            },
        };
        recorder.job(&head, &job)?;
        decoder.submit(&job, &mut done);
        decoder.drain(&mut done);
        ensure!(done.len() == 1, "{} reports of one job", done.len());
        recorder.done(&done[0])?;
        references.clone_from(&coded.references);
    }
    // No codec keeps more than 16 pictures.
    ensure!(slots.len() <= 17, "buffers are not used again");
    Ok(recorder.finish()?)
}
