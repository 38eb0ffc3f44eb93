// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The records of a trace and their encoding. `docs/traces.md` describes it for people; the two must
//! agree.
//!
//! All integers are little endian, whatever the machine. Nothing here allocates more than a record's
//! own bytes, and a record's bytes are never trusted.

use daedalus_uapi::protocol::MAX_PLANES;

/// First bytes of every trace. The high bit, the line end and the zero make text tools and transfers
/// that change line ends fail early.
pub const MAGIC: [u8; 8] = *b"\x89DTRACE\n";
/// Version of the format that is written here.
pub const VERSION: u32 = 1;
/// Bytes of the file before the compressed records: magic, version, four zero bytes.
pub const HEADER: usize = 16;
/// Bytes of a record before its payload: kind and length.
pub const RECORD_HEAD: usize = 8;
/// Bytes of a record after its payload: CRC-32 of everything before.
pub const RECORD_TAIL: usize = 4;
/// Longest text in a record, in bytes.
pub const MAX_TEXT: usize = 512;
/// Most controls of a job. No codec has more than a dozen.
pub const MAX_CONTROLS: usize = 256;

/// Kind of [`Session`].
pub const SESSION: u32 = 1;
/// Kind of [`Record::Buffer`].
pub const BUFFER: u32 = 2;
/// Kind of [`Record::Job`].
pub const JOB: u32 = 3;
/// Kind of [`Record::Done`].
pub const DONE: u32 = 4;
/// Kind of [`Record::Reset`].
pub const RESET: u32 = 5;
/// Kind of [`Record::BufferGone`].
pub const BUFFER_GONE: u32 = 6;
/// Kind of the last record of a whole trace, which is empty.
pub const END: u32 = 7;

/// Bit of a session's flags: the controls' values are big endian.
const SESSION_F_BIG_ENDIAN: u32 = 1;
/// Bit of a buffer's flags: it may be written.
const BUFFER_F_WRITABLE: u32 = 1;
/// Bit of a buffer's flags: the client brought it.
const BUFFER_F_IMPORTED: u32 = 2;
/// Bit of a job's flags: it goes on in the CAPTURE buffer of the job before.
const JOB_F_SAME_CAPTURE: u32 = 1;
/// Bit of a control's flags: set by the job's own request.
const CONTROL_F_IN_REQUEST: u32 = 1;
/// Bit of a report's flags: a checksum is there.
const DONE_F_PICTURE: u32 = 1;

/// The first record: where the trace comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The session's id, as in the daemon's log.
    pub session: u64,
    /// When the recording began, in seconds since 1970.
    pub started: u64,
    /// The controls' values, which are structures of the kernel, are big endian.
    pub big_endian: bool,
    /// The program that recorded.
    pub writer: String,
}

/// A message to a worker, or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The worker mapped a buffer's memory.
    Buffer(Buffer),
    /// A job was handed to the decoder.
    Job(Box<Job>),
    /// A job was answered.
    Done(JobResult),
    /// The client stopped a queue. No job is pending.
    Reset,
    /// The memory with this id is used by no later job.
    BufferGone(u64),
}

/// A piece of memory. Its contents are not recorded: CAPTURE memory begins as zeros, and coded data is
/// part of each job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Its id, never used again for other memory.
    pub id: u64,
    /// Bytes of it.
    pub size: u64,
    /// It is CAPTURE memory.
    pub writable: bool,
    /// The client brought it; then it need not begin as zeros.
    pub imported: bool,
}

/// One memory plane of a CAPTURE buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plane {
    /// Id of the memory.
    pub buffer: u64,
    /// First byte of the plane in it.
    pub offset: u32,
    /// Bytes of the plane.
    pub length: u32,
    /// Bytes between two lines of the (first) colour plane.
    pub bytesperline: u32,
}

/// One control's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `V4L2_CID_*`.
    pub id: u32,
    /// The job's own request set it.
    pub in_request: bool,
    /// Elements in the value.
    pub elems: u32,
    /// The value, in the recording machine's byte order.
    pub value: Vec<u8>,
}

/// One coded buffer, as the decoder was given it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The job's id.
    pub job: u64,
    /// The OUTPUT buffer's timestamp in ns.
    pub timestamp: u64,
    /// `V4L2_PIX_FMT_*` of OUTPUT.
    pub coded_format: u32,
    /// The CAPTURE buffer is the one of the job before.
    pub same_capture: bool,
    /// `V4L2_PIX_FMT_*` of CAPTURE.
    pub raw_format: u32,
    /// Width of CAPTURE's format in pixels.
    pub width: u32,
    /// Height of CAPTURE's format in lines.
    pub height: u32,
    /// Width of the part of CAPTURE over which the checksum is.
    pub picture_width: u32,
    /// Height of that part.
    pub picture_height: u32,
    /// Id of the memory in which the coded data was.
    pub coded_buffer: u64,
    /// The CAPTURE buffer's memory planes, 1 to 3.
    pub planes: Vec<Plane>,
    /// All controls of the session's codec.
    pub controls: Vec<Control>,
    /// The coded data.
    pub coded: Vec<u8>,
}

