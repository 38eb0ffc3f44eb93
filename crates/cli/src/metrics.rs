// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus metrics`: the same figures for Prometheus, once or by a small server. A process of its own, so
//! that the broker, which holds the device, speaks to nobody but the module.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::device::{Session, Snapshot};
use crate::output::{print_line, print_text};
use crate::system::System;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Serve them by HTTP until stopped: unix:PATH, or an address of this machine such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// JSON instead of Prometheus' text
    #[arg(long, conflicts_with = "listen")]
    json: bool,
}

/// Time that a peer may take for its request and for reading the answer, together: nobody else is answered
/// meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time until another peer is accepted after that has failed, for want of descriptors for one.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request that are read.
const LONGEST_REQUEST: u64 = 8192;

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let system = System::this();
    match &args.listen {
        None if args.json => print_line(serde_json::to_string(&Snapshot::take(&system))?)?,
        None => print_text(&text(&Snapshot::take(&system)))?,
        Some(address) => listen(&system, address)?,
    }
    Ok(true)
}

fn listen(system: &System, address: &str) -> Result<()> {
    if let Some(path) = address.strip_prefix("unix:") {
        // A socket that an earlier server left; anything else stays, and binding says so.
        if UnixStream::connect(path).is_err() && is_socket(Path::new(path)) {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path).with_context(|| format!("cannot listen at {path}"))?;
        serve(system, listener.incoming());
        return Ok(());
    }
    let listener =
        TcpListener::bind(loopback(address)?).with_context(|| format!("cannot listen at {address}"))?;
    serve(system, listener.incoming());
    Ok(())
}

