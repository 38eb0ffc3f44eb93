// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The calls that a client makes to the device, without the differences from run to run.
//!
//! * Finding the device is left out: `QUERYCAP`, `MEDIA_IOC_DEVICE_INFO`, `MEDIA_IOC_G_TOPOLOGY`.
//! * When a buffer comes back is a matter of timing. A `DQBUF` is therefore noted at the last place where it
//!   must have happened: before its buffer is queued again, its queue is stopped, or the log ends. Vain
//!   `DQBUF`s and waits on the video node are not part of the sequence; which events were ever waited for is
//!   kept apart.
//! * Timestamps are named t1, t2, … in the order in which they are first queued, requests r1, r2, …

use std::collections::{BTreeSet, HashMap, VecDeque};

use anyhow::{Result, ensure};

use super::strace::{Call, field, number, symbol};
use crate::codec;

/// A client's sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    /// One line per event.
    pub(super) events: Vec<String>,
    /// What `poll` waited for on the video node, in this run.
    pub(super) waits: BTreeSet<String>,
}

/// Normalises the calls of a client.
///
/// # Errors
///
/// When a queue's buffers came back in another order than they were queued in.
pub(super) fn of(calls: &[Call]) -> Result<Sequence> {
    let mut writer = Writer::default();
    for call in calls {
        match call.name.as_str() {
            "ioctl" => writer.ioctl(call)?,
            "poll" | "ppoll" => writer.poll(call),
            _ => {}
        }
    }
    Ok(writer.finish())
}

/// A line whose timestamp, if it has one, is named when all are known.
struct Line {
    text: String,
    stamp: Option<Stamp>,
}

enum Stamp {
    Microseconds(u64),
    /// Of a buffer that did not come back.
    Missing,
}

/// A buffer between `QBUF` and the place where its `DQBUF` is noted.
struct BufferInFlight {
    kind: String,
    index: u64,
    /// The line of its `QBUF`, if that has a timestamp.
    line: Option<usize>,
    back: Option<Return>,
}

struct Return {
    text: String,
    stamp: Stamp,
}

#[derive(Default)]
struct Writer {
    lines: Vec<Line>,
    requests: HashMap<String, usize>,
    flights: VecDeque<BufferInFlight>,
    waits: BTreeSet<String>,
}

impl Writer {
    fn ioctl(&mut self, call: &Call) -> Result<()> {
        let Some((target, rest)) = call.arguments.split_once(", ") else {
            return Ok(());
        };
        let (command, value) = rest.split_once(", ").unwrap_or((rest, ""));
        let command = symbol(command).trim();
        if !["<anon_inode:request", "</dev/video", "</dev/media"]
            .iter()
            .any(|part| target.contains(part))
        {
            return Ok(());
        }
        // What the client passed; what came back follows an arrow.
        let (argument, _) = value.split_once(" => ").unwrap_or((value, ""));
        let kind = kind(argument);
        match command {
            "VIDIOC_QUERYCAP" | "MEDIA_IOC_DEVICE_INFO" | "MEDIA_IOC_G_TOPOLOGY" => {}
            "VIDIOC_DQBUF" if call.error() == Some("EAGAIN") => {}
            "VIDIOC_DQBUF" if call.error().is_none() => self.dequeued(&kind, value)?,
            "VIDIOC_QBUF" if call.error().is_none() => self.queued(&kind, value),
            "VIDIOC_STREAMOFF" => {
                self.note_returns(|flight| flight.kind == kind);
                self.flights.retain(|flight| flight.kind != kind);
                self.push(call, format!("STREAMOFF {kind}"));
            }
            "MEDIA_REQUEST_IOC_QUEUE" | "MEDIA_REQUEST_IOC_REINIT" => {
                let request = self.request(target);
                let verb = command.trim_start_matches("MEDIA_REQUEST_IOC_");
                self.push(call, format!("REQUEST_{verb} {request}"));
            }
            _ => {
                let text = described(command, &kind, argument, &call.result);
                self.push(call, text);
            }
        }
        Ok(())
    }

    /// Notes a wait. Waiting for a request is the client's own decision and always seen; waiting on the video
    /// node depends on how fast the device is.
    fn poll(&mut self, call: &Call) {
        let waited = call.arguments.split("fd=").skip(1);
        for one in waited {
            let events = field(one, "events")
                .map(symbol)
                .unwrap_or_default()
                .replace("POLL", "");
            if one.contains("</dev/video") {
                self.waits.insert(events);
            } else if one.contains("<anon_inode:request") {
                let request = self.request(one);
                let text = format!("POLL {request} {events}");
                // A wait that was cut into several is one.
                if self.lines.last().is_none_or(|line| line.text != text) {
                    self.lines.push(Line { text, stamp: None });
                }
            }
        }
    }

