// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Errors of decoders and of jobs.

use daedalus_uapi::codec::Codec;
use daedalus_uapi::fourcc;
use thiserror::Error;

/// A decoder cannot be created.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The coded format is not one that the engine knows.
    #[error("coded format {} is unknown", fourcc::name(*.0))]
    UnknownFormat(u32),
    /// The library was built without the decoder.
    #[error("the library has no {} decoder", .0.title())]
    NoDecoder(Codec),
    /// The library failed.
    #[error("{call} failed with {code}")]
    Library {
        /// The function.
        call: &'static str,
        /// Its result.
        code: i32,
    },
}

/// A job's picture is not exact.
#[derive(Debug, Error)]
pub enum JobError {
    /// A control that the codec needs is not there or has another size than its structure.
    #[error("control {0:#x} is missing or has a wrong size")]
    Control(u32),
    /// The headers that the client did not send cannot be written.
    #[error("headers: {0}")]
    Headers(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The coded data has no byte, too many bytes, or no picture in the codec's format.
    #[error("coded data: {0}")]
    Payload(&'static str),
    /// The CAPTURE format is none that the engine writes, or has too few memory planes.
    #[error("CAPTURE format {} with {planes} planes", fourcc::name(*.format))]
    RawFormat {
        /// `V4L2_PIX_FMT_*`.
        format: u32,
        /// Memory planes that the job has.
        planes: usize,
    },
    /// CAPTURE has another bit depth than the picture.
    #[error("a picture of {picture} bit does not go into a CAPTURE buffer of {raw} bit")]
    BitDepth {
        /// Bits per sample of the picture.
        picture: u8,
        /// Bits per sample of the CAPTURE format.
        raw: u8,
    },
    /// The picture is larger than the CAPTURE buffer; the part that fits was written.
    #[error("a picture of {width}x{height} does not fit into the CAPTURE buffer")]
    TooLarge {
        /// Luma samples per line of the picture.
        width: u32,
        /// Lines of the picture.
        height: u32,
    },
    /// The picture is not 4:2:0 with 8 or 10 bit.
    #[error("the picture has a pixel format that CAPTURE cannot hold ({0})")]
    PixelFormat(i32),
    /// The library refused the coded data.
    #[error("{call} failed with {code}")]
    Library {
        /// The function.
        call: &'static str,
        /// Its result.
        code: i32,
    },
    /// The library accepted the coded data and decoded no picture from it.
    #[error("the coded data holds no picture")]
    NoPicture,
    /// The library ended within the picture, and said nothing of it.
    #[error("the picture is not decoded to its end")]
    Unfinished,
    /// A reference picture is not there or not exact itself.
    #[error("a reference picture is missing or damaged")]
    References,
    /// The library found damage and concealed it as well as it could.
    #[error("the coded data is damaged ({0} complaints)")]
    Damaged(u32),
    /// The decoder had to be opened anew, and was not.
    #[error("decoder cannot be opened again: {0}")]
    Reopen(#[source] EngineError),
    /// There is no memory for another frame.
    #[error("no memory for a frame")]
    NoMemory,
    /// The decoder has lost the job: an error of the engine's.
    #[error("the decoder never reported the job")]
    Unreported,
}
