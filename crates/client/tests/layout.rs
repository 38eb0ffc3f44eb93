// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares the mirror of `linux/videodev2.h` and its friends with the C headers of the system.
//!
//! One list names each structure and field once, in Rust and (where the name differs) in C; from it come
//! both columns of the comparison.

use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::PathBuf;
use std::process::Command;

use daedalus_client::v4l2::*;

/// What to compare: a C expression, and its value in Rust.
struct Row(String, u64);

macro_rules! structures {
    ($($rust:ident = $c:literal { $($field:ident $(= $cfield:literal)?),* })*) => {{
        let mut rows = Vec::new();
        $(
            rows.push(Row(format!("sizeof(struct {})", $c), size_of::<$rust>() as u64));
            $(
                #[allow(unused_mut, unused_assignments)]
                let mut name = stringify!($field).trim_end_matches('_');
                $(name = $cfield;)?
                rows.push(Row(
                    format!("offsetof(struct {}, {name})", $c),
                    offset_of!($rust, $field) as u64,
                ));
            )*
        )*
        rows
    }};
}

macro_rules! values {
    ($($rust:expr => $c:literal,)*) => { vec![$(Row($c.to_owned(), u64::from($rust))),*] };
}

fn rows() -> Vec<Row> {
    let mut rows = structures! {
        Capability = "v4l2_capability" {
            driver, card, bus_info, version, capabilities, device_caps, reserved
        }
        FmtDesc = "v4l2_fmtdesc" { index, type_, flags, description, pixelformat, mbus_code, reserved }
        FrmSizeEnum = "v4l2_frmsizeenum" {
            index, pixel_format, type_, min_width = "stepwise.min_width", max_width = "stepwise.max_width",
            step_width = "stepwise.step_width", min_height = "stepwise.min_height",
            max_height = "stepwise.max_height", step_height = "stepwise.step_height", reserved
        }
        PlanePixFormat = "v4l2_plane_pix_format" { sizeimage, bytesperline, reserved }
        PixFormatMplane = "v4l2_pix_format_mplane" {
            width, height, pixelformat, field, colorspace, plane_fmt, num_planes, flags, ycbcr_enc,
            quantization, xfer_func, reserved
        }
        Format = "v4l2_format" { type_, pix_mp = "fmt.pix_mp" }
        RequestBuffers = "v4l2_requestbuffers" { count, type_, memory, capabilities, flags, reserved }
        Plane = "v4l2_plane" { bytesused, length, m, data_offset, reserved }
        Buffer = "v4l2_buffer" {
            index, type_, bytesused, flags, field, tv_sec = "timestamp.tv_sec", tv_usec = "timestamp.tv_usec",
            timecode, sequence, memory, planes = "m.planes", length, reserved2, request_fd
        }
        ExportBuffer = "v4l2_exportbuffer" { type_, index, plane, flags, fd, reserved }
        CreateBuffers = "v4l2_create_buffers" {
            index, count, memory, format, capabilities, flags, max_num_buffers, reserved
        }
        RemoveBuffers = "v4l2_remove_buffers" { index, count, type_, reserved }
        ExtControl = "v4l2_ext_control" { id, size, reserved2, value }
        ExtControls = "v4l2_ext_controls" { which, count, error_idx, request_fd, reserved, controls }
        QueryExtCtrl = "v4l2_query_ext_ctrl" {
            id, type_, name, minimum, maximum, step, default_value, flags, elem_size, elems, nr_of_dims,
            dims, reserved
        }
        DecoderCmd = "v4l2_decoder_cmd" { cmd, flags, raw = "raw.data" }
        Selection = "v4l2_selection" {
            type_, target, flags, left = "r.left", top = "r.top", width = "r.width", height = "r.height",
            reserved
        }
        EventSubscription = "v4l2_event_subscription" { type_, id, flags, reserved }
        Event = "v4l2_event" {
            type_, data = "u", pending, sequence, tv_sec = "timestamp.tv_sec",
            tv_nsec = "timestamp.tv_nsec", id, reserved
        }
        MediaDeviceInfo = "media_device_info" {
            driver, model, serial, bus_info, media_version, hw_revision, driver_version, reserved
        }
        UdmabufCreate = "udmabuf_create" { memfd, flags, offset, size }
    };
    rows.extend(values! {
        VIDIOC_QUERYCAP => "VIDIOC_QUERYCAP",
        VIDIOC_ENUM_FMT => "VIDIOC_ENUM_FMT",
        VIDIOC_G_FMT => "VIDIOC_G_FMT",
        VIDIOC_S_FMT => "VIDIOC_S_FMT",
        VIDIOC_TRY_FMT => "VIDIOC_TRY_FMT",
        VIDIOC_REQBUFS => "VIDIOC_REQBUFS",
        VIDIOC_QUERYBUF => "VIDIOC_QUERYBUF",
        VIDIOC_QBUF => "VIDIOC_QBUF",
        VIDIOC_DQBUF => "VIDIOC_DQBUF",
        VIDIOC_EXPBUF => "VIDIOC_EXPBUF",
        VIDIOC_STREAMON => "VIDIOC_STREAMON",
        VIDIOC_STREAMOFF => "VIDIOC_STREAMOFF",
        VIDIOC_G_EXT_CTRLS => "VIDIOC_G_EXT_CTRLS",
        VIDIOC_S_EXT_CTRLS => "VIDIOC_S_EXT_CTRLS",
        VIDIOC_ENUM_FRAMESIZES => "VIDIOC_ENUM_FRAMESIZES",
        VIDIOC_CREATE_BUFS => "VIDIOC_CREATE_BUFS",
        VIDIOC_DECODER_CMD => "VIDIOC_DECODER_CMD",
        VIDIOC_G_SELECTION => "VIDIOC_G_SELECTION",
        VIDIOC_DQEVENT => "VIDIOC_DQEVENT",
        VIDIOC_SUBSCRIBE_EVENT => "VIDIOC_SUBSCRIBE_EVENT",
        VIDIOC_QUERY_EXT_CTRL => "VIDIOC_QUERY_EXT_CTRL",
        VIDIOC_REMOVE_BUFS => "VIDIOC_REMOVE_BUFS",
        MEDIA_IOC_DEVICE_INFO => "MEDIA_IOC_DEVICE_INFO",
        MEDIA_IOC_REQUEST_ALLOC => "MEDIA_IOC_REQUEST_ALLOC",
        MEDIA_REQUEST_IOC_QUEUE => "MEDIA_REQUEST_IOC_QUEUE",
        MEDIA_REQUEST_IOC_REINIT => "MEDIA_REQUEST_IOC_REINIT",
        UDMABUF_CREATE => "UDMABUF_CREATE",
        BUF_TYPE_CAPTURE => "V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE",
        BUF_TYPE_OUTPUT => "V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE",
        MEMORY_MMAP => "V4L2_MEMORY_MMAP",
        MEMORY_DMABUF => "V4L2_MEMORY_DMABUF",
        FIELD_NONE => "V4L2_FIELD_NONE",
        BUF_FLAG_ERROR => "V4L2_BUF_FLAG_ERROR",
        BUF_FLAG_TIMESTAMP_COPY => "V4L2_BUF_FLAG_TIMESTAMP_COPY",
        BUF_FLAG_HOLD_CAPTURE => "V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF",
        BUF_FLAG_REQUEST_FD => "V4L2_BUF_FLAG_REQUEST_FD",
        CAP_VIDEO_M2M_MPLANE => "V4L2_CAP_VIDEO_M2M_MPLANE",
        CAP_STREAMING => "V4L2_CAP_STREAMING",
        CAP_DEVICE_CAPS => "V4L2_CAP_DEVICE_CAPS",
        BUF_CAP_SUPPORTS_REQUESTS => "V4L2_BUF_CAP_SUPPORTS_REQUESTS",
        BUF_CAP_SUPPORTS_HOLD => "V4L2_BUF_CAP_SUPPORTS_M2M_HOLD_CAPTURE_BUF",
        BUF_CAP_SUPPORTS_REMOVE_BUFS => "V4L2_BUF_CAP_SUPPORTS_REMOVE_BUFS",
        CTRL_WHICH_CUR_VAL => "V4L2_CTRL_WHICH_CUR_VAL",
        CTRL_WHICH_REQUEST_VAL => "V4L2_CTRL_WHICH_REQUEST_VAL",
        CTRL_FLAG_HAS_PAYLOAD => "V4L2_CTRL_FLAG_HAS_PAYLOAD",
        CTRL_FLAG_NEXT_CTRL => "V4L2_CTRL_FLAG_NEXT_CTRL",
        CTRL_FLAG_NEXT_COMPOUND => "V4L2_CTRL_FLAG_NEXT_COMPOUND",
        BUF_FLAG_LAST => "V4L2_BUF_FLAG_LAST",
        DEC_CMD_START => "V4L2_DEC_CMD_START",
        DEC_CMD_STOP => "V4L2_DEC_CMD_STOP",
        EVENT_EOS => "V4L2_EVENT_EOS",
        EVENT_SOURCE_CHANGE => "V4L2_EVENT_SOURCE_CHANGE",
        SELECTION_CAPTURE => "V4L2_BUF_TYPE_VIDEO_CAPTURE",
        SEL_TGT_COMPOSE => "V4L2_SEL_TGT_COMPOSE",
        CID_MIN_BUFFERS_FOR_CAPTURE => "V4L2_CID_MIN_BUFFERS_FOR_CAPTURE",
        DEC_CMD_FLUSH => "V4L2_DEC_CMD_FLUSH",
        FRMSIZE_TYPE_STEPWISE => "V4L2_FRMSIZE_TYPE_STEPWISE",
        UDMABUF_FLAGS_CLOEXEC => "UDMABUF_FLAGS_CLOEXEC",
    });
    rows.push(Row("VIDEO_MAX_PLANES".to_owned(), MAX_PLANES as u64));
    rows
}

#[test]
fn the_mirror_matches_the_c_headers() {
    let rows = rows();
    let mut source = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/videodev2.h>\n#include <linux/media.h>\n\
         #include <linux/udmabuf.h>\nint main(void)\n{\n",
    );
    let mut expected = String::new();
    for Row(expression, value) in &rows {
        writeln!(
            source,
            "printf(\"%s %llu\\n\", \"{expression}\", (unsigned long long)(unsigned int)({expression}));"
        )
        .unwrap();
        writeln!(expected, "{expression} {value}").unwrap();
    }
    source.push_str("return 0;\n}\n");
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (c, exe) = (dir.join("layout.c"), dir.join("layout"));
    std::fs::write(&c, source).unwrap();
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&cc)
        .args(["-std=gnu11", "-Wall", "-Werror", "-o"])
        .args([&exe, &c])
        .status()
        .unwrap_or_else(|error| {
            panic!("this test needs a C compiler (environment CC, or cc): {cc}: {error}")
        });
    assert!(status.success(), "{cc} failed");
    let output = Command::new(&exe).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
