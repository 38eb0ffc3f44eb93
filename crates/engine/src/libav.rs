// SPDX-License-Identifier: Apache-2.0 OR MIT
//! libavcodec: the only module that calls it.
//!
//! With one thread or slice threads, a packet's picture is final when `avcodec_send_packet` returns. With frame
//! threads (H.264) it is decoded meanwhile, and is final when
//! - `draw_horiz_band` has reported all of its lines, and nothing was complained about; or
//! - so many packets were sent after it that its thread must have been done before it took the last of them:
//!   one less than there are threads. Damaged pictures are never reported whole; where the client sends
//!   nothing more, packets that hold only an access unit delimiter take the place of its.
//!
//! Pictures that libavcodec outputs are thrown away; `get_buffer2` tells which frame a packet decodes into.
//! Invariants of the unsafe code:
//! - `Context` owns the three C objects; nobody else has pointers to them.
//! - `AVCodecContext.opaque` points to the `Shared` that `Context` owns, boxed, from before the
//!   decoder is opened until after it is freed. The library's copies of the context, one per frame thread,
//!   have the same pointer.
//! - An `AVBufferRef` over a `Frame` or a `Packet` owns one strong count of its `Arc`, which the free
//!   callback gives back.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use ffmpeg_sys_next as ff;

use crate::error::{EngineError, JobError};
use crate::frames::{Frame, Layout, Offer, Pool};
use crate::payload::{PADDING, Packet, PacketBuilder};

/// Most threads that libavcodec is asked for: it warns of more.
const MAX_THREADS: u32 = 16;

/// How long a picture may take to be reported whole before packets are sent to learn that it is done. A longer
/// time is no error, a shorter one costs packets.
const PATIENCE: Duration = Duration::from_millis(20);

/// An access unit delimiter (ITU-T H.264 7.3.2.4): a packet that decodes into nothing.
const DELIMITER: [u8; 5] = [0, 0, 1, 9, 0xf0];

/// The tag of packets that nobody waits for.
const NO_TAG: u64 = u64::MAX;

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
    /// Finds libavcodec's own decoder. By id it would be the first one that was built in, which on some systems is
    /// a wrapper of V4L2 devices, and so of the device that this decoder serves.
    fn find(self) -> *const ff::AVCodec {
        let name = match self {
            Self::H264 => c"h264",
            Self::Vp9 => c"vp9",
        };
        // SAFETY: a lookup in static tables, by a string that ends in NUL.
        unsafe { ff::avcodec_find_decoder_by_name(name.as_ptr()) }
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

/// How a decoder uses threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threading {
    /// So many decode one packet together.
    Slices(u32),
    /// So many decode one packet each.
    Frames(u32),
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

/// What callbacks use, from whatever thread.
#[derive(Debug, Default)]
struct Shared {
    allocator: Mutex<Allocator>,
    /// A picture became final.
    finals: Condvar,
}

/// State that `get_buffer2`, `draw_horiz_band` and the log use.
#[derive(Debug, Default)]
struct Allocator {
    pool: Pool,
    /// Packets that were begun and not finished, in this order.
    flights: Vec<Flight>,
    /// Several packets are decoded at one time, each by a context of its own.
    frame_threads: bool,
    /// The last packet that was begun: its [`Flight::sequence`].
    newest: u64,
    /// Complaints by contexts whose packet has no frame yet; it gets them with its frame.
    early: Vec<Early>,
}

/// Complaints by a context whose packet has no frame yet.
#[derive(Debug)]
struct Early {
    context: usize,
    /// [`Allocator::newest`] then. They are about no packet that was begun later: a packet without a frame is finished
    /// before its context gets another one that wants a frame.
    newest: u64,
    complaints: u32,
}

/// A packet that is being decoded.
#[derive(Debug)]
struct Flight {
    tag: u64,
    /// [`Context::sent`] after it; 0 if the library never got it.
    sequence: u64,
    /// Where its frame may be put.
    offer: Option<Offer>,
    took_offer: bool,
    /// See [`Decoded::frame`].
    frame: Option<Arc<Frame>>,
    /// Why a frame was refused, or the packet.
    refused: Option<JobError>,
    /// See [`Decoded::complaints`].
    complaints: u32,
    /// Address of the context that decodes it, once it has a frame; 0 before.
    context: usize,
    /// Lines of the picture, from the top, that are reported as final.
    lines: u32,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allocator {
    /// The packet with a tag.
    fn of(&mut self, tag: u64) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.tag == tag)
    }

    /// Notes a complaint by the context with this address. `no_frame` says that it is that a packet held no
    /// picture.
    fn complain(&mut self, context: usize, no_frame: bool) {
        if !self.frame_threads {
            if let Some(flight) = self.flights.last_mut() {
                flight.complaints += 1;
            }
        } else if no_frame {
            // Where one was wanted, it is missed without this. Packets that push others through want none.
        } else if let Some(flight) = self.flights.iter_mut().find(|flight| flight.context == context) {
            flight.complaints += 1;
        } else {
            let newest = self.newest;
            let known = |early: &&mut Early| early.context == context && early.newest == newest;
            match self.early.iter_mut().find(known) {
                Some(early) => early.complaints += 1,
                None => self.early.push(Early {
                    context,
                    newest,
                    complaints: 1,
                }),
            }
        }
    }
}

