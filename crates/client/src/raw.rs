// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Raw pictures: the layouts that clients and decoders hand over, and the one packed semi-planar layout in
//! which every comparison is made (NV12 for 8 bit, P010 for 10 bit, no padding).

use anyhow::{Result, ensure};
use md5::{Digest, Md5};

/// A raw 4:2:0 layout, named as in GStreamer's caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawFormat {
    /// 8 bit, three planes.
    I420,
    /// 8 bit, luma plane and interleaved chroma plane.
    Nv12,
    /// 10 bit in the low bits of 16, three planes.
    I420Le10,
    /// 10 bit in the high bits of 16, luma plane and interleaved chroma plane.
    P010,
}

impl RawFormat {
    /// Returns the format of a caps string's `format` field.
    ///
    /// # Errors
    ///
    /// Any format whose layout is not known here.
    pub fn from_caps(name: &str) -> Result<Self> {
        Ok(match name {
            "I420" => Self::I420,
            "NV12" => Self::Nv12,
            "I420_10LE" => Self::I420Le10,
            "P010_10LE" => Self::P010,
            other => anyhow::bail!("the client chose raw format {other}, which this runner cannot compare"),
        })
    }

    /// Returns the name of the packed semi-planar layout of the same depth.
    pub fn semi_planar_name(self) -> &'static str {
        if self.depth() == 1 { "NV12" } else { "P010" }
    }

    /// Returns the bytes per sample.
    fn depth(self) -> usize {
        match self {
            Self::I420 | Self::Nv12 => 1,
            Self::I420Le10 | Self::P010 => 2,
        }
    }
}

/// A raw format at a picture size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Layout of the samples.
    pub format: RawFormat,
    /// Visible luma samples per row.
    pub width: usize,
    /// Visible luma rows.
    pub height: usize,
}

impl Shape {
    /// Returns the bytes of one packed picture (rows without padding), which decoders write to files.
    pub fn packed_len(self) -> usize {
        let chroma = 2 * self.width.div_ceil(2) * self.height.div_ceil(2);
        (self.width * self.height + chroma) * self.format.depth()
    }

    /// Converts one picture, whose plane rows are padded as GStreamer pads system memory by default
    /// (`gst_video_info_set_format`: strides rounded up to 4 bytes, heights to 2 rows), to the packed
    /// semi-planar layout. Bytes after the last plane are ignored.
    ///
    /// # Errors
    ///
    /// When `data` is shorter than that layout.
    pub fn semi_planar_from_gst(self, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let bytes = self.format.depth();
        let luma_stride = (self.width * bytes).next_multiple_of(4);
        let chroma_stride = match self.format {
            RawFormat::Nv12 | RawFormat::P010 => luma_stride,
            RawFormat::I420 | RawFormat::I420Le10 => (self.width.div_ceil(2) * bytes).next_multiple_of(4),
        };
        self.semi_planar(
            data,
            luma_stride,
            chroma_stride,
            self.height.next_multiple_of(2),
            out,
        )
    }

    /// Converts one packed picture to the packed semi-planar layout.
    ///
    /// # Errors
    ///
    /// When `data` is shorter than [`Shape::packed_len`].
    pub fn semi_planar_from_packed(self, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let chroma_row = self.width.div_ceil(2) * self.format.depth();
        let chroma_stride = match self.format {
            RawFormat::Nv12 | RawFormat::P010 => 2 * chroma_row,
            RawFormat::I420 | RawFormat::I420Le10 => chroma_row,
        };
        self.semi_planar(
            data,
            self.width * self.format.depth(),
            chroma_stride,
            self.height,
            out,
        )
    }

    /// Converts a picture of the packed semi-planar layout of this depth to packed planar: I420, or I010 with
    /// its samples in the low bits.
    ///
    /// # Errors
    ///
    /// When `data` has not exactly the bytes of one picture.
    pub fn planar_from_semi(self, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let bytes = self.format.depth();
        ensure!(
            data.len() == self.packed_len(),
            "{} bytes, a picture has {}",
            data.len(),
            self.packed_len()
        );
        let (luma, chroma) = data.split_at(self.width * self.height * bytes);
        out.clear();
        out.extend_from_slice(luma);
        for plane in 0..2 {
            for pair in chroma.chunks_exact(2 * bytes) {
                out.extend_from_slice(&pair[plane * bytes..][..bytes]);
            }
        }
        if bytes == 2 {
            for sample in out.chunks_exact_mut(2) {
                let value = u16::from_le_bytes([sample[0], sample[1]]) >> 6;
                sample.copy_from_slice(&value.to_le_bytes());
            }
        }
        Ok(())
    }

