//! The clients through which the threads of this process reach a pool.
//!
//! Threads that move blocks have a client each: with one for all, copies would take turns. The
//! engine asks through one of its own, which nobody holds for longer than a question.

use std::panic::resume_unwind;
use std::thread::{Builder, ScopedJoinHandle};
use std::time::{Duration, Instant};

use artesian_pool::client::Client;
use artesian_pool::{PoolError, Result};
use parking_lot::{Mutex, MutexGuard};

/// How often a client looks after the others, at least; leases are longer.
const TICK: Duration = Duration::from_millis(250);

/// How long the thread that attends waits for a client that is in use.
const PATIENCE: Duration = Duration::from_millis(20);

/// How often it looks after the others while one of them waits.
const PAUSE: Duration = Duration::from_micros(500);

pub struct Clients {
    asking: Mutex<Seat>,
    moving: Vec<Mutex<Seat>>,
}

/// `client` is there until the end.
struct Seat {
    client: Option<Client>,
    /// Since anybody looked.
    is_used: bool,
    ticked: Instant,
}

impl Seat {
    fn new(client: Client) -> Mutex<Seat> {
        Mutex::new(Seat { client: Some(client), is_used: true, ticked: Instant::now() })
    }

    fn run<R>(&mut self, work: impl FnOnce(&mut Client) -> Result<R>) -> Result<R> {
        let gone = || PoolError::Invalid("this client has left the pool".into());
        let client = self.client.as_mut().ok_or_else(gone)?;
        if client.is_idle() {
            client.resume()?;
        }
        self.is_used = true;
        work(client)
    }

    /// Whether attending may take long: it looks after others, or is asked to hold still.
    fn may_wait(&self) -> bool {
        let is_asked = |client: &Client| client.fabric().asked() > client.fabric().epoch() * 2;
        self.ticked.elapsed() >= TICK || self.client.as_ref().is_some_and(is_asked)
    }

    /// Keeps the lease, looks after others, does what is asked of all; and says that this client
    /// is idle if it is, so that nobody waits for it before memory is reused.
    fn attend(&mut self) -> Result<()> {
        let Some(client) = self.client.as_mut() else { return Ok(()) };
        if self.ticked.elapsed() >= TICK {
            client.tick()?;
            self.ticked = Instant::now();
        }
        if !std::mem::take(&mut self.is_used) {
            client.idle()?;
            match client.fabric().pass_gate() {
                Ok(()) | Err(PoolError::ViewChanged) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whoever uses a client for long may be waiting until all others have passed a gate.
fn attend(seat: &Mutex<Seat>) -> Result<()> {
    seat.try_lock_for(PATIENCE).map_or(Ok(()), |mut seat| seat.attend())
}

impl Clients {
    /// The first one answers questions.
    pub fn new(clients: Vec<Client>) -> Clients {
        let mut seats = clients.into_iter().map(Seat::new);
        let asking = seats.next().unwrap_or_else(|| unreachable!("checked by the caller"));
        Clients { asking, moving: seats.collect() }
    }

    /// For questions. While that client is attended to, which may take long when others have died,
    /// another one answers.
    pub fn asking<R>(&self, work: impl FnOnce(&mut Client) -> Result<R>) -> Result<R> {
        let free = self.seats().find_map(Mutex::try_lock);
        free.unwrap_or_else(|| self.asking.lock()).run(work)
    }

    /// For what takes longer: whichever client nobody uses.
    pub fn moving<R>(&self, work: impl FnOnce(&mut Client) -> Result<R>) -> Result<R> {
        let free = self.moving.iter().find_map(Mutex::try_lock);
        let mut seat = free.unwrap_or_else(|| self.moving[0].lock());
        let outcome = seat.run(work);
        // A thread with much to do must not keep out the one that attends.
        MutexGuard::unlock_fair(seat);
        outcome
    }

    /// Calls `work` with all clients.
    pub fn each(&self, mut work: impl FnMut(&mut Client) -> Result<()>) -> Result<()> {
        self.seats().try_for_each(|seat| seat.lock().run(&mut work))
    }

    /// To be called often, by a thread that may wait: see `Seat::attend`.
    ///
    /// A change of the nodes waits for all clients, those of one process too. While one of them
    /// holds still, or carries the change out, the others are attended to all the same.
    pub fn attend(&self) -> Result<()> {
        let mut outcome = std::thread::scope(|scope| {
            let mut outcome = Ok(());
            let mut waiting: Vec<Option<ScopedJoinHandle<'_, Result<()>>>> = Vec::new();
            waiting.resize_with(1 + self.moving.len(), || None);
            loop {
                for (seat, thread) in self.seats().zip(&mut waiting) {
                    if let Some(ended) = thread.take_if(|thread| thread.is_finished()) {
                        outcome = outcome.and(ended.join().unwrap_or_else(|e| resume_unwind(e)));
                    }
                    if thread.is_none() && seat.try_lock().is_some_and(|seat| seat.may_wait()) {
                        match Builder::new().spawn_scoped(scope, || attend(seat)) {
                            Ok(spawned) => *thread = Some(spawned),
                            Err(_) => outcome = outcome.and(attend(seat)),
                        }
                    }
                }
                if waiting.iter().all(Option::is_none) {
                    return outcome;
                }
                std::thread::sleep(PAUSE);
            }
        });
        for seat in self.seats() {
            outcome = outcome.and(attend(seat));
        }
        outcome
    }

    fn seats(&self) -> impl Iterator<Item = &Mutex<Seat>> {
        std::iter::once(&self.asking).chain(&self.moving)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for seat in self.seats() {
            // Who cannot leave, as the pool is gone, need not.
            let _ = seat.lock().client.take().map(Client::leave);
        }
    }
}