    /// Returns the name of the request whose descriptor begins `target`.
    fn request(&mut self, target: &str) -> String {
        let descriptor = target.split('<').next().unwrap_or(target).to_owned();
        let next = self.requests.len() + 1;
        format!("r{}", self.requests.entry(descriptor).or_insert(next))
    }

    fn push(&mut self, call: &Call, text: String) {
        let text = match call.error() {
            Some(error) => format!("{text} = {error}"),
            None => text,
        };
        self.lines.push(Line { text, stamp: None });
    }

    fn queued(&mut self, kind: &str, value: &str) {
        let index = field(value, "index").and_then(number).unwrap_or(u64::MAX);
        self.note_returns(|flight| flight.kind == kind && flight.index == index);
        let flags = field(value, "flags").unwrap_or_default();
        let mut text = format!("QBUF {kind} {index} {}", memory(value));
        for (flag, word) in [("REQUEST_FD", " request"), ("HOLD_CAPTURE_BUF", " hold")] {
            if flags.contains(flag) {
                text.push_str(word);
            }
        }
        // CAPTURE gets its timestamp from OUTPUT.
        let stamped = kind == "OUTPUT";
        self.flights.push_back(BufferInFlight {
            kind: kind.to_owned(),
            index,
            line: stamped.then_some(self.lines.len()),
            back: None,
        });
        let stamp = stamped.then_some(Stamp::Missing);
        self.lines.push(Line { text, stamp });
    }

    fn dequeued(&mut self, kind: &str, value: &str) -> Result<()> {
        let index = field(value, "index").and_then(number);
        let oldest = self
            .flights
            .iter_mut()
            .find(|flight| flight.kind == kind && flight.back.is_none());
        // A buffer that was queued before the log began has no flight.
        let Some(flight) = oldest else {
            return Ok(());
        };
        ensure!(
            index == Some(flight.index),
            "{kind} buffer {} overtook buffer {}, which was queued before it",
            index.map_or("?".into(), |index| index.to_string()),
            flight.index
        );
        let flags = field(value, "flags").unwrap_or_default();
        let error = if flags.contains("V4L2_BUF_FLAG_ERROR") {
            " error"
        } else {
            ""
        };
        let time = field(value, "timestamp").and_then(|time| {
            let part = |key| field(time, key).and_then(number);
            Some(part("tv_sec")? * 1_000_000 + part("tv_usec")?)
        });
        flight.back = Some(Return {
            text: format!("DQBUF {kind} {}{error}", flight.index),
            stamp: time.map_or(Stamp::Missing, Stamp::Microseconds),
        });
        if let (Some(line), Some(time)) = (flight.line, time) {
            self.lines[line].stamp = Some(Stamp::Microseconds(time));
        }
        Ok(())
    }

    /// Notes the `DQBUF`s of those that are back and are `meant`, in the order in which they were queued.
    fn note_returns(&mut self, meant: impl Fn(&BufferInFlight) -> bool) {
        let mut rest = VecDeque::new();
        for mut flight in self.flights.drain(..) {
            match flight.back.take() {
                Some(back) if meant(&flight) => self.lines.push(Line {
                    text: back.text,
                    stamp: Some(back.stamp),
                }),
                back => rest.push_back(BufferInFlight { back, ..flight }),
            }
        }
        self.flights = rest;
    }

    fn finish(mut self) -> Sequence {
        self.note_returns(|_| true);
        let mut names = HashMap::new();
        let events = self.lines.into_iter().map(|line| match line.stamp {
            None => line.text,
            Some(Stamp::Missing) => line.text + " t?",
            Some(Stamp::Microseconds(time)) => {
                let next = names.len() + 1;
                format!("{} t{}", line.text, names.entry(time).or_insert(next))
            }
        });
        Sequence {
            events: events.collect(),
            waits: self.waits,
        }
    }
}

/// Returns the line of any other call: its name and those of its arguments that the client chose.
fn described(command: &str, kind: &str, argument: &str, result: &str) -> String {
    let name = command
        .trim_start_matches("VIDIOC_")
        .trim_start_matches("MEDIA_IOC_");
    let value = |key: &str| field(argument, key).unwrap_or("?");
    match name {
        "S_FMT" | "TRY_FMT" => format!("{name} {kind} {}", format(argument)),
        "CREATE_BUFS" => {
            let first = field(result, "index").unwrap_or("?");
            let count = value("count");
            let suffix = if count == "0" {
                String::new()
            } else {
                format!(" {}", format(argument))
            };
            format!("{name} {kind} {} {count}{suffix} from {first}", memory(argument))
        }
        "REQBUFS" => format!("{name} {kind} {} {}", memory(argument), value("count")),
        "REMOVE_BUFS" | "QUERYBUF" | "ENUM_FMT" => format!("{name} {kind} {}", value("index")),
        "ENUM_FRAMESIZES" => format!("{name} {} {}", fourcc(value("pixel_format")), value("index")),
        "G_FMT" | "STREAMON" => format!("{name} {kind}"),
        "QUERY_EXT_CTRL" | "QUERYCTRL" => format!("{name} {}", control_name(value("id"))),
        "S_EXT_CTRLS" | "TRY_EXT_CTRLS" | "G_EXT_CTRLS" => format!("{name}{}", controls(argument)),
        _ => name.to_owned(),
    }
}

