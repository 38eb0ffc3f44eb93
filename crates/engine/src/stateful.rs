// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes streams: units of coded data in, pictures in output order out.
//!
//! A unit is what a client put into one buffer. For some codecs it may be any piece of the stream. Pictures
//! are decoded into private memory and copied into the client's buffers at output: one picture may be shown
//! twice, pictures of an old size may be references of a new one, and a client may write to a buffer as soon
//! as it has it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use daedalus_uapi::codec::Codec;

use crate::capture::{Lines, Target};
use crate::codecs;
use crate::error::{EngineError, JobError};
use crate::frames::Frame;
use crate::job::RawPicture;
use crate::libav::stream::Parser;
use crate::memory::View;
use crate::options::Options;
use crate::payload::{self, Packet, PacketBuilder};
use crate::stream_codec::{Nal, StreamCodec};
use crate::stream_library::{Colour, Output, PictureFormat, ReceiveResult, SendResult, StreamLibrary};

/// Access units whose echo is kept. libavcodec may hold back a picture for as long as the pictures after a
/// broken link precede it in order count.
const ECHOES: usize = 1024;
/// Most bytes of parameter sets that are remembered.
pub const HEADERS: usize = 8192;
/// Packets that the library may lose in a row before it is asked for no more output.
const MOST_LOST: u32 = 64;
/// Most bytes of access units that are kept for going on after a drain.
const RECENT: usize = 8 << 20;
/// Time that decoding them again may take. The module's watchdog sees no progress meanwhile.
const CATCHING_UP: Duration = Duration::from_millis(300);
/// The tag of access units that are decoded again: their pictures came out before.
const AGAIN: u64 = 0;

/// The format of a stream's pictures. Colours are numbers of V4L2; 0 is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFormat {
    /// Luma samples per line that are shown.
    pub width: u32,
    /// Lines that are shown.
    pub height: u32,
    /// Luma samples per line that are decoded.
    pub coded_width: u32,
    /// Lines that are decoded.
    pub coded_height: u32,
    /// Bits of a sample.
    pub depth: u8,
    /// `V4L2_COLORSPACE_*`.
    pub colorspace: u32,
    /// `V4L2_XFER_FUNC_*`.
    pub xfer_func: u32,
    /// `V4L2_YCBCR_ENC_*`.
    pub ycbcr_enc: u32,
    /// `V4L2_QUANTIZATION_*`.
    pub quantization: u32,
}

impl StreamFormat {
    /// Returns whether pictures of both formats go into the same buffers.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (self.width, self.height, self.depth) == (other.width, other.height, other.depth)
    }

    fn of_picture(format: PictureFormat) -> Self {
        Self {
            width: format.size.0,
            height: format.size.1,
            coded_width: format.coded.0.max(format.size.0),
            coded_height: format.coded.1.max(format.size.1),
            depth: format.depth,
            ..Self::default()
        }
    }

    fn of_output(output: &Output) -> Self {
        let layout = &output.frame.layout;
        let format = PictureFormat {
            size: (layout.width, layout.height),
            coded: output.coded,
            depth: layout.depth,
            interlaced: false,
        };
        Self::of_picture(format).with_colour(output.colour)
    }

    /// Translates ITU-T H.273 into `linux/videodev2.h`.
    fn with_colour(self, colour: Colour) -> Self {
        let colorspace = match colour.primaries {
            1 => 3,
            4 => 5,
            5 => 6,
            6 => 1,
            7 => 2,
            9 => 10,
            11 | 12 => 12,
            _ => 0,
        };
        let xfer_func = match colour.transfer {
            1 | 6 | 14 | 15 => 1,
            13 => 2,
            7 => 4,
            8 => 5,
            16 => 7,
            _ => 0,
        };
        let ycbcr_enc = match colour.matrix {
            5 | 6 => 1,
            1 => 2,
            9 => 6,
            10 => 7,
            7 => 8,
            _ => 0,
        };
        Self {
            colorspace,
            xfer_func,
            ycbcr_enc,
            quantization: if colour.full_range { 1 } else { 2 },
            ..self
        }
    }
}

