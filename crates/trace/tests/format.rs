// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file: what is written is read, and nothing that is not whole and right is.

use daedalus_trace::{
    Buffer, Control, Job, JobResult, JobStatus, Limits, Plane, Reader, Record, Session, TraceError, Writer,
    format,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn session() -> Session {
    Session {
        session: 3,
        started: 1_700_000_000,
        big_endian: false,
        writer: "a test".to_owned(),
    }
}

fn write(session: &Session, records: &[Record], end: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, session).expect("session");
    for record in records {
        writer.write(record).expect("record");
    }
    if end {
        writer.finish().expect("end");
    } else {
        // As for a worker that is killed: nothing more is written.
        std::mem::forget(writer);
    }
    file
}

/// Returns all whole records, and what stopped the reading.
fn read(file: &[u8], limits: Limits) -> (Vec<Record>, Option<TraceError>) {
    let mut records = Vec::new();
    let mut reader = match Reader::with_limits(file, limits) {
        Ok(reader) => reader,
        Err(error) => return (records, Some(error)),
    };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, None),
            Err(error) => {
                assert!(
                    matches!(reader.next_record(), Ok(None)),
                    "nothing comes after an error"
                );
                return (records, Some(error));
            }
        }
    }
}

fn record() -> impl Strategy<Value = Record> {
    let plane =
        (any::<u64>(), any::<[u32; 3]>()).prop_map(|(buffer, [offset, length, bytesperline])| Plane {
            buffer,
            offset,
            length,
            bytesperline,
        });
    let control = (any::<[u32; 2]>(), any::<bool>(), vec(any::<u8>(), 0..300)).prop_map(
        |([id, elems], in_request, value)| Control {
            id,
            in_request,
            elems,
            value,
        },
    );
    let job = (
        any::<[u64; 3]>(),
        any::<[u32; 6]>(),
        any::<bool>(),
        vec(plane, 1..=3),
        vec(control, 0..12),
        vec(any::<u8>(), 0..5000),
    )
        .prop_map(|(wide, narrow, same_capture, planes, controls, coded)| {
            Record::Job(Box::new(Job {
                job: wide[0],
                timestamp: wide[1],
                coded_buffer: wide[2],
                coded_format: narrow[0],
                raw_format: narrow[1],
                width: narrow[2],
                height: narrow[3],
                picture_width: narrow[4],
                picture_height: narrow[5],
                same_capture,
                planes,
                controls,
                coded,
            }))
        });
    let done = (
        any::<u64>(),
        any::<bool>(),
        any::<Option<[u8; 16]>>(),
        "\\PC{0,40}",
    )
        .prop_map(|(job, ok, md5, reason)| {
            Record::Done(JobResult {
                job,
                status: if ok { JobStatus::Ok } else { JobStatus::Error },
                md5,
                reason,
            })
        });
    let buffer = (any::<[u64; 2]>(), any::<[bool; 2]>()).prop_map(|([id, size], [writable, imported])| {
        Record::Buffer(Buffer {
            id,
            size,
            writable,
            imported,
        })
    });
    prop_oneof![
        4 => job,
        4 => done,
        1 => buffer,
        1 => Just(Record::Reset),
        1 => any::<u64>().prop_map(Record::BufferGone),
    ]
}

