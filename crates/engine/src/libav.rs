// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes packets with libavcodec. No other module calls that library.
//!
//! With one thread, or with slice threads, a packet's picture is final when `avcodec_send_packet` returns.
//! With frame threads a packet is decoded while later ones are sent, and its picture is final as soon as one
//! of these holds:
//! - `draw_horiz_band` has reported all of its lines, and libavcodec has complained about nothing.
//! - Enough packets were sent after it: one less than there are threads. Packets go to the threads in turn,
//!   and a thread has finished its packet before it takes the next.
//!
//! A damaged picture never has all of its lines reported. So if the client sends nothing more, packets
//! without a picture are sent in place of the client's (see [`CodecDecoder::blank`]).
//!
//! The pictures that libavcodec outputs are discarded. The callback `get_buffer2` tells which frame a packet
//! decodes into.
//!
//! Some decoders stop within a picture and say nothing of it. They decode block by block, so the last block
//! tells: a mark is put there before, and is looked for when the picture should be final
//! ([`Context::open_marking`]).
//!
//! Invariants of the unsafe code:
//! - `Context` owns the three C objects, and nobody else has pointers to them.
//! - `AVCodecContext.opaque` points to the [`CallbackState`] of `Context`'s `Arc`, from before the decoder is
//!   opened until after it is freed. The library's copies of the context, one per frame thread, have the
//!   same pointer.
//! - An `AVBufferRef` of a frame or of a packet owns one count of its `Arc`. The free callback gives it back.

pub(crate) mod stream;
mod units;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use daedalus_uapi::codec::Codec;
use ffmpeg_sys_next as ff;

use crate::error::{EngineError, JobError};
use crate::frames::{Frame, Layout, Offer, Pool};
use crate::options::MAX_PIXELS;
use crate::packets::{PacketOutcome, PacketState, PacketStates};
use crate::payload::{PADDING, Packet, PacketBuilder};
use crate::unwritten::Marks;
use units::Units;

/// Most threads that libavcodec is asked for: it warns of more.
const MAX_THREADS: u32 = 16;

/// Time that a picture may take to be reported whole. After it, blank packets are sent to learn whether the
/// picture is done. A longer time is no error; a shorter one costs packets.
const PATIENCE: Duration = Duration::from_millis(20);

/// The mark in a picture's last block: samples that no picture is likely to have there.
const MARK: [u8; 16] = *b"\x9b\x14\xe7\x52\xc8\x3d\x06\xf1\x6a\xb5\x29\xdc\x47\x90\x1f\x73";

/// The tag of blank packets.
const NO_TAG: u64 = u64::MAX;

const _: () = assert!(PADDING >= ff::AV_INPUT_BUFFER_PADDING_SIZE as usize);

/// One of libavcodec's decoders.
#[derive(Debug)]
pub(crate) struct CodecDecoder {
    /// The codec.
    pub(crate) codec: Codec,
    /// libavcodec's name for the decoder.
    pub(crate) name: &'static CStr,
    /// A packet that decodes into nothing. Without one, the decoder has no frame threads for jobs.
    pub(crate) blank: Option<&'static [u8]>,
    /// The frame of its picture, if a packet gets several.
    pub(crate) picture: PictureFrame,
    /// The standard leaves the rounding of the inverse transform open: take that of the library's plain code,
    /// on every processor.
    pub(crate) plain_transform: bool,
    /// It may leave parts of a damaged picture as they are, and says nothing of which.
    pub(crate) leaves_parts: bool,
}

/// Which of a packet's frames has its picture. The others stand for pictures that are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PictureFrame {
    /// The first: references that are missing get their frames after it.
    First,
    /// The last: pictures that were left out get their frames before it.
    #[default]
    Last,
}

impl CodecDecoder {
    /// Finds libavcodec's own decoder. By id it would be the first one that was built in, which on some
    /// systems is a wrapper of V4L2 devices, and so of the device that this decoder serves.
    fn find(&self) -> *const ff::AVCodec {
        // SAFETY: a lookup in static tables, by a string that ends in NUL.
        unsafe { ff::avcodec_find_decoder_by_name(self.name.as_ptr()) }
    }

