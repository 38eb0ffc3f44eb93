// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Failing allocations: in turn, each that a call makes, for every call of a session's and of a daemon's
//! life, until no call makes a further one; then random ones, in the module's work items too. A call that
//! fails for it must leave everything so that it succeeds when it is made again.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use daedalus_client::device::{ClientError, Nodes};
use daedalus_client::memory::Mapping;
use daedalus_client::stateful::{Settings, Stream, Turn};
use daedalus_uapi::codec::{Codec, CodecSet};
use daedalus_uapi::protocol::{CONTROL_PATH, Event, MSG_JOB, MSG_MAX_V1, MsgJob};
use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::client::{self, Client};
use super::common::Common;
use super::faults::{Faults, MOST, note, sweep};
use super::raw::{self, Arg};
use super::table::Op;
use crate::guest::broker::{self, Broker};
use crate::guest::clip::{Clip, Clips};
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::left;
use crate::guest::module::unload;
use crate::guest::process::command;
use crate::random::Random;
use crate::stateful;

/// Units of a stream.
const UNITS: usize = 6;
/// Where the kernel is told what may fail.
const DEBUGFS: &str = "/sys/kernel/debug";
/// KiB of memory that may be missing afterwards: KASAN keeps what was freed for a while.
const DRIFT_KIB: i64 = 96 << 10;

/// Arguments of `fail-nth`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Random rounds after the sweep.
    #[arg(long, default_value_t = 40)]
    rounds: u64,
    /// The module, to sweep its loading and the first registration, too.
    #[arg(long, value_name = "FILE")]
    module: Option<std::path::PathBuf>,
    /// Of loading's allocations, each how-many-eth fails.
    #[arg(long, default_value_t = 1)]
    load_stride: u64,
    /// The module's parameters.
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
}

fn tell(path: &str, value: &str) -> Result<()> {
    let path = format!("{DEBUGFS}/{path}");
    std::fs::write(&path, value).with_context(|| format!("cannot write {path}"))
}

/// Lets allocations that may wait fail, too, and keeps failures out of the log.
fn set_up() -> Result<()> {
    for kind in ["failslab", "fail_page_alloc"] {
        tell(&format!("{kind}/ignore-gfp-wait"), "N")?;
        tell(&format!("{kind}/verbose"), "0")?;
    }
    tell("fail_page_alloc/min-order", "0")
}

/// Runs the scenario. The module is loaded before, and not afterwards.
pub(super) fn run(common: &Common, options: &Options, figures: &mut Figures) -> Result<()> {
    set_up()?;
    let clips = common.small_clips()?;
    let mut rng = Random::part(common.seed, 3000);
    let (broker, nodes) = Broker::start_logged(&common.broker_log, &["--faces=both"])?;
    let (file, codec) = Clips::load(&common.clips)?.file(&clips[0].name)?;
    let units = stateful::units(codec, &file)?;
    let units = &units[..units.len().min(UNITS)];
    let faults = sweep(Faults::new()?, |faults| stream_life(faults, codec, units))
        .context("the life of a session of the stateful node")?;
    note("stream", &faults, figures);
    let faults = sweep(Faults::new()?, |faults| one_life(faults, &nodes, &clips[0]))
        .context("a session's life with a daemon that works")?;
    note("session", &faults, figures);
    let before = memory()?;
    figures.set("rounds", options.rounds);
    figures.set(
        "random_injected",
        random(options.rounds, &nodes, &clips, &mut rng)?,
    );
    // A session as if nothing had happened.
    let session = daedalus_client::decoder::decode(
        &nodes,
        clips[0].codec,
        &clips[0].jobs,
        &daedalus_client::decoder::Options::default(),
    )
    .context("a session after all failures")?;
    clips[0].compare_all(session.pictures())?;
    drop(session);
    let drift = before - memory()?;
    figures.set("memory_drift_kib", drift);
    ensure!(debugfs::stat("sessions")? == 0, "sessions are left");
    broker.stop()?;
    ensure!(
        drift < DRIFT_KIB,
        "{drift} KiB of memory are missing after the random rounds"
    );

    let faults =
        sweep(Faults::new()?, |faults| daemon_life(faults, &nodes, &clips[0])).context("a daemon's life")?;
    note("daemon", &faults, figures);
    left::nothing_and_nobody()?;
    unload().context("the module cannot be unloaded: something still holds it")?;
    if let Some(module) = &options.module {
        loading(module, options, figures)?;
    }
    Ok(())
}

