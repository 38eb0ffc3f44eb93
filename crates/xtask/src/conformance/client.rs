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
    /// FFmpeg of the Debian 13 root, through the stateful node.
    FfmpegStateful,
    /// GStreamer of the Debian 13 root, through the stateful node.
    GstStateful,
    /// The small stateful client that does what the kernel's document says.
    Literal,
}

impl Client {
    /// Its name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gst => "gst",
            Self::FfmpegLike => "ffmpeg-like",
            Self::ChromiumLike => "chromium-like",
            Self::FfmpegStateful => "ffmpeg-stateful",
            Self::GstStateful => "gst-stateful",
            Self::Literal => "literal",
        }
    }

    /// Whether it uses the stateful node.
    pub(crate) fn is_stateful(self) -> bool {
        matches!(self, Self::FfmpegStateful | Self::GstStateful | Self::Literal)
    }
}

/// What `--face` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Face {
    /// The clients of the stateless node
    #[default]
    Stateless,
    /// FFmpeg, GStreamer and a small client through the stateful node
    Stateful,
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
    /// FFmpeg, through the stateful node
    FfmpegStateful,
    /// GStreamer, through the stateful node
    GstStateful,
    /// The small client of the stateful node
    Literal,
    /// Those of the face, one after the other
    All,
}

impl Choice {
    /// The clients that are meant.
    pub(crate) fn clients(self, face: Face) -> &'static [Client] {
        match self {
            // The default of the stateful face is all of them.
            Self::Gst | Self::All if face == Face::Stateful => {
                &[Client::FfmpegStateful, Client::GstStateful, Client::Literal]
            }
            Self::FfmpegStateful => &[Client::FfmpegStateful],
            Self::GstStateful => &[Client::GstStateful],
            Self::Literal => &[Client::Literal],
            Self::Gst => &[Client::Gst],
            Self::FfmpegLike => &[Client::FfmpegLike],
            Self::ChromiumLike => &[Client::ChromiumLike],
            Self::All => &[Client::Gst, Client::FfmpegLike, Client::ChromiumLike],
        }
    }
}
