// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The streams that the published suites lack, as a folder with MANIFEST.tsv of the suites' own form: a table of what
//! they are, by which encoder they are made, and what must be found in them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::proof::{self, Proof};
use super::reference::{self, Pictures};
use super::scene::Scene;
use super::{RATE, encode, set_of};
use crate::picture::{RawFormat, Shape};
use crate::stream::Codec;

/// Arguments of `daedalus-tests generated`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory that holds the generated sets; the set is a subdirectory of it.
    #[arg(long)]
    out: PathBuf,
    /// Only the streams that are made in a minute.
    #[arg(long)]
    small: bool,
}

/// One stream to be made.
pub(super) struct Spec {
    /// File name.
    file: &'static str,
    pub(super) codec: Codec,
    /// Bits per sample.
    pub(super) depth: u8,
    /// Width, height and frames of what is encoded by itself; several parts are joined.
    pub(super) parts: &'static [(usize, usize, usize)],
    /// The encoder and its options.
    encoder: &'static str,
    profile: &'static str,
    /// What parsing it must show.
    pub(super) proofs: &'static [Proof],
    /// Belongs to the small set, too.
    small: bool,
}

impl Spec {
    /// Whether the pictures are of several sizes.
    pub(super) fn size_changes(&self) -> bool {
        self.proofs
            .iter()
            .any(|proof| matches!(proof, Proof::InterResize(_) | Proof::NewSequence(_)))
    }

    /// Number of pictures.
    pub(super) fn frames(&self) -> usize {
        self.parts.iter().map(|part| part.2).sum()
    }

    fn shape(&self, part: usize) -> Shape {
        let (width, height, _) = self.parts[part];
        Shape {
            format: self.planar(),
            width,
            height,
        }
    }

    /// The layout that encoders read and decoders write.
    pub(super) fn planar(&self) -> RawFormat {
        if self.depth == 8 {
            RawFormat::I420
        } else {
            RawFormat::I420Le10
        }
    }
}

/// Constant rate that is far too low: libvpx answers by coding smaller pictures, with no key frame.
const VPX_STARVED: &str = "vpxenc --codec=vp9 --ivf --quiet -y --threads=2 --rt --cpu-used=7 --lag-in-frames=0 \
                           --end-usage=cbr --resize-allowed=1 --buf-sz=600 --buf-initial-sz=400 --buf-optimal-sz=500 \
                           --kf-max-dist=9999 --target-bitrate=30";
/// The same with 10 bit.
const VPX_STARVED_10: &str = "vpxenc --codec=vp9 --profile=2 --bit-depth=10 --input-bit-depth=10 --ivf --quiet -y --threads=2 --rt \
                              --cpu-used=7 --lag-in-frames=0 --end-usage=cbr --resize-allowed=1 --buf-sz=600 \
                              --buf-initial-sz=400 --buf-optimal-sz=500 --kf-max-dist=9999 --target-bitrate=30";
/// libvpx, 10 bit, hidden alternate reference frames.
const VPX_10: &str = "vpxenc --codec=vp9 --profile=2 --bit-depth=10 --input-bit-depth=10 --ivf --quiet -y --threads=2 \
                      --row-mt=1 --tile-columns=2 --good --cpu-used=5 --lag-in-frames=8 --auto-alt-ref=1 \
                      --end-usage=q --cq-level=32";
/// libvpx, 10 bit, fast.
const VPX_10_FAST: &str = "vpxenc --codec=vp9 --profile=2 --bit-depth=10 --input-bit-depth=10 --ivf --quiet -y --threads=2 \
                           --row-mt=1 --tile-columns=3 --rt --passes=1 --cpu-used=7 --end-usage=vbr \
                           --target-bitrate=6000";
/// libvpx with as many tile columns as the width allows.
const VPX_TILES: &str = "vpxenc --codec=vp9 --ivf --quiet -y --threads=2 --row-mt=1 --tile-columns=4 --tile-rows=1 --rt \
                         --passes=1 --cpu-used=7 --end-usage=vbr --target-bitrate=4000";
/// libaom with a new size drawn for every frame, key frames included.
const AOM_RANDOM: &str = "aomenc --ivf --quiet --threads=2 --rt --cpu-used=9 --resize-mode=2 --end-usage=cbr \
                          --target-bitrate=300 --kf-max-dist=9999";
/// SVT-AV1 with sizes that change at given frames, which are not key frames.
const SVT_RESIZE: &str = "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --resize-mode 4 --frame-resz-events 8,16,24 \
                          --frame-resz-kf-denoms 8,8,8 --frame-resz-denoms 16,8,12";
