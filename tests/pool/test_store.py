"""One store: values in, values out."""

import math
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artesian.pool import (
    HashStore,
    KeyTooLargeError,
    Pool,
    PoolFullError,
    PoolUsageError,
    QuotaExceededError,
    ValueTooLargeError,
)


def test_put_get_delete(store: HashStore) -> None:
    assert store.get("a") is None
    assert store.get("a", 7) == 7
    assert not store.update("a", b"1")
    assert store.insert("a", b"1")
    assert not store.insert("a", b"2")
    assert store.update("a", b"3")
    store.put("b", b"")
    assert (store.get("a"), store.get("b")) == (b"3", b"")
    assert "a" in store
    assert "c" not in store
    assert store.delete("a")
    assert not store.delete("a")
    assert "a" not in store


def test_text_keys_are_their_utf8_bytes(store: HashStore) -> None:
    store.put("grün", b"1")
    assert store.get("grün".encode()) == b"1"


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.empty(0),
    ],
)
def test_values_are_whatever_has_bytes(store: HashStore, value: bytes) -> None:
    store.put("k", value)
    assert store.get("k") == bytes(value)


def test_arrays_come_back(store: HashStore) -> None:
    rows = np.arange(600, dtype=np.float64).reshape(20, 30)
    store.put("rows", rows)
    found = np.zeros_like(rows)
    assert store.get_into("rows", found) == rows.nbytes
    assert (found == rows).all()
    part = memoryview(bytearray(rows.nbytes + 8))[8:]
    assert store.get_into("rows", part) == rows.nbytes
    assert part == rows.tobytes()
    assert store.get_into("none", found) is None


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda store: store.put("k", 5), "not int"),
        (lambda store: store.put("k", None), "not NoneType"),
        (lambda store: store.put("k", "text"), "encode a str"),
        (lambda store: store.put(5, b""), "bytes or str, not int"),
        (lambda store: store.get(None), "bytes or str, not NoneType"),
        (lambda store: store.get(["k"]), "bytes or str, not list"),
        (lambda store: store.get_into("k", []), "not list"),
        (lambda store: store.put("k", b"", ttl="1"), "str"),
        (lambda store: store.put("k", b"", 5), "positional"),
        (lambda store: store.increment("k", 1.5), "float"),
        (lambda store: store.append("k", "text"), "encode a str"),
        (lambda store: store.compare_and_set("k", "1", b""), "str"),
    ],
)
def test_wrong_types(store: HashStore, use: object, text: str) -> None:
    assert callable(use)
    with pytest.raises(TypeError, match=text):
        use(store)


def test_wrong_values(store: HashStore) -> None:
    store.put("k", b"12345")
    with pytest.raises(KeyTooLargeError, match="5000 bytes is too large") as caught:
        store.put("x" * 5000, b"")
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (5000, 4096)
    with pytest.raises(PoolUsageError, match="5 bytes, the buffer room for 4"):
        store.get_into("k", bytearray(4))
    for buffer in (b"12345", np.zeros((9, 2), np.uint8)[:, 0]):
        with pytest.raises(ValueError, match="no contiguous writable buffer"):
            store.get_into("k", buffer)
    with pytest.raises(ValueError, match="no contiguous buffer"):
        store.put("k", np.arange(10)[::2])
    for ttl in (0, -1, float("nan"), 1e300):
        with pytest.raises(PoolUsageError, match="ttl is"):
            store.put("k", b"", ttl=ttl)
    with pytest.raises(UnicodeEncodeError):
        store.get("\ud800")
    assert store.get("k") == b"12345"


@pytest.mark.parametrize(
    "size", [16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 400_000, 1_000_003, 5_000_000]
)
def test_values_of_all_sizes(store: HashStore, size: int) -> None:
    value = np.random.default_rng(size).bytes(size)
    store.put("k", value)
    assert store.get("k") == value
    assert store.size("k") == size
    into = bytearray(size + 5)
    assert store.get_into("k", into) == size
    assert into[:size] == value
    assert store.get_range("k", 10_000, 5_000) == value[10_000:15_000]
    assert store.get_range("k", size - 3, 100) == value[-3:]
    assert store.get_range("k", size + 3, 100) == b""
    with pytest.raises(PoolUsageError, match=f"the value has {size} bytes"):
        store.get_into("k", bytearray(size - 1))
    small = store.get_now("k", b"")
    assert small is NotImplemented if size >= 65_536 else small == value
    assert store.delete("k")
    assert store.get("k", b"none") == b"none"
    assert store.get_now("k", b"none") == b"none"
    assert store.get_range("k", 0, 5) is None
    assert store.size("k") is None


