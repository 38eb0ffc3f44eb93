// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `Message::parse` on arbitrary bytes and on messages built here.

use daedalus_uapi::fd::MessageBuffer;
use daedalus_uapi::protocol::*;
use proptest::prelude::*;
use zerocopy::IntoBytes;

/// Appends control records, each padded to 8 bytes as the header demands.
fn job_bytes(mut head: MsgJob, ctrls: &[(u32, bool, u32, Vec<u8>)]) -> Vec<u8> {
    let mut tail = Vec::new();
    for (id, in_request, elems, value) in ctrls {
        let flags = if *in_request { CTRL_F_IN_REQUEST } else { 0 };
        let ctrl = Ctrl {
            id: *id,
            flags,
            size: value.len() as u32,
            elems: *elems,
        };
        tail.extend_from_slice(ctrl.as_bytes());
        tail.extend_from_slice(value);
        tail.resize(tail.len().next_multiple_of(8), 0);
    }
    head.num_ctrls = ctrls.len() as u32;
    head.msg = Msg {
        kind: MSG_JOB,
        size: (size_of::<MsgJob>() + tail.len()) as u32,
    };
    [head.as_bytes(), &tail].concat()
}

/// `bytes` in memory that is aligned as a session's message buffer.
fn aligned<R>(bytes: &[u8], f: impl FnOnce(&[u8]) -> R) -> R {
    let mut buffer = MessageBuffer::new();
    let slot = &mut buffer.bytes_mut()[..bytes.len()];
    slot.copy_from_slice(bytes);
    f(slot)
}

/// Reads everything that a worker would.
fn walk(message: &Message<'_>) {
    if let Message::Job(job) = message {
        assert_eq!(job.raw_planes().len(), job.head.num_planes as usize);
        assert_eq!(job.controls().count(), job.head.num_ctrls as usize);
    }
}

/// Asserts that `bytes` are read as the job that `head` and `ctrls` describe.
fn reads_back(bytes: &[u8], head: &MsgJob, ctrls: &[(u32, bool, u32, Vec<u8>)]) {
    let Ok(Message::Job(job)) = Message::parse(bytes) else {
        panic!("not read as a job");
    };
    let expected = MsgJob {
        msg: job.head.msg,
        num_ctrls: ctrls.len() as u32,
        ..*head
    };
    assert_eq!(*job.head, expected);
    assert_eq!(job.raw_planes(), &head.raw[..head.num_planes as usize]);
    let read: Vec<_> = job
        .controls()
        .map(|c| {
            assert_eq!(c.value.as_ptr().align_offset(8), 0);
            (c.id, c.in_request, c.elems, c.value.to_vec())
        })
        .collect();
    assert_eq!(read, ctrls);
}

prop_compose! {
    fn a_plane()(buffer: u64, offset: u32, length: u32, bytesperline: u32) -> Plane {
        Plane { buffer, offset, length, bytesperline, reserved: 0 }
    }
}

prop_compose! {
    fn a_head()(
        job: u64, timestamp: u64, formats: [u32; 2], flags: u32, coded in a_plane(), size: [u32; 2],
        num_planes in 1..=MAX_PLANES as u32, raw in [a_plane(), a_plane(), a_plane()],
    ) -> MsgJob {
        MsgJob {
            job, timestamp, coded_format: formats[0], flags, coded, raw_format: formats[1],
            width: size[0], height: size[1], num_planes, raw, ..MsgJob::default()
        }
    }
}

fn some_ctrls() -> impl Strategy<Value = Vec<(u32, bool, u32, Vec<u8>)>> {
    let value = prop::collection::vec(any::<u8>(), 0..300);
    prop::collection::vec((any::<u32>(), any::<bool>(), any::<u32>(), value), 0..12)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = aligned(&bytes, |b| Message::parse(b).map(|m| walk(&m)));
        // Unaligned memory is refused or read, never a panic.
        let shifted = [&[0], bytes.as_slice()].concat();
        let _ = Message::parse(&shifted[1..]);
    }

    #[test]
    fn damaged_jobs_never_panic(
        head in a_head(),
        ctrls in some_ctrls(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = job_bytes(head, &ctrls);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = aligned(&bytes, |b| Message::parse(b).map(|m| walk(&m)));
        bytes.truncate(cut.index(bytes.len()));
        let _ = aligned(&bytes, |b| Message::parse(b).map(|m| walk(&m)));
    }

    #[test]
    fn a_cut_job_is_an_error(head in a_head(), ctrls in some_ctrls(), cut in any::<prop::sample::Index>()) {
        let mut bytes = job_bytes(head, &ctrls);
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(aligned(&bytes, |b| Message::parse(b).map(|_| ()).is_err()));
    }

    #[test]
    fn a_built_job_reads_back(head in a_head(), ctrls in some_ctrls()) {
        let bytes = job_bytes(head, &ctrls);
        aligned(&bytes, |b| reads_back(b, &head, &ctrls));
    }
}

fn bare(kind: u32, size: u32) -> Vec<u8> {
    Msg { kind, size }.as_bytes().to_vec()
}

#[test]
fn reset_and_unknown_types_are_told_apart() {
    aligned(&bare(MSG_RESET, 8), |b| {
        assert!(matches!(Message::parse(b), Ok(Message::Reset)))
    });
    aligned(&bare(77, 8), |b| {
        assert!(matches!(Message::parse(b), Ok(Message::Unknown(77))))
    });
}

#[test]
fn a_size_smaller_than_the_header_is_an_error() {
    for size in 0..8 {
        for kind in [MSG_RESET, MSG_JOB, MSG_BUFFER_GONE, 77] {
            aligned(&bare(kind, size), |b| {
                assert!(Message::parse(b).is_err(), "type {kind} of {size} bytes");
            });
        }
    }
}

#[test]
fn a_size_that_is_no_multiple_of_8_is_an_error() {
    let mut bytes = bare(77, 12);
    bytes.resize(16, 0);
    aligned(&bytes, |b| assert!(Message::parse(b).is_err()));
}
