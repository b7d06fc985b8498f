//! The only way to ask about time: each question leaves the moment at which its answer changes, and the host wakes the
//! key up then. A rule can therefore never depend on a time that nobody watches.

use core::cell::Cell;

use crate::Timestamp;

/// Engine time, asked by `label`.
#[derive(Debug)]
pub struct Clock {
    now: i64,
    wake: Cell<i64>,
}

impl Clock {
    /// A clock that stands at `now`.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self { now: now.micros(), wake: Cell::new(retag_abi::WAKE_NEVER) }
    }

    /// Whether engine time has reached `moment`.
    #[inline]
    pub fn reached(&self, moment: Timestamp) -> bool {
        let reached = self.now >= moment.micros();
        if !reached {
            self.wake.set(self.wake.get().min(moment.micros()));
        }
        reached
    }

    /// The earliest moment asked for that is still to come, in µs; [`retag_abi::WAKE_NEVER`] if there is none.
    #[must_use]
    #[inline]
    pub fn wake(&self) -> i64 {
        self.wake.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_open_question_is_the_alarm() {
        let clock = Clock::new(Timestamp::from_micros(10));
        assert!(clock.reached(Timestamp::from_micros(10)));
        assert_eq!(clock.wake(), retag_abi::WAKE_NEVER);
        assert!(!clock.reached(Timestamp::from_micros(30)));
        assert!(!clock.reached(Timestamp::from_micros(20)));
        assert_eq!(clock.wake(), 20);
    }
}
