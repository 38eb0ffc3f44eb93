// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes whole streams with dav1d, in output order, into private memory.
//!
//! The invariant of the parent module about draining holds here, too: without a packet in between, dav1d is
//! asked for output a second time only at the end of the stream. After an error dav1d is restarted: pictures
//! come out again from the next key frame on.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use daedalus_uapi::codec::Codec;
use dav1d_sys as sys;

use super::{Allocator, Pictures, free_packet, open};
use crate::error::{EngineError, JobError};
use crate::frames::Frame;
use crate::payload::Packet;
use crate::stream_library::{Colour, Output, PictureFormat, ReceiveResult, SendResult, StreamLibrary};

/// Calls without output in a row, after which nothing more comes out at the end of the stream.
const CALLS_AT_END: u32 = 2;

/// An open decoder of a stream.
#[derive(Debug)]
pub(crate) struct Stream {
    context: NonNull<sys::Dav1dContext>,
    /// Its pool is the only part that streams use.
    _allocator: Arc<Mutex<Allocator>>,
    /// Calls without output since the last packet.
    empty: u32,
    /// No packet follows.
    ended: bool,
}

impl Stream {
    /// Opens a decoder with `threads` threads.
    pub(crate) fn open(threads: u32, codec: Codec) -> Result<Self, EngineError> {
        let (context, allocator, _) = open(threads, codec, Pictures::Shown)?;
        Ok(Self {
            context,
            _allocator: allocator,
            empty: 0,
            ended: false,
        })
    }
}

impl StreamLibrary for Stream {
    fn send(&mut self, packet: &Packet, tag: u64) -> SendResult {
        let mut data = MaybeUninit::<sys::Dav1dData>::zeroed();
        let owner = packet.to_raw();
        let bytes = packet.data();
        // SAFETY: the bytes live, unchanged, until `free_packet` gives back `owner`.
        let code = unsafe {
            sys::dav1d_data_wrap(
                data.as_mut_ptr(),
                bytes.as_ptr(),
                bytes.len(),
                Some(free_packet),
                owner.cast_mut(),
            )
        };
        if code < 0 {
            // SAFETY: the library did not take the count.
            unsafe { Packet::release(owner) };
            return SendResult::Lost(JobError::NoMemory);
        }
        // SAFETY: zeroed, and filled in by the library.
        let mut data = unsafe { data.assume_init() };
        data.m.timestamp = tag as i64;
        // SAFETY: context and data are valid.
        let code = unsafe { sys::dav1d_send_data(self.context.as_ptr(), &mut data) };
        self.empty = 0;
        if code == 0 {
            return SendResult::Taken;
        }
        // SAFETY: the data is valid, and was not taken.
        unsafe { sys::dav1d_data_unref(&mut data) };
        if code == sys::DAV1D_ERR_AGAIN {
            return SendResult::Full;
        }
        self.flush();
        SendResult::Lost(JobError::Library {
            call: "dav1d_send_data",
            code,
        })
    }

    fn end(&mut self) {
        self.ended = true;
        self.empty = 0;
    }

    fn receive(&mut self) -> ReceiveResult {
        if self.ended && self.empty >= CALLS_AT_END {
            return ReceiveResult::Ended;
        }
        if !self.ended && self.empty > 0 {
            return ReceiveResult::Hungry;
        }
        let mut out = MaybeUninit::<sys::Dav1dPicture>::zeroed();
        // SAFETY: the context is open; a blank picture is zero.
        let code = unsafe { sys::dav1d_get_picture(self.context.as_ptr(), out.as_mut_ptr()) };
        if code == sys::DAV1D_ERR_AGAIN {
            self.empty += 1;
            return if self.ended {
                self.receive()
            } else {
                ReceiveResult::Hungry
            };
        }
        if code < 0 {
            self.restart();
            return ReceiveResult::Lost(JobError::Library {
                call: "dav1d_get_picture",
                code,
            });
        }
        if self.ended {
            self.empty = 0;
        }
        // SAFETY: on success the library filled in the picture.
        let mut out = unsafe { out.assume_init() };
        let output = output_of(&out);
        // SAFETY: the picture is valid and released once.
        unsafe { sys::dav1d_picture_unref(&mut out) };
        output.map_or(ReceiveResult::Lost(JobError::NoPicture), ReceiveResult::Picture)
    }

    fn resume(&mut self) -> bool {
        self.ended = false;
        self.empty = 0;
        true
    }

    fn flush(&mut self) {
        self.restart();
        self.ended = false;
        self.empty = 0;
    }
}

impl Stream {
    /// Makes dav1d forget all pictures and packets.
    fn restart(&mut self) {
        // SAFETY: the context is open.
        unsafe { sys::dav1d_flush(self.context.as_ptr()) };
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: the context is owned by this value and closed once. The allocator outlives the call.
        unsafe { sys::dav1d_close(&mut context) };
    }
}

/// Reads a picture that came out.
fn output_of(out: &sys::Dav1dPicture) -> Option<Output> {
    let frame = out.allocator_data.cast_const().cast::<Frame>();
    if frame.is_null() {
        return None;
    }
    // SAFETY: `alloc_picture` stored a count there, which the picture still owns.
    unsafe { Arc::increment_strong_count(frame) };
    // SAFETY: the count was just made for this.
    let frame = unsafe { Arc::from_raw(frame) };
    let size = (frame.layout.width, frame.layout.height);
    // SAFETY: a picture has a sequence header as long as it lives.
    let colour = unsafe { out.seq_hdr.as_ref() }.map(|header| Colour {
        primaries: header.pri,
        transfer: header.trc,
        matrix: header.mtrx,
        full_range: header.color_range != 0,
    });
    Some(Output {
        frame: frame.part((0, 0), size)?,
        coded: size,
        colour: colour.unwrap_or_default(),
        tag: out.m.timestamp as u64,
        damaged: false,
    })
}

/// A sequence header with room behind it. The bindings declare too small an operating point, so dav1d's
/// structure is longer than theirs. Only the members before the operating points are used.
#[repr(C)]
struct Room {
    header: sys::Dav1dSequenceHeader,
    _rest: [u8; 1024],
}

/// Finds the format that the sequence header in a unit tells.
pub(crate) fn find_format(unit: &[u8]) -> Option<PictureFormat> {
    let mut room = MaybeUninit::<Room>::zeroed();
    // SAFETY: the first pointer is to more memory than the structure of any 7th API has, and the length is
    // that of the unit.
    let code =
        unsafe { sys::dav1d_parse_sequence_header(room.as_mut_ptr().cast(), unit.as_ptr(), unit.len()) };
    if code != 0 {
        return None;
    }
    // SAFETY: all bytes are initialised, and every value is valid for every member.
    let header = unsafe { room.assume_init() }.header;
    let size = (
        u32::try_from(header.max_width).ok()?,
        u32::try_from(header.max_height).ok()?,
    );
    Some(PictureFormat {
        size,
        coded: size,
        depth: header.hbd.checked_mul(2)?.checked_add(8)?,
        interlaced: false,
    })
}
