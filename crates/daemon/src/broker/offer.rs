// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decides which codecs the broker registers.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use daedalus_settings::config::{self, Config, Offer};
use daedalus_settings::hardware::{Device, by_codec};
use daedalus_uapi::codec::CodecSet;

use super::options::BrokerOptions;
use crate::hardware;

/// The codecs of each face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodecSets {
    pub(super) stateless: CodecSet,
    pub(super) stateful: CodecSet,
}

/// Returns the codecs to register for each face; `None` if other devices decode all that the libraries do.
///
/// # Errors
/// If a file cannot be read or has a mistake, or if the libraries decode none of the codecs in question.
pub(super) fn codec_sets(options: &BrokerOptions) -> Result<Option<CodecSets>> {
    let config = read_config(options.config.as_deref())?;
    let faces = options.faces.unwrap_or(config.faces);
    let of_face = |has: bool, codecs: CodecSet| if has { codecs } else { CodecSet::EMPTY };
    Ok(codecs(options, config)?.map(|codecs| CodecSets {
        stateless: of_face(faces.has_stateless(), codecs),
        stateful: of_face(faces.has_stateful(), codecs),
    }))
}

/// Returns the codecs to register; `None` if other devices decode all that the libraries do.
///
/// # Errors
/// If a file cannot be read or has a mistake, or if the libraries decode none of the codecs in question.
fn codecs(options: &BrokerOptions, config: Config) -> Result<Option<CodecSet>> {
    let served = daedalus_engine::served_codecs();
    let missing = CodecSet::all().difference(served);
    if served.is_empty() {
        bail!("the installed libraries decode none of {missing}");
    }
    if !missing.is_empty() {
        tracing::warn!("the installed libraries do not decode {missing}");
    }
    let offer = if options.codecs.is_empty() {
        config.codecs
    } else {
        Offer::These(options.codecs)
    };
    let devices = match (offer, &options.hardware) {
        (Offer::All, _) => return Ok(Some(served)),
        (Offer::These(codecs), _) => {
            let offered = codecs.intersection(served);
            if offered.is_empty() {
                bail!("codecs: the installed libraries do not decode {codecs}");
            }
            return Ok(Some(offered));
        }
        (Offer::Auto, Some(file)) => read_hardware(file)?,
        (Offer::Auto, None) => hardware::detect(),
    };
    let (elsewhere, who) = elsewhere(&devices);
    let left = served.difference(elsewhere);
    if left.is_empty() {
        tracing::info!(
            "nothing is offered: this machine decodes {who}; 'codecs = all' in {} offers all",
            config::PATH
        );
        return Ok(None);
    }
    if !elsewhere.is_empty() {
        tracing::info!("left to other devices: {who}");
    }
    Ok(Some(left))
}

/// Returns the codecs that the devices decode, and as text the first device for each.
fn elsewhere(devices: &[Device]) -> (CodecSet, String) {
    let codecs = by_codec(devices).map(|(codec, _)| codec).collect();
    let text: Vec<String> = by_codec(devices)
        .map(|(codec, Device { node, driver, .. })| format!("{codec} by {node} ({driver})"))
        .collect();
    (codecs, text.join(", "))
}

/// Reads the configuration file. Only the default one may be absent.
fn read_config(path: Option<&Path>) -> Result<Config> {
    let file = path.unwrap_or(Path::new(config::PATH));
    match fs::read_to_string(file) {
        Ok(text) => Config::parse(&text).with_context(|| file.display().to_string()),
        Err(error) if path.is_none() && error.kind() == ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// Reads a list that `daedalusd hardware` wrote.
fn read_hardware(path: &Path) -> Result<Vec<Device>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let devices: Result<_, _> = text.lines().map(str::parse).collect();
    devices.with_context(|| format!("{}: not written by 'daedalusd hardware'", path.display()))
}

#[cfg(test)]
mod tests {
    use daedalus_uapi::codec::Codec;

    use super::*;

    #[test]
    fn only_the_default_file_may_be_absent() {
        let absent = std::env::temp_dir().join("daedalus-no-such-file.conf");
        let error = format!("{:#}", read_config(Some(&absent)).unwrap_err());
        assert!(error.contains("daedalus-no-such-file.conf"), "{error}");
    }

    #[test]
    fn a_mistake_is_named_with_file_and_line() {
        let file = std::env::temp_dir().join(format!("daedalus-offer-{}", std::process::id()));
        fs::write(&file, "/dev/video0 visl h263\n").unwrap();
        let config = format!("{:#}", read_config(Some(&file)).unwrap_err());
        let hardware = format!("{:#}", read_hardware(&file).unwrap_err());
        fs::remove_file(&file).unwrap();
        assert!(
            config.starts_with(&format!("{}: line 1: ", file.display())),
            "{config}"
        );
        assert!(hardware.contains("not written by"), "{hardware}");
    }

    #[test]
    fn the_first_device_of_each_codec_is_named() {
        let [first, second, ..] = Codec::ALL else {
            panic!("the registry has one codec");
        };
        let devices: Vec<Device> = [
            format!("/dev/video10 bcm2835-codec {first}"),
            format!("/dev/video11 visl {first},{second}"),
        ]
        .iter()
        .map(|line| line.parse().unwrap())
        .collect();
        let (codecs, who) = elsewhere(&devices);
        assert_eq!(codecs, [*first, *second].into_iter().collect());
        assert_eq!(
            who,
            format!("{first} by /dev/video10 (bcm2835-codec), {second} by /dev/video11 (visl)")
        );
        assert_eq!(elsewhere(&[]), (CodecSet::EMPTY, String::new()));
    }
}
