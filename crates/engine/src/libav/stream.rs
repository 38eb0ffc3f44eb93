// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes whole streams with libavcodec, in output order, into private memory.
//!
//! Nothing need be final when a call returns, so frame threads are used wherever libavcodec has them. A
//! picture carries the tag of its access unit.
//!
//! Invariants of the unsafe code are those of the parent module. An output frame's first buffer owns one
//! count of the [`Frame`] that [`get_buffer`] provided.

use std::ffi::c_int;
use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use ffmpeg_sys_next as ff;

use super::{
    CallbackState, CodecDecoder, MAX_THREADS, align, free, install_log, layout_of, lend, option_ptr,
    picture_format, send_packet, use_plain_transform,
};
use crate::error::{EngineError, JobError};
use crate::frames::Frame;
use crate::options::MAX_PIXELS;
use crate::payload::Packet;
use crate::stream_library::{Colour, Output, PictureFormat, ReceiveResult, SendResult, StreamLibrary};

/// An open decoder of a stream.
#[derive(Debug)]
pub(crate) struct Stream {
    context: NonNull<ff::AVCodecContext>,
    packet: NonNull<ff::AVPacket>,
    output: NonNull<ff::AVFrame>,
    /// Streams use its pool and its units.
    state: Arc<CallbackState>,
    /// Several units are decoded at a time, each by a context of its own.
    frame_threads: bool,
}

impl Stream {
    /// Opens a decoder with `threads` threads.
    pub(crate) fn open(decoder: &'static CodecDecoder, threads: u32) -> Result<Self, EngineError> {
        Self::open_with(decoder, threads, false)
    }

    /// Opens a decoder that holds back as many pictures as the stream may reorder. Otherwise it guesses where
    /// the stream does not say, and gets the first ones wrong.
    pub(crate) fn open_strict(decoder: &'static CodecDecoder, threads: u32) -> Result<Self, EngineError> {
        Self::open_with(decoder, threads, true)
    }

    fn open_with(decoder: &'static CodecDecoder, threads: u32, strict: bool) -> Result<Self, EngineError> {
        install_log();
        let codec = decoder.find();
        if codec.is_null() {
            return Err(EngineError::NoDecoder(decoder.codec));
        }
        let failed = |call, code| EngineError::Library { call, code };
        let no_memory = -rustix::io::Errno::NOMEM.raw_os_error();
        // SAFETY: `codec` is a decoder of this library.
        let context = NonNull::new(unsafe { ff::avcodec_alloc_context3(codec) })
            .ok_or(failed("avcodec_alloc_context3", no_memory))?;
        // SAFETY: no requirements.
        let packet = NonNull::new(unsafe { ff::av_packet_alloc() });
        // SAFETY: no requirements.
        let output = NonNull::new(unsafe { ff::av_frame_alloc() });
        let (Some(packet), Some(output)) = (packet, output) else {
            // SAFETY: each pointer is null or was just allocated, and is freed once.
            unsafe { free(context.as_ptr(), option_ptr(packet), option_ptr(output)) };
            return Err(failed("av_packet_alloc", no_memory));
        };
        let mut this = Self {
            context,
            packet,
            output,
            state: Arc::new(CallbackState::for_stream()),
            frame_threads: false,
        };
        // SAFETY: the context is valid, not yet opened, and not shared.
        let fields = unsafe { this.context.as_mut() };
        fields.opaque = Arc::as_ptr(&this.state).cast_mut().cast();
        fields.get_buffer2 = Some(get_buffer);
        fields.thread_count = c_int::try_from(threads.clamp(1, MAX_THREADS)).unwrap_or(1);
        fields.thread_type = ff::FF_THREAD_FRAME | ff::FF_THREAD_SLICE;
        fields.max_pixels = i64::from(MAX_PIXELS);
        // The crop is applied when the picture is copied.
        fields.apply_cropping = 0;
        if decoder.plain_transform {
            use_plain_transform(fields);
        }
        if strict {
            fields.strict_std_compliance = ff::FF_COMPLIANCE_STRICT;
        }
        // SAFETY: context and decoder belong together, and there are no options.
        let code = unsafe { ff::avcodec_open2(this.context.as_ptr(), codec, ptr::null_mut()) };
        if code < 0 {
            return Err(failed("avcodec_open2", code));
        }
        // SAFETY: the context is open, and no thread of it has anything to do.
        let kind = unsafe { this.context.as_ref() }.active_thread_type;
        this.frame_threads = kind & ff::FF_THREAD_FRAME != 0;
        Ok(this)
    }

