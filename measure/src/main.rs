// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program that `./dev bench` runs at the place of measurement: in the guest and in the Debian root. It
//! takes figures; `crates/xtask/src/bench.rs` judges them.

use clap::{Parser, Subcommand};

mod alternate;
mod calls;
mod jobs;
mod memory;
mod process;

/// Takes the figures of ./dev bench.
#[derive(Debug, Parser)]
#[command(name = "daedalus-measure", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs commands one after the other, again and again, and says what each run took.
    Alternate(alternate::Args),
    /// Plays a clip through the device, and says what each job took.
    Jobs(jobs::Args),
    /// Plays a clip through the device, and says whose the worker's private memory is.
    Memory(memory::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Alternate(args) => alternate::run(&args),
        Command::Jobs(args) => jobs::run(&args),
        Command::Memory(args) => memory::run(&args),
    }
}
