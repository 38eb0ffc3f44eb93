// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus trace record`: has the installed service record the sessions that are opened from now on, until
//! it is told to stop. The service gets a setting in /run, and another broker takes over; what plays
//! meanwhile plays on.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::output::print_line;

const UNIT: &str = "daedalus-v4l2.service";
/// The user as whom the service runs, and to whom the directory belongs while it records.
const USER: &str = "daedalus";
/// Forgotten at the next boot, whatever becomes of this process.
const SETTING: &str = "/run/systemd/system/daedalus-v4l2.service.d/record.conf";
/// The directory's name in /run, as the service sees it: its sandbox hides /home and /tmp.
const PLACE: &str = "daedalus-v4l2-traces";
/// Time that another broker may need to be ready: before it, udev and the other decoders are asked.
const TAKEOVER: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(crate) struct Record {
    /// The directory for the traces, which is made and must not exist yet
    directory: PathBuf,
    /// End after this time instead of at Ctrl-C
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// JSON instead of text: the directory, and each trace with its size in bytes
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Record) -> Result<bool> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "only root may change the service: sudo daedalus trace record {}",
        args.directory.display()
    );
    let directory = std::path::absolute(&args.directory)?;
    let setting = setting(&directory)?;
    ensure!(
        !Path::new(SETTING).exists(),
        "another recording is under way, or was killed; this ends it: {}",
        mending()
    );
    ensure!(
        Path::new("/run/systemd/system").exists() && property("ActiveState")? == "active",
        "the service does not run: sudo systemctl start daedalus-v4l2 \
         (without systemd: daedalusd broker --record DIR)"
    );
    // Before anything changes, so that no signal comes between.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    make(&directory)?;
    let recorded = start(&setting).map(|()| {
        eprintln!(
            "recording the sessions that are opened from now on, to {}; {} ends it",
            directory.display(),
            args.seconds.map_or_else(
                || "Ctrl-C".to_owned(),
                |seconds| format!("Ctrl-C, or {seconds} s,")
            )
        );
        wait(&directory, args.seconds.map(Duration::from_secs), &mut signals);
    });
    // Whatever failed: the service must not go on recording.
    let stopped = stop();
    let traces = traces(&directory);
    let cleanup = if traces.is_empty() {
        // So that it can be named again.
        fs::remove_dir(&directory).context("the directory without a trace")
    } else {
        give_back(&directory)
    };
    recorded?;
    stopped?;
    cleanup?;
    print(&directory, &traces, args.json)?;
    ensure!(!traces.is_empty(), "no session was opened meanwhile");
    Ok(true)
}

/// Returns the settings of the service. Errors: a path that would be something else in systemd's settings.
fn setting(directory: &Path) -> Result<String> {
    let path = directory
        .to_str()
        .with_context(|| format!("{}: a name that is not UTF-8", directory.display()))?;
    let plain = |c: char| c.is_alphanumeric() || "/._-+@,=~".contains(c);
    if let Some(c) = path.chars().find(|c| !plain(*c)) {
        bail!("{path}: {c:?} means something else in systemd's settings: name a directory without it");
    }
    Ok(format!(
        "# Of `daedalus trace record`, which removes it.\n[Service]\n\
         Environment=DAEDALUS_RECORD=/run/{PLACE}\n\
         RuntimeDirectory={PLACE}\nBindPaths={path}:/run/{PLACE}\n"
    ))
}

/// Returns the commands that end a recording whose command was killed.
fn mending() -> String {
    format!("sudo rm {SETTING} && sudo systemctl daemon-reload && sudo systemctl reload daedalus-v4l2")
}

fn make(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    run_quietly(Command::new("chown").args(["--", USER]).arg(directory)).inspect_err(|_| {
        fs::remove_dir(directory).ok();
    })
}

/// Gives directory and traces to who called sudo, or to root. The service's user may have put links there:
/// they are not followed.
fn give_back(directory: &Path) -> Result<()> {
    let id = |name: &str| {
        let text = std::env::var(name).ok();
        text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0)
    };
    let owner = format!("{}:{}", id("SUDO_UID"), id("SUDO_GID"));
    run_quietly(Command::new("chown").args(["-hR", "--", &owner]).arg(directory))
}

fn start(setting: &str) -> Result<()> {
    let directory = Path::new(SETTING)
        .parent()
        .context("a setting without a directory")?;
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    fs::write(SETTING, setting).context(SETTING)?;
    take_over()
}

