// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes a whole stream as a stateful client gives it. The test that includes this has `support`, too.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use daedalus_client::Visible;
use daedalus_engine::memory::{Mapping, View};
use daedalus_engine::stateful::{Step, StreamDecoder, StreamPicture};
use daedalus_engine::{Options, Threads};
use daedalus_uapi::codec::{Codec, Stream};
use daedalus_uapi::fourcc;
use md5::{Digest, Md5};

use crate::support::{Capture, ShownPicture};

fn hex(sum: impl AsRef<[u8]>) -> String {
    let mut text = String::new();
    for byte in sum.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn view(bytes: &[u8]) -> Result<View> {
    let mapping = Mapping::anonymous(bytes.len().max(1))?;
    mapping.write(0, bytes)?;
    Ok(View::new(mapping, 0, bytes.len(), 0)?)
}

/// Returns a file as a client puts it into buffers: in pieces of odd sizes where the codec allows that, else
/// in the container's units.
fn units(codec: Codec, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
    if codec.info().stream != Stream::StartCodes {
        let contents = daedalus_client::container::open(bytes)?;
        return Ok(contents.units.collect::<Result<_, _>>()?);
    }
    let (mut rest, mut pieces, mut size) = (&bytes[..], Vec::new(), 1);
    while !rest.is_empty() {
        size = (size * 7 + 13) % 9973 + 1;
        let (piece, tail) = rest.split_at(size.min(rest.len()));
        pieces.push(piece.to_vec());
        rest = tail;
    }
    Ok(pieces)
}

/// Copies a picture out of the decoder as packed planes.
fn planar<T>(picture: &StreamPicture<T>) -> Result<Vec<u8>> {
    let format = picture.format;
    let raw = if format.depth > 8 {
        fourcc::P010
    } else {
        fourcc::NV12
    };
    let capture = Capture::new(raw, format.width, format.height)?;
    picture.write(&capture.raw)?;
    let visible = Visible {
        width: format.width,
        height: format.height,
        ..Visible::default()
    };
    let shown = ShownPicture {
        width: format.width,
        height: format.height,
        bit_depth: format.depth,
        bytes: capture.semi_planar(visible)?,
        exact: !picture.damaged,
    };
    Ok(shown.planar())
}

/// A decoded stream.
pub(crate) struct Decoded {
    /// The md5 of all pictures.
    pub(crate) sum: String,
    /// The md5 of each.
    pub(crate) pictures: Vec<String>,
    /// The numbers of those that are called damaged.
    pub(crate) damaged: Vec<usize>,
}

/// Decodes a stream with so many threads.
pub(crate) fn decode(codec: Codec, bytes: Vec<u8>, threads: u32) -> Result<Decoded> {
    let options = Options {
        threads: Threads::Fixed(threads),
        ..Options::default()
    };
    let coded_format = codec.info().stateful_formats[0];
    let mut decoder = StreamDecoder::open(coded_format, &options)?;
    let mut units = units(codec, bytes)?.into_iter().enumerate();
    let (mut sum, mut pictures, mut drained, mut found) = (Md5::new(), Vec::new(), false, None);
    let mut damaged = Vec::new();
    let mut first = None;
    loop {
        match decoder.step() {
            Step::Picture(picture) => {
                let number = pictures.len();
                ensure!(picture.echo.is_some(), "picture {number} belongs to no unit");
                if picture.damaged {
                    damaged.push(number);
                }
                first.get_or_insert(picture.format);
                let planes = planar(&picture)?;
                pictures.push(hex(Md5::digest(&planes)));
                sum.update(planes);
            }
            Step::Hungry => match units.next() {
                Some((index, unit)) => {
                    let format = decoder.feed(&view(&unit)?, index, found.is_none())?;
                    found = found.or(format);
                }
                None => {
                    ensure!(!drained, "hungry after the end");
                    drained = true;
                    decoder.drain();
                }
            },
            Step::Drained => break,
        }
    }
    if let (Some(found), Some(first)) = (found, first) {
        if !found.is_like(&first) {
            println!("{codec}: {found:?} was found, {first:?} came");
        }
    }
    Ok(Decoded {
        sum: hex(sum.finalize()),
        pictures,
        damaged,
    })
}
