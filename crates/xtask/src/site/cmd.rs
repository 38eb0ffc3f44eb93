// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Running commands: output to a log file or to the caller, a process group each, limits, plain errors.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Pid;

use super::signals::Group;

/// A command to run.
#[derive(Clone, Debug)]
pub(crate) struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    log: Option<PathBuf>,
    timeout: Option<Duration>,
}

/// The end of a command that was allowed to fail.
#[derive(Debug)]
pub(crate) struct Exit {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// True when the time limit ended it.
    pub(crate) timed_out: bool,
}

impl Cmd {
    /// A command named by path or looked up in the PATH.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            log: None,
            timeout: None,
        }
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Sets its working directory.
    pub(crate) fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = Some(dir.as_ref().into());
        self
    }

    /// Sends both of its outputs to the end of `file`; without this they are this process's own.
    pub(crate) fn log(mut self, file: impl AsRef<Path>) -> Self {
        self.log = Some(file.as_ref().into());
        self
    }

    /// Kills it and its process group after `limit`.
    pub(crate) fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The same, started by another program: `program` comes first, this one's name becomes its first
    /// argument. Variables set with [`Cmd::env`] do not pass through sudo.
    pub(crate) fn prefixed(mut self, program: &str) -> Self {
        let own = std::mem::replace(&mut self.program, program.into());
        self.args.insert(0, own);
        self
    }

    /// Replaces this process, with its standard input; returns only on failure.
    pub(crate) fn exec(&self) -> anyhow::Error {
        let mut command = self.command();
        let error = command.stdin(Stdio::inherit()).exec();
        anyhow::Error::new(error).context(format!("cannot start {}", self.shown()))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command
    }

    fn shown(&self) -> String {
        let name = Path::new(&self.program).file_name().unwrap_or(&self.program);
        let mut words: Vec<_> = std::iter::once(name.to_string_lossy())
            .chain(self.args.iter().map(|arg| arg.to_string_lossy()))
            .collect();
        // What matters of a command in the root is the command, not the way in.
        if let Some(start) = words
            .iter()
            .position(|word| word == "--")
            .filter(|_| words[1..].contains(&"__enter".into()))
        {
            words.drain(..=start);
        }
        let mut text = words.join(" ");
        if text.chars().count() > 160 {
            text = text.chars().take(160).chain("…".chars()).collect();
        }
        text
    }

    fn spawn(&self, mut command: Command) -> Result<(Child, Group)> {
        command.process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.shown()))?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process without an id")?;
        Ok((child, Group::register(pid)))
    }

    /// Runs it to its end or the time limit, and does not judge its exit status.
    pub(crate) fn status(&self) -> Result<Exit> {
        let mut command = self.command();
        if let Some(log) = &self.log {
            if let Some(parent) = log.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let file = File::options().create(true).append(true).open(log);
            let file = file.with_context(|| format!("cannot write {}", log.display()))?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        let (mut child, group) = self.spawn(command)?;
        let mut timed_out = false;
        let status = match self.timeout {
            None => child.wait()?,
            Some(limit) => match wait_until(&mut child, Instant::now() + limit)? {
                Some(status) => status,
                None => {
                    timed_out = true;
                    group.kill();
                    child.wait()?
                }
            },
        };
        // What a command leaves behind in its group must not outlive it: guests and daemons write on
        // otherwise.
        group.kill();
        Ok(Exit { status, timed_out })
    }

    /// Runs it, and makes anything but success an error with the end of its log.
    pub(crate) fn run(&self) -> Result<()> {
        let from = self
            .log
            .as_ref()
            .and_then(|log| std::fs::metadata(log).ok())
            .map_or(0, |meta| meta.len());
        let exit = self.status()?;
        if exit.status.success() && !exit.timed_out {
            return Ok(());
        }
        let tail = self
            .log
            .as_ref()
            .map(|log| tail_from(log, from, 20))
            .unwrap_or_default();
        let log = self
            .log
            .as_ref()
            .map(|log| format!(" (all of it: {})", log.display()))
            .unwrap_or_default();
        if tail.is_empty() {
            bail!("{}: {}{log}", self.shown(), describe(&exit));
        }
        bail!(
            "{}: {}{log}; its last lines:\n{tail}",
            self.shown(),
            describe(&exit)
        )
    }

    /// Runs it and returns its standard output; anything but success is an error with its standard error.
    pub(crate) fn output(&self) -> Result<String> {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (child, _group) = self.spawn(command)?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let exit = Exit {
                status: output.status,
                timed_out: false,
            };
            bail!(
                "{}: {}: {}",
                self.shown(),
                describe(&exit),
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn wait_until(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How a command ended, in words.
pub(crate) fn describe(exit: &Exit) -> String {
    if exit.timed_out {
        return "stopped at its time limit".into();
    }
    match (exit.status.code(), exit.status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended in an unknown way".into(),
    }
}

fn tail_from(log: &Path, from: u64, lines: usize) -> String {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(from))?;
        file.read_to_end(&mut text)
    });
    match read {
        Ok(_) => last_lines(&String::from_utf8_lossy(&text), lines),
        Err(_) => String::new(),
    }
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_told_with_its_last_words() {
        let dir = std::env::temp_dir().join(format!("xtask-cmd-{}", std::process::id()));
        let log = dir.join("log");
        let error = Cmd::new("sh")
            .args(["-c", "echo out of tune; exit 3"])
            .log(&log)
            .run()
            .unwrap_err();
        std::fs::remove_dir_all(&dir).unwrap();
        let text = format!("{error:#}");
        assert!(
            text.contains("exit status 3") && text.ends_with("out of tune"),
            "{text}"
        );
    }

    #[test]
    fn the_time_limit_kills_the_whole_group() {
        let start = Instant::now();
        let cmd = Cmd::new("sh")
            .args(["-c", "sleep 60 & sleep 60"])
            .timeout(Duration::from_millis(100));
        let exit = cmd.status().unwrap();
        assert!(exit.timed_out && start.elapsed() < Duration::from_secs(10));
    }
}
