// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration file: lines `SETTING = VALUE`, and comments after `#`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::cli::Codec;

/// Where it is, if no other is named.
pub(crate) const PATH: &str = "/etc/daedalus-v4l2.conf";

/// Which codecs are offered to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Those that no other decoder of this machine decodes.
    #[default]
    Auto,
    /// All that the libraries decode.
    All,
    /// These `CODEC_*` bits.
    These(u32),
}

/// What the file says, with defaults for what it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) codecs: Offer,
}

impl Config {
    /// Reads the file. Only the default one may be absent.
    ///
    /// # Errors
    /// If it cannot be read, or has what is no setting; the message has the line.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let file = path.unwrap_or(Path::new(PATH));
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text).with_context(|| file.display().to_string()),
            Err(error) if path.is_none() && error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let mut codecs = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let number = index + 1;
            let Some((name, value)) = line.split_once('=') else {
                bail!("line {number}: '{line}' is no setting; settings are: codecs = VALUE");
            };
            match name.trim() {
                "codecs" if codecs.is_some() => bail!("line {number}: codecs was set before"),
                "codecs" => {
                    codecs = Some(Offer::parse(value.trim()).with_context(|| format!("line {number}"))?);
                }
                other => bail!("line {number}: there is no setting '{other}'; settings are: codecs"),
            }
        }
        Ok(Self {
            codecs: codecs.unwrap_or_default(),
        })
    }
}

impl Offer {
    fn parse(value: &str) -> Result<Self> {
        match value {
            "auto" => return Ok(Self::Auto),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let mut set = 0;
        for name in value.split(',').map(str::trim) {
            match Codec::from_str(name, false) {
                Ok(codec) => set |= codec.bit(),
                Err(_) => bail!(
                    "codecs: '{name}' is none of {}; a value is auto, all, or a list with commas of these",
                    Codec::names(u32::MAX).replace(',', ", ")
                ),
            }
        }
        Ok(Self::These(set))
    }
}

#[cfg(test)]
mod tests {
    use daedalus_uapi::protocol::{CODEC_AV1, CODEC_H264};

    use super::*;

    fn said(text: &str) -> String {
        format!("{:#}", Config::parse(text).unwrap_err())
    }

    #[test]
    fn settings() {
        let offer = |text: &str| Config::parse(text).unwrap().codecs;
        assert_eq!(offer(""), Offer::Auto);
        assert_eq!(offer("# codecs = all\n\n"), Offer::Auto);
        assert_eq!(offer("codecs=all # for tests\n"), Offer::All);
        assert_eq!(offer("  codecs =auto"), Offer::Auto);
        assert_eq!(offer("codecs = av1, h264"), Offer::These(CODEC_AV1 | CODEC_H264));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, wanted) in [
            (
                "\ncodecs = h263",
                "line 2: codecs: 'h263' is none of h264, vp9, av1",
            ),
            ("codecs =", "line 1: codecs: '' is none of"),
            ("codecs = h264,,av1", "line 1: codecs: '' is none of"),
            (
                "codec = all",
                "line 1: there is no setting 'codec'; settings are: codecs",
            ),
            ("all", "line 1: 'all' is no setting"),
            ("codecs = all\n#\ncodecs = auto", "line 3: codecs was set before"),
        ] {
            assert!(said(text).contains(wanted), "{}", said(text));
        }
    }

    #[test]
    fn only_the_default_file_may_be_absent() {
        let absent = std::env::temp_dir().join("daedalus-no-such-file.conf");
        let said = format!("{:#}", Config::read(Some(&absent)).unwrap_err());
        assert!(said.contains("daedalus-no-such-file.conf"), "{said}");
    }
}
