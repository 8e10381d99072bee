//! The victim as a part of a Rust program, which adds deaths in Rust: `deaths with|without DEATH`.

use std::ffi::{CString, c_char, c_int};

unsafe extern "C" {
    static mut plugin: Option<extern "C" fn()>;
    fn victim_main(argc: c_int, argv: *const *const c_char) -> c_int;
}

extern "C" fn panic() {
    panic!("a text that stays here");
}

extern "C" fn overflow() {
    std::hint::black_box(recurse(0));
}

extern "C" fn overflow_thread() {
    let _ = std::thread::spawn(|| overflow()).join();
}

extern "C" fn segv_thread() {
    // SAFETY: none; that is its purpose.
    let _ = std::thread::spawn(|| unsafe { std::ptr::null_mut::<u8>().write_volatile(1) }).join();
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[0]
}

fn main() {
    let mut arguments = std::env::args();
    let death = match arguments.nth(2).as_deref() {
        Some("panic") => panic,
        Some("overflow") => overflow,
        Some("overflow_thread") => overflow_thread,
        Some("segv_thread") => segv_thread,
        other => unreachable!("{other:?}"),
    };
    // The test's output stays readable.
    std::panic::set_hook(Box::new(|_| {}));
    let words = [std::env::args().next().unwrap(), std::env::args().nth(1).unwrap(), "plugin".to_owned()];
    let words = words.map(|word| CString::new(word).unwrap());
    let argv = [words[0].as_ptr(), words[1].as_ptr(), words[2].as_ptr(), std::ptr::null()];
    // SAFETY: the victim's own entry, on the main thread, before anything else.
    let code = unsafe {
        plugin = Some(death);
        victim_main(3, argv.as_ptr())
    };
    std::process::exit(code);
}
