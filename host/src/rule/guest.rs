//! One instance of a guest module and the calls into it, with fuel, memory cap, `log` and `fail`.
//!
//! The host trusts nothing that comes back: every address is checked against the memory of that moment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use retag_abi::{BUFFER_ALIGN, EXPORT_MEMORY, EXPORT_RESERVE, unpack};
use wasmtime::{Caller, InstancePre, Memory, ResourceLimiter, Store, Trap, TypedFunc};

use super::error::Fault;
use super::limits::{
    FAIL_BYTES_MAX, LOG_BYTES_MAX, LOG_FUEL, LOG_LINES_PER_CALL_MAX, Limits, TABLE_ELEMENTS_MAX,
};

/// Lines kept of a rule's `log`.
const LOG_LINES_KEPT: usize = 100;

/// What a rule logged: the last lines, and how many there were.
#[derive(Debug, Default)]
pub struct GuestLog {
    lines: AtomicU64,
    kept: Mutex<VecDeque<String>>,
}

impl GuestLog {
    /// Lines logged since the start, kept or not.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Takes the lines kept, oldest first.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    fn push(&self, line: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LOG_LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// A compiled module, ready to be instantiated.
pub(crate) struct Part {
    pub(crate) pre: InstancePre<HostSide>,
    pub(crate) export: &'static str,
    pub(crate) limits: Limits,
    pub(crate) log: Arc<GuestLog>,
}

/// The host's side of an instance.
pub(crate) struct HostSide {
    memory_max: usize,
    denied: Option<usize>,
    failed: Option<String>,
    lines: u32,
    log: Arc<GuestLog>,
}

impl ResourceLimiter for HostSide {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired <= self.memory_max {
            return Ok(true);
        }
        self.denied = Some(desired);
        Err(wasmtime::Error::msg("memory cap"))
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        8
    }
}

/// An instance.
pub(crate) struct Guest {
    store: Store<HostSide>,
    memory: Memory,
    reserve: TypedFunc<u32, u32>,
    call: TypedFunc<(u32, u32), i64>,
}

impl Guest {
    /// A fresh instance; its start code runs with `fuel`.
    pub(crate) fn new(part: &Part, fuel: u64) -> Result<Self, Fault> {
        let side = HostSide {
            memory_max: part.limits.memory_bytes,
            denied: None,
            failed: None,
            lines: 0,
            log: Arc::clone(&part.log),
        };
        let mut store = Store::new(part.pre.module().engine(), side);
        store.limiter(|side| side);
        store.set_fuel(fuel).map_err(|error| Fault::new("engine", error.to_string()))?;
        let instance = part.pre.instantiate(&mut store);
        let instance = instance.map_err(|error| fault(&error, &mut store))?;
        let missing = |name: &str| Fault::new("missing-export", format!("export `{name}` is missing"));
        let memory = instance.get_memory(&mut store, EXPORT_MEMORY).ok_or_else(|| missing(EXPORT_MEMORY))?;
        let reserve =
            instance.get_typed_func(&mut store, EXPORT_RESERVE).map_err(|_| missing(EXPORT_RESERVE))?;
        let call = instance.get_typed_func(&mut store, part.export).map_err(|_| missing(part.export))?;
        Ok(Self { store, memory, reserve, call })
    }

    pub(crate) fn set_fuel(&mut self, fuel: u64) {
        let _ = self.store.set_fuel(fuel); // fails only where metering is off
    }

    pub(crate) fn fuel_left(&self) -> u64 {
        self.store.get_fuel().unwrap_or(0)
    }

    /// Size of the guest's memory in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Asks for an input buffer and lets `write` fill it; its address.
    pub(crate) fn input(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<u32, Fault> {
        let too_long =
            || Fault::new("image-too-large", format!("a batch of {len} bytes does not fit a guest"));
        let bytes = u32::try_from(len).map_err(|_| too_long())?;
        let at = self.reserve.call(&mut self.store, bytes).map_err(|error| fault(&error, &mut self.store))?;
        let memory = self.memory.data_mut(&mut self.store);
        let place = memory.get_mut(at as usize..).and_then(|rest| rest.get_mut(..len));
        match place {
            Some(place) if (at as usize).is_multiple_of(BUFFER_ALIGN) => {
                write(place);
                Ok(at)
            }
            _ => Err(Fault::new(
                "bad-reserve",
                format!(
                    "`reserve({len})` answered {at}: outside the memory, or not aligned to {BUFFER_ALIGN}"
                ),
            )),
        }
    }

    /// Calls the part's export; (address, length) of its output, not yet checked.
    pub(crate) fn run(&mut self, at: u32, len: usize) -> Result<(u32, u32), Fault> {
        self.store.data_mut().lines = 0;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        match self.call.call(&mut self.store, (at, len)) {
            Ok(packed) => Ok(unpack(packed)),
            Err(error) => Err(fault(&error, &mut self.store)),
        }
    }

    /// The guest's memory.
    pub(crate) fn memory(&self) -> &[u8] {
        self.memory.data(&self.store)
    }
}

/// Names what went wrong in a call.
fn fault(error: &wasmtime::Error, store: &mut Store<HostSide>) -> Fault {
    let side = store.data_mut();
    if let Some(desired) = side.denied.take() {
        let max = side.memory_max;
        return Fault::new(
            "memory-limit",
            format!("asked for {desired} bytes of memory, the limit is {max}"),
        );
    }
    if let Some(message) = side.failed.take() {
        return Fault::new("guest-failed", message);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Fault::new("out-of-fuel", "used up its fuel: is there an endless loop?"),
        Some(Trap::StackOverflow) => {
            Fault::new("stack-overflow", "used up its stack: is there a deep recursion?")
        }
        Some(trap) => Fault::new("guest-trap", trap.to_string()),
        None => Fault::new("guest-trap", error.to_string()),
    }
}

/// Import `log(level, ptr, len)`: bounded, counted, and not free.
pub(crate) fn log(mut caller: Caller<'_, HostSide>, level: u32, at: u32, len: u32) -> wasmtime::Result<()> {
    let left = caller.get_fuel()?.checked_sub(LOG_FUEL).ok_or(Trap::OutOfFuel)?;
    caller.set_fuel(left)?;
    caller.data().log.lines.fetch_add(1, Ordering::Relaxed);
    if caller.data().lines < LOG_LINES_PER_CALL_MAX {
        let text = guest_text(&mut caller, at, len, LOG_BYTES_MAX);
        let side = caller.data_mut();
        side.lines += 1;
        side.log.push(format!("{level} {text}"));
    }
    Ok(())
}

/// Import `fail(ptr, len)`: keeps the message and traps.
pub(crate) fn fail(mut caller: Caller<'_, HostSide>, at: u32, len: u32) -> wasmtime::Result<()> {
    let text = guest_text(&mut caller, at, len, FAIL_BYTES_MAX);
    caller.data_mut().failed = Some(text);
    Err(Trap::UnreachableCodeReached.into())
}

/// Text in guest memory, cut at `max` bytes; control characters and what is not UTF-8 are replaced.
fn guest_text(caller: &mut Caller<'_, HostSide>, at: u32, len: u32, max: usize) -> String {
    let Some(memory) = caller.get_export(EXPORT_MEMORY).and_then(wasmtime::Extern::into_memory) else {
        return String::new();
    };
    let len = (len as usize).min(max);
    let bytes = memory.data(&caller).get(at as usize..).and_then(|rest| rest.get(..len));
    let Some(bytes) = bytes else { return "(a message outside the guest's memory)".into() };
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
