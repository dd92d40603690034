"""Views of values: the bytes in the pool, which stay as they are."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from artesian.pool import HashStore, Pool, PoolClosedError, PoolUsageError


def look(store: HashStore, key: str) -> Any:
    """A view of a value that is there; compares with `bytes`, of which mypy knows nothing."""
    view = store.get_view(key)
    assert view is not None
    return view


def test_a_view_shows_the_value_read_only(store: HashStore) -> None:
    store.put("k", b"some bytes")
    store.put("empty", b"")
    with look(store, "k") as view:
        assert view.readonly
        assert view == b"some bytes"
        assert (view.format, view.itemsize, view.ndim) == ("B", 1, 1)
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1
        with pytest.raises(ValueError, match="not writable"):
            store.get_into("k", view)
    assert look(store, "empty") == b""
    assert store.get_view("none") is None


@pytest.mark.parametrize("size_bytes", [1, 1000, 16_000, 3_000_000])
@pytest.mark.parametrize(
    "change",
    [
        lambda store, size_bytes: store.put("k", b"\xff" * size_bytes),
        lambda store, size_bytes: store.delete("k"),
        lambda store, size_bytes: store.clear(),
    ],
)
def test_a_view_survives_its_key(
    store: HashStore, size_bytes: int, change: Callable[[HashStore, int], object]
) -> None:
    value = np.random.default_rng(3).bytes(size_bytes)
    store.put("k", value)
    view = look(store, "k")
    assert view == value
    change(store, size_bytes)
    # Whatever is free is used, many times over.
    for number in range(40):
        store.put(f"other {number % 4}", b"\xee" * size_bytes)
    assert view == value
    assert store.get("k") != value


def test_values_of_other_processes_are_not_seen_through_a_view(pool: Pool) -> None:
    store = pool.store()
    store.put("k", b"1" * 500)
    view = look(store, "k")
    with Pool(pool.name) as other:
        far = other.store()
        for number in range(3000):
            far.put("k", b"%500d" % number)
    assert view == b"1" * 500
    assert store.get("k") == b"%500d" % 2999


def test_a_pool_is_not_closed_while_its_views_are_held(name: str) -> None:
    pool = Pool(name, size="32MiB")
    store = pool.store()
    store.put("k", b"v")
    view = look(store, "k")
    array = np.frombuffer(view, np.uint8)
    del view
    with pytest.raises(PoolUsageError, match="1 views of values are held"):
        pool.close()
    assert not pool.closed
    assert store.get("k") == b"v"
    assert bytes(array) == b"v"
    del array
    pool.close()
    with pytest.raises(PoolClosedError):
        store.get_view("k")


def test_a_view_outlives_the_objects_it_came_from(name: str) -> None:
    with Pool(name, size="32MiB") as keeper:
        assert Pool(name).store().get_view("k") is None
        keeper.store().put("k", b"v" * 100)
        view = look(Pool(name).store(), "k")
        gc.collect()
        assert len(keeper.stats().clients) == 2
        for _ in range(100):
            keeper.store().put("k", b"w" * 100)
        assert view == b"v" * 100
        del view
        gc.collect()
        assert len(keeper.stats().clients) == 1


def test_many_views_at_once(store: HashStore) -> None:
    store.put_many({f"{number}": b"%d" % number for number in range(500)})
    views = [look(store, f"{number}") for number in range(500)]
    store.clear()
    store.put_many({f"{number}": b"new" for number in range(500)})
    assert views == [b"%d" % number for number in range(500)]
