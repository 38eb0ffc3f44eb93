// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keeps the state of the packets that a library decodes, for callbacks to fill in.

use std::sync::Arc;

use crate::error::JobError;
use crate::frames::{Frame, Layout, Offer, Pool};

/// A packet that was given to a library and is not finished. `S` is the state that only one library has.
#[derive(Debug, Default)]
pub(crate) struct PacketState<S> {
    /// The name of the packet in the library's structures.
    pub(crate) tag: u64,
    /// CAPTURE memory that its picture may be decoded into.
    pub(crate) offer: Option<Offer>,
    /// The memory on offer was taken, and may have been written to.
    pub(crate) took_offer: bool,
    /// The frame of its picture: see [`PacketOutcome::frame`].
    pub(crate) frame: Option<Arc<Frame>>,
    /// The first error: memory was refused, or the library failed.
    pub(crate) error: Option<JobError>,
    /// The rest.
    pub(crate) state: S,
}

impl<S> PacketState<S> {
    /// Returns the state of a packet before the library has it.
    pub(crate) fn new(tag: u64, offer: Option<Offer>, state: S) -> Self {
        Self {
            tag,
            offer,
            took_offer: false,
            frame: None,
            error: None,
            state,
        }
    }

    /// Provides memory for a picture of the packet: the memory on offer if it fits, `direct` is set and no
    /// earlier picture of the packet has it, otherwise private memory.
    pub(crate) fn acquire(
        &mut self,
        pool: &mut Pool,
        layout: Layout,
        direct: bool,
    ) -> Result<Arc<Frame>, JobError> {
        let offer = self.offer.as_ref().filter(|_| direct && !self.took_offer);
        let frame = pool.acquire(layout, offer).map_err(|_| JobError::NoMemory)?;
        self.took_offer |= offer.is_some_and(|offer| offer.luma.as_ptr() == frame.plane(0).as_ptr());
        Ok(frame)
    }
}

/// The packets that were given to a library and are not finished, in this order.
#[derive(Debug)]
pub(crate) struct PacketStates<S> {
    packets: Vec<PacketState<S>>,
}

impl<S> Default for PacketStates<S> {
    fn default() -> Self {
        Self { packets: Vec::new() }
    }
}

impl<S> PacketStates<S> {
    /// Adds the newest packet.
    pub(crate) fn push(&mut self, packet: PacketState<S>) {
        self.packets.push(packet);
    }

    /// Returns the packet with a tag.
    pub(crate) fn get(&self, tag: u64) -> Option<&PacketState<S>> {
        self.packets.iter().find(|packet| packet.tag == tag)
    }

    /// Returns the packet with a tag.
    pub(crate) fn get_mut(&mut self, tag: u64) -> Option<&mut PacketState<S>> {
        self.packets.iter_mut().find(|packet| packet.tag == tag)
    }

    /// Takes the packet with a tag.
    pub(crate) fn remove(&mut self, tag: u64) -> Option<PacketState<S>> {
        let at = self.packets.iter().position(|packet| packet.tag == tag)?;
        Some(self.packets.remove(at))
    }

    /// Iterates the packets, the oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &PacketState<S>> {
        self.packets.iter()
    }

    /// Iterates the packets, the oldest first.
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut PacketState<S>> {
        self.packets.iter_mut()
    }

    /// Forgets all packets.
    pub(crate) fn clear(&mut self) {
        self.packets.clear();
    }
}

/// The outcome of a packet.
#[derive(Debug)]
pub(crate) struct PacketOutcome {
    /// The frame that the packet was decoded into: if there were several, the one that the library's module
    /// takes for the picture. `None` if it began none.
    pub(crate) frame: Result<Option<Arc<Frame>>, JobError>,
    /// How often the library complained about damage that it concealed.
    pub(crate) complaints: u32,
    /// The memory on offer was taken, and may have been written to.
    pub(crate) took_offer: bool,
}

impl PacketOutcome {
    /// Returns the outcome of a packet that the library never had.
    pub(crate) fn none() -> Self {
        Self {
            frame: Err(JobError::NoPicture),
            complaints: 0,
            took_offer: false,
        }
    }
}
