// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker's side of the fork server: asks it for workers and takes its answers.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child as Process, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::child::{Child, worker_command};
use super::relay::Relay;
use crate::cli::BrokerOptions;
use crate::fork_server::{Answer, Request};
use crate::sandbox::privileges::User;

/// A worker that was asked for.
#[derive(Debug)]
struct Wanted {
    session: u64,
    log: Relay,
}

/// A fork server that runs.
#[derive(Debug)]
struct Server {
    process: Process,
    socket: OwnedFd,
    wanted: VecDeque<Wanted>,
    /// One of its workers crashed: see [`crate::fork_server`].
    known: bool,
}

/// What an answer came to.
pub(crate) enum Outcome {
    Started(Child),
    /// The session gets no worker this time; the module asks again.
    Failed(u64),
}

/// Gets workers from a fork server, and the server where there is none.
#[derive(Debug)]
pub(crate) struct Forker<'o> {
    options: &'o BrokerOptions,
    user: Option<User>,
    server: Option<Server>,
}

impl<'o> Forker<'o> {
    /// Starts the first server.
    pub(crate) fn start(options: &'o BrokerOptions, user: Option<User>) -> io::Result<Self> {
        // Workers become this process's children when what forked them has ended.
        rustix::process::set_child_subreaper(Some(Pid::INIT))?;
        let mut forker = Self {
            options,
            user,
            server: None,
        };
        forker.server()?;
        Ok(forker)
    }

    /// Readable when there is an answer.
    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        self.server.as_ref().map(|server| &server.socket)
    }

    /// A worker crashed: later ones are not to have its addresses.
    pub(crate) fn renew(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        server.known = true;
        if server.wanted.is_empty() {
            self.server = None;
            // Now, so that it is ready when a worker is wanted.
            if let Err(error) = self.server() {
                tracing::error!(%error, "no fork server can be started");
            }
        }
    }

    /// Asks for a worker of `session`, whose fd is closed here, as is the file to which it is to record.
    ///
    /// The worker has no other file but the log pipe. The pipe does not block, so a broker that does not read costs
    /// the worker log lines, not time; and if the broker is gone, it costs nothing at all.
    pub(crate) fn want(&mut self, session: u64, fd: OwnedFd, trace: Option<File>) -> io::Result<()> {
        let (read, log) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let request = Request {
            session,
            fd,
            log,
            trace: trace.map(OwnedFd::from),
        };
        let server = self.server()?;
        // A server that has died meanwhile is noticed by its answers; the module asks again.
        request.send(&server.socket)?;
        server.wanted.push_back(Wanted {
            session,
            log: Relay::new(session, read),
        });
        Ok(())
    }

    /// Takes the answer that is there. `None`: the server is gone, and with it the next of its workers; call again.
    pub(crate) fn answer(&mut self) -> Option<Outcome> {
        let server = self.server.as_mut()?;
        let answer = Answer::receive(&server.socket).unwrap_or_else(|error| {
            tracing::error!("the fork server: {error:#}");
            None
        });
        let Some(answer) = answer else {
            let wanted = server.wanted.pop_front();
            if wanted.is_none() {
                self.server = None;
            }
            return wanted.map(|wanted| Outcome::Failed(wanted.session));
        };
        let wanted = server.wanted.pop_front()?;
        let outcome = match answer {
            Answer::Started { pid, pidfd } => {
                Outcome::Started(Child::new(wanted.session, pid, pidfd, wanted.log))
            }
            Answer::Failed(error) => {
                tracing::error!(session = wanted.session, %error, "no worker can be forked");
                Outcome::Failed(wanted.session)
            }
        };
        if server.known {
            self.renew();
        }
        Some(outcome)
    }

    fn server(&mut self) -> io::Result<&mut Server> {
        match &mut self.server {
            Some(server) => Ok(server),
            none => Ok(none.insert(Server::start(self.options, self.user)?)),
        }
    }
}

impl Server {
    fn start(options: &BrokerOptions, user: Option<User>) -> io::Result<Self> {
        let (socket, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = worker_command(user)
            .args(options.worker_arguments())
            .process_group(0)
            .stdin(Stdio::from(other))
            .stdout(Stdio::null())
            .spawn()?;
        tracing::debug!(pid = process.id(), "fork server started");
        Ok(Self {
            process,
            socket,
            wanted: VecDeque::new(),
            known: false,
        })
    }
}

impl Drop for Server {
    /// Kills it: it holds nothing, and its workers are not its children. It cannot be waited for long.
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            tracing::warn!(%error, "ending the fork server");
        }
    }
}
