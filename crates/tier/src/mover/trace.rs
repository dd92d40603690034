//! When which bytes moved, for those who want to see it.

use std::collections::VecDeque;

use rustix::time::{clock_gettime, ClockId};

/// Most that are kept; older ones go.
const MOST_EVENTS: usize = 100_000;

/// One move of a block, or of some of its parts. Times are seconds of the system's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Whether it was a save; a load otherwise.
    pub is_save: bool,
    /// Bytes from the block's start, first and behind the last.
    pub bytes: (usize, usize),
    /// When it began.
    pub start_s: f64,
    /// When it had ended.
    pub end_s: f64,
}

/// Now, in seconds.
pub(super) fn now_s() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// The newest events, if anybody asked for them.
#[derive(Default)]
pub(super) struct Trace {
    events: Option<VecDeque<Event>>,
}

impl Trace {
    /// Begins, or ends, to keep events.
    pub fn set(&mut self, is_on: bool) {
        self.events = is_on.then(VecDeque::new);
    }

    pub fn add(&mut self, event: Event) {
        let Some(events) = &mut self.events else { return };
        if events.len() == MOST_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }

    pub fn take(&mut self) -> Vec<Event> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default().into()
    }
}
