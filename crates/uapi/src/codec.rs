// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registry of codecs: names, bits, formats and magic numbers, one row per codec; and their controls.
//!
//! Code outside of a codec's own folder iterates [`Codec::ALL`] and reads rows; it does not name a codec.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use v4l2_controls as controls;

/// Rust mirror of the V4L2 stateless codec controls of `<linux/v4l2-controls.h>`, a file for each codec.
///
/// Field names and meanings are those of the kernel's
/// `Documentation/userspace-api/media/v4l/ext-ctrls-codec-stateless.rst`, which refers in turn to
/// the syntax elements of the codec's specification. C enumerations are `u32` fields, since a value
/// that comes from a client may be none of the enumerators. No structure has implicit padding, so
/// each is [`zerocopy::FromBytes`] and [`zerocopy::IntoBytes`]; the layout is compared with the C
/// header by `tests/layout_v4l2.rs`.
pub mod v4l2_controls {
    mod av1;
    mod base;
    mod h264;
    mod hevc;
    mod mpeg2;
    mod structs;
    mod vp8;
    mod vp9;

    pub use av1::*;
    pub use base::*;
    pub use h264::*;
    pub use hevc::*;
    pub use mpeg2::*;
    pub use structs::{Field, Layout};
    pub use vp8::*;
    pub use vp9::*;

    /// The layouts of all structures, for the comparison with the C header.
    pub const LAYOUTS: &[&[Layout]] = &[
        av1::LAYOUTS,
        h264::LAYOUTS,
        hevc::LAYOUTS,
        mpeg2::LAYOUTS,
        vp8::LAYOUTS,
        vp9::LAYOUTS,
    ];
}

/// Bits of the protocol, as in `include/uapi/linux/daedalus.h`.
pub mod bits {
    /// Bit of `Register::codecs`: H.264.
    pub const CODEC_H264: u32 = 1 << 0;
    /// Bit of `Register::codecs`: VP9.
    pub const CODEC_VP9: u32 = 1 << 1;
    /// Bit of `Register::codecs`: AV1.
    pub const CODEC_AV1: u32 = 1 << 2;
    /// Bit of `Register::codecs`: VP8.
    pub const CODEC_VP8: u32 = 1 << 3;
    /// Bit of `Register::codecs`: MPEG-2.
    pub const CODEC_MPEG2: u32 = 1 << 4;
    /// Bit of `Register::codecs`: HEVC.
    pub const CODEC_HEVC: u32 = 1 << 5;

    /// The codecs that version 1 of the protocol knows.
    pub const CODECS_V1: u32 = CODEC_H264 | CODEC_VP9 | CODEC_AV1;
}

/// The OUTPUT formats of stateless decoders, by their V4L2 names.
pub mod coded_formats {
    use super::pack;

    /// `V4L2_PIX_FMT_H264_SLICE`: parsed H.264 slices, Annex B start codes.
    pub const H264_SLICE: u32 = pack(*b"S264");
    /// `V4L2_PIX_FMT_VP9_FRAME`: one VP9 frame.
    pub const VP9_FRAME: u32 = pack(*b"VP9F");
    /// `V4L2_PIX_FMT_AV1_FRAME`: the tile groups of one AV1 frame.
    pub const AV1_FRAME: u32 = pack(*b"AV1F");
    /// `V4L2_PIX_FMT_VP8_FRAME`: one VP8 frame.
    pub const VP8_FRAME: u32 = pack(*b"VP8F");
    /// `V4L2_PIX_FMT_MPEG2_SLICE`: parsed MPEG-2 slices.
    pub const MPEG2_SLICE: u32 = pack(*b"MG2S");
    /// `V4L2_PIX_FMT_HEVC_SLICE`: parsed HEVC slice segments, Annex B start codes.
    pub const HEVC_SLICE: u32 = pack(*b"S265");
}

/// Packs four characters into a format.
const fn pack(code: [u8; 4]) -> u32 {
    u32::from_le_bytes(code)
}

