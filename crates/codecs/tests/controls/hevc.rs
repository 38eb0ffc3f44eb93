// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HEVC parameter sets and slice segment headers.
//!
//! An encoder that is drawn writes slice segments which use the SPS's reference picture sets in every way.
//! The writer makes headers of them that use none. cros-codecs, and libavcodec as the `ffmpeg` program, read
//! both: the sets name the same pictures, and everything else is the same, at the same place within bytes.

#[path = "hevc_draw.rs"]
mod draw;

use std::io::Cursor;
use std::path::PathBuf;
use std::process::Command;

use cros_codecs::codec::h265::parser::{Nalu, NaluType, Parser, SliceHeader, Sps};
use daedalus_codecs::hevc::{
    Controls, HevcError, OutputOrder, WriteResult, Writer, write_access_unit_delimiter,
};
use daedalus_uapi::v4l2_controls::*;
use proptest::prelude::*;
use zerocopy::FromBytes;

use crate::Draw;
use draw::{NamedPicture, Picture, Sequence};

/// Returns units behind start codes.
fn stream<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    units
        .into_iter()
        .flat_map(|unit| [&[0, 0, 1], unit].concat())
        .collect()
}

fn nalus(stream: &[u8]) -> Vec<Nalu<'_>> {
    let mut cursor = Cursor::new(stream);
    std::iter::from_fn(|| Nalu::next(&mut cursor).ok()).collect()
}

/// Returns what a picture's segments are rewritten to, with the parameter sets.
fn write(
    writer: &mut Writer,
    sequence: &Sequence,
    picture: &Picture,
) -> Result<(Vec<u8>, WriteResult), HevcError> {
    let payload = stream(picture.segments.iter().map(|(unit, _)| &unit[..]));
    let controls = Controls {
        sps: &sequence.sps,
        pps: &sequence.pps,
        scaling: None,
        params: &picture.params,
    };
    let mut out = Vec::new();
    let written = writer.write(&controls, OutputOrder::Decode, &payload, &mut out)?;
    Ok((out, written))
}

/// A reading of a stream: its SPS, and its slice segments.
struct Reading {
    sps: Sps,
    segments: Vec<SliceHeader>,
}

fn read(stream: &[u8]) -> Result<Reading, String> {
    let mut parser = Parser::default();
    let (mut sps, mut segments) = (None, Vec::new());
    for nalu in nalus(stream) {
        match nalu.header.type_ {
            NaluType::VpsNut => drop(parser.parse_vps(&nalu)?),
            NaluType::SpsNut => sps = Some(parser.parse_sps(&nalu)?.clone()),
            NaluType::PpsNut => drop(parser.parse_pps(&nalu)?),
            _ => segments.push(parser.parse_slice_header(nalu)?.header),
        }
    }
    let sps = sps.ok_or("no SPS")?;
    Ok(Reading { sps, segments })
}

/// Returns a header without its reference picture sets, and without the PPS that it names.
fn without_sets(header: &SliceHeader) -> SliceHeader {
    let none = SliceHeader::default();
    SliceHeader {
        pic_parameter_set_id: none.pic_parameter_set_id,
        short_term_ref_pic_set_sps_flag: none.short_term_ref_pic_set_sps_flag,
        short_term_ref_pic_set: none.short_term_ref_pic_set,
        short_term_ref_pic_set_idx: none.short_term_ref_pic_set_idx,
        num_long_term_sps: none.num_long_term_sps,
        num_long_term_pics: none.num_long_term_pics,
        lt_idx_sps: none.lt_idx_sps,
        poc_lsb_lt: none.poc_lsb_lt,
        used_by_curr_pic_lt: none.used_by_curr_pic_lt,
        delta_poc_msb_present_flag: none.delta_poc_msb_present_flag,
        delta_poc_msb_cycle_lt: none.delta_poc_msb_cycle_lt,
        header_bit_size: none.header_bit_size,
        n_emulation_prevention_bytes: none.n_emulation_prevention_bytes,
        curr_rps_idx: none.curr_rps_idx,
        st_rps_bits: none.st_rps_bits,
        ..header.clone()
    }
}

