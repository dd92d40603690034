"""What a program sees: the origin's bytes, whatever is in the store."""

import io
import pickle
import random
import threading
import time
from pathlib import Path

import fsspec
import pytest

from artesian.files import ChangedError, FilesUsageError, NotCachedError, OriginError
from tests.files.conftest import BLOCK, CountingFs, MakeFs, write


def test_random_reads_are_those_of_the_file(make_fs: MakeFs, source: Path) -> None:
    data = write(source / "a", 5 * BLOCK + 1234)
    fs = make_fs()
    seeded = random.Random(1)
    twin = io.BytesIO(data)
    with fs.open(str(source / "a")) as file:
        for _ in range(300):
            match seeded.randrange(5):
                case 0:
                    where = seeded.randrange(len(data) + 100)
                    assert file.seek(where) == twin.seek(where)
                case 1:
                    assert file.readline() == twin.readline()
                case 2:
                    assert file.seek(-1, 2) == twin.seek(-1, 2)
                case _:
                    size = seeded.choice([0, 1, 7, 500, BLOCK - 1, BLOCK, 3 * BLOCK, -1])
                    assert file.read(size) == twin.read(size)
            assert file.tell() == twin.tell()
    with fs.open(str(source / "a"), "r", encoding="latin-1", newline="") as text:
        assert text.read().encode("latin-1") == data


def test_a_block_comes_from_the_origin_once(
    make_fs: MakeFs, source: Path, origin: CountingFs
) -> None:
    data = write(source / "a", 3 * BLOCK + 10)
    fs = make_fs()
    path = str(source / "a")
    assert fs.cat_file(path, 5, 10) == data[5:10]
    assert BLOCK <= origin.num_bytes <= 2 * BLOCK, "a block, and perhaps one ahead"
    assert fs.cat_file(path) == data
    assert fs.cat_file(path, -20) == data[-20:]
    assert fs.cat_file(path, 100, -100) == data[100:-100]
    assert make_fs().cat_file(path) == data
    assert origin.num_bytes == len(data)


def test_ranges_of_files(make_fs: MakeFs, source: Path) -> None:
    first, second = write(source / "a", 2 * BLOCK), write(source / "b", 100)
    fs = make_fs()
    paths = [str(source / name) for name in "abc"]
    found = fs.cat_ranges(paths, [BLOCK - 1, None, 0], [BLOCK + 1, 5, 1])
    assert found[:2] == [first[BLOCK - 1 : BLOCK + 1], second[:5]]
    assert isinstance(found[2], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 1, on_error="raise")
    assert fs.cat([paths[0], paths[1]]) == {paths[0]: first, paths[1]: second}


def test_chained_urls(tmp_path: Path, source: Path) -> None:
    data = write(source / "a", 100)
    options = {"directory": tmp_path / "store"}
    with fsspec.open(f"artesian::file://{source}/a", artesian=options) as file:
        assert file.read() == data
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/chained/b", b"in memory")
    try:
        with fsspec.open("artesian::memory://chained/b", "rt", artesian=options) as text:
            assert text.read() == "in memory"
    finally:
        memory.rm("/chained", recursive=True)


def test_pickled_files_go_on(tmp_path: Path, source: Path) -> None:
    data = write(source / "a", 1000)
    fs = fsspec.filesystem("artesian", target_protocol="file", directory=tmp_path / "store")
    assert pickle.loads(pickle.dumps(fs)).cat_file(str(source / "a")) == data
    with fs.open(str(source / "a")) as file:
        file.seek(10)
        with pickle.loads(pickle.dumps(file)) as again:
            assert again.read(5) == data[10:15]


def test_threads_that_miss_at_once_ask_once(
    make_fs: MakeFs, source: Path, origin: CountingFs
) -> None:
    data = write(source / "a", 8 * BLOCK)
    fs = make_fs()
    origin.delay_s = 0.05
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fs.cat_file(str(source / "a"))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [data] * 8
    assert origin.num_bytes == len(data)


def test_what_the_origin_overwrites_is_read_anew(
    make_fs: MakeFs, source: Path, origin: CountingFs
) -> None:
    path = source / "a"
    old = write(path, 4 * BLOCK)
    fs = make_fs()
    with fs.open(str(path)) as file:
        assert file.read(BLOCK) == old[:BLOCK]
        new = write(path, 4 * BLOCK)
        # What is cached is still the old file; what is not cannot be had any more.
        with pytest.raises(ChangedError, match="open it again"):
            file.read()
    used = fs.store.main.used_bytes
    assert fs.cat_file(str(path)) == new
    assert fs.store.main.used_bytes <= used + 4 * (BLOCK + 4096)
    assert len(fs.store.index.rows("SELECT name FROM blocks")) == 4, "old blocks have gone"


def test_a_change_within_a_request_is_noticed(
    make_fs: MakeFs, source: Path, origin: CountingFs
) -> None:
    path = source / "a"
    write(path, 2 * BLOCK)
    fs = make_fs()

    def change() -> None:
        path.write_bytes(b"x" * 2 * BLOCK)

    origin.before_cat = change
    with pytest.raises(ChangedError):
        fs.cat_file(str(path))
    origin.before_cat = lambda: None
    assert fs.cat_file(str(path)) == b"x" * 2 * BLOCK


def test_a_file_that_changed_just_now_is_not_kept(
    make_fs: MakeFs, source: Path, origin: CountingFs
) -> None:
    path = source / "a"
    data = write(path, 100, age_s=0)
    fs = make_fs()
    assert fs.cat_file(str(path)) == data
    for number in range(20):
        text = f"{number:05}".encode()
        path.write_bytes(text)
        assert fs.cat_file(str(path)) == text


