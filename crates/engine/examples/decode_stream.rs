// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes a file as a stateful client gives it, as often as asked, into buffers that are used again, and
//! prints what it took: for measuring the engine alone.
//!
//! Each unit of the container, or each piece of a byte stream, is a unit. Everything that a worker is handed
//! is made before the time begins. With 0 rounds nothing is decoded.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use daedalus_engine::memory::{Mapping, View};
use daedalus_engine::stateful::{Step, StreamDecoder, StreamFormat};
use daedalus_engine::{Options, Threads};
use daedalus_uapi::codec::Stream;
use daedalus_uapi::fourcc;
use support::Capture;

/// Bytes of a piece of a byte stream.
const PIECE: usize = 64 << 10;
/// Buffers of a client.
const BUFFERS: usize = 4;

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [file, threads, rounds] = words.as_slice() else {
        anyhow::bail!("usage: decode_stream FILE THREADS ROUNDS");
    };
    let codec = daedalus_client::jobs(Path::new(file))?.codec();
    let bytes = std::fs::read(file).with_context(|| file.clone())?;
    let units: Vec<View> = if codec.info().stream == Stream::StartCodes {
        bytes.chunks(PIECE).map(unit).collect::<Result<_>>()?
    } else {
        let contents = daedalus_client::container::open(bytes)?;
        contents.units.map(|bytes| unit(&bytes?)).collect::<Result<_>>()?
    };
    let options = Options {
        threads: Threads::Fixed(threads.parse().context("THREADS")?),
        ..Options::default()
    };
    let mut buffers = Buffers::default();
    for _ in 0..rounds.parse().context("ROUNDS")? {
        let mut decoder = StreamDecoder::open(codec.info().stateful_formats[0], &options)?;
        let start = Instant::now();
        let pictures = decode(&mut decoder, &units, &mut buffers)?;
        println!(
            "{pictures} pictures, {BUFFERS} buffers, {:.4} s",
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn unit(bytes: &[u8]) -> Result<View> {
    let mapping = Mapping::anonymous(bytes.len().max(1))?;
    mapping.write(0, bytes)?;
    Ok(View::new(mapping, 0, bytes.len(), 0)?)
}

/// The buffers of the present format.
#[derive(Default)]
struct Buffers {
    format: Option<StreamFormat>,
    captures: Vec<Capture>,
}

impl Buffers {
    /// Returns the buffer for the picture with this number, made if the format is another one.
    fn take(&mut self, format: StreamFormat, number: usize) -> Result<&Capture> {
        if !self.format.is_some_and(|own| own.is_like(&format)) {
            let kind = if format.depth > 8 {
                fourcc::P010
            } else {
                fourcc::NV12
            };
            let make = |_| {
                let capture = Capture::new(kind, format.width, format.height)?;
                // No page is touched for the first time while pictures are written.
                capture.fill(0x80)?;
                Ok(capture)
            };
            self.captures = (0..BUFFERS).map(make).collect::<Result<_>>()?;
            self.format = Some(format);
        }
        Ok(&self.captures[number % BUFFERS])
    }
}

/// Decodes all units. Returns the number of pictures.
fn decode(decoder: &mut StreamDecoder<()>, units: &[View], buffers: &mut Buffers) -> Result<usize> {
    let (mut units, mut pictures, mut first) = (units.iter(), 0, true);
    loop {
        match decoder.step() {
            Step::Picture(picture) => {
                ensure!(!picture.damaged, "picture {pictures} is not exact");
                picture.write(&buffers.take(picture.format, pictures)?.raw)?;
                pictures += 1;
            }
            Step::Hungry => match units.next() {
                Some(unit) => {
                    decoder.feed(unit, (), first)?;
                    first = false;
                }
                None => decoder.drain(),
            },
            Step::Drained => break,
        }
    }
    ensure!(pictures > 0, "no picture came out");
    Ok(pictures)
}
