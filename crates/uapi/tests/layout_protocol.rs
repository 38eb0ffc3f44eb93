// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares the Rust mirror of the protocol with `include/uapi/linux/daedalus.h`.
//!
//! One list names every structure, field, constant and command once. From it come the Rust values
//! and a C program that prints the header's, so the two sides cannot be compared on different
//! things; names are checked to be complete against the header's text.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use daedalus_uapi::Codec;
use daedalus_uapi::fd::*;
use daedalus_uapi::protocol::stateful::*;
use daedalus_uapi::protocol::*;

const HEADER: &str = include_str!("../../../include/uapi/linux/daedalus.h");

/// The lines that the C program is to print, and the program.
struct Sides {
    rust: String,
    c: String,
}

impl Sides {
    fn number(&mut self, c_expression: &str, rust: u64) {
        writeln!(self.rust, "{c_expression} {rust}").unwrap();
        writeln!(
            self.c,
            "\tprintf(\"{c_expression} %llu\\n\", (unsigned long long)({c_expression}));"
        )
        .unwrap();
    }

    fn text(&mut self, c_name: &str, rust: &str) {
        writeln!(self.rust, "{c_name} {rust}").unwrap();
        writeln!(self.c, "\tprintf(\"{c_name} %s\\n\", {c_name});").unwrap();
    }
}

/// Adds structures: each with its C name and its fields in order, `rust ["c"]` where names differ.
macro_rules! structures {
    ($sides:ident; $($rust:ident $c:literal { $($field:ident $([$cfield:literal])?)* })*) => {$({
        fn width<S, T>(_: impl Fn(&S) -> &T) -> usize {
            size_of::<T>()
        }
        $sides.number(concat!("sizeof(struct ", $c, ")"), size_of::<$rust>() as u64);
        $sides.number(concat!("_Alignof(struct ", $c, ")"), align_of::<$rust>() as u64);
        let mut end = 0;
        $(
            #[allow(unused_mut, unused_assignments)]
            let mut cfield = stringify!($field);
            $(cfield = $cfield;)?
            let (offset, size) = (core::mem::offset_of!($rust, $field), width(|s: &$rust| &s.$field));
            assert_eq!(offset, end, "{}: a field before {} is not listed", $c, cfield);
            end = offset + size;
            $sides.number(&format!("offsetof(struct {}, {cfield})", $c), offset as u64);
            $sides.number(&format!("sizeof(((struct {} *)0)->{cfield})", $c), size as u64);
        )*
        assert_eq!(end, size_of::<$rust>(), "{}: its last field is not listed", $c);
    })*};
}

/// Adds constants by their C names.
macro_rules! constants {
    ($sides:ident; $($c:ident = $rust:expr;)*) => {$($sides.number(stringify!($c), u64::from($rust));)*};
}

