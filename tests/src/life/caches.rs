// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What devices that do not snoop the processors' caches would see of the buffers, by the record of the
//! module in testbed/caches: which pages were cleaned, and what they held then.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::decoder::{Options, Plan, Session};
use daedalus_client::device::{Device, Nodes};
use daedalus_client::memory::{Mapping, udmabuf};
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};
use daedalus_uapi::fd::DmaBufAccess;
use daedalus_uapi::fourcc;

use super::common::Common;
use super::sessions::patiently;
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::figures::Figures;
use crate::guest::module::{parameter_text, set_parameter_text};

/// The importer.
const IMPORTER: &str = "/dev/daedalus-importer";
/// The parameter that says which memory is taken.
const PARAMETER: &str = "contiguous";
/// The size of the clips that are decoded, one of each codec.
const CLIPS: &str = "360p";
/// Jobs of each clip that are decoded.
const JOBS: usize = 10;
/// Buffers of each queue that are looked at when nobody has written to them.
const FRESH: u32 = 4;
/// The longest segments of devices, in bytes: the kernel's default, and one that is no number of pages.
const LIMITS: [u32; 2] = [65536, 100_000];
/// The width and height of buffers that are not decoded into.
const SIZE: (u32, u32) = (640, 360);

/// What the importer would see of a dmabuf.
#[derive(Clone, Copy, Debug)]
struct ImporterView {
    pages: u64,
    /// Pages that were cleaned.
    cleaned: u64,
    /// Those of them that hold something else now.
    stale: u64,
    segments: u64,
    /// Bytes of the longest of them.
    longest: u64,
    /// Segments that do not begin where the one before ends.
    runs: u64,
    recording: bool,
}

impl ImporterView {
    fn parse(text: &str) -> Result<Self> {
        let number = |name: &str| -> Result<u64> {
            let value = text
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            let value = value.with_context(|| format!("the importer says nothing about {name}: {text}"))?;
            Ok(value.parse()?)
        };
        ensure!(number("coherent")? == 0, "the importer snoops");
        ensure!(
            number("missed")? == 0,
            "pages were cleaned in memory that is not recorded: give the guest less memory"
        );
        Ok(Self {
            pages: number("pages")?,
            cleaned: number("cleaned")?,
            stale: number("stale")?,
            segments: number("segments")?,
            longest: number("longest")?,
            runs: number("runs")?,
            recording: number("recording")? != 0,
        })
    }

    /// Demands that the device sees all of the memory as it is.
    fn demand_clean(&self) -> Result<()> {
        ensure!(self.pages > 0, "it has no pages");
        ensure!(
            (self.cleaned, self.stale) == (self.pages, 0),
            "of {} pages {} were cleaned, and {} of these hold something else now",
            self.pages,
            self.cleaned,
            self.stale
        );
        Ok(())
    }
}

/// What the importer is to do with a dmabuf.
#[derive(Clone, Copy, Debug)]
enum Direction {
    /// Read, as a display does.
    To,
    /// Read and write.
    Both,
}

/// Whose memory it is, and how it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// The module's, which has to be one segment.
    Contiguous,
    /// The module's.
    Scattered,
    /// That of udmabuf, which cleans only at the end of a bracket: it maps with `DMA_ATTR_SKIP_CPU_SYNC`.
    Udmabuf,
}

/// A dmabuf's importer.
#[derive(Debug)]
struct Importer(File);

