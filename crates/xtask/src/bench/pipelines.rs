// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pipelines that are compared in the guest: through the device, and by the software that decodes without
//! it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use daedalus_uapi::Codec;

use super::clips::{self, Clip, Kind};
use super::dav1ddec;
use super::options::Args;
use super::runs::{Entry, PATIENT, Plan, Rows};
use crate::bed::Bed;
use crate::codecs::{self, element};
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::site::files::write_json;

/// Names of the pipelines.
pub(crate) const DEVICE: &str = "device";
/// With the pictures in ordinary memory, without padding, which the decoder copies if it must.
pub(crate) const DEVICE_COPIED: &str = "device, system memory";
/// The software decoder, NV12 demanded of it.
pub(crate) const NV12: &str = "software, NV12";
/// The software decoder with what it makes.
pub(crate) const I420: &str = "software, I420";

/// Begins a script whose pipelines these are. A small client plays first: GStreamer gives a job one second,
/// which a worker whose files the guest has never read may need for its start. `daemon` are further arguments
/// of `daedalusd broker`.
pub(crate) fn begin(bed: &Bed, daemon: &str) -> Result<String> {
    let clips = clips::repeated(bed, Kind::Demo("qvga"), 1)?;
    let mut script = format!("{PATIENT}daedalus_start --threads=1 {daemon}\n");
    for clip in &clips {
        script.push_str(&format!(
            "daedalus-measure memory --clip {} --broker $DAEDALUS_BROKER >/dev/null\n",
            in_guest(bed, &clip.path).context("the clip to begin with")?
        ));
    }
    script.push_str(&format!(
        "export GST_REGISTRY=/tmp/gstreamer-registry.bin GST_PLUGIN_PATH={}\n",
        in_guest(bed, &dav1ddec::plugin(bed)?)?
    ));
    Ok(script)
}

/// Where a clip is in the guest while it is measured: in tmpfs, since the host's files are not part of it.
pub(crate) fn place(clip: &Clip) -> Result<String> {
    let name = clip.path.file_name().context("no name")?.to_string_lossy();
    Ok(format!("/tmp/{name}"))
}

/// Adds to a script the alternating runs of a clip, at its [`place`], that a part measures.
pub(crate) fn alternate(bed: &Bed, script: &mut String, part: &str, clip: &Clip, plan: &Plan) -> Result<()> {
    let file = bed.target.join(format!("bench/plan-{part}-{}.json", clip.codec));
    write_json(&file, plan)?;
    let place = place(clip)?;
    script.push_str(&format!(
        "cp {} {place}\n\
         daedalus-measure alternate --plan {} --out {} --scratch /tmp/scratch --broker $DAEDALUS_BROKER\n\
         rm {place}\n",
        in_guest(bed, &clip.path)?,
        in_guest(bed, &file)?,
        rows_file(clip)
    ));
    Ok(())
}

fn rows_file(clip: &Clip) -> String {
    format!("rows-{}.jsonl", clip.codec)
}

/// What the runs of [`alternate`] left in the guest's output.
pub(crate) fn rows(out_dir: &Path, clip: &Clip) -> Result<Rows> {
    Rows::read(&out_dir.join(rows_file(clip)))
}

/// A part that compares commands for each clip in one guest.
pub(crate) struct Measurement<'a> {
    /// Its name.
    pub(crate) part: &'a str,
    /// Further arguments of `daedalusd broker`.
    pub(crate) daemon: &'a str,
    /// The most that a round with all clips may take, in seconds.
    pub(crate) seconds: u64,
    /// Makes the commands for a clip at a path in the guest.
    pub(crate) commands: fn(&Clip, &str) -> Result<Vec<Entry>>,
}

impl Measurement<'_> {
    /// Runs the commands of all clips, and makes a row of the runs of each.
    pub(crate) fn measure<T>(
        &self,
        bed: &Bed,
        args: &Args,
        clips: &[Clip],
        row: impl Fn(&Clip, &Rows, usize) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut script = begin(bed, self.daemon)?;
        for clip in clips {
            let plan = Plan {
                runs: args.runs,
                commands: (self.commands)(clip, &place(clip)?)?,
            };
            alternate(bed, &mut script, self.part, clip, &plan)?;
        }
        script.push_str("daedalus_stop\ndaedalus_unload\n");
        let timeout = Duration::from_secs(300 + self.seconds * (args.runs as u64 + 1));
        let job = GuestJob::new(&format!("bench-{}", self.part), &script)
            .cpus(args.cpus)
            .timeout(timeout);
        let result = guest::run(bed, &job)?;
        result.judge()?;
        clips
            .iter()
            .map(|clip| {
                let rows = rows(&result.out_dir, clip)?;
                row(clip, &rows, args.runs).with_context(|| clip.name.clone())
            })
            .collect()
    }
}

/// Returns the pipelines of a clip at `path` in the guest.
pub(crate) fn of(clip: &Clip, path: &str) -> Result<Vec<Entry>> {
    let pipeline = |name: &str, rest: &str| pipeline(clip, path, name, rest);
    let device = format!("v4l2sl{}dec", clip.codec.info().gstreamer_name);
    let mut entries = vec![
        pipeline(DEVICE, &device),
        pipeline(DEVICE_COPIED, &format!("{device} ! video/x-raw,format=NV12")),
    ];
    let decoder = software(clip.codec)?;
    entries.push(pipeline(NV12, &software_nv12(clip.codec)?));
    entries.push(pipeline(I420, &format!("{decoder} ! video/x-raw,format=I420")));
    Ok(entries)
}

/// Returns the command `name`, and its proof: a clip at `path` in the guest through the elements `rest`.
pub(crate) fn pipeline(clip: &Clip, path: &str, name: &str, rest: &str) -> Entry {
    let parser = clip.codec.info().gstreamer_parser;
    let container = if path.ends_with(".ivf") { "ivfparse ! " } else { "" };
    let source = format!("filesrc location={path} ! {container}{parser}");
    Entry::new(name, &format!("gst-launch-1.0 -q {source} ! {rest} ! fakesink")).proof(
        &format!("gst-launch-1.0 -m {source} ! {rest} ! videocodectestsink"),
        None,
    )
}

/// Returns the software decoder of a codec, with one thread.
fn software(codec: Codec) -> Result<String> {
    Ok(format!("{} {}", element(codec), codecs::row(codec)?.one_thread))
}

/// Returns the elements that decode a codec by software to NV12, with one thread.
///
/// # Errors
/// If the table of codecs has no row for it.
pub(crate) fn software_nv12(codec: Codec) -> Result<String> {
    Ok(format!(
        "{} ! videoconvert ! video/x-raw,format=NV12",
        software(codec)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pipeline_has_a_proof() {
        for codec in Codec::ALL {
            let clip = Clip::sample(*codec);
            let entries = of(&clip, "/tmp/x").unwrap();
            assert!(entries.iter().all(|entry| !entry.proof.is_empty()));
            assert!(entries.iter().any(|entry| entry.name == DEVICE));
        }
    }
}
