//! Fail points: places where the process kills itself with SIGKILL when it is asked to, so that crash tests can say in
//! which step a kill fell.
//!
//! `RETAG_FAILPOINT=fsync:17` kills at the 17th time that step is hit. Without it a hit costs one relaxed load.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Where a process can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// A block is decoded, the cycle is open.
    Decode = 2,
    /// A block of the lane is decoded, the cycle is open.
    Lane,
    /// A commit is assembled, nothing of it is written.
    BlockWrite,
    /// A batch is in the journal, its fsync has not begun.
    Fsync,
    /// A slice of a fold is made, not written.
    Fold,
    /// A sink has messages for good, the state does not know yet.
    Delivery,
    /// A sink has written half of a line.
    TornLine,
    /// A sink has produced messages, their transaction is open.
    Produce,
    /// A sink's transaction is committed, nobody else knows yet.
    Transaction,
    /// A sink's transaction is about to be taken back.
    Abort,
}

impl Step {
    /// Steps that every host has, with the names that the environment calls them by.
    pub const ALL: [(&'static str, Self); 7] = [
        ("decode", Self::Decode),
        ("lane", Self::Lane),
        ("block-write", Self::BlockWrite),
        ("fsync", Self::Fsync),
        ("fold", Self::Fold),
        ("delivery", Self::Delivery),
        ("torn-line", Self::TornLine),
    ];

    /// Steps that only a sink with transactions has.
    pub const OF_TRANSACTIONS: [(&'static str, Self); 3] =
        [("produce", Self::Produce), ("transaction", Self::Transaction), ("abort", Self::Abort)];

    /// All of them.
    fn every() -> impl Iterator<Item = (&'static str, Self)> {
        Self::ALL.into_iter().chain(Self::OF_TRANSACTIONS)
    }
}

/// The environment has not been read.
const UNREAD: u8 = 0;
/// No step is armed.
const OFF: u8 = 1;

/// [`UNREAD`], [`OFF`] or the armed step.
static ARMED: AtomicU8 = AtomicU8::new(UNREAD);
/// Hits until the kill.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Kills the process if this is the hit that was asked for.
#[inline]
pub fn hit(step: Step) {
    if is_due(step) {
        kill();
    }
}

/// Writes half of `text` to `out` and kills the process, if this is the hit of [`Step::TornLine`] that was asked for.
#[inline]
pub fn tear(out: &mut impl std::io::Write, text: &[u8]) {
    if is_due(Step::TornLine) {
        let half = text.get(..text.len() / 2).unwrap_or(text);
        let _ = out.write_all(half); // what fails here is cut off by the kill anyway
        kill();
    }
}

#[inline]
fn is_due(step: Step) -> bool {
    match ARMED.load(Ordering::Relaxed) {
        OFF => false,
        armed => is_due_now(armed, step),
    }
}

#[cold]
fn is_due_now(mut armed: u8, step: Step) -> bool {
    if armed == UNREAD {
        armed = arm();
    }
    armed == step as u8 && LEFT.fetch_sub(1, Ordering::SeqCst) == 1
}

/// Reads the environment; the first caller decides.
fn arm() -> u8 {
    let (armed, left) = match std::env::var("RETAG_FAILPOINT").ok().map(|text| parse(&text).ok_or(text)) {
        None => (OFF, 0),
        Some(Ok((step, left))) => (step as u8, left),
        Some(Err(text)) => {
            // A test that asks for a kill and gets none would prove nothing.
            eprintln!(
                "retag: RETAG_FAILPOINT={text}: write STEP:NUMBER with a step of {:?}",
                Step::every().map(|s| s.0).collect::<Vec<_>>()
            );
            std::process::exit(64);
        }
    };
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        LEFT.store(left, Ordering::SeqCst);
        ARMED.store(armed, Ordering::SeqCst);
    });
    armed
}

fn parse(text: &str) -> Option<(Step, u64)> {
    let (name, number) = text.split_once(':')?;
    let (_, step) = Step::every().find(|(known, _)| *known == name)?;
    Some((step, number.parse().ok().filter(|number| *number > 0)?))
}

/// As `kill -9` from outside: no destructor, no flush.
#[cold]
fn kill() {
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGKILL);
    std::process::abort(); // where there is no such signal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_and_a_number_are_read_and_nothing_else() {
        assert_eq!(parse("fsync:17"), Some((Step::Fsync, 17)));
        assert_eq!(parse("torn-line:1"), Some((Step::TornLine, 1)));
        assert_eq!(parse("abort:2"), Some((Step::Abort, 2)));
        for text in ["fsync", "fsync:", "fsync:0", "fsync:-1", "sync:1", ""] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_armed_without_the_environment() {
        Step::every().for_each(|(_, step)| hit(step));
    }
}
