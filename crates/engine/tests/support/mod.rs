// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes whole files by the engine, without a kernel: the parser of the small client makes the jobs,
//! anonymous memory is CAPTURE.

#![allow(dead_code, reason = "each user needs another part")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::{CodedJob, Visible};
use daedalus_engine::memory::{Mapping, Plane};
use daedalus_engine::{Decoder, Done, Job, Options, RawPicture, Status};
use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::Control;

/// A CAPTURE buffer in private memory.
pub(crate) struct Capture {
    /// The buffer as a job names it.
    pub(crate) raw: RawPicture,
    mappings: Vec<Arc<Mapping>>,
}

impl Capture {
    /// A buffer as the kernel module lays it out: `width` × `height` pixels, lines padded to 128 bytes.
    pub(crate) fn new(format: u32, width: u32, height: u32) -> Result<Self> {
        let height = height.next_multiple_of(2);
        let sample = if format == fourcc::P010 { 2 } else { 1 };
        let stride = (width as usize * sample).next_multiple_of(128);
        let luma = stride * height as usize;
        let planes = match format {
            fourcc::NV12 | fourcc::P010 | fourcc::YUV420 => vec![(luma * 3 / 2, stride)],
            fourcc::NV12M => vec![(luma, stride), (luma / 2, stride)],
            fourcc::YUV420M => vec![(luma, stride), (luma / 4, stride / 2), (luma / 4, stride / 2)],
            _ => bail!("no layout for {}", fourcc::name(format)),
        };
        let mappings = planes
            .iter()
            .map(|&(len, _)| Mapping::anonymous(len).context("memory"))
            .collect::<Result<Vec<_>>>()?;
        let planes = mappings
            .iter()
            .zip(&planes)
            .map(|(mapping, &(len, stride))| Plane::new(mapping.clone(), 0, len, stride).context("plane"))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            raw: RawPicture {
                format,
                width,
                height,
                planes,
            },
            mappings,
        })
    }

    /// Sets every byte of every plane.
    pub(crate) fn fill(&self, value: u8) -> Result<()> {
        for mapping in &self.mappings {
            mapping.write(0, &vec![value; mapping.len()])?;
        }
        Ok(())
    }

    /// The same memory under another format.
    pub(crate) fn with_format(mut self, format: u32) -> Self {
        self.raw.format = format;
        self
    }

    /// The bytes of line `y` of a colour plane (1 is Cb, or Cb and Cr interleaved; 2 is Cr).
    fn line(&self, plane: usize, y: usize, start: usize, into: &mut [u8]) -> Result<()> {
        let first = &self.raw.planes[0];
        let (stride, height) = (first.bytesperline(), self.raw.height as usize);
        let contiguous = self.raw.planes.len() == 1;
        let planar = matches!(self.raw.format, fourcc::YUV420 | fourcc::YUV420M);
        let chroma_stride = if planar { stride / 2 } else { stride };
        let (memory, offset) = match (plane, contiguous) {
            (0, _) => (0, y * stride),
            (1, true) => (0, stride * height + y * chroma_stride),
            (_, true) => (
                0,
                stride * height + chroma_stride * (height / 2) + y * chroma_stride,
            ),
            (_, false) => (plane, y * chroma_stride),
        };
        self.mappings[memory].read(offset + start, into).context("line")
    }

    /// The visible part without padding, as NV12 (8 bit) or P010, whatever the buffer's format is.
    pub(crate) fn semi_planar(&self, visible: Visible) -> Result<Vec<u8>> {
        let sample = if self.raw.format == fourcc::P010 { 2 } else { 1 };
        let (width, height) = (visible.width as usize, visible.height as usize);
        let (left, top) = (visible.left as usize, visible.top as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let mut bytes = vec![0; (width * height + 2 * half_width * half_height) * sample];
        let (luma, chroma) = bytes.split_at_mut(width * height * sample);
        for (y, line) in luma.chunks_exact_mut(width * sample).enumerate() {
            self.line(0, top + y, left * sample, line)?;
        }
        let planar = matches!(self.raw.format, fourcc::YUV420 | fourcc::YUV420M);
        for (y, line) in chroma.chunks_exact_mut(half_width * 2 * sample).enumerate() {
            if planar {
                let mut plane = vec![0; half_width];
                for index in [1, 2] {
                    self.line(index, top / 2 + y, left / 2, &mut plane)?;
                    for (pair, &sample) in line.chunks_exact_mut(2).zip(&plane) {
                        pair[index - 1] = sample;
                    }
                }
            } else {
                self.line(1, top / 2 + y, left / 2 * 2 * sample, line)?;
            }
        }
        Ok(bytes)
    }
}

/// Runs jobs through a decoder.
pub(crate) struct Player {
    decoder: Box<dyn Decoder>,
    done: Vec<Done>,
    jobs: u64,
    /// The client's values of controls: they stay until set again.
    sticky: HashMap<u32, Vec<u8>>,
}

impl Player {
    pub(crate) fn new(coded_format: u32, options: &Options) -> Result<Self> {
        let decoder = daedalus_engine::open(coded_format, options)?;
        Ok(Self {
            decoder,
            done: Vec::new(),
            jobs: 0,
            sticky: HashMap::new(),
        })
    }

