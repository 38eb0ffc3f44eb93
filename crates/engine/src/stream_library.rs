// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Defines what a library does for a stream: packets in, pictures in output order out.

use crate::error::JobError;
use crate::frames::Frame;
use crate::payload::Packet;

/// The colours of a stream, as numbers of ITU-T H.273.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Colour {
    pub(crate) primaries: u32,
    pub(crate) transfer: u32,
    pub(crate) matrix: u32,
    /// Samples use the whole range.
    pub(crate) full_range: bool,
}

/// A picture that came out.
#[derive(Debug)]
pub(crate) struct Output {
    /// The part that is shown.
    pub(crate) frame: Frame,
    /// Luma samples per line and lines that were decoded.
    pub(crate) coded: (u32, u32),
    pub(crate) colour: Colour,
    /// The tag of its access unit.
    pub(crate) tag: u64,
    /// libavcodec concealed damage in it, or says that it is not exact.
    pub(crate) damaged: bool,
}

/// The result of asking for a picture.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time, and most are pictures"
)]
pub(crate) enum ReceiveResult {
    Picture(Output),
    /// The decoder wants a packet first.
    Hungry,
    /// Everything has come out after [`StreamLibrary::end`].
    Ended,
    /// The packet that is decoded now is lost.
    Lost(JobError),
}

/// The result of giving a packet.
#[derive(Debug)]
pub(crate) enum SendResult {
    Taken,
    /// Pictures must be received first.
    Full,
    /// The packet is lost.
    Lost(JobError),
}

/// The format of a picture, as a parser finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PictureFormat {
    pub(crate) size: (u32, u32),
    pub(crate) coded: (u32, u32),
    pub(crate) depth: u8,
    /// Pictures may be coded as fields.
    pub(crate) interlaced: bool,
}

/// A codec's decoder of streams in a library.
pub(crate) trait StreamLibrary {
    /// Gives the decoder a packet, whose pictures get `tag`.
    fn send(&mut self, packet: &Packet, tag: u64) -> SendResult;

    /// Tells the decoder that no packet follows: all pictures come out.
    fn end(&mut self);

    /// Takes the next picture in output order.
    fn receive(&mut self) -> ReceiveResult;

    /// Takes packets again after [`ReceiveResult::Ended`]. Returns whether the references are still there.
    fn resume(&mut self) -> bool;

    /// Forgets all pictures and packets. Parameter sets stay.
    fn flush(&mut self);
}
