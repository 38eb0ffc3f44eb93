// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line. Nothing else in this crate knows of clap: each command gets a structure of its own
//! options.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use daedalus_settings::config::Faces;
use daedalus_uapi::codec::Codec;
use daedalus_uapi::protocol::CONTROL_PATH;

use crate::broker::options::BrokerOptions;
use crate::logging::LogLevel;
use crate::replay::ReplayOptions;
use crate::sandbox::attempts::{Targets, TestOptions};
use crate::sandbox::{Mode, SandboxOptions};
use crate::worker::fault::Fault;
use crate::worker::options::{Backend, DecodeOptions, Threads, WorkerConfig};

/// Software decoder behind the V4L2 stateless device of the daedalus_v4l2 module.
///
/// The environment variable DAEDALUS_LOG holds a log filter as of tracing-subscriber, for example
/// "info,daedalus_engine=debug"; --log-level overrides it.
#[derive(Debug, Parser)]
#[command(name = "daedalusd", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register the device and start a worker for each session: what the service runs.
    ///
    /// SIGTERM, SIGINT and SIGHUP stop the broker and its workers within a second. SIGUSR1 ends it with
    /// status 75, for another broker to follow: its workers play on until their clients are done, as they do
    /// if it is killed.
    Broker(BrokerArgs),
    /// Print which codecs other devices of this machine decode: node, driver, codecs.
    Hardware {
        /// Write to this file, which `daedalusd broker --hardware` reads, instead of to the standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print which codecs the installed libraries decode, separated by commas: a distribution may leave some
    /// out.
    Codecs,
    /// Decode traces again, without device and client, and compare with what was recorded.
    Replay(ReplayArgs),
    /// Fork a worker for each session that the socket at the standard input brings. The broker starts it.
    #[command(hide = true)]
    Workers,
    /// Try from inside the workers' sandbox what it has to refuse; standard input is a session fd.
    #[command(hide = true)]
    SandboxTest(TestArgs),
    /// Make one attempt of sandbox-test, which starts it.
    #[command(hide = true)]
    SandboxAttempt {
        /// The attempt as JSON.
        order: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// The module's control device.
    #[arg(long, value_name = "PATH", default_value = CONTROL_PATH)]
    device: PathBuf,
    /// Offer these codecs, comma-separated, whatever the configuration file says.
    #[arg(long, value_delimiter = ',', value_name = "CODEC", value_parser = codec_parser())]
    codecs: Vec<Codec>,
    /// The configuration file. Default: /etc/daedalus-v4l2.conf, which may be absent.
    ///
    /// It has lines SETTING = VALUE, and comments after #. The settings are codecs = auto | all | CODEC,CODEC
    /// and faces = auto | stateless | stateful | both. codecs = auto, the default, offers what the libraries
    /// decode and no other device of this machine does, neither as a stateless nor as a stateful decoder nor
    /// as a GPU by VA-API; all offers all that the libraries decode. faces = auto, the default, is stateless.
    /// The file is read, and devices are looked at, when the broker starts.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Offer these V4L2 interfaces, whatever the configuration file says: auto, stateless, stateful or both.
    #[arg(long, value_name = "FACES", value_parser = faces_parser())]
    faces: Option<Faces>,
    /// What other devices decode, as `daedalusd hardware` wrote it. Without it the broker asks them, for
    /// which it has to be allowed to open them.
    #[arg(long, value_name = "FILE")]
    hardware: Option<PathBuf>,
    /// Record every session to a file of its own in this directory, for `daedalusd replay`. The files
    /// hold the video that is decoded, and are readable by this user only.
    #[arg(long, value_name = "DIR", env = "DAEDALUS_RECORD")]
    record: Option<PathBuf>,
    /// On SIGTERM leave the workers running; the module cannot be removed until their clients end.
    #[arg(long)]
    keep_workers: bool,
    /// The user of the workers, by name or number, if root starts the broker. Default: daedalus-worker if
    /// there is such a user, else 65534. A broker that is not root shares its user with its workers.
    #[arg(long, value_name = "USER[:GROUP]")]
    worker_user: Option<String>,
    /// The nice value of broker and workers, if it is lower than the broker's own and if the broker may set
    /// it. Clients give up a picture that takes longer than a second, however busy the machine is.
    #[arg(long, value_name = "N", default_value_t = -5, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-20..=19))]
    nice: i32,
    #[command(flatten)]
    decode: DecodeArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl From<BrokerArgs> for BrokerOptions {
    fn from(args: BrokerArgs) -> Self {
        let BrokerArgs {
            device,
            codecs,
            config,
            faces,
            hardware,
            record,
            keep_workers,
            worker_user,
            nice,
            decode,
            sandbox,
            log,
        } = args;
        Self {
            device,
            codecs: codecs.into_iter().collect(),
            config,
            faces,
            hardware,
            record,
            keep_workers,
            worker_user,
            nice,
            worker: WorkerConfig {
                decode: decode.into(),
                sandbox: sandbox.into(),
                log_level: log.log_level,
            },
        }
    }
}

/// How a worker decodes.
#[derive(Debug, Args)]
struct DecodeArgs {
    /// Threads of one session's decoder: a number, or auto for as many as pay for the size of the pictures
    /// and as there are cores.
    #[arg(long, value_name = "N|auto", default_value = "auto")]
    threads: Threads,
    /// Decode into private memory and copy each picture, instead of decoding into CAPTURE buffers.
    #[arg(long)]
    no_direct: bool,
    /// What decodes: auto is the best library for the codec, null answers every job without decoding.
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
    /// Misbehave on purpose, so that a client's handling can be tested: stall:JOB:MS waits before
    /// the job, crash:JOB aborts the worker, error:JOB fails the job, drop:JOB never answers it, until the
    /// module's watchdog ends job and worker. JOB is the number of the job within its session, from 1, or
    /// "all". May be repeated.
    #[arg(long = "fault", value_name = "FAULT", hide_short_help = true)]
    faults: Vec<Fault>,
}

impl From<DecodeArgs> for DecodeOptions {
    fn from(args: DecodeArgs) -> Self {
        let DecodeArgs {
            threads,
            no_direct,
            backend,
            faults,
        } = args;
        Self {
            threads,
            direct: !no_direct,
            backend,
            faults,
        }
    }
}

/// How a worker is confined.
#[derive(Debug, Args)]
struct SandboxArgs {
    /// What confines workers: strict ends a worker at any system call it has no need of; log lets such
    /// calls pass and has the kernel log them; off leaves seccomp and Landlock out.
    #[arg(long = "sandbox", value_enum, default_value = "strict", value_name = "MODE")]
    mode: Mode,
    /// Private memory that a worker may have, in MiB. Default: what a stream of 8192x8192 needs, but at
    /// most three quarters of the machine's memory.
    #[arg(long = "worker-memory", value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    memory: Option<u64>,
}

impl From<SandboxArgs> for SandboxOptions {
    fn from(args: SandboxArgs) -> Self {
        let SandboxArgs { mode, memory } = args;
        Self { mode, memory }
    }
}

#[derive(Debug, Args)]
struct LogArgs {
    /// Log this and what is more severe: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The traces
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Threads of the decoder
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Complete jobs only when a buffer is to be used again, as for a client that is always ahead;
    /// without it every job is completed before the next begins
    #[arg(long)]
    free_running: bool,
    /// Compare statuses but no pictures, so that the time is that of decoding
    #[arg(long)]
    unchecked: bool,
    /// One JSON object per trace and line instead of text
    #[arg(long)]
    json: bool,
}

impl From<ReplayArgs> for ReplayOptions {
    fn from(args: ReplayArgs) -> Self {
        let ReplayArgs {
            files,
            threads,
            free_running,
            unchecked,
            json,
        } = args;
        Self {
            files,
            threads,
            free_running,
            unchecked,
            json,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The process id of another session's worker.
    #[arg(long, value_name = "PID")]
    worker: i32,
    /// The broker's process id.
    #[arg(long, value_name = "PID")]
    broker: i32,
    /// Ids of buffers of the other session.
    #[arg(long, value_delimiter = ',', required = true, value_name = "ID")]
    foreign: Vec<u64>,
    /// As of the broker.
    #[arg(long, value_name = "USER[:GROUP]")]
    worker_user: Option<String>,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl From<TestArgs> for TestOptions {
    fn from(args: TestArgs) -> Self {
        let TestArgs {
            worker,
            broker,
            foreign,
            worker_user,
            sandbox,
            log: _,
        } = args;
        Self {
            targets: Targets {
                worker,
                broker,
                foreign,
            },
            worker_user,
            sandbox: sandbox.into(),
        }
    }
}

impl BrokerArgs {
    pub(crate) fn log_level(&self) -> Option<LogLevel> {
        self.log.log_level
    }
}

impl TestArgs {
    pub(crate) fn log_level(&self) -> Option<LogLevel> {
        self.log.log_level
    }
}

/// Returns a parser for the names of the registry.
fn codec_parser() -> impl TypedValueParser<Value = Codec> {
    let names = Codec::ALL.iter().map(|codec| codec.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Codec>())
}

/// Returns a parser for the names of faces.
fn faces_parser() -> impl TypedValueParser<Value = Faces> {
    PossibleValuesParser::new(Faces::NAMES).try_map(|name| name.parse::<Faces>())
}

impl ValueEnum for Backend {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Null]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Auto => "auto",
            Self::Null => "null",
        }))
    }
}

