// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Debian 13 root: the target's user space, in which everything but the kernels is built, and which is
//! the guest's root file system. Made once by mmdebstrap, then never changed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use daedalus_common::vectors;

use super::apt;
use crate::site::Site;
use crate::site::cache::Stamp;
use crate::site::cmd::Cmd;
use crate::site::files::{data_lines, read};

/// Where the tree is in the root.
pub(crate) const TREE: &str = "/daedalus/tree";
/// Where unpacked kernel headers are mounted in the root.
pub(crate) const HEADERS: &str = "/daedalus/headers";
/// Where the vendored crates are in the root.
pub(crate) const CRATES: &str = "/daedalus/crates";

/// The PATH in every root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A root: which packages it has, and what for.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Its name in the cache.
    name: &'static str,
    /// The file with its packages.
    list: &'static str,
    /// For the user: what is made, how large, how long.
    what: &'static str,
    /// The directory of the tree with its first process, `guest-start`, and its last step, `customize`.
    start: &'static str,
    /// A list of packages that are downloaded, not installed, with the package lists: `apt-get --no-download`
    /// installs them later with no network.
    archive: Option<&'static str>,
}

/// Where everything is built and which the guest boots.
pub(crate) const BED: Kind = Kind {
    name: "root",
    list: "testbed/root/packages",
    what: "2 GB, 1-2 minutes",
    start: "testbed/root",
    archive: None,
};

/// Where the Debian packages are built and examined.
pub(crate) const PACKAGING: Kind = Kind {
    name: "packaging",
    list: "testbed/package/build",
    what: "for building packages: 2 GB, 1-2 minutes",
    start: "testbed/root",
    archive: None,
};

/// Where instructions are counted, and what only the bench needs is built.
pub(crate) const BENCH: Kind = Kind {
    name: "bench",
    list: "testbed/bench/packages",
    what: "for the bench: 1.7 GB, 1-2 minutes",
    start: "testbed/root",
    archive: None,
};

/// A small system into which the packages are installed.
pub(crate) const FRESH: Kind = Kind {
    name: "fresh",
    list: "testbed/package/fresh",
    what: "to install packages into: 0.5 GB, 1 minute",
    start: "testbed/root",
    archive: Some("testbed/package/archive"),
};

/// What `./dev image` packs.
pub(crate) const IMAGE: Kind = Kind {
    name: "image",
    list: "testbed/image/packages",
    what: "for the image: 0.9 GB, 1-2 minutes",
    start: "testbed/image",
    archive: None,
};

/// What the arm64 guests are run from.
pub(crate) const EMULATOR: Kind = Kind {
    name: "emulator",
    list: "testbed/arm64/emulator",
    what: "with QEMU: 0.6 GB, 1-4 minutes",
    start: "testbed/root",
    archive: None,
};

/// What the amd64 guest is run from.
pub(crate) const EMULATOR_AMD64: Kind = Kind {
    name: "emulator-amd64",
    list: "testbed/amd64/emulator",
    what: "with QEMU for amd64: 0.3 GB, 1 minute",
    start: "testbed/root",
    archive: None,
};

/// The inputs of the root.
pub(crate) fn stamp(site: &Site) -> Result<Stamp> {
    stamp_of(site, BED)
}

/// The inputs of a root.
pub(crate) fn stamp_of(site: &Site, kind: Kind) -> Result<Stamp> {
    let stamp = Stamp::new()
        .with("suite", site.conf("root.suite")?)
        .with("packages", &packages(site, kind.list)?.join("\n"))
        .with("hook", &read(&site.repo.join(kind.start).join("customize"))?)
        .with("start", &read(&site.repo.join(kind.start).join("guest-start"))?);
    Ok(match kind.archive {
        Some(list) => stamp.with("archive", &packages(site, list)?.join("\n")),
        None => stamp,
    })
}

