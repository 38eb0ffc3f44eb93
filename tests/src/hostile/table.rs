// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every ioctl of every node, and how often each was called.

use std::collections::BTreeMap;

use rustix::io::Errno;
use rustix::ioctl::{Direction, Opcode, opcode};
use serde::{Deserialize, Serialize};

const NONE: Direction = Direction::None;
const R: Direction = Direction::Read;
const W: Direction = Direction::Write;
const RW: Direction = Direction::ReadWrite;

/// Whose ioctl it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Node {
    Video,
    /// What only the stateful video node has.
    Stream,
    /// The media node and the requests that it allocates.
    Media,
    Control,
    Session,
    /// What only session fds of the stateful face have.
    StreamSession,
}

macro_rules! ops {
    ($($op:ident $node:ident $direction:ident $group:literal $number:literal $size:literal;)*) => {
        /// An ioctl.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub(super) enum Op { $($op),* }

        impl Op {
            pub(super) const ALL: &[Self] = &[$(Self::$op),*];

            pub(super) fn node(self) -> Node {
                match self { $(Self::$op => Node::$node),* }
            }

            pub(super) fn opcode(self) -> Opcode {
                match self {
                    $(Self::$op => opcode::from_components($direction, $group, $number, $size)),*
                }
            }
        }
    };
}

ops! {
    QueryCap Video R b'V' 0 104;
    EnumFmt Video RW b'V' 2 64;
    GFmt Video RW b'V' 4 208;
    SFmt Video RW b'V' 5 208;
    ReqBufs Video RW b'V' 8 20;
    QueryBuf Video RW b'V' 9 88;
    QBuf Video RW b'V' 15 88;
    ExpBuf Video RW b'V' 16 64;
    DqBuf Video RW b'V' 17 88;
    StreamOn Video W b'V' 18 4;
    StreamOff Video W b'V' 19 4;
    GCtrl Video RW b'V' 27 8;
    SCtrl Video RW b'V' 28 8;
    QueryCtrl Video RW b'V' 36 68;
    QueryMenu Video RW b'V' 37 44;
    TryFmt Video RW b'V' 64 208;
    GPriority Video R b'V' 67 4;
    SPriority Video W b'V' 68 4;
    GExtCtrls Video RW b'V' 71 32;
    SExtCtrls Video RW b'V' 72 32;
    TryExtCtrls Video RW b'V' 73 32;
    EnumFrameSizes Video RW b'V' 74 44;
    DqEvent Video R b'V' 89 136;
    SubscribeEvent Video W b'V' 90 32;
    UnsubscribeEvent Video W b'V' 91 32;
    CreateBufs Video RW b'V' 92 256;
    PrepareBuf Video RW b'V' 93 88;
    DecoderCmd Video RW b'V' 96 72;
    TryDecoderCmd Video RW b'V' 97 72;
    QueryExtCtrl Video RW b'V' 103 232;
    RemoveBufs Video RW b'V' 104 64;
    GSelection Stream RW b'V' 94 64;
    SSelection Stream RW b'V' 95 64;
    DeviceInfo Media RW b'|' 0 256;
    EnumEntities Media RW b'|' 1 256;
    EnumLinks Media RW b'|' 2 40;
    SetupLink Media RW b'|' 3 52;
    Topology Media RW b'|' 4 72;
    RequestAlloc Media R b'|' 5 4;
    RequestQueue Media NONE b'|' 0x80 0;
    RequestReinit Media NONE b'|' 0x81 0;
    Hello Control RW 0xda 0 32;
    RegisterV1 Control W 0xda 1 56;
    Register Control RW 0xda 1 56;
    SessionFd Control RW 0xda 2 32;
    BufferFd Session RW 0xda 0x20 32;
    JobDone Session W 0xda 0x21 32;
    Attach Session RW 0xda 0x22 48;
    Next Session RW 0xda 0x23 32;
    Format StreamSession RW 0xda 0x30 48;
    Picture StreamSession W 0xda 0x31 48;
    CodedDone StreamSession W 0xda 0x32 16;
    End StreamSession NONE 0xda 0x33 0;
    Headers StreamSession W 0xda 0x34 16;
}

impl Op {
    /// Returns the ioctls of `node`.
    pub(super) fn of(node: Node) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |op| op.node() == node)
    }
}

/// How often an ioctl was called.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) calls: u64,
    pub(super) succeeded: u64,
    /// Failures by error number.
    pub(super) errors: BTreeMap<i32, u64>,
}

/// The calls of a process, or of a whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally(pub(super) BTreeMap<Op, Count>);

impl Tally {
    /// Notes a call's result.
    pub(super) fn note<T>(&mut self, op: Op, result: &rustix::io::Result<T>) {
        let count = self.0.entry(op).or_default();
        count.calls += 1;
        match result {
            Ok(_) => count.succeeded += 1,
            Err(errno) => *count.errors.entry(errno.raw_os_error()).or_default() += 1,
        }
    }

