// SPDX-License-Identifier: Apache-2.0 OR MIT
//! libavcodec: the only module that calls it.
//!
//! Lock-step, with one thread or, for VP9, slice threads: when `avcodec_send_packet` returns, the packet's
//! picture is final. Pictures that libavcodec outputs are thrown away; `get_buffer2` tells which frame a
//! packet decodes into. Invariants of the unsafe code:
//! - `Context` owns the three C objects; nobody else has pointers to them.
//! - `AVCodecContext.opaque` points to the `Shared` that `Context` owns, boxed, from before the
//!   decoder is opened until after it is freed. The library's copies of the context have the same pointer.
//! - An `AVBufferRef` over a `Frame` or a `Packet` owns one strong count of its `Arc`, which the free
//!   callback gives back.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

use ffmpeg_sys_next as ff;

use crate::error::{EngineError, JobError};
use crate::frames::{Frame, Layout, Offer, Pool};
use crate::payload::{PADDING, Packet};

/// Most threads that libavcodec is asked for: it warns of more.
const MAX_THREADS: u32 = 16;

const _: () = assert!(PADDING >= ff::AV_INPUT_BUFFER_PADDING_SIZE as usize);

/// A decoder of libavcodec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// H.264 without start-up data: parameter sets are in the packets, Annex B.
    H264,
    /// VP9, one frame per packet.
    Vp9,
}

impl Codec {
    fn find(self) -> *const ff::AVCodec {
        let id = match self {
            Self::H264 => ff::AVCodecID::AV_CODEC_ID_H264,
            Self::Vp9 => ff::AVCodecID::AV_CODEC_ID_VP9,
        };
        // SAFETY: a lookup in static tables.
        unsafe { ff::avcodec_find_decoder(id) }
    }

    /// Whether the linked library has the decoder.
    pub(crate) fn is_built_in(self) -> bool {
        !self.find().is_null()
    }

    fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::Vp9 => "VP9",
        }
    }
}

/// What one packet did.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The frame that the packet began to decode into: the last one if it began several (H.264 makes
    /// up frames for gaps in `frame_num` first). `None` if it began none.
    pub(crate) frame: Option<Arc<Frame>>,
    /// What libavcodec returned.
    pub(crate) result: Result<(), JobError>,
    /// How many errors libavcodec logged: damage that it concealed is reported in no other way for
    /// pictures which are not output.
    pub(crate) complaints: u32,
    /// The memory on offer was taken, and may have been written to.
    pub(crate) took_offer: bool,
}

/// What callbacks use.
#[derive(Debug, Default)]
struct Shared {
    allocator: Mutex<Allocator>,
    /// Errors that libavcodec logged, from whatever thread.
    complaints: AtomicU32,
}

/// State that `get_buffer2` uses.
#[derive(Debug, Default)]
struct Allocator {
    pool: Pool,
    /// Where the packet's frame may be put.
    offer: Option<Offer>,
    took_offer: bool,
    /// The frame of the packet that is being decoded.
    frame: Option<Arc<Frame>>,
    /// Why a frame was refused.
    refused: Option<JobError>,
}

/// An open decoder.
#[derive(Debug)]
pub(crate) struct Context {
    context: NonNull<ff::AVCodecContext>,
    packet: NonNull<ff::AVPacket>,
    output: NonNull<ff::AVFrame>,
    shared: Box<Shared>,
}

impl Context {
    /// Opens a decoder with `threads` threads, which one packet is decoded with. The library is told only
    /// of as many as it has a use for in lock-step: slice threads of VP9.
    pub(crate) fn open(codec: Codec, threads: u32) -> Result<Self, EngineError> {
        install_log();
        let decoder = codec.find();
        if decoder.is_null() {
            return Err(EngineError::NoDecoder(codec.name()));
        }
        let no_memory = |call| EngineError::Library {
            call,
            code: -rustix::io::Errno::NOMEM.raw_os_error(),
        };
        // SAFETY: `decoder` is a decoder of this library.
        let context = NonNull::new(unsafe { ff::avcodec_alloc_context3(decoder) })
            .ok_or(no_memory("avcodec_alloc_context3"))?;
        // SAFETY: no requirements.
        let packet = NonNull::new(unsafe { ff::av_packet_alloc() });
        // SAFETY: no requirements.
        let output = NonNull::new(unsafe { ff::av_frame_alloc() });
        let (Some(packet), Some(output)) = (packet, output) else {
            // SAFETY: freeing null or what was just allocated, once.
            unsafe { free(context.as_ptr(), option_ptr(packet), option_ptr(output)) };
            return Err(no_memory("av_packet_alloc"));
        };
        let mut this = Self {
            context,
            packet,
            output,
            shared: Box::default(),
        };
        // SAFETY: the context is valid, not yet opened, and not shared.
        let fields = unsafe { this.context.as_mut() };
        fields.opaque = ptr::from_ref::<Shared>(&this.shared).cast_mut().cast();
        fields.get_buffer2 = Some(get_buffer);
        // With slice threads H.264 conceals nothing, and of damage nothing is heard.
        let threads = if codec == Codec::Vp9 { threads } else { 1 };
        fields.thread_count = c_int::try_from(threads.clamp(1, MAX_THREADS)).unwrap_or(1);
        fields.thread_type = ff::FF_THREAD_SLICE;
        fields.max_pixels = i64::from(crate::MAX_PIXELS);
        // SAFETY: context and decoder belong together, and there are no options.
        let code = unsafe { ff::avcodec_open2(this.context.as_ptr(), decoder, ptr::null_mut()) };
        if code < 0 {
            return Err(EngineError::Library {
                call: "avcodec_open2",
                code,
            });
        }
        Ok(this)
    }

