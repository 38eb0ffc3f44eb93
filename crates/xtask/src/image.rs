// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev image`: one archive with a UML kernel, a Debian 13 root, the module, the daemon and a script that
//! boots them and runs a command. It is then tried as a user would: unpacked elsewhere, with no privilege.
//! Results: target/image.

pub(crate) mod archive;
mod checks;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use daedalus_common::play::Stream;
use daedalus_uapi::Codec;

use crate::bed::Bed;
use crate::build;
use crate::make::kernel::Kernel;
use crate::make::{module, root};
use crate::outcome::Outcome;
use crate::play;
use crate::site::cmd::Cmd;
use crate::site::files::{lock_file, read, write_json, write_whole};
use crate::site::ui;
use archive::NAME;

/// The decoders for fluster, and the word in it for the codecs.
const FLUSTER: &str = "fluster/daedalus.py";
const NAMES: &str = "@NAMES@";
/// The size of the small clips: the name's end.
const SMALL: &str = "240p";
/// What is left out of the root: what apt downloads again, texts for people, OpenGL (there is no GPU) with
/// its compiler, neural networks, and the packing program.
const LEFT_OUT: [&str; 21] = [
    "var/lib/apt/lists/*",
    "var/cache/*",
    "var/log/*",
    "usr/share/man/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/i18n/*",
    "usr/share/icons/*",
    "usr/share/bash-completion/*",
    "usr/share/pocketsphinx/*",
    "usr/share/fonts/*",
    "usr/lib/x86_64-linux-gnu/libLLVM*",
    "usr/lib/x86_64-linux-gnu/libz3*",
    "usr/lib/x86_64-linux-gnu/libgallium*",
    "usr/lib/x86_64-linux-gnu/lib*_mesa*",
    "usr/lib/x86_64-linux-gnu/gbm",
    "usr/lib/x86_64-linux-gnu/libdnnl*",
    "usr/lib/x86_64-linux-gnu/libonnx*",
    "usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstonnx.so",
    "usr/lib/python3.13/test",
    "usr/bin/*squashfs*",
];
/// Fast to unpack, and blocks as the kernel's page cache likes them.
const PACKED: [&str; 6] = ["-comp", "zstd", "-Xcompression-level", "9", "-b", "128K"];

/// Arguments of `./dev image`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Only pack it
    #[arg(long)]
    build_only: bool,
    /// Only try the archive that is there
    #[arg(long, conflicts_with = "build_only")]
    check_only: bool,
}

/// Packs and tries the image.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let dir = bed.target.join("image");
    std::fs::create_dir_all(&dir)?;
    let _lock = lock_file(&dir.join(".lock"), "packing the image")?;
    let outcome = Outcome::new();
    let archive = dir.join(format!("{NAME}.tar"));
    if !args.check_only {
        build::announce(bed, &[Kernel::Image])?;
        bed.host.ready()?;
        let packed = outcome.check("the image is packed", || {
            pack(bed, &dir, &archive)?;
            let size = std::fs::metadata(&archive)?.len();
            Ok(format!(
                "{}, {} MiB",
                archive.strip_prefix(&bed.repo).unwrap_or(&archive).display(),
                size >> 20
            ))
        });
        if !packed {
            return Ok(outcome);
        }
    }
    if !args.build_only {
        checks::run(bed, &archive, &outcome)?;
    }
    Ok(outcome)
}

/// Returns the decoders for fluster with GStreamer's names of the codecs filled in.
fn with_codecs(text: &str) -> Result<String> {
    ensure!(
        text.matches(NAMES).count() == 1,
        "{FLUSTER} has no place for codecs"
    );
    let names: Vec<&str> = Codec::ALL
        .iter()
        .map(|codec| codec.info().gstreamer_name)
        .collect();
    Ok(text.replace(NAMES, &names.join(" ")))
}

