//! A server of one core that answers requests in the order in which they come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::timed::Place;

pub struct Server {
    busy_until: Mutex<u64>,
    service_ns: u64,
    requests: AtomicU64,
}

impl Server {
    pub fn new(service_ns: u64) -> Server {
        Server { busy_until: Mutex::new(0), service_ns, requests: AtomicU64::new(0) }
    }

    /// A request and its answer: half a round trip, the wait, the work, half a round trip.
    pub fn call<R>(&self, place: &Place, work: impl FnOnce() -> R) -> R {
        if !place.is_entered() {
            return work();
        }
        place.sleep(place.round_trip_ns / 2);
        let now = place.now_ns();
        let done = {
            let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            *busy_until = now.max(*busy_until) + self.service_ns;
            *busy_until
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = work();
        place.sleep(done - now + place.round_trip_ns / 2);
        answer
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The nanoseconds of work in so many requests.
    pub fn busy_ns(&self, requests: u64) -> u64 {
        requests * self.service_ns
    }
}
