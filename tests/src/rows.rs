// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The comparison of received pictures with the references, and the row of results that comes of it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use daedalus_client::raw::{Shape, hex, md5_hex};
use md5::{Digest, Md5};

use daedalus_common::play::{Difference, KeptPicture, Row, Stream};

struct Reference {
    name: String,
    sums: Vec<String>,
}

/// The comparison of one stream's pictures, which come in display order.
pub(crate) struct Comparison {
    row: Row,
    references: Vec<Reference>,
    planar_md5: Option<(String, Md5)>,
    planar: Vec<u8>,
    keep: Vec<usize>,
    out: PathBuf,
    start: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Comparison {
    /// Begins with a stream, played by `element` of `client` on `device`; kept pictures go to `out`.
    pub(crate) fn begin(
        stream: &Stream,
        client: &'static str,
        element: &str,
        device: Option<&str>,
        out: &Path,
    ) -> Self {
        Self {
            row: Row {
                name: stream.name.clone(),
                codec: stream.codec,
                client: client.to_owned(),
                element: element.to_owned(),
                device: device.map(str::to_owned),
                width: stream.width,
                height: stream.height,
                expected_frames: stream.frames,
                frames: 0,
                format: None,
                seconds: 0.0,
                fps: None,
                equal: false,
                references: Vec::new(),
                first_difference: None,
                planar_md5_equal: None,
                error: None,
                kept: Vec::new(),
            },
            references: Vec::new(),
            planar_md5: stream.planar_md5.clone().map(|want| (want, Md5::new())),
            planar: Vec::new(),
            keep: stream.keep.clone(),
            out: out.to_owned(),
            start: Instant::now(),
            first: None,
            last: None,
        }
    }

    /// Reads the stream's references; relative paths are relative to `base`.
    ///
    /// # Errors
    ///
    /// When there is nothing to compare with, or one cannot be read or has another number of pictures than
    /// the stream.
    pub(crate) fn load_references(&mut self, stream: &Stream, base: &Path) -> Result<()> {
        ensure!(
            !stream.references.is_empty() || stream.planar_md5.is_some(),
            "no reference to compare with"
        );
        for list in &stream.references {
            let path = base.join(&list.path);
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let sums: Vec<String> = text
                .lines()
                .filter_map(|line| line.split_whitespace().next())
                .map(str::to_owned)
                .collect();
            ensure!(
                sums.len() == stream.frames,
                "{} lists {} pictures, the stream has {}",
                path.display(),
                sums.len(),
                stream.frames
            );
            self.row.references.push(list.name.clone());
            self.references.push(Reference {
                name: list.name.clone(),
                sums,
            });
        }
        Ok(())
    }

    /// Takes the next picture, in the packed semi-planar layout.
    ///
    /// # Errors
    ///
    /// When `data` is not one picture of this shape, or a kept picture cannot be written.
    pub(crate) fn receive(&mut self, shape: Shape, data: &[u8]) -> Result<()> {
        self.last = Some(Instant::now());
        self.first = self.first.or(self.last);
        let sum = md5_hex(data);
        if let Some((_, hash)) = &mut self.planar_md5 {
            shape.planar_from_semi(data, &mut self.planar)?;
            hash.update(&self.planar);
        }
        let frame = self.row.frames;
        for reference in &self.references {
            let want = reference.sums.get(frame);
            if self.row.first_difference.is_none() && want.map(String::as_str) != Some(sum.as_str()) {
                self.row.first_difference = Some(Difference {
                    frame,
                    reference: reference.name.clone(),
                    got: Some(sum.clone()),
                    want: want.cloned(),
                });
            }
        }
        if self.keep.contains(&frame) {
            let layout = shape.format.semi_planar_name();
            let file = format!("{}.{frame}.{}", flat(&self.row.name), layout.to_lowercase());
            fs::write(self.out.join(&file), data).with_context(|| format!("cannot keep {file}"))?;
            self.row.kept.push(KeptPicture {
                file,
                frame,
                width: shape.width,
                height: shape.height,
                layout: layout.to_owned(),
            });
        }
        self.row.frames += 1;
        self.row.width = shape.width;
        self.row.height = shape.height;
        self.row.format = Some(format!("{:?}", shape.format));
        Ok(())
    }

    /// Returns the row, after the client's end.
    pub(crate) fn end(mut self, outcome: Result<()>) -> Row {
        for reference in &self.references {
            if self.row.first_difference.is_none() && self.row.frames < reference.sums.len() {
                self.row.first_difference = Some(Difference {
                    frame: self.row.frames,
                    reference: reference.name.clone(),
                    got: None,
                    want: reference.sums.get(self.row.frames).cloned(),
                });
            }
        }
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let seconds = last.duration_since(first).as_secs_f64();
            if self.row.frames > 1 && seconds > 0.0 {
                self.row.fps = Some((self.row.frames - 1) as f64 / seconds);
            }
        }
        self.row.seconds = self.start.elapsed().as_secs_f64();
        self.row.error = outcome.err().map(|error| format!("{error:#}"));
        let pictures = match self.planar_md5.take() {
            Some((want, hash)) => {
                let equal = hex(&hash.finalize()) == want;
                self.row.planar_md5_equal = Some(equal);
                equal
            }
            None => self.row.first_difference.is_none() && !self.references.is_empty(),
        };
        self.row.equal = self.row.error.is_none() && pictures && self.row.frames == self.row.expected_frames;
        self.row
    }
}