def test_a_value_beyond_all_limits(store: HashStore) -> None:
    with pytest.raises(ValueTooLargeError) as caught:
        store.put("k", np.empty((1 << 30) + 1, np.uint8))
    assert caught.value.size_bytes == (1 << 30) + 1


def test_conditional_changes(store: HashStore) -> None:
    assert store.get_versioned("k") is None
    first = store.compare_and_set("k", None, b"1")
    assert first is not None
    assert store.get_versioned("k") == (b"1", first)
    assert store.compare_and_set("k", None, b"2") is None
    second = store.compare_and_set("k", first, b"2", ttl=60)
    assert second not in (None, first)
    assert store.compare_and_set("k", first, b"3") is None
    assert store.get("k") == b"2"
    assert store.ttl("k") is not None
    assert not store.compare_and_delete("k", first)
    store.put("k", b"1")
    assert second is not None
    assert not store.compare_and_delete("k", second)
    found = store.get_versioned("k")
    assert found is not None
    assert store.compare_and_delete("k", found[1])
    assert "k" not in store


def test_numbers(store: HashStore) -> None:
    assert store.increment("n") == 1
    assert store.increment("n", 41) == 42
    assert store.increment("n", -100) == -58
    assert store.get("n") == (-58).to_bytes(8, "little", signed=True)
    store.put("text", b"five")
    with pytest.raises(PoolUsageError, match="no integer: it has 4 bytes"):
        store.increment("text")
    store.put("n", ((1 << 63) - 1).to_bytes(8, "little"))
    with pytest.raises(PoolUsageError, match="does not fit 64 bits"):
        store.increment("n")
    with pytest.raises(OverflowError):
        store.increment("n", 1 << 63)


def test_appending(store: HashStore) -> None:
    expected = b""
    for number in range(60):
        part = bytes([number]) * 1500
        expected += part
        assert store.append("log", part) == len(expected)
    assert store.get("log") == expected


def test_threads_count_exactly(store: HashStore) -> None:
    def work() -> None:
        for _ in range(1000):
            store.increment("n")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.increment("n", 0) == 3000


def test_values_expire(store: HashStore) -> None:
    store.put("short", b"1", ttl=0.02)
    store.put("long", b"2", ttl=60)
    store.put("ever", b"3")
    left = store.ttl("long")
    assert left is not None
    assert 0 < left <= 60
    assert store.ttl("ever") is None
    assert store.ttl("none") is None
    time.sleep(0.03)
    assert store.get("short") is None
    assert store.insert("short", b"4")
    assert store.get("long") == b"2"


@pytest.mark.parametrize("value", [b"small", bytes(1 << 17)])
def test_times_to_live_can_be_changed(store: HashStore, value: bytes) -> None:
    store.put("k", value, ttl=60)
    assert store.persist("k")
    assert store.ttl("k") is None
    assert store.expire("k", 30)
    left = store.ttl("k")
    assert left is not None
    assert 25 < left <= 30
    assert store.get("k") == value
    assert store.expire("k", math.inf)
    assert store.ttl("k") is None
    assert store.expire("k", 0.02)
    time.sleep(0.03)
    assert "k" not in store
    assert store.used_bytes() == 0
    assert not store.persist("k")
    assert not store.expire("k", 60)
    with pytest.raises(PoolUsageError, match="ttl is 0"):
        store.expire("k", 0)


def test_a_namespace_has_a_ttl_of_its_own(pool: Pool) -> None:
    store = pool.store("short", ttl=0.02)
    store.put("a", b"1")
    store.put("b", b"2", ttl=60)
    store.put("c", b"3", ttl=math.inf)
    time.sleep(0.03)
    assert (store.get("a"), store.get("b"), store.get("c")) == (None, b"2", b"3")
    # Opened again, it is as it was, until somebody says otherwise.
    pool.store("short").put("a", b"1")
    left = store.ttl("a")
    assert left is not None
    assert left < 1
    pool.store("short", ttl=math.inf).put("a", b"1")
    assert store.ttl("a") is None


