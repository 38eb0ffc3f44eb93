// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The libraries that decode, and the daemon.

use std::process::{Command, Stdio};

use super::{Check, Verdict};
use crate::device::{DEBUGFS, MODULE, Snapshot};
use crate::system::System;

/// The daemon's configuration.
const CONFIG: &str = "/etc/daedalus-v4l2.conf";
/// What other devices decode, as the service wrote it when it started.
const OTHERS: &str = "/run/daedalus-v4l2-hardware";
/// The codecs that clients may be offered.
const CODECS: [&str; 3] = ["h264", "vp9", "av1"];
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
        checks.push(daemon(system, left.len() == CODECS.len()));
        checks.extend(others(&left));
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
/// If so, which codecs the libraries decode.
pub(super) fn starts(system: &System) -> Vec<Check> {
    let Some(path) = system.program("daedalusd") else {
        return Vec::new();
    };
    let mut checks = vec![version(&path)];
    if checks.iter().all(|check| check.verdict == Verdict::Good) {
        if let Some(names) = codecs(&path) {
            checks.push(decoded(&names));
            checks.extend(offered(&Snapshot::take(system), &names));
        }
    }
    checks
}

/// Asks the daemon which codecs the libraries decode: their names, separated by commas. `None` if it is one that
/// cannot say.
fn codecs(path: &str) -> Option<String> {
    let ended = Command::new(path).arg("codecs").stdin(Stdio::null()).output();
    let output = ended.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Names the codecs that the libraries decode and that clients are not offered.
fn offered(seen: &Snapshot, decoded: &str) -> Option<Check> {
    let stats = seen.stats.as_ref().filter(|stats| stats.state == "serving")?;
    let missing: Vec<&str> = decoded
        .split(',')
        .filter(|name| !name.is_empty() && !stats.codecs.iter().any(|codec| codec == name))
        .collect();
    (!missing.is_empty()).then(|| {
        Check::note(
            "offer",
            format!(
                "clients are not offered {}: another device decodes it, or {CONFIG} leaves it out, or the loaded module \
                 does not know it; journalctl -u daedalus-v4l2 says which",
                missing.join(", ")
            ),
        )
    })
}

/// Judges the codecs that the libraries decode, which are separated by commas.
fn decoded(names: &str) -> Check {
    const NAME: &str = "codecs";
    let there: Vec<&str> = names.split(',').collect();
    let missing: Vec<&str> = CODECS
        .into_iter()
        .filter(|codec| !there.contains(codec))
        .collect();
    if missing.is_empty() {
        return Check::good(NAME, format!("the libraries decode {}", CODECS.join(", ")));
    }
    let found = format!(
        "the installed libraries do not decode {}, so clients are not offered it: this distribution's libavcodec was \
         built without it",
        missing.join(", ")
    );
    if missing.len() < CODECS.len() {
        return Check::note(
            NAME,
            format!("{found} (Fedora: sudo dnf install libavcodec-freeworld, of RPM Fusion)"),
        );
    }
    Check::bad(NAME, found, "sudo apt install --reinstall daedalus-v4l2")
}

fn version(path: &str) -> Check {
    const NAME: &str = "daedalusd";
    let ended = Command::new(path).arg("--version").stdin(Stdio::null()).output();
    match ended {
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
    }
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

/// A codec that is left to another decoder, by a line of [`OTHERS`].
struct Left {
    codec: &'static str,
    node: String,
    driver: String,
}

/// Returns what is left to others: for each codec the first that decodes it.
fn left_to_others(system: &System) -> Vec<Left> {
    let config = system.text(CONFIG).unwrap_or_default();
    let auto = config
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once('='))
        .all(|(name, value)| name.trim() != "codecs" || value.trim() == "auto");
    if !auto {
        return Vec::new();
    }
    let others = system.text(OTHERS).unwrap_or_default();
    CODECS
        .into_iter()
        .filter_map(|codec| {
            let (node, driver) = others.lines().find_map(|line| {
                let (node, rest) = line.split_once(' ')?;
                let (driver, codecs) = rest.split_once(' ')?;
                codecs
                    .split(',')
                    .any(|name| name == codec)
                    .then_some((node, driver))
            })?;
            Some(Left {
                codec,
                node: node.to_owned(),
                driver: driver.to_owned(),
            })
        })
        .collect()
}

/// Says what is left to whom.
fn others(left: &[Left]) -> Option<Check> {
    let each: Vec<String> = left
        .iter()
        .map(|Left { codec, node, driver }| {
            let way = if node.starts_with("/dev/dri/") {
                ", by VA-API"
            } else {
                ""
            };
            format!("{codec} to {node} ({driver}{way})")
        })
        .collect();
    (!each.is_empty()).then(|| {
        Check::note(
            "others",
            format!(
                "left to other decoders: {}; 'codecs = all' in {CONFIG} offers them all the same",
                each.join(", ")
            ),
        )
    })
}

/// Whether a daemon serves the device; with everything left to others there is none.
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
    fn a_codec_that_the_libraries_lack_is_named() {
        assert_eq!(decoded("h264,vp9,av1").verdict, Verdict::Good);
        let check = decoded("vp9,av1");
        assert_eq!(check.verdict, Verdict::Note);
        assert!(check.found.contains("do not decode h264,"), "{}", check.found);
        assert_eq!(decoded("").verdict, Verdict::Bad);
    }

    #[test]
    fn a_codec_that_is_not_offered_is_named() {
        let machine = crate::device::tests::machine("doctor-offer");
        let seen = |codecs: &str| {
            let stats = crate::device::tests::STATS.replace("codecs=0x7", codecs);
            machine.put("/sys/kernel/debug/daedalus/stats", stats.as_bytes());
            Snapshot::take(&machine.system)
        };
        assert!(offered(&seen("codecs=0x7"), "h264,vp9,av1").is_none());
        let check = offered(&seen("codecs=0x3"), "h264,vp9,av1").unwrap();
        assert!(check.found.contains("not offered av1:"), "{}", check.found);
        // Without root nothing is known.
        machine.remove("/sys/kernel/debug/daedalus/stats");
        assert!(offered(&Snapshot::take(&machine.system), "h264").is_none());
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
