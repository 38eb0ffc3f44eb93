// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Maps the memory of a session's buffers, once for each id. A mapping is kept until the module reports that
//! the buffer is gone.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use daedalus_engine::memory::{Mapping, OutOfBounds, View};
use daedalus_uapi::fd::{Buffer, DmaBufAccess};
use daedalus_uapi::protocol;
use rustix::io::Errno;
use thiserror::Error;

/// The reason why a plane of a job cannot be used.
#[derive(Debug, Error)]
pub(crate) enum BufferError {
    /// The module does not hand out its fd.
    #[error("buffer {0}: no fd: {1}")]
    Fd(u64, Errno),
    /// It cannot be mapped.
    #[error("buffer {0}: mmap: {1}")]
    Map(u64, io::Error),
    /// The plane is not inside of it.
    #[error("buffer {0}: {1}")]
    Bounds(u64, OutOfBounds),
    /// A picture cannot be written to it.
    #[error("buffer {0} is for reading only")]
    ReadOnly(u64),
    /// The exporter of imported memory refuses the access.
    #[error("buffer {0}: DMA_BUF_IOCTL_SYNC: {1}")]
    Sync(u64, Errno),
}

#[derive(Debug)]
struct Entry {
    mapping: Arc<Mapping>,
    /// The dmabuf of imported memory, whose accesses are bracketed. The module's own memory needs no bracket,
    /// and its fd is closed once it is mapped.
    imported: Option<OwnedFd>,
}

/// All mappings of the session.
#[derive(Debug, Default)]
pub(crate) struct BufferCache {
    entries: HashMap<u64, Entry>,
    /// The module makes written data visible to devices.
    pub(crate) cleaned: bool,
}

impl BufferCache {
    /// Returns the memory that `plane` describes; with `write` it has to be writable. Calls `fetch` for an id
    /// that is not mapped.
    pub(crate) fn plane(
        &mut self,
        plane: &protocol::Plane,
        write: bool,
        fetch: impl FnOnce(u64) -> rustix::io::Result<Buffer>,
    ) -> Result<View, BufferError> {
        let id = plane.buffer;
        let entry = match self.entries.entry(id) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(slot) => {
                let buffer = fetch(id).map_err(|error| BufferError::Fd(id, error))?;
                slot.insert(Entry::map(buffer).map_err(|error| BufferError::Map(id, error))?)
            }
        };
        if write && !entry.mapping.is_writable() {
            return Err(BufferError::ReadOnly(id));
        }
        let (slow, cleaned) = (entry.imported.is_some(), self.cleaned);
        View::new(
            Arc::clone(&entry.mapping),
            plane.offset as usize,
            plane.length as usize,
            plane.bytesperline as usize,
        )
        .map(|view| if slow { view.slow_to_read() } else { view })
        .map(|view| if cleaned { view.cleaned_by_exporter() } else { view })
        .map_err(|error| BufferError::Bounds(id, error))
    }

    /// Opens the access bracket of a mapped buffer. Returns false if it needs none.
    pub(crate) fn begin(&self, id: u64, access: DmaBufAccess) -> Result<bool, BufferError> {
        match self.entries.get(&id).and_then(|entry| entry.imported.as_ref()) {
            None => Ok(false),
            Some(fd) => access
                .begin(fd.as_fd())
                .map(|()| true)
                .map_err(|error| BufferError::Sync(id, error)),
        }
    }

    /// Closes the access bracket that [`BufferCache::begin`] opened.
    pub(crate) fn end(&self, id: u64, access: DmaBufAccess) -> Result<(), BufferError> {
        match self.entries.get(&id).and_then(|entry| entry.imported.as_ref()) {
            None => Ok(()),
            Some(fd) => access
                .end(fd.as_fd())
                .map_err(|error| BufferError::Sync(id, error)),
        }
    }

    /// Forgets a buffer and closes its fd. If a picture in it is a decoder's reference, it is unmapped when
    /// the decoder releases that, otherwise now. Returns false if it was not mapped.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        self.entries.remove(&id).is_some()
    }
}

impl Entry {
    fn map(buffer: Buffer) -> io::Result<Self> {
        let size = usize::try_from(buffer.size).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mapping = Mapping::of_fd(buffer.fd.as_fd(), size, buffer.writable)?;
        if buffer.writable && !buffer.imported && !buffer.initialised {
            mapping.fill_grey().map_err(io::Error::other)?;
        }
        Ok(Self {
            mapping,
            imported: buffer.imported.then_some(buffer.fd),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memfd(size: u64, writable: bool, imported: bool) -> Buffer {
        let fd = rustix::fs::memfd_create("plane", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, size).unwrap();
        Buffer {
            fd,
            size,
            writable,
            imported,
            initialised: false,
        }
    }

    fn plane(buffer: u64, offset: u32, length: u32) -> protocol::Plane {
        protocol::Plane {
            buffer,
            offset,
            length,
            ..protocol::Plane::default()
        }
    }

    #[test]
    fn a_buffer_is_fetched_once_until_it_is_gone() {
        let mut cache = BufferCache::default();
        let mut fetched = 0;
        for _ in 0..3 {
            let fetch = |_| {
                fetched += 1;
                Ok(memfd(4096, true, false))
            };
            cache.plane(&plane(9, 0, 4096), true, fetch).unwrap();
        }
        assert_eq!(fetched, 1);
        assert!(cache.remove(9));
        assert!(!cache.remove(9));
        let again = cache.plane(&plane(9, 0, 1), true, |_| Err(Errno::NOENT));
        assert!(matches!(again, Err(BufferError::Fd(9, Errno::NOENT))));
    }

    #[test]
    fn planes_outside_of_the_buffer_are_refused() {
        let mut cache = BufferCache::default();
        let fetch = |_| Ok(memfd(4096, false, false));
        assert!(cache.plane(&plane(1, 4000, 96), false, fetch).is_ok());
        for (offset, length) in [(4000, 97), (0, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
            let result = cache.plane(&plane(1, offset, length), false, fetch);
            assert!(
                matches!(result, Err(BufferError::Bounds(1, _))),
                "{length} at {offset}"
            );
        }
    }

    #[test]
    fn a_picture_is_not_written_to_read_only_memory() {
        let mut cache = BufferCache::default();
        let result = cache.plane(&plane(1, 0, 16), true, |_| Ok(memfd(4096, false, false)));
        assert!(matches!(result, Err(BufferError::ReadOnly(1))));
    }

    #[test]
    fn only_imported_memory_is_bracketed() {
        let mut cache = BufferCache::default();
        cache
            .plane(&plane(1, 0, 16), true, |_| Ok(memfd(4096, true, false)))
            .unwrap();
        cache
            .plane(&plane(2, 0, 16), true, |_| Ok(memfd(4096, true, true)))
            .unwrap();
        assert!(matches!(cache.begin(1, DmaBufAccess::Read), Ok(false)));
        assert!(matches!(cache.end(1, DmaBufAccess::Read), Ok(())));
        // A memfd is no dmabuf, so the attempt shows as an error.
        assert!(matches!(
            cache.begin(2, DmaBufAccess::Read),
            Err(BufferError::Sync(2, Errno::NOTTY))
        ));
        assert!(matches!(
            cache.end(2, DmaBufAccess::ReadWrite),
            Err(BufferError::Sync(2, Errno::NOTTY))
        ));
    }
}