/// A decoded picture, with the echo of the unit in which its data begins.
#[derive(Debug)]
pub struct StreamPicture<T> {
    /// The picture's format.
    pub format: StreamFormat,
    /// The unit's echo; `None` if the decoder did not say which unit it was.
    pub echo: Option<T>,
    /// The picture is not exact.
    pub damaged: bool,
    frame: Frame,
}

impl<T> StreamPicture<T> {
    /// Copies the picture into a CAPTURE buffer.
    ///
    /// # Errors
    /// [`JobError`] if it does not go into the buffer.
    pub fn write(&self, raw: &RawPicture) -> Result<(), JobError> {
        Target::of(raw)?.write(&self.frame, Lines::All)
    }
}

/// The result of a step.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time, and most are pictures"
)]
pub enum Step<T> {
    /// The next picture in output order.
    Picture(StreamPicture<T>),
    /// The decoder wants a unit first.
    Hungry,
    /// Every picture has come out after [`StreamDecoder::drain`]. The stream may go on, or another begin.
    Drained,
}

/// An access unit that the library has not got.
struct AccessUnit {
    packet: Packet,
    tag: u64,
    /// All pictures of earlier ones come out first.
    renews: bool,
}

/// The access units from the last one on with which decoding may begin.
#[derive(Default)]
struct RecentUnits {
    packets: Vec<Packet>,
    bytes: usize,
}

impl RecentUnits {
    /// Adds an access unit that the library has got.
    fn add(&mut self, packet: Packet, is_key: bool) {
        if is_key {
            *self = Self::default();
        } else if self.packets.is_empty() {
            return;
        }
        self.bytes += packet.data().len();
        self.packets.push(packet);
        if self.bytes > RECENT {
            *self = Self::default();
        }
    }
}

/// A decoder of a stream. `T` is what a picture inherits from its unit.
pub struct StreamDecoder<T> {
    codec: StreamCodec,
    library: Box<dyn StreamLibrary>,
    /// Splits the stream into access units.
    splitter: Option<Parser>,
    /// Bytes that the splitter got.
    split: u64,
    /// The units in which the present access unit may begin: offset of the first byte, echo.
    units: VecDeque<(u64, T)>,
    /// Access units that the library has not got.
    pending: VecDeque<AccessUnit>,
    /// The properties of the last sequence, as [`StreamCodec::sequence`] reads them.
    sequence: Option<u64>,
    /// The library was told the end of a sequence: another one follows.
    renewing: bool,
    /// The tags that were given out and are remembered, with their echoes.
    echoes: VecDeque<(u64, T)>,
    next_tag: u64,
    builder: PacketBuilder,
    options: Options,
    draining: bool,
    /// The library knows that no packet follows.
    ended: bool,
    lost: u32,
    /// For codecs whose library forgets references when it is drained.
    recent: RecentUnits,
    /// The library was drained, and has forgotten the references.
    behind: bool,
    /// The end of the time for decoding access units again.
    deadline: Instant,
    headers: Headers,
    /// What [`StreamDecoder::prime`] got.
    primed: Vec<u8>,
}

/// The parameter sets in force, for a decoder that goes on where this one ends.
#[derive(Debug, Default)]
struct Headers {
    /// Each with its start code, the last one last.
    units: VecDeque<Vec<u8>>,
    changed: bool,
}

impl Headers {
    /// Takes the parameter sets at the beginning of an access unit.
    fn take(&mut self, access_unit: &[u8], nal: fn(&[u8]) -> Nal) {
        const START: [u8; 3] = [0, 0, 1];
        let next = |bytes: &[u8]| bytes.windows(3).position(|window| window == START);
        let mut rest = access_unit;
        while let Some(at) = next(rest) {
            let unit = &rest[at + START.len()..];
            match nal(unit) {
                Nal::Picture => return,
                Nal::Other => {}
                Nal::Header => {
                    let end = next(unit).unwrap_or(unit.len());
                    self.add([&START, &unit[..end]].concat());
                }
            }
            rest = unit;
        }
    }

