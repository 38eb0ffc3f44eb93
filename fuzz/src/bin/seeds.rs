// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makes the fuzz targets' first inputs from recorded traces: `fuzz-seeds DIR TRACE...` writes into a folder
//! of DIR for each target. What it is built with is built for the targets too, so it does without clap.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use daedalus_fuzz::{append, codecs, messages};
use daedalus_trace::{Job, Reader, Record};
use daedalus_uapi::Codec;

/// Longest input in bytes: longer ones make a fuzzer slow.
const LONGEST: usize = 256 << 10;
/// Jobs of a session's input.
const JOBS: usize = 8;
/// Inputs of a target from one trace.
const INPUTS: usize = 6;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let out = args.next().context("usage: fuzz-seeds DIR TRACE...")?;
    let traces: Vec<PathBuf> = args.collect();
    let mut written = 0;
    for path in &traces {
        let name = path
            .file_stem()
            .context("a trace without a name")?
            .to_string_lossy();
        let mut seeds = Seeds {
            out: &out,
            name: &name,
            written: 0,
        };
        seeds
            .of_trace(path)
            .with_context(|| format!("seeds of {}", path.display()))?;
        written += seeds.written;
    }
    ensure!(written > 0, "no input was made");
    println!("{written} inputs from {} traces", traces.len());
    Ok(())
}

/// Returns the name of the target of the headers of a job's codec, and an input.
fn headers(job: &Job) -> Option<(String, Vec<u8>)> {
    let codec = Codec::from_coded_format(job.coded_format)?;
    let input = (codecs::target(codec)?.input)(job)?;
    Some((format!("{codec}_headers"), input))
}

struct Seeds<'a> {
    out: &'a Path,
    name: &'a str,
    written: usize,
}

impl Seeds<'_> {
    fn of_trace(&mut self, path: &Path) -> Result<()> {
        let mut reader = Reader::new(BufReader::new(File::open(path)?))?;
        let (mut session, mut jobs) = (Vec::new(), 0);
        while let Some(record) = reader.next_record()? {
            append(&record, &mut session);
            if let Record::Job(job) = &record {
                jobs += 1;
                if let Some((target, input)) = headers(job).filter(|_| jobs <= INPUTS) {
                    self.write(&target, &input)?;
                }
            }
            if jobs == JOBS {
                break;
            }
        }
        if let Some((message, _)) = messages(&session).next() {
            self.write("messages", message.bytes())?;
        }
        // The first jobs that fit; a key frame alone is an input, too.
        if session.len() <= LONGEST {
            self.write("jobs", &session)?;
        }
        Ok(())
    }

    fn write(&mut self, target: &str, input: &[u8]) -> Result<()> {
        let dir = self.out.join(target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(format!("{}-{}", self.name, self.written)), input)?;
        self.written += 1;
        Ok(())
    }
}
