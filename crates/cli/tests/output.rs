// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A reader of the output may stop at any time: that is no failure, and no panic.

use std::process::{Command, Stdio};

/// Runs `daedalus` with a standard output that nobody reads.
fn unread(arguments: &[&str]) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    drop(read);
    let output = Command::new(env!("CARGO_BIN_EXE_daedalus"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(write)
        .stderr(Stdio::piped())
        .output()
        .expect("run daedalus");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{arguments:?}: {}: {said}",
        output.status
    );
    assert!(said.is_empty(), "{arguments:?}: {said}");
}

#[test]
fn an_output_that_nobody_reads_is_no_failure() {
    for arguments in [
        &["metrics"][..],
        &["metrics", "--json"],
        &["status"],
        &["status", "--json"],
        &["top", "--once"],
        &["top", "--json"],
        &["doctor"],
        &["doctor", "--json"],
    ] {
        unread(arguments);
    }
}
