// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mirror of the structures, constants and ioctls of `linux/videodev2.h`, `linux/media.h` and
//! `linux/udmabuf.h` that the client uses, on 64-bit ABIs; `tests/layout.rs` compares them with the C
//! headers.
//!
//! Meanings are those of the kernel's `Documentation/userspace-api/media`. Pointers are `u64` fields, unions
//! the member that is used here.

use std::os::fd::BorrowedFd;

use rustix::io::Result;
use rustix::ioctl::{Getter, NoArg, Opcode, Setter, Updater, ioctl, opcode};

/// Defines structures that are zero by default, with every field public.
macro_rules! structs {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, zerocopy::FromZeros)]
        #[repr(C)]
        pub struct $name { $(
            #[doc = concat!("`", stringify!($field), "` of the C structure.")]
            pub $field: $type
        ),* }

        impl Default for $name {
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    )*};
}

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE`.
pub const BUF_TYPE_CAPTURE: u32 = 9;
/// `V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE`.
pub const BUF_TYPE_OUTPUT: u32 = 10;
/// `V4L2_MEMORY_MMAP`.
pub const MEMORY_MMAP: u32 = 1;
/// `V4L2_MEMORY_DMABUF`.
pub const MEMORY_DMABUF: u32 = 4;
/// `V4L2_FIELD_ANY`.
pub const FIELD_ANY: u32 = 0;
/// `V4L2_FIELD_INTERLACED`.
pub const FIELD_INTERLACED: u32 = 4;
/// `V4L2_FIELD_ALTERNATE`.
pub const FIELD_ALTERNATE: u32 = 7;
/// `V4L2_FIELD_NONE`.
pub const FIELD_NONE: u32 = 1;
/// `V4L2_BUF_FLAG_ERROR`.
pub const BUF_FLAG_ERROR: u32 = 0x40;
/// `V4L2_BUF_FLAG_DONE`.
pub const BUF_FLAG_DONE: u32 = 0x4;
/// `V4L2_BUF_FLAG_LAST`.
pub const BUF_FLAG_LAST: u32 = 0x0010_0000;
/// `V4L2_BUF_FLAG_TIMESTAMP_COPY`.
pub const BUF_FLAG_TIMESTAMP_COPY: u32 = 0x4000;
/// `V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF`.
pub const BUF_FLAG_HOLD_CAPTURE: u32 = 0x200;
/// `V4L2_BUF_FLAG_REQUEST_FD`.
pub const BUF_FLAG_REQUEST_FD: u32 = 0x0080_0000;
/// `V4L2_CAP_VIDEO_M2M_MPLANE`.
pub const CAP_VIDEO_M2M_MPLANE: u32 = 0x4000;
/// `V4L2_CAP_STREAMING`.
pub const CAP_STREAMING: u32 = 0x0400_0000;
/// `V4L2_CAP_DEVICE_CAPS`.
pub const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
/// `V4L2_BUF_CAP_SUPPORTS_REQUESTS`.
pub const BUF_CAP_SUPPORTS_REQUESTS: u32 = 0x8;
/// `V4L2_BUF_CAP_SUPPORTS_M2M_HOLD_CAPTURE_BUF`.
pub const BUF_CAP_SUPPORTS_HOLD: u32 = 0x20;
/// `V4L2_BUF_CAP_SUPPORTS_REMOVE_BUFS`.
pub const BUF_CAP_SUPPORTS_REMOVE_BUFS: u32 = 0x100;
/// `V4L2_CTRL_WHICH_CUR_VAL`.
pub const CTRL_WHICH_CUR_VAL: u32 = 0;
/// `V4L2_CTRL_WHICH_REQUEST_VAL`.
pub const CTRL_WHICH_REQUEST_VAL: u32 = 0x0f01_0000;
/// `V4L2_CTRL_FLAG_HAS_PAYLOAD`.
pub const CTRL_FLAG_HAS_PAYLOAD: u32 = 0x100;
/// `V4L2_CTRL_FLAG_NEXT_CTRL`.
pub const CTRL_FLAG_NEXT_CTRL: u32 = 0x8000_0000;
/// `V4L2_CTRL_FLAG_NEXT_COMPOUND`.
pub const CTRL_FLAG_NEXT_COMPOUND: u32 = 0x4000_0000;
/// `V4L2_DEC_CMD_START`.
pub const DEC_CMD_START: u32 = 0;
/// `V4L2_DEC_CMD_STOP`.
pub const DEC_CMD_STOP: u32 = 1;
/// `V4L2_EVENT_EOS`.
pub const EVENT_EOS: u32 = 2;
/// `V4L2_EVENT_SOURCE_CHANGE`.
pub const EVENT_SOURCE_CHANGE: u32 = 5;
/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`, which selections are about.
pub const SELECTION_CAPTURE: u32 = 1;
/// `V4L2_SEL_TGT_COMPOSE`.
pub const SEL_TGT_COMPOSE: u32 = 0x0100;
/// `V4L2_CID_MIN_BUFFERS_FOR_CAPTURE`.
pub const CID_MIN_BUFFERS_FOR_CAPTURE: u32 = 0x0098_0927;
/// `V4L2_DEC_CMD_FLUSH`.
pub const DEC_CMD_FLUSH: u32 = 4;
/// `V4L2_FRMSIZE_TYPE_STEPWISE`.
pub const FRMSIZE_TYPE_STEPWISE: u32 = 3;
/// `VIDEO_MAX_PLANES`.
pub const MAX_PLANES: usize = 8;
/// `UDMABUF_FLAGS_CLOEXEC`.
pub const UDMABUF_FLAGS_CLOEXEC: u32 = 1;