/// Checks that a side of a set is that of the picture: its pictures that may be read are in their order, with
/// some other count where the client has none; of the others there are those that the client has.
fn same_side(deltas: &[i32], used: &[bool], named: &[NamedPicture]) -> Result<(), TestCaseError> {
    let read: Vec<_> = deltas.iter().zip(used).collect();
    let in_use = read
        .iter()
        .filter(|(_, used)| **used)
        .map(|(delta, _)| i64::from(**delta));
    let named_in_use: Vec<_> = named.iter().filter(|name| name.used).collect();
    prop_assert_eq!(in_use.clone().count(), named_in_use.len());
    for (delta, name) in in_use.zip(named_in_use) {
        let present = named.iter().any(|other| other.present && other.delta == delta);
        prop_assert_eq!(
            delta == name.delta,
            name.present || delta == name.delta,
            "{:?}",
            name
        );
        prop_assert!(name.present || !present, "an invention is a picture");
    }
    let unused = read
        .iter()
        .filter(|(_, used)| !**used)
        .map(|(delta, _)| i64::from(**delta));
    let kept = named
        .iter()
        .filter(|name| !name.used && name.present)
        .map(|name| name.delta);
    prop_assert_eq!(unused.collect::<Vec<_>>(), kept.collect::<Vec<_>>());
    Ok(())
}

/// Returns the long-term pictures of a header: low bits, whether they may be read, and cycle.
fn long_term(header: &SliceHeader) -> Vec<(u32, bool, Option<u32>)> {
    let pictures = 0..usize::from(header.num_long_term_sps + header.num_long_term_pics);
    let cycle = |index: usize| {
        header.delta_poc_msb_present_flag[index].then_some(header.delta_poc_msb_cycle_lt[index])
    };
    pictures
        .map(|index| {
            (
                header.poc_lsb_lt[index],
                header.used_by_curr_pic_lt[index],
                cycle(index),
            )
        })
        .collect()
}

/// Checks that the rewritten header of `old` has the picture's sets.
fn same_sets(
    header: &SliceHeader,
    old: &SliceHeader,
    sequence: &Sequence,
    picture: &Picture,
) -> Result<(), TestCaseError> {
    let set = &header.short_term_ref_pic_set;
    prop_assert!(!header.short_term_ref_pic_set_sps_flag && header.num_long_term_sps == 0);
    let (before, after) = (
        usize::from(set.num_negative_pics),
        usize::from(set.num_positive_pics),
    );
    same_side(
        &set.delta_poc_s0[..before],
        &set.used_by_curr_pic_s0[..before],
        &picture.named[0],
    )?;
    same_side(
        &set.delta_poc_s1[..after],
        &set.used_by_curr_pic_s1[..after],
        &picture.named[1],
    )?;

    if !picture.uses_candidates {
        prop_assert_eq!(long_term(header), long_term(old), "these are copied");
        return Ok(());
    }
    let bits = sequence.sps.log2_max_pic_order_cnt_lsb_minus4 + 4;
    let lsb = i64::from(header.pic_order_cnt_lsb);
    let read: Vec<(bool, Option<i64>)> = long_term(header)
        .into_iter()
        .map(|(low, used, cycle)| {
            let delta = |cycle: u32| i64::from(low) - lsb - (i64::from(cycle) << bits);
            (used, cycle.map(delta))
        })
        .collect();
    let of = |used: bool| {
        read.iter()
            .filter(move |(of, _)| *of == used)
            .map(|(_, delta)| *delta)
    };
    let named = |used: bool| picture.named[2].iter().filter(move |name| name.used == used);
    // Of a picture that the client has not got, there are only some low bits.
    let due = named(true).map(|name| name.present.then_some(name.delta));
    prop_assert_eq!(of(true).collect::<Vec<_>>(), due.collect::<Vec<_>>());
    let mut kept: Vec<_> = of(false).collect();
    let mut due: Vec<_> = named(false)
        .filter(|name| name.present)
        .map(|name| Some(name.delta))
        .collect();
    kept.sort_unstable();
    due.sort_unstable();
    prop_assert_eq!(kept, due);
    Ok(())
}

