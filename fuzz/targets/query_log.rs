//! Query logs: read whole and byte by byte, which must say the same, and with a question behind them that must be found
//! whatever comes before.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;

// The command's own file: it is a program, not a library.
#[allow(dead_code, reason = "the command uses more of it")]
#[path = "../../cli/src/query_log.rs"]
mod reader;

use reader::{PIECE_BYTES, Pieces, Reader};

/// As some pipes give it.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

/// The names, and how many lines are understood and not.
fn read(log: impl Read) -> (Vec<Vec<u8>>, u64, u64) {
    let (mut pieces, mut reader, mut names) = (Pieces::new(log), Reader::default(), Vec::new());
    while let Some((piece, is_end)) = pieces.next().expect("a slice is always read") {
        assert!(piece.len() <= PIECE_BYTES);
        reader.take(piece, is_end, &mut |name| names.push(name.to_vec()));
    }
    reader.finish(&mut |name| names.push(name.to_vec()));
    (names, reader.understood(), reader.not_understood())
}

fuzz_target!(|log: &[u8]| {
    let (names, understood, not_understood) = read(log);
    assert_eq!(read(Slow(log)), (names.clone(), understood, not_understood));
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count() as u64;
    assert!(understood + not_understood <= lines, "{understood} and {not_understood} of {lines}");
    for name in &names {
        assert!(name.to_ascii_lowercase().windows(4).any(|part| part == b".o1."));
    }
    // A question that stands alone in its object is found, behind anything.
    let behind = [log, b"\n{\"queryName\":\"a.b.o1.z.example\",\"queryType\":\"TXT\"}\n"].concat();
    let (all, ..) = read(behind.as_slice());
    assert_eq!(all.split_last(), Some((&b"a.b.o1.z.example".to_vec(), names.as_slice())));
});