/// Opens the device, decodes four pictures, stops and closes.
fn one_life(mut faults: Faults, nodes: &Nodes, clip: &Clip) -> Result<Faults> {
    let video = faults.during("open", || open_raw(&nodes.video)).context("open")?;
    let mut client = Client::new(video, nodes, clip, Random::new(5))?;
    client.faults = Some(faults);
    client.prepare().context("formats and buffers")?;
    for buf_type in [10, 9] {
        client.stream(true, buf_type).context("STREAMON")?;
    }
    // REQBUFS may have given fewer than were asked for.
    let (coded, pictures) = client.counts();
    for index in 0..pictures.min(6) {
        client.queue_picture(index).context("QBUF of a CAPTURE buffer")?;
    }
    let jobs = coded.min(pictures).min(2);
    for index in 0..jobs {
        client.submit(index).context("a request")?;
    }
    // Allocations in the module's own work are not this thread's: jobs may fail, and must come back.
    for _ in 0..400 {
        if client.returned >= u64::from(jobs) {
            break;
        }
        match client.collect() {
            Ok(()) | Err(Errno::TIMEDOUT) => {}
            Err(errno) => return Err(errno).context("taking what is ready"),
        }
    }
    ensure!(client.returned >= u64::from(jobs), "the jobs did not come back");
    client.others().context("further calls")?;
    for buf_type in [10, 9] {
        client.stream(false, buf_type).context("STREAMOFF")?;
    }
    client.faults.take().context("the faults are gone")
}

/// Opens the stateful node, decodes units up to the end of a drain, seeks, decodes the first ones again, and
/// closes.
fn stream_life(mut faults: Faults, codec: Codec, units: &[Vec<u8>]) -> Result<Faults> {
    let format = codec.info().stateful_formats[0];
    let node = daedalus_client::stateful::find(format)?;
    let longest = units.iter().map(Vec::len).max().unwrap_or_default();
    let settings = Settings {
        unit_bytes: u32::try_from(longest)?,
        ..Settings::default()
    };
    let errno = |error: ClientError| error.errno().unwrap_or(Errno::PROTO);
    let open = || Stream::open(&node, format, settings).map_err(errno);
    let mut stream = faults.during("open stream", open).context("open of a stream")?;
    stream.keep_pictures(true);
    for round in 0..2u64 {
        let (mut fed, mut over, mut stopped, mut pictures) = (0, false, false, 0);
        while !over {
            while let Some(unit) = units.get(fed) {
                let timestamp = (round * 1000 + fed as u64 + 1) * 1_000_000;
                let feed = || stream.feed(unit, timestamp).map_err(errno);
                if !faults.during("feed", feed).context("QBUF of a unit")? {
                    break;
                }
                fed += 1;
            }
            if fed == units.len() && !stopped && stream.streams() {
                let stop = || stream.stop().map_err(errno);
                faults.during("DecoderCmd", stop).context("STOP")?;
                stopped = true;
            }
            let turn = || stream.turn().map_err(errno);
            match faults.during("turn", turn).context("what comes next")? {
                Turn::Picture(_, last) => {
                    pictures += 1;
                    over = last;
                    let release = || stream.release_one().map_err(errno);
                    faults
                        .during("release", release)
                        .context("QBUF of a CAPTURE buffer")?;
                }
                Turn::NewFormat if !stream.streams() => {
                    let set_up = || stream.set_up().map_err(errno);
                    faults.during("set up", set_up).context("setting CAPTURE up")?;
                }
                Turn::Last | Turn::End => over = true,
                Turn::NewFormat | Turn::Coded => {}
            }
        }
        ensure!(pictures > 0, "no picture came in round {round}");
        let seek = || stream.seek().map_err(errno);
        faults.during("seek", seek).context("a seek")?;
        let start = || stream.start().map_err(errno);
        faults.during("DecoderCmd", start).context("START")?;
        stream.queue_all()?;
    }
    drop(stream);
    Ok(faults)
}