    /// Returns whether the library found damage in a frame.
    ///
    /// With frame threads, neither `decode_error_flags` nor the log alone will do:
    /// - `FF_DECODE_ERROR_DECODE_SLICES` is set for sound fields, too: a second field that is a unit of its
    ///   own is checked against the slices of the picture that its thread had before (`ff_er_add_slice`
    ///   without `ff_er_frame_start`). That flag counts only if something was logged.
    /// - A thread reads the flags of the frame that it outputs while another one may still decode that frame.
    fn is_damaged(&self, output: &ff::AVFrame) -> bool {
        let (own, since) = self.state.units().output(output.pts as u64);
        let errors = output.decode_error_flags;
        let is_corrupt = output.flags & ff::AV_FRAME_FLAG_CORRUPT != 0;
        if !self.frame_threads {
            return is_corrupt || errors != 0;
        }
        let is_sure = errors & !ff::FF_DECODE_ERROR_DECODE_SLICES != 0;
        is_corrupt || own || (errors != 0 && (is_sure || since))
    }

    /// Reads the frame that came out. `None` if it has no memory of this module, or an absurd crop.
    fn output(&mut self) -> Option<Output> {
        // SAFETY: the library has filled in the frame, and does not touch it until the next call.
        let output = unsafe { self.output.as_ref() };
        let buffer = output.buf[0];
        if buffer.is_null() {
            return None;
        }
        // SAFETY: the buffer is valid as long as the frame.
        let owner = unsafe { ff::av_buffer_get_opaque(buffer) }
            .cast_const()
            .cast::<Frame>();
        if owner.is_null() {
            return None;
        }
        // SAFETY: `get_buffer` provides all memory of this context, so the buffer owns a count.
        unsafe { Arc::increment_strong_count(owner) };
        // SAFETY: the count was just made for this.
        let frame = unsafe { Arc::from_raw(owner) };
        let (width, height) = (
            usize::try_from(output.width).ok()?,
            usize::try_from(output.height).ok()?,
        );
        let shown = (
            width
                .checked_sub(output.crop_left)?
                .checked_sub(output.crop_right)?,
            height
                .checked_sub(output.crop_top)?
                .checked_sub(output.crop_bottom)?,
        );
        let size = (u32::try_from(shown.0).ok()?, u32::try_from(shown.1).ok()?);
        Some(Output {
            frame: frame.part((output.crop_left, output.crop_top), size)?,
            coded: (frame.layout.width, frame.layout.height),
            colour: colour_of(output),
            tag: output.pts as u64,
            damaged: self.is_damaged(output),
        })
    }
}

impl StreamLibrary for Stream {
    fn send(&mut self, packet: &Packet, tag: u64) -> SendResult {
        self.state.units().send(tag);
        // SAFETY: this value owns both objects, and the packet is blank between calls.
        match unsafe { send_packet(self.context, self.packet, packet, tag) } {
            Ok(0..) => SendResult::Taken,
            Ok(code) if code == ff::AVERROR(ff::EAGAIN) => SendResult::Full,
            Ok(code) => SendResult::Lost(JobError::Library {
                call: "avcodec_send_packet",
                code,
            }),
            Err(error) => SendResult::Lost(error),
        }
    }

