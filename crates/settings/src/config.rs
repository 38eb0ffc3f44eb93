// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daemon's configuration file: lines `SETTING = VALUE`, and comments after `#`.
//!
//! The settings are `codecs` and `faces`. The value of `codecs` is `auto`, `all` or names of codecs with
//! commas between them. The value of `faces` is `auto`, `stateless`, `stateful` or `both`.

use std::str::FromStr;

use daedalus_uapi::codec::{CodecSet, UnknownCodec};
use thiserror::Error;

/// The file that the daemon reads if no other one is named.
pub const PATH: &str = "/etc/daedalus-v4l2.conf";

/// The codecs that clients are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// The codecs that no other device of this machine decodes.
    #[default]
    Auto,
    /// All codecs that the libraries decode.
    All,
    /// These codecs.
    These(CodecSet),
}

/// The V4L2 interfaces that clients are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Faces {
    /// What no client loses by: the stateless one. Programs that speak both would take the stateful one,
    /// which copies each picture, in place of the stateless one.
    #[default]
    Auto,
    /// The stateless one.
    Stateless,
    /// The stateful one.
    Stateful,
    /// Both.
    Both,
}

impl Faces {
    /// The names of all values.
    pub const NAMES: &'static [&'static str] = &["auto", "stateless", "stateful", "both"];

    /// Returns whether clients are offered the stateless face.
    #[must_use]
    pub fn has_stateless(self) -> bool {
        self != Self::Stateful
    }

    /// Returns whether clients are offered the stateful face.
    #[must_use]
    pub fn has_stateful(self) -> bool {
        matches!(self, Self::Stateful | Self::Both)
    }
}

impl FromStr for Faces {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "stateless" => Ok(Self::Stateless),
            "stateful" => Ok(Self::Stateful),
            "both" => Ok(Self::Both),
            _ => Err(format!("'{name}' is none of {}", Self::NAMES.join(", "))),
        }
    }
}

/// The settings, with defaults for those that the file does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The setting `codecs`.
    pub codecs: Offer,
    /// The setting `faces`.
    pub faces: Faces,
}

/// A mistake in the file. Lines count from 1.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The line has no `=`.
    #[error("line {line}: '{text}' is no setting; settings are: codecs = VALUE, faces = VALUE")]
    NoSetting {
        /// The line's number.
        line: usize,
        /// The line.
        text: String,
    },
    /// There is no setting of this name.
    #[error("line {line}: there is no setting '{name}'; settings are: codecs, faces")]
    UnknownSetting {
        /// The line's number.
        line: usize,
        /// The name.
        name: String,
    },
    /// An earlier line has the same setting.
    #[error("line {line}: {name} was set before")]
    Repeated {
        /// The line's number.
        line: usize,
        /// The setting.
        name: &'static str,
    },
    /// The value of `faces` is none.
    #[error("line {line}: faces: {error}")]
    Faces {
        /// The line's number.
        line: usize,
        /// The value, and all that there are.
        error: String,
    },
    /// The value of `codecs` has a name that is no codec's.
    #[error("line {line}: codecs: {error}; a value is auto, all, or a list with commas of these")]
    Codecs {
        /// The line's number.
        line: usize,
        /// The name, and the names of all codecs.
        error: UnknownCodec,
    },
}

impl Config {
    /// Reads the settings in the text of a file.
    ///
    /// # Errors
    /// [`ConfigError`] for the first line that is none of a setting, a comment and blank.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (mut codecs, mut faces) = (None, None);
        for (index, line) in text.lines().enumerate() {
            let text = line.split('#').next().unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            let line = index + 1;
            let Some((name, value)) = text.split_once('=') else {
                let text = text.to_owned();
                return Err(ConfigError::NoSetting { line, text });
            };
            match name.trim() {
                "codecs" if codecs.is_some() => {
                    return Err(ConfigError::Repeated { line, name: "codecs" });
                }
                "faces" if faces.is_some() => {
                    return Err(ConfigError::Repeated { line, name: "faces" });
                }
                "faces" => {
                    let value = value.trim().parse();
                    faces = Some(value.map_err(|error| ConfigError::Faces { line, error })?);
                }
                "codecs" => {
                    let offer = Offer::parse(value.trim());
                    codecs = Some(offer.map_err(|error| ConfigError::Codecs { line, error })?);
                }
                name => {
                    let name = name.to_owned();
                    return Err(ConfigError::UnknownSetting { line, name });
                }
            }
        }
        Ok(Self {
            codecs: codecs.unwrap_or_default(),
            faces: faces.unwrap_or_default(),
        })
    }
}

impl Offer {
    fn parse(value: &str) -> Result<Self, UnknownCodec> {
        match value {
            "auto" => Ok(Self::Auto),
            "all" => Ok(Self::All),
            names => names.parse().map(Self::These),
        }
    }
}

#[cfg(test)]
mod tests {
    use daedalus_uapi::codec::Codec;

    use super::*;

    #[test]
    fn settings() {
        let offer = |text: &str| Config::parse(text).unwrap().codecs;
        assert_eq!(offer(""), Offer::Auto);
        assert_eq!(offer("# codecs = all\n\n"), Offer::Auto);
        assert_eq!(offer("codecs=all # for tests\n"), Offer::All);
        assert_eq!(offer("  codecs =auto"), Offer::Auto);
        let [first, .., last] = Codec::ALL else {
            panic!("the registry has one codec");
        };
        let these = [*first, *last].into_iter().collect();
        assert_eq!(offer(&format!("codecs = {last}, {first}")), Offer::These(these));
    }

    #[test]
    fn faces() {
        let faces = |text: &str| Config::parse(text).unwrap().faces;
        assert_eq!(faces(""), Faces::Auto);
        assert!(Faces::Auto.has_stateless() && !Faces::Auto.has_stateful());
        for name in Faces::NAMES {
            let faces = faces(&format!("codecs = all\nfaces = {name} # one of them"));
            assert_eq!(Ok(faces), name.parse());
            assert!(faces.has_stateless() || faces.has_stateful());
        }
        assert!(Faces::Both.has_stateless() && Faces::Both.has_stateful());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let names = CodecSet::all().to_string().replace(',', ", ");
        let unknown = format!("line 2: codecs: 'h263' is none of {names}; a value is auto, all, or a list");
        let empty = format!("codecs = {0},,{0}", Codec::ALL[0]);
        for (text, expected) in [
            ("\ncodecs = h263", unknown.as_str()),
            ("codecs =", "line 1: codecs: '' is none of"),
            (empty.as_str(), "line 1: codecs: '' is none of"),
            (
                "codec = all",
                "line 1: there is no setting 'codec'; settings are: codecs, faces",
            ),
            ("all", "line 1: 'all' is no setting"),
            ("codecs = all\n#\ncodecs = auto", "line 3: codecs was set before"),
            ("faces = both\nfaces = both", "line 2: faces was set before"),
            (
                "faces = none",
                "line 1: faces: 'none' is none of auto, stateless, stateful, both",
            ),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
