// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plays lists of streams in the guest by `daedalus-tests play` (tests/src/play.rs).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daedalus_common::play::{Row, Stream};

use crate::bed::Bed;
use crate::guest::{self, GuestJob};
use crate::make::root;
use crate::site::files::read;
use crate::site::ui;

/// Clips that the demonstration shows: the name's end.
pub(crate) const SHOWN: &str = "1080p";

/// What a whole list came to.
pub(crate) struct PlayResult {
    /// One row per stream that the runner got to, in order of completion.
    pub(crate) rows: Vec<Row>,
    /// What the guest as a whole is accused of: kernel reports, panics, hangs, the runner's own failure; not
    /// the rows.
    pub(crate) guest: Option<String>,
    /// The job's directory.
    pub(crate) out_dir: PathBuf,
    /// Wall clock of the guest in seconds.
    pub(crate) seconds: f64,
    /// The client's name, with its version if it has one of its own.
    pub(crate) client_version: String,
}

/// Where the guest sees the tree's target directory.
const TARGET_IN_GUEST: &str = "/mnt/target";

/// Lists of streams to play in one guest.
pub(crate) struct PlayOptions<'a> {
    /// Name of the guest's job.
    pub(crate) job: &'a str,
    /// Clients by name, each with its list, which is under the tree's target.
    pub(crate) lists: &'a [(&'a str, PathBuf)],
    /// Of the module, as they are.
    pub(crate) parameters: &'a str,
    /// Of the broker, as they are.
    pub(crate) daemon: &'a str,
    /// Lines of the guest's script before the first client starts.
    pub(crate) setup: &'a str,
    /// Of `daedalus-tests play`, as they are.
    pub(crate) arguments: &'a str,
    /// Of the guest.
    pub(crate) timeout: Duration,
    /// What the guest sees as /mnt/vectors; the vectors beside the tree if `None`.
    pub(crate) vectors: Option<&'a Path>,
}

/// Plays lists of streams, one client after the other; what each came to, in the order of the lists. `Err` is
/// for what kept the guest from starting.
pub(crate) fn play(bed: &Bed, options: &PlayOptions<'_>) -> Result<Vec<PlayResult>> {
    // The registry is rebuilt in every guest: GStreamer finds stateless devices while it scans its plugins.
    let mut script = format!(
        "daedalus_load {}\n\
         daedalus_start {}\n\
         export GST_REGISTRY=/tmp/gstreamer-registry.bin\n\
         gst-launch-1.0 --version | sed -n 2p >/mnt/out/gstreamer-version\n\
         {}status=0\n",
        options.parameters, options.daemon, options.setup
    );
    for (client, list) in options.lists {
        let list = list
            .strip_prefix(&bed.target)
            .context("the stream list is not under target/")?;
        script.push_str(&format!(
            "daedalus-tests play --client {client} --list {TARGET_IN_GUEST}/{} --out /mnt/out/{client} {} || \
             status=$?\n",
            list.display(),
            options.arguments
        ));
    }
    script.push_str("daedalus_stop\ndaedalus_unload\nexit $status\n");
    let mut job = GuestJob::new(options.job, &script).timeout(options.timeout);
    if let Some(vectors) = options.vectors {
        job = job.vectors(vectors);
    }
    let mut result = guest::run(bed, &job)?;
    let version = std::fs::read_to_string(result.out_dir.join("gstreamer-version")).unwrap_or_default();
    let mut all = Vec::new();
    for (client, _) in options.lists {
        let out_dir = result.out_dir.join(client);
        all.push((*client, rows(&out_dir)?, out_dir));
    }
    if result.status == Some(1) && all.iter().flat_map(|(_, rows, _)| rows).any(|row| !row.equal) {
        // The runner's status for rows that are not equal: they are the caller's to judge, the rest is the
        // guest's.
        result.status = Some(0);
    }
    let guest = result.judge().err().map(|error| format!("{error:#}"));
    Ok(all
        .into_iter()
        .map(|(client, rows, out_dir)| PlayResult {
            rows,
            guest: guest.clone(),
            seconds: result.seconds,
            client_version: if client == GSTREAMER {
                version.trim().to_owned()
            } else {
                client.to_owned()
            },
            out_dir,
        })
        .collect())
}

/// The name of GStreamer as a client.
pub(crate) const GSTREAMER: &str = "gst";

/// The rows in a runner's output directory; none if it ended before its first stream.
pub(crate) fn rows(dir: &Path) -> Result<Vec<Row>> {
    match std::fs::read_to_string(dir.join("results.jsonl")) {
        Ok(text) => text
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("malformed row: {line}")))
            .collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read the results in {}", dir.display())),
    }
}

/// The generated clips: makes them if they are not there, in the Debian root, which has the encoders.
///
/// Returns the path of their stream list and its contents.
pub(crate) fn clips(bed: &Bed) -> Result<(PathBuf, Vec<Stream>)> {
    let list = clip_list(bed, &[], "generated clips (the first time: up to a minute)")?;
    let streams =
        serde_json::from_str(&read(&list)?).with_context(|| format!("{} is malformed", list.display()))?;
    Ok((list, streams))
}

/// The list of the small clips: closed groups of pictures, odd sizes, 10 bit.
pub(crate) fn small_clips(bed: &Bed) -> Result<PathBuf> {
    clip_list(bed, &["--small"], "small clips")
}

fn clip_list(bed: &Bed, options: &[&str], what: &str) -> Result<PathBuf> {
    let program = root::inside(bed, &bed.binaries()?.join("daedalus-tests"));
    let out = bed.target.join("clips");
    let step = ui::Step::begin(what);
    let set = bed
        .command(program)?
        .arg("clips")
        .args(options)
        .arg("--out")
        .arg(root::inside(bed, &out))
        .output()?;
    drop(step);
    let name = set.trim().rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        bail!("the generator of the clips did not say where they are");
    }
    Ok(out.join(name).join("clips.json"))
}
