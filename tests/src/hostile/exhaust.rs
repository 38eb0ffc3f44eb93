// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One unprivileged user takes all that the device gives: memory whose buffers are gone but for their
//! mappings or their exports, and requests without end. It is refused at the limits, the machine keeps its
//! reserve, and everything comes back.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::device::{ClientError, Device, Nodes, Request};
use daedalus_client::memory::Mapping;
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::stateful;
use daedalus_client::v4l2::{BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::common::Common;
use crate::codec;
use crate::guest::broker::{self, Broker};
use crate::guest::clip::Clip;
use crate::guest::figures::Figures;
use crate::guest::left::{self, Memory, ResourceUsage};
use crate::guest::module::{parameter, set_parameter};

/// The user, who owns nothing: nobody.
const USER: u32 = 65534;
/// KiB that everything else in the guest may take meanwhile.
const MARGIN_KIB: i64 = 48 << 10;
/// Which part of what is allowed may be taken besides, for page tables and for the kernel's own records.
const OVERHEAD: i64 = 32;
/// KiB of memory that one request with a control may take at most: its controls, the kernel's file and a
/// descriptor.
const REQUEST_KIB: i64 = 32;
/// Descriptors of a client that takes memory.
const MEMORY_DESCRIPTORS: u64 = 4096;
/// Descriptors of a client that takes requests, besides these.
const OTHER_DESCRIPTORS: u64 = 64;
/// Width and height of the pictures: 3.1 MB and 12.4 MB.
const SIZES: [(u32, u32); 2] = [(1920, 1080), (3840, 2160)];

/// Arguments of `exhaust`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// MiB of buffers that one session may have; all sessions, twice as many.
    #[arg(long, default_value_t = 256)]
    session_mb: u64,
    /// Requests that one session may have; one user, twice as many; all, three times as many.
    #[arg(long, default_value_t = 500)]
    requests: u64,
}

/// What a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Hold {
    /// Mappings of buffers that were given back.
    Mappings,
    /// Exports of buffers that were given back.
    Exports,
    /// Requests with one control each.
    Requests,
}

impl Hold {
    /// Returns its name on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Mappings => "mappings",
            Self::Exports => "exports",
            Self::Requests => "requests",
        }
    }
}

/// Arguments of `exhaust-client`.
#[derive(Debug, clap::Args)]
pub(super) struct ClientOptions {
    #[arg(value_enum)]
    hold: Hold,
    /// Bytes, or requests, after which it gives up: nothing refuses it.
    #[arg(long)]
    most: u64,
    /// Sessions that it opens in turn.
    #[arg(long, default_value_t = 4)]
    sessions: usize,
}

/// What a client came to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Holdings {
    /// Bytes or requests, of all its sessions.
    total: u64,
    /// The same of its first session, when that was refused more.
    first: u64,
    /// How each session was refused more, as an error number; 0 for one that was not.
    refusals: Vec<i32>,
}

