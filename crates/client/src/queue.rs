// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A queue of buffers: OUTPUT or CAPTURE.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::device::{ClientError, Device, Request, call};
use crate::memory::{Mapping, udmabuf};
use crate::v4l2::{self, BufferCall};

/// The origin of the memory of a queue's buffers.
#[derive(Clone, Debug, Default)]
pub enum Backing {
    /// The device's, mapped (`V4L2_MEMORY_MMAP`).
    #[default]
    Mmap,
    /// Imported (`V4L2_MEMORY_DMABUF`): ordinary memory, through udmabuf.
    Udmabuf,
    /// Imported: these dmabufs, one per plane of each buffer, buffer by buffer.
    Imported(Vec<Arc<OwnedFd>>),
}

impl Backing {
    fn memory(&self) -> u32 {
        match self {
            Self::Mmap => v4l2::MEMORY_MMAP,
            Self::Udmabuf | Self::Imported(_) => v4l2::MEMORY_DMABUF,
        }
    }
}

/// One memory plane of a buffer.
#[derive(Clone, Debug)]
pub struct PlaneMemory {
    mapping: Arc<Mapping>,
    /// The dmabuf, if it is imported.
    import: Option<Arc<OwnedFd>>,
}

impl PlaneMemory {
    /// Returns the plane of `length` bytes whose memory is the dmabuf `fd`.
    ///
    /// # Errors
    /// The system's, when it is mapped.
    pub fn imported(fd: OwnedFd, length: usize) -> Result<Self, ClientError> {
        imported(Arc::new(fd), length)
    }

    /// Returns its mapping.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

/// A queue of an open device.
#[derive(Debug)]
pub struct Queue {
    device: Arc<Device>,
    buf_type: u32,
    memory: u32,
    /// `v4l2_buffer.field` of what is queued.
    field: u32,
    /// `QBUF` must not return a buffer that is done.
    demands_queued: bool,
    buffers: Vec<Vec<PlaneMemory>>,
}

/// A buffer that came back.
#[derive(Clone, Copy, Debug)]
pub struct DequeuedBuffer {
    /// Its index.
    pub index: usize,
    /// Its timestamp in ns.
    pub timestamp: u64,
    /// `V4L2_BUF_FLAG_ERROR`.
    pub error: bool,
    /// Its sequence number.
    pub sequence: u32,
    /// `V4L2_BUF_FLAG_LAST`.
    pub last: bool,
    /// Bytes in its first plane.
    pub bytes: u32,
}

impl Queue {
    /// Returns the OUTPUT or CAPTURE queue (`V4L2_BUF_TYPE_VIDEO_*_MPLANE`) of `device`, without buffers.
    #[must_use]
    pub fn new(device: &Arc<Device>, buf_type: u32) -> Self {
        Self {
            device: Arc::clone(device),
            buf_type,
            memory: v4l2::MEMORY_MMAP,
            field: v4l2::FIELD_NONE,
            demands_queued: false,
            buffers: Vec::new(),
        }
    }

    /// Returns the same, with an error for each buffer that `QBUF` returns as done.
    #[must_use]
    pub fn demand_queued(self) -> Self {
        Self {
            demands_queued: true,
            ..self
        }
    }

    /// Returns the same, for clients that leave a buffer's field at zero, `V4L2_FIELD_ANY`.
    #[must_use]
    pub fn of_any_field(device: &Arc<Device>, buf_type: u32) -> Self {
        Self {
            field: 0,
            ..Self::new(device, buf_type)
        }
    }

    /// Returns the device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the number of buffers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Returns whether there are no buffers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Planes of buffer `index`.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] if there is no such buffer.
    pub fn mappings(&self, index: usize) -> Result<impl Iterator<Item = &Mapping>, ClientError> {
        Ok(self.buffer(index)?.iter().map(PlaneMemory::mapping))
    }

    fn buffer(&self, index: usize) -> Result<&Vec<PlaneMemory>, ClientError> {
        self.buffers
            .get(index)
            .ok_or_else(|| ClientError::Unexpected(format!("buffer {index} of {}", self.buffers.len())))
    }

    /// `REQBUFS`: gives back all buffers and asks for `count` new ones, in the queue's format. The driver
    /// may give more or fewer.
    ///
    /// # Errors
    /// The driver's, and the system's when memory is mapped or made.
    pub fn allocate(&mut self, count: u32, backing: &Backing) -> Result<(), ClientError> {
        self.buffers.clear();
        self.memory = backing.memory();
        let format = self.device.format(self.buf_type)?;
        let count = self.request_buffers(count)?;
        for index in 0..count {
            let planes = self.backed(index as usize, &format, backing)?;
            self.buffers.push(planes);
        }
        Ok(())
    }