/// Prints a row for people.
pub(crate) fn print(row: &Row) {
    let verdict = if row.equal { "equal" } else { "DIFFERS" };
    let fps = row.fps.map_or_else(|| "-".to_owned(), |f| format!("{f:.1}"));
    println!(
        "{verdict:7} {:4} {}x{} {}/{} frames {fps} fps {:.1} s {}",
        row.codec.name(),
        row.width,
        row.height,
        row.frames,
        row.expected_frames,
        row.seconds,
        row.name
    );
    if let Some(d) = row.first_difference.as_ref().filter(|_| !row.equal) {
        let text = |s: &Option<String>| s.clone().unwrap_or_else(|| "no picture".into());
        println!(
            "        frame {} against {}: got {}, want {}",
            d.frame,
            d.reference,
            text(&d.got),
            text(&d.want)
        );
    }
    if let Some(error) = &row.error {
        println!("        {error}");
    }
}

/// Appends rows to `results.jsonl` as they are made, so that those before a crash are kept.
pub(crate) struct Results(File);

impl Results {
    /// Begins the file in `out`, which is made if missing.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn begin(out: &Path) -> Result<Self> {
        fs::create_dir_all(out)?;
        let path = out.join("results.jsonl");
        Ok(Self(
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?,
        ))
    }

    /// Appends one row.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn push(&mut self, row: &Row) -> Result<()> {
        let line = serde_json::to_string(row)?;
        writeln!(self.0, "{line}").context("cannot write a result")
    }
}

/// Returns a stream's name as a file name.
pub(crate) fn flat(name: &str) -> String {
    name.replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use daedalus_client::raw::RawFormat;
    use daedalus_common::play::ReferenceList;

    const SHAPE: Shape = Shape {
        format: RawFormat::Nv12,
        width: 2,
        height: 2,
    };

    const A: [u8; 6] = [1; 6];
    const B: [u8; 6] = [2; 6];

    fn played(test: &str, pictures: &[[u8; 6]], planar_md5: Option<String>) -> Row {
        let dir = std::env::temp_dir().join(format!("daedalus-rows-{test}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary directory");
        let list = format!("{}  6\n{}  6\n", md5_hex(&A), md5_hex(&B));
        fs::write(dir.join("list"), list).expect("written");
        let stream = Stream {
            name: "s".into(),
            path: "s".into(),
            codec: crate::codec::USUAL,
            format: None,
            width: 2,
            height: 2,
            frames: 2,
            references: vec![ReferenceList {
                name: "ref".into(),
                path: "list".into(),
            }],
            planar_md5,
            keep: Vec::new(),
            converted: false,
            coded: None,
        };
        let mut comparison = Comparison::begin(&stream, "test", "none", None, &dir);
        comparison.load_references(&stream, &dir).expect("two sums");
        for picture in pictures {
            comparison.receive(SHAPE, picture).expect("nothing is kept");
        }
        fs::remove_dir_all(&dir).expect("removed");
        comparison.end(Ok(()))
    }

    #[test]
    fn all_pictures_in_order_are_equal() {
        assert!(played("equal", &[A, B], None).equal);
    }

    #[test]
    fn a_wrong_missing_or_surplus_picture_is_not() {
        let cases = [
            ("swapped", vec![B, A], 0),
            ("missing", vec![A], 1),
            ("surplus", vec![A, B, B], 2),
        ];
        for (name, pictures, frame) in cases {
            let row = played(name, &pictures, None);
            assert!(!row.equal, "{name}");
            assert_eq!(row.first_difference.map(|d| d.frame), Some(frame), "{name}");
        }
    }

    #[test]
    fn nothing_at_all_is_not_equal() {
        assert!(!played("nothing", &[], None).equal);
    }

    #[test]
    fn the_suites_checksum_decides() {
        let sum = |pictures: [[u8; 6]; 2]| Some(md5_hex(&pictures.concat()));
        assert!(played("decides", &[A, B], sum([A, B])).equal);
        assert!(!played("decides-not", &[A, B], sum([B, A])).equal);
        // The list would say that the pictures are swapped.
        assert!(played("decides-for", &[B, A], sum([B, A])).equal);
    }
}
