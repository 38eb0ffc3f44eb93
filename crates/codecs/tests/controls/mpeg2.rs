// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MPEG-2's headers. cros-codecs knows none of them: the parser is that of the tests' client.

use daedalus_client::CodedJob;
use daedalus_codecs::mpeg2::{Headers, PictureControls};
use daedalus_uapi::v4l2_controls::*;
use proptest::prelude::*;
use zerocopy::FromBytes;

use crate::Draw;

fn sequence(draw: &mut Draw<'_>) -> V4l2CtrlMpeg2Sequence {
    let mut size = || 1 + draw.within(0..=4093) as u16 + (4096 * (draw.byte() % 4) as u16);
    V4l2CtrlMpeg2Sequence {
        horizontal_size: size(),
        vertical_size: size(),
        chroma_format: 1,
        flags: draw.u8(0..=1),
        ..Default::default()
    }
}

fn picture(draw: &mut Draw<'_>, sequence: &V4l2CtrlMpeg2Sequence) -> V4l2CtrlMpeg2Picture {
    let mut picture = V4l2CtrlMpeg2Picture {
        flags: draw.within(0..=0xff) as u32,
        f_code: [[draw.u8(1..=9), draw.u8(1..=9)], [draw.u8(1..=9), draw.u8(1..=9)]],
        picture_coding_type: draw.u8(1..=3),
        picture_structure: draw.u8(1..=3),
        intra_dc_precision: draw.u8(0..=3),
        ..Default::default()
    };
    if sequence.flags & V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE != 0 {
        picture.flags |= V4L2_MPEG2_PIC_FLAG_PROGRESSIVE;
    }
    if picture.flags & V4L2_MPEG2_PIC_FLAG_PROGRESSIVE != 0 {
        picture.picture_structure = V4L2_MPEG2_PIC_FRAME;
    }
    picture
}

fn quantisation(draw: &mut Draw<'_>) -> V4l2CtrlMpeg2Quantisation {
    let mut entries = || std::array::from_fn(|_| draw.byte().max(1));
    let mut quantisation = V4l2CtrlMpeg2Quantisation {
        intra_quantiser_matrix: entries(),
        non_intra_quantiser_matrix: entries(),
        ..Default::default()
    };
    quantisation.intra_quantiser_matrix[0] = 8;
    quantisation
}

fn control<T: FromBytes>(job: &CodedJob, id: u32) -> Option<T> {
    job.control(id).and_then(|control| control.get())
}

proptest! {
    #[test]
    fn headers_parse_back(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let draw = &mut Draw::new(&bytes);
        let sequence = sequence(draw);
        let picture = picture(draw, &sequence);
        let first = quantisation(draw);
        let second = quantisation(draw);
        let mut headers = Headers::default();
        let mut stream = Vec::new();
        // An I picture first, since a B picture without one is left out.
        let intra = V4l2CtrlMpeg2Picture {
            picture_coding_type: V4L2_MPEG2_PIC_CODING_TYPE_I,
            picture_structure: V4L2_MPEG2_PIC_FRAME,
            ..picture
        };
        let field = picture.picture_structure != V4L2_MPEG2_PIC_FRAME;
        let mut other = picture;
        other.picture_structure ^= V4L2_MPEG2_PIC_FRAME;
        let mut written = vec![(intra, first, false), (picture, first, false)];
        if field {
            written.push((other, second, true));
        }
        for (picture, quantisation, second_field) in &written {
            let controls = PictureControls { sequence: &sequence, picture, quantisation };
            let result = headers.write(&controls, *second_field, &mut stream);
            prop_assert!(result.is_ok(), "{:?}", result);
            stream.extend([0, 0, 1, 1, 0x80]);
        }
        let jobs = daedalus_client::jobs_of(stream);
        let jobs = jobs.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let jobs = jobs.collect::<Result<Vec<_>, _>>();
        let jobs = jobs.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(jobs.len(), written.len());
        for (job, (picture, quantisation, second_field)) in jobs.iter().zip(&written) {
            let parsed: Option<V4l2CtrlMpeg2Sequence> = control(job, V4L2_CID_STATELESS_MPEG2_SEQUENCE);
            let parsed = parsed.map(|parsed| V4l2CtrlMpeg2Sequence {
                vbv_buffer_size: 0,
                profile_and_level_indication: 0,
                ..parsed
            });
            prop_assert_eq!(parsed, Some(sequence));
            prop_assert_eq!(control(job, V4L2_CID_STATELESS_MPEG2_QUANTISATION), Some(*quantisation));
            let parsed: Option<V4l2CtrlMpeg2Picture> = control(job, V4L2_CID_STATELESS_MPEG2_PICTURE);
            let parsed = parsed.map(|parsed| V4l2CtrlMpeg2Picture {
                forward_ref_ts: 0,
                backward_ref_ts: 0,
                // Vectors that a picture does not have are not coded.
                f_code: picture.f_code,
                ..parsed
            });
            prop_assert_eq!(parsed, Some(*picture));
            prop_assert_eq!(job.same_capture, *second_field);
        }
    }

    #[test]
    fn arbitrary_bytes_give_an_error_or_headers(
        sequence in prop::collection::vec(any::<u8>(), size_of::<V4l2CtrlMpeg2Sequence>()),
        picture in prop::collection::vec(any::<u8>(), size_of::<V4l2CtrlMpeg2Picture>()),
        quantisation in prop::collection::vec(any::<u8>(), size_of::<V4l2CtrlMpeg2Quantisation>()),
        small in any::<bool>(),
        second in any::<bool>(),
    ) {
        let mut sequence = V4l2CtrlMpeg2Sequence::read_from_bytes(&sequence).expect("the size is right");
        let mut picture = V4l2CtrlMpeg2Picture::read_from_bytes(&picture).expect("the size is right");
        let quantisation =
            V4l2CtrlMpeg2Quantisation::read_from_bytes(&quantisation).expect("the size is right");
        if small {
            // Most arbitrary bytes are out of range: let the rest be reached.
            sequence.horizontal_size &= 0x3fff;
            sequence.vertical_size &= 0x3fff;
            sequence.chroma_format = 1;
            picture.picture_coding_type = 1 + picture.picture_coding_type % 3;
            picture.picture_structure %= 4;
            picture.intra_dc_precision %= 4;
            picture.f_code.as_flattened_mut().iter_mut().for_each(|code| *code %= 16);
        }
        let controls =
            PictureControls { sequence: &sequence, picture: &picture, quantisation: &quantisation };
        let mut out = vec![1, 2, 3];
        if Headers::default().write(&controls, second, &mut out).is_err() {
            prop_assert_eq!(out.len(), 3);
        }
    }
}
