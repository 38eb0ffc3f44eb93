// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus cdi`: the device for containers. The numbers of its nodes are known when they are there, so the
//! service has this command write the file that docker, podman and containerd read.
//!
//! The document is of version 0.6.0 of the Container Device Interface, which Docker 25 knows already. The
//! user of a container's first process owns the nodes in it: the library of the interface sees to that where
//! the document names no owner (container-edits.go, read at 7ef8d97a29a2). The group is named for the other
//! users of the container. Version 0.7.0 could put the process into that group, too, which would gain
//! nothing: it owns the nodes.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::device::{GROUP, Snapshot};
use crate::system::System;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to this file instead of to the standard output; without a device it is removed
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The contents of the file, by the names of the specification.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    cdi_version: &'static str,
    kind: &'static str,
    devices: [Device; 1],
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: &'static str,
    container_edits: Edits,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Edits {
    device_nodes: Vec<Node>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    /// In the container, as on this machine: clients go by the names in sysfs.
    path: String,
    file_mode: u32,
    permissions: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

/// Runs it. False: there is no device.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let document = document(&System::this());
    let text = match &document {
        Some(document) => format!("{}\n", serde_json::to_string_pretty(document)?),
        None => String::new(),
    };
    match (&args.output, &document) {
        (Some(path), Some(_)) => write(path, &text).with_context(|| path.display().to_string())?,
        (Some(path), None) => remove(path).with_context(|| path.display().to_string())?,
        (None, _) => print!("{text}"),
    }
    if document.is_none() {
        eprintln!("daedalus: there are no nodes: 'daedalus doctor' says why");
    }
    Ok(document.is_some())
}

fn document(system: &System) -> Option<Document> {
    let snapshot = Snapshot::take(system);
    // One of the two alone is of no use.
    let stateless = snapshot.video.zip(snapshot.media).map(<[String; 2]>::from);
    let nodes: Vec<String> = stateless.into_iter().flatten().chain(snapshot.stateful).collect();
    if nodes.is_empty() {
        return None;
    }
    let gid = system.group(GROUP).map(|group| group.gid);
    let node = |path| Node {
        path,
        file_mode: 0o660,
        permissions: "rw",
        gid,
    };
    Some(Document {
        cdi_version: "0.6.0",
        kind: "daedalus/decoder",
        devices: [Device {
            name: "0",
            container_edits: Edits {
                device_nodes: nodes.into_iter().map(node).collect(),
            },
        }],
    })
}

/// Puts a file there that is whole whenever somebody reads it, and that everybody may read, whatever the
/// umask.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    if let Some(dir) = dir.filter(|dir| !dir.exists()) {
        DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    }
    // A name that does not end in .json or .yaml is not read.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::tests::Machine;

    const PLATFORM: &str = "/sys/bus/platform/drivers/daedalus/daedalus.0";

    #[test]
    fn all_nodes_are_passed_on() {
        let machine = Machine::new(
            "cdi",
            &[
                (&format!("{PLATFORM}/video4linux/video5/name"), "daedalus-dec\n"),
                (&format!("{PLATFORM}/media3/model"), "daedalus\n"),
                ("/etc/group", "root:x:0:\nvideo:x:44:viewer\n"),
            ],
        );
        let written = serde_json::to_value(document(&machine.system).unwrap()).unwrap();
        let node =
            |path: &str| serde_json::json!({"path": path, "fileMode": 432, "permissions": "rw", "gid": 44});
        let edits = serde_json::json!({"deviceNodes": [node("/dev/video5"), node("/dev/media3")]});
        assert_eq!(
            written,
            serde_json::json!({
                "cdiVersion": "0.6.0",
                "kind": "daedalus/decoder",
                "devices": [{"name": "0", "containerEdits": edits}],
            })
        );
        // A machine without that group: the field is not there, for its value may not be null.
        machine.put("/etc/group", b"root:x:0:\n");
        let written = serde_json::to_string(&document(&machine.system).unwrap()).unwrap();
        assert!(!written.contains("gid"), "{written}");
        machine.remove(&format!("{PLATFORM}/media3"));
        assert_eq!(document(&machine.system), None);
        let stateful = "/sys/bus/platform/drivers/daedalus/daedalus_stateful/video4linux/video6/name";
        machine.put(stateful, b"daedalus-dec-stateful\n");
        let written = serde_json::to_string(&document(&machine.system).unwrap()).unwrap();
        assert!(
            written.contains("/dev/video6") && !written.contains("/dev/video5"),
            "{written}"
        );
    }

    #[test]
    fn the_file_is_for_all_and_goes_again() {
        let machine = Machine::new("cdi-file", &[("/run/lock", "")]);
        let path = machine.system.path("/run/cdi/daedalus.json");
        for text in ["first", "second"] {
            write(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o644);
        assert_eq!(mode(path.parent().unwrap()), 0o755);
        assert_eq!(machine.system.names("/run/cdi"), ["daedalus.json"]);
        for _ in 0..2 {
            remove(&path).unwrap();
            assert!(!path.exists());
        }
    }
}
