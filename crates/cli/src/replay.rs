// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus replay`: becomes `daedalusd replay`, which has the decoders.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::system::System;

const DAEMON: &str = "daedalusd";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The traces, and the options of `daedalusd replay`, which --help lists
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    arguments: Vec<OsString>,
}

/// Runs it; it returns only if it cannot.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let daemon = daemon().context("there is no daedalusd: sudo apt install daedalus-v4l2")?;
    let error = Command::new(&daemon).arg("replay").args(&args.arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", daemon.display()))
}

/// Returns the one beside this program, which is of the same build, or the installed one.
fn daemon() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name(DAEMON))
        .filter(|path| path.exists());
    beside.or_else(|| System::this().program(DAEMON).map(PathBuf::from))
}
