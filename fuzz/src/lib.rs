// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fuzz targets of codecs' headers, and inputs of the others. The `jobs` target's is the messages of a
//! session fd one after the other, each job's followed by its coded data.

#![forbid(unsafe_code)]

pub mod codecs;

use daedalus_trace::{Job, Record};
use daedalus_uapi::protocol::{
    CTRL_F_IN_REQUEST, Ctrl, JOB_F_SAME_CAPTURE, MAX_PLANES, MSG_JOB, MSG_MAX_V1, MSG_RESET, Msg, MsgJob,
    Plane,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A message, 8-byte aligned as [`daedalus_uapi::protocol::Message::parse`] wants it.
#[derive(Debug, Default)]
pub struct AlignedMessage(Vec<u64>, usize);

impl AlignedMessage {
    /// Returns a copy of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self(words, bytes.len())
    }

    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.as_bytes()[..self.1]
    }
}

/// Splits a session's input into messages and the coded data behind those of jobs. What the header's size
/// says is taken as far as there are bytes, so that every input is some session.
pub fn messages(mut input: &[u8]) -> impl Iterator<Item = (AlignedMessage, &[u8])> {
    std::iter::from_fn(move || {
        let (head, _) = Msg::read_from_prefix(input).ok()?;
        let size = (head.size as usize)
            .clamp(size_of::<Msg>(), MSG_MAX_V1)
            .min(input.len());
        let (message, rest) = input.split_at(size);
        let message = AlignedMessage::new(message);
        let coded = match MsgJob::read_from_prefix(message.bytes()) {
            Ok((job, _)) if head.kind == MSG_JOB => job.coded.length as usize,
            _ => 0,
        };
        let (coded, rest) = rest.split_at(coded.min(rest.len()));
        input = rest;
        Some((message, coded))
    })
}

/// Appends a trace's record as the worker would have read it. Records that are no messages add nothing.
pub fn append(record: &Record, input: &mut Vec<u8>) {
    match record {
        Record::Job(job) => append_job(job, input),
        Record::Reset => {
            let reset = Msg {
                kind: MSG_RESET,
                size: size_of::<Msg>() as u32,
            };
            input.extend_from_slice(reset.as_bytes());
        }
        Record::Buffer(_) | Record::BufferGone(_) | Record::Done(_) => {}
    }
}

fn append_job(job: &Job, input: &mut Vec<u8>) {
    let mut controls = Vec::new();
    for control in &job.controls {
        let head = Ctrl {
            id: control.id,
            flags: if control.in_request { CTRL_F_IN_REQUEST } else { 0 },
            size: control.value.len() as u32,
            elems: control.elems,
        };
        controls.extend_from_slice(head.as_bytes());
        controls.extend_from_slice(&control.value);
        controls.resize(controls.len().next_multiple_of(8), 0);
    }
    let mut head = MsgJob::new_zeroed();
    head.msg = Msg {
        kind: MSG_JOB,
        size: (size_of::<MsgJob>() + controls.len()) as u32,
    };
    head.job = job.job;
    head.timestamp = job.timestamp;
    head.coded_format = job.coded_format;
    head.flags = if job.same_capture { JOB_F_SAME_CAPTURE } else { 0 };
    head.coded = Plane {
        buffer: job.coded_buffer,
        length: job.coded.len() as u32,
        ..Plane::default()
    };
    head.raw_format = job.raw_format;
    head.width = job.width;
    head.height = job.height;
    head.num_planes = job.planes.len().min(MAX_PLANES) as u32;
    head.num_ctrls = job.controls.len() as u32;
    for (to, plane) in head.raw.iter_mut().zip(&job.planes) {
        *to = Plane {
            buffer: plane.buffer,
            offset: plane.offset,
            length: plane.length,
            bytesperline: plane.bytesperline,
            reserved: 0,
        };
    }
    input.extend_from_slice(head.as_bytes());
    input.extend_from_slice(&controls);
    input.extend_from_slice(&job.coded);
}

#[cfg(test)]
mod tests {
    use daedalus_uapi::protocol::Message;

    use super::*;

    #[test]
    fn what_is_appended_is_read_back() {
        let job = Job {
            job: 7,
            coded_format: 1,
            planes: vec![daedalus_trace::Plane::default(); 2],
            controls: vec![daedalus_trace::Control {
                id: 5,
                in_request: true,
                elems: 1,
                value: vec![1, 2, 3],
            }],
            coded: vec![9; 11],
            ..Job::default()
        };
        let mut input = Vec::new();
        append(&Record::Job(Box::new(job)), &mut input);
        append(&Record::Reset, &mut input);
        let seen: Vec<_> = messages(&input).collect();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].1, [9; 11]);
        let Ok(Message::Job(message)) = Message::parse(seen[0].0.bytes()) else {
            panic!("no job: {seen:?}");
        };
        let controls: Vec<_> = message.controls().collect();
        assert_eq!((message.head.job, message.raw_planes().len()), (7, 2));
        assert_eq!((controls.len(), controls[0].value), (1, &[1, 2, 3][..]));
        assert!(matches!(Message::parse(seen[1].0.bytes()), Ok(Message::Reset)));
    }
}