    /// Decodes one packet, into `offer` if that fits. `tag` names it in the library's structures.
    pub(crate) fn decode(&mut self, packet: &Packet, tag: u64, offer: Option<Offer>) -> Decoded {
        let mut allocator = self.allocator();
        allocator.refused = None;
        allocator.offer = offer;
        allocator.took_offer = false;
        drop(allocator);
        self.shared.complaints.store(0, Ordering::Relaxed);
        let sent = self.send(packet, tag);
        self.discard_output();
        let complaints = self.shared.complaints.swap(0, Ordering::Relaxed);
        let mut allocator = self.allocator();
        allocator.offer = None;
        let result = match allocator.refused.take() {
            Some(refused) => Err(refused),
            None => sent,
        };
        Decoded {
            frame: allocator.frame.take(),
            result,
            complaints,
            took_offer: allocator.took_offer,
        }
    }

    /// Forgets all pictures and unfinished ones, and gives back their memory. `codec` and `threads` are those
    /// with which the decoder was opened.
    ///
    /// It is opened anew, since avcodec_flush_buffers lets VP9 keep references of references.
    pub(crate) fn renew(&mut self, codec: Codec, threads: u32) {
        match Self::open(codec, threads) {
            Ok(new) => *self = new,
            Err(error) => {
                tracing::warn!(%error, "the decoder cannot be opened anew");
                // SAFETY: the context is open.
                unsafe { ff::avcodec_flush_buffers(self.context.as_ptr()) };
                self.allocator().frame = None;
            }
        }
    }

    fn allocator(&self) -> std::sync::MutexGuard<'_, Allocator> {
        self.shared
            .allocator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&mut self, packet: &Packet, tag: u64) -> Result<(), JobError> {
        let size = c_int::try_from(packet.data().len()).map_err(|_| JobError::Payload("too long"))?;
        let owner = Box::into_raw(Box::new(packet.clone()));
        let data = packet.data().as_ptr().cast_mut();
        // SAFETY: the memory is `padded_len` bytes long and lives until `free_packet` drops `owner`. The
        // library does not write to it: the buffer is read-only.
        let buffer = unsafe {
            ff::av_buffer_create(
                data,
                packet.padded_len(),
                Some(free_packet),
                owner.cast(),
                ff::AV_BUFFER_FLAG_READONLY,
            )
        };
        if buffer.is_null() {
            // SAFETY: the library did not take `owner`.
            drop(unsafe { Box::from_raw(owner) });
            return Err(JobError::NoMemory);
        }
        // SAFETY: the packet is valid, blank and not shared.
        let fields = unsafe { self.packet.as_mut() };
        fields.buf = buffer;
        fields.data = data;
        fields.size = size;
        fields.pts = tag as i64;
        // SAFETY: context and packet are valid; the data is padded.
        let code = unsafe { ff::avcodec_send_packet(self.context.as_ptr(), self.packet.as_ptr()) };
        // SAFETY: the packet is valid; this drops its reference of the buffer.
        unsafe { ff::av_packet_unref(self.packet.as_ptr()) };
        if code < 0 {
            Err(JobError::Library {
                call: "avcodec_send_packet",
                code,
            })
        } else {
            Ok(())
        }
    }

    /// Takes all output, so that the next packet is decoded as soon as it is sent.
    fn discard_output(&mut self) {
        loop {
            // SAFETY: context and frame are valid; the frame is unreferenced by the callee first.
            let code = unsafe { ff::avcodec_receive_frame(self.context.as_ptr(), self.output.as_ptr()) };
            if code < 0 {
                return;
            }
            // SAFETY: the frame is valid.
            unsafe { ff::av_frame_unref(self.output.as_ptr()) };
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the three objects are owned by this value and freed once. The allocator outlives
        // the call.
        unsafe { free(self.context.as_ptr(), self.packet.as_ptr(), self.output.as_ptr()) };
    }
}