    fn add(&mut self, mut unit: Vec<u8>) {
        // Trailing zeros belong to the next start code, if to anything.
        while unit.last() == Some(&0) {
            unit.pop();
        }
        if self.units.back() == Some(&unit) {
            return;
        }
        let place = self.units.iter().position(|old| *old == unit);
        if let Some(at) = place {
            self.units.remove(at);
        }
        self.changed |= place.is_none();
        self.units.push_back(unit);
        while self.units.iter().map(Vec::len).sum::<usize>() > HEADERS {
            self.units.pop_front();
        }
    }
}

impl<T: Copy> StreamDecoder<T> {
    /// Opens a decoder of `coded_format`, a `V4L2_PIX_FMT_*` of stateful decoders.
    ///
    /// # Errors
    /// [`EngineError`] if there is none.
    pub fn open(coded_format: u32, options: &Options) -> Result<Self, EngineError> {
        let codec =
            Codec::from_output_format(coded_format).ok_or(EngineError::UnknownFormat(coded_format))?;
        let codec = codecs::stream(codec);
        Ok(Self {
            library: (codec.open)(options.threads.all())?,
            splitter: Self::splitter(&codec)?,
            codec,
            split: 0,
            units: VecDeque::new(),
            pending: VecDeque::new(),
            sequence: None,
            renewing: false,
            echoes: VecDeque::new(),
            next_tag: 0,
            builder: PacketBuilder::default(),
            draining: false,
            ended: false,
            lost: 0,
            recent: RecentUnits::default(),
            behind: false,
            deadline: Instant::now(),
            headers: Headers::default(),
            primed: Vec::new(),
            options: options.clone(),
        })
    }

    fn splitter(codec: &StreamCodec) -> Result<Option<Parser>, EngineError> {
        codec
            .parser
            .filter(|_| codec.bytestream)
            .map(|open| open(false))
            .transpose()
    }

    /// Takes a unit, of which it keeps a copy. Returns the format of its pictures, if `look` is set and the
    /// unit tells.
    ///
    /// # Errors
    /// [`JobError::Payload`] if there is nothing in it.
    pub fn feed(&mut self, coded: &View, echo: T, look: bool) -> Result<Option<StreamFormat>, JobError> {
        payload::append(coded, self.builder.start())?;
        let packet = self.builder.finish();
        let format = if look { self.look(&packet) } else { None };
        if let Some(format) = format.filter(|_| self.next_tag == 0) {
            self.adapt(format);
        }
        self.units.push_back((self.split, echo));
        self.split += packet.data().len() as u64;
        match self.splitter.take() {
            Some(mut splitter) => {
                splitter.parse(Some(&packet), |bytes, offset| self.add(copy_of(bytes), offset));
                self.splitter = Some(splitter);
            }
            None => self.add(packet, self.split - 1),
        }
        Ok(format.map(StreamFormat::of_picture))
    }

    /// Reopens the library's decoder, which has got nothing yet, where the stream needs another one.
    fn adapt(&mut self, format: PictureFormat) {
        if format.interlaced && self.codec.fields_need_one_thread && self.options.threads.all() > 1 {
            match (self.codec.open)(1) {
                Ok(library) => self.library = library,
                Err(error) => tracing::warn!(%error, "the decoder keeps its threads"),
            }
        }
    }

    /// Gives the decoder the parameter sets that an earlier one had, before the first unit.
    pub fn prime(&mut self, headers: &[u8]) {
        self.primed = headers.to_vec();
        self.feed_primed();
    }

    fn feed_primed(&mut self) {
        if self.primed.is_empty() {
            return;
        }
        let Some(mut splitter) = self.splitter.take() else {
            return;
        };
        let packet = copy_of(&self.primed);
        self.split += packet.data().len() as u64;
        splitter.parse(Some(&packet), |bytes, offset| self.add(copy_of(bytes), offset));
        self.splitter = Some(splitter);
    }