/// The result of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// The picture is as it should be.
    Ok,
    /// The picture is wrong, or there is none.
    Error,
}

impl std::fmt::Display for JobStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Error => "error",
        })
    }
}

/// The answer to a job. One without a [`Record::Job`] before it never reached the decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobResult {
    /// The job's id.
    pub job: u64,
    /// How it ended.
    pub status: JobStatus,
    /// MD5 of the picture after the job. `None`: there is none, or a later job was writing to the same
    /// buffer already.
    pub md5: Option<[u8; 16]>,
    /// The fault; empty for [`JobStatus::Ok`].
    pub reason: String,
}

/// Why bytes are no record of their kind.
pub(crate) type Defect = &'static str;

/// The contents of a payload.
#[derive(Debug)]
pub(crate) enum Payload {
    Session(Session),
    Record(Record),
    End,
    /// A kind that this version does not know, which is to be skipped.
    Unknown,
}

/// Reads the payload of a record of `kind`.
pub(crate) fn parse(kind: u32, payload: &[u8]) -> Result<Payload, Defect> {
    let mut input = Input(payload);
    let contents = match kind {
        SESSION => Payload::Session(Session::parse(&mut input)?),
        BUFFER => Payload::Record(Record::Buffer(Buffer::parse(&mut input)?)),
        JOB => Payload::Record(Record::Job(Box::new(Job::parse(&mut input)?))),
        DONE => Payload::Record(Record::Done(JobResult::parse(&mut input)?)),
        RESET => Payload::Record(Record::Reset),
        BUFFER_GONE => Payload::Record(Record::BufferGone(input.u64()?)),
        END => Payload::End,
        _ => return Ok(Payload::Unknown),
    };
    if input.0.is_empty() {
        Ok(contents)
    } else {
        Err("a record is longer than its contents")
    }
}

impl Session {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.session);
        put_u64(out, self.started);
        put_u32(out, u32::from(self.big_endian) * SESSION_F_BIG_ENDIAN);
        put_text(out, &self.writer);
    }

    fn parse(input: &mut Input<'_>) -> Result<Self, Defect> {
        Ok(Self {
            session: input.u64()?,
            started: input.u64()?,
            big_endian: input.u32()? & SESSION_F_BIG_ENDIAN != 0,
            writer: input.text()?,
        })
    }
}

impl Record {
    /// Appends the payload; returns the kind.
    pub(crate) fn put(&self, out: &mut Vec<u8>) -> u32 {
        match self {
            Self::Buffer(buffer) => buffer.put(out),
            Self::Job(job) => {
                job.put(out, &job.coded);
                JOB
            }
            Self::Done(done) => done.put(out),
            Self::Reset => RESET,
            Self::BufferGone(id) => {
                put_u64(out, *id);
                BUFFER_GONE
            }
        }
    }
}

impl Buffer {
    pub(crate) fn put(&self, out: &mut Vec<u8>) -> u32 {
        put_u64(out, self.id);
        put_u64(out, self.size);
        let writable = u32::from(self.writable) * BUFFER_F_WRITABLE;
        let imported = u32::from(self.imported) * BUFFER_F_IMPORTED;
        put_u32(out, writable | imported);
        BUFFER
    }

    fn parse(input: &mut Input<'_>) -> Result<Self, Defect> {
        let (id, size, flags) = (input.u64()?, input.u64()?, input.u32()?);
        Ok(Self {
            id,
            size,
            writable: flags & BUFFER_F_WRITABLE != 0,
            imported: flags & BUFFER_F_IMPORTED != 0,
        })
    }
}