fn option_ptr<T>(pointer: Option<NonNull<T>>) -> *mut T {
    pointer.map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// Frees what a [`Context`] owns.
///
/// # Safety
/// Each pointer is null or owned by the caller, who gives it up.
unsafe fn free(
    mut context: *mut ff::AVCodecContext,
    mut packet: *mut ff::AVPacket,
    mut frame: *mut ff::AVFrame,
) {
    // SAFETY: as the caller promises.
    unsafe { ff::av_frame_free(&mut frame) };
    // SAFETY: as the caller promises.
    unsafe { ff::av_packet_free(&mut packet) };
    // SAFETY: as the caller promises.
    unsafe { ff::avcodec_free_context(&mut context) };
}

unsafe extern "C" fn free_packet(opaque: *mut c_void, _data: *mut u8) {
    // SAFETY: `opaque` is the box that `send` gave to the buffer, and the buffer is freed once.
    drop(unsafe { Box::from_raw(opaque.cast::<Packet>()) });
}

unsafe extern "C" fn free_frame(opaque: *mut c_void, _data: *mut u8) {
    // SAFETY: `opaque` is the strong count that `lend` gave to the buffer, and it is freed once.
    drop(unsafe { Arc::from_raw(opaque.cast_const().cast::<Frame>()) });
}

/// libavcodec asks for the memory of a picture.
unsafe extern "C" fn get_buffer(
    context: *mut ff::AVCodecContext,
    frame: *mut ff::AVFrame,
    _flags: c_int,
) -> c_int {
    // SAFETY: the library passes a valid context.
    let opaque = unsafe { (*context).opaque };
    // SAFETY: the library passes a valid frame, which it does not touch during this call.
    let frame = unsafe { &mut *frame };
    // SAFETY: `opaque` was set by `Context::open` to its boxed `Shared`, which outlives the context.
    let shared = unsafe { &*opaque.cast_const().cast::<Shared>() };
    let mut allocator = shared.allocator.lock().unwrap_or_else(PoisonError::into_inner);
    let allocator = &mut *allocator;
    let (mut width, mut height) = (frame.width, frame.height);
    let mut aligns = [0; ff::AV_NUM_DATA_POINTERS as usize];
    // SAFETY: the context is valid, and `aligns` has as many elements as the function writes.
    unsafe { ff::avcodec_align_dimensions2(context, &mut width, &mut height, aligns.as_mut_ptr()) };
    let lent = layout_of(frame, width, height)
        .ok_or(JobError::PixelFormat(frame.format))
        .and_then(|layout| {
            let offer = allocator.offer.as_ref();
            allocator
                .pool
                .acquire(layout, offer)
                .map_err(|_| JobError::NoMemory)
        })
        .and_then(|memory| lend(&memory, frame).map(|()| memory));
    match lent {
        Ok(memory) => {
            let luma = memory.plane_ptr(0);
            allocator.took_offer |= allocator
                .offer
                .as_ref()
                .is_some_and(|offer| offer.luma.as_ptr() == luma);
            allocator.frame = Some(memory);
            0
        }
        Err(error) => {
            allocator.refused = Some(error);
            ff::AVERROR(ff::EINVAL)
        }
    }
}

/// The layout of a picture that libavcodec wants, `None` if the engine has no use for its format.
fn layout_of(frame: &ff::AVFrame, alloc_width: c_int, alloc_height: c_int) -> Option<Layout> {
    let is = |format: ff::AVPixelFormat| frame.format == format as c_int;
    let (depth, chroma) =
        if is(ff::AVPixelFormat::AV_PIX_FMT_YUV420P) || is(ff::AVPixelFormat::AV_PIX_FMT_YUVJ420P) {
            (8, true)
        } else if is(ff::AVPixelFormat::AV_PIX_FMT_GRAY8) {
            (8, false)
        } else if is(TEN_BIT_420) {
            (10, true)
        } else if is(TEN_BIT_GREY) {
            (10, false)
        } else {
            return None;
        };
    let size = (
        u32::try_from(frame.width).ok()?,
        u32::try_from(frame.height).ok()?,
    );
    let alloc = (
        u32::try_from(alloc_width).ok()?,
        u32::try_from(alloc_height).ok()?,
    );
    Layout::new(size, alloc, depth, chroma)
}

#[cfg(target_endian = "little")]
const TEN_BIT_420: ff::AVPixelFormat = ff::AVPixelFormat::AV_PIX_FMT_YUV420P10LE;
#[cfg(target_endian = "big")]
const TEN_BIT_420: ff::AVPixelFormat = ff::AVPixelFormat::AV_PIX_FMT_YUV420P10BE;
#[cfg(target_endian = "little")]
const TEN_BIT_GREY: ff::AVPixelFormat = ff::AVPixelFormat::AV_PIX_FMT_GRAY10LE;
#[cfg(target_endian = "big")]
const TEN_BIT_GREY: ff::AVPixelFormat = ff::AVPixelFormat::AV_PIX_FMT_GRAY10BE;

/// Lets `frame` refer to `memory`.
fn lend(memory: &Arc<Frame>, frame: &mut ff::AVFrame) -> Result<(), JobError> {
    let mut strides = [0; 3];
    for (to, from) in strides.iter_mut().zip(memory.layout.stride) {
        *to = c_int::try_from(from).map_err(|_| JobError::NoMemory)?;
    }
    for (plane, &stride) in strides.iter().enumerate().take(memory.layout.planes()) {
        let owner = Arc::into_raw(memory.clone());
        // SAFETY: the memory has that many bytes from the address on and lives until `free_frame` drops
        // `owner`. Nobody forms references to its contents.
        let buffer = unsafe {
            ff::av_buffer_create(
                memory.plane_ptr(plane),
                memory.plane_len(plane),
                Some(free_frame),
                owner.cast_mut().cast(),
                0,
            )
        };
        if buffer.is_null() {
            // SAFETY: the library did not take the strong count.
            drop(unsafe { Arc::from_raw(owner) });
            for plane in 0..plane {
                frame.data[plane] = ptr::null_mut();
                // SAFETY: the buffer was made above, and nobody else refers to it yet.
                unsafe { ff::av_buffer_unref(&mut frame.buf[plane]) };
            }
            return Err(JobError::NoMemory);
        }
        frame.buf[plane] = buffer;
        frame.data[plane] = memory.plane_ptr(plane);
        frame.linesize[plane] = stride;
    }
    frame.extended_data = frame.data.as_mut_ptr();
    Ok(())
}

/// Diverts libavcodec's log, which goes to stderr otherwise.
fn install_log() {
    static ONCE: Once = Once::new();
    // SAFETY: the callback is thread-safe, as the library demands.
    ONCE.call_once(|| unsafe { ff::av_log_set_callback(Some(on_log)) });
}

/// A log line. The arguments are left alone: their type differs between ABIs, and the text alone tells
/// what happened. Generic over it, so that each ABI's type is inferred.
unsafe extern "C" fn on_log<Arguments>(
    object: *mut c_void,
    level: c_int,
    text: *const c_char,
    _arguments: Arguments,
) {
    if level > ff::AV_LOG_INFO || text.is_null() {
        return;
    }
    // SAFETY: the library passes a NUL-terminated format string that lives for the call.
    let text = unsafe { std::ffi::CStr::from_ptr(text) };
    // Concealment is only news to libavcodec, at level INFO; it is damage to the client.
    let complaint = level <= ff::AV_LOG_ERROR || text.to_bytes().starts_with(b"concealing");
    if complaint {
        // SAFETY: the library passes null or an object that begins with a pointer to its class.
        if let Some(shared) = unsafe { shared_of(object) } {
            shared.complaints.fetch_add(1, Ordering::Relaxed);
        }
    }
    tracing::debug!(level, complaint, text = %text.to_string_lossy().trim_end(), "libavcodec");
}

/// What the callbacks of the context that `object` is share. `None` if it is something else.
///
/// # Safety
/// `object` is null or begins with a pointer to an `AVClass`, and lives for `'a`.
unsafe fn shared_of<'a>(object: *mut c_void) -> Option<&'a Shared> {
    if object.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let class = unsafe { *object.cast::<*const ff::AVClass>() };
    // SAFETY: a pointer to static data.
    let context_class = unsafe { ff::avcodec_get_class() };
    if class != context_class {
        return None;
    }
    // SAFETY: only an `AVCodecContext` has this class.
    let opaque = unsafe { (*object.cast::<ff::AVCodecContext>()).opaque };
    // SAFETY: null before `Context::open` has set it, otherwise a `Shared` that outlives the context.
    unsafe { opaque.cast_const().cast::<Shared>().as_ref() }
}
