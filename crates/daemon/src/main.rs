// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daedalus daemon: one broker, which decodes nothing, and one worker process per session.

#![deny(unsafe_code)]

mod broker;
mod buffers;
mod cli;
mod fault;
mod logging;
mod record;
mod sandbox;
mod worker;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let result = match cli::Cli::parse().command {
        cli::Command::Broker(options) => {
            logging::init_broker(options.log.log_level);
            broker::run(&options)
        }
        cli::Command::Worker(options) => {
            logging::init_worker(options.log.log_level);
            worker::run(&options)
        }
        cli::Command::SandboxTest(options) => {
            logging::init_broker(options.log.log_level);
            sandbox::attempts::run(&options)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
