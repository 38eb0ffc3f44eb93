// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device as sysfs and debugfs tell of it, at one moment.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use daedalus_uapi::codec::bit_names;
use serde::Serialize;

use crate::system::System;

/// The folder of the module's files.
pub(crate) const DEBUGFS: &str = "/sys/kernel/debug/daedalus";
/// The module, when it is loaded.
pub(crate) const MODULE: &str = "/sys/module/daedalus_v4l2";
/// The group that may use video devices.
pub(crate) const GROUP: &str = "video";
const DRIVER: &str = "/sys/bus/platform/drivers/daedalus";
/// The device of the stateful node, whose driver is the same.
const STATEFUL: &str = "daedalus_stateful";

/// All there is to know at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Snapshot {
    /// The module is loaded.
    pub(crate) module: bool,
    /// Its parameters.
    pub(crate) parameters: BTreeMap<String, String>,
    /// `/dev/videoN` of the stateless face.
    pub(crate) video: Option<String>,
    /// `/dev/mediaN`.
    pub(crate) media: Option<String>,
    /// `/dev/videoN` of the stateful face.
    pub(crate) stateful: Option<String>,
    /// The part that only root sees.
    pub(crate) stats: Option<Stats>,
    /// Why not.
    pub(crate) unseen: Option<String>,
    pub(crate) sessions: Vec<Session>,
    #[serde(skip)]
    pub(crate) time: Instant,
}

/// `stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stats {
    /// serving, orphaned or unserved.
    pub(crate) state: String,
    pub(crate) daemon: String,
    /// Those that the stateless face offers.
    pub(crate) codecs: Vec<String>,
    /// Those that the stateful face offers.
    pub(crate) stateful_codecs: Vec<String>,
    pub(crate) sessions: u64,
    pub(crate) sessions_ever: u64,
    pub(crate) busy: u64,
    pub(crate) busy_peak: u64,
    pub(crate) memory: u64,
}

/// A line of `sessions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Session {
    pub(crate) id: u64,
    /// The process that opened the node.
    pub(crate) client: u64,
    /// Its name.
    pub(crate) program: Option<String>,
    /// Its worker's process, 0 if it has none.
    pub(crate) worker: u64,
    pub(crate) format: String,
    /// stateless or stateful.
    pub(crate) face: String,
    /// idle, waiting, streaming, draining or lost; stateful: parsing, format or stopped, too.
    pub(crate) state: String,
    /// OUTPUT buffers that no job has taken yet.
    pub(crate) waiting: u64,
    /// Jobs or units that the worker has not read yet.
    pub(crate) claimed: u64,
    /// Jobs or units that the worker has.
    pub(crate) in_flight: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) restarts: u64,
    /// How long the oldest job has been the oldest.
    pub(crate) oldest_ms: u64,
    /// Bytes of its MMAP buffers.
    pub(crate) memory: u64,
    /// Jobs per second between two looks.
    pub(crate) fps: Option<f64>,
}

impl Snapshot {
    /// Looks.
    pub(crate) fn take(system: &System) -> Self {
        let module = system.exists(MODULE);
        let folder = format!("{MODULE}/parameters");
        let parameters = system
            .names(&folder)
            .into_iter()
            .filter_map(|name| Some((name.clone(), system.text(&format!("{folder}/{name}")).ok()?)))
            .collect();
        let (video, media, stateful) = nodes(system);
        let (stats, unseen) = match system.text(&format!("{DEBUGFS}/stats")) {
            Ok(text) => (Some(Stats::parse(&text)), None),
            Err(_) if !module => (
                None,
                Some("the module is not loaded: sudo modprobe daedalus_v4l2".into()),
            ),
            Err(error) => (None, Some(why(&error))),
        };
        let text = system.text(&format!("{DEBUGFS}/sessions")).unwrap_or_default();
        let mut sessions = Session::parse(&text);
        for session in &mut sessions {
            let comm = system.text(&format!("/proc/{}/comm", session.client));
            session.program = comm.ok().map(|name| printable(&name));
        }
        Self {
            module,
            parameters,
            video,
            media,
            stateful,
            stats,
            unseen,
            sessions,
            time: Instant::now(),
        }
    }

