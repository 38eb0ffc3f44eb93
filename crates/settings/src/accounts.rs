// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Users and groups as /etc/passwd and /etc/group list them: lines of fields with colons between them.
//!
//! Accounts of other sources, such as LDAP, are not found.

/// The file of the users.
pub const PASSWD: &str = "/etc/passwd";
/// The file of the groups.
pub const GROUP: &str = "/etc/group";

/// A line of [`PASSWD`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's main group.
    pub gid: u32,
}

/// A line of [`GROUP`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name.
    pub name: String,
    /// The group's number.
    pub gid: u32,
    /// The login names of its members, without the users whose main group it is.
    pub members: Vec<String>,
}

/// Returns the users in the text of [`PASSWD`]. Other lines are skipped.
pub fn users(passwd: &str) -> impl Iterator<Item = User> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some(User {
            name: fields.next()?.to_owned(),
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

/// Returns the groups in the text of [`GROUP`]. Other lines are skipped.
pub fn groups(group: &str) -> impl Iterator<Item = Group> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some(Group {
            name: fields.next()?.to_owned(),
            gid: fields.nth(1)?.parse().ok()?,
            members: fields
                .next()
                .unwrap_or_default()
                .split(',')
                .filter(|member| !member.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_accounts() {
        let text = "root:x:0:0:root:/root:/bin/sh\n+nis\nbad:x:-1:0::/:\nplay:x:120:130::/:/bin/false\n";
        let found: Vec<User> = users(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[1].name.as_str(), found[1].uid, found[1].gid),
            ("play", 120, 130)
        );
        let text = "root:x:0:\nvideo:x:44:play,other\nshort:x:7\nbad:x::\n";
        let found: Vec<Group> = groups(text).collect();
        let members: Vec<usize> = found.iter().map(|group| group.members.len()).collect();
        assert_eq!(members, [0, 2, 0]);
        assert_eq!((found[1].name.as_str(), found[1].gid), ("video", 44));
        assert_eq!(found[1].members, ["play", "other"]);
    }
}
