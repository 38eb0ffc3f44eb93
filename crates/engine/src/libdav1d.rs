// SPDX-License-Identifier: Apache-2.0 OR MIT
//! dav1d: the only module that calls it.
//!
//! With one thread a packet's picture is final when `dav1d_send_data` and the calls that take its output have
//! returned. With more, several packets are decoded at one time, and a picture is final when dav1d outputs it: when
//! its place is wanted for a later packet, or when it is asked for output a second time after a packet (that, it
//! takes as the end of the stream: it waits for the oldest picture). Output is in the order of the packets, hidden
//! frames too, and each picture and each error has its packet's tag.
//!
//! dav1d looks for work from its oldest place on, and counts which that is. The count is right only if all pictures
//! are taken out once one has been asked for as at the end of the stream, and it is not right after an error (a
//! place that had one is counted twice); then a picture that waits for another is forgotten, for good. So nothing is
//! sent before all have come out in the first case, and in the second packets are decoded one by one until
//! a key frame makes it possible to begin anew.
//!
//! A picture with film grain is output in a second frame; the one without remains dav1d's reference. The two have
//! one frame header, and while a picture lives no other has that. Invariants of the unsafe code:
//! - `Context` owns the `Dav1dContext`; nobody else has the pointer.
//! - The allocator's cookie points to the pool that `Context` owns, boxed, from before `dav1d_open`
//!   until after `dav1d_close`. All pictures taken out are released before.
//! - A `Dav1dPicture.allocator_data` owns one strong count of the `Arc` of its `Frame`.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dav1d_sys as sys;

use crate::error::{EngineError, JobError};
use crate::frames::{ALIGN, Frame, Layout, Offer, Pool};
use crate::payload::Packet;

/// The major version of the API that the bindings describe.
const API_MAJOR: u32 = 7;

/// Most threads that dav1d takes is 256: no picture has work for more than these.
const MAX_THREADS: u32 = 64;

/// Whether the linked library is there in a version that the bindings fit.
pub(crate) fn is_usable() -> bool {
    // SAFETY: no requirements.
    let version = unsafe { sys::dav1d_version_api() };
    version >> 16 == API_MAJOR
}

/// The time stamp of errors that are no packet's.
const NO_TAG: i64 = i64::MIN;

/// What is to be decoded.
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
    /// Nothing that was decoded before is needed any more, and a sequence header is in the packet.
    pub(crate) independent: bool,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The last picture, with its film grain.
    pub(crate) picture: Result<Arc<Frame>, JobError>,
    /// The memory on offer was taken, and may have been written to.
    pub(crate) took_offer: bool,
}

/// State that the allocator callback uses.
#[derive(Debug, Default)]
struct Allocator {
    pool: Pool,
    flights: Flights,
}

/// Packets that were begun and not finished, in this order.
#[derive(Debug, Default)]
struct Flights {
    all: Vec<Flight>,
    /// The packet that dav1d reads; the first frame that it asks for is the packet's.
    sending: Option<i64>,
    /// There was an error since dav1d began anew.
    failed: bool,
}

/// A packet that is being decoded.
#[derive(Debug, Default)]
struct Flight {
    tag: i64,
    /// Pictures that are still to come.
    awaited: u32,
    grain: bool,
    offer: Option<Offer>,
    took_offer: bool,
    /// Address of the frame's header; 0 before dav1d has asked for memory.
    header: usize,
    /// The last picture that came out.
    picture: Option<Arc<Frame>>,
    /// What went wrong, its memory being refused or dav1d's doing.
    error: Option<JobError>,
}

impl Flight {
    fn is_over(&self) -> bool {
        self.awaited == 0 || self.error.is_some()
    }
}

impl Flights {
    fn of(&mut self, tag: i64) -> Option<&mut Flight> {
        self.all.iter_mut().find(|flight| flight.tag == tag)
    }

    /// A picture came out: packets before its own have nothing more to come.
    fn picture(&mut self, tag: i64, frame: Arc<Frame>) {
        let Some(at) = self.all.iter().position(|flight| flight.tag == tag) else {
            return;
        };
        for earlier in self.all.iter_mut().take(at).filter(|flight| !flight.is_over()) {
            earlier.error = Some(JobError::NoPicture);
            self.failed = true;
        }
        if let Some(flight) = self.all.get_mut(at) {
            flight.picture = Some(frame);
            flight.awaited = flight.awaited.saturating_sub(1);
        }
    }

