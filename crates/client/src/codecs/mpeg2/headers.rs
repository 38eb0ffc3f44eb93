// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Headers of MPEG-2 (ITU-T H.262, 6.2.2 and 6.2.3).

use daedalus_uapi::v4l2_controls::{
    V4L2_MPEG2_PIC_FLAG_ALT_SCAN, V4L2_MPEG2_PIC_FLAG_CONCEALMENT_MV, V4L2_MPEG2_PIC_FLAG_FRAME_PRED_DCT,
    V4L2_MPEG2_PIC_FLAG_INTRA_VLC, V4L2_MPEG2_PIC_FLAG_PROGRESSIVE, V4L2_MPEG2_PIC_FLAG_Q_SCALE_TYPE,
    V4L2_MPEG2_PIC_FLAG_REPEAT_FIRST, V4L2_MPEG2_PIC_FLAG_TOP_FIELD_FIRST, V4L2_MPEG2_PIC_FRAME,
    V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE, V4l2CtrlMpeg2Picture, V4l2CtrlMpeg2Quantisation, V4l2CtrlMpeg2Sequence,
};

use crate::bits::flags;

/// The default intra matrix (6.3.11), in raster order as it is printed there.
const DEFAULT_INTRA: [[u8; 8]; 8] = [
    [8, 16, 19, 22, 26, 27, 29, 34],
    [16, 16, 22, 24, 27, 29, 34, 37],
    [19, 22, 26, 27, 29, 34, 34, 38],
    [22, 22, 26, 27, 29, 34, 37, 40],
    [22, 26, 27, 29, 32, 35, 40, 48],
    [26, 27, 29, 32, 35, 40, 48, 58],
    [26, 27, 29, 34, 38, 46, 56, 69],
    [27, 29, 35, 38, 46, 56, 69, 83],
];
/// Every entry of the default non-intra matrix.
const DEFAULT_NON_INTRA: u8 = 16;

/// Reads bits, the most significant first. Behind the end are zeros: the splitter cuts them off.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads a number of at most 16 bits.
    pub(super) fn take(&mut self, count: usize) -> u16 {
        (0..count).fold(0, |value, _| (value << 1) | u16::from(self.flag()))
    }

    pub(super) fn flag(&mut self) -> bool {
        let byte = self.bytes.get(self.at / 8).copied().unwrap_or_default();
        let bit = (byte >> (7 - self.at % 8)) & 1;
        self.at += 1;
        bit == 1
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// Reads a quantiser matrix, if it is there.
    fn matrix(&mut self) -> Option<[u8; 64]> {
        self.flag().then(|| std::array::from_fn(|_| self.take(8) as u8))
    }
}

/// Returns the place in raster order, row and column, of each coefficient in zigzag order (figure 7-2).
fn zigzag() -> Vec<(usize, usize)> {
    let mut order: Vec<_> = (0..64).map(|place| (place / 8, place % 8)).collect();
    // Along the anti-diagonals, on the even ones upwards.
    order.sort_by_key(|(row, column)| (row + column, if (row + column) % 2 == 0 { *column } else { *row }));
    order
}

/// Returns the default intra matrix in the order of the syntax.
fn default_intra() -> [u8; 64] {
    let mut entries = [0; 64];
    for (entry, (row, column)) in entries.iter_mut().zip(zigzag()) {
        *entry = DEFAULT_INTRA[row][column];
    }
    entries
}

/// A sequence header, whose extension comes next.
#[derive(Clone, Debug)]
pub(super) struct SequenceHeader {
    size: (u16, u16),
    vbv_buffer_size: u32,
    intra: [u8; 64],
    non_intra: [u8; 64],
}

/// A sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sequence {
    pub(super) control: V4l2CtrlMpeg2Sequence,
    /// There are no B pictures: each picture is shown at once.
    pub(super) low_delay: bool,
}

impl SequenceHeader {
    /// Reads `sequence_header()` behind its start code.
    pub(super) fn read(payload: &[u8]) -> Self {
        let mut bits = Bits::new(payload);
        let size = (bits.take(12), bits.take(12));
        // aspect_ratio_information, frame_rate_code, bit_rate_value, marker_bit.
        bits.skip(4 + 4 + 18 + 1);
        let vbv_buffer_size = bits.take(10).into();
        let constrained_parameters = 1;
        bits.skip(constrained_parameters);
        Self {
            size,
            vbv_buffer_size,
            intra: bits.matrix().unwrap_or_else(default_intra),
            non_intra: bits.matrix().unwrap_or([DEFAULT_NON_INTRA; 64]),
        }
    }

