// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writing a trace.

use std::io::{self, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use crate::format::{END, HEADER, Job, MAGIC, Record, SESSION, Session, VERSION};

/// Writes records. Each is on its way to the file when the call returns, so that a worker which crashes
/// in a job leaves a trace that ends with that job.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: DeflateEncoder<W>,
    payload: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a trace.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, session: &Session) -> io::Result<Self> {
        let mut header = [0; HEADER];
        let (magic, version) = header.split_at_mut(MAGIC.len());
        magic.copy_from_slice(&MAGIC);
        if let Some(version) = version.first_chunk_mut() {
            *version = VERSION.to_le_bytes();
        }
        out.write_all(&header)?;
        let mut writer = Self {
            // Most of a trace is coded data, which no effort makes smaller; the controls, which repeat
            // themselves, shrink well at any level.
            out: DeflateEncoder::new(out, Compression::fast()),
            payload: Vec::new(),
        };
        session.put(&mut writer.payload);
        writer.send(SESSION)?;
        Ok(writer)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// Those of the file. The trace ends before this record then: write nothing more.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        let kind = record.put(&mut self.payload);
        self.send(kind)
    }

    /// Writes a job whose coded data is `coded`, not [`Job::coded`].
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_job(&mut self, job: &Job, coded: &[u8]) -> io::Result<()> {
        job.put(&mut self.payload, coded);
        self.send(crate::format::JOB)
    }

    /// Writes the end record and returns the file.
    ///
    /// # Errors
    /// Those of the file.
    pub fn finish(mut self) -> io::Result<W> {
        self.send(END)?;
        let mut out = self.out.finish()?;
        out.flush()?;
        Ok(out)
    }

    /// Sends the payload as a record, and empties it.
    fn send(&mut self, kind: u32) -> io::Result<()> {
        let length = u32::try_from(self.payload.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a record of more than 4 GiB"));
        let result = length.and_then(|length| {
            let mut crc = Crc::new();
            for part in [&kind.to_le_bytes()[..], &length.to_le_bytes(), &self.payload] {
                crc.update(part);
                self.out.write_all(part)?;
            }
            self.out.write_all(&crc.sum().to_le_bytes())?;
            self.out.flush()
        });
        self.payload.clear();
        result
    }
}
