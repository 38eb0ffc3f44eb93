// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Jobs in a guest: a UML kernel, the Debian 13 root read-only, the tree's module and programs, one script.
//! Guests of other kernels take the same jobs and leave the same results.

pub(crate) mod paths;
pub(crate) mod reports;
mod sysctl;

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bed::Bed;
use crate::build;
use crate::make::kernel::Kernel;
use crate::site::cmd::{Cmd, Exit, describe, last_lines};
use crate::site::files::{Lock, lock_file};
use crate::site::ui;

/// The guest's console, in the job's directory.
pub(crate) const LOG: &str = "kernel.log";

/// A script to run in a guest.
#[derive(Clone, Debug)]
pub(crate) struct GuestJob {
    name: String,
    script: String,
    kernel: Kernel,
    timeout: Duration,
    mem_mib: u32,
    cpus: u32,
    env: Vec<(String, String)>,
    stream: bool,
    bare: bool,
    vectors: Option<PathBuf>,
}

/// What came back from a guest.
#[derive(Clone, Debug)]
pub(crate) struct GuestResult {
    /// The job's exit status, if it came to its end.
    pub(crate) status: Option<i32>,
    /// All of the guest's console.
    pub(crate) kernel_log: String,
    /// The job's directory, `/mnt/out` in the guest.
    pub(crate) out_dir: PathBuf,
    /// Lines of the kernel log that report a fault.
    pub(crate) reports: Vec<String>,
    /// Wall clock of the whole guest in seconds.
    pub(crate) seconds: f64,
    exit: String,
    complete: bool,
    timed_out: bool,
}

impl GuestJob {
    /// A job whose results go to `target/guest/NAME`, and its script: bash, with `-eu -o pipefail` and
    /// testbed/uml/guest.sh sourced, started in /mnt/out. Plain kernel, 10 minutes, 2 GiB, 2 processors.
    pub(crate) fn new(name: &str, script: &str) -> Self {
        Self {
            name: name.into(),
            script: script.into(),
            kernel: Kernel::Plain,
            timeout: Duration::from_secs(600),
            mem_mib: 2048,
            cpus: 2,
            env: Vec::new(),
            stream: false,
            bare: false,
            vectors: None,
        }
    }

    /// Which kernel to boot.
    pub(crate) fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// Time after which the guest is killed.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// That time.
    pub(crate) fn limit(&self) -> Duration {
        self.timeout
    }

    /// The guest's memory in MiB.
    pub(crate) fn mem_mib(mut self, mem_mib: u32) -> Self {
        self.mem_mib = mem_mib;
        self
    }

    /// The guest's processors, up to 4.
    pub(crate) fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// What the guest sees as /mnt/vectors instead of the vectors beside the tree.
    pub(crate) fn vectors(mut self, dir: &Path) -> Self {
        self.vectors = Some(dir.to_owned());
        self
    }

    /// A variable of the job's environment.
    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// What bash is given to run.
    fn text(&self) -> String {
        let mut text = format!("export DAEDALUS_KERNEL={}\n", self.kernel);
        for (key, value) in &self.env {
            text.push_str(&format!("export {key}={}\n", paths::quoted(value)));
        }
        text + ". /mnt/repo/testbed/uml/guest.sh\n" + &self.script + "\n"
    }
}

