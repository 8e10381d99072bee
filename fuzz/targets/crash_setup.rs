//! The setup that a crash monitor gets from its host.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::crash::sentry::Dsn;
use ondat_telemetry::crash::setup::Setup;
use ondat_telemetry::switch::Switch;
use ondat_telemetry::switches::Switches;

fuzz_target!(|json: &[u8]| {
    let Ok(setup) = serde_json::from_slice::<Setup>(json) else { return };
    let written = serde_json::to_string(&setup).expect("a setup that was read cannot be written");
    let again: Setup = serde_json::from_str(&written).expect("a setup that was written cannot be read");
    assert_eq!(serde_json::to_string(&again).ok(), Some(written));
    // What the monitor does with it before it sends.
    if let Ok(dsn) = Dsn::parse(&setup.dsn) {
        let _ = setup.https.proxy_of(dsn.endpoint());
    }
    let switches = Switches::new(setup.host_switches, setup.objections.clone(), None);
    for switch in Switch::ALL {
        let is_objected = setup.objections.iter().any(|objection| objection.switch == switch);
        let is_on = setup.host_switches & switch.bit() != 0 && !is_objected;
        assert_eq!(switches.permit(switch).is_ok(), is_on, "{}", switch.name());
    }
});
