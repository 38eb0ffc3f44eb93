// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A contact sheet in PNG, made from NV12 bytes as a client received them.

use std::fmt::Write;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Size of one picture on the sheet, in pixels.
const CELL: (usize, usize) = (640, 360);
/// Pixels between pictures.
const GAP: usize = 8;

/// One NV12 picture without padding, limited range, BT.709.
pub(crate) struct Nv12 {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Nv12 {
    /// Reads a picture of this size in samples from a file.
    ///
    /// # Errors
    ///
    /// When the file has not exactly the bytes of one picture.
    pub(crate) fn read(path: &Path, width: usize, height: usize) -> Result<Self> {
        let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::new(data, width, height).with_context(|| format!("{}", path.display()))
    }

    fn new(data: Vec<u8>, width: usize, height: usize) -> Result<Self> {
        let expected = width * height + 2 * width.div_ceil(2) * height.div_ceil(2);
        ensure!(width > 0 && height > 0, "a picture of {width}x{height}");
        ensure!(
            data.len() == expected,
            "{} bytes, a {width}x{height} NV12 picture has {expected}",
            data.len()
        );
        Ok(Self { width, height, data })
    }

    /// Colour of one sample.
    fn rgb(&self, x: usize, y: usize) -> [i32; 3] {
        let luma = i32::from(self.data[y * self.width + x]) - 16;
        let at = self.width * self.height + (y / 2) * 2 * self.width.div_ceil(2) + x / 2 * 2;
        let (u, v) = (i32::from(self.data[at]) - 128, i32::from(self.data[at + 1]) - 128);
        // ITU-R BT.709, limited range, in 1/256.
        [
            298 * luma + 459 * v,
            298 * luma - 55 * u - 136 * v,
            298 * luma + 541 * u,
        ]
    }

    /// Mean colour of the samples under pixel (`x`, `y`) when the picture is scaled to `cell`, width and
    /// height.
    fn pixel(&self, cell: (usize, usize), x: usize, y: usize) -> [u8; 3] {
        let span = |at: usize, length: usize, cell: usize| {
            let from = at * length / cell;
            from..((at + 1) * length / cell).max(from + 1).min(length)
        };
        let mut sum = [0i32; 3];
        let mut count = 0;
        for sy in span(y, self.height, cell.1) {
            for sx in span(x, self.width, cell.0) {
                for (s, c) in sum.iter_mut().zip(self.rgb(sx, sy)) {
                    *s += c >> 4;
                }
                count += 1;
            }
        }
        sum.map(|s| (s / count.max(1) / 16).clamp(0, 255) as u8)
    }
}

/// Size of one picture in a terminal, in characters; a character shows two pixels, one above the other.
const THUMBNAIL: (usize, usize) = (38, 11);

/// The pictures side by side for a terminal with 24-bit colour, one string per line.
pub(crate) fn thumbnails(pictures: &[&Nv12]) -> Vec<String> {
    let cell = (THUMBNAIL.0, THUMBNAIL.1 * 2);
    let line = |y: usize| {
        let mut text = String::new();
        for picture in pictures {
            for x in 0..cell.0 {
                let ([r, g, b], [lr, lg, lb]) = (picture.pixel(cell, x, y), picture.pixel(cell, x, y + 1));
                // Writing to a String cannot fail.
                let _ = write!(text, "\x1b[38;2;{r};{g};{b};48;2;{lr};{lg};{lb}m\u{2580}");
            }
            text.push_str("\x1b[0m ");
        }
        text
    };
    (0..THUMBNAIL.1).map(|row| line(row * 2)).collect()
}

/// Writes the rows of pictures as one PNG; rows may differ in length.
///
/// # Errors
///
/// When there is no picture, or the file cannot be written.
pub(crate) fn write(path: &Path, rows: &[Vec<Nv12>]) -> Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    ensure!(columns > 0, "no picture for {}", path.display());
    let width = columns * (CELL.0 + GAP) + GAP;
    let height = rows.len() * (CELL.1 + GAP) + GAP;
    let mut image = vec![24u8; width * height * 3];
    for (r, row) in rows.iter().enumerate() {
        for (c, picture) in row.iter().enumerate() {
            for y in 0..CELL.1 {
                let start = ((GAP + r * (CELL.1 + GAP) + y) * width + GAP + c * (CELL.0 + GAP)) * 3;
                for (x, pixel) in image[start..][..CELL.0 * 3].chunks_exact_mut(3).enumerate() {
                    pixel.copy_from_slice(&picture.pixel(CELL, x, y));
                }
            }
        }
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut encoder = png::Encoder::new(
        BufWriter::new(file),
        u32::try_from(width)?,
        u32::try_from(height)?,
    );
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&image)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(y: u8, u: u8, v: u8) -> Nv12 {
        let (w, h) = (5, 3);
        let mut data = vec![y; w * h];
        for _ in 0..3 * 2 {
            data.extend([u, v]);
        }
        Nv12::new(data, w, h).expect("the size is right")
    }

    #[test]
    fn limited_range_becomes_full_range() {
        assert_eq!(flat(16, 128, 128).pixel(CELL, 0, 0), [0, 0, 0]);
        let white = flat(235, 128, 128).pixel(CELL, 639, 359);
        assert!(white.iter().all(|c| *c >= 253), "{white:?}");
        let red = flat(63, 102, 240).pixel(CELL, 300, 100);
        assert!(red[0] > 245 && red[1] < 8 && red[2] < 8, "{red:?}");
    }

    #[test]
    fn a_picture_of_another_size_is_refused() {
        assert!(Nv12::new(vec![0; 23], 4, 4).is_err());
        assert!(Nv12::new(vec![0; 24], 4, 4).is_ok());
    }
}
