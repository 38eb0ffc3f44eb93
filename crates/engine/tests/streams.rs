// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every stream of the shared vectors as a stateful client gives it: each picture comes out once, in output
//! order, and has the MANIFEST's md5.

mod support;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::Visible;
use daedalus_engine::memory::{Mapping, View};
use daedalus_engine::stateful::{Step, StreamDecoder, StreamPicture};
use daedalus_engine::{Options, Threads};
use daedalus_uapi::codec::{Codec, Stream};
use daedalus_uapi::fourcc;
use md5::{Digest, Md5};
use support::{Capture, ShownPicture};

/// Pixel formats that the device offers.
const FORMATS: [&str; 4] = ["yuv420p", "yuvj420p", "yuv420p10le", "gray"];

/// Returns the columns `file`, `pixfmt`, `raw_md5`, `width` and `height` of a codec's MANIFEST.
fn rows(folder: &Path) -> Result<Vec<[String; 5]>> {
    let text = std::fs::read_to_string(folder.join("MANIFEST.tsv"))?;
    let mut rows = text.lines().filter(|line| !line.starts_with('#'));
    let columns: Vec<_> = rows.next().context("no header")?.split('\t').collect();
    let column = |name| {
        let index = columns.iter().position(|&column| column == name);
        index.with_context(|| format!("no column {name}"))
    };
    let indices = [
        column("file")?,
        column("pixfmt")?,
        column("raw_md5")?,
        column("width")?,
        column("height")?,
    ];
    rows.map(|row| {
        let fields: Vec<_> = row.split('\t').collect();
        let field = |index: usize| {
            fields
                .get(index)
                .map(|&field| field.to_owned())
                .context("short row")
        };
        let mut row = <[String; 5]>::default();
        for (into, index) in row.iter_mut().zip(indices) {
            *into = field(index)?;
        }
        Ok(row)
    })
    .collect()
}

/// Places of a stream that are damaged.
const PLACES: usize = 40;

