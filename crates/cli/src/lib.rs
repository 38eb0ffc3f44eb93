// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus`: commands for people who use or look after the device, a file each. It is linked with no
//! decoder, so that it can say which one is missing.
//!
//! It is a library only for its manual pages: they are made from the definition of its command line.

#![forbid(unsafe_code)]

mod abort;
mod bench;
mod cdi;
mod decode;
mod device;
mod doctor;
mod metrics;
mod output;
mod player;
mod replay;
mod status;
mod system;
mod top;
mod trace;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Looks into the daedalus video decoder.
#[derive(Debug, Parser)]
#[command(name = "daedalus", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the device, its daemon and its sessions
    Status(status::Args),
    /// Show the sessions live
    Top(top::Args),
    /// Find what keeps clients from decoding, and the command that mends it
    Doctor(doctor::Args),
    /// Decode a file through the device
    Decode(decode::Args),
    /// Decode files through the device and in software, and compare frame by frame
    ///
    /// Where a codec's standard leaves the rounding of the inverse transform open, software rounds in its own
    /// way on arm64. Samples may then differ by one step of 255, and the output says so.
    Verify(verify::Args),
    /// Measure how fast files are decoded through the device, and by software without it
    Bench(bench::Args),
    /// Figures for Prometheus
    Metrics(metrics::Args),
    /// Give a session up: its jobs end with an error at once, and its worker is killed
    Abort(abort::Args),
    /// Print the device's nodes for docker and podman, as the Container Device Interface describes them
    Cdi(cdi::Args),
    /// Record what is decoded, and look at such traces
    #[command(subcommand)]
    Trace(trace::Command),
    /// Decode traces again, without device and client, and compare with what was recorded: runs `daedalusd
    /// replay`.
    #[command(disable_help_flag = true)]
    Replay(replay::Args),
}

/// Runs the command that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let result = match &Cli::parse().command {
        Command::Status(args) => status::run(args),
        Command::Top(args) => top::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Decode(args) => decode::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Abort(args) => abort::run(args),
        Command::Cdi(args) => cdi::run(args),
        Command::Trace(command) => trace::run(command),
        Command::Replay(args) => replay::run(args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader, such as `head`, has closed the pipe: no failure.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daedalus: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The definition of the command line.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_consistent() {
        super::command().debug_assert();
    }
}