structs! {
    /// `struct v4l2_capability`.
    Capability {
        driver: [u8; 16], card: [u8; 32], bus_info: [u8; 32], version: u32, capabilities: u32,
        device_caps: u32, reserved: [u32; 3],
    }
    /// `struct v4l2_fmtdesc`.
    FmtDesc {
        index: u32, type_: u32, flags: u32, description: [u8; 32], pixelformat: u32, mbus_code: u32,
        reserved: [u32; 3],
    }
    /// `struct v4l2_frmsizeenum`, with the stepwise member of its union.
    FrmSizeEnum {
        index: u32, pixel_format: u32, type_: u32, min_width: u32, max_width: u32, step_width: u32,
        min_height: u32, max_height: u32, step_height: u32, reserved: [u32; 2],
    }
    /// `struct v4l2_plane_pix_format`, which is packed in C.
    PlanePixFormat { sizeimage: [u8; 4], bytesperline: [u8; 4], reserved: [u8; 12] }
    /// `struct v4l2_pix_format_mplane`, which is packed in C.
    PixFormatMplane {
        width: u32, height: u32, pixelformat: u32, field: u32, colorspace: u32,
        plane_fmt: [PlanePixFormat; MAX_PLANES], num_planes: u8, flags: u8, ycbcr_enc: u8,
        quantization: u8, xfer_func: u8, reserved: [u8; 7],
    }
    /// `struct v4l2_format`, with the member `pix_mp` of its union.
    Format { type_: u32, pad: u32, pix_mp: PixFormatMplane, rest: [u8; 8] }
    /// `struct v4l2_requestbuffers`.
    RequestBuffers {
        count: u32, type_: u32, memory: u32, capabilities: u32, flags: u8, reserved: [u8; 3],
    }
    /// `struct v4l2_plane`; `m` is `mem_offset` or `fd`, in its low 32 bits.
    Plane { bytesused: u32, length: u32, m: u64, data_offset: u32, reserved: [u32; 11] }
    /// `struct v4l2_buffer`; `planes` points to `length` structures [`Plane`].
    Buffer {
        index: u32, type_: u32, bytesused: u32, flags: u32, field: u32, pad: u32, tv_sec: i64,
        tv_usec: i64, timecode: [u32; 4], sequence: u32, memory: u32, planes: u64, length: u32,
        reserved2: u32, request_fd: i32, pad2: u32,
    }
    /// `struct v4l2_exportbuffer`.
    ExportBuffer { type_: u32, index: u32, plane: u32, flags: u32, fd: i32, reserved: [u32; 11] }
    /// `struct v4l2_create_buffers`.
    CreateBuffers {
        index: u32, count: u32, memory: u32, pad: u32, format: Format, capabilities: u32, flags: u32,
        max_num_buffers: u32, reserved: [u32; 5],
    }
    /// `struct v4l2_remove_buffers`.
    RemoveBuffers { index: u32, count: u32, type_: u32, reserved: [u32; 13] }
    /// `struct v4l2_ext_control`, which is packed in C; `value` is the union: a pointer, or the integer.
    ExtControl { id: [u8; 4], size: [u8; 4], reserved2: [u8; 4], value: [u8; 8] }
    /// `struct v4l2_ext_controls`.
    ExtControls {
        which: u32, count: u32, error_idx: u32, request_fd: i32, reserved: u32, pad: u32, controls: u64,
    }
    /// `struct v4l2_query_ext_ctrl`.
    QueryExtCtrl {
        id: u32, type_: u32, name: [u8; 32], minimum: i64, maximum: i64, step: u64, default_value: i64,
        flags: u32, elem_size: u32, elems: u32, nr_of_dims: u32, dims: [u32; 4], reserved: [u32; 32],
    }
    /// `struct v4l2_decoder_cmd`, with the member `raw` of its union.
    DecoderCmd { cmd: u32, flags: u32, raw: [u32; 16] }
    /// `struct v4l2_selection`.
    Selection {
        type_: u32, target: u32, flags: u32, left: i32, top: i32, width: u32, height: u32, reserved: [u32; 9],
    }
    /// `struct v4l2_event_subscription`.
    EventSubscription { type_: u32, id: u32, flags: u32, reserved: [u32; 5] }
    /// `struct v4l2_event`.
    Event {
        type_: u32, data: [u64; 8], pending: u32, sequence: u32, tv_sec: i64, tv_nsec: i64, id: u32,
        reserved: [u32; 8],
    }
    /// `struct media_device_info`.
    MediaDeviceInfo {
        driver: [u8; 16], model: [u8; 32], serial: [u8; 40], bus_info: [u8; 32], media_version: u32,
        hw_revision: u32, driver_version: u32, reserved: [u32; 31],
    }
    /// `struct udmabuf_create`.
    UdmabufCreate { memfd: u32, flags: u32, offset: u64, size: u64 }
}