    fn end(&mut self) {
        // SAFETY: the context is open; no packet means the end.
        let code = unsafe { ff::avcodec_send_packet(self.context.as_ptr(), ptr::null()) };
        if code < 0 {
            tracing::debug!(code, "the end is refused");
        }
    }

    fn receive(&mut self) -> ReceiveResult {
        // SAFETY: context and frame are valid; the frame is unreferenced by the callee first.
        let code = unsafe { ff::avcodec_receive_frame(self.context.as_ptr(), self.output.as_ptr()) };
        if code == ff::AVERROR(ff::EAGAIN) {
            return ReceiveResult::Hungry;
        }
        if code == ff::AVERROR_EOF {
            return ReceiveResult::Ended;
        }
        if code < 0 {
            return ReceiveResult::Lost(JobError::Library {
                call: "avcodec_receive_frame",
                code,
            });
        }
        let output = self.output();
        // SAFETY: the frame is valid.
        unsafe { ff::av_frame_unref(self.output.as_ptr()) };
        output.map_or(ReceiveResult::Lost(JobError::NoPicture), ReceiveResult::Picture)
    }

    fn resume(&mut self) -> bool {
        // After the end, libavcodec takes packets only when it has been flushed.
        self.flush();
        false
    }

    fn flush(&mut self) {
        // SAFETY: the context is open.
        unsafe { ff::avcodec_flush_buffers(self.context.as_ptr()) };
        self.state.units().flush();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the three objects are owned by this value and freed once. The `CallbackState` outlives the
        // call.
        unsafe { free(self.context.as_ptr(), self.packet.as_ptr(), self.output.as_ptr()) };
    }
}

/// Returns the colours of a frame. The fields are read as numbers: a library may know more values than the
/// enumerations of the bindings.
fn colour_of(frame: &ff::AVFrame) -> Colour {
    let base = ptr::from_ref(frame).cast::<u8>();
    let number = |offset: usize| {
        // SAFETY: `offset` is that of a field of the frame which is a C enumeration, so 4 bytes.
        unsafe { base.wrapping_add(offset).cast::<u32>().read() }
    };
    Colour {
        primaries: number(offset_of!(ff::AVFrame, color_primaries)),
        transfer: number(offset_of!(ff::AVFrame, color_trc)),
        matrix: number(offset_of!(ff::AVFrame, colorspace)),
        full_range: number(offset_of!(ff::AVFrame, color_range)) == ff::AVColorRange::AVCOL_RANGE_JPEG as u32,
    }
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
    // SAFETY: `opaque` was set by `Stream::open` to its `CallbackState`, which outlives the context.
    let state = unsafe { &*opaque.cast_const().cast::<CallbackState>() };
    // SAFETY: the context is valid.
    let (width, height) = unsafe { align(context, frame.width, frame.height) };
    state.units().begin_picture(context.addr(), frame.pts as u64);
    let memory = layout_of(frame, width, height)
        .ok_or(JobError::PixelFormat(frame.format))
        .and_then(|layout| {
            let acquired = state.lock().pool.acquire(layout, None);
            acquired.map_err(|_| JobError::NoMemory)
        })
        .and_then(|memory| lend(&memory, frame));
    match memory {
        Ok(()) => 0,
        Err(error) => {
            tracing::debug!(%error, "no memory for a picture");
            ff::AVERROR(ff::EINVAL)
        }
    }
}

/// A parser of libavcodec: splits a byte stream into access units.
#[derive(Debug)]
pub(crate) struct Parser {
    parser: NonNull<ff::AVCodecParserContext>,
    /// A context of its own: the decoder's is used by threads.
    context: NonNull<ff::AVCodecContext>,
}