/// Runs the scenario.
pub(super) fn run(common: &Common, options: &Options, figures: &mut Figures) -> Result<()> {
    let (broker, nodes) = Broker::start_logged(&common.broker_log, &["--faces=both"])?;
    // Clients inherit the limit, and may only lower it.
    allow_descriptors(MEMORY_DESCRIPTORS.max(3 * options.requests + OTHER_DESCRIPTORS))?;
    for node in [&nodes.video, &nodes.media, &stateful_node()?] {
        std::fs::set_permissions(node, std::fs::Permissions::from_mode(0o666))?;
    }
    let mut wrong = Vec::new();
    let limits = [
        ("max_session_mb", options.session_mb),
        ("max_memory_mb", 2 * options.session_mb),
        ("max_requests_per_session", options.requests),
        ("max_requests_per_user", 2 * options.requests),
        ("max_requests", 3 * options.requests),
    ];
    let mut before = Vec::new();
    for (name, value) in limits {
        match parameter(name).and_then(|old| set_parameter(name, value).map(|()| old)) {
            Ok(old) => before.push((name, old)),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    for hold in [Hold::Mappings, Hold::Exports, Hold::Requests] {
        if let Err(error) = fill(common, hold, options, figures) {
            wrong.push(format!("{}: {error:#}", hold.name()));
        }
        if let Err(error) = left::nothing() {
            wrong.push(format!("{}, afterwards: {error:#}", hold.name()));
        }
    }
    for (name, value) in before {
        set_parameter(name, value)?;
    }
    broker.stop()?;
    if let Err(error) = left::nothing_and_nobody() {
        wrong.push(format!("{error:#}"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Returns the stateful video node.
fn stateful_node() -> Result<PathBuf> {
    Ok(stateful::find(codec::USUAL.info().stateful_formats[0])?)
}

/// A client of the unprivileged user.
struct Taker(Child);

impl Taker {
    /// Starts one.
    fn start(common: &Common, hold: Hold, most: u64) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own path")?;
        Command::new(program)
            .args(["hostile", "exhaust-client", hold.name()])
            .arg(format!("--most={most}"))
            .arg(format!("--clips={}", common.clips.display()))
            .uid(USER)
            .gid(USER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(Self)
            .context("cannot start a client")
    }

    /// Waits for what it says when it has been refused more.
    fn holdings(&mut self) -> Result<Holdings> {
        let mut line = String::new();
        let stdout = self.0.stdout.as_mut().context("no pipe from the client")?;
        BufReader::new(stdout).read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the client says {line:?}"))
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        // It waits for the end of its standard input, unless it has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has a client take what it gets; demands the limits, the reserve, and that all comes back.
fn fill(common: &Common, hold: Hold, options: &Options, figures: &mut Figures) -> Result<()> {
    let limit = match hold {
        Hold::Requests => options.requests,
        Hold::Mappings | Hold::Exports => options.session_mb << 20,
    };
    let start = Memory::settled()?;
    let least = AtomicI64::new(start.available);
    let done = AtomicBool::new(false);
    let (holdings, left) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Ok(now) = Memory::now() {
                    least.fetch_min(now.available, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut taker = Taker::start(common, hold, 3 * limit);
        let holdings = taker
            .as_mut()
            .map_err(|error| anyhow::anyhow!("{error:#}"))
            .and_then(|taker| {
                let holdings = taker.holdings()?;
                Ok((holdings, ResourceUsage::now()?))
            });
        done.store(true, Ordering::Relaxed);
        holdings
    })?;
    let end = Memory::settled()?;
    let consumption = start.available - least.load(Ordering::Relaxed);
    figures.set(
        hold.name(),
        json!({
            "limit_of_a_session": limit,
            "of_the_first_session": holdings.first,
            "of_all_sessions": holdings.total,
            "refusals": holdings.refusals,
            "counted_bytes": left.memory,
            "counted_requests": left.requests,
            "taken_kib": consumption,
            "not_back_kib": start.available - end.available,
        }),
    );
    let refused = !holdings.refusals.is_empty()
        && holdings
            .refusals
            .iter()
            .all(|errno| *errno == Errno::NOMEM.raw_os_error());
    ensure!(
        refused,
        "{} were taken, {limit} are allowed to a session, and it was refused with {:?} (0: not at all), \
         not with {}",
        holdings.total,
        holdings.refusals,
        Errno::NOMEM.raw_os_error()
    );
    // The limit is reached but for less than what one call asks for.
    let one = match hold {
        Hold::Requests => 0,
        Hold::Mappings | Hold::Exports => 64 << 20,
    };
    ensure!(
        holdings.first <= limit && holdings.first + one >= limit,
        "a session has {}, and {limit} are allowed",
        holdings.first
    );
    ensure!(
        holdings.total <= 2 * limit && holdings.total + one >= 2 * limit,
        "a user has {}, and {} are allowed",
        holdings.total,
        2 * limit
    );
    let (counted, allowed) = match hold {
        Hold::Requests => (left.requests, holdings.total as i64 * REQUEST_KIB),
        Hold::Mappings | Hold::Exports => (Some(left.memory), ((2 * limit) >> 10) as i64),
    };
    ensure!(
        counted == Some(holdings.total),
        "the module counts {counted:?}, and there are {}",
        holdings.total
    );
    ensure!(
        consumption <= allowed + allowed / OVERHEAD + MARGIN_KIB,
        "{consumption} KiB were taken from the machine, and {allowed} are what the limit is for"
    );
    Ok(())
}

/// Takes until it is refused, in one session after the other, says so, and keeps all until the standard input
/// ends. Every other session that takes memory is one of the stateful node: the limits are those of both.
pub(super) fn client(common: &Common, options: &ClientOptions) -> Result<()> {
    let nodes = broker::nodes()?;
    let clip = &common.small_clips()?[0];
    let most = match options.hold {
        Hold::Requests => options.most + OTHER_DESCRIPTORS,
        Hold::Mappings | Hold::Exports => MEMORY_DESCRIPTORS,
    };
    allow_descriptors(most)?;
    let mut resources = Resources::default();
    let mut holdings = Holdings::default();
    for number in 0..options.sessions {
        let room = options.most.saturating_sub(holdings.total);
        let (amount, refusal) = match options.hold {
            Hold::Requests => resources.requests(&nodes, clip, room)?,
            Hold::Mappings | Hold::Exports => {
                let exports = options.hold == Hold::Exports;
                let (node, format) = if number % 2 == 0 {
                    (nodes.video.clone(), codec::USUAL.coded_format())
                } else {
                    (stateful_node()?, codec::USUAL.info().stateful_formats[0])
                };
                resources.memory(&node, format, exports, room)?
            }
        };
        holdings.total += amount;
        if number == 0 {
            holdings.first = amount;
        }
        holdings.refusals.push(refusal.map_or(0, Errno::raw_os_error));
        if refusal.is_none() {
            break;
        }
    }
    println!("{}", serde_json::to_string(&holdings)?);
    std::io::stdin().read_line(&mut String::new())?;
    drop(resources);
    Ok(())
}

/// Sets how many descriptors this process may have.
fn allow_descriptors(most: u64) -> Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Nofile, limit).context("RLIMIT_NOFILE")
}

/// All that a client keeps.
#[derive(Default)]
struct Resources {
    devices: Vec<Arc<Device>>,
    requests: Vec<Request>,
    mappings: Vec<Arc<Mapping>>,
    exports: Vec<OwnedFd>,
}

/// Returns why the driver refused a call.
fn refusal(error: ClientError) -> Result<Errno> {
    match error.errno() {
        Some(errno) => Ok(errno),
        None => bail!("{error}"),
    }
}

impl Resources {
    /// Takes requests with one control each. Returns how many, and how it was refused more.
    fn requests(&mut self, nodes: &Nodes, clip: &Clip, most: u64) -> Result<(u64, Option<Errno>)> {
        let device = Device::open(nodes, false)?;
        self.devices.push(Arc::clone(&device));
        let control = &clip.jobs[0].controls[..1];
        for count in 0..most {
            let request = match device.request() {
                Ok(request) => request,
                Err(error) => return Ok((count, Some(refusal(error)?))),
            };
            if let Err(error) = device.set_controls(control, Some(&request)) {
                return Ok((count, Some(refusal(error)?)));
            }
            self.requests.push(request);
        }
        Ok((most, None))
    }

    /// Takes memory of buffers that it gives back at once. Returns how many bytes, and how it was refused
    /// more.
    fn memory(
        &mut self,
        node: &Path,
        coded_format: u32,
        exports: bool,
        most: u64,
    ) -> Result<(u64, Option<Errno>)> {
        let device = Device::open_video(node, false)?;
        self.devices.push(Arc::clone(&device));
        let mut count = 0;
        for round in 0.. {
            if count >= most {
                break;
            }
            let (width, height) = SIZES[round % SIZES.len()];
            let format = PixFormatMplane {
                width,
                height,
                pixelformat: coded_format,
                num_planes: 1,
                ..Default::default()
            };
            device.set_format(BUF_TYPE_OUTPUT, format)?;
            let mut queue = Queue::new(&device, BUF_TYPE_CAPTURE);
            if let Err(error) = queue.allocate(4, &Backing::Mmap) {
                return Ok((count, Some(refusal(error)?)));
            }
            for index in 0..queue.len() {
                if exports {
                    count += queue
                        .mappings(index)?
                        .map(|mapping| pages(mapping.len()))
                        .sum::<u64>();
                    self.exports.push(queue.export(index, 0, true)?);
                    queue.forget(index)?;
                    continue;
                }
                for mapping in queue.take(index)? {
                    count += pages(mapping.len());
                    mapping.write(mapping.len() - 1, &[1])?;
                    self.mappings.push(mapping);
                }
            }
            queue.request_buffers(0)?;
        }
        Ok((count, None))
    }
}

/// Returns the bytes of the pages that so many bytes take.
fn pages(bytes: usize) -> u64 {
    bytes.next_multiple_of(rustix::param::page_size()) as u64
}
