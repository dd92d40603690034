//! Exhaustive exploration of rounds with helping: the very steps of [`Round`] run against a model
//! of the memory, every verb of every client interleaved in every order with those of all others,
//! writers and their recovery dying at any verb.

use std::cell::RefCell;

use artesian_bus::heap::HeapNodes;
use artesian_bus::Verb;
use smallvec::SmallVec;
use stateright::{Checker, Model, Property};

use super::round::{Outcome, Phase, Round, POLLS};
use crate::address::{ClientId, PoolAddr};
use crate::class::SizeClass;
use crate::config::PoolConfig;
use crate::fabric::{Copies, Fabric};
use crate::object::{decided_bytes, log_addr, LogEntry, Op, LOG_BYTES};
use crate::slot::Slot;
use crate::view::View;

const BYTES: u64 = 16 << 20;
const SLOT: PoolAddr = PoolAddr(8 << 16);

/// What is explored.
struct Rounds {
    writers: usize,
    backups: usize,
    crashes: u8,
}

/// A verb of a batch that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Cas {
        copy: usize,
        expected: u64,
        desired: u64,
    },
    Read {
        copy: usize,
    },
    ReadLog {
        of: usize,
    },
    Decide {
        of: usize,
        old: u64,
    },
    /// To a log entry's copies: nobody reads those as long as the first is there.
    Ignored,
}

/// What a client set out to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Proposal {
    old: u64,
    new: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    Idle,
    /// In a round, with the batch's verbs and their results so far.
    Busy {
        of: Proposal,
        round: Box<Round>,
        steps: Vec<(Step, Option<u64>)>,
    },
    /// What came of it; or what the recovery of the dead client thinks, won or not.
    Done {
        of: Proposal,
        outcome: Result<Outcome, bool>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    copies: Vec<u64>,
    /// Log entries: over which value each writer's proposal was decided.
    decided: Vec<Option<u64>>,
    /// All that the primary ever held.
    history: Vec<u64>,
    clients: Vec<Client>,
    crashes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// Reads the primary and starts a round.
    Begin(usize),
    /// The verb takes effect; if it is the batch's last, the client goes on. A loser that is
    /// impatient helps.
    Verb { client: usize, verb: usize, impatient: bool },
    /// The client dies and somebody recovers it; or the recovery dies and another one starts.
    Crash(usize),
}

