// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Debian packages in a Debian 13 with systemd, in QEMU: installed, used as a user would use them, and
//! purged. What is done in the guest is testbed/system/run.

mod clips;
mod disk;
mod guest;
mod machine;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::make::root;
use crate::outcome::{CheckResult, Outcome};
use crate::site::files::lock_file;
use crate::site::ui;
use crate::{package, results};
pub(crate) use machine::{Flavour, Guest, Machine, Scene};

/// Builds the packages, and runs the guests one after the other; results go to `dir`.
pub(crate) fn run(
    bed: &Bed,
    machine: &Machine,
    guests: &[Guest],
    dir: &Path,
    scene: Scene<'_>,
) -> Result<Outcome> {
    let start = Instant::now();
    let architecture = machine.architecture;
    bed.host.ready()?;
    std::fs::create_dir_all(dir)?;
    let _lock = lock_file(&dir.join(".lock"), &format!("running the {architecture} guest"))?;
    let outcome = Outcome::new();
    let chromium = scene == Scene::Chromium;
    let built = bed.target.join("package");
    std::fs::create_dir_all(&built)?;
    let mut inputs = None;
    let packages = match scene {
        Scene::Upgrade(former) => former,
        Scene::Use | Scene::Chromium => {
            outcome.check("packages build for amd64 and arm64", || {
                let _lock = lock_file(&built.join(".lock"), "building the packages")?;
                package::everything(bed, &built)
            });
            built.as_path()
        }
    };
    if outcome.count(CheckResult::Failed) == 0 {
        outcome.check(
            &format!("the {architecture} disk and the clips are there"),
            || {
                let machine_inputs = (
                    root::make(bed, machine.emulator)?,
                    disk::make(bed, machine, chromium)?,
                    clips::make(bed, dir, chromium)?,
                );
                inputs = Some(machine_inputs);
                Ok(String::new())
            },
        );
    }
    let later = dir.join("later");
    if outcome.ok() && guests.iter().any(|guest| guest.upgraded) {
        outcome.check("a later version of the packages builds", || {
            let _lock = lock_file(&built.join(".lock"), "building the packages")?;
            package::later(bed, &built, architecture, &later)
        });
    }
    let mut rows = Vec::new();
    if let Some((emulator, disk, clips)) = inputs.filter(|_| outcome.ok()) {
        for guest in guests {
            let place = guest::Place {
                machine,
                emulator: &emulator,
                disk: &disk,
                clips: &clips,
                packages,
                later: guest.upgraded.then_some(later.as_path()),
                scene,
                dir,
            };
            let (own, steps) = guest::run(bed, &place, guest)?;
            let mut row = json!({
                "kernel": guest.flavour.name,
                "cpu": guest.cpu,
                "checks": own.checks(),
            });
            if let Scene::Upgrade(_) = scene {
                row["orders"] = orders(&steps, &own);
            }
            rows.push(row);
            outcome.absorb(own);
        }
    }
    let file = dir.join("results.json");
    results::write(&file, start, json!({ "guests": rows }), &outcome)?;
    let shown = dir.strip_prefix(&bed.repo).unwrap_or(dir).display();
    ui::note(&format!(
        "results.json, and the console and the logs of each guest, are in {shown}"
    ));
    Ok(outcome)
}

/// A row for each order in which packages were upgraded: its steps, and how its check ended.
fn orders(steps: &[Value], outcome: &Outcome) -> Value {
    let mut rows: Vec<Value> = Vec::new();
    for step in steps {
        let order = &step["order"];
        match rows.last_mut().filter(|row| row["order"] == *order) {
            Some(row) => {
                if let Some(steps) = row["steps"].as_array_mut() {
                    steps.push(step.clone());
                }
            }
            None => rows.push(json!({ "order": order, "steps": [step] })),
        }
    }
    for row in &mut rows {
        let end = format!(": {}", row["order"].as_str().unwrap_or_default());
        let check = outcome
            .checks()
            .into_iter()
            .find(|check| check.name.ends_with(&end));
        row["verdict"] = json!(check.map(|check| check.result));
    }
    rows.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_row_with_its_steps() {
        let outcome = Outcome::new();
        outcome.check("arm64 16k x: daemon first", || Ok(String::new()));
        let steps = [
            ("daemon first", "dpkg"),
            ("daemon first", "reload"),
            ("both", "apt"),
        ]
        .map(|(order, step)| json!({ "order": order, "step": step }));
        let rows = orders(&steps, &outcome);
        assert_eq!(rows[0]["steps"].as_array().map(Vec::len), Some(2));
        assert_eq!(rows[0]["verdict"], "passed");
        assert_eq!(rows[1]["order"], "both");
        assert!(rows[1]["verdict"].is_null(), "it did not come to its end");
    }
}
