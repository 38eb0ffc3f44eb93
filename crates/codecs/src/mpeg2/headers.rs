// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The headers in front of a picture's slices (6.2.2 and 6.2.3).

use daedalus_uapi::v4l2_controls::*;

use super::error::Mpeg2Error;
use crate::bits::BitWriter;

/// `picture_start_code` and the other start codes (table 6-1).
const PICTURE: u8 = 0x00;
const SEQUENCE_HEADER: u8 = 0xb3;
const EXTENSION: u8 = 0xb5;
const GROUP: u8 = 0xb8;

/// `extension_start_code_identifier` (table 6-2).
const SEQUENCE_EXTENSION: u64 = 1;
const QUANT_MATRIX_EXTENSION: u64 = 3;
const PICTURE_CODING_EXTENSION: u64 = 8;

/// `chroma_format` 4:2:0.
const CHROMA_420: u8 = 1;
/// The most that `horizontal_size` and `vertical_size` have bits for.
const MOST_SIZE: u16 = 0x3fff;
/// `f_code` of a vector that the picture does not have (6.3.10).
const NO_F_CODE: u8 = 15;
/// The first entry of each intra matrix (6.3.11).
const INTRA_DC: u8 = 8;

/// The controls of a picture.
#[derive(Clone, Copy, Debug)]
pub struct PictureControls<'a> {
    /// `V4L2_CID_STATELESS_MPEG2_SEQUENCE`.
    pub sequence: &'a V4l2CtrlMpeg2Sequence,
    /// `V4L2_CID_STATELESS_MPEG2_PICTURE`.
    pub picture: &'a V4l2CtrlMpeg2Picture,
    /// `V4L2_CID_STATELESS_MPEG2_QUANTISATION`.
    pub quantisation: &'a V4l2CtrlMpeg2Quantisation,
}

/// The two matrices of 4:2:0, in the order of the syntax.
type Matrices = [[u8; 64]; 2];

/// Writes the headers that a decoder needs in front of each picture.
#[derive(Debug, Default)]
pub struct Headers {
    /// A group of pictures was begun since the decoder starts anew.
    in_group: bool,
    /// The matrices that the decoder has.
    matrices: Option<Matrices>,
}