    /// Returns the parameter sets in force if they have changed since the last call, at most [`HEADERS`]
    /// bytes.
    pub fn changed_headers(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.headers.changed)
            .then(|| self.headers.units.iter().flatten().copied().collect())
    }

    /// Finds the format of the pictures in a unit.
    fn look(&self, packet: &Packet) -> Option<PictureFormat> {
        match (self.codec.find, self.codec.parser) {
            (Some(find), _) => find(packet.data()),
            (None, Some(open)) => {
                let mut parser = open(true).ok()?;
                parser.parse(Some(packet), |_, _| {});
                parser.format()
            }
            (None, None) => None,
        }
    }

    /// Adds an access unit whose first byte is at `offset` in the stream.
    fn add(&mut self, packet: Packet, offset: u64) {
        while self.units.get(1).is_some_and(|(start, _)| *start <= offset) {
            self.units.pop_front();
        }
        self.next_tag += 1;
        if let Some(nal) = self.codec.nal {
            self.headers.take(packet.data(), nal);
        }
        if let Some((_, echo)) = self.units.front() {
            self.echoes.push_back((self.next_tag, *echo));
        }
        if self.echoes.len() > ECHOES {
            self.echoes.pop_front();
        }
        let sequence = self.codec.sequence.and_then(|read| read(packet.data()));
        let renews = match (sequence, self.sequence) {
            (Some(new), Some(old)) => new != old,
            _ => false,
        };
        self.sequence = sequence.or(self.sequence);
        self.pending.push_back(AccessUnit {
            packet,
            tag: self.next_tag,
            renews,
        });
    }

    /// Has all pictures of the units so far come out. The next unit comes after [`Step::Drained`].
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Advances the decoder until a picture comes out or it needs something.
    pub fn step(&mut self) -> Step<T> {
        loop {
            match self.library.receive() {
                ReceiveResult::Picture(output) => {
                    self.lost = 0;
                    if output.tag == AGAIN {
                        continue;
                    }
                    return Step::Picture(self.picture(output));
                }
                ReceiveResult::Lost(error) => {
                    tracing::debug!(%error, "an access unit is lost");
                    self.lost += 1;
                    if self.lost < MOST_LOST {
                        continue;
                    }
                    self.lost = 0;
                }
                ReceiveResult::Hungry => {}
                ReceiveResult::Ended if self.renewing => {}
                ReceiveResult::Ended => return self.finish_drain(),
            }
            if !self.send() {
                return if self.ended {
                    self.finish_drain()
                } else {
                    Step::Hungry
                };
            }
        }
    }

    /// Gives the library its next packet, or the end. Returns false if there is none.
    fn send(&mut self) -> bool {
        if std::mem::take(&mut self.renewing) {
            self.library.flush();
        }
        if self.pending.is_empty() && self.draining && !self.ended {
            if let Some(mut splitter) = self.splitter.take() {
                splitter.parse(None, |bytes, offset| self.add(copy_of(bytes), offset));
                self.splitter = Some(splitter);
            }
            if self.pending.is_empty() {
                self.library.end();
                self.ended = true;
                return true;
            }
        }
        self.catch_up();
        let Some(mut unit) = self.pending.pop_front() else {
            return false;
        };
        if std::mem::take(&mut unit.renews) {
            self.pending.push_front(unit);
            self.library.end();
            self.renewing = true;
            return true;
        }
        match self.library.send(&unit.packet, unit.tag) {
            SendResult::Taken => {
                if let Some(is_key) = self.codec.key {
                    let key = is_key(unit.packet.data());
                    self.recent.add(unit.packet, key);
                }
            }
            // Output comes first.
            SendResult::Full => self.pending.push_front(unit),
            SendResult::Lost(error) => tracing::debug!(%error, "an access unit is refused"),
        }
        true
    }

    /// Has the library decode again what it has forgotten in a drain, before the next access unit, unless
    /// decoding may begin with that.
    fn catch_up(&mut self) {
        let (Some(next), Some(is_key)) = (self.pending.front(), self.codec.key) else {
            return;
        };
        if std::mem::take(&mut self.behind) {
            let recent = std::mem::take(&mut self.recent);
            if is_key(next.packet.data()) || next.renews {
                return;
            }
            for packet in recent.packets.into_iter().rev() {
                self.pending.push_front(AccessUnit {
                    packet,
                    tag: AGAIN,
                    renews: false,
                });
            }
            self.deadline = Instant::now() + CATCHING_UP;
        } else if next.tag == AGAIN && Instant::now() > self.deadline {
            tracing::debug!("too many pictures since the last key frame");
            self.pending.retain(|unit| unit.tag != AGAIN);
            self.recent = RecentUnits::default();
            self.library.flush();
        }
    }

    fn finish_drain(&mut self) -> Step<T> {
        self.behind = !self.library.resume();
        self.forget();
        Step::Drained
    }

    fn picture(&mut self, output: Output) -> StreamPicture<T> {
        let echo = self.echoes.iter().find(|(tag, _)| *tag == output.tag);
        StreamPicture {
            format: StreamFormat::of_output(&output),
            echo: echo.map(|(_, echo)| *echo),
            damaged: output.damaged,
            frame: output.frame,
        }
    }

    /// Forgets all units and pictures. Parameter sets stay.
    pub fn flush(&mut self) {
        self.library.flush();
        self.recent = RecentUnits::default();
        self.behind = false;
        self.forget();
    }

    fn forget(&mut self) {
        self.pending.clear();
        self.units.clear();
        self.echoes.clear();
        self.split = 0;
        self.draining = false;
        self.ended = false;
        self.renewing = false;
        // The parser keeps a part of an access unit.
        match Self::splitter(&self.codec) {
            Ok(splitter) => self.splitter = splitter,
            Err(error) => tracing::warn!(%error, "the parser cannot be opened anew"),
        }
        // The library has not got these yet.
        if self.next_tag == 0 {
            self.feed_primed();
        }
    }
}

