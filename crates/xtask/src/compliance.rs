// SPDX-License-Identifier: Apache-2.0 OR MIT
//! v4l2-compliance on the device's nodes, and on those of visl, the kernel's own test decoder, in the same
//! guest: nothing may fail or warn, and nothing may be unsupported that visl supports.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daedalus_uapi::Codec;
use daedalus_uapi::codec::Stream;

use crate::bed::Bed;
use crate::codecs::{self, format};
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;
use crate::play;
use crate::site::files::read;
use crate::site::ui;

/// V4L2_CID_CODEC_STATELESS_BASE.
const BASE: u32 = 0x00a4_0900;

/// The script that guests source for the stateful node.
pub(crate) const SCRIPT: &str = "testbed/compliance.sh";

/// The nodes, and v4l2-compliance's option for each.
const NODES: [(&str, &str); 2] = [("video", "-d"), ("media", "-m")];

/// What one run of v4l2-compliance said.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
struct Report {
    version: String,
    tests: u32,
    failed: u32,
    warnings: u32,
    /// Tests by `section: name`, with how often they were reported so: a section may come once for each
    /// queue.
    not_supported: BTreeMap<String, u32>,
    failures: Vec<String>,
}

/// `./dev compliance`: both faces.
pub(crate) fn run_all(bed: &Bed) -> Result<Outcome> {
    let outcome = run(bed, Kernel::Plain)?;
    stateful(bed, &bed.target.join("compliance"), &outcome)?;
    Ok(outcome)
}

