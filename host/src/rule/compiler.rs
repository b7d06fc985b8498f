//! Compiling within a time limit, off the data path: on a thread that gives way to all others.
//!
//! A compiler cannot be stopped. One that takes too long is left to its end, and its file is refused; while some are left, no
//! further file is compiled.

use super::error::RuleError;
use crate::priority::stand_back;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Duration;
use wasmtime::{Engine, Module};

/// Longest that a module may take.
pub(super) const COMPILE_TIME_MAX: Duration = Duration::from_secs(30);
/// Compilers that may be left behind at once.
const LEFT_MAX: usize = 2;
/// How far the compiler's threads stand back behind those that rows go through.
const NICENESS: i32 = 10;

/// Compilers that took too long and still run.
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// Compiles each of `modules`, side by side.
///
/// # Errors
/// One is no module, or takes longer than `time`.
pub(super) fn compile(
    engine: &Engine,
    rule: &str,
    modules: &[&[u8]],
    time: Duration,
) -> Result<Vec<Module>, RuleError> {
    if modules.is_empty() {
        return Ok(Vec::new()); // all are kept: whoever compiles is no matter
    }
    let too_long = || RuleError::CompileTime { rule: rule.to_owned(), seconds: time.as_secs() };
    if LEFT.load(Ordering::Relaxed) >= LEFT_MAX {
        return Err(too_long());
    }
    let stopped = |what: &str| RuleError::Engine { message: format!("the compiler's thread {what}") };
    let mut waiting = Vec::new();
    for wasm in modules {
        let (engine, wasm) = (engine.clone(), wasm.to_vec());
        let (give, take) = sync_channel(1);
        let work = move || {
            stand_back(NICENESS);
            let _ = give.send(Module::from_binary(&engine, &wasm)); // nobody may wait any more
        };
        let thread = Builder::new().name("compiler".into()).spawn(work);
        let thread = thread.map_err(|error| stopped(&format!("does not start: {error}")))?;
        waiting.push((thread, take));
    }
    let mut compiled = Vec::new();
    for (thread, take) in waiting {
        match take.recv_timeout(time) {
            Ok(Ok(module)) => compiled.push(module),
            Ok(Err(error)) => {
                return Err(RuleError::NotWasm {
                    message: format!("rule {rule} does not compile: {error:#}"),
                });
            }
            Err(RecvTimeoutError::Disconnected) => return Err(stopped("ended in a panic")),
            Err(RecvTimeoutError::Timeout) => {
                LEFT.fetch_add(1, Ordering::Relaxed);
                let wait = move || {
                    let _ = thread.join(); // whatever became of it
                    LEFT.fetch_sub(1, Ordering::Relaxed);
                };
                if Builder::new().name("compiler".into()).spawn(wait).is_err() {
                    LEFT.fetch_sub(1, Ordering::Relaxed);
                }
                return Err(too_long());
            }
        }
    }
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(functions: usize) -> Vec<u8> {
        let body = "(func (param i32) (result i32) local.get 0 i32.const 3 i32.mul i32.const 5 i32.add)";
        wat::parse_str(format!("(module {})", body.repeat(functions))).unwrap()
    }

    #[test]
    fn what_takes_too_long_is_refused_and_ends_by_itself() {
        let engine = Engine::default();
        let (large, small) = (many(20_000), many(1));
        let error = compile(&engine, "payer", &[&large], Duration::ZERO).unwrap_err();
        assert_eq!(error.code(), "compile-timeout");
        while LEFT.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(compile(&engine, "payer", &[&small, &small], COMPILE_TIME_MAX).unwrap().len(), 2);
        assert_eq!(compile(&engine, "payer", &[b"no"], COMPILE_TIME_MAX).unwrap_err().code(), "not-wasm");
    }
}
