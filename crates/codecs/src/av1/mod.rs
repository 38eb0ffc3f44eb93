// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AV1: a whole temporal unit from `V4L2_CID_STATELESS_AV1_{SEQUENCE,FRAME,TILE_GROUP_ENTRY,FILM_GRAIN}`.
//!
//! Section numbers are those of the AV1 specification. Clients agree on little more than where the
//! tiles are: what lies around them in the OUTPUT buffer differs from client to client and is never
//! looked at. [`Av1Writer::write`] makes a temporal delimiter, a sequence header where one is needed,
//! and one frame OBU with all the tiles.
//!
//! The written header is not the client's header but one that decodes to the same picture and leaves the
//! decoder with the same state. The controls lack some syntax, or carry it unreliably. What is written
//! instead, and why that is right:
//!
//! - operating points, layers: one, `operating_point_idc` 0; no OBU extension. Reason: the client has chosen;
//!   every frame that it sends is decoded.
//! - level, tier: 31 (no limit), 0. Reason: no constraint on the decoder.
//! - timing, decoder model, `buffer_removal_time`, frame ids: absent. Reason: they do not affect decoding.
//! - `still_picture`, `reduced_still_picture_header`: 0. Reason: all that the reduced header implies is in
//!   the frame control, explicitly.
//! - `seq_force_screen_content_tools`, `seq_force_integer_mv`: SELECT. Reason: the frame control has the
//!   resulting values.
//! - `enable_superres`, `enable_ref_frame_mvs`, `enable_warped_motion`, `enable_restoration`,
//!   `separate_uv_delta_q`: 1. Reason: they only let a frame's header code what the frame control decides; a
//!   VA-API client, which is not told them, sets them for each frame anew.
//! - `max_frame_width_minus_1`, `max_frame_height_minus_1`: the largest. Reason: they only bound the frames'
//!   sizes; a VA-API client sets them for each frame anew.
//! - colour description, chroma sample position: unspecified. Reason: they do not affect decoding, but for
//!   film grain with the identity matrix and restricted clipping.
//! - `frame_size_override_flag`, `found_ref`: size explicit (where it is not the largest); `found_ref` 0.
//!   Reason: a reference's size is only a short form of the explicit one.
//! - `frame_width_minus_1`: `upscaled_width` with superres. Reason: clients put the width after downscaling
//!   into the control's `frame_width_minus_1`.
//! - `frame_refs_short_signaling`: 0. Reason: `ref_frame_idx` holds the outcome.
//! - `ref_order_hint`: the order hints of the writer's own slots. Reason: they must be those that the decoder
//!   has.
//! - `skipModeAllowed`: derived (5.9.22) from the slots. Reason: clients set the flag by other rules; it
//!   decides whether `skip_mode_present` is coded.
//! - `disable_frame_end_update_cdf`: the flag; implied by `disable_cdf_update`.
//! - loop filter deltas: `delta_update` 1 and all ten values, where enabled. Reason: the control has the
//!   values in force; where not enabled, the decoder inherits them as it would have.
//! - `segmentation_update_data`: 1 and all values, where enabled. Reason: the control has the values in
//!   force.
//! - `diff_uv_delta`: whether the V deltas differ. Reason: some clients derive the flag from something else.
//! - `cdef_*_sec_strength`: code 3 for 3 and for 4. Reason: some clients send the code, some the strength.
//! - `lr_unit_shift`: from `loop_restoration_size`, else from the field.
//! - tile layout: see [`Av1Error::TileLayout`]. Reason: the start positions are in different units with
//!   different clients.
//! - `tile_size_bytes`, tile groups: as the sizes need; one group.
//! - tile offsets: as given, but for those of several groups that count from the last one (`groups`). Reason:
//!   FFmpeg's, of which the layout accounts for every byte.
//! - `gm_params`: type and parameters against those of `primary_ref_frame`'s slot. Reason: the control's
//!   flags are wrong for the affine type with some clients; the coding is relative, so the slots keep the
//!   parameters.
//! - `update_grain`: 1 and all parameters. Reason: the control has the values in force.
//! - `show_existing_frame` of a key frame: written when the slots' timestamps show that the client did it
//!   (7.21). Reason: no request is made for it, but it loads the key frame into all slots.
//!
//! Elements that the syntax implies (`error_resilient_mode` of a shown key frame, `force_integer_mv`
//! without screen content tools, loop filter levels of a lossless frame, …) are not coded, whatever
//! the control says.

