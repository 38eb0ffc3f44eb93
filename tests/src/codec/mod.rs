// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tests' table of codecs: a row for each, whose data and functions are in the codec's own folder, and
//! the clips that scenarios play. Nothing else in this crate names a codec.

mod av1;
pub(crate) mod clips;
mod edit;
mod h264;
mod hevc;
mod mpeg2;
pub(crate) mod row;
mod vp8;
mod vp9;

use daedalus_uapi::codec::Codec;

use row::{Name, Row};

/// The codec that scenarios play where it does not matter which.
pub(crate) const USUAL: Codec = Codec::Vp9;
/// Clips of four sizes and every codec, one of them twice.
pub(crate) const FOUR_CLIENTS: [&str; 4] = ["h264-480p", "vp9-360p", "vp9-240p", "av1-qvga"];
/// Clips that are alike in the time that they take.
pub(crate) const STORM: [&str; 4] = ["h264-240p", "vp9-240p", "av1-240p", "h264-qvga"];
/// A clip whose decoder needs much memory.
pub(crate) const HEAVY: &str = "h264-1080p";
/// A clip that is played in every raw format.
pub(crate) const EVERY_FORMAT: &str = "h264-240p";
/// The small clip whose pictures are noise.
pub(crate) const NOISE: &str = "vp9-noise";

/// Returns a codec's row.
pub(crate) fn row(codec: Codec) -> &'static Row {
    match codec {
        Codec::H264 => &h264::ROW,
        Codec::Vp9 => &vp9::ROW,
        Codec::Av1 => &av1::ROW,
        Codec::Vp8 => &vp8::ROW,
        Codec::Mpeg2 => &mpeg2::ROW,
        Codec::Hevc => &hevc::ROW,
    }
}

/// Returns all rows, in the order of the registry.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    Codec::ALL.iter().map(|codec| row(*codec))
}

/// Returns the name of the usual codec's clip of this size.
pub(crate) fn usual(size: &str) -> String {
    format!("{USUAL}-{size}")
}

/// Returns the names of every codec's clip of this size, in the order of the registry.
pub(crate) fn every(size: &str) -> Vec<String> {
    Codec::ALL.iter().map(|codec| format!("{codec}-{size}")).collect()
}

/// Returns every codec, the usual one first.
pub(crate) fn usual_first() -> impl Iterator<Item = Codec> {
    let others = Codec::ALL.iter().copied().filter(|codec| *codec != USUAL);
    std::iter::once(USUAL).chain(others)
}

/// Returns the names of every codec's clip of this size, the usual one first.
pub(crate) fn every_usual_first(size: &str) -> Vec<String> {
    usual_first().map(|codec| format!("{codec}-{size}")).collect()
}

/// Returns the menu controls of every codec, those of the first codec of the registry first.
pub(crate) fn menus() -> Vec<u32> {
    numbers(|row| row.menus)
}

/// Returns the compound controls of every codec.
pub(crate) fn compound_controls() -> Vec<u32> {
    numbers(|row| row.compound)
}

fn numbers(names: fn(&'static Row) -> &'static [Name]) -> Vec<u32> {
    rows().flat_map(names).map(|(number, _)| *number).collect()
}

/// Returns the name of a control of any codec.
pub(crate) fn control_name(number: u64) -> Option<&'static str> {
    rows()
        .flat_map(|row| row.menus.iter().chain(row.compound))
        .find(|(id, _)| u64::from(*id) == number)
        .map(|(_, name)| *name)
}

/// Returns the number of elements of a control with so many bytes. A control that is no array has one.
pub(crate) fn elements(control: u32, bytes: usize) -> u32 {
    let array = rows().filter_map(|row| row.array).find(|(id, _)| *id == control);
    array.map_or(1, |(_, size)| (bytes / size) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_named_after_their_codec() {
        for codec in Codec::ALL {
            let clips = &row(*codec).clips;
            let names = clips.small_clips.iter().map(|clip| clip.name);
            let prefix = format!("{codec}-");
            for name in names.chain(clips.specs.iter().map(|spec| spec.file)) {
                assert!(name.starts_with(&prefix), "{name}");
            }
            let groups = format!("{codec}-groups");
            assert!(clips.small_clips.iter().any(|clip| clip.name == groups));
        }
        assert!(rows().any(|row| row.clips.small_clips.iter().any(|clip| clip.name == NOISE)));
    }

    #[test]
    fn no_two_controls_share_a_number_or_a_name() {
        let mut all: Vec<Name> = rows()
            .flat_map(|row| row.menus.iter().chain(row.compound))
            .copied()
            .collect();
        let count = all.len();
        all.sort_by_key(|(number, _)| *number);
        all.dedup_by_key(|(number, _)| *number);
        all.sort_by_key(|(_, name)| *name);
        all.dedup_by_key(|(_, name)| *name);
        assert_eq!(all.len(), count);
    }
}
