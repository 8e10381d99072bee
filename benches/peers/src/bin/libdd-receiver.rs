//! What libdd-crashtracker starts when its host crashes.

fn main() {
    libdd_crashtracker::receiver_entry_point_stdin().expect("a report");
}