impl Importer {
    fn open() -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(IMPORTER);
        Ok(Self(file.with_context(|| {
            format!("{IMPORTER}: is the module of testbed/caches loaded?")
        })?))
    }

    fn command(&self, text: &str) -> Result<()> {
        let written = (&self.0)
            .write(text.as_bytes())
            .with_context(|| format!("importer: {text}"))?;
        ensure!(written == text.len(), "importer: {text}: {written} bytes");
        Ok(())
    }

    /// Imports `dmabuf`, and demands that it lies as it has to, and that all of it is clean when it is
    /// mapped.
    fn map(dmabuf: BorrowedFd<'_>, direction: Direction, memory: Memory) -> Result<(Self, ImporterView)> {
        let importer = Self::open()?;
        let direction = match direction {
            Direction::To => "to",
            Direction::Both => "both",
        };
        importer.command("forget")?;
        importer.command(&format!("map {} {direction}", dmabuf.as_raw_fd()))?;
        let view = importer.view()?;
        ensure!(!view.recording, "the record did not end with the map");
        if memory != Memory::Udmabuf {
            view.demand_clean().context("when it was mapped")?;
        }
        ensure!(
            memory != Memory::Contiguous || view.runs == 1,
            "{} runs of addresses",
            view.runs
        );
        Ok((importer, view))
    }

    fn view(&self) -> Result<ImporterView> {
        let mut text = [0; 256];
        let length = self.0.read_at(&mut text, 0).context("importer: read")?;
        ImporterView::parse(&String::from_utf8_lossy(&text[..length]))
    }
}

pub(super) fn caches(common: &Common, figures: &mut Figures) -> Result<()> {
    if let Some(reason) = impossible() {
        figures.set("skipped", reason);
        return Ok(());
    }
    let clips = common.clips()?.every(CLIPS)?;
    let (broker, nodes) = Broker::start(common)?;
    let setting = parameter_text(PARAMETER)?;
    let result = patiently(|| {
        for (memory, contiguous) in [(Memory::Contiguous, "1"), (Memory::Scattered, "0")] {
            set_parameter_text(PARAMETER, contiguous)?;
            own(&nodes, &clips, memory, figures).with_context(|| format!("{memory:?} memory"))?;
        }
        set_parameter_text(PARAMETER, "1")?;
        for clip in &clips {
            brought(&nodes, clip, figures).with_context(|| format!("{}: memory of udmabuf", clip.name))?;
            foreign(&nodes, clip, figures)
                .with_context(|| format!("{}: memory of another session", clip.name))?;
        }
        Ok(())
    });
    set_parameter_text(PARAMETER, &setting)?;
    result?;
    broker.stop()?;
    Ok(())
}

/// Why nothing can be seen of caches here, if that is so.
fn impossible() -> Option<&'static str> {
    // Where it can be seen, a module that is not loaded is a mistake.
    if cfg!(target_arch = "aarch64") || Path::new(IMPORTER).exists() {
        return None;
    }
    Some("devices snoop on this architecture: no function of the kernel cleans caches for them")
}

/// Everything for the module's own memory of one kind.
fn own(nodes: &Nodes, clips: &[Clip], memory: Memory, figures: &mut Figures) -> Result<()> {
    let name = format!("{memory:?}").to_lowercase();
    for direction in [Direction::To, Direction::Both] {
        fresh(nodes, memory, direction, &name, figures)
            .with_context(|| format!("nobody wrote to it, mapped {direction:?}"))?;
    }
    let limits = LIMITS
        .iter()
        .try_for_each(|&limit| limited(nodes, memory, limit).with_context(|| format!("{limit} bytes")));
    Importer::open()?.command(&format!("limit {}", u32::MAX))?;
    limits.context("a device that takes short segments")?;
    for clip in clips {
        let plan = Plan::new(clip.codec, &clip.jobs[..JOBS]);
        let session = Session::open(nodes, &plan, &options(Backing::Mmap))?;
        let dmabufs = session.export()?;
        let exact = decode(session, clip, &dmabufs, memory).with_context(|| clip.name.clone())?;
        figures.add(&format!("{name}_pictures"), exact);
    }
    Ok(())
}

/// A session that has formats and no buffers.
fn unused(nodes: &Nodes) -> Result<Arc<Device>> {
    let device = Device::open(nodes, false)?;
    let format = |pixelformat| PixFormatMplane {
        width: SIZE.0,
        height: SIZE.1,
        pixelformat,
        field: v4l2::FIELD_NONE,
        num_planes: 1,
        ..Default::default()
    };
    device.set_format(BUF_TYPE_OUTPUT, format(codec::USUAL.coded_format()))?;
    device.set_format(BUF_TYPE_CAPTURE, format(fourcc::NV12))?;
    Ok(device)
}

