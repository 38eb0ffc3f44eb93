// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damage to the controls of MPEG-2.

use daedalus_client::CodedJob;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_CID_STATELESS_MPEG2_QUANTISATION,
    V4L2_CID_STATELESS_MPEG2_SEQUENCE, V4l2CtrlMpeg2Picture, V4l2CtrlMpeg2Quantisation,
    V4l2CtrlMpeg2Sequence,
};

use crate::codec::edit::{control, other_size, other_timestamp, past_end};
use crate::codec::row::DamageRow;
use crate::random::Random;

pub(super) const ROW: DamageRow = DamageRow {
    notices_truncation: true,
    offsets,
    timestamps,
    dimensions,
    reference_lists,
    tile_table,
};

fn edit_picture(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlMpeg2Picture)) {
    control(job, V4L2_CID_STATELESS_MPEG2_PICTURE, change);
}

fn edit_sequence(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlMpeg2Sequence)) {
    control(job, V4L2_CID_STATELESS_MPEG2_SEQUENCE, change);
}

/// Changes the only size that is not a picture's: no control has an offset.
fn offsets(job: &mut CodedJob, random: &mut Random) {
    let (past, _) = past_end(job, random);
    edit_sequence(job, |sequence| sequence.vbv_buffer_size = past);
}

fn timestamps(job: &mut CodedJob, random: &mut Random) {
    let own = job.timestamp;
    let mut other = || other_timestamp(own, random);
    edit_picture(job, |picture| {
        (picture.forward_ref_ts, picture.backward_ref_ts) = (other(), other());
    });
}

fn dimensions(job: &mut CodedJob, random: &mut Random) {
    let mut other = |value: u16| other_size(value.into(), u16::MAX.into(), random) as u16;
    edit_sequence(job, |sequence| {
        sequence.horizontal_size = other(sequence.horizontal_size);
        sequence.vertical_size = other(sequence.vertical_size);
    });
}

/// Changes the type, which says what the references are, and the ranges of vectors.
fn reference_lists(job: &mut CodedJob, random: &mut Random) {
    edit_picture(job, |picture| {
        picture.picture_coding_type = 1 + random.byte() % 3;
        for code in picture.f_code.as_flattened_mut() {
            *code = random.byte() % 16;
        }
    });
}

/// Changes the structure, the scan and the matrices.
fn tile_table(job: &mut CodedJob, random: &mut Random) {
    edit_picture(job, |picture| {
        picture.picture_structure = 1 + random.byte() % 3;
        picture.flags = random.next() as u32 & 0xff;
        picture.intra_dc_precision = random.byte() % 4;
    });
    control(
        job,
        V4L2_CID_STATELESS_MPEG2_QUANTISATION,
        |matrices: &mut V4l2CtrlMpeg2Quantisation| random.fill(&mut matrices.intra_quantiser_matrix),
    );
}
