// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AV1: temporal units to jobs.
//!
//! The payload is what GStreamer gives a device: the payloads of the frame's OBU_FRAME or OBU_TILE_GROUP
//! units, one after the other, with the tiles' offsets counted from the start of the buffer. A frame with
//! `show_existing_frame` is no job: the client shows an earlier picture, and when that is a key frame it
//! goes into every slot, which the device learns from the next frame's `reference_frame_ts`.
//!
//! Headers are parsed here and not by cros-codecs 0.0.6, whose AV1 parser does not read timing information
//! (it refuses 32-bit fields), indexes an empty list of buffer removal times, loses the offset of the last
//! class of `decode_subexp()`, starts global motion from zero instead of the identity for some references,
//! and forgets order hints when a key frame is shown again.

pub(super) mod chromium;
mod controls;
pub(super) mod ffmpeg;
mod frame;
mod reader;
mod references;
mod sequence;
mod tools;

use std::collections::VecDeque;
use std::sync::Arc;

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FRAME_FLAG_SHOW_FRAME, V4L2_AV1_KEY_FRAME, V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT,
    V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE,
    V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY, V4l2CtrlAv1TileGroupEntry,
};

use crate::bits::leb128;
use crate::coded::{CodedJob, Control, Event, Parser, TemporalUnit, Tile, TileGroup, Visible};
use controls::entry;
pub(super) use controls::session_size;
use frame::{Frame, Header, Slots};
use reader::Reader;
use sequence::Sequence;

/// `obu_type` values (AV1 6.2.2).
const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_FRAME_HEADER: u8 = 3;
const OBU_TILE_GROUP: u8 = 4;
const OBU_FRAME: u8 = 6;

/// The frame whose tile groups are being collected.
#[derive(Debug)]
struct PartialFrame {
    frame: Box<Frame>,
    payload: Vec<u8>,
    tiles: Vec<V4l2CtrlAv1TileGroupEntry>,
    groups: Vec<TileGroup>,
}

/// Parses a stream of temporal units.
#[derive(Debug, Default)]
pub(crate) struct Av1Parser {
    sequence: Option<Sequence>,
    slots: Slots,
    collected: Option<PartialFrame>,
    /// Pictures that this temporal unit shows.
    shown: Vec<u64>,
    frames: u64,
    /// The temporal unit that is being parsed.
    unit: Option<Arc<[u8]>>,
}

/// One OBU.
struct Obu<'a> {
    kind: u8,
    /// Temporal and spatial id, if it has them.
    layers: Option<(u32, u32)>,
    payload: &'a [u8],
    /// Bytes of the unit behind it.
    behind: usize,
}

/// Takes the OBU at the front of `unit`; one without size takes all of it.
fn next_obu<'a>(unit: &mut &'a [u8]) -> Result<Obu<'a>, String> {
    let cut = || String::from("an OBU is cut off");
    let header = *unit.first().ok_or_else(cut)?;
    let (mut layers, mut at) = (None, 1);
    if header & 4 != 0 {
        let extension = u32::from(*unit.get(1).ok_or_else(cut)?);
        layers = Some((extension >> 5, (extension >> 3) & 3));
        at = 2;
    }
    let rest = unit.get(at..).ok_or_else(cut)?;
    let (payload, behind) = if header & 2 != 0 {
        let (size, length) = leb128(rest).ok_or_else(cut)?;
        let rest = &rest[length..];
        if size > rest.len() {
            return Err(cut());
        }
        rest.split_at(size)
    } else {
        (rest, &rest[rest.len()..])
    };
    *unit = behind;
    Ok(Obu {
        kind: (header >> 3) & 0xf,
        layers,
        payload,
        behind: behind.len(),
    })
}

