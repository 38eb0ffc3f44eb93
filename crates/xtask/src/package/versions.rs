// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one version, which three files state.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::site::files::read;

/// The version of Cargo.toml, dkms.conf and debian/changelog; an error that says which is which if they
/// differ.
pub(crate) fn version(repo: &Path) -> Result<String> {
    let stated = [
        ("Cargo.toml", between("version = \"", "\"")),
        (
            "debian/daedalus-v4l2-dkms.dkms",
            between("PACKAGE_VERSION=\"", "\""),
        ),
        ("debian/changelog", between("daedalus-v4l2 (", ")")),
    ]
    .into_iter()
    .map(|(file, find)| {
        let text = read(&repo.join(file))?;
        let version = text
            .lines()
            .find_map(&find)
            .with_context(|| format!("{file} states no version"))?;
        Ok((file, version.to_owned()))
    })
    .collect::<Result<Vec<_>>>()?;
    let (_, version) = &stated[0];
    if stated.iter().any(|(_, other)| other != version) {
        bail!("versions differ: {stated:?}");
    }
    Ok(version.clone())
}

/// What is between the beginning of a line and `end`.
fn between(begin: &'static str, end: &'static str) -> impl Fn(&str) -> Option<&str> {
    move |line| Some(line.strip_prefix(begin)?.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_state_the_same_version() {
        version(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
    }

    #[test]
    fn another_version_is_noticed() {
        let dir = std::env::temp_dir().join(format!("xtask-versions-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("debian")).unwrap();
        let write = |file: &str, text: &str| std::fs::write(dir.join(file), text).unwrap();
        write("Cargo.toml", "[workspace.package]\nversion = \"1.2.3\"\n");
        write("debian/daedalus-v4l2-dkms.dkms", "PACKAGE_VERSION=\"1.2.3\"\n");
        write(
            "debian/changelog",
            "daedalus-v4l2 (1.2.3) unstable; urgency=low\n",
        );
        assert_eq!(version(&dir).unwrap(), "1.2.3");
        write("debian/daedalus-v4l2-dkms.dkms", "PACKAGE_VERSION=\"1.2.4\"\n");
        let message = version(&dir).unwrap_err().to_string();
        assert!(
            message.contains("1.2.4") && message.contains("debian/changelog"),
            "{message}"
        );
        write("debian/daedalus-v4l2-dkms.dkms", "");
        assert!(version(&dir).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