fn pack(bed: &Bed, dir: &Path, archive: &Path) -> Result<()> {
    build::prepare(bed, &[Kernel::Image])?;
    let kernel = bed.kernel(Kernel::Image)?;
    let base = base(bed)?;
    let image = dir.join(NAME);
    bed.host.remove_tree(&image)?;
    std::fs::create_dir_all(&image)?;
    let copy = |from: &Path, to: &str| -> Result<()> {
        let to = image.join(to);
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    };
    let tree = |name: &str| bed.repo.join(name);
    copy(&base, "base.squashfs")?;
    copy(&kernel.program, "linux")?;
    Cmd::new("strip")
        .arg("--strip-debug")
        .arg(image.join("linux"))
        .run()?;
    for name in ["run", "README.md", FLUSTER] {
        copy(&tree("testbed/image").join(name), name)?;
    }
    let fluster = image.join(FLUSTER);
    write_whole(&fluster, &with_codecs(&read(&fluster)?)?)?;
    for entry in std::fs::read_dir(tree("LICENSES"))? {
        let entry = entry?;
        copy(
            &entry.path(),
            &format!("LICENSES/{}", entry.file_name().to_string_lossy()),
        )?;
    }
    source(bed, &image, &kernel.tree)?;
    let layer = layer(bed, dir)?;
    let squashed = image.join("daedalus.squashfs");
    squash(bed, &layer, &squashed)?;
    // GStreamer looks at a plugin again only if its file or what it says it depends on has changed; a first
    // look at all of them takes longer than everything else.
    let step = ui::Step::begin("letting GStreamer look at its plugins");
    let registry = dir.join("registry");
    std::fs::create_dir_all(&registry)?;
    std::fs::remove_file(registry.join("registry.bin")).ok();
    Cmd::new(image.join("run"))
        .args(["--timeout", "300", "--env", "GST_REGISTRY=/tmp/registry.bin"])
        .args([
            "--",
            "sh",
            "-c",
            "gst-inspect-1.0 >/tmp/plugins && cp /tmp/registry.bin .",
        ])
        .cwd(&registry)
        .log(dir.join("registry.log"))
        .run()?;
    let place = layer.join("root/.cache/gstreamer-1.0");
    std::fs::create_dir_all(&place)?;
    std::fs::copy(registry.join("registry.bin"), place.join("registry.x86_64.bin"))?;
    drop(step);
    squash(bed, &layer, &squashed)?;
    // What is inside is compressed.
    let new = archive.with_extension("tar.new");
    Cmd::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-cf"])
        .arg(&new)
        .arg("-C")
        .arg(dir)
        .arg(NAME)
        .run()?;
    Ok(std::fs::rename(new, archive)?)
}

/// The packed root; only its packages make it.
fn base(bed: &Bed) -> Result<PathBuf> {
    let root = root::make(bed, root::IMAGE)?;
    let stamp = root::stamp_of(bed, root::IMAGE)?
        .with("left out", &LEFT_OUT.join("\n"))
        .with("packed", &PACKED.join(" "));
    let base = bed.cache.artefact(
        "image-base",
        &stamp,
        "packing the image's root (1-3 minutes)",
        |path| {
            bed.host.remove_tree(path)?;
            std::fs::create_dir_all(path)?;
            inside(bed, path, "0:0")?
                .args([
                    "mksquashfs",
                    "/",
                    "/mnt/work/base.squashfs",
                    "-noappend",
                    "-no-progress",
                ])
                .args(PACKED)
                .args(["-one-file-system", "-wildcards", "-e"])
                .args(LEFT_OUT)
                .log(bed.cache.dir().join("image-base.log"))
                .run()?;
            // For people, and for whoever looks for the sources: they are Debian's.
            let list = Cmd::new("dpkg-query")
                .arg(format!("--admindir={}", root.join("var/lib/dpkg").display()))
                .args([
                    "-W",
                    "-f",
                    "${Package}\t${Version}\t${source:Package}\t${source:Version}\n",
                ])
                .output()?;
            Ok(std::fs::write(
                path.join("packages.tsv"),
                format!("package\tversion\tsource\tsource version\n{list}"),
            )?)
        },
    )?;
    Ok(base.join("base.squashfs"))
}

