// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus decode`: a file through the device into a file of pictures.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::raw::Shape;

use crate::output::print_line;
use crate::player::{By, is_wide, one_file, progress, start};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(help = one_file())]
    file: PathBuf,
    /// Where to: .y4m (at 25 frames per second), .nv12 (P010 for 10 bit; no header), .png (one frame)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The frame that a .png shows, from 0
    #[arg(long, default_value_t = 0)]
    frame: u64,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Y4m,
    SemiPlanar,
    Png,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let kind = match args.output.extension().and_then(|end| end.to_str()) {
        Some("y4m") => Kind::Y4m,
        Some("nv12") => Kind::SemiPlanar,
        Some("png") => Kind::Png,
        _ => bail!(
            "{} ends neither in .y4m nor in .nv12 nor in .png",
            args.output.display()
        ),
    };
    let started_at = Instant::now();
    let mut playing = start(&args.file, By::Device)?;
    let file =
        File::create(&args.output).with_context(|| format!("cannot write {}", args.output.display()))?;
    let mut sink = BufWriter::with_capacity(1 << 20, file);
    let bar = progress(&args.file)?;
    let (mut frames, mut written, mut first) = (0_u64, 0_u64, None);
    while let Some((shape, picture)) = playing.next()? {
        let start = *first.get_or_insert(shape);
        match kind {
            Kind::Y4m => {
                ensure!(
                    (start.width, start.height, is_wide(start))
                        == (shape.width, shape.height, is_wide(shape)),
                    "the pictures change their size at frame {frames}, which .y4m cannot hold; use .nv12"
                );
                y4m(&mut sink, shape, picture, frames == 0)?;
                written += 1;
            }
            Kind::SemiPlanar => {
                sink.write_all(picture)?;
                written += 1;
            }
            Kind::Png if frames == args.frame => {
                png(&mut sink, shape, picture)?;
                written += 1;
            }
            Kind::Png => {}
        }
        frames += 1;
        bar.inc(1);
        if kind == Kind::Png && written == 1 {
            break;
        }
    }
    sink.flush()?;
    bar.finish_and_clear();
    ensure!(
        written > 0,
        "{}: no frame {} among {frames}",
        args.file.display(),
        args.frame
    );
    report(
        args,
        frames,
        written,
        &playing.element,
        started_at.elapsed().as_secs_f64(),
    )?;
    Ok(true)
}

fn report(args: &Args, frames: u64, written: u64, element: &str, seconds: f64) -> Result<()> {
    let fps = frames as f64 / seconds;
    if args.json {
        let row = serde_json::json!({
            "file": name(&args.file), "output": name(&args.output), "element": element,
            "frames": frames, "written": written, "seconds": seconds, "fps": fps,
        });
        print_line(row)?;
    } else {
        print_line(format_args!(
            "{}: {written} frames written, {frames} decoded by {element}, {fps:.1} fps",
            name(&args.output)
        ))?;
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn y4m(sink: &mut impl Write, shape: Shape, picture: &[u8], first: bool) -> Result<()> {
    if first {
        let kind = if is_wide(shape) { "420p10" } else { "420" };
        writeln!(
            sink,
            "YUV4MPEG2 W{} H{} F25:1 Ip A0:0 C{kind}",
            shape.width, shape.height
        )?;
    }
    let mut planar = Vec::new();
    shape.planar_from_semi(picture, &mut planar)?;
    sink.write_all(b"FRAME\n")?;
    Ok(sink.write_all(&planar)?)
}

/// Returns the picture in RGB: BT.709 in limited range, which most video of such sizes is.
fn png(sink: &mut impl Write, shape: Shape, picture: &[u8]) -> Result<()> {
    let bytes = if is_wide(shape) { 2 } else { 1 };
    // The upper eight bits.
    let sample = |index: usize| f32::from(picture[index * bytes + bytes - 1]);
    let chroma_row = 2 * shape.width.div_ceil(2);
    let mut pixels = Vec::with_capacity(shape.width * shape.height * 3);
    for y in 0..shape.height {
        for x in 0..shape.width {
            let luma = 1.164 * (sample(y * shape.width + x) - 16.0);
            let pair = shape.width * shape.height + y / 2 * chroma_row + x / 2 * 2;
            let (blue, red) = (sample(pair) - 128.0, sample(pair + 1) - 128.0);
            // A cast to u8 saturates.
            pixels.push((luma + 1.793 * red).round() as u8);
            pixels.push((luma - 0.213 * blue - 0.533 * red).round() as u8);
            pixels.push((luma + 2.112 * blue).round() as u8);
        }
    }
    let mut encoder = ::png::Encoder::new(sink, u32::try_from(shape.width)?, u32::try_from(shape.height)?);
    encoder.set_color(::png::ColorType::Rgb);
    encoder.set_depth(::png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use daedalus_client::raw::RawFormat;

    use super::*;

    const SHAPE: Shape = Shape {
        format: RawFormat::Nv12,
        width: 2,
        height: 2,
    };

    #[test]
    fn a_stream_has_one_header_and_planar_frames() {
        let mut out = Vec::new();
        y4m(&mut out, SHAPE, &[1, 2, 3, 4, 5, 6], true).unwrap();
        y4m(&mut out, SHAPE, &[7, 8, 9, 10, 11, 12], false).unwrap();
        let expected = b"YUV4MPEG2 W2 H2 F25:1 Ip A0:0 C420\nFRAME\n\x01\x02\x03\x04\x05\x06\
            FRAME\n\x07\x08\x09\x0a\x0b\x0c";
        assert_eq!(out, expected);
    }

    #[test]
    fn white_is_white_and_red_is_red() {
        let decoded = |picture: [u8; 6]| {
            let mut out = Vec::new();
            png(&mut out, SHAPE, &picture).unwrap();
            let mut reader = ::png::Decoder::new(out.as_slice()).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size()];
            reader.next_frame(&mut pixels).unwrap();
            pixels[..3].to_vec()
        };
        assert_eq!(decoded([235, 235, 235, 235, 128, 128]), [255, 255, 255]);
        let red = decoded([63, 63, 63, 63, 102, 240]);
        assert!(red[0] > 250 && red[1] < 5 && red[2] < 5, "{red:?}");
    }
}
