"""The store below the file system: bounds, damage, rules, other processes' traces."""

import errno
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from artesian.files import FilesUsageError
from artesian.files.base import Access, Advisor, Block, Prefetch
from artesian.files.config import make_config
from artesian.files.directory import DirectoryPlace
from artesian.files.lru import LruAdvisor
from artesian.files.members import Members
from artesian.files.memory import PoolPlace
from artesian.files.origin import Origin
from artesian.files.place import Place
from artesian.files.store import FileStore
from artesian.files.stores import close_all
from artesian.pool import Pool
from tests.files.conftest import BLOCK, CountingFs, MakeFs, disk_bytes, write

ROOM = BLOCK + 4096


@pytest.fixture
def pool_name() -> Iterator[str]:
    name = f"test-files-{os.getpid()}-{secrets.token_hex(4)}"
    yield name
    close_all()
    Pool.remove(name)


def test_capacity_is_never_exceeded(make_fs: MakeFs, source: Path, tmp_path: Path) -> None:
    fs = make_fs(capacity=8 * ROOM)
    data = {}
    for number in range(6):
        path = source / f"{number}"
        data[path] = write(path, 3 * BLOCK, age_s=0)
    time.sleep(0.2)
    for _ in range(2):
        for path, content in data.items():
            assert fs.cat_file(str(path)) == content
            assert disk_bytes(tmp_path / "store") <= 8 * ROOM
            assert fs.store.main.used_bytes == disk_bytes(tmp_path / "store")
    fs.store.resize(2 * ROOM)
    assert disk_bytes(tmp_path / "store") <= 2 * ROOM


def test_what_was_used_longest_ago_goes(make_fs: MakeFs, source: Path, origin: CountingFs) -> None:
    fs = make_fs(capacity=4 * ROOM)
    for name in "abcde":
        (source / name).write_bytes(name.encode() * BLOCK)
    time.sleep(0.2)
    for name in "abcda":
        fs.cat_file(str(source / name))
    fs.cat_file(str(source / "e"))
    origin.requests.clear()
    fs.cat_file(str(source / "a"))
    assert origin.requests == [], "a was used after b"
    fs.cat_file(str(source / "b"))
    assert len(origin.requests) == 1


def test_a_file_larger_than_the_store_is_read(
    make_fs: MakeFs, source: Path, tmp_path: Path
) -> None:
    data = write(source / "a", 20 * BLOCK)
    fs = make_fs(capacity=3 * ROOM)
    assert fs.cat_file(str(source / "a")) == data
    assert disk_bytes(tmp_path / "store") <= 3 * ROOM
    tiny = make_fs(capacity=4096, directory=tmp_path / "tiny")
    assert tiny.cat_file(str(source / "a")) == data
    assert tiny.cat_file(str(source / "a"), 5, 10) == data[5:10]
    assert disk_bytes(tmp_path / "tiny") <= 4096


def test_pinned_files_stay(make_fs: MakeFs, source: Path, origin: CountingFs) -> None:
    fs = make_fs(capacity=4 * ROOM)
    for name in "abcdefgh":
        write(source / name, BLOCK, age_s=0)
    time.sleep(0.2)
    fs.cat_file(str(source / "a"))
    url = f"file://{source}/a"
    assert fs.origin.url(str(source / "a")).endswith(f"{source}/a")
    url = fs.origin.url(str(source / "a"))
    fs.store.rules.set(url, is_pinned=True, quota_bytes=None)
    for name in "bcdefgh":
        fs.cat_file(str(source / name))
    origin.requests.clear()
    fs.cat_file(str(source / "a"))
    assert origin.requests == []
    fs.store.rules.set(url, is_pinned=False, quota_bytes=None)
    assert fs.store.rules.all == []


def test_a_quota_bounds_a_folder(make_fs: MakeFs, source: Path, origin: CountingFs) -> None:
    fs = make_fs(capacity=16 * ROOM)
    (source / "few").mkdir()
    for name in ("few/a", "few/b", "few/c", "d"):
        write(source / name, BLOCK, age_s=0)
    time.sleep(0.2)
    url = fs.origin.url(str(source / "few"))
    fs.store.rules.set(url, is_pinned=False, quota_bytes=2 * ROOM)
    for name in ("d", "few/a", "few/b", "few/c"):
        fs.cat_file(str(source / name))
    assert fs.store.main.used_bytes == 3 * ROOM
    origin.requests.clear()
    for name in ("few/c", "few/b", "d"):
        fs.cat_file(str(source / name))
    assert origin.requests == []


