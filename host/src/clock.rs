//! The only place that reads a clock. Everything else is handed a time, so that the simulation can turn it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time in microseconds since 1970.
#[must_use]
#[allow(clippy::disallowed_methods)] // this is `clock`
pub fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A moment for measuring durations.
#[must_use]
#[allow(clippy::disallowed_methods)] // this is `clock`
pub fn moment() -> Instant {
    Instant::now()
}

/// When something began, by the wall and by what the thread has had of the processor.
#[derive(Clone, Copy, Debug)]
pub struct Begun(Instant, Duration);

impl Begun {
    /// Now, on this thread.
    #[must_use]
    pub fn now() -> Self {
        Self(moment(), thread_cpu())
    }

    /// Wall time and processor time since, on the same thread.
    #[must_use]
    pub fn took(self) -> [Duration; 2] {
        [self.0.elapsed(), thread_cpu().saturating_sub(self.1)]
    }
}

/// What this thread has had of the processor.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Wall time since `since` in nanoseconds; stages are measured by the wall time of their steps.
#[must_use]
pub fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Prints engine time as RFC 3339 in UTC with microseconds.
#[must_use]
pub fn rfc3339(us: i64) -> String {
    let (days, in_day) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000));
    let (year, month, day) = civil(days);
    let (seconds, micros) = (in_day / 1_000_000, in_day % 1_000_000);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Year, month and day of a day number. Source: H. Hinnant, "chrono-compatible low-level date algorithms".
#[must_use]
pub const fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(1_709_251_199_123_456), "2024-02-29T23:59:59.123456Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
    }
}