/// Returns `OUTPUT` or `CAPTURE`, single- and multi-planar alike; empty if the call names no queue.
fn kind(text: &str) -> String {
    let named = field(text, "type").unwrap_or(text);
    let kinds = ["OUTPUT", "CAPTURE"].into_iter();
    let found = kinds
        .filter(|kind| named.contains(&format!("BUF_TYPE_VIDEO_{kind}")))
        .collect::<Vec<_>>();
    found.first().copied().unwrap_or_default().to_owned()
}

fn memory(text: &str) -> &str {
    let memory = field(text, "memory").map(symbol).unwrap_or("?");
    memory.trim_start_matches("V4L2_MEMORY_")
}

/// Returns the fourcc, the size and, if the client demands one, the first plane's size.
fn format(text: &str) -> String {
    let value = |key: &str| field(text, key).unwrap_or("?");
    let mut words = format!(
        "{} {}x{}",
        fourcc(value("pixelformat")),
        value("width"),
        value("height")
    );
    match field(text, "sizeimage") {
        None | Some("0") => {}
        Some(size) => words.push_str(&format!(" sizeimage {size}")),
    }
    words
}

/// Returns the letters of `v4l2_fourcc('N', 'V', '1', '2')`.
fn fourcc(value: &str) -> String {
    let letters: String = value.split('\'').skip(1).step_by(2).collect();
    if letters.is_empty() {
        value.to_owned()
    } else {
        letters.trim_end().to_owned()
    }
}

/// Returns ` request ID:SIZE …`, or ` ID=VALUE` of a control that is one number.
fn controls(text: &str) -> String {
    let class = field(text, "ctrl_class")
        .or(field(text, "which"))
        .and_then(number);
    let mut words = if class == Some(0x0f01_0000) {
        " request".to_owned()
    } else {
        String::new()
    };
    for control in text.split("{id=").skip(1) {
        let id = control.split([',', '}']).next().unwrap_or_default();
        let size = field(control, "size").unwrap_or("?");
        let value = field(control, "value").filter(|_| size == "0");
        words.push_str(&match value {
            Some(value) => format!(" {}={value}", control_name(id)),
            None => format!(" {}:{size}", control_name(id)),
        });
    }
    words
}