impl Flight {
    /// All lines are final.
    fn is_whole(&self) -> bool {
        self.complaints == 0
            && self
                .frame
                .as_ref()
                .is_some_and(|frame| self.lines >= frame.layout.height)
    }
}

/// An open decoder.
#[derive(Debug)]
pub(crate) struct Context {
    context: NonNull<ff::AVCodecContext>,
    packet: NonNull<ff::AVPacket>,
    output: NonNull<ff::AVFrame>,
    shared: Box<Shared>,
    /// Packets that are decoded at one time.
    depth: u64,
    /// Packets that were sent.
    sent: u64,
    /// Undamaged pictures are reported whole: nothing is known to the contrary.
    reports: bool,
}

impl Context {
    /// Opens a decoder.
    pub(crate) fn open(codec: Codec, threading: Threading) -> Result<Self, EngineError> {
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
            depth: 1,
            sent: 0,
            reports: true,
        };
        // SAFETY: the context is valid, not yet opened, and not shared.
        let fields = unsafe { this.context.as_mut() };
        fields.opaque = ptr::from_ref::<Shared>(&this.shared).cast_mut().cast();
        fields.get_buffer2 = Some(get_buffer);
        let (threads, kind) = match threading {
            Threading::Slices(threads) => (threads, ff::FF_THREAD_SLICE),
            Threading::Frames(threads) => (threads, ff::FF_THREAD_FRAME),
        };
        fields.thread_count = c_int::try_from(threads.clamp(1, MAX_THREADS)).unwrap_or(1);
        fields.thread_type = kind;
        if kind == ff::FF_THREAD_FRAME {
            fields.draw_horiz_band = Some(draw_band);
            fields.slice_flags = ff::SLICE_FLAG_CODED_ORDER | ff::SLICE_FLAG_ALLOW_FIELD;
        }
        fields.max_pixels = i64::from(crate::MAX_PIXELS);
        // SAFETY: context and decoder belong together, and there are no options.
        let code = unsafe { ff::avcodec_open2(this.context.as_ptr(), decoder, ptr::null_mut()) };
        if code < 0 {
            return Err(EngineError::Library {
                call: "avcodec_open2",
                code,
            });
        }
        // SAFETY: the context is valid, and its threads do not change this.
        let context = unsafe { this.context.as_ref() };
        if context.active_thread_type == ff::FF_THREAD_FRAME {
            this.depth = u64::try_from(context.thread_count).unwrap_or(1).max(1);
            this.allocator().frame_threads = this.depth > 1;
        }
        Ok(this)
    }

    /// How many packets may be begun and not finished.
    pub(crate) fn depth(&self) -> usize {
        usize::try_from(self.depth).unwrap_or(1)
    }

    /// Decodes one packet, into `offer` if that fits. `tag` names it in the library's structures.
    pub(crate) fn decode(&mut self, packet: &Packet, tag: u64, offer: Option<Offer>) -> Decoded {
        self.begin(packet, tag, offer);
        self.finish(tag)
    }

    /// Begins to decode a packet, into `offer` if that fits. `tag` names it until it is finished. Fewer packets
    /// than [`Context::depth`] are unfinished before.
    pub(crate) fn begin(&mut self, packet: &Packet, tag: u64, offer: Option<Offer>) {
        let sequence = self.sent + 1;
        let mut allocator = self.allocator();
        allocator.flights.push(Flight {
            tag,
            sequence,
            offer,
            took_offer: false,
            frame: None,
            refused: None,
            complaints: 0,
            context: 0,
            lines: 0,
        });
        allocator.newest = sequence;
        let oldest = allocator.flights.first().map_or(0, |flight| flight.sequence);
        allocator.early.retain(|early| early.newest >= oldest);
        drop(allocator);
        let result = self.send(packet, tag);
        let unsent = self.sent < sequence;
        // Of a packet that was sent to frame threads, it is an earlier one's error that is returned.
        if let (true, Err(error)) = (unsent || self.depth == 1, result) {
            if let Some(flight) = self.allocator().of(tag) {
                flight.refused.get_or_insert(error);
                if unsent {
                    flight.sequence = 0;
                }
            }
        }
        self.discard_output();
    }

    /// Whether [`Context::finish`] would return at once.
    pub(crate) fn is_final(&self, tag: u64) -> bool {
        self.allocator()
            .of(tag)
            .is_none_or(|flight| self.must_be_done(flight.sequence) || flight.is_whole())
    }

    /// Returns whether the packet's thread has taken a later one, or no thread has the packet.
    fn must_be_done(&self, sequence: u64) -> bool {
        sequence == 0 || self.sent + 1 >= sequence + self.depth
    }

    /// Waits until a packet is decoded.
    pub(crate) fn finish(&mut self, tag: u64) -> Decoded {
        let mut allocator = self.allocator();
        let sequence = allocator.of(tag).map_or(0, |flight| flight.sequence);
        if !self.must_be_done(sequence) {
            if self.reports {
                let (after, _) = self
                    .shared
                    .finals
                    .wait_timeout_while(allocator, PATIENCE, |allocator| {
                        allocator.of(tag).is_some_and(|flight| !flight.is_whole())
                    })
                    .unwrap_or_else(PoisonError::into_inner);
                allocator = after;
            }
            if allocator.of(tag).is_some_and(|flight| !flight.is_whole()) {
                drop(allocator);
                self.push_through(sequence);
                allocator = self.allocator();
            }
        }
        let position = allocator.flights.iter().position(|flight| flight.tag == tag);
        let Some(flight) = position.map(|at| allocator.flights.remove(at)) else {
            return Decoded {
                frame: None,
                result: Err(JobError::NoPicture),
                complaints: 0,
                took_offer: false,
            };
        };
        drop(allocator);
        if self.depth > 1 && flight.complaints == 0 && flight.frame.is_some() && !flight.is_whole() {
            self.reports = false;
        }
        Decoded {
            frame: flight.frame,
            result: flight.refused.map_or(Ok(()), Err),
            complaints: flight.complaints,
            took_offer: flight.took_offer,
        }
    }

    /// Sends packets that hold no picture until one must be done.
    fn push_through(&mut self, sequence: u64) {
        let mut builder = PacketBuilder::default();
        builder.start().extend_from_slice(&DELIMITER);
        let packet = builder.finish();
        while !self.must_be_done(sequence) {
            let before = self.sent;
            // What comes back is an earlier packet's error, or that there is no picture.
            let _ = self.send(&packet, NO_TAG);
            self.discard_output();
            if self.sent == before {
                // There is no memory for a packet now; its thread needs time as well.
                std::thread::sleep(PATIENCE);
            }
        }
    }

    /// Forgets all pictures and unfinished ones, and gives back their memory. `codec` and `threading` are those
    /// with which the decoder was opened.
    ///
    /// It is opened anew, since avcodec_flush_buffers lets VP9 keep references of references.
    pub(crate) fn renew(&mut self, codec: Codec, threading: Threading) {
        match Self::open(codec, threading) {
            Ok(new) => *self = new,
            Err(error) => {
                tracing::warn!(%error, "the decoder cannot be opened anew");
                // SAFETY: the context is open.
                unsafe { ff::avcodec_flush_buffers(self.context.as_ptr()) };
                self.allocator().flights.clear();
            }
        }
    }

    fn allocator(&self) -> MutexGuard<'_, Allocator> {
        self.shared.lock()
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
        self.sent += 1;
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
    let mut allocator = shared.lock();
    let Allocator {
        pool, flights, early, ..
    } = &mut *allocator;
    let Some(flight) = flights
        .iter_mut()
        .rev()
        .find(|flight| flight.tag == frame.pts as u64)
    else {
        return ff::AVERROR(ff::EINVAL);
    };
    if flight.context == 0 {
        flight.context = context.addr();
        early.retain(|early| {
            let own = early.context == flight.context;
            if own && early.newest >= flight.sequence {
                flight.complaints += early.complaints;
            }
            !own
        });
    }
    let (mut width, mut height) = (frame.width, frame.height);
    let mut aligns = [0; ff::AV_NUM_DATA_POINTERS as usize];
    // SAFETY: the context is valid, and `aligns` has as many elements as the function writes.
    unsafe { ff::avcodec_align_dimensions2(context, &mut width, &mut height, aligns.as_mut_ptr()) };
    let lent = layout_of(frame, width, height)
        .ok_or(JobError::PixelFormat(frame.format))
        .and_then(|layout| {
            pool.acquire(layout, flight.offer.as_ref())
                .map_err(|_| JobError::NoMemory)
        })
        .and_then(|memory| lend(&memory, frame).map(|()| memory));
    match lent {
        Ok(memory) => {
            let luma = memory.plane_ptr(0);
            flight.took_offer |= flight
                .offer
                .as_ref()
                .is_some_and(|offer| offer.luma.as_ptr() == luma);
            flight.frame = Some(memory);
            flight.lines = 0;
            0
        }
        Err(error) => {
            flight.refused = Some(error);
            ff::AVERROR(ff::EINVAL)
        }
    }
}

/// Lines of a picture are final. They come from the top to the bottom, unless some are missing.
unsafe extern "C" fn draw_band(
    context: *mut ff::AVCodecContext,
    frame: *const ff::AVFrame,
    _offset: *mut c_int,
    y: c_int,
    _structure: c_int,
    height: c_int,
) {
    // SAFETY: the library passes a valid context.
    let opaque = unsafe { (*context).opaque };
    // SAFETY: `opaque` was set by `Context::open` to its boxed `Shared`, which outlives the context.
    let shared = unsafe { &*opaque.cast_const().cast::<Shared>() };
    // SAFETY: the library passes a valid frame.
    let tag = unsafe { (*frame).pts } as u64;
    let (Ok(top), Ok(height)) = (u32::try_from(y), u32::try_from(height)) else {
        return;
    };
    let mut allocator = shared.lock();
    let Some(flight) = allocator.of(tag) else {
        return;
    };
    if top <= flight.lines {
        flight.lines = flight.lines.max(top.saturating_add(height));
        if flight.is_whole() {
            shared.finals.notify_all();
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
            shared
                .lock()
                .complain(object.addr(), text.to_bytes().starts_with(b"no frame!"));
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
