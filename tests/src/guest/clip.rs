// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams as jobs, and the checksums of their pictures.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::decoder::Picture;
use daedalus_client::raw::hex;
use daedalus_client::{CodedJob, jobs_of};
use daedalus_common::play::Stream;
use daedalus_uapi::codec::Codec;
use md5::{Digest, Md5};

use super::rig::ReturnedPicture;
use crate::codec;

/// Bytes before the first frame of an IVF file.
const IVF_HEADER: usize = 32;

/// The generated clips.
pub(crate) struct Clips {
    dir: PathBuf,
    streams: Vec<Stream>,
}

impl Clips {
    pub(crate) fn load(list: &Path) -> Result<Self> {
        let text = std::fs::read(list).with_context(|| format!("cannot read {}", list.display()))?;
        let streams = serde_json::from_slice(&text).with_context(|| format!("{}", list.display()))?;
        let dir = list.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self { dir, streams })
    }

    /// Returns the names of all clips.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.streams.iter().map(|stream| stream.name.as_str())
    }

    /// The clip `name`.
    pub(crate) fn clip(&self, name: &str) -> Result<Clip> {
        self.repeated(name, 1)
    }

    /// Reads the usual codec's clip of this size.
    ///
    /// # Errors
    ///
    /// As [`Clips::repeated`].
    pub(crate) fn usual(&self, size: &str) -> Result<Clip> {
        self.clip(&codec::usual(size))
    }

    /// Reads every codec's clip of this size, in the order of the registry.
    ///
    /// # Errors
    ///
    /// As [`Clips::repeated`].
    pub(crate) fn every(&self, size: &str) -> Result<Vec<Clip>> {
        codec::every(size).iter().map(|name| self.clip(name)).collect()
    }

    /// Reads every codec's clip of this size, the usual one first.
    ///
    /// # Errors
    ///
    /// As [`Clips::repeated`].
    pub(crate) fn every_usual_first(&self, size: &str) -> Result<Vec<Clip>> {
        let names = codec::every_usual_first(size);
        names.iter().map(|name| self.clip(name)).collect()
    }

    /// Returns the file and the codec of the clip `name`.
    ///
    /// # Errors
    ///
    /// When there is no such clip.
    pub(crate) fn file(&self, name: &str) -> Result<(PathBuf, Codec)> {
        let stream = self.stream(name)?;
        Ok((self.dir.join(&stream.path), stream.codec))
    }

    fn stream(&self, name: &str) -> Result<&Stream> {
        let stream = self.streams.iter().find(|stream| stream.name == name);
        stream.with_context(|| format!("there is no clip {name}"))
    }

    /// Returns the width and height of the clip `name`.
    ///
    /// # Errors
    ///
    /// When there is no such clip.
    pub(crate) fn size(&self, name: &str) -> Result<(usize, usize)> {
        let stream = self.stream(name)?;
        Ok((stream.width, stream.height))
    }

    /// Returns the MD5 of the pictures of the clip `name`, in output order.
    ///
    /// # Errors
    ///
    /// When there is no such clip, or it has no list of checksums.
    pub(crate) fn sums(&self, name: &str) -> Result<Vec<String>> {
        let list = self.stream(name)?.references.first();
        let list = list.with_context(|| format!("{name}: there is no list of checksums"))?;
        let path = self.dir.join(&list.path);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let sums = text.lines().filter_map(|line| line.split_whitespace().next());
        Ok(sums.map(str::to_owned).collect())
    }

    /// Reads the clip `name`, `times` times over: it has a key frame where each repetition begins.
    pub(crate) fn repeated(&self, name: &str, times: usize) -> Result<Clip> {
        let stream = self.stream(name)?;
        let references = stream
            .references
            .iter()
            .map(|reference| self.dir.join(&reference.path));
        Clip::load(name, &self.dir.join(&stream.path), references, times)
    }
}

/// A parsed stream.
pub(crate) struct Clip {
    pub(crate) name: String,
    pub(crate) codec: Codec,
    pub(crate) jobs: Vec<CodedJob>,
    /// The MD5 of the pictures that are shown, by timestamp, in hexadecimal.
    expected: HashMap<u64, String>,
}

