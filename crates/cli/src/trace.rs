// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus trace`: `show`, what is in a trace; `record` and `replay`.

mod record;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use daedalus_trace::{Job, JobResult, Reader, Record, TraceError};
use daedalus_uapi::fourcc;
use serde::Serialize;

use crate::replay;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Have the service record the sessions that are opened from now on, until Ctrl-C. Needs root.
    ///
    /// Sessions that play already play on, and are not recorded. The traces hold the video that is decoded;
    /// they belong to who called sudo, and nobody else can read them.
    Record(record::Record),
    /// Decode traces again, without device and client, and compare with what was recorded: `daedalus replay`.
    #[command(disable_help_flag = true)]
    Replay(replay::Args),
    /// Print what is in a trace, a line for each record
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The trace
    file: PathBuf,
    /// One JSON object per line instead of text: the session, each record, and the totals
    #[arg(long)]
    json: bool,
    /// Write each job's coded data (`job-JOB.coded`) and its controls (`job-JOB-ID.control`) to new files in
    /// DIR, which must exist. They hold the video
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
}

/// A line of output.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
enum Line {
    Session {
        session: u64,
        started: u64,
        big_endian: bool,
        writer: String,
    },
    Buffer {
        buffer: u64,
        size: u64,
        writable: bool,
        imported: bool,
    },
    Job {
        job: u64,
        timestamp: u64,
        coded_format: String,
        coded_bytes: usize,
        same_capture: bool,
        raw_format: String,
        width: u32,
        height: u32,
        picture_width: u32,
        picture_height: u32,
        planes: Vec<PlaneLine>,
        controls: Vec<ControlLine>,
    },
    Done {
        job: u64,
        status: String,
        md5: Option<String>,
        reason: String,
    },
    Reset,
    BufferGone {
        buffer: u64,
    },
    Totals(Totals),
}

#[derive(Serialize)]
struct PlaneLine {
    buffer: u64,
    offset: u32,
    length: u32,
    bytesperline: u32,
}

#[derive(Serialize)]
struct ControlLine {
    id: u32,
    in_request: bool,
    elems: u32,
    bytes: usize,
}

#[derive(Default, Serialize)]
struct Totals {
    jobs: u64,
    coded_bytes: u64,
    answered: u64,
    errors: u64,
    resets: u64,
    buffers: u64,
    file_bytes: u64,
    /// The trace has its end record.
    whole: bool,
}

/// Runs it. False: the trace is damaged; what could be read of it is printed.
pub(crate) fn run(command: &Command) -> Result<bool> {
    let show = match command {
        Command::Record(args) => return record::run(args),
        Command::Replay(args) => return replay::run(args),
        Command::Show(show) => show,
    };
    let out = std::io::stdout().lock();
    let out = &mut std::io::BufWriter::new(out);
    print(&show.file, show.json, show.dump.as_deref(), out)
}

/// Writes a new file that nobody else can read.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes what a job consists of to files.
fn dump(job: &Job, folder: &Path) -> Result<()> {
    let name = format!("job-{:06}", job.job);
    write_private(&folder.join(format!("{name}.coded")), &job.coded)?;
    for control in &job.controls {
        let name = format!("{name}-{:#010x}.control", control.id);
        write_private(&folder.join(name), &control.value)?;
    }
    Ok(())
}