    /// `REQBUFS` of `count` buffers that come without memory; [`Queue::import`] gives it to each. Returns how
    /// many there are.
    ///
    /// # Errors
    /// The driver's.
    pub fn allocate_for_import(&mut self, count: u32) -> Result<u32, ClientError> {
        self.buffers.clear();
        self.memory = v4l2::MEMORY_DMABUF;
        let count = self.request_buffers(count)?;
        self.buffers = vec![Vec::new(); count as usize];
        Ok(count)
    }

    /// From now on buffer `index` has the memory of `planes`, which are imported when it is queued.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] if there is no such buffer.
    pub fn import(&mut self, index: usize, planes: Vec<PlaneMemory>) -> Result<(), ClientError> {
        self.buffer(index)?;
        self.buffers[index] = planes;
        Ok(())
    }

    /// `REQBUFS` with `count`; returns how many there are. For 0, the mappings of the buffers are kept.
    ///
    /// # Errors
    /// The driver's.
    pub fn request_buffers(&mut self, count: u32) -> Result<u32, ClientError> {
        let mut request = v4l2::RequestBuffers {
            count,
            type_: self.buf_type,
            memory: self.memory,
            ..Default::default()
        };
        let device = &self.device;
        call(
            format!("REQBUFS({count})"),
            device.timed(false, || v4l2::reqbufs(device.video(), &mut request)),
        )?;
        Ok(request.count)
    }

    /// `CREATE_BUFS`: `count` more buffers, in `format`; returns the index of the first. With `count` 0 it
    /// asks how many there are.
    ///
    /// # Errors
    /// The driver's.
    pub fn create(&mut self, count: u32, format: v4l2::PixFormatMplane) -> Result<u32, ClientError> {
        let mut create = v4l2::CreateBuffers {
            count,
            memory: self.memory,
            format: v4l2::Format {
                type_: self.buf_type,
                pix_mp: format,
                ..Default::default()
            },
            ..Default::default()
        };
        let device = &self.device;
        call(
            format!("CREATE_BUFS({count})"),
            device.timed(false, || v4l2::create_bufs(device.video(), &mut create)),
        )?;
        for index in create.index..create.index + create.count {
            let index = index as usize;
            let planes = self.backed(index, &format, &Backing::Mmap)?;
            // An index that `REMOVE_BUFS` gave back is used again.
            match self.buffers.get_mut(index) {
                Some(removed) => *removed = planes,
                None => self.buffers.push(planes),
            }
        }
        Ok(create.index)
    }

    /// Returns the capabilities of the queue's buffers, by `CREATE_BUFS` of none: `V4L2_BUF_CAP_*`.
    ///
    /// # Errors
    /// The driver's.
    pub fn capabilities(&self) -> Result<u32, ClientError> {
        let mut create = v4l2::CreateBuffers {
            memory: self.memory,
            format: v4l2::Format {
                type_: self.buf_type,
                ..Default::default()
            },
            ..Default::default()
        };
        call(
            "CREATE_BUFS(0)",
            v4l2::create_bufs(self.device.video(), &mut create),
        )?;
        Ok(create.capabilities)
    }

    /// Unmaps buffer `index`, before it is given back.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] if there is no such buffer.
    pub fn forget(&mut self, index: usize) -> Result<(), ClientError> {
        self.buffer(index)?;
        self.buffers[index] = Vec::new();
        Ok(())
    }

    /// Takes the mappings of buffer `index`, which then has none here.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] if there is no such buffer.
    pub fn take(&mut self, index: usize) -> Result<Vec<Arc<Mapping>>, ClientError> {
        self.buffer(index)?;
        let planes = std::mem::take(&mut self.buffers[index]);
        Ok(planes.into_iter().map(|plane| plane.mapping).collect())
    }

    /// `REMOVE_BUFS`: gives back `count` buffers from `first` on. Their mappings stay here.
    ///
    /// # Errors
    /// The driver's: `EBUSY` if one is queued.
    pub fn remove(&mut self, first: u32, count: u32) -> Result<(), ClientError> {
        let mut remove = v4l2::RemoveBuffers {
            index: first,
            count,
            type_: self.buf_type,
            ..Default::default()
        };
        let device = &self.device;
        call(
            "REMOVE_BUFS",
            device.timed(false, || v4l2::remove_bufs(device.video(), &mut remove)),
        )
    }

