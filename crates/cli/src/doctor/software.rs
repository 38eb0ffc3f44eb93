// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The libraries that decode, and the daemon.

use std::process::{Command, Stdio};

use super::Check;
use crate::device::{DEBUGFS, MODULE};
use crate::system::System;

/// The daemon's configuration.
const CONFIG: &str = "/etc/daedalus-v4l2.conf";
/// What other devices decode, as the service wrote it when it started.
const OTHERS: &str = "/run/daedalus-v4l2-hardware";
/// The checks of the libraries that decode.
pub(super) const LIBRARIES: [&str; 2] = ["libavcodec", "dav1d"];

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
    for (name, stem) in LIBRARIES.into_iter().zip(["libavcodec.so.", "libdav1d.so."]) {
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
            reinstall(&soname),
        ),
    }
}

/// Whether the loader finds all that the daemon needs, and what that needs in turn: it is started, to say its version.
pub(super) fn starts(system: &System) -> Option<Check> {
    const NAME: &str = "daedalusd";
    let path = system.program("daedalusd")?;
    let ended = Command::new(&path).arg("--version").stdin(Stdio::null()).output();
    Some(match ended {
        Ok(output) if output.status.success() => {
            Check::good(NAME, String::from_utf8_lossy(&output.stdout).trim())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            match unloadable(&said) {
                Some((library, why)) => Check::bad(
                    NAME,
                    format!("it cannot start: the loader says of {library}: {why}"),
                    reinstall(library),
                ),
                None => Check::bad(
                    NAME,
                    format!("{path} cannot start: {}: {said}", output.status),
                    "sudo apt install --reinstall daedalus-v4l2",
                ),
            }
        }
        Err(error) => Check::bad(
            NAME,
            format!("{path} cannot be started: {error}"),
            "sudo apt install --reinstall daedalus-v4l2",
        ),
    })
}

/// The library that the loader complains of, and why.
fn unloadable(said: &str) -> Option<(&str, &str)> {
    let (library, why) = said
        .lines()
        .find_map(|line| line.split_once("error while loading shared libraries: "))?
        .1
        .split_once(": ")?;
    // A file that is there and is no library is named with its directory.
    Some((library.rsplit('/').next().unwrap_or(library), why))
}

/// How a library comes back. Debian's names of packages are made of the libraries' names.
fn reinstall(soname: &str) -> String {
    let package = match soname.split_once(".so.") {
        Some((stem, version)) if stem.ends_with(|end: char| end.is_ascii_digit()) => {
            format!("{stem}-{version}")
        }
        Some((stem, version)) => format!("{stem}{version}"),
        None => soname.to_owned(),
    };
    format!("sudo apt install --reinstall {package} && sudo systemctl restart daedalus-v4l2")
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

/// Whether the configuration leaves what other devices decode to them, and they decode everything.
fn left_to_others(system: &System) -> bool {
    let config = system.text(CONFIG).unwrap_or_default();
    let auto = config
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once('='))
        .all(|(name, value)| name.trim() != "codecs" || value.trim() == "auto");
    let others = system.text(OTHERS).unwrap_or_default();
    let decoded: Vec<&str> = others.split([' ', ',', '\n']).collect();
    auto && ["h264", "vp9", "av1"].iter().all(|codec| decoded.contains(codec))
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
            _ if left_to_others(system) => Check::note(
                "daemon",
                format!(
                    "nothing is offered, since other devices decode all of it: daedalusd hardware; 'codecs = all' in {CONFIG} \
                     offers it all the same"
                ),
            ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_libraries() {
        for (soname, package) in [
            ("libavcodec.so.61", "libavcodec61"),
            ("libx264.so.164", "libx264-164"),
            ("libdav1d.so.7", "libdav1d7"),
        ] {
            let command = reinstall(soname);
            assert!(command.contains(&format!("--reinstall {package} ")), "{command}");
        }
    }

    #[test]
    fn what_the_loader_says() {
        let said = "daedalusd: error while loading shared libraries: libvpx.so.9: cannot open shared object file: No such \
                    file or directory";
        let (library, why) = unloadable(said).unwrap();
        assert_eq!(library, "libvpx.so.9");
        assert!(why.starts_with("cannot open"), "{why}");
        let said = "daedalusd: error while loading shared libraries: /usr/lib/libvpx.so.9: file too short";
        assert_eq!(unloadable(said), Some(("libvpx.so.9", "file too short")));
        assert_eq!(unloadable("daedalusd: some other fault"), None);
    }
}
