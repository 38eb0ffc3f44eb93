// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plays a list of streams through the engine with neither kernel nor device: the small client's parsers make
//! the jobs that it would hand to the device, and the engine decodes them into private memory laid out as
//! CAPTURE.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::raw::{RawFormat, Shape};
use daedalus_client::{CodedJob, Visible};
use daedalus_common::play::Stream;
use daedalus_engine::memory::{Mapping, View};
use daedalus_engine::{Job, Options, RawPicture, Session, Status};
use daedalus_uapi::formats::{self, ChromaLayout, Size};
use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::Control;

use crate::codec;
use crate::rows::{self, Comparison, Results};

/// Arguments of `daedalus-tests native`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stream list (JSON); relative paths in it are relative to its directory.
    #[arg(long)]
    list: PathBuf,
    /// Directory for `results.jsonl` and kept pictures.
    #[arg(long)]
    out: PathBuf,
    /// Play only streams whose name contains this text; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Keep this picture (display-order index) of every stream.
    #[arg(long)]
    keep: Vec<usize>,
}

/// Bytes of decoded pictures that stay at hand in case they are shown later.
const AT_HAND: usize = 512 << 20;

/// Plays the list.
///
/// # Errors
///
/// When the list cannot be read, no stream was played, or any row is not equal. A row that fails does not
/// stop the others.
pub(crate) fn run(args: &Args) -> Result<()> {
    let base = args.list.parent().unwrap_or(Path::new(".")).to_owned();
    let text =
        fs::read_to_string(&args.list).with_context(|| format!("cannot read {}", args.list.display()))?;
    let mut streams: Vec<Stream> = serde_json::from_str(&text).context("the stream list is malformed")?;
    if !args.only.is_empty() {
        streams.retain(|s| args.only.iter().any(|part| s.name.contains(part.as_str())));
    }
    ensure!(!streams.is_empty(), "no stream is to be played");
    let mut results = Results::begin(&args.out)?;
    let mut failed = 0;
    for mut stream in streams {
        stream.keep.extend(&args.keep);
        let library = codec::row(stream.codec).library;
        let mut comparison = Comparison::begin(&stream, "engine, no kernel", library, None, &args.out);
        let outcome = comparison
            .load_references(&stream, &base)
            .and_then(|()| play(&stream, &base, &mut comparison));
        let row = comparison.end(outcome);
        rows::print(&row);
        results.push(&row)?;
        failed += usize::from(!row.equal);
    }
    ensure!(failed == 0, "{failed} streams are not equal to their references");
    Ok(())
}

/// Decoded pictures by timestamp, oldest first; the latest counts.
#[derive(Default)]
struct PictureStore {
    pictures: VecDeque<(u64, Shape, Vec<u8>)>,
    bytes: usize,
}

impl PictureStore {
    fn push(&mut self, timestamp: u64, shape: Shape, data: Vec<u8>) {
        self.bytes += data.len();
        self.pictures.push_back((timestamp, shape, data));
        while self.bytes > AT_HAND {
            let Some((_, _, old)) = self.pictures.pop_front() else {
                return;
            };
            self.bytes -= old.len();
        }
    }

    fn get(&self, timestamp: u64) -> Option<(Shape, &[u8])> {
        self.pictures
            .iter()
            .rev()
            .find(|p| p.0 == timestamp)
            .map(|(_, shape, data)| (*shape, data.as_slice()))
    }
}

/// One CAPTURE buffer.
struct Capture {
    mapping: std::sync::Arc<Mapping>,
    raw: RawPicture,
}

fn play(stream: &Stream, base: &Path, comparison: &mut Comparison) -> Result<()> {
    let jobs = daedalus_client::jobs(base.join(&stream.path))?;
    let mut session = Session::new(Options::default());
    session.select(jobs.codec().coded_format())?;
    let mut controls: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut at_hand = PictureStore::default();
    let mut capture: Option<Capture> = None;
    for (id, job) in jobs.enumerate() {
        let job = job?;
        if !job.same_capture || capture.is_none() {
            capture = Some(Capture::new(&job)?);
        }
        let Some(target) = &capture else {
            bail!("no CAPTURE buffer")
        };
        controls.extend(
            job.controls
                .iter()
                .map(|control| (control.id, control.value.clone())),
        );
        decode(&mut session, id as u64, &job, &controls, target)?;
        let (shape, bytes) = target.visible(&job.visible)?;
        at_hand.push(job.timestamp, shape, bytes);
        for timestamp in &job.shows {
            let (shape, data) = at_hand
                .get(*timestamp)
                .with_context(|| format!("picture {timestamp} is not at hand"))?;
            comparison.receive(shape, data)?;
        }
    }
    Ok(())
}

