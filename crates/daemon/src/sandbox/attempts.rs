// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalusd sandbox-test`: attempts from inside the sandbox what the sandbox must refuse.
//!
//! A refused call may end the process. Therefore each attempt has a process of its own, which is started and
//! confined like a worker. Each attempt is made three times:
//! - unconfined, where it has to succeed, for otherwise a refusal proves nothing;
//! - confined as in production;
//! - without seccomp, to prove that the other layers refuse it by themselves.
//!
//! An attempt of something that decoders need has to succeed each time.
#![expect(unsafe_code, reason = "some attempts have no safe wrapper, for good reason")]

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use daedalus_uapi::fd::SessionFd;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{SandboxOptions, confine, privileges};
use crate::spawn;

/// The options of `sandbox-test`.
#[derive(Clone, Debug)]
pub(crate) struct TestOptions {
    pub(crate) targets: Targets,
    /// USER[:GROUP] of the processes that make the attempts, as of the broker's workers.
    pub(crate) worker_user: Option<String>,
    pub(crate) sandbox: SandboxOptions,
}

/// The targets of the attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Targets {
    /// The process id of another session's worker.
    pub(crate) worker: i32,
    /// The broker's process id.
    pub(crate) broker: i32,
    /// The ids of the other session's buffers.
    pub(crate) foreign: Vec<u64>,
}

/// One attempt, which a process of its own makes. It is passed as JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    attempt: Attempt,
    layers: Layers,
    targets: Targets,
    sandbox: SandboxOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Layers {
    Unconfined,
    Production,
    WithoutSeccomp,
}

impl Layers {
    const ALL: [Self; 3] = [Self::Unconfined, Self::Production, Self::WithoutSeccomp];
}

/// An act that the sandbox refuses to a worker, but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// Returns the name by which serde knows a value of an enum.
fn name(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

impl Attempt {
    const ALL: [Self; 13] = [
        Self::OpenFile,
        Self::CreateFile,
        Self::Socket,
        Self::TraceWorker,
        Self::SignalBroker,
        Self::WorkersFiles,
        Self::WorkersMemory,
        Self::ForeignBuffers,
        Self::Fork,
        Self::Execute,
        Self::MapExecutable,
        Self::Namespace,
        Self::Thread,
    ];

    /// Returns whether it has to fail without seccomp, too.
    fn is_refused_twice(self) -> bool {
        !matches!(
            self,
            Self::Socket | Self::Fork | Self::MapExecutable | Self::Namespace
        )
    }

    /// Returns whether a worker may do it.
    fn is_allowed(self) -> bool {
        self == Self::Thread
    }

    /// Returns whether it succeeds unconfined. The module always refuses buffers of other sessions.
    fn is_possible(self) -> bool {
        self != Self::ForeignBuffers
    }

    /// Makes the attempt in this process.
    fn make(self, targets: &Targets) -> io::Result<()> {
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
                result(unsafe { libc::ptrace(libc::PTRACE_SEIZE, targets.worker, 0, 0) })
            }
            Self::SignalBroker => {
                let broker = Pid::from_raw(targets.broker).ok_or(io::ErrorKind::InvalidInput)?;
                Ok(rustix::process::kill_process(broker, Signal::CONT)?)
            }
            Self::WorkersFiles => std::fs::File::open(format!("/proc/{}/fd/0", targets.worker))
                .or_else(|error| match error.raw_os_error() {
                    // An anonymous file cannot be opened again; that it was found is bad enough.
                    Some(libc::ENXIO) => std::fs::File::open("/dev/null"),
                    _ => Err(error),
                })
                .map(drop),
            Self::WorkersMemory => std::fs::File::open(format!("/proc/{}/mem", targets.worker)).map(drop),
            Self::ForeignBuffers => {
                let session = SessionFd::new(io::stdin());
                for &id in &targets.foreign {
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
    let mut wrong = Vec::new();
    let mut attempts = Map::new();
    let mut confined = Value::Null;
    for attempt in Attempt::ALL {
        let mut row = Map::new();
        for layers in Layers::ALL {
            let (log, status) = start(options, attempt, layers)?;
            let outcome = Outcome::of(&log, status);
            let expected = match layers {
                _ if attempt.is_allowed() => outcome == Outcome::Done,
                Layers::Unconfined if attempt.is_possible() => outcome == Outcome::Done,
                Layers::Unconfined => true,
                Layers::Production => outcome.is_refusal(),
                Layers::WithoutSeccomp => outcome.is_refusal() || !attempt.is_refused_twice(),
            };
            let column = name(layers);
            if !expected {
                wrong.push(format!(
                    "{} {column}: {outcome:?} ({})",
                    name(attempt),
                    log.trim()
                ));
            }
            if layers == Layers::Production {
                confined = log
                    .lines()
                    .find_map(|line| line.strip_prefix("confined: "))
                    .into();
            }
            row.insert(column, format!("{outcome:?}").into());
        }
        attempts.insert(name(attempt), row.into());
    }
    if confined.as_str().is_none_or(|text| text.contains("landlock=0")) {
        wrong.push(format!("this kernel does not enforce Landlock: {confined}"));
    }
    let status = worker_status(options.targets.worker, &mut wrong)?;
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

/// Returns the fields of a worker's /proc/PID/status that tell how it is confined. Adds to `wrong` those with
/// another value than they have to have.
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

/// The end of an attempt.
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
    fn of(log: &str, status: ExitStatus) -> Self {
        let refused = log.lines().find_map(|line| line.strip_prefix("refused: "));
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

/// Starts a process for one attempt, as the broker starts a fork server. Returns its standard error and its
/// end.
fn start(options: &TestOptions, attempt: Attempt, layers: Layers) -> Result<(String, ExitStatus)> {
    let user = match layers {
        Layers::Unconfined => None,
        _ => privileges::worker_user(options.worker_user.as_deref())?,
    };
    let order = Order {
        attempt,
        layers,
        targets: options.targets.clone(),
        sandbox: options.sandbox.clone(),
    };
    let output = spawn::command(spawn::PROGRAM.as_ref(), user)
        .arg("sandbox-attempt")
        .arg(serde_json::to_string(&order)?)
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

/// Makes the attempt that `order` describes in this process. Prints how it ended to standard error, the only
/// file that the process has.
///
/// # Errors
/// If the order cannot be read, or the process cannot be confined.
pub(crate) fn run_one(order: &str) -> Result<()> {
    let Order {
        attempt,
        layers,
        targets,
        sandbox,
    } = serde_json::from_str(order).context("no attempt of sandbox-test")?;
    if layers != Layers::Unconfined {
        let report = confine(&sandbox, 1, None, layers == Layers::Production)?;
        eprintln!(
            "confined: seccomp={} landlock={}",
            report.seccomp, report.landlock
        );
    }
    if let Err(error) = attempt.make(&targets) {
        let code = error.raw_os_error().context(error)?;
        eprintln!("refused: {code}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_is_made() {
        for (index, attempt) in Attempt::ALL.into_iter().enumerate() {
            assert_eq!(attempt as usize, index, "{attempt:?}");
        }
        // The last one.
        assert_eq!(Attempt::Thread as usize + 1, Attempt::ALL.len());
        assert_eq!(name(Attempt::OpenFile), "open-file");
        assert_eq!(name(Layers::WithoutSeccomp), "without-seccomp");
    }
}
