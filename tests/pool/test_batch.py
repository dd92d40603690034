"""Many keys in one call."""

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from artesian.pool import HashStore, KeyTooLargeError, PoolUsageError


def test_many_against_a_dictionary(store: HashStore) -> None:
    rng = random.Random(5)
    twin: dict[bytes, bytes] = {}
    keys = [b"key %d" % number for number in range(300)]
    for _ in range(30):
        some = rng.choices(keys, k=rng.randrange(120))
        match rng.randrange(3):
            case 0:
                # Keys come more than once, and some values lie in pieces.
                longest = rng.choice([0, 10, 1000, 40_000])
                items = [(key, rng.randbytes(rng.randint(0, longest))) for key in some]
                store.put_many(items)
                twin.update(items)
            case 1:
                some = list(set(some))
                assert store.delete_many(some) == [twin.pop(key, None) is not None for key in some]
            case _:
                assert store.get_many(some) == [twin.get(key) for key in some]
    assert store.get_many(keys) == [twin.get(key) for key in keys]
    assert {key: store.get(key) for key in store} == twin


def test_whatever_gives_keys_and_values(store: HashStore) -> None:
    mixed: dict[str, Any] = {"a": b"1", "b": bytearray(b"2")}
    store.put_many(mixed)
    store.put_many({b"c": memoryview(b"3")})
    store.put_many((f"n{number}", np.int64(number).tobytes()) for number in range(3))
    store.put_many([])
    store.put_many({})
    keys: list[bytes | str] = ["a", b"b", "c", "d"]
    assert store.get_many(iter(keys)) == [b"1", b"2", b"3", None]
    assert store.get_many({"n2": 0}) == [(2).to_bytes(8, "little")]
    assert store.get_many(()) == []
    assert store.delete_many([]) == []
    assert store.delete_many({"a", "none"}.__iter__()).count(True) == 1
    assert store.delete_many(["b", "b"]) == [True, False]


def test_many_with_a_time_to_live(store: HashStore) -> None:
    store.put_many({"a": b"1", "b": b"2"}, ttl=60)
    for key in ("a", "b"):
        left = store.ttl(key)
        assert left is not None
        assert 50 < left <= 60
    with pytest.raises(PoolUsageError, match="ttl is -1"):
        store.put_many({"c": b"3"}, ttl=-1)
    assert "c" not in store


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda store: store.get_many("keys"), "not one str"),
        (lambda store: store.get_many(b"keys"), "not int"),
        (lambda store: store.get_many(["k", 5]), "not int"),
        (lambda store: store.get_many(5), "not iterable"),
        (lambda store: store.delete_many(["k", None]), "not NoneType"),
        (lambda store: store.put_many([("k", b"1"), ("l", 5)]), "not int"),
        (lambda store: store.put_many([("k", b"1"), (5, b"2")]), "not int"),
        (lambda store: store.put_many([("k", b"1"), "l"]), "tuple"),
        (lambda store: store.put_many("text"), "not one str"),
    ],
)
def test_what_is_no_key_changes_nothing(
    store: HashStore, use: Callable[[Any], object], text: str
) -> None:
    store.put("k", b"0")
    with pytest.raises(TypeError, match=text):
        use(store)
    assert store.get("k") == b"0"


def test_the_first_error_comes_after_all_were_tried(store: HashStore) -> None:
    long, longer = b"l" * 100_000, b"m" * 200_000
    with pytest.raises(KeyTooLargeError, match="100000"):
        store.put_many([("a", b"1"), (long, b"2"), (longer, b"3"), ("b", b"4")])
    assert (store.get("a"), store.get("b")) == (b"1", b"4")
    with pytest.raises(KeyTooLargeError, match="100000"):
        store.get_many(["a", long, longer])
    with pytest.raises(KeyTooLargeError, match="100000"):
        store.delete_many([long, longer, "a", "b"])
    assert store.count() == 0


def test_threads_with_many_keys_each(store: HashStore) -> None:
    def work(number: int) -> None:
        for turn in range(20):
            items = {f"{number} {at}": b"%d" % turn for at in range(50)}
            store.put_many(items)
            assert store.get_many(items) == [b"%d" % turn] * 50

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get_many(f"{number} 7" for number in range(3)) == [b"19"] * 3
