// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalusd`; all of it is in the library.

#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daedalus_daemon::main()
}
