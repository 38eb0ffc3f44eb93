// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daedalus daemon: one broker, which decodes nothing, and one worker process per session.
//!
//! A library only so that the definition of its command line can be read, for its manual page.

#![deny(unsafe_code)]

mod broker;
mod buffers;
mod cli;
mod config;
mod fault;
mod fork_server;
mod hardware;
mod logging;
mod record;
mod replay;
mod sandbox;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

/// Runs the command that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let result = match cli::Cli::parse().command {
        cli::Command::Broker(options) => {
            logging::init_broker(options.log.log_level);
            broker::run(&options)
        }
        cli::Command::Workers(options) => {
            logging::init_worker(options.log.log_level);
            fork_server::run(&options).map(|()| ExitCode::SUCCESS)
        }
        cli::Command::Hardware(options) => {
            logging::init_broker(None);
            hardware::run(&options).map(|()| ExitCode::SUCCESS)
        }
        cli::Command::Codecs => {
            logging::init_broker(None);
            print_codecs().map(|()| ExitCode::SUCCESS)
        }
        cli::Command::Replay(options) => return replay::main(&options),
        cli::Command::SandboxTest(options) => {
            logging::init_broker(options.log.log_level);
            sandbox::attempts::run(&options).map(|()| ExitCode::SUCCESS)
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

/// Runs `daedalusd codecs`: prints what the libraries decode.
fn print_codecs() -> anyhow::Result<()> {
    use std::io::Write;
    let names = cli::Codec::names(daedalus_engine::served_codecs());
    Ok(writeln!(std::io::stdout(), "{names}")?)
}

/// The definition of the command line.
#[must_use]
pub fn command() -> clap::Command {
    cli::Cli::command()
}
