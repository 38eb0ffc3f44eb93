// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration of workers.
//!
//! The broker sends a [`WorkerConfig`] to each fork server as the first message, and the workers that are
//! forked there have it. It is serialized as a whole, so every field reaches the workers.

use std::str::FromStr;
use std::thread;

use daedalus_engine as engine;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::logging::LogLevel;
use crate::sandbox::SandboxOptions;

/// The configuration of a worker, which is the same for all sessions of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerConfig {
    pub(crate) decode: DecodeOptions,
    pub(crate) sandbox: SandboxOptions,
    /// `None`: the filter in the environment counts.
    pub(crate) log_level: Option<LogLevel>,
}

/// How a worker decodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecodeOptions {
    pub(crate) threads: Threads,
    /// Decode into CAPTURE buffers where that is possible, instead of copying each picture.
    pub(crate) direct: bool,
    pub(crate) backend: Backend,
    /// Faults that are made on purpose.
    pub(crate) faults: Vec<Fault>,
}

/// The number of threads of one session's decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Threads {
    /// As many as pay for the size of the pictures and as there are cores.
    Auto,
    /// 1 to 64.
    Fixed(u32),
}

impl FromStr for Threads {
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

/// Selects the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Backend {
    /// The best library for the codec.
    Auto,
    /// Answers every job without decoding.
    Null,
}

impl DecodeOptions {
    /// Returns the options of the engine. Reads how many processors there are, so it is called outside of the
    /// sandbox.
    pub(crate) fn engine(&self) -> engine::Options {
        let Self {
            threads,
            direct,
            backend,
            faults: _,
        } = self;
        engine::Options {
            threads: match *threads {
                Threads::Fixed(count) => engine::Threads::Fixed(count),
                Threads::Auto => engine::Threads::Auto {
                    most: thread::available_parallelism()
                        .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
                },
            },
            direct: *direct,
            backend: match backend {
                Backend::Auto => engine::Backend::Auto,
                Backend::Null => engine::Backend::Null,
            },
        }
    }
}

#[cfg(test)]
impl WorkerConfig {
    /// Returns a configuration none of whose fields has the value that it has without options.
    pub(crate) fn unusual() -> Self {
        Self {
            decode: DecodeOptions {
                threads: Threads::Fixed(3),
                direct: false,
                backend: Backend::Null,
                faults: vec!["stall:4:250".parse().unwrap(), "crash:all".parse().unwrap()],
            },
            sandbox: SandboxOptions {
                mode: crate::sandbox::Mode::Log,
                memory: Some(512),
            },
            log_level: Some("debug".parse().unwrap()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_a_number_or_auto() {
        for (text, count) in [
            ("auto", Some(Threads::Auto)),
            ("1", Some(Threads::Fixed(1))),
            ("64", Some(Threads::Fixed(64))),
            ("0", None),
            ("65", None),
            ("many", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), count, "{text}");
        }
    }

    #[test]
    fn the_engine_gets_all_of_it() {
        let unusual = WorkerConfig::unusual().decode.engine();
        assert_eq!(unusual.threads, engine::Threads::Fixed(3));
        assert!(!unusual.direct);
        assert_eq!(unusual.backend, engine::Backend::Null);
        let usual = DecodeOptions {
            threads: Threads::Auto,
            direct: true,
            backend: Backend::Auto,
            faults: Vec::new(),
        };
        let usual = usual.engine();
        assert!(matches!(usual.threads, engine::Threads::Auto { most: 1.. }));
        assert!(usual.direct);
        assert_eq!(usual.backend, engine::Backend::Auto);
    }
}
