// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kinds of memory that MMAP buffers have: contiguous, scattered by the module's parameter, and scattered where
//! nothing contiguous is that large.

use anyhow::{Context, Result, ensure};
use daedalus_client::device::{Device, Nodes};
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::{BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};
use daedalus_uapi::fourcc;

use super::clip::Clip;
use super::daemon::Broker;
use super::isolation::set_parameter;
use super::sessions::{mapped_dmabufs, one_picture, patiently};
use super::{Common, Figures, debugfs};

/// The clips of which one picture is decoded in each kind.
const CLIPS: [&str; 3] = ["h264-360p", "vp9-360p", "av1-360p"];
/// Width and height of a picture that is larger, in NV12, than the largest block of pages that the guest's kernel has.
const LARGE: u32 = 8192;

/// How the kernel mapped a dmabuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Page frame numbers in a row (`VM_PFNMAP`), which is how contiguous DMA memory is mapped.
    Contiguous,
    /// Pages one by one (`VM_MIXEDMAP`).
    Scattered,
}

pub(super) fn memory(common: &Common, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?;
    let clips: Vec<Clip> = CLIPS.iter().map(|name| clips.clip(name)).collect::<Result<_>>()?;
    let (broker, nodes) = Broker::start(common)?;
    let result = patiently(|| {
        kinds(&nodes, &clips, Kind::Contiguous)?;
        set_parameter("scattered", 1)?;
        kinds(&nodes, &clips, Kind::Scattered)?;
        set_parameter("scattered", 0)?;
        large(&nodes).context("a picture for which nothing contiguous is large enough")
    });
    set_parameter("scattered", 0)?;
    figures.set("large_bytes", result?);
    figures.set("exact_pictures", 2 * clips.len());
    broker.stop()?;
    Ok(())
}

/// Decodes a picture of each clip, and demands that its worker has mapped buffers of this kind only.
fn kinds(nodes: &Nodes, clips: &[Clip], kind: Kind) -> Result<()> {
    for clip in clips {
        let session = one_picture(Device::open(nodes, false)?, clip).with_context(|| clip.name.clone())?;
        let own = debugfs::own_sessions()?;
        let [own] = own.as_slice() else {
            anyhow::bail!("{} sessions, not one", own.len());
        };
        let mapped = kinds_of(&mapped_dmabufs(own.number("worker") as u32)?)?;
        ensure!(
            !mapped.is_empty() && mapped.iter().all(|one| *one == kind),
            "{}: buffers are to be {kind:?} and are {mapped:?}",
            clip.name
        );
        drop(session);
    }
    Ok(())
}

/// The kinds of dmabufs, by their entries in `smaps`.
fn kinds_of(entries: &[String]) -> Result<Vec<Kind>> {
    let kind = |entry: &String| {
        let flags = entry.lines().find_map(|line| line.strip_prefix("VmFlags:"));
        let flags = flags.context("an entry without VmFlags")?;
        let has = |flag| flags.split_whitespace().any(|one| one == flag);
        match (has("pf"), has("mm")) {
            (true, false) => Ok(Kind::Contiguous),
            (false, true) => Ok(Kind::Scattered),
            _ => anyhow::bail!("a dmabuf is mapped in neither way: {flags}"),
        }
    };
    entries.iter().map(kind).collect()
}

/// Has a CAPTURE buffer of [`LARGE`] made, writes to its last byte; its size.
fn large(nodes: &Nodes) -> Result<usize> {
    let device = Device::open(nodes, false)?;
    let format = |pixelformat| PixFormatMplane {
        width: LARGE,
        height: LARGE,
        pixelformat,
        num_planes: 1,
        ..Default::default()
    };
    device.set_format(BUF_TYPE_OUTPUT, format(fourcc::VP9_FRAME))?;
    let granted = device.set_format(BUF_TYPE_CAPTURE, format(fourcc::NV12))?;
    ensure!(
        (granted.width, granted.height) == (LARGE, LARGE),
        "{}x{} was granted",
        granted.width,
        granted.height
    );
    let mut queue = Queue::new(&device, BUF_TYPE_CAPTURE);
    queue.allocate(1, &Backing::Mmap)?;
    let mapping = queue.mappings(0)?.next().context("no plane")?;
    let size = mapping.len();
    ensure!(size >= (LARGE * LARGE) as usize * 3 / 2, "{size} bytes");
    mapping.write(size - 1, &[1])?;
    let mut last = [0];
    mapping.read(size - 1, &mut last)?;
    ensure!(last == [1], "the last byte does not keep what is written to it");
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::super::sessions::dmabufs;
    use super::*;

    #[test]
    fn kinds_are_the_flags_of_dmabufs() {
        let smaps = "\
7f00-7f10 rw-s 00000000 00:0a 3                                  /dmabuf:\nRss: 4 kB\nVmFlags: rd wr sh pf io de\n\
7f10-7f20 r--s 00000000 00:0a 4                                  /dmabuf:\nVmFlags: rd mr ms de dd mm\n\
7f20-7f30 rw-p 00000000 00:00 0\nVmFlags: rd wr mr\n";
        assert_eq!(
            kinds_of(&dmabufs(smaps)).unwrap(),
            [Kind::Contiguous, Kind::Scattered]
        );
        let neither = dmabufs("7f00-7f10 rw-s 0 0 3 /dmabuf:\nVmFlags: rd wr\n");
        assert!(kinds_of(&neither).is_err());
    }
}
