// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `./dev` runs: the test bed, the checks and the tests.

mod amd64;
mod arm64;
mod bed;
mod bench;
mod build;
mod caches;
mod checks;
mod codecs;
mod command_line;
mod compliance;
mod conformance;
mod coverage;
mod demo;
mod docs;
mod enter;
mod ffmpeg;
mod foreign;
mod fuzz;
mod guest;
mod headers;
mod image;
mod ioctls;
mod layers;
mod lint;
mod make;
mod outcome;
mod package;
mod play;
mod replay;
mod results;
mod site;
mod stock;
mod streams;
mod suite;
mod system;
mod torture;
mod upgrade;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use bed::Bed;
use outcome::Outcome;
use site::{Options, signals};

/// Builds, runs and tests daedalus-v4l2 in a kernel of its own, on a Debian 12 or 13 with a Rust toolchain.
#[derive(Parser)]
#[command(name = "dev", bin_name = "./dev", disable_help_subcommand = false)]
struct Cli {
    /// Install no package on this machine: fail and name the missing ones instead
    #[arg(long, global = true)]
    no_install: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every check and test there is; what continuous integration runs
    Test(suite::Args),
    /// Decode generated 1080p clips with GStreamer through the device, and compare every frame
    Demo(demo::Args),
    /// v4l2-compliance on the video and media node, next to the in-kernel visl
    Compliance,
    /// Decode the conformance vectors through the device, and compare with their MANIFEST
    Conformance(conformance::Args),
    /// Record what GStreamer plays in a guest, and decode the traces again without one
    Replay(replay::Args),
    /// The imitation of FFmpeg under strace, compared with the ioctl sequences of the real one
    Ioctls,
    /// The daedalus command in a guest: doctor in broken situations, status, top, metrics, decode, verify
    #[command(name = "command-line")]
    Tool(command_line::Args),
    /// Repeated loads, kills and errors under the sanitizer kernel
    Torture(torture::Args),
    /// Show 300 pictures of each codec on a screen that imports their buffers, through both faces
    Screen,
    /// Measure device and engine against ffmpeg, dav1d and GStreamer's software decoders, in runs that
    /// alternate
    Bench(bench::Args),
    /// Run what concerns the module in a kernel that counts its lines, and say which never ran
    Coverage,
    /// Run the fuzz targets for a time, from inputs of recorded traces on
    Fuzz(fuzz::Args),
    /// Build everything: root, kernels, module, daemon and tools
    Build,
    /// Format, clippy, cargo-deny, what sources import and name, and the kernel's own checkers on the module
    Lint(lint::Args),
    /// Link the module against the headers of Debian's kernels for amd64 and arm64
    Modules,
    /// Build the Debian packages, examine them with lintian, install and purge them
    Package(package::Args),
    /// Boot a stock kernel of Debian's for amd64 under QEMU, and run the module, the daemon and clients in it
    Amd64(amd64::Args),
    /// Install the packages into a Debian 13 for arm64 under QEMU, use them as a user would, and purge them
    Arm64(arm64::Args),
    /// Boot a stock arm64 kernel under QEMU, and see what a device that does not snoop would see of buffers
    Caches,
    /// Upgrade the packages of an earlier commit to the tree's in a Debian 13 for arm64, in every order, and
    /// back
    Upgrade(upgrade::Args),
    /// Pack kernel, root, module and daemon into one archive that boots anywhere, and try it
    Image(image::Args),
    /// Run the commands of README.md and docs/ as they are written there
    Docs(docs::Args),
    /// Run a command in a guest, with the module loaded and the daemon started
    Guest(guest::Args),
    /// Run a command in the Debian 13 root, at the top of the tree
    Root(RootArgs),
    /// Remove what the cache keeps of earlier inputs (--all: everything)
    Clean(CleanArgs),
    /// Mount and enter a root; what the other commands start themselves with
    #[command(name = "__enter", hide = true)]
    Enter(enter::Args),
}

