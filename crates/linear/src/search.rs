//! The search for an order.

use std::collections::HashSet;
use std::fmt::Write;

use crate::{Model, Operation};

/// The answer of [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none; the text shows where it ends.
    Violated(String),
    /// The search was given up after [`MAX_TRIES`] tries.
    TooCostly,
}

/// How many operations are tried at most in one check.
const MAX_TRIES: usize = 20_000_000;

/// A call or a return, in the order of time; a doubly linked list by index. Entry 0 is the head.
struct Events {
    /// Operation, and whether this is its return.
    what: Vec<(usize, bool)>,
    next: Vec<usize>,
    before: Vec<usize>,
    /// Where the return of each operation stands; 0 if it has none.
    returns: Vec<usize>,
}

impl Events {
    fn new<C, R>(operations: &[Operation<C, R>]) -> Events {
        let mut moments = Vec::with_capacity(operations.len() * 2);
        for (index, operation) in operations.iter().enumerate() {
            moments.push((operation.called, index, false));
            if operation.reply.is_some() {
                moments.push((operation.returned, index, true));
            }
        }
        moments.sort_unstable();
        let count = moments.len() + 1;
        let mut returns = vec![0; operations.len()];
        let mut what = vec![(usize::MAX, false)];
        for (_, index, is_return) in moments {
            if is_return {
                returns[index] = what.len();
            }
            what.push((index, is_return));
        }
        let next = (1..=count).collect();
        let before = (0..=count).map(|place| place.saturating_sub(1)).collect();
        Events { what, next, before, returns }
    }

    fn end(&self) -> usize {
        self.what.len()
    }

    fn unlink(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn relink(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = place;
        self.before[next] = place;
    }

    /// Takes a call and its return out.
    fn lift(&mut self, place: usize) {
        self.unlink(place);
        match self.returns[self.what[place].0] {
            0 => {}
            returned => self.unlink(returned),
        }
    }

    /// Undoes the last [`Events::lift`].
    fn lower(&mut self, place: usize) {
        match self.returns[self.what[place].0] {
            0 => {}
            returned => self.relink(returned),
        }
        self.relink(place);
    }
}

/// The furthest that the search has come.
struct Best<S> {
    order: Vec<usize>,
    state: S,
    blocked: usize,
}

/// Looks for an order of `operations` that `model` allows.
pub fn check<M: Model>(model: &M, operations: &[Operation<M::Call, M::Reply>]) -> Verdict {
    let mut events = Events::new(operations);
    let mut state = model.initial();
    let mut done = vec![0u64; operations.len().div_ceil(64)];
    let mut tried: HashSet<(Vec<u64>, M::State)> = HashSet::new();
    let mut stack: Vec<(usize, M::State)> = Vec::new();
    let mut best: Option<Best<M::State>> = None;
    let mut place = events.next[0];
    for _ in 0..MAX_TRIES {
        if place == events.end() {
            return Verdict::Linearizable; // what is left has no return: it may never happen
        }
        let (index, is_return) = events.what[place];
        if !is_return {
            let operation = &operations[index];
            let after = model.apply(&state, &operation.call, operation.reply.as_ref());
            // An open operation that changes nothing may as well not have happened.
            let after = after.filter(|after| operation.reply.is_some() || *after != state);
            if let Some(after) = after {
                done[index / 64] |= 1 << (index % 64);
                if tried.insert((done.clone(), after.clone())) {
                    stack.push((place, std::mem::replace(&mut state, after)));
                    events.lift(place);
                    place = events.next[0];
                    continue;
                }
                done[index / 64] &= !(1 << (index % 64));
            }
            place = events.next[place];
            continue;
        }
        if best.as_ref().is_none_or(|best| stack.len() > best.order.len()) {
            let order = stack.iter().map(|&(place, _)| events.what[place].0).collect();
            best = Some(Best { order, state: state.clone(), blocked: index });
        }
        let Some((undone, earlier)) = stack.pop() else {
            return Verdict::Violated(explain(operations, best));
        };
        let index = events.what[undone].0;
        done[index / 64] &= !(1 << (index % 64));
        state = earlier;
        events.lower(undone);
        place = events.next[undone];
    }
    Verdict::TooCostly
}

/// Tells a reader which operation fits nowhere, and what led there.
fn explain<C, R, S>(operations: &[Operation<C, R>], best: Option<Best<S>>) -> String
where
    Operation<C, R>: std::fmt::Debug,
    C: std::fmt::Debug,
    R: std::fmt::Debug,
    S: std::fmt::Debug,
{
    let Some(best) = best else { return "no order".into() };
    let show = |index: usize| {
        let Operation { client, call, reply, called, returned } = &operations[index];
        match reply {
            Some(reply) => format!("client {client} [{called}, {returned}] {call:?} = {reply:?}"),
            None => format!("client {client} [{called}, open] {call:?}"),
        }
    };
    let mut text = format!(
        "not linearizable: after {} of {} operations the state is {:?}, and this has to come next \
         but cannot:\n    {}\n  the last operations before it:",
        best.order.len(),
        operations.len(),
        best.state,
        show(best.blocked)
    );
    for &index in &best.order[best.order.len().saturating_sub(12)..] {
        let _ = write!(text, "\n    {}", show(index));
    }
    text.push_str("\n  not yet placed, called before it returned:");
    let limit = operations[best.blocked].returned;
    let waiting = (0..operations.len())
        .filter(|index| !best.order.contains(index) && *index != best.blocked)
        .filter(|&index| operations[index].called < limit);
    for index in waiting.take(12) {
        let _ = write!(text, "\n    {}", show(index));
    }
    text
}