def test_writes_go_through(make_fs: MakeFs, source: Path) -> None:
    path = str(source / "a")
    old = write(source / "a", 1000)
    fs = make_fs(check=1000)
    assert fs.cat_file(path) == old
    with fs.open(path, "wb") as file:
        file.write(b"new")
    assert (source / "a").read_bytes() == b"new"
    assert fs.cat_file(path) == b"new"
    fs.pipe_file(path, b"newer")
    assert fs.cat_file(path) == b"newer"
    fs.mv(path, str(source / "b"))
    with pytest.raises(FileNotFoundError):
        fs.cat_file(path)
    assert fs.cat_file(str(source / "b")) == b"newer"
    fs.rm(str(source / "b"))
    with pytest.raises(FileNotFoundError):
        fs.open(str(source / "b"))


def test_a_file_is_not_asked_for_again_within_check(
    make_fs: MakeFs, source: Path, origin: CountingFs
) -> None:
    data = write(source / "a", 100)
    fs = make_fs(check=1000)
    for _ in range(3):
        assert fs.cat_file(str(source / "a")) == data
    num_infos = origin.num_infos
    assert fs.cat_file(str(source / "a")) == data
    assert origin.num_infos == num_infos


def test_offline_serves_what_is_here(make_fs: MakeFs, source: Path, origin: CountingFs) -> None:
    folder = source / "sub"
    folder.mkdir()
    data = write(folder / "a", 3 * BLOCK)
    fs = make_fs()
    fs.cat_file(str(folder / "a"), 0, 10)
    fs.store.news.exchange()
    (folder / "a").unlink()
    origin.failure = OSError("the network is down")
    away = make_fs(offline=True)
    assert away.cat_file(str(folder / "a"), 0, BLOCK) == data[:BLOCK]
    assert away.ls(str(source)) == [
        {"name": str(folder), "size": 0, "type": "directory"},
    ]
    assert away.find(str(source)) == [str(folder / "a")]
    assert away.info(str(folder / "a"))["size"] == len(data)
    with pytest.raises(NotCachedError, match="offline=False"):
        away.cat_file(str(folder / "a"))
    with pytest.raises(FileNotFoundError):
        away.open(str(folder / "b"))
    with pytest.raises(FilesUsageError, match="offline"):
        away.rm(str(folder / "a"))


def test_a_dead_origin_is_said_and_not_asked_all_the_time(
    make_fs: MakeFs, source: Path, origin: CountingFs
) -> None:
    data = write(source / "a", BLOCK)
    fs = make_fs(check=1000)
    fs.cat_file(str(source / "a"))
    origin.failure = ConnectionError("refused")
    with pytest.raises(OriginError, match="ConnectionError: refused"):
        fs.cat_file(str(source / "b"))
    num_infos = origin.num_infos
    with pytest.raises(OriginError, match="not asked again for some seconds"):
        fs.cat_file(str(source / "b"))
    assert origin.num_infos == num_infos
    assert fs.cat_file(str(source / "a")) == data, "what is here is served"


def test_an_origin_that_hangs_is_left(make_fs: MakeFs, source: Path, origin: CountingFs) -> None:
    data = write(source / "a", BLOCK)
    fs = make_fs(timeout=0.1)
    origin.delay_s = 0.5
    began_s = time.monotonic()
    with pytest.raises(OriginError, match=r"within 0\.1 s"):
        fs.cat_file(str(source / "a"))
    assert time.monotonic() - began_s < 5
    origin.delay_s = 0
    assert make_fs().cat_file(str(source / "a")) == data


def test_one_failure_is_mended(make_fs: MakeFs, source: Path, origin: CountingFs) -> None:
    data = write(source / "a", BLOCK)
    fs = make_fs()
    failures = [ConnectionResetError("in the middle"), TimeoutError()]

    def fail() -> None:
        if failures:
            raise failures.pop()

    origin.before_cat = fail
    assert fs.cat_file(str(source / "a")) == data
    assert not failures


def test_too_few_bytes_are_an_error(make_fs: MakeFs, source: Path, origin: CountingFs) -> None:
    write(source / "a", BLOCK)
    fs = make_fs()
    origin.short_by = 1
    with pytest.raises(OriginError, match=f"{BLOCK - 1} bytes where {BLOCK}"):
        fs.cat_file(str(source / "a"))
    assert fs.store.main.used_bytes == 0


def test_folders_and_missing_files(make_fs: MakeFs, source: Path) -> None:
    fs = make_fs()
    with pytest.raises(IsADirectoryError):
        fs.open(str(source))
    with pytest.raises(FileNotFoundError):
        fs.open(str(source / "none"))
    (source / "empty").write_bytes(b"")
    assert fs.cat_file(str(source / "empty")) == b""
    with fs.open(str(source / "empty")) as file:
        assert file.read() == b""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": "lots"}, "capacity 'lots'"),
        ({"capacity": -1}, "capacity -1"),
        ({"capacity": 0}, "no place for blocks"),
        ({"block_size": 100}, "4 KiB to 256 MiB"),
        ({"timeout": 0}, "timeout 0"),
        ({"check": -1}, "check -1"),
        ({"pool_capacity": "1MiB"}, "name the pool"),
        ({"fs": None}, "which files"),
    ],
)
def test_wrong_options_are_named(make_fs: MakeFs, options: dict[str, object], message: str) -> None:
    with pytest.raises(FilesUsageError, match=message):
        make_fs(**options)
