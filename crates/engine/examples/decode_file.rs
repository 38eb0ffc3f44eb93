// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes a file by the engine alone, with no kernel module: `decode_file IN [OUT] [FRAMES]`.
//!
//! IN is a stream that the tests' client reads. OUT gets the shown pictures as NV12 (8 bit) or P010 (10 bit)
//! without padding, one after the other, in display order. Without OUT the pictures are only counted and
//! timed. One line of JSON on stdout describes the result, with the codec's title:
//! `{"codec":"…","width":352,"height":288,"pixel_format":"NV12","frames":10,"exact":10,"seconds":0.05}`

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use daedalus_engine::Options;
use daedalus_uapi::fourcc;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let input = PathBuf::from(args.next().context("usage: decode_file IN [OUT] [FRAMES]")?);
    let mut output = match args.next() {
        Some(path) => Some(BufWriter::new(
            File::create(&path).with_context(|| format!("{path:?}"))?,
        )),
        None => None,
    };
    let limit = match args.next() {
        Some(frames) => frames
            .to_str()
            .context("FRAMES")?
            .parse()
            .context("FRAMES is no number")?,
        None => usize::MAX,
    };
    let codec = daedalus_client::jobs(&input)?.codec().title();
    let (mut width, mut height, mut bit_depth, mut exact) = (0, 0, 8, 0);
    let start = Instant::now();
    let frames = support::decode_file(&input, &Options::default(), fourcc::NV12, limit, |picture| {
        (width, height, bit_depth) = (picture.width, picture.height, picture.bit_depth);
        exact += usize::from(picture.exact);
        if let Some(output) = &mut output {
            output.write_all(&picture.bytes)?;
        }
        Ok(())
    })?;
    if let Some(mut output) = output {
        output.flush()?;
    }
    let format = if bit_depth > 8 { "P010" } else { "NV12" };
    println!(
        "{{\"codec\":\"{codec}\",\"width\":{width},\"height\":{height},\"pixel_format\":\"{format}\",\
         \"frames\":{frames},\"exact\":{exact},\"seconds\":{:.3}}}",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