    /// Fills in the sessions' frames per second since an earlier look.
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        let seconds = self.time.duration_since(earlier.time).as_secs_f64();
        for session in &mut self.sessions {
            let before = earlier.sessions.iter().find(|old| old.id == session.id);
            if let Some(before) = before.filter(|_| seconds > 0.0) {
                session.fps = Some(session.done.saturating_sub(before.done) as f64 / seconds);
            }
        }
        self
    }

    /// Returns whether clients find a device that decodes.
    pub(crate) fn serves(&self) -> bool {
        (self.video.is_some() || self.stateful.is_some())
            && self.stats.as_ref().is_none_or(|stats| stats.state == "serving")
    }
}

/// Why debugfs cannot be read, and what to do.
pub(crate) fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "only root sees the sessions: run it with sudo".to_owned(),
        io::ErrorKind::NotFound => {
            "debugfs is not mounted: sudo mount -t debugfs debugfs /sys/kernel/debug".to_owned()
        }
        _ => format!("{DEBUGFS}: {error}"),
    }
}

/// Returns the video and the media node of the stateless face and the video node of the stateful one, by the
/// driver's name: numbers mean nothing.
fn nodes(system: &System) -> (Option<String>, Option<String>, Option<String>) {
    let (mut video, mut media, mut stateful) = (None, None, None);
    for name in system.names(DRIVER) {
        let device = format!("{DRIVER}/{name}");
        let node = if name == STATEFUL {
            &mut stateful
        } else {
            &mut video
        };
        if node.is_none() {
            let names = system.names(&format!("{device}/video4linux"));
            *node = names.into_iter().find(|name| name.starts_with("video"));
        }
        media = media.or_else(|| {
            let names = system.names(&device);
            names.into_iter().find(|name| {
                name.strip_prefix("media")
                    .is_some_and(|rest| rest.parse::<u32>().is_ok())
            })
        });
    }
    let node = |name: Option<String>| name.map(|name| format!("/dev/{name}"));
    (node(video), node(media), node(stateful))
}

/// Returns a text that a client chose, fit for a terminal, which acts upon what is not printable.
fn printable(text: &str) -> String {
    let shown = |c: char| c.is_ascii_graphic() || c == ' ';
    text.chars().map(|c| if shown(c) { c } else { '?' }).collect()
}

fn number(text: &str) -> u64 {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |rest| (rest, 16));
    u64::from_str_radix(digits, radix).unwrap_or_default()
}

impl Stats {
    fn parse(text: &str) -> Self {
        let mut stats = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "state" => stats.state = value.to_owned(),
                "daemon" => stats.daemon = value.to_owned(),
                "codecs" => stats.codecs = codecs(number(value)),
                "stateful_codecs" => stats.stateful_codecs = codecs(number(value)),
                "sessions" => stats.sessions = number(value),
                "sessions_ever" => stats.sessions_ever = number(value),
                "busy" => stats.busy = number(value),
                "busy_peak" => stats.busy_peak = number(value),
                "memory" => stats.memory = number(value),
                _ => {}
            }
        }
        stats
    }
}

fn codecs(set: u64) -> Vec<String> {
    let names = bit_names(set as u32);
    names.into_iter().map(str::to_owned).collect()
}

impl Session {
    fn parse(text: &str) -> Vec<Self> {
        text.lines()
            .filter(|line| line.starts_with("id="))
            .map(Self::of_line)
            .collect()
    }

