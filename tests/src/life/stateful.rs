// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stateful face's state machine, driven by the client that follows dev-decoder.rst: every order that the
//! document allows, a worker that is lost in every state, and closing in every state.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use daedalus_client::device::{ClientError, Device};
use daedalus_client::stateful::{self, Settings, Turn};
use daedalus_client::v4l2;
use daedalus_uapi::codec::Codec;
use rustix::io::Errno;
use rustix::process::Signal;

use super::common::{Common, TurnArgs, WATCHDOG, within};
use super::freeze::{Client, Freeze};
use super::stateful_player::{CHANGES, Clip, Player, RECOVERY, compare, joined, longest, nal_units, resized};
use super::{imitations, programs};
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::left;
use crate::guest::module::{parameter, set_parameter};
use crate::guest::process::kill;
use crate::random::Random;

/// Parameters of the module meanwhile: what comes is of interest, not how soon.
const PATIENCE: [(&str, u64); 2] = [(WATCHDOG, 3000), ("worker_wait_ms", 10_000)];

type Edge = fn(&Clip, &Common) -> Result<()>;

const EDGES: [(&str, Edge); 34] = [
    (
        "CAPTURE before and after OUTPUT, few and many buffers",
        capture_orders,
    ),
    ("imported CAPTURE", imported),
    ("bytes cut at random places, and by unit", cuts),
    ("timestamps all equal", equal_timestamps),
    ("a drain of nothing, and STOP and START out of place", commands),
    ("the end with nothing queued on CAPTURE", end_without_capture),
    ("STOP before CAPTURE is set up", stop_before_capture),
    ("START after a drain", start_after_drain),
    ("a seek while pictures come", seek_streaming),
    ("a seek while draining", seek_draining),
    ("a seek while a format is pending", seek_pending),
    ("STREAMOFF of CAPTURE while pictures come", capture_restart),
    ("sixteen changes of size", size_changes),
    ("a change to 10 bit and back", depth_changes),
    ("other colours", colours),
    ("a worker lost in every state", lost_worker),
    ("a worker lost while draining at a change of size", lost_at_change),
    ("a frozen worker", frozen_worker),
    ("a frozen client", frozen_client),
    ("closing in every state", closing),
    ("closing while the worker ends", closing_at_loss),
    ("the order of fields", fields),
    ("the order of other clients", imitations::whole),
    (
        "other clients, and a container of another size",
        imitations::wrong_size,
    ),
    (
        "other clients, and parameter sets in buffers of their own",
        imitations::units_apart,
    ),
    (
        "other clients, and streams of one and two units",
        imitations::short,
    ),
    (
        "other clients, and sixteen changes of size",
        imitations::size_changes,
    ),
    (
        "other clients, and a change to 10 bit and back",
        imitations::depth_changes,
    ),
    ("other clients, and other colours", imitations::colours),
    ("programs, and a clip that is looped", programs::looped),
    ("programs, and streams of one and two units", programs::short),
    ("programs, and a file that is cut off", programs::cut_off),
    ("programs, and other colours", programs::colours),
    (
        "programs, and changes of size and depth",
        programs::format_changes,
    ),
];

/// The daemons that edges have, in turn: with one thread, a picture is decoded in the call that asks for it.
const DAEMONS: [&[&str]; 2] = [&["--faces=both"], &["--faces=both", "--threads=1"]];

/// How often a worker is killed while its client closes, and the microseconds at most in between.
const LOSSES: u32 = 20;
const LONGEST_PAUSE_US: u64 = 10_000;
/// The states in which a worker is lost.
const STATES: [&str; 5] = ["parsing", "format", "streaming", "draining", "stopped"];

/// Arguments of `stateful`.
#[derive(Debug, clap::Args)]
pub(super) struct StatefulArgs {
    /// Only this codec; may be repeated.
    #[arg(long)]
    codec: Vec<Codec>,
    /// How often a worker is killed in each state.
    #[arg(long, default_value_t = 1)]
    kills: u32,
    #[command(flatten)]
    turns: TurnArgs,
}

pub(super) fn stateful(common: &Common, args: &StatefulArgs, figures: &mut Figures) -> Result<()> {
    let before = PATIENCE.map(|(name, _)| parameter(name));
    for (name, value) in PATIENCE {
        set_parameter(name, value)?;
    }
    let result = edges(common, args, figures);
    for ((name, _), value) in PATIENCE.into_iter().zip(before) {
        set_parameter(name, value?)?;
    }
    result
}

