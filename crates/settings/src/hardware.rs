// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The list of the other devices that decode, which `daedalusd hardware` writes: lines `NODE DRIVER CODECS`.

use std::fmt;
use std::str::FromStr;

use daedalus_uapi::codec::{Codec, CodecSet, UnknownCodec};
use thiserror::Error;

/// The file that the service writes before it starts the broker.
pub const PATH: &str = "/run/daedalus-v4l2-hardware";

/// A device that decodes and is not the module's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The path of its node.
    pub node: String,
    /// Its kernel driver.
    pub driver: String,
    /// The codecs that it decodes.
    pub codecs: CodecSet,
}

/// The reason why a line is not one of the list.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LineError {
    /// It has not three words.
    #[error("'{0}' is not NODE DRIVER CODECS")]
    Words(String),
    /// The third word has a name that is no codec's.
    #[error(transparent)]
    Codec(#[from] UnknownCodec),
}

impl Device {
    /// Returns whether players use it by VA-API instead of V4L2.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        self.node.starts_with("/dev/dri/")
    }
}

impl fmt::Display for Device {
    /// Writes its line, without the end of the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.node, self.driver, self.codecs)
    }
}

impl FromStr for Device {
    type Err = LineError;

    fn from_str(line: &str) -> Result<Self, LineError> {
        let words: Vec<&str> = line.split(' ').collect();
        let [node, driver, codecs] = words[..] else {
            return Err(LineError::Words(line.to_owned()));
        };
        Ok(Self {
            node: node.to_owned(),
            driver: driver.to_owned(),
            codecs: codecs.parse()?,
        })
    }
}

/// Returns each codec that one of the devices decodes, with the first device that does.
pub fn by_codec(devices: &[Device]) -> impl Iterator<Item = (Codec, &Device)> {
    Codec::ALL.iter().filter_map(move |&codec| {
        let device = devices.iter().find(|device| device.codecs.contains(codec))?;
        Some((codec, device))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_is_written() {
        let [first, second, ..] = Codec::ALL else {
            panic!("the registry has one codec");
        };
        let text = format!("/dev/video10 bcm2835-codec {first}\n/dev/dri/renderD128 i915 {first},{second}\n");
        let devices: Vec<Device> = text.lines().map(|line| line.parse().unwrap()).collect();
        let written: Vec<String> = devices.iter().map(Device::to_string).collect();
        assert_eq!(written.join("\n"), text.trim_end());
        assert_eq!(devices[1].codecs, [*first, *second].into_iter().collect());
        assert_eq!([devices[0].is_gpu(), devices[1].is_gpu()], [false, true]);
    }

    #[test]
    fn the_first_device_counts_for_a_codec() {
        let device = |node: &str, codecs: &[Codec]| Device {
            node: node.to_owned(),
            driver: "visl".to_owned(),
            codecs: codecs.iter().copied().collect(),
        };
        let [first, second, ..] = *Codec::ALL else {
            panic!("the registry has one codec");
        };
        let devices = [
            device("/dev/video0", &[first]),
            device("/dev/video1", &[second, first]),
        ];
        let found: Vec<(Codec, &str)> = by_codec(&devices)
            .map(|(codec, device)| (codec, device.node.as_str()))
            .collect();
        assert_eq!(found, [(first, "/dev/video0"), (second, "/dev/video1")]);
        assert_eq!(by_codec(&[]).count(), 0);
    }

    #[test]
    fn other_lines_are_refused() {
        for line in [
            "",
            "/dev/video0 visl",
            "/dev/video0 visl h263",
            "a b c d",
            "/dev/video0 visl ",
        ] {
            assert!(line.parse::<Device>().is_err(), "{line}");
        }
    }
}
