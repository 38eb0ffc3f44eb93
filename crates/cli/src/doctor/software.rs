// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The libraries that decode, and the daemon.

use super::Check;
use crate::device::{DEBUGFS, MODULE};
use crate::system::System;

pub(super) fn check(system: &System) -> Vec<Check> {
    let Some(path) = system.program("daedalusd") else {
        return vec![Check::bad(
            "daemon",
            "there is no daedalusd",
            "sudo apt install daedalus-v4l2",
        )];
    };
    let mut checks = Vec::new();
    let program = system.bytes(&path).unwrap_or_default();
    for (name, stem) in [("libavcodec", "libavcodec.so."), ("dav1d", "libdav1d.so.")] {
        checks.push(library(system, &program, name, stem));
    }
    if system.exists(MODULE) {
        checks.push(daemon(system));
    }
    checks
}

/// A library is found if the file that the daemon asks the loader for is in one of the loader's directories.
fn library(system: &System, program: &[u8], name: &'static str, stem: &str) -> Check {
    let Some(soname) = needed(program, stem) else {
        return Check::note(name, "daedalusd is linked without it");
    };
    let mut dirs = vec![
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
        "/usr/local/lib".to_owned(),
    ];
    for top in ["/lib", "/usr/lib", "/usr/local/lib"] {
        let names = system.names(top).into_iter();
        dirs.extend(
            names
                .filter(|dir| dir.contains("-linux-"))
                .map(|dir| format!("{top}/{dir}")),
        );
    }
    let found = dirs
        .iter()
        .map(|dir| format!("{dir}/{soname}"))
        // As the loader: a directory of that name, or a dangling link, is no library.
        .find(|path| system.path(path).is_file());
    match found {
        Some(path) => Check::good(name, path),
        None => Check::bad(
            name,
            format!("{soname} is not there, so daedalusd cannot start"),
            format!(
                "sudo apt install --reinstall {} && sudo systemctl restart daedalus-v4l2",
                soname.replace(".so.", "")
            ),
        ),
    }
}

/// The name by which an ELF file asks for a library: it stands in its string table.
fn needed(program: &[u8], stem: &str) -> Option<String> {
    let stem = stem.as_bytes();
    let mut at = 0;
    while let Some(next) = program[at..]
        .windows(stem.len())
        .position(|window| window == stem)
    {
        let start = at + next;
        let rest = &program[start + stem.len()..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let begins = start > 0 && program[start - 1] == 0;
        if begins && digits > 0 && rest.get(digits) == Some(&0) {
            return String::from_utf8(program[start..start + stem.len() + digits].to_vec()).ok();
        }
        at = start + 1;
    }
    None
}

fn daemon(system: &System) -> Check {
    const START: &str = "sudo systemctl start daedalus-v4l2 (why it ended: journalctl -u daedalus-v4l2)";
    if let Ok(stats) = system.text(&format!("{DEBUGFS}/stats")) {
        let state = stats
            .lines()
            .find_map(|line| line.strip_prefix("state="))
            .unwrap_or_default();
        return match state {
            "serving" => Check::good("daemon", "a broker is registered"),
            other => Check::bad("daemon", format!("no broker runs: the device is {other}"), START),
        };
    }
    // Without root: a process of that name.
    let runs = system.names("/proc").iter().any(|pid| {
        pid.bytes().all(|byte| byte.is_ascii_digit())
            && system
                .text(&format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name == "daedalusd")
    });
    if runs {
        Check::good(
            "daemon",
            "daedalusd runs (whether it is registered, only root sees)",
        )
    } else {
        Check::bad("daemon", "no daedalusd runs", START)
    }
}
