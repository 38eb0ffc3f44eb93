// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The blocks of commands of a document in Markdown, and what their comments say of them.

use std::fmt;

use anyhow::{Result, bail, ensure};

/// Where a block is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Place {
    /// On this machine, at the top of the tree.
    Host,
    /// In the guest.
    Guest,
    /// In the Debian root.
    Root,
    /// Beside an unpacked image.
    Image,
    /// By testbed/system/run.
    Arm64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Guest => "guest",
            Self::Root => "root",
            Self::Image => "image",
            Self::Arm64 => "arm64",
        })
    }
}

/// A block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    document: String,
    line: usize,
    /// Without its indentation.
    pub(crate) text: String,
    /// Where it is run, if it is.
    pub(crate) place: Option<Place>,
    /// Why not.
    pub(crate) reason: String,
    /// Lines that it has to print.
    prints: Vec<String>,
}

impl Block {
    /// Document and line, for people.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.document, self.line)
    }

    /// The same as a name of files.
    pub(crate) fn file(&self) -> String {
        format!("{}-{}", self.document.replace(['/', '.'], "-"), self.line)
    }

    /// The commands, without what is said about them.
    pub(crate) fn commands(&self) -> impl Iterator<Item = &str> {
        self.text
            .lines()
            .map(|line| line.split(" # ").next().unwrap_or_default().trim())
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
    }

    /// Its first command.
    pub(crate) fn first(&self) -> &str {
        self.commands().next().unwrap_or_default()
    }
}

/// What a comment says of the block after it.
enum Mark {
    Run(Place),
    Not(String),
    Prints,
}

fn mark(line: &str) -> Result<Option<Mark>> {
    let Some(text) = line
        .trim()
        .strip_prefix("<!--")
        .and_then(|rest| rest.strip_suffix("-->"))
    else {
        return Ok(None);
    };
    let text = text.trim();
    if text == "prints" {
        return Ok(Some(Mark::Prints));
    }
    let Some((word, rest)) = text.split_once(':') else {
        return Ok(None);
    };
    let rest = rest.trim();
    Ok(match word {
        "run" => match <Place as clap::ValueEnum>::from_str(rest, false) {
            Ok(place) => Some(Mark::Run(place)),
            Err(_) => bail!("nothing is run in '{rest}'"),
        },
        "not run" => {
            ensure!(!rest.is_empty(), "it does not say why it is not run");
            Some(Mark::Not(rest.to_owned()))
        }
        "capture" => Some(Mark::Not(format!("written by a command: {rest}"))),
        _ => None,
    })
}

/// A fence's language that is no shell's holds no commands.
fn commands(language: &str) -> bool {
    ["", "sh", "bash", "console"].contains(&language)
}