fn open_raw(path: &std::path::Path) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(
        path,
        OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )
}

/// Plays a daemon and its client in one thread: register, session fd, message, buffers, answer.
fn daemon_life(mut faults: Faults, nodes: &Nodes, clip: &Clip) -> Result<Faults> {
    let mut arg = Arg::default();
    let control = faults
        .during("open control", || open_raw(std::path::Path::new(CONTROL_PATH)))
        .context("open of the control device")?;
    arg.set(0, 2).set(4, 1);
    ioctl(&mut faults, &control, Op::Hello, &mut arg)?;
    arg = Arg::default();
    arg.set(0, u32::from_ne_bytes(*b"nth\0"))
        .set(32, CodecSet::all().bits());
    ioctl(&mut faults, &control, Op::Register, &mut arg)?;
    let mut client = Client::new(client::open(&nodes.video)?, nodes, clip, Random::new(5))?;
    client.prepare().context("formats and buffers")?;
    for buf_type in [10, 9] {
        client.stream(true, buf_type).context("STREAMON")?;
    }
    for index in 0..4 {
        client.queue_picture(index).context("QBUF of a CAPTURE buffer")?;
    }
    client.submit(0).context("a request")?;
    let mut event = Event::default();
    let read = faults.during("read events", || rustix::io::read(&control, event.as_mut_bytes()));
    ensure!(read.context("events")? == size_of::<Event>(), "no event");
    arg = Arg::default();
    arg.set64(0, event.session);
    ioctl(&mut faults, &control, Op::SessionFd, &mut arg)?;
    let session = raw::installed(arg.get(8)).context("no session fd")?;
    arg = Arg::default();
    arg.set(0, 2).set(4, MSG_MAX_V1 as u32);
    ioctl(&mut faults, &session, Op::Attach, &mut arg)?;
    let mut message = vec![0; MSG_MAX_V1];
    let bytes = faults
        .during("read a job", || {
            rustix::io::read(&session, message.as_mut_slice())
        })
        .context("a message")?;
    let (job, _) = MsgJob::read_from_prefix(&message[..bytes])
        .ok()
        .filter(|(job, _)| job.msg.kind == MSG_JOB)
        .context("no job")?;
    let mut fds = Vec::new();
    for plane in [&job.coded, &job.raw[0]] {
        arg = Arg::default();
        arg.set64(0, plane.buffer);
        ioctl(&mut faults, &session, Op::BufferFd, &mut arg)?;
        fds.push(raw::installed(arg.get(16)).context("no buffer fd")?);
    }
    let raw_fd = fds.last().context("no buffer fd")?;
    let mapping = faults
        .during("mmap", || Mapping::new(raw_fd.as_fd(), 0, 4096))
        .context("mapping a buffer")?;
    mapping.write(0, &[16; 4096])?;
    arg = Arg::default();
    arg.set64(0, job.job);
    ioctl(&mut faults, &session, Op::JobDone, &mut arg)?;
    for _ in 0..10 {
        if client.returned > 0 {
            break;
        }
        client.collect().context("taking what is ready")?;
    }
    ensure!(client.decoded == 1, "the job did not come back as decoded");
    Ok(faults)
}

fn ioctl(faults: &mut Faults, fd: &OwnedFd, op: Op, arg: &mut Arg) -> Result<()> {
    let input = arg.clone();
    faults
        .during(&format!("{op:?}"), || {
            *arg = input.clone();
            raw::call(fd.as_fd(), op.opcode(), arg)
        })
        .map(drop)
        .with_context(|| format!("{op:?}"))
}