/// Returns a trace with every kind of record.
fn sample() -> Vec<Record> {
    let job = Job {
        job: 1,
        timestamp: 40,
        coded_format: 5,
        raw_format: 6,
        width: 16,
        height: 16,
        picture_width: 15,
        picture_height: 16,
        coded_buffer: 1,
        planes: vec![Plane {
            buffer: 2,
            offset: 0,
            length: 384,
            bytesperline: 16,
        }],
        controls: vec![Control {
            id: 9,
            in_request: true,
            elems: 1,
            value: (0..40).collect(),
        }],
        coded: (0..=255).collect(),
        ..Job::default()
    };
    vec![
        Record::Buffer(Buffer {
            id: 2,
            size: 384,
            writable: true,
            imported: false,
        }),
        Record::Job(Box::new(job)),
        Record::Done(JobResult {
            job: 1,
            status: JobStatus::Error,
            md5: Some([7; 16]),
            reason: "zu kurz für ein Bild".to_owned(),
        }),
        Record::Reset,
        Record::BufferGone(2),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(records in vec(record(), 0..20), writer in "\\PC{0,20}", id: u64, big: bool) {
        let session = Session { session: id, started: !id, big_endian: big, writer };
        let file = write(&session, &records, true);
        let mut reader = Reader::new(file.as_slice()).expect("beginning");
        prop_assert_eq!(reader.session(), &session);
        let read: Vec<Record> = reader.by_ref().collect::<Result<_, _>>().expect("whole");
        prop_assert_eq!(read, records);
    }

    /// Bytes anywhere are changed: what is read before the damage is found is what was written, but for
    /// records with a checksum of 32 bit that happens to be right, which no run here will see.
    #[test]
    fn damage_is_found(
        records in vec(record(), 1..8),
        at in vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
    ) {
        let mut file = write(&session(), &records, true);
        let length = file.len();
        for (index, change) in at {
            let byte = &mut file[index.index(length)];
            *byte = byte.wrapping_add(change);
        }
        let (read, _) = read(&file, Limits::default());
        prop_assert!(read.len() <= records.len());
        prop_assert_eq!(&read[..], &records[..read.len()]);
    }

    /// Arbitrary bytes as the compressed part, and as records.
    #[test]
    fn arbitrary_bytes_are_no_trace(bytes in vec(any::<u8>(), 0..2000), kind in 0..10u32) {
        let _ = read(&bytes, Limits::default());
        let mut file = format::MAGIC.to_vec();
        file.extend(format::VERSION.to_le_bytes());
        file.extend([0; 4]);
        file.extend(&bytes);
        prop_assert!(read(&file, Limits::default()).1.is_some());
        // Well formed up to the payload, which is arbitrary.
        let file = raw(&[(kind, bytes)]);
        let mut session_first = raw(&[(format::SESSION, session_payload())]);
        let _ = read(&file, Limits::default());
        session_first.truncate(format::HEADER);
        prop_assert!(read(&session_first, Limits::default()).1.is_some());
    }

    #[test]
    fn arbitrary_payloads_do_not_panic(payloads in vec((2..8u32, vec(any::<u8>(), 0..200)), 0..6)) {
        let mut all = vec![(format::SESSION, session_payload())];
        all.extend(payloads);
        let _ = read(&raw(&all), Limits::default());
    }
}

fn session_payload() -> Vec<u8> {
    let mut payload = vec![0; 20];
    payload.extend(1u32.to_le_bytes());
    payload.push(b'x');
    payload
}

/// Returns a file of records with right checksums and any contents.
fn raw(records: &[(u32, Vec<u8>)]) -> Vec<u8> {
    use std::io::Write as _;
    let mut file = format::MAGIC.to_vec();
    file.extend(format::VERSION.to_le_bytes());
    file.extend([0; 4]);
    let mut out = flate2::write::DeflateEncoder::new(file, flate2::Compression::fast());
    for (kind, payload) in records {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        bytes.extend(crc.sum().to_le_bytes());
        out.write_all(&bytes).expect("to memory");
    }
    out.finish().expect("to memory")
}

#[test]
fn a_trace_cut_anywhere_is_read_up_to_its_last_whole_record() {
    let records = sample();
    let file = write(&session(), &records, true);
    let mut seen = 0;
    for length in 0..file.len() {
        let (read, error) = read(&file[..length], Limits::default());
        assert!(read.len() >= seen, "a longer file has no fewer records");
        seen = read.len();
        assert_eq!(read, records[..seen]);
        match error {
            Some(TraceError::NotATrace) => assert_eq!(length, 0),
            Some(TraceError::Cut { .. }) => {}
            // The end record may be whole before the last bytes of the compression are.
            None => assert_eq!(seen, records.len()),
            Some(other) => panic!("{length} bytes: {other}"),
        }
    }
    assert_eq!(seen, records.len());
}

/// Each record is in the file once the call that wrote it has returned.
#[test]
fn a_killed_writer_loses_nothing() {
    let records = sample();
    for count in 0..=records.len() {
        let file = write(&session(), &records[..count], false);
        let (read, error) = read(&file, Limits::default());
        assert_eq!(read, records[..count]);
        assert!(matches!(error, Some(TraceError::Cut { records }) if records == count as u64 + 1));
    }
}

#[test]
fn every_changed_byte_is_found() {
    let records = sample();
    let file = write(&session(), &records, true);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            let (read, _) = read(&damaged, Limits::default());
            assert_eq!(read, records[..read.len()], "byte {at} bit {bit}");
        }
    }
}

