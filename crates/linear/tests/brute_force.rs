//! The search against trying all orders, on small random histories.

use artesian_linear::{
    check, check_by_key, split_scans, Call, Forgetful, History, MapCall, MapReply, Model,
    Operation, OrderedMap, Register, Reply, Verdict,
};
use proptest::prelude::*;

/// All orders of all subsets that contain every operation with a reply.
fn brute_force<M: Model>(model: &M, history: &History<M>) -> bool {
    fn extend<M: Model>(model: &M, history: &History<M>, done: u32, state: &M::State) -> bool {
        let is_left = |index: &usize| done & (1 << index) == 0;
        let left: Vec<usize> = (0..history.len()).filter(is_left).collect();
        if left.iter().all(|&index| history[index].reply.is_none()) {
            return true;
        }
        left.iter().any(|&index| {
            let operation = &history[index];
            let overtakes = left.iter().any(|&other| {
                history[other].reply.is_some() && history[other].returned < operation.called
            });
            let after = model.apply(state, &operation.call, operation.reply.as_ref());
            !overtakes
                && after.is_some_and(|after| extend(model, history, done | 1 << index, &after))
        })
    }
    extend(model, history, 0, &model.initial())
}

fn any_call() -> impl Strategy<Value = Call> {
    prop_oneof![
        Just(Call::Get),
        (1..4u64).prop_map(Call::Put),
        (1..4u64).prop_map(Call::Insert),
        (1..4u64).prop_map(Call::Update),
        Just(Call::Delete),
        (1..4u64, 1..4u64).prop_map(|(from, to)| Call::Cas(from, to)),
        (1..3u64).prop_map(Call::Incr),
        (1..4u64).prop_map(Call::Take),
        (1..3u64).prop_map(Call::Append),
    ]
}

/// A reply of the right kind, and how likely it is to be left open.
fn reply_for(call: Call, chance: u64) -> Option<Reply> {
    if chance.is_multiple_of(8) {
        return None;
    }
    Some(match call {
        Call::Get => Reply::Found([None, Some(1), Some(2), Some(3)][chance as usize % 4]),
        Call::Put(_) | Call::Append(_) => Reply::Done,
        Call::Incr(_) => Reply::Sum(1 + chance % 5),
        _ => Reply::Applied(chance.is_multiple_of(3)),
    })
}

