// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is particular to AV1: each of its controls is needed, but the film grain's.

#[path = "support/clips.rs"]
mod clips;
mod support;

use anyhow::{Result, ensure};
use daedalus_client::Codec;
use daedalus_engine::Status;
use daedalus_uapi::v4l2_controls::V4L2_CID_STATELESS_AV1_FILM_GRAIN;
use support::{capture_for, player};

#[test]
fn missing_controls_are_errors() -> Result<()> {
    let mut job = clips::jobs(Codec::Av1)?.swap_remove(0);
    for control in job.controls.clone() {
        let all = std::mem::take(&mut job.controls);
        job.controls = all.iter().filter(|c| c.id != control.id).cloned().collect();
        let capture = capture_for(&job)?;
        let report = player(Codec::Av1)?.play(&job, &capture)?;
        let grain = control.id == V4L2_CID_STATELESS_AV1_FILM_GRAIN;
        ensure!(
            (report.status == Status::Error) != grain,
            "without {:#x}: {report:?}",
            control.id
        );
        job.controls = all;
    }
    Ok(())
}
