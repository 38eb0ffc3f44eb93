// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus-assets DIR` writes manual pages and shell completions, for packages. It derives them from the
//! definitions of the command lines, so they always match the options that the programs accept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use clap_complete::Shell;
use clap_mangen::Man;

#[derive(Debug, Parser)]
struct Args {
    /// Directory that gets man/*.1, man/*.8 and completions/*
    dir: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    write(&args.dir).with_context(|| format!("cannot write to {}", args.dir.display()))
}

/// Writes all pages and completions below `dir`.
fn write(dir: &Path) -> Result<()> {
    let man = dir.join("man");
    fs::create_dir_all(&man)?;
    pages(daedalus_cli::command(), "1", &man)?;
    pages(daedalus_daemon::command(), "8", &man)?;
    let completions = dir.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        for (mut command, name) in [
            (visible(daedalus_cli::command()), "daedalus"),
            (visible(daedalus_daemon::command()), "daedalusd"),
        ] {
            clap_complete::generate_to(shell, &mut command, name, &completions)?;
        }
    }
    Ok(())
}

/// Writes the pages of a command and of all its visible subcommands: NAME-SUB-SUB.SECTION.
fn pages(command: clap::Command, section: &'static str, dir: &Path) -> Result<()> {
    let mut command = visible(command).disable_help_subcommand(true);
    command.build();
    page(&command, section, dir)
}

/// Writes the page of a command and, recursively, those of its subcommands.
fn page(command: &clap::Command, section: &'static str, dir: &Path) -> Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    for sub in command.get_subcommands() {
        page(sub, section, dir)?;
    }
    let mut text = Vec::new();
    Man::new(command.clone().name(name.clone()))
        .section(section)
        .manual("daedalus-v4l2")
        .render(&mut text)?;
    Ok(fs::write(dir.join(format!("{name}.{section}")), text)?)
}

/// Returns the command without its hidden subcommands, which users neither complete nor read about.
fn visible(command: clap::Command) -> clap::Command {
    let hidden = command.get_subcommands().any(clap::Command::is_hide_set);
    if !hidden {
        return command;
    }
    let kept: Vec<clap::Command> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .cloned()
        .collect();
    let mut shown = clap::Command::new(command.get_name().to_owned())
        .subcommand_required(true)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(kept)
        .args(command.get_arguments().cloned());
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        shown = shown.long_about(about.clone());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_completions_name_every_command_and_nothing_hidden() {
        let dir = std::env::temp_dir().join(format!("daedalus-assets-{}", std::process::id()));
        write(&dir).unwrap();
        for command in daedalus_cli::command().get_subcommands() {
            let page = dir.join(format!("man/daedalus-{}.1", command.get_name()));
            assert_eq!(page.exists(), !command.is_hide_set(), "{}", page.display());
        }
        let daemon = fs::read_to_string(dir.join("man/daedalusd-broker.8")).unwrap();
        assert!(
            daemon.contains(".TH daedalusd\\-broker 8") || daemon.contains(".TH daedalusd-broker 8"),
            "{daemon}"
        );
        assert!(daemon.contains("record"), "{daemon}");
        assert!(!dir.join("man/daedalusd-worker.8").exists());
        for file in ["daedalus.bash", "_daedalus", "daedalus.fish", "daedalusd.bash"] {
            let text = fs::read_to_string(dir.join("completions").join(file)).unwrap();
            assert!(!text.contains("sandbox-test"), "{file}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