    /// Returns whether the linked library has the decoder.
    pub(crate) fn is_built_in(&self) -> bool {
        !self.find().is_null()
    }
}

/// How a decoder uses threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threading {
    /// This many decode one packet together.
    Slices(u32),
    /// This many decode one packet each.
    Frames(u32),
}

/// The state that callbacks use, from any thread.
#[derive(Debug, Default)]
struct CallbackState {
    allocator: Mutex<Allocator>,
    /// Signals that a picture became final.
    finals: Condvar,
    /// The context decodes a stream, not jobs.
    stream: bool,
    units: Mutex<Units>,
}

/// The state that `get_buffer2`, `draw_horiz_band` and the log use.
#[derive(Debug, Default)]
struct Allocator {
    pool: Pool,
    packets: PacketStates<Progress>,
    /// The last block of each picture is marked; blocks have [`MARK`]'s length in width and height.
    marks: bool,
    /// See [`CodecDecoder::picture`].
    picture: PictureFrame,
    /// See [`CodecDecoder::leaves_parts`].
    leaves_parts: bool,
    /// Several packets are decoded at a time, each by a context of its own.
    frame_threads: bool,
    /// [`Progress::sequence`] of the newest packet.
    newest: u64,
    /// Complaints by contexts whose packet has no frame yet. The packet gets them with its frame.
    early: Vec<EarlyComplaints>,
}

/// Complaints by a context whose packet has no frame yet.
#[derive(Debug)]
struct EarlyComplaints {
    context: usize,
    /// [`Allocator::newest`] at that time. The complaints are about no later packet: a packet without a frame
    /// is finished before its context gets another one that wants a frame.
    newest: u64,
    complaints: u32,
}

/// libavcodec's part of a packet's state.
#[derive(Debug, Default)]
struct Progress {
    /// [`Context::sent`] after it; 0 if the library never got it.
    sequence: u64,
    /// See [`PacketOutcome::complaints`]. Damage that libavcodec conceals in a picture which is not output is
    /// logged, and reported in no other way.
    complaints: u32,
    /// Address of the context that decodes it, once it has a frame; 0 before.
    context: usize,
    /// Lines of the picture, from the top, that are reported as final.
    lines: u32,
    /// What the picture's frame gets before it is decoded.
    marks: Option<Marks>,
}