/// Up to seven operations at random moments; replies right as of a random order, or at random.
fn any_history() -> impl Strategy<Value = History<Register>> {
    let one = (any_call(), 0..1000u64, 0..60u64, 1..30u64);
    (proptest::collection::vec(one, 1..8), 0..4u32).prop_map(|(calls, style)| {
        let mut state = None;
        let mut history = History::<Register>::new();
        for (index, (call, chance, called, length)) in calls.into_iter().enumerate() {
            let (right, after) = Register::step(state, &call);
            state = after;
            let honest = style > 0 && !chance.is_multiple_of(16 * u64::from(style));
            let reply =
                if honest && chance % 8 != 1 { Some(right) } else { reply_for(call, chance) };
            let (called, index) = (called + 4 * index as u64, index as u64);
            history.push(Operation {
                client: index as u32,
                call,
                reply,
                called: called * 32 + index,
                returned: (called + length) * 32 + 16 + index,
            });
        }
        history
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn agrees_with_trying_all_orders(history in any_history()) {
        let verdict = check(&Register, &history);
        prop_assert_eq!(verdict == Verdict::Linearizable, brute_force(&Register, &history),
            "{:?}", verdict);
    }
}

fn operation<C, R>(client: u32, called: u64, returned: u64, call: C, reply: R) -> Operation<C, R> {
    Operation { client, call, reply: Some(reply), called, returned }
}

#[test]
fn both_verdicts_are_common_among_random_histories() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut good = 0;
    for _ in 0..500 {
        let history = any_history().new_tree(&mut runner).unwrap().current();
        good += u32::from(check(&Register, &history) == Verdict::Linearizable);
    }
    assert!((50..450).contains(&good), "{good} of 500 are linearizable");
}

#[test]
fn planted_bugs_are_found() {
    let found = |value| Reply::Found(Some(value));
    let stale = vec![
        operation(1, 0, 1, Call::Put(1), Reply::Done),
        operation(1, 2, 3, Call::Put(2), Reply::Done),
        operation(2, 4, 5, Call::Get, found(1)),
    ];
    let back_and_forth = vec![
        operation(1, 0, 20, Call::Put(1), Reply::Done),
        operation(2, 1, 2, Call::Get, found(1)),
        operation(2, 3, 4, Call::Get, Reply::Found(None)),
    ];
    let lost_update = vec![
        operation(1, 0, 4, Call::Incr(1), Reply::Sum(1)),
        operation(2, 1, 5, Call::Incr(1), Reply::Sum(1)),
    ];
    let double_delete = vec![
        operation(1, 0, 1, Call::Insert(5), Reply::Applied(true)),
        operation(1, 2, 5, Call::Delete, Reply::Applied(true)),
        operation(2, 3, 6, Call::Delete, Reply::Applied(true)),
    ];
    let two_inserts = vec![
        operation(1, 0, 4, Call::Insert(1), Reply::Applied(true)),
        operation(2, 1, 5, Call::Insert(2), Reply::Applied(true)),
    ];
    for history in [stale, back_and_forth, lost_update, double_delete, two_inserts] {
        let Verdict::Violated(why) = check(&Register, &history) else { panic!("{history:?}") };
        assert!(why.contains("cannot"), "{why}");
    }
}

#[test]
fn what_was_cut_off_may_happen_late_or_never() {
    let open = Operation { client: 1, call: Call::Put(7), reply: None, called: 0, returned: 0 };
    let get = |from, found| operation(2, from, from + 1, Call::Get, Reply::Found(found));
    let never = vec![open.clone(), get(1, None), get(3, None)];
    let late = vec![open.clone(), get(1, None), get(3, Some(7))];
    let undone = vec![open, get(1, None), get(3, Some(7)), get(5, None)];
    assert_eq!(check(&Register, &never), Verdict::Linearizable);
    assert_eq!(check(&Register, &late), Verdict::Linearizable);
    assert!(matches!(check(&Register, &undone), Verdict::Violated(_)));
}

#[test]
fn what_expires_stays_away_until_it_is_written_again() {
    let insert =
        |from, value| operation(1, from, from + 1, Call::Insert(value), Reply::Applied(true));
    let get = |from, found| operation(2, from, from + 1, Call::Get, Reply::Found(found));
    let open = Operation { client: 1, call: Call::Insert(6), reply: None, called: 4, returned: 0 };
    let expired = vec![insert(0, 5), get(2, Some(5)), get(4, None), insert(6, 6)];
    let unseen = vec![insert(0, 5), insert(2, 6), get(4, Some(6))];
    let late = vec![insert(0, 5), get(2, Some(5)), open, get(5, Some(6))];
    for history in [expired, unseen, late] {
        assert!(matches!(check(&Register, &history), Verdict::Violated(_)));
        assert_eq!(check(&Forgetful, &history), Verdict::Linearizable);
    }
    let back = vec![insert(0, 5), get(2, None), get(4, Some(5))];
    assert!(matches!(check(&Forgetful, &back), Verdict::Violated(_)));
}

#[test]
fn long_concurrent_histories_are_decided() {
    let mut history = Vec::new();
    let mut sum = 0;
    for round in 0..2000 {
        for client in 0..4 {
            let call = Call::Incr(1);
            sum += 1;
            let (called, returned) = (round * 16 + 3 - client, round * 16 + 8 + client);
            history.push(operation(client as u32, called, returned, call, Reply::Sum(sum)));
        }
    }
    assert_eq!(check(&Register, &history), Verdict::Linearizable);
    history[7001].reply = Some(Reply::Sum(1));
    assert!(check_by_key(&Register, history.into_iter().map(|one| (0, one))).is_err());
}

#[test]
fn scans_are_atomic_for_the_map_and_per_key_when_split() {
    let put = |client, called, returned, key, value| {
        let call = MapCall::One(key, Call::Put(value));
        operation(client, called, returned, call, MapReply::One(Reply::Done))
    };
    let scan = |called, returned, pairs: &[(u64, u64)]| {
        operation(9, called, returned, MapCall::Scan(0, 10), MapReply::Pairs(pairs.to_vec()))
    };
    // Key 2 is written after key 1, within the scan: it may show 2 without 1 only when split.
    let history = vec![put(1, 1, 2, 1, 10), put(1, 3, 4, 2, 20), scan(0, 5, &[(2, 20)])];
    assert!(matches!(check(&OrderedMap, &history), Verdict::Violated(_)));
    check_by_key(&Register, split_scans(&history)).unwrap();
    // A key that was there all the time must not be missing.
    let history = vec![put(1, 1, 2, 1, 10), put(1, 3, 4, 2, 20), scan(5, 6, &[(2, 20)])];
    assert!(check_by_key(&Register, split_scans(&history)).is_err());
    // Beyond a full scan's last key nothing is said.
    let mut history = history;
    history[2].call = MapCall::Scan(2, 1);
    check_by_key(&Register, split_scans(&history)).unwrap();
    assert_eq!(check(&OrderedMap, &history), Verdict::Linearizable);
}