/// The same without pictures that are decoded before they are shown, as real-time senders do it: each is shown at
/// the size that was set last.
const SVT_RESIZE_LIVE: &str = "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --pred-struct 1 --resize-mode 4 \
                               --frame-resz-events 8,16,24 --frame-resz-kf-denoms 8,8,8 --frame-resz-denoms 16,8,12";
/// SVT-AV1 with a superres denominator drawn for every frame.
const SVT_SUPERRES: &str = "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --superres-mode 2";
/// SVT-AV1, film grain estimated from the source and taken out of it.
const SVT_GRAIN: &str =
    "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --film-grain 20 --film-grain-denoise 1";
/// The same, 10 bit.
const SVT_GRAIN_10: &str = "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --input-depth 10 --film-grain 20 \
                            --film-grain-denoise 1";
/// SVT-AV1, 8 bit.
const SVT: &str = "SvtAv1EncApp --preset 11 --crf 50 --progress 0 --lp 2 --tile-columns 1";
/// SVT-AV1, 10 bit.
const SVT_10: &str =
    "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --input-depth 10 --tile-columns 1";
/// x264, 8 bit.
const X264: &str = "x264 --quiet --no-progress --demuxer y4m --preset veryfast --profile high --bframes 3 --b-pyramid normal \
                    --ref 3 --crf 26 --threads 2";
/// x264, 10 bit.
const X264_10: &str = "x264 --quiet --no-progress --demuxer y4m --preset veryfast --profile high10 --output-depth 10 --bframes 3 \
                       --b-pyramid normal --ref 3 --crf 26 --threads 2";

macro_rules! stream {
    ($file:literal, $codec:ident $depth:literal $profile:literal, $parts:expr, $encoder:expr, $proofs:expr, $small:expr) => {
        Spec {
            file: $file,
            codec: Codec::$codec,
            depth: $depth,
            profile: $profile,
            parts: &$parts,
            encoder: $encoder,
            proofs: &$proofs,
            small: $small,
        }
    };
}

#[rustfmt::skip]
const SPECS: [Spec; 24] = [
    stream!("h264-new-sps.h264", H264 8 "High", [(640, 360, 20), (426, 240, 20), (854, 480, 20)], X264, [Proof::NewSequence(2)], true),
    stream!("h264-10bit-360p.h264", H264 10 "High 10", [(640, 360, 20)], X264_10, [], true),
    stream!("vp9-resize-360p.ivf", Vp9 8 "Profile 0", [(640, 360, 120)], VPX_STARVED, [Proof::InterResize(1)], true),
    stream!("vp9-tiles-4.ivf", Vp9 8 "Profile 0", [(1024, 576, 10)], VPX_TILES, [Proof::TileColumns(4)], true),
    stream!("vp9-10bit-360p.ivf", Vp9 10 "Profile 2", [(640, 360, 16)], VPX_10, [], true),
    stream!("av1-resize-random-360p.ivf", Av1 8 "Main", [(640, 360, 24)], AOM_RANDOM, [Proof::InterResize(12)], true),
    stream!("av1-resize-360p.ivf", Av1 8 "Main", [(640, 360, 32)], SVT_RESIZE, [Proof::InterResize(3)], false),
    stream!("av1-resize-live-360p.ivf", Av1 8 "Main", [(640, 360, 32)], SVT_RESIZE_LIVE, [Proof::InterResize(3)], true),
    stream!("av1-superres-360p.ivf", Av1 8 "Main", [(640, 360, 20)], SVT_SUPERRES, [Proof::Superres], true),
    stream!("av1-10bit-360p.ivf", Av1 10 "Main", [(640, 360, 20)], SVT_10, [], true),
    stream!("h264-10bit-720p.h264", H264 10 "High 10", [(1280, 720, 24)], X264_10, [], false),
    stream!("vp9-10bit-720p.ivf", Vp9 10 "Profile 2", [(1280, 720, 20)], VPX_10_FAST, [Proof::TileColumns(4)], false),
    stream!("av1-10bit-720p.ivf", Av1 10 "Main", [(1280, 720, 24)], SVT_10, [], false),
    stream!("h264-10bit-1080p.h264", H264 10 "High 10", [(1920, 1080, 16)], X264_10, [], false),
    stream!("vp9-10bit-1080p.ivf", Vp9 10 "Profile 2", [(1920, 1080, 12)], VPX_10_FAST, [Proof::TileColumns(4)], false),
    stream!("av1-10bit-1080p.ivf", Av1 10 "Main", [(1920, 1080, 16)], SVT_10, [], false),
    stream!("vp9-tiles-8.ivf", Vp9 8 "Profile 0", [(2048, 858, 8)], VPX_TILES, [Proof::TileColumns(8)], false),
    stream!("vp9-10bit-resize-360p.ivf", Vp9 10 "Profile 2", [(640, 360, 120)], VPX_STARVED_10, [Proof::InterResize(1)], false),
    stream!("av1-resize-720p.ivf", Av1 8 "Main", [(1280, 720, 32)], SVT_RESIZE, [Proof::InterResize(3)], false),
    stream!("av1-grain-1080p.ivf", Av1 8 "Main", [(1920, 1080, 12)], SVT_GRAIN, [Proof::FilmGrain], false),
    stream!("av1-10bit-grain-1080p.ivf", Av1 10 "Main", [(1920, 1080, 12)], SVT_GRAIN_10, [Proof::FilmGrain], false),
    stream!("h264-2160p.h264", H264 8 "High", [(3840, 2160, 6)], X264, [], false),
    stream!("vp9-2160p.ivf", Vp9 8 "Profile 0", [(3840, 2160, 6)], VPX_TILES, [Proof::TileColumns(8)], false),
    stream!("av1-2160p.ivf", Av1 8 "Main", [(3840, 2160, 6)], SVT, [], false),
];

