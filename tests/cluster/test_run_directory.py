"""Where a cluster's processes meet, and what becomes of it when nobody holds it any more."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from artesian.cluster.base import ClusterError
from artesian.cluster.run_directory import (
    RunDirectory,
    is_region_of,
    region_of,
    start_time,
    sweep,
)
from artesian.pool import Pool, PoolNotFoundError, list_pools
from tests.worker.test_supervisor import alive


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return tmp_path / "clusters"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def forget(directory: RunDirectory) -> None:
    """As a keeper does that is killed."""
    os.close(directory._lock)


def test_it_is_this_users_alone(parent: Path) -> None:
    with RunDirectory("a", parent) as directory:
        assert parent.stat().st_mode & 0o777 == 0o700
        assert directory.endpoint("keeper") == f"ipc://{parent}/a/keeper"
    assert list(parent.iterdir()) == []
    parent.chmod(0o755)
    with pytest.raises(ClusterError, match="has to be this user's alone"):
        RunDirectory("a", parent)


def test_a_name_has_one_cluster(parent: Path) -> None:
    with RunDirectory("a", parent):
        with pytest.raises(ClusterError, match="named a is running already"):
            RunDirectory("a", parent)
        with RunDirectory("b", parent):
            assert len(list(parent.iterdir())) == 2


def test_what_a_dead_cluster_has_left_is_swept(
    parent: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    name = f"test-sweep-{os.getpid()}"
    directory = RunDirectory(name, parent)
    pool, others = f"{name}-pool", f"{name}-other"
    Pool(pool, size="16MiB").close()
    Pool(others, size="16MiB").close()
    directory.note_pool(pool)
    directory.note_processes([sleeper.pid])
    sweep(parent)
    assert alive(sleeper.pid) and pool in list_pools(), "it is locked"
    forget(directory)
    sweep(parent)
    assert sleeper.wait(5) == -9
    assert list(parent.iterdir()) == []
    assert pool not in list_pools() and others in list_pools()
    Pool.remove(others)
    with pytest.raises(PoolNotFoundError):
        Pool.remove(pool)


def test_a_process_that_has_the_number_of_a_dead_one_is_left_alone(
    parent: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    directory = RunDirectory("a", parent)
    directory.note_processes([sleeper.pid])
    record = parent / "a" / "record"
    started = start_time(sleeper.pid)
    assert started is not None
    record.write_text(record.read_text().replace(str(started), str(started - 1)))
    forget(directory)
    sweep(parent)
    assert list(parent.iterdir()) == [] and alive(sleeper.pid)


@pytest.mark.parametrize("content", ["", "{", '{"pools": 7}', "\0" * 100])
def test_a_record_that_cannot_be_read_is_no_record(parent: Path, content: str) -> None:
    directory = RunDirectory("a", parent)
    (parent / "a" / "record").write_text(content)
    forget(directory)
    sweep(parent)
    assert list(parent.iterdir()) == []


def test_clusters_that_start_at_once_do_not_sweep_each_other(parent: Path) -> None:
    found: list[str] = []

    def start(name: str) -> None:
        for _ in range(5):
            with RunDirectory(name, parent) as directory:
                assert directory.path.is_dir()
            found.append(name)

    threads = [threading.Thread(target=start, args=(f"c{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 30


def test_regions_belong_to_one_cluster() -> None:
    assert is_region_of("a", region_of("a", "w12", 3))
    assert not is_region_of("a", region_of("a-b", "w1", 1))
    assert not is_region_of("a.", region_of("ab", "w1", 1))