fn stop() -> Result<()> {
    fs::remove_file(SETTING)
        .context(SETTING)
        .and_then(|()| {
            // Another setting of the administrator's may be beside it.
            Path::new(SETTING).parent().map(fs::remove_dir);
            take_over()?;
            // systemd knows it no more. It is empty: what was in it for the service is `directory`.
            fs::remove_dir(Path::new("/run").join(PLACE)).ok();
            Ok(())
        })
        .with_context(|| format!("the service may still record; this ends it: {}", mending()))
}

/// Another broker, with the settings as they are now. Sessions keep their workers.
fn take_over() -> Result<()> {
    run_quietly(Command::new("systemctl").arg("daemon-reload"))?;
    let before = property("MainPID")?;
    run_quietly(Command::new("systemctl").args(["reload", UNIT]))?;
    let started_at = Instant::now();
    loop {
        let now = property("MainPID")?;
        if now != before && now != "0" && property("ActiveState")? == "active" {
            return Ok(());
        }
        ensure!(
            started_at.elapsed() < TAKEOVER,
            "the service was not ready within {} s: systemctl status daedalus-v4l2",
            TAKEOVER.as_secs()
        );
        sleep(POLL);
    }
}

/// Returns a property of the service, as systemd shows it.
fn property(name: &str) -> Result<String> {
    let output = Command::new("systemctl")
        .args(["show", "--value", "-p", name, UNIT])
        .output()
        .context("cannot run systemctl")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command that has nothing to say if all is well.
fn run_quietly(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", message.trim());
    Ok(())
}

/// Until a signal comes or the time is over; says which traces begin.
fn wait(directory: &Path, limit: Option<Duration>, signals: &mut Signals) {
    let started_at = Instant::now();
    let mut before = BTreeMap::new();
    while signals.pending().next().is_none() && limit.is_none_or(|limit| started_at.elapsed() < limit) {
        let now = traces(directory);
        for name in now.keys().filter(|name| !before.contains_key(*name)) {
            eprintln!("recording {name}");
        }
        before = now;
        sleep(POLL);
    }
}

/// Returns the traces that are there, with their sizes in bytes.
fn traces(directory: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let size = entry.metadata().ok().filter(fs::Metadata::is_file)?.len();
            Some((entry.file_name().into_string().ok()?, size))
        })
        .collect()
}

fn print(directory: &Path, traces: &BTreeMap<String, u64>, json: bool) -> std::io::Result<()> {
    if json {
        let traces: Vec<_> = traces
            .iter()
            .map(|(file, bytes)| serde_json::json!({ "file": file, "bytes": bytes }))
            .collect();
        return print_line(serde_json::json!({ "directory": directory, "traces": traces }));
    }
    for (name, bytes) in traces {
        print_line(format_args!("{}  {bytes} bytes", directory.join(name).display()))?;
    }
    if !traces.is_empty() {
        eprintln!("They hold the video that was decoded. A session that still plays is recorded to its end.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_names_the_directory_and_refuses_what_systemd_would_read_otherwise() {
        let text = setting(Path::new("/home/ä/traces-1")).unwrap();
        assert!(
            text.contains("\nBindPaths=/home/ä/traces-1:/run/daedalus-v4l2-traces\n"),
            "{text}"
        );
        assert!(
            text.contains("\nEnvironment=DAEDALUS_RECORD=/run/daedalus-v4l2-traces\n"),
            "{text}"
        );
        for path in ["/a b", "/a:b", "/a%b", "/a\"b", "/a\\b", "/a\nb", "/$a"] {
            let error = setting(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains("without it"), "{error}");
        }
    }

    #[test]
    fn only_files_are_traces_and_a_directory_that_is_there_is_refused() {
        let directory = std::env::temp_dir().join(format!("daedalus-record-{}", std::process::id()));
        fs::create_dir_all(directory.join("sub")).unwrap();
        fs::write(directory.join("a.trace"), "12345").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.join("b.trace")).unwrap();
        assert_eq!(traces(&directory), BTreeMap::from([("a.trace".to_owned(), 5)]));
        assert!(make(&directory).unwrap_err().to_string().contains("cannot make"));
        fs::remove_dir_all(&directory).unwrap();
        assert!(traces(&directory).is_empty());
    }
}