/// A codec that is decoded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
    /// VP8.
    Vp8,
    /// MPEG-2, ITU-T H.262.
    Mpeg2,
    /// ITU-T H.265.
    Hevc,
}

/// A row of the registry.
#[derive(Debug)]
pub struct CodecInfo {
    /// The codec.
    pub codec: Codec,
    /// Its bit in the protocol's `Register::codecs`.
    pub bit: u32,
    /// The OUTPUT format of a stateless decoder, `V4L2_PIX_FMT_*`.
    pub coded_format: u32,
    /// The OUTPUT formats of stateful decoders, `V4L2_PIX_FMT_*`.
    pub stateful_formats: &'static [u32],
    /// Its name in options, files and logs: lower case, letters and digits.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The control that tells the bit depth of its pictures, `V4L2_CID_STATELESS_*`. A client sets it before
    /// it allocates CAPTURE buffers. 0 if a sample always has 8 bits.
    pub depth_control: u32,
    /// The controls that are arrays, with the bytes of an element.
    pub arrays: &'static [(u32, usize)],
    /// Menus that a client sets once before it streams, with the items that the device has: control and
    /// value.
    pub menus: &'static [(u32, u32)],
    /// The names in an IVF file's header.
    pub ivf: &'static [[u8; 4]],
    /// The names in a Matroska or WebM file's track.
    pub matroska: &'static [&'static str],
    /// The format of its streams without a container.
    pub stream: Stream,
    /// Its name in GStreamer's elements of stateless devices, `v4l2sl…dec`.
    pub gstreamer_name: &'static str,
    /// The media type of its streams in GStreamer.
    pub gstreamer_media: &'static str,
    /// GStreamer's element that parses its streams; `identity` if its decoders parse.
    pub gstreamer_parser: &'static str,
    /// GStreamer's elements that decode it in software, the best first.
    pub gstreamer: &'static [&'static str],
    /// FFmpeg's decoder that decodes it in software.
    pub ffmpeg: &'static str,
    /// Whether its standard leaves the rounding of the inverse transform open. The daemon takes libavcodec's
    /// plain functions, which round alike on every processor. Other programs take those for the processor,
    /// and on arm64 these round differently (libavcodec/aarch64/simple_idct_neon.S).
    pub open_rounding: bool,
    /// The GPUs that decode it by VA-API: names of kernel drivers, each with the name of a VA-API driver.
    ///
    /// nouveau is left out, since it needs firmware that distributions may not ship, and virtio-gpu, whose
    /// host decides what it decodes. Drivers without hardware (vgem, vkms, simpledrm) are left out, and the
    /// VA-API driver on top of V4L2 (v4l2_request), since it may decode by this device.
    pub gpus: &'static [(&'static str, &'static str)],
}

/// The format of a codec's streams without a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// As units behind start codes, `00 00 01`.
    StartCodes,
    /// As open bitstream units, with sizes inside (low overhead) or between them (length-delimited).
    Obus,
    /// Not at all.
    None,
}