/// Runs v4l2-compliance on the stateless face's nodes.
pub(crate) fn run(bed: &Bed, kernel: Kernel) -> Result<Outcome> {
    let outcome = Outcome::new();
    let dir = bed.target.join("compliance");
    std::fs::create_dir_all(&dir)?;
    let script = r#"
        daedalus_start
        modprobe -d /mnt/modules visl
        for dir in /sys/class/video4linux/video*; do
            node=/dev/${dir##*/}
            if v4l2-ctl -d "$node" --info | grep -q 'Driver name *: visl$'; then visl_video=$node; fi
        done
        for node in /dev/media*; do
            if media-ctl -d "$node" -p | grep -q '^driver  *visl$'; then visl_media=$node; fi
        done
        v4l2-ctl -d "$DAEDALUS_VIDEO" --list-formats-out >formats.log
        v4l2-ctl -d "$DAEDALUS_VIDEO" --list-ctrls >controls.log
        # A failing test is its exit status, and its log says more.
        v4l2-compliance -d "$DAEDALUS_VIDEO" >daedalus-video.log 2>&1 || true
        v4l2-compliance -m "$DAEDALUS_MEDIA" >daedalus-media.log 2>&1 || true
        v4l2-compliance -d "$visl_video" >visl-video.log 2>&1 || true
        v4l2-compliance -m "$visl_media" >visl-media.log 2>&1 || true
        daedalus_stop
        daedalus_unload
    "#;
    let mut out = None;
    let ran = outcome.check("compliance: guest with device and visl", || {
        let result = guest::run(
            bed,
            &GuestJob::new("compliance", script)
                .kernel(kernel)
                .timeout(Duration::from_secs(240)),
        )?;
        out = Some(result.out_dir.clone());
        result.judge()?;
        Ok(format!("{:.0} s", result.seconds))
    });
    // Without the logs there is nothing to look at; with them, the reasons are worth printing though the
    // guest failed.
    let Some(out) = out.filter(|out| ran || out.join("visl-media.log").exists()) else {
        return Ok(outcome);
    };

    for (node, _) in NODES {
        let reports = ["daedalus", "visl"].map(|driver| -> Result<Report> {
            let text = read(&out.join(format!("{driver}-{node}.log")))?;
            std::fs::write(dir.join(format!("{driver}-{node}.log")), &text)?;
            let report =
                parse(&text).with_context(|| format!("v4l2-compliance on {driver}'s {node} node"))?;
            std::fs::write(
                dir.join(format!("{driver}-{node}.json")),
                serde_json::to_string_pretty(&report)?,
            )?;
            Ok(report)
        });
        let [ours, visl] = reports;
        outcome.check(&format!("compliance: {node} node"), || {
            let ours = ours.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            if ours.failed > 0 || ours.warnings > 0 || !ours.failures.is_empty() {
                bail!(
                    "{} failed, {} warnings: {}",
                    ours.failed,
                    ours.warnings,
                    ours.failures.join("; ")
                );
            }
            Ok(format!(
                "{} of {} tests, 0 warnings (v4l2-compliance {})",
                ours.tests, ours.tests, ours.version
            ))
        });
        outcome.check(
            &format!("compliance: {node} node supports what visl's does"),
            || {
                let ours = ours.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                let visl = visl.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                let more = beyond(&ours.not_supported, &visl.not_supported);
                if !more.is_empty() {
                    bail!("not supported, but by visl: {}", more.join("; "));
                }
                let count = |report: &Report| report.not_supported.values().sum::<u32>();
                Ok(format!(
                    "{} tests not supported, visl {}",
                    count(ours),
                    count(visl)
                ))
            },
        );
    }
    outcome.check("compliance: coded formats", || formats(&out));
    outcome.check("compliance: compound controls", || controls(&out));
    Ok(outcome)
}

/// A way to run v4l2-compliance on the stateful node.
struct Way {
    /// In names of files and checks, and in testbed/compliance.sh, which has its options.
    name: &'static str,
    /// Whether it is only for streams that may be cut anywhere.
    cuts: bool,
}

const WAYS: [Way; 3] = [
    Way {
        name: "plain",
        cuts: false,
    },
    Way {
        name: "units",
        cuts: false,
    },
    Way {
        name: "bytes",
        cuts: true,
    },
];

/// What v4l2-compliance says of a node whose coded formats it knows.
const STATEFUL: &str = "Detected Stateful Decoder";

/// Runs v4l2-compliance on the stateful node, with one codec after the other offered: it takes a node for no
/// decoder if it does not know one of the coded formats.
fn stateful(bed: &Bed, dir: &Path, outcome: &Outcome) -> Result<()> {
    let (list, streams) = play::clips(bed)?;
    let clips = list.parent().context("a list of clips without a directory")?;
    let mut script = format!("daedalus_load\n. /mnt/repo/{SCRIPT}\n");
    let mut runs = Vec::new();
    for codec in Codec::ALL.iter().copied() {
        let name = format!("{codec}-240p");
        let stream = streams.iter().find(|stream| stream.name == name);
        let path = &stream.with_context(|| format!("there is no clip {name}"))?.path;
        let raw = in_guest(bed, &clips.join(path))?;
        let framed = format!("/tmp/{codec}.framed");
        script.push_str(&format!(
            "daedalusd broker --faces=both --codecs={codec} >>daedalusd.log 2>&1 &\nbroker=$!\n\
             until node=$(stateful_node); do sleep 0.1; done\n\
             daedalus-tests framed {raw} {framed}\n"
        ));
        for way in &WAYS {
            if way.cuts && codec.info().stream != Stream::StartCodes {
                continue;
            }
            let name = way.name;
            let log = format!("stateful-{codec}-{name}.log");
            // A node that is taken for none says nothing more, and a stream makes that last.
            let first = format!("stateful-{codec}-{}.log", WAYS[0].name);
            let known = format!("[ ! -e {first} ] || grep -q '{STATEFUL}' {first}");
            script.push_str(&format!(
                "if {known}; then stateful_compliance {name} \"$node\" {raw} {framed} >{log}; \
                 else cp {first} {log}; fi\n"
            ));
            runs.push((codec, name, log));
        }
        script.push_str("kill $broker; wait $broker\n");
    }
    script.push_str("daedalus_unload\n");
    let mut out = None;
    let ran = outcome.check("compliance: guest with the stateful node", || {
        let job = GuestJob::new("compliance-stateful", &script).timeout(Duration::from_secs(900));
        let result = guest::run(bed, &job)?;
        out = Some(result.out_dir.clone());
        result.judge()?;
        Ok(format!("{:.0} s", result.seconds))
    });
    let Some(out) = out.filter(|out| ran || out.join(&runs[0].2).exists()) else {
        return Ok(());
    };
    for (codec, way, log) in runs {
        let text = read(&out.join(&log))?;
        std::fs::write(dir.join(&log), &text)?;
        let name = format!("compliance: stateful node, {codec}, {way}");
        if !text.contains(STATEFUL) {
            let summary = parse(&text).map_or_else(
                |error| format!("{error:#}"),
                |report| {
                    let passed = report.tests - report.failed;
                    format!(
                        "{passed} of {} tests, not {}",
                        report.tests,
                        report.failures.join("; ")
                    )
                },
            );
            let reason = "this v4l2-compliance does not know the coded format, and takes the node for no \
                          stateful decoder";
            outcome.skip(&name, &format!("{reason}: {summary}"));
            continue;
        }
        outcome.check(&name, || {
            let report = parse(&text)?;
            if report.failed > 0 || report.warnings > 0 || !report.failures.is_empty() {
                let failures = report.failures.join("; ");
                bail!(
                    "{} failed, {} warnings: {failures}",
                    report.failed,
                    report.warnings
                );
            }
            Ok(format!("{} tests, 0 warnings", report.tests))
        });
    }
    Ok(())
}

fn formats(out: &Path) -> Result<String> {
    let text = read(&out.join("formats.log"))?;
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.contains("]: '")) {
        ui::line(&format!("    {}", line.trim()));
        found.extend(line.split('\'').nth(1).map(str::to_owned));
    }
    found.sort();
    let mut all_formats: Vec<String> = Codec::ALL.iter().map(|codec| format(*codec)).collect();
    all_formats.sort();
    if found != all_formats {
        bail!("{} instead of {}", found.join(" "), all_formats.join(" "));
    }
    Ok(found.join(" "))
}

