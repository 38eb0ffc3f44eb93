// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes the broker's logs to systemd's journal, with a field for each value. The protocol is described in
//! systemd.journal-fields(7) and in systemd's "Native Journal Protocol".

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const SOCKET: &str = "/run/systemd/journal/socket";
/// The prefix of the names of fields, which no other program uses.
const PREFIX: &str = "DAEDALUS_";

/// Writes to the journal.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// Connects to the journal if the standard error goes there. JOURNAL_STREAM names the stream to the
    /// journal. Programs with another standard error inherit the variable, so it is compared with the file.
    pub(super) fn of_stderr() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let own = std::fs::metadata("/proc/self/fd/2").ok()?;
        if stream != format!("{}:{}", own.dev(), own.ino()) {
            return None;
        }
        Self::connect(Path::new(SOCKET)).ok()
    }

    fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // If the journal is slow, lines are lost and sessions do not wait.
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        let bytes = entry.bytes(*event.metadata().level());
        // An error cannot be reported anywhere.
        self.0.send(&bytes).ok();
    }
}

/// An entry: a text for people, and each value with its name.
#[derive(Debug, Default)]
struct Entry {
    message: String,
    /// NAME=VALUE for people, after the message.
    values: String,
    fields: Vec<u8>,
}

impl Entry {
    fn add(&mut self, name: &str, value: &str) {
        if name == "message" {
            self.message = value.to_owned();
            return;
        }
        // Writing to a String cannot fail.
        write!(self.values, " {name}={value}").ok();
        let name: String = name
            .chars()
            .map(|char| match char.to_ascii_uppercase() {
                upper if upper.is_ascii_alphanumeric() => upper,
                _ => '_',
            })
            .collect();
        field(&mut self.fields, &format!("{PREFIX}{name}"), value);
    }

    fn bytes(mut self, level: Level) -> Vec<u8> {
        // As of syslog.
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        let mut bytes = Vec::new();
        field(&mut bytes, "PRIORITY", priority);
        field(&mut bytes, "SYSLOG_IDENTIFIER", "daedalusd");
        self.message.push_str(&self.values);
        field(&mut bytes, "MESSAGE", &self.message);
        bytes.extend_from_slice(&self.fields);
        bytes
    }
}

/// Appends a field: `NAME=VALUE` in a line, or name, length and value if the value has several lines.
fn field(to: &mut Vec<u8>, name: &str, value: &str) {
    to.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        to.push(b'\n');
        to.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        to.push(b'=');
    }
    to.extend_from_slice(value.as_bytes());
    to.push(b'\n');
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field.name(), &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn values_are_fields() {
        let (here, there) = UnixDatagram::pair().unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal(here));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(session = 7_u64, worker_pid = 80, name = "a=b", "two\nlines");
        });
        let mut bytes = [0; 1024];
        let length = there.recv(&mut bytes).unwrap();
        let mut expected = b"PRIORITY=4\nSYSLOG_IDENTIFIER=daedalusd\nMESSAGE\n".to_vec();
        let message = "two\nlines session=7 worker_pid=80 name=a=b";
        expected.extend_from_slice(&(message.len() as u64).to_le_bytes());
        expected.extend_from_slice(message.as_bytes());
        expected.extend_from_slice(b"\nDAEDALUS_SESSION=7\nDAEDALUS_WORKER_PID=80\nDAEDALUS_NAME=a=b\n");
        assert_eq!(
            String::from_utf8_lossy(&bytes[..length]),
            String::from_utf8_lossy(&expected)
        );
    }

    #[test]
    fn without_a_journal_there_is_none() {
        assert!(Journal::connect(Path::new("/dev/null")).is_err());
    }
}