impl ValueEnum for Mode {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Strict, Self::Log, Self::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Strict => "strict",
            Self::Log => "log",
            Self::Off => "off",
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Returns the options of a broker with these arguments.
    fn broker(arguments: &[&str]) -> Option<BrokerOptions> {
        let program = ["daedalusd", "broker"];
        let words = program.iter().chain(arguments);
        match Cli::try_parse_from(words).ok()?.command {
            Command::Broker(args) => Some(args.into()),
            _ => None,
        }
    }

    #[test]
    fn the_brokers_options_for_workers_are_in_their_configuration() {
        let options = broker(&[
            "--threads=3",
            "--no-direct",
            "--backend=null",
            "--fault=stall:4:250",
            "--fault=crash:all",
            "--sandbox=log",
            "--worker-memory=512",
            "--log-level=debug",
        ]);
        assert_eq!(options.unwrap().worker, WorkerConfig::unusual());
        let usual = broker(&[]).unwrap().worker;
        let DecodeOptions {
            threads,
            direct,
            backend,
            faults,
        } = usual.decode;
        assert_eq!((threads, direct, backend), (Threads::Auto, true, Backend::Auto));
        assert!(faults.is_empty());
        assert_eq!((usual.sandbox.mode, usual.sandbox.memory), (Mode::Strict, None));
        assert_eq!(usual.log_level, None);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert_eq!(broker(&["--nice=-20"]).unwrap().nice, -20);
        for wrong in [
            "--threads=0",
            "--nice=20",
            "--worker-memory=15",
            "--sandbox=maybe",
        ] {
            assert!(broker(&[wrong]).is_none(), "{wrong}");
        }
    }

    #[test]
    fn codecs_are_a_list() {
        assert!(broker(&[]).unwrap().codecs.is_empty());
        let [first, .., last] = Codec::ALL else {
            panic!("the registry has one codec");
        };
        let options = broker(&["--codecs", &format!("{last},{first}")]).unwrap();
        assert_eq!(options.codecs, [*first, *last].into_iter().collect());
        assert!(broker(&["--codecs=none"]).is_none());
        assert_eq!(broker(&["--faces=both"]).unwrap().faces, Some(Faces::Both));
        assert!(broker(&["--faces=none"]).is_none());
    }
}
