"""Opening, joining, closing, and everything that can be wrong about it."""

import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from artesian.pool import (
    Pool,
    PoolClosedError,
    PoolError,
    PoolExistsError,
    PoolForkedError,
    PoolMismatchError,
    PoolNotFoundError,
    PoolSystemError,
    PoolUsageError,
    list_pools,
)
from tests.pool.conftest import Spawn, line


def test_one_creates_the_others_join(name: str) -> None:
    with Pool(f"shm://{name}", size="32MiB") as first, Pool(name, size="32MiB") as second:
        assert (first.created, second.created) == (True, False)
        assert first.address == f"shm://{name}" == second.address
        first.store().put("k", b"v")
        assert second.store().get("k") == b"v"
        assert name in list_pools()
    assert Pool.remove(name) == 1
    assert name not in list_pools()
    with pytest.raises(PoolNotFoundError):
        Pool.remove(name)


def test_what_is_stored_outlives_its_writer(name: str) -> None:
    with Pool(name, size="32MiB") as pool:
        pool.store().put("k", b"v")
    with Pool(name, create=False) as pool:
        assert pool.store().get("k") == b"v"


def test_copies_lie_on_nodes_of_their_own(name: str) -> None:
    with Pool(name, size="48MiB", nodes=3, replicas=2):
        assert len(list(Path("/dev/shm").glob(f"artesian.*.{name}.node*"))) == 3
    assert Pool.remove(name) == 3


def test_create_says_what_must_be(name: str) -> None:
    with pytest.raises(PoolNotFoundError, match=f'no pool "{name}"'):
        Pool(name, create=False)
    with Pool(name, size="32MiB", create=True), pytest.raises(PoolExistsError, match="remove"):
        Pool(name, size="32MiB", create=True)


def test_a_pool_with_other_numbers_is_refused(name: str) -> None:
    with Pool(name, size="32MiB", lease_ms=1000):
        with pytest.raises(PoolMismatchError) as caught:
            Pool(name, size="64MiB", replicas=2, lease_ms=2000)
        text = str(caught.value)
        assert "size in bytes 33554432, not 67108864" in text
        assert "replicas 1, not 2" in text
        assert "lease in ms 1000, not 2000" in text
        assert f"artesian pool remove {name}" in text
        # The refused one took no place with it.
        for _ in range(20):
            with pytest.raises(PoolMismatchError):
                Pool(name, size="64MiB")
        Pool(name, size="32MiB").close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": "1MiB"}, "8 MiB at least"),
        ({"size": "64MiB", "replicas": 9}, "9 replicas"),
        ({"size": "64MiB", "nodes": 1, "replicas": 2}, "2 replicas: 1 to 1"),
        ({"size": "8GiB", "nodes": 300}, "300 memory nodes"),
        ({"size": "64MiB", "max_clients": 5000}, "client places"),
        ({"size": "nonsense"}, "nonsense"),
    ],
)
def test_numbers_that_make_no_pool(name: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(PoolUsageError, match=text):
        Pool(name, **arguments)
    assert name not in list_pools()


def test_no_room_in_shared_memory(name: str) -> None:
    with pytest.raises(PoolSystemError, match="does not fit into /dev/shm"):
        Pool(name, size="16TiB", nodes=2)
    assert name not in list_pools()


def test_closed_is_closed(name: str) -> None:
    pool = Pool(name, size="32MiB")
    store = pool.store()
    pool.close()
    pool.close()
    assert pool.closed
    assert "closed" in repr(pool)
    for use in (lambda: store.get("k"), lambda: store.put("k", b""), pool.store):
        with pytest.raises(PoolClosedError, match=name):
            use()
    with Pool(name) as pool:
        assert pool.store().get("k") is None


def test_places_of_closed_and_forgotten_pools_are_given_back(name: str) -> None:
    """A small pool has 15 places."""
    for _ in range(40):
        Pool(name, size="16MiB").store().get("k")
    with Pool(name) as first:
        others = [Pool(name) for _ in range(14)]
        with pytest.raises(PoolUsageError, match="all 15 client places"):
            Pool(name)
        others.pop().close()
        others.append(Pool(name))
        for other in others:
            other.close()
        first.store().put("k", b"v")


def test_a_store_keeps_its_pool(name: str) -> None:
    store = Pool(name, size="32MiB").store()
    gc.collect()
    store.put("k", b"v")
    assert store.pool.name == name


def test_a_removed_pool_is_an_error_soon(name: str) -> None:
    with Pool(name, size="32MiB") as pool:
        store = pool.store()
        store.put("k", b"v")
        Pool.remove(name)
        started = time.monotonic()
        with pytest.raises(PoolError):
            store.get("k")
        assert time.monotonic() - started < 5


def test_creation_at_the_same_time(name: str) -> None:
    pools: list[Pool] = []

    def open_it() -> None:
        pools.append(Pool(name, size="64MiB", nodes=2, replicas=2))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(pool.created for pool in pools) == 1
    for number, pool in enumerate(pools):
        pool.store().put(str(number), b"here")
    assert all(pools[0].store().get(str(number)) == b"here" for number in range(8))
    for pool in pools:
        pool.close()


def test_a_forked_child_opens_it_again(name: str) -> None:
    pool = Pool(name, size="32MiB")
    store = pool.store()
    store.put("k", b"v")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            try:
                store.get("k")
            except PoolForkedError as error:
                assert str(os.getppid()) in str(error)
                pool.close()
                with Pool(name) as own:
                    code = 0 if own.store().get("k") == b"v" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.get("k") == b"v"
    pool.close()


def test_a_process_leaves_when_it_ends(pool: Pool, spawn: Spawn) -> None:
    """More processes than places come and go; none is waited for."""
    for number in range(18):
        child = spawn(f"store = Pool(name).store(); store.put('{number}', b'x'); print('done')")
        assert line(child) == "done"
        assert child.wait(30) == 0
    store = pool.store()
    assert all(store.get(str(number)) == b"x" for number in range(18))
