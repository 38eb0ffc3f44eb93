// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The worker against a module that is a list of messages. The streams are ones that nobody can decode, so
//! that what counts is the order of the answers.

use std::collections::VecDeque;

use daedalus_uapi::codec::Codec;
use daedalus_uapi::protocol::stateful::{
    MSG_CODED, MSG_CONTINUE, MSG_DRAIN, MSG_FLUSH, MSG_RAW, MSG_RECLAIM, MSG_START, MsgStart,
};
use daedalus_uapi::protocol::{Msg, Plane};
use zerocopy::IntoBytes;

use super::*;

/// What the worker called.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Done(u64, u32),
    Picture(u64),
    Format,
    End,
}

/// A module that hands out messages and notes what is called.
#[derive(Default)]
struct Module {
    messages: VecDeque<Vec<u8>>,
    calls: Vec<Call>,
    /// The error of each call but `buffer`.
    error: Option<Errno>,
}

impl Module {
    fn result<T>(&self, value: T) -> rustix::io::Result<T> {
        self.error.map_or(Ok(value), Err)
    }
}

impl Session for Module {
    fn read<'b>(&mut self, buffer: &'b mut MessageBuffer) -> rustix::io::Result<Option<&'b [u8]>> {
        Ok(self.messages.pop_front().map(|message| {
            let slot = &mut buffer.bytes_mut()[..message.len()];
            slot.copy_from_slice(&message);
            &*slot
        }))
    }

    fn buffer(&mut self, _id: u64) -> rustix::io::Result<Buffer> {
        let fd = rustix::fs::memfd_create("plane", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&fd, 4096)?;
        Ok(Buffer {
            fd,
            size: 4096,
            writable: true,
            imported: false,
            initialised: true,
        })
    }

    fn format(&mut self, _format: Format) -> rustix::io::Result<bool> {
        self.calls.push(Call::Format);
        self.result(true)
    }

    fn picture(&mut self, picture: Picture) -> rustix::io::Result<()> {
        self.calls.push(Call::Picture(picture.raw));
        self.result(())
    }

    fn coded_done(&mut self, unit: u64, status: u32) -> rustix::io::Result<()> {
        self.calls.push(Call::Done(unit, status));
        self.result(())
    }

    fn end(&mut self) -> rustix::io::Result<()> {
        self.calls.push(Call::End);
        self.result(())
    }

    fn headers(&mut self, _headers: &[u8]) -> rustix::io::Result<()> {
        Ok(())
    }
}

fn header<T>(kind: u32) -> Msg {
    Msg {
        kind,
        size: size_of::<T>() as u32,
    }
}

fn bare(kind: u32) -> Vec<u8> {
    header::<Msg>(kind).as_bytes().to_vec()
}

fn start(codec: Codec) -> Vec<u8> {
    let start = MsgStart {
        msg: header::<MsgStart>(MSG_START),
        coded_format: codec.info().stateful_formats[0],
        ..MsgStart::default()
    };
    start.as_bytes().to_vec()
}

fn coded(unit: u64, length: u32) -> Vec<u8> {
    let coded = MsgCoded {
        msg: header::<MsgCoded>(MSG_CODED),
        unit,
        coded: Plane {
            buffer: unit,
            length,
            ..Plane::default()
        },
        ..MsgCoded::default()
    };
    coded.as_bytes().to_vec()
}

fn raw(id: u64, num_planes: u32) -> Vec<u8> {
    let raw = MsgRaw {
        msg: header::<MsgRaw>(MSG_RAW),
        raw: id,
        num_planes,
        ..MsgRaw::default()
    };
    raw.as_bytes().to_vec()
}

/// Runs a worker on these messages. Returns what it called.
fn run(messages: Vec<Vec<u8>>, error: Option<Errno>) -> Result<Vec<Call>> {
    let module = Module {
        messages: messages.into(),
        error,
        ..Module::default()
    };
    let mut worker = Worker::new(module, Options::default(), Vec::new(), true);
    worker.run(4096)?;
    Ok(worker.session.calls)
}

#[test]
fn units_go_back_in_order_and_a_drain_of_no_picture_ends() {
    for &codec in Codec::ALL {
        let messages = vec![
            start(codec),
            coded(1, 100),
            raw(1, 1),
            coded(2, 0),
            coded(3, 4096),
            bare(MSG_DRAIN),
            bare(MSG_DRAIN),
        ];
        let calls = run(messages, None).unwrap();
        let done = |unit, status| Call::Done(unit, status);
        let expected = [
            done(1, STATUS_OK),
            // Nothing is in it.
            done(2, STATUS_ERROR),
            done(3, STATUS_OK),
            Call::End,
            Call::End,
        ];
        assert_eq!(calls, expected, "{codec}");
    }
}

#[test]
fn a_flush_and_a_reclaim_forget() {
    let messages = vec![
        start(Codec::ALL[0]),
        raw(1, 1),
        bare(MSG_FLUSH),
        bare(MSG_RECLAIM),
        bare(MSG_CONTINUE),
        coded(7, 10),
        // A type that is not known, and a message that cannot be read.
        bare(0x3f),
        raw(2, 4),
        bare(MSG_DRAIN),
    ];
    let calls = run(messages, None).unwrap();
    assert_eq!(calls, [Call::Done(7, STATUS_OK), Call::End]);
}

#[test]
fn what_the_module_has_taken_back_is_no_error() {
    let messages = vec![
        start(Codec::ALL[0]),
        coded(1, 10),
        bare(MSG_DRAIN),
        bare(MSG_FLUSH),
        coded(2, 10),
    ];
    // The unit is gone; for the drain it is an error that ends the worker.
    assert!(run(messages.clone(), Some(Errno::NOENT)).is_err());
    let messages = vec![
        start(Codec::ALL[0]),
        bare(MSG_DRAIN),
        bare(MSG_FLUSH),
        bare(MSG_DRAIN),
    ];
    let calls = run(messages, Some(Errno::CANCELED)).unwrap();
    assert_eq!(calls, [Call::End, Call::End]);
}

#[test]
fn units_before_a_decoder_go_back() {
    let calls = run(vec![coded(1, 10)], None).unwrap();
    assert!(calls.is_empty(), "no decoder takes it: {calls:?}");
    let mut unknown = start(Codec::ALL[0]);
    unknown[8..12].copy_from_slice(b"h263");
    assert!(run(vec![unknown], None).is_err());
}