/// Returns a control's name without its prefix, or its number if the device does not have it.
fn control_name(id: &str) -> String {
    let value = number(id);
    match value.and_then(codec::control_name) {
        Some(name) => name.to_owned(),
        None => value.map_or_else(|| id.to_owned(), |value| format!("{value:#x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ioctls::strace::calls;

    const OUT: &str = "type=0xa /* V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE */";
    const CAP: &str = "type=0x9 /* V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE */";

    fn buffer(verb: &str, kind: &str, index: u32, rest: &str) -> String {
        format!(
            "1 ioctl(6</dev/video0>, 0xc0 /* VIDIOC_{verb} */, {{{kind}, index={index}, \
             memory=0x1 /* V4L2_MEMORY_MMAP */, {rest}}}) = 0"
        )
    }

    fn vain(kind: &str) -> String {
        format!(
            "1 ioctl(6</dev/video0>, VIDIOC_DQBUF, {{{kind}}}) = -1 EAGAIN (Resource temporarily unavailable)"
        )
    }

    fn events(lines: &[String]) -> Vec<String> {
        of(&calls(&lines.join("\n")).unwrap()).unwrap().events
    }

    #[test]
    fn when_a_buffer_comes_back_makes_no_difference() {
        let request = "flags=0x800081 /* V4L2_BUF_FLAG_MAPPED|V4L2_BUF_FLAG_REQUEST_FD */";
        let stamp = |usec: u32| format!("flags=0x1, timestamp={{tv_sec=0, tv_usec={usec}}}, ...");
        let queue = |index| buffer("QBUF", OUT, index, request);
        let back = |index, usec| buffer("DQBUF", OUT, index, &stamp(usec));
        let early = [queue(0), back(0, 6), queue(1), back(1, 5), queue(0), back(0, 6)];
        let late = [
            queue(0),
            queue(1),
            vain(OUT),
            back(0, 6),
            queue(0),
            vain(OUT),
            back(1, 5),
            back(0, 6),
        ];
        let expected = [
            "QBUF OUTPUT 0 MMAP request t1",
            "QBUF OUTPUT 1 MMAP request t2",
            "DQBUF OUTPUT 0 t1",
            "QBUF OUTPUT 0 MMAP request t1",
            "DQBUF OUTPUT 1 t2",
            "DQBUF OUTPUT 0 t1",
        ];
        assert_eq!(events(&early), expected);
        assert_eq!(events(&late), expected);
    }

    #[test]
    fn a_buffer_that_overtakes_another_is_an_error() {
        let lines = [
            buffer("QBUF", CAP, 3, "flags=0"),
            buffer("QBUF", CAP, 4, "flags=0"),
            buffer("DQBUF", CAP, 4, "flags=0"),
        ];
        let error = of(&calls(&lines.join("\n")).unwrap()).unwrap_err().to_string();
        assert!(error.contains("CAPTURE buffer 4 overtook buffer 3"), "{error}");
    }

    #[test]
    fn what_was_in_flight_when_a_queue_stopped_is_not_dequeued() {
        let stop = format!("1 ioctl(6</dev/video0>, VIDIOC_STREAMOFF, [{CAP}]) = 0");
        let lines = [
            buffer("QBUF", CAP, 1, "flags=0"),
            stop,
            buffer("QBUF", CAP, 2, "flags=0"),
            buffer(
                "DQBUF",
                CAP,
                2,
                "flags=0x40 /* V4L2_BUF_FLAG_ERROR */, timestamp={tv_sec=1, tv_usec=0}",
            ),
        ];
        let expected = [
            "QBUF CAPTURE 1 MMAP",
            "STREAMOFF CAPTURE",
            "QBUF CAPTURE 2 MMAP",
            "DQBUF CAPTURE 2 error t1",
        ];
        assert_eq!(events(&lines), expected);
    }

    #[test]
    fn controls_have_names_and_sizes() {
        let names = || codec::rows().flat_map(|row| row.compound).copied();
        let ((first, first_name), (second, second_name)) = (names().next().unwrap(), names().last().unwrap());
        let (menu, menu_name) = codec::rows().find_map(|row| row.menus.last()).copied().unwrap();
        let control = |id: u32, rest: &str| format!("{{id={id:#x}{rest}}}");
        let blob = |id, comment, size| control(id, &format!("{comment}, size={size}, string=\"\"..."));
        let call = |argument: &str, result: &str| {
            format!("1 ioctl(6</dev/video0>, 0xc0205648 /* VIDIOC_S_EXT_CTRLS */, {argument}) = {result}")
        };
        let argument = [blob(first, " /* V4L2_CID_??? */", 1048), blob(second, "", 12)].join(", ");
        let answered = blob(first, "", 1048);
        let numbers = [
            control(menu, ", size=0, value=1, value64=1"),
            control(0x123, ", size=0, value=2"),
        ];
        let lines = [
            call(
                &format!(
                    "{{ctrl_class=0xf010000 /* X */, count=2, controls=[{argument}]}} => \
                     {{controls=[{answered}]}}"
                ),
                "0",
            ),
            call(
                &format!("{{ctrl_class=0, count=1, controls=[{}]}}", numbers.join(", ")),
                "-1 EINVAL (Invalid argument)",
            ),
        ];
        let expected = [
            format!("S_EXT_CTRLS request {first_name}:1048 {second_name}:12"),
            format!("S_EXT_CTRLS {menu_name}=1 0x123=2 = EINVAL"),
        ];
        assert_eq!(events(&lines), expected);
    }

    #[test]
    fn waits_on_the_video_node_are_kept_apart() {
        let log = "1 poll([{fd=6</dev/video0>, events=0x1 /* POLLIN */}], 1, 2000) = 1 \
                   ([{fd=6, revents=0x1}])\n\
                   1 ppoll([{fd=13<anon_inode:request>, events=0x2 /* POLLPRI */}], 1, {tv_sec=2}, \
                   NULL, 8) = 0\n\
                   1 poll([{fd=13<anon_inode:request>, events=0x2 /* POLLPRI */}], 1, 2000) = 1\n\
                   1 ioctl(13<anon_inode:request>, 0x7c81 /* MEDIA_REQUEST_IOC_REINIT */, 0) = 0\n\
                   1 poll([{fd=9<pipe:[7]>, events=POLLIN}], 1, 2000) = 1\n";
        let sequence = of(&calls(log).unwrap()).unwrap();
        assert_eq!(sequence.events, ["POLL r1 PRI", "REQUEST_REINIT r1"]);
        assert_eq!(sequence.waits, BTreeSet::from(["IN".to_owned()]));
    }
}
