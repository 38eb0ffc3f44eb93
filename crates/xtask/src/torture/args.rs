// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The arguments of `./dev torture`.

use daedalus_uapi::Codec;

use crate::make::kernel::Kernel;

/// What there is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Kills, several clients, edges, in both kernels
    Life,
    /// insmod, serve, decode 5 frames, stop, rmmod, in the sanitizer kernel
    Reload,
    /// Damaged jobs of each codec, in both kernels (a tenth of the variants in the sanitizer kernel)
    Damage,
    /// One clip of each codec again and again: exact pictures, and a worker that does not grow
    Long,
    /// Four clients while workers, brokers and clients are killed at random, in the sanitizer kernel
    Storm,
    /// Any ioctl, a daemon that answers nonsense, failing allocations, foreign memory, in the sanitizer
    /// kernel
    Hostile,
    /// What is refused or given back again and again: nothing is left and nothing grows, in both kernels
    Leaks,
    /// Sessions close in any order, in the sanitizer kernel
    Orders,
    /// A session plays on whatever others do, in the sanitizer kernel
    Stall,
    /// Stops with jobs in flight, in both kernels (a tenth in the sanitizer kernel)
    Seek,
    /// An unprivileged user takes all that there is, in the sanitizer kernel
    Exhaust,
}

/// Arguments of `./dev torture`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// What to run; everything if nothing is named
    #[arg(value_enum)]
    pub(super) parts: Vec<Part>,
    /// Only this scenario of `life`; may be repeated
    #[arg(long)]
    pub(super) scenario: Vec<String>,
    /// Only this codec in the scenario `stateful`; may be repeated
    #[arg(long)]
    pub(super) codec: Vec<Codec>,
    /// Cycles of `reload`
    #[arg(long, default_value_t = 200)]
    pub(super) cycles: u32,
    /// Replacements of the broker while jobs are in flight
    #[arg(long, default_value_t = 50)]
    pub(super) replacements: u32,
    /// Variants of damage, for each codec
    #[arg(long, default_value_t = 500)]
    pub(super) variants: u32,
    /// How often `long` plays its clips, which have 60 frames
    #[arg(long, default_value_t = 30)]
    pub(super) times: u32,
    /// How often the scenario `stateful` kills a worker in each state
    #[arg(long, default_value_t = 1)]
    pub(super) kills: u32,
    /// Only this kernel
    #[arg(long, value_enum)]
    pub(super) kernel: Option<Kernel>,
    /// How much of the whole `storm`, `hostile` and what follows them do, in percent
    #[arg(long, default_value = "100%", value_parser = percent)]
    pub(super) scale: u32,
    /// Of all random choices
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    #[arg(skip)]
    pub(super) quick: bool,
}

/// Reads `N` or `N%`.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    match number {
        Ok(number @ 1..=1000) => Ok(number),
        _ => Err("expected a number of percent, from 1 to 1000".into()),
    }
}

impl Args {
    /// What `./dev test` runs.
    pub(crate) fn quick() -> Self {
        Self {
            parts: Vec::new(),
            scenario: Vec::new(),
            codec: Vec::new(),
            cycles: 5,
            replacements: 2,
            variants: 38,
            times: 4,
            kills: 1,
            kernel: None,
            quick: true,
            scale: 2,
            seed: 1,
        }
    }

    /// Whether a part is to run.
    pub(super) fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// What counts lines: everything there is for the module, a small part of what goes on for long.
    pub(crate) fn coverage() -> Self {
        Self {
            parts: vec![
                Part::Life,
                Part::Reload,
                Part::Storm,
                Part::Hostile,
                Part::Exhaust,
            ],
            replacements: 5,
            kernel: Some(Kernel::Coverage),
            quick: false,
            scale: 10,
            ..Self::quick()
        }
    }

    /// In which kernel the parts run that need one that finds faults.
    pub(super) fn watchful(&self) -> Kernel {
        match self.kernel {
            Some(Kernel::Coverage) => Kernel::Coverage,
            _ => Kernel::Sanitizers,
        }
    }

    /// In which kernels the parts run that run in both.
    pub(super) fn kernels(&self) -> impl Iterator<Item = Kernel> + use<> {
        self.kernel
            .map_or(vec![Kernel::Plain, Kernel::Sanitizers], |only| vec![only])
            .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_read() {
        assert_eq!(percent("2%"), Ok(2));
        assert_eq!(percent("100"), Ok(100));
        assert!(percent("0").is_err() && percent("2 %").is_err() && percent("many").is_err());
    }
}
