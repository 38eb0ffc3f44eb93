// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HEVC: pictures as a decoder of the whole bitstream takes them, from
//! `V4L2_CID_STATELESS_HEVC_{SPS,PPS,SCALING_MATRIX,DECODE_PARAMS}` and the client's slice segments.
//!
//! Section numbers are those of ITU-T H.265. [`Writer`] puts VPS, SPS and PPS in front of the segments. The
//! controls lack some syntax. What is written instead:
//!
//! | missing | written | why it is right |
//! |---|---|---|
//! | VPS, profile, level, sub-layers | one layer and sub-layer, the highest level | decoding needs none |
//! | cropping, VUI | none | CAPTURE buffers hold the coded size, and the client orders pictures |
//! | SPS and PPS scaling lists | in the PPS | the control holds the lists in force after fall-back |
//! | the SPS's reference picture sets | empty ones, as many | headers that name one are rewritten |
//!
//! A segment's header that names sets of the SPS gets the set that `DECODE_PARAMS` describes. That changes
//! its length; `num_extra_slice_header_bits` is chosen so that it changes by whole bytes, and what follows
//! the sets is copied as it is. Each number of extra bits is that of a PPS of its own, which a decoder gets
//! once. RASL pictures become RADL pictures, which decoders do not skip: a client that sends one wants it
//! decoded. A CRA picture that begins a sequence has an end of sequence before it.

mod error;
mod nal;
mod references;
mod scaling;
mod segment;
mod semantics;
mod sets;

use std::ops::Range;

pub use error::HevcError;
pub use nal::write_access_unit_delimiter;
pub use semantics::{Hevc, current, entries};
pub use sets::OutputOrder;

use daedalus_uapi::v4l2_controls::{
    V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT, V4L2_HEVC_SPS_FLAG_SCALING_LIST_ENABLED,
    V4l2CtrlHevcDecodeParams, V4l2CtrlHevcPps, V4l2CtrlHevcScalingMatrix, V4l2CtrlHevcSps,
};

use crate::bits::{BitReader, BitWriter};
use crate::emulation::Zeros;
use references::References;
use segment::{Segment, Sets};

/// The controls of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Controls<'a> {
    /// `V4L2_CID_STATELESS_HEVC_SPS`.
    pub sps: &'a V4l2CtrlHevcSps,
    /// `V4L2_CID_STATELESS_HEVC_PPS`.
    pub pps: &'a V4l2CtrlHevcPps,
    /// `V4L2_CID_STATELESS_HEVC_SCALING_MATRIX`.
    pub scaling: Option<&'a V4l2CtrlHevcScalingMatrix>,
    /// `V4L2_CID_STATELESS_HEVC_DECODE_PARAMS`.
    pub params: &'a V4l2CtrlHevcDecodeParams,
}

/// What [`Writer::write`] has found in the client's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteResult {
    /// The segments are whole pictures' as far as their headers tell: the first is the picture's first, and
    /// the addresses rise.
    pub in_order: bool,
    /// Segments whose headers were rewritten.
    pub rewritten: usize,
}

/// Writes pictures, with parameter sets when they differ from those that the decoder has already been given.
#[derive(Debug, Default)]
pub struct Writer {
    /// VPS and SPS as they were written last; empty before.
    sequence: Vec<u8>,
    /// The PPS as they were written since, with their identifiers.
    pictures: Vec<(u8, Vec<u8>)>,
    /// The segments of a picture, and where they are in its buffer.
    segments: Vec<(Range<usize>, Segment)>,
    scratch: Vec<u8>,
}

impl Writer {
    /// Forgets what was written: for a decoder that starts anew.
    pub fn reset(&mut self) {
        self.sequence.clear();
        self.pictures.clear();
    }