    /// Returns the memory of buffer `index`.
    fn backed(
        &self,
        index: usize,
        format: &v4l2::PixFormatMplane,
        backing: &Backing,
    ) -> Result<Vec<PlaneMemory>, ClientError> {
        let count = usize::from(format.num_planes);
        match backing {
            Backing::Mmap => self.mapped(index, count),
            Backing::Udmabuf => (0..count)
                .map(|plane| {
                    let length = format.plane_fmt[plane].size() as usize;
                    let fd = call("udmabuf", udmabuf(length))?;
                    imported(Arc::new(fd), length)
                })
                .collect(),
            Backing::Imported(fds) => (0..count)
                .map(|plane| {
                    let length = format.plane_fmt[plane].size() as usize;
                    let fd = fds
                        .get(index * count + plane)
                        .ok_or_else(|| ClientError::Unexpected("too few dmabufs to import".into()))?;
                    imported(Arc::clone(fd), length)
                })
                .collect(),
        }
    }

    /// Maps the planes of an MMAP buffer, after `QUERYBUF`.
    fn mapped(&self, index: usize, count: usize) -> Result<Vec<PlaneMemory>, ClientError> {
        let mut planes = vec![v4l2::Plane::default(); count];
        let mut buffer = self.header(index);
        call(
            "QUERYBUF",
            v4l2::buffer_call(self.device.video(), BufferCall::Query, &mut buffer, &mut planes),
        )?;
        planes
            .iter()
            .map(|plane| {
                let offset = plane.m & u64::from(u32::MAX);
                let mapping = Mapping::new(self.device.video(), offset, plane.length as usize);
                Ok(PlaneMemory {
                    mapping: Arc::new(call("mmap", mapping)?),
                    import: None,
                })
            })
            .collect()
    }

    fn header(&self, index: usize) -> v4l2::Buffer {
        v4l2::Buffer {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            type_: self.buf_type,
            field: self.field,
            memory: self.memory,
            ..Default::default()
        }
    }

    /// Queues buffer `index` of OUTPUT in `request`, with `payload` and its timestamp in ns. `hold` keeps
    /// the CAPTURE buffer for the next job.
    ///
    /// # Errors
    /// The driver's; `EFAULT` if the payload does not fit.
    pub fn queue_coded(
        &self,
        index: usize,
        payload: &[u8],
        timestamp: u64,
        hold: bool,
        request: &Request,
    ) -> Result<(), ClientError> {
        if let Some(plane) = self.buffer(index)?.first() {
            call(
                "a payload larger than its buffer",
                plane.mapping.write(0, payload),
            )?;
        }
        let mut buffer = self.header(index);
        buffer.flags = v4l2::BUF_FLAG_REQUEST_FD | if hold { v4l2::BUF_FLAG_HOLD_CAPTURE } else { 0 };
        buffer.request_fd = request.as_fd().as_raw_fd();
        buffer.tv_sec = i64::try_from(timestamp / 1_000_000_000).unwrap_or_default();
        buffer.tv_usec = i64::try_from(timestamp % 1_000_000_000 / 1000).unwrap_or_default();
        self.queue(buffer, u32::try_from(payload.len()).unwrap_or(u32::MAX))
    }

    /// Queues buffer `index` of a stateful decoder's OUTPUT, with `payload` and its timestamp in ns.
    ///
    /// # Errors
    /// The driver's; `EFAULT` if the payload does not fit.
    pub fn queue_unit(&self, index: usize, payload: &[u8], timestamp: u64) -> Result<(), ClientError> {
        if let Some(plane) = self.buffer(index)?.first() {
            call(
                "a payload larger than its buffer",
                plane.mapping.write(0, payload),
            )?;
        }
        let mut buffer = self.header(index);
        buffer.tv_sec = i64::try_from(timestamp / 1_000_000_000).unwrap_or_default();
        buffer.tv_usec = i64::try_from(timestamp % 1_000_000_000 / 1000).unwrap_or_default();
        self.queue(buffer, u32::try_from(payload.len()).unwrap_or(u32::MAX))
    }

    /// Queues buffer `index` of OUTPUT outside of any request, which a device that wants requests refuses.
    ///
    /// # Errors
    /// The driver's: `EBADR`.
    pub fn queue_without_request(&self, index: usize) -> Result<(), ClientError> {
        self.queue(self.header(index), 1)
    }

