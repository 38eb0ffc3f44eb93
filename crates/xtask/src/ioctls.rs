// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The imitation of FFmpeg against the ioctl sequences that FFmpeg itself was seen to make
//! (tests/data/ioctls): the imitation plays each trace's stream under strace in the guest, and must make the
//! same sequence.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daedalus_common::vectors;

use crate::bed::Bed;
use crate::codecs;
use crate::conformance;
use crate::guest::{self, GuestJob};
use crate::outcome::Outcome;
use crate::site::files::{read, write_json};

/// Where the traces are, in the tree.
const TRACES: &str = "tests/data/ioctls";

/// A kept trace, and the stream that was played.
struct Trace {
    name: String,
    stream: String,
}

/// `./dev ioctls`.
pub(crate) fn run(bed: &Bed) -> Result<Outcome> {
    let outcome = Outcome::new();
    let traces = traces(&bed.repo.join(TRACES))?;
    for row in codecs::rows()? {
        if let Some(reason) = &row.untraced {
            outcome.skip(&format!("ioctls {}", row.codec), reason);
        }
    }
    let dir = bed.target.join("ioctls");
    std::fs::create_dir_all(&dir)?;
    let mut script = String::from("daedalus_start\n");
    for trace in &traces {
        let Some(stream) = conformance::listed(bed, &trace.stream)? else {
            outcome.skip("ioctls", vectors::MISSING);
            return Ok(outcome);
        };
        write_json(&dir.join(format!("{}.json", trace.name)), &[stream])?;
        script.push_str(&commands(&trace.name));
    }
    script.push_str("daedalus_stop\ndaedalus_unload\n");
    let mut out = None;
    outcome.check("ioctls: guest", || {
        let result = guest::run(
            bed,
            &GuestJob::new("ioctls", &script).timeout(Duration::from_secs(300)),
        )?;
        out = Some(result.out_dir.clone());
        result.judge()?;
        Ok(format!("{:.0} s", result.seconds))
    });
    if let Some(out) = out {
        for trace in &traces {
            outcome.check(&format!("ioctls {}", trace.name), || last_line(&out, &trace.name));
        }
    }
    Ok(outcome)
}

/// All traces, by name. One without a stream is an error: it would be compared with nothing.
fn traces(dir: &Path) -> Result<Vec<Trace>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .with_context(|| format!("no traces at {}", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    if files.is_empty() {
        bail!("no trace in {}", dir.display());
    }
    files.iter().map(|path| trace(path)).collect()
}

fn trace(path: &Path) -> Result<Trace> {
    let text = read(path)?;
    let stream = text.lines().find_map(|line| line.strip_prefix("# stream: "));
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(Trace {
        stream: stream
            .with_context(|| format!("{} does not name its stream", path.display()))?
            .trim()
            .to_owned(),
        name: name.into_owned(),
    })
}

/// Plays and compares; what is not equal is for [`last_line`], not the end of the job.
fn commands(name: &str) -> String {
    format!(
        "{{ strace -f -y -v -X verbose -e trace=ioctl,poll,ppoll -o {name}.strace \
         daedalus-tests play --client ffmpeg-like --prompt --list /mnt/target/ioctls/{name}.json --out \
         {name} && \
         daedalus-tests ioctls compare --trace /mnt/repo/{TRACES}/{name}.txt --log {name}.strace && \
         touch {name}.equal; }} >{name}.log 2>&1 || true\n"
    )
}

/// What came of a trace.
fn last_line(out: &Path, name: &str) -> Result<String> {
    let log = read(&out.join(format!("{name}.log")))?;
    let last = log.trim_end().lines().last().unwrap_or_default().to_owned();
    if !out.join(format!("{name}.equal")).exists() {
        bail!("{}", log.trim_end());
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_trace_names_its_stream() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(TRACES);
        let traces = traces(&dir).unwrap();
        let names: Vec<&str> = traces.iter().map(|trace| trace.name.as_str()).collect();
        for row in codecs::rows().unwrap() {
            let codec = row.codec;
            let has_trace = traces
                .iter()
                .any(|trace| trace.stream.starts_with(&format!("{codec}/")));
            assert!(
                has_trace != row.untraced.is_some(),
                "a trace of {codec}, or a reason in codecs.tsv, and not both: {names:?}"
            );
        }
    }

    #[test]
    fn a_trace_without_the_end_of_its_comparison_is_a_failure() {
        let dir = std::env::temp_dir().join(format!("daedalus-ioctls-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.log"), "1 of 1 streams equal\nevent 3 is `X`\n").unwrap();
        let error = last_line(&dir, "a").unwrap_err().to_string();
        assert!(error.contains("event 3"), "{error}");
        std::fs::write(dir.join("a.equal"), "").unwrap();
        assert_eq!(last_line(&dir, "a").unwrap(), "event 3 is `X`");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
