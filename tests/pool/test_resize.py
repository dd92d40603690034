"""Memory nodes that come and go."""

import threading

import pytest

from artesian.cli.app import run
from artesian.pool import Pool, PoolClosedError, PoolUsageError


def states(pool: Pool) -> list[str]:
    return [node.state for node in pool.nodes()]


def test_values_stay_when_nodes_come_and_go(pool: Pool) -> None:
    store = pool.store()
    twin = {b"%d" % number: b"%d" % number * 500 for number in range(4000)}
    store.put_many(twin)
    told: list[tuple[int, int]] = []
    added = pool.add_node(told=lambda *progress: told.append(progress))
    assert added.node == 1
    assert states(pool) == ["live", "live"]
    assert told[-1] == (added.moved_bytes, 0)
    drained = pool.drain_node(0)
    assert drained.moved_bytes > 4000 * 500
    assert states(pool) == ["gone", "live"]
    assert store.get_many(twin) == list(twin.values())
    store.put_many(dict.fromkeys(twin, b"new"))
    with Pool(pool.name) as other:
        assert other.store().get("7") == b"new"
    assert pool.check().is_clean


def test_others_go_on_meanwhile(pool: Pool) -> None:
    done = threading.Event()
    counts = []

    def work() -> None:
        with Pool(pool.name) as other:
            store = other.store()
            while not done.is_set():
                counts.append(store.increment("n"))

    worker = threading.Thread(target=work)
    worker.start()
    mine = pool.store()
    try:
        pool.add_node(told=lambda *_: mine.increment("m"))
        pool.drain_node(0)
    finally:
        done.set()
        worker.join()
    assert counts == list(range(1, len(counts) + 1))
    assert mine.increment("n", 0) == len(counts)
    assert mine.increment("m", 0) > 0


def test_what_cannot_be(pool: Pool) -> None:
    with pytest.raises(PoolUsageError, match="no memory node 5"):
        pool.drain_node(5)
    with pytest.raises(PoolUsageError, match="the last one"):
        pool.drain_node(0)
    with pytest.raises(PoolUsageError, match="number 1 of at most"):
        pool.add_node(7)
    pool.add_node()
    pool.drain_node(0)
    with pytest.raises(PoolUsageError, match="used once"):
        pool.add_node(0)
    pool.close()
    with pytest.raises(PoolClosedError):
        pool.add_node()


def test_what_the_listener_raises_comes_at_the_end(pool: Pool) -> None:
    def told(moved_bytes: int, left: int) -> None:
        raise KeyError(left)

    with pytest.raises(KeyError):
        pool.add_node(told=told)
    assert states(pool) == ["live", "live"]


def test_the_commands(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    pool.store().put("k", b"v")
    assert run(["pool", "add-node", pool.name]) == 0
    assert run(["pool", "drain-node", pool.name, "0"]) == 0
    out, err = capfd.readouterr()
    assert [text.split(":")[0] for text in out.splitlines()] == ["added node 1", "drained node 0"]
    assert err == ""
    assert pool.store().get("k") == b"v"
