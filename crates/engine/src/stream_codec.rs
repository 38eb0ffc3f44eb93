// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Defines what a codec supplies for streams.

use crate::error::EngineError;
use crate::libav::stream::Parser;
use crate::stream_library::{PictureFormat, StreamLibrary};

/// Finds the format of the pictures at the beginning of a unit.
pub(crate) type Find = fn(&[u8]) -> Option<PictureFormat>;

/// Reads the properties of the sequence that an access unit begins; `None` if it begins none.
pub(crate) type Sequence = fn(&[u8]) -> Option<u64>;

/// A codec's part of decoding a stream.
#[derive(Clone, Copy)]
pub(crate) struct StreamCodec {
    /// Opens the library's decoder with this number of threads.
    pub(crate) open: fn(u32) -> Result<Box<dyn StreamLibrary>, EngineError>,
    /// Opens a parser. With `true`, each piece of data that it gets is an access unit.
    pub(crate) parser: Option<fn(bool) -> Result<Parser, EngineError>>,
    /// Units may be cut anywhere; the parser finds the access units. Otherwise each unit is one.
    pub(crate) bytestream: bool,
    /// Finds the format of the pictures at the beginning of a unit, where the parser does not.
    pub(crate) find: Option<Find>,
    /// Tells what the units behind start codes are, for codecs whose parameter sets may come only once.
    pub(crate) nal: Option<fn(&[u8]) -> Nal>,
    /// Interlaced streams have one thread.
    pub(crate) fields_need_one_thread: bool,
    /// For codecs whose library drops the pictures that it holds back when the properties change.
    pub(crate) sequence: Option<Sequence>,
    /// Tells whether decoding may begin with an access unit, for codecs whose library forgets its references
    /// when it has been drained.
    pub(crate) key: Option<fn(&[u8]) -> bool>,
}

/// Returns what follows each start code.
pub(crate) fn behind_start_codes(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let at = rest.windows(3).position(|window| window == [0, 0, 1])?;
        rest = &rest[at + 3..];
        Some(rest)
    })
}

/// Returns the first unit of an access unit that is a part of a picture, by what `nal` tells.
pub(crate) fn first_picture(access_unit: &[u8], nal: fn(&[u8]) -> Nal) -> Option<&[u8]> {
    behind_start_codes(access_unit).find(|unit| nal(unit) == Nal::Picture)
}

/// A unit behind a start code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nal {
    /// A parameter set.
    Header,
    /// A part of a picture: no parameter set follows in the access unit.
    Picture,
    /// Anything else.
    Other,
}

impl StreamCodec {
    /// Returns what most codecs have.
    pub(crate) const fn new(open: fn(u32) -> Result<Box<dyn StreamLibrary>, EngineError>) -> Self {
        Self {
            open,
            parser: None,
            bytestream: false,
            find: None,
            nal: None,
            fields_need_one_thread: false,
            sequence: None,
            key: None,
        }
    }
}
