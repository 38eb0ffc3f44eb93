// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus`: what people use around the device. One file per command.

#![forbid(unsafe_code)]

mod assets;
mod replay;
mod trace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Looks into the daedalus video decoder.
#[derive(Debug, Parser)]
#[command(name = "daedalus", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at traces, which `daedalusd broker --record DIR` makes.
    #[command(subcommand)]
    Trace(trace::Command),
    /// Decode traces again, without device and client, and compare with what was recorded.
    Replay(replay::Args),
    /// Write manual pages and shell completions
    #[command(name = "__assets", hide = true)]
    Assets(assets::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Trace(command) => trace::run(&command),
        Command::Replay(args) => replay::run(&args),
        Command::Assets(args) => assets::run(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Who reads through `head` has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daedalus: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Opens a trace.
fn open(path: &std::path::Path) -> Result<daedalus_trace::Reader<std::fs::File>> {
    use anyhow::Context;
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    daedalus_trace::Reader::new(file).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