/// A program in the image's root, which sees `work` as /mnt/work.
fn inside(bed: &Bed, work: &Path, user: &str) -> Result<Cmd> {
    let root = root::make(bed, root::IMAGE)?;
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    bed.host.privileged(
        Cmd::new(own)
            .args(["__enter", "--user", user, "--root"])
            .arg(root)
            .arg("--bind")
            .arg(format!("{}=/mnt/work", work.display()))
            .args(["--env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "--"]),
    )
}

/// Packs a directory beside which the result is.
fn squash(bed: &Bed, from: &Path, to: &Path) -> Result<()> {
    let work = from.parent().context("a directory at the top")?;
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    let result = work.join("packed.squashfs");
    std::fs::remove_file(&result).ok();
    inside(bed, work, &format!("{}:{}", uid.as_raw(), gid.as_raw()))?
        .args(["mksquashfs", &format!("/mnt/work/{name}")])
        .args([
            "/mnt/work/packed.squashfs",
            "-noappend",
            "-no-progress",
            "-all-root",
        ])
        .args(PACKED)
        .log(work.join("packed.log"))
        .run()?;
    Ok(std::fs::rename(result, to)?)
}

/// What lies over the root: the module, the programs, the demonstration's clips and the second process.
fn layer(bed: &Bed, dir: &Path) -> Result<PathBuf> {
    let layer = dir.join("layer");
    bed.host.remove_tree(&layer)?;
    let place = |to: &str| -> Result<PathBuf> {
        let to = layer.join(to);
        std::fs::create_dir_all(to.parent().context("a place at the top")?)?;
        Ok(to)
    };
    std::fs::copy(bed.repo.join("testbed/image/init"), place("init")?)?;
    let programs = bed.binaries()?;
    for (name, to) in [
        ("daedalusd", "usr/sbin/daedalusd"),
        ("daedalus", "usr/bin/daedalus"),
        ("daedalus-tests", "usr/bin/daedalus-tests"),
    ] {
        let to = place(to)?;
        bed.command("strip")?
            .arg("-o")
            .arg(root::inside(bed, &to))
            .arg(root::inside(bed, &programs.join(name)))
            .run()?;
    }
    modules(bed, &layer)?;
    clips(bed, &place("usr/share/daedalus/clips/clips.json")?)?;
    Ok(layer)
}

/// The kernel's modules, with ours among them.
fn modules(bed: &Bed, layer: &Path) -> Result<()> {
    let built = bed.module(Kernel::Image)?;
    let lib = layer.join("lib");
    std::fs::create_dir_all(&lib)?;
    Cmd::new("cp")
        .arg("-r")
        .arg(built.join("lib/modules"))
        .arg(&lib)
        .run()?;
    for entry in std::fs::read_dir(lib.join("modules"))? {
        let entry = entry?;
        for link in ["build", "source"] {
            std::fs::remove_file(entry.path().join(link)).ok();
        }
        let updates = entry.path().join("updates");
        std::fs::create_dir_all(&updates)?;
        std::fs::copy(built.join(module::FILE), updates.join(module::FILE))?;
        Cmd::new("depmod")
            .arg("-b")
            .arg(layer)
            .arg(entry.file_name())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .run()?;
    }
    std::fs::rename(lib.join("modules"), layer.join("usr/lib/modules")).or_else(|_| {
        std::fs::create_dir_all(layer.join("usr/lib"))?;
        std::fs::rename(lib.join("modules"), layer.join("usr/lib/modules"))
    })?;
    // The root's lib is a link.
    Ok(std::fs::remove_dir(lib)?)
}

/// The clips that `./dev demo` shows, and small ones, with their references.
fn clips(bed: &Bed, list: &Path) -> Result<()> {
    let (from, streams) = play::clips(bed)?;
    let (from, to) = (
        from.parent().context("a list without a directory")?,
        list.parent().context("a list without a directory")?,
    );
    let shown: Vec<&Stream> = streams
        .iter()
        .filter(|stream| stream.name.contains(play::SHOWN) || stream.name.contains(SMALL))
        .collect();
    for stream in &shown {
        let references = stream.references.iter().map(|reference| &reference.path);
        for path in references.chain([&stream.path]) {
            std::fs::copy(from.join(path), to.join(path))?;
        }
    }
    write_json(list, &shown)
}

/// What the kernel and the module, which are under the GPL, are made from.
fn source(bed: &Bed, image: &Path, kernel: &Path) -> Result<()> {
    let source = bed.kernel_source()?;
    let to = image.join("source");
    std::fs::create_dir_all(&to)?;
    for part in ["kernel", "include", "testbed/uml/patches"] {
        Cmd::new("cp").arg("-r").arg(bed.repo.join(part)).arg(&to).run()?;
    }
    std::fs::copy(kernel.join(".config"), to.join("kernel.config"))?;
    std::fs::copy(
        base(bed)?.with_file_name("packages.tsv"),
        image.join("packages.tsv"),
    )?;
    let text = format!(
        "linux is Debian's {} with patches/, configured by kernel.config and built with ARCH=um.\n\
         daedalus_v4l2.ko is kernel/, built against it. The packages of base.squashfs are Debian's, \
         unchanged;\n\
         ../packages.tsv names their sources, which are at https://snapshot.debian.org.\n",
        source.version
    );
    Ok(std::fs::write(to.join("README"), text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fluster_is_told_the_codecs() {
        let text = with_codecs(include_str!("../../../testbed/image/fluster/daedalus.py")).unwrap();
        let line = text.lines().find(|line| line.starts_with("NAMES = ")).unwrap();
        for codec in Codec::ALL {
            assert!(line.contains(codec.info().gstreamer_name), "{line}");
        }
        assert!(with_codecs(&text).is_err());
    }
}
