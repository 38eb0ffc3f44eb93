// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Paths and words as a guest's script has them.

use std::path::Path;

use anyhow::{Context, Result};

use crate::site::Site;

/// Returns one word of shell.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A path under target/, as the guest sees it.
pub(crate) fn in_guest(site: &Site, path: &Path) -> Result<String> {
    let target = site.target.canonicalize()?;
    let path = path
        .canonicalize()
        .with_context(|| format!("no {}", path.display()))?;
    let inside = path
        .strip_prefix(&target)
        .context("the clips are not under target/")?;
    let inside = Path::new("/mnt/target").join(inside);
    Ok(inside.to_str().context("a path that is no text")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::cmd::Cmd;

    #[test]
    fn words_survive_the_shell() {
        let word = "a 'b' $c";
        let shown = Cmd::new("sh")
            .args(["-c", &format!("printf %s {}", quoted(word))])
            .output()
            .unwrap();
        assert_eq!(shown, word);
    }
}