/// Makes the set if it is not there yet, and prints its directory on standard output.
///
/// # Errors
///
/// When a program is missing or fails, when two references differ, or when a stream has not what it is there for.
pub(crate) fn run(args: &Args) -> Result<()> {
    let sources = [
        include_str!("generated.rs"),
        include_str!("proof.rs"),
        include_str!("reference.rs"),
        include_str!("scene.rs"),
        if args.small { "small" } else { "all" },
    ];
    let programs: Vec<_> = encode::PROGRAMS
        .into_iter()
        .chain([("aomenc", "--help")])
        .collect();
    let set = set_of(&args.out, &sources, &programs, "MANIFEST.tsv", |dir| {
        generate(dir, args.small)
    })?;
    println!("{}", set.display());
    Ok(())
}

fn generate(dir: &Path, small: bool) -> Result<()> {
    let work = dir.join("work");
    fs::create_dir(&work)?;
    let mut manifest = String::from(
        "# made by daedalus-tests generated; columns and lists as in the published suites' folders\n\
         file\tsuite\tsource\tbytes\tframes\twidth\theight\tpixfmt\tprofile\tfield_order\tsize_changes\traw_md5\t\
         semi_md5\treference\n",
    );
    for spec in SPECS.iter().filter(|spec| spec.small || !small) {
        let began = Instant::now();
        let row = make(spec, dir, &work).with_context(|| spec.file.to_owned())?;
        manifest.push_str(&row);
        eprintln!(
            "{}: made and checked in {:.1} s",
            spec.file,
            began.elapsed().as_secs_f64()
        );
    }
    fs::remove_dir_all(&work)?;
    fs::write(dir.join("MANIFEST.tsv"), manifest)?;
    Ok(())
}

/// Makes one stream with its list; its row of the MANIFEST.
fn make(spec: &Spec, dir: &Path, work: &Path) -> Result<String> {
    let clip = dir.join(spec.file);
    let mut recons = Vec::new();
    let mut joined = Vec::new();
    for (index, part) in spec.parts.iter().enumerate() {
        let source = source(work, *part, spec.depth)?;
        let (coded, recon) = (work.join("part"), work.join(format!("recon-{index}")));
        encode(spec.encoder, &source, &coded, &recon)?;
        joined.extend(fs::read(&coded)?);
        recons.push((recon, spec.shape(index)));
    }
    fs::write(&clip, joined)?;
    let (decoder, first) = match spec.codec {
        Codec::H264 => ("x264-recon", reference::recon(&recons)?),
        Codec::Vp9 => ("vpxdec", reference::frames("vpxdec", spec, &clip, work)?),
        Codec::Av1 => ("aomdec", reference::frames("aomdec", spec, &clip, work)?),
    };
    for (recon, _) in &recons {
        if recon.exists() {
            fs::remove_file(recon)?;
        }
    }
    ensure!(
        first.sums.len() == spec.frames(),
        "{decoder} finds {} frames, not {}",
        first.sums.len(),
        spec.frames()
    );
    let second = reference::ffmpeg(spec, &clip, &first)?;
    if let Some(frame) = (0..first.sums.len()).find(|frame| second.sums.get(*frame) != first.sums.get(*frame))
    {
        anyhow::bail!("{decoder} and ffmpeg do not agree on frame {frame}");
    }
    proof::check(spec, &clip)?;
    let layout = if spec.depth == 8 { "nv12" } else { "p010" };
    let mut list = String::new();
    for (sum, shape) in first.sums.iter().zip(&first.shapes) {
        list.push_str(&format!("{sum}  {}\n", shape.packed_len()));
    }
    fs::write(dir.join(format!("{}.{layout}.frames.md5", spec.file)), list)?;
    Ok(manifest_row(spec, fs::metadata(&clip)?.len(), decoder, &first))
}

