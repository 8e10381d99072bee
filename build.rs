//! Link arguments of the shared library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The SONAME counts ABI breaks, not releases: docs/abi.md.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libondat_telemetry.so.0");
    // Signal handlers and alternate signal stacks outlive a dlclose(3); the library must stay mapped.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