/// The registry, in the order of [`Codec`].
pub static CODECS: [CodecInfo; 6] = [
    CodecInfo {
        codec: Codec::H264,
        bit: bits::CODEC_H264,
        coded_format: coded_formats::H264_SLICE,
        stateful_formats: &[pack(*b"H264"), pack(*b"AVC1")],
        name: "h264",
        title: "H.264",
        depth_control: controls::V4L2_CID_STATELESS_H264_SPS,
        arrays: &[],
        menus: &[
            (
                controls::V4L2_CID_STATELESS_H264_DECODE_MODE,
                controls::V4L2_STATELESS_H264_DECODE_MODE_FRAME_BASED,
            ),
            (
                controls::V4L2_CID_STATELESS_H264_START_CODE,
                controls::V4L2_STATELESS_H264_START_CODE_ANNEX_B,
            ),
        ],
        ivf: &[*b"H264", *b"AVC1"],
        // Its units lie in Matroska without start codes, which nobody here reads.
        matroska: &[],
        stream: Stream::StartCodes,
        gstreamer_name: "h264",
        gstreamer_media: "video/x-h264",
        gstreamer_parser: "h264parse",
        gstreamer: &["avdec_h264", "openh264dec"],
        ffmpeg: "h264",
        open_rounding: false,
        // Intel since 2010, AMD in each UVD and VCN.
        gpus: &[
            ("i915", "iHD"),
            ("i915", "i965"),
            ("xe", "iHD"),
            ("amdgpu", "radeonsi"),
            ("radeon", "radeonsi"),
            ("radeon", "r600"),
        ],
    },
    CodecInfo {
        codec: Codec::Vp9,
        bit: bits::CODEC_VP9,
        coded_format: coded_formats::VP9_FRAME,
        stateful_formats: &[pack(*b"VP90")],
        name: "vp9",
        title: "VP9",
        depth_control: controls::V4L2_CID_STATELESS_VP9_FRAME,
        arrays: &[],
        menus: &[],
        ivf: &[*b"VP90"],
        matroska: &["V_VP9"],
        stream: Stream::None,
        gstreamer_name: "vp9",
        gstreamer_media: "video/x-vp9",
        gstreamer_parser: "vp9parse",
        gstreamer: &["avdec_vp9", "vp9dec"],
        ffmpeg: "vp9",
        open_rounding: false,
        // Intel since Kaby Lake. AMD since Raven, whose driver is never radeon.
        gpus: &[
            ("i915", "iHD"),
            ("i915", "i965"),
            ("xe", "iHD"),
            ("amdgpu", "radeonsi"),
        ],
    },
    CodecInfo {
        codec: Codec::Av1,
        bit: bits::CODEC_AV1,
        coded_format: coded_formats::AV1_FRAME,
        stateful_formats: &[pack(*b"AV01")],
        name: "av1",
        title: "AV1",
        depth_control: controls::V4L2_CID_STATELESS_AV1_SEQUENCE,
        arrays: &[(
            controls::V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
            size_of::<controls::V4l2CtrlAv1TileGroupEntry>(),
        )],
        menus: &[],
        ivf: &[*b"AV01"],
        matroska: &["V_AV1"],
        stream: Stream::Obus,
        gstreamer_name: "av1",
        gstreamer_media: "video/x-av1",
        gstreamer_parser: "av1parse",
        gstreamer: &["dav1ddec", "av1dec", "avdec_av1"],
        ffmpeg: "libdav1d",
        open_rounding: false,
        // Intel since Tiger Lake, which i965 does not know. AMD since RDNA 2.
        gpus: &[("i915", "iHD"), ("xe", "iHD"), ("amdgpu", "radeonsi")],
    },
    CodecInfo {
        codec: Codec::Vp8,
        bit: bits::CODEC_VP8,
        coded_format: coded_formats::VP8_FRAME,
        stateful_formats: &[pack(*b"VP80")],
        name: "vp8",
        title: "VP8",
        depth_control: 0,
        arrays: &[],
        menus: &[],
        ivf: &[*b"VP80"],
        matroska: &["V_VP8"],
        stream: Stream::None,
        gstreamer_name: "vp8",
        gstreamer_media: "video/x-vp8",
        gstreamer_parser: "identity",
        gstreamer: &["avdec_vp8", "vp8dec"],
        ffmpeg: "vp8",
        open_rounding: false,
        // Intel from Broadwell to Ice Lake.
        gpus: &[("i915", "iHD"), ("i915", "i965")],
    },
    CodecInfo {
        codec: Codec::Mpeg2,
        bit: bits::CODEC_MPEG2,
        coded_format: coded_formats::MPEG2_SLICE,
        stateful_formats: &[pack(*b"MPG2")],
        name: "mpeg2",
        title: "MPEG-2",
        depth_control: 0,
        arrays: &[],
        menus: &[],
        ivf: &[],
        // Its blocks have start codes, which nobody here looks for.
        matroska: &[],
        stream: Stream::StartCodes,
        gstreamer_name: "mpeg2",
        gstreamer_media: "video/mpeg",
        gstreamer_parser: "mpegvideoparse",
        gstreamer: &["avdec_mpeg2video", "mpeg2dec"],
        ffmpeg: "mpeg2video",
        open_rounding: true,
        // Intel since 2010, AMD in each UVD and in most VCN.
        gpus: &[
            ("i915", "iHD"),
            ("i915", "i965"),
            ("xe", "iHD"),
            ("amdgpu", "radeonsi"),
            ("radeon", "radeonsi"),
            ("radeon", "r600"),
        ],
    },
    CodecInfo {
        codec: Codec::Hevc,
        bit: bits::CODEC_HEVC,
        coded_format: coded_formats::HEVC_SLICE,
        stateful_formats: &[pack(*b"HEVC")],
        name: "hevc",
        title: "HEVC",
        depth_control: controls::V4L2_CID_STATELESS_HEVC_SPS,
        arrays: &[],
        menus: &[
            (
                controls::V4L2_CID_STATELESS_HEVC_DECODE_MODE,
                controls::V4L2_STATELESS_HEVC_DECODE_MODE_FRAME_BASED,
            ),
            (
                controls::V4L2_CID_STATELESS_HEVC_START_CODE,
                controls::V4L2_STATELESS_HEVC_START_CODE_ANNEX_B,
            ),
        ],
        ivf: &[*b"HEVC", *b"H265"],
        // Its units lie in Matroska without start codes, which nobody here reads.
        matroska: &[],
        stream: Stream::StartCodes,
        gstreamer_name: "h265",
        gstreamer_media: "video/x-h265",
        gstreamer_parser: "h265parse",
        gstreamer: &["avdec_h265", "libde265dec"],
        ffmpeg: "hevc",
        open_rounding: false,
        // Intel since Skylake. AMD since Carrizo, whose driver is never radeon.
        gpus: &[
            ("i915", "iHD"),
            ("i915", "i965"),
            ("xe", "iHD"),
            ("amdgpu", "radeonsi"),
        ],
    },
];