    fn semi_planar(
        self,
        data: &[u8],
        luma_stride: usize,
        chroma_stride: usize,
        luma_rows: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let bytes = self.format.depth();
        let (cw, ch) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let chroma = luma_stride * luma_rows;
        let planar = matches!(self.format, RawFormat::I420 | RawFormat::I420Le10);
        let chroma_row = if planar { cw * bytes } else { 2 * cw * bytes };
        let last_plane = if planar {
            chroma + chroma_stride * ch
        } else {
            chroma
        };
        let needed = last_plane + chroma_stride * (ch - 1) + chroma_row;
        ensure!(
            data.len() >= needed,
            "a {}x{} {:?} picture needs {needed} bytes, the client handed over {}",
            self.width,
            self.height,
            self.format,
            data.len()
        );
        out.clear();
        out.reserve(self.packed_len());
        for row in 0..self.height {
            out.extend_from_slice(&data[row * luma_stride..][..self.width * bytes]);
        }
        for row in 0..ch {
            let first = &data[chroma + row * chroma_stride..][..chroma_row];
            if planar {
                let second = &data[last_plane + row * chroma_stride..][..chroma_row];
                for (u, v) in first.chunks_exact(bytes).zip(second.chunks_exact(bytes)) {
                    out.extend_from_slice(u);
                    out.extend_from_slice(v);
                }
            } else {
                out.extend_from_slice(first);
            }
        }
        if self.format == RawFormat::I420Le10 {
            for sample in out.chunks_exact_mut(2) {
                let value = u16::from_le_bytes([sample[0], sample[1]]) << 6;
                sample.copy_from_slice(&value.to_le_bytes());
            }
        }
        Ok(())
    }
}

/// MD5 of `data` in lower-case hexadecimal.
pub fn md5_hex(data: &[u8]) -> String {
    hex(&Md5::digest(data))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut s, b| {
        // Writing to a String cannot fail.
        let _ = write!(s, "{b:02x}");
        s
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sizes_lose_only_their_padding() {
        // 3x3: luma rows of 3 in a stride of 4 over 4 rows, chroma 2x2.
        let mut gst = vec![0xee; 16 + 4 * 2];
        for y in 0..3 {
            for x in 0..3 {
                gst[y * 4 + x] = (y * 3 + x) as u8;
            }
        }
        gst[16..20].copy_from_slice(&[100, 200, 101, 201]);
        gst[20..24].copy_from_slice(&[102, 202, 103, 203]);
        let shape = Shape {
            format: RawFormat::Nv12,
            width: 3,
            height: 3,
        };
        let mut out = Vec::new();
        shape.semi_planar_from_gst(&gst, &mut out).expect("long enough");
        assert_eq!(
            out,
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 200, 101, 201, 102, 202, 103, 203]
        );
        assert_eq!(out.len(), shape.packed_len());
        assert!(shape.semi_planar_from_gst(&gst[..23], &mut out).is_err());
    }

    #[test]
    fn planar_and_semi_planar_agree() {
        let planar: Vec<u8> = (0..24).collect();
        let shape = Shape {
            format: RawFormat::I420,
            width: 4,
            height: 4,
        };
        let mut out = Vec::new();
        shape
            .semi_planar_from_packed(&planar, &mut out)
            .expect("long enough");
        assert_eq!(out[..16], planar[..16]);
        assert_eq!(out[16..], [16, 20, 17, 21, 18, 22, 19, 23]);
        let mut back = Vec::new();
        shape.planar_from_semi(&out, &mut back).expect("one picture");
        assert_eq!(back, planar);
        let again = Shape {
            format: RawFormat::Nv12,
            ..shape
        };
        let mut same = Vec::new();
        again
            .semi_planar_from_packed(&out, &mut same)
            .expect("long enough");
        assert_eq!(out, same);
    }

    #[test]
    fn ten_bit_samples_move_to_the_high_bits() {
        let planar: Vec<u8> = [1u16, 2, 3, 1023, 5, 6]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let shape = Shape {
            format: RawFormat::I420Le10,
            width: 2,
            height: 2,
        };
        let mut out = Vec::new();
        shape
            .semi_planar_from_packed(&planar, &mut out)
            .expect("long enough");
        let mut back = Vec::new();
        shape.planar_from_semi(&out, &mut back).expect("one picture");
        assert_eq!(back, planar);
        let samples: Vec<u16> = out
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]) >> 6)
            .collect();
        assert_eq!(samples, [1, 2, 3, 1023, 5, 6]);
    }
}
