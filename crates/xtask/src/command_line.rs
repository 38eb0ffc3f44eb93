// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev command-line`: the `daedalus` command in a guest. `doctor` in the broken situations that a guest
//! can be put into, `status`, `top` and `metrics` while three clients play, `decode` and `verify` of a clip
//! of each codec. What `status` and `top` printed is what docs/command-line.md shows; --captures writes it
//! there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daedalus_uapi::{Codec, CodecSet};

use crate::bed::Bed;
use crate::bench::clips::{Clip, Kind, repeated};
use crate::codecs::format;
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::outcome::Outcome;
use crate::site::cmd::last_lines;
use crate::site::files::{read, write_whole};

/// Arguments of `./dev command-line`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Put what `status` and `top` printed into docs/command-line.md
    #[arg(long)]
    captures: bool,
}

/// How often a clip is played in a row by the three clients: sessions that are as short as one end between
/// two looks.
const TIMES: usize = 5;

/// The situations of `doctor`: the file of its output, and what it must name as cause and as cure.
const SITUATIONS: [(&str, &str, &str); 8] = [
    (
        "kernel-without-video-core",
        "has no CONFIG_VIDEO_DEV",
        "apt install linux-image-",
    ),
    (
        "no-module",
        "daedalus_v4l2 is not loaded",
        "modprobe daedalus_v4l2",
    ),
    (
        "no-daemon",
        "no broker runs: the device is unserved",
        "systemctl start daedalus-v4l2",
    ),
    (
        "wrong-group-of-nodes",
        "does not belong to the group video",
        "sudo udevadm trigger",
    ),
    (
        "wrong-group-of-user",
        "nobody is not in the group video",
        "sudo usermod -aG video nobody",
    ),
    (
        "codec-library-missing",
        "is not there, so daedalusd cannot start",
        "apt install --reinstall libavcodec",
    ),
    (
        "second-library-missing",
        "is not there, so daedalusd cannot start",
        "apt install --reinstall libdav1d",
    ),
    (
        "library-of-a-library-missing",
        "it cannot start: the loader says of libvpx",
        "apt install --reinstall libvpx",
    ),
];

