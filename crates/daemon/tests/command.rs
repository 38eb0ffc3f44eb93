// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program as a user meets it, on a machine without the module.

use std::process::{Command, Output, Stdio};

use daedalus_uapi::codec::CodecSet;

fn daedalusd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_daedalusd"))
        .args(arguments)
        .env_remove("DAEDALUS_LOG")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .output()
        .expect("run daedalusd")
}

/// Asserts that the program failed with exit status 1 and printed these words to standard error.
fn fails_saying(arguments: &[&str], words: &[&str]) {
    let output = daedalusd(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr:?}");
    }
    assert!(!stderr.contains('\x1b'), "colours on a pipe: {stderr:?}");
}

#[test]
fn the_version_is_the_crates() {
    let output = daedalusd(&["--version"]);
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        concat!("daedalusd ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn the_libraries_codecs_are_printed() {
    let output = daedalusd(&["codecs"]);
    assert!(output.status.success());
    // Debian's libraries have all of them.
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{}\n", CodecSet::all())
    );
}

#[test]
fn workers_are_hidden_but_documented() {
    let help = daedalusd(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    let commands: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert!(commands.iter().any(|line| line.starts_with("broker ")), "{text}");
    for hidden in ["workers", "sandbox-test", "sandbox-attempt"] {
        assert!(!commands.iter().any(|line| line.starts_with(hidden)), "{text}");
    }
    let help = daedalusd(&["workers", "--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("standard input"));
}

#[test]
fn without_the_module_the_broker_says_what_to_do() {
    fails_saying(
        &["broker", "--device=/dev/daedalus-none"],
        &["/dev/daedalus-none", "modprobe daedalus_v4l2"],
    );
}

#[test]
fn another_device_is_refused() {
    fails_saying(
        &["broker", "--device=/dev/null"],
        &["/dev/null", "no control device"],
    );
}

#[test]
fn no_worker_is_root() {
    fails_saying(&["broker", "--worker-user=root"], &["--worker-user"]);
}

#[test]
fn a_missing_sandbox_is_loud() {
    fails_saying(
        &["broker", "--sandbox=off", "--device=/dev/null"],
        &["WARN", "NOT confined"],
    );
}

#[test]
fn the_fork_server_needs_a_broker() {
    fails_saying(&["workers"], &["no socket of a broker"]);
}

#[test]
fn bad_options_are_usage_errors() {
    for arguments in [
        &["broker", "--codecs=none"][..],
        &["broker", "--fault=burn:1"],
        &["broker", "--threads=0"],
        &["broker", "--sandbox=maybe"],
        &["broker", "--worker-memory=1"],
        &["workers", "--threads=1"],
    ] {
        assert_eq!(daedalusd(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
