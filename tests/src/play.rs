// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plays a list of streams through GStreamer, or through an imitation of another client, and compares every
//! picture that it hands over.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::device::{self, Nodes};
use daedalus_client::gdp;
use daedalus_client::personality::Personality;
use daedalus_client::raw::Shape;
use daedalus_common::play::{Row, Stream};
use daedalus_uapi::codec::{Codec, UnknownCodec};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::gst::{self, Decoders, Element};
use crate::imitate;
use crate::rows::{self, Comparison, Results, flat};
use crate::stateful;

/// Arguments of `daedalus-tests play`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stream list (JSON); relative paths in it are relative to its directory.
    #[arg(long)]
    list: PathBuf,
    /// Which client plays.
    #[arg(long, value_enum, default_value_t = Client::Gst)]
    client: Client,
    /// Directory for `results.jsonl`, client logs and kept pictures.
    #[arg(long)]
    out: PathBuf,
    /// Play only streams whose name contains this text; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Keep this picture (display-order index) of every stream.
    #[arg(long)]
    keep: Vec<usize>,
    /// The kernel driver whose device must be behind the decoder element.
    #[arg(long, default_value = "daedalus")]
    driver: String,
    /// Use these elements instead of a device's (`CODEC=ELEMENT`): for testing this runner where no device
    /// is.
    #[arg(long, value_parser = named_element)]
    element: Vec<(Codec, String)>,
    /// Demand this raw format from the decoder where the list does not say.
    #[arg(long)]
    format: Option<String>,
    /// Take every picture of an imitated client at once, so that few jobs are in flight.
    #[arg(long)]
    prompt: bool,
    /// Streams played at once.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Seconds without a picture after which a client counts as hung.
    #[arg(long, default_value_t = 30)]
    stall: u64,
    /// Seconds after which a stream is given up.
    #[arg(long, default_value_t = 300)]
    limit: u64,
}

/// A client of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Client {
    /// GStreamer itself.
    Gst,
    /// The small client, with the habits of FFmpeg's v4l2request.
    FfmpegLike,
    /// The small client, with the habits of Chromium.
    ChromiumLike,
    /// FFmpeg itself, through the stateful node.
    FfmpegStateful,
    /// GStreamer itself, through the stateful node.
    GstStateful,
    /// The small stateful client, which does what the kernel's document says.
    Literal,
}

/// The client that plays, with its elements or nodes.
enum Player {
    Gst(Vec<(Codec, Element)>),
    Imitation(Personality, Nodes),
    FfmpegStateful,
    Literal,
}

impl Args {
    fn patience(&self) -> Patience {
        Patience {
            stall: Duration::from_secs(self.stall),
            limit: Duration::from_secs(self.limit),
        }
    }
}

impl Player {
    /// Finds the player, once and before any stream: an absent device is one plain error, not a hundred rows.
    fn find(args: &Args, streams: &VecDeque<Stream>) -> Result<Self> {
        let personality = match args.client {
            Client::Gst | Client::GstStateful => {
                let decoders = if args.client == Client::GstStateful {
                    Decoders::Stateful(args.driver.clone())
                } else if args.element.is_empty() {
                    Decoders::Driver(args.driver.clone())
                } else {
                    Decoders::Named(args.element.clone())
                };
                let mut elements = Vec::new();
                for codec in Codec::ALL.iter().copied() {
                    if !streams.iter().any(|s| s.codec == codec) {
                        continue;
                    }
                    match decoders.element(codec) {
                        Ok(element) => elements.push((codec, element)),
                        // GStreamer has no stateful element for some codecs: each row says so.
                        Err(error) if args.client == Client::GstStateful => eprintln!("{error:#}"),
                        Err(error) => return Err(error),
                    }
                }
                return Ok(Self::Gst(elements));
            }
            Client::FfmpegLike => Personality::Ffmpeg,
            Client::ChromiumLike => Personality::Chromium,
            Client::FfmpegStateful => return Ok(Self::FfmpegStateful),
            Client::Literal => return Ok(Self::Literal),
        };
        Ok(Self::Imitation(personality, device::find(&args.driver)?))
    }
}

fn named_element(text: &str) -> Result<(Codec, String), String> {
    let (codec, name) = text.split_once('=').ok_or("expected CODEC=ELEMENT")?;
    let codec = codec.parse().map_err(|error: UnknownCodec| error.to_string())?;
    Ok((codec, name.to_owned()))
}