/// The packages of a list of the tree, sorted.
pub(crate) fn packages(site: &Site, list: &str) -> Result<Vec<String>> {
    let text = read(&site.repo.join(list))?;
    let mut names: Vec<String> = data_lines(&text).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Makes the root if it is not in the cache.
pub(crate) fn make(site: &Site, kind: Kind) -> Result<PathBuf> {
    let stamp = stamp_of(site, kind)?;
    let suite = site.conf("root.suite")?;
    site.cache.artefact(
        kind.name,
        &stamp,
        &format!("making a Debian root ({suite}; {})", kind.what),
        |path| {
            let names = packages(site, kind.list)?;
            let foreign = names.iter().any(|name| name.ends_with(":arm64"));
            let architectures = if foreign { "amd64,arm64" } else { "amd64" };
            debootstrap(
                site,
                path,
                ("apt", architectures),
                &names,
                &hooks(site, kind)?,
                &format!("{}.log", kind.name),
            )
        },
    )
}

/// Runs mmdebstrap into `path`, for a variant of its and architectures; `more` are options of it, `log` is a
/// file of the cache.
pub(crate) fn debootstrap(
    site: &Site,
    path: &Path,
    (variant, architectures): (&str, &str),
    names: &[String],
    more: &[String],
    log: &str,
) -> Result<()> {
    site.host.ready()?;
    let log = site.cache.dir().join(log);
    std::fs::remove_file(&log).ok();
    site.host.remove_tree(path)?;
    let suite = site.conf("root.suite")?;
    let mut cmd = Cmd::new("mmdebstrap")
        .arg("--format=directory")
        .arg(format!("--variant={variant}"))
        .arg(format!("--architectures={architectures}"))
        .arg(format!("--include={}", names.join(",")))
        .arg(format!("--keyring={}", apt::keyring()?.display()))
        .args([
            "--aptopt=APT::Install-Recommends \"false\"",
            "--aptopt=APT::Sandbox::User \"root\"",
        ])
        .args([
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
        ])
        .args([
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        ])
        .args(more);
    for proxy in apt::proxies()? {
        cmd = cmd.arg(format!("--aptopt={proxy}"));
    }
    let cmd = cmd
        .arg(suite)
        .arg(path)
        .arg(format!("deb {} {suite} main", apt::mirror()?));
    // mmdebstrap changes to its own directories, and the root must be readable by every user.
    site.host.privileged(cmd.cwd("/"))?.log(&log).run()
}

/// What mmdebstrap does when the packages are installed.
fn hooks(site: &Site, kind: Kind) -> Result<Vec<String>> {
    let testbed = site.repo.join(kind.start);
    if let Some(list) = kind.archive {
        let names = packages(site, list)?.join(" ");
        return Ok(vec![
            "--skip=cleanup/apt".to_owned(),
            format!(
                "--customize-hook=APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get install -qy --download-only \
                 {names}"
            ),
            "--customize-hook=mkdir -p \"$1\"/daedalus/tree \"$1\"/daedalus/crates".to_owned(),
        ]);
    }
    Ok(vec![
        format!(
            "--customize-hook=copy-in {} /usr/sbin",
            testbed.join("guest-start").display()
        ),
        format!(
            "--customize-hook=sh {} \"$1\"",
            testbed.join("customize").display()
        ),
    ])
}

/// The path inside the root of a file of the tree.
pub(crate) fn inside(site: &Site, path: &Path) -> PathBuf {
    match path.strip_prefix(&site.repo) {
        Ok(rest) => Path::new(TREE).join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Returns a command that runs in a root, at the top of the tree, as the user who runs `./dev`, with more
/// directories mounted: on the machine, and in the root, where the place must exist. The root is read-only,
/// the tree is not; the network is not needed: crates come from the vendored copy in `crates`.
pub(crate) fn command(
    site: &Site,
    (root, crates): (&Path, &Path),
    program: impl AsRef<std::ffi::OsStr>,
    binds: &[(&Path, &str)],
) -> Result<Cmd> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let mut cmd = enter(root)?
        .args([
            "--cwd",
            TREE,
            "--user",
            &format!("{}:{}", uid.as_raw(), gid.as_raw()),
        ])
        .arg("--bind")
        .arg(format!("{}={TREE}", site.repo.display()))
        .arg("--bind")
        .arg(format!("{}={CRATES}", crates.display()));
    if let Some(vectors) = site.vectors() {
        // Beside the tree in the root, too.
        let inside = format!("{TREE}/{}", vectors::PLACE);
        cmd = cmd.arg("--bind").arg(format!("{}={inside}", vectors.display()));
    }
    for (from, to) in binds {
        cmd = cmd.arg("--bind").arg(format!("{}={to}", from.display()));
    }
    let target = format!("{TREE}/target/root");
    let cargo_home = format!("{CRATES}/home");
    let fixed = [
        ("HOME", "/tmp"),
        ("PATH", PATH),
        ("LC_ALL", "C.UTF-8"),
        ("CARGO_HOME", &cargo_home),
        ("CARGO_TARGET_DIR", &target),
        ("CARGO_TERM_COLOR", "never"),
        ("RUST_BACKTRACE", "1"),
    ];
    for (key, value) in fixed {
        cmd = cmd.arg("--env").arg(format!("{key}={value}"));
    }
    site.host.privileged(cmd.arg("--").arg(program))
}

/// A command that runs as root in a read-only root, with an empty environment but for a PATH, and with
/// nothing mounted but `read_only` and `writable` (on the machine, and in the root).
pub(crate) fn privileged_in(
    site: &Site,
    root: &Path,
    program: impl AsRef<std::ffi::OsStr>,
    read_only: &[(PathBuf, String)],
    writable: &[(PathBuf, String)],
) -> Result<Cmd> {
    let mut cmd = enter(root)?.arg("--env").arg(format!("PATH={PATH}"));
    for (option, binds) in [("--bind-read-only", read_only), ("--bind", writable)] {
        for (from, to) in binds {
            cmd = cmd.arg(option).arg(format!("{}={to}", from.display()));
        }
    }
    site.host.privileged(cmd.arg("--").arg(program))
}

/// The beginning of this program's own command that enters a root.
fn enter(root: &Path) -> Result<Cmd> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(Cmd::new(own).arg("__enter").arg("--root").arg(root))
}