def test_damage_is_noticed(
    make_fs: MakeFs, source: Path, origin: CountingFs, tmp_path: Path
) -> None:
    data = write(source / "a", 3 * BLOCK)
    fs = make_fs()
    fs.cat_file(str(source / "a"))
    files = sorted((tmp_path / "store").glob("blocks/*/*"))
    assert len(files) == 3
    with files[0].open("r+b") as file:
        file.seek(BLOCK // 2)
        file.write(b"\0\1\2\3")
    files[1].write_bytes(files[2].read_bytes())
    os.truncate(files[2], BLOCK - 7)
    origin.requests.clear()
    assert fs.cat_file(str(source / "a")) == data
    assert origin.num_bytes == 3 * BLOCK
    assert fs.cat_file(str(source / "a")) == data
    assert origin.num_bytes == 3 * BLOCK, "what was damaged is there again"
    assert fs.store.main.used_bytes == disk_bytes(tmp_path / "store") == 3 * ROOM


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_places(kind: str, tmp_path: Path, pool_name: str) -> None:
    place: Place = PoolPlace(pool_name, 8 << 20)
    if kind == "disk":
        place = DirectoryPlace(tmp_path, 1)
    names = [secrets.token_bytes(32) for _ in range(4)]
    sizes = [1, 64 << 10, (64 << 10) + 1, 300_000]
    blocks = {n: secrets.token_bytes(s) for n, s in zip(names, sizes, strict=True)}
    for name, data in blocks.items():
        assert not place.has(name)
        assert place.read(name, len(data), 0, 1) is None
        place.write(name, data)
        place.write(name, data)
        assert place.has(name)
    for name, data in blocks.items():
        for start, end in [(0, len(data)), (len(data) // 2, len(data)), (len(data) // 3, 1)]:
            if start < end:
                assert place.read(name, len(data), start, end) == data[start:end]
    assert place.read(names[0], 2, 0, 1) is None, "a block of another length is another block"
    place.remove(names[1])
    place.remove(names[1])
    assert not place.has(names[1])
    place.clear()
    assert not any(place.has(name) for name in names)


def test_damage_in_a_pool_is_noticed(pool_name: str) -> None:
    place = PoolPlace(pool_name, 8 << 20)
    name, data = secrets.token_bytes(32), secrets.token_bytes(200_000)
    place.write(name, data)
    with Pool(pool_name) as pool:
        stored = bytearray(pool.store("files").get(name, b""))
        stored[100_000] ^= 1
        pool.store("files").put(name, stored)
    assert place.read(name, len(data), 0, 100) == data[:100], "another piece"
    assert place.read(name, len(data), 90_000, 110_000) is None
    assert not place.has(name)


def test_blocks_in_a_pool(
    make_fs: MakeFs, source: Path, origin: CountingFs, tmp_path: Path, pool_name: str
) -> None:
    data = write(source / "a", 3 * BLOCK)
    fs = make_fs(capacity=0, pool=f"shm://{pool_name}", pool_capacity="8MiB")
    assert fs.cat_file(str(source / "a")) == data
    assert fs.cat_file(str(source / "a"), 10, 20) == data[10:20]
    assert origin.num_bytes == len(data)
    assert disk_bytes(tmp_path / "store") == 0
    other = make_fs(pool=f"shm://{pool_name}", directory=tmp_path / "store")
    assert other.cat_file(str(source / "a")) == data
    assert origin.num_bytes == len(data)


def test_a_pool_before_the_disk_fills_again(
    make_fs: MakeFs, source: Path, origin: CountingFs, pool_name: str
) -> None:
    data = write(source / "a", 3 * BLOCK)
    options = {"pool": f"shm://{pool_name}", "pool_capacity": "8MiB"}
    assert make_fs(**options).cat_file(str(source / "a")) == data
    close_all()
    Pool.remove(pool_name)
    fs = make_fs(**options)
    memory, disk = fs.store.blocks.shelves
    assert (memory.used_bytes, disk.used_bytes) == (0, 3 * ROOM)
    for _ in range(3):
        assert fs.cat_file(str(source / "a")) == data
    assert memory.used_bytes > 3 * BLOCK
    assert origin.num_bytes == len(data)


def test_a_full_disk_costs_hits_alone(
    make_fs: MakeFs, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = write(source / "a", 2 * BLOCK)
    fs = make_fs()

    def refuse(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        assert fs.cat_file(str(source / "a")) == data
    assert disk_bytes(tmp_path / "store") == fs.store.main.used_bytes == 0
    assert "No space left" in (fs.store.blocks.last_error or "")


def test_an_index_that_is_damaged_is_made_anew(
    make_fs: MakeFs, source: Path, tmp_path: Path
) -> None:
    data = write(source / "a", 2 * BLOCK)
    make_fs().cat_file(str(source / "a"))
    close_all()
    for path in (tmp_path / "store").glob("index.sqlite*"):
        path.write_bytes(b"not a database at all" * 500)
    fs = make_fs()
    assert fs.store.main.used_bytes == disk_bytes(tmp_path / "store") == 0
    assert fs.cat_file(str(source / "a")) == data
    assert fs.store.main.used_bytes == 2 * ROOM


def test_an_index_that_fails_costs_hits_alone(
    make_fs: MakeFs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(source / "a", 2 * BLOCK)
    fs = make_fs()

    def fail(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    store = fs.store
    with monkeypatch.context() as patch:
        for name in ("rows", "do", "transaction"):
            patch.setattr(store.index, name, fail)
        assert fs.cat_file(str(source / "a")) == data
    assert "malformed" in (store.last_error or "")


def test_other_directories_are_left_alone(make_fs: MakeFs, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("all of it")
    with pytest.raises(FilesUsageError, match=r"thesis\.txt"):
        _ = make_fs().store
    other = tmp_path / "other"
    other.mkdir()
    (other / "FORMAT").write_text("artesian files 99\n")
    with pytest.raises(FilesUsageError, match="format 'artesian files 99'"):
        _ = make_fs(directory=other).store


def test_what_the_dead_had_taken_comes_back(make_fs: MakeFs, source: Path) -> None:
    write(source / "a", BLOCK)
    fs = make_fs()
    fs.cat_file(str(source / "a"))
    store = fs.store
    living = Members(fs.config.directory / "members", store.index)
    dead = Members(fs.config.directory / "members", store.index)
    dead.close()
    for number in (living.number, dead.number):
        name = number.to_bytes(32, "little")
        partial = fs.config.directory / "partial" / f"{number}-{name.hex()}"
        partial.write_bytes(bytes(100))
        values = ("disk", name, "s3://b/x", number, "g", 8192, number, time.time())
        store.index.do("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *values)
        store.index.do("UPDATE places SET used = used + 8192 WHERE place = 'disk'")
    close_all()
    fs = make_fs()
    left = fs.store.index.rows("SELECT path, number FROM blocks WHERE owner IS NOT NULL")
    assert left == [("s3://b/x", living.number)]
    assert fs.store.main.used_bytes == ROOM + 8192
    assert [p.name.partition("-")[0] for p in (fs.config.directory / "partial").iterdir()] == [
        str(living.number)
    ]
    living.close()


def test_stores_hear_of_each_other(make_fs: MakeFs, source: Path, tmp_path: Path) -> None:
    data = write(source / "a", 2 * BLOCK)
    one = make_fs()
    two = make_fs(timeout=6.0)
    assert two.store is not one.store
    assert one.cat_file(str(source / "a")) == data
    one.store.news.exchange()
    two.store.news.exchange()
    url = one.origin.url(str(source / "a"))
    assert set(two.store.advice.victims(1)) == {Block(url, 0), Block(url, 1)}
    one.store.forget(url)
    one.store.news.exchange()
    two.store.news.exchange()
    assert not list(two.store.advice.victims(1))
    counts = dict(one.store.index.rows("SELECT name, value FROM counts WHERE path = ''"))
    assert counts["misses"] == 2
    assert counts["origin_bytes"] == len(data)


def test_closing_twice_closes_no_file_of_others(tmp_path: Path) -> None:
    store = FileStore(make_config(directory=tmp_path / "store", capacity="16MiB"))
    store.close()
    with ExitStack() as files:
        others = [files.enter_context((tmp_path / name).open("w")) for name in "abcdef"]
        store.close()
        store.abandon()  # as a child that was forked later does
        for other in others:
            other.write("still open")
            other.flush()


class ToldAdvisor(LruAdvisor):
    """Reads ahead what it is told to, and remembers what it heard."""

    def __init__(self, capacity_bytes: int, block_bytes: int) -> None:
        super().__init__(capacity_bytes, block_bytes)
        self.listings: dict[str, list[str]] = {}
        self.ahead: list[Prefetch] = []
        self.refused: set[str] = set()

    def access(self, access: Access, *, is_ours: bool = True) -> Sequence[Prefetch]:
        super().access(access, is_ours=is_ours)
        ahead, self.ahead = self.ahead, []
        return ahead

    def admit(self, block: Block, num_bytes: int, now_s: float, *, is_prefetch: bool) -> bool:
        return block.path not in self.refused

    def listed(self, folder: str, names: Sequence[str]) -> None:
        self.listings[folder] = list(names)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[tuple[FileStore, ToldAdvisor]]:
    """A store with such an advisor."""
    advisors = []

    def make(capacity_bytes: int, block_bytes: int) -> Advisor:
        advisors.append(ToldAdvisor(capacity_bytes, block_bytes))
        return advisors[-1]

    config = make_config(directory=tmp_path / "store", capacity="16MiB", block_size=BLOCK)
    store = FileStore(config, make)
    yield store, advisors[0]
    store.close()


def eventually(is_so: Callable[[], bool]) -> None:
    """Waits until something is so."""
    until_s = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_what_is_read_ahead_is_here(
    told: tuple[FileStore, ToldAdvisor], source: Path, origin: CountingFs
) -> None:
    store, advisor = told
    data = write(source / "a", 6 * BLOCK, age_s=0)
    other = write(source / "b", 10)
    asked = Origin(origin, 5.0)
    url = asked.url(str(source))
    file, _ = store.open(asked, str(source / "a"))
    advisor.ahead = [
        Prefetch(f"{url}/a", 1, 4),
        Prefetch(f"{url}/b", 0, 1 << 30, is_background=True),
        Prefetch(f"{url}/none", 0, 1),
        Prefetch("s3://elsewhere/x", 0, 1),
    ]
    assert store.read(file, 0, 1) == data[:1]
    eventually(lambda: store.main.used_bytes == 4 * ROOM + 4096)
    origin.requests.clear()
    assert store.read(file, 0, 4 * BLOCK) == data[: 4 * BLOCK]
    assert store.read(store.open(asked, str(source / "b"))[0], 0, 10) == other
    assert origin.requests == []


def test_what_is_not_admitted_is_passed_through(
    told: tuple[FileStore, ToldAdvisor], source: Path, origin: CountingFs
) -> None:
    store, advisor = told
    data = write(source / "a", 3 * BLOCK)
    asked = Origin(origin, 5.0)
    file, _ = store.open(asked, str(source / "a"))
    advisor.refused = {file.url}
    assert store.read(file, BLOCK + 5, BLOCK + 15) == data[BLOCK + 5 : BLOCK + 15]
    assert origin.num_bytes == 10, "no more than was wanted"
    assert store.read(file, 10, len(data) - 10) == data[10:-10]
    assert store.main.used_bytes == 0


def test_a_folder_of_which_many_files_are_read_is_listed(
    told: tuple[FileStore, ToldAdvisor], source: Path, origin: CountingFs
) -> None:
    store, advisor = told
    names = [f"{n:02}" for n in range(20)]
    for name in names:
        write(source / name, 10, age_s=0)
    asked = Origin(origin, 5.0)
    for name in names[:15] * 2:
        store.open(asked, str(source / name))
    assert advisor.listings == {}
    store.open(asked, str(source / names[15]))
    eventually(lambda: bool(advisor.listings))
    assert {k: sorted(v) for k, v in advisor.listings.items()} == {asked.url(str(source)): names}


def test_files_that_are_gone_are_forgotten_in_a_week(make_fs: MakeFs, source: Path) -> None:
    fs = make_fs()
    for name in "abc":
        write(source / name, 10, age_s=0.15)
        fs.cat_file(str(source / name))
    store = fs.store
    store.blocks.forget(fs.origin.url(str(source / "a")))
    store.blocks.forget(fs.origin.url(str(source / "b")))
    store.index.do("UPDATE files SET checked_s = checked_s - 8 * 86400 WHERE path NOT LIKE '%b'")
    close_all()
    names = [path[-1] for (path,) in make_fs().store.index.rows("SELECT path FROM files")]
    assert names == ["b", "c"], "what was looked at lately, and what is here"