/// Answers peers, one after the other.
fn serve<S: Stream>(system: &System, peers: impl Iterator<Item = io::Result<S>>) {
    for peer in peers {
        match peer {
            // A peer that goes away is its own affair.
            Ok(stream) => drop(answer_within(system, &stream, PATIENCE)),
            Err(error) => {
                eprintln!("daedalus: cannot accept a connection: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Answers a peer that has a time for its request, however it sends it, and for reading the answer.
fn answer_within<S: Stream>(system: &System, stream: &S, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    answer(system, TimedStream { stream, end }, TimedStream { stream, end })
}

/// A connection.
trait Stream: Sized {
    /// Reads, but waits no longer than `left`.
    fn read_within(&self, bytes: &mut [u8], left: Duration) -> io::Result<usize>;
    /// Writes, but waits no longer than `left`.
    fn write_within(&self, bytes: &[u8], left: Duration) -> io::Result<usize>;
}

macro_rules! stream {
    ($name:ty) => {
        impl Stream for $name {
            fn read_within(&self, bytes: &mut [u8], left: Duration) -> io::Result<usize> {
                self.set_read_timeout(Some(left))?;
                let mut stream = self;
                stream.read(bytes)
            }

            fn write_within(&self, bytes: &[u8], left: Duration) -> io::Result<usize> {
                self.set_write_timeout(Some(left))?;
                let mut stream = self;
                stream.write(bytes)
            }
        }
    };
}

stream!(UnixStream);
stream!(TcpStream);

/// A connection that is of no use after `end`.
struct TimedStream<'s, S> {
    stream: &'s S,
    end: Instant,
}

impl<S> TimedStream<'_, S> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl<S: Stream> Read for TimedStream<'_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read_within(bytes, self.left()?)
    }
}

impl<S: Stream> Write for TimedStream<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_within(bytes, self.left()?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.symlink_metadata()
        .is_ok_and(|data| data.file_type().is_socket())
}

fn loopback(address: &str) -> Result<SocketAddr> {
    let address: SocketAddr = address
        .parse()
        .with_context(|| format!("{address} is neither unix:PATH nor ADDRESS:PORT"))?;
    ensure!(
        address.ip().is_loopback(),
        "{address} can be reached from other machines; use 127.0.0.1, ::1 or unix:PATH, and a proxy \
         that asks who is there"
    );
    Ok(address)
}

fn answer(system: &System, from: impl Read, mut to: impl Write) -> Result<()> {
    let mut lines = BufReader::new(from.take(LONGEST_REQUEST)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (status, body) = match request.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["GET", "/metrics" | "/"] => ("200 OK", text(&Snapshot::take(system))),
        ["GET", _] => ("404 Not Found", "the metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    write!(
        to,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(to.flush()?)
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn each(
        &mut self,
        snapshot: &Snapshot,
        name: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&Session) -> f64,
    ) {
        self.family(name, kind, help);
        for session in &snapshot.sessions {
            let _ = writeln!(
                self.0,
                "{name}{{session=\"{}\",format=\"{}\",program=\"{}\"}} {}",
                session.id,
                escaped(&session.format),
                escaped(session.program.as_deref().unwrap_or_default()),
                value(session)
            );
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Prometheus' text format, version 0.0.4.
fn text(snapshot: &Snapshot) -> String {
    let mut text = Text(String::new());
    let serving = u64::from(snapshot.serves());
    text.one(
        "daedalus_serving",
        "gauge",
        "Whether clients find a device that decodes.",
        serving,
    );
    let Some(stats) = &snapshot.stats else {
        return text.0;
    };
    text.one(
        "daedalus_sessions",
        "gauge",
        "Opens of the video node.",
        stats.sessions,
    );
    text.one(
        "daedalus_sessions_total",
        "counter",
        "All there were.",
        stats.sessions_ever,
    );
    text.one(
        "daedalus_busy_sessions",
        "gauge",
        "Sessions that decode.",
        stats.busy,
    );
    text.one(
        "daedalus_memory_bytes",
        "gauge",
        "MMAP buffers of all sessions.",
        stats.memory,
    );
    let mut each = |name: &str, kind: &str, help: &str, value: fn(&Session) -> f64| {
        text.each(snapshot, &format!("daedalus_session_{name}"), kind, help, value);
    };
    each(
        "jobs_done_total",
        "counter",
        "Jobs that ended with a picture.",
        |session| session.done as f64,
    );
    each(
        "jobs_failed_total",
        "counter",
        "Jobs that ended with an error.",
        |session| session.failed as f64,
    );
    each(
        "jobs_waiting",
        "gauge",
        "OUTPUT buffers that no job has taken.",
        |session| session.waiting as f64,
    );
    each(
        "jobs_claimed",
        "gauge",
        "Jobs that the worker has not read.",
        |session| session.claimed as f64,
    );
    each(
        "jobs_in_flight",
        "gauge",
        "Jobs that the worker has.",
        |session| session.in_flight as f64,
    );
    each(
        "oldest_job_seconds",
        "gauge",
        "How long the oldest job is the oldest.",
        |session| session.oldest_ms as f64 / 1000.0,
    );
    each(
        "worker_restarts_total",
        "counter",
        "Workers that were lost.",
        |session| session.restarts as f64,
    );
    each("memory_bytes", "gauge", "MMAP buffers.", |session| {
        session.memory as f64
    });
    text.family(
        "daedalus_session_state",
        "gauge",
        "1 for the state that a session has.",
    );
    for session in &snapshot.sessions {
        let _ = writeln!(
            text.0,
            "daedalus_session_state{{session=\"{}\",state=\"{}\"}} 1",
            session.id, session.state
        );
    }
    text.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::machine;

    #[test]
    fn sessions_have_their_figures() {
        let machine = machine("metrics");
        let mut out = Vec::new();
        answer(
            &machine.system,
            &b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            &mut out,
        )
        .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        for line in [
            "daedalus_serving 1",
            "daedalus_sessions_total 9",
            "daedalus_session_jobs_done_total{session=\"8\",format=\"SFWH\",program=\"gst-launch-1.0\"} 40",
            "daedalus_session_oldest_job_seconds{session=\"8\",format=\"SFWH\",\
             program=\"gst-launch-1.0\"} 0.012",
            "daedalus_session_state{session=\"9\",state=\"lost\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }

    #[test]
    fn a_peer_that_dawdles_keeps_nobody_waiting() {
        let machine = machine("metrics-slow");
        let (peer, own) = UnixStream::pair().unwrap();
        let dawdling = std::thread::spawn(move || {
            let mut peer = peer;
            while peer.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let time = Duration::from_millis(200);
        let start = Instant::now();
        assert!(answer_within(&machine.system, &own, time).is_err());
        assert!(start.elapsed() < 10 * time, "{:?}", start.elapsed());
        drop(own);
        dawdling.join().unwrap();
    }

    #[test]
    fn a_failing_accept_is_not_the_end() {
        let machine = machine("metrics-accept");
        let (mut peer, own) = UnixStream::pair().unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let short = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        serve(&machine.system, [Err(short), Ok(own)].into_iter());
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    }

    #[test]
    fn other_requests_and_other_machines_are_refused() {
        let machine = machine("metrics-refused");
        for (request, status) in [
            ("POST / HTTP/1.1\r\n\r\n", "405"),
            ("GET /x HTTP/1.1\r\n\r\n", "404"),
            ("", "405"),
        ] {
            let mut out = Vec::new();
            answer(&machine.system, request.as_bytes(), &mut out).unwrap();
            assert!(
                String::from_utf8(out)
                    .unwrap()
                    .starts_with(&format!("HTTP/1.1 {status}")),
                "{request}"
            );
        }
        assert!(loopback("0.0.0.0:9464").is_err() && loopback("x").is_err());
        assert!(loopback("127.0.0.1:9464").is_ok() && loopback("[::1]:9464").is_ok());
    }
}
