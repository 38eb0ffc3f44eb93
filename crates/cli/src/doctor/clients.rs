// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks which clients are installed and whether they see the device. It starts them to find out. None is
//! needed.

use std::process::{Command, Stdio};

use super::check::Check;
use crate::device::Snapshot;
use crate::system::System;

pub(super) fn check(system: &System) -> Vec<Check> {
    let mut checks = Vec::new();
    let stateful = Snapshot::take(system).stateful.is_some();
    if system.program("gst-launch-1.0").is_some() {
        checks.push(gstreamer());
        if stateful {
            checks.push(gstreamer_stateful());
        }
    } else {
        checks.push(Check::note("GStreamer", "not installed"));
    }
    if system.program("ffmpeg").is_some() {
        checks.push(prints(
            "FFmpeg",
            "ffmpeg",
            &["-hide_banner", "-hwaccels"],
            "v4l2request",
            "this build has the v4l2request hwaccel: ffmpeg -hwaccel v4l2request sees the device",
            "this build has no v4l2request hwaccel, so it decodes in software",
        ));
        if stateful {
            checks.push(prints(
                "FFmpeg, stateful",
                "ffmpeg",
                &["-hide_banner", "-decoders"],
                "_v4l2m2m",
                "this build has the v4l2m2m decoders: ffmpeg -c:v CODEC_v4l2m2m takes the stateful node",
                "this build has no v4l2m2m decoders for the stateful node",
            ));
        }
    } else {
        checks.push(Check::note("FFmpeg", "not installed"));
    }
    if system.program("mpv").is_some() {
        checks.push(prints(
            "mpv",
            "mpv",
            &["--no-config", "--hwdec=help"],
            "v4l2request",
            "mpv --hwdec=v4l2request sees the device",
            "its FFmpeg has no v4l2request, so it decodes in software",
        ));
    } else {
        checks.push(Check::note("mpv", "not installed"));
    }
    let browser = ["chromium", "chromium-browser"]
        .into_iter()
        .find(|name| system.program(name).is_some());
    checks.push(browser.map_or_else(
        || Check::note("Chromium", "not installed"),
        |name| {
            let flags = "--enable-features=\
                         AcceleratedVideoDecoder,AcceleratedVideoDecodeLinuxGL,PreferV4L2VideoAcceleration";
            Check::note(
                "Chromium",
                format!(
                    "a build with V4L2, as Debian's for arm64, decodes by the device if it is started so: \
                     {name} {flags} --ignore-gpu-blocklist --disable-gpu-sandbox (players.md says \
                     what that costs)"
                ),
            )
        },
    ));
    checks
}

/// Runs a program. Returns what it prints to both outputs.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Some(text)
}

/// Runs a program. The check passes if the program prints `pattern`.
fn prints(
    name: &'static str,
    program: &str,
    arguments: &[&str],
    pattern: &str,
    yes: &str,
    no: &str,
) -> Check {
    match run(program, arguments) {
        None => Check::note(name, format!("{program} cannot be started")),
        Some(text) if text.contains(pattern) => Check::good(name, yes),
        Some(_) => Check::note(name, no),
    }
}

fn gstreamer() -> Check {
    let Some(text) = run("gst-inspect-1.0", &["v4l2codecs"]) else {
        return Check::note("GStreamer", "gst-inspect-1.0 cannot be started");
    };
    let elements = elements(&text);
    if !elements.is_empty() {
        return Check::good("GStreamer", format!("finds {}", elements.join(", ")));
    }
    if text.contains("No such element") {
        Check::bad(
            "GStreamer",
            "it has no plugin v4l2codecs",
            "sudo apt install gstreamer1.0-plugins-bad",
        )
    } else {
        Check::note(
            "GStreamer",
            "its plugin v4l2codecs finds no device (this is as this user; after mending: rm -f \
             ~/.cache/gstreamer-1.0/registry.*)",
        )
    }
}

fn gstreamer_stateful() -> Check {
    const NAME: &str = "GStreamer, stateful";
    let Some(text) = run("gst-inspect-1.0", &["video4linux2"]) else {
        return Check::note(NAME, "gst-inspect-1.0 cannot be started");
    };
    match &elements(&text)[..] {
        [] => Check::note(NAME, "its plugin video4linux2 finds no stateful decoder"),
        elements => Check::good(NAME, format!("finds {}", elements.join(", "))),
    }
}

/// Returns the decoders of V4L2 devices that gst-inspect lists for a plugin.
fn elements(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().split(':').next())
        .filter(|name| name.starts_with("v4l2") && name.ends_with("dec"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use daedalus_uapi::codec::Codec;

    use super::*;

    #[test]
    fn elements_are_decoders_of_devices() {
        let [first, second] =
            [Codec::ALL[0], Codec::ALL[1]].map(|codec| format!("v4l2sl{}dec", codec.info().gstreamer_name));
        let text = format!(
            "Plugin Details:\n  Name  v4l2codecs\n\n  {first}: V4L2 Decoder\n  {second}: V4L2 Decoder\n\n  \
             2 features:\n"
        );
        assert_eq!(elements(&text), [first, second]);
        assert!(elements("No such element or plugin 'v4l2codecs'\n").is_empty());
    }
}