impl GuestResult {
    /// What the job printed.
    pub(crate) fn output(&self) -> String {
        let log = std::fs::read(self.out_dir.join("job.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// An error in plain words unless the job succeeded, the guest came to its end and the kernel reported
    /// nothing.
    pub(crate) fn judge(&self) -> Result<()> {
        let tail = |text: &str| last_lines(text, 15);
        let out_dir = self.out_dir.display();
        if let Some(panic) = self.kernel_log.lines().find(|line| line.contains("Kernel panic")) {
            bail!(
                "the guest's kernel panicked: {panic}\n{}\n(all of it: {out_dir}/kernel.log)",
                tail(&self.kernel_log)
            );
        }
        if let Some(first) = self.reports.first() {
            let from = self.kernel_log.lines().skip_while(|line| line.trim() != first);
            let text: Vec<&str> = from.take(25).collect();
            bail!(
                "the guest's kernel reported {} fault(s), the first:\n{}\n(all of it: {out_dir}/kernel.log)",
                self.reports.len(),
                text.join("\n")
            );
        }
        if self.timed_out {
            bail!(
                "the guest was still running at its time limit and was killed; the job's last lines:\n{}\n\
                 the kernel's:\n{}",
                tail(&self.output()),
                tail(&self.kernel_log)
            );
        }
        if !self.complete {
            bail!(
                "the guest ended before its job did ({}); last lines:\n{}",
                self.exit,
                tail(&self.kernel_log)
            );
        }
        match self.status {
            Some(0) => Ok(()),
            Some(status) => bail!(
                "the job's exit status is {status}; its last lines:\n{}\n(all of it: {out_dir}/job.log)",
                tail(&self.output())
            ),
            None => bail!("the guest left no exit status of its job"),
        }
    }
}

/// Whether each of the guest's processors has one of the host's to itself. Where the host puts two on one,
/// the one that spins for a lock keeps the one that holds it from running.
fn pinned(cpus: u32) -> bool {
    let hosts = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cpus > 1 && usize::try_from(cpus).is_ok_and(|cpus| cpus <= hosts)
}

/// Runs a job to its end or its time limit. Makes the root, the kernel, the module and the programs first
/// where they are missing or stale. `Err` is for what kept the guest from starting; the rest is
/// [`GuestResult::judge`]'s.
pub(crate) fn run(bed: &Bed, job: &GuestJob) -> Result<GuestResult> {
    let prepared = build::prepare(bed, &[job.kernel]);
    let (root, kernel) = (bed.root()?, bed.kernel(job.kernel)?);
    let mut mounts = String::new();
    if job.bare && prepared.is_err() {
        // A tree that does not build can still boot its kernel.
        ui::note("the module or the programs do not build: the guest has none");
        mounts.push_str(&format!("{} /mnt/modules\n", kernel.modules.display()));
    } else {
        prepared?;
        mounts.push_str(&format!("{} /mnt/modules\n", bed.module(job.kernel)?.display()));
        mounts.push_str(&format!("{} /mnt/bin\n", bed.binaries()?.display()));
    }
    sysctl::raise_map_count(bed)?;

    let (out_dir, _lock) = place(bed, &bed.target.join("guest"), job)?;
    if let Some(vectors) = job.vectors.clone().or_else(|| bed.vectors()) {
        mounts.push_str(&format!("{} /mnt/vectors\n", vectors.display()));
    }
    std::fs::write(out_dir.join("mounts"), mounts)?;
    let log = out_dir.join(LOG);
    let start = Instant::now();
    let cmd = Cmd::new(&kernel.program)
        .args([
            "root=/dev/root",
            "rootfstype=hostfs",
            "ro",
            "con=null",
            "con0=null,fd:1",
            "console=tty0",
            "ssl=null",
        ])
        .args([
            "panic=-1",
            "oops=panic",
            "loglevel=7",
            "seccomp=on",
            "init=/usr/sbin/guest-start",
        ])
        .arg(format!("rootflags={}", root.display()))
        .arg(format!("mem={}M", job.mem_mib))
        .arg(format!("ncpus={}", job.cpus))
        .args(pinned(job.cpus).then_some("pin_cpus"))
        .arg(format!("uml_dir={}/uml", out_dir.display()))
        .arg(format!("DAEDALUS_REPO={}", bed.repo.display()))
        .arg(format!("DAEDALUS_OUT={}", out_dir.display()))
        .log(&log)
        .timeout(job.timeout);
    let exit = if job.stream {
        streamed(&cmd, &out_dir.join("job.log"))?
    } else {
        cmd.status()?
    };
    collect(bed, out_dir, &exit, start)
}

/// Makes the job's directory in `parent` anew, with the job's script in it; nobody else uses it while the
/// lock is held.
pub(crate) fn place(bed: &Bed, parent: &Path, job: &GuestJob) -> Result<(PathBuf, Lock)> {
    let lock = lock_file(&parent.join(format!(".{}.lock", job.name)), &job.name)?;
    let dir = parent.join(&job.name);
    bed.host.remove_tree(&dir)?;
    std::fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    std::fs::write(dir.join("job.sh"), job.text())?;
    // What the guest has to mount by itself.
    std::fs::write(dir.join("mounts"), "")?;
    Ok((dir, lock))
}

/// What a guest left in the job's directory, whose console is in [`LOG`] there.
pub(crate) fn collect(bed: &Bed, out_dir: PathBuf, exit: &Exit, start: Instant) -> Result<GuestResult> {
    let log = out_dir.join(LOG);
    let kernel_log = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let status = std::fs::read_to_string(out_dir.join("status")).ok();
    Ok(GuestResult {
        status: status.and_then(|text| text.trim().parse().ok()),
        complete: kernel_log.contains("daedalus-bed: end of job") && exit.status.success(),
        reports: reports::find(&kernel_log, &reports::false_reports(bed)?),
        kernel_log,
        out_dir,
        seconds: start.elapsed().as_secs_f64(),
        exit: describe(exit),
        timed_out: exit.timed_out,
    })
}

/// Runs `cmd` and copies what grows in `log` to standard output meanwhile.
fn streamed(cmd: &Cmd, log: &Path) -> Result<Exit> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| -> std::io::Result<()> {
            let mut position = 0;
            loop {
                let last = done.load(Ordering::Acquire);
                if let Ok(mut file) = std::fs::File::open(log) {
                    let mut text = Vec::new();
                    file.seek(SeekFrom::Start(position))?;
                    position += file.read_to_end(&mut text)? as u64;
                    std::io::stdout().write_all(&text)?;
                    std::io::stdout().flush()?;
                }
                if last {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let exit = cmd.status();
        done.store(true, Ordering::Release);
        match follower.join() {
            Ok(copied) => copied.context("cannot show what the job prints")?,
            Err(_) => bail!("showing what the job prints ended by a panic"),
        }
        exit
    })
}

/// Arguments of `./dev guest`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which kernel to boot
    #[arg(long, value_enum, default_value_t = Kernel::Plain)]
    kernel: Kernel,
    /// Neither load the module nor start the daemon
    #[arg(long)]
    bare: bool,
    /// Seconds until the guest is stopped
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 2048)]
    mem: u32,
    /// Processors of the guest
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// A variable of the command's environment: KEY=VALUE
    #[arg(long)]
    env: Vec<String>,
    /// The command; one word is a shell script
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// `./dev guest`.
pub(crate) fn run_command(bed: &Bed, args: &Args) -> Result<ExitCode> {
    let command = match args.command.as_slice() {
        [script] => script.clone(),
        words => words
            .iter()
            .map(|word| paths::quoted(word))
            .collect::<Vec<_>>()
            .join(" "),
    };
    let script = if args.bare {
        command
    } else {
        format!("daedalus_start\n{command}")
    };
    let mut job = GuestJob::new(&format!("command-{}", std::process::id()), &script)
        .kernel(args.kernel)
        .timeout(Duration::from_secs(args.timeout))
        .mem_mib(args.mem)
        .cpus(args.cpus);
    for pair in &args.env {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("--env {pair}: no '='"))?;
        job = job.env(key, value);
    }
    (job.stream, job.bare) = (true, args.bare);
    let result = run(bed, &job)?;
    result.judge()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(log: &str, status: Option<i32>) -> GuestResult {
        GuestResult {
            status,
            kernel_log: log.into(),
            out_dir: PathBuf::from("/nonexistent"),
            reports: reports::find(log, &[]),
            seconds: 1.0,
            exit: "exit status 0".into(),
            complete: log.contains("end of job"),
            timed_out: false,
        }
    }

    #[test]
    fn a_job_that_passed_fails_by_a_report_or_a_missing_end() {
        assert!(result("end of job", Some(0)).judge().is_ok());
        assert!(result("end of job", Some(1)).judge().is_err());
        assert!(result("end of job", None).judge().is_err());
        assert!(result("", Some(0)).judge().is_err());
        let error = result("WARNING: at x.c:1\nend of job", Some(0))
            .judge()
            .unwrap_err()
            .to_string();
        assert!(error.contains("WARNING: at x.c:1"), "{error}");
    }
}