fn sides() -> Sides {
    let mut sides = Sides {
        rust: String::new(),
        c: String::new(),
    };
    structures! { sides;
        Hello "daedalus_hello" { version min_version features codecs faces msg_max reserved }
        Register "daedalus_register" { name codecs flags faces stateful_codecs reserved }
        Event "daedalus_event" { kind ["type"] coded_format session client_pid restarts reserved }
        SessionFdRequest "daedalus_session_fd" { session fd flags reserved }
        Attach "daedalus_attach" { version msg_max features session coded_format face reserved }
        Msg "daedalus_msg" { kind ["type"] size }
        Plane "daedalus_plane" { buffer offset length bytesperline reserved }
        MsgJob "daedalus_msg_job" {
            msg job timestamp coded_format flags coded raw_format width height num_planes num_ctrls
            reserved raw
        }
        Ctrl "daedalus_ctrl" { id flags size elems }
        MsgBufferGone "daedalus_msg_buffer_gone" { msg buffer }
        BufferFd "daedalus_buffer_fd" { buffer size fd flags reserved }
        JobDone "daedalus_job_done" { job status flags reserved }
        Next "daedalus_next" { job status answer message size flags }
        MsgStart "daedalus_msg_start" {
            msg coded_format restarts width height headers_size reserved
        }
        Echo "daedalus_echo" { timestamp flags timecode reserved }
        MsgCoded "daedalus_msg_coded" { msg unit echo coded }
        MsgRaw "daedalus_msg_raw" { msg raw raw_format width height num_planes planes }
        Format "daedalus_format" {
            width height coded_width coded_height depth colorspace xfer_func ycbcr_enc quantization flags
            reserved
        }
        Picture "daedalus_picture" { raw echo status reserved }
        CodedDone "daedalus_coded_done" { unit status reserved }
        Headers "daedalus_headers" { data size reserved }
    }
    constants! { sides;
        DAEDALUS_VERSION = VERSION;
        DAEDALUS_MIN_VERSION = MIN_VERSION;
        DAEDALUS_FACE_STATELESS = FACE_STATELESS;
        DAEDALUS_FACE_STATEFUL = FACE_STATEFUL;
        DAEDALUS_FEATURE_NEXT = FEATURE_NEXT;
        DAEDALUS_FEATURE_CLEANS = FEATURE_CLEANS;
        DAEDALUS_EVENT_WORKER_WANTED = EVENT_WORKER_WANTED;
        DAEDALUS_MSG_MAX_V1 = MSG_MAX_V1 as u64;
        DAEDALUS_MSG_JOB = MSG_JOB;
        DAEDALUS_MSG_RESET = MSG_RESET;
        DAEDALUS_MSG_BUFFER_GONE = MSG_BUFFER_GONE;
        DAEDALUS_JOB_F_SAME_CAPTURE = JOB_F_SAME_CAPTURE;
        DAEDALUS_MAX_PLANES = MAX_PLANES as u64;
        DAEDALUS_CTRL_F_IN_REQUEST = CTRL_F_IN_REQUEST;
        DAEDALUS_BUFFER_F_WRITE = BUFFER_F_WRITE;
        DAEDALUS_BUFFER_F_IMPORTED = BUFFER_F_IMPORTED;
        DAEDALUS_BUFFER_F_INITIALISED = BUFFER_F_INITIALISED;
        DAEDALUS_STATUS_OK = STATUS_OK;
        DAEDALUS_STATUS_ERROR = STATUS_ERROR;
        DAEDALUS_IOC_MAGIC = (IOC_HELLO >> 8) & 0xff;
        DAEDALUS_IOC_HELLO = IOC_HELLO;
        DAEDALUS_IOC_REGISTER_V1 = IOC_REGISTER_V1;
        DAEDALUS_IOC_REGISTER = IOC_REGISTER;
        DAEDALUS_IOC_SESSION_FD = IOC_SESSION_FD;
        DAEDALUS_IOC_BUFFER_FD = IOC_BUFFER_FD;
        DAEDALUS_IOC_JOB_DONE = IOC_JOB_DONE;
        DAEDALUS_IOC_ATTACH = IOC_ATTACH;
        DAEDALUS_IOC_NEXT = IOC_NEXT;
        DAEDALUS_MSG_START = MSG_START;
        DAEDALUS_MSG_CODED = MSG_CODED;
        DAEDALUS_MSG_RAW = MSG_RAW;
        DAEDALUS_MSG_CONTINUE = MSG_CONTINUE;
        DAEDALUS_MSG_DRAIN = MSG_DRAIN;
        DAEDALUS_MSG_FLUSH = MSG_FLUSH;
        DAEDALUS_MSG_RECLAIM = MSG_RECLAIM;
        DAEDALUS_FORMAT_F_CONTINUE = FORMAT_F_CONTINUE;
        DAEDALUS_HEADERS_MAX = HEADERS_MAX;
        DAEDALUS_IOC_FORMAT = IOC_FORMAT;
        DAEDALUS_IOC_PICTURE = IOC_PICTURE;
        DAEDALUS_IOC_CODED_DONE = IOC_CODED_DONE;
        DAEDALUS_IOC_END = IOC_END;
        DAEDALUS_IOC_HEADERS = IOC_HEADERS;
        DMA_BUF_IOCTL_SYNC = DMA_BUF_IOCTL_SYNC;
    }
    for codec in Codec::ALL {
        let name = codec.name().to_uppercase();
        sides.number(&format!("DAEDALUS_CODEC_{name}"), codec.bit().into());
    }
    sides.number("sizeof(struct dma_buf_sync)", size_of::<u64>() as u64);
    sides.text(
        "DAEDALUS_CONTROL_NAME",
        CONTROL_PATH.strip_prefix("/dev/").expect("a device node"),
    );
    sides.text("DAEDALUS_DRIVER_NAME", DRIVER_NAME);
    sides
}

/// Returns what `int main(void) { body }` prints, with both headers included and every warning an error.
fn run_c(body: &str) -> String {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (dir.join("layout_protocol.c"), dir.join("layout_protocol"));
    let include = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../include/uapi");
    let text = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/daedalus.h>\n\
         #include <linux/dma-buf.h>\nint main(void)\n{{\n{body}\treturn 0;\n}}\n"
    );
    std::fs::write(&source, text).expect("write the C program");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&cc)
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Wpadded", "-Werror", "-I"])
        .arg(&include)
        .arg("-o")
        .args([&program, &source])
        .status()
        .unwrap_or_else(|e| panic!("this test needs a C compiler (environment CC, or cc): {cc}: {e}"));
    assert!(status.success(), "{cc} failed on {}", source.display());
    let output = Command::new(&program).output().expect("run the C program");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("the table is text")
}

#[test]
fn mirror_matches_the_c_header() {
    let Sides { rust, c } = sides();
    let header = run_c(&c);
    // Line by line, so that a failure names what differs.
    for (header, rust) in header.lines().zip(rust.lines()) {
        assert_eq!(header, rust, "the header's side comes first");
    }
    assert_eq!(header.lines().count(), rust.lines().count());
}

#[test]
fn nothing_of_the_header_is_forgotten() {
    let listed = sides().rust;
    let words: Vec<&str> = listed
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    let mut names = 0;
    for line in HEADER.lines() {
        let name = if let Some(rest) = line.strip_prefix("#define ") {
            rest.split_whitespace().next()
        } else if let Some(rest) = line.strip_prefix("struct ") {
            rest.strip_suffix(" {")
        } else {
            None
        };
        let Some(name) = name.filter(|&n| n != "_UAPI_LINUX_DAEDALUS_H") else {
            continue;
        };
        names += 1;
        assert!(words.contains(&name), "{name} has no mirror in this list");
    }
    assert!(names > 30, "only {names} names found in the header");
}
