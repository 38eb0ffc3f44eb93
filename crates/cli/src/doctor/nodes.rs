// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that the nodes exist and that the user may open them.

use std::os::unix::fs::MetadataExt;

use daedalus_settings::accounts::{Group, PASSWD, User, users};

use super::check::Check;
use crate::device::{GROUP, MODULE, Snapshot};
use crate::system::System;

pub(super) fn check(system: &System, user: &str) -> Vec<Check> {
    if !system.exists(MODULE) {
        return Vec::new();
    }
    let mut checks = Vec::new();
    let control = "/dev/daedalus-v4l2";
    checks.push(if system.exists(control) {
        Check::good("control node", control)
    } else {
        Check::bad(
            "control node",
            format!("the module is loaded, but there is no {control}"),
            "sudo modprobe -r daedalus_v4l2 && sudo modprobe daedalus_v4l2",
        )
    });
    let snapshot = Snapshot::take(system);
    let stateless = [snapshot.video, snapshot.media];
    let nodes: Vec<String> = stateless
        .into_iter()
        .chain([snapshot.stateful])
        .flatten()
        .collect();
    if nodes.is_empty() {
        checks.push(Check::note(
            "nodes",
            "none yet: they appear with the first daemon",
        ));
        return checks;
    }
    let absent = nodes.iter().filter(|node| !system.exists(node));
    let absent: Vec<&str> = absent.map(String::as_str).collect();
    if !absent.is_empty() {
        checks.push(Check::bad(
            "nodes",
            format!("the kernel has {}, but /dev has not", absent.join(" and ")),
            "sudo udevadm trigger --action=add --subsystem-match=video4linux --subsystem-match=media (in a \
             container: pass the nodes on, by docker run --device daedalus/decoder=0)",
        ));
        return checks;
    }
    checks.push(Check::good("nodes", nodes.join(", ")));
    checks.push(permissions(system, &nodes, user));
    checks
}

fn permissions(system: &System, nodes: &[String], user: &str) -> Check {
    const NAME: &str = "permissions";
    let Some(group) = system.group(GROUP) else {
        return Check::bad(
            NAME,
            format!("there is no group {GROUP}"),
            format!("sudo groupadd --system {GROUP}"),
        );
    };
    for node in nodes {
        let Ok(data) = std::fs::metadata(system.path(node)) else {
            continue;
        };
        if data.gid() != group.gid || data.mode() & 0o060 != 0o060 {
            return Check::bad(
                NAME,
                format!(
                    "{node} does not belong to the group {GROUP}, or the group may not write (group {}, mode \
                     {:o})",
                    data.gid(),
                    data.mode() & 0o777
                ),
                format!(
                    "sudo udevadm trigger --action=add {node}, or until the next boot: sudo chgrp {GROUP} \
                     {node} && sudo chmod 660 {node}"
                ),
            );
        }
    }
    if user == "root" || member(system, &group, user) {
        Check::good(NAME, format!("{user} may open the nodes (group {GROUP})"))
    } else {
        Check::bad(
            NAME,
            format!("{user} is not in the group {GROUP}"),
            format!("sudo usermod -aG {GROUP} {user}, then log in again"),
        )
    }
}

/// Returns whether a user is in a group.
fn member(system: &System, group: &Group, user: &str) -> bool {
    let is_main = || find_user(system, |account| account.name == user).is_some_and(|it| it.gid == group.gid);
    group.members.iter().any(|member| member == user) || is_main()
}

/// Returns the first user for whom `matches` is true.
fn find_user(system: &System, matches: impl Fn(&User) -> bool) -> Option<User> {
    let text = system.text(PASSWD).ok()?;
    users(&text).find(matches)
}

/// Returns the name of the user who runs this.
pub(super) fn own_name(system: &System) -> Option<String> {
    let uid = rustix::process::getuid().as_raw();
    find_user(system, |user| user.uid == uid).map(|user| user.name)
}
