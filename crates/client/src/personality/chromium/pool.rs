// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory for CAPTURE that the device did not make for this session: the frames of a dmabuf pool.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::coded::Control;
use crate::device::{ClientError, Device, Nodes, call};
use crate::memory::{Mapping, udmabuf};
use crate::queue::{PlaneMemory, Queue};
use crate::v4l2::{BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};

/// A pool that grows as frames are needed. Even frames are ordinary memory, odd ones the exported CAPTURE
/// buffers of a session that never streams.
#[derive(Debug)]
pub(super) struct Pool {
    nodes: Nodes,
    coded: PixFormatMplane,
    depth_control: Option<Control>,
    raw: PixFormatMplane,
    donor: Option<(Arc<Device>, Queue)>,
    frames: Vec<Vec<PlaneMemory>>,
    free: VecDeque<usize>,
}

impl Pool {
    /// Returns an empty pool, for frames of the format `raw` of a session with this OUTPUT format and
    /// control.
    pub(super) fn new(
        nodes: &Nodes,
        coded: PixFormatMplane,
        depth_control: Option<Control>,
        raw: PixFormatMplane,
    ) -> Self {
        Self {
            nodes: nodes.clone(),
            coded,
            depth_control,
            raw,
            donor: None,
            frames: Vec::new(),
            free: VecDeque::new(),
        }
    }

    /// Takes a frame: the one that was free for the longest time, or a new one.
    pub(super) fn get(&mut self) -> Result<usize, ClientError> {
        if let Some(frame) = self.free.pop_front() {
            return Ok(frame);
        }
        let number = self.frames.len();
        let mut planes = Vec::new();
        for plane in 0..usize::from(self.raw.num_planes) {
            let length = self.raw.plane_fmt[plane].size() as usize;
            let fd = if number % 2 == 0 {
                call("udmabuf", udmabuf(length))?
            } else {
                let donor = self.donor()?;
                donor.export(number / 2, plane, true)?
            };
            planes.push(PlaneMemory::imported(fd, length)?);
        }
        self.frames.push(planes);
        Ok(number)
    }

    /// Returns the other session, with one more buffer.
    fn donor(&mut self) -> Result<&Queue, ClientError> {
        if self.donor.is_none() {
            let device = Device::open(&self.nodes, false)?;
            device.set_format(BUF_TYPE_OUTPUT, self.coded)?;
            if let Some(control) = &self.depth_control {
                device.set_controls(std::slice::from_ref(control), None)?;
            }
            device.set_format(BUF_TYPE_CAPTURE, self.raw)?;
            let queue = Queue::new(&device, BUF_TYPE_CAPTURE);
            self.donor = Some((device, queue));
        }
        let none = || ClientError::Unexpected("no donor".into());
        let (_, queue) = self.donor.as_mut().ok_or_else(none)?;
        if queue.len() <= self.frames.len() / 2 {
            queue.create(1, self.raw)?;
        }
        Ok(queue)
    }

    /// The frame is free again.
    pub(super) fn put(&mut self, frame: usize) {
        self.free.push_back(frame);
    }

    /// Returns the frame's memory.
    pub(super) fn planes(&self, frame: usize) -> Vec<PlaneMemory> {
        self.frames.get(frame).cloned().unwrap_or_default()
    }

    /// Returns the frame's memory, for reading.
    pub(super) fn mappings(&self, frame: usize) -> Vec<&Mapping> {
        let planes = self.frames.get(frame).map(Vec::as_slice);
        planes
            .unwrap_or_default()
            .iter()
            .map(PlaneMemory::mapping)
            .collect()
    }
}
