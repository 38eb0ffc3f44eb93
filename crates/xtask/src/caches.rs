// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev caches`: what a device that does not snoop would see of the buffers, in a stock arm64 kernel of
//! Debian's in QEMU: the scenario `caches` of `daedalus-tests life`, with the module in testbed/caches.
//! Results: target/caches.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::bed::Bed;
use crate::codecs::{self, Row};
use crate::ffmpeg::{self, Scene};
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::make::{module, root};
use crate::outcome::Outcome;
use crate::site::cache::Stamp;
use crate::site::cmd::Cmd;
use crate::site::files::{lock_file, read, write_whole};
use crate::site::ui;
use crate::stock::{self, Stock};
use crate::{checks, results};

/// Until a guest that has not ended by itself is killed: emulation is slow, and other work makes it slower.
const LIMIT: Duration = Duration::from_secs(900);
/// The guest's memory in MiB: it has to end below 4 GiB, which is what the importer records.
const MEMORY: u32 = 2048;
/// Where the guest's root is in the emulator's.
const ROOT: &str = "/mnt";
const DIR: &str = "testbed/caches";
/// The importer's file, among the guest's programs.
const IMPORTER: &str = "daedalus_importer.ko";
const TRIPLE: &str = "aarch64-unknown-linux-gnu";
/// Of the clips; their names are those of the generated ones of this size.
const SCENE: Scene = Scene {
    width: 640,
    height: 360,
    frames: 12,
    rate: 25,
};

/// What a guest is made of.
struct Parts {
    emulator: PathBuf,
    root: PathBuf,
    stock: Stock,
    /// The module's file.
    module: PathBuf,
    /// The directory of the programs for arm64, and of the importer.
    programs: PathBuf,
    /// The list of the clips.
    clips: PathBuf,
}

/// Makes what the guest needs, and runs it.
pub(crate) fn run(bed: &Bed) -> Result<Outcome> {
    let start = Instant::now();
    bed.host.ready()?;
    let dir = bed.target.join("caches");
    std::fs::create_dir_all(&dir)?;
    let _lock = lock_file(&dir.join(".lock"), "running the arm64 guest")?;
    let outcome = Outcome::new();
    let mut parts = None;
    outcome.check("caches: kernel, modules, programs and clips are there", || {
        let arm64 = make(bed, &dir)?;
        let release = arm64.stock.release.clone();
        parts = Some(arm64);
        Ok(release)
    });
    if let Some(parts) = &parts {
        guest(bed, parts, &dir, &outcome)?;
    }
    let kernel = parts.as_ref().map(|parts| &parts.stock.release);
    results::write(
        &dir.join("results.json"),
        start,
        json!({ "kernel": kernel }),
        &outcome,
    )?;
    ui::note("results.json, and the console and the logs of the guest, are in target/caches");
    Ok(outcome)
}

fn make(bed: &Bed, dir: &Path) -> Result<Parts> {
    let emulator = root::make(bed, root::EMULATOR)?;
    let own_root = make_root(bed)?;
    let stock = stock::make(bed, bed.conf("root.suite")?, "arm64")?;
    let module = stock.module(bed, &module::OWN)?;
    let importer = stock.module(
        bed,
        &module::Source {
            suffix: "-importer",
            parts: &["kernel", DIR],
            dir: DIR,
            file: IMPORTER,
        },
    )?;
    let clips = make_clips(bed, &dir.join("clips"))?;
    let programs = make_programs(bed, &dir.join("bin"), &dir.join("build.log"))?;
    std::fs::copy(importer, programs.join(IMPORTER))?;
    Ok(Parts {
        emulator,
        root: own_root,
        stock,
        module,
        programs,
        clips,
    })
}

/// A Debian root for arm64 whose packages are unpacked and not configured, so that nothing is emulated for
/// it.
fn make_root(bed: &Bed) -> Result<PathBuf> {
    let packages = root::packages(bed, &format!("{DIR}/packages"))?;
    let customize = bed.repo.join(DIR).join("customize");
    let stamp = Stamp::new()
        .with("suite", bed.conf("root.suite")?)
        .with("packages", &packages.join("\n"))
        .with("hook", &read(&customize)?);
    let what = "making a Debian root for arm64 (0.4 GB, 1 minute)";
    bed.cache.artefact("root-arm64", &stamp, what, |path| {
        let more = [
            "--include=?essential".to_owned(),
            "--skip=check/qemu".to_owned(),
            format!("--extract-hook=sh {} \"$1\"", customize.display()),
        ];
        root::debootstrap(
            bed,
            path,
            ("extract", "arm64"),
            &packages,
            &more,
            "root-arm64.log",
        )
    })
}

