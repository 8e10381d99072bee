//! The fuzz targets over every input that was worth keeping, and over some made from those, always the same ones. `make fuzz`
//! searches for new ones: it takes a build of its own, and a minute for each target.
#![allow(
    missing_docs,
    unused_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "targets are programs of their own elsewhere"
)]

// The targets ask this name for their macro.
extern crate self as libfuzzer_sys;

use std::fs;
use std::path::Path;

/// As libFuzzer's binding cuts it: up to where it is no UTF-8 any more.
fn text(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

/// How many inputs are made from each that is known.
const MADE: u64 = 100;
/// The longest input in bytes, as in tools/fuzz.
const INPUT_BYTES: usize = 8192;

fn over_its_corpus(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let inputs: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(!inputs.is_empty(), "there is no corpus");
    let mut chance = Chance(0);
    for (file, input) in files.iter().zip(&inputs) {
        // Said only where the target fails.
        println!("{}", file.display());
        run(input);
        for _ in 0..MADE {
            let other = &inputs[chance.below(inputs.len())];
            let made = chance.change(input, other);
            println!("made of it: {:?}", String::from_utf8_lossy(&made));
            run(&made);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    /// Changes a byte, leaves a part out, doubles one, or puts a part of another input in.
    fn change(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let (from, to) = self.part(input);
        let (head, part, tail) = (&input[..from], &input[from..to], &input[to..]);
        let mut made = match self.below(4) {
            0 => [head, tail].concat(),
            1 => [head, part, part, tail].concat(),
            2 => {
                let (from, to) = self.part(other);
                [head, &other[from..to], tail].concat()
            }
            _ => {
                let mut made = input.to_vec();
                let at = self.below(made.len());
                if let Some(byte) = made.get_mut(at) {
                    *byte = self.next().to_le_bytes()[0];
                }
                made
            }
        };
        made.truncate(INPUT_BYTES);
        made
    }

    fn part(&mut self, input: &[u8]) -> (usize, usize) {
        let (one, other) = (self.below(input.len() + 1), self.below(input.len() + 1));
        (one.min(other), one.max(other))
    }
}

#[path = "../fuzz/targets/answer_head.rs"]
mod answer_head;
#[path = "../fuzz/targets/cluster_spec.rs"]
mod cluster_spec;
#[path = "../fuzz/targets/crash_leftovers.rs"]
mod crash_leftovers;
#[path = "../fuzz/targets/crash_record.rs"]
mod crash_record;
#[path = "../fuzz/targets/crash_setup.rs"]
mod crash_setup;
#[path = "../fuzz/targets/endpoint.rs"]
mod endpoint;
#[path = "../fuzz/targets/key_set.rs"]
mod key_set;
#[path = "../fuzz/targets/proc_stat.rs"]
mod proc_stat;
#[path = "../fuzz/targets/proxy.rs"]
mod proxy;
#[path = "../fuzz/targets/query_log.rs"]
mod query_log;
#[path = "../fuzz/targets/report_document.rs"]
mod report_document;
#[path = "../fuzz/targets/report_plaintext.rs"]
mod report_plaintext;
#[path = "../fuzz/targets/sealed_report.rs"]
mod sealed_report;
#[path = "../fuzz/targets/sentry_dsn.rs"]
mod sentry_dsn;
#[path = "../fuzz/targets/sentry_envelope.rs"]
mod sentry_envelope;
#[path = "../fuzz/targets/server_answer.rs"]
mod server_answer;
#[path = "../fuzz/targets/settings.rs"]
mod settings;
#[path = "../fuzz/targets/switches.rs"]
mod switches;
#[path = "../fuzz/targets/version_answer.rs"]
mod version_answer;
#[path = "../fuzz/targets/version_query.rs"]
mod version_query;

/// A target's body as a function. Below the modules: they import it by its path.
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:block) => {
        pub(crate) fn run($bytes: &[u8]) $body
    };
    (|$text:ident: &str| $body:block) => {
        pub(crate) fn run(bytes: &[u8]) {
            let $text = $crate::text(bytes);
            $body
        }
    };
}

macro_rules! over_their_corpora {
    ($($target:ident)*) => {
        /// Those above, for the test that none is left out.
        const TARGETS: &[&str] = &[$(stringify!($target)),*];
        mod inputs {
            $(
                #[test]
                fn $target() {
                    super::over_its_corpus(stringify!($target), super::$target::run);
                }
            )*
        }
    };
}

over_their_corpora! {
    answer_head
    cluster_spec
    crash_leftovers
    crash_record
    crash_setup
    endpoint
    key_set
    proc_stat
    proxy
    query_log
    report_document
    report_plaintext
    sealed_report
    sentry_dsn
    sentry_envelope
    server_answer
    settings
    switches
    version_answer
    version_query
}

#[test]
fn no_target_is_left_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/targets");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, TARGETS);
}
