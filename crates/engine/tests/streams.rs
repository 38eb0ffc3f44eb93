// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every stream of the shared vectors as a stateful client gives it: each picture comes out once, in output
//! order, and has the MANIFEST's md5.

#[path = "support/decoded.rs"]
mod decoded;
mod support;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use daedalus_uapi::codec::{Codec, Stream};
use decoded::decode;

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