thread_local! {
    static FABRICS: RefCell<Vec<Option<Fabric>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with a fabric of `backups + 1` nodes, of which only the addresses are used.
fn with_fabric<T>(backups: usize, f: impl FnOnce(&Fabric) -> T) -> T {
    FABRICS.with_borrow_mut(|fabrics| {
        fabrics.resize_with(8, || None);
        let fabric = fabrics[backups].get_or_insert_with(|| {
            let copies = backups as u8 + 1;
            let config = PoolConfig::for_size(BYTES, u16::from(copies), copies);
            let verbs = Box::new(HeapNodes::new(u16::from(copies), 8).connect(1));
            let me = ClientId { index: 1, incarnation: 1 };
            Fabric::new(verbs, config, View::first(&config), me)
        });
        f(fabric)
    })
}

fn object(writer: usize) -> PoolAddr {
    PoolAddr((16 << 16) + 64 * (writer as u64 + 1))
}

fn sequence(writer: usize) -> u64 {
    writer as u64 + 1
}

fn writer_of(value: u64) -> usize {
    ((Slot(value).addr().0 - (16 << 16)) / 64 - 1) as usize
}

/// Whose log entry's first copy, or which copy of the slot, lies at `verb`'s address.
fn step_of(verb: &Verb<'_>, fabric: &Fabric, writers: usize) -> Step {
    let at = verb.addr();
    let copy = fabric.copies(SLOT).iter().position(|&copy| copy == at);
    let log = |writer: usize| fabric.primary(log_addr(object(writer), SizeClass(0))).unwrap();
    let of = (0..writers).find(|&writer| log(writer) == at);
    match (verb, copy, of) {
        (Verb::Cas { expected, desired, .. }, Some(copy), _) => {
            Step::Cas { copy, expected: *expected, desired: *desired }
        }
        (Verb::Read { .. }, Some(copy), _) => Step::Read { copy },
        (Verb::Read { .. }, None, Some(of)) => Step::ReadLog { of },
        (Verb::Write { from, .. }, None, Some(of)) => {
            let old = u64::from_le_bytes(from[..8].try_into().unwrap());
            assert_eq!(**from, decided_bytes(SLOT, Slot(old), sequence(of)));
            Step::Decide { of, old }
        }
        (Verb::Write { .. }, None, None) => Step::Ignored,
        _ => panic!("{verb:?} is no step of a round"),
    }
}

fn entry(writer: usize, decided: Option<u64>) -> [u8; LOG_BYTES] {
    let client = ClientId { index: writer as u16 + 1, incarnation: 1 };
    let decided = decided.map(|old| (SLOT, Slot(old)));
    LogEntry { client, op: Op::Put, sequence: sequence(writer), decided }.encode()
}

impl Rounds {
    /// The verbs of the round's next batch.
    fn post(&self, round: &mut Round) -> Vec<(Step, Option<u64>)> {
        with_fabric(self.backups, |fabric| {
            round.prepare(fabric).unwrap();
            let mut verbs = SmallVec::new();
            round.post(&mut verbs);
            let steps = verbs.iter().map(|verb| step_of(verb, fabric, self.writers));
            steps.filter(|step| *step != Step::Ignored).map(|step| (step, None)).collect()
        })
    }

    /// Hands the results to the round.
    fn complete(&self, round: &mut Round, steps: &[(Step, Option<u64>)], impatient: bool) {
        if impatient {
            round.polls = POLLS - 1;
        }
        with_fabric(self.backups, |fabric| {
            let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
            round.post(&mut verbs);
            let mut results = steps.iter();
            let mut found = Vec::new();
            for verb in &mut verbs {
                if step_of(verb, fabric, self.writers) == Step::Ignored {
                    found.push(0);
                    continue;
                }
                let (step, result) = results.next().unwrap();
                let result = result.unwrap();
                found.push(result);
                match (verb, step) {
                    (Verb::Read { into, .. }, Step::Read { .. }) => {
                        into.copy_from_slice(&result.to_le_bytes());
                    }
                    (Verb::Read { into, .. }, Step::ReadLog { of }) => {
                        let decided = (result != u64::MAX).then_some(result);
                        into.copy_from_slice(&entry(*of, decided));
                    }
                    _ => {}
                }
            }
            drop(verbs);
            round.advance(&found).unwrap();
        });
        forget(round);
    }

    /// Starts or ends what a client does next.
    fn go_on(&self, state: &mut State, client: usize, of: Proposal, mut round: Box<Round>) {
        state.clients[client] = if round.phase == Phase::Done {
            let outcome = match round.outcome {
                Some(outcome) => Ok(outcome),
                None => Err(state.decided[client].is_some()),
            };
            Client::Done { of, outcome }
        } else {
            let steps = self.post(&mut round);
            Client::Busy { of, round, steps }
        };
    }
}

/// Clears what no later step looks at, so that equal states are found equal.
fn forget(round: &mut Round) {
    (round.looked, round.seen, round.polls) = (Default::default(), Default::default(), 0);
    (round.entry_at, round.helps) = (None, 0);
    if !round.helping {
        round.entry = [0; LOG_BYTES];
    }
    if round.phase != Phase::Log {
        (round.logs, round.decided) = (Copies::new(), Default::default());
    }
}

impl Model for Rounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            copies: vec![0; self.backups + 1],
            decided: vec![None; self.writers],
            history: vec![0],
            clients: vec![Client::Idle; self.writers],
            crashes: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (client, stage) in state.clients.iter().enumerate() {
            match stage {
                Client::Idle => actions.push(Action::Begin(client)),
                Client::Busy { round, steps, .. } => {
                    for (verb, _) in steps.iter().enumerate().filter(|(_, step)| step.1.is_none()) {
                        actions.push(Action::Verb { client, verb, impatient: false });
                        if round.phase == Phase::Wait {
                            actions.push(Action::Verb { client, verb, impatient: true });
                        }
                    }
                    if state.crashes < self.crashes {
                        actions.push(Action::Crash(client));
                    }
                }
                Client::Done { .. } => {}
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Begin(client) => {
                let old = Slot(next.copies[0]);
                let version = old.next_version();
                let new = Slot::new(7, version, 0, object(client));
                let log = log_addr(object(client), SizeClass(0));
                let round = Box::new(Round::new(SLOT, old, new, log, sequence(client)));
                let of = Proposal { old: old.0, new: new.0 };
                self.go_on(&mut next, client, of, round);
            }
            Action::Crash(client) => {
                next.crashes += 1;
                let Client::Busy { of, .. } = &state.clients[client] else { return None };
                self.go_on(&mut next, client, *of, Box::new(Round::helper(SLOT)));
            }
            Action::Verb { client, verb, impatient } => {
                let Client::Busy { steps, .. } = &mut next.clients[client] else { return None };
                let result = run(&steps[verb].0, &mut next.copies, &mut next.decided);
                steps[verb].1 = Some(result);
                let ready = steps.iter().all(|step| step.1.is_some());
                if next.history.last() != Some(&next.copies[0]) {
                    next.history.push(next.copies[0]);
                }
                if ready {
                    let client_state = std::mem::replace(&mut next.clients[client], Client::Idle);
                    let Client::Busy { of, mut round, steps } = client_state else { return None };
                    self.complete(&mut round, &steps, impatient);
                    self.go_on(&mut next, client, of, round);
                }
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what the primary holds was decided over what it held", chained),
            Property::always("won if and only if the primary held it", wins),
            Property::always("a loser is told who won", losers),
            Property::always("quiet: equal copies, every object freed once", quiet),
            Property::sometimes("somebody is helped", helped),
            Property::sometimes("all win one after the other", all_win),
        ]
    }
}

fn chained(_: &Rounds, state: &State) -> bool {
    let link = |pair: &[u64]| state.decided[writer_of(pair[1])] == Some(pair[0]);
    let fresh = |i: usize| !state.history[..i].contains(&state.history[i]);
    state.history.windows(2).all(link) && (0..state.history.len()).all(fresh)
}

fn wins(_: &Rounds, state: &State) -> bool {
    state.clients.iter().all(|client| match client {
        Client::Done { outcome, of } => {
            outcome.map_or_else(|won| won, is_won) == state.history.contains(&of.new)
        }
        _ => true,
    })
}

fn losers(_: &Rounds, state: &State) -> bool {
    state.clients.iter().all(|client| match client {
        Client::Done { outcome: Ok(Outcome::Lost { winner, .. }), of } => {
            let replaced = |pair: &[u64]| *pair == [of.old, winner.0];
            state.decided[writer_of(winner.0)] != Some(of.old)
                || state.history.windows(2).any(replaced)
        }
        _ => true,
    })
}

fn helped(_: &Rounds, state: &State) -> bool {
    state.clients.iter().any(|client| match client {
        Client::Done { outcome, .. } => {
            matches!(outcome, Ok(Outcome::Won(super::Rule::Helped)) | Err(true))
        }
        _ => false,
    })
}

fn all_win(model: &Rounds, state: &State) -> bool {
    state.history.len() == model.writers + 1
}

fn run(step: &Step, copies: &mut [u64], decided: &mut [Option<u64>]) -> u64 {
    match *step {
        Step::Cas { copy, expected, desired } => {
            let found = copies[copy];
            if found == expected {
                copies[copy] = desired;
            }
            found
        }
        Step::Read { copy } => copies[copy],
        Step::ReadLog { of } => decided[of].unwrap_or(u64::MAX),
        Step::Decide { of, old } => {
            decided[of] = Some(old);
            0
        }
        Step::Ignored => 0,
    }
}

fn is_won(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Won(_))
}

