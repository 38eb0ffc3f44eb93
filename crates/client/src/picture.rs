// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decoded pictures: from a CAPTURE buffer's planes to packed pixels.

use daedalus_uapi::fourcc;

use crate::coded::Visible;
use crate::device::{ClientError, call};
use crate::memory::Mapping;
use crate::v4l2::PixFormatMplane;

/// The places of a picture's colour planes in its memory planes.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Bytes per sample.
    sample: usize,
    /// Memory plane, offset and bytes per line: of luma, and of chroma (one interleaved plane, or two).
    luma: (usize, usize, usize),
    chroma: Vec<(usize, usize, usize)>,
}

impl Layout {
    /// Returns the layout of a CAPTURE format. As the kernel defines them, a single memory plane has chroma
    /// right behind `height` lines of luma, and separate chroma planes have half of luma's bytes per line.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] for a format that is none of NV12, NV12M, YU12, YM12 and P010.
    pub fn new(format: &PixFormatMplane) -> Result<Self, ClientError> {
        let stride = |plane: usize| format.plane_fmt[plane].stride() as usize;
        let line = stride(0);
        let end = line * format.height as usize;
        let (sample, chroma) = match format.pixelformat {
            fourcc::NV12 => (1, vec![(0, end, line)]),
            fourcc::P010 => (2, vec![(0, end, line)]),
            fourcc::NV12M => (1, vec![(1, 0, stride(1))]),
            fourcc::YUV420 => {
                let half = line / 2;
                let lines = format.height as usize / 2;
                (1, vec![(0, end, half), (0, end + half * lines, half)])
            }
            fourcc::YUV420M => (1, vec![(1, 0, stride(1)), (2, 0, stride(2))]),
            other => {
                let name = fourcc::name(other);
                return Err(ClientError::Unexpected(format!("CAPTURE format {name}")));
            }
        };
        Ok(Self {
            sample,
            luma: (0, 0, line),
            chroma,
        })
    }

    /// Returns the visible part as packed NV12 (8 bit) or P010: lines without padding, luma, then interleaved
    /// chroma. `left` and `top` are even, as 4:2:0 cropping is.
    ///
    /// # Errors
    /// `EFAULT` if it does not lie within the memory.
    pub fn packed(&self, planes: &[&Mapping], visible: &Visible) -> Result<Vec<u8>, ClientError> {
        let (width, height) = (visible.width as usize, visible.height as usize);
        let (left, top) = (visible.left as usize, visible.top as usize);
        let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
        let luma = width * self.sample * height;
        let mut packed = vec![0; luma + chroma_width * 2 * self.sample * chroma_height];
        let (luma, chroma) = packed.split_at_mut(luma);
        copy_lines(
            planes,
            self.luma,
            (left * self.sample, top),
            width * self.sample,
            luma,
        )?;
        match self.chroma[..] {
            [interleaved] => {
                let line = chroma_width * 2 * self.sample;
                copy_lines(planes, interleaved, (left * self.sample, top / 2), line, chroma)?;
            }
            _ => {
                let mut plane = vec![0; chroma_width * chroma_height];
                for (index, place) in self.chroma.iter().enumerate() {
                    copy_lines(planes, *place, (left / 2, top / 2), chroma_width, &mut plane)?;
                    for (sample, value) in chroma[index..].iter_mut().step_by(2).zip(&plane) {
                        *sample = *value;
                    }
                }
            }
        }
        Ok(packed)
    }
}

/// Copies lines of `line` bytes from `left` bytes and `top` lines within a plane, until `into` is full.
fn copy_lines(
    planes: &[&Mapping],
    (plane, offset, stride): (usize, usize, usize),
    (left, top): (usize, usize),
    line: usize,
    into: &mut [u8],
) -> Result<(), ClientError> {
    let missing = || ClientError::Unexpected(format!("a buffer without plane {plane}"));
    let mapping = planes.get(plane).ok_or_else(missing)?;
    if line == 0 {
        return Ok(());
    }
    for (index, chunk) in into.chunks_exact_mut(line).enumerate() {
        let at = offset + (top + index) * stride + left;
        call("a picture beyond its buffer", mapping.read(at, chunk))?;
    }
    Ok(())
}