/// Plays the list.
///
/// # Errors
///
/// When the list cannot be read, no stream was played, or any row is not equal. A row that fails does not
/// stop the others.
pub(crate) fn run(args: &Args) -> Result<()> {
    let base = args.list.parent().unwrap_or(Path::new(".")).to_owned();
    let text =
        fs::read_to_string(&args.list).with_context(|| format!("cannot read {}", args.list.display()))?;
    let mut streams: VecDeque<Stream> =
        serde_json::from_str(&text).context("the stream list is malformed")?;
    if !args.only.is_empty() {
        streams.retain(|s| args.only.iter().any(|part| s.name.contains(part.as_str())));
    }
    ensure!(!streams.is_empty(), "no stream is to be played");
    let results = Mutex::new(Results::begin(&args.out)?);
    let player = Player::find(args, &streams)?;
    let total = streams.len();
    let queue = Mutex::new(streams);
    let failed = Mutex::new(0usize);
    thread::scope(|scope| {
        for _ in 0..args.jobs.clamp(1, total) {
            scope.spawn(|| {
                loop {
                    let Some(stream) = lock(&queue).pop_front() else {
                        return;
                    };
                    let row = row(args, &base, &stream, &player);
                    rows::print(&row);
                    let written = lock(&results).push(&row);
                    if let Err(error) = &written {
                        eprintln!("{error:#}");
                    }
                    if !row.equal || written.is_err() {
                        *lock(&failed) += 1;
                    }
                }
            });
        }
    });
    let failed = *lock(&failed);
    println!("{} of {total} streams equal", total - failed.min(total));
    ensure!(
        failed == 0,
        "{failed} of {total} streams are not equal to their references"
    );
    Ok(())
}

/// Locks. A poisoned lock only says that another thread panicked; the data (a queue, a file, a count) stays
/// usable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn row(args: &Args, base: &Path, stream: &Stream, player: &Player) -> Row {
    let mut stream = stream.clone();
    stream.format = stream.format.or_else(|| args.format.clone());
    stream.keep.extend(&args.keep);
    match player {
        Player::Gst(elements) => gst_row(args, base, &stream, elements),
        Player::FfmpegStateful => ffmpeg_row(args, base, &stream),
        Player::Literal => stateful::row(&stream, base, &args.out),
        Player::Imitation(personality, nodes) => {
            let node = nodes.video.display().to_string();
            let name = personality.name();
            let mut comparison = Comparison::begin(&stream, name, name, Some(&node), &args.out);
            let outcome = imitate::play(*personality, nodes, &stream, base, args.prompt, &mut comparison);
            if let Ok(summary) = &outcome {
                println!(
                    "{}: {} jobs, {} in flight at most, {} sessions, {} pictures flagged as wrong",
                    stream.name, summary.jobs, summary.in_flight, summary.sessions, summary.flagged
                );
            }
            comparison.end(outcome.map(|_| ()))
        }
    }
}

fn gst_row(args: &Args, base: &Path, stream: &Stream, elements: &[(Codec, Element)]) -> Row {
    let element = elements
        .iter()
        .find(|(codec, _)| *codec == stream.codec)
        .map(|(_, element)| element);
    let name = element.map_or("", |e| &e.name);
    let device = element.and_then(|e| e.device.as_deref());
    let mut comparison = Comparison::begin(stream, "GStreamer", name, device, &args.out);
    let outcome = match element {
        Some(element) => play(args, base, stream, element, &mut comparison),
        None => Err(anyhow::anyhow!(
            "{}: it has no element for {}",
            stateful::REFUSES,
            stream.codec.name()
        )),
    };
    comparison.end(outcome)
}

fn ffmpeg_row(args: &Args, base: &Path, stream: &Stream) -> Row {
    let decoder = stateful::ffmpeg_decoder(stream.codec);
    let mut comparison = Comparison::begin(stream, "FFmpeg", &decoder, None, &args.out);
    let outcome = stateful::check_ffmpeg(stream)
        .and_then(|()| comparison.load_references(stream, base))
        .and_then(|()| {
            let log = args.out.join(format!("{}.log", flat(&stream.name)));
            let mut child = stateful::ffmpeg(&decoder, &base.join(&stream.path), &log)?;
            let source = Source::Frames(stateful::shape(stream));
            let played = follow(&mut child, &log, source, args.patience(), &mut |shape, data| {
                comparison.receive(shape, data)
            });
            let ended = end(&mut child, played.is_err());
            let messages = fs::read_to_string(&log).unwrap_or_default();
            match messages.lines().next_back() {
                Some(line) if played.is_err() || ended.is_err() => played.and(ended).context(line.to_owned()),
                _ => played.and(ended),
            }
        });
    comparison.end(outcome)
}

/// What a client's output holds.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// GStreamer's data protocol.
    Gdp,
    /// Packed pictures of this shape, one after the other.
    Frames(Shape),
}

/// Reads pictures in the packed semi-planar layout.
enum Pictures<R> {
    Gdp(gdp::Reader<R>),
    Frames(R, Shape),
}

impl<R: std::io::Read> Pictures<R> {
    fn new(source: Source, input: R) -> Self {
        match source {
            Source::Gdp => Self::Gdp(gdp::Reader::new(input)),
            Source::Frames(shape) => Self::Frames(input, shape),
        }
    }