#[test]
fn other_files_and_versions_are_named() {
    let error = |file: &[u8]| read(file, Limits::default()).1.expect("an error").to_string();
    assert!(error(b"").contains("no trace"));
    assert!(error(b"\x1f\x8b\x08").contains("no trace"));
    let mut file = write(&session(), &[], true);
    file[format::MAGIC.len()] = 2;
    assert!(error(&file).contains("version 2"), "{}", error(&file));
    let mut file = write(&session(), &[], true);
    file[format::HEADER - 1] = 1;
    assert!(error(&file).contains("corrupt"));
    assert!(error(&raw(&[(format::RESET, Vec::new())])).contains("first record"));
    let twice = raw(&[
        (format::SESSION, session_payload()),
        (format::SESSION, session_payload()),
    ]);
    assert!(error(&twice).contains("second session"));
}

#[test]
fn kinds_of_later_programs_are_skipped() {
    let file = raw(&[
        (format::SESSION, session_payload()),
        (4711, vec![1, 2, 3]),
        (format::RESET, Vec::new()),
        (format::END, Vec::new()),
        // Nothing after the end counts.
        (format::RESET, Vec::new()),
    ]);
    let (records, error) = read(&file, Limits::default());
    assert_eq!(records, [Record::Reset]);
    assert!(error.is_none());
}

#[test]
fn long_records_are_refused_and_lengths_are_not_believed() {
    let records = sample();
    let file = write(&session(), &records, true);
    let (read_records, error) = read(&file, Limits { record: 100 });
    assert_eq!(read_records, records[..1], "the job is longer");
    assert!(matches!(error, Some(TraceError::TooLong { limit: 100, .. })));
    // A record that claims 60 MiB, and a file that ends before.
    let mut head = format::RESET.to_le_bytes().to_vec();
    head.extend((60u32 << 20).to_le_bytes());
    let mut out = raw(&[(format::SESSION, session_payload())]);
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &{
        let mut all = uncompressed(&out);
        all.extend(head);
        all
    })
    .expect("to memory");
    out.truncate(format::HEADER);
    out.extend(encoder.finish().expect("to memory"));
    assert!(matches!(
        read(&out, Limits::default()).1,
        Some(TraceError::Cut { .. })
    ));
}

fn uncompressed(file: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut decoder = flate2::read::DeflateDecoder::new(&file[format::HEADER..]);
    std::io::Read::read_to_end(&mut decoder, &mut all).expect("whole");
    all
}

/// A megabyte of zeros a thousand times: as many bytes as the file expands to must be read, but only one
/// record of them is ever in memory.
#[test]
fn a_bomb_takes_no_memory() {
    let bomb = raw(&[(format::SESSION, session_payload()), (99, vec![0; 60 << 20])]);
    assert!(bomb.len() < 1 << 20);
    let limits = Limits { record: 1 << 20 };
    assert!(matches!(read(&bomb, limits).1, Some(TraceError::TooLong { .. })));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let reason = "ä".repeat(format::MAX_TEXT);
    let done = JobResult {
        job: 1,
        status: JobStatus::Error,
        md5: None,
        reason,
    };
    let file = write(&session(), &[Record::Done(done)], true);
    let (records, error) = read(&file, Limits::default());
    assert!(error.is_none());
    let [Record::Done(done)] = &records[..] else {
        panic!("not one record")
    };
    assert_eq!(done.reason.len(), format::MAX_TEXT);
}

/// A file that cannot be written to gives an error, at the first record at the latest.
#[test]
fn a_full_disk_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = bytes.len().min(self.0);
            self.0 -= count;
            if count == 0 && !bytes.is_empty() {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            Ok(count)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let all = write(&session(), &sample(), true).len();
    for room in 0..all {
        let written = Writer::new(Full(room), &session()).and_then(|mut writer| {
            sample().iter().try_for_each(|record| writer.write(record))?;
            writer.finish()
        });
        assert!(written.is_err(), "{room} of {all} bytes");
    }
    assert!(
        Writer::new(Full(all), &session())
            .and_then(|mut writer| {
                sample().iter().try_for_each(|record| writer.write(record))?;
                writer.finish()
            })
            .is_ok()
    );
}
