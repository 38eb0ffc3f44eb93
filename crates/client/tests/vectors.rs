// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses every stream of the vectors, and compares what would be shown with their MANIFESTs.

use std::path::PathBuf;

use daedalus_client::{Codec, vectors};

/// A row of a MANIFEST.
struct Row {
    path: PathBuf,
    frames: usize,
    width: u32,
    height: u32,
    one_size: bool,
}

/// Returns the rows of `codec`'s MANIFEST; none when the vectors are not there.
fn rows(codec: &str) -> Vec<Row> {
    let Some(folder) = vectors::for_test(codec, "streams are parsed") else {
        return Vec::new();
    };
    std::fs::read_to_string(folder.join("MANIFEST.tsv"))
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("file\t"))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            Row {
                path: folder.join(fields[0]),
                frames: fields[4].parse().unwrap(),
                width: fields[5].parse().unwrap(),
                height: fields[6].parse().unwrap(),
                one_size: fields[10] == "no",
            }
        })
        .collect()
}

/// Parses all streams of `codec` but those of `exceptions`, and returns how many there were.
fn check(codec: &str, exceptions: &[(&str, &str)]) -> usize {
    let rows = rows(codec);
    let mut wrong = Vec::new();
    for row in &rows {
        let name = row.path.to_string_lossy().into_owned();
        let exception = exceptions.iter().find(|(stream, _)| name.ends_with(stream));
        let problem = problem(row);
        match (exception, problem) {
            (None, Some(problem)) => wrong.push(format!("{name}: {problem}")),
            (Some((_, reason)), None) => wrong.push(format!("{name}: no exception any more: {reason}")),
            _ => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} wrong:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
    rows.len()
}

/// Returns what is wrong with the jobs of a stream.
fn problem(row: &Row) -> Option<String> {
    let mut shown = 0;
    let mut sizes = std::collections::HashMap::new();
    let jobs = match daedalus_client::jobs(&row.path) {
        Ok(jobs) => jobs,
        Err(error) => return Some(error.to_string()),
    };
    for job in jobs {
        let job = match job {
            Ok(job) => job,
            Err(error) => return Some(error.to_string()),
        };
        sizes.insert(job.timestamp, (job.visible.width, job.visible.height));
        shown += job.shows.len();
        for picture in &job.shows {
            match sizes.get(picture) {
                None => return Some(format!("picture {picture} is shown and was never decoded")),
                Some(size) if row.one_size && *size != (row.width, row.height) => {
                    return Some(format!("{size:?} visible, not {:?}", (row.width, row.height)));
                }
                Some(_) => {}
            }
        }
    }
    (shown != row.frames).then(|| format!("{shown} pictures shown, not {}", row.frames))
}

#[test]
fn streams_parse() {
    std::thread::scope(|scope| {
        for codec in Codec::ALL {
            scope.spawn(|| check(codec.name(), &[]));
        }
    });
}