mod error;
mod frame;
mod grain;
mod groups;
mod kind;
mod motion;
mod obu;
mod semantics;
mod sequence;
mod size;
mod slot;
mod tiles;

use std::ops::Range;

pub use error::Av1Error;
pub use semantics::{Av1, references};

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_KEY_FRAME, V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence,
    V4l2CtrlAv1TileGroupEntry,
};

use crate::bits::{BitWriter, leb128};
use kind::FrameKind;
use obu::ObuType;
use sequence::SequenceInfo;
use size::Size;
use slot::{SLOTS, Slot};
use tiles::{TileLayout, TileOrder};

/// One frame to be written.
#[derive(Clone, Copy, Debug)]
pub struct Av1Frame<'a> {
    /// The sequence control in force.
    pub sequence: &'a V4l2CtrlAv1Sequence,
    /// The frame control.
    pub frame: &'a V4l2CtrlAv1Frame,
    /// The tile group control: every tile of the frame, in any order.
    pub tiles: &'a [V4l2CtrlAv1TileGroupEntry],
    /// The film grain control, or `None` where the client leaves film grain out.
    pub film_grain: Option<&'a V4l2CtrlAv1FilmGrain>,
    /// The OUTPUT buffer's payload, which the tiles' offsets refer to.
    pub payload: &'a [u8],
    /// Timestamp of the CAPTURE buffer, in nanoseconds: later frames name this one by it.
    pub timestamp: u64,
}

/// The units that [`Av1Writer::write`] has appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFrame {
    /// A temporal unit that only shows a key frame again. The decoder outputs a picture for it, which
    /// the client already has.
    pub reshown: Option<Range<usize>>,
    /// The temporal unit of the frame.
    pub frame: Range<usize>,
    /// Whether it begins with a sequence header that differs from the one before (or is the first):
    /// the decoder drops its references.
    pub new_sequence: bool,
    /// A key frame that goes into all slots, with a sequence header: nothing before it is needed any more.
    pub independent: bool,
    /// `show_frame`: whether the decoder outputs the picture without being asked for hidden ones.
    pub shown: bool,
    /// `refresh_frame_flags` as they apply: the slots that the frame goes into.
    pub refresh: u8,
    /// A reference of the frame is not the picture that the client names by its timestamp: a frame was
    /// lost on the way to this writer, and the picture will not be the intended one.
    pub stale_reference: bool,
}

/// Writes the frames of one decoder, keeping the state that the coding of later frames depends on.
///
/// The slots mirror those of the decoder that is given every temporal unit written. When the decoder
/// is flushed, [`reset`](Self::reset) the writer.
#[derive(Debug)]
pub struct Av1Writer {
    slots: [Slot; SLOTS],
    /// The sequence that was last written, as [`SequenceInfo::control`] has it.
    sequence: Option<V4l2CtrlAv1Sequence>,
    /// Buffers kept from frame to frame.
    header: Vec<u8>,
    order: TileOrder,
}

impl Default for Av1Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Av1Writer {
    /// Returns a writer for a decoder that has decoded nothing.
    pub fn new() -> Self {
        Self {
            slots: [Slot::EMPTY; SLOTS],
            sequence: None,
            header: Vec::new(),
            order: TileOrder::default(),
        }
    }

    /// Forgets slots and sequence: for a decoder that has been flushed.
    pub fn reset(&mut self) {
        self.slots = [Slot::EMPTY; SLOTS];
        self.sequence = None;
    }

