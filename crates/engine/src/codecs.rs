// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lists the decoders of all codecs. Only this table and the files below it name a codec.

mod av1;
mod h264;
mod hevc;
mod mpeg2;
mod vp8;
mod vp9;

use daedalus_uapi::codec::{Codec, CodecSet};

use crate::decoder::LibraryDecoder;
use crate::error::EngineError;
use crate::job::Decoder;
use crate::library::Library;
use crate::null::NullDecoder;
use crate::options::{Backend, Options};
use crate::stream_codec::StreamCodec;

/// A row of the table: a codec's decoder.
struct Row {
    /// Returns whether the linked library has the decoder.
    is_available: fn() -> bool,
    /// Opens a decoder.
    open: fn(&Options) -> Result<Box<dyn Decoder>, EngineError>,
    /// Decodes streams.
    stream: StreamCodec,
}

/// Returns the row of a codec.
fn row(codec: Codec) -> Row {
    match codec {
        Codec::H264 => Row {
            is_available: h264::is_available,
            open: open_library::<h264::H264>,
            stream: h264::STREAM,
        },
        Codec::Vp9 => Row {
            is_available: vp9::is_available,
            open: open_library::<vp9::Vp9>,
            stream: vp9::STREAM,
        },
        Codec::Av1 => Row {
            is_available: av1::is_available,
            open: open_library::<av1::Av1>,
            stream: av1::STREAM,
        },
        Codec::Vp8 => Row {
            is_available: vp8::is_available,
            open: open_library::<vp8::Vp8>,
            stream: vp8::STREAM,
        },
        Codec::Mpeg2 => Row {
            is_available: mpeg2::is_available,
            open: open_library::<mpeg2::Mpeg2>,
            stream: mpeg2::STREAM,
        },
        Codec::Hevc => Row {
            is_available: hevc::is_available,
            open: open_library::<hevc::Hevc>,
            stream: hevc::STREAM,
        },
    }
}

fn open_library<L: Library + 'static>(options: &Options) -> Result<Box<dyn Decoder>, EngineError> {
    Ok(Box::new(LibraryDecoder::<L>::open(options)?))
}

/// Opens a decoder of `coded_format`, a `V4L2_PIX_FMT_*`.
///
/// # Errors
/// [`EngineError`] if the format is no codec's of the registry, or if its library is unable to decode.
pub fn open(coded_format: u32, options: &Options) -> Result<Box<dyn Decoder>, EngineError> {
    let codec = Codec::from_coded_format(coded_format).ok_or(EngineError::UnknownFormat(coded_format))?;
    match options.backend {
        Backend::Null => Ok(Box::new(NullDecoder)),
        Backend::Auto => (row(codec).open)(options),
    }
}

/// Returns what decodes a codec's streams.
pub(crate) fn stream(codec: Codec) -> StreamCodec {
    row(codec).stream
}

/// Makes the libraries build the tables that they build once in a process. Processes that are forked
/// afterwards have them. No thread is started.
pub fn warm_up() {
    for &codec in Codec::ALL {
        // A library that cannot decode says so when a session needs it.
        drop((row(codec).open)(&Options::default()));
    }
}

/// Returns the codecs that the linked libraries can decode. A distribution may build libavcodec without one
/// of them.
#[must_use]
pub fn served_codecs() -> CodecSet {
    let codecs = Codec::ALL.iter().copied();
    codecs.filter(|&codec| (row(codec).is_available)()).collect()
}