/// A device gets no segment that is longer than its limit, and all of the buffer.
fn limited(nodes: &Nodes, memory: Memory, limit: u32) -> Result<()> {
    let device = unused(nodes)?;
    let mut queue = Queue::new(&device, BUF_TYPE_CAPTURE);
    queue.allocate(1, &Backing::Mmap)?;
    let dmabuf = queue.export(0, 0, true)?;
    Importer::open()?.command(&format!("limit {limit}"))?;
    let (_, view) = Importer::map(dmabuf.as_fd(), Direction::To, memory)?;
    ensure!(
        view.segments > 1 && view.longest <= u64::from(limit),
        "{} segments, the longest of {} bytes",
        view.segments,
        view.longest
    );
    Ok(())
}

/// Buffers to which nobody but the kernel wrote, and then the client.
fn fresh(
    nodes: &Nodes,
    memory: Memory,
    direction: Direction,
    name: &str,
    figures: &mut Figures,
) -> Result<()> {
    let device = unused(nodes)?;
    // OUTPUT is for the worker alone, so it is never contiguous.
    for (queue_name, buf_type, memory) in [
        ("OUTPUT", BUF_TYPE_OUTPUT, Memory::Scattered),
        ("CAPTURE", BUF_TYPE_CAPTURE, memory),
    ] {
        let mut queue = Queue::new(&device, buf_type);
        queue.allocate(FRESH, &Backing::Mmap)?;
        for index in 0..queue.len() {
            let dmabuf = queue.export(index, 0, true)?;
            let (importer, view) = Importer::map(dmabuf.as_fd(), direction, memory)
                .with_context(|| format!("{queue_name} buffer {index}"))?;
            if buf_type == BUF_TYPE_CAPTURE {
                figures.most(&format!("{name}_segments"), usize::try_from(view.segments)?);
            }
            figures.add(&format!("{name}_pages"), usize::try_from(view.pages)?);
            let mapping = queue.mappings(index)?.next().context("no plane")?;
            brackets(&importer, dmabuf.as_fd(), mapping, index)
                .with_context(|| format!("{queue_name} buffer {index}, written by the client"))?;
        }
        queue.allocate(0, &Backing::Mmap)?;
    }
    Ok(())
}

/// What the client writes within a bracket is clean at its end. What it writes without one is seen not to be:
/// so the record can tell.
fn brackets(importer: &Importer, dmabuf: BorrowedFd<'_>, mapping: &Mapping, number: usize) -> Result<()> {
    let access = DmaBufAccess::ReadWrite;
    let bytes: Vec<u8> = (0..mapping.len()).map(|at| (at / 7 + number) as u8).collect();
    importer.command("forget")?;
    access.begin(dmabuf)?;
    mapping.write(0, &bytes)?;
    ensure!(
        importer.view()?.cleaned == 0,
        "pages were cleaned before the bracket ended"
    );
    access.end(dmabuf)?;
    importer
        .view()?
        .demand_clean()
        .context("at the end of the bracket")?;
    mapping.write(mapping.len() / 2, &[!bytes[mapping.len() / 2]])?;
    let stale = importer.view()?.stale;
    ensure!(
        stale == 1,
        "a byte was written without a bracket, and {stale} pages differ"
    );
    access.begin(dmabuf)?;
    access.end(dmabuf)?;
    importer
        .view()?
        .demand_clean()
        .context("at the end of a bracket without writing")
}

fn options(raw: Backing) -> Options {
    Options {
        raw,
        // One at a time: whatever is cleaned was cleaned for it.
        depth: 1,
        patience: std::time::Duration::from_secs(60),
        ..Options::default()
    }
}

