// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks the libraries that decode, and the daemon.

use std::process::{Command, Stdio};

use daedalus_settings::config::{self, Config, Offer};
use daedalus_settings::hardware::{self, Device};
use daedalus_uapi::codec::{Codec, CodecSet};

use super::check::{Check, Status};
use crate::device::{DEBUGFS, MODULE, Snapshot};
use crate::system::System;

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
        let left = left_to_others(system);
        checks.push(daemon(system, left.len() == Codec::ALL.len()));
        checks.extend(others(&left));
    }
    checks
}

/// Checks that the file by which the daemon names a library is in one of the loader's directories.
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
        // As for the loader, a directory of that name, or a dangling link, is no library.
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

/// Starts the daemon for its version, to check that the loader finds all libraries. If so, checks which
/// codecs they decode.
pub(super) fn starts(system: &System) -> Vec<Check> {
    let Some(path) = system.program("daedalusd") else {
        return Vec::new();
    };
    let mut checks = vec![version(&path)];
    if checks.iter().all(|check| check.status == Status::Good) {
        if let Some(names) = codecs(&path) {
            checks.push(decoded(&names));
            checks.extend(offered(&Snapshot::take(system), &names));
        }
    }
    checks
}

/// Asks the daemon which codecs the libraries decode. Returns their names, separated by commas, and `None` if
/// the daemon does not know the command.
fn codecs(path: &str) -> Option<String> {
    let ended = Command::new(path).arg("codecs").stdin(Stdio::null()).output();
    let output = ended.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Notes the codecs that the libraries decode and that clients are not offered.
fn offered(snapshot: &Snapshot, decoded: &str) -> Option<Check> {
    let stats = snapshot.stats.as_ref().filter(|stats| stats.state == "serving")?;
    let missing: Vec<&str> = decoded
        .split(',')
        .filter(|name| !name.is_empty() && !stats.codecs.iter().any(|codec| codec == name))
        .collect();
    (!missing.is_empty()).then(|| {
        Check::note(
            "offer",
            format!(
                "clients are not offered {}: another device decodes it, or {} leaves it out, or the loaded \
                 module does not know it; journalctl -u daedalus-v4l2 says which",
                missing.join(", "),
                config::PATH
            ),
        )
    })
}

/// Checks that the libraries decode all codecs. `names` are those that they decode, separated by commas.
fn decoded(names: &str) -> Check {
    const NAME: &str = "codecs";
    // A daemon of another release may name codecs that this program does not know.
    let decoded: CodecSet = names
        .split(',')
        .filter_map(|name| name.parse::<Codec>().ok())
        .collect();
    let list = |codecs: CodecSet| {
        let names: Vec<&str> = codecs.iter().map(Codec::name).collect();
        names.join(", ")
    };
    let missing = CodecSet::all().difference(decoded);
    if missing.is_empty() {
        return Check::good(NAME, format!("the libraries decode {}", list(decoded)));
    }
    let found = format!(
        "the installed libraries do not decode {}, so clients are not offered it: this distribution's \
         libavcodec was built without it",
        list(missing)
    );
    if !decoded.is_empty() {
        return Check::note(
            NAME,
            format!("{found} (Fedora: sudo dnf install libavcodec-freeworld, of RPM Fusion)"),
        );
    }
    Check::bad(NAME, found, "sudo apt install --reinstall daedalus-v4l2")
}

/// Starts the daemon for its version, which fails if the loader does not find a library.
fn version(path: &str) -> Check {
    const NAME: &str = "daedalusd";
    let ended = Command::new(path).arg("--version").stdin(Stdio::null()).output();
    match ended {
        Ok(output) if output.status.success() => {
            Check::good(NAME, String::from_utf8_lossy(&output.stdout).trim())
        }
        Ok(output) => {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            match missing_library(&message) {
                Some((library, why)) => Check::bad(
                    NAME,
                    format!("it cannot start: the loader says of {library}: {why}"),
                    reinstall(library),
                ),
                None => Check::bad(
                    NAME,
                    format!("{path} cannot start: {}: {message}", output.status),
                    "sudo apt install --reinstall daedalus-v4l2",
                ),
            }
        }
        Err(error) => Check::bad(
            NAME,
            format!("{path} cannot be started: {error}"),
            "sudo apt install --reinstall daedalus-v4l2",
        ),
    }
}

/// Returns the library that a message of the loader names, and the reason.
fn missing_library(message: &str) -> Option<(&str, &str)> {
    let (library, why) = message
        .lines()
        .find_map(|line| line.split_once("error while loading shared libraries: "))?
        .1
        .split_once(": ")?;
    // The loader names a file that exists, but is no library, with its directory.
    Some((library.rsplit('/').next().unwrap_or(library), why))
}

/// Returns the command that installs a library again. Debian makes names of packages from names of libraries.
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

/// Returns the name by which an ELF file needs a library. It is in the file's string table.
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

/// Returns the codecs that are left to other devices, each with the first device that decodes it.
fn left_to_others(system: &System) -> Vec<(Codec, Device)> {
    let text = system.text(config::PATH).unwrap_or_default();
    // With a mistake in the file no broker runs, and the journal names the line.
    if !Config::parse(&text).is_ok_and(|config| config.codecs == Offer::Auto) {
        return Vec::new();
    }
    let text = system.text(hardware::PATH).unwrap_or_default();
    let devices: Vec<Device> = text.lines().filter_map(|line| line.parse().ok()).collect();
    hardware::by_codec(&devices)
        .map(|(codec, device)| (codec, device.clone()))
        .collect()
}

/// Notes which codecs are left to which devices.
fn others(left: &[(Codec, Device)]) -> Option<Check> {
    let each: Vec<String> = left
        .iter()
        .map(|(codec, device)| {
            let interface = if device.is_gpu() { ", by VA-API" } else { "" };
            format!("{codec} to {} ({}{interface})", device.node, device.driver)
        })
        .collect();
    (!each.is_empty()).then(|| {
        Check::note(
            "others",
            format!(
                "left to other decoders: {}; 'codecs = all' in {} offers them all the same",
                each.join(", "),
                config::PATH
            ),
        )
    })
}

/// Checks that a daemon serves the device. There is none if all codecs are left to other devices.
fn daemon(system: &System, all_left: bool) -> Check {
    const START: &str = "sudo systemctl start daedalus-v4l2 (why it ended: journalctl -u daedalus-v4l2)";
    if let Ok(stats) = system.text(&format!("{DEBUGFS}/stats")) {
        let state = stats
            .lines()
            .find_map(|line| line.strip_prefix("state="))
            .unwrap_or_default();
        return match state {
            "serving" => Check::good("daemon", "a broker is registered"),
            _ if all_left => Check::note(
                "daemon",
                "nothing is offered, since other devices decode all of it (asked anew: daedalusd hardware)",
            ),
            other => Check::bad("daemon", format!("no broker runs: the device is {other}"), START),
        };
    }
    // Without root, a process of that name is all that can be seen.
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
    fn a_codec_that_the_libraries_lack_is_named() {
        let mut codecs = CodecSet::all();
        assert_eq!(decoded(&codecs.to_string()).status, Status::Good);
        let missing = Codec::ALL[0];
        codecs.remove(missing);
        let check = decoded(&codecs.to_string());
        assert_eq!(check.status, Status::Note);
        assert!(
            check.found.contains(&format!("do not decode {missing},")),
            "{}",
            check.found
        );
        assert_eq!(decoded("").status, Status::Bad);
    }

    #[test]
    fn a_codec_that_is_not_offered_is_named() {
        let machine = crate::device::tests::machine("doctor-offer");
        let snapshot = |codecs: &str| {
            let stats = crate::device::tests::STATS.replace("codecs=0x7", codecs);
            machine.put("/sys/kernel/debug/daedalus/stats", stats.as_bytes());
            Snapshot::take(&machine.system)
        };
        let all = CodecSet::all();
        let bits = |codecs: CodecSet| format!("codecs={:#x}", codecs.bits());
        assert!(offered(&snapshot(&bits(all)), &all.to_string()).is_none());
        let [.., last] = *Codec::ALL else {
            panic!("the registry has no codec");
        };
        let check = offered(&snapshot(&bits(all.difference(last.into()))), &all.to_string()).unwrap();
        assert!(
            check.found.contains(&format!("not offered {last}:")),
            "{}",
            check.found
        );
        // Without root nothing is known.
        machine.remove("/sys/kernel/debug/daedalus/stats");
        assert!(offered(&Snapshot::take(&machine.system), &all.to_string()).is_none());
    }

    #[test]
    fn messages_of_the_loader() {
        let message = "daedalusd: error while loading shared libraries: libvpx.so.9: cannot open shared \
                       object file: No such file or directory";
        let (library, why) = missing_library(message).unwrap();
        assert_eq!(library, "libvpx.so.9");
        assert!(why.starts_with("cannot open"), "{why}");
        let message = "daedalusd: error while loading shared libraries: /usr/lib/libvpx.so.9: file too short";
        assert_eq!(missing_library(message), Some(("libvpx.so.9", "file too short")));
        assert_eq!(missing_library("daedalusd: some other fault"), None);
    }
}