/// Builds the daemon and the tests for arm64 into `to`.
fn make_programs(bed: &Bed, to: &Path, log: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(to)?;
    std::fs::remove_file(log).ok();
    let packaging = root::make(bed, root::PACKAGING)?;
    let step = ui::Step::begin("building the daemon and the tests for arm64");
    bed.command_in(&packaging, "env", &[])?
        .args([
            "PKG_CONFIG_ALLOW_CROSS=1",
            "PKG_CONFIG=aarch64-linux-gnu-pkg-config",
        ])
        .arg("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc")
        .args(["cargo", "build", "--release", "--locked", "--offline"])
        .args(["--package", "daedalus-daemon", "--package", "daedalus-tests"])
        .args(["--target", TRIPLE])
        .log(log)
        .run()?;
    drop(step);
    for name in ["daedalusd", "daedalus-tests"] {
        let built = bed.target.join("root").join(TRIPLE).join("release").join(name);
        std::fs::copy(&built, to.join(name)).with_context(|| format!("cannot copy {}", built.display()))?;
    }
    Ok(to.to_owned())
}

/// Makes the clips in `to`, and the checksum of each of their pictures by FFmpeg; their list.
fn make_clips(bed: &Bed, to: &Path) -> Result<PathBuf> {
    let list = to.join("clips.json");
    let rows = codecs::rows()?;
    let file = |row: &Row| format!("{}-{}p.{}", row.codec, SCENE.height, row.ending);
    let clips: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "name": format!("{}-{}p", row.codec, SCENE.height),
                "path": file(row),
                "codec": row.codec,
                "width": SCENE.width,
                "height": SCENE.height,
                "frames": SCENE.frames,
                "references": [{ "name": "ffmpeg", "path": file(row) + ".md5" }],
                "options": row.small,
            })
        })
        .collect();
    let text = serde_json::to_string_pretty(&clips)?;
    if std::fs::read_to_string(&list).is_ok_and(|there| there == text) {
        return Ok(list);
    }
    std::fs::create_dir_all(to)?;
    for row in &rows {
        let clip = to.join(file(row));
        ffmpeg::encode(bed, SCENE, &row.small, &clip, &to.join("clips.log"))?;
        std::fs::write(
            to.join(file(row) + ".md5"),
            ffmpeg::sums(bed, &clip, SCENE.frames)?,
        )?;
    }
    write_whole(&list, &text)?;
    Ok(list)
}

/// Boots the guest, which makes checks, and waits for its end.
fn guest(bed: &Bed, parts: &Parts, dir: &Path, outcome: &Outcome) -> Result<()> {
    let job = GuestJob::new("guest", "exec bash /mnt/repo/testbed/caches/run")
        .env("CLIPS", &in_guest(bed, &parts.clips)?)
        .timeout(LIMIT);
    let (out_dir, _lock) = guest::place(bed, dir, &job)?;
    let start = Instant::now();
    let boot = boot(bed, parts, &out_dir)?
        .log(out_dir.join(guest::LOG))
        .timeout(job.limit());
    let exit = {
        let _step = ui::Step::begin("running the arm64 guest");
        checks::watched(&boot, &out_dir.join(checks::FILE), "caches", outcome)?
    };
    let result = guest::collect(bed, out_dir, &exit, start)?;
    outcome.check(
        "caches: the guest came to its end, and its kernel reported nothing",
        || {
            result.judge()?;
            Ok(format!("{:.0} s", result.seconds))
        },
    );
    Ok(())
}

/// The command that boots the guest, in the emulator's root with everything mounted.
fn boot(bed: &Bed, parts: &Parts, out_dir: &Path) -> Result<Cmd> {
    let inside = |path: &str| format!("{ROOT}{path}");
    let read_only = [
        (parts.root.clone(), inside("")),
        (bed.repo.clone(), inside("/mnt/repo")),
        (parts.stock.dir.clone(), inside("/mnt/modules")),
        (
            parts.module.clone(),
            inside(&format!("/mnt/modules/{}", stock::PLACE)),
        ),
        (parts.programs.clone(), inside("/mnt/bin")),
        (parts.stock.dir.clone(), root::HEADERS.to_owned()),
    ];
    let writable = [(out_dir.to_owned(), inside("/mnt/out"))];
    Ok(
        root::privileged_in(bed, &parts.emulator, "sh", &read_only, &writable)?
            .arg(inside("/mnt/repo/testbed/caches/boot"))
            .arg(MEMORY.to_string()),
    )
}
