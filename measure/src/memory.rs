// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tells the owners of a worker's private memory, by its mappings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use daedalus_client::CodedJob;
use daedalus_client::decoder::{Options, Plan, Session};
use daedalus_client::device;
use serde::Serialize;
use serde_json::json;

use crate::process;

/// Arguments of `daedalus-measure memory`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The clip.
    #[arg(long)]
    clip: PathBuf,
    /// The broker's process.
    #[arg(long)]
    broker: u32,
}

/// Private pages in KiB: what only this process has, changed or not.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Owners {
    /// Not counted: the client's buffers.
    buffers: u64,
    heap: u64,
    stack: u64,
    /// Mappings without a file: large allocations, which are the decoder's pools and the engine's planes, and
    /// the stacks and arenas of threads.
    anonymous: u64,
    /// Code and constants of program and libraries, by file.
    text: BTreeMap<String, u64>,
    /// Variables of program and libraries.
    data: u64,
    /// The largest mappings without a file.
    largest: Vec<u64>,
}

/// Plays the clip once with four jobs in flight, and prints a line of JSON before the session ends.
pub(crate) fn run(args: &Args) -> Result<()> {
    let nodes = device::find("daedalus")?;
    let source = daedalus_client::jobs(&args.clip)?;
    let codec = source.codec();
    let jobs: Vec<CodedJob> = source.collect::<Result<_, _>>()?;
    let first = jobs.first().context("the clip has no job")?;
    process::no_worker(args.broker)?;
    let options = Options {
        hash: false,
        ..Options::default()
    };
    let mut session = Session::open(&nodes, &Plan::new(codec, &jobs), &options)?;
    for job in &jobs {
        session.submit(job)?;
        session.take_pictures();
    }
    session.drain()?;
    ensure!(
        session.failed_jobs() == 0,
        "{} jobs failed",
        session.failed_jobs()
    );
    let worker = process::worker(args.broker)?;
    let smaps = std::fs::read_to_string(format!("/proc/{worker}/smaps")).context("no smaps of the worker")?;
    let owners = Owners::parse(&smaps);
    ensure!(
        owners.heap + owners.anonymous > 0,
        "the worker's smaps say nothing"
    );
    let line = json!({
        "codec": codec.title(),
        "width": first.coded_width,
        "height": first.coded_height,
        "bit_depth": first.bit_depth,
        "jobs": jobs.len(),
        "owners": owners,
        "private": owners.private(),
    });
    println!("{line}");
    Ok(())
}

impl Owners {
    fn parse(smaps: &str) -> Self {
        let mut owners = Self::default();
        let (mut permissions, mut path) = ("", "");
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default();
            if !first.ends_with(':') {
                permissions = words.next().unwrap_or_default();
                path = line.splitn(6, ' ').nth(5).unwrap_or_default().trim();
                continue;
            }
            if ["Private_Clean:", "Private_Dirty:"].contains(&first) {
                let size = words.next().and_then(|word| word.parse().ok());
                owners.add(permissions, path, size.unwrap_or_default());
            }
        }
        owners.largest.sort_unstable_by(|a, b| b.cmp(a));
        owners.largest.truncate(12);
        owners
    }

    fn add(&mut self, permissions: &str, path: &str, size: u64) {
        if size == 0 {
            return;
        }
        match path {
            "[heap]" => self.heap += size,
            "[stack]" => self.stack += size,
            _ if path.starts_with("/dmabuf") || path.starts_with("anon_inode:") => self.buffers += size,
            "" => {
                self.anonymous += size;
                self.largest.push(size);
            }
            _ if path.starts_with('[') => self.anonymous += size,
            _ if permissions.starts_with("rw") => self.data += size,
            _ => {
                let name = path.rsplit('/').next().unwrap_or_default();
                *self.text.entry(name.to_owned()).or_default() += size;
            }
        }
    }

    /// Returns all but the buffers.
    fn private(&self) -> u64 {
        self.heap + self.stack + self.anonymous + self.data + self.text.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_owners() {
        let smaps = "\
00400000-00401000 r-xp 00000000 00:01 7                          /usr/lib/libavcodec.so.61
Size:                  4 kB
Private_Clean:         8 kB
Private_Dirty:         0 kB
00500000-00501000 rw-p 00000000 00:00 0                          [heap]
Private_Dirty:        12 kB
00600000-00601000 rw-s 00000000 00:0a 9                          /dmabuf:
Private_Dirty:      3000 kB
00700000-00701000 rw-p 00000000 00:00 0 
Private_Dirty:       100 kB
00800000-00801000 rw-p 00000000 00:01 7                          /usr/lib/libavcodec.so.61
Private_Dirty:         4 kB
";
        let owners = Owners::parse(smaps);
        assert_eq!(
            (owners.heap, owners.anonymous, owners.data, owners.buffers),
            (12, 100, 4, 3000)
        );
        assert_eq!(owners.text["libavcodec.so.61"], 8);
        assert_eq!(owners.private(), 124);
    }
}
