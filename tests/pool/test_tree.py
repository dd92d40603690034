"""The ordered key space."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artesian.pool import Pool, PoolUsageError, TreeStore
from artesian.pool.base import end_of_prefix


@pytest.fixture
def tree(pool: Pool) -> TreeStore:
    return pool.tree("ordered")


def test_keys_come_in_order(tree: TreeStore) -> None:
    assert list(tree) == []
    for number in (5, 3, 9, 1):
        tree.put(f"k{number}", b"%d" % number)
    assert list(tree) == [b"k1", b"k3", b"k5", b"k9"]
    assert list(tree.range("k3", "k9")) == [(b"k3", b"3"), (b"k5", b"5")]
    assert list(tree.range("k2", reverse=True, limit=2)) == [(b"k9", b"9"), (b"k5", b"5")]
    assert list(tree.range(limit=0)) == []
    assert list(tree.scan("k5")) == [(b"k5", b"5")]
    assert tree.get("k5") == b"5"
    assert tree.get("none", 7) == 7
    assert not tree.insert("k5", b"other")
    assert tree.delete("k5")
    assert not tree.delete("k5")
    assert "k5" not in tree
    assert "k9" in tree


def test_ranges_longer_than_a_page(tree: TreeStore) -> None:
    keys = [b"%05d" % number for number in range(2000)]
    for key in reversed(keys):
        tree.put(key, key * 3)
    assert list(tree) == keys
    assert [key for key, _ in tree.range(reverse=True)] == keys[::-1]
    assert [key for key, _ in tree.range(keys[100], keys[1500], limit=700)] == keys[100:800]
    assert [key for key, _ in tree.range(b"", keys[600], reverse=True)] == keys[599::-1]
    assert all(value == key * 3 for key, value in tree.range())
    assert tree.used_bytes() > 0


def test_a_name_is_of_one_kind(pool: Pool, tree: TreeStore) -> None:
    with pytest.raises(PoolUsageError, match="ordered"):
        pool.store("ordered")
    with pytest.raises(PoolUsageError, match="default"):
        pool.tree("default")
    assert repr(tree) == f"TreeStore('ordered' of {pool.address})"
    assert tree.pool is pool


def test_wrong_types(tree: TreeStore) -> None:
    for use in (
        lambda: tree.put("k", "text"),  # type: ignore[arg-type]
        lambda: tree.get(5),  # type: ignore[call-overload]
        lambda: list(tree.range(5)),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError):
            use()


@given(st.binary(max_size=5), st.binary(max_size=8))
def test_the_end_of_a_prefix(prefix: bytes, key: bytes) -> None:
    end = end_of_prefix(prefix)
    assert (prefix <= key and (end is None or key < end)) == key.startswith(prefix)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "delete"]), st.binary(max_size=3), st.binary(max_size=9)),
        max_size=40,
    ),
    start=st.none() | st.binary(max_size=3),
    stop=st.none() | st.binary(max_size=3),
    reverse=st.booleans(),
    limit=st.none() | st.integers(0, 9),
)
def test_behaves_like_a_sorted_dict(
    tree: TreeStore,
    steps: list[tuple[str, bytes, bytes]],
    start: bytes | None,
    stop: bytes | None,
    reverse: bool,
    limit: int | None,
) -> None:
    twin: dict[bytes, bytes] = {}
    for step, key, value in steps:
        if step == "put":
            tree.put(key, value)
            twin[key] = value
        else:
            assert tree.delete(key) == (twin.pop(key, None) is not None)
    within = sorted(
        (key, value)
        for key, value in twin.items()
        if (start is None or key >= start) and (stop is None or key < stop)
    )
    expected = (within[::-1] if reverse else within)[:limit]
    assert list(tree.range(start, stop, reverse=reverse, limit=limit)) == expected
    for key in list(tree):
        tree.delete(key)
