// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The private copy of the coded data that a library parses.

use std::sync::Arc;

use crate::error::JobError;
use crate::memory::Plane;

/// Zero bytes after the data: libavcodec's bit readers run ahead (`AV_INPUT_BUFFER_PADDING_SIZE`).
pub(crate) const PADDING: usize = 64;

/// Most bytes of one packet: libavcodec counts them in an `int`.
const MAX_LEN: usize = i32::MAX as usize - (1 << 20);

/// Bytes handed to a library, with [`PADDING`] zero bytes after them. The library may hold on to them.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    bytes: Arc<Vec<u8>>,
    len: usize,
}

impl Packet {
    /// The data without the padding.
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Bytes with the padding.
    pub(crate) fn padded_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Builds packets in memory that is used again.
#[derive(Debug, Default)]
pub(crate) struct PacketBuilder {
    bytes: Arc<Vec<u8>>,
}

impl PacketBuilder {
    /// Starts a packet: the buffer to append its bytes to, empty.
    pub(crate) fn start(&mut self) -> &mut Vec<u8> {
        // A library may still refer to the packet before; then that memory is left to it.
        if Arc::get_mut(&mut self.bytes).is_none() {
            self.bytes = Arc::default();
        }
        let bytes = Arc::make_mut(&mut self.bytes);
        bytes.clear();
        bytes
    }

    /// Ends the packet whose bytes were appended since [`PacketBuilder::start`].
    pub(crate) fn finish(&mut self) -> Packet {
        let bytes = Arc::make_mut(&mut self.bytes);
        let len = bytes.len();
        bytes.resize(len + PADDING, 0);
        Packet {
            bytes: self.bytes.clone(),
            len,
        }
    }
}

/// Appends a job's coded data to `bytes`.
///
/// # Errors
/// [`JobError::Payload`] if there is none or too much.
pub(crate) fn append(coded: &Plane, bytes: &mut Vec<u8>) -> Result<(), JobError> {
    if coded.is_empty() {
        return Err(JobError::Payload("empty"));
    }
    if coded.len() > MAX_LEN {
        return Err(JobError::Payload("too long"));
    }
    let start = bytes.len();
    bytes.resize(start + coded.len(), 0);
    coded
        .read(0, &mut bytes[start..])
        .map_err(|_| JobError::Payload("outside of its buffer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Mapping;

    #[test]
    fn packets_are_padded_and_reuse_memory() {
        let mapping = Mapping::anonymous(100).expect("mapping");
        mapping.write(0, &[9; 100]).expect("write");
        let plane = Plane::new(mapping, 10, 50, 0).expect("plane");
        let mut builder = PacketBuilder::default();
        append(&plane, builder.start()).expect("append");
        let packet = builder.finish();
        assert_eq!(packet.data(), [9; 50]);
        assert_eq!(packet.bytes[50..], [0; PADDING]);
        let held = packet.data().as_ptr();
        builder.start().push(1);
        assert_ne!(
            builder.finish().data().as_ptr(),
            held,
            "a packet in use is not overwritten"
        );
        drop(packet);
        let reused = builder.start().as_ptr();
        builder.finish();
        assert_eq!(builder.start().as_ptr(), reused);
    }

    #[test]
    fn no_data_is_an_error() {
        let mapping = Mapping::anonymous(1).expect("mapping");
        let plane = Plane::new(mapping, 1, 0, 0).expect("plane");
        assert!(append(&plane, &mut Vec::new()).is_err());
    }
}
