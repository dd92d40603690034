//! Which cases are run, one after the other, and what is told of them.

use std::time::Instant;

use super::case::{Case, Start, CASES};
use super::spec::{Spec, Trouble};
use super::stage::{Done, Stage};

/// Failures after which a plan is given up.
const MOST_FAILURES: usize = 10;
/// Verbs that no operation has.
const MOST_VERBS: u64 = 20_000;
/// Milliseconds after which who is stopped may go on; 0 for never. A lease has 120.
const STOPS: [u64; 5] = [0, 60, 110, 130, 160];

/// All cases of one kind of trouble, or a sample of them.
#[derive(Clone, Copy)]
pub struct Plan {
    pub trouble: Trouble,
    pub replicas: &'static [u8],
    /// Each operation with each number of copies; else these take turns.
    pub all: bool,
    /// One n in so many is tried, or fewer (see [`Case::coarse`]). If it is each, so is all else
    /// that can be chosen.
    pub stride: u64,
    /// The same for the second death, of who repairs.
    pub second_stride: u64,
}

/// What came of a plan.
#[derive(Default)]
struct Tally {
    cases: u64,
    gone_off: u64,
    operations: usize,
    failures: usize,
}

impl Plan {
    /// Runs everything and panics if anything failed.
    pub fn run(&self) {
        let (started, mut tally) = (Instant::now(), Tally::default());
        let only = std::env::var("MATRIX_ONLY").ok();
        let wanted = |case: &&Case| only.as_ref().is_none_or(|only| case.name == only);
        let cases = CASES.iter().filter(|case| suits(case, self.trouble)).filter(wanted);
        for (number, case) in cases.enumerate() {
            let turn = number % self.replicas.len();
            let replicas = if self.all { self.replicas } else { &self.replicas[turn..=turn] };
            replicas.iter().for_each(|&replicas| self.series(case, replicas, &mut tally));
        }
        let Tally { cases, gone_off, operations, failures } = tally;
        println!(
            "{}: {cases} cases, in {gone_off} of them before the work was done, {operations} \
             operations, {:.0} s, {} failures",
            self.trouble,
            started.elapsed().as_secs_f64(),
            failures
        );
        assert_eq!(failures, 0, "see above");
        assert!(gone_off > 0, "nothing happened");
    }

    /// Each n of one operation until it is done before anything happens.
    fn series(&self, case: &'static Case, replicas: u8, tally: &mut Tally) {
        let first = (case.name.len() as u64 + u64::from(replicas)) % self.stride.min(5);
        let stride =
            if self.stride == 1 { case.coarse } else { self.stride * (1 + case.coarse / 4) };
        for number in 0..MOST_VERBS {
            let spec = Spec::new(case, self.trouble, replicas, first + number * stride);
            let is_over = match self.trouble {
                Trouble::Repairer => self.second_series(&spec, number, tally),
                _ => self.variants(&spec, number).iter().all(|spec| !tally.gone_off(spec)),
            };
            if is_over || tally.failures >= MOST_FAILURES {
                return;
            }
        }
    }

    /// The same n with all that can be chosen, or in a sample one of these.
    fn variants(&self, spec: &Spec, number: u64) -> Vec<Spec> {
        let more = if spec.trouble == Trouble::Stop { STOPS[number as usize % 5] } else { 0 };
        let odd = number % 2 == 1;
        let one =
            Spec { torn: odd, warm: number.is_multiple_of(3), busy: number % 4 < 2, more, ..*spec };
        let other = Spec { torn: !odd, warm: !one.warm, busy: !one.busy, ..one };
        if self.stride == 1 {
            vec![one, other]
        } else {
            vec![one]
        }
    }

    /// Each n of the repair of one death; whether there was none.
    fn second_series(&self, spec: &Spec, number: u64, tally: &mut Tally) -> bool {
        for second in 0..MOST_VERBS {
            let torn = (number + second) % 2 == 1;
            let warm = number.is_multiple_of(2);
            let more = number % self.second_stride + second * self.second_stride;
            match tally.run(&Spec { more, torn, warm, ..*spec }) {
                Some(Done { first_gone_off: false, .. }) => return true,
                Some(Done { gone_off: true, .. }) => {}
                _ => return false,
            }
        }
        false
    }
}

impl Tally {
    fn run(&mut self, spec: &Spec) -> Option<Done> {
        self.cases += 1;
        match Stage::new(spec).and_then(Stage::run) {
            Ok(done) => {
                self.gone_off += u64::from(done.gone_off);
                self.operations += done.operations;
                Some(done)
            }
            Err(text) => {
                println!("MATRIX='{spec}': {text}");
                self.failures += 1;
                None
            }
        }
    }

    /// Whether what was to happen has happened; so it is taken to be if the case failed.
    fn gone_off(&mut self, spec: &Spec) -> bool {
        self.run(spec).is_none_or(|done| done.gone_off)
    }
}

fn suits(case: &Case, trouble: Trouble) -> bool {
    match trouble {
        // What it does meanwhile only tells how the nodes are looked at.
        Trouble::Master => {
            let names = ["put", "large put", "transaction", "tree split", "cache eviction"];
            names.contains(&case.name)
        }
        // Who joins is nobody yet that could be declared dead for its silence.
        Trouble::Stop => case.start != Start::Joining && !case.spare,
        Trouble::Kill => true,
        _ if case.spare => false,
        _ => true,
    }
}