/// A name that is no codec's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{name}' is none of {}", names(", "))]
pub struct UnknownCodec {
    /// The name.
    pub name: String,
}

/// Returns the names of all codecs.
fn names(separator: &str) -> String {
    let names: Vec<&str> = Codec::ALL.iter().map(|codec| codec.name()).collect();
    names.join(separator)
}

impl Codec {
    /// Every codec.
    pub const ALL: &'static [Self] = &[
        Self::H264,
        Self::Vp9,
        Self::Av1,
        Self::Vp8,
        Self::Mpeg2,
        Self::Hevc,
    ];

    /// Returns its row of the registry.
    #[must_use]
    pub fn info(self) -> &'static CodecInfo {
        &CODECS[self as usize]
    }

    /// Returns its name in options, files and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Returns its name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.info().title
    }

    /// Returns its bit in the protocol's `Register::codecs`.
    #[must_use]
    pub fn bit(self) -> u32 {
        self.info().bit
    }

    /// Returns the OUTPUT format of a stateless decoder, `V4L2_PIX_FMT_*`.
    #[must_use]
    pub fn coded_format(self) -> u32 {
        self.info().coded_format
    }

    /// Returns the codec with the protocol's bit `bit`.
    #[must_use]
    pub fn from_bit(bit: u32) -> Option<Self> {
        find(|row| row.bit == bit)
    }

    /// Returns the codec of a stateless decoder's OUTPUT format.
    #[must_use]
    pub fn from_coded_format(format: u32) -> Option<Self> {
        find(|row| row.coded_format == format)
    }

    /// Returns the codec of an OUTPUT format of any decoder, stateless or stateful.
    #[must_use]
    pub fn from_output_format(format: u32) -> Option<Self> {
        find(|row| row.coded_format == format || row.stateful_formats.contains(&format))
    }

    /// Returns the codec that an IVF file's header names.
    #[must_use]
    pub fn from_ivf(name: [u8; 4]) -> Option<Self> {
        find(|row| row.ivf.contains(&name))
    }

    /// Returns the codec that a Matroska or WebM file's track names.
    #[must_use]
    pub fn from_matroska(name: &str) -> Option<Self> {
        find(|row| row.matroska.contains(&name))
    }
}

