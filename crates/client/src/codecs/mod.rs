// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The codecs of this client, one folder each: the parser, and the parts of imitated clients for this codec
//! alone.

mod av1;
mod h264;
mod hevc;
mod mpeg2;
mod vp8;
mod vp9;

use daedalus_uapi::Codec;

use crate::coded::{CodedJob, Parser};
use crate::personality::delegate::{Delegate, PlainDelegate};
use crate::personality::hwaccel::Hwaccel;

/// A codec of this client.
pub(crate) struct Row {
    /// Makes a parser at the start of a stream.
    pub(crate) parser: fn() -> Box<dyn Parser>,
    /// Makes a parser that shows pictures when more than so many of them wait; `None` if pictures never wait.
    pub(crate) parser_with_delay: Option<fn(usize) -> Box<dyn Parser>>,
    /// Every picture is shown once, at some time. Of other codecs, a picture that is not shown at once is
    /// only shown if it stays a reference.
    pub(crate) shows_every_picture: bool,
    /// Returns width and height of the pictures for which a client prepares a session at this job.
    pub(crate) session_size: fn(&CodedJob) -> (u32, u32),
    /// FFmpeg's part.
    pub(crate) hwaccel: &'static dyn Hwaccel,
    /// Chromium's part.
    pub(crate) delegate: &'static dyn Delegate,
}

static H264: Row = Row {
    parser: || Box::new(h264::H264Parser::new()),
    parser_with_delay: Some(|delay| Box::new(h264::H264Parser::with_delay(delay))),
    shows_every_picture: true,
    session_size: own_size,
    hwaccel: &h264::ffmpeg::H264,
    delegate: &h264::chromium::H264,
};

static VP9: Row = Row {
    parser: || Box::new(vp9::Vp9Parser::new()),
    parser_with_delay: None,
    shows_every_picture: false,
    session_size: own_size,
    hwaccel: &vp9::ffmpeg::Vp9,
    delegate: &vp9::chromium::Vp9,
};

static AV1: Row = Row {
    parser: || Box::new(av1::Av1Parser::new()),
    parser_with_delay: None,
    shows_every_picture: false,
    session_size: av1::session_size,
    hwaccel: &av1::ffmpeg::Av1,
    delegate: &av1::chromium::Av1,
};

static VP8: Row = Row {
    parser: || Box::new(vp8::Vp8Parser::new()),
    parser_with_delay: None,
    shows_every_picture: false,
    session_size: own_size,
    hwaccel: &vp8::ffmpeg::Vp8,
    delegate: &PlainDelegate,
};

static MPEG2: Row = Row {
    parser: || Box::new(mpeg2::Mpeg2Parser::new()),
    parser_with_delay: Some(|delay| Box::new(mpeg2::Mpeg2Parser::with_delay(delay))),
    shows_every_picture: true,
    session_size: own_size,
    hwaccel: &mpeg2::ffmpeg::Mpeg2,
    delegate: &mpeg2::chromium::Mpeg2,
};

static HEVC: Row = Row {
    parser: || Box::new(hevc::HevcParser::default()),
    parser_with_delay: Some(|delay| Box::new(hevc::HevcParser::with_delay(delay))),
    shows_every_picture: true,
    session_size: own_size,
    hwaccel: &hevc::ffmpeg::Hevc,
    delegate: &hevc::chromium::Hevc,
};

/// Returns the row of a codec.
pub(crate) fn row(codec: Codec) -> &'static Row {
    match codec {
        Codec::H264 => &H264,
        Codec::Vp9 => &VP9,
        Codec::Av1 => &AV1,
        Codec::Vp8 => &VP8,
        Codec::Mpeg2 => &MPEG2,
        Codec::Hevc => &HEVC,
    }
}

/// Returns the size of the job's own picture.
fn own_size(job: &CodedJob) -> (u32, u32) {
    (job.coded_width, job.coded_height)
}
