// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asks video nodes of any driver about themselves, without streaming on them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::ioctl::{Opcode, opcode};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::fd::exchange;

/// `struct v4l2_capability`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Capability {
    /// The driver's name.
    pub driver: [u8; 16],
    /// The device's name.
    pub card: [u8; 32],
    /// The place of the device.
    pub bus_info: [u8; 32],
    /// The kernel's version.
    pub version: u32,
    /// The capabilities of all nodes of the device together.
    pub capabilities: u32,
    /// The capabilities of this node, with [`CAP_DEVICE_CAPS`] in `capabilities`.
    pub device_caps: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// `struct v4l2_fmtdesc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FormatDescription {
    /// The format's place in the list.
    pub index: u32,
    /// `V4L2_BUF_TYPE_*`: the queue.
    pub queue: u32,
    /// `V4L2_FMT_FLAG_*`.
    pub flags: u32,
    /// For people.
    pub description: [u8; 32],
    /// The format.
    pub pixelformat: u32,
    /// For drivers with several media bus formats.
    pub mbus_code: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// `VIDIOC_QUERYCAP`.
pub const VIDIOC_QUERYCAP: Opcode = opcode::read::<Capability>(b'V', 0);
/// `VIDIOC_ENUM_FMT`.
pub const VIDIOC_ENUM_FMT: Opcode = opcode::read_write::<FormatDescription>(b'V', 2);

/// `V4L2_CAP_VIDEO_M2M_MPLANE`.
pub const CAP_M2M_MPLANE: u32 = 0x4000;
/// `V4L2_CAP_VIDEO_M2M`.
pub const CAP_M2M: u32 = 0x8000;
/// `V4L2_CAP_DEVICE_CAPS`.
pub const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
/// `V4L2_BUF_TYPE_VIDEO_OUTPUT`.
pub const QUEUE_OUTPUT: u32 = 2;
/// `V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE`.
pub const QUEUE_OUTPUT_MPLANE: u32 = 10;

/// Formats that are asked for: drivers have a few dozen at most, and one that never ends its list is not
/// waited for.
const FORMATS: u32 = 256;

/// An open video node.
#[derive(Debug)]
pub struct VideoNode(OwnedFd);

impl VideoNode {
    /// Opens a video node to ask it what it is.
    ///
    /// # Errors
    /// The error of `open()`.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        rustix::fs::open(path, flags, Mode::empty()).map(Self)
    }

    /// `VIDIOC_QUERYCAP`.
    ///
    /// # Errors
    /// `ENOTTY` if this is no video node.
    pub fn capability(&self) -> Result<Capability> {
        let mut capability = Capability::default();
        // SAFETY: the type of the number; plain integers come back.
        unsafe { exchange::<VIDIOC_QUERYCAP, Capability>(self.0.as_fd(), &mut capability) }?;
        Ok(capability)
    }

    /// Returns the formats of a queue; none if the node has no such queue.
    ///
    /// # Errors
    /// The error of `VIDIOC_ENUM_FMT`, but for the `EINVAL` that ends the list.
    pub fn formats(&self, queue: u32) -> Result<Vec<u32>> {
        let mut formats = Vec::new();
        for index in 0..FORMATS {
            let mut description = FormatDescription {
                index,
                queue,
                ..FormatDescription::default()
            };
            // SAFETY: the type of the number; plain integers come back.
            match unsafe { exchange::<VIDIOC_ENUM_FMT, FormatDescription>(self.0.as_fd(), &mut description) }
            {
                Ok(()) => formats.push(description.pixelformat),
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(formats)
    }
}

impl Capability {
    /// Returns the capabilities of this node.
    #[must_use]
    pub fn of_node(&self) -> u32 {
        if self.capabilities & CAP_DEVICE_CAPS != 0 {
            self.device_caps
        } else {
            self.capabilities
        }
    }

    /// Returns the driver's name, of printable characters only.
    #[must_use]
    pub fn driver(&self) -> String {
        self.driver
            .iter()
            .take_while(|&&byte| byte != 0)
            .map(|&byte| {
                if byte.is_ascii_graphic() {
                    char::from(byte)
                } else {
                    '?'
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<Capability>(), 104);
        assert_eq!(size_of::<FormatDescription>(), 64);
    }

    #[test]
    fn another_file_is_no_video_node() {
        let node = VideoNode::open(Path::new("/dev/null")).unwrap();
        assert_eq!(node.capability().unwrap_err(), Errno::NOTTY);
        assert!(node.formats(QUEUE_OUTPUT).is_err());
    }

    #[test]
    fn a_nodes_own_capabilities_count() {
        let mut capability = Capability {
            capabilities: CAP_DEVICE_CAPS | CAP_M2M,
            ..Capability::default()
        };
        assert_eq!(capability.of_node(), 0);
        capability.capabilities = CAP_M2M;
        assert_eq!(capability.of_node(), CAP_M2M);
        capability.driver[..4].copy_from_slice(b"vi\x1bl");
        assert_eq!(capability.driver(), "vi?l");
    }
}