fn find(matches: impl Fn(&CodecInfo) -> bool) -> Option<Codec> {
    CODECS.iter().find(|row| matches(row)).map(|row| row.codec)
}

impl fmt::Display for Codec {
    /// Writes [`Codec::name`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Codec {
    type Err = UnknownCodec;

    /// Reads a [`Codec::name`].
    fn from_str(name: &str) -> Result<Self, UnknownCodec> {
        find(|row| row.name == name).ok_or_else(|| UnknownCodec {
            name: name.to_owned(),
        })
    }
}

/// A set of codecs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "u32", into = "u32"))]
pub struct CodecSet(u32);

impl CodecSet {
    /// The set without a codec.
    pub const EMPTY: Self = Self(0);

    /// Returns the set of every codec.
    #[must_use]
    pub fn all() -> Self {
        Codec::ALL.iter().copied().collect()
    }

    /// Returns the set of the protocol's bits `bits`. Bits of no codec are dropped.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & Self::all().0)
    }

    /// Returns the protocol's bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns whether `codec` is in the set.
    #[must_use]
    pub fn contains(self, codec: Codec) -> bool {
        self.0 & codec.bit() != 0
    }

    /// Returns whether the set has no codec.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds `codec`.
    pub fn insert(&mut self, codec: Codec) {
        self.0 |= codec.bit();
    }

    /// Removes `codec`.
    pub fn remove(&mut self, codec: Codec) {
        self.0 &= !codec.bit();
    }

    /// Returns the codecs that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the codecs that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the codecs that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Iterates the codecs, in the order of the registry.
    pub fn iter(self) -> impl Iterator<Item = Codec> {
        Codec::ALL
            .iter()
            .copied()
            .filter(move |&codec| self.contains(codec))
    }
}

impl From<u32> for CodecSet {
    fn from(bits: u32) -> Self {
        Self::from_bits(bits)
    }
}

impl From<CodecSet> for u32 {
    fn from(set: CodecSet) -> Self {
        set.bits()
    }
}

impl From<Codec> for CodecSet {
    fn from(codec: Codec) -> Self {
        Self(codec.bit())
    }
}

impl Extend<Codec> for CodecSet {
    fn extend<T: IntoIterator<Item = Codec>>(&mut self, codecs: T) {
        codecs.into_iter().for_each(|codec| self.insert(codec));
    }
}

impl FromIterator<Codec> for CodecSet {
    fn from_iter<T: IntoIterator<Item = Codec>>(codecs: T) -> Self {
        let mut set = Self::EMPTY;
        set.extend(codecs);
        set
    }
}

impl fmt::Display for CodecSet {
    /// Writes the names with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Codec::name).collect();
        f.pad(&names.join(","))
    }
}

impl FromStr for CodecSet {
    type Err = UnknownCodec;

    /// Reads names with commas between them, or `all`. Blanks around a name do not count.
    fn from_str(text: &str) -> Result<Self, UnknownCodec> {
        if text.trim() == "all" {
            return Ok(Self::all());
        }
        text.split(',').map(|name| name.trim().parse::<Codec>()).collect()
    }
}

/// Returns the names of the codecs whose bits of the protocol are set in `bits`.
#[must_use]
pub fn bit_names(bits: u32) -> Vec<&'static str> {
    let rows = CODECS.iter().filter(|row| bits & row.bit != 0);
    rows.map(|row| row.name).collect()
}