    /// dav1d failed. Why memory was refused says more than what it makes of that.
    fn error(&mut self, tag: i64, error: JobError) {
        self.failed = true;
        if let Some(flight) = self.of(tag) {
            flight.error.get_or_insert(error);
        }
    }

    /// The packet whose frame has this header, and whether this is the frame that comes out.
    fn claim(&mut self, header: usize) -> Option<(&mut Flight, bool)> {
        let sending = self.sending;
        if let Some(at) = self.all.iter().position(|flight| flight.header == header) {
            // A second frame with the grain is made when the picture is output. With super-resolution there is
            // another, when the packet is read.
            let flight = self.all.get_mut(at)?;
            let last = flight.grain && sending.is_none();
            return Some((flight, last));
        }
        let flight = self.of(sending?).filter(|flight| flight.header == 0)?;
        flight.header = header;
        let last = !flight.grain;
        Some((flight, last))
    }
}

/// An open decoder.
#[derive(Debug)]
pub(crate) struct Context {
    context: NonNull<sys::Dav1dContext>,
    allocator: Box<Mutex<Allocator>>,
    /// Packets that are decoded at one time.
    depth: usize,
    /// The tag of the last packet.
    tag: i64,
    /// A picture was asked for as at the end of the stream, and others are being decoded.
    draining: bool,
}

/// What a call for output gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// A picture or an error.
    Something,
    Nothing,
}

impl Context {
    /// Opens a decoder with `threads` threads. How many packets they decode at one time, dav1d chooses: the square
    /// root of that number, for each takes memory, six bytes for a pixel at least, and has work for several.
    pub(crate) fn open(threads: u32) -> Result<Self, EngineError> {
        if !is_usable() {
            return Err(EngineError::NoDecoder("AV1"));
        }
        let allocator: Box<Mutex<Allocator>> = Box::default();
        let mut settings = std::mem::MaybeUninit::<sys::Dav1dSettings>::zeroed();
        // SAFETY: the pointer is to memory of the structure's size.
        unsafe { sys::dav1d_default_settings(settings.as_mut_ptr()) };
        // SAFETY: all bytes are initialised, and zero is valid for every field.
        let mut settings = unsafe { settings.assume_init() };
        settings.n_threads = c_int::try_from(threads.clamp(1, MAX_THREADS)).unwrap_or(1);
        settings.max_frame_delay = 0;
        settings.all_layers = 1;
        settings.output_invisible_frames = 1;
        settings.apply_grain = 1;
        settings.frame_size_limit = crate::MAX_PIXELS;
        settings.logger.callback = ptr::null_mut();
        settings.allocator = sys::Dav1dPicAllocator {
            cookie: ptr::from_ref::<Mutex<Allocator>>(&allocator).cast_mut().cast(),
            alloc_picture_callback: Some(alloc_picture),
            release_picture_callback: Some(release_picture),
        };
        // SAFETY: the function wants settings (dav1d/dav1d.h), although these bindings have it that it wants a context.
        let depth = unsafe { sys::dav1d_get_frame_delay(ptr::from_mut(&mut settings).cast()) };
        let mut context = ptr::null_mut();
        // SAFETY: both pointers are valid; the cookie lives until the context is closed.
        let code = unsafe { sys::dav1d_open(&mut context, &settings) };
        match NonNull::new(context) {
            Some(context) if code == 0 => Ok(Self {
                context,
                allocator,
                depth: usize::try_from(depth).unwrap_or(1).max(1),
                tag: 0,
                draining: false,
            }),
            _ => Err(EngineError::Library {
                call: "dav1d_open",
                code,
            }),
        }
    }

    /// How many packets it makes sense to leave unfinished while the next is begun.
    pub(crate) fn depth(&self) -> usize {
        if self.depth > 1 { self.depth } else { 0 }
    }

    /// Begins to decode. If as many packets as [`Context::depth`] are being decoded, it waits for the oldest. Returns
    /// the tag by which the packet is known until it is finished.
    pub(crate) fn begin(&mut self, request: Request) -> i64 {
        let failed = self.has_failed();
        if failed || self.draining {
            self.take_all();
        }
        if failed && request.independent {
            self.restart();
        }
        self.tag += 1;
        let tag = self.tag;
        self.lock().flights.all.push(Flight {
            tag,
            awaited: request.pictures,
            grain: request.grain,
            offer: request.offer,
            ..Flight::default()
        });
        if let Err(error) = self.send(&request.packet, tag) {
            self.lock().flights.error(tag, error);
        }
        // Once: asked again, dav1d would wait for a picture if it decodes several.
        while self.take() == Taken::Something && self.depth == 1 {}
        if self.has_failed() {
            self.take_all();
        }
        tag
    }

