//! Clients of the store die after every verb of every operation. What was acknowledged is there,
//! what was not happened or did not, nothing leaks, nothing is freed twice, and usage can be put
//! right.

#[path = "../common/audit.rs"]
mod audit;
mod stage;

use artesian_pool::client::Client;
use artesian_pool::store::Expiry::Never;
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
