// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The streams that the published suites lack, as a folder with MANIFEST.tsv of the suites' own form. Which
//! they are, by which encoder they are made and what must be found in them is in each codec's table.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use daedalus_uapi::codec::Codec;

use super::reference::{self, Pictures};
use super::scene::Scene;
use super::set::{RATE, set_of, sources};
use super::{encode, near, proof};
use crate::codec;
use crate::codec::clips::{ClipRow, Files, Reference, Spec};

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

/// Bytes of an IVF file's header and of each frame's; where the first has the number of frames.
const IVF_HEADER: usize = 32;
const IVF_FRAME_HEADER: usize = 12;
const IVF_FRAMES: usize = 24;

/// A stream of a codec.
type CodecSpec = (Codec, &'static Spec);

/// Returns the streams of every codec.
fn specs() -> impl Iterator<Item = CodecSpec> {
    let of = |codec: Codec| {
        codec::row(codec)
            .clips
            .specs
            .iter()
            .map(move |spec| (codec, spec))
    };
    Codec::ALL.iter().copied().flat_map(of)
}

/// Makes the set if it is not there yet, and prints its directory on standard output.
///
/// # Errors
///
/// When a program is missing or fails, when two references differ, or when a stream has not what it is there
/// for.
pub(crate) fn run(args: &Args) -> Result<()> {
    let sources = sources(&[
        include_str!("generated.rs"),
        include_str!("proof.rs"),
        include_str!("reference.rs"),
        include_str!("encode.rs"),
        include_str!("near.rs"),
        if args.small { "small" } else { "all" },
    ]);
    let set = set_of(&args.out, &sources, &encode::programs(), "MANIFEST.tsv", |dir| {
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
         file\tsuite\tsource\tbytes\tframes\twidth\theight\tpixfmt\tprofile\tfield_order\tsize_changes\t\
         raw_md5\tsemi_md5\treference\n",
    );
    for (codec, spec) in specs().filter(|(_, spec)| spec.small || !small) {
        let start = Instant::now();
        let row = make(codec, spec, dir, &work).with_context(|| spec.file.to_owned())?;
        manifest.push_str(&row);
        eprintln!(
            "{}: made and checked in {:.1} s",
            spec.file,
            start.elapsed().as_secs_f64()
        );
    }
    fs::remove_dir_all(&work)?;
    fs::write(dir.join("MANIFEST.tsv"), manifest)?;
    Ok(())
}

/// Makes one stream with its list, and returns its row of the MANIFEST.
fn make(codec: Codec, spec: &Spec, dir: &Path, work: &Path) -> Result<String> {
    let row = &codec::row(codec).clips;
    let clip = dir.join(spec.file);
    let mut recons = Vec::new();
    let mut coded_parts = Vec::new();
    for (index, part) in spec.parts.iter().enumerate() {
        let (coded, recon) = (work.join("part"), work.join(format!("recon-{index}")));
        match spec.write {
            Some(write) => write(*part, &coded)?,
            None => {
                let source = source(work, *part, spec.encoder.depth)?;
                let files = Files {
                    source: &source,
                    output: &coded,
                    recon: &recon,
                };
                encode::encode(row, spec.encoder.line, &files)?;
            }
        }
        if matches!(row.reference, Reference::Checksums(_)) {
            encode::reconstruct(&coded, &recon, spec.shape(index))?;
        }
        coded_parts.push(fs::read(&coded)?);
        recons.push((recon, spec.shape(index)));
    }
    fs::write(&clip, join(&coded_parts)?)?;
    let decoder = row.reference.name();
    let first = match row.reference {
        Reference::Reconstruction(_) | Reference::Checksums(_) => reference::recon(&recons)?,
        Reference::Decoder(line) => reference::frames(line, spec, &clip, work)?,
        Reference::Near(near) => {
            let compared = near::compare(near, &clip, spec.shape(0))?;
            reference::ffmpeg(spec, &clip, &vec![spec.shape(0); compared.pictures])?
        }
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
    let second = reference::ffmpeg(spec, &clip, &first.shapes)?;
    if let Some(frame) = (0..first.sums.len()).find(|frame| second.sums.get(*frame) != first.sums.get(*frame))
    {
        anyhow::bail!("{decoder} and ffmpeg do not agree on frame {frame}");
    }
    proof::check(spec, &clip)?;
    let layout = if spec.encoder.depth == 8 { "nv12" } else { "p010" };
    let mut list = String::new();
    for (sum, shape) in first.sums.iter().zip(&first.shapes) {
        list.push_str(&format!("{sum}  {}\n", shape.packed_len()));
    }
    fs::write(dir.join(format!("{}.{layout}.frames.md5", spec.file)), list)?;
    Ok(manifest_row(
        row,
        spec,
        fs::metadata(&clip)?.len(),
        decoder,
        &first,
    ))
}

/// Joins the parts of a stream. Of IVF files, the first one's header counts, and pictures are numbered anew.
fn join(parts: &[Vec<u8>]) -> Result<Vec<u8>> {
    let [first, _, ..] = parts else {
        return Ok(parts.concat());
    };
    if !first.starts_with(b"DKIF") {
        return Ok(parts.concat());
    }
    let mut joined = first.get(..IVF_HEADER).context("no IVF header")?.to_vec();
    let mut number = 0u64;
    for part in parts {
        let mut rest = part.get(IVF_HEADER..).context("no IVF header")?;
        while let Some(size) = rest.first_chunk::<4>() {
            let length = IVF_FRAME_HEADER + u32::from_le_bytes(*size) as usize;
            let (frame, behind) = rest.split_at_checked(length).context("an IVF frame is cut off")?;
            joined.extend_from_slice(size);
            joined.extend_from_slice(&number.to_le_bytes());
            joined.extend_from_slice(&frame[IVF_FRAME_HEADER..]);
            number += 1;
            rest = behind;
        }
    }
    let frames = u32::try_from(number).context("too many IVF frames")?;
    joined[IVF_FRAMES..IVF_FRAMES + 4].copy_from_slice(&frames.to_le_bytes());
    Ok(joined)
}

fn manifest_row(row: &ClipRow, spec: &Spec, bytes: u64, decoder: &str, pictures: &Pictures) -> String {
    let (width, height, _) = spec.parts[0];
    let cells = [
        spec.file,
        "generated",
        spec.encoder.line.split(' ').next().unwrap_or_default(),
        &bytes.to_string(),
        &spec.frames().to_string(),
        &width.to_string(),
        &height.to_string(),
        if spec.encoder.depth == 8 {
            "yuv420p"
        } else {
            "yuv420p10le"
        },
        spec.encoder.profile,
        row.field_order,
        if spec.size_changes() { "yes" } else { "no" },
        &pictures.planar_md5,
        &pictures.semi_md5,
        &format!("{decoder} and ffmpeg agree"),
    ];
    cells.join("\t") + "\n"
}

/// Returns the scene as Y4M; it is made once for all streams of this size, length and depth.
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

/// Returns a sample with two more bits of its own, so that a decoder which loses them is caught.
fn ten_bits(sample: u8, at: usize, t: usize) -> u16 {
    let mixed = (at as u32 ^ (t as u32).rotate_left(17)).wrapping_mul(0x9e37_79b1);
    (u16::from(sample) << 2) | (mixed >> 30) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_both_sets_have_every_codec() {
        let all: Vec<CodecSpec> = specs().collect();
        for (index, (_, spec)) in all.iter().enumerate() {
            assert!(
                all.iter()
                    .skip(index + 1)
                    .all(|(_, other)| other.file != spec.file)
            );
        }
        for codec in Codec::ALL {
            let clips = &codec::row(*codec).clips;
            assert!(clips.specs.iter().any(|spec| spec.small));
            let depths = |deep: bool| clips.specs.iter().any(|spec| (spec.encoder.depth == 10) == deep);
            // A codec that has small clips of 10 bit has other streams of 10 bit, too.
            let deep = clips.small_clips.iter().any(|clip| clip.deep);
            assert!(depths(false) && (depths(true) || !deep));
        }
    }

    #[test]
    fn ivf_files_are_joined_frame_by_frame() {
        let file = |frames: &[&[u8]]| {
            let mut bytes = [&b"DKIF"[..], &[0; 28]].concat();
            for frame in frames {
                bytes.extend((frame.len() as u32).to_le_bytes());
                bytes.extend([0; 8]);
                bytes.extend(*frame);
            }
            bytes
        };
        let joined = join(&[file(&[b"one", b""]), file(&[b"three"])]).unwrap();
        let mut due = file(&[b"one", b"", b"three"]);
        due[24] = 3;
        due[32 + 12 + 3 + 4] = 1;
        due[32 + 12 + 3 + 12 + 4] = 2;
        assert_eq!(joined, due);
        let cut = file(&[b"three"]);
        assert!(join(&[cut[..40].to_vec(), cut.clone()]).is_err());
        assert_eq!(join(&[b"a".to_vec(), b"b".to_vec()]).unwrap(), b"ab");
        assert_eq!(join(&[cut[..40].to_vec()]).unwrap(), cut[..40]);
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