impl Av1Parser {
    /// Returns a parser at the start of a stream.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn obu(&mut self, obu: &Obu<'_>, events: &mut VecDeque<Event>) -> Result<(), String> {
        match obu.kind {
            OBU_TEMPORAL_DELIMITER => self.collected = None,
            OBU_SEQUENCE_HEADER => self.sequence = Some(Sequence::parse(obu.payload)?),
            // A frame header that comes again while tile groups are expected is a copy (5.9.1).
            OBU_FRAME_HEADER if self.collected.is_none() => {
                self.header(obu)?;
            }
            OBU_FRAME => {
                let length = self.header(obu)?;
                self.tile_group(obu, length, events)?;
            }
            OBU_TILE_GROUP => self.tile_group(obu, 0, events)?,
            _ => {}
        }
        Ok(())
    }

    /// Parses a frame header; returns its length in bytes.
    fn header(&mut self, obu: &Obu<'_>) -> Result<usize, String> {
        let sequence = self
            .sequence
            .as_ref()
            .ok_or("a frame before any sequence header")?;
        let layers = obu.layers.unwrap_or_default();
        let (header, length) = frame::parse(obu.payload, sequence, &self.slots, layers)?;
        match header {
            Header::Frame(frame) => {
                self.collected = Some(PartialFrame {
                    frame,
                    payload: Vec::new(),
                    tiles: Vec::new(),
                    groups: Vec::new(),
                });
            }
            Header::ShowExisting(index) => {
                let slot = self.slots[index].clone().ok_or("an empty slot is shown")?;
                self.shown.push(slot.timestamp);
                if slot.frame_type == V4L2_AV1_KEY_FRAME {
                    // 7.21: the reference frame loading process, then the update of all slots.
                    self.slots = std::array::from_fn(|_| Some(slot.clone()));
                }
            }
        }
        Ok(length)
    }

    /// Takes up a tile group (5.11.1), which starts at `start` of the OBU's payload.
    fn tile_group(
        &mut self,
        obu: &Obu<'_>,
        start: usize,
        events: &mut VecDeque<Event>,
    ) -> Result<(), String> {
        let payload = obu.payload;
        let unit_length = self.unit.as_ref().map_or(0, |unit| unit.len());
        let in_unit = unit_length.saturating_sub(obu.behind + payload.len());
        let collected = self
            .collected
            .as_mut()
            .ok_or("a tile group without a frame header")?;
        let base = collected.payload.len();
        collected.payload.extend(payload);
        let info = &collected.frame.control.tile_info;
        let (cols, count) = (
            u32::from(info.tile_cols),
            u32::from(info.tile_cols) * u32::from(info.tile_rows),
        );
        let group = payload.get(start..).ok_or("a tile group is cut off")?;
        let mut r = Reader::new(group);
        let (mut first, mut last) = (0, count - 1);
        if count > 1 && r.flag()? {
            first = r.bits(collected.frame.tiles_log2)?;
            last = r.bits(collected.frame.tiles_log2)?;
        }
        if last >= count || first > last {
            return Err("a tile group's tiles are not the frame's".into());
        }
        let data = in_unit + start + r.align();
        let mut tiles = Vec::new();
        for tile in first..=last {
            let mut at = r.align();
            let size = if tile == last {
                group.len().checked_sub(at).ok_or("a tile is cut off")?
            } else {
                let size = r.little_endian(u32::from(info.tile_size_bytes))? as usize + 1;
                at = r.align();
                r.skip(size)?;
                size
            };
            let from = |base: usize| Tile {
                offset: (base + start + at) as u32,
                size: size as u32,
                row: tile / cols,
                column: tile % cols,
            };
            collected.tiles.push(entry(&from(base)));
            tiles.push(from(in_unit));
        }
        let data = data..in_unit + payload.len();
        collected.groups.push(TileGroup { data, tiles });
        if last == count - 1 {
            self.finish_frame(events);
        }
        Ok(())
    }

    /// Hands out the collected frame's job and updates the slots (7.20).
    fn finish_frame(&mut self, events: &mut VecDeque<Event>) {
        let (Some(collected), Some(sequence)) = (self.collected.take(), &self.sequence) else {
            return;
        };
        let PartialFrame {
            frame,
            payload,
            tiles,
            groups,
        } = collected;
        let unit = self.unit.clone().map(|bytes| {
            Box::new(TemporalUnit {
                bytes,
                groups,
                operating_point: self.operating_point(),
            })
        });
        self.frames += 1;
        let timestamp = self.frames * 1000;
        let mut controls = vec![
            Control::new(V4L2_CID_STATELESS_AV1_SEQUENCE, &sequence.control),
            Control::new(V4L2_CID_STATELESS_AV1_FRAME, &frame.control),
            Control::new(V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY, tiles.as_slice()),
        ];
        if sequence.has(V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT) {
            controls.push(Control::new(V4L2_CID_STATELESS_AV1_FILM_GRAIN, &frame.film_grain));
        }
        let (width, height) = (frame.size.upscaled_width, frame.size.frame_height);
        let slot = frame.slot(timestamp);
        let shown = frame.has(V4L2_AV1_FRAME_FLAG_SHOW_FRAME);
        if shown && frame.control.frame_type == V4L2_AV1_KEY_FRAME {
            self.slots = Slots::default();
        }
        for (index, entry) in self.slots.iter_mut().enumerate() {
            if (frame.control.refresh_frame_flags >> index) & 1 != 0 {
                *entry = Some(slot.clone());
            }
        }
        if shown {
            self.shown.push(timestamp);
        }
        events.push_back(Event::Job(Box::new(CodedJob {
            timestamp,
            payload,
            controls,
            coded_width: width,
            coded_height: height,
            bit_depth: sequence.control.bit_depth,
            visible: Visible {
                left: 0,
                top: 0,
                width,
                height,
            },
            key: shown && frame.control.frame_type == V4L2_AV1_KEY_FRAME,
            hold_capture: false,
            same_capture: false,
            references: self.slots.iter().flatten().map(|slot| slot.timestamp).collect(),
            shows: Vec::new(),
            unit,
        })));
    }

    /// Returns whether an OBU belongs to operating point 0, which is the one decoded (`drop_obu()`, 5.3.1).
    fn is_decoded(&self, obu: &Obu<'_>) -> bool {
        let idc = self.operating_point();
        match obu.layers {
            Some((temporal, spatial))
                if obu.kind != OBU_SEQUENCE_HEADER && obu.kind != OBU_TEMPORAL_DELIMITER =>
            {
                idc == 0 || (idc >> temporal) & 1 != 0 && (idc >> (spatial + 8)) & 1 != 0
            }
            _ => true,
        }
    }

    fn operating_point(&self) -> u32 {
        self.sequence
            .as_ref()
            .and_then(|sequence| sequence.operating_points.first())
            .map_or(0, |point| point.idc)
    }
}

impl Parser for Av1Parser {
    fn parse(&mut self, unit: &[u8], events: &mut VecDeque<Event>) -> Result<(), String> {
        self.unit = Some(Arc::from(unit));
        let mut rest = unit;
        while !rest.is_empty() {
            let obu = next_obu(&mut rest)?;
            if self.is_decoded(&obu) {
                self.obu(&obu, events)?;
            }
            // With one spatial layer every shown frame is output, else the highest layer's (7.18).
            let layers = (self.operating_point() >> 8).count_ones();
            if layers <= 1 {
                events.extend(self.shown.drain(..).map(Event::Show));
            }
        }
        events.extend(self.shown.drain(..).next_back().map(Event::Show));
        Ok(())
    }

    fn finish(&mut self, _events: &mut VecDeque<Event>) {}
}