/// Clients that play at a time, each a codec of its own; the guest's part says three, too.
const PLAYERS: usize = 3;

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let outcome = Outcome::new();
    let clips = repeated(bed, Kind::Demo("1080p"), TIMES)?;
    let paths = |clips: &[Clip], which: fn(&Clip) -> &PathBuf| -> Result<String> {
        let paths = clips.iter().map(|clip| in_guest(bed, which(clip)));
        Ok(paths.collect::<Result<Vec<_>>>()?.join(" "))
    };
    let script = format!(
        "clips=({})\nlong=({})\ncodecs=({})\n{}",
        paths(&clips, |clip| &clip.once)?,
        paths(&clips[..PLAYERS], |clip| &clip.path)?,
        CodecSet::all().to_string().replace(',', " "),
        include_str!("command_line/guest.sh")
    );
    let job = GuestJob::new("command-line", &script).timeout(Duration::from_secs(240));
    let result = guest::run(bed, &job)?;
    let out = &result.out_dir;
    outcome.check("daedalus: the guest and its kernel log", || {
        result.judge()?;
        Ok(format!("{:.0} s", result.seconds))
    });
    for (name, cause, cure) in SITUATIONS {
        outcome.check(&format!("daedalus doctor: {name}"), || {
            let text = read(&out.join(format!("{name}.txt")))?;
            let failed = text
                .lines()
                .any(|line| line.starts_with("FAIL") && line.contains(cause));
            ensure!(failed, "it does not name the cause, \"{cause}\":\n{text}");
            let mended = text
                .lines()
                .any(|line| line.contains("mend it: ") && line.contains(cure));
            ensure!(mended, "it does not name the cure, \"{cure}\":\n{text}");
            Ok(String::new())
        });
    }
    outcome.check("daedalus is linked with no decoder", || {
        let text = read(&out.join("linked.txt"))?;
        ensure!(
            text.contains("libc.so") && !text.contains("libav") && !text.contains("dav1d"),
            "{text}"
        );
        Ok(String::new())
    });
    outcome.check("daedalus doctor: nothing is wrong", || {
        let text = read(&out.join("healthy.txt"))?;
        ensure!(!text.contains("FAIL") && text.contains("finds v4l2sl"), "{text}");
        Ok(String::new())
    });
    outcome.check("daedalus cdi: both nodes", || {
        let json: serde_json::Value = serde_json::from_str(&read(&out.join("cdi.json"))?)?;
        let nodes = json["devices"][0]["containerEdits"]["deviceNodes"].as_array();
        let paths: Vec<&str> = nodes
            .into_iter()
            .flatten()
            .filter_map(|node| node["path"].as_str())
            .collect();
        let node_list = read(&out.join("cdi-nodes.txt"))?;
        ensure!(
            paths.join(" ") == node_list.trim(),
            "{json}, but the nodes are {node_list}"
        );
        Ok(paths.join(", "))
    });
    outcome.check("daedalus verify: every codec", || {
        let text = read(&out.join("verify.txt"))?;
        let exact = text.lines().filter(|line| line.contains(": exact, ")).count();
        ensure!(exact == clips.len(), "{text}");
        Ok(String::new())
    });
    outcome.check("daedalus verify: MP4, Matroska and MPEG-TS with sound", || {
        let text = read(&out.join("verify-containers.txt"))?;
        let exact = text.lines().filter(|line| line.contains(": exact, ")).count();
        ensure!(exact == 3, "{text}");
        Ok(String::new())
    });
    outcome.check("daedalus bench: device and software, and its report", || {
        let json: serde_json::Value = serde_json::from_str(&read(&out.join("bench.json"))?)?;
        let row = &json["rows"][0];
        for way in ["device", "software"] {
            let fps = row[way]["fps"][0].as_f64().unwrap_or_default();
            ensure!(fps > 0.0 && row["frames"].as_u64() > Some(0), "{row}");
        }
        let report = read(&out.join("bench.md"))?;
        ensure!(
            report.contains("| kernel | ") && report.contains("| over 30 fps |"),
            "{report}"
        );
        Ok(String::new())
    });
    for (command, file) in [("status", "status.txt"), ("top", "top.txt")] {
        outcome.check(&format!("daedalus {command}: three clients"), || {
            let text = read(&out.join(file))?;
            let streaming = text
                .lines()
                .filter(|line| line.contains("gst-launch-1.0["))
                .count();
            ensure!(streaming == PLAYERS, "{streaming} clients:\n{text}");
            if args.captures {
                capture(&bed.repo.join("docs/command-line.md"), command, &text)?;
            }
            Ok(String::new())
        });
    }
    outcome.check("daedalus metrics: by HTTP", || {
        let text = read(&out.join("metrics.txt"))?;
        ensure!(text.contains("daedalus_serving 1"), "{text}");
        let sessions = text
            .lines()
            .filter(|line| line.starts_with("daedalus_session_jobs_done_total{"))
            .count();
        ensure!(sessions == PLAYERS, "{sessions} sessions:\n{text}");
        Ok(String::new())
    });
    outcome.check(
        "daedalusd: another broker follows, a session keeps its worker",
        || {
            let text = read(&out.join("replaced.txt"))?;
            replaced_broker(&text)
        },
    );
    beside_another(out, &outcome);
    Ok(outcome)
}

/// Two looks at the sessions: the same one, with the same worker, has gone on and lost nothing.
fn replaced_broker(text: &str) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let [before, after] = lines[..] else {
        bail!("not one session before and one after:\n{text}");
    };
    let value = |line: &str, name: &str| -> Result<u64> {
        line.split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .and_then(|value| value.parse().ok())
            .with_context(|| format!("no {name}:\n{text}"))
    };
    for name in ["id", "worker"] {
        ensure!(
            value(before, name)? == value(after, name)?,
            "another {name}:\n{text}"
        );
    }
    let done = (value(before, "done")?, value(after, "done")?);
    ensure!(done.1 > done.0, "nothing was decoded afterwards:\n{text}");
    ensure!(value(after, "failed")? == 0, "pictures were lost:\n{text}");
    Ok(format!("{} pictures before, {} after, none lost", done.0, done.1))
}

