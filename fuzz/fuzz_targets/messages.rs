// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Messages of a session fd: whatever the bytes are, they are an error or a message whose parts lie within
//! them.

#![no_main]

use daedalus_fuzz::AlignedMessage;
use daedalus_uapi::protocol::{MAX_PLANES, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let message = AlignedMessage::new(data);
    let Ok(Message::Job(job)) = Message::parse(message.bytes()) else {
        return;
    };
    assert!((1..=MAX_PLANES).contains(&job.raw_planes().len()));
    assert_eq!(job.controls().count(), job.head.num_ctrls as usize);
    let values: usize = job.controls().map(|control| control.value.len()).sum();
    assert!(values <= data.len());
});
