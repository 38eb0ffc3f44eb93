// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The headers of the codec that the environment variable `DAEDALUS_FUZZ_CODEC` names.

#![no_main]

use std::sync::LazyLock;

use daedalus_fuzz::codecs;
use daedalus_uapi::Codec;
use libfuzzer_sys::fuzz_target;

/// What the codec does with an input.
static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("DAEDALUS_FUZZ_CODEC").unwrap_or_default();
    let codec: Codec = name
        .parse()
        .unwrap_or_else(|error| panic!("DAEDALUS_FUZZ_CODEC: {error}"));
    let target = codecs::target(codec);
    target.unwrap_or_else(|| panic!("{codec} has no target")).run
});

fuzz_target!(|data: &[u8]| RUN(data));
