//! Clients that write down what they do.

use artesian_linear::{check_by_key, Operation};
use artesian_pool::client::Client;
use artesian_pool::Result;

use super::deed::{acts, Deed, Outcome, Space};
use super::model::{Act, Keys, Told};

/// The operations of all clients, those of other processes too.
#[derive(Default)]
pub struct History(Vec<(u32, Operation<Act, Told>)>);

impl History {
    /// A deed of the client called `name`, which returned at some moment with an outcome, or never.
    pub fn add(&mut self, name: u8, deed: &Deed, called: u64, end: Option<(u64, &Outcome)>) {
        let outcome = end.map(|(_, outcome)| outcome);
        for (number, (key, act, told)) in acts(deed, outcome).into_iter().enumerate() {
            let (number, client) = (number as u64, u32::from(name));
            let returned = end.map_or(u64::MAX, |(returned, _)| returned + number);
            let called = called + number;
            self.0.push((key, Operation { client, call: act, reply: told, called, returned }));
        }
    }

    /// Whether the keys behaved as they should: each for itself, or all together.
    pub fn check(&self, keys: Keys, whole: bool) -> std::result::Result<(), String> {
        let part = |&(key, _): &(u32, _)| if whole { 0 } else { key };
        check_by_key(&keys, self.0.iter().map(|one| (part(one), one.1.clone())))
    }

    /// Operations so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A client with a name and a clock.
pub struct Actor {
    pub client: Client,
    pub space: Space,
    name: u8,
    /// When the clock of moments begins, in nanoseconds of the bus.
    epoch: u64,
    last: u64,
}

impl Actor {
    pub fn new(client: Client, space: Space, name: u8, epoch: u64) -> Actor {
        Actor { client, space, name, epoch, last: 0 }
    }

    /// A moment that occurs once in the history: 8 bits are left for the parts of a deed.
    fn moment(&mut self) -> u64 {
        let ns = self.client.fabric().verbs().now_ns().saturating_sub(self.epoch);
        let now = ns << 16 | u64::from(self.name) << 8;
        self.last = now.max(self.last + (1 << 16));
        self.last
    }

    /// Carries the deed out; `calls` is told when it begins. When it ended, and how.
    pub fn act(&mut self, deed: &Deed, calls: impl FnOnce(u64)) -> Result<(u64, Outcome)> {
        calls(self.moment());
        let outcome = self.space.perform(&mut self.client, deed)?;
        Ok((self.moment(), outcome))
    }

    /// Carries the deed out and writes it down.
    pub fn record(
        &mut self,
        deed: &Deed,
        history: &mut History,
    ) -> std::result::Result<(), String> {
        let mut called = 0;
        let done = self.act(deed, |moment| called = moment);
        let (returned, outcome) =
            done.map_err(|error| format!("client {}, {deed:?}: {error}", self.name))?;
        history.add(self.name, deed, called, Some((returned, &outcome)));
        Ok(())
    }
}
