//! /proc/PID/stat, in which the program's name may be anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::sys::procfs::{Stat, parse};

fuzz_target!(|line: &[u8]| {
    let Some(name_end) = line.iter().rposition(|byte| *byte == b')') else {
        assert_eq!(parse(line), None);
        return;
    };
    // Whatever the name is, it is read back and what follows it is read alike.
    let after = &line[name_end..];
    let with_name = |name: &[u8]| {
        let read = parse(&[b"7 (", name, after].concat())?;
        let mut kept = name.to_vec();
        kept.resize(read.name.len(), 0);
        assert_eq!(read.name, kept[..]);
        Some(Stat { name: Default::default(), ..read })
    };
    let read = with_name(b"sh");
    for name in [b"a) R 1 1 1 (\xc3".as_slice(), b"\n) Z", b"", b"longer than the kernel lets it be"] {
        assert_eq!(with_name(name), read);
    }
    // A line without an opening parenthesis before the closing one has no name, and is not one of the kernel's.
    if let Some(found) = parse(line) {
        assert_eq!(Some(Stat { name: Default::default(), ..found }), read);
    }
});
