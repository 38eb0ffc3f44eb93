// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reader of traces. The input is taken both as a whole file and as records that are put into a file with
//! right lengths and checksums, since neither compression nor a CRC is broken by chance.

#![no_main]

use std::io::Write;

use daedalus_trace::format::{HEADER, MAGIC, VERSION};
use daedalus_trace::{Limits, Reader};
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use libfuzzer_sys::fuzz_target;

/// Reads all there is; the number of records.
fn read(file: &[u8]) -> u64 {
    let Ok(mut reader) = Reader::with_limits(file, Limits { record: 1 << 20 }) else {
        return 0;
    };
    while let Ok(Some(_)) = reader.next_record() {}
    reader.records()
}

/// Returns a file of the records that `data` consists of: a byte for the kind, two for the length, the
/// payload.
fn file(mut data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut file = Vec::new();
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.resize(HEADER, 0);
    let mut records = DeflateEncoder::new(file, Compression::none());
    while let Some(([kind, low, high], rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, tail) = rest.split_at(length);
        data = tail;
        let mut record = u32::from(kind % 9).to_le_bytes().to_vec();
        record.extend_from_slice(&(length as u32).to_le_bytes());
        record.extend_from_slice(payload);
        let mut crc = Crc::new();
        crc.update(&record);
        record.extend_from_slice(&crc.sum().to_le_bytes());
        records.write_all(&record)?;
    }
    records.finish()
}

fuzz_target!(|data: &[u8]| {
    read(data);
    if let Ok(file) = file(data) {
        read(&file);
    }
});
