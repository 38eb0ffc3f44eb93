// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NAL units in the byte stream format (7.3.1, annex B).

use crate::bits::BitWriter;
use crate::emulation;

/// `nal_unit_type` (table 7-1), with the `nal_ref_idc` that the writers here give it.
#[derive(Clone, Copy, Debug)]
pub(super) enum NalHeader {
    Sps = 0x67,
    Pps = 0x68,
    AccessUnitDelimiter = 0x09,
    EndOfSequence = 0x0a,
}

/// Appends a NAL unit whose RBSP `payload` writes, without its trailing bits.
pub(super) fn write_nal<E>(
    out: &mut Vec<u8>,
    header: NalHeader,
    payload: impl FnOnce(&mut BitWriter<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend([0, 0, 0, 1, header as u8]);
    let rbsp = out.len();
    let mut w = BitWriter::new(out);
    if let Err(e) = payload(&mut w) {
        out.truncate(start);
        return Err(e);
    }
    w.trailing();
    emulation::prevent(out, rbsp);
    Ok(())
}

/// Appends an access unit delimiter that allows any slice type (7.3.2.4).
///
/// To a decoder it is the start of the next access unit, hence the end of the one before.
pub fn write_access_unit_delimiter(out: &mut Vec<u8>) {
    let any_slice_type = 7;
    let result = write_nal(out, NalHeader::AccessUnitDelimiter, |w| {
        w.bits(3, any_slice_type);
        Ok::<(), std::convert::Infallible>(())
    });
    match result {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

/// Appends an end of sequence NAL unit (7.3.2.5): the next picture is an IDR picture.
pub fn write_end_of_sequence(out: &mut Vec<u8>) {
    // Its RBSP is empty, without trailing bits.
    out.extend([0, 0, 0, 1, NalHeader::EndOfSequence as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_those_of_the_specification() {
        let mut out = Vec::new();
        write_access_unit_delimiter(&mut out);
        write_end_of_sequence(&mut out);
        assert_eq!(out, [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 0, 1, 0x0a]);
    }
}
