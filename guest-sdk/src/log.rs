//! `log!`: a line to the host's log, for finding out what a rule does. Never part of a result.

/// Writes a line to the host's log; natively to stderr.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => {
        $crate::derive::log_line(&$crate::alloc::format!($($arg)*))
    };
}

#[doc(hidden)]
pub fn line(text: &str) {
    #[cfg(target_family = "wasm")]
    crate::guest::log(retag_abi::LOG_INFO, text);
    #[cfg(not(target_family = "wasm"))]
    std::eprintln!("{text}");
}
