//! What is in memory does not grow with what was received. A program of its own, because the kernel tells the most that any
//! child of it had.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "fleet/sealing.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod sealing;
#[path = "fleet/stage.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod stage;

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use nix::sys::resource::{UsageWho, getrusage};
use ondat_telemetry_protocol::fields::Level;

use sealing::{DATE, Key, end, group, head, name, store};
use stage::{Scratch, opening, run, said};

/// The most that an opener may have.
const MOST: i64 = 256 << 20;

/// The most that a child of this program has had.
fn most_of_a_child() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() * 1024
}

/// 1024 volumes, all different, with all that a volume can have.
fn volumes(first: u64) -> String {
    let mut columns = Vec::new();
    for field in Level::Volume.fields() {
        let mut column = format!("\"{}\":[", field.name);
        for volume in first..first + 1024 {
            let mixed = u128::from(volume).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let _ = match field.name {
                "volume_id" => write!(column, "\"{mixed:032x}\","),
                "volume_fs_type" => write!(column, "\"ext4\","),
                "volume_labels" => write!(column, "{{\"storageos.com/replicas\":\"{}\"}},", volume % 6),
                "volume_metrics" => write!(column, "{{\"a\":{},\"b\":{}.5}},", volume % 1000, volume % 77),
                "volume_placement_strategy" => write!(column, "\"random\","),
                "volume_provision_source_user_agent" => write!(column, "\"cli/1.2\","),
                "volume_replicas" => write!(column, "{},", volume % 6),
                _ => write!(column, "{},", volume % 4096),
            };
        }
        column.pop();
        columns.push(column + "]");
    }
    format!("{{\"volumes\":{{{}}}}}\n", columns.join(","))
}

#[test]
fn a_large_report_and_many_small_ones_take_little_memory() {
    let scratch = Scratch::new("memory");
    let key = Key::new(&scratch, "key");
    let data = scratch.0.join("data");
    // A million volumes: 977 row groups.
    let groups = 977;
    let large = key.seal([0xff; 16], |out| {
        out.write_all(head(0xff, "").as_bytes()).unwrap();
        (0..groups).for_each(|group| out.write_all(volumes(group * 1024).as_bytes()).unwrap());
        out.write_all(end(0, 1024 * groups as usize).as_bytes()).unwrap();
    });
    store(&data, &name(0xff), &large);
    // Ten million, of which nothing is known.
    let nothing = group(Level::Volume, 1024, &[]);
    let too_large = key.seal([0xfe; 16], |out| {
        out.write_all(head(0xfe, "").as_bytes()).unwrap();
        (0..10_000).for_each(|_| out.write_all(nothing.as_bytes()).unwrap());
    });
    store(&data, &name(0xfe), &too_large);
    // As many values in one line as may be, each as large as can be.
    let objects: Vec<String> = (0..110_000).map(|number| format!("\"o{number}\":{{\"200\":1}}")).collect();
    let objects = format!(",\"api_call_metrics\":{{{}}}", objects.join(","));
    store(&data, &name(0xfd), &key.seal_text(0xfd, &(head(0xfd, &objects) + &end(0, 0))));
    let node = group(Level::Node, 3, &[]);
    for number in 0..10_000_u32 {
        let mut id = [0; 16];
        id[12..].copy_from_slice(&number.to_be_bytes());
        let text = head(0, "").replace(&name(0), &HEXLOWER.encode(&id)) + &node + &end(3, 0);
        store(&data, &HEXLOWER.encode(&id), &key.seal(id, |out| out.write_all(text.as_bytes()).unwrap()));
    }
    let output = run(&mut opening(&data, &[key.file]));
    let said = said(&output);
    assert!(said.contains("10002 reports opened, 1 set aside"), "{said}");
    assert!(said.contains("it unpacks to more than 1073741824 bytes"), "{said}");
    let part = data.join(format!("lake/volumes/day={DATE}/part-00-of-01.parquet"));
    assert!(std::fs::metadata(part).unwrap().len() > 16 << 20, "its ids alone are that much");
    let most = most_of_a_child();
    assert!(most < MOST, "{} MiB", most >> 20);
}
