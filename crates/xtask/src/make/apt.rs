// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's archive by way of the machine's own mirror, without touching the machine's own apt set-up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::site::Site;
use crate::site::cmd::Cmd;
use crate::site::files::write_whole;

/// Package lists are used again for so long.
const FRESH: Duration = Duration::from_secs(3600);

/// The mirror's address, from the machine's apt configuration: the source that carries the machine's own
/// release and its `main`.
pub(crate) fn mirror() -> Result<String> {
    let release = crate::site::files::read(Path::new("/etc/os-release"))?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename
        .map(|name| name.trim_matches('"'))
        .context("/etc/os-release has no VERSION_CODENAME")?;
    let targets = Cmd::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(SITE) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ])
        .output()?;
    choose_mirror(&targets, codename).with_context(|| {
        format!(
            "the machine's apt sources have no line for {codename} main: no Debian mirror to take the \
                 root from"
        )
    })
}

/// Picks the site of `codename main`, else the first site with a `main` that is no security archive.
fn choose_mirror(targets: &str, codename: &str) -> Option<String> {
    let rows: Vec<[&str; 3]> = targets
        .lines()
        .filter_map(|line| line.split_whitespace().collect::<Vec<_>>().try_into().ok())
        .filter(|row: &[&str; 3]| row[2] == "main" && !row[1].contains("security"))
        .collect();
    let exact = rows.iter().find(|row| row[1] == codename);
    exact
        .or(rows.first())
        .map(|row| row[0].trim_end_matches('/').to_owned())
}

/// The keyring that signs Debian's releases.
pub(crate) fn keyring() -> Result<PathBuf> {
    ["gpg", "pgp"]
        .map(|end| PathBuf::from(format!("/usr/share/keyrings/debian-archive-keyring.{end}")))
        .into_iter()
        .find(|path| path.exists())
        .context("no debian-archive-keyring on this machine")
}

/// The machine's proxy settings for apt, as lines of apt.conf.
pub(crate) fn proxies() -> Result<Vec<String>> {
    let dump = Cmd::new("apt-config").args(["dump", "Acquire"]).output()?;
    Ok(dump
        .lines()
        .filter(|line| line.starts_with("Acquire::http") && line.to_ascii_lowercase().contains("proxy"))
        .filter(|line| !line.ends_with("\"\";"))
        .map(str::to_owned)
        .collect())
}

/// Which packages to use for `name`: those that an earlier run chose, as long as what it made of them is in
/// the cache (`have`), so that a run needs no network; else those that `choose` finds now.
pub(crate) fn settled(
    site: &Site,
    name: &str,
    have: impl FnOnce(&str) -> bool,
    choose: impl FnOnce() -> Result<String>,
) -> Result<String> {
    let file = site.cache.dir().join("apt").join(format!("{name}.settled"));
    let _lock = site.cache.lock(&format!("{name}.settled"), "choosing packages")?;
    if let Ok(text) = std::fs::read_to_string(&file) {
        if have(text.trim()) {
            return Ok(text.trim().to_owned());
        }
    }
    site.host.ready()?;
    let text = choose()?;
    std::fs::create_dir_all(site.cache.dir().join("apt"))?;
    write_whole(&file, &text)?;
    Ok(text)
}

/// An apt of its own: one suite of the mirror, own lists and state, so that nothing of the machine's changes.
pub(crate) struct PrivateApt {
    dir: PathBuf,
    log: PathBuf,
    foreign: Option<String>,
}

