// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus`; all of it is in the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    daedalus_cli::main()
}