/// Copies an access unit out of a parser's memory.
fn copy_of(bytes: &[u8]) -> Packet {
    let mut builder = PacketBuilder::default();
    builder.start().extend_from_slice(bytes);
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nal(unit: &[u8]) -> Nal {
        match unit.first() {
            Some(7) => Nal::Header,
            Some(1) => Nal::Picture,
            _ => Nal::Other,
        }
    }

    #[test]
    fn the_last_parameter_sets_are_remembered_once() {
        let mut headers = Headers::default();
        headers.take(
            &[
                0, 0, 0, 1, 9, 0, 0, 1, 7, 5, 0, 0, 0, 1, 7, 6, 0, 0, 1, 1, 2, 0, 0, 1, 7, 9,
            ],
            nal,
        );
        assert!(std::mem::take(&mut headers.changed));
        let (a, b) = (vec![0, 0, 1, 7, 5], vec![0, 0, 1, 7, 6]);
        assert!(headers.units.iter().eq([&a, &b]));
        headers.take(&[0, 0, 1, 7, 5, 0, 0, 1, 1], nal);
        assert!(headers.units.iter().eq([&b, &a]) && !headers.changed);
        headers.add(vec![7; HEADERS]);
        assert_eq!(headers.units.len(), 1);
    }

    /// Returns the shortest plain streams of a codec, as access units.
    fn streams(codec: Codec) -> Vec<(String, Vec<Vec<u8>>)> {
        let Some(folder) = daedalus_client::vectors::for_test(codec.name(), "going on after drains") else {
            return Vec::new();
        };
        let text = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
        let mut rows = text.lines().filter(|line| !line.starts_with('#'));
        let columns: Vec<_> = rows.next().unwrap().split('\t').collect();
        let at = |name| columns.iter().position(|&column| column == name).unwrap();
        let [file, frames, pixfmt, order] = ["file", "frames", "pixfmt", "field_order"].map(at);
        let mut files = Vec::new();
        for row in rows {
            let row: Vec<_> = row.split('\t').collect();
            let is_plain = row[pixfmt] == "yuv420p" && row[order] == "progressive";
            if is_plain && row[frames].parse::<u32>().unwrap() >= 12 {
                let path = folder.join(row[file]);
                files.push((path.metadata().unwrap().len(), path));
            }
        }
        files.sort();
        files.truncate(3);
        let named = files.into_iter().map(|(_, path)| {
            let bytes = std::fs::read(&path).unwrap();
            (path.display().to_string(), access_units(codec, bytes))
        });
        named.collect()
    }

    fn access_units(codec: Codec, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let stream = codecs::stream(codec);
        let Some(mut splitter) = StreamDecoder::<()>::splitter(&stream).unwrap() else {
            let contents = daedalus_client::container::open(bytes).unwrap();
            return contents.units.collect::<Result<_, _>>().unwrap();
        };
        let mut units = Vec::new();
        splitter.parse(Some(&copy_of(&bytes)), |unit, _| units.push(unit.to_vec()));
        splitter.parse(None, |unit, _| units.push(unit.to_vec()));
        units
    }

    /// Returns the luma of each picture, in any order, of a stream that is drained behind these access units.
    fn decode(codec: Codec, units: &[Vec<u8>], drains: &[usize]) -> Vec<Vec<u8>> {
        let coded_format = codec.info().stateful_formats[0];
        let mut decoder = StreamDecoder::open(coded_format, &Options::default()).unwrap();
        let (mut pictures, mut next, mut left) = (Vec::new(), 0, drains.to_vec());
        loop {
            match decoder.step() {
                Step::Picture(picture) => pictures.push(luma(&picture)),
                Step::Drained if next == units.len() => break,
                Step::Drained => {}
                Step::Hungry if next == units.len() || left.first() == Some(&next) => {
                    left.retain(|drain| *drain != next);
                    decoder.drain();
                }
                Step::Hungry => {
                    let mapping = crate::memory::Mapping::anonymous(units[next].len()).unwrap();
                    mapping.write(0, &units[next]).unwrap();
                    let view = View::new(mapping, 0, units[next].len(), 0).unwrap();
                    decoder.feed(&view, (), false).unwrap();
                    next += 1;
                }
            }
        }
        pictures.sort();
        pictures
    }

    fn luma(picture: &StreamPicture<()>) -> Vec<u8> {
        let (width, height) = (
            picture.format.width.next_multiple_of(2),
            picture.format.height.next_multiple_of(2),
        );
        let (stride, lines) = (width as usize, height as usize);
        let bytes = stride * lines * 3 / 2;
        let mapping = crate::memory::Mapping::anonymous(bytes).unwrap();
        let raw = RawPicture {
            format: daedalus_uapi::fourcc::NV12,
            width,
            height,
            planes: vec![View::new(mapping.clone(), 0, bytes, stride).unwrap()],
        };
        picture.write(&raw).unwrap();
        let mut luma = vec![0; stride * lines];
        mapping.read(0, &mut luma).unwrap();
        luma
    }

    #[test]
    fn a_stream_goes_on_after_a_drain() {
        let mut wrong = Vec::new();
        for &codec in Codec::ALL {
            for (name, units) in streams(codec) {
                let third = units.len() / 3;
                let whole = decode(codec, &units, &[]);
                assert!(!whole.is_empty());
                let drained = decode(codec, &units, &[third, 2 * third]);
                if drained != whole {
                    wrong.push(format!("{name}: {} of {} pictures", drained.len(), whole.len()));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn colours_are_those_of_v4l2() {
        let format = StreamFormat::default().with_colour(Colour {
            primaries: 9,
            transfer: 16,
            matrix: 9,
            full_range: false,
        });
        assert_eq!(
            (
                format.colorspace,
                format.xfer_func,
                format.ycbcr_enc,
                format.quantization
            ),
            (10, 7, 6, 2)
        );
    }
}
