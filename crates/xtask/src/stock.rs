// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's own kernels, as its packages have them, to boot in QEMU: downloaded and unpacked, never
//! installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bed::Bed;
use crate::headers::{self, Headers, Target};
use crate::make::apt::{self, PrivateApt};
use crate::make::module::Source;
use crate::make::root::HEADERS;
use crate::site::cache::Stamp;
use crate::site::cmd::Cmd;

/// The bootable kernel's file in the artefact.
const KERNEL: &str = "vmlinuz";
/// A place in the artefact to mount the module's file at.
pub(crate) const PLACE: &str = "daedalus_v4l2.ko";
/// Between the packages of the headers and those of the kernel in a settled list.
const BREAK: &str = "\n\n";

/// An unpacked kernel.
pub(crate) struct Stock {
    /// The directory with `lib/modules/RELEASE`, and with an empty file to mount the module at.
    pub(crate) dir: PathBuf,
    /// As of `uname -r`.
    pub(crate) release: String,
    target: Target,
    headers: Headers,
}

impl Stock {
    /// Builds a module for this kernel; the path of its file.
    pub(crate) fn module(&self, bed: &Bed, source: &Source<'_>) -> Result<PathBuf> {
        headers::build(bed, &self.target, &self.headers, source)
    }
}

/// Downloads and unpacks the newest kernel of `suite` for an architecture, and its headers.
pub(crate) fn make(bed: &Bed, suite: &str, architecture: &str) -> Result<Stock> {
    let target = Target {
        package: format!("linux-headers-{architecture}"),
        suite: suite.into(),
        architecture: architecture.into(),
    };
    let stamp = |image: &str| Stamp::new().with("packages", image).with("layout", "1");
    // Headers and kernel of one version, whatever the archive has had since.
    let list = apt::settled(
        bed,
        &format!("{suite}-stock-{architecture}"),
        |list| {
            list.split_once(BREAK).is_some_and(|(first, image)| {
                headers::have(bed, first) && bed.cache.has("stock", &stamp(image))
            })
        },
        || resolve(bed, &target),
    )?;
    let (first, image) = list.split_once(BREAK).context("a settled list of another kind")?;
    let headers = headers::unpacked(bed, &target, first)?;
    let release = headers.release().to_owned();
    let what = format!("unpacking Debian's kernel {release} (110 MB to download, 130 MB on disk)");
    let dir = bed.cache.artefact("stock", &stamp(image), &what, |path| {
        unpack(bed, &target, image, &release, path)
    })?;
    Ok(Stock {
        dir,
        release,
        target,
        headers,
    })
}

/// NAME=VERSION of the packages with the newest headers, [`BREAK`], and the packages with the kernel and its
/// modules.
fn resolve(bed: &Bed, target: &Target) -> Result<String> {
    let headers = headers::resolve(bed, target)?;
    let release = headers.first().and_then(|first| first.split([':', '=']).next());
    let release = release.and_then(|name| name.strip_prefix("linux-headers-"));
    let release = release.context("no package of headers")?;
    let image = target.qualified(&format!("linux-image-{release}"));
    let apt = PrivateApt::new(bed, &target.suite, target.foreign())?;
    let mut names = vec![image.clone()];
    // Newer kernels come in two packages, and the image's only depends on them.
    names.extend(
        apt.depends(&image)?
            .into_iter()
            .filter(|name| {
                ["linux-binary-", "linux-modules-"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
            })
            .map(|name| target.qualified(&name)),
    );
    let packages: Vec<String> = names
        .iter()
        .map(|name| apt.candidate(name))
        .collect::<Result<_>>()?;
    Ok(headers.join("\n") + BREAK + &packages.join("\n"))
}

fn unpack(bed: &Bed, target: &Target, list: &str, release: &str, path: &Path) -> Result<()> {
    bed.host.remove_tree(path)?;
    let deb = path.join("deb");
    std::fs::create_dir_all(&deb)?;
    let log = bed.cache.dir().join("stock.log");
    let apt = PrivateApt::new(bed, &target.suite, target.foreign())?;
    for line in list.lines() {
        let (package, version) = line.split_once('=').context("no '=' in the settled packages")?;
        let file = apt.download(package, version)?;
        Cmd::new("dpkg-deb")
            .arg("-x")
            .arg(&file)
            .arg(&deb)
            .log(&log)
            .run()?;
        std::fs::remove_file(file)?;
    }
    let first = |names: [String; 2]| {
        let found = names.iter().map(|name| deb.join(name)).find(|path| path.exists());
        found.with_context(|| format!("the packages have no {}", names[0]))
    };
    let modules = first(["usr/lib/modules", "lib/modules"].map(|dir| format!("{dir}/{release}")))?;
    let kernel = first([
        format!("boot/vmlinuz-{release}"),
        format!("{}/vmlinuz", modules.strip_prefix(&deb)?.display()),
    ])?;
    std::fs::rename(kernel, path.join(KERNEL))?;
    std::fs::create_dir_all(path.join("lib/modules"))?;
    std::fs::rename(modules, path.join("lib/modules").join(release))?;
    std::fs::write(path.join(PLACE), "")?;
    // The root's depmod knows how these modules are compressed.
    bed.command_with("depmod", &[(path, HEADERS)])?
        .args(["-b", HEADERS, release])
        .log(&log)
        .run()?;
    bed.host.remove_tree(&deb)
}