impl PlanePixFormat {
    /// Returns the bytes of a buffer's plane.
    #[must_use]
    pub fn size(&self) -> u32 {
        u32::from_ne_bytes(self.sizeimage)
    }

    /// Returns the bytes from one line to the next.
    #[must_use]
    pub fn stride(&self) -> u32 {
        u32::from_ne_bytes(self.bytesperline)
    }
}

impl ExtControl {
    /// Returns a control whose value lies in `size` bytes at `pointer`.
    #[must_use]
    pub fn pointer(id: u32, size: u32, pointer: u64) -> Self {
        Self {
            id: id.to_ne_bytes(),
            size: size.to_ne_bytes(),
            reserved2: [0; 4],
            value: pointer.to_ne_bytes(),
        }
    }
}

/// Returns the text in a fixed-size field, up to its NUL.
#[must_use]
pub fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// Defines ioctls: their numbers, and functions that call them.
macro_rules! ioctls {
    ($($(#[$meta:meta])* $number:ident $function:ident($group:literal, $nr:literal, $type:ty);)*) => {$(
        $(#[$meta])*
        pub const $number: Opcode = opcode::read_write::<$type>($group, $nr);

        $(#[$meta])*
        ///
        /// # Errors
        /// The driver's.
        pub fn $function(fd: BorrowedFd<'_>, argument: &mut $type) -> Result<()> {
            // SAFETY: the structure is the number's, as the layout test proves; it holds plain integers
            // only, of which any value is valid.
            let call = unsafe { Updater::<$number, $type>::new(argument) };
            // SAFETY: pointers inside the structure are what the callers in this crate put there: they
            // point to memory that is alive during the call and as long as the structure says.
            unsafe { ioctl(fd, call) }
        }
    )*};
}

ioctls! {
    /// `VIDIOC_ENUM_FMT`.
    VIDIOC_ENUM_FMT enum_fmt(b'V', 2, FmtDesc);
    /// `VIDIOC_G_FMT`.
    VIDIOC_G_FMT g_fmt(b'V', 4, Format);
    /// `VIDIOC_S_FMT`.
    VIDIOC_S_FMT s_fmt(b'V', 5, Format);
    /// `VIDIOC_TRY_FMT`.
    VIDIOC_TRY_FMT try_fmt(b'V', 64, Format);
    /// `VIDIOC_REQBUFS`.
    VIDIOC_REQBUFS reqbufs(b'V', 8, RequestBuffers);
    /// `VIDIOC_EXPBUF`.
    VIDIOC_EXPBUF expbuf(b'V', 16, ExportBuffer);
    /// `VIDIOC_ENUM_FRAMESIZES`.
    VIDIOC_ENUM_FRAMESIZES enum_framesizes(b'V', 74, FrmSizeEnum);
    /// `VIDIOC_CREATE_BUFS`.
    VIDIOC_CREATE_BUFS create_bufs(b'V', 92, CreateBuffers);
    /// `VIDIOC_G_SELECTION`.
    VIDIOC_G_SELECTION g_selection(b'V', 94, Selection);
    /// `VIDIOC_DECODER_CMD`.
    VIDIOC_DECODER_CMD decoder_cmd(b'V', 96, DecoderCmd);
    /// `VIDIOC_QUERY_EXT_CTRL`.
    VIDIOC_QUERY_EXT_CTRL query_ext_ctrl(b'V', 103, QueryExtCtrl);
    /// `VIDIOC_REMOVE_BUFS`.
    VIDIOC_REMOVE_BUFS remove_bufs(b'V', 104, RemoveBuffers);
    /// `MEDIA_IOC_DEVICE_INFO`.
    MEDIA_IOC_DEVICE_INFO media_device_info(b'|', 0, MediaDeviceInfo);
}

/// `VIDIOC_QUERYCAP`.
pub const VIDIOC_QUERYCAP: Opcode = opcode::read::<Capability>(b'V', 0);
/// `VIDIOC_QUERYBUF`.
pub const VIDIOC_QUERYBUF: Opcode = opcode::read_write::<Buffer>(b'V', 9);
/// `VIDIOC_QBUF`.
pub const VIDIOC_QBUF: Opcode = opcode::read_write::<Buffer>(b'V', 15);
/// `VIDIOC_DQBUF`.
pub const VIDIOC_DQBUF: Opcode = opcode::read_write::<Buffer>(b'V', 17);
/// `VIDIOC_DQEVENT`.
pub const VIDIOC_DQEVENT: Opcode = opcode::read::<Event>(b'V', 89);
/// `VIDIOC_SUBSCRIBE_EVENT`.
pub const VIDIOC_SUBSCRIBE_EVENT: Opcode = opcode::write::<EventSubscription>(b'V', 90);
/// `VIDIOC_STREAMON`.
pub const VIDIOC_STREAMON: Opcode = opcode::write::<i32>(b'V', 18);
/// `VIDIOC_STREAMOFF`.
pub const VIDIOC_STREAMOFF: Opcode = opcode::write::<i32>(b'V', 19);
/// `VIDIOC_G_EXT_CTRLS`.
pub const VIDIOC_G_EXT_CTRLS: Opcode = opcode::read_write::<ExtControls>(b'V', 71);
/// `VIDIOC_S_EXT_CTRLS`.
pub const VIDIOC_S_EXT_CTRLS: Opcode = opcode::read_write::<ExtControls>(b'V', 72);
/// `MEDIA_IOC_REQUEST_ALLOC`.
pub const MEDIA_IOC_REQUEST_ALLOC: Opcode = opcode::read::<i32>(b'|', 5);
/// `MEDIA_REQUEST_IOC_QUEUE`.
pub const MEDIA_REQUEST_IOC_QUEUE: Opcode = opcode::none(b'|', 0x80);
/// `MEDIA_REQUEST_IOC_REINIT`.
pub const MEDIA_REQUEST_IOC_REINIT: Opcode = opcode::none(b'|', 0x81);
/// `UDMABUF_CREATE`; returns a file descriptor.
pub const UDMABUF_CREATE: Opcode = opcode::write::<UdmabufCreate>(b'u', 0x42);

/// `VIDIOC_QUERYCAP`.
///
/// # Errors
/// The driver's; `ENOTTY` if it is no V4L2 device.
pub fn querycap(fd: BorrowedFd<'_>) -> Result<Capability> {
    // SAFETY: the structure is the number's, and any bytes are valid for it.
    let call = unsafe { Getter::<VIDIOC_QUERYCAP, Capability>::new() };
    // SAFETY: the kernel writes the size that the number encodes.
    unsafe { ioctl(fd, call) }
}

/// `VIDIOC_SUBSCRIBE_EVENT` of a type of event.
///
/// # Errors
/// The driver's: `EINVAL` if it has no such event.
pub fn subscribe_event(fd: BorrowedFd<'_>, type_: u32) -> Result<()> {
    let subscription = EventSubscription {
        type_,
        ..Default::default()
    };
    // SAFETY: the structure is the number's.
    let call = unsafe { Setter::<VIDIOC_SUBSCRIBE_EVENT, EventSubscription>::new(subscription) };
    // SAFETY: the kernel reads the size that the number encodes.
    unsafe { ioctl(fd, call) }
}

/// `VIDIOC_DQEVENT`.
///
/// # Errors
/// The driver's: `ENOENT` if there is none and the node was not opened to wait.
pub fn dequeue_event(fd: BorrowedFd<'_>) -> Result<Event> {
    // SAFETY: the structure is the number's, and any bytes are valid for it.
    let call = unsafe { Getter::<VIDIOC_DQEVENT, Event>::new() };
    // SAFETY: the kernel writes the size that the number encodes.
    unsafe { ioctl(fd, call) }
}

/// Which of the calls that take a [`Buffer`].
#[derive(Clone, Copy, Debug)]
pub enum BufferCall {
    /// `VIDIOC_QUERYBUF`.
    Query,
    /// `VIDIOC_QBUF`.
    Queue,
    /// `VIDIOC_DQBUF`.
    Dequeue,
}

/// Returns a call about a buffer; `buffer.planes` and `buffer.length` are set here, to `planes`.
///
/// # Errors
/// The driver's.
pub fn buffer_call(
    fd: BorrowedFd<'_>,
    call: BufferCall,
    buffer: &mut Buffer,
    planes: &mut [Plane],
) -> Result<()> {
    buffer.planes = planes.as_mut_ptr() as u64;
    buffer.length = u32::try_from(planes.len()).unwrap_or(u32::MAX);
    match call {
        BufferCall::Query => {
            // SAFETY: the structure is the number's.
            let call = unsafe { Updater::<VIDIOC_QUERYBUF, Buffer>::new(buffer) };
            // SAFETY: `planes` is borrowed for the call and has `length` elements.
            unsafe { ioctl(fd, call) }
        }
        BufferCall::Queue => {
            // SAFETY: the structure is the number's.
            let call = unsafe { Updater::<VIDIOC_QBUF, Buffer>::new(buffer) };
            // SAFETY: `planes` is borrowed for the call and has `length` elements.
            unsafe { ioctl(fd, call) }
        }
        BufferCall::Dequeue => {
            // SAFETY: the structure is the number's.
            let call = unsafe { Updater::<VIDIOC_DQBUF, Buffer>::new(buffer) };
            // SAFETY: `planes` is borrowed for the call and has `length` elements.
            unsafe { ioctl(fd, call) }
        }
    }
}

/// `VIDIOC_STREAMON` or `VIDIOC_STREAMOFF` of the queue with `buf_type`.
///
/// # Errors
/// The driver's.
pub fn stream(fd: BorrowedFd<'_>, on: bool, buf_type: u32) -> Result<()> {
    let buf_type = buf_type as i32;
    if on {
        // SAFETY: the argument is an int.
        let call = unsafe { Setter::<VIDIOC_STREAMON, i32>::new(buf_type) };
        // SAFETY: the kernel reads that int.
        unsafe { ioctl(fd, call) }
    } else {
        // SAFETY: the argument is an int.
        let call = unsafe { Setter::<VIDIOC_STREAMOFF, i32>::new(buf_type) };
        // SAFETY: the kernel reads that int.
        unsafe { ioctl(fd, call) }
    }
}

/// `VIDIOC_S_EXT_CTRLS` if `set`, else `VIDIOC_G_EXT_CTRLS`: of the request `request`, or of the device.
/// Each element of `values` is a control's id and its value, of exactly its size. The error comes with
/// `error_idx`, the index of the control that is to blame or `values.len()`.
///
/// # Errors
/// The driver's.
pub fn ext_controls(
    fd: BorrowedFd<'_>,
    set: bool,
    request: Option<i32>,
    values: &mut [(u32, Vec<u8>)],
) -> std::result::Result<(), (rustix::io::Errno, u32)> {
    let mut controls: Vec<ExtControl> = values
        .iter_mut()
        .map(|(id, value)| {
            // Values of 4 bytes and less live in the union itself.
            if value.len() <= 4 {
                let mut control = ExtControl::pointer(*id, 0, 0);
                control.value[..value.len()].copy_from_slice(value);
                control
            } else {
                let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
                ExtControl::pointer(*id, size, value.as_mut_ptr() as u64)
            }
        })
        .collect();
    let mut argument = ExtControls {
        which: if request.is_some() {
            CTRL_WHICH_REQUEST_VAL
        } else {
            CTRL_WHICH_CUR_VAL
        },
        count: u32::try_from(controls.len()).unwrap_or(u32::MAX),
        request_fd: request.unwrap_or_default(),
        controls: controls.as_mut_ptr() as u64,
        ..Default::default()
    };
    let result = if set {
        // SAFETY: the structure is the number's.
        let call = unsafe { Updater::<VIDIOC_S_EXT_CTRLS, ExtControls>::new(&mut argument) };
        // SAFETY: `controls` and the values that it points to live until after the call; sizes are theirs.
        unsafe { ioctl(fd, call) }
    } else {
        // SAFETY: the structure is the number's.
        let call = unsafe { Updater::<VIDIOC_G_EXT_CTRLS, ExtControls>::new(&mut argument) };
        // SAFETY: as above; the kernel writes at most the sizes given.
        unsafe { ioctl(fd, call) }
    };
    for (control, (_, value)) in controls.iter().zip(values) {
        if value.len() <= 4 {
            let length = value.len();
            value.copy_from_slice(&control.value[..length]);
        }
    }
    result.map_err(|errno| (errno, argument.error_idx))
}

/// `MEDIA_IOC_REQUEST_ALLOC`: a new request's file descriptor, which the caller owns.
///
/// # Errors
/// The driver's; `ENOTTY` if the media device has no requests.
pub fn request_alloc(fd: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: the argument is an int, which the kernel writes.
    let call = unsafe { Getter::<MEDIA_IOC_REQUEST_ALLOC, i32>::new() };
    // SAFETY: as above.
    unsafe { ioctl(fd, call) }
}

/// `MEDIA_REQUEST_IOC_QUEUE`.
///
/// # Errors
/// The driver's.
pub fn request_queue(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the call has no argument.
    let call = unsafe { NoArg::<MEDIA_REQUEST_IOC_QUEUE>::new() };
    // SAFETY: as above.
    unsafe { ioctl(fd, call) }
}

/// `MEDIA_REQUEST_IOC_REINIT`.
///
/// # Errors
/// `EBUSY` while the request is queued.
pub fn request_reinit(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the call has no argument.
    let call = unsafe { NoArg::<MEDIA_REQUEST_IOC_REINIT>::new() };
    // SAFETY: as above.
    unsafe { ioctl(fd, call) }
}