fn hex(sum: impl AsRef<[u8]>) -> String {
    let mut text = String::new();
    for byte in sum.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn view(bytes: &[u8]) -> Result<View> {
    let mapping = Mapping::anonymous(bytes.len().max(1))?;
    mapping.write(0, bytes)?;
    Ok(View::new(mapping, 0, bytes.len(), 0)?)
}

/// Returns a file as a client puts it into buffers: in pieces of odd sizes where the codec allows that, else
/// in the container's units.
fn units(codec: Codec, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
    if codec.info().stream != Stream::StartCodes {
        let contents = daedalus_client::container::open(bytes)?;
        return Ok(contents.units.collect::<Result<_, _>>()?);
    }
    let (mut rest, mut pieces, mut size) = (&bytes[..], Vec::new(), 1);
    while !rest.is_empty() {
        size = (size * 7 + 13) % 9973 + 1;
        let (piece, tail) = rest.split_at(size.min(rest.len()));
        pieces.push(piece.to_vec());
        rest = tail;
    }
    Ok(pieces)
}

/// Copies a picture out of the decoder as packed planes.
fn planar<T>(picture: &StreamPicture<T>) -> Result<Vec<u8>> {
    let format = picture.format;
    let raw = if format.depth > 8 {
        fourcc::P010
    } else {
        fourcc::NV12
    };
    let capture = Capture::new(raw, format.width, format.height)?;
    picture.write(&capture.raw)?;
    let visible = Visible {
        width: format.width,
        height: format.height,
        ..Visible::default()
    };
    let shown = ShownPicture {
        width: format.width,
        height: format.height,
        bit_depth: format.depth,
        bytes: capture.semi_planar(visible)?,
        exact: !picture.damaged,
    };
    Ok(shown.planar())
}

/// A decoded stream.
struct Decoded {
    /// The md5 of all pictures.
    sum: String,
    /// The md5 of each.
    pictures: Vec<String>,
    /// The numbers of those that are called damaged.
    damaged: Vec<usize>,
}

fn decode(codec: Codec, bytes: Vec<u8>, threads: u32) -> Result<Decoded> {
    let options = Options {
        threads: Threads::Fixed(threads),
        ..Options::default()
    };
    let coded_format = codec.info().stateful_formats[0];
    let mut decoder = StreamDecoder::open(coded_format, &options)?;
    let mut units = units(codec, bytes)?.into_iter().enumerate();
    let (mut sum, mut pictures, mut drained, mut found) = (Md5::new(), Vec::new(), false, None);
    let mut damaged = Vec::new();
    let mut first = None;
    loop {
        match decoder.step() {
            Step::Picture(picture) => {
                let number = pictures.len();
                ensure!(picture.echo.is_some(), "picture {number} belongs to no unit");
                if picture.damaged {
                    damaged.push(number);
                }
                first.get_or_insert(picture.format);
                let planes = planar(&picture)?;
                pictures.push(hex(Md5::digest(&planes)));
                sum.update(planes);
            }
            Step::Hungry => match units.next() {
                Some((index, unit)) => {
                    let format = decoder.feed(&view(&unit)?, index, found.is_none())?;
                    found = found.or(format);
                }
                None => {
                    ensure!(!drained, "hungry after the end");
                    drained = true;
                    decoder.drain();
                }
            },
            Step::Drained => break,
        }
    }
    if let (Some(found), Some(first)) = (found, first) {
        if !found.is_like(&first) {
            println!("{codec}: {found:?} was found, {first:?} came");
        }
    }
    Ok(Decoded {
        sum: hex(sum.finalize()),
        pictures,
        damaged,
    })
}

fn check_all(codec: Codec, threads: u32) -> Result<()> {
    let Some(folder) = daedalus_client::vectors::for_test(codec.name(), "the engine's streams") else {
        return Ok(());
    };
    let only = std::env::var("ENGINE_VECTORS").unwrap_or_default();
    let (mut count, mut failed) = (0, Vec::new());
    for [file, pixfmt, raw_md5, ..] in rows(&folder)? {
        if !FORMATS.contains(&pixfmt.as_str()) || !file.contains(&only) {
            continue;
        }
        count += 1;
        let result = decode(codec, std::fs::read(folder.join(&file))?, threads).and_then(|decoded| {
            if decoded.sum != raw_md5 {
                bail!(
                    "{} pictures, whose sum is {}",
                    decoded.pictures.len(),
                    decoded.sum
                );
            }
            let damaged = decoded.damaged;
            ensure!(damaged.is_empty(), "pictures {damaged:?} are called damaged");
            Ok(())
        });
        if let Err(error) = result {
            println!("FAILED {codec}/{file}: {error:#}");
            failed.push(file);
        }
    }
    println!("{codec}: {} of {count} streams exact", count - failed.len());
    ensure!(failed.is_empty(), "{} of {count} streams failed", failed.len());
    Ok(())
}

#[test]
fn streams_are_exact() -> Result<()> {
    let mut result = Ok(());
    for &codec in Codec::ALL {
        if let Err(error) = check_all(codec, 2) {
            result = Err(error);
        }
    }
    result
}

/// Returns the two shortest streams that have 8 bit and different sizes.
fn of_two_sizes(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for [file, pixfmt, _, width, height] in rows(folder)? {
        if pixfmt == "yuv420p" {
            let path = folder.join(file);
            found.push((path.metadata()?.len(), path, (width, height)));
        }
    }
    found.sort();
    let (_, first, size) = found.first().context("no stream")?;
    let second = found.iter().find(|(.., other)| other != size);
    let (_, second, _) = second.context("all streams have one size")?;
    Ok(vec![std::fs::read(first)?, std::fs::read(second)?])
}

#[test]
fn a_change_of_size_loses_no_picture() -> Result<()> {
    for &codec in Codec::ALL {
        if codec.info().stream != Stream::StartCodes {
            continue;
        }
        let Some(folder) = daedalus_client::vectors::for_test(codec.name(), "changes of size") else {
            continue;
        };
        let streams = of_two_sizes(&folder)?;
        let order = [0, 1, 0, 1];
        let mut pictures = Vec::new();
        for stream in order {
            pictures.extend(decode(codec, streams[stream].clone(), 2)?.pictures);
        }
        let joined = order.map(|stream| streams[stream].clone()).concat();
        let output = decode(codec, joined, 2)?.pictures;
        let wrong = output
            .iter()
            .zip(&pictures)
            .position(|(output, pictures)| output != pictures);
        ensure!(wrong.is_none(), "{codec}: picture {wrong:?} is another one");
        ensure!(
            output.len() == pictures.len(),
            "{codec}: {} pictures, not {}",
            output.len(),
            pictures.len()
        );
    }
    Ok(())
}

/// Overwrites a run of bytes of a stream of fields and frames, in one place after the other. libavcodec does not
/// notice all of that in fields. It notices the same with frame threads.
#[test]
fn frame_threads_report_the_same_damage() -> Result<()> {
    let Some(folder) = daedalus_client::vectors::for_test("h264", "streams of fields are damaged") else {
        return Ok(());
    };
    let sound = std::fs::read(folder.join("JVT-FR-EXT/HCAFF1_HHI.264"))?;
    let (mut noticed, mut missed) = (0, Vec::new());
    for place in 1..PLACES {
        let mut bytes = sound.clone();
        let start = bytes.len() * place / PLACES;
        bytes[start..start + 100].fill(0xff);
        let [one, two] = [1, 2].map(|threads| decode(Codec::H264, bytes.clone(), threads));
        let (one, two) = (one?.damaged, two?.damaged);
        noticed += usize::from(!one.is_empty());
        if one.iter().any(|number| !two.contains(number)) {
            missed.push((place, one, two));
        }
    }
    ensure!(missed.is_empty(), "place, with one thread, with two: {missed:?}");
    ensure!(
        noticed >= PLACES / 3,
        "damage is noticed at {noticed} places only"
    );
    Ok(())
}
