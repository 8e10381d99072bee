//! libdd-crashtracker with its receiver, which writes a file, configured as the crate's documentation recommends: stack
//! traces with symbols, an alternate stack of its own, the signals and the timeout that it has by itself.

use libdd_crashtracker::{CrashtrackerConfiguration, CrashtrackerReceiverConfig, Metadata, StacktraceCollection};
use peers::{Host, folder, now_ns};

fn main() {
    let host = Host::start();
    let receiver = std::env::current_exe().expect("this program").with_file_name("libdd-receiver");
    let receiver = receiver.into_os_string().into_string().expect("a path in UTF-8");
    let receiver = CrashtrackerReceiverConfig::new(vec![], vec![], receiver, None, None).expect("a receiver");
    let config = CrashtrackerConfiguration::builder()
        .create_alt_stack(true)
        .use_alt_stack(true)
        .demangle_names(true)
        .resolve_frames(StacktraceCollection::EnabledWithSymbolsInReceiver)
        .endpoint_url(&format!("file://{}", folder().join("report").display()))
        .build()
        .expect("a configuration");
    let metadata = Metadata::new("bench".to_owned(), "1.2.3".to_owned(), "native".to_owned(), vec![]);
    let start = now_ns();
    libdd_crashtracker::init(config, receiver, metadata).expect("a handler");
    host.crash(now_ns() - start, None);
}