/// Finds the blocks. An error names each that has no comment, and what is wrong with the comments.
pub(crate) fn parse(document: &str, text: &str) -> Result<Vec<Block>> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut blocks, mut wrong) = (Vec::<Block>::new(), Vec::new());
    let (mut pending, mut at) = (None, 0);
    while at < lines.len() {
        let line = lines[at];
        let start = at;
        let before = at.checked_sub(1).map_or("", |before| lines[before]);
        let opened = before.trim().is_empty() || before.trim_end().ends_with("-->");
        let (body, language) = if let Some(language) = line.trim_start().strip_prefix("```") {
            let end = (at + 1..lines.len())
                .find(|&end| lines[end].trim_start().starts_with("```"))
                .unwrap_or(lines.len());
            at = end + 1;
            // In a list, a fence is indented, and so is what is in it.
            let indent = line.len() - line.trim_start().len();
            let body: Vec<&str> = lines[start + 1..end]
                .iter()
                .map(|line| line.get(indent..).unwrap_or_default())
                .collect();
            (body.join("\n"), language.trim())
        } else if line.starts_with("    ") && opened {
            let mut end = at;
            while end < lines.len() && (lines[end].starts_with("    ") || lines[end].trim().is_empty()) {
                end += 1;
            }
            at = end;
            let body: Vec<&str> = lines[start..end]
                .iter()
                .map(|line| line.get(4..).unwrap_or_default())
                .collect();
            (body.join("\n").trim_end().to_owned(), "")
        } else {
            at += 1;
            match mark(line) {
                Ok(Some(mark)) => pending = Some(mark),
                Ok(None) if line.trim().is_empty() => {}
                Ok(None) => pending = None,
                Err(error) => wrong.push(format!("{document}:{}: {error}", start + 1)),
            }
            continue;
        };
        let (place, reason) = match pending.take() {
            Some(Mark::Prints) => {
                match blocks.last_mut() {
                    Some(block) if block.place.is_some() => {
                        block.prints = body.lines().map(str::to_owned).collect();
                    }
                    _ => wrong.push(format!(
                        "{document}:{}: no block that is run is before what it prints",
                        start + 1
                    )),
                }
                continue;
            }
            Some(Mark::Run(place)) => (Some(place), String::new()),
            Some(Mark::Not(reason)) => (None, reason),
            None if !commands(language) => continue,
            None => {
                wrong.push(format!(
                    "{document}:{}: the block says neither '<!-- run: PLACE -->' nor '<!-- not run: REASON \
                     -->'",
                    start + 1
                ));
                continue;
            }
        };
        blocks.push(Block {
            document: document.to_owned(),
            line: start + 1,
            text: body,
            place,
            reason,
            prints: Vec::new(),
        });
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(blocks)
}

/// Makes sure that a block's output has the lines that the document shows.
pub(crate) fn prints(block: &Block, output: &str) -> Result<()> {
    let mut lines = output.lines();
    for pattern in block.prints.iter().filter(|line| !line.trim().is_empty()) {
        ensure!(
            lines.any(|line| matches(pattern, line)),
            "the document shows a line that was not printed, or not in that place: {pattern}\nprinted was:\n\
             {}",
            crate::site::cmd::last_lines(output, 20)
        );
    }
    Ok(())
}

/// Tells whether the line fits the pattern, in which `…` stands for anything.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.trim_end().split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.trim_end().strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_places() {
        let text = "# T\n\n<!-- run: guest -->\n    one # why\n\n    two\n\ntext\n\n<!-- prints -->\n\
                    ```text\na … b\n```\n\n\
                    <!-- not run: no hardware -->\n```sh\nthree\n```\n\n```yaml\nx: y\n```\n";
        let blocks = parse("d.md", text).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!(
            (blocks[0].place, blocks[0].text.as_str()),
            (Some(Place::Guest), "one # why\n\ntwo")
        );
        assert_eq!(blocks[0].commands().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(blocks[0].prints, ["a … b"]);
        assert_eq!(
            (blocks[1].place, blocks[1].reason.as_str()),
            (None, "no hardware")
        );
        assert!(prints(&blocks[0], "x\na 1 b\n").is_ok());
        assert!(prints(&blocks[0], "x\na 1 c\n").is_err());
    }

    #[test]
    fn what_is_not_marked_is_named() {
        for (text, words) in [
            ("x\n\n    cmd\n", "d.md:3"),
            ("```\ncmd\n```\n", "neither"),
            ("<!-- run: moon -->\n    cmd\n", "moon"),
            ("<!-- not run: -->\n    cmd\n", "does not say why"),
            ("<!-- run: host -->\ntext\n\n    cmd\n", "neither"),
            ("- x\n\n  ```sh\n  cmd\n  ```\n", "d.md:3"),
            ("<!-- prints -->\n    out\n", "no block that is run"),
        ] {
            let error = parse("d.md", text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_ellipsis_stands_for_anything() {
        assert!(matches("a … c … e", "a b c d e"));
        assert!(matches("same", "same"));
        assert!(!matches("same", "same thing"));
        assert!(!matches("a … c", "a b"));
        assert!(!matches("b…", "a b"));
    }
}
