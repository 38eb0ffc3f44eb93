// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes whole files by the engine, without a kernel: the parser of the small client makes the jobs,
//! anonymous memory is CAPTURE.

#![allow(dead_code, reason = "each user needs another part")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use daedalus_client::{Codec, CodedJob, Visible};
use daedalus_engine::memory::{Mapping, View};
use daedalus_engine::{Job, JobReport, Options, RawPicture, Session, Status};
use daedalus_uapi::formats::{ChromaLayout, RawFormat, Size};
use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::Control;

/// A CAPTURE buffer in private memory.
#[derive(Clone)]
pub(crate) struct Capture {
    /// The buffer as a job names it.
    pub(crate) raw: RawPicture,
    mappings: Vec<Arc<Mapping>>,
}

impl Capture {
    /// Allocates a buffer of `width` × `height` pixels as the kernel module does.
    pub(crate) fn new(format: u32, width: u32, height: u32) -> Result<Self> {
        let raw_format = RawFormat::of(format).with_context(|| fourcc::name(format))?;
        let memory = raw_format.memory(Size { width, height });
        let (mut mappings, mut planes) = (Vec::new(), Vec::new());
        for plane in &memory[..raw_format.memory_planes] {
            let mapping = Mapping::anonymous(plane.sizeimage).context("memory")?;
            planes.push(View::new(
                mapping.clone(),
                0,
                plane.sizeimage,
                plane.bytesperline,
            )?);
            mappings.push(mapping);
        }
        Ok(Self {
            raw: RawPicture {
                format,
                width,
                height: height.next_multiple_of(2),
                planes,
            },
            mappings,
        })
    }

