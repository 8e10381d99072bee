//! The head of an HTTP answer: a byte that says how it is cut into pieces, then what a server sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::transport::head::{Head, HeadReader};

/// How much of it is a head, and what it says; none where it is none.
fn read(bytes: &[u8], piece: usize) -> Option<(usize, Head)> {
    let mut reader = HeadReader::new(&["Retry-After", "Ondat-Telemetry"]);
    let mut used = 0;
    for piece in bytes.chunks(piece) {
        let (more, head) = reader.push(piece).ok()?;
        used += more;
        if let Some(head) = head {
            return Some((used, head));
        }
        assert_eq!(more, piece.len());
    }
    None
}

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, usize::from(*piece).max(1)), whole);
    if let Some((used, head)) = whole {
        assert!(used <= bytes.len() && (head.status == 101 || (200..=999).contains(&head.status)), "{head:?}");
        assert!(head.fields.iter().all(|(name, _)| name == "retry-after" || name == "ondat-telemetry"), "{head:?}");
    }
});