fn manifest_row(spec: &Spec, bytes: u64, decoder: &str, pictures: &Pictures) -> String {
    let (width, height, _) = spec.parts[0];
    let cells = [
        spec.file,
        "generated",
        spec.encoder.split(' ').next().unwrap_or_default(),
        &bytes.to_string(),
        &spec.frames().to_string(),
        &width.to_string(),
        &height.to_string(),
        if spec.depth == 8 { "yuv420p" } else { "yuv420p10le" },
        spec.profile,
        if spec.codec == Codec::H264 {
            "progressive"
        } else {
            "None"
        },
        if spec.size_changes() { "yes" } else { "no" },
        &pictures.planar_md5,
        &pictures.semi_md5,
        &format!("{decoder} and ffmpeg agree"),
    ];
    cells.join("\t") + "\n"
}

/// The scene as Y4M; made once for all streams of this size, length and depth.
fn source(work: &Path, (width, height, frames): (usize, usize, usize), depth: u8) -> Result<PathBuf> {
    let path = work.join(format!("{width}x{height}-{frames}-{depth}.y4m"));
    if path.exists() {
        return Ok(path);
    }
    let scene = Scene::new(width, height, frames);
    let mut file = BufWriter::new(File::create(&path)?);
    let colours = if depth == 8 {
        "420jpeg"
    } else {
        "420p10 XYSCSS=420P10"
    };
    writeln!(file, "YUV4MPEG2 W{width} H{height} F{RATE}:1 Ip A1:1 C{colours}")?;
    let mut frame = Vec::new();
    for t in 0..frames {
        frame.clear();
        scene.render(t, &mut frame);
        file.write_all(b"FRAME\n")?;
        if depth == 8 {
            file.write_all(&frame)?;
        } else {
            let wide: Vec<u8> = frame
                .iter()
                .enumerate()
                .flat_map(|(at, sample)| ten_bits(*sample, at, t).to_le_bytes())
                .collect();
            file.write_all(&wide)?;
        }
    }
    file.flush()?;
    Ok(path)
}

/// A sample with two more bits of its own, so that a decoder which loses them is caught.
fn ten_bits(sample: u8, at: usize, t: usize) -> u16 {
    let mixed = (at as u32 ^ (t as u32).rotate_left(17)).wrapping_mul(0x9e37_79b1);
    (u16::from(sample) << 2) | (mixed >> 30) as u16
}

/// Runs an encoder on a Y4M file. `recon` receives x264's reconstruction.
fn encode(encoder: &str, source: &Path, output: &Path, recon: &Path) -> Result<()> {
    let mut words = encoder.split_whitespace();
    let program = words.next().context("no encoder")?;
    let mut command = Command::new(program);
    command.args(words);
    match program {
        "x264" => command
            .arg("--dump-yuv")
            .arg(recon)
            .arg("-o")
            .arg(output)
            .arg(source),
        "SvtAv1EncApp" => command.arg("-b").arg(output).arg("-i").arg(source),
        _ => command.arg("-o").arg(output).arg(source),
    };
    let result = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        result.status.success(),
        "{program} failed ({}): {}",
        result.status,
        String::from_utf8_lossy(&result.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_both_sets_have_every_codec() {
        for (index, spec) in SPECS.iter().enumerate() {
            assert!(SPECS.iter().skip(index + 1).all(|other| other.file != spec.file));
        }
        for codec in Codec::ALL {
            let of = |spec: &&Spec| spec.codec == codec;
            assert!(SPECS.iter().filter(of).any(|spec| spec.small));
            assert!(SPECS.iter().filter(of).any(|spec| spec.depth == 10));
        }
    }

    #[test]
    fn ten_bit_samples_keep_the_eight_and_use_the_two() {
        let low: Vec<u16> = (0..64).map(|at| ten_bits(200, at, 1)).collect();
        assert!(low.iter().all(|sample| sample >> 2 == 200));
        for bits in 0..4 {
            assert!(low.iter().any(|sample| sample & 3 == bits));
        }
    }
}
