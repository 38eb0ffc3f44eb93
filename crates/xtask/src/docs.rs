// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev docs`: runs the commands of the documents as they are written there. Every block of commands says
//! in a comment before it where it is run, or why it is not:
//!
//! - `<!-- run: host -->`: here, at the top of the tree;
//! - `<!-- run: guest -->`: in the guest, as root, with the device there, beside the clips that codecs.tsv
//!   names;
//! - `<!-- run: root -->`: in the Debian root, at the top of the tree;
//! - `<!-- run: image -->`: in the directory of an unpacked image, beside the same clips;
//! - `<!-- run: arm64 -->`: by testbed/system/run, which has to have these lines;
//! - `<!-- not run: REASON -->`, or `<!-- capture: NAME -->`, which another command writes.
//!
//! A block marked `<!-- prints -->` is what the one before it prints: its lines in this order, each with `…`
//! for what differs from run to run; further lines may be between them.

mod blocks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daedalus_uapi::Codec;

use crate::bed::Bed;
use crate::codecs;
use crate::guest::{self, GuestJob, paths};
use crate::image::archive;
use crate::make::root;
use crate::outcome::Outcome;
use crate::play;
use crate::site::cmd::{Cmd, last_lines};
use crate::site::files::read;
use blocks::{Block, Place, prints};

/// Documents beside those in docs/.
const DOCUMENTS: [&str; 5] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "testbed/image/README.md",
];
/// A block that runs longer is hung.
const LIMIT: Duration = Duration::from_secs(900);

/// Checks that a command line of `./dev` is understood.
pub(crate) type Parse = fn(&[&str]) -> Result<()>;

/// Arguments of `./dev docs`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Run only what belongs here; may be repeated
    #[arg(long = "place", value_enum)]
    places: Vec<Place>,
    /// List the blocks instead
    #[arg(long)]
    list: bool,
}

impl Args {
    /// What `./dev test` runs: what shares one guest.
    pub(crate) fn quick() -> Self {
        Self {
            places: vec![Place::Guest, Place::Arm64],
            list: false,
        }
    }
}

/// Every block of every document; an error names those that do not say where they are run.
fn all(bed: &Bed) -> Result<Vec<Block>> {
    let mut files: Vec<PathBuf> = DOCUMENTS.iter().map(|name| bed.repo.join(name)).collect();
    for entry in std::fs::read_dir(bed.repo.join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "md") {
            files.push(path);
        }
    }
    files.sort();
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        let name = file
            .strip_prefix(&bed.repo)
            .unwrap_or(&file)
            .display()
            .to_string();
        match blocks::parse(&name, &read(&file)?) {
            Ok(blocks) => found.extend(blocks),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(found)
}

/// The check that every block says where it is run.
pub(crate) fn marked(bed: &Bed, outcome: &Outcome, parse: Parse) {
    outcome.check(
        "documents: every block of commands is run, or says why not, and is understood",
        || {
            let blocks = all(bed)?;
            let run = blocks.iter().filter(|block| block.place.is_some()).count();
            ensure!(run > 0, "no block is run");
            let ours = understood(&blocks, parse)?;
            Ok(format!(
                "{run} of {} are run; {ours} commands of ./dev are understood",
                blocks.len()
            ))
        },
    );
}

/// The check that every `./dev …` in them is understood, whether it is run or not. Returns how many there
/// are.
fn understood(blocks: &[Block], parse: Parse) -> Result<usize> {
    let lines = blocks.iter().flat_map(Block::commands);
    let ours: Vec<&str> = lines.filter(|line| line.starts_with("./dev ")).collect();
    for line in &ours {
        let words = line
            .split_whitespace()
            .take_while(|word| !["|", "&&", ">", ";"].contains(word));
        parse(&words.collect::<Vec<_>>()).with_context(|| format!("`{line}`"))?;
    }
    Ok(ours.len())
}

/// Runs the blocks; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args, parse: Parse) -> Result<Outcome> {
    let outcome = Outcome::new();
    let blocks = all(bed)?;
    if args.list {
        for block in &blocks {
            let place = block
                .place
                .map_or_else(|| format!("not run: {}", block.reason), |place| place.to_string());
            crate::site::ui::line(&format!("{}: {place}", block.name()));
        }
        marked(bed, &outcome, parse);
        return Ok(outcome);
    }
    let dir = bed.target.join("docs");
    bed.host.remove_tree(&dir)?;
    std::fs::create_dir_all(&dir)?;
    let of = |place: Place| -> Vec<&Block> {
        let is_selected = args.places.is_empty() || args.places.contains(&place);
        blocks
            .iter()
            .filter(|block| is_selected && block.place == Some(place))
            .collect()
    };
    arm64(bed, &of(Place::Arm64), &outcome)?;
    in_guest(bed, &of(Place::Guest), &outcome)?;
    for block in of(Place::Root) {
        let command = |script: &Path| Ok(bed.command("bash")?.args(["-eu"]).arg(root::inside(bed, script)));
        outside(&dir, block, &outcome, command);
    }
    for block in of(Place::Host) {
        let command = |script: &Path| Ok(Cmd::new("bash").args(["-eu"]).arg(script).cwd(&bed.repo));
        outside(&dir, block, &outcome, command);
    }
    let blocks = of(Place::Image);
    if !blocks.is_empty() {
        let place = archive::unpack(&archive::path(bed)?, &dir.join("image"))?;
        for (name, clip) in clips(bed)? {
            std::fs::copy(clip, place.join(name))?;
        }
        for block in blocks {
            let command = |script: &Path| Ok(Cmd::new("bash").args(["-eu"]).arg(script).cwd(&place));
            outside(&dir, block, &outcome, command);
        }
        bed.host.remove_tree(&dir.join("image"))?;
    }
    Ok(outcome)
}