fn edges(common: &Common, args: &StatefulArgs, figures: &mut Figures) -> Result<()> {
    let mut wrong = Vec::new();
    let names = codec::every("240p");
    for (number, name) in names.iter().enumerate() {
        let clip = Clip::load(common, name)?;
        if !args.codec.is_empty() && !args.codec.contains(&clip.codec) {
            continue;
        }
        let start = Instant::now();
        for (turn, options) in DAEMONS.into_iter().enumerate() {
            let (broker, _) = Broker::start_with(common, options)?;
            for (case, (what, edge)) in EDGES.into_iter().enumerate() {
                let is_next = (case / DAEMONS.len() + number) % DAEMONS.len() == turn;
                if !is_next || !args.turns.take(case, number, names.len()) {
                    continue;
                }
                let result = edge(&clip, common);
                eprintln!("{name}: {what}: {result:?}, {:?}", start.elapsed());
                if let Err(error) = result {
                    wrong.push(format!("{name}: {what} ({options:?}): {error:#}"));
                }
            }
            if args.kills > 1 {
                if let Err(error) = kill_often(&clip, common, args.kills.div_ceil(2), figures) {
                    wrong.push(format!("{name}: {error:#}"));
                }
            }
            broker.stop()?;
        }
        figures.set(name, start.elapsed().as_secs_f64());
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    left::nothing()
}

fn capture_orders(clip: &Clip, _: &Common) -> Result<()> {
    for early in [false, true] {
        for more_buffers in [0, 2, 30] {
            let settings = Settings {
                early,
                more_buffers,
                size: if early { clip.size } else { (0, 0) },
                ..Settings::default()
            };
            let played = clip.play(settings, &clip.units, &clip.sums);
            played.with_context(|| format!("early {early}, {more_buffers} buffers more"))?;
        }
    }
    Ok(())
}

fn imported(clip: &Clip, _: &Common) -> Result<()> {
    let settings = Settings {
        imported: true,
        ..Settings::default()
    };
    clip.play(settings, &clip.units, &clip.sums).map(drop)
}

fn cuts(clip: &Clip, _: &Common) -> Result<()> {
    if !clip.has_start_codes() {
        return Ok(());
    }
    let mut random = Random::new(1);
    let (mut pieces, mut rest) = (Vec::new(), clip.units.concat());
    while !rest.is_empty() {
        let most = if random.one_in(4) { 4 } else { 3000 };
        let tail = rest.split_off((1 + random.index(most)).min(rest.len()));
        pieces.push(std::mem::replace(&mut rest, tail));
    }
    clip.play(Settings::default(), &pieces, &clip.sums)
        .context("at random")?;
    clip.play(Settings::default(), &nal_units(clip)?, &clip.sums)
        .context("by unit")
        .map(drop)
}

fn equal_timestamps(clip: &Clip, _: &Common) -> Result<()> {
    let mut stream = clip.open(Settings::default())?;
    let (mut units, mut pictures, mut stopped) = (clip.units.iter().peekable(), Vec::new(), false);
    loop {
        while let Some(unit) = units.peek() {
            if !stream.feed(unit, 0)? {
                break;
            }
            units.next();
        }
        if units.peek().is_none() && !stopped && stream.streams() {
            stream.stop()?;
            stopped = true;
        }
        match stream.turn()? {
            Turn::Picture(picture, last) => {
                pictures.push(*picture);
                if last {
                    break;
                }
            }
            Turn::Last => break,
            Turn::NewFormat => stream.set_up()?,
            Turn::End => bail!("EPIPE without a last buffer"),
            Turn::Coded => {}
        }
    }
    compare(&pictures, &clip.sums)
}

fn commands(clip: &Clip, _: &Common) -> Result<()> {
    let settings = Settings {
        early: true,
        size: clip.size,
        ..Settings::default()
    };
    let mut player = Player::open(clip, settings)?;
    player.stream.start().context("START without STOP")?;
    // Nothing was decoded: the last buffer is empty.
    player.stream.stop()?;
    match player.stream.stop() {
        Ok(()) => {}
        Err(error) if error.errno() == Some(Errno::BUSY) => {}
        Err(error) => return Err(error).context("a second STOP"),
    }
    player.take_end()?;
    ensure!(player.pictures.is_empty(), "a picture of nothing");
    player.stream.stop().context("STOP when it is over")?;
    player.stream.start()?;
    player.stream.queue_all()?;
    player.finish()?;
    player.check()?;
    for command in [2, 3, 4, 77] {
        let error = player.stream.device().command(command).err();
        let errno = error.as_ref().and_then(ClientError::errno);
        ensure!(errno == Some(Errno::INVAL), "command {command}: {error:?}");
    }
    Ok(())
}

pub(super) fn end_without_capture(clip: &Clip, _: &Common) -> Result<()> {
    let mut player = Player::open(clip, Settings::default())?;
    player.stream.keep_pictures(true);
    let all = clip.units.len();
    player.until("the first pictures", |player| {
        player.stream.streams() && player.stream.held() == player.stream.raw().len()
    })?;
    // The client gives one buffer back at a time, at last with the drain already asked for.
    while player.fed < all {
        while player.feed()? {}
        if player.fed < all {
            player.stream.release_one()?;
            player.turn()?;
        }
    }
    player.stream.stop()?;
    while !player.over {
        if player.stream.held() == player.stream.raw().len() {
            // At last nothing is queued on OUTPUT either. poll() waits all the same, without an error.
            while let Some(turn) = player.stream.turn_if_ready()? {
                player.handle(turn)?;
            }
            player.stream.release_one()?;
        }
        player.turn()?;
    }
    player.check()
}

/// What a client does whose stream ends before it has looked at the format.
pub(super) fn stop_before_capture(clip: &Clip, _: &Common) -> Result<()> {
    let mut player = Player::open(clip, Settings::default())?;
    loop {
        while player.feed()? {}
        if matches!(player.stream.turn()?, Turn::NewFormat) {
            break;
        }
    }
    player.stream.stop()?;
    player.stream.set_up()?;
    // No further unit.
    while !player.over {
        player.turn()?;
    }
    ensure!(player.stream.take_ends() == 1, "the end is not announced once");
    ensure!(
        !player.pictures.is_empty(),
        "no picture of what came before the end"
    );
    player.stream.seek()?;
    player.stream.start()?;
    player.stream.queue_all()?;
    player.rewind();
    player.finish()?;
    player.check()
}

fn start_after_drain(clip: &Clip, _: &Common) -> Result<()> {
    let mut player = Player::open(clip, Settings::default())?;
    for _ in 0..3 {
        player.rewind();
        player.finish()?;
        player.check()?;
        player.stream.start()?;
        player.stream.queue_all()?;
    }
    Ok(())
}

fn seek_streaming(clip: &Clip, _: &Common) -> Result<()> {
    let mut player = Player::open(clip, Settings::default())?;
    for pictures in [0, 1, 5] {
        player.until("pictures", |player| player.pictures.len() >= pictures)?;
        player.stream.seek()?;
        player.rewind();
    }
    player.finish()?;
    player.check()
}

fn seek_draining(clip: &Clip, _: &Common) -> Result<()> {
    let mut player = Player::open(clip, Settings::default())?;
    for _ in 0..3 {
        player.until("pictures", |player| player.pictures.len() >= 2)?;
        player.stream.stop()?;
        player.stream.seek()?;
        player.rewind();
        // The drain ended with the seek. Its last buffer may be among those that came back, or none may have
        // been there for it.
        player.stream.start()?;
        while !player.over {
            let Some(turn) = player.stream.turn_if_ready()? else {
                break;
            };
            player.handle(turn)?;
        }
        player.stream.start()?;
        player.stream.queue_all()?;
        player.stream.take_ends();
        player.pictures.clear();
    }
    player.finish()?;
    player.check()
}

fn seek_pending(clip: &Clip, _: &Common) -> Result<()> {
    let mut player = Player::open(clip, Settings::default())?;
    loop {
        while player.feed()? {}
        if matches!(player.stream.turn()?, Turn::NewFormat) {
            break;
        }
    }
    player.stream.seek()?;
    player.rewind();
    player.stream.set_up()?;
    player.finish()?;
    player.check()
}

fn capture_restart(clip: &Clip, _: &Common) -> Result<()> {
    let mut player = Player::open(clip, Settings::default())?;
    player.until("pictures", |player| player.pictures.len() >= 3)?;
    // Pictures that were not dequeued are lost with their buffers; those that were not output are not.
    let before = player.pictures.len();
    player.stream.set_up()?;
    player.finish()?;
    let (first, rest) = player.pictures.split_at(before);
    compare(first, &clip.sums[..before])?;
    let tail = &clip.sums[clip.sums.len() - rest.len()..];
    compare(rest, tail)?;
    let lost = clip.sums.len() - player.pictures.len();
    ensure!(
        lost <= player.stream.raw().len(),
        "{lost} pictures were lost with {} buffers",
        player.stream.raw().len()
    );
    Ok(())
}

pub(super) fn size_changes(clip: &Clip, common: &Common) -> Result<()> {
    let (units, sums) = resized(clip, common, CHANGES)?;
    let formats = clip.play(settings_of(&units), &units, &sums)?;
    ensure!(
        formats as usize == CHANGES + 1,
        "{formats} formats were announced"
    );
    Ok(())
}

fn depth_changes(clip: &Clip, common: &Common) -> Result<()> {
    let Some([shallow, deep]) = Clip::of_two_depths(common, clip.codec)? else {
        return Ok(());
    };
    let (units, sums) = joined([&shallow, &deep, &shallow]);
    let formats = shallow.play(settings_of(&units), &units, &sums)?;
    ensure!(formats == 3, "{formats} formats were announced");
    Ok(())
}

/// Other colours are told by G_FMT, and are no new format.
pub(super) fn colours(clip: &Clip, _: &Common) -> Result<()> {
    let Some(other) = clip.recoloured()? else {
        return Ok(());
    };
    let (units, sums) = joined([clip, &other, clip]);
    let formats = clip.play(settings_of(&units), &units, &sums)?;
    ensure!(formats == 1, "{formats} formats were announced");
    let mut encodings = Vec::new();
    for clip in [clip, &other] {
        let mut player = Player::open(clip, settings_of(&clip.units))?;
        player.finish()?;
        let format = player.stream.device().format(v4l2::BUF_TYPE_CAPTURE)?;
        encodings.push((format.colorspace, format.xfer_func, format.ycbcr_enc));
    }
    ensure!(
        encodings[0] != encodings[1],
        "both streams have the colours {:?}",
        encodings[0]
    );
    Ok(())
}

/// Returns settings with room for the longest of the units.
pub(super) fn settings_of(units: &[Vec<u8>]) -> Settings {
    Settings {
        unit_bytes: longest(units),
        ..Settings::default()
    }
}

/// Returns the worker of this process's only session.
fn own_worker() -> Result<u32> {
    let start = Instant::now();
    loop {
        within("a worker", start.elapsed(), RECOVERY)?;
        let sessions = debugfs::own_sessions()?;
        let worker = sessions.first().map_or(0, |session| session.number("worker"));
        if let Some(worker) = u32::try_from(worker).ok().filter(|worker| *worker > 0) {
            return Ok(worker);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill_worker() -> Result<()> {
    kill(own_worker()?, Signal::KILL)
}

fn lost_worker(clip: &Clip, _: &Common) -> Result<()> {
    for state in STATES {
        lost_in(clip, state).with_context(|| format!("in the state {state}"))?;
    }
    Ok(())
}

/// Kills workers again and again. No call takes longer than a killed process allows.
fn kill_often(clip: &Clip, common: &Common, kills: u32, figures: &mut Figures) -> Result<()> {
    for state in STATES {
        let mut longest = Duration::ZERO;
        for kill in 1..=kills {
            let took = lost_in(clip, state).with_context(|| format!("kill {kill} in the state {state}"))?;
            longest = longest.max(took);
        }
        figures.longest(&format!("{}_{state}_ms", clip.name), longest);
        within(
            &format!("a call after a kill in the state {state}"),
            longest,
            common.limit(),
        )?;
    }
    Ok(())
}

/// Brings a session into a state, kills its worker, and demands every picture from the next key frame on.
/// Returns the longest time that anything took to come afterwards.
fn lost_in(clip: &Clip, state: &str) -> Result<Duration> {
    let mut player = Player::open(clip, Settings::default())?;
    match state {
        "parsing" => kill_worker()?,
        "format" => {
            loop {
                while player.feed()? {}
                if matches!(player.stream.turn()?, Turn::NewFormat) {
                    break;
                }
            }
            kill_worker()?;
            player.stream.set_up()?;
        }
        "streaming" => {
            player.until("pictures", |player| player.pictures.len() >= 2)?;
            kill_worker()?;
        }
        _ => {
            player.until("pictures", |player| player.pictures.len() >= 2)?;
            player.stream.stop()?;
            if state == "stopped" {
                player.over = false;
                player.take_end()?;
            }
            kill_worker()?;
            if state == "draining" {
                // Whatever was on its way: the drain ends.
                player.over = false;
                player.take_end()?;
            }
            player.stream.start()?;
            player.stream.queue_all()?;
        }
    }
    // Units of the lost worker come back with an error. What follows begins with a key frame.
    player.play_anew()?;
    Ok(player.longest)
}

/// The last buffer of the old format is not that of the drain, although the next worker has nothing to drain.
fn lost_at_change(clip: &Clip, common: &Common) -> Result<()> {
    let other = Clip::load(common, &format!("{}-qvga", clip.codec))?;
    let units = [clip.units.clone(), other.units].concat();
    let settings = settings_of(&units);
    let both = Clip {
        name: clip.name.clone(),
        codec: clip.codec,
        size: clip.size,
        file: clip.file.clone(),
        units,
        sums: Vec::new(),
    };
    let mut player = Player::open(&both, settings)?;
    player.until("the last buffer of a format", |player| player.over)?;
    player.stream.stop()?;
    kill_worker()?;
    player.stream.set_up()?;
    player.over = false;
    player.take_end()
}

/// The watchdog ends a worker that is frozen, and the session goes on with another.
fn frozen_worker(clip: &Clip, _: &Common) -> Result<()> {
    let mut player = Player::open(clip, Settings::default())?;
    player.until("pictures", |player| player.pictures.len() >= 2)?;
    let frozen = Freeze::new(own_worker()?)?;
    player.stream.stop()?;
    player.take_end()?;
    drop(frozen);
    player.stream.start()?;
    player.stream.queue_all()?;
    player.play_anew()
}

/// A client that is frozen for longer than the watchdog's time loses nothing.
fn frozen_client(clip: &Clip, common: &Common) -> Result<()> {
    let list = common.clips.as_deref().context("this scenario needs --clips")?;
    let mut process = Client(
        Command::new(std::env::current_exe()?)
            .args(["life", "storm-client", "--spared", "--stateful", "--seed=1"])
            .args(["--clip", &clip.name, "--clips"])
            .arg(list)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a client")?,
    );
    let mut lines = BufReader::new(process.0.stdout.take().context("no pipe from the client")?).lines();
    let mut played = |what: &str| -> Result<()> {
        let line = lines.next().with_context(|| format!("no line {what}"))??;
        ensure!(line.contains("\"wrong\":null"), "{what}: {line}");
        Ok(())
    };
    played("before it was frozen")?;
    let frozen = Freeze::new(process.0.id())?;
    std::thread::sleep(Duration::from_millis(2 * parameter(WATCHDOG)?));
    drop(frozen);
    played("when it was let go")?;
    played("after it was let go")
}

pub(super) fn closing(clip: &Clip, _: &Common) -> Result<()> {
    for steps in 0..6 {
        let mut player = Player::open(clip, Settings::default())?;
        if steps > 0 {
            player.feed()?;
        }
        if steps > 1 {
            loop {
                while player.feed()? {}
                if matches!(player.stream.turn()?, Turn::NewFormat) {
                    break;
                }
            }
        }
        if steps > 2 {
            player.stream.set_up()?;
            player.until("pictures", |player| !player.pictures.is_empty())?;
        }
        if steps > 3 {
            player.stream.stop()?;
        }
        if steps > 4 {
            player.over = false;
            player.take_end()?;
        }
        drop(player);
    }
    // A queue that stops before anything was queued, and buffers that are freed at once.
    let stream = clip.open(Settings::default())?;
    stream.raw().stream(false)?;
    for queue in [v4l2::BUF_TYPE_OUTPUT, v4l2::BUF_TYPE_CAPTURE] {
        stream.device().format(queue)?;
    }
    Ok(())
}

/// Client and worker give up the same buffers at the same time, in either order.
fn closing_at_loss(clip: &Clip, _: &Common) -> Result<()> {
    let mut random = Random::new(7);
    for _ in 0..LOSSES {
        let settings = Settings {
            more_buffers: 28,
            ..Settings::default()
        };
        let mut player = Player::open(clip, settings)?;
        player.until("a picture", |player| !player.pictures.is_empty())?;
        let worker = own_worker()?;
        let pause = Duration::from_micros(random.below(LONGEST_PAUSE_US));
        let killed = std::thread::spawn(move || kill(worker, Signal::KILL));
        std::thread::sleep(pause);
        drop(player);
        killed.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    Ok(())
}

/// OUTPUT keeps the order of fields of interlaced frames, and of nothing else.
fn fields(clip: &Clip, _: &Common) -> Result<()> {
    let coded_format = clip.codec.info().stateful_formats[0];
    let device = Device::open_video(&stateful::find(coded_format)?, false)?;
    for (asked, kept) in [
        (v4l2::FIELD_INTERLACED, v4l2::FIELD_INTERLACED),
        (v4l2::FIELD_ALTERNATE, v4l2::FIELD_NONE),
        (v4l2::FIELD_ANY, v4l2::FIELD_NONE),
    ] {
        let format = v4l2::PixFormatMplane {
            pixelformat: coded_format,
            field: asked,
            num_planes: 1,
            ..Default::default()
        };
        let set = device.set_format(v4l2::BUF_TYPE_OUTPUT, format)?.field;
        ensure!(set == kept, "field {asked} becomes {set}, not {kept}");
    }
    Ok(())
}
