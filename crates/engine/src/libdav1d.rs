// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes packets with dav1d. No other module calls that library.
//!
//! With one thread, a packet's picture is final when `dav1d_send_data` and the calls that take its output
//! have returned. With more threads, dav1d decodes several packets at a time, each in a frame slot. A picture
//! is final when dav1d outputs it. That happens when its slot is needed for a later packet, or when output is
//! asked for a second time after a packet: dav1d takes the second call as the end of the stream, and waits
//! for the oldest picture. Pictures come out in the order of the packets, hidden ones too. Each picture and
//! each error carries its packet's tag.
//!
//! Invariant: after one call that drains dav1d (the second after a packet), drain it completely before the
//! next packet is sent. dav1d keeps an index of its oldest frame slot. A partial drain leaves that index
//! wrong, and dav1d then forgets a picture that waits for another, for ever.
//!
//! An error leaves the index wrong, too: its slot is counted twice. So after an error every packet is drained
//! before the next is sent, one by one, until a key frame makes a restart possible.
//!
//! A picture with film grain is output in a second frame; the one without grain remains dav1d's reference.
//! Both have the same frame header, and no other picture has that header while one of them lives.
//!
//! Invariants of the unsafe code:
//! - `Context` owns the `Dav1dContext`, and nobody else has the pointer.
//! - The allocator's cookie points to the [`Allocator`] of `Context`'s `Arc`, from before `dav1d_open` until
//!   after `dav1d_close`. All pictures that were taken out are released before.
//! - A `Dav1dPicture.allocator_data` owns one count of the `Arc` of its [`Frame`].

pub(crate) mod stream;

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daedalus_uapi::codec::Codec;
use dav1d_sys as sys;

use crate::error::{EngineError, JobError};
use crate::frames::{ALIGN, Frame, Layout, Offer, Pool};
use crate::options::MAX_PIXELS;
use crate::packets::{PacketOutcome, PacketState, PacketStates};
use crate::payload::Packet;

/// The major version of the API that the bindings describe.
const API_MAJOR: u32 = 7;

/// Most threads that dav1d is asked for. It takes 256, but no picture has work for more than these.
const MAX_THREADS: u32 = 64;

/// Returns whether the linked library has the version of the bindings.
pub(crate) fn is_usable() -> bool {
    // SAFETY: no requirements.
    let version = unsafe { sys::dav1d_version_api() };
    version >> 16 == API_MAJOR
}

/// The tag of errors that belong to no packet.
const NO_TAG: u64 = u64::MAX;

/// A packet to decode.
#[derive(Debug)]
pub(crate) struct Request {
    /// The OBUs of a frame, after those that show an earlier one again.
    pub(crate) packet: Packet,
    /// Pictures that come out: that of the frame is the last.
    pub(crate) pictures: u32,
    /// The last picture has film grain.
    pub(crate) grain: bool,
    /// Memory that the last picture may be put into.
    pub(crate) offer: Option<Offer>,
    /// Later packets need no picture that was decoded before, and a sequence header is in the packet.
    pub(crate) independent: bool,
}

/// The state that the allocator callback uses.
#[derive(Debug, Default)]
struct Allocator {
    pool: Pool,
    packets: Packets,
}

/// Packets that were begun and not finished.
#[derive(Debug, Default)]
struct Packets {
    all: PacketStates<Progress>,
    /// The tag of the packet that dav1d reads. The first frame that dav1d asks for is that packet's.
    sending: Option<u64>,
    /// There was an error since dav1d was opened or restarted.
    failed: bool,
}

/// dav1d's part of a packet's state.
#[derive(Debug, Default)]
struct Progress {
    /// Pictures that are still to come.
    awaited: u32,
    grain: bool,
    /// Address of the frame's header; 0 before dav1d has asked for memory.
    header: usize,
}

impl PacketState<Progress> {
    /// Returns whether nothing more comes out.
    fn is_over(&self) -> bool {
        self.state.awaited == 0 || self.error.is_some()
    }
}

impl Packets {
    /// Returns whether the packet with a tag is over.
    fn is_over(&self, tag: u64) -> bool {
        self.all.get(tag).is_none_or(PacketState::is_over)
    }

    /// Notes a picture that came out. Nothing more comes out of earlier packets.
    fn picture(&mut self, tag: u64, frame: Arc<Frame>) {
        if self.all.get(tag).is_none() {
            return;
        }
        let earlier = self.all.iter_mut().take_while(|packet| packet.tag != tag);
        for packet in earlier.filter(|packet| !packet.is_over()) {
            packet.error = Some(JobError::NoPicture);
            self.failed = true;
        }
        if let Some(packet) = self.all.get_mut(tag) {
            packet.frame = Some(frame);
            packet.state.awaited = packet.state.awaited.saturating_sub(1);
        }
    }