    /// Adds another's calls.
    pub(super) fn add(&mut self, other: &Self) {
        for (op, theirs) in &other.0 {
            let count = self.0.entry(*op).or_default();
            count.calls += theirs.calls;
            count.succeeded += theirs.succeeded;
            for (errno, times) in &theirs.errors {
                *count.errors.entry(*errno).or_default() += times;
            }
        }
    }

    /// Returns the calls and successes of all ioctls, or of those of a node.
    pub(super) fn total(&self, node: Option<Node>) -> (u64, u64) {
        self.0
            .iter()
            .filter(|(op, _)| node.is_none_or(|node| node == op.node()))
            .fold((0, 0), |(calls, succeeded), (_, count)| {
                (calls + count.calls, succeeded + count.succeeded)
            })
    }

    /// Returns the calls that came past the check of their argument's form: all but those that were refused
    /// for it.
    pub(super) fn past_check(&self) -> u64 {
        let refused = [Errno::INVAL, Errno::FAULT, Errno::NOTTY].map(Errno::raw_os_error);
        self.0
            .values()
            .map(|count| {
                let refused: u64 = refused.iter().filter_map(|errno| count.errors.get(errno)).sum();
                count.calls - refused
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daedalus_client::v4l2;
    use daedalus_uapi::fd;

    #[test]
    fn the_numbers_are_the_interface_s() {
        for (op, opcode) in [
            (Op::QueryCap, v4l2::VIDIOC_QUERYCAP),
            (Op::EnumFmt, v4l2::VIDIOC_ENUM_FMT),
            (Op::SFmt, v4l2::VIDIOC_S_FMT),
            (Op::ReqBufs, v4l2::VIDIOC_REQBUFS),
            (Op::QueryBuf, v4l2::VIDIOC_QUERYBUF),
            (Op::QBuf, v4l2::VIDIOC_QBUF),
            (Op::DqBuf, v4l2::VIDIOC_DQBUF),
            (Op::ExpBuf, v4l2::VIDIOC_EXPBUF),
            (Op::StreamOn, v4l2::VIDIOC_STREAMON),
            (Op::StreamOff, v4l2::VIDIOC_STREAMOFF),
            (Op::GExtCtrls, v4l2::VIDIOC_G_EXT_CTRLS),
            (Op::SExtCtrls, v4l2::VIDIOC_S_EXT_CTRLS),
            (Op::EnumFrameSizes, v4l2::VIDIOC_ENUM_FRAMESIZES),
            (Op::CreateBufs, v4l2::VIDIOC_CREATE_BUFS),
            (Op::DecoderCmd, v4l2::VIDIOC_DECODER_CMD),
            (Op::QueryExtCtrl, v4l2::VIDIOC_QUERY_EXT_CTRL),
            (Op::RemoveBufs, v4l2::VIDIOC_REMOVE_BUFS),
            (Op::DeviceInfo, v4l2::MEDIA_IOC_DEVICE_INFO),
            (Op::RequestAlloc, v4l2::MEDIA_IOC_REQUEST_ALLOC),
            (Op::RequestQueue, v4l2::MEDIA_REQUEST_IOC_QUEUE),
            (Op::RequestReinit, v4l2::MEDIA_REQUEST_IOC_REINIT),
            (Op::Hello, fd::IOC_HELLO),
            (Op::RegisterV1, fd::IOC_REGISTER_V1),
            (Op::Register, fd::IOC_REGISTER),
            (Op::SessionFd, fd::IOC_SESSION_FD),
            (Op::BufferFd, fd::IOC_BUFFER_FD),
            (Op::JobDone, fd::IOC_JOB_DONE),
            (Op::Attach, fd::IOC_ATTACH),
            (Op::Next, fd::IOC_NEXT),
            (Op::Format, fd::IOC_FORMAT),
            (Op::Picture, fd::IOC_PICTURE),
            (Op::CodedDone, fd::IOC_CODED_DONE),
            (Op::End, fd::IOC_END),
            (Op::Headers, fd::IOC_HEADERS),
        ] {
            assert_eq!(op.opcode(), opcode, "{op:?}");
        }
    }

    #[test]
    fn what_is_refused_for_its_form_is_told_from_the_rest() {
        let mut tally = Tally::default();
        tally.note(Op::JobDone, &Ok(0));
        tally.note(Op::JobDone, &Err::<i32, _>(Errno::NOENT));
        tally.note(Op::JobDone, &Err::<i32, _>(Errno::INVAL));
        tally.note(Op::Hello, &Err::<i32, _>(Errno::FAULT));
        let mut both = tally.clone();
        both.add(&tally);
        assert_eq!(both.past_check(), 4);
        assert_eq!(both.total(Some(Node::Session)), (6, 2));
        assert_eq!(both.total(None), (8, 2));
    }
}