fn controls(out: &Path) -> Result<String> {
    let text = read(&out.join("controls.log"))?;
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(id) = control_id(line) else { continue };
        // The class also has menus, which are no compound controls.
        if !(BASE..BASE + 0x700).contains(&id) || line.contains("(menu)") {
            continue;
        }
        ui::line(&format!("    {}", line.trim()));
        found.push(id - BASE);
    }
    found.sort_unstable();
    let mut all_controls = Vec::new();
    for row in codecs::rows()? {
        all_controls.extend(row.controls()?);
    }
    all_controls.sort_unstable();
    if found != all_controls {
        bail!("base + {found:?} instead of {all_controls:?}");
    }
    Ok(format!("{}", found.len()))
}

/// The number in a line of `v4l2-ctl --list-ctrls`: `name 0x00a40902 (type) : …`.
fn control_id(line: &str) -> Option<u32> {
    let word = line.split_whitespace().nth(1)?;
    u32::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// What `ours` has more often than `theirs`.
fn beyond(ours: &BTreeMap<String, u32>, theirs: &BTreeMap<String, u32>) -> Vec<String> {
    ours.iter()
        .filter(|(name, count)| **count > theirs.get(*name).copied().unwrap_or(0))
        .map(|(name, _)| name.clone())
        .collect()
}

/// Reads a log of v4l2-compliance; its last line is the count of everything.
fn parse(log: &str) -> Result<Report> {
    let mut report = Report::default();
    let mut section = String::new();
    for line in log.lines() {
        let text = line.trim();
        if let Some(version) = text.strip_prefix("v4l2-compliance ") {
            report.version = version.split([',', ' ']).next().unwrap_or_default().to_owned();
        } else if let Some(test) = text.strip_prefix("test ") {
            let (name, result) = test.rsplit_once(": ").unwrap_or((test, ""));
            if result.contains("Not Supported") {
                *report
                    .not_supported
                    .entry(format!("{section}: {name}"))
                    .or_default() += 1;
            }
            if result.contains("FAIL") {
                report.failures.push(format!("{section}: {name}"));
            }
        } else if text.starts_with("fail:") || text.starts_with("warn:") {
            report.failures.push(text.to_owned());
        } else if text.ends_with(':') && !text.contains('/') {
            section = text.trim_end_matches(':').to_owned();
        }
    }
    let total = log
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("Grand Total for "));
    let total = total.or_else(|| log.lines().rev().find_map(|line| line.strip_prefix("Total for ")));
    let total = total.context("the log has no closing count: v4l2-compliance did not come to its end")?;
    let number = |word: &str| -> Result<u32> {
        let rest = total
            .split_once(word)
            .with_context(|| format!("no '{word}' in: {total}"))?
            .1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits
            .parse()
            .with_context(|| format!("no number after '{word}' in: {total}"))
    };
    report.tests = total
        .rsplit_once(", Succeeded:")
        .and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok())
        .with_context(|| format!("no count of tests in: {total}"))?;
    report.failed = number("Failed: ")?;
    report.warnings = number("Warnings: ")?;
    if report.tests == 0 {
        bail!("v4l2-compliance ran no test");
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "v4l2-compliance 1.30.1, 64 bits, 64-bit time_t\n\nCompliance test for visl device \
                       /dev/video0:\n\n\
        Required ioctls:\n\ttest VIDIOC_QUERYCAP: OK\n\nInput ioctls:\n\ttest VIDIOC_G/S_TUNER: OK (Not \
        Supported)\n\
        \t\tfail: v4l2-test-x.cpp(1): bad\n\ttest VIDIOC_G/S_AUDIO: FAIL\n\n\
        Total for visl device /dev/video0: 3, Succeeded: 2, Failed: 1, Warnings: 0\n";

    #[test]
    fn a_log_is_read() {
        let report = parse(LOG).unwrap();
        assert_eq!((report.tests, report.failed, report.warnings), (3, 1, 0));
        assert_eq!(report.version, "1.30.1");
        assert_eq!(
            report.not_supported.keys().collect::<Vec<_>>(),
            ["Input ioctls: VIDIOC_G/S_TUNER"]
        );
        assert_eq!(report.failures.len(), 2);
        assert!(parse("v4l2-compliance 1.30.1\n").is_err());
    }

    #[test]
    fn more_unsupported_than_the_other_is_seen() {
        let map = |count| BTreeMap::from([("a".to_owned(), count)]);
        assert!(beyond(&map(1), &map(1)).is_empty());
        assert_eq!(beyond(&map(2), &map(1)), ["a"]);
        assert_eq!(beyond(&map(1), &BTreeMap::new()), ["a"]);
    }

    #[test]
    fn control_lines() {
        let line = "   sequence_parameter_set 0x00a40902 (sps): value=unsupported, flags=has-payload";
        assert_eq!(control_id(line), Some(BASE + 2));
        assert_eq!(control_id("Codec Controls"), None);
    }
}
