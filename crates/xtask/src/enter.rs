// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Entering a root: bind mounts in a mount namespace of one command, then chroot and exec.
//!
//! `dev` starts itself as `dev __enter …` for this (by sudo if need be), since it must be the only thread.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};
use rustix::thread::UnshareFlags;

/// The hidden command's arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The root's directory
    #[arg(long)]
    root: PathBuf,
    /// Directories to mount inside: HOST=INSIDE, both absolute
    #[arg(long)]
    bind: Vec<String>,
    /// The same, read-only; a file may be mounted on a file
    #[arg(long)]
    bind_read_only: Vec<String>,
    /// The command's whole environment: KEY=VALUE
    #[arg(long)]
    env: Vec<String>,
    /// Working directory inside
    #[arg(long, default_value = "/")]
    cwd: PathBuf,
    /// Leave the root writable: for one that nobody else uses
    #[arg(long)]
    writable: bool,
    /// User and group of the command: UID:GID
    #[arg(long, default_value = "0:0")]
    user: String,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// What to mount, where, and whether read-only. What is mounted in another mount comes after it.
fn binds(args: &Args) -> Result<Vec<(&str, &str, bool)>> {
    let mut all = Vec::new();
    for (list, read_only) in [(&args.bind, false), (&args.bind_read_only, true)] {
        for bind in list {
            let (from, to) = bind
                .split_once('=')
                .with_context(|| format!("--bind {bind}: no '='"))?;
            all.push((from, to, read_only));
        }
    }
    all.sort_by_key(|(_, to, _)| Path::new(*to).components().count());
    Ok(all)
}

/// Replaces this process by the command; returns only on failure.
pub(crate) fn enter(args: &Args) -> Result<std::convert::Infallible> {
    let root = args
        .root
        .canonicalize()
        .with_context(|| format!("no root at {}", args.root.display()))?;
    // SAFETY: this process has one thread and shares no file-system state that an unshared mount namespace
    // could make inconsistent.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context(
        "cannot make a mount namespace (CAP_SYS_ADMIN is needed: in a container, start it with that \
         capability)",
    )?;
    // Where / is no mount point (this machine is a chroot), its propagation cannot be changed; then the one
    // mount of the root on itself may be seen outside, and all others are below it and private.
    let everywhere = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    let private = mount_change("/", everywhere).is_ok();
    mount_bind(&root, &root).with_context(|| format!("cannot mount {}", root.display()))?;
    if !private {
        mount_change(&root, MountPropagationFlags::PRIVATE)?;
    }
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    for dir in ["/proc", "/dev"] {
        mount_bind_recursive(dir, inside(Path::new(dir))).with_context(|| format!("cannot mount {dir}"))?;
    }
    let memory = inside(Path::new("/tmp"));
    rustix::mount::mount("tmpfs", &memory, "tmpfs", MountFlags::empty(), None)
        .context("cannot mount /tmp")?;
    for (from, to, read_only) in binds(args)? {
        let place = inside(Path::new(to));
        mount_bind(from, &place).with_context(|| format!("cannot mount {from} at {to}"))?;
        if read_only {
            mount_remount(&place, MountFlags::BIND | MountFlags::RDONLY, "")
                .with_context(|| format!("cannot make {to} read-only"))?;
        }
    }
    if !args.writable {
        // The root is shared by all runs and stays as it was made.
        mount_remount(&root, MountFlags::BIND | MountFlags::RDONLY, "")
            .context("cannot make the root read-only")?;
    }
    rustix::process::chroot(&root).context("cannot chroot")?;
    std::env::set_current_dir(&args.cwd)
        .with_context(|| format!("no directory {} in the root", args.cwd.display()))?;

    let (uid, gid) = args.user.split_once(':').context("--user UID:GID")?;
    let mut command = std::process::Command::new(&args.command[0]);
    command
        .args(&args.command[1..])
        .uid(uid.parse()?)
        .gid(gid.parse()?)
        .env_clear();
    for pair in &args.env {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("--env {pair}: no '='"))?;
        command.env(key, value);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", args.command[0].to_string_lossy()))
}
