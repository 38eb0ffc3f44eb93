// SPDX-License-Identifier: Apache-2.0 OR MIT
//! dav1d: the only module that calls it.
//!
//! No frame delay, whatever the number of threads, hidden frames output too: when `dav1d_send_data` and the calls that take
//! its output have returned, the packet's picture is final. A picture with film grain is output in a
//! second frame; the one without remains dav1d's reference. Invariants of the unsafe code:
//! - `Context` owns the `Dav1dContext`; nobody else has the pointer.
//! - The allocator's cookie points to the pool that `Context` owns, boxed, from before `dav1d_open`
//!   until after `dav1d_close`. All pictures taken out are released before.
//! - A `Dav1dPicture.allocator_data` owns one strong count of the `Arc` of its `Frame`.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

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

/// State that the allocator callback uses.
#[derive(Debug, Default)]
struct Allocator {
    pool: Pool,
    /// Where a frame may be put, after `others` others.
    offer: Option<Offer>,
    others: usize,
    took_offer: bool,
    /// Why a frame was refused.
    refused: Option<JobError>,
}

/// An open decoder.
#[derive(Debug)]
pub(crate) struct Context {
    context: NonNull<sys::Dav1dContext>,
    allocator: Box<Mutex<Allocator>>,
}

impl Context {
    /// Opens a decoder with `threads` threads, which one packet is decoded with.
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
        settings.max_frame_delay = 1;
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
        let mut context = ptr::null_mut();
        // SAFETY: both pointers are valid; the cookie lives until the context is closed.
        let code = unsafe { sys::dav1d_open(&mut context, &settings) };
        match NonNull::new(context) {
            Some(context) if code == 0 => Ok(Self { context, allocator }),
            _ => Err(EngineError::Library {
                call: "dav1d_open",
                code,
            }),
        }
    }

    /// Decodes the OBUs of one packet and returns the last picture of it that dav1d outputs, with its
    /// film grain. It may be decoded into `offer`: into the frame which dav1d asks for after `others`.
    ///
    /// # Errors
    /// What dav1d refuses, [`JobError::NoPicture`] if nothing came out.
    pub(crate) fn decode(
        &mut self,
        packet: &Packet,
        offer: Option<Offer>,
        others: usize,
    ) -> Result<Arc<Frame>, JobError> {
        let mut allocator = self.allocator();
        allocator.refused = None;
        allocator.offer = offer;
        allocator.others = others;
        allocator.took_offer = false;
        drop(allocator);
        let mut picture = None;
        let result = self.send(packet, &mut picture);
        let mut allocator = self.allocator();
        allocator.offer = None;
        if let Some(refused) = allocator.refused.take() {
            return Err(refused);
        }
        result?;
        picture.ok_or(JobError::NoPicture)
    }

    /// The memory on offer for the last packet was taken, and may have been written to.
    pub(crate) fn took_offer(&self) -> bool {
        self.allocator().took_offer
    }

    /// Forgets all pictures.
    pub(crate) fn flush(&mut self) {
        // SAFETY: the context is open.
        unsafe { sys::dav1d_flush(self.context.as_ptr()) };
    }

    fn allocator(&self) -> std::sync::MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&mut self, packet: &Packet, picture: &mut Option<Arc<Frame>>) -> Result<(), JobError> {
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
        loop {
            // SAFETY: context and data are valid.
            let sent = unsafe { sys::dav1d_send_data(self.context.as_ptr(), &mut data) };
            let taken = self.take_pictures(picture);
            if sent == sys::DAV1D_ERR_AGAIN && taken.is_ok() {
                continue;
            }
            if sent < 0 {
                // SAFETY: the data is valid, and was not taken.
                unsafe { sys::dav1d_data_unref(&mut data) };
                return Err(JobError::Library {
                    call: "dav1d_send_data",
                    code: sent,
                });
            }
            return taken;
        }
    }

    /// Takes what the decoder has to output; keeps the last.
    fn take_pictures(&mut self, picture: &mut Option<Arc<Frame>>) -> Result<(), JobError> {
        loop {
            let mut out = std::mem::MaybeUninit::<sys::Dav1dPicture>::zeroed();
            // SAFETY: the context is open; a blank picture is zero.
            let code = unsafe { sys::dav1d_get_picture(self.context.as_ptr(), out.as_mut_ptr()) };
            if code == sys::DAV1D_ERR_AGAIN {
                return Ok(());
            }
            if code < 0 {
                return Err(JobError::Library {
                    call: "dav1d_get_picture",
                    code,
                });
            }
            // SAFETY: on success the library filled in the picture.
            let mut out = unsafe { out.assume_init() };
            let frame = out.allocator_data.cast_const().cast::<Frame>();
            // SAFETY: `alloc_picture` stored a strong count there, which the picture still owns.
            unsafe { Arc::increment_strong_count(frame) };
            // SAFETY: the count was just made for this.
            *picture = Some(unsafe { Arc::from_raw(frame) });
            // SAFETY: the picture is valid and released once.
            unsafe { sys::dav1d_picture_unref(&mut out) };
        }
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
    let allocator = &mut *allocator;
    let offer = if allocator.others == 0 {
        allocator.offer.take()
    } else {
        allocator.others -= 1;
        None
    };
    let lent = layout_of(&picture.p)
        .ok_or(JobError::PixelFormat(picture.p.layout as i32))
        .and_then(|layout| {
            let frame = allocator.pool.acquire(layout, offer.as_ref());
            frame.map_err(|_| JobError::NoMemory)
        });
    match lent {
        Ok(frame) => {
            let luma = frame.plane_ptr(0);
            allocator.took_offer |= offer.is_some_and(|offer| offer.luma.as_ptr() == luma);
            for plane in 0..frame.layout.planes() {
                picture.data[plane] = frame.plane_ptr(plane).cast();
            }
            picture.stride = [frame.layout.stride[0], frame.layout.stride[1]].map(|bytes| bytes as isize);
            picture.allocator_data = Arc::into_raw(frame).cast_mut().cast();
            0
        }
        Err(error) => {
            allocator.refused = Some(error);
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