#[derive(clap::Args)]
struct RootArgs {
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(clap::Args)]
struct CleanArgs {
    /// Remove the whole cache
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    if let Command::Enter(args) = &cli.command {
        match enter::enter(args)? {}
    }
    signals::install()?;
    let bed = Bed::new(Options {
        no_install: cli.no_install,
    })?;
    let result = dispatch(&bed, &cli.command);
    signals::clean_up();
    result
}

fn dispatch(bed: &Bed, command: &Command) -> Result<ExitCode> {
    match command {
        Command::Test(args) => Ok(finish(&suite::run(bed, args, understood)?)),
        Command::Demo(args) => Ok(finish(&demo::run(bed, args)?)),
        Command::Compliance => Ok(finish(&compliance::run_all(bed)?)),
        Command::Conformance(args) => Ok(finish(&conformance::run(bed, args)?)),
        Command::Replay(args) => Ok(finish(&replay::run(bed, args)?)),
        Command::Ioctls => Ok(finish(&ioctls::run(bed)?)),
        Command::Tool(args) => Ok(finish(&command_line::run(bed, args)?)),
        Command::Torture(args) => Ok(finish(&torture::run(bed, args)?)),
        Command::Screen => Ok(finish(&torture::screen::run(bed)?)),
        Command::Bench(args) => Ok(finish(&bench::run(bed, args)?)),
        Command::Coverage => Ok(finish(&coverage::run(bed)?)),
        Command::Fuzz(args) => Ok(finish(&fuzz::run(bed, args)?)),
        Command::Lint(args) => Ok(finish(&lint::run(bed, args, understood)?)),
        Command::Modules => Ok(finish(&foreign::run(bed)?)),
        Command::Package(args) => Ok(finish(&package::run(bed, args)?)),
        Command::Amd64(args) => Ok(finish(&amd64::run(bed, args)?)),
        Command::Arm64(args) => Ok(finish(&arm64::run(bed, args)?)),
        Command::Caches => Ok(finish(&caches::run(bed)?)),
        Command::Upgrade(args) => Ok(finish(&upgrade::run(bed, args)?)),
        Command::Docs(args) => Ok(finish(&docs::run(bed, args, understood)?)),
        Command::Image(args) => Ok(finish(&image::run(bed, args)?)),
        Command::Build => build::everything(bed).map(|()| ExitCode::SUCCESS),
        Command::Guest(args) => guest::run_command(bed, args),
        Command::Root(args) => in_root(bed, &args.command),
        Command::Clean(args) => bed.cache.clean(&bed.host, args.all).map(|()| ExitCode::SUCCESS),
        Command::Enter(_) => unreachable!("done before the bed is set up"),
    }
}

/// `./dev root`: replaces this process.
fn in_root(bed: &Bed, words: &[OsString]) -> Result<ExitCode> {
    let (program, args) = words.split_first().context("no command")?;
    Err(bed.command(program)?.args(args).exec())
}

/// Checks that a command line of this program is one: documents are full of them.
///
/// # Errors
///
/// Returns what a user would be told.
fn understood(words: &[&str]) -> Result<()> {
    match Cli::try_parse_from(words) {
        Err(error) if error.use_stderr() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints the closing line of a set of checks; failure is the process's exit status.
fn finish(outcome: &Outcome) -> ExitCode {
    outcome.print_summary();
    if outcome.ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_help_names_what_is_typed() {
        let mut command = Cli::command();
        command.build();
        let help = command.render_long_help().to_string();
        assert!(help.contains("Usage: ./dev "), "{help}");
        let sub = command
            .find_subcommand_mut("conformance")
            .map(|sub| sub.render_long_help().to_string());
        assert!(sub.is_some_and(|help| help.contains("Usage: ./dev conformance ")));
        let error = Cli::try_parse_from(["target/xtask", "nothing"])
            .err()
            .map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("./dev") && !text.contains("xtask")));
    }
}
