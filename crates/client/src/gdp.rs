// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reader of the GStreamer Data Protocol (version 1.0), which `gdppay` writes: it keeps the caps and the
//! boundaries of buffers, so that every picture comes with the size and format that the client announced for
//! it.

use std::io::{ErrorKind, Read};

use anyhow::{Context, Result, bail, ensure};

use crate::raw::{RawFormat, Shape};

/// Bytes of a packet header.
const HEADER: usize = 62;
/// Packet type of a buffer.
const TYPE_BUFFER: u16 = 1;
/// Packet type of caps; larger types are events.
const TYPE_CAPS: u16 = 2;
/// No raw picture or caps text that we meet is larger; a larger length means that the stream is not GDP.
const LARGEST_PAYLOAD: usize = 1 << 28;

/// Reads pictures from a GDP stream of raw video.
pub struct Reader<R> {
    source: R,
    shape: Option<Shape>,
    payload: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Returns a reader at the start of the stream.
    pub fn new(source: R) -> Self {
        Self {
            source,
            shape: None,
            payload: Vec::new(),
        }
    }

    /// Returns the next picture: its shape and its bytes as GStreamer lays out system memory; `None` at the
    /// end.
    ///
    /// # Errors
    ///
    /// When the stream ends within a packet, is no GDP, or has a picture before its caps.
    pub fn next_picture(&mut self) -> Result<Option<(Shape, &[u8])>> {
        loop {
            let mut header = [0; HEADER];
            if !self.fill_header(&mut header)? {
                return Ok(None);
            }
            ensure!(
                header[0] == 1 && header[1] == 0,
                "GDP version {}.{}, not 1.0",
                header[0],
                header[1]
            );
            let kind = u16::from_be_bytes([header[4], header[5]]);
            let length = u32::from_be_bytes([header[6], header[7], header[8], header[9]]) as usize;
            ensure!(length <= LARGEST_PAYLOAD, "GDP packet of {length} bytes");
            self.payload.resize(length, 0);
            self.source
                .read_exact(&mut self.payload)
                .context("the client's output ends within a picture")?;
            match kind {
                TYPE_CAPS => self.shape = Some(shape_of_caps(&self.payload)?),
                TYPE_BUFFER => {
                    let shape = self.shape.context("a picture came before its caps")?;
                    return Ok(Some((shape, &self.payload)));
                }
                _ => {}
            }
        }
    }

    /// Fills `header`; false if the stream ends before its first byte.
    fn fill_header(&mut self, header: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while filled < header.len() {
            match self.source.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => bail!("the client's output ends within a packet header"),
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }
}

fn shape_of_caps(payload: &[u8]) -> Result<Shape> {
    let text = String::from_utf8_lossy(payload);
    let text = text.trim_end_matches('\0');
    ensure!(
        text.starts_with("video/x-raw"),
        "the client's output is {text}, not raw video"
    );
    let field = |name: &str| {
        text.split(", ")
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.rsplit(')').next().unwrap_or(value).trim_end_matches(';'))
            .with_context(|| format!("caps without {name}: {text}"))
    };
    Ok(Shape {
        format: RawFormat::from_caps(field("format")?)?,
        width: field("width")?
            .parse()
            .with_context(|| format!("width in {text}"))?,
        height: field("height")?
            .parse()
            .with_context(|| format!("height in {text}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[0] = 1;
        out[4..6].copy_from_slice(&kind.to_be_bytes());
        out[6..10].copy_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn pictures_carry_the_latest_caps() {
        let caps = |w: u32| format!("video/x-raw, format=(string)NV12, width=(int){w}, height=(int)2\0");
        let mut stream = packet(64 + 10, b"stream-start\0");
        stream.extend(packet(TYPE_CAPS, caps(2).as_bytes()));
        stream.extend(packet(TYPE_BUFFER, &[1; 6]));
        stream.extend(packet(TYPE_CAPS, caps(4).as_bytes()));
        stream.extend(packet(TYPE_BUFFER, &[2; 12]));
        let mut reader = Reader::new(stream.as_slice());
        let (shape, data) = reader.next_picture().expect("valid").expect("a picture");
        assert_eq!(
            (shape.width, shape.height, shape.format, data.len()),
            (2, 2, RawFormat::Nv12, 6)
        );
        let (shape, data) = reader.next_picture().expect("valid").expect("a picture");
        assert_eq!((shape.width, data), (4, [2; 12].as_slice()));
        assert!(reader.next_picture().expect("valid").is_none());
    }

    #[test]
    fn a_cut_stream_is_an_error_and_not_an_end() {
        let mut stream = packet(
            TYPE_CAPS,
            b"video/x-raw, format=(string)I420, width=(int)2, height=(int)2\0",
        );
        stream.extend(packet(TYPE_BUFFER, &[1; 6]));
        for cut in [stream.len() - 1, stream.len() - 6 - HEADER + 1] {
            let mut reader = Reader::new(&stream[..cut]);
            assert!(reader.next_picture().is_err(), "cut at {cut}");
        }
    }
}
