"""Changes of several keys that happen together."""

import threading

import pytest

from artesian.pool import ConflictError, HashStore, Pool, PoolUsageError, Transaction
from tests.pool.conftest import Spawn, line

NUM_ACCOUNTS = 6
MOVER = """
import random
pool = Pool(name)
store = pool.store()
print("ready", flush=True)
while True:
    here, there = random.sample(range(6), 2)
    def move(transaction):
        amounts = [int(transaction.get(store, f"account{n}")) for n in (here, there)]
        transaction.put(store, f"account{here}", str(amounts[0] - 1).encode())
        transaction.put(store, f"account{there}", str(amounts[1] + 1).encode())
    pool.transact(move, attempts=10_000)
"""


def test_writes_appear_together(pool: Pool, store: HashStore) -> None:
    other = pool.store("other")
    store.put("a", b"1")
    with pool.transaction() as transaction:
        assert transaction.get(store, "a") == b"1"
        assert transaction.get(store, "b") is None
        assert transaction.get(store, "b", 5) == 5
        transaction.put(store, "b", b"2")
        transaction.put(other, "c", b"3", ttl=60)
        transaction.delete(store, "a")
        assert transaction.get(store, "b") == b"2"
        assert transaction.get(store, "a") is None
        assert (store.get("a"), store.get("b"), other.get("c")) == (b"1", None, None)
    assert (store.get("a"), store.get("b"), other.get("c")) == (None, b"2", b"3")
    assert other.ttl("c") is not None


def test_an_error_forgets_it(pool: Pool, store: HashStore) -> None:
    with pytest.raises(KeyError), pool.transaction() as transaction:
        transaction.put(store, "a", b"1")
        raise KeyError
    assert store.get("a") is None


def test_what_was_read_must_still_hold(pool: Pool, store: HashStore) -> None:
    store.put("a", b"1")
    transaction = pool.transaction()
    transaction.get(store, "a")
    transaction.put(store, "b", b"2")
    store.put("a", b"changed")
    with pytest.raises(ConflictError, match="try again"):
        transaction.commit()
    assert store.get("b") is None
    assert transaction.is_over
    for use in (transaction.commit, lambda: transaction.put(store, "b", b"")):
        with pytest.raises(PoolUsageError, match="is over"):
            use()


def test_wrong_use(pool: Pool, store: HashStore, name: str) -> None:
    transaction = pool.transaction()
    with Pool(name) as second, pytest.raises(PoolUsageError, match="another pool object"):
        transaction.get(second.store(), "k")
    with pytest.raises(TypeError):
        transaction.put(store, "k", 5)  # type: ignore[arg-type]
    for number in range(64):
        transaction.put(store, str(number), b"")
    with pytest.raises(PoolUsageError, match="64 keys at most"):
        transaction.put(store, "more", b"")
    transaction.abort()
    with pytest.raises(ValueError, match="attempts is 0"):
        pool.transact(lambda _: None, attempts=0)


def test_conflicts_are_tried_again(pool: Pool, store: HashStore) -> None:
    store.put("sum", b"0")
    seen = []

    def body(transaction: Transaction) -> int:
        before = int(transaction.get(store, "sum", b""))
        seen.append(before)
        if len(seen) < 3:
            store.put("sum", b"%d" % (before + 10))
        transaction.put(store, "sum", b"%d" % (before + 1))
        return before

    assert pool.transact(body) == 20
    assert seen == [0, 10, 20]
    assert store.get("sum") == b"21"
    seen.clear()
    with pytest.raises(ConflictError):
        pool.transact(body, attempts=2)


def total(pool: Pool, store: HashStore) -> int:
    def body(transaction: Transaction) -> int:
        keys = [f"account{number}" for number in range(NUM_ACCOUNTS)]
        return sum(int(transaction.get(store, key, b"")) for key in keys)

    return pool.transact(body, attempts=10_000)


def test_threads_lose_nothing(pool: Pool, store: HashStore) -> None:
    store.put("sum", b"0")

    def add(transaction: Transaction) -> None:
        value = int(transaction.get(store, "sum", b""))
        transaction.put(store, "sum", b"%d" % (value + 1))

    def work() -> None:
        for _ in range(100):
            pool.transact(add, attempts=10_000)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("sum") == b"300"


def test_nothing_is_lost_when_processes_are_killed(name: str, spawn: Spawn) -> None:
    with Pool(name, size="32MiB", lease_ms=500) as pool:
        store = pool.store()
        for number in range(NUM_ACCOUNTS):
            store.put(f"account{number}", b"100")
        for _ in range(4):
            children = [spawn(MOVER) for _ in range(2)]
            for child in children:
                line(child)
            for _ in range(5):
                assert total(pool, store) == 100 * NUM_ACCOUNTS
            for child in children:
                assert child.poll() is None
                child.kill()
            assert total(pool, store) == 100 * NUM_ACCOUNTS
