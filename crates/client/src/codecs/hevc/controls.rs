// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parts of controls that imitated clients fill in differently.

use daedalus_uapi::v4l2_controls::{V4l2CtrlHevcDecodeParams, V4l2CtrlHevcSps};

/// Returns `CtbLog2SizeY`.
pub(super) fn log2_block(sps: &V4l2CtrlHevcSps) -> u32 {
    let smallest = u32::from(sps.log2_min_luma_coding_block_size_minus3) + 3;
    smallest + u32::from(sps.log2_diff_max_min_luma_coding_block_size)
}

/// Returns the lists of references: indices into the decoded picture buffer.
pub(super) fn lists(params: &mut V4l2CtrlHevcDecodeParams) -> [&mut [u8]; 3] {
    let counts = [
        params.num_poc_st_curr_before,
        params.num_poc_st_curr_after,
        params.num_poc_lt_curr,
    ];
    let lists = [
        &mut params.poc_st_curr_before,
        &mut params.poc_st_curr_after,
        &mut params.poc_lt_curr,
    ];
    let mut counts = counts.into_iter();
    lists.map(|list| {
        let count = usize::from(counts.next().unwrap_or(0)).min(list.len());
        &mut list[..count]
    })
}
