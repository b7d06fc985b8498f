//! Buffers of blocks that were given out: one that nobody holds any more is filled again.

use std::sync::Arc;

/// Most buffers that are kept for another use: two cycles of 64 MiB in blocks of 1 MiB.
const BUFFERS_MAX: usize = 128;

/// The buffers.
#[derive(Debug, Default)]
pub(super) struct Pool<T>(Vec<Arc<T>>);

impl<T: Default> Pool<T> {
    /// A buffer that nobody holds, else a new one.
    pub(super) fn take(&mut self) -> T {
        let free = self.0.iter().position(|buffer| Arc::strong_count(buffer) == 1);
        let buffer = free.map(|n| self.0.swap_remove(n));
        buffer.and_then(|buffer| Arc::try_unwrap(buffer).ok()).unwrap_or_default()
    }

    /// A full buffer for all who read it, kept to be filled again.
    pub(super) fn share(&mut self, buffer: T) -> Arc<T> {
        let buffer = Arc::new(buffer);
        if self.0.len() < BUFFERS_MAX {
            self.0.push(buffer.clone());
        }
        buffer
    }
}