/// Checks a picture that was rewritten.
fn check(sequence: &Sequence, picture: &Picture) -> Result<usize, TestCaseError> {
    let (rewritten, written) =
        write(&mut Writer::default(), sequence, picture).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert!(written.in_order);
    let units = nalus(&rewritten);
    let segments = &units[3..];
    prop_assert_eq!(segments.len(), picture.segments.len());
    let original_units = picture.segments.iter().map(|(unit, _)| &unit[..]);
    if !picture.uses_sps {
        prop_assert_eq!(written.rewritten, 0);
        for (unit, (original, _)) in segments.iter().zip(&picture.segments) {
            prop_assert_eq!(unit.as_ref(), &original[..]);
        }
    }
    // The encoder's PPS differs from the writer's in the number of extra bits alone.
    let mut pps = Vec::new();
    let without = Sequence::without_sets(sequence);
    let mut plain = picture_without_segments(picture);
    plain.segments.push(first_of_idr(&without));
    let (sets, _) =
        write(&mut Writer::default(), &without, &plain).map_err(|e| TestCaseError::fail(e.to_string()))?;
    pps.extend_from_slice(nalus(&sets)[2].as_ref());
    let sps = sequence.sps_unit();
    let original = stream([&sps[..], &pps].into_iter().chain(original_units));
    let before = read(&original).map_err(TestCaseError::fail)?;
    let after = read(&rewritten).map_err(TestCaseError::fail)?;
    prop_assert_eq!(
        after.sps.num_short_term_ref_pic_sets,
        before.sps.num_short_term_ref_pic_sets
    );
    for (index, (old, new)) in before.segments.iter().zip(&after.segments).enumerate() {
        let (unit, data) = (segments[index].as_ref(), &picture.segments[index].1);
        prop_assert_eq!(&without_sets(new), &without_sets(old));
        prop_assert!(unit.ends_with(data), "the data is another");
        let header = &unit[..unit.len() - data.len()];
        prop_assert_eq!(new.header_bit_size % 8, 0);
        let prevention = new.n_emulation_prevention_bytes as usize;
        prop_assert_eq!(header.len() - prevention, new.header_bit_size as usize / 8);
        prop_assert!(!unit.windows(3).any(|bytes| bytes[..2] == [0, 0] && bytes[2] < 3));
        if picture.uses_sps && !new.dependent_slice_segment_flag {
            same_sets(new, old, sequence, picture)?;
        }
    }
    Ok(picture.segments.len())
}

/// Returns the picture with no segments and no references.
fn picture_without_segments(picture: &Picture) -> Picture {
    Picture {
        params: V4l2CtrlHevcDecodeParams {
            pic_order_cnt_val: picture.params.pic_order_cnt_val,
            ..Default::default()
        },
        named: Default::default(),
        segments: Vec::new(),
        uses_sps: false,
        uses_candidates: false,
    }
}

/// Returns the first segment of an IDR picture, which has no sets.
fn first_of_idr(sequence: &Sequence) -> (Vec<u8>, Vec<u8>) {
    let mut payload = Vec::new();
    let mut w = daedalus_codecs::bits::BitWriter::new(&mut payload);
    w.bits(2, 2);
    w.ue(sequence.pps.pic_parameter_set_id.into());
    w.bits(8, 0xff);
    w.trailing();
    ([vec![0x26, 1], payload].concat(), Vec::new())
}

proptest! {
    #[test]
    fn sets_of_the_sps_become_the_header_s_own(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let draw = &mut Draw::new(&bytes);
        let sequence = Sequence::draw(draw);
        let picture = sequence.picture(draw);
        check(&sequence, &picture)?;
    }

    #[test]
    fn arbitrary_bytes_give_an_error_or_a_picture(
        sps in prop::collection::vec(any::<u8>(), size_of::<V4l2CtrlHevcSps>()),
        pps in prop::collection::vec(any::<u8>(), size_of::<V4l2CtrlHevcPps>()),
        params in prop::collection::vec(any::<u8>(), size_of::<V4l2CtrlHevcDecodeParams>()),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        small in any::<[bool; 3]>(),
    ) {
        let mut sps = V4l2CtrlHevcSps::read_from_bytes(&sps).expect("the size is right");
        let mut pps = V4l2CtrlHevcPps::read_from_bytes(&pps).expect("the size is right");
        let mut params = V4l2CtrlHevcDecodeParams::read_from_bytes(&params).expect("the size is right");
        if small[0] {
            // Most arbitrary bytes are out of range: let the rest be reached.
            let sizes = (sps.pic_width_in_luma_samples, sps.pic_height_in_luma_samples);
            let (sets, pictures, flags) =
                (sps.num_short_term_ref_pic_sets % 65, sps.num_long_term_ref_pics_sps % 33, sps.flags);
            sps = V4l2CtrlHevcSps {
                pic_width_in_luma_samples: sizes.0 % 512 + 8,
                pic_height_in_luma_samples: sizes.1 % 512 + 8,
                log2_diff_max_min_luma_coding_block_size: 2,
                chroma_format_idc: 1,
                num_short_term_ref_pic_sets: sets,
                num_long_term_ref_pics_sps: pictures,
                flags,
                ..Default::default()
            };
        }
        if small[1] {
            pps = V4l2CtrlHevcPps {
                flags: pps.flags,
                column_width_minus1: pps.column_width_minus1,
                ..Default::default()
            };
        }
        if small[2] {
            params.num_active_dpb_entries %= 17;
            for entry in &mut params.dpb {
                entry.pic_order_cnt_val = params.pic_order_cnt_val.wrapping_add(entry.pic_order_cnt_val % 50);
            }
        }
        let controls = Controls { sps: &sps, pps: &pps, scaling: None, params: &params };
        let payload = [&[0, 0, 1, 2, 1, 0x80][..], &payload].concat();
        let mut out = vec![1, 2, 3];
        if Writer::default().write(&controls, OutputOrder::Decode, &payload, &mut out).is_err() {
            prop_assert_eq!(out.len(), 3);
        }
    }
}