    fn of_line(line: &str) -> Self {
        let mut session = Self::default();
        for (key, value) in line.split_whitespace().filter_map(|pair| pair.split_once('=')) {
            match key {
                "id" => session.id = number(value),
                "client" => session.client = number(value),
                "worker" => session.worker = number(value),
                "format" => session.format = value.to_owned(),
                "state" => session.state = value.to_owned(),
                "face" => session.face = value.to_owned(),
                "waiting" => session.waiting = number(value),
                "claimed" => session.claimed = number(value),
                "in_flight" => session.in_flight = number(value),
                "done" => session.done = number(value),
                "failed" => session.failed = number(value),
                "restarts" => session.restarts = number(value),
                "oldest_ms" => session.oldest_ms = number(value),
                "memory" => session.memory = number(value),
                _ => {}
            }
        }
        session
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::system::tests::Machine;

    pub(crate) const STATS: &str = "state=serving\ndaemon=daedalusd 0.1.0\ncodecs=0x7\n\
        stateful_codecs=0x3\nsessions=2\n\
        sessions_ever=9\nbusy=1\nbusy_peak=3\nmemory=6291456\n";
    pub(crate) const SESSIONS: &str = "\
id=8 client=77 worker=80 format=SFWH little-endian (0x48574653) state=streaming \
waiting=2 claimed=1 in_flight=1 done=40 failed=0 restarts=0 oldest_ms=12 memory=4194304 face=stateless
id=9 client=78 worker=0 format=FWHT little-endian (0x54485746) state=lost \
waiting=0 claimed=0 in_flight=0 done=3 failed=2 restarts=6 oldest_ms=0 memory=2097152 face=stateful
";

    pub(crate) fn machine(name: &str) -> Machine {
        let platform = "/sys/bus/platform/drivers/daedalus/daedalus.0";
        Machine::new(
            name,
            &[
                ("/sys/module/daedalus_v4l2/parameters/watchdog_ms", "900\n"),
                (&format!("{platform}/video4linux/video5/name"), "daedalus-dec\n"),
                (&format!("{platform}/media3/model"), "daedalus\n"),
                (
                    "/sys/bus/platform/drivers/daedalus/daedalus_stateful/video4linux/video4/name",
                    "daedalus-dec-stateful\n",
                ),
                ("/sys/kernel/debug/daedalus/stats", STATS),
                ("/sys/kernel/debug/daedalus/sessions", SESSIONS),
                ("/proc/77/comm", "gst-launch-1.0\n"),
            ],
        )
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let machine = machine("snapshot");
        let snapshot = Snapshot::take(&machine.system);
        assert!(snapshot.module && snapshot.serves());
        assert_eq!(snapshot.video.as_deref(), Some("/dev/video5"));
        assert_eq!(snapshot.media.as_deref(), Some("/dev/media3"));
        assert_eq!(snapshot.stateful.as_deref(), Some("/dev/video4"));
        assert_eq!(snapshot.parameters["watchdog_ms"], "900");
        let stats = snapshot.stats.unwrap();
        assert_eq!(
            (stats.state.as_str(), stats.daemon.as_str()),
            ("serving", "daedalusd 0.1.0")
        );
        assert_eq!(stats.codecs, bit_names(7));
        assert_eq!(stats.stateful_codecs, bit_names(3));
        assert_eq!((stats.sessions, stats.sessions_ever, stats.busy_peak), (2, 9, 3));
        let [first, second] = &snapshot.sessions[..] else {
            panic!("{:?}", snapshot.sessions)
        };
        assert_eq!(first.program.as_deref(), Some("gst-launch-1.0"));
        assert_eq!(
            (first.format.as_str(), first.state.as_str()),
            ("SFWH", "streaming")
        );
        assert_eq!(
            (first.waiting, first.claimed, first.in_flight, first.oldest_ms),
            (2, 1, 1, 12)
        );
        assert_eq!((second.failed, second.restarts, second.worker), (2, 6, 0));
        assert_eq!(
            (first.face.as_str(), second.face.as_str()),
            ("stateless", "stateful")
        );
    }

    #[test]
    fn the_stateful_node_alone_is_a_device() {
        let machine = machine("stateful");
        machine.remove("/sys/bus/platform/drivers/daedalus/daedalus.0");
        let snapshot = Snapshot::take(&machine.system);
        assert!(snapshot.video.is_none() && snapshot.media.is_none() && snapshot.serves());
    }

    #[test]
    fn a_clients_name_is_no_command_to_a_terminal() {
        let machine = machine("escapes");
        machine.put("/proc/77/comm", b"\x1b]0;x\x07\x1b[2J\xff\xc2\x9b\n");
        let snapshot = Snapshot::take(&machine.system);
        assert_eq!(snapshot.sessions[0].program.as_deref(), Some("?]0;x??[2J??"));
    }

    #[test]
    fn frames_per_second_are_those_of_the_same_session() {
        let machine = machine("fps");
        let before = Snapshot::take(&machine.system);
        let mut after = before.clone();
        after.time += std::time::Duration::from_secs(2);
        after.sessions[0].done += 50;
        after.sessions[1].id = 10;
        let after = after.since(&before);
        assert_eq!(after.sessions[0].fps, Some(25.0));
        assert_eq!(after.sessions[1].fps, None);
    }

    #[test]
    fn a_machine_without_the_module_says_so() {
        let machine = Machine::new("bare", &[("/proc/sys/kernel/osrelease", "6.12\n")]);
        let snapshot = Snapshot::take(&machine.system);
        assert!(!snapshot.module && !snapshot.serves() && snapshot.video.is_none());
        assert!(snapshot.unseen.unwrap().contains("modprobe daedalus_v4l2"));
    }
}
