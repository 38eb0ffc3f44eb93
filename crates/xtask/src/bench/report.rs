// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was measured, for people: tables, plots, and the targets, of the newest result of every part.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::figures::Target;
use super::machine::{Machine, PartResult};
use super::options::Part;
use super::plot;
use super::table::Table;
use super::{clients, device, engine, memory, null, stages, stateful};
use crate::bed::Bed;
use crate::site::files::{read, write_json, write_whole};

/// The results of the parts that were ever measured here.
pub(crate) struct Results {
    engine: Option<PartResult<engine::Row>>,
    device: Option<PartResult<device::Row>>,
    null: Option<PartResult<null::Row>>,
    clients: Option<PartResult<clients::Row>>,
    memory: Option<PartResult<memory::Row>>,
    stages: Option<PartResult<stages::Row>>,
    stateful: Option<PartResult<stateful::Row>>,
}

/// The file of a part's results.
fn file(bed: &Bed, part: Part) -> std::path::PathBuf {
    bed.target.join(format!("bench/{}.json", part.name()))
}

/// Keeps what a part has measured.
pub(crate) fn keep<T: Serialize>(bed: &Bed, part: Part, result: &PartResult<T>) -> Result<()> {
    write_json(&file(bed, part), result)
}

fn load<T: DeserializeOwned>(bed: &Bed, part: Part) -> Result<Option<PartResult<T>>> {
    let file = file(bed, part);
    if !file.exists() {
        return Ok(None);
    }
    let result = serde_json::from_str(&read(&file)?);
    result
        .map(Some)
        .with_context(|| format!("{} is of another version: remove it", file.display()))
}

fn rows<T>(result: &Option<PartResult<T>>) -> Option<&[T]> {
    result.as_ref().map(|result| result.rows.as_slice())
}

impl Results {
    /// Reads the newest result of each part.
    pub(crate) fn load(bed: &Bed) -> Result<Self> {
        Ok(Self {
            engine: load(bed, Part::Engine)?,
            device: load(bed, Part::Device)?,
            null: load(bed, Part::Null)?,
            clients: load(bed, Part::Clients)?,
            memory: load(bed, Part::Memory)?,
            stages: load(bed, Part::Stages)?,
            stateful: load(bed, Part::Stateful)?,
        })
    }

    /// Every target, measured or not.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let mut targets = stages::targets(rows(&self.stages));
        targets.extend(engine::targets(rows(&self.engine)));
        targets.extend(device::targets(rows(&self.device)));
        targets.extend(stateful::targets(rows(&self.stateful)));
        targets.extend(null::targets(rows(&self.null)));
        targets.extend(clients::targets(rows(&self.clients)));
        targets.extend(memory::targets(rows(&self.memory)));
        targets
    }

    /// The plots by file name.
    fn plots(&self) -> BTreeMap<&'static str, String> {
        let mut plots = BTreeMap::new();
        let axis = "median of ratios and quartiles; red: the target, at most";
        if let Some(rows) = rows(&self.device) {
            plots.insert(
                "device.svg",
                plot::bars(
                    "Through the device, of software in the same guest",
                    axis,
                    &device::bars(rows),
                ),
            );
        }
        if let Some(rows) = rows(&self.engine) {
            let (peers, threads) = engine::bars(rows);
            plots.insert(
                "engine.svg",
                plot::bars("The engine's processor time, one thread", axis, &peers),
            );
            plots.insert(
                "threads.svg",
                plot::bars(
                    "The engine with several threads",
                    "times as fast as with one; median and quartiles",
                    &threads,
                ),
            );
        }
        if let Some(rows) = rows(&self.clients) {
            plots.insert(
                "clients.svg",
                plot::bars(
                    "Clients of 640x360 at once: frames per second, of software's",
                    "median of ratios and quartiles; red: the target, at least",
                    &clients::bars(rows),
                ),
            );
        }
        plots
    }

    /// Tables and plots as Markdown; `images` is the plots' directory as the document names it.
    fn document(&self, images: &str) -> String {
        let mut text =
            String::from("### Targets\n\n| target | must be | figure | |\n| --- | ---: | ---: | --- |\n");
        for target in self.targets() {
            text.push_str(&format!(
                "| {} | {} | {} | {}{} |\n",
                target.what,
                target.bound.text(),
                target.shown(),
                target.verdict(),
                if target.wish { " (a wish)" } else { "" }
            ));
        }
        text.push('\n');
        let mut part = |machine: Option<&Machine>, tables: Vec<Table>, plots: &[&str]| {
            let Some(machine) = machine else {
                return;
            };
            for table in tables {
                text.push_str(&table.text());
            }
            text.push_str(&machine.text());
            for plot in plots {
                text.push_str(&format!(
                    "![{}]({images}/{plot})\n\n",
                    plot.trim_end_matches(".svg")
                ));
            }
        };
        macro_rules! part {
            ($field:ident, $plots:expr) => {
                part(
                    self.$field.as_ref().map(|result| &result.machine),
                    rows(&self.$field)
                        .map(|rows| $field::tables(rows))
                        .unwrap_or_default(),
                    &$plots,
                )
            };
        }
        part!(device, ["device.svg"]);
        part!(stateful, []);
        part!(null, []);
        part!(engine, ["engine.svg", "threads.svg"]);
        part!(stages, []);
        part!(clients, ["clients.svg"]);
        part!(memory, []);
        text
    }

    /// Writes target/bench/bench.md and the plots beside it, and if asked for docs/performance.md between its
    /// marks.
    pub(crate) fn write(&self, bed: &Bed, document: bool) -> Result<()> {
        let dir = bed.target.join("bench");
        let plots = self.plots();
        let write_plots = |dir: &Path| -> Result<()> {
            std::fs::create_dir_all(dir)?;
            plots
                .iter()
                .try_for_each(|(name, svg)| write_whole(&dir.join(name), svg))
        };
        write_plots(&dir)?;
        write_whole(&dir.join("bench.md"), &self.document("."))?;
        if document {
            write_plots(&bed.repo.join("docs/performance"))?;
            let path = bed.repo.join("docs/performance.md");
            let old = read(&path)?;
            let new = replaced(&old, &self.document("performance"))
                .with_context(|| format!("{} has not both marks", path.display()))?;
            write_whole(&path, &new)?;
        }
        Ok(())
    }
}

const BEGIN: &str = "<!-- ./dev bench --document: begin -->\n";
const END: &str = "<!-- ./dev bench --document: end -->";

/// The document with `text` between the marks.
fn replaced(document: &str, text: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n\n{END}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let document = format!("a\n{BEGIN}old\n{END}\nb\n");
        let new = replaced(&document, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced("a", "new"), None);
    }

    #[test]
    fn everything_is_a_target_without_results() {
        let none = Results {
            engine: None,
            device: None,
            null: None,
            clients: None,
            memory: None,
            stages: None,
            stateful: None,
        };
        let targets = none.targets();
        assert!(targets.iter().all(|target| target.met().is_none()));
        for number in 1..=6 {
            assert!(
                targets
                    .iter()
                    .any(|target| target.what.starts_with(&format!("{number}: ")))
            );
        }
    }
}
