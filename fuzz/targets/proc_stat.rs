//! /proc/PID/stat, in which the program's name may be anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::sys::procfs::parse;

fuzz_target!(|line: &[u8]| {
    let read = parse(line);
    let Some(name_end) = line.iter().rposition(|byte| *byte == b')') else {
        assert_eq!(read, None);
        return;
    };
    // Whatever the name is, what follows it is read alike.
    let after = &line[name_end..];
    for name in [b"7 (sh".as_slice(), b"7 (a) R 1 1 1 (\xc3", b"7 (\n) Z"] {
        assert_eq!(parse(&[name, after].concat()), read);
    }
});
