//! Waiting for a word of one's own memory that a peer changes.

use artesian_bus::{GlobalAddr, Verb, Verbs};

/// Shorter than this a wait only spins.
const SPIN_NS: u64 = 300;
/// Waits that give the processor away, if anybody wants it.
const YIELD_NS: u64 = 3_000;
/// A sleeper looks this often whether there is still somebody to wait for.
const LOOK_NS: u64 = 5_000_000;

/// How one waits: nothing is as quick as spinning, and nothing as rude.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Nanoseconds of spinning.
    pub spin_ns: u64,
    /// Nanoseconds of yielding behind that; then it is slept.
    pub yield_ns: u64,
}

impl Patience {
    /// Sleeps at once.
    pub const NONE: Patience = Patience { spin_ns: 0, yield_ns: 0 };
}

/// A word that is waited for, and the word that tells its writers to wake whoever waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bell {
    pub word: GlobalAddr,
    pub asleep: GlobalAddr,
}

impl Bell {
    /// Waits until the word is not `seen`, `until_ns` has come, or `go_on` says no, which is asked
    /// now and then and told whether the waiter is at the point of sleeping. Returns the word.
    pub fn wait<V: Verbs>(
        &self,
        verbs: &V,
        seen: u64,
        until_ns: u64,
        patience: Patience,
        mut go_on: impl FnMut(bool) -> bool,
    ) -> u64 {
        let start = verbs.now_ns();
        loop {
            let word = verbs.mailbox(self.word);
            let now = verbs.now_ns();
            if word != seen || now >= until_ns {
                return word;
            }
            let waited = now.saturating_sub(start);
            if waited < patience.spin_ns {
                verbs.relax(SPIN_NS);
            } else if waited < patience.spin_ns + patience.yield_ns {
                verbs.relax(YIELD_NS);
                if !go_on(false) {
                    return verbs.mailbox(self.word);
                }
            } else {
                if !go_on(true) {
                    return verbs.mailbox(self.word);
                }
                self.sleep(verbs, seen, (until_ns - now).min(LOOK_NS));
            }
        }
    }

    fn sleep<V: Verbs>(&self, verbs: &V, seen: u64, timeout_ns: u64) {
        // An atomic operation: what was written before a peer looks at it is seen behind it.
        let told = verbs.batch(&mut [Verb::cas(self.asleep, 0, 1)]);
        if told.is_err() {
            // The own memory is gone: nobody will write there. The caller's time runs on.
            verbs.relax(timeout_ns.min(1_000_000));
            return;
        }
        verbs.wait_mailbox(self.word, seen, timeout_ns);
        let _ = verbs.batch(&mut [Verb::cas(self.asleep, 1, 0)]);
    }
}
