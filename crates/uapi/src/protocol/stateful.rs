// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stateful face's part of the protocol.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{
    MAX_PLANES, MSG_BUFFER_GONE, MessageError, Msg, MsgBufferGone, Plane, checked_message, prefix,
    protocol_structs,
};

/// [`Msg::kind`]: [`MsgStart`].
pub const MSG_START: u32 = 0x20;
/// [`Msg::kind`]: [`MsgCoded`].
pub const MSG_CODED: u32 = 0x21;
/// [`Msg::kind`]: [`MsgRaw`].
pub const MSG_RAW: u32 = 0x22;
/// [`Msg::kind`]: a [`Msg`] alone.
pub const MSG_CONTINUE: u32 = 0x23;
/// [`Msg::kind`]: a [`Msg`] alone.
pub const MSG_DRAIN: u32 = 0x24;
/// [`Msg::kind`]: a [`Msg`] alone.
pub const MSG_FLUSH: u32 = 0x25;
/// [`Msg::kind`]: a [`Msg`] alone.
pub const MSG_RECLAIM: u32 = 0x26;

/// Bit of [`Format::flags`]: the worker goes on at once.
pub const FORMAT_F_CONTINUE: u32 = 1 << 0;
/// Most bytes of [`Headers`].
pub const HEADERS_MAX: u32 = 8192;

protocol_structs! {
    /// `struct daedalus_msg_start`.
    MsgStart {
        /// The header.
        msg: Msg,
        /// Fourcc of OUTPUT.
        coded_format: u32,
        /// Workers that the session has lost.
        restarts: u32,
        /// Of the OUTPUT format, as the client set it.
        width: u32,
        /// Of the OUTPUT format.
        height: u32,
        /// Bytes of parameter sets that follow.
        headers_size: u32,
        /// Zero.
        reserved: u32,
    }
    /// `struct daedalus_echo`.
    Echo {
        /// Of the OUTPUT buffer, in ns; it may repeat.
        timestamp: u64,
        /// `V4L2_BUF_FLAG_*` that the picture inherits.
        flags: u32,
        /// `struct v4l2_timecode`.
        timecode: [u32; 4],
        /// Zero.
        reserved: u32,
    }
    /// `struct daedalus_msg_coded`.
    MsgCoded {
        /// The header.
        msg: Msg,
        /// The unit's id, increasing within the session.
        unit: u64,
        /// For pictures whose data begins in this unit.
        echo: Echo,
        /// The coded data.
        coded: Plane,
    }
    /// `struct daedalus_msg_raw`.
    MsgRaw {
        /// The header.
        msg: Msg,
        /// The raw buffer's id.
        raw: u64,
        /// Fourcc of the buffer.
        raw_format: u32,
        /// Pixels of the buffer's format.
        width: u32,
        /// Lines of the buffer's format.
        height: u32,
        /// Memory planes.
        num_planes: u32,
        /// The planes.
        planes: [Plane; MAX_PLANES],
    }
    /// `struct daedalus_format`.
    Format {
        /// Luma samples of a line that are shown.
        width: u32,
        /// Lines that are shown.
        height: u32,
        /// Luma samples of a line that are decoded.
        coded_width: u32,
        /// Lines that are decoded.
        coded_height: u32,
        /// Bits of a sample.
        depth: u32,
        /// `V4L2_COLORSPACE_*`, 0 if the stream does not say.
        colorspace: u32,
        /// `V4L2_XFER_FUNC_*`.
        xfer_func: u32,
        /// `V4L2_YCBCR_ENC_*`.
        ycbcr_enc: u32,
        /// `V4L2_QUANTIZATION_*`.
        quantization: u32,
        /// `FORMAT_F_*` bits (out).
        flags: u32,
        /// Zero.
        reserved: [u32; 2],
    }
    /// `struct daedalus_picture`.
    Picture {
        /// The raw buffer that has it.
        raw: u64,
        /// Of the picture's unit.
        echo: Echo,
        /// `STATUS_*`.
        status: u32,
        /// Zero.
        reserved: u32,
    }
    /// `struct daedalus_coded_done`.
    CodedDone {
        /// The unit's id.
        unit: u64,
        /// `STATUS_*`.
        status: u32,
        /// Zero.
        reserved: u32,
    }
    /// `struct daedalus_headers`.
    Headers {
        /// Address of the parameter sets.
        data: u64,
        /// Their bytes.
        size: u32,
        /// Zero.
        reserved: u32,
    }
}

/// One message of a stateful session's fd.
#[derive(Debug, Clone, Copy)]
pub enum StatefulMessage<'a> {
    /// Begin, with the parameter sets that an earlier worker left.
    Start(&'a MsgStart, &'a [u8]),
    /// Decode a unit.
    Coded(&'a MsgCoded),
    /// A raw buffer is lent.
    Raw(&'a MsgRaw),
    /// The client has adapted CAPTURE to the format.
    Continue,
    /// Output all pictures of the units so far.
    Drain,
    /// Forget the units.
    Flush,
    /// No raw buffer is lent any more.
    Reclaim,
    /// Unmap this memory and close its fd.
    BufferGone(u64),
    /// A type that this version does not know; skip it.
    Unknown(u32),
}

impl<'a> StatefulMessage<'a> {
    /// Reads the message that `bytes` begin with. They must be 8-byte aligned, as a buffer of `u64` is.
    ///
    /// # Errors
    /// [`MessageError`] if the bytes are not a whole, consistent message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let (kind, whole) = checked_message(bytes)?;
        match kind {
            MSG_START => {
                let (head, rest) = prefix::<MsgStart>(whole)?;
                let headers = rest
                    .get(..head.headers_size as usize)
                    .ok_or(MessageError::Inconsistent("headers_size"))?;
                Ok(Self::Start(head, headers))
            }
            MSG_CODED => Ok(Self::Coded(prefix::<MsgCoded>(whole)?.0)),
            MSG_RAW => {
                let (raw, _) = prefix::<MsgRaw>(whole)?;
                if raw.num_planes == 0 || raw.num_planes as usize > MAX_PLANES {
                    return Err(MessageError::Inconsistent("num_planes"));
                }
                Ok(Self::Raw(raw))
            }
            MSG_CONTINUE => Ok(Self::Continue),
            MSG_DRAIN => Ok(Self::Drain),
            MSG_FLUSH => Ok(Self::Flush),
            MSG_RECLAIM => Ok(Self::Reclaim),
            MSG_BUFFER_GONE => Ok(Self::BufferGone(prefix::<MsgBufferGone>(whole)?.0.buffer)),
            kind => Ok(Self::Unknown(kind)),
        }
    }
}

impl MsgRaw {
    /// Returns the planes that count.
    #[must_use]
    pub fn raw_planes(&self) -> &[Plane] {
        &self.planes[..(self.num_planes as usize).min(MAX_PLANES)]
    }
}
