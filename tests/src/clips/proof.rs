// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a generated stream is there for is found in it by parsing, or it is not accepted: encoders ignore options that
//! they do not like.

use std::path::Path;

use anyhow::{Result, ensure};
use daedalus_client::{CodedJob, Control};
use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN, V4L2_AV1_FRAME_FLAG_USE_SUPERRES,
    V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_VP9_FRAME,
    V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame, V4l2CtrlVp9Frame,
};

use super::generated::Spec;

/// A feature that a stream must have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proof {
    /// So many changes of size at pictures that refer to others, and no key picture but the first.
    InterResize(usize),
    /// So many changes of size, all at key pictures.
    NewSequence(usize),
    /// So many tile columns at least.
    TileColumns(u32),
    /// A picture of a lower coded width, scaled up again by the decoder.
    Superres,
    /// A picture to which film grain is applied.
    FilmGrain,
}

/// Checks that the stream has everything that it must have.
pub(super) fn check(spec: &Spec, clip: &Path) -> Result<()> {
    let jobs: Vec<CodedJob> = daedalus_client::jobs(clip)?.collect::<Result<_, _>>()?;
    ensure!(
        jobs.iter().all(|job| job.bit_depth == spec.depth),
        "not every picture has {} bits",
        spec.depth
    );
    let size = |job: &CodedJob| (job.coded_width, job.coded_height);
    let changes = |key: bool| {
        jobs.windows(2)
            .filter(|pair| size(&pair[0]) != size(&pair[1]) && pair[1].key == key)
            .count()
    };
    for proof in spec.proofs {
        let (found, enough) = match *proof {
            Proof::InterResize(least) => {
                let keys = jobs.iter().skip(1).filter(|job| job.key).count();
                (
                    format!("{} such changes, {keys} further key pictures", changes(false)),
                    changes(false) >= least && keys == 0,
                )
            }
            Proof::NewSequence(exactly) => (
                format!(
                    "{} changes at key pictures, {} at others",
                    changes(true),
                    changes(false)
                ),
                changes(true) == exactly && changes(false) == 0,
            ),
            Proof::TileColumns(least) => {
                let most = jobs.iter().map(tile_columns).max().unwrap_or_default();
                (format!("{most} columns"), most >= least)
            }
            Proof::Superres => {
                let count = jobs.iter().filter(|job| superres(job)).count();
                (format!("{count} pictures"), count > 0)
            }
            Proof::FilmGrain => {
                let count = jobs.iter().filter(|job| grain(job)).count();
                (format!("{count} pictures"), count > 0)
            }
        };
        ensure!(enough, "it must have {proof:?}; found: {found}");
        eprintln!("  {proof:?}: {found}");
    }
    Ok(())
}

fn tile_columns(job: &CodedJob) -> u32 {
    let vp9 = job
        .control(V4L2_CID_STATELESS_VP9_FRAME)
        .and_then(Control::get::<V4l2CtrlVp9Frame>);
    vp9.map_or_else(
        || av1(job).map_or(1, |frame| frame.tile_info.tile_cols.into()),
        |frame| 1 << frame.tile_cols_log2,
    )
}

fn av1(job: &CodedJob) -> Option<V4l2CtrlAv1Frame> {
    job.control(V4L2_CID_STATELESS_AV1_FRAME).and_then(Control::get)
}

fn superres(job: &CodedJob) -> bool {
    av1(job).is_some_and(|frame| frame.flags & V4L2_AV1_FRAME_FLAG_USE_SUPERRES != 0)
}

fn grain(job: &CodedJob) -> bool {
    let grain = job
        .control(V4L2_CID_STATELESS_AV1_FILM_GRAIN)
        .and_then(Control::get::<V4l2CtrlAv1FilmGrain>);
    grain.is_some_and(|grain| grain.flags & V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN != 0)
}