/// Lets allocations fail at random, in random calls and in the kernel's workers. Returns how many failed in
/// calls.
fn random(rounds: u64, nodes: &Nodes, clips: &[Clip], rng: &mut Random) -> Result<u64> {
    // First of all: without the filter every process's allocations fail, this one's too.
    tell("failslab/task-filter", "Y")?;
    tell("failslab/interval", "1")?;
    tell("failslab/times", "-1")?;
    tell("failslab/probability", "4")?;
    let mut injected = 0;
    let mut faults = Faults::new()?;
    let mut round = 0;
    while round < rounds {
        workers_fail(true)?;
        faults.random = Some(Random::new(rng.next()));
        let clip = &clips[rng.index(clips.len())];
        let mut client = Client::new(client::open(&nodes.video)?, nodes, clip, Random::new(rng.next()))?;
        client.faults = Some(faults);
        for _ in 0..10.min(rounds - round) {
            for _ in 0..12 {
                if client.rng().one_in(4) {
                    client.turn();
                } else {
                    client.advance();
                }
            }
            round += 1;
        }
        faults = client.faults.take().context("the faults are gone")?;
        injected += std::mem::take(&mut faults.injected);
    }
    workers_fail(false)?;
    tell("failslab/probability", "0")?;
    tell("failslab/task-filter", "N")?;
    ensure!(
        rounds == 0 || injected > 0,
        "no allocation failed in the random rounds"
    );
    Ok(injected)
}

/// Marks the kernel's unbound workers as tasks whose allocations may fail.
fn workers_fail(fail: bool) -> Result<()> {
    for process in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        let comm = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if comm.starts_with("kworker/u") {
            // It may have ended meanwhile.
            std::fs::write(process.path().join("make-it-fail"), if fail { "1" } else { "0" }).ok();
        }
    }
    Ok(())
}

/// Returns the KiB that are available.
fn memory() -> Result<i64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .context("/proc/meminfo has no MemAvailable")
}

/// Sweeps the loading of the module and the first registration, which makes the nodes.
fn loading(module: &std::path::Path, options: &Options, figures: &mut Figures) -> Result<()> {
    let file = File::open(module).with_context(|| format!("cannot read {}", module.display()))?;
    let parameters = std::ffi::CString::new(options.parameters.join(" ")).context("parameters")?;
    let mut faults = Faults::new()?;
    let mut nth = 1;
    let (mut injected, mut loads) = (0u64, 0u64);
    loop {
        ensure!(nth < MOST * 10, "loading makes ever more allocations");
        faults.arm(nth)?;
        let result = rustix::system::finit_module(&file, &parameters, 0);
        let happened = faults.happened();
        injected += u64::from(happened);
        if result.is_ok() {
            loads += 1;
            if !happened {
                break;
            }
            unload()?;
        }
        nth += options.load_stride;
    }
    figures.set("load_injected", injected);
    figures.set("load_succeeded_nevertheless", loads - 1);
    unload()?;
    // The nodes come with the first registration that succeeds.
    let faults = sweep(Faults::new()?, |mut faults| {
        let before = faults.injected;
        rustix::system::finit_module(&file, &parameters, 0).context("loading")?;
        let control = client::open(std::path::Path::new(CONTROL_PATH))?;
        let mut arg = Arg::default();
        arg.set(0, 2).set(4, 1);
        raw::call(control.as_fd(), Op::Hello.opcode(), &mut arg).context("HELLO")?;
        arg = Arg::default();
        arg.set(0, u32::from_ne_bytes(*b"nth\0"))
            .set(32, CodecSet::all().bits());
        ioctl(&mut faults, &control, Op::Register, &mut arg)?;
        if faults.injected == before {
            broker::nodes().context("after a registration that lacked nothing")?;
        }
        drop(control);
        unload()?;
        Ok(faults)
    })
    .context("the first registration")?;
    note("register", &faults, figures);
    command("insmod", &[module.to_str().context("a path that is no text")?]).context("loading afterwards")
}