/// Returns how many elements a value of `bytes` bytes of the control `id` has: 1, unless the control is an
/// array.
#[must_use]
pub fn elements(id: u32, bytes: usize) -> u32 {
    let mut arrays = CODECS.iter().flat_map(|row| row.arrays);
    let element = arrays.find(|(array, _)| *array == id).map(|(_, size)| *size);
    element.map_or(1, |size| u32::try_from(bytes / size).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_the_codecs() {
        assert_eq!(CODECS.len(), Codec::ALL.len());
        for (index, &codec) in Codec::ALL.iter().enumerate() {
            assert_eq!((codec.info().codec, codec as usize), (codec, index));
            assert_eq!(codec.name().parse::<Codec>(), Ok(codec));
            assert_eq!(Codec::from_bit(codec.bit()), Some(codec));
            assert_eq!(Codec::from_coded_format(codec.coded_format()), Some(codec));
        }
        assert_eq!(CodecSet::all().bits() & bits::CODECS_V1, bits::CODECS_V1);
    }

    #[test]
    fn no_two_rows_claim_the_same() {
        let formats = |row: &CodecInfo| [&[row.coded_format], row.stateful_formats].concat();
        for (row, other) in CODECS.iter().zip(&CODECS[1..]) {
            assert_eq!((row.bit & other.bit, row.bit.count_ones()), (0, 1));
            assert!(row.name != other.name && row.title != other.title);
            assert!(formats(row).iter().all(|format| !formats(other).contains(format)));
            assert!(row.ivf.iter().all(|name| !other.ivf.contains(name)));
        }
    }

    #[test]
    fn sets_are_written_as_they_are_read() {
        let set: CodecSet = "av1, h264".parse().unwrap();
        assert_eq!(set.to_string(), "h264,av1");
        assert_eq!(set.iter().collect::<Vec<_>>(), [Codec::H264, Codec::Av1]);
        assert_eq!("all".parse::<CodecSet>(), Ok(CodecSet::all()));
        assert_eq!(CodecSet::from_bits(u32::MAX), CodecSet::all());
        let others = CodecSet::all().difference(set);
        assert!(others.contains(Codec::Vp9) && !others.contains(Codec::Av1));
        assert_eq!(others.union(set), CodecSet::all());
        let list = names(", ");
        let error = "h264,,h263".parse::<CodecSet>().unwrap_err();
        assert_eq!(error.to_string(), format!("'' is none of {list}"));
        let error = "h263".parse::<Codec>().unwrap_err();
        assert_eq!(error.to_string(), format!("'h263' is none of {list}"));
    }

    #[test]
    fn arrays_have_elements() {
        let (id, size) = CODECS.iter().find_map(|row| row.arrays.first()).unwrap();
        assert_eq!(elements(*id, 3 * size), 3);
        assert_eq!(elements(*id, 0), 0);
        assert_eq!(elements(CODECS[0].depth_control, 1000), 1);
    }

    #[test]
    fn every_bit_has_a_name() {
        assert_eq!(
            bit_names(u32::MAX),
            ["h264", "vp9", "av1", "vp8", "mpeg2", "hevc"]
        );
        assert_eq!(bit_names(bits::CODEC_VP9), ["vp9"]);
    }

    #[test]
    fn gpus_decode_what_their_drivers_do() {
        for (kernel, va, codecs) in [
            ("i915", "iHD", "h264,vp9,av1,vp8,mpeg2,hevc"),
            ("i915", "i965", "h264,vp9,vp8,mpeg2,hevc"),
            ("xe", "iHD", "h264,vp9,av1,mpeg2,hevc"),
            ("amdgpu", "radeonsi", "h264,vp9,av1,mpeg2,hevc"),
            ("radeon", "radeonsi", "h264,mpeg2"),
            ("radeon", "r600", "h264,mpeg2"),
        ] {
            let decoded = Codec::ALL.iter().copied();
            let decoded = decoded.filter(|codec| codec.info().gpus.contains(&(kernel, va)));
            assert_eq!(decoded.collect::<CodecSet>().to_string(), codecs, "{kernel} {va}");
        }
    }
}