    /// Appends to `out` a picture whose slice segments are in `payload`, behind start codes. After an error
    /// nothing has been appended, and the next call writes all parameter sets.
    ///
    /// # Errors
    /// [`HevcError`].
    pub fn write(
        &mut self,
        controls: &Controls<'_>,
        order: OutputOrder,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<WriteResult, HevcError> {
        let start = out.len();
        let result = self.write_picture(controls, order, payload, out);
        if result.is_err() {
            out.truncate(start);
        }
        if !matches!(result, Ok(_) | Err(HevcError::SpsChange)) {
            self.reset();
        }
        result
    }

    fn write_picture(
        &mut self,
        controls: &Controls<'_>,
        order: OutputOrder,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<WriteResult, HevcError> {
        sets::check_sps(controls.sps)?;
        sets::check_pps(controls.sps, controls.pps)?;
        let in_order = self.read_segments(controls, payload)?;
        let (_, first) = self.segments.first().ok_or(HevcError::NoSegment)?;
        let (nal_type, pps_id) = (first.nal_type, first.pps_id);
        let without_references = controls.params.num_active_dpb_entries == 0;
        if nal_type == nal::CRA && without_references {
            nal::write_end_of_sequence(out);
        }
        let may_begin = nal::is_irap(nal_type) && without_references;
        self.write_sequence(controls.sps, order, may_begin, out)?;

        let sets = || {
            self.segments
                .iter()
                .filter_map(|(_, segment)| segment.sets.as_ref())
        };
        let long_term = sets().any(|sets| sets.long_term_of_sps);
        let of_sps =
            |(_, segment): &&(Range<usize>, Segment)| segment.sets.as_ref().is_some_and(Sets::are_of_sps);
        let replacement = match self.segments.iter().find(of_sps) {
            Some((_, segment)) => {
                // The header of a dependent segment has no extra bits that could make up for another PPS.
                let all_have_sets = self.segments.iter().all(|(_, segment)| segment.sets.is_some());
                Some(ReplacementSets::new(controls, segment, long_term, all_have_sets)?)
            }
            None => None,
        };
        let mut pps = *controls.pps;
        // The segments name this one; the control's number is the client's.
        pps.pic_parameter_set_id = pps_id as u8;
        if let Some(replacement) = &replacement {
            pps.num_extra_slice_header_bits = replacement.extra_bits;
            pps.pic_parameter_set_id = replacement.pps_id.unwrap_or(pps.pic_parameter_set_id);
        }
        self.write_pps(controls, &pps, out)?;

        let mut rewritten = 0;
        for (range, segment) in &self.segments {
            let unit = &payload[range.clone()];
            out.extend([0, 0, 1]);
            let at = out.len();
            match &replacement {
                Some(replacement) if segment.sets.is_some() => {
                    self.scratch.clear();
                    segment::prefix(unit, &mut self.scratch);
                    replacement.write(controls, segment, unit, &self.scratch, out)?;
                    rewritten += 1;
                }
                _ => out.extend_from_slice(unit),
            }
            out[at] = as_decoded(out[at]);
        }
        Ok(WriteResult { in_order, rewritten })
    }

    /// Reads the headers of the picture's segments. What follows them is another picture's. Returns
    /// [`WriteResult::in_order`].
    fn read_segments(&mut self, controls: &Controls<'_>, payload: &[u8]) -> Result<bool, HevcError> {
        self.segments.clear();
        let mut in_order = true;
        for range in nal::units(payload) {
            let unit = &payload[range.clone()];
            if !nal::is_segment(unit) {
                continue;
            }
            self.scratch.clear();
            segment::prefix(unit, &mut self.scratch);
            let segment = Segment::read(&self.scratch, controls.sps, controls.pps, controls.params)?;
            if let Some((_, before)) = self.segments.last() {
                if segment.first {
                    in_order = false;
                    break;
                }
                let place = |segment: &Segment| sets::tile_scan(controls.sps, controls.pps, segment.address);
                in_order &= place(&segment) > place(before) && segment.pps_id == before.pps_id;
            } else {
                in_order = segment.first;
            }
            self.segments.push((range, segment));
        }
        Ok(in_order)
    }

    /// Appends VPS and SPS if they changed. `may_begin` says that a sequence may begin with the picture.
    fn write_sequence(
        &mut self,
        sps: &V4l2CtrlHevcSps,
        order: OutputOrder,
        may_begin: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), HevcError> {
        self.scratch.clear();
        sets::write_vps(sps, order, &mut self.scratch);
        sets::write_sps(sps, order, &mut self.scratch);
        if self.scratch == self.sequence {
            return Ok(());
        }
        if !self.sequence.is_empty() && !may_begin {
            return Err(HevcError::SpsChange);
        }
        out.extend_from_slice(&self.scratch);
        std::mem::swap(&mut self.scratch, &mut self.sequence);
        // A new SPS invalidates the PPS that refer to it.
        self.pictures.clear();
        Ok(())
    }

    /// Appends the PPS if the decoder has not got it.
    fn write_pps(
        &mut self,
        controls: &Controls<'_>,
        pps: &V4l2CtrlHevcPps,
        out: &mut Vec<u8>,
    ) -> Result<(), HevcError> {
        let enabled = controls.sps.flags & V4L2_HEVC_SPS_FLAG_SCALING_LIST_ENABLED != 0;
        let scaling = scaling::in_force(controls.scaling.filter(|_| enabled))?;
        self.scratch.clear();
        sets::write_pps(pps, scaling, &mut self.scratch);
        let id = pps.pic_parameter_set_id;
        match self.pictures.iter_mut().find(|(written_id, _)| *written_id == id) {
            Some((_, bytes)) if *bytes == self.scratch => return Ok(()),
            Some((_, bytes)) => bytes.clone_from(&self.scratch),
            None => self.pictures.push((id, self.scratch.clone())),
        }
        out.extend_from_slice(&self.scratch);
        Ok(())
    }
}

/// Returns the first byte of a segment's NAL unit header, with RADL instead of RASL.
fn as_decoded(header: u8) -> u8 {
    match header >> 1 {
        8 | 9 => header - (2 << 1),
        _ => header,
    }
}

/// The sets that replace those of a picture's segments.
struct ReplacementSets {
    /// The new sets, in the highest bits.
    bits: Vec<u8>,
    /// Their number.
    len: usize,
    /// The long-term pictures are among them; otherwise they follow from the segment.
    long_term: bool,
    /// `num_extra_slice_header_bits` with which the segments' lengths change by whole bytes.
    extra_bits: u8,
    /// The PPS with so many extra bits; `None` if the segments keep theirs.
    pps_id: Option<u8>,
}

/// Identifiers of PPS, one for each number of extra bits: those that have the same length in a header.
const PPS_IDS: Range<u8> = 7..15;
/// That length.
const PPS_ID_BITS: usize = 7;

impl ReplacementSets {
    /// Makes the sets that replace those of `segment`, with or without the long-term pictures. The segments
    /// may name another PPS then, or not.
    fn new(
        controls: &Controls<'_>,
        segment: &Segment,
        long_term: bool,
        other_pps: bool,
    ) -> Result<Self, HevcError> {
        let old = segment.sets.as_ref().ok_or(HevcError::Sets)?;
        let references = References::new(controls.sps, controls.params, old.lsb);
        let mut bits = Vec::new();
        let mut w = BitWriter::new(&mut bits);
        references.write_short_term(&mut w)?;
        if long_term {
            debug_assert!(controls.sps.flags & V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT != 0);
            references.write_long_term(&mut w);
        }
        w.trailing();
        // The trailing one bit is the last one.
        let zeros = bits.last().map_or(0, |byte| byte.trailing_zeros() as usize);
        let mut replacement = Self {
            len: bits.len() * 8 - zeros - 1,
            bits,
            long_term,
            extra_bits: 0,
            pps_id: other_pps.then_some(PPS_IDS.start),
        };
        replacement.extra_bits = replacement.extra_bits_for(controls.pps, segment, old);
        replacement.pps_id = replacement.pps_id.map(|first| first + replacement.extra_bits);
        Ok(replacement)
    }

    /// Returns the place of the bits that are replaced.
    fn place(&self, old: &Sets) -> Range<usize> {
        let end = if self.long_term {
            old.long_term.end
        } else {
            old.short_term.end
        };
        old.short_term.start..end
    }

    /// Returns the `num_extra_slice_header_bits` with which a segment's length changes by whole bytes.
    fn extra_bits_for(&self, pps: &V4l2CtrlHevcPps, segment: &Segment, old: &Sets) -> u8 {
        let pps_id_bits = segment.pps_id_bits.len();
        let (old_len, new_len) = match self.pps_id {
            Some(_) => (self.place(old).len() + pps_id_bits, self.len + PPS_ID_BITS),
            None => (self.place(old).len(), self.len),
        };
        let grown = new_len + 8 - old_len % 8;
        (usize::from(pps.num_extra_slice_header_bits) + 8 * grown - grown) as u8 % 8
    }

    /// Appends a segment with the new sets. `prefix` is the beginning of its `unit`.
    fn write(
        &self,
        controls: &Controls<'_>,
        segment: &Segment,
        unit: &[u8],
        prefix: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), HevcError> {
        let (Some(old), Some(reserved)) = (&segment.sets, segment.reserved) else {
            return Err(HevcError::Sets);
        };
        let place = self.place(old);
        if self.extra_bits_for(controls.pps, segment, old) != self.extra_bits {
            return Err(HevcError::Sets);
        }
        let mut header = Vec::with_capacity(prefix.len() + self.bits.len());
        let mut w = BitWriter::new(&mut header);
        let after_pps_id = match self.pps_id {
            Some(pps_id) => {
                copy(&mut w, prefix, 0..segment.pps_id_bits.start);
                w.ue(pps_id.into());
                segment.pps_id_bits.end
            }
            None => 0,
        };
        copy(&mut w, prefix, after_pps_id..reserved);
        w.bits(self.extra_bits.into(), 0);
        let rest = reserved + usize::from(controls.pps.num_extra_slice_header_bits);
        copy(&mut w, prefix, rest..place.start);
        copy(&mut w, &self.bits, 0..self.len);
        // The rest keeps its place within bytes. So its first bits complete a byte, and bytes follow.
        let seam = place.end.next_multiple_of(8);
        copy(&mut w, prefix, place.end..seam);
        splice(&header, unit, seam / 8, out);
        Ok(())
    }
}

/// Writes bits of `bytes`, which has them.
fn copy(w: &mut BitWriter<'_>, bytes: &[u8], range: Range<usize>) {
    let mut r = BitReader::new(bytes, range.start);
    range.filter_map(|_| r.flag()).for_each(|bit| w.flag(bit));
}

/// Appends `header` with emulation prevention, and what follows the first `seam` bytes of the payload of
/// `unit`.
fn splice(header: &[u8], unit: &[u8], seam: usize, out: &mut Vec<u8>) {
    let mut written = Zeros::default();
    header.iter().for_each(|&byte| written.push(byte, out));
    let (mut read, mut payload) = (Zeros::default(), 0);
    for (at, &byte) in unit.iter().enumerate() {
        // With the same zeros before them, the same bytes have the same prevention bytes.
        if payload >= seam && read == written {
            out.extend_from_slice(&unit[at..]);
            return;
        }
        if read.is_prevention(byte) {
            read = Zeros::default();
            continue;
        }
        read.pass(byte);
        if payload >= seam {
            written.push(byte, out);
        }
        payload += 1;
    }
}
