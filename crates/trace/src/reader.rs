// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading a trace, one record at a time.

use std::io::{self, ErrorKind, Read};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::error::TraceError;
use crate::format::{self, HEADER, MAGIC, Payload, RECORD_HEAD, RECORD_TAIL, Record, Session, VERSION};

/// Limits of a reader.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a record's payload. A reader holds one payload in memory and what it was read
    /// into, which is no larger.
    pub record: usize,
}

impl Default for Limits {
    /// 64 MiB: more than a coded picture of any level of any codec.
    fn default() -> Self {
        Self { record: 64 << 20 }
    }
}

/// Reads records from a trace of any origin. Memory is bounded by [`Limits`], and is taken only as data
/// arrives, whatever lengths the trace claims.
#[derive(Debug)]
pub struct Reader<R: Read> {
    input: DeflateDecoder<R>,
    limits: Limits,
    session: Session,
    payload: Vec<u8>,
    records: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning of a trace.
    ///
    /// # Errors
    /// [`TraceError`] if it is none, or is cut before its first record's end.
    pub fn new(input: R) -> Result<Self, TraceError> {
        Self::with_limits(input, Limits::default())
    }

    /// As [`Reader::new`], with other limits.
    ///
    /// # Errors
    /// As [`Reader::new`].
    pub fn with_limits(mut input: R, limits: Limits) -> Result<Self, TraceError> {
        let mut header = [0; HEADER];
        let have = fill(&mut input, &mut header).map_err(TraceError::Io)?;
        let magic = &header[..MAGIC.len()];
        if magic[..have.min(MAGIC.len())] != MAGIC[..have.min(MAGIC.len())] || have == 0 {
            return Err(TraceError::NotATrace);
        }
        if have < HEADER {
            return Err(TraceError::Cut { records: 0 });
        }
        let field = |at: usize| {
            let bytes = header.get(at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let version = field(MAGIC.len());
        if version != VERSION {
            return Err(TraceError::Version {
                found: version,
                newest: VERSION,
            });
        }
        if field(MAGIC.len() + 4) != 0 {
            return Err(corrupt(0, "the header's last bytes are not zero"));
        }
        let mut reader = Self {
            input: DeflateDecoder::new(input),
            limits,
            session: Session {
                session: 0,
                started: 0,
                big_endian: false,
                writer: String::new(),
            },
            payload: Vec::new(),
            records: 0,
            ended: false,
        };
        match reader.read_record()? {
            Payload::Session(session) => reader.session = session,
            _ => return Err(corrupt(0, "the first record is not the session's")),
        }
        Ok(reader)
    }

    /// Returns the origin of the trace.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whole records read so far, the session's included.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Returns the next record; `None` after the last.
    ///
    /// # Errors
    /// [`TraceError::Cut`] where the trace of a killed worker ends, and the other [`TraceError`]s. There
    /// is nothing to read after an error.
    pub fn next_record(&mut self) -> Result<Option<Record>, TraceError> {
        while !self.ended {
            match self.read_record().inspect_err(|_| self.ended = true)? {
                Payload::Record(record) => return Ok(Some(record)),
                Payload::End => self.ended = true,
                Payload::Unknown => {}
                Payload::Session(_) => {
                    self.ended = true;
                    return Err(corrupt(self.records, "a second session record"));
                }
            }
        }
        Ok(None)
    }

    /// Reads one record and checks its CRC.
    fn read_record(&mut self) -> Result<Payload, TraceError> {
        let mut head = [0; RECORD_HEAD];
        self.exactly(&mut head)?;
        let [k0, k1, k2, k3, l0, l1, l2, l3] = head;
        let kind = u32::from_le_bytes([k0, k1, k2, k3]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length as usize > self.limits.record {
            return Err(TraceError::TooLong {
                records: self.records,
                bytes: length.into(),
                limit: self.limits.record,
            });
        }
        self.payload.clear();
        let read = Read::take(&mut self.input, length.into()).read_to_end(&mut self.payload);
        let have = read.map_err(|error| self.failed(error))?;
        if have < length as usize {
            return Err(self.cut());
        }
        let mut tail = [0; RECORD_TAIL];
        self.exactly(&mut tail)?;
        let mut crc = Crc::new();
        crc.update(&head);
        crc.update(&self.payload);
        if crc.sum() != u32::from_le_bytes(tail) {
            return Err(corrupt(self.records, "a record's checksum is wrong"));
        }
        let read_record = format::parse(kind, &self.payload).map_err(|what| corrupt(self.records, what))?;
        self.records += 1;
        Ok(read_record)
    }

    fn exactly(&mut self, into: &mut [u8]) -> Result<(), TraceError> {
        match fill(&mut self.input, into) {
            Ok(have) if have == into.len() => Ok(()),
            Ok(_) => Err(self.cut()),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn cut(&self) -> TraceError {
        TraceError::Cut {
            records: self.records,
        }
    }

    /// The decompressor reports what it cannot make sense of as an I/O error.
    fn failed(&self, error: io::Error) -> TraceError {
        match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::InvalidData => {
                corrupt(self.records, "the data cannot be decompressed")
            }
            ErrorKind::UnexpectedEof => self.cut(),
            _ => TraceError::Io(error),
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

fn corrupt(records: u64, what: &'static str) -> TraceError {
    TraceError::Corrupt { records, what }
}

/// Reads until `into` is full or the input ends. Returns the bytes read.
fn fill(input: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while let Some(rest) = into.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}
