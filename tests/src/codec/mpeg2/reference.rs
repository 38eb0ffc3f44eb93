// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the pictures of libmpeg2's program.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use daedalus_client::Control;
use daedalus_client::raw::Shape;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_MPEG2_PIC_CODING_TYPE_I, V4l2CtrlMpeg2Picture,
};

use crate::codec::clips::Pictures;

const SEQUENCE_END: [u8; 4] = [0, 0, 1, 0xb7];

/// Returns of each picture of a stream, in display order, how many transforms may add up in a sample.
pub(super) fn generations(clip: &Path) -> Result<Vec<u32>> {
    let mut of_picture: HashMap<u64, u32> = HashMap::new();
    let mut shown = Vec::new();
    for job in daedalus_client::jobs(clip)? {
        let job = job?;
        let picture = job.control(V4L2_CID_STATELESS_MPEG2_PICTURE);
        let picture: V4l2CtrlMpeg2Picture = picture.and_then(Control::get).context("no picture control")?;
        let references = match picture.picture_coding_type {
            V4L2_MPEG2_PIC_CODING_TYPE_I => vec![],
            // A second field refers to the first, too.
            _ => vec![picture.forward_ref_ts, picture.backward_ref_ts, job.timestamp],
        };
        let most = references.iter().filter_map(|name| of_picture.get(name)).max();
        let own = 1 + most.copied().unwrap_or_default();
        let frame = of_picture.entry(job.timestamp).or_default();
        *frame = if job.same_capture { own.max(*frame) } else { own };
        for name in &job.shows {
            shown.push(
                *of_picture
                    .get(name)
                    .context("a picture is shown and was not decoded")?,
            );
        }
    }
    Ok(shown)
}

/// Returns the pictures of a stream, in display order, as packed I420 of this shape.
pub(super) fn pictures(clip: &Path, shape: Shape) -> Result<Pictures> {
    let mut stream = std::fs::read(clip).with_context(|| format!("cannot read {}", clip.display()))?;
    // Without it libmpeg2 keeps the last pictures.
    stream.extend(SEQUENCE_END);
    let mut child = Command::new("mpeg2dec")
        .args(["-o", "pgmpipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start mpeg2dec")?;
    let mut input = child.stdin.take().context("mpeg2dec has no input")?;
    // If it does not take all, its pictures tell.
    std::thread::spawn(move || input.write_all(&stream));
    let out = child.stdout.take().context("mpeg2dec has no output")?;
    Ok(Box::new(Maps {
        child,
        out: BufReader::with_capacity(1 << 20, out),
        shape,
        ended: false,
    }))
}

struct Maps {
    child: Child,
    out: BufReader<ChildStdout>,
    shape: Shape,
    ended: bool,
}

impl Maps {
    /// Reads one picture: a grey map of whole macroblocks, with luma above, and below it Cb beside Cr.
    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        if self.out.fill_buf()?.is_empty() {
            let status = self.child.wait()?;
            ensure!(status.success(), "mpeg2dec failed: {status}");
            return Ok(None);
        }
        ensure!(self.word()? == "P5", "mpeg2dec wrote no grey map");
        let (width, lines) = (self.number()?, self.number()?);
        ensure!(self.number()? == 255, "the map has other samples");
        let height = lines / 3 * 2;
        let Shape {
            width: shown_width,
            height: shown_height,
            ..
        } = self.shape;
        ensure!(
            width >= shown_width && height >= shown_height,
            "mpeg2dec decodes {width}x{height}"
        );
        let mut map = vec![0; width * lines];
        self.out
            .read_exact(&mut map)
            .context("the last picture is cut off")?;
        let (luma, chroma) = map.split_at(width * height);
        let mut packed = Vec::with_capacity(self.shape.packed_len());
        for line in luma.chunks_exact(width).take(shown_height) {
            packed.extend_from_slice(&line[..shown_width]);
        }
        for start in [0, width / 2] {
            for line in chroma.chunks_exact(width).take(shown_height.div_ceil(2)) {
                packed.extend_from_slice(&line[start..start + shown_width.div_ceil(2)]);
            }
        }
        Ok(Some(packed))
    }

    /// Reads a word and the blank behind it.
    fn word(&mut self) -> Result<String> {
        let mut word = String::new();
        loop {
            let mut byte = [0];
            self.out.read_exact(&mut byte)?;
            match byte[0] {
                byte if !byte.is_ascii_whitespace() => word.push(byte.into()),
                _ if word.is_empty() => {}
                _ => return Ok(word),
            }
        }
    }

    fn number(&mut self) -> Result<usize> {
        let word = self.word()?;
        word.parse()
            .with_context(|| format!("'{word}' in a grey map's header"))
    }
}

impl Iterator for Maps {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let picture = self.read().transpose();
        self.ended = !matches!(picture, Some(Ok(_)));
        picture
    }
}

impl Drop for Maps {
    fn drop(&mut self) {
        // If the reader stops early, the program must not wait for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