impl Headers {
    /// Forgets what was written: for a decoder that starts anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Appends to `out` the headers of a picture.
    ///
    /// A frame and a first field get a sequence header: it lets a decoder begin with any picture, and ends a
    /// first field that has lost its second. In front of a `second_field` it would end that field's frame.
    ///
    /// # Errors
    /// [`Mpeg2Error`]; nothing has been appended then.
    pub fn write(
        &mut self,
        controls: &PictureControls<'_>,
        second_field: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Mpeg2Error> {
        check(controls)?;
        let matrices = matrices(controls.quantisation)?;
        if !second_field {
            sequence_header(controls.sequence, &matrices, out);
            sequence_extension(controls.sequence, out);
            if !self.in_group {
                group_header(out);
            }
            self.in_group = true;
        }
        picture_header(controls.picture, out);
        picture_coding_extension(controls, out);
        if second_field && self.matrices != Some(matrices) {
            quant_matrix_extension(&matrices, out);
        }
        self.matrices = Some(matrices);
        Ok(())
    }
}

/// Returns whether the picture has vectors of the direction: forward (0) or backward (1).
fn has_vectors(picture: &V4l2CtrlMpeg2Picture, direction: usize) -> bool {
    match picture.picture_coding_type {
        V4L2_MPEG2_PIC_CODING_TYPE_B => true,
        V4L2_MPEG2_PIC_CODING_TYPE_P => direction == 0,
        _ => direction == 0 && picture.flags & V4L2_MPEG2_PIC_FLAG_CONCEALMENT_MV != 0,
    }
}

fn check(controls: &PictureControls<'_>) -> Result<(), Mpeg2Error> {
    let PictureControls {
        sequence, picture, ..
    } = controls;
    let within = |field, value: u16, least: u16, most: u16| {
        let value_is_right = (least..=most).contains(&value);
        let value = value.into();
        value_is_right
            .then_some(())
            .ok_or(Mpeg2Error::Value { field, value })
    };
    let sizes = [
        ("horizontal_size", sequence.horizontal_size),
        ("vertical_size", sequence.vertical_size),
    ];
    for (field, size) in sizes {
        within(field, size, 1, MOST_SIZE)?;
        // 6.3.3: the lower 12 bits are not zero, or they might imitate a start code.
        if size & 0xfff == 0 {
            let value = size.into();
            return Err(Mpeg2Error::Value { field, value });
        }
    }
    let chroma_format = sequence.chroma_format.into();
    within(
        "chroma_format",
        chroma_format,
        CHROMA_420.into(),
        CHROMA_420.into(),
    )?;
    within("picture_coding_type", picture.picture_coding_type.into(), 1, 3)?;
    within("picture_structure", picture.picture_structure.into(), 1, 3)?;
    within("intra_dc_precision", picture.intra_dc_precision.into(), 0, 3)?;
    for (direction, codes) in picture.f_code.iter().enumerate() {
        for code in codes.iter().filter(|_| has_vectors(picture, direction)) {
            within("f_code", (*code).into(), 1, 9)?;
        }
    }
    let progressive = sequence.flags & V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE != 0
        || picture.flags & V4L2_MPEG2_PIC_FLAG_PROGRESSIVE != 0;
    if progressive && picture.picture_structure != V4L2_MPEG2_PIC_FRAME {
        return Err(Mpeg2Error::ProgressiveField);
    }
    Ok(())
}

fn matrices(quantisation: &V4l2CtrlMpeg2Quantisation) -> Result<Matrices, Mpeg2Error> {
    let mut intra = quantisation.intra_quantiser_matrix;
    // It has no effect: the DC coefficient has a precision of its own.
    intra[0] = INTRA_DC;
    let non_intra = quantisation.non_intra_quantiser_matrix;
    let named = [
        ("intra_quantiser_matrix", &intra),
        ("non_intra_quantiser_matrix", &non_intra),
    ];
    match named.into_iter().find(|(_, entries)| entries.contains(&0)) {
        Some((matrix, _)) => Err(Mpeg2Error::Matrix { matrix }),
        None => Ok([intra, non_intra]),
    }
}

/// Appends a start code, and the bits that `payload` writes behind it, up to a whole byte (5.2.3).
fn unit(out: &mut Vec<u8>, code: u8, payload: impl FnOnce(&mut BitWriter<'_>)) {
    out.extend([0, 0, 1, code]);
    let mut w = BitWriter::new(out);
    payload(&mut w);
    w.align();
}

fn matrix(w: &mut BitWriter<'_>, entries: &[u8; 64]) {
    let load = true;
    w.flag(load);
    entries.iter().for_each(|entry| w.bits(8, (*entry).into()));
}

/// `sequence_header()` (6.2.2.1).
fn sequence_header(sequence: &V4l2CtrlMpeg2Sequence, matrices: &Matrices, out: &mut Vec<u8>) {
    const SQUARE: u64 = 1;
    const RATE_25: u64 = 3;
    const VARIABLE: u64 = 0x3_ffff;
    unit(out, SEQUENCE_HEADER, |w| {
        w.bits(12, sequence.horizontal_size.into());
        w.bits(12, sequence.vertical_size.into());
        w.bits(4, SQUARE);
        w.bits(4, RATE_25);
        w.bits(18, VARIABLE);
        w.flag(true);
        let vbv_buffer_size = 0;
        w.bits(10, vbv_buffer_size);
        let constrained_parameters = false;
        w.flag(constrained_parameters);
        matrices.iter().for_each(|entries| matrix(w, entries));
    });
}

/// `sequence_extension()` (6.2.2.3).
fn sequence_extension(sequence: &V4l2CtrlMpeg2Sequence, out: &mut Vec<u8>) {
    const MAIN_AT_HIGH: u64 = 0x44;
    unit(out, EXTENSION, |w| {
        w.bits(4, SEQUENCE_EXTENSION);
        w.bits(8, MAIN_AT_HIGH);
        w.flag(sequence.flags & V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE != 0);
        w.bits(2, CHROMA_420.into());
        w.bits(2, (sequence.horizontal_size >> 12).into());
        w.bits(2, (sequence.vertical_size >> 12).into());
        let bit_rate = 0;
        w.bits(12, bit_rate);
        w.flag(true);
        let vbv_buffer_size = 0;
        w.bits(8, vbv_buffer_size);
        let low_delay = false;
        w.flag(low_delay);
        let frame_rate = 0;
        w.bits(7, frame_rate);
    });
}

/// `group_of_pictures_header()` (6.2.2.6).
fn group_header(out: &mut Vec<u8>) {
    unit(out, GROUP, |w| {
        // drop_frame_flag, hours and minutes; marker; seconds and pictures.
        w.bits(12, 0);
        w.flag(true);
        w.bits(12, 0);
        let closed_gop = true;
        w.flag(closed_gop);
        let broken_link = false;
        w.flag(broken_link);
    });
}

/// `picture_header()` (6.2.3).
fn picture_header(picture: &V4l2CtrlMpeg2Picture, out: &mut Vec<u8>) {
    const UNSPECIFIED: u64 = 0xffff;
    // full_pel_vector and f_code of MPEG-1, which have these values in MPEG-2.
    const VECTOR: u64 = 0b0111;
    unit(out, PICTURE, |w| {
        let temporal_reference = 0;
        w.bits(10, temporal_reference);
        w.bits(3, picture.picture_coding_type.into());
        w.bits(16, UNSPECIFIED);
        let vectors = match picture.picture_coding_type {
            V4L2_MPEG2_PIC_CODING_TYPE_I => 0,
            V4L2_MPEG2_PIC_CODING_TYPE_P => 1,
            _ => 2,
        };
        (0..vectors).for_each(|_| w.bits(4, VECTOR));
        let extra_bit_picture = false;
        w.flag(extra_bit_picture);
    });
}

/// `picture_coding_extension()` (6.2.3.1).
fn picture_coding_extension(controls: &PictureControls<'_>, out: &mut Vec<u8>) {
    let picture = controls.picture;
    let flag = |flag: u32| picture.flags & flag != 0;
    // All frames of a progressive sequence are progressive; decoders take them to be.
    let progressive = flag(V4L2_MPEG2_PIC_FLAG_PROGRESSIVE)
        || controls.sequence.flags & V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE != 0;
    unit(out, EXTENSION, |w| {
        w.bits(4, PICTURE_CODING_EXTENSION);
        for (direction, codes) in picture.f_code.iter().enumerate() {
            for code in codes {
                let code = if has_vectors(picture, direction) {
                    *code
                } else {
                    NO_F_CODE
                };
                w.bits(4, code.into());
            }
        }
        w.bits(2, picture.intra_dc_precision.into());
        w.bits(2, picture.picture_structure.into());
        w.flag(flag(V4L2_MPEG2_PIC_FLAG_TOP_FIELD_FIRST));
        w.flag(flag(V4L2_MPEG2_PIC_FLAG_FRAME_PRED_DCT));
        w.flag(flag(V4L2_MPEG2_PIC_FLAG_CONCEALMENT_MV));
        w.flag(flag(V4L2_MPEG2_PIC_FLAG_Q_SCALE_TYPE));
        w.flag(flag(V4L2_MPEG2_PIC_FLAG_INTRA_VLC));
        w.flag(flag(V4L2_MPEG2_PIC_FLAG_ALT_SCAN));
        w.flag(flag(V4L2_MPEG2_PIC_FLAG_REPEAT_FIRST));
        let chroma_420_type = progressive;
        w.flag(chroma_420_type);
        w.flag(progressive);
        let composite_display = false;
        w.flag(composite_display);
    });
}

/// `quant_matrix_extension()` (6.2.3.2).
fn quant_matrix_extension(matrices: &Matrices, out: &mut Vec<u8>) {
    unit(out, EXTENSION, |w| {
        w.bits(4, QUANT_MATRIX_EXTENSION);
        matrices.iter().for_each(|entries| matrix(w, entries));
        let load_chroma = false;
        w.flag(load_chroma);
        w.flag(load_chroma);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls() -> (
        V4l2CtrlMpeg2Sequence,
        V4l2CtrlMpeg2Picture,
        V4l2CtrlMpeg2Quantisation,
    ) {
        let sequence = V4l2CtrlMpeg2Sequence {
            horizontal_size: 720,
            vertical_size: 576,
            chroma_format: 1,
            ..Default::default()
        };
        let picture = V4l2CtrlMpeg2Picture {
            f_code: [[2, 1], [15, 15]],
            picture_coding_type: V4L2_MPEG2_PIC_CODING_TYPE_P,
            picture_structure: V4L2_MPEG2_PIC_TOP_FIELD,
            intra_dc_precision: 1,
            flags: V4L2_MPEG2_PIC_FLAG_TOP_FIELD_FIRST | V4L2_MPEG2_PIC_FLAG_ALT_SCAN,
            ..Default::default()
        };
        let quantisation = V4l2CtrlMpeg2Quantisation {
            intra_quantiser_matrix: [17; 64],
            non_intra_quantiser_matrix: [16; 64],
            ..Default::default()
        };
        (sequence, picture, quantisation)
    }

    /// Returns the start codes of `bytes`, for extensions with their identifier.
    fn codes(bytes: &[u8]) -> Vec<u16> {
        let starts = (0..bytes.len().saturating_sub(4)).filter(|at| bytes[*at..].starts_with(&[0, 0, 1]));
        starts
            .map(|at| match bytes[at + 3] {
                EXTENSION => 0xb500 | u16::from(bytes[at + 4] >> 4),
                code => code.into(),
            })
            .collect()
    }

    #[test]
    fn each_header_comes_when_it_is_needed() {
        let (sequence, picture, mut quantisation) = controls();
        let mut headers = Headers::default();
        let write = |headers: &mut Headers, quantisation: &V4l2CtrlMpeg2Quantisation, second| {
            let mut out = Vec::new();
            let controls = PictureControls {
                sequence: &sequence,
                picture: &picture,
                quantisation,
            };
            headers.write(&controls, second, &mut out).expect("headers");
            codes(&out)
        };
        let first = [0xb3, 0xb501, 0x00, 0xb508];
        assert_eq!(
            write(&mut headers, &quantisation, false),
            [0xb3, 0xb501, 0xb8, 0x00, 0xb508]
        );
        assert_eq!(write(&mut headers, &quantisation, true), [0x00, 0xb508]);
        assert_eq!(write(&mut headers, &quantisation, false), first);
        quantisation.intra_quantiser_matrix[5] = 99;
        assert_eq!(write(&mut headers, &quantisation, true), [0x00, 0xb508, 0xb503]);
        assert_eq!(write(&mut headers, &quantisation, true), [0x00, 0xb508]);
        assert_eq!(write(&mut headers, &quantisation, false), first);
        headers.reset();
        assert_eq!(write(&mut headers, &quantisation, false)[2], 0xb8);
    }

    #[test]
    fn headers_have_the_bits_of_the_specification() {
        let (sequence, picture, quantisation) = controls();
        let mut out = Vec::new();
        let controls = PictureControls {
            sequence: &sequence,
            picture: &picture,
            quantisation: &quantisation,
        };
        Headers::default()
            .write(&controls, false, &mut out)
            .expect("headers");
        // 720x576, square, 25 Hz, variable rate, marker, no buffer, matrices.
        assert_eq!(
            out[..12],
            [0, 0, 1, 0xb3, 0x2d, 0x02, 0x40, 0x13, 0xff, 0xff, 0xe0, 0x02]
        );
        let sequence_bytes = 4 + 8 + 64 + 64;
        let rest = &out[sequence_bytes..];
        // Main profile at High level, interlaced, 4:2:0.
        assert_eq!(rest[..10], [0, 0, 1, 0xb5, 0x14, 0x42, 0x00, 0x01, 0x00, 0x00]);
        assert_eq!(rest[10..18], [0, 0, 1, 0xb8, 0x00, 0x08, 0x00, 0x40]);
        // A P picture: reference 0, type 2, delay FFFF, vector 0 111, no extra bit.
        assert_eq!(rest[18..27], [0, 0, 1, 0x00, 0x00, 0x17, 0xff, 0xfb, 0x80]);
        // f_code 2 1 15 15, precision 1, top field, top first, alternate scan.
        assert_eq!(rest[27..], [0, 0, 1, 0xb5, 0x82, 0x1f, 0xf5, 0x84, 0x00]);
    }

    #[test]
    fn what_no_stream_can_say_is_an_error() {
        let write = |change: &dyn Fn(&mut V4l2CtrlMpeg2Sequence, &mut V4l2CtrlMpeg2Picture)| {
            let (mut sequence, mut picture, quantisation) = controls();
            change(&mut sequence, &mut picture);
            let mut out = vec![1];
            let controls = PictureControls {
                sequence: &sequence,
                picture: &picture,
                quantisation: &quantisation,
            };
            let result = Headers::default().write(&controls, false, &mut out);
            assert!(result.is_ok() || out == [1], "something was appended");
            result.err()
        };
        let value = |field, value| Some(Mpeg2Error::Value { field, value });
        assert_eq!(write(&|_, _| {}), None);
        assert_eq!(
            write(&|sequence, _| sequence.horizontal_size = 4096),
            value("horizontal_size", 4096)
        );
        assert_eq!(
            write(&|sequence, _| sequence.vertical_size = 0),
            value("vertical_size", 0)
        );
        assert_eq!(
            write(&|sequence, _| sequence.chroma_format = 2),
            value("chroma_format", 2)
        );
        assert_eq!(
            write(&|_, picture| picture.picture_coding_type = V4L2_MPEG2_PIC_CODING_TYPE_D),
            value("picture_coding_type", 4)
        );
        assert_eq!(
            write(&|_, picture| picture.f_code[0][1] = 10),
            value("f_code", 10)
        );
        assert_eq!(
            write(&|_, picture| picture.f_code[1] = [0, 200]),
            None,
            "it is not used"
        );
        assert_eq!(
            write(&|sequence, _| sequence.flags = V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE),
            Some(Mpeg2Error::ProgressiveField)
        );
        let (sequence, picture, mut quantisation) = controls();
        quantisation.non_intra_quantiser_matrix[63] = 0;
        let controls = PictureControls {
            sequence: &sequence,
            picture: &picture,
            quantisation: &quantisation,
        };
        assert_eq!(
            Headers::default().write(&controls, false, &mut Vec::new()),
            Err(Mpeg2Error::Matrix {
                matrix: "non_intra_quantiser_matrix"
            })
        );
    }
}