    /// Whether [`Context::finish`] would return at once.
    pub(crate) fn is_final(&self, tag: i64) -> bool {
        self.lock().flights.of(tag).is_none_or(|flight| flight.is_over())
    }

    /// Waits until a packet is decoded.
    pub(crate) fn finish(&mut self, tag: i64) -> Decoded {
        self.take_until(|flights| flights.of(tag).is_none_or(|flight| flight.is_over()));
        let flights = &mut self.lock().flights.all;
        let position = flights.iter().position(|flight| flight.tag == tag);
        let Some(flight) = position.map(|at| flights.remove(at)) else {
            return Decoded {
                picture: Err(JobError::NoPicture),
                took_offer: false,
            };
        };
        Decoded {
            picture: match (flight.error, flight.picture) {
                (Some(error), _) => Err(error),
                (None, Some(picture)) if flight.awaited == 0 => Ok(picture),
                (None, _) => Err(JobError::NoPicture),
            },
            took_offer: flight.took_offer,
        }
    }

    /// dav1d cannot be relied on to decode several packets at one time.
    fn has_failed(&self) -> bool {
        self.depth > 1 && self.lock().flights.failed
    }

    /// Waits for every picture that is being decoded.
    fn take_all(&mut self) {
        self.take_until(|flights| flights.all.iter().all(Flight::is_over));
        self.draining = false;
    }

    /// Takes what comes out until `enough`, or until nothing more will come.
    fn take_until(&mut self, enough: impl Fn(&mut Flights) -> bool) {
        // Twice nothing: all has come out.
        let mut left = 2;
        while !enough(&mut self.lock().flights) {
            self.draining = true;
            left = match self.take() {
                Taken::Something => 2,
                Taken::Nothing => left - 1,
            };
            if left == 0 {
                let flights = &mut self.lock().flights;
                flights.failed = true;
                for flight in flights.all.iter_mut().filter(|flight| !flight.is_over()) {
                    flight.error = Some(JobError::NoPicture);
                }
            }
        }
    }

    /// Forgets all pictures, and unfinished packets.
    pub(crate) fn flush(&mut self) {
        self.restart();
        self.lock().flights.all.clear();
    }

    /// Has dav1d forget all pictures. None is being decoded, or it is not wanted any more.
    fn restart(&mut self) {
        // SAFETY: the context is open.
        unsafe { sys::dav1d_flush(self.context.as_ptr()) };
        self.draining = false;
        self.lock().flights.failed = false;
    }

