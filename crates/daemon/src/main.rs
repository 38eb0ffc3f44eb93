// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program `daedalusd`. The library has all of its code.

#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daedalus_daemon::main()
}
