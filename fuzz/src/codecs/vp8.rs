// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VP8 reader: any bytes give a header or an error, and what a header says lies in the data.

use daedalus_codecs::vp8::{CopyOrder, FrameHeader, Slots, Update};
use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::V4L2_CID_STATELESS_VP8_FRAME;

use super::controls::control;
use super::target::Target;

/// The target.
pub(super) const TARGET: Target = Target { input, run };

fn input(job: &Job) -> Option<Vec<u8>> {
    control(job, V4L2_CID_STATELESS_VP8_FRAME)?;
    Some(job.coded.clone())
}

fn run(data: &[u8]) {
    let Ok(header) = FrameHeader::read(data) else {
        return;
    };
    let count = usize::from(header.num_dct_parts);
    assert!(matches!(count, 1 | 2 | 4 | 8));
    let start = if header.key { 10 } else { 3 };
    let sizes = header.dct_part_sizes[..count].iter().map(|size| *size as usize);
    let end = start + header.first_part_size as usize + 3 * (count - 1) + sizes.sum::<usize>();
    assert_eq!(end, data.len());
    assert!(header.dct_part_sizes[count..].iter().all(|size| *size == 0));
    assert_eq!(header.key, header.size.is_some());
    let slots = Slots {
        last: Some(1),
        golden: Some(2),
        alternate: Some(3),
    };
    let after = [CopyOrder::AtOnce, CopyOrder::AlternateFirst].map(|order| slots.after(&header, 4, order));
    for slots in after {
        assert!(slots.pictures().iter().all(Option::is_some));
        assert!(!header.key || slots.pictures() == [Some(4); 3]);
    }
    // The orders differ only where golden takes what alternate copied.
    let copied = matches!(header.alternate, Update::Last | Update::Other);
    assert!(after[0] == after[1] || header.golden == Update::Other && copied);
}
