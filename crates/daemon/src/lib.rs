// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daedalus daemon: one broker, which decodes nothing, and one worker process for each session.
//!
//! It is a library so that `crates/assets` can make manual pages and completions from its command line.

#![deny(unsafe_code)]

mod broker;
mod cli;
mod fork_server;
mod hardware;
mod logging;
mod replay;
mod sandbox;
mod spawn;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::Command;

/// Runs the command that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let result = match cli::Cli::parse().command {
        Command::Broker(args) => {
            logging::init_broker(args.log_level());
            broker::run(&args.into())
        }
        Command::Workers => fork_server::run().map(|()| ExitCode::SUCCESS),
        Command::Hardware { output } => {
            logging::init_broker(None);
            hardware::run(output.as_deref()).map(|()| ExitCode::SUCCESS)
        }
        Command::Codecs => {
            logging::init_broker(None);
            print_codecs().map(|()| ExitCode::SUCCESS)
        }
        Command::Replay(args) => return replay::main(&args.into()),
        Command::SandboxTest(args) => {
            logging::init_broker(args.log_level());
            sandbox::attempts::run(&args.into()).map(|()| ExitCode::SUCCESS)
        }
        Command::SandboxAttempt { order } => {
            logging::init_broker(None);
            sandbox::attempts::run_one(&order).map(|()| ExitCode::SUCCESS)
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `daedalusd codecs`: prints the codecs that the libraries decode.
fn print_codecs() -> anyhow::Result<()> {
    use std::io::Write;
    let codecs = daedalus_engine::served_codecs();
    Ok(writeln!(std::io::stdout(), "{codecs}")?)
}

/// Returns the definition of the command line.
#[must_use]
pub fn command() -> clap::Command {
    cli::Cli::command()
}