/// Decodes one job; a job that does not come back as exact is an error.
fn decode(
    session: &mut Session<()>,
    id: u64,
    job: &CodedJob,
    controls: &BTreeMap<u32, Vec<u8>>,
    capture: &Capture,
) -> Result<()> {
    let payload = Mapping::anonymous(job.payload.len().max(1))?;
    payload.write(0, &job.payload)?;
    let coded = View::new(payload, 0, job.payload.len(), 0)?;
    let controls: Vec<Control<'_>> = controls
        .iter()
        .map(|(id, value)| Control {
            id: *id,
            in_request: job.control(*id).is_some(),
            elems: codec::elements(*id, value.len()),
            value,
        })
        .collect();
    let job = Job {
        id,
        timestamp: job.timestamp,
        same_capture: job.same_capture,
        coded,
        controls: &controls,
        raw: capture.raw.clone(),
    };
    session.submit(&job, ());
    session.drain();
    let (answer, ()) = session.next_done().context("the engine did not answer")?;
    ensure!(
        answer.job == id && session.is_idle(),
        "the engine answers job {} to job {id}",
        answer.job
    );
    if answer.status != Status::Ok {
        let why = answer
            .reason
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        bail!("job {id} failed: {why}");
    }
    Ok(())
}

impl Capture {
    /// Makes a buffer for the job's picture in the format and with the padding of the device.
    fn new(job: &CodedJob) -> Result<Self> {
        let format = formats::RawFormat::default_for(job.bit_depth);
        let size = Size {
            width: job.coded_width,
            height: job.coded_height,
        };
        let plane = format.memory(size)[0];
        let mapping = Mapping::anonymous(plane.sizeimage)?;
        let view = View::new(mapping.clone(), 0, plane.sizeimage, plane.bytesperline)?;
        let raw = RawPicture {
            format: format.fourcc,
            width: size.width,
            height: size.rounded().height,
            planes: vec![view],
        };
        Ok(Self { mapping, raw })
    }

    /// Returns the visible part as packed NV12 or P010.
    fn visible(&self, visible: &Visible) -> Result<(Shape, Vec<u8>)> {
        let (format, sample) = if self.raw.format == fourcc::NV12 {
            (RawFormat::Nv12, 1)
        } else {
            (RawFormat::P010, 2)
        };
        let shape = Shape {
            format,
            width: visible.width as usize,
            height: visible.height as usize,
        };
        let stride = self.raw.planes.first().context("no plane")?.stride();
        let (left, top) = (visible.left as usize, visible.top as usize);
        let size = Size {
            width: self.raw.width,
            height: self.raw.height,
        };
        let layout = formats::RawFormat::of(self.raw.format)
            .and_then(|format| format.layout(size, &[stride], size))
            .context("no layout")?;
        let ChromaLayout::Interleaved(chroma) = layout.chroma else {
            bail!("chroma is not interleaved");
        };
        let luma_row = shape.width * sample;
        let chroma_row = shape.width.next_multiple_of(2) * sample;
        let mut out = vec![0; shape.packed_len()];
        let (luma_out, chroma_out) = out.split_at_mut(luma_row * shape.height);
        for (y, row) in luma_out.chunks_exact_mut(luma_row).enumerate() {
            self.mapping.read((top + y) * stride + left * sample, row)?;
        }
        for (y, row) in chroma_out.chunks_exact_mut(chroma_row).enumerate() {
            self.mapping.read(
                chroma.offset + (top / 2 + y) * chroma.stride + left / 2 * 2 * sample,
                row,
            )?;
        }
        Ok((shape, out))
    }
}