impl Job {
    /// Appends the payload with `coded` instead of [`Job::coded`], so that a recorder need not copy it
    /// twice.
    pub(crate) fn put(&self, out: &mut Vec<u8>, coded: &[u8]) {
        put_u64(out, self.job);
        put_u64(out, self.timestamp);
        put_u32(out, self.coded_format);
        put_u32(out, u32::from(self.same_capture) * JOB_F_SAME_CAPTURE);
        put_u32(out, self.raw_format);
        put_u32(out, self.width);
        put_u32(out, self.height);
        put_u32(out, self.picture_width);
        put_u32(out, self.picture_height);
        put_u64(out, self.coded_buffer);
        put_len(out, self.planes.len());
        put_len(out, self.controls.len());
        put_len(out, coded.len());
        for plane in &self.planes {
            put_u64(out, plane.buffer);
            put_u32(out, plane.offset);
            put_u32(out, plane.length);
            put_u32(out, plane.bytesperline);
        }
        for control in &self.controls {
            put_control(out, control.id, control.in_request, control.elems, &control.value);
        }
        out.extend_from_slice(coded);
    }

    fn parse(input: &mut Input<'_>) -> Result<Self, Defect> {
        let mut job = Self {
            job: input.u64()?,
            timestamp: input.u64()?,
            coded_format: input.u32()?,
            same_capture: input.u32()? & JOB_F_SAME_CAPTURE != 0,
            raw_format: input.u32()?,
            width: input.u32()?,
            height: input.u32()?,
            picture_width: input.u32()?,
            picture_height: input.u32()?,
            coded_buffer: input.u64()?,
            ..Self::default()
        };
        let (planes, controls, coded) = (input.len()?, input.len()?, input.len()?);
        if planes == 0 || planes > MAX_PLANES {
            return Err("a job's number of planes");
        }
        if controls > MAX_CONTROLS {
            return Err("a job's number of controls");
        }
        for _ in 0..planes {
            job.planes.push(Plane {
                buffer: input.u64()?,
                offset: input.u32()?,
                length: input.u32()?,
                bytesperline: input.u32()?,
            });
        }
        for _ in 0..controls {
            let (id, flags, elems, size) = (input.u32()?, input.u32()?, input.u32()?, input.len()?);
            job.controls.push(Control {
                id,
                in_request: flags & CONTROL_F_IN_REQUEST != 0,
                elems,
                value: input.bytes(size)?.to_vec(),
            });
        }
        job.coded = input.bytes(coded)?.to_vec();
        Ok(job)
    }
}

impl JobResult {
    pub(crate) fn put(&self, out: &mut Vec<u8>) -> u32 {
        put_u64(out, self.job);
        put_u32(
            out,
            match self.status {
                JobStatus::Ok => 0,
                JobStatus::Error => 1,
            },
        );
        put_u32(out, u32::from(self.md5.is_some()) * DONE_F_PICTURE);
        out.extend_from_slice(&self.md5.unwrap_or_default());
        put_text(out, &self.reason);
        DONE
    }

    fn parse(input: &mut Input<'_>) -> Result<Self, Defect> {
        let job = input.u64()?;
        let status = match input.u32()? {
            0 => JobStatus::Ok,
            1 => JobStatus::Error,
            _ => return Err("a job's status"),
        };
        let flags = input.u32()?;
        let md5 = *input.bytes(16)?.first_chunk().ok_or("a checksum")?;
        Ok(Self {
            job,
            status,
            md5: (flags & DONE_F_PICTURE != 0).then_some(md5),
            reason: input.text()?,
        })
    }
}

/// Appends one control of a job.
fn put_control(out: &mut Vec<u8>, id: u32, in_request: bool, elems: u32, value: &[u8]) {
    put_u32(out, id);
    put_u32(out, u32::from(in_request) * CONTROL_F_IN_REQUEST);
    put_u32(out, elems);
    put_len(out, value.len());
    out.extend_from_slice(value);
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Lengths above 4 GiB do not occur: a message's fields have 32 bits, and a record as well.
fn put_len(out: &mut Vec<u8>, len: usize) {
    put_u32(out, u32::try_from(len).unwrap_or(u32::MAX));
}

/// The first [`MAX_TEXT`] bytes of `text`, as whole characters.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_len(out, end);
    out.extend_from_slice(text.get(..end).unwrap_or_default().as_bytes());
}

/// The rest of a payload.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Defect> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .ok_or("a record is shorter than its contents")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Defect> {
        let bytes = self.bytes(4)?.first_chunk().ok_or("an integer")?;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, Defect> {
        let bytes = self.bytes(8)?.first_chunk().ok_or("an integer")?;
        Ok(u64::from_le_bytes(*bytes))
    }

    fn len(&mut self) -> Result<usize, Defect> {
        usize::try_from(self.u32()?).map_err(|_| "a length")
    }

    fn text(&mut self) -> Result<String, Defect> {
        let len = self.len()?;
        if len > MAX_TEXT {
            return Err("a text's length");
        }
        let text = std::str::from_utf8(self.bytes(len)?).map_err(|_| "a text is not UTF-8")?;
        Ok(text.to_owned())
    }
}
