//! One event of each kind, as the library makes them.

use ondat_telemetry::crash::limit::CrashLimits;
use ondat_telemetry::sys::clock::{Clock, Moment, SystemClock};
use ondat_telemetry_protocol::ending::Ending;
use ondat_telemetry_protocol::event::{Crash, Subject, event};
use serde_json::Value;

/// The kinds' names and events.
pub(crate) fn kinds() -> Vec<(&'static str, Value)> {
    let now = SystemClock::new().now();
    let (segv, kill) = (Ending::from_wait_status(139).unwrap(), Ending::from_wait_status(9).unwrap());
    let exit = Ending::from_wait_status(3 << 8).unwrap();
    vec![
        ("signal", made(&now, segv, Some("address not mapped"), None)),
        ("exit code", made(&now, exit, None, None)),
        ("memory limit", made(&now, kill, Some("memory limit"), None)),
        ("unclean ending", made(&now, Ending::Unknown, None, None)),
        // What people write, in words that a scrubber might take for something else.
        ("caller's text", made(&now, exit, None, Some("disk 192.0.2.7 failed, password=hunter2 mail joe@example.com"))),
        ("counted", counted(&now, segv)),
    ]
}

fn made(now: &Moment, ending: Ending, class: Option<&str>, text: Option<&str>) -> Value {
    let subject = Subject {
        component: "dataplane",
        version: "2.8.2",
        cluster_id: "00112233445566778899aabbccddeeff",
        node_id: "ffeeddccbbaa99887766554433221100",
    };
    let crash =
        Crash { event_id: "0123456789abcdef0123456789abcdef", at: now.unix, ending, class, text, is_child: false };
    event(&subject, &crash)
}

/// The one that counts those which were held back before it.
fn counted(now: &Moment, ending: Ending) -> Value {
    let mut limits = CrashLimits::default();
    while limits.held() < 8 {
        let _ = limits.admit(made(now, ending, Some("address not mapped"), None), now);
    }
    let mut later = now.clone();
    later.unix += 7_200;
    later.boot.as_mut().unwrap().seconds += 7_200;
    let released = limits.release(&later).remove(0);
    let sentence = released["exception"]["values"][0]["value"].as_str().unwrap();
    assert!(sentence.ends_with(", and 7 more like it that were not sent"), "{sentence}");
    released
}