    pub(crate) fn decoder(&mut self) -> &mut dyn Decoder {
        self.decoder.as_mut()
    }

    /// Decodes `coded` into `capture`; it must be reported by the same call.
    pub(crate) fn play(&mut self, coded: &CodedJob, capture: &Capture) -> Result<Done> {
        self.play_payload(coded, &coded.payload, capture)
    }

    /// As [`Player::play`], with another payload.
    pub(crate) fn play_payload(
        &mut self,
        coded: &CodedJob,
        payload: &[u8],
        capture: &Capture,
    ) -> Result<Done> {
        self.jobs += 1;
        for control in &coded.controls {
            self.sticky.insert(control.id, control.value.clone());
        }
        let controls: Vec<_> = self
            .sticky
            .iter()
            .map(|(&id, value)| Control {
                id,
                in_request: coded.control(id).is_some(),
                elems: elems(id, value),
                value,
            })
            .collect();
        let mapping = Mapping::anonymous(payload.len().max(1))?;
        mapping.write(0, payload)?;
        let job = Job {
            id: self.jobs,
            timestamp: coded.timestamp,
            same_capture: coded.same_capture,
            coded: Plane::new(mapping, 0, payload.len(), 0)?,
            controls: &controls,
            raw: capture.raw.clone(),
        };
        self.decoder.submit(&job, &mut self.done);
        ensure!(self.done.len() == 1, "{} answers for one job", self.done.len());
        let done = self.done.remove(0);
        ensure!(
            done.job == self.jobs,
            "answer for job {} to job {}",
            done.job,
            self.jobs
        );
        Ok(done)
    }
}

/// Elements of a control: only the tile groups are an array.
fn elems(id: u32, value: &[u8]) -> u32 {
    use daedalus_uapi::v4l2_controls::{V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY, V4l2CtrlAv1TileGroupEntry};
    if id == V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY {
        u32::try_from(value.len() / size_of::<V4l2CtrlAv1TileGroupEntry>()).unwrap_or(0)
    } else {
        1
    }
}

/// One picture of a file, as it is shown.
pub(crate) struct ShownPicture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) bit_depth: u8,
    /// NV12, or P010 for 10 bit.
    pub(crate) bytes: Vec<u8>,
    /// The engine called it exact.
    pub(crate) exact: bool,
}

impl ShownPicture {
    /// The picture as I420, or I010 (little endian) for 10 bit.
    pub(crate) fn planar(&self) -> Vec<u8> {
        let luma = self.width as usize * self.height as usize;
        if self.bit_depth > 8 {
            let samples: Vec<u16> = self
                .bytes
                .chunks_exact(2)
                .map(|s| u16::from_le_bytes([s[0], s[1]]) >> 6)
                .collect();
            deinterleave(&samples, luma)
                .iter()
                .flat_map(|sample| sample.to_le_bytes())
                .collect()
        } else {
            deinterleave(&self.bytes, luma)
        }
    }
}

/// Moves Cb and Cr, interleaved after `luma` samples, into planes.
fn deinterleave<T: Copy>(samples: &[T], luma: usize) -> Vec<T> {
    let (luma, chroma) = samples.split_at(luma);
    let (cb, cr) = (chroma.iter().step_by(2), chroma.iter().skip(1).step_by(2));
    luma.iter().chain(cb).chain(cr).copied().collect()
}

/// Decodes the file at `path` and passes its pictures to `show`, in display order. `format` is the
/// CAPTURE format for 8 bit; 10 bit is always P010. Stops after `limit` pictures.
pub(crate) fn decode_file(
    path: &Path,
    options: &Options,
    format: u32,
    limit: usize,
    mut show: impl FnMut(ShownPicture) -> Result<()>,
) -> Result<usize> {
    let jobs = daedalus_client::jobs(path).with_context(|| path.display().to_string())?;
    let mut player = Player::new(jobs.codec().coded_format(), options)?;
    let mut captures: HashMap<u64, (Capture, Visible, u8, bool)> = HashMap::new();
    let mut shown = 0;
    for job in jobs {
        let job = job?;
        let previous = captures.remove(&job.timestamp).filter(|_| job.same_capture);
        let (capture, exact) = match previous {
            Some((capture, _, _, exact)) => (capture, exact),
            None => {
                let format = if job.bit_depth > 8 { fourcc::P010 } else { format };
                (Capture::new(format, job.coded_width, job.coded_height)?, true)
            }
        };
        let done = player.play(&job, &capture)?;
        let exact = exact && done.status == Status::Ok;
        captures.insert(job.timestamp, (capture, job.visible, job.bit_depth, exact));
        for timestamp in &job.shows {
            let (capture, visible, bit_depth, exact) = captures
                .get(timestamp)
                .with_context(|| format!("no picture {timestamp} to show"))?;
            show(ShownPicture {
                width: visible.width,
                height: visible.height,
                bit_depth: *bit_depth,
                bytes: capture.semi_planar(*visible)?,
                exact: *exact,
            })?;
            shown += 1;
            if shown == limit {
                return Ok(shown);
            }
        }
        // No codec here refers to, or shows, a picture from further back than this.
        let oldest = job.timestamp.saturating_sub(2_000_000);
        captures.retain(|&timestamp, _| timestamp >= oldest);
    }
    Ok(shown)
}
