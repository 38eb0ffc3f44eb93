// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kinds of memory that MMAP buffers have, as debugfs tells them: scattered pages only, contiguous memory
//! for CAPTURE, and what the module chooses by itself; and a picture for which nothing contiguous is large
//! enough.

use anyhow::{Context, Result, ensure};
use daedalus_client::device::{Device, Nodes};
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::{BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};
use daedalus_uapi::fourcc;

use super::common::Common;
use super::sessions::{mapped_dmabufs, one_picture, patiently};
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::module::{parameter_text, set_parameter_text};

/// Width and height of a picture that is larger, in NV12, than the largest block of pages that the guest's
/// kernel has.
const LARGE: u32 = 8192;
/// The parameter that says which memory is taken.
const PARAMETER: &str = "contiguous";

/// Bytes of one session's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemoryKinds {
    contiguous: u64,
    scattered: u64,
}

impl MemoryKinds {
    /// Reads those of the only session of this process. Demands that they are all of its memory.
    fn of_own_session() -> Result<Self> {
        let own = debugfs::own_sessions()?;
        let [own] = own.as_slice() else {
            anyhow::bail!("{} sessions, not one", own.len());
        };
        let kinds = Self {
            contiguous: own.demand("contiguous")?,
            scattered: own.demand("scattered")?,
        };
        let memory = own.demand("memory")?;
        ensure!(
            memory > 0 && kinds.contiguous + kinds.scattered == memory,
            "{kinds:?} are not the {memory} bytes of the session"
        );
        Ok(kinds)
    }
}

/// Runs the scenario.
pub(super) fn memory(common: &Common, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?.every("360p")?;
    let (broker, nodes) = Broker::start(common)?;
    let setting = parameter_text(PARAMETER)?;
    let result = patiently(|| {
        set_parameter_text(PARAMETER, "0")?;
        let (contiguous, scattered) = kinds(&nodes, &clips, |kinds| kinds.contiguous == 0)?;
        figures.set("never_bytes", vec![contiguous, scattered]);
        set_parameter_text(PARAMETER, "1")?;
        // OUTPUT is scattered always: nothing scans it out.
        let (contiguous, scattered) = kinds(&nodes, &clips, |kinds| {
            kinds.contiguous > 0 && kinds.scattered > 0
        })?;
        figures.set("always_bytes", vec![contiguous, scattered]);
        set_parameter_text(PARAMETER, "-1")?;
        let budget = debugfs::stat("contiguous_budget")?;
        let (contiguous, scattered) = kinds(&nodes, &clips, |kinds| kinds.contiguous <= budget)?;
        figures.set("auto_bytes", vec![contiguous, scattered]);
        reason(figures)?;
        large(&nodes).context("a picture for which nothing contiguous is large enough")
    });
    set_parameter_text(PARAMETER, &setting)?;
    figures.set("large_bytes", result?);
    figures.set("exact_pictures", 3 * clips.len());
    broker.stop()?;
    crate::guest::left::nothing_and_nobody()
}

/// Demands that the module says why it chose so, and that it has no contiguous memory left.
fn reason(figures: &mut Figures) -> Result<()> {
    let stats = debugfs::stats()?;
    let reason = stats
        .get("contiguous_reason")
        .context("debugfs gives no contiguous_reason")?;
    ensure!(!reason.is_empty(), "contiguous_reason is empty");
    figures.set("contiguous_reason", reason.clone());
    figures.set("contiguous_budget", debugfs::stat("contiguous_budget")?);
    ensure!(
        debugfs::stat("contiguous")? == 0,
        "contiguous memory is left when all sessions have gone"
    );
    Ok(())
}

/// Decodes a picture of each clip, and demands that its session's memory is right and that the worker has
/// mapped it. Returns the bytes of both kinds.
fn kinds(nodes: &Nodes, clips: &[Clip], right: impl Fn(MemoryKinds) -> bool) -> Result<(u64, u64)> {
    let (mut contiguous, mut scattered) = (0, 0);
    for clip in clips {
        let session = one_picture(Device::open(nodes, false)?, clip).with_context(|| clip.name.clone())?;
        let found = MemoryKinds::of_own_session()?;
        ensure!(right(found), "{}: its buffers are {found:?}", clip.name);
        ensure!(
            found.contiguous <= debugfs::stat("contiguous")?,
            "{}: the device has less contiguous memory than the session",
            clip.name
        );
        let worker = debugfs::own_sessions()?[0].number("worker") as u32;
        ensure!(
            mapped_dmabufs(worker)?.len() >= 2,
            "{}: the worker has mapped no buffers",
            clip.name
        );
        contiguous += found.contiguous;
        scattered += found.scattered;
        drop(session);
    }
    Ok((contiguous, scattered))
}

/// Has a CAPTURE buffer of [`LARGE`] made, and writes to its last byte. Returns its size.
fn large(nodes: &Nodes) -> Result<usize> {
    let device = Device::open(nodes, false)?;
    let format = |pixelformat| PixFormatMplane {
        width: LARGE,
        height: LARGE,
        pixelformat,
        num_planes: 1,
        ..Default::default()
    };
    device.set_format(BUF_TYPE_OUTPUT, format(codec::USUAL.coded_format()))?;
    let answer = device.set_format(BUF_TYPE_CAPTURE, format(fourcc::NV12))?;
    ensure!(
        (answer.width, answer.height) == (LARGE, LARGE),
        "{}x{} was granted",
        answer.width,
        answer.height
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