/// If all are done: the copies are equal, and of all objects ever proposed exactly the one that
/// the slot holds has not been freed, the others once each.
fn quiet(_: &Rounds, state: &State) -> bool {
    let mut freed = Vec::new();
    for client in &state.clients {
        let Client::Done { of, outcome } = client else { return true };
        let won = outcome.map_or_else(|won| won, is_won);
        freed.push(if won { of.old } else { of.new });
    }
    freed.sort_unstable();
    let distinct = freed.windows(2).all(|pair| pair[0] != pair[1]);
    let current = state.copies[0];
    distinct && !freed.contains(&current) && state.copies.iter().all(|&copy| copy == current)
}

fn explore(writers: usize, backups: usize, crashes: u8) {
    let model = Rounds { writers, backups, crashes };
    let checker = model.checker().threads(2).spawn_dfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn two_writers_two_copies_with_two_crashes() {
    explore(2, 1, 2);
}

#[test]
fn two_writers_three_copies_with_two_crashes() {
    explore(2, 2, 2);
}

#[test]
fn three_writers_two_copies_with_one_crash() {
    explore(3, 1, 1);
}

#[test]
#[ignore = "slow: three writers on three backups"]
fn three_writers_four_copies_with_one_crash() {
    explore(3, 3, 1);
}
