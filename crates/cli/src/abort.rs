// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus abort`: ends all jobs of a session at once.

use std::fs::OpenOptions;
use std::io::{self, Write};

use anyhow::{Result, anyhow, bail};

use crate::device::{DEBUGFS, MODULE, why};
use crate::output::print_line;
use crate::system::System;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id, as `daedalus status` shows it
    session: u64,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<bool> {
    abort(&System::this(), args.session)?;
    if args.json {
        print_line(serde_json::json!({ "aborted": args.session }))?;
    } else {
        print_line(format_args!(
            "session {} is aborted: its client sees EIO until it stops both queues",
            args.session
        ))?;
    }
    Ok(true)
}

fn abort(system: &System, session: u64) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .open(system.path(&format!("{DEBUGFS}/abort")));
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("only root may abort sessions: sudo daedalus abort {session}")
        }
        Err(_) if !system.exists(MODULE) => bail!("the module is not loaded, so there are no sessions"),
        Err(error) => bail!("{}", why(&error)),
    };
    file.write_all(session.to_string().as_bytes()).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            anyhow!("no session {session}: `daedalus status` lists them")
        } else {
            anyhow!("session {session}: {error}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::tests::Machine;

    #[test]
    fn the_id_is_written_and_a_missing_module_named() {
        let machine = Machine::new("abort", &[("/sys/kernel/debug/daedalus/abort", "")]);
        abort(&machine.system, 42).unwrap();
        assert_eq!(
            machine.system.text("/sys/kernel/debug/daedalus/abort").unwrap(),
            "42"
        );
        machine.remove("/sys/kernel/debug/daedalus");
        let error = abort(&machine.system, 42).unwrap_err().to_string();
        assert!(error.contains("not loaded"), "{error}");
    }
}
