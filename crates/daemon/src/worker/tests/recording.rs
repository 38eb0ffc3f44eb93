// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recording: the trace has the whole session, and the session does not depend on it.

use std::io::{self, Write};

use daedalus_trace::{JobStatus, Reader, Record};

use super::*;
use crate::worker::record::Recording;

/// A file with room for so many bytes, whose contents a test can read.
#[derive(Clone, Default)]
struct Disk {
    bytes: Rc<RefCell<Vec<u8>>>,
    room: Option<usize>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.bytes.borrow_mut();
        let room = self.room.map_or(bytes.len(), |room| room - file.len());
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(room);
        file.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two jobs with a reset between them, a buffer that goes, and a job without memory.
fn messages() -> Vec<Vec<u8>> {
    vec![
        with_controls(job(1, 2), 3),
        reset(),
        with_controls(job(2, 2), 2),
        gone(2),
        bytes(job(3, BUFFERS)),
    ]
}

/// What the worker did; its decoder is the one that paints grey.
fn run(recording: Recording) -> Vec<JournalEntry> {
    let session = replay(&messages(), |_| Ok(()));
    let journal = Rc::clone(&session.journal);
    let options = Options {
        backend: Backend::Null,
        ..Options::default()
    };
    let open = |format| daedalus_engine::open(format, &options);
    let mut worker = Worker::new(session, open, Vec::new());
    worker.recording = recording;
    worker.run().unwrap();
    journal.borrow().clone()
}

#[test]
fn a_trace_has_what_the_decoder_was_given_and_what_came_of_it() {
    let disk = Disk::default();
    let did = run(Recording::to(Box::new(disk.clone()), 9));
    assert_eq!(did, run(Recording::off()));

    let file = disk.bytes.borrow();
    let mut trace = Reader::new(file.as_slice()).unwrap();
    assert_eq!(trace.session().session, 9);
    let records: Vec<Record> = trace.by_ref().map(Result::unwrap).collect();
    let [
        Record::Buffer(coded),
        Record::Buffer(raw),
        Record::Job(first),
        Record::Done(first_done),
        Record::Reset,
        Record::Job(second),
        Record::Done(second_done),
        Record::BufferGone(2),
        Record::Done(third_done),
    ] = &records[..]
    else {
        panic!("{records:#?}");
    };
    assert_eq!((coded.id, coded.writable), (1, false));
    assert_eq!((raw.id, raw.size, raw.writable), (2, LUMA as u64 * 2, true));
    assert_eq!((first.job, first.controls.len(), first.coded.len()), (1, 3, 100));
    assert_eq!(first.controls[2].value, [1, 2, 3]);
    assert!(first.controls[2].in_request);
    assert_eq!((first.picture_width, first.picture_height), (WIDTH, HEIGHT));
    assert_eq!(first.planes[0].bytesperline, WIDTH);
    assert_eq!((second.job, second.controls.len()), (2, 2));
    // Grey both times.
    assert!(first_done.md5.is_some() && first_done.md5 == second_done.md5);
    assert_eq!(first_done.status, JobStatus::Ok);
    assert_eq!(
        (third_done.job, third_done.status, third_done.md5),
        (3, JobStatus::Error, None)
    );
    assert!(third_done.reason.contains("no fd"), "{}", third_done.reason);
}

#[test]
fn a_full_disk_ends_the_trace_and_not_the_session() {
    let whole = Disk::default();
    let did = run(Recording::to(Box::new(whole.clone()), 9));
    let length = whole.bytes.borrow().len();
    for room in 0..length {
        let disk = Disk {
            room: Some(room),
            ..Disk::default()
        };
        assert_eq!(run(Recording::to(Box::new(disk.clone()), 9)), did, "{room} bytes");
        // A trace that is cut off is not taken for a whole one.
        let file = disk.bytes.borrow();
        if let Ok(trace) = Reader::new(file.as_slice()) {
            let ends_well = trace.collect::<Result<Vec<_>, _>>().is_ok();
            // A reader can do without the compressed file's 8 last bytes. The time in the head, which differs
            // from run to run, takes a few bytes more or less.
            assert!(!ends_well || room + 16 > length, "{room} of {length} bytes");
        }
    }
}
