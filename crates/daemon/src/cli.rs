// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::{fmt, thread};

use clap::{Args, Parser, Subcommand, ValueEnum};
use daedalus_engine::{Backend, Options, Threads};
use daedalus_uapi::protocol::{CODEC_AV1, CODEC_H264, CODEC_VP9, CONTROL_PATH};
use tracing::Level;

use crate::fault::Fault;
use crate::hardware::HardwareOptions;
use crate::replay::ReplayOptions;
use crate::sandbox::SandboxOptions;
use crate::sandbox::attempts::TestOptions;

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
    /// SIGTERM, SIGINT and SIGHUP stop the broker and its workers within a second. SIGUSR1 ends it with status 75, for
    /// another broker to follow: its workers play on until their clients are done, as they do if it is killed.
    Broker(BrokerOptions),
    /// Print which codecs other devices of this machine decode: node, driver, codecs.
    Hardware(HardwareOptions),
    /// Print which codecs the installed libraries decode, separated by commas: a distribution may leave some out.
    Codecs,
    /// Decode traces again, without device and client, and compare with what was recorded.
    Replay(ReplayOptions),
    /// Fork a worker for each session that the socket at the standard input brings. The broker starts it.
    #[command(hide = true)]
    Workers(WorkerOptions),
    /// Try from inside the workers' sandbox what it has to refuse; standard input is a session fd.
    #[command(hide = true)]
    SandboxTest(TestOptions),
}

#[derive(Debug, Args)]
pub(crate) struct BrokerOptions {
    /// The module's control device.
    #[arg(long, value_name = "PATH", default_value = CONTROL_PATH)]
    pub(crate) device: PathBuf,
    /// Offer these codecs, comma-separated, whatever the configuration file says.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CODEC")]
    pub(crate) codecs: Vec<Codec>,
    /// The configuration file. Default: /etc/daedalus-v4l2.conf, which may be absent.
    ///
    /// It has lines SETTING = VALUE, and comments after #. The setting is: codecs = auto | all | CODEC,CODEC. auto, the
    /// default, offers what the libraries decode and no other device of this machine does, neither as a stateless nor as
    /// a stateful decoder nor as a GPU by VA-API; all offers all that the libraries decode. It is read, and devices are looked at, when the
    /// broker starts.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What other devices decode, as `daedalusd hardware` wrote it. Without it the broker asks them, for which it has to
    /// be allowed to open them.
    #[arg(long, value_name = "FILE")]
    pub(crate) hardware: Option<PathBuf>,
    /// Record every session to a file of its own in this directory, for `daedalusd replay`. The files
    /// hold the video that is decoded, and are readable by this user only.
    #[arg(long, value_name = "DIR", env = "DAEDALUS_RECORD")]
    pub(crate) record: Option<PathBuf>,
    /// On SIGTERM leave the workers running; the module cannot be removed until their clients end.
    #[arg(long)]
    pub(crate) keep_workers: bool,
    /// The user of the workers, by name or number, if root starts the broker. Default: daedalus-worker if
    /// there is such a user, else 65534. A broker that is not root shares its user with its workers.
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) worker_user: Option<String>,
    /// The nice value of broker and workers, if it is lower than the broker's own and if the broker may set it. Clients
    /// give up a picture that takes longer than a second, however busy the machine is.
    #[arg(long, value_name = "N", default_value_t = -5, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-20..=19))]
    pub(crate) nice: i32,
    #[command(flatten)]
    pub(crate) decode: DecodeOptions,
    #[command(flatten)]
    pub(crate) sandbox: SandboxOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerOptions {
    #[command(flatten)]
    pub(crate) decode: DecodeOptions,
    #[command(flatten)]
    pub(crate) sandbox: SandboxOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// How a worker decodes; the broker passes these on.
#[derive(Debug, Clone, Args)]
pub(crate) struct DecodeOptions {
    /// Threads of one session's decoder: a number, or auto for as many as pay for the size of the pictures
    /// and as there are cores.
    #[arg(long, value_name = "N|auto", default_value = "auto")]
    threads: ThreadCount,
    /// Decode into private memory and copy each picture, instead of decoding into CAPTURE buffers.
    #[arg(long)]
    no_direct: bool,
    /// What decodes: auto is the best library for the codec, null answers every job without decoding.
    #[arg(long, value_enum, default_value = "auto")]
    backend: BackendName,
    /// Misbehave on purpose, so that a client's handling can be tested: stall:JOB:MS waits before
    /// the job, crash:JOB aborts the worker, error:JOB fails the job, drop:JOB never answers it, until the
    /// module's watchdog ends job and worker. JOB is the number of the job within its session, from 1, or
    /// "all". May be repeated.
    #[arg(long = "fault", value_name = "FAULT", hide_short_help = true)]
    pub(crate) faults: Vec<Fault>,
}

/// What `--threads` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ThreadCount {
    Auto,
    Fixed(u32),
}