    /// Returns the next picture; `None` at the end.
    fn next(&mut self) -> Result<Option<(Shape, Vec<u8>)>> {
        let mut packed = Vec::new();
        match self {
            Self::Gdp(reader) => {
                let Some((shape, data)) = reader.next_picture()? else {
                    return Ok(None);
                };
                shape.semi_planar_from_gst(data, &mut packed)?;
                Ok(Some((shape, packed)))
            }
            Self::Frames(input, shape) => {
                packed.resize(shape.packed_len(), 0);
                match stateful::read_whole(input, &mut packed)? {
                    0 => Ok(None),
                    count if count == packed.len() => Ok(Some((*shape, packed))),
                    _ => bail!("the output ends within a picture"),
                }
            }
        }
    }
}

/// An event of the reading thread.
enum Event {
    /// In the packed semi-planar layout.
    Picture(Shape, Vec<u8>),
    End(Result<()>),
}

fn play(
    args: &Args,
    base: &Path,
    stream: &Stream,
    element: &Element,
    comparison: &mut Comparison,
) -> Result<()> {
    comparison.load_references(stream, base)?;
    let file = base.join(&stream.path);
    ensure!(file.is_file(), "{} is not there", file.display());
    let log_path = args.out.join(format!("{}.log", flat(&stream.name)));
    let mut command = gst::command(&gst::pipeline(stream, &file, element)?);
    // Own group: a hung client is killed with whatever it started.
    let mut child = command
        .stderr(File::create(&log_path)?)
        .process_group(0)
        .spawn()
        .context("cannot start gst-launch-1.0")?;
    let played = follow(
        &mut child,
        &log_path,
        Source::Gdp,
        args.patience(),
        &mut |shape, data| comparison.receive(shape, data),
    );
    let ended = end(&mut child, played.is_err());
    let log = String::from_utf8_lossy(&fs::read(&log_path)?).into_owned();
    let messages = gst::errors_in(&log);
    match (played, ended, messages) {
        (Err(e), _, Some(text)) => Err(e.context(text)),
        (Err(e), _, None) => Err(e),
        (Ok(()), _, Some(text)) => bail!(text),
        (Ok(()), Err(e), None) => Err(e),
        (Ok(()), Ok(()), None) => Ok(()),
    }
}

/// Reaps the client; kills it first if it was given up.
///
/// # Errors
/// If it fails without having been given up, or does not end.
pub(crate) fn end(child: &mut Child, kill: bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    if kill {
        kill_group(child);
    }
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success() || kill, "the client ended with {status}");
            return Ok(());
        }
        if Instant::now() > deadline {
            kill_group(child);
            bail!("the client does not end after its last picture, 10 s later");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn kill_group(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended already.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Times after which a client is given up.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// Without a picture.
    pub(crate) stall: Duration,
    /// In all.
    pub(crate) limit: Duration,
}

/// Hands pictures to `receive` as they come, until the client ends or is given up. Its log is at `log`.
///
/// # Errors
/// Those of `receive` and of the client's output; if the client is given up.
pub(crate) fn follow(
    child: &mut Child,
    log: &Path,
    source: Source,
    patience: Patience,
    receive: &mut dyn FnMut(Shape, &[u8]) -> Result<()>,
) -> Result<()> {
    let out = child.stdout.take().context("the client has no output")?;
    // A larger pipe saves switches between client and runner; the default works as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&out, 1 << 20);
    let (sender, events) = mpsc::sync_channel(4);
    // Not joined when the client hangs: the thread ends with the pipe.
    thread::spawn(move || {
        let mut pictures = Pictures::new(source, out);
        let result = loop {
            match pictures.next() {
                Err(e) => break Err(e),
                Ok(None) => break Ok(()),
                Ok(Some((shape, packed))) => {
                    if sender.send(Event::Picture(shape, packed)).is_err() {
                        return;
                    }
                }
            }
        };
        // The receiver may have given up.
        let _ = sender.send(Event::End(result));
    });
    let start = Instant::now();
    let (mut last, mut frames) = (start, 0);
    loop {
        match events.recv_timeout(Duration::from_secs(1)) {
            Ok(Event::Picture(shape, data)) => {
                receive(shape, &data)?;
                last = Instant::now();
                frames += 1;
            }
            Ok(Event::End(result)) => return result,
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("reading from the client ended by a panic"),
            Err(_) if gst::crashed(&String::from_utf8_lossy(&fs::read(log)?)) => {
                bail!("the client crashed after {frames} frames");
            }
            Err(_) if last.elapsed() >= patience.stall => {
                bail!(
                    "hang: no picture and no end for {} s after {frames} frames",
                    patience.stall.as_secs()
                );
            }
            Err(_) => {}
        }
        if start.elapsed() >= patience.limit {
            bail!(
                "given up after {} s, {frames} frames received",
                patience.limit.as_secs()
            );
        }
    }
}
