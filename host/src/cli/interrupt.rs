//! Ctrl-C while the host works on something: the command says that it goes on before it ends, as it always does, by the
//! signal.

use signal_hook::consts::SIGINT;
use signal_hook::flag::{register, register_conditional_default};
use signal_hook::low_level::emulate_default_handler;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// While one is held, Ctrl-C is noted; when it is dropped, one that came ends the program.
pub(super) struct Noted(&'static Flags);

struct Flags {
    seen: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
}

impl Noted {
    /// Begins to note.
    ///
    /// # Errors
    /// The operating system says no.
    pub(super) fn begin() -> std::io::Result<Self> {
        static FLAGS: OnceLock<Flags> = OnceLock::new();
        let flags = match FLAGS.get() {
            Some(flags) => flags,
            None => {
                let flags = Flags { seen: Arc::default(), ends: Arc::default() };
                register_conditional_default(SIGINT, flags.ends.clone())?;
                register(SIGINT, flags.seen.clone())?;
                FLAGS.get_or_init(|| flags)
            }
        };
        flags.ends.store(false, Ordering::SeqCst);
        Ok(Self(flags))
    }

    /// It came.
    pub(super) fn is_seen(&self) -> bool {
        self.0.seen.load(Ordering::SeqCst)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::SeqCst);
        if self.is_seen() {
            let _ = emulate_default_handler(SIGINT); // where it cannot, the command ends with an error
        }
    }
}
