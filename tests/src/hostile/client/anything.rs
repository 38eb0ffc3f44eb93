// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The half of the fuzzer's calls that are not meant to go well: any ioctl, whatever the state is.

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};

use daedalus_client::memory::Mapping;
use daedalus_client::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT};
use daedalus_uapi::codec::Codec;
use daedalus_uapi::fourcc;

use super::state::{Client, EVENT_CTRL, EVENT_SEND_INITIAL, VALUE, VALUES};
use crate::hostile::raw::{self, Arena, Arg};
use crate::hostile::table::Op;

impl Client<'_> {
    /// Breaks a word of the argument now and then; never one of `pointers`, and nothing that is `kept`.
    fn damage(&mut self, bytes: usize, pointers: &[usize]) {
        while self.rng.one_in(4) {
            let at = self.rng.index(bytes / 4) * 4;
            if pointers.iter().any(|pointer| at / 8 == pointer / 8) {
                if self.rng.one_in(4) {
                    let nowhere = Arena::nowhere(self.rng.next());
                    self.arg.set64(at / 8 * 8, nowhere);
                }
                continue;
            }
            let value = self.rng.nasty();
            self.arg.set(at, value);
        }
    }

    fn queue_type(&mut self) -> u32 {
        if self.rng.one_in(24) {
            self.rng.nasty()
        } else {
            self.rng.pick(&[BUF_TYPE_OUTPUT, BUF_TYPE_CAPTURE])
        }
    }

    /// Draws an index that may exist.
    fn some_index(&mut self, buf_type: u32) -> u32 {
        let count = self.buffers(buf_type).count;
        if self.rng.one_in(16) {
            self.rng.nasty()
        } else {
            self.rng.below(u64::from(count).max(1)) as u32
        }
    }

    /// Draws a memory type: most often that of the queue.
    fn some_memory(&mut self, buf_type: u32) -> u32 {
        let own = self.buffers(buf_type).memory;
        if self.rng.one_in(10) {
            self.rng.pick(&[0, 1, 2, 3, 4, 5])
        } else {
            own.max(1)
        }
    }

    fn some_format(&mut self, buf_type: u32) -> u32 {
        let coded: Vec<u32> = match self.units {
            Some(_) => Codec::ALL
                .iter()
                .map(|codec| codec.info().stateful_formats[0])
                .collect(),
            None => Codec::ALL.iter().map(|codec| codec.coded_format()).collect(),
        };
        let raw = [
            fourcc::NV12,
            fourcc::NV12M,
            fourcc::YUV420,
            fourcc::YUV420M,
            fourcc::P010,
        ];
        match self.rng.below(10) {
            0 => self.rng.nasty(),
            1..=4 => self.coded_format(),
            _ if buf_type == BUF_TYPE_OUTPUT => self.rng.pick(&coded),
            _ => self.rng.pick(&raw),
        }
    }

    fn some_request(&mut self) -> usize {
        if self.requests.is_empty() || self.rng.one_in(24) {
            usize::MAX
        } else {
            self.rng.index(self.requests.len())
        }
    }

    /// Makes a call whose result matters to nobody but the kernel.
    fn attempt(&mut self, op: Op) {
        let _ = self.call(op);
    }

    /// Makes the ioctl with likely, unlikely or broken arguments.
    pub(super) fn anything(&mut self, op: Op) {
        self.arg = Arg::default();
        let buf_type = self.queue_type();
        match op {
            Op::ReqBufs | Op::SFmt | Op::StreamOff | Op::CreateBufs | Op::RemoveBufs
                if !self.rng.one_in(6) =>
            {
                // Calls that throw the state away are gentle most of the time, or little would ever be
                // decoded.
                self.gentle(op, buf_type);
            }
            Op::QueryCap | Op::GPriority | Op::DeviceInfo => self.attempt(op),
            Op::EnumFmt => {
                let index = self.rng.below(4) as u32;
                self.arg.set(0, index).set(4, buf_type);
                self.damage(64, &[]);
                self.attempt(op);
            }
            Op::GFmt => {
                self.arg.set(0, buf_type);
                self.attempt(op);
            }
            Op::SFmt | Op::TryFmt => {
                let format = self.some_format(buf_type);
                let (width, height) = (self.rng.nasty() % 700, self.rng.nasty() % 500);
                self.format(buf_type, format, width, height);
                self.damage(208, &[]);
                self.attempt(op);
            }
            Op::ReqBufs => {
                let (count, memory) = (self.rng.nasty() % 40, self.some_memory(buf_type));
                self.arg.set(0, count).set(4, buf_type).set(8, memory);
                self.damage(20, &[]);
                // The fuzzer's own state is told by QUERYBUF and QBUF when it is wrong.
                self.attempt(op);
            }
            Op::QueryBuf | Op::QBuf | Op::DqBuf | Op::PrepareBuf => self.any_buffer(op, buf_type),
            Op::ExpBuf => {
                let (index, flags) = (self.some_index(buf_type), self.rng.pick(&[0, 2, 0o2000002, 1, 3]));
                self.arg.set(0, buf_type).set(4, index).set(12, flags);
                self.damage(16, &[]);
                if self.call(op).is_ok() {
                    self.keep_export();
                }
            }
            Op::StreamOn | Op::StreamOff => {
                let _ = self.stream(op == Op::StreamOn, buf_type);
            }
            Op::GCtrl | Op::SCtrl | Op::QueryCtrl | Op::QueryExtCtrl | Op::QueryMenu => self.any_control(op),
            Op::SPriority => {
                // RECORD and BACKGROUND would have others, or this client, refused nearly everything from now
                // on.
                let priority = if self.rng.one_in(50) {
                    self.rng.below(5) as u32
                } else {
                    2
                };
                self.arg.set(0, priority);
                self.attempt(op);
            }
            Op::GExtCtrls | Op::SExtCtrls | Op::TryExtCtrls => self.any_controls(op),
            Op::EnumFrameSizes => {
                let format = self.some_format(BUF_TYPE_OUTPUT);
                self.arg.set(4, format);
                self.damage(12, &[]);
                self.attempt(op);
            }
            Op::DqEvent => self.attempt(op),
            Op::SubscribeEvent | Op::UnsubscribeEvent => {
                let id = self.rng.pick(&self.menus[..2]);
                self.arg.set(0, EVENT_CTRL).set(4, id).set(8, EVENT_SEND_INITIAL);
                self.damage(12, &[]);
                self.attempt(op);
            }
            Op::CreateBufs => {
                let (format, count) = (self.some_format(buf_type), self.rng.nasty() % 20);
                self.create(buf_type, format, count);
                self.damage(256, &[]);
                self.attempt(op);
            }
            Op::RemoveBufs => {
                let (index, count) = (self.some_index(buf_type), self.rng.below(3) as u32);
                self.arg.set(0, index).set(4, count).set(8, buf_type);
                self.damage(12, &[]);
                self.attempt(op);
            }
            Op::DecoderCmd | Op::TryDecoderCmd => {
                let command = if self.rng.one_in(4) {
                    self.rng.below(6) as u32
                } else if self.units.is_some() {
                    self.rng.pick(&[v4l2::DEC_CMD_START, v4l2::DEC_CMD_STOP])
                } else {
                    v4l2::DEC_CMD_FLUSH
                };
                self.arg.set(0, command);
                self.damage(8, &[]);
                self.attempt(op);
            }
            Op::GSelection | Op::SSelection => {
                let (target, flags) = (
                    self.rng.pick(&[0, 1, 2, 0x100, 0x101, 0x102, 0x103]),
                    self.rng.below(4),
                );
                let (width, height) = (self.rng.nasty(), self.rng.nasty());
                let buf_type = self.rng.pick(&[1, buf_type]);
                self.arg.set(0, buf_type).set(4, target).set(8, flags as u32);
                self.arg.set(20, width).set(24, height);
                self.damage(28, &[]);
                self.attempt(op);
            }
            _ => self.any_media(op),
        }
    }

    /// Makes calls that would throw the state away, with arguments with which they do not.
    fn gentle(&mut self, op: Op, buf_type: u32) {
        match op {
            Op::SFmt => {
                let job = &self.clip.jobs[0];
                let (width, height) = (job.coded_width, job.coded_height);
                let codec = self.coded_format();
                self.format(BUF_TYPE_OUTPUT, codec, width, height);
                self.attempt(op);
            }
            Op::ReqBufs => {
                // Busy, most often: the queue streams.
                let memory = self.some_memory(buf_type);
                self.arg.set(0, 2).set(4, buf_type).set(8, memory);
                if !self.buffers(buf_type).streaming {
                    self.buffers(buf_type).count = 0;
                }
                self.attempt(op);
            }
            Op::StreamOff => {
                // Most streams of a session are stopped on purpose, and go on.
                let _ = self.stream(false, buf_type);
                let _ = self.stream(true, buf_type);
            }
            Op::CreateBufs => {
                let codec = self.coded_format();
                self.create(buf_type, codec, 0);
                self.attempt(op);
            }
            _ => {
                self.arg.set(8, buf_type);
                self.attempt(op);
            }
        }
    }

    fn create(&mut self, buf_type: u32, pixelformat: u32, count: u32) {
        const FORMAT: usize = offset_of!(v4l2::CreateBuffers, format);
        const PIX: usize = FORMAT + offset_of!(v4l2::Format, pix_mp);
        let memory = self.some_memory(buf_type);
        self.arg = Arg::default();
        self.arg
            .set(offset_of!(v4l2::CreateBuffers, count), count)
            .set(offset_of!(v4l2::CreateBuffers, memory), memory)
            .set(FORMAT, buf_type)
            .set(PIX, 64)
            .set(PIX + 4, 64)
            .set(PIX + 8, pixelformat)
            .set(PIX + offset_of!(v4l2::PixFormatMplane, plane_fmt), 1 << 19)
            .set(PIX + offset_of!(v4l2::PixFormatMplane, num_planes), 1);
    }

    fn any_buffer(&mut self, op: Op, buf_type: u32) {
        let (index, memory) = (self.some_index(buf_type), self.some_memory(buf_type));
        self.buffer(buf_type, index, memory);
        if self.rng.one_in(3) {
            let request = self.some_request();
            let fd = self.requests.get(request).map_or(-1, |(fd, _)| fd.as_raw_fd());
            self.arg
                .set(offset_of!(v4l2::Buffer, flags), v4l2::BUF_FLAG_REQUEST_FD)
                .set(offset_of!(v4l2::Buffer, request_fd), fd as u32);
        }
        while self.rng.one_in(3) {
            // A plane: bytes used, length, file, offset.
            let at = self.rng.index(v4l2::MAX_PLANES * size_of::<v4l2::Plane>() / 4) * 4 % 96;
            let value = match self.rng.below(3) {
                0 => self.video.as_raw_fd() as u32,
                1 => self.exports.last().map_or(0, |fd| fd.as_raw_fd() as u32),
                _ => self.rng.nasty(),
            };
            self.arena.set(at, value);
        }
        self.damage(88, &[offset_of!(v4l2::Buffer, planes)]);
        if op == Op::DqBuf && self.calls % 4 != 0 {
            // One that may be there.
            let _ = self.dequeue(self.rng.clone().pick(&[BUF_TYPE_OUTPUT, BUF_TYPE_CAPTURE]));
        } else {
            self.attempt(op);
        }
    }

    fn keep_export(&mut self) {
        let Some(fd) = raw::installed(self.arg.get(offset_of!(v4l2::ExportBuffer, fd))) else {
            return;
        };
        if self.rng.one_in(4) {
            if let Ok(mapping) = Mapping::new(fd.as_fd(), 0, 4096) {
                let mut bytes = [0; 64];
                let _ = mapping.read(0, &mut bytes);
            }
        }
        if self.exports.len() > 6 {
            let index = self.rng.index(self.exports.len());
            self.exports.swap_remove(index);
        }
        self.exports.push(fd);
    }

    fn any_control(&mut self, op: Op) {
        let next = v4l2::CTRL_FLAG_NEXT_CTRL | v4l2::CTRL_FLAG_NEXT_COMPOUND;
        let id = match self.rng.below(8) {
            0 => self.rng.nasty(),
            1 => self.rng.pick(&self.compound),
            2 => next,
            _ => self.rng.pick(&self.menus),
        };
        let value = self.rng.below(5) as u32;
        self.arg.set(0, id).set(4, value);
        self.damage(8, &[]);
        self.attempt(op);
    }

    fn any_controls(&mut self, op: Op) {
        let clip = self.clip;
        let job = &clip.jobs[self.rng.index(clip.jobs.len())];
        let request = self.rng.one_in(2).then(|| self.some_request());
        if self.rng.one_in(3) {
            // Any controls, with values of random bytes.
            let count = self.rng.below(4) as u32;
            for number in 0..count {
                let id = self.rng.pick(&self.compound);
                let size = if self.rng.one_in(3) {
                    self.rng.nasty()
                } else {
                    self.rng.below(8192) as u32
                };
                let at = VALUES + number as usize * VALUE;
                self.control(number, id, size, at);
                for word in 0..self.rng.below(256) as usize {
                    let value = self.rng.nasty();
                    self.arena.set(at + word * 4, value);
                }
            }
            self.ext_controls(count, request);
        } else {
            let which: Vec<usize> = (0..job.controls.len()).filter(|_| !self.rng.one_in(3)).collect();
            self.controls(job, &which, request);
            if self.rng.one_in(3) {
                // One byte of a value that is right otherwise.
                let at = VALUES + self.rng.index(512) * 4;
                let value = self.rng.nasty();
                self.arena.set(at, value);
            }
        }
        // `count` may say more than there is: the list then goes on with what else is in the arena, whose
        // addresses are sizes and values of controls. Those lead nowhere: they are no canonical user
        // addresses.
        let which = self.arg.get(0);
        if self.rng.one_in(12) {
            let value = self.rng.nasty();
            self.arg.set(0, value);
        } else {
            self.arg.set(0, which);
        }
        self.attempt(op);
    }

    fn any_media(&mut self, op: Op) {
        match op {
            Op::EnumEntities => {
                let id = if self.rng.one_in(3) {
                    self.rng.nasty()
                } else {
                    0x8000_0000
                };
                self.arg.set(0, id);
                self.attempt(op);
            }
            Op::EnumLinks => {
                let entity = self.rng.below(6) as u32;
                // pads and links: 20 and 52 bytes each.
                let (pads, links) = (self.arena.address(0), self.arena.address(VALUES));
                self.arg.set(0, entity).set64(8, pads).set64(16, links);
                if self.rng.one_in(6) {
                    let nowhere = Arena::nowhere(self.rng.next());
                    self.arg.set64(8, nowhere);
                }
                self.attempt(op);
            }
            Op::SetupLink => {
                // What ENUM_LINKS last put into the arena, or nonsense.
                for word in 0..13 {
                    let value = if self.rng.one_in(20) {
                        self.rng.nasty()
                    } else {
                        self.arena.get(VALUES + word * 4)
                    };
                    self.arg.set(word * 4, value);
                }
                self.attempt(op);
            }
            Op::Topology => {
                let counts = self.rng.one_in(2);
                if counts {
                    self.attempt(op);
                }
                // ptr_entities, ptr_interfaces, ptr_pads, ptr_links, each behind its number.
                for at in [16, 32, 48, 64] {
                    let address = if self.rng.one_in(8) {
                        Arena::nowhere(self.rng.next())
                    } else {
                        self.arena.address(at * 128)
                    };
                    self.arg.set64(at, address);
                }
                if self.rng.one_in(4) {
                    let (at, value) = (self.rng.pick(&[8, 24, 40, 56]), self.rng.below(4) as u32);
                    self.arg.set(at, value);
                }
                self.attempt(op);
            }
            Op::RequestAlloc => {
                let _ = self.request();
            }
            Op::RequestQueue | Op::RequestReinit => {
                let request = self.some_request();
                let result = self.call_request(op, request);
                if let (Ok(_), Some(entry)) = (result, self.requests.get_mut(request)) {
                    entry.1 = op == Op::RequestQueue;
                }
                if self.rng.one_in(16) && request < self.requests.len() {
                    self.requests.swap_remove(request);
                }
            }
            _ => {}
        }
    }
}