/// Bytes that look random.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

/// A line of libavcodec's trace: an element and its value.
type Element = (String, String);

/// Returns the slice segment headers of a stream as libavcodec reads them, without reference picture sets.
fn trace(name: &str, stream: &[u8]) -> Result<Vec<Vec<Element>>, String> {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, stream).map_err(|e| e.to_string())?;
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-v", "verbose", "-f", "hevc", "-i"])
        .arg(&path)
        .args(["-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"])
        .output()
        .map_err(|e| format!("ffmpeg: {e}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let mut segments: Vec<Vec<Element>> = Vec::new();
    let mut inside = false;
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("[trace_headers @ "))
    {
        let Some((_, line)) = line.split_once("] ") else {
            continue;
        };
        if line.contains("Slice Segment Header") {
            segments.push(Vec::new());
            inside = true;
        } else if !line.starts_with(|first: char| first.is_ascii_digit()) {
            inside = false;
        } else if let (true, Some(segment)) = (inside, segments.last_mut()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, name, .., value] = words[..] else { continue };
            segment.push((name.to_owned(), value.to_owned()));
        }
    }
    let of_sets = [
        "slice_pic_parameter_set_id",
        "slice_reserved_flag",
        "short_term_ref_pic_set",
        "inter_ref_pic_set_prediction_flag",
        "delta_idx_minus1",
        "delta_rps_sign",
        "abs_delta_rps_minus1",
        "used_by_curr_pic",
        "use_delta_flag",
        "num_negative_pics",
        "num_positive_pics",
        "delta_poc_",
        "num_long_term",
        "lt_idx_sps",
        "poc_lsb_lt",
    ];
    for segment in &mut segments {
        segment.retain(|(name, _)| !of_sets.iter().any(|set| name.starts_with(set)));
    }
    std::fs::remove_file(&path).map_err(|e| e.to_string())?;
    Ok(segments)
}

/// Pictures that libavcodec reads, unless the variable says how many, and the most of one sequence.
const PICTURES: usize = 300;
const MOST_OF_A_SEQUENCE: usize = 2500;
const PICTURES_VARIABLE: &str = "DAEDALUS_PICTURES";

#[test]
fn libavcodec_reads_the_same() {
    let count = std::env::var(PICTURES_VARIABLE).map_or(PICTURES, |text| text.parse().unwrap());
    let of_sequence = (count / 12).clamp(1, MOST_OF_A_SEQUENCE);
    let sequences = count.div_ceil(of_sequence);
    let (mut pictures, mut rewritten_pictures, mut segments) = (0, 0, 0);
    for seed in (0..).take(sequences) {
        let bytes = noise(seed, 1600 * of_sequence);
        let draw = &mut Draw::new(&bytes);
        let sequence = Sequence::draw(draw);
        let without = Sequence::without_sets(&sequence);
        let (mut original, mut rewritten) = (Vec::new(), Vec::new());
        let mut writer = Writer::default();
        for index in 0..of_sequence {
            let picture = sequence.picture(draw);
            if index == 0 {
                let mut plain = picture_without_segments(&picture);
                plain.segments.push(first_of_idr(&without));
                let (sets, _) = write(&mut Writer::default(), &without, &plain).unwrap();
                let sets = nalus(&sets);
                let sps = sequence.sps_unit();
                original = stream([sets[0].as_ref(), &sps, sets[2].as_ref()]);
            }
            write_access_unit_delimiter(&mut original);
            original.extend(stream(picture.segments.iter().map(|(unit, _)| &unit[..])));
            let (bytes, written) = write(&mut writer, &sequence, &picture).unwrap();
            write_access_unit_delimiter(&mut rewritten);
            rewritten.extend(bytes);
            pictures += 1;
            segments += picture.segments.len();
            rewritten_pictures += usize::from(written.rewritten > 0);
        }
        let old = trace(&format!("original-{seed}.hevc"), &original).unwrap();
        let new = trace(&format!("rewritten-{seed}.hevc"), &rewritten).unwrap();
        assert_eq!(old.len(), new.len(), "seed {seed}");
        for (index, (old, new)) in old.iter().zip(&new).enumerate() {
            assert_eq!(old, new, "seed {seed}, segment {index}");
            assert!(old.len() > 2);
        }
    }
    println!("{pictures} pictures with {segments} segments, {rewritten_pictures} pictures rewritten");
    assert!(
        pictures == sequences * of_sequence
            && 300 * rewritten_pictures > 80 * pictures
            && 300 * segments > 400 * pictures,
        "{rewritten_pictures} {segments}"
    );
}