/// Returns small clips, one for each codec, by their names in documents.
fn clips(bed: &Bed) -> Result<Vec<(String, PathBuf)>> {
    let (list, streams) = play::clips(bed)?;
    let dir = list.parent().context("a list without a directory")?;
    let clips = streams.iter().filter(|stream| stream.name.contains("240p"));
    let clips: Vec<(String, PathBuf)> = clips
        .map(|stream| Ok((codecs::row(stream.codec)?.clip, dir.join(&stream.path))))
        .collect::<Result<_>>()?;
    ensure!(clips.len() == Codec::ALL.len(), "there are {} clips", clips.len());
    Ok(clips)
}

/// Runs one block by a shell, and judges it.
fn outside(dir: &Path, block: &Block, outcome: &Outcome, command: impl FnOnce(&Path) -> Result<Cmd>) {
    outcome.check(&format!("docs: {}", block.name()), || {
        let script = dir.join(format!("{}.sh", block.file()));
        let log = script.with_extension("log");
        std::fs::write(&script, &block.text)?;
        command(&script)?.log(&log).timeout(LIMIT).run()?;
        prints(block, &read(&log)?)?;
        Ok(block.first().to_owned())
    });
}

/// All blocks of the guest in one; each has a shell and a directory of its own.
fn in_guest(bed: &Bed, blocks: &[&Block], outcome: &Outcome) -> Result<()> {
    if blocks.is_empty() {
        return Ok(());
    }
    let mut script = String::from(
        "daedalus_start\n\
         # What udev's rules do.\n\
         chgrp video \"$DAEDALUS_VIDEO\" \"$DAEDALUS_MEDIA\"\n\
         chmod 660 \"$DAEDALUS_VIDEO\" \"$DAEDALUS_MEDIA\"\n\
         # The documents say sudo, for there one is not root.\n\
         mkdir /tmp/programs\n\
         printf '#!/bin/sh\\nexec \"$@\"\\n' >/tmp/programs/sudo\n\
         chmod +x /tmp/programs/sudo\n\
         export PATH=/tmp/programs:$PATH\n\
         mkdir /tmp/clips\n",
    );
    for (name, clip) in clips(bed)? {
        script.push_str(&format!(
            "cp {} /tmp/clips/{name}\n",
            paths::in_guest(bed, &clip)?
        ));
    }
    for block in blocks {
        let file = block.file();
        script.push_str(&format!(
            "cat >/tmp/{file}.sh <<'end of block'\n{}\nend of block\n\
             cp -r /tmp/clips /tmp/{file}\n\
             (cd /tmp/{file} && exec timeout 120 bash -eu /tmp/{file}.sh) >{file}.log 2>&1 && \
             status=0 || status=$?\n\
             echo $status >{file}.status\n\
             rm -r /tmp/{file}\n",
            block.text
        ));
    }
    let job = GuestJob::new("docs", &script).timeout(Duration::from_secs(300));
    let result = guest::run(bed, &job)?;
    outcome.check("docs: the guest and its kernel log", || {
        result.judge()?;
        Ok(format!("{:.0} s, {} blocks", result.seconds, blocks.len()))
    });
    for block in blocks {
        outcome.check(&format!("docs: {}", block.name()), || {
            let log = read(&result.out_dir.join(format!("{}.log", block.file())))?;
            let status = read(&result.out_dir.join(format!("{}.status", block.file())))?;
            if status.trim() != "0" {
                bail!("exit status {}: {}", status.trim(), last_lines(&log, 10));
            }
            prints(block, &log)?;
            Ok(block.first().to_owned())
        });
    }
    Ok(())
}

/// What testbed/system/run does has to have these commands.
fn arm64(bed: &Bed, blocks: &[&Block], outcome: &Outcome) -> Result<()> {
    let run = read(&bed.repo.join("testbed/system/run"))?;
    for block in blocks {
        outcome.check(
            &format!("docs: {} is in testbed/system/run", block.name()),
            || {
                for command in block.commands() {
                    ensure!(run.contains(command), "it does not have: {command}");
                }
                Ok(block.first().to_owned())
            },
        );
    }
    Ok(())
}
