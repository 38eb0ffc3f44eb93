// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The messages on the socket between broker and fork server.
//!
//! The broker sends the [`WorkerConfig`] first, then any number of [`Request`]s. The server sends
//! [`Answer::Ready`], then one other [`Answer`] for each request, in the order of the requests. The socket
//! keeps messages apart (`SOCK_SEQPACKET`). Both ends are the same program, so there are no versions.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::Pid;

use crate::worker::options::WorkerConfig;

/// The most descriptors in a message.
const MAX_FDS: usize = 3;
/// The most bytes of a configuration: less than any socket takes at once.
const MAX_CONFIG: usize = 1 << 16;

/// Returns the broker's and the server's end of a new socket.
///
/// # Errors
/// `EMFILE` or `ENFILE` without descriptors, `ENOMEM` without memory.
pub(crate) fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Sends the configuration of the workers, which the server has to receive first.
///
/// # Errors
/// `EMSGSIZE` if it is longer than 64 KiB.
pub(crate) fn send_config(socket: impl AsFd, config: &WorkerConfig) -> rustix::io::Result<()> {
    let bytes = serde_json::to_vec(config).map_err(|_| Errno::INVAL)?;
    if bytes.len() > MAX_CONFIG {
        return Err(Errno::MSGSIZE);
    }
    send(
        socket.as_fd(),
        &bytes,
        &[],
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )
}

/// Waits for the configuration; `None` when the broker is gone.
pub(super) fn receive_config(socket: impl AsFd) -> Result<Option<WorkerConfig>> {
    let mut bytes = vec![0; MAX_CONFIG];
    let received = receive(socket.as_fd(), &mut bytes, RecvFlags::empty())
        .context("standard input is no socket of a broker")?;
    let Some((length, _)) = received else {
        return Ok(None);
    };
    let config: WorkerConfig = serde_json::from_slice(bytes.get(..length).unwrap_or_default())
        .context("the broker's first message is no configuration")?;
    Ok(Some(config))
}

/// Asks for a worker of a session.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) session: u64,
    /// The session fd: the worker's standard input.
    pub(crate) fd: OwnedFd,
    /// The log pipe: its standard error.
    pub(crate) log: OwnedFd,
    /// The file to which it records: its standard output.
    pub(crate) trace: Option<OwnedFd>,
}

impl Request {
    /// Sends it, with copies of the descriptors.
    ///
    /// # Errors
    /// `EAGAIN` if the socket does not take it at once.
    pub(crate) fn send(&self, socket: impl AsFd) -> rustix::io::Result<()> {
        let mut fds = vec![self.fd.as_fd(), self.log.as_fd()];
        fds.extend(self.trace.as_ref().map(AsFd::as_fd));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        send(socket.as_fd(), &self.session.to_ne_bytes(), &fds, flags)
    }

    /// Waits for the next one; `None` when the broker is gone.
    pub(super) fn receive(socket: impl AsFd) -> Result<Option<Self>> {
        let Some((session, fds)) = receive_word(socket.as_fd(), RecvFlags::empty())? else {
            return Ok(None);
        };
        let mut fds = fds.into_iter();
        let (Some(fd), Some(log)) = (fds.next(), fds.next()) else {
            bail!("a request without its descriptors");
        };
        Ok(Some(Self {
            session: u64::from_ne_bytes(session),
            fd,
            log,
            trace: fds.next(),
        }))
    }
}

/// A message of the server: that it is ready, once, and then the answer to each request.
#[derive(Debug)]
pub(crate) enum Answer {
    Ready,
    /// Without the pidfd if the receiver had no descriptor left for it.
    Started {
        pid: Pid,
        pidfd: Option<OwnedFd>,
    },
    Failed(Errno),
}

impl Answer {
    pub(super) fn send(&self, socket: impl AsFd) -> rustix::io::Result<()> {
        let (pid, errno, fds) = match self {
            Self::Ready => (0, 0, Vec::new()),
            Self::Started { pid, pidfd } => {
                let fds = pidfd.iter().map(AsFd::as_fd).collect();
                (pid.as_raw_pid(), 0, fds)
            }
            Self::Failed(errno) => (0, errno.raw_os_error(), Vec::new()),
        };
        let [pid, errno] = [pid.to_ne_bytes(), errno.to_ne_bytes()];
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&pid);
        bytes[4..].copy_from_slice(&errno);
        send(socket.as_fd(), &bytes, &fds, SendFlags::NOSIGNAL)
    }

    /// Takes the next one; `None` when the server is gone.
    ///
    /// # Errors
    /// `EAGAIN` if there is none.
    pub(crate) fn receive(socket: impl AsFd) -> rustix::io::Result<Option<Self>> {
        let Some((bytes, fds)) = receive_word(socket.as_fd(), RecvFlags::DONTWAIT)? else {
            return Ok(None);
        };
        let [a, b, c, d, errno @ ..] = bytes;
        let pid = Pid::from_raw(i32::from_ne_bytes([a, b, c, d]));
        Ok(Some(match (pid, i32::from_ne_bytes(errno)) {
            (Some(pid), _) => Self::Started {
                pid,
                pidfd: fds.into_iter().next(),
            },
            (None, 0) => Self::Ready,
            (None, errno) => Self::Failed(Errno::from_raw_os_error(errno)),
        }))
    }
}

fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    retry_on_intr(|| sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags))?;
    Ok(())
}

/// Receives a message of 8 bytes and its descriptors; `None` when the other side is gone.
fn receive_word(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> rustix::io::Result<Option<([u8; 8], Vec<OwnedFd>)>> {
    let mut bytes = [0; 8];
    match receive(socket, &mut bytes, flags)? {
        None => Ok(None),
        Some((8, fds)) => Ok(Some((bytes, fds))),
        Some(_) => Err(Errno::BADMSG),
    }
}

/// Receives a message into `bytes`. Returns its length and its descriptors; `None` when the other side is
/// gone.
fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> rustix::io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | flags,
        )
    });
    let length = match received {
        Ok(message) => message.bytes,
        Err(Errno::CONNRESET) => 0,
        Err(error) => return Err(error),
    };
    if length == 0 {
        return Ok(None);
    }
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    Ok(Some((length, fds)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::io::write;
    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn the_configuration_arrives_whole() {
        let (broker, server) = pair().unwrap();
        let config = WorkerConfig::unusual();
        send_config(&broker, &config).unwrap();
        assert_eq!(receive_config(&server).unwrap(), Some(config.clone()));

        // As long as a message may be, and longer.
        let mut long = config;
        let fault = long.decode.faults[0];
        let count = MAX_CONFIG / serde_json::to_vec(&fault).unwrap().len();
        long.decode.faults = vec![fault; count * 4 / 5];
        send_config(&broker, &long).unwrap();
        assert_eq!(receive_config(&server).unwrap(), Some(long.clone()));
        long.decode.faults = vec![fault; count];
        assert_eq!(send_config(&broker, &long), Err(Errno::MSGSIZE));
        drop(broker);
        assert_eq!(receive_config(&server).unwrap(), None, "the broker is gone");
    }

    #[test]
    fn a_message_that_is_no_configuration_is_refused() {
        for text in ["", "null", "{}", r#"{"decode":{},"sandbox":{},"log_level":null}"#] {
            let (broker, server) = pair().unwrap();
            write(&broker, text.as_bytes()).unwrap();
            drop(broker);
            assert_eq!(receive_config(&server).is_ok(), text.is_empty(), "{text}");
        }
    }

    #[test]
    fn requests_arrive_with_their_descriptors() {
        let (broker, server) = pair().unwrap();
        for trace in [None, Some(null())] {
            let records = trace.is_some();
            let request = Request {
                session: 0x0123_4567_89ab,
                fd: null(),
                log: null(),
                trace,
            };
            request.send(&broker).unwrap();
            let got = Request::receive(&server).unwrap().unwrap();
            assert_eq!((got.session, got.trace.is_some()), (0x0123_4567_89ab, records));
        }
        drop(broker);
        assert!(Request::receive(&server).unwrap().is_none(), "the broker is gone");
    }

    #[test]
    fn answers_are_a_worker_or_an_error() {
        let (broker, server) = pair().unwrap();
        let pid = rustix::process::getpid();
        let pidfd = Some(pidfd_open(pid, PidfdFlags::empty()).unwrap());
        Answer::Ready.send(&server).unwrap();
        Answer::Started { pid, pidfd }.send(&server).unwrap();
        Answer::Failed(Errno::AGAIN).send(&server).unwrap();
        assert!(matches!(
            Answer::receive(&broker).unwrap().unwrap(),
            Answer::Ready
        ));
        let first = Answer::receive(&broker).unwrap().unwrap();
        assert!(matches!(first, Answer::Started { pid: got, pidfd: Some(_) } if got == pid));
        let second = Answer::receive(&broker).unwrap().unwrap();
        assert!(matches!(second, Answer::Failed(Errno::AGAIN)));
        assert!(
            matches!(Answer::receive(&broker), Err(Errno::AGAIN)),
            "none is left"
        );
        drop(server);
        assert!(Answer::receive(&broker).unwrap().is_none(), "the server is gone");
    }

    #[test]
    fn a_message_of_another_form_is_refused() {
        let (broker, server) = pair().unwrap();
        write(&broker, b"short").unwrap();
        assert!(Request::receive(&server).is_err());
        send(broker.as_fd(), &[0; 8], &[], SendFlags::empty()).unwrap();
        assert!(Request::receive(&server).is_err(), "no descriptors");
    }
}