fn print(file: &Path, json: bool, folder: Option<&Path>, out: &mut impl Write) -> Result<bool> {
    let input = File::open(file).with_context(|| file.display().to_string())?;
    let mut trace = Reader::new(input).with_context(|| file.display().to_string())?;
    let mut totals = Totals {
        file_bytes: std::fs::metadata(file)?.len(),
        ..Totals::default()
    };
    let session = trace.session().clone();
    put(
        out,
        json,
        &Line::Session {
            session: session.session,
            started: session.started,
            big_endian: session.big_endian,
            writer: session.writer,
        },
    )?;
    let damage = loop {
        match trace.next_record() {
            Ok(Some(record)) => {
                totals.add(&record);
                if let (Record::Job(job), Some(folder)) = (&record, folder) {
                    dump(job, folder)?;
                }
                put(out, json, &Line::of(record))?;
            }
            Ok(None) => {
                totals.whole = true;
                break None;
            }
            Err(TraceError::Cut { .. }) => break None,
            Err(error) => break Some(error),
        }
    };
    put(out, json, &Line::Totals(totals))?;
    out.flush()?;
    match damage {
        None => Ok(true),
        Some(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

fn put(out: &mut impl Write, json: bool, line: &Line) -> Result<()> {
    if json {
        serde_json::to_writer(&mut *out, line)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", line.text())?;
    }
    Ok(())
}

impl Totals {
    fn add(&mut self, record: &Record) {
        match record {
            Record::Job(job) => {
                self.jobs += 1;
                self.coded_bytes += job.coded.len() as u64;
            }
            Record::Done(done) => {
                self.answered += 1;
                self.errors += u64::from(done.status == daedalus_trace::JobStatus::Error);
            }
            Record::Reset => self.resets += 1,
            Record::Buffer(_) => self.buffers += 1,
            Record::BufferGone(_) => {}
        }
    }
}

impl Line {
    fn of(record: Record) -> Self {
        match record {
            Record::Buffer(buffer) => Self::Buffer {
                buffer: buffer.id,
                size: buffer.size,
                writable: buffer.writable,
                imported: buffer.imported,
            },
            Record::Job(job) => Self::job(&job),
            Record::Done(JobResult {
                job,
                status,
                md5,
                reason,
            }) => Self::Done {
                job,
                status: status.to_string(),
                md5: md5.map(|sum| format!("{:032x}", u128::from_be_bytes(sum))),
                reason,
            },
            Record::Reset => Self::Reset,
            Record::BufferGone(buffer) => Self::BufferGone { buffer },
        }
    }

    fn job(job: &Job) -> Self {
        Self::Job {
            job: job.job,
            timestamp: job.timestamp,
            coded_format: fourcc::name(job.coded_format),
            coded_bytes: job.coded.len(),
            same_capture: job.same_capture,
            raw_format: fourcc::name(job.raw_format),
            width: job.width,
            height: job.height,
            picture_width: job.picture_width,
            picture_height: job.picture_height,
            planes: job
                .planes
                .iter()
                .map(|plane| PlaneLine {
                    buffer: plane.buffer,
                    offset: plane.offset,
                    length: plane.length,
                    bytesperline: plane.bytesperline,
                })
                .collect(),
            controls: job
                .controls
                .iter()
                .map(|control| ControlLine {
                    id: control.id,
                    in_request: control.in_request,
                    elems: control.elems,
                    bytes: control.value.len(),
                })
                .collect(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Session {
                session,
                started,
                big_endian,
                writer,
            } => format!(
                "session {session}, begun {started} s after 1970, by {writer}, {} endian",
                if *big_endian { "big" } else { "little" }
            ),
            Self::Buffer {
                buffer,
                size,
                writable,
                imported,
            } => format!(
                "buffer {buffer}: {size} bytes, {}{}",
                if *writable { "CAPTURE" } else { "OUTPUT" },
                if *imported { ", imported" } else { "" }
            ),
            Self::Job {
                job,
                timestamp,
                coded_format,
                coded_bytes,
                same_capture,
                raw_format,
                width,
                height,
                picture_width,
                picture_height,
                planes,
                controls,
            } => format!(
                "job {job}: {coded_format} {coded_bytes} bytes at {timestamp} ns, {} of {} controls set, \
                 into {} {raw_format} {width}x{height}, picture {picture_width}x{picture_height}{}",
                controls.iter().filter(|control| control.in_request).count(),
                controls.len(),
                planes
                    .iter()
                    .map(|plane| format!("{}+{}/{}", plane.buffer, plane.offset, plane.bytesperline))
                    .collect::<Vec<_>>()
                    .join(","),
                if *same_capture { ", same CAPTURE" } else { "" }
            ),
            Self::Done {
                job,
                status,
                md5,
                reason,
            } => format!(
                "done {job}: {status}{}{}",
                if reason.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", reason.escape_debug())
                },
                md5.as_ref()
                    .map_or_else(String::new, |sum| format!(", md5 {sum}"))
            ),
            Self::Reset => "reset".to_owned(),
            Self::BufferGone { buffer } => format!("buffer {buffer}: gone"),
            Self::Totals(totals) => format!(
                "{} jobs, {} coded bytes, {} answered, {} errors, {} resets, {} buffers; \
                 {} bytes of file, {}",
                totals.jobs,
                totals.coded_bytes,
                totals.answered,
                totals.errors,
                totals.resets,
                totals.buffers,
                totals.file_bytes,
                if totals.whole {
                    "whole"
                } else {
                    "cut off: the worker was stopped or lost"
                }
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daedalus_trace::{Control, Plane, Session, Writer};

    #[test]
    fn a_job_is_dumped_once_to_private_files() {
        use std::os::unix::fs::PermissionsExt;

        let folder = std::env::temp_dir().join(format!("daedalus-dump-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("one.trace");
        let session = Session {
            session: 7,
            started: 0,
            big_endian: false,
            writer: "a test".into(),
        };
        let mut writer = Writer::new(File::create(&file).unwrap(), &session).unwrap();
        let job = Job {
            job: 3,
            planes: vec![Plane {
                buffer: 1,
                offset: 0,
                length: 16,
                bytesperline: 4,
            }],
            controls: vec![Control {
                id: 0xa4_0a00,
                in_request: true,
                elems: 1,
                value: vec![1, 2],
            }],
            coded: b"coded".to_vec(),
            ..Job::default()
        };
        writer.write(&Record::Job(Box::new(job))).unwrap();
        writer.finish().unwrap();
        assert!(print(&file, false, Some(&folder), &mut Vec::new()).unwrap());
        let coded = folder.join("job-000003.coded");
        assert_eq!(std::fs::read(&coded).unwrap(), b"coded");
        assert_eq!(coded.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let control = folder.join("job-000003-0x00a40a00.control");
        assert_eq!(std::fs::read(control).unwrap(), [1, 2]);
        // Nothing is overwritten.
        assert!(print(&file, false, Some(&folder), &mut Vec::new()).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
