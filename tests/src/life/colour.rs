// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The colours that a client gives OUTPUT are CAPTURE's: in its format, in formats that are tried, and after
//! new sizes.

use anyhow::{Context, Result, ensure};
use daedalus_client::device::Device;
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};
use daedalus_uapi::codec::Codec;
use daedalus_uapi::fourcc;

use super::common::Common;
use crate::guest::broker::Broker;
use crate::guest::figures::Figures;

/// The colours of a V4L2 format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Colour {
    /// `enum v4l2_colorspace`.
    space: u32,
    /// `enum v4l2_xfer_func`.
    transfer: u8,
    /// `enum v4l2_ycbcr_encoding`.
    encoding: u8,
    /// `enum v4l2_quantization`.
    quantization: u8,
}

impl Colour {
    fn of(format: &PixFormatMplane) -> Self {
        Self {
            space: format.colorspace,
            transfer: format.xfer_func,
            encoding: format.ycbcr_enc,
            quantization: format.quantization,
        }
    }

    fn put(self, format: &mut PixFormatMplane) {
        format.colorspace = self.space;
        format.xfer_func = self.transfer;
        format.ycbcr_enc = self.encoding;
        format.quantization = self.quantization;
    }
}

/// BT.709, limited range.
const SDR: Colour = Colour {
    space: 3,
    transfer: 1,
    encoding: 2,
    quantization: 2,
};
/// BT.2020 with the transfer function of SMPTE ST 2084.
const PQ: Colour = Colour {
    space: 10,
    transfer: 7,
    encoding: 6,
    quantization: 2,
};
/// BT.2020 with hybrid log-gamma. V4L2 has no name for that transfer function: this is the first number after
/// those that it has, and a core that does not know it makes it 0 before any driver sees it.
const HLG: Colour = Colour { transfer: 8, ..PQ };
/// BT.2020, constant luminance, full range, no transfer function named.
const FULL: Colour = Colour {
    space: 10,
    transfer: 0,
    encoding: 7,
    quantization: 1,
};

const COLOURS: [(&str, Colour); 4] = [("BT.709", SDR), ("PQ", PQ), ("HLG", HLG), ("full range", FULL)];
const SIZES: [(u32, u32); 3] = [(640, 360), (1279, 719), (3840, 2160)];

pub(super) fn colour(common: &Common, figures: &mut Figures) -> Result<()> {
    let (broker, nodes) = Broker::start(common)?;
    let mut reports = 0;
    for codec in Codec::ALL.iter().copied() {
        let device = Device::open(&nodes, false)?;
        for (name, colour) in COLOURS {
            reports += idle(&device, codec, colour).with_context(|| format!("{name}, {}", codec.title()))?;
        }
        reports += busy(&device, codec).with_context(|| format!("with buffers, {}", codec.title()))?;
    }
    figures.set("reports", reports);
    broker.stop()?;
    Ok(())
}

/// Sets OUTPUT's format; returns the colours that it has then, which may be others only for those of [`HLG`].
fn set(device: &Device, codec: Codec, (width, height): (u32, u32), colour: Colour) -> Result<Colour> {
    let mut format = PixFormatMplane {
        width,
        height,
        pixelformat: codec.coded_format(),
        field: v4l2::FIELD_NONE,
        num_planes: 1,
        ..Default::default()
    };
    colour.put(&mut format);
    let answer = Colour::of(&device.set_format(BUF_TYPE_OUTPUT, format)?);
    let anonymous = Colour {
        transfer: 0,
        ..colour
    };
    ensure!(
        answer == colour || (colour == HLG && answer == anonymous),
        "OUTPUT of {colour:?} was granted as {answer:?}"
    );
    let reported = Colour::of(&device.format(BUF_TYPE_OUTPUT)?);
    ensure!(
        reported == answer,
        "OUTPUT of {answer:?} is reported as {reported:?}"
    );
    Ok(answer)
}

/// Demands that G_FMT and TRY_FMT of CAPTURE say `colour`, whatever the client asks for. Returns how many
/// answers those were.
fn expect(device: &Device, colour: Colour) -> Result<usize> {
    let mut answers = vec![("G_FMT", device.format(BUF_TYPE_CAPTURE)?)];
    for request in [PixFormatMplane::default(), device.format(BUF_TYPE_CAPTURE)?] {
        for other in [Colour::of(&request), SDR, PQ] {
            let mut request = request;
            other.put(&mut request);
            answers.push(("TRY_FMT", device.try_format(BUF_TYPE_CAPTURE, request)?));
        }
    }
    for (call, answer) in &answers {
        let reply = Colour::of(answer);
        ensure!(
            reply == colour,
            "{call} of CAPTURE says {reply:?}, OUTPUT is {colour:?}"
        );
    }
    Ok(answers.len())
}

/// Checks all sizes and all CAPTURE formats, without buffers.
fn idle(device: &Device, codec: Codec, colour: Colour) -> Result<usize> {
    let mut answers = 0;
    for size in SIZES {
        let colour = set(device, codec, size, colour)?;
        answers += expect(device, colour)?;
        for format in device.formats(BUF_TYPE_CAPTURE)? {
            let mut raw = device.format(BUF_TYPE_CAPTURE)?;
            raw.pixelformat = format;
            SDR.put(&mut raw);
            let answer = device.set_format(BUF_TYPE_CAPTURE, raw)?;
            ensure!(
                (answer.pixelformat, Colour::of(&answer)) == (format, colour),
                "S_FMT of CAPTURE ({}) says {:?}",
                fourcc::name(format),
                Colour::of(&answer)
            );
            answers += 1 + expect(device, colour)?;
        }
    }
    Ok(answers)
}

/// Checks new sizes, and the same size in new colours, with buffers and while it streams.
fn busy(device: &std::sync::Arc<Device>, codec: Codec) -> Result<usize> {
    let mut colour = set(device, codec, SIZES[0], PQ)?;
    let mut answers = expect(device, colour)?;
    let mut queues = [
        Queue::new(device, BUF_TYPE_OUTPUT),
        Queue::new(device, BUF_TYPE_CAPTURE),
    ];
    for queue in &mut queues {
        queue.allocate(2, &Backing::Mmap)?;
        queue.stream(true)?;
    }
    for (size, next) in [
        (SIZES[0], PQ),
        (SIZES[1], PQ),
        (SIZES[1], HLG),
        (SIZES[0], SDR),
        (SIZES[0], FULL),
        (SIZES[2], PQ),
    ] {
        colour = set(device, codec, size, next)?;
        answers += expect(device, colour)?;
        // The buffers that are made then belong to pictures of that size and of those colours.
        let mut format = device.format(BUF_TYPE_CAPTURE)?;
        format = device.try_format(BUF_TYPE_CAPTURE, format)?;
        queues[1].create(1, format)?;
        answers += expect(device, colour)?;
    }
    for queue in &mut queues {
        queue.stream(false)?;
        queue.allocate(0, &Backing::Mmap)?;
    }
    answers += expect(device, colour)?;
    Ok(answers)
}
