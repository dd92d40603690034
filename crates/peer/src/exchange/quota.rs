//! How much of the time the executor may take from its engine.

/// Time that may be saved up, in nanoseconds of the engine's work.
const BURST_NS: f64 = 10e6;

/// A share of the time while the engine works; all of it while it does not. It is paid in advance
/// and made up for by pauses, so that over more than a moment the engine keeps the rest.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    share: f64,
    credit_ns: f64,
    last_ns: u64,
}

impl Quota {
    /// A share between 0 (excluded) and 1.
    pub fn new(share: f64, now_ns: u64) -> Quota {
        let share = share.clamp(0.01, 1.0);
        Quota { share, credit_ns: share * BURST_NS, last_ns: now_ns }
    }

    /// Changes the share.
    pub fn set_share(&mut self, share: f64) {
        self.share = share.clamp(0.01, 1.0);
    }

    /// Notes that by `now_ns` the executor has worked for `worked_ns` more, while the engine
    /// worked or not.
    pub fn spend(&mut self, now_ns: u64, worked_ns: u64, is_contended: bool) {
        let passed = now_ns.saturating_sub(self.last_ns) as f64;
        self.last_ns = now_ns;
        let share = if is_contended { self.share } else { 1.0 };
        let spent = if is_contended { worked_ns as f64 } else { 0.0 };
        self.credit_ns = (self.credit_ns + share * passed - spent).min(self.share * BURST_NS);
    }

    /// How long it has to pause now if the engine works meanwhile.
    pub fn pause_ns(&self) -> u64 {
        if self.share >= 1.0 || self.credit_ns >= 0.0 {
            return 0;
        }
        (-self.credit_ns / self.share) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works for `work` whenever it may; its share of the time behind the first moment.
    fn share_taken(share: f64, work: u64, is_contended: bool) -> f64 {
        let mut quota = Quota::new(share, 0);
        let (mut now, mut worked) = (0, 0);
        while now < 2_000_000_000 {
            now += quota.pause_ns();
            quota.spend(now, 0, is_contended);
            now += work;
            worked += work;
            quota.spend(now, work, is_contended);
        }
        worked as f64 / now as f64
    }

    #[test]
    fn no_more_than_the_share_is_taken_and_no_less() {
        for share in [0.1, 0.3, 0.5, 0.9] {
            for work in [50_000, 1_000_000, 7_000_000] {
                let taken = share_taken(share, work, true);
                assert!((taken - share).abs() < 0.02, "{taken} of {share} in pieces of {work}");
            }
        }
        assert_eq!(share_taken(0.1, 50_000, false), 1.0);
        assert_eq!(share_taken(1.0, 50_000, true), 1.0);
    }

    #[test]
    fn what_was_not_used_is_not_saved_up_for_long() {
        let mut quota = Quota::new(0.5, 0);
        quota.spend(60_000_000_000, 0, true);
        quota.spend(60_000_000_000, 6_000_000, true);
        assert_eq!(quota.pause_ns(), 2_000_000);
    }
}