/// Decodes a clip's first jobs while each of the session's CAPTURE buffers, which are `dmabufs`, is
/// imported and mapped. When a picture comes back, it is clean: what was cleaned after videobuf2 had it as
/// done does not count. Returns how many pictures were exact.
fn decode(mut session: Session, clip: &Clip, dmabufs: &[Arc<OwnedFd>], memory: Memory) -> Result<usize> {
    let mut importers = Vec::new();
    for (index, dmabuf) in dmabufs.iter().enumerate() {
        let (importer, _) = Importer::map(dmabuf.as_fd(), Direction::To, memory)
            .with_context(|| format!("CAPTURE buffer {index}"))?;
        importers.push(importer);
    }
    for (number, job) in clip.jobs[..JOBS].iter().enumerate() {
        for importer in &importers {
            importer.command("forget until-done")?;
        }
        session.submit(job)?;
        session.drain()?;
        let buffer = session.buffer_of(job.timestamp);
        let buffer = buffer.with_context(|| format!("picture {number} is in no buffer"))?;
        let importer = importers.get(buffer).context("a buffer that is not imported")?;
        let view = importer.view()?;
        ensure!(!view.recording, "videobuf2 had no buffer as done");
        view.demand_clean()
            .with_context(|| format!("picture {number} in buffer {buffer}, when it came back"))?;
        for (index, importer) in importers.iter().enumerate() {
            let stale = importer.view()?.stale;
            ensure!(
                stale == 0,
                "buffer {index} has {stale} stale pages after picture {number}"
            );
        }
    }
    let exact = clip.compare(session.pictures(), 0..JOBS)?;
    if importers.len() < 2 {
        bail!("{} buffers", importers.len());
    }
    Ok(exact)
}

/// Memory that the client brought: its exporter is udmabuf.
fn brought(nodes: &Nodes, clip: &Clip, figures: &mut Figures) -> Result<()> {
    let plan = Plan::new(clip.codec, &clip.jobs[..JOBS]);
    let mut probe = Session::open(nodes, &plan, &options(Backing::Mmap))?;
    let raw = probe.queues().1;
    let (count, length) = (raw.len(), raw.mappings(0)?.next().context("no plane")?.len());
    drop(probe);
    // The driver may give more buffers than are asked for.
    let dmabufs: Vec<Arc<OwnedFd>> = (0..count + 2)
        .map(|_| Ok(Arc::new(udmabuf(length)?)))
        .collect::<Result<_>>()?;
    let session = Session::open(nodes, &plan, &options(Backing::Imported(dmabufs.clone())))?;
    figures.add(
        "udmabuf_pictures",
        decode(session, clip, &dmabufs, Memory::Udmabuf)?,
    );
    Ok(())
}

/// Memory that another session exported.
fn foreign(nodes: &Nodes, clip: &Clip, figures: &mut Figures) -> Result<()> {
    let plan = Plan::new(clip.codec, &clip.jobs[..JOBS]);
    let exporter = Session::open(nodes, &plan, &options(Backing::Mmap))?;
    let dmabufs = exporter.export()?;
    let session = Session::open(nodes, &plan, &options(Backing::Imported(dmabufs.clone())))?;
    figures.add(
        "foreign_pictures",
        decode(session, clip, &dmabufs, Memory::Contiguous)?,
    );
    drop(exporter);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cleaned: u32, stale: u32, coherent: u32) -> String {
        format!(
            "pages=4 cleaned={cleaned} stale={stale} segments=1 longest=16384 runs=1 coherent={coherent} \
             recording=1 missed=0\n"
        )
    }

    #[test]
    fn memory_is_clean_only_as_a_whole() {
        let view = |cleaned, stale| ImporterView::parse(&line(cleaned, stale, 0)).unwrap();
        assert!(view(4, 0).demand_clean().is_ok());
        assert!(view(4, 0).recording);
        assert!(view(3, 0).demand_clean().is_err());
        assert!(view(4, 1).demand_clean().is_err());
        assert!(ImporterView::parse("pages=0 cleaned=0").is_err());
        assert!(ImporterView::parse(&line(4, 0, 1)).is_err(), "it snoops");
    }
}