    /// Notes that dav1d failed. An earlier error is kept: that memory was refused says more than the failure
    /// that follows from it.
    fn error(&mut self, tag: u64, error: JobError) {
        self.failed = true;
        if let Some(packet) = self.all.get_mut(tag) {
            packet.error.get_or_insert(error);
        }
    }

    /// Returns the packet whose frame has this header, and whether this is the frame that comes out.
    fn claim(&mut self, header: usize) -> Option<(&mut PacketState<Progress>, bool)> {
        let sending = self.sending;
        let owner = self.all.iter().find(|packet| packet.state.header == header);
        if let Some(tag) = owner.map(|packet| packet.tag) {
            let packet = self.all.get_mut(tag)?;
            // A second frame, with the grain, is made when the picture is output. With super-resolution there
            // is another, when the packet is read.
            let last = packet.state.grain && sending.is_none();
            return Some((packet, last));
        }
        let packet = self
            .all
            .get_mut(sending?)
            .filter(|packet| packet.state.header == 0)?;
        packet.state.header = header;
        let last = !packet.state.grain;
        Some((packet, last))
    }
}

/// An open decoder.
#[derive(Debug)]
pub(crate) struct Context {
    context: NonNull<sys::Dav1dContext>,
    allocator: Arc<Mutex<Allocator>>,
    /// Packets that are decoded at a time.
    depth: usize,
    /// The tag of the last packet.
    tag: u64,
    /// dav1d was drained in part: pictures are still to come.
    draining: bool,
}

/// The result of a call for output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// A picture or an error.
    Something,
    /// None.
    Nothing,
}

/// The pictures that come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pictures {
    /// One for each frame, hidden ones and all layers too.
    All,
    /// Those that are shown.
    Shown,
}

/// A context, its allocator, and the number of packets that are decoded at a time.
type ContextParts = (NonNull<sys::Dav1dContext>, Arc<Mutex<Allocator>>, usize);

/// Opens a context with `threads` threads.
fn open(threads: u32, codec: Codec, pictures: Pictures) -> Result<ContextParts, EngineError> {
    if !is_usable() {
        return Err(EngineError::NoDecoder(codec));
    }
    let allocator: Arc<Mutex<Allocator>> = Arc::default();
    let all = c_int::from(pictures == Pictures::All);
    let mut settings = std::mem::MaybeUninit::<sys::Dav1dSettings>::zeroed();
    // SAFETY: the pointer is to memory of the structure's size.
    unsafe { sys::dav1d_default_settings(settings.as_mut_ptr()) };
    // SAFETY: all bytes are initialised, and zero is valid for every field.
    let mut settings = unsafe { settings.assume_init() };
    settings.n_threads = c_int::try_from(threads.clamp(1, MAX_THREADS)).unwrap_or(1);
    settings.max_frame_delay = 0;
    settings.all_layers = all;
    settings.output_invisible_frames = all;
    settings.apply_grain = 1;
    settings.frame_size_limit = MAX_PIXELS;
    settings.logger.callback = ptr::null_mut();
    settings.allocator = sys::Dav1dPicAllocator {
        cookie: Arc::as_ptr(&allocator).cast_mut().cast(),
        alloc_picture_callback: Some(alloc_picture),
        release_picture_callback: Some(release_picture),
    };
    // SAFETY: the function takes settings (dav1d/dav1d.h). That these bindings declare a context is their
    // error.
    let depth = unsafe { sys::dav1d_get_frame_delay(ptr::from_mut(&mut settings).cast()) };
    let mut context = ptr::null_mut();
    // SAFETY: both pointers are valid; the cookie lives until the context is closed.
    let code = unsafe { sys::dav1d_open(&mut context, &settings) };
    match NonNull::new(context) {
        Some(context) if code == 0 => Ok((context, allocator, usize::try_from(depth).unwrap_or(1).max(1))),
        _ => Err(EngineError::Library {
            call: "dav1d_open",
            code,
        }),
    }
}

impl Context {
    /// Opens a decoder with `threads` threads.
    ///
    /// dav1d chooses how many packets are decoded at a time: the square root of `threads`. Each has work for
    /// several threads, and takes memory: six bytes for a pixel at least.
    pub(crate) fn open(threads: u32, codec: Codec) -> Result<Self, EngineError> {
        let (context, allocator, depth) = open(threads, codec, Pictures::All)?;
        Ok(Self {
            context,
            allocator,
            depth,
            tag: 0,
            draining: false,
        })
    }

    /// Returns how many packets may stay unfinished while the next is begun.
    pub(crate) fn depth(&self) -> usize {
        if self.depth > 1 { self.depth } else { 0 }
    }

