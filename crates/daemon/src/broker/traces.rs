// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Creates the files that workers record to. A trace contains a video, so only the user of the broker may
//! read it. Existing files are never written to, and links are never followed.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use daedalus_uapi::codec::Codec;
use daedalus_uapi::protocol::Event;
use rustix::fs::{Mode, OFlags, open, openat};

/// The directory of `--record`, opened once.
#[derive(Debug)]
pub(crate) struct Traces(OwnedFd);

impl Traces {
    /// Opens the directory, which must exist.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(directory, flags, Mode::empty())
            .map(Self)
            .with_context(|| format!("--record {}", directory.display()))
    }

    /// Creates the file for the worker that the event asks for. Returns the file and its name.
    pub(crate) fn create(&self, event: &Event) -> Result<(File, String)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let name = name(event, now.map_or(0, |time| time.as_secs()));
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let fd =
            openat(&self.0, name.as_str(), flags, Mode::RUSR | Mode::WUSR).with_context(|| name.clone())?;
        Ok((File::from(fd), name))
    }
}

/// Returns `TIME-sessionN-CODEC-LOST.trace`: TIME is in UTC, LOST the number of workers that the session has
/// lost.
fn name(event: &Event, seconds: u64) -> String {
    let format = event.coded_format;
    let codec = match Codec::from_coded_format(format) {
        Some(codec) => codec.name().to_owned(),
        None => format!("{format:08x}"),
    };
    let (year, month, day) = date(seconds / 86400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!(
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z-session{}-{codec}-{}.trace",
        event.session, event.restarts
    )
}

/// Returns year, month and day of the day that is so many days after the first of 1970.
fn date(mut day: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    // Bounded, since the clock is the machine's: a few hundred years of a few operations.
    while day >= if leap(year) { 366 } else { 365 } && year < 9999 {
        day -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    const CODEC: Codec = Codec::ALL[0];
    const OTHER: Codec = Codec::ALL[1];

    fn event(coded_format: u32) -> Event {
        Event {
            coded_format,
            session: 7,
            restarts: 2,
            ..Event::default()
        }
    }

    #[test]
    fn names_say_when_and_what() {
        assert_eq!(
            name(&event(CODEC.coded_format()), 0),
            format!("19700101T000000Z-session7-{CODEC}-2.trace")
        );
        assert_eq!(
            name(&event(OTHER.coded_format()), 951_827_696),
            format!("20000229T123456Z-session7-{OTHER}-2.trace")
        );
        assert_eq!(
            name(&event(0x2f2e2e2f), 4_107_542_399),
            "21000228T235959Z-session7-2f2e2e2f-2.trace"
        );
        assert_eq!(date(4_107_542_400 / 86400), (2100, 3, 1));
        assert_eq!(date(u64::MAX / 86400).0, 9999);
    }

    #[test]
    fn files_are_private_and_nothing_is_followed_or_overwritten() {
        let dir = std::env::temp_dir().join(format!("daedalus-traces-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let traces = Traces::open(&dir).unwrap();
        // Whatever the second, as it may change in between.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for second in now..now + 5 {
            symlink("/dev/null", dir.join(name(&event(OTHER.coded_format()), second))).unwrap();
        }
        assert!(traces.create(&event(OTHER.coded_format())).is_err());
        let (file, name) = traces.create(&event(CODEC.coded_format())).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
        assert!(dir.join(&name).is_file());
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(Traces::open(&dir).is_err());
        assert!(Traces::open(Path::new("/dev/null")).is_err());
    }
}