impl Parser {
    /// Opens a parser. With `whole`, each piece of data is an access unit.
    pub(crate) fn open(decoder: &'static CodecDecoder, whole: bool) -> Result<Self, EngineError> {
        let codec = decoder.find();
        if codec.is_null() {
            return Err(EngineError::NoDecoder(decoder.codec));
        }
        let failed = |call| EngineError::Library {
            call,
            code: -rustix::io::Errno::NOMEM.raw_os_error(),
        };
        // SAFETY: `codec` is a decoder of this library.
        let id = unsafe { (*codec).id };
        // SAFETY: no requirements.
        let parser = unsafe { ff::av_parser_init(id as c_int) };
        let mut parser = NonNull::new(parser).ok_or(failed("av_parser_init"))?;
        // SAFETY: `codec` is a decoder of this library.
        let Some(context) = NonNull::new(unsafe { ff::avcodec_alloc_context3(codec) }) else {
            // SAFETY: the parser was just made, and is closed once.
            unsafe { ff::av_parser_close(parser.as_ptr()) };
            return Err(failed("avcodec_alloc_context3"));
        };
        if whole {
            // SAFETY: the parser is valid, and nobody else has it.
            unsafe { parser.as_mut() }.flags |= ff::PARSER_FLAG_COMPLETE_FRAMES;
        }
        Ok(Self { parser, context })
    }

    /// Parses the packet's data, and calls `unit` for each access unit that ends in it, with the offset in
    /// the stream at which it begins. Without a packet, the last one ends.
    pub(crate) fn parse(&mut self, packet: Option<&Packet>, mut unit: impl FnMut(&[u8], u64)) {
        let mut rest = packet.map_or(&[][..], Packet::data);
        loop {
            let (mut out, mut out_len) = (ptr::null_mut(), 0);
            let len = c_int::try_from(rest.len()).unwrap_or(c_int::MAX);
            // SAFETY: both objects are valid. The data is followed by the packet's padding, for a rest of it
            // as well; with no packet there is none, which the parser is told.
            let used = unsafe {
                ff::av_parser_parse2(
                    self.parser.as_ptr(),
                    self.context.as_ptr(),
                    &mut out,
                    &mut out_len,
                    if packet.is_some() {
                        rest.as_ptr()
                    } else {
                        ptr::null()
                    },
                    len,
                    0,
                    0,
                    0,
                )
            };
            let used = usize::try_from(used).unwrap_or(0).min(rest.len());
            let found = usize::try_from(out_len).unwrap_or(0);
            if found > 0 && !out.is_null() {
                // SAFETY: the parser returns that many bytes, which are valid until its next call.
                let bytes = unsafe { std::slice::from_raw_parts(out.cast_const(), found) };
                // SAFETY: the parser is valid.
                let offset = unsafe { self.parser.as_ref() }.frame_offset;
                unit(bytes, u64::try_from(offset).unwrap_or(0));
            }
            rest = &rest[used..];
            if rest.is_empty() || (used == 0 && found == 0) {
                return;
            }
        }
    }

    /// Returns the format of the pictures of the last access unit, if the parser knows it.
    pub(crate) fn format(&self) -> Option<PictureFormat> {
        // SAFETY: the parser is valid.
        let fields = unsafe { self.parser.as_ref() };
        let pair = |width: c_int, height: c_int| {
            let pair = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
            (pair.0 > 0 && pair.1 > 0).then_some(pair)
        };
        let size = pair(fields.width, fields.height)?;
        let (depth, _) = picture_format(fields.format)?;
        let orders = [
            ff::AVFieldOrder::AV_FIELD_UNKNOWN,
            ff::AVFieldOrder::AV_FIELD_PROGRESSIVE,
        ];
        Some(PictureFormat {
            size,
            coded: pair(fields.coded_width, fields.coded_height).unwrap_or(size),
            depth,
            interlaced: !orders.contains(&fields.field_order),
        })
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: both objects are owned by this value and freed once.
        unsafe { ff::av_parser_close(self.parser.as_ptr()) };
        // SAFETY: as above.
        unsafe { ff::avcodec_free_context(&mut context) };
    }
}