impl FromStr for ThreadCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse() {
            Ok(count @ 1..=64) => Ok(Self::Fixed(count)),
            _ => Err("a number from 1 to 64, or auto".to_owned()),
        }
    }
}

impl fmt::Display for ThreadCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(count) => count.fmt(f),
        }
    }
}

impl DecodeOptions {
    pub(crate) fn engine(&self) -> Options {
        Options {
            threads: match self.threads {
                ThreadCount::Fixed(count) => Threads::Fixed(count),
                ThreadCount::Auto => Threads::Auto {
                    most: thread::available_parallelism()
                        .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
                },
            },
            direct: !self.no_direct,
            backend: match self.backend {
                BackendName::Auto => Backend::Auto,
                BackendName::Null => Backend::Null,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LogOptions {
    /// Log this and what is more severe: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    H264,
    Vp9,
    Av1,
}

impl Codec {
    /// Its `CODEC_*` bit.
    pub(crate) fn bit(self) -> u32 {
        match self {
            Self::H264 => CODEC_H264,
            Self::Vp9 => CODEC_VP9,
            Self::Av1 => CODEC_AV1,
        }
    }

    /// Returns the `CODEC_*` bits of all of them.
    pub(crate) fn all() -> u32 {
        Self::value_variants()
            .iter()
            .fold(0, |set, codec| set | codec.bit())
    }

    /// The names of the `CODEC_*` bits in `set`.
    pub(crate) fn names(set: u32) -> String {
        let names: Vec<String> = Self::value_variants()
            .iter()
            .filter(|codec| set & codec.bit() != 0)
            .filter_map(ValueEnum::to_possible_value)
            .map(|name| name.get_name().to_owned())
            .collect();
        names.join(",")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BackendName {
    Auto,
    Null,
}

impl BrokerOptions {
    /// The command line, without the program, of a fork server whose workers decode as this broker was told to.
    pub(crate) fn worker_arguments(&self) -> Vec<OsString> {
        let decode = &self.decode;
        let mut words = vec!["workers".into(), format!("--threads={}", decode.threads).into()];
        if decode.no_direct {
            words.push("--no-direct".into());
        }
        if let Some(name) = decode.backend.to_possible_value() {
            words.push(format!("--backend={}", name.get_name()).into());
        }
        words.extend(
            decode
                .faults
                .iter()
                .map(|fault| format!("--fault={fault}").into()),
        );
        words.extend(self.sandbox.words().into_iter().map(OsString::from));
        words.extend(
            self.log
                .log_level
                .map(|level| format!("--log-level={level}").into()),
        );
        words
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::sandbox::Mode;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn workers_are_told_what_the_broker_was_told() {
        let words = [
            "daedalusd",
            "broker",
            "--threads=3",
            "--no-direct",
            "--backend=null",
            "--fault=stall:4:250",
            "--fault=crash:all",
            "--sandbox=log",
            "--worker-memory=512",
            "--log-level=debug",
        ];
        let Command::Broker(broker) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not a broker");
        };
        let words = [vec![OsString::from("daedalusd")], broker.worker_arguments()].concat();
        let Command::Workers(worker) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not a worker");
        };
        assert_eq!(worker.decode.threads, ThreadCount::Fixed(3));
        assert_eq!(worker.decode.engine().threads, Threads::Fixed(3));
        assert!(worker.decode.no_direct && !worker.decode.engine().direct);
        assert_eq!(worker.decode.backend, BackendName::Null);
        assert_eq!(worker.decode.faults, broker.decode.faults);
        assert_eq!(worker.sandbox.mode, Mode::Log);
        assert_eq!(worker.sandbox.memory, Some(512));
        assert_eq!(worker.log.log_level, Some(Level::DEBUG));
    }

    #[test]
    fn threads_are_a_number_or_auto() {
        let parse = |words: &[&str]| match Cli::try_parse_from(words).ok()?.command {
            Command::Broker(broker) => Some(broker.decode.threads),
            _ => None,
        };
        assert_eq!(parse(&["daedalusd", "broker"]), Some(ThreadCount::Auto));
        for (text, count) in [
            ("auto", Some(ThreadCount::Auto)),
            ("64", Some(ThreadCount::Fixed(64))),
            ("0", None),
            ("65", None),
            ("many", None),
        ] {
            assert_eq!(parse(&["daedalusd", "broker", "--threads", text]), count);
        }
    }

    #[test]
    fn codecs_have_bits_and_names() {
        let words = ["daedalusd", "broker", "--codecs", "vp9,av1"];
        let Command::Broker(broker) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not a broker");
        };
        let set = broker.codecs.iter().fold(0, |set, codec| set | codec.bit());
        assert_eq!(set, CODEC_VP9 | CODEC_AV1);
        assert_eq!(Codec::names(set), "vp9,av1");
    }
}
