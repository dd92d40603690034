//! Clients of the store die after every verb of every operation. What was acknowledged is there,
//! what was not happened or did not, nothing leaks, nothing is freed twice, and usage can be put
//! right.

#[path = "../common/audit.rs"]
mod audit;
mod stage;

use artesian_pool::client::Client;
use artesian_pool::store::Expiry::{self, Never};
use artesian_pool::Result;
use stage::{at_every_verb, Case};

/// A value of some pieces, the last one short.
fn large(byte: u8) -> Vec<u8> {
    vec![byte; 20_000]
}

fn put(client: &mut Client, namespace: u16) -> Result<()> {
    client.put(namespace, b"key", b"new", Never)
}

const PUT: Case = Case {
    name: "put",
    work: put,
    before: |client, namespace| client.put(namespace, b"key", &large(1), Never),
    old: || vec![Some(large(1))],
    new: || vec![Some(b"new".to_vec())],
};

const INSERT: Case = Case {
    name: "insert",
    before: |client, namespace| client.delete(namespace, b"key").map(drop),
    old: || vec![None],
    ..PUT
};

const DELETE: Case = Case {
    name: "delete",
    work: |client, namespace| client.delete(namespace, b"key").map(drop),
    new: || vec![None],
    ..PUT
};

const LARGE: Case = Case {
    name: "large put",
    work: |client, namespace| client.put(namespace, b"key", &large(2), Never),
    new: || vec![Some(large(2))],
    ..PUT
};

const LARGE_INSERT: Case =
    Case { name: "large insert", work: LARGE.work, new: LARGE.new, ..INSERT };

const INCREMENT: Case = Case {
    name: "increment",
    work: |client, namespace| client.increment(namespace, b"key", 5).map(drop),
    before: |client, namespace| client.put(namespace, b"key", &7_u64.to_le_bytes(), Never),
    old: || vec![Some(7_u64.to_le_bytes().to_vec())],
    new: || vec![Some(12_u64.to_le_bytes().to_vec())],
};

const COUNT: Case = Case {
    name: "increment from nothing",
    before: INSERT.before,
    old: INSERT.old,
    new: || vec![Some(5_u64.to_le_bytes().to_vec())],
    ..INCREMENT
};

fn compare_and_set(client: &mut Client, namespace: u16) -> Result<()> {
    let version = client.version(namespace, b"key")?;
    client.compare_and_set(namespace, b"key", version, b"new", Never).map(drop)
}

const COMPARE: Case = Case { name: "compare and set", work: compare_and_set, ..PUT };

/// The pieces of the old value go on in the new one.
const APPEND: Case = Case {
    name: "append",
    work: |client, namespace| client.append(namespace, b"key", &[3; 9_000]).map(drop),
    new: || vec![Some([large(1), vec![3; 9_000]].concat())],
    ..PUT
};

/// Keys of a batch: half of them have values before.
const KEYS: [&[u8]; 6] = [b"key 0", b"key 1", b"key 2", b"key 3", b"key 4", b"key 5"];

fn all(results: Vec<Result<impl Sized>>) -> Result<()> {
    results.into_iter().try_for_each(|result| result.map(drop))
}

fn half(client: &mut Client, namespace: u16) -> Result<()> {
    all(client.delete_many(namespace, &KEYS))?;
    client.put(namespace, KEYS[1], &large(1), Never)?;
    all(client.put_many(namespace, &[(KEYS[0], b"old"), (KEYS[2], b"old")], Never))
}

fn half_values() -> Vec<Option<Vec<u8>>> {
    let old = || Some(b"old".to_vec());
    vec![old(), Some(large(1)), old(), None, None, None]
}

const PUT_MANY: Case = Case {
    name: "put many",
    work: |client, namespace| {
        all(client.put_many(namespace, &KEYS.map(|key| (key, &b"new"[..])), Never))
    },
    before: half,
    old: half_values,
    new: || vec![Some(b"new".to_vec()); 6],
};

const DELETE_MANY: Case = Case {
    name: "delete many",
    work: |client, namespace| all(client.delete_many(namespace, &KEYS)),
    new: || vec![None; 6],
    ..PUT_MANY
};

#[test]
fn of_many_keys() {
    for case in [PUT_MANY, DELETE_MANY] {
        at_every_verb(&case);
    }
}

/// The pieces go on in another manifest.
const EXPIRE: Case = Case {
    name: "expire",
    work: |client, namespace| client.expire(namespace, b"key", Expiry::In(1 << 30)).map(drop),
    new: PUT.old,
    ..PUT
};

/// The first one takes it away, and tells nobody if it fails.
fn get_twice(client: &mut Client, namespace: u16) -> Result<()> {
    client.get(namespace, b"key", &mut Vec::new())?;
    client.get(namespace, b"key", &mut Vec::new()).map(drop)
}

/// Reads take away what has expired.
const RECLAIM: Case = Case {
    name: "get of what has expired",
    work: get_twice,
    before: |client, namespace| client.put(namespace, b"key", &large(1), Expiry::In(0)),
    old: INSERT.old,
    new: INSERT.old,
};

/// Leaves tombstones and something that has expired.
fn refuse(client: &mut Client, namespace: u16) -> Result<()> {
    all(client.put_many(namespace, &KEYS.map(|key| (key, &b"gone"[..])), Never))?;
    all(client.delete_many(namespace, &KEYS[1..]))?;
    client.put(namespace, KEYS[0], &large(1), Expiry::In(0))
}

/// Sweeps take away what has expired, and what deletions have left.
const SWEEP: Case = Case {
    name: "sweep",
    work: |client, namespace| {
        client.sweep_index()?;
        client.get(namespace, b"key 0", &mut Vec::new()).map(drop)
    },
    before: refuse,
    old: || vec![None; 6],
    new: || vec![None; 6],
};

#[test]
fn of_times_to_live() {
    for case in [EXPIRE, RECLAIM] {
        at_every_verb(&case);
    }
}

#[test]
fn of_a_sweep() {
    at_every_verb(&SWEEP);
}

#[test]
fn of_values_that_depend_on_the_old_ones() {
    for case in [INCREMENT, COUNT, COMPARE, APPEND] {
        at_every_verb(&case);
    }
}

#[test]
fn of_one_key() {
    for case in [PUT, INSERT, DELETE] {
        at_every_verb(&case);
    }
}

#[test]
fn of_large_values() {
    for case in [LARGE, LARGE_INSERT] {
        at_every_verb(&case);
    }
}
