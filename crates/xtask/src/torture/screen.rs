// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev screen`: pictures of each codec on a plane of vkms, through both faces. One guest, one
//! scenario for each face; what it measured goes to target/torture/screen.json.

use std::time::Duration;

use anyhow::Result;

use super::lines::{keep, lines, record};
use crate::bed::Bed;
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::outcome::Outcome;
use crate::play;

/// Pictures of each codec.
const PICTURES: usize = 300;
/// How long a face may take. The clips have six pictures, and a pipeline takes two seconds.
const FACE: Duration = Duration::from_secs(3600);
/// The faces' scenarios and options.
const FACES: [(&str, &str); 2] = [("screen", ""), ("stateful-screen", "--stateful")];

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed) -> Result<Outcome> {
    let outcome = Outcome::new();
    let clips = in_guest(bed, &play::clips(bed)?.0)?;
    let small = in_guest(bed, &play::small_clips(bed)?)?;
    // GStreamer finds its devices when it scans its plugins, which it does anew in every guest.
    let mut script = String::from("export GST_REGISTRY=/tmp/gstreamer-registry.bin\ndaedalus_load\n");
    for (_, option) in FACES {
        script.push_str(&format!(
            "daedalus-tests life --clips {clips} --small {small} --deadline {} screen --pictures \
             {} {option} >>life.jsonl || true\n",
            FACE.as_secs(),
            PICTURES
        ));
    }
    script.push_str("daedalus_unload\n");
    let job = GuestJob::new("screen", &script).timeout(FACE * FACES.len() as u32);
    let result = guest::run(bed, &job)?;
    let lines = lines(&result.out_dir.join("life.jsonl"));
    for (name, _) in FACES {
        record(&outcome, name, lines.get_named(name));
    }
    outcome.check("screen: the guest and its kernel log", || {
        result.judge()?;
        Ok(format!("{:.0} s", result.seconds))
    });
    keep(bed, "screen", &lines.0, &result.reports)?;
    Ok(outcome)
}
