"""What each worker gets of the machine."""

import pytest

from artesian.cluster.base import ClusterError
from artesian.cluster.plan import divide, roles
from artesian.config import EngineConfig, ServerConfig

GIB = 1 << 30
ENGINE = EngineConfig(model="toy", context_pool_bytes=GIB)


def test_roles_in_order() -> None:
    config = ServerConfig(prefill=1, decode=2, both=1)
    assert roles(config) == ["prefill", "decode", "decode", "both"]
    assert roles(ServerConfig(memory_nodes=1)) == ["both"]


def test_processors_are_divided() -> None:
    config = ServerConfig(prefill=1, decode=1, pin_workers=True)
    shares = divide(ENGINE, config, cpus=[2, 3, 6, 7], available_bytes=8 * GIB)
    assert shares.num_threads == 2
    assert [shares.cpus_of(index) for index in range(3)] == [[2, 3], [6, 7], [2, 3]]


def test_more_workers_than_processors_take_turns() -> None:
    config = ServerConfig(both=3, pin_workers=True)
    shares = divide(ENGINE, config, cpus=[0, 1], available_bytes=8 * GIB)
    assert shares.num_threads == 1
    assert [shares.cpus_of(index) for index in range(3)] == [[0], [1], [0]]


def test_workers_are_not_pinned_unless_asked() -> None:
    shares = divide(ENGINE, ServerConfig(both=2), cpus=[0, 1, 2, 3], available_bytes=8 * GIB)
    assert (shares.num_threads, shares.cpus_of(0)) == (2, [])


def test_threads_that_are_asked_for() -> None:
    config = ServerConfig(both=2, threads_per_worker=3, pin_workers=True)
    shares = divide(ENGINE, config, cpus=[0, 1, 2, 3], available_bytes=8 * GIB)
    assert (shares.num_threads, shares.cpus_of(1)) == (3, [3, 0, 1])
    engine = EngineConfig(model="toy", num_threads=1)
    assert divide(engine, ServerConfig(both=2), available_bytes=8 * GIB).num_threads == 1
    with pytest.raises(ClusterError, match="say the same"):
        divide(engine, config, available_bytes=8 * GIB)


@pytest.mark.parametrize(("nodes", "left"), [(0, 8), (1, 7), (2, 6), (4, 6)])
def test_memory_is_divided_behind_the_pool(nodes: int, left: int) -> None:
    """With more nodes than one everything in the pool is there twice."""
    config = ServerConfig(both=2, memory_nodes=nodes)
    assert divide(ENGINE, config, available_bytes=8 * GIB).memory_bytes * 2 == left * GIB


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(ClusterError, match="2 workers would have 0 MiB of memory each"):
        divide(ENGINE, ServerConfig(both=2, memory_nodes=1), available_bytes=GIB)
