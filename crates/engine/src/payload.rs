// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies coded data into the private packets that a library parses.

use std::ffi::c_void;
use std::sync::Arc;

use crate::error::JobError;
use crate::memory::View;

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
    /// Returns the data without the padding.
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Returns the number of bytes with the padding.
    pub(crate) fn padded_len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns a reference count of the data as a pointer, for a library to keep.
    pub(crate) fn to_raw(&self) -> *const c_void {
        Arc::into_raw(Arc::clone(&self.bytes)).cast()
    }

    /// Gives back a count.
    ///
    /// # Safety
    /// `raw` comes from [`Packet::to_raw`], and its count was not given back before.
    pub(crate) unsafe fn release(raw: *const c_void) {
        // SAFETY: the caller promises that `raw` is a count of a vector.
        drop(unsafe { Arc::from_raw(raw.cast::<Vec<u8>>()) });
    }
}

/// Builds packets in memory that is used again.
#[derive(Debug, Default)]
pub(crate) struct PacketBuilder {
    bytes: Arc<Vec<u8>>,
}

impl PacketBuilder {
    /// Starts a packet. Returns the buffer to append its bytes to, empty.
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

/// Builders of the packets that are in flight: the memory of each is used again.
#[derive(Debug, Default)]
pub(crate) struct PacketRing {
    builders: Vec<PacketBuilder>,
}

impl PacketRing {
    /// Returns the builder that was used longest ago of `count`.
    pub(crate) fn next(&mut self, count: usize) -> &mut PacketBuilder {
        self.builders.resize_with(count.max(1), PacketBuilder::default);
        self.builders.rotate_right(1);
        &mut self.builders[0]
    }
}

/// Appends a job's coded data to `bytes`.
///
/// # Errors
/// [`JobError::Payload`] if there is none or too much.
pub(crate) fn append(coded: &View, bytes: &mut Vec<u8>) -> Result<(), JobError> {
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
        let view = View::new(mapping, 10, 50, 0).expect("view");
        let mut builder = PacketBuilder::default();
        append(&view, builder.start()).expect("append");
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
        let view = View::new(mapping, 1, 0, 0).expect("view");
        assert!(append(&view, &mut Vec::new()).is_err());
    }
}