    /// Queues buffer `index` of CAPTURE.
    ///
    /// # Errors
    /// The driver's.
    pub fn queue_picture(&self, index: usize) -> Result<(), ClientError> {
        self.queue(self.header(index), 0)
    }

    fn queue(&self, mut buffer: v4l2::Buffer, bytesused: u32) -> Result<(), ClientError> {
        let memory = self.buffer(buffer.index as usize)?;
        let mut planes: Vec<v4l2::Plane> = memory
            .iter()
            .map(|plane| v4l2::Plane {
                bytesused,
                length: u32::try_from(plane.mapping.len()).unwrap_or(u32::MAX),
                m: plane
                    .import
                    .as_ref()
                    .map_or(0, |fd| u64::from(fd.as_raw_fd() as u32)),
                ..Default::default()
            })
            .collect();
        let device = &self.device;
        let result = device.timed(false, || {
            v4l2::buffer_call(device.video(), BufferCall::Queue, &mut buffer, &mut planes)
        });
        call(format!("QBUF({})", self.name()), result)?;
        if self.demands_queued && buffer.flags & v4l2::BUF_FLAG_DONE != 0 {
            let text = format!("QBUF({}) returned buffer {} as done", self.name(), buffer.index);
            return Err(ClientError::Unexpected(text));
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        if self.buf_type == v4l2::BUF_TYPE_OUTPUT {
            "OUTPUT"
        } else {
            "CAPTURE"
        }
    }

    /// `DQBUF`. `None` if nothing is ready and the device was not opened to wait.
    ///
    /// # Errors
    /// The driver's: `EIO` if the queue is in error, `EINVAL` if it does not stream.
    pub fn dequeue(&self) -> Result<Option<DequeuedBuffer>, ClientError> {
        let mut planes = [v4l2::Plane::default(); v4l2::MAX_PLANES];
        let mut buffer = self.header(0);
        let device = &self.device;
        let result = device.timed(device.is_blocking(), || {
            v4l2::buffer_call(device.video(), BufferCall::Dequeue, &mut buffer, &mut planes)
        });
        match result {
            Err(Errno::AGAIN) => return Ok(None),
            other => call(format!("DQBUF({})", self.name()), other)?,
        }
        let seconds = u64::try_from(buffer.tv_sec).unwrap_or_default();
        let micros = u64::try_from(buffer.tv_usec).unwrap_or_default();
        Ok(Some(DequeuedBuffer {
            index: buffer.index as usize,
            timestamp: seconds * 1_000_000_000 + micros * 1000,
            error: buffer.flags & v4l2::BUF_FLAG_ERROR != 0,
            sequence: buffer.sequence,
            last: buffer.flags & v4l2::BUF_FLAG_LAST != 0,
            bytes: planes[0].bytesused,
        }))
    }

    /// `EXPBUF`: a dmabuf of a plane of an MMAP buffer, readable, and writable if asked.
    ///
    /// # Errors
    /// The driver's.
    pub fn export(&self, index: usize, plane: usize, writable: bool) -> Result<OwnedFd, ClientError> {
        let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
        let mut export = v4l2::ExportBuffer {
            type_: self.buf_type,
            index: u32::try_from(index).unwrap_or(u32::MAX),
            plane: u32::try_from(plane).unwrap_or(u32::MAX),
            flags: (access | OFlags::CLOEXEC).bits(),
            ..Default::default()
        };
        call("EXPBUF", v4l2::expbuf(self.device.video(), &mut export))?;
        if export.fd < 0 {
            return Err(ClientError::Unexpected(format!(
                "EXPBUF: file descriptor {}",
                export.fd
            )));
        }
        // SAFETY: the kernel has just installed it for this process.
        Ok(unsafe { OwnedFd::from_raw_fd(export.fd) })
    }

    /// `STREAMON` or `STREAMOFF`.
    ///
    /// # Errors
    /// The driver's.
    pub fn stream(&self, on: bool) -> Result<(), ClientError> {
        let device = &self.device;
        call(
            if on { "STREAMON" } else { "STREAMOFF" },
            device.timed(false, || v4l2::stream(device.video(), on, self.buf_type)),
        )
    }
}

/// Returns a plane whose memory is imported.
fn imported(fd: Arc<OwnedFd>, length: usize) -> Result<PlaneMemory, ClientError> {
    let mapping = call("mmap of a dmabuf", Mapping::new(fd.as_fd(), 0, length))?;
    Ok(PlaneMemory {
        mapping: Arc::new(mapping),
        import: Some(fd),
    })
}
