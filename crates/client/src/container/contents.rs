// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Contents of a file.

use daedalus_uapi::Codec;

use crate::error::ParseError;

/// Units, each of which a codec's parser takes whole.
pub type Units = Box<dyn Iterator<Item = Result<Vec<u8>, ParseError>>>;

/// The contents of a file.
pub struct Contents {
    /// The codec of its (first) video track.
    pub codec: Codec,
    /// Units without start codes, the blocks of a container, or temporal units of OBUs which carry sizes.
    pub units: Units,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents")
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
