//! Which threads get a core first while all want one: those that rows go through stand back, those that answer come at once.
//!
//! All of it is a wish: where the system does not know or not allow it, threads are alike, and nothing fails.

/// The thread that calls it stands back behind others, as do those that it starts.
pub fn stand_back(nice: i32) {
    let _ = rustix::process::nice(nice); // not allowed: all are alike
}

/// The thread that calls it answers others: a short piece of work is due whenever it wakes. It asks for short turns, so that the
/// scheduler lets it in between the longer ones of others; of the time as a whole it gets no more than before.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // two system calls that no safe crate offers
pub fn answer_at_once() {
    /// The shortest turn that Linux gives (since 6.12; older ones pass over it).
    const TURN_NS: u64 = 100_000;
    /// The structure as the kernel first had it: 48 bytes.
    const SIZE: u32 = 48;
    // SAFETY: it takes a number and gives one.
    let policy = unsafe { libc::sched_getscheduler(0) };
    let Ok(nice) = rustix::process::getpriority_process(None) else { return };
    if policy != libc::SCHED_OTHER {
        return; // whoever started the host has chosen
    }
    let attributes = libc::sched_attr {
        size: SIZE,
        sched_policy: libc::SCHED_OTHER.unsigned_abs(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: TURN_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a structure that lives until the call is over, and keeps nothing of it.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// Elsewhere there is no such wish.
#[cfg(not(target_os = "linux"))]
pub fn answer_at_once() {}
