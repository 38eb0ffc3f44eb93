// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Users and capabilities.
//!
//! In the service the broker runs as an unprivileged user in the group of the control device, and so do its
//! workers. A broker that root starts by hand keeps only the capabilities for starting workers as another
//! user and for ending them. Its bounding set is empty, and workers inherit that.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use daedalus_settings::accounts::{GROUP, PASSWD, groups, users};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// The user of the workers of root's broker, unless an option names another. [`NOBODY`] if it does not exist.
const DEFAULT_USER: &str = "daedalus-worker";
const NOBODY: u32 = 65534;
/// The capabilities for running workers as another user.
const CHANGE_USER: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL);

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// Returns the user of the workers: `requested`, which is USER[:GROUP], or the default one. `None` is the
/// broker's own user.
///
/// # Errors
/// If the requested user does not exist, is root, or cannot be set.
pub(crate) fn worker_user(requested: Option<&str>) -> Result<Option<User>> {
    // Only root's supplementary groups are dropped on the way, so root alone may change the user.
    let may_change = rustix::process::geteuid().is_root()
        && capabilities(None)
            .context("capget")?
            .effective
            .contains(CHANGE_USER);
    let passwd = || std::fs::read_to_string(PASSWD).context(PASSWD);
    let group = || std::fs::read_to_string(GROUP).context(GROUP);
    let user = match requested {
        Some(name) => {
            ensure!(
                may_change,
                "--worker-user: only a broker that root starts can change the user"
            );
            resolve(name, &passwd()?, &group()?).with_context(|| format!("--worker-user: no {name}"))?
        }
        None if may_change => {
            let default = passwd().ok().and_then(|text| resolve(DEFAULT_USER, &text, ""));
            default.unwrap_or(User {
                uid: NOBODY,
                gid: NOBODY,
            })
        }
        None => return Ok(None),
    };
    if user.uid == 0 || user.gid == 0 {
        bail!("--worker-user: not root");
    }
    Ok(Some(user))
}

/// Reads `USER[:GROUP]`, each a name or a number. A number that is no user's also counts as that of the
/// group.
fn resolve(text: &str, passwd: &str, group: &str) -> Option<User> {
    let (user, own_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let by_name = users(passwd).find(|account| account.name == user);
    let user = match by_name {
        Some(account) => User {
            uid: account.uid,
            gid: account.gid,
        },
        None => user.parse().ok().map(|id| User { uid: id, gid: id })?,
    };
    let gid = match own_group {
        None => user.gid,
        Some(name) => match groups(group).find(|group| group.name == name) {
            Some(group) => group.gid,
            None => name.parse().ok()?,
        },
    };
    Some(User { gid, ..user })
}

/// Drops the broker's capabilities, except those for starting workers as `user`, if there is one. Programs
/// that it executes get none. The broker calls it when it has the control device.
///
/// # Errors
/// What the kernel says.
pub(crate) fn keep_for_broker(user: Option<User>) -> Result<()> {
    let keep = if user.is_some() {
        CHANGE_USER
    } else {
        CapabilitySet::empty()
    };
    keep_only(keep)
}

/// Drops all capabilities of this process, a worker, and checks that none is left.
///
/// # Errors
/// Errors of the kernel, or if a capability is left.
pub(crate) fn drop_all() -> Result<()> {
    keep_only(CapabilitySet::empty())?;
    let left = capabilities(None).context("capget")?;
    ensure!(
        left.permitted.is_empty() && left.effective.is_empty() && left.inheritable.is_empty(),
        "capabilities are left: {left:?}"
    );
    Ok(())
}

fn keep_only(keep: CapabilitySet) -> Result<()> {
    set_no_new_privs(true).context("PR_SET_NO_NEW_PRIVS")?;
    clear_ambient_capability_set().context("PR_CAP_AMBIENT_CLEAR_ALL")?;
    let own = capabilities(None).context("capget")?;
    // Without CAP_SETPCAP the bounding set stays; no_new_privs makes it meaningless.
    if own.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            match capability_is_in_bounding_set(one) {
                Ok(false) => {}
                Ok(true) => remove_capability_from_bounding_set(one).context("PR_CAPBSET_DROP")?,
                // Past the kernel's last.
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error).context("PR_CAPBSET_READ"),
            }
        }
    }
    let kept = own.permitted.intersection(keep);
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
    .context("capset")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nplay:x:120:130::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nvideo:x:44:play\n";

    #[test]
    fn users_are_names_or_numbers() {
        let found = |text| resolve(text, PASSWD, GROUP).map(|user| (user.uid, user.gid));
        assert_eq!(found("play"), Some((120, 130)));
        assert_eq!(found("play:video"), Some((120, 44)));
        assert_eq!(found("play:7"), Some((120, 7)));
        assert_eq!(found("900"), Some((900, 900)));
        assert_eq!(found("900:video"), Some((900, 44)));
        assert_eq!(found("root"), Some((0, 0)));
        for text in ["", "none", "play:none", ":", "-1"] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
