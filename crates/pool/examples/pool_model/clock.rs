//! Virtual time for threads, of which one runs at a time: the one that is due first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The clock of a number of threads, which are called 0, 1 and so on.
pub struct Clock {
    state: Mutex<State>,
    turns: Vec<Condvar>,
}

struct State {
    now_ns: u64,
    sleeping: BinaryHeap<Reverse<(u64, usize)>>,
    turn: Option<usize>,
    entered: usize,
}

impl Clock {
    pub fn new(threads: usize) -> Arc<Clock> {
        let state =
            State { now_ns: 1_000_000_000, sleeping: BinaryHeap::new(), turn: None, entered: 0 };
        let turns = (0..threads).map(|_| Condvar::new()).collect();
        Arc::new(Clock { state: Mutex::new(state), turns })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now_ns(&self) -> u64 {
        self.lock().now_ns
    }

    /// Waits for all threads; from here on one runs at a time.
    pub fn enter(&self, me: usize) {
        let mut state = self.lock();
        let now = state.now_ns;
        state.sleeping.push(Reverse((now, me)));
        state.entered += 1;
        if state.entered == self.turns.len() {
            self.next(&mut state);
        }
        self.wait(state, me);
    }

    /// Lets the others go on until `until_ns`.
    pub fn sleep(&self, me: usize, until_ns: u64) {
        let mut state = self.lock();
        state.sleeping.push(Reverse((until_ns, me)));
        self.next(&mut state);
        self.wait(state, me);
    }

    /// Ends the part of the thread whose turn it is.
    pub fn leave(&self) {
        self.next(&mut self.lock());
    }

    fn next(&self, state: &mut State) {
        state.turn = state.sleeping.pop().map(|Reverse((at, who))| {
            state.now_ns = state.now_ns.max(at);
            self.turns[who].notify_one();
            who
        });
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, me: usize) {
        while state.turn != Some(me) {
            state = self.turns[me].wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
