// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `./dev bench` is asked to measure, and how.

use clap::builder::RangedU64ValueParser;
use daedalus_uapi::Codec;

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// What a job costs beside decoding: time, system calls, bytes, with the null backend
    Null,
    /// Through the device in the guest, against software in the same guest
    Device,
    /// The engine alone, against other programs, and its threads against one
    Engine,
    /// 1, 4 and 16 clients at once
    Clients,
    /// A worker's private memory by owner
    Memory,
    /// Through the stateful node in the guest, against software in the same program
    Stateful,
    /// Instructions by callgrind: against ffmpeg, and by stage
    Stages,
}

impl Part {
    pub(crate) const ALL: [Self; 7] = [
        Self::Null,
        Self::Device,
        Self::Engine,
        Self::Clients,
        Self::Memory,
        Self::Stateful,
        Self::Stages,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Device => "device",
            Self::Engine => "engine",
            Self::Clients => "clients",
            Self::Memory => "memory",
            Self::Stateful => "stateful",
            Self::Stages => "stages",
        }
    }
}

fn above_zero() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// Arguments of `./dev bench`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// What to measure; everything if nothing is named
    #[arg(value_enum)]
    pub(crate) parts: Vec<Part>,
    /// Alternating runs of each comparison; one more comes before, and does not count
    #[arg(long, default_value_t = 7, value_parser = above_zero())]
    pub(crate) runs: usize,
    /// How often a clip is played in a row within a run, instead of each part's own number
    #[arg(long, value_parser = above_zero())]
    pub(crate) times: Option<usize>,
    /// Only this codec; may be repeated
    #[arg(long)]
    pub(crate) codec: Vec<Codec>,
    /// Size of the clips of `device`; the targets are for 1080p
    #[arg(long, default_value = "1080p", value_parser = ["1080p", "480p", "360p", "240p", "qvga"])]
    pub(crate) size: String,
    /// Processors of the guest of `device` and `clients`
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    pub(crate) cpus: u32,
    /// `engine` decodes 4K, too
    #[arg(long)]
    pub(crate) large: bool,
    /// A target that is not met is a failure
    #[arg(long)]
    pub(crate) strict: bool,
    /// Measure nothing: tables, plots and targets of what was measured before
    #[arg(long, conflicts_with = "parts")]
    pub(crate) report: bool,
    /// Put the tables and plots of all parts that were measured into docs/performance.md
    #[arg(long)]
    pub(crate) document: bool,
}

impl Args {
    pub(crate) fn times(&self, own: usize) -> usize {
        self.times.unwrap_or(own)
    }

    pub(crate) fn takes(&self, codec: Codec) -> bool {
        self.codec.is_empty() || self.codec.contains(&codec)
    }
}