impl Clip {
    /// Reads the stream at `path`, `times` times over, and the lists of checksums `references`, all of
    /// which must say the same.
    pub(crate) fn load(
        name: &str,
        path: &Path,
        references: impl Iterator<Item = PathBuf>,
        times: usize,
    ) -> Result<Self> {
        let once = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut bytes = once.clone();
        for _ in 1..times {
            let frames = if once.starts_with(b"DKIF") {
                &once[IVF_HEADER..]
            } else {
                &once[..]
            };
            bytes.extend(frames);
        }
        let jobs = jobs_of(bytes)?;
        let codec = jobs.codec();
        let jobs: Vec<CodedJob> = jobs.collect::<Result<_, _>>().with_context(|| name.to_owned())?;
        ensure!(!jobs.is_empty(), "{name} has no job");
        let shown: Vec<u64> = jobs.iter().flat_map(|job| job.shows.iter().copied()).collect();
        let mut expected: HashMap<u64, String> = HashMap::new();
        let mut lists = 0;
        for reference in references {
            lists += 1;
            let text = std::fs::read_to_string(&reference)
                .with_context(|| format!("cannot read {}", reference.display()))?;
            let sums: Vec<&str> = text
                .lines()
                .filter_map(|line| line.split_whitespace().next())
                .collect();
            ensure!(
                sums.len() * times == shown.len(),
                "{name}: {} pictures are shown, {} has {}",
                shown.len(),
                reference.display(),
                sums.len() * times
            );
            for (timestamp, sum) in shown.iter().zip(sums.iter().cycle()) {
                let old = expected.entry(*timestamp).or_insert_with(|| (*sum).to_owned());
                ensure!(
                    old == sum,
                    "{name}: the lists of checksums differ at {timestamp} ns"
                );
            }
        }
        ensure!(lists > 0, "{name}: there is no list of checksums");
        Ok(Self {
            name: name.to_owned(),
            codec,
            jobs,
            expected,
        })
    }

    /// Returns how much later everything has to be for the clip to follow itself, in ns.
    pub(crate) fn period(&self) -> u64 {
        let last = self.jobs.iter().map(|job| job.timestamp).max();
        last.unwrap_or_default() + 1000
    }

    /// Returns the number of the first key frame's job from `job` on.
    pub(crate) fn next_key(&self, job: usize) -> Option<usize> {
        (job..self.jobs.len()).find(|index| self.jobs[*index].key)
    }

    /// Demands that the picture of every job in `range` that is ever shown is there, without error, and
    /// exact. Returns how many those are.
    pub(crate) fn compare(
        &self,
        pictures: &HashMap<u64, Picture>,
        range: std::ops::Range<usize>,
    ) -> Result<usize> {
        let mut count = 0;
        for job in &self.jobs[range] {
            let Some(expected) = self.expected.get(&job.timestamp) else {
                continue;
            };
            let number = job.timestamp / 1000;
            match pictures.get(&job.timestamp) {
                None => bail!("{}: picture {number} did not come back", self.name),
                Some(picture) if picture.error => {
                    bail!("{}: picture {number} came back with the error flag", self.name)
                }
                Some(picture) if hex(&picture.md5) != *expected => {
                    bail!("{}: picture {number} is not exact", self.name)
                }
                Some(_) => count += usize::from(!job.same_capture),
            }
        }
        ensure!(count > 0, "{}: no picture to compare", self.name);
        Ok(count)
    }

    /// Demands that every picture of the clip that is shown is among `returned`, without error, and exact.
    pub(crate) fn compare_packed(&self, returned: &[ReturnedPicture]) -> Result<usize> {
        let pictures = returned.iter().map(|picture| {
            let md5 = Md5::digest(&picture.packed).into();
            let error = picture.error;
            (picture.timestamp, Picture { md5, error })
        });
        if let Some(picture) = returned.iter().find(|picture| picture.error) {
            bail!(
                "{}: picture {} has the error flag",
                self.name,
                picture.timestamp / 1000
            );
        }
        self.compare_all(&pictures.collect())
    }

    /// Demands of a stream whose worker may have been lost at any time that every picture is exact from a key
    /// frame that came back without error up to the next one that has an error. Returns how many were exact.
    pub(crate) fn compare_from_keys(&self, pictures: &HashMap<u64, Picture>) -> Result<usize> {
        let (mut exact, mut lost) = (0, true);
        for job in &self.jobs {
            let Some(picture) = pictures.get(&job.timestamp) else {
                lost = true;
                continue;
            };
            lost = picture.error || (lost && !job.key);
            match self.expected.get(&job.timestamp) {
                Some(expected) if !lost => {
                    if hex(&picture.md5) != *expected {
                        bail!(
                            "{}: picture {} is not exact, and nothing was lost since the last key frame",
                            self.name,
                            job.timestamp / 1000
                        );
                    }
                    exact += usize::from(!job.same_capture);
                }
                _ => {}
            }
        }
        Ok(exact)
    }

    /// Does what [`Clip::compare`] does, for the whole clip.
    pub(crate) fn compare_all(&self, pictures: &HashMap<u64, Picture>) -> Result<usize> {
        self.compare(pictures, 0..self.jobs.len())
    }
}

/// Returns a job as it is when everything before it began `shift` ns later: its own timestamp, and those by
/// which it names other pictures, are later.
pub(crate) fn later(codec: Codec, job: &CodedJob, shift: u64) -> CodedJob {
    let mut job = job.clone();
    let is_intra = job.key;
    job.timestamp += shift;
    for timestamp in job.references.iter_mut().chain(&mut job.shows) {
        *timestamp += shift;
    }
    for control in &mut job.controls {
        (codec::row(codec).shift_references)(control, shift, is_intra);
    }
    job
}