def test_a_quota_holds(pool: Pool) -> None:
    store = pool.store("small", quota="200KiB")
    with pytest.raises(QuotaExceededError, match='namespace "small" is at its quota') as caught:
        for number in range(1000):
            store.put(str(number), bytes(1000))
    error = caught.value
    assert error.quota_bytes == 200 << 10 >= error.used_bytes
    assert 100 <= len(store) <= 200
    pool.store("other").put("k", bytes(1000))
    pool.store("small", quota=0).put("more", bytes(1000))
    assert store.used_bytes() > 100_000


def test_a_full_pool(name: str) -> None:
    with Pool(name, size="8MiB") as pool:
        store = pool.store()
        with pytest.raises(PoolFullError, match="no room for") as caught:
            for number in range(10_000):
                store.put(str(number), bytes(8000))
        assert caught.value.size_bytes >= 8000
        assert isinstance(caught.value, MemoryError)
        assert store.get("0") == bytes(8000)
        for number in range(200):
            store.delete(str(number))
        for number in range(100):
            store.put(f"again{number}", bytes(8000))


def test_keys_and_counts(pool: Pool) -> None:
    store = pool.store("many")
    assert (list(store), len(store), bool(store)) == ([], 0, True)
    keys = {b"key%d" % number for number in range(3000)}
    for key in keys:
        store.put(key, b"v")
    pool.store("others").put("other", b"v")
    assert set(store) == keys
    assert set(store.keys("key29")) == {key for key in keys if key.startswith(b"key29")}
    assert 2000 < len(store) < 4000
    some, cursor = store.scan(0, 10)
    assert len(some) >= 10
    assert cursor != 0
    assert store.clear() == 3000
    assert list(store) == []
    pool.drop("others")
    assert [known.name for known in pool.stats().namespaces] == ["default", "many"]
    with pytest.raises(PoolUsageError, match="no namespace"):
        pool.drop("others")


def test_namespaces_of_any_kind_can_be_dropped(pool: Pool) -> None:
    for _ in range(3):
        tree, cache = pool.tree("tree"), pool.cache("cache", "1MiB")
        for number in range(2000):
            tree.put(f"{number:05}", bytes(200))
            cache.put(f"{number:05}", bytes(700))
        pool.drop("tree")
        pool.drop("cache")
        with pytest.raises(PoolUsageError, match="no namespace"):
            tree.get("00001")
        with pytest.raises(PoolUsageError, match="no cache"):
            cache.get("00001")
    assert [known.name for known in pool.stats().namespaces] == ["default"]
    assert pool.tree("tree").get("00001") is None


def test_namespaces_are_apart(pool: Pool) -> None:
    one, two = pool.store("one"), pool.store("two")
    one.put("k", b"1")
    assert two.get("k") is None
    two.put("k", b"2")
    assert pool.store("one").get("k") == b"1"
    assert repr(one) == f"HashStore('one' of {pool.address})"
    for name in ("", "x" * 65):
        with pytest.raises(PoolUsageError, match="1 to 64 bytes"):
            pool.store(name)


def test_threads_take_turns(store: HashStore) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(2000):
                key, value = f"{number}.{step % 50}", b"%d" % step
                store.put(key, value)
                assert store.get(key) == value
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


KEYS = st.one_of(st.binary(max_size=12), st.text(max_size=4), st.sampled_from([b"a", b"b", "c"]))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "insert", "update", "delete", "get", "in"]),
        KEYS,
        st.binary(max_size=300),
    ),
    max_size=60,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS, data=st.data())
def test_behaves_like_a_dict(
    pool: Pool, steps: list[tuple[str, bytes | str, bytes]], data: st.DataObject
) -> None:
    store = pool.store()
    twin: dict[bytes, bytes] = {}
    used: set[bytes] = set()
    for step, given_key, value in steps:
        key = given_key.encode() if isinstance(given_key, str) else given_key
        used.add(key)
        match step:
            case "put":
                store.put(given_key, value)
                twin[key] = value
            case "insert":
                assert store.insert(given_key, value) == (key not in twin)
                twin.setdefault(key, value)
            case "update":
                assert store.update(given_key, value) == (key in twin)
                if key in twin:
                    twin[key] = value
            case "delete":
                assert store.delete(given_key) == (twin.pop(key, None) is not None)
            case "get":
                assert store.get(given_key) == twin.get(key)
            case "in":
                assert (given_key in store) == (key in twin)
    for key in used:
        assert store.get(key) == twin.get(key)
        store.delete(key)