    /// Appends one frame to `out` as a temporal unit, before it another one where the client has shown
    /// a key frame again.
    ///
    /// # Errors
    ///
    /// [`Av1Error`] says which value cannot be coded or which tile is not in the payload. Then nothing
    /// has been appended and the writer's state is unchanged.
    pub fn write(&mut self, job: &Av1Frame<'_>, out: &mut Vec<u8>) -> Result<WrittenFrame, Av1Error> {
        let frame = job.frame;
        let sequence = SequenceInfo::new(job.sequence)?;
        let new_sequence = self.sequence.as_ref() != Some(sequence.control());
        let mut slots = if new_sequence {
            [Slot::EMPTY; SLOTS]
        } else {
            self.slots
        };

        let kind = FrameKind::new(frame)?;
        let reshown = if kind.reset_all {
            None
        } else {
            reshown_key(&slots, frame)
        };
        if let Some(index) = reshown {
            let key = Slot {
                showable_key: false,
                ..slots[index]
            };
            slots = [key; SLOTS];
        }

        let stale_reference = !kind.intra && stale_reference(&slots, frame);

        let size = Size::new(frame)?;
        let layout = TileLayout::new(&sequence, &size, &frame.tile_info)?;
        let (columns, rows) = (frame.tile_info.tile_cols, frame.tile_info.tile_rows);
        let size_bytes = frame.tile_info.tile_size_bytes;
        let corrected = groups::corrected(job.tiles, size_bytes, job.payload.len());
        let entries = corrected.as_deref().unwrap_or(job.tiles);
        let largest = self
            .order
            .arrange(entries, job.payload, columns.into(), rows.into())?;
        let tile_size_bytes = tiles::size_bytes(largest);

        self.header.clear();
        let mut w = BitWriter::new(&mut self.header);
        let motion = frame::write(
            &mut w,
            &frame::Context {
                sequence: &sequence,
                frame,
                kind,
                size: &size,
                slots: &slots,
            },
            &layout,
            tile_size_bytes,
            job.film_grain,
        )?;
        w.align();
        tiles::write_group_header(&mut w, self.order.len());

        let start = out.len();
        let reshown = reshown.map(|index| {
            obu::temporal_delimiter(out);
            obu::show_existing_frame(out, index);
            start..out.len()
        });
        let start = out.len();
        obu::temporal_delimiter(out);
        if new_sequence || kind.reset_all {
            sequence::write(&sequence, out);
        }
        out.push(ObuType::Frame.header());
        leb128(out, self.header.len() + self.order.coded_len(tile_size_bytes));
        out.extend_from_slice(&self.header);
        self.order.write(job.payload, tile_size_bytes, out);

        let decoded = Slot {
            filled: true,
            timestamp: job.timestamp,
            order_hint: frame.order_hint,
            showable_key: frame.frame_type == V4L2_AV1_KEY_FRAME && !kind.show && kind.showable,
            motion,
        };
        for (i, slot) in slots.iter_mut().enumerate() {
            if kind.refresh & (1 << i) != 0 {
                *slot = decoded;
            }
        }
        self.slots = slots;
        self.sequence = Some(*sequence.control());
        Ok(WrittenFrame {
            reshown,
            frame: start..out.len(),
            new_sequence,
            independent: kind.reset_all,
            shown: kind.show,
            refresh: kind.refresh,
            stale_reference,
        })
    }
}

/// Returns whether an inter frame's reference is in no slot, or the slot has another timestamp than the
/// control.
fn stale_reference(slots: &[Slot; SLOTS], frame: &V4l2CtrlAv1Frame) -> bool {
    frame
        .ref_frame_idx
        .iter()
        .filter_map(|&i| usize::try_from(i).ok())
        .any(|i| {
            slots
                .get(i)
                .is_some_and(|s| !s.filled || s.timestamp != frame.reference_frame_ts[i])
        })
}

/// Returns the slot of a key frame that the client has shown again since the last frame, if it has.
///
/// `show_existing_frame` of a key frame loads it into every slot (7.21). The client makes no request
/// for it, but from then on gives its timestamp for all slots. Slots that were never filled are not
/// compared: clients give any timestamp for those. The same timestamps result, with no trace, where
/// the key frame was in every slot already; then there is nothing to load.
fn reshown_key(slots: &[Slot; SLOTS], frame: &V4l2CtrlAv1Frame) -> Option<usize> {
    let timestamp = frame.reference_frame_ts[0];
    let agree = slots
        .iter()
        .zip(&frame.reference_frame_ts)
        .all(|(s, &ts)| !s.filled || ts == timestamp);
    let replaced = slots.iter().any(|s| s.filled && s.timestamp != timestamp);
    if !agree || !replaced {
        return None;
    }
    slots
        .iter()
        .position(|s| s.filled && s.showable_key && s.timestamp == timestamp)
}
