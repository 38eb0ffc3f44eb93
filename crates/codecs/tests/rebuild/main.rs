// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rebuilds every H.264, AV1, MPEG-2 and HEVC stream of the vectors and compares what decoders make of it.
//!
//! The client's parser, which is not the writers', turns a stream into jobs: controls and slice or tile
//! data. The writers turn the jobs back into a stream, and a decoder that knows neither (the `ffmpeg`
//! or `dav1d` program) decodes it. The pictures, in display order and as they are shown, must have the
//! md5 that the vectors' manifest gives for the original stream.
//!
//! Streams that the parser cannot take apart are rows of `exceptions.tsv`, with the reason. A row
//! whose stream is exact after all fails the test, so that no row outlives its reason.
//!
//! An argument selects the streams whose path contains it. Without the vectors nothing is tested, and
//! a line says so.

mod av1;
mod ffmpeg;
mod h264;
mod hevc;
mod mpeg2;
mod vectors;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use vectors::{Vector, exceptions, manifest};

/// A function that rebuilds and decodes a stream, and returns the md5 of its pictures.
type Check = fn(&Vector) -> Result<String, String>;

/// Checks all vectors of a codec and prints one line. Returns the number of failures.
fn run(codec: &str, check: Check, filter: &str) -> usize {
    let Some(folder) = daedalus_client::vectors::for_test(codec, "rebuild") else {
        return 0;
    };
    let vectors = match manifest(&folder) {
        Ok(vectors) => vectors,
        Err(broken) => {
            println!("rebuild {codec}: {broken}");
            return 1;
        }
    };
    let vectors: Vec<_> = vectors.into_iter().filter(|v| v.file.contains(filter)).collect();
    let exceptions = exceptions();
    let next = AtomicUsize::new(0);
    let results = Mutex::new((0usize, 0usize, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                while let Some(vector) = vectors.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = check(vector).and_then(|md5| {
                        if md5 == vector.md5 {
                            Ok(())
                        } else {
                            Err(format!("md5 {md5}, not {}", vector.md5))
                        }
                    });
                    let excepted = exceptions
                        .iter()
                        .any(|file| *file == format!("{codec}/{}", vector.file));
                    let mut results = results.lock().unwrap_or_else(|e| e.into_inner());
                    match (outcome, excepted) {
                        (Ok(()), false) => results.0 += 1,
                        (Err(_), true) => results.1 += 1,
                        (Ok(()), true) => {
                            results
                                .2
                                .push(format!("{}: exact, but a row of exceptions.tsv", vector.file));
                        }
                        (Err(why), false) => results.2.push(format!("{}: {why}", vector.file)),
                    }
                }
            });
        }
    });
    let (exact, excepted, failures) = results.into_inner().unwrap_or_else(|e| e.into_inner());
    println!(
        "rebuild {codec}: {} streams, {exact} exact, {excepted} excepted, {} failed",
        vectors.len(),
        failures.len()
    );
    failures.iter().for_each(|f| println!("  {codec}/{f}"));
    failures.len()
}

fn main() -> ExitCode {
    // The arguments that cargo's own options become are of no use here.
    let filter = std::env::args()
        .skip(1)
        .find(|a| !a.starts_with('-'))
        .unwrap_or_default();
    let rows = exceptions().len();
    let mut failed = run("h264", h264::rebuild, &filter)
        + run("av1", av1::rebuild, &filter)
        + run("mpeg2", mpeg2::rebuild, &filter)
        + run("hevc", hevc::rebuild, &filter);
    println!(
        "rebuild av1: {} key frames shown again",
        av1::RESHOWN.load(Ordering::Relaxed)
    );
    println!(
        "rebuild hevc: {} pictures with new reference picture sets",
        hevc::REWRITTEN.load(Ordering::Relaxed)
    );
    if rows > 3 {
        println!("exceptions.tsv has {rows} rows, more than 3");
        failed += 1;
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