impl CallbackState {
    fn for_stream() -> Self {
        Self {
            stream: true,
            ..Self::default()
        }
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allocator {
    /// Notes a complaint by the context with this address. `no_frame` says that the complaint is about a
    /// packet without a picture.
    fn complain(&mut self, context: usize, no_frame: bool) {
        if !self.frame_threads {
            if let Some(packet) = self.packets.iter_mut().next_back() {
                packet.state.complaints += 1;
            }
            return;
        }
        if no_frame {
            // A picture that was expected is missed without this. Blank packets have none.
            return;
        }
        let decoded = self
            .packets
            .iter_mut()
            .find(|packet| packet.state.context == context);
        if let Some(packet) = decoded {
            packet.state.complaints += 1;
            return;
        }
        let newest = self.newest;
        let same = |early: &&mut EarlyComplaints| early.context == context && early.newest == newest;
        match self.early.iter_mut().find(same) {
            Some(early) => early.complaints += 1,
            None => self.early.push(EarlyComplaints {
                context,
                newest,
                complaints: 1,
            }),
        }
    }
}

impl PacketState<Progress> {
    /// Returns whether all lines are final.
    fn is_whole(&self) -> bool {
        self.state.complaints == 0
            && self
                .frame
                .as_ref()
                .is_some_and(|frame| self.state.lines >= frame.layout.height)
    }
}

/// An open decoder.
#[derive(Debug)]
pub(crate) struct Context {
    context: NonNull<ff::AVCodecContext>,
    packet: NonNull<ff::AVPacket>,
    output: NonNull<ff::AVFrame>,
    state: Arc<CallbackState>,
    decoder: &'static CodecDecoder,
    threading: Threading,
    /// Packets that are decoded at a time.
    depth: u64,
    /// Packets that were sent.
    sent: u64,
    /// The library reports undamaged pictures whole, as far as is known.
    reports: bool,
}

impl Context {
    /// Opens a decoder that decodes blocks of 16 by 16 samples, in order and on one thread, and that may stop
    /// in a picture and not complain. [`Context::finish`] reports that as [`JobError::Unfinished`].
    pub(crate) fn open_marking(decoder: &'static CodecDecoder) -> Result<Self, EngineError> {
        let this = Self::open(decoder, Threading::Slices(1))?;
        this.allocator().marks = true;
        Ok(this)
    }

    /// Opens a decoder.
    pub(crate) fn open(decoder: &'static CodecDecoder, threading: Threading) -> Result<Self, EngineError> {
        install_log();
        let codec = decoder.find();
        if codec.is_null() {
            return Err(EngineError::NoDecoder(decoder.codec));
        }
        let no_memory = |call| EngineError::Library {
            call,
            code: -rustix::io::Errno::NOMEM.raw_os_error(),
        };
        // SAFETY: `codec` is a decoder of this library.
        let context = NonNull::new(unsafe { ff::avcodec_alloc_context3(codec) })
            .ok_or(no_memory("avcodec_alloc_context3"))?;
        // SAFETY: no requirements.
        let packet = NonNull::new(unsafe { ff::av_packet_alloc() });
        // SAFETY: no requirements.
        let output = NonNull::new(unsafe { ff::av_frame_alloc() });
        let (Some(packet), Some(output)) = (packet, output) else {
            // SAFETY: each pointer is null or was just allocated, and is freed once.
            unsafe { free(context.as_ptr(), option_ptr(packet), option_ptr(output)) };
            return Err(no_memory("av_packet_alloc"));
        };
        let mut this = Self {
            context,
            packet,
            output,
            state: Arc::default(),
            decoder,
            threading,
            depth: 1,
            sent: 0,
            reports: true,
        };
        this.allocator().picture = decoder.picture;
        this.allocator().leaves_parts = decoder.leaves_parts;
        // SAFETY: the context is valid, not yet opened, and not shared.
        let fields = unsafe { this.context.as_mut() };
        fields.opaque = Arc::as_ptr(&this.state).cast_mut().cast();
        fields.get_buffer2 = Some(get_buffer);
        let (threads, kind) = match threading {
            Threading::Slices(threads) => (threads, ff::FF_THREAD_SLICE),
            Threading::Frames(threads) if decoder.blank.is_some() => (threads, ff::FF_THREAD_FRAME),
            Threading::Frames(_) => (1, ff::FF_THREAD_SLICE),
        };
        fields.thread_count = c_int::try_from(threads.clamp(1, MAX_THREADS)).unwrap_or(1);
        fields.thread_type = kind;
        if kind == ff::FF_THREAD_FRAME {
            fields.draw_horiz_band = Some(draw_band);
            fields.slice_flags = ff::SLICE_FLAG_CODED_ORDER | ff::SLICE_FLAG_ALLOW_FIELD;
        }
        if decoder.plain_transform {
            use_plain_transform(fields);
        }
        fields.max_pixels = i64::from(MAX_PIXELS);
        // SAFETY: context and decoder belong together, and there are no options.
        let code = unsafe { ff::avcodec_open2(this.context.as_ptr(), codec, ptr::null_mut()) };
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

    /// Returns how many packets may be unfinished.
    pub(crate) fn depth(&self) -> usize {
        usize::try_from(self.depth).unwrap_or(1)
    }

    /// Begins to decode a packet, into `offer` if that fits. `tag` names it until it is finished. Fewer
    /// packets than [`Context::depth`] are unfinished before.
    pub(crate) fn begin(&mut self, packet: &Packet, tag: u64, offer: Option<Offer>) {
        self.send_new(packet, tag, offer, None);
    }

    /// As [`Context::begin`]. The frame of the packet's picture gets `marks` before it is decoded.
    pub(crate) fn begin_marked(&mut self, packet: &Packet, tag: u64, offer: Option<Offer>, marks: Marks) {
        self.send_new(packet, tag, offer, Some(marks));
    }

    fn send_new(&mut self, packet: &Packet, tag: u64, offer: Option<Offer>, marks: Option<Marks>) {
        let sequence = self.sent + 1;
        let mut allocator = self.allocator();
        let progress = Progress {
            sequence,
            marks,
            ..Progress::default()
        };
        allocator.packets.push(PacketState::new(tag, offer, progress));
        allocator.newest = sequence;
        let oldest = allocator.packets.iter().next();
        let oldest = oldest.map_or(0, |packet| packet.state.sequence);
        allocator.early.retain(|early| early.newest >= oldest);
        drop(allocator);
        let result = self.send(packet, tag);
        let unsent = self.sent < sequence;
        // With frame threads, the error that is returned for a packet is an earlier one's.
        if let (true, Err(error)) = (unsent || self.depth == 1, result) {
            if let Some(packet) = self.allocator().packets.get_mut(tag) {
                packet.error.get_or_insert(error);
                if unsent {
                    packet.state.sequence = 0;
                }
            }
        }
        self.discard_output();
    }

    /// Returns whether [`Context::finish`] would return at once.
    pub(crate) fn is_final(&self, tag: u64) -> bool {
        self.allocator()
            .packets
            .get(tag)
            .is_none_or(|packet| self.must_be_done(packet.state.sequence) || packet.is_whole())
    }

    /// Returns whether the packet's thread has taken a later one, or no thread has the packet.
    fn must_be_done(&self, sequence: u64) -> bool {
        sequence == 0 || self.sent + 1 >= sequence + self.depth
    }

    /// Waits until a packet is decoded.
    pub(crate) fn finish(&mut self, tag: u64) -> PacketOutcome {
        let is_unfinished = |allocator: &Allocator| {
            let packet = allocator.packets.get(tag);
            packet.is_some_and(|packet| !packet.is_whole())
        };
        let mut allocator = self.allocator();
        let sequence = allocator
            .packets
            .get(tag)
            .map_or(0, |packet| packet.state.sequence);
        if !self.must_be_done(sequence) {
            if self.reports {
                let (after, _) = self
                    .state
                    .finals
                    .wait_timeout_while(allocator, PATIENCE, |allocator| is_unfinished(allocator))
                    .unwrap_or_else(PoisonError::into_inner);
                allocator = after;
            }
            if is_unfinished(&allocator) {
                drop(allocator);
                self.push_through(sequence);
                allocator = self.allocator();
            }
        }
        let packet = allocator.packets.remove(tag);
        let marks = allocator.marks;
        drop(allocator);
        let Some(mut packet) = packet else {
            return PacketOutcome::none();
        };
        if let Some(frame) = packet.frame.as_ref().filter(|frame| marks && is_marked(frame)) {
            // Nothing decodes now, and later pictures will refer to this one.
            blank(frame);
            packet.error.get_or_insert(JobError::Unfinished);
        }
        let complaints = packet.state.complaints;
        if self.depth > 1 && complaints == 0 && packet.frame.is_some() && !packet.is_whole() {
            self.reports = false;
        }
        PacketOutcome {
            frame: packet.error.map_or(Ok(packet.frame), Err),
            complaints,
            took_offer: packet.took_offer,
        }
    }

    /// Sends blank packets until a packet must be done.
    fn push_through(&mut self, sequence: u64) {
        let mut builder = PacketBuilder::default();
        builder
            .start()
            .extend_from_slice(self.decoder.blank.unwrap_or_default());
        let packet = builder.finish();
        while !self.must_be_done(sequence) {
            let before = self.sent;
            // The result is an earlier packet's error, or that there is no picture.
            let _ = self.send(&packet, NO_TAG);
            self.discard_output();
            if self.sent == before {
                // There is no memory for a packet now; its thread needs time as well.
                std::thread::sleep(PATIENCE);
            }
        }
    }

    /// Forgets all pictures and unfinished packets, and gives back their memory.
    ///
    /// The decoder is opened anew, since `avcodec_flush_buffers` may keep references of references.
    pub(crate) fn renew(&mut self) {
        let marks = self.allocator().marks;
        match Self::open(self.decoder, self.threading) {
            Ok(new) => {
                new.allocator().marks = marks;
                *self = new;
            }
            Err(error) => {
                tracing::warn!(%error, "the decoder cannot be opened anew");
                // SAFETY: the context is open.
                unsafe { ff::avcodec_flush_buffers(self.context.as_ptr()) };
                self.allocator().packets.clear();
            }
        }
    }

    fn allocator(&self) -> MutexGuard<'_, Allocator> {
        self.state.lock()
    }

    fn send(&mut self, packet: &Packet, tag: u64) -> Result<(), JobError> {
        // SAFETY: this value owns both objects, and the packet is blank between calls.
        let code = unsafe { send_packet(self.context, self.packet, packet, tag) }?;
        self.sent += 1;
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
        // SAFETY: the three objects are owned by this value and freed once. The `CallbackState` outlives the
        // call.
        unsafe { free(self.context.as_ptr(), self.packet.as_ptr(), self.output.as_ptr()) };
    }
}

fn option_ptr<T>(pointer: Option<NonNull<T>>) -> *mut T {
    pointer.map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// Frees the objects of a [`Context`].
///
/// # Safety
/// Each pointer is null or owned by the caller, who gives it up.
unsafe fn free(
    mut context: *mut ff::AVCodecContext,
    mut packet: *mut ff::AVPacket,
    mut frame: *mut ff::AVFrame,
) {
    // SAFETY: the caller owns the frame, if it is not null, and gives it up.
    unsafe { ff::av_frame_free(&mut frame) };
    // SAFETY: the caller owns the packet, if it is not null, and gives it up.
    unsafe { ff::av_packet_free(&mut packet) };
    // SAFETY: the caller owns the context, if it is not null, and gives it up.
    unsafe { ff::avcodec_free_context(&mut context) };
}

/// Sends a packet to a decoder, by an object of the library that is blank before and afterwards. Returns the
/// library's answer.
///
/// # Errors
/// If the library has not got the packet.
///
/// # Safety
/// `context` is an open decoder, `blank` is a packet without data, and the caller owns both.
unsafe fn send_packet(
    context: NonNull<ff::AVCodecContext>,
    mut blank: NonNull<ff::AVPacket>,
    packet: &Packet,
    tag: u64,
) -> Result<c_int, JobError> {
    let size = c_int::try_from(packet.data().len()).map_err(|_| JobError::Payload("too long"))?;
    let owner = packet.to_raw();
    let data = packet.data().as_ptr().cast_mut();
    // SAFETY: the memory is `padded_len` bytes long, and lives until `free_packet` gives back `owner`. The
    // library does not write to it: the buffer is read-only.
    let buffer = unsafe {
        ff::av_buffer_create(
            data,
            packet.padded_len(),
            Some(free_packet),
            owner.cast_mut(),
            ff::AV_BUFFER_FLAG_READONLY,
        )
    };
    if buffer.is_null() {
        // SAFETY: the library did not take the count.
        unsafe { Packet::release(owner) };
        return Err(JobError::NoMemory);
    }
    // SAFETY: the caller owns the packet, so nobody else refers to it.
    let fields = unsafe { blank.as_mut() };
    fields.buf = buffer;
    fields.data = data;
    fields.size = size;
    fields.pts = tag as i64;
    // SAFETY: context and packet are valid; the data is padded.
    let code = unsafe { ff::avcodec_send_packet(context.as_ptr(), blank.as_ptr()) };
    // SAFETY: the packet is valid; this drops its reference of the buffer.
    unsafe { ff::av_packet_unref(blank.as_ptr()) };
    Ok(code)
}

unsafe extern "C" fn free_packet(opaque: *mut c_void, _data: *mut u8) {
    // SAFETY: `opaque` is the count that `send_packet` gave to the buffer, and the buffer is freed once.
    unsafe { Packet::release(opaque) };
}

unsafe extern "C" fn free_frame(opaque: *mut c_void, _data: *mut u8) {
    // SAFETY: `opaque` is the count that `lend` gave to the buffer, and the buffer is freed once. This may be
    // the last count, and on any thread: a frame's memory has no thread affinity.
    drop(unsafe { Arc::from_raw(opaque.cast_const().cast::<Frame>()) });
}

/// Provides the memory of a picture.
unsafe extern "C" fn get_buffer(
    context: *mut ff::AVCodecContext,
    frame: *mut ff::AVFrame,
    _flags: c_int,
) -> c_int {
    // SAFETY: the library passes a valid context.
    let opaque = unsafe { (*context).opaque };
    // SAFETY: the library passes a valid frame, which it does not touch during this call.
    let frame = unsafe { &mut *frame };
    // SAFETY: `opaque` was set by `Context::open` to its `CallbackState`, which outlives the context.
    let state = unsafe { &*opaque.cast_const().cast::<CallbackState>() };
    let mut allocator = state.lock();
    let Allocator {
        pool,
        packets,
        picture,
        leaves_parts,
        early,
        marks,
        ..
    } = &mut *allocator;
    let mut newest_first = packets.iter_mut().rev();
    let Some(packet) = newest_first.find(|packet| packet.tag == frame.pts as u64) else {
        return ff::AVERROR(ff::EINVAL);
    };
    let progress = &mut packet.state;
    if progress.context == 0 {
        progress.context = context.addr();
        early.retain(|early| {
            let own = early.context == progress.context;
            if own && early.newest >= progress.sequence {
                progress.complaints += early.complaints;
            }
            !own
        });
    }
    let is_picture = *picture == PictureFrame::Last || packet.frame.is_none();
    if is_picture {
        progress.lines = 0;
    }
    // SAFETY: the library passes a valid context.
    let (width, height) = unsafe { align(context, frame.width, frame.height) };
    let memory = layout_of(frame, width, height)
        .ok_or(JobError::PixelFormat(frame.format))
        .and_then(|layout| packet.acquire(pool, layout, is_picture))
        .and_then(|memory| lend(&memory, frame).map(|()| memory));
    let of_blocks = packet.state.marks.filter(|_| is_picture);
    if let (true, Ok(memory)) = (*leaves_parts && is_picture, &memory) {
        let filled = memory.fill_lent();
        tracing::trace!(?filled, "grey");
    }
    if let (Some(of_blocks), Ok(memory)) = (of_blocks, &memory) {
        let put = of_blocks.put(memory);
        tracing::debug!(?put, "marks");
    }
    match memory {
        Ok(memory) => {
            if *marks {
                mark(&memory);
            }
            if is_picture {
                packet.frame = Some(memory);
            }
            0
        }
        Err(error) => {
            packet.error = Some(error);
            ff::AVERROR(ff::EINVAL)
        }
    }
}

/// See [`CodecDecoder::plain_transform`].
fn use_plain_transform(context: &mut ff::AVCodecContext) {
    // Not FF_IDCT_SIMPLEAUTO: on arm64 that takes another function, which rounds a row with nothing but DC in
    // its own way (libavcodec/aarch64/simple_idct_neon.S). On x86-64 the vector function is equal, and taken.
    context.idct_algo = ff::FF_IDCT_SIMPLE as c_int;
    context.flags |= ff::AV_CODEC_FLAG_BITEXACT as c_int;
}

/// Returns the size for which a decoder needs memory.
///
/// # Safety
/// `context` is valid.
unsafe fn align(context: *mut ff::AVCodecContext, mut width: c_int, mut height: c_int) -> (c_int, c_int) {
    let mut aligns = [0; ff::AV_NUM_DATA_POINTERS as usize];
    // SAFETY: the context is valid, and `aligns` has as many elements as the function writes.
    unsafe { ff::avcodec_align_dimensions2(context, &mut width, &mut height, aligns.as_mut_ptr()) };
    (width, height)
}

/// Notes that lines of a picture are final. They come from the top to the bottom, unless some are missing.
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
    // SAFETY: `opaque` was set by `Context::open` to its `CallbackState`, which outlives the context.
    let state = unsafe { &*opaque.cast_const().cast::<CallbackState>() };
    // SAFETY: the library passes a valid frame.
    let tag = unsafe { (*frame).pts } as u64;
    let (Ok(top), Ok(height)) = (u32::try_from(y), u32::try_from(height)) else {
        return;
    };
    let mut allocator = state.lock();
    let Some(packet) = allocator.packets.get_mut(tag) else {
        return;
    };
    let lines = &mut packet.state.lines;
    if top <= *lines {
        *lines = (*lines).max(top.saturating_add(height));
        if packet.is_whole() {
            state.finals.notify_all();
        }
    }
}

/// Returns the bits of a sample, and whether there is chroma; `None` for a format of no use.
fn picture_format(format: c_int) -> Option<(u8, bool)> {
    let is = |other: ff::AVPixelFormat| format == other as c_int;
    if is(ff::AVPixelFormat::AV_PIX_FMT_YUV420P) || is(ff::AVPixelFormat::AV_PIX_FMT_YUVJ420P) {
        Some((8, true))
    } else if is(ff::AVPixelFormat::AV_PIX_FMT_GRAY8) {
        Some((8, false))
    } else if is(TEN_BIT_420) {
        Some((10, true))
    } else if is(TEN_BIT_GREY) {
        Some((10, false))
    } else {
        None
    }
}

/// Returns the layout of a picture that libavcodec decodes, `None` if the engine has no use for its format.
fn layout_of(frame: &ff::AVFrame, alloc_width: c_int, alloc_height: c_int) -> Option<Layout> {
    let (depth, chroma) = picture_format(frame.format)?;
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

/// Returns where the mark is in the luma of a picture: in the last line of its last block.
fn place_of_mark(frame: &Frame) -> usize {
    let blocks = |samples: u32| (samples as usize).div_ceil(MARK.len()) * MARK.len();
    let layout = &frame.layout;
    (blocks(layout.height) * layout.stride[0] + blocks(layout.width))
        .saturating_sub(layout.stride[0] + MARK.len())
}

/// Marks the last block of a picture.
fn mark(frame: &Frame) {
    if let Err(error) = frame.plane(0).write(place_of_mark(frame), &MARK) {
        tracing::debug!(%error, "a picture's last block is outside of its memory");
    }
}

/// Returns whether a picture's last block is as it was marked.
fn is_marked(frame: &Frame) -> bool {
    let mut found = [0; MARK.len()];
    let read = frame.plane(0).read(place_of_mark(frame), &mut found);
    read.is_ok() && found == MARK
}

/// Makes everything grey that a picture's blocks and the padding between its lines occupy.
fn blank(frame: &Frame) {
    const GREY: [u8; 4096] = [0x80; 4096];
    for plane in (0..frame.layout.planes()).map(|plane| frame.plane(plane)) {
        for at in (0..plane.len()).step_by(GREY.len()) {
            let length = GREY.len().min(plane.len() - at);
            if let Err(error) = plane.write(at, &GREY[..length]) {
                tracing::debug!(%error, "a picture cannot be made grey");
            }
        }
    }
}

/// Lets `frame` refer to `memory`.
fn lend(memory: &Arc<Frame>, frame: &mut ff::AVFrame) -> Result<(), JobError> {
    let mut strides = [0; 3];
    for (to, from) in strides.iter_mut().zip(memory.layout.stride) {
        *to = c_int::try_from(from).map_err(|_| JobError::NoMemory)?;
    }
    for (plane, &stride) in strides.iter().enumerate().take(memory.layout.planes()) {
        let owner = Arc::into_raw(memory.clone());
        let view = memory.plane(plane);
        // SAFETY: the memory has that many bytes from the address on, and lives until `free_frame` drops
        // `owner`. Nobody forms references to its contents.
        let buffer = unsafe {
            ff::av_buffer_create(
                view.as_ptr(),
                view.len(),
                Some(free_frame),
                owner.cast_mut().cast(),
                0,
            )
        };
        if buffer.is_null() {
            // SAFETY: the library did not take the count.
            drop(unsafe { Arc::from_raw(owner) });
            for plane in 0..plane {
                frame.data[plane] = ptr::null_mut();
                // SAFETY: the buffer was made above, and nobody else refers to it yet.
                unsafe { ff::av_buffer_unref(&mut frame.buf[plane]) };
            }
            return Err(JobError::NoMemory);
        }
        frame.buf[plane] = buffer;
        frame.data[plane] = view.as_ptr();
        frame.linesize[plane] = stride;
    }
    frame.extended_data = frame.data.as_mut_ptr();
    Ok(())
}

/// How texts begin that libavcodec logs as warnings or as information, and that are damage to a client: what
/// it conceals, and what it leaves out.
const DAMAGE: [&[u8]; 6] = [
    b"concealing",
    b"Skipping invalid undecodable NALU",
    b"Error constructing the reference lists",
    b"Invalid long term RPS",
    b"Ignoring POC change",
    b"PPS changed between slices",
];

/// Diverts libavcodec's log, which would go to stderr.
fn install_log() {
    static ONCE: Once = Once::new();
    // SAFETY: the callback is thread-safe, as the library demands.
    ONCE.call_once(|| unsafe { ff::av_log_set_callback(Some(on_log)) });
}

/// Takes a log line. It leaves the arguments alone: their type differs between ABIs, and the text alone tells
/// what happened. It is generic over that type, so that each ABI's is inferred.
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
    let text = unsafe { CStr::from_ptr(text) };
    let is_damage = |begin: &&[u8]| text.to_bytes().starts_with(begin);
    let complaint = level <= ff::AV_LOG_ERROR || DAMAGE.iter().any(is_damage);
    if complaint {
        // SAFETY: the library passes null or an object that begins with a pointer to its class.
        let state = unsafe { callback_state(object) };
        match state {
            Some(state) if state.stream => state.units().complain(object.addr()),
            Some(state) => state
                .lock()
                .complain(object.addr(), text.to_bytes().starts_with(b"no frame!")),
            None => {}
        }
    }
    tracing::debug!(level, complaint, text = %text.to_string_lossy().trim_end(), "libavcodec");
}

/// Returns the shared state of the context that `object` is. `None` if it is something else.
///
/// # Safety
/// `object` is null or begins with a pointer to an `AVClass`, and lives for `'a`.
unsafe fn callback_state<'a>(object: *mut c_void) -> Option<&'a CallbackState> {
    if object.is_null() {
        return None;
    }
    // SAFETY: `object` begins with such a pointer, as the caller promises.
    let class = unsafe { *object.cast::<*const ff::AVClass>() };
    // SAFETY: no requirements; it returns a pointer to static data.
    let context_class = unsafe { ff::avcodec_get_class() };
    if class != context_class {
        return None;
    }
    // SAFETY: only an `AVCodecContext` has this class.
    let opaque = unsafe { (*object.cast::<ff::AVCodecContext>()).opaque };
    // SAFETY: null before `Context::open` has set it, otherwise a `CallbackState` that outlives the context.
    unsafe { opaque.cast_const().cast::<CallbackState>().as_ref() }
}
