// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalusd sandbox-test`: tries from inside the sandbox what it is there to refuse.
//!
//! The first refused call may end the process, so each attempt is made by a process of its own, started
//! and confined as a worker is. Each is made three times: unconfined, which has to succeed, or the
//! refusal proves nothing; confined as in production; and without seccomp, to see that the other layers
//! hold by themselves. What decoders need has to succeed each time.
#![expect(unsafe_code, reason = "some attempts have no safe wrapper, for good reason")]

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use daedalus_uapi::fd::SessionFd;
use rustix::process::{Pid, Signal};
use serde_json::{Map, Value, json};

use super::{SandboxOptions, confine, privileges};
use crate::broker::{PROGRAM, worker_command};
use crate::cli::LogOptions;

/// Arguments of `sandbox-test`.
#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// The process id of another session's worker.
    #[arg(long, value_name = "PID")]
    worker: i32,
    /// The broker's process id.
    #[arg(long, value_name = "PID")]
    broker: i32,
    /// Ids of buffers of the other session.
    #[arg(long, value_delimiter = ',', required = true, value_name = "ID")]
    foreign: Vec<u64>,
    /// As of the broker.
    #[arg(long, value_name = "USER[:GROUP]")]
    worker_user: Option<String>,
    /// Make this one attempt, in this process.
    #[arg(long, value_enum, requires = "layers")]
    attempt: Option<Attempt>,
    #[arg(long, value_enum)]
    layers: Option<Layers>,
    #[command(flatten)]
    sandbox: SandboxOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layers {
    Unconfined,
    Production,
    WithoutSeccomp,
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attempt {
    OpenFile,
    CreateFile,
    Socket,
    TraceWorker,
    SignalBroker,
    WorkersFiles,
    WorkersMemory,
    ForeignBuffers,
    Fork,
    Execute,
    MapExecutable,
    Namespace,
    /// Decoders do: not refused.
    Thread,
}

impl Attempt {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it has to fail without seccomp, too.
    fn is_refused_twice(self) -> bool {
        !matches!(
            self,
            Self::Socket | Self::Fork | Self::MapExecutable | Self::Namespace
        )
    }

    /// Whether a worker may do it.
    fn is_allowed(self) -> bool {
        self == Self::Thread
    }

    /// Whether it succeeds unconfined. Buffers of others are the module's to refuse.
    fn is_possible(self) -> bool {
        self != Self::ForeignBuffers
    }

    /// Tries it.
    fn make(self, options: &TestOptions) -> io::Result<()> {
        match self {
            Self::OpenFile => std::fs::File::open("/etc/passwd").map(drop),
            Self::CreateFile => {
                let path = format!("/dev/shm/daedalus-{}", std::process::id());
                std::fs::write(&path, "")?;
                std::fs::remove_file(path)
            }
            Self::Socket => std::os::unix::net::UnixDatagram::unbound().map(drop),
            Self::TraceWorker => {
                // SAFETY: no memory is involved. The tracer's end, which is near, detaches.
                result(unsafe { libc::ptrace(libc::PTRACE_SEIZE, options.worker, 0, 0) })
            }
            Self::SignalBroker => {
                let broker = Pid::from_raw(options.broker).ok_or(io::ErrorKind::InvalidInput)?;
                Ok(rustix::process::kill_process(broker, Signal::CONT)?)
            }
            Self::WorkersFiles => std::fs::File::open(format!("/proc/{}/fd/0", options.worker))
                .or_else(|error| match error.raw_os_error() {
                    // An anonymous file cannot be opened again; that it was found is bad enough.
                    Some(libc::ENXIO) => std::fs::File::open("/dev/null"),
                    _ => Err(error),
                })
                .map(drop),
            Self::WorkersMemory => std::fs::File::open(format!("/proc/{}/mem", options.worker)).map(drop),
            Self::ForeignBuffers => {
                let session = SessionFd::new(io::stdin());
                for &id in &options.foreign {
                    match session.buffer_fd(id) {
                        Err(rustix::io::Errno::NOENT) => {}
                        other => return other.map(drop).map_err(Into::into),
                    }
                }
                Err(rustix::io::Errno::NOENT.into())
            }
            Self::Fork => {
                // SAFETY: the process has one thread, and the child only exits.
                match unsafe { libc::fork() } {
                    // SAFETY: ends the child at once.
                    0 => unsafe { libc::_exit(0) },
                    child => result(child.into()),
                }
            }
            Self::Execute => Err(Command::new("/proc/self/exe").arg("--version").exec()),
            Self::MapExecutable => {
                // SAFETY: new memory at an address that the kernel chooses.
                let address = unsafe {
                    libc::mmap(
                        std::ptr::null_mut(),
                        4096,
                        libc::PROT_READ | libc::PROT_EXEC,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    )
                };
                result(if address == libc::MAP_FAILED { -1 } else { 0 })
            }
            Self::Namespace => {
                // SAFETY: no memory is involved.
                result(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())
            }
            Self::Thread => std::thread::Builder::new()
                .name("attempt".into())
                .spawn(|| vec![1u8; 1 << 20].len())?
                .join()
                .map(drop)
                .map_err(|_| io::Error::other("the thread panicked")),
        }
    }
}

fn result(returned: i64) -> io::Result<()> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Makes all attempts and prints one line of JSON.
///
/// # Errors
/// If one was not refused, or the kernel lacks what refuses them.
pub(crate) fn run(options: &TestOptions) -> Result<()> {
    if let (Some(attempt), Some(layers)) = (options.attempt, options.layers) {
        return one(options, attempt, layers);
    }
    let mut wrong = Vec::new();
    let mut attempts = Map::new();
    let mut confined = Value::Null;
    for &attempt in Attempt::value_variants() {
        let mut row = Map::new();
        for &layers in Layers::value_variants() {
            let (said, status) = start(options, attempt, layers)?;
            let outcome = Outcome::of(&said, status);
            let wanted = match layers {
                _ if attempt.is_allowed() => outcome == Outcome::Done,
                Layers::Unconfined if attempt.is_possible() => outcome == Outcome::Done,
                Layers::Unconfined => true,
                Layers::Production => outcome.is_refusal(),
                Layers::WithoutSeccomp => outcome.is_refusal() || !attempt.is_refused_twice(),
            };
            let name = layers
                .to_possible_value()
                .map_or_else(String::new, |value| value.get_name().to_owned());
            if !wanted {
                wrong.push(format!(
                    "{} {name}: {outcome:?} ({})",
                    attempt.name(),
                    said.trim()
                ));
            }
            if layers == Layers::Production {
                confined = said
                    .lines()
                    .find_map(|line| line.strip_prefix("confined: "))
                    .into();
            }
            row.insert(name, format!("{outcome:?}").into());
        }
        attempts.insert(attempt.name(), row.into());
    }
    if confined.as_str().is_none_or(|text| text.contains("landlock=0")) {
        wrong.push(format!("this kernel does not enforce Landlock: {confined}"));
    }
    let status = worker_status(options.worker, &mut wrong)?;
    println!(
        "{}",
        json!({ "passed": wrong.is_empty(), "confined": confined, "worker": status, "attempts": attempts,
                "wrong": wrong })
    );
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

/// What /proc says of a worker that the broker started.
fn worker_status(pid: i32, wrong: &mut Vec<String>) -> Result<Value> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the worker's status")?;
    let mut status = Map::new();
    for (name, good) in [
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("Uid", ""),
        ("Groups", ""),
    ] {
        let value = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map_or("missing", |(_, value)| value.trim());
        let is_good = match name {
            "Uid" => value.split_whitespace().all(|id| id != "0") && value != "missing",
            _ => value == good,
        };
        if !is_good {
            wrong.push(format!("the worker's {name} is {value:?}"));
        }
        status.insert(name.to_owned(), value.into());
    }
    Ok(status.into())
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// The call failed.
    Refused(i32),
    /// The filter ended the process.
    Killed,
    Unclear,
}

impl Outcome {
    fn of(said: &str, status: ExitStatus) -> Self {
        let refused = said.lines().find_map(|line| line.strip_prefix("refused: "));
        match (refused.and_then(|code| code.parse().ok()), status.signal()) {
            (_, Some(libc::SIGSYS)) => Self::Killed,
            (Some(code), None) => Self::Refused(code),
            (None, None) if status.success() => Self::Done,
            _ => Self::Unclear,
        }
    }

    fn is_refusal(&self) -> bool {
        match self {
            Self::Killed => true,
            Self::Refused(code) => [libc::EPERM, libc::EACCES, libc::ENOENT].contains(code),
            Self::Done | Self::Unclear => false,
        }
    }
}

/// Starts a process for one attempt, as the broker starts a worker. Returns what it said and its end.
fn start(options: &TestOptions, attempt: Attempt, layers: Layers) -> Result<(String, ExitStatus)> {
    let user = match layers {
        Layers::Unconfined => None,
        _ => privileges::worker_user(options.worker_user.as_deref())?,
    };
    let foreign: Vec<String> = options.foreign.iter().map(u64::to_string).collect();
    let layers = layers
        .to_possible_value()
        .context("layers without a name")?
        .get_name()
        .to_owned();
    let mut words = vec![
        "sandbox-test".to_owned(),
        format!("--worker={}", options.worker),
        format!("--broker={}", options.broker),
        format!("--foreign={}", foreign.join(",")),
        format!("--attempt={}", attempt.name()),
        format!("--layers={layers}"),
    ];
    words.extend(options.sandbox.words());
    let output = worker_command(PROGRAM.as_ref(), user)
        .args(words)
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("starting an attempt")?;
    Ok((
        String::from_utf8_lossy(&output.stderr).into_owned(),
        output.status,
    ))
}

/// Makes one attempt in this process and says how it ended on standard error, the only file that it has.
fn one(options: &TestOptions, attempt: Attempt, layers: Layers) -> Result<()> {
    if layers != Layers::Unconfined {
        let report = confine(&options.sandbox, 1, None, layers == Layers::Production)?;
        eprintln!(
            "confined: seccomp={} landlock={}",
            report.seccomp, report.landlock
        );
    }
    if let Err(error) = attempt.make(options) {
        let code = error.raw_os_error().context(error)?;
        eprintln!("refused: {code}");
    }
    Ok(())
}