    /// Begins to decode a packet. If [`Context::depth`] packets are being decoded, it waits for the oldest.
    /// Returns the tag that names the packet until it is finished.
    pub(crate) fn begin(&mut self, request: Request) -> u64 {
        let failed = self.has_failed();
        if failed || self.draining {
            self.drain();
        }
        if failed && request.independent {
            self.restart();
        }
        self.tag += 1;
        let tag = self.tag;
        let progress = Progress {
            awaited: request.pictures,
            grain: request.grain,
            header: 0,
        };
        let packet = PacketState::new(tag, request.offer, progress);
        self.lock().packets.all.push(packet);
        if let Err(error) = self.send(&request.packet, tag) {
            self.lock().packets.error(tag, error);
        }
        // One call only if dav1d decodes several packets: a second one would wait for a picture.
        while self.take() == Output::Something && self.depth == 1 {}
        if self.has_failed() {
            self.drain();
        }
        tag
    }

    /// Returns whether [`Context::finish`] would return at once.
    pub(crate) fn is_final(&self, tag: u64) -> bool {
        self.lock().packets.is_over(tag)
    }

    /// Waits until a packet is decoded.
    pub(crate) fn finish(&mut self, tag: u64) -> PacketOutcome {
        self.take_until(|packets| packets.is_over(tag));
        let Some(packet) = self.lock().packets.all.remove(tag) else {
            return PacketOutcome::none();
        };
        let frame = packet.frame.filter(|_| packet.state.awaited == 0);
        PacketOutcome {
            frame: packet.error.map_or(Ok(frame), Err),
            complaints: 0,
            took_offer: packet.took_offer,
        }
    }

    /// Returns whether dav1d's index of frame slots is wrong, and it decodes several packets at a time.
    fn has_failed(&self) -> bool {
        self.depth > 1 && self.lock().packets.failed
    }

    /// Waits for every picture that is being decoded.
    fn drain(&mut self) {
        self.take_until(|packets| packets.all.iter().all(PacketState::is_over));
        self.draining = false;
    }

    /// Takes pictures and errors until `enough`, or until no more come out.
    fn take_until(&mut self, enough: impl Fn(&Packets) -> bool) {
        // Two calls without output in a row: everything has come out.
        let mut left = 2;
        while !enough(&self.lock().packets) {
            self.draining = true;
            left = match self.take() {
                Output::Something => 2,
                Output::Nothing => left - 1,
            };
            if left == 0 {
                let packets = &mut self.lock().packets;
                packets.failed = true;
                for packet in packets.all.iter_mut().filter(|packet| !packet.is_over()) {
                    packet.error = Some(JobError::NoPicture);
                }
            }
        }
    }

    /// Forgets all pictures, and unfinished packets.
    pub(crate) fn flush(&mut self) {
        self.restart();
        self.lock().packets.all.clear();
    }

    /// Makes dav1d forget all pictures. None is being decoded, or none is needed any more.
    fn restart(&mut self) {
        // SAFETY: the context is open.
        unsafe { sys::dav1d_flush(self.context.as_ptr()) };
        self.draining = false;
        self.lock().packets.failed = false;
    }

    fn lock(&self) -> MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&mut self, packet: &Packet, tag: u64) -> Result<(), JobError> {
        let mut data = std::mem::MaybeUninit::<sys::Dav1dData>::zeroed();
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
            return Err(JobError::Library {
                call: "dav1d_data_wrap",
                code,
            });
        }
        // SAFETY: zeroed, and filled in by the library.
        let mut data = unsafe { data.assume_init() };
        data.m.timestamp = tag as i64;
        loop {
            self.lock().packets.sending = Some(tag);
            // SAFETY: context and data are valid.
            let sent = unsafe { sys::dav1d_send_data(self.context.as_ptr(), &mut data) };
            self.lock().packets.sending = None;
            // dav1d does not read an earlier packet to its end while there is output.
            if sent == sys::DAV1D_ERR_AGAIN && self.take() == Output::Something {
                continue;
            }
            if sent < 0 {
                // SAFETY: the data is valid, and was not taken.
                unsafe { sys::dav1d_data_unref(&mut data) };
                // Takes the tag: otherwise it would be taken for the next error's.
                self.tag_of_error();
                return Err(JobError::Library {
                    call: "dav1d_send_data",
                    code: sent,
                });
            }
            return Ok(());
        }
    }

    /// Takes one picture or one error, if there is one. If this is not the first such call after a packet, it
    /// drains: it waits for the oldest picture that is being decoded.
    fn take(&mut self) -> Output {
        let mut out = std::mem::MaybeUninit::<sys::Dav1dPicture>::zeroed();
        // SAFETY: the context is open; a blank picture is zero.
        let code = unsafe { sys::dav1d_get_picture(self.context.as_ptr(), out.as_mut_ptr()) };
        if code == sys::DAV1D_ERR_AGAIN {
            return Output::Nothing;
        }
        if code < 0 {
            let error = JobError::Library {
                call: "dav1d_get_picture",
                code,
            };
            let tag = self.tag_of_error();
            self.lock().packets.error(tag, error);
            return Output::Something;
        }
        // SAFETY: on success the library filled in the picture.
        let mut out = unsafe { out.assume_init() };
        let frame = out.allocator_data.cast_const().cast::<Frame>();
        // SAFETY: `alloc_picture` stored a count there, which the picture still owns.
        unsafe { Arc::increment_strong_count(frame) };
        // SAFETY: the count was just made for this.
        let frame = unsafe { Arc::from_raw(frame) };
        let tag = out.m.timestamp as u64;
        // SAFETY: the picture is valid and released once.
        unsafe { sys::dav1d_picture_unref(&mut out) };
        self.lock().packets.picture(tag, frame);
        Output::Something
    }

    /// Takes the tag of the packet that the last error is about.
    fn tag_of_error(&mut self) -> u64 {
        let mut props = std::mem::MaybeUninit::<sys::Dav1dDataProps>::zeroed();
        // SAFETY: the context is open, and blank properties are zero.
        let code =
            unsafe { sys::dav1d_get_decode_error_data_props(self.context.as_ptr(), props.as_mut_ptr()) };
        if code < 0 {
            return NO_TAG;
        }
        // SAFETY: all bytes were initialised, and filled in by the library.
        let mut props = unsafe { props.assume_init() };
        let tag = props.timestamp as u64;
        // SAFETY: the properties are valid, and released once.
        unsafe { sys::dav1d_data_props_unref(&mut props) };
        tag
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: the context is owned by this value and closed once. The allocator
        // outlives the call.
        unsafe { sys::dav1d_close(&mut context) };
    }
}