    fn lock(&self) -> MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&mut self, packet: &Packet, tag: i64) -> Result<(), JobError> {
        let mut data = std::mem::MaybeUninit::<sys::Dav1dData>::zeroed();
        let owner = Box::into_raw(Box::new(packet.clone()));
        let bytes = packet.data();
        // SAFETY: the bytes live, unchanged, until `free_packet` drops `owner`.
        let code = unsafe {
            sys::dav1d_data_wrap(
                data.as_mut_ptr(),
                bytes.as_ptr(),
                bytes.len(),
                Some(free_packet),
                owner.cast(),
            )
        };
        if code < 0 {
            // SAFETY: the library did not take `owner`.
            drop(unsafe { Box::from_raw(owner) });
            return Err(JobError::Library {
                call: "dav1d_data_wrap",
                code,
            });
        }
        // SAFETY: zeroed, and filled in by the library.
        let mut data = unsafe { data.assume_init() };
        data.m.timestamp = tag;
        loop {
            self.lock().flights.sending = Some(tag);
            // SAFETY: context and data are valid.
            let sent = unsafe { sys::dav1d_send_data(self.context.as_ptr(), &mut data) };
            self.lock().flights.sending = None;
            // An earlier packet is not read to its end while there is output.
            if sent == sys::DAV1D_ERR_AGAIN && self.take() == Taken::Something {
                continue;
            }
            if sent < 0 {
                // SAFETY: the data is valid, and was not taken.
                unsafe { sys::dav1d_data_unref(&mut data) };
                // Or it would be taken for the next error's.
                self.tag_of_error();
                return Err(JobError::Library {
                    call: "dav1d_send_data",
                    code: sent,
                });
            }
            return Ok(());
        }
    }

    /// Takes one picture, or one error, if the decoder has it. If this is not the first such call after a packet, it
    /// waits for a picture that is being decoded.
    fn take(&mut self) -> Taken {
        let mut out = std::mem::MaybeUninit::<sys::Dav1dPicture>::zeroed();
        // SAFETY: the context is open; a blank picture is zero.
        let code = unsafe { sys::dav1d_get_picture(self.context.as_ptr(), out.as_mut_ptr()) };
        if code == sys::DAV1D_ERR_AGAIN {
            return Taken::Nothing;
        }
        if code < 0 {
            let error = JobError::Library {
                call: "dav1d_get_picture",
                code,
            };
            let tag = self.tag_of_error();
            self.lock().flights.error(tag, error);
            return Taken::Something;
        }
        // SAFETY: on success the library filled in the picture.
        let mut out = unsafe { out.assume_init() };
        let frame = out.allocator_data.cast_const().cast::<Frame>();
        // SAFETY: `alloc_picture` stored a strong count there, which the picture still owns.
        unsafe { Arc::increment_strong_count(frame) };
        // SAFETY: the count was just made for this.
        let frame = unsafe { Arc::from_raw(frame) };
        let tag = out.m.timestamp;
        // SAFETY: the picture is valid and released once.
        unsafe { sys::dav1d_picture_unref(&mut out) };
        self.lock().flights.picture(tag, frame);
        Taken::Something
    }

    /// The packet that the last error is about.
    fn tag_of_error(&mut self) -> i64 {
        let mut props = std::mem::MaybeUninit::<sys::Dav1dDataProps>::zeroed();
        // SAFETY: the context is open, and blank properties are zero.
        let code =
            unsafe { sys::dav1d_get_decode_error_data_props(self.context.as_ptr(), props.as_mut_ptr()) };
        if code < 0 {
            return NO_TAG;
        }
        // SAFETY: all bytes were initialised, and filled in by the library.
        let mut props = unsafe { props.assume_init() };
        let tag = props.timestamp;
        // SAFETY: the properties are valid, and released once.
        unsafe { sys::dav1d_data_props_unref(&mut props) };
        tag
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: the context is owned by this value and closed once. The pool outlives the call.
        unsafe { sys::dav1d_close(&mut context) };
    }
}

unsafe extern "C" fn free_packet(_data: *const u8, cookie: *mut c_void) {
    // SAFETY: `cookie` is the box that `send` handed over, and it is freed once.
    drop(unsafe { Box::from_raw(cookie.cast::<Packet>()) });
}

unsafe extern "C" fn alloc_picture(picture: *mut sys::Dav1dPicture, cookie: *mut c_void) -> c_int {
    // SAFETY: the library passes a valid picture, for this call only.
    let picture = unsafe { &mut *picture };
    // SAFETY: the cookie is the allocator of the `Context`, which outlives the C object.
    let allocator = unsafe { &*cookie.cast_const().cast::<Mutex<Allocator>>() };
    let mut allocator = allocator.lock().unwrap_or_else(PoisonError::into_inner);
    let Allocator { pool, flights } = &mut *allocator;
    let mut unknown = Flight::default();
    let claim = flights.claim(picture.frame_hdr.addr());
    let (flight, last) = claim.unwrap_or((&mut unknown, false));
    let offer = flight.offer.take_if(|_| last);
    let lent = layout_of(&picture.p)
        .ok_or(JobError::PixelFormat(picture.p.layout as i32))
        .and_then(|layout| {
            let frame = pool.acquire(layout, offer.as_ref());
            frame.map_err(|_| JobError::NoMemory)
        });
    match lent {
        Ok(frame) => {
            let luma = frame.plane_ptr(0);
            flight.took_offer |= offer.is_some_and(|offer| offer.luma.as_ptr() == luma);
            for plane in 0..frame.layout.planes() {
                picture.data[plane] = frame.plane_ptr(plane).cast();
            }
            picture.stride = [frame.layout.stride[0], frame.layout.stride[1]].map(|bytes| bytes as isize);
            picture.allocator_data = Arc::into_raw(frame).cast_mut().cast();
            0
        }
        Err(error) => {
            // That dav1d fails now is noted when it says so.
            flight.error.get_or_insert(error);
            sys::DAV1D_ERR_NOMEM
        }
    }
}

unsafe extern "C" fn release_picture(picture: *mut sys::Dav1dPicture, _cookie: *mut c_void) {
    // SAFETY: the library passes a picture that `alloc_picture` filled in.
    let frame = unsafe { (*picture).allocator_data };
    // SAFETY: it owns a strong count, and is released once.
    drop(unsafe { Arc::from_raw(frame.cast_const().cast::<Frame>()) });
}

/// The layout of a picture, `None` if the engine has no use for its format.
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
