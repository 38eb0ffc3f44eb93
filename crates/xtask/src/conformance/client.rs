// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clients through which streams are played.

/// One of them; the names are those of `daedalus-tests play --client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// GStreamer of the Debian 13 root.
    Gst,
    /// The small client with the habits of FFmpeg's v4l2request.
    FfmpegLike,
    /// The small client with the habits of Chromium.
    ChromiumLike,
}

impl Client {
    /// Its name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gst => "gst",
            Self::FfmpegLike => "ffmpeg-like",
            Self::ChromiumLike => "chromium-like",
        }
    }
}

/// What `--client` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// GStreamer
    #[default]
    Gst,
    /// An imitation of FFmpeg's v4l2request
    FfmpegLike,
    /// An imitation of Chromium
    ChromiumLike,
    /// One after the other
    All,
}

impl Choice {
    /// The clients that are meant.
    pub(crate) fn clients(self) -> &'static [Client] {
        match self {
            Self::Gst => &[Client::Gst],
            Self::FfmpegLike => &[Client::FfmpegLike],
            Self::ChromiumLike => &[Client::ChromiumLike],
            Self::All => &[Client::Gst, Client::FfmpegLike, Client::ChromiumLike],
        }
    }
}
