//! Notices forks: a child has the parent's memory, but is not the client that the pool knows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Once;

static FORKS: AtomicU64 = AtomicU64::new(0);
static WATCHING: Once = Once::new();

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How many forks lie between this process and the one that first asked. Costs no system call.
#[inline]
pub fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Starts to count; says how many there were.
pub fn watch() -> u64 {
    WATCHING.call_once(|| {
        // SAFETY: the handler only adds to an atomic number, which is safe after a fork.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    forks()
}