    /// The decoder still refers to the memory.
    pub(crate) fn is_held(&self) -> bool {
        // This value and its plane have one count each.
        Arc::strong_count(&self.mappings[0]) > 2
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

    /// Reads line `y` of a colour plane from byte `start` on (1 is Cb, or Cb and Cr interleaved; 2 is Cr).
    fn line(&self, plane: usize, y: usize, start: usize, into: &mut [u8]) -> Result<()> {
        let strides: Vec<_> = self.raw.planes.iter().map(View::stride).collect();
        let size = Size {
            width: self.raw.width,
            height: self.raw.height,
        };
        let layout = RawFormat::of(self.raw.format).and_then(|format| format.layout(size, &strides, size));
        let layout = layout.context("no layout")?;
        let colour = match (plane, layout.chroma) {
            (0, _) => layout.luma,
            (_, ChromaLayout::Interleaved(plane)) => plane,
            (_, ChromaLayout::Separate(planes)) => planes[plane - 1],
        };
        let offset = colour.offset + y * colour.stride + start;
        self.mappings[colour.memory].read(offset, into).context("line")
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

/// Runs jobs through a session.
pub(crate) struct Player {
    session: Session<()>,
    jobs: u64,
    /// The client's values of controls: they stay until set again.
    sticky: HashMap<u32, Vec<u8>>,
}

impl Player {
    pub(crate) fn new(coded_format: u32, options: &Options) -> Result<Self> {
        let mut session = Session::new(options.clone());
        session.select(coded_format)?;
        Ok(Self {
            session,
            jobs: 0,
            sticky: HashMap::new(),
        })
    }

    /// Stops a queue: no later job refers to an earlier one.
    pub(crate) fn reset(&mut self) {
        self.session.reset();
    }

    /// Decodes `coded` into `capture`; it must be reported by the same call.
    pub(crate) fn play(&mut self, coded: &CodedJob, capture: &Capture) -> Result<JobReport> {
        self.play_payload(coded, &coded.payload, capture)
    }

    /// As [`Player::play`], with another payload.
    pub(crate) fn play_payload(
        &mut self,
        coded: &CodedJob,
        payload: &[u8],
        capture: &Capture,
    ) -> Result<JobReport> {
        self.submit(coded, payload, capture)?;
        let mut reports = self.reports();
        if reports.is_empty() {
            self.advance();
            reports = self.reports();
        }
        ensure!(reports.len() == 1, "{} answers for one job", reports.len());
        let report = reports.remove(0);
        ensure!(
            report.job == self.jobs,
            "answer for job {} to job {}",
            report.job,
            self.jobs
        );
        Ok(report)
    }

    /// Completes the oldest job at least.
    pub(crate) fn advance(&mut self) {
        self.session.advance();
    }

    /// Returns what was reported since the last call.
    pub(crate) fn reports(&mut self) -> Vec<JobReport> {
        std::iter::from_fn(|| self.session.next_done())
            .map(|(report, ())| report)
            .collect()
    }

    /// Submits `coded` with another payload, to be decoded into `capture`.
    pub(crate) fn submit(&mut self, coded: &CodedJob, payload: &[u8], capture: &Capture) -> Result<()> {
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
            coded: View::new(mapping, 0, payload.len(), 0)?,
            controls: &controls,
            raw: capture.raw.clone(),
        };
        self.session.submit(&job, ());
        Ok(())
    }
}

/// Returns the elements of a control: one, if it is no array.
pub(crate) fn elems(id: u32, value: &[u8]) -> u32 {
    let arrays = Codec::ALL.iter().flat_map(|codec| codec.info().arrays);
    let size = arrays
        .filter(|(array, _)| *array == id)
        .map(|(_, size)| *size)
        .next();
    size.map_or(1, |size| u32::try_from(value.len() / size).unwrap_or(0))
}

/// Allocates a buffer for a job's picture.
pub(crate) fn capture_for(job: &CodedJob) -> Result<Capture> {
    Capture::new(fourcc::NV12, job.coded_width, job.coded_height)
}

/// Decodes all jobs and returns status and picture of each; CAPTURE is full of `before` first.
pub(crate) fn decode(player: &mut Player, jobs: &[CodedJob], before: u8) -> Result<Vec<(Status, Vec<u8>)>> {
    jobs.iter()
        .map(|job| {
            let capture = capture_for(job)?;
            capture.fill(before)?;
            let report = player.play(job, &capture)?;
            Ok((report.status, capture.semi_planar(job.visible)?))
        })
        .collect()
}

/// A session with the options of the daemon.
pub(crate) fn player(codec: Codec) -> Result<Player> {
    Player::new(codec.coded_format(), &Options::default())
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

/// For each timestamp, the job after which the picture's buffer may be queued again: it was shown, and
/// no later job refers to it.
pub(crate) fn last_uses(jobs: &[CodedJob]) -> HashMap<u64, usize> {
    let mut last = HashMap::new();
    for (index, job) in jobs.iter().enumerate() {
        for timestamp in job.shows.iter().chain([&job.timestamp]) {
            let last = last.entry(*timestamp).or_insert(index);
            *last = index.max(*last);
        }
        // The next job may refer to these.
        for timestamp in &job.references {
            last.insert(*timestamp, index + 1);
        }
    }
    last
}

/// Buffers that [`decode_file`] has used again, and those of them which the decoder held at that time.
pub(crate) static USED_AGAIN: AtomicUsize = AtomicUsize::new(0);
pub(crate) static USED_WHILE_HELD: AtomicUsize = AtomicUsize::new(0);

/// A picture that is referred to or not shown yet.
struct HeldPicture {
    capture: Capture,
    visible: Visible,
    bit_depth: u8,
    exact: bool,
}

/// Decodes the file at `path` and passes its pictures to `show`, in display order. `format` is the
/// CAPTURE format for 8 bit; 10 bit is always P010. Stops after `limit` pictures.
///
/// A buffer is used again as soon as its picture was shown and no later job refers to it: the last
/// one first, which a decoder is most likely to hold still.
pub(crate) fn decode_file(
    path: &Path,
    options: &Options,
    format: u32,
    limit: usize,
    mut show: impl FnMut(ShownPicture) -> Result<()>,
) -> Result<usize> {
    let jobs = daedalus_client::jobs(path).with_context(|| path.display().to_string())?;
    let mut player = Player::new(jobs.codec().coded_format(), options)?;
    let jobs: Vec<_> = jobs.collect::<Result<_, _>>()?;
    let last = last_uses(&jobs);
    let mut held: HashMap<u64, HeldPicture> = HashMap::new();
    let mut free: Vec<Capture> = Vec::new();
    let mut shown = 0;
    for (index, job) in jobs.iter().enumerate() {
        let previous = held.remove(&job.timestamp).filter(|_| job.same_capture);
        let (capture, exact) = match previous {
            Some(first_field) => (first_field.capture, first_field.exact),
            None => {
                let format = if job.bit_depth > 8 { fourcc::P010 } else { format };
                let fits = |old: &Capture| {
                    old.raw.format == format
                        && old.raw.width == job.coded_width
                        && old.raw.height == job.coded_height.next_multiple_of(2)
                };
                match free.iter().rposition(fits) {
                    Some(at) => {
                        USED_AGAIN.fetch_add(1, Ordering::Relaxed);
                        USED_WHILE_HELD.fetch_add(usize::from(free[at].is_held()), Ordering::Relaxed);
                        (free.remove(at), true)
                    }
                    None => (Capture::new(format, job.coded_width, job.coded_height)?, true),
                }
            }
        };
        let report = player.play(job, &capture)?;
        let entry = HeldPicture {
            capture,
            visible: job.visible,
            bit_depth: job.bit_depth,
            exact: exact && report.status == Status::Ok,
        };
        held.insert(job.timestamp, entry);
        for timestamp in &job.shows {
            let picture = held
                .get(timestamp)
                .with_context(|| format!("no picture {timestamp} to show"))?;
            show(ShownPicture {
                width: picture.visible.width,
                height: picture.visible.height,
                bit_depth: picture.bit_depth,
                bytes: picture.capture.semi_planar(picture.visible)?,
                exact: picture.exact,
            })?;
            shown += 1;
            if shown == limit {
                return Ok(shown);
            }
        }
        let done: Vec<_> = held
            .keys()
            .copied()
            .filter(|timestamp| last.get(timestamp).is_none_or(|&last| last <= index))
            .collect();
        free.extend(
            done.iter()
                .filter_map(|timestamp| Some(held.remove(timestamp)?.capture)),
        );
    }
    Ok(shown)
}
