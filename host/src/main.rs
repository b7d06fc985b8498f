//! The `retag` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds that freed memory is kept for reuse before it goes back to the system. A commit frees what the next one
/// asks for again; the allocator's default of ten is shorter than the time between them.
const PURGE_DELAY_MS: std::ffi::c_long = 1000;
/// `mi_option_purge_delay` in mimalloc's header.
const MI_OPTION_PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // SAFETY: sets one number of the allocator before there is a second thread; numbers of no option are ignored by it.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set_default(MI_OPTION_PURGE_DELAY, PURGE_DELAY_MS);
    }
    retag_host::cli::main()
}
