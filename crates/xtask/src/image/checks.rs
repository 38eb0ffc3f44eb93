// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The image as its user meets it: unpacked by another user, installed where it cannot be written, called
//! from a directory whose name has spaces, and from a bare Debian that has nothing but a shell.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daedalus_uapi::Codec;
use serde_json::json;

use crate::bed::Bed;
use crate::make::root;
use crate::outcome::Outcome;
use crate::site::cmd::{Cmd, last_lines};
use crate::site::files::{read, write_json};

use super::archive::{self as packed, CLIPS};
use crate::codecs;

/// A user that owns nothing: Debian's `nobody`.
const NOBODY: &str = "65534";
/// What a user waits for `run -- true`.
const START: Duration = Duration::from_secs(2);
/// How often that is measured. The shortest is the image's, the others have something of the machine's.
const STARTS: usize = 5;

/// An unpacked image, and a user's directory.
struct User<'a> {
    bed: &'a Bed,
    image: PathBuf,
    home: PathBuf,
}

/// What `run` came to.
struct RunResult {
    status: Option<i32>,
    out: String,
    err: String,
    seconds: f64,
}

impl User<'_> {
    /// `run` with these words, as nobody, in the user's directory.
    fn run(&self, words: &[&str]) -> Result<RunResult> {
        let (out, err) = (self.home.join("out"), self.home.join("err"));
        let start = Instant::now();
        let exit = self
            .bed
            .host
            .privileged(
                Cmd::new("setpriv")
                    .args([
                        &format!("--reuid={NOBODY}"),
                        &format!("--regid={NOBODY}"),
                        "--clear-groups",
                    ])
                    .args(["env", "-i", "PATH=/usr/bin:/bin", "sh", "-c"])
                    .arg("cd \"$1\" && shift && \"$@\" >out 2>err")
                    .arg("sh")
                    .arg(&self.home)
                    .arg(self.image.join("run"))
                    .args(["--timeout", "120"])
                    .args(words)
                    .timeout(Duration::from_secs(180)),
            )?
            .status()?;
        let text = |path: &Path| -> Result<String> {
            Ok(String::from_utf8_lossy(
                &std::fs::read(path).with_context(|| format!("no {}", path.display()))?,
            )
            .into_owned())
        };
        Ok(RunResult {
            status: exit.status.code(),
            out: text(&out)?,
            err: text(&err)?,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// The same; it must end with this status.
    fn ends(&self, words: &[&str], status: i32) -> Result<RunResult> {
        let result = self.run(words)?;
        ensure!(
            result.status == Some(status),
            "status {:?}, not {status}: {}\n{}",
            result.status,
            last_lines(&result.out, 5),
            last_lines(&result.err, 15)
        );
        Ok(result)
    }
}

/// The codec of the clip where one is enough.
const FIRST: Codec = Codec::ALL[0];

/// Returns the path of a codec's small clip in the guest.
fn clip(codec: Codec) -> String {
    format!("{CLIPS}/{}", codecs::file(codec, "240p"))
}

/// Tries an archive; the figures go to target/image/results.json.
pub(super) fn run(bed: &Bed, archive: &Path, outcome: &Outcome) -> Result<()> {
    let place = std::env::temp_dir().join(format!("daedalus image-{}", std::process::id()));
    bed.host.remove_tree(&place)?;
    let image = packed::unpack(archive, &place)?;
    let user = User {
        bed,
        image,
        home: place.join("a user's"),
    };
    std::fs::create_dir_all(&user.home)?;
    bed.host
        .privileged(Cmd::new("chown").arg(NOBODY).arg(&user.home))?
        .run()?;
    let mut seconds = Vec::new();
    outcome.check("image: a start takes less than 2 s", || {
        for _ in 0..STARTS {
            seconds.push(user.ends(&["--", "true"], 0)?.seconds);
        }
        seconds.sort_by(f64::total_cmp);
        ensure!(
            seconds[0] < START.as_secs_f64(),
            "the shortest of {STARTS} took {:.2} s",
            seconds[0]
        );
        Ok(format!(
            "{:.2} s, median {:.2} s of {STARTS}",
            seconds[0],
            seconds[STARTS / 2]
        ))
    });
    outcome.check(
        "image: exit status, outputs and arguments are the command's",
        || {
            let script = "printf '%s|' \"$@\"; echo err >&2; exit 7";
            let result = user.ends(&["--", "sh", "-c", script, "sh", "a b", "", "c'd\"$e"], 7)?;
            ensure!(result.out == "a b||c'd\"$e|", "standard output: {:?}", result.out);
            ensure!(result.err == "err\n", "standard error: {:?}", result.err);
            Ok(String::new())
        },
    );
    outcome.check(
        "image: the working directory is there and keeps what is written",
        || {
            let result = user.ends(&["--", "sh", "-c", "pwd; echo written >file"], 0)?;
            ensure!(
                Path::new(result.out.trim_end()) == user.home.canonicalize()?,
                "{}",
                result.out
            );
            ensure!(
                read(&user.home.join("file"))? == "written\n",
                "the file has other contents"
            );
            Ok(String::new())
        },
    );
    outcome.check("image: 20 MB of standard output arrive whole", || {
        let result = user.ends(&["--", "sh", "-c", "seq 2500000"], 0)?;
        ensure!(
            result.out.len() == 18_888_896 && result.out.ends_with("\n2500000\n"),
            "{} bytes",
            result.out.len()
        );
        Ok(format!("{:.1} s", result.seconds))
    });
    outcome.check("image: all codecs are exact, and in a JUnit report", || {
        let clips = Codec::ALL.iter().map(|codec| clip(*codec));
        let clips: Vec<String> = clips.collect();
        let all = format!("daedalus verify --junit report.xml {}", clips.join(" "));
        let result = user.ends(&["--", "sh", "-c", &all], 0)?;
        let count = clips.len();
        ensure!(result.out.matches(": exact, ").count() == count, "{}", result.out);
        let report = read(&user.home.join("report.xml"))?;
        ensure!(
            report.contains(&format!("tests=\"{count}\" failures=\"0\"")),
            "{report}"
        );
        Ok(format!("{:.1} s", result.seconds))
    });
    outcome.check("image: decodebin takes the device by itself", || {
        let pipeline = format!(
            "gst-launch-1.0 -v filesrc location={} ! decodebin ! fakesink | grep -m 1 -o v4l2sl{}dec",
            clip(FIRST),
            FIRST.info().gstreamer_name
        );
        user.ends(&["--", "sh", "-c", &pipeline], 0)?;
        Ok(String::new())
    });
    faults(&user, outcome);
    outcome.check("image: --junit tells success from failure", || {
        user.ends(&["--junit", "one.xml", "--", "true"], 0)?;
        user.ends(&["--junit", "two.xml", "--", "sh", "-c", "echo '<&>'; exit 3"], 3)?;
        let (one, two) = (
            read(&user.home.join("one.xml"))?,
            read(&user.home.join("two.xml"))?,
        );
        ensure!(
            one.contains("failures=\"0\" errors=\"0\"") && !one.contains("<failure"),
            "{one}"
        );
        ensure!(two.contains("<failure message=\"exit status 3\"/>"), "{two}");
        ensure!(two.contains("<system-out>&lt;&amp;&gt;</system-out>"), "{two}");
        Ok(String::new())
    });
    outcome.check("image: a guest that ends early is 125, a late one 124", || {
        let result = user.ends(
            &[
                "--",
                "perl",
                "-e",
                "syscall(169, 0xfee1dead, 672274793, 0x4321fedc, 0)",
            ],
            125,
        )?;
        ensure!(
            result.err.contains("ended before the command did"),
            "{}",
            result.err
        );
        let result = user.ends(&["--timeout", "3", "--", "sleep", "60"], 124)?;
        ensure!(result.seconds < 10.0, "{:.1} s", result.seconds);
        Ok(String::new())
    });
    outcome.check("image: --host-root runs this machine's programs", || {
        let result = user.ends(
            &[
                "--host-root",
                "--",
                "sh",
                "-c",
                "cat /etc/os-release; ls /dev/video-dec-daedalus; touch /etc/x",
            ],
            0,
        )?;
        ensure!(
            result.out.starts_with(&read(Path::new("/etc/os-release"))?)
                && result.out.ends_with("/dev/video-dec-daedalus\n"),
            "{}",
            result.out
        );
        ensure!(!Path::new("/etc/x").exists(), "it wrote to this machine");
        Ok(String::new())
    });
    outcome.check("image: in a bare Debian, as another user", || bare(bed, &user));
    let left = leftovers()?;
    outcome.check("image: nothing is left behind", || {
        ensure!(left.is_empty(), "{}", left.join(", "));
        Ok(String::new())
    });
    write_json(
        &bed.target.join("image/results.json"),
        &json!({ "start_seconds": seconds, "checks": outcome.checks() }),
    )?;
    bed.host.remove_tree(&place)
}

/// The same fault has the same effect each time, and the right one.
fn faults(user: &User<'_>, outcome: &Outcome) {
    let verify = format!("daedalus verify {}", clip(FIRST));
    // GStreamer shows a picture that carries the error flag, and loses those of a worker that is lost.
    for (fault, lost, phrase) in [
        ("error:5", false, "failed job=5 reason=on purpose"),
        ("stall:5:300", false, "stalling on purpose job=5"),
        ("drop:5", true, "not answered on purpose job=5"),
        ("crash:5", true, "crashing on purpose job=5"),
    ] {
        outcome.check(&format!("image: --fault {fault}, twice"), || {
            let once = || -> Result<RunResult> {
                let words = ["--logs", "logs", "--fault", fault, "--", "sh", "-c", &verify];
                let result = user.ends(&words, i32::from(lost))?;
                let log = read(&user.home.join("logs/daedalusd.log"))?;
                ensure!(log.contains(phrase), "the daemon does not say '{phrase}':\n{log}");
                Ok(result)
            };
            let (one, two) = (once()?, once()?);
            // The rate is the machine's.
            let text = |result: &RunResult| result.out.split("),").next().unwrap_or_default().to_owned();
            ensure!(
                text(&one) == text(&two) && !one.out.is_empty(),
                "{} and then {}",
                one.out,
                two.out
            );
            Ok(text(&one).trim_end().to_owned())
        });
    }
}

/// In a Debian 13 with none of the bed's programs, none of this machine's files, and another user.
fn bare(bed: &Bed, user: &User<'_>) -> Result<String> {
    let fresh = root::make(bed, root::FRESH)?;
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let log = bed.target.join("image/bare.log");
    std::fs::remove_file(&log).ok();
    bed.host
        .privileged(
            Cmd::new(own)
                .args(["__enter", "--user", "1234:1234", "--cwd", "/tmp", "--root"])
                .arg(fresh)
                .arg("--bind")
                .arg(format!("{}=/mnt", user.image.display()))
                .args(["--env", "PATH=/usr/bin:/bin", "--", "sh", "-c"])
                .arg(format!(
                    "mkdir d && cd d && /mnt/run --timeout 120 -- sh -c 'daedalus verify {} && exit 5'",
                    clip(FIRST)
                )),
        )?
        .log(&log)
        .timeout(Duration::from_secs(180))
        .status()
        .and_then(|exit| {
            ensure!(
                exit.status.code() == Some(5),
                "{:?}: {}",
                exit.status,
                last_lines(&read(&log)?, 10)
            );
            Ok(last_lines(&read(&log)?, 1))
        })
}

/// Directories of runs that have ended.
fn leftovers() -> Result<Vec<String>> {
    let mut left = Vec::new();
    for dir in ["/dev/shm", "/tmp"] {
        for entry in std::fs::read_dir(dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("daedalus-run.") || name.starts_with("daedalus-probe.") {
                left.push(format!("{dir}/{name}"));
            }
        }
    }
    Ok(left)
}