impl PrivateApt {
    /// For `suite`, in the cache; fetches its package lists of amd64 and, for `foreign`, of that architecture
    /// too.
    pub(crate) fn new(site: &Site, suite: &str, foreign: Option<&str>) -> Result<Self> {
        let name = foreign.map_or(suite.to_owned(), |foreign| format!("{suite}-{foreign}"));
        let dir = site.cache.dir().join("apt").join(name);
        for sub in ["lists/partial", "archives/partial"] {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        let (mirror, keyring) = (mirror()?, keyring()?);
        let architectures = format!("amd64 {}", foreign.unwrap_or_default());
        let sources = format!(
            "Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nArchitectures: {architectures}\n\
             Signed-By: {}\n",
            keyring.display()
        );
        std::fs::write(dir.join("bed.sources"), sources)?;
        std::fs::write(dir.join("status"), "")?;
        let apt = Self {
            log: dir.join("apt.log"),
            dir,
            foreign: foreign.map(str::to_owned),
        };
        let updated = apt.dir.join("updated");
        let age = std::fs::metadata(&updated).and_then(|meta| meta.modified());
        if !age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < FRESH)) {
            apt.cmd("apt-get").args(["-q", "update"]).log(&apt.log).run()?;
            std::fs::write(updated, "")?;
        }
        Ok(apt)
    }

    fn cmd(&self, program: &str) -> Cmd {
        let set = |key: &str, value: &Path| format!("{key}={}", value.display());
        let mut cmd = Cmd::new(program).cwd(&self.dir);
        for architecture in ["amd64"].into_iter().chain(self.foreign.as_deref()) {
            cmd = cmd.arg("-o").arg(format!("APT::Architectures::={architecture}"));
        }
        cmd.args([
            "-o",
            &set("Dir::Etc::sourcelist", &self.dir.join("bed.sources")),
            "-o",
            "Dir::Etc::sourceparts=-",
            "-o",
            "Dir::Etc::preferencesparts=-",
            "-o",
            "Dir::Etc::preferences=-",
            "-o",
            &set("Dir::State", &self.dir),
            "-o",
            &set("Dir::State::lists", &self.dir.join("lists")),
            "-o",
            &set("Dir::State::status", &self.dir.join("status")),
            "-o",
            &set("Dir::Cache", &self.dir),
            "-o",
            // A suite as it was some weeks ago is as good, where the mirror lags or the machine's clock is
            // ahead; its signature is checked all the same.
            "Acquire::Check-Valid-Until=false",
            "-o",
            // The lists and downloads are in a home directory that apt's own user may not enter.
            "APT::Sandbox::User=root",
        ])
    }

    /// The package whose name is `prefix` followed by the highest version number: NAME=VERSION.
    pub(crate) fn newest(&self, prefix: &str) -> Result<String> {
        let names = self.cmd("apt-cache").args(["pkgnames", prefix]).output()?;
        let name = names
            .lines()
            .filter_map(|name| Some((version_key(name.strip_prefix(prefix)?)?, name)))
            .max()
            .map(|(_, name)| name.to_owned())
            .with_context(|| format!("the mirror has no package {prefix}*"))?;
        self.candidate(&name)
    }

    /// NAME=VERSION of a package that is named `NAME` or `NAME:ARCHITECTURE`.
    pub(crate) fn candidate(&self, name: &str) -> Result<String> {
        Ok(format!("{name}={}", self.field(name, "Version")?))
    }

    /// The names of the packages that a package depends on, first alternatives only.
    pub(crate) fn depends(&self, name: &str) -> Result<Vec<String>> {
        let field = self.field(name, "Depends")?;
        Ok(field
            .split(',')
            .filter_map(|one| one.split_whitespace().next())
            .map(str::to_owned)
            .collect())
    }

    /// The fields of all packages, as of apt-cache dumpavail.
    pub(crate) fn available(&self) -> Result<String> {
        self.cmd("apt-cache").arg("dumpavail").output()
    }

    fn field(&self, name: &str, field: &str) -> Result<String> {
        let shown = self
            .cmd("apt-cache")
            .args(["show", "--no-all-versions", name])
            .output()?;
        let value = shown
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
        Ok(value
            .with_context(|| format!("the mirror has no package {name}, or it has no {field}"))?
            .trim()
            .to_owned())
    }

    /// Downloads a package of one version; the path of its .deb.
    pub(crate) fn download(&self, name: &str, version: &str) -> Result<PathBuf> {
        let spec = format!("{name}={version}");
        let file = self.file(name, version)?;
        if file.is_none() {
            self.cmd("apt-get")
                .args(["-q", "download", &spec])
                .log(&self.log)
                .run()?;
        }
        match file.or(self.file(name, version)?) {
            Some(file) => Ok(file),
            None => bail!("apt-get download {spec} left no .deb"),
        }
    }

    fn file(&self, name: &str, version: &str) -> Result<Option<PathBuf>> {
        // apt writes the epoch's colon as %3a.
        let plain = name.split(':').next().unwrap_or(name);
        let begin = format!("{plain}_{}_", version.replace(':', "%3a"));
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let found = path
                .file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(&begin));
            if found && path.extension().is_some_and(|end| end == "deb") {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

/// `"2"` of linux-source-7.2, `"10"` of linux-source-7.10; no key for names that go on differently.
fn version_key(rest: &str) -> Option<Vec<u32>> {
    rest.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_the_release() {
        let targets = "https://a.example/other stable main\n\
                       https://b.example/debian-security bookworm-security main\n\
                       https://c.example/debian/ bookworm main\n";
        assert_eq!(
            choose_mirror(targets, "bookworm").unwrap(),
            "https://c.example/debian"
        );
        assert_eq!(
            choose_mirror(targets, "trixie").unwrap(),
            "https://a.example/other"
        );
        assert_eq!(choose_mirror("x y contrib\n", "trixie"), None);
    }

    #[test]
    fn versions_sort_as_numbers() {
        assert!(version_key("10") > version_key("9"));
        assert_eq!(version_key("2-cross"), None);
    }
}
