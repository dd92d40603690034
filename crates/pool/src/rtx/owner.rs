//! Whether the holder of a lock lives, and waiting for it.

use crate::address::ClientId;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership::{standing, Standing};

/// Whether `client` has been declared dead (or has left): none of its verbs takes effect any more.
pub fn is_dead(fabric: &Fabric, client: ClientId) -> Result<bool> {
    Ok(standing(fabric, client)? != Standing::Live)
}

/// How long somebody has waited. Who was suspended meanwhile has not waited: the others had no
/// chance to be seen.
#[derive(Default)]
pub(crate) struct Patience {
    waited: u64,
    last: Option<u64>,
}

impl Patience {
    /// Nanoseconds since it was asked first; asked between short pauses. Most operations never
    /// wait, and looking at the clock would be a good part of them.
    pub(crate) fn waited_ns(&mut self, fabric: &Fabric) -> u64 {
        let now = fabric.verbs().now_ns();
        let since = self.last.replace(now).map_or(0, |last| now.saturating_sub(last));
        self.waited += since.min(u64::from(fabric.config().lease_ms) * 1_000_000 / 4);
        self.waited
    }
}

/// A bounded wait with growing pauses.
#[derive(Default)]
pub struct Wait {
    patience: Patience,
    rounds: u32,
}

const FIRST_PAUSE_NS: u64 = 200;
const MOST_PAUSE_NS: u64 = 100_000;
/// A dead client is declared so within a few leases; who waits longer waits for a fault.
const PATIENCE_LEASES: u64 = 6;

impl Wait {
    /// Starts to wait.
    pub fn new() -> Wait {
        Wait::default()
    }

    /// Pauses so far.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Whether it is time to ask if the other one lives: seldom, as that costs a round trip.
    pub fn is_check_due(&self) -> bool {
        self.rounds >= 4 && (self.rounds.is_power_of_two() || self.rounds.is_multiple_of(64))
    }

    /// One pause; an error when waiting makes no sense any more.
    pub fn pause(&mut self, fabric: &Fabric, what: &str) -> Result<()> {
        let waited_ms = self.patience.waited_ns(fabric) / 1_000_000;
        if waited_ms > u64::from(fabric.config().lease_ms) * PATIENCE_LEASES {
            return Err(PoolError::Timeout { what: what.into(), waited_ms });
        }
        fabric.verbs().relax((FIRST_PAUSE_NS << self.rounds.min(20)).min(MOST_PAUSE_NS));
        self.rounds += 1;
        fabric.pass_gate()
    }
}
