// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every CAPTURE format with every codec, at sizes that are no multiples of anything.

use anyhow::{Context, Result, ensure};
use daedalus_client::decoder::{Options, Plan, Session, decode};
use daedalus_client::v4l2::BUF_TYPE_CAPTURE;
use daedalus_uapi::fourcc;

use super::common::Common;
use crate::guest::broker::Broker;
use crate::guest::figures::Figures;

/// For 8 bits per sample; the driver's own choice comes first.
const SHALLOW: [u32; 4] = [fourcc::NV12, fourcc::NV12M, fourcc::YUV420, fourcc::YUV420M];
/// For 10.
const DEEP: [u32; 1] = [fourcc::P010];

pub(super) fn formats(common: &Common, figures: &mut Figures) -> Result<()> {
    let small = common.small()?;
    let (broker, nodes) = Broker::start(common)?;
    let (mut clips, mut odd, mut pictures) = (0, 0, 0);
    let mut played = Vec::new();
    for name in small.names() {
        let clip = small.clip(name)?;
        let first = &clip.jobs[0];
        let deep = first.bit_depth > 8;
        let formats: &[u32] = if deep { &DEEP } else { &SHALLOW };
        let default = {
            let plan = Plan::new(clip.codec, &clip.jobs);
            let session = Session::open(&nodes, &plan, &Options::default())?;
            let offered = session.device().formats(BUF_TYPE_CAPTURE)?;
            for format in formats {
                ensure!(
                    offered.contains(format),
                    "{name}: {} is not offered",
                    fourcc::name(*format)
                );
            }
            ensure!(
                offered.first() == formats.first(),
                "{name}: {} is not offered first",
                fourcc::name(formats[0])
            );
            session.device().format(BUF_TYPE_CAPTURE)?.pixelformat
        };
        ensure!(
            default == formats[0],
            "{name}: {} is the default",
            fourcc::name(default)
        );
        for format in formats {
            let options = Options {
                raw_format: Some(*format),
                ..Options::default()
            };
            let kind = fourcc::name(*format);
            let session = decode(&nodes, clip.codec, &clip.jobs, &options)
                .with_context(|| format!("{name} as {kind}"))?;
            figures.calls(session.longest());
            pictures += clip
                .compare_all(session.pictures())
                .with_context(|| format!("as {kind}"))?;
            played.push(format!("{name} {kind}"));
        }
        clips += 1;
        odd += usize::from(first.visible.width % 2 + first.visible.height % 2 > 0);
    }
    figures.set("clips", clips);
    figures.set("clips_of_odd_size", odd);
    figures.set("combinations", played.len());
    figures.set("pictures", pictures);
    figures.set("played", played);
    ensure!(odd > 0, "no clip has an odd width or height");
    broker.stop()?;
    Ok(())
}