    /// Reads `sequence_extension()` behind its identifier.
    pub(super) fn extended(&self, bits: &mut Bits<'_>) -> (Sequence, V4l2CtrlMpeg2Quantisation) {
        let profile_and_level_indication = bits.take(8);
        let progressive = bits.flag();
        let chroma_format = bits.take(2) as u8;
        let (width, height) = (bits.take(2), bits.take(2));
        // bit_rate_extension, marker_bit.
        bits.skip(12 + 1);
        let vbv_buffer_size = (u32::from(bits.take(8)) << 10) | self.vbv_buffer_size;
        let low_delay = bits.flag();
        let control = V4l2CtrlMpeg2Sequence {
            horizontal_size: (width << 12) | self.size.0,
            vertical_size: (height << 12) | self.size.1,
            // In bits, as the control wants it: the syntax counts units of 16 kbit.
            vbv_buffer_size: vbv_buffer_size * 16 * 1024,
            profile_and_level_indication,
            chroma_format,
            flags: flags([(progressive, V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE)]),
        };
        let quantisation = V4l2CtrlMpeg2Quantisation {
            intra_quantiser_matrix: self.intra,
            non_intra_quantiser_matrix: self.non_intra,
            ..Default::default()
        };
        (Sequence { control, low_delay }, quantisation)
    }
}

/// Reads `quant_matrix_extension()` behind its identifier: what it brings replaces what was in force.
pub(super) fn read_matrices(bits: &mut Bits<'_>, quantisation: &mut V4l2CtrlMpeg2Quantisation) {
    for matrix in [
        &mut quantisation.intra_quantiser_matrix,
        &mut quantisation.non_intra_quantiser_matrix,
        &mut quantisation.chroma_intra_quantiser_matrix,
        &mut quantisation.chroma_non_intra_quantiser_matrix,
    ] {
        if let Some(entries) = bits.matrix() {
            *matrix = entries;
        }
    }
}

/// Reads `picture_coding_extension()` behind its identifier into `picture`.
pub(super) fn read_picture_coding(
    bits: &mut Bits<'_>,
    sequence: &Sequence,
    picture: &mut V4l2CtrlMpeg2Picture,
) {
    for code in picture.f_code.as_flattened_mut() {
        *code = bits.take(4) as u8;
    }
    picture.intra_dc_precision = bits.take(2) as u8;
    picture.picture_structure = bits.take(2) as u8;
    let mut flag = |flag: u32| (bits.flag(), flag);
    picture.flags = flags([
        flag(V4L2_MPEG2_PIC_FLAG_TOP_FIELD_FIRST),
        flag(V4L2_MPEG2_PIC_FLAG_FRAME_PRED_DCT),
        flag(V4L2_MPEG2_PIC_FLAG_CONCEALMENT_MV),
        flag(V4L2_MPEG2_PIC_FLAG_Q_SCALE_TYPE),
        flag(V4L2_MPEG2_PIC_FLAG_INTRA_VLC),
        flag(V4L2_MPEG2_PIC_FLAG_ALT_SCAN),
        flag(V4L2_MPEG2_PIC_FLAG_REPEAT_FIRST),
    ]);
    let chroma_420_type = 1;
    bits.skip(chroma_420_type);
    let progressive = bits.flag() || sequence.control.flags & V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE != 0;
    if progressive || picture.picture_structure == 0 {
        // As decoders take it where a stream contradicts itself.
        picture.picture_structure = V4L2_MPEG2_PIC_FRAME;
    }
    if progressive {
        picture.flags |= V4L2_MPEG2_PIC_FLAG_PROGRESSIVE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_matrix_is_in_zigzag_order() {
        // As the kernel's documentation lists it.
        assert_eq!(default_intra()[..10], [8, 16, 16, 19, 16, 19, 22, 22, 22, 22]);
        assert_eq!(default_intra()[60..], [58, 69, 69, 83]);
    }

    #[test]
    fn headers_are_read() {
        let header = SequenceHeader::read(&[0x2d, 0x02, 0x40, 0x13, 0xff, 0xff, 0xe1, 0xc0]);
        let (sequence, quantisation) = header.extended(&mut Bits::new(&[0x48, 0x20, 0x00, 0x10, 0, 0]));
        let control = sequence.control;
        assert_eq!((control.horizontal_size, control.vertical_size), (720, 576));
        assert_eq!(control.vbv_buffer_size, 56 * 16 * 1024);
        assert_eq!(quantisation.non_intra_quantiser_matrix, [16; 64]);
        assert_eq!(Bits::new(&[0xff]).take(16), 0xff00, "zeros are cut off");
    }
}