unsafe extern "C" fn free_packet(_data: *const u8, cookie: *mut c_void) {
    // SAFETY: `cookie` is the count that `send` handed over, and it is freed once.
    unsafe { Packet::release(cookie) };
}

/// Provides the memory of a picture.
unsafe extern "C" fn alloc_picture(picture: *mut sys::Dav1dPicture, cookie: *mut c_void) -> c_int {
    // SAFETY: the library passes a valid picture, for this call only.
    let picture = unsafe { &mut *picture };
    // SAFETY: the cookie is the allocator of the `Context`, which outlives the C object.
    let allocator = unsafe { &*cookie.cast_const().cast::<Mutex<Allocator>>() };
    let mut allocator = allocator.lock().unwrap_or_else(PoisonError::into_inner);
    let Allocator { pool, packets } = &mut *allocator;
    let mut unknown = PacketState::default();
    let claim = packets.claim(picture.frame_hdr.addr());
    let (packet, last) = claim.unwrap_or((&mut unknown, false));
    let frame = layout_of(&picture.p)
        .ok_or(JobError::PixelFormat(picture.p.layout as i32))
        .and_then(|layout| packet.acquire(pool, layout, last));
    if last {
        packet.offer = None;
    }
    match frame {
        Ok(frame) => {
            for plane in 0..frame.layout.planes() {
                picture.data[plane] = frame.plane(plane).as_ptr().cast();
            }
            picture.stride = [frame.layout.stride[0], frame.layout.stride[1]].map(|bytes| bytes as isize);
            picture.allocator_data = Arc::into_raw(frame).cast_mut().cast();
            0
        }
        Err(error) => {
            // That dav1d fails because of this is noted when it says so.
            packet.error.get_or_insert(error);
            sys::DAV1D_ERR_NOMEM
        }
    }
}

unsafe extern "C" fn release_picture(picture: *mut sys::Dav1dPicture, _cookie: *mut c_void) {
    // SAFETY: the library passes a picture that `alloc_picture` filled in.
    let frame = unsafe { (*picture).allocator_data };
    // SAFETY: it owns a count, and is released once. This may be the last count, and on any thread: a frame's
    // memory has no thread affinity.
    drop(unsafe { Arc::from_raw(frame.cast_const().cast::<Frame>()) });
}

/// Returns the layout of a picture, `None` if the engine has no use for its format.
fn layout_of(picture: &sys::Dav1dPictureParameters) -> Option<Layout> {
    let chroma = match picture.layout {
        sys::DAV1D_PIXEL_LAYOUT_I400 => false,
        sys::DAV1D_PIXEL_LAYOUT_I420 => true,
        _ => return None,
    };
    let depth = match picture.bpc {
        8 => 8,
        10 => 10,
        _ => return None,
    };
    let size = (u32::try_from(picture.w).ok()?, u32::try_from(picture.h).ok()?);
    let alloc = (size.0, size.1.checked_next_multiple_of(ALIGN as u32)?);
    Layout::new(size, alloc, depth, chroma)
}