/// What is offered while visl is loaded, which takes every codec.
fn beside_another(out: &Path, outcome: &Outcome) {
    let says = |file: &str, phrases: &[&str]| -> Result<()> {
        let text = read(&out.join(file))?;
        for phrase in phrases {
            ensure!(text.contains(phrase), "{file} does not say \"{phrase}\":\n{text}");
        }
        Ok(())
    };
    outcome.check("daedalusd: codecs of another decoder are left to it", || {
        says(
            "hardware.txt",
            &[&format!("/dev/video0 visl {}", CodecSet::all())],
        )?;
        let left = |codec: &Codec, word: &str| format!("{codec} {word} /dev/video0 (visl)");
        for file in ["all-left.txt", "all-left-asked.txt"] {
            let first = Codec::ALL.first().map(|codec| left(codec, "by"));
            says(file, &["nothing is offered", &first.unwrap_or_default()])?;
        }
        let last = Codec::ALL.last().map(|codec| left(codec, "to"));
        says(
            "all-left-doctor.txt",
            &["note daemon: nothing is offered", &last.unwrap_or_default()],
        )?;
        Ok(String::new())
    });
    // The script leaves the first codec out of the list, and to the other decoder.
    for (name, codecs) in [
        ("all", Codec::ALL),
        ("list", &Codec::ALL[1..]),
        ("rest", &Codec::ALL[1..]),
    ] {
        let offered: Vec<String> = codecs.iter().map(|codec| format(*codec)).collect();
        outcome.check(&format!("daedalusd beside another decoder: {name}"), || {
            let text = read(&out.join(format!("offered-{name}.txt")))?;
            let all = Codec::ALL.iter().map(|codec| format(*codec));
            let found: Vec<String> = all.filter(|format| text.contains(format)).collect();
            ensure!(found == offered, "{found:?} are offered:\n{text}");
            Ok(format!("{} as {}", found.join(", "), last_lines(&text, 1)))
        });
    }
    outcome.check("daedalus verify: the device is found by its name", || {
        let text = read(&out.join("verify-beside.txt"))?;
        let exact = text.lines().filter(|line| line.contains(": exact, ")).count();
        ensure!(exact == 1, "{text}");
        Ok(String::new())
    });
    outcome.check("daedalusd: a mistake in the configuration", || {
        says(
            "bad-config.txt",
            &[&format!(
                "/tmp/bad.conf: line 2: codecs: 'nosuch' is none of {}",
                CodecSet::all().to_string().replace(',', ", ")
            )],
        )?;
        Ok(String::new())
    });
}

/// Replaces the fenced block after `<!-- capture: NAME -->`.
fn capture(document: &Path, name: &str, text: &str) -> Result<()> {
    let old = read(document)?;
    let new = replaced(&old, name, text)
        .with_context(|| format!("{} has no block for {name}", document.display()))?;
    write_whole(document, &new)
}

fn replaced(document: &str, name: &str, text: &str) -> Option<String> {
    let marker = format!("<!-- capture: {name} -->\n```text\n");
    let start = document.find(&marker)? + marker.len();
    let end = start + document[start..].find("```\n")?;
    Some(format!(
        "{}{}\n{}",
        &document[..start],
        text.trim_end(),
        &document[end..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_lost_its_worker_is_noticed() {
        let line = |id, worker, done, failed| {
            format!(
                "id={id} client=7 worker={worker} format=CODE (0x1) state=streaming done={done} \
                 failed={failed}\n"
            )
        };
        let judge = |after: &str| replaced_broker(&(line(1, 5, 3, 0) + after));
        assert!(judge(&line(1, 5, 4, 0)).is_ok());
        for after in [
            line(1, 6, 4, 0),
            line(2, 5, 4, 0),
            line(1, 5, 3, 0),
            line(1, 5, 4, 1),
        ] {
            assert!(judge(&after).is_err(), "{after}");
        }
        assert!(judge("").is_err());
    }

    #[test]
    fn a_capture_replaces_its_block_only() {
        let document = "a\n<!-- capture: top -->\n```text\nold\n```\nb\n```\nc\n```\n";
        let new = replaced(document, "top", "new\n").unwrap();
        assert_eq!(
            new,
            "a\n<!-- capture: top -->\n```text\nnew\n```\nb\n```\nc\n```\n"
        );
        assert_eq!(replaced(document, "status", "x"), None);
    }
}
