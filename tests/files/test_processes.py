"""Several processes with one store, some of which are killed."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artesian.files.index import Index
from tests.files.conftest import BLOCK, CountingFs, MakeFs, disk_bytes, write

ROOM = BLOCK + 4096
WORD = 8

Spawn = Callable[..., subprocess.Popen[str]]

PREAMBLE = """
import os, random, sys, time
from pathlib import Path
from tests.files.conftest import *
from tests.files.test_processes import *
source, store = Path(sys.argv[1]), sys.argv[2]
def make(**options):
    chosen = dict(directory=store, block_size=BLOCK, skip_instance_cache=True, timeout=5.0)
    return ArtesianFileSystem(fs=CountingFs(), **(chosen | options))
"""


@pytest.fixture
def spawn(source: Path, tmp_path: Path) -> Iterator[Spawn]:
    """Starts a Python process that runs some code, with the folder and `make` at hand."""
    children: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)]
        child = subprocess.Popen(
            [*command, str(source), str(tmp_path / "store"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            cwd=Path(__file__).parents[2],
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def content(file: int, version: int, num_bytes: int) -> bytes:
    """Bytes that tell of which file and version they are, and where."""
    head = (file << 48) | (version << 32)
    return b"".join((head | n).to_bytes(WORD, "little") for n in range(num_bytes // WORD))


def version_of(data: bytes, file: int, start: int) -> int:
    """The version that all these bytes are of, from the word-aligned `start` on; or fails."""
    versions = set()
    for n in range(0, len(data), WORD):
        word = int.from_bytes(data[n : n + WORD], "little")
        assert word >> 48 == file, "bytes of another file"
        assert word & 0xFFFFFFFF == (start + n) // WORD, "bytes from another place"
        versions.add(word >> 32 & 0xFFFF)
    assert len(versions) == 1, f"a mixture of versions {versions}"
    return versions.pop()


READER = """
from artesian.files import ChangedError
fs = make()
seeded = random.Random(int(sys.argv[3]))
for number in range(int(sys.argv[4])):
    file = seeded.randrange(NUM_FILES)
    try:
        with fs.open(str(source / f"{file}")) as opened:
            last = None
            for _ in range(3):
                start = seeded.randrange(FILE_BYTES // WORD) * WORD
                opened.seek(start)
                data = opened.read(seeded.choice([WORD, 4096, BLOCK, 3 * BLOCK]))
                data = data[: len(data) // WORD * WORD]
                found = version_of(data, file, start)
                assert last in (None, found), "two versions in one open file"
                last = found
    except (ChangedError, FileNotFoundError):
        continue
    print(file, last, flush=True)
print("end", flush=True)
"""
NUM_FILES = 6
FILE_BYTES = 5 * BLOCK


def replace(path: Path, data: bytes) -> None:
    """As stores do it: at once."""
    partial = path.with_name(f".{path.name}")
    partial.write_bytes(data)
    partial.replace(path)


def read_under_fire(
    spawn: Spawn, source: Path, tmp_path: Path, seed: int, num_reads: int, num_readers: int
) -> int:
    """Readers, one of which is killed now and then, while files change; reads that were right."""
    seeded = random.Random(seed)
    capacity = 12 * ROOM
    versions = dict.fromkeys(range(NUM_FILES), 0)
    for file in versions:
        replace(source / f"{file}", content(file, 0, FILE_BYTES))
    time.sleep(0.2)
    ready = spawn(f"make(capacity={capacity}).store.close(); print('made', flush=True)")
    assert ready.stdout is not None
    assert ready.stdout.readline() == "made\n"
    arguments = (str(num_reads // num_readers),)
    outputs = []
    readers = [spawn(READER, str(seeded.random())[2:], *arguments) for _ in range(num_readers)]
    until_s = time.monotonic() + 90
    while readers:
        assert time.monotonic() < until_s, "somebody is stuck"
        time.sleep(seeded.uniform(0.05, 0.4))
        assert disk_bytes(tmp_path / "store") <= capacity
        for reader in [r for r in readers if r.poll() is not None]:
            readers.remove(reader)
            output = reader.communicate()[0]
            outputs.append(output)
            assert reader.returncode == -signal.SIGKILL or output.endswith("end\n")
        if seeded.random() < 0.3:
            file = seeded.randrange(NUM_FILES)
            versions[file] += 1
            replace(source / f"{file}", content(file, versions[file], FILE_BYTES))
        if len(readers) > 1 and seeded.random() < 0.3 and num_readers < 20:
            num_readers += 1
            victim = seeded.choice(readers)
            victim.kill()
            readers.append(spawn(READER, str(seeded.random())[2:], *arguments))
    return sum(output.count("\n") for output in outputs)


def test_killed_readers_leave_no_wrong_byte(
    spawn: Spawn, source: Path, tmp_path: Path, make_fs: MakeFs
) -> None:
    assert read_under_fire(spawn, source, tmp_path, 1, num_reads=300, num_readers=3) > 200
    fs = make_fs(capacity=None)
    for file in range(NUM_FILES):
        data = (source / f"{file}").read_bytes()
        assert fs.cat_file(str(source / f"{file}")) == data
    index = Index(tmp_path / "store" / "index.sqlite")
    used = index.rows("SELECT used FROM places")[0][0]
    assert used == index.rows("SELECT sum(room) FROM blocks")[0][0]
    assert used == disk_bytes(tmp_path / "store"), "everything is accounted for"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_reads_under_fire(
    spawn: Spawn, source: Path, tmp_path: Path, seed: int
) -> None:
    assert read_under_fire(spawn, source, tmp_path, seed, 2500, num_readers=4) > 1500


def test_processes_that_miss_at_once_ask_once(spawn: Spawn, source: Path) -> None:
    data = write(source / "a", 8 * BLOCK)
    children = [
        spawn("""
            fs = make(capacity="16MiB")
            fs.fs.delay_s = 0.02
            fs.store
            print("ready", flush=True)
            sys.stdin.readline()
            data = fs.cat_file(str(source / "a"))
            assert data == (source / "a").read_bytes()
            print(fs.fs.num_bytes, flush=True)
        """)
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    asked = 0
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        output, _ = child.communicate(timeout=60)
        asked += int(output)
    assert asked == len(data)


def test_a_leader_that_is_killed_is_followed(
    spawn: Spawn, source: Path, make_fs: MakeFs, origin: CountingFs
) -> None:
    data = write(source / "a", BLOCK)
    child = spawn("""
        fs = make(capacity="16MiB")
        def hang():
            print("asked", flush=True)
            time.sleep(60)
        fs.fs.before_cat = hang
        fs.origin.timeout_s = 60
        fs.cat_file(str(source / "a"))
    """)
    assert child.stdout is not None
    assert child.stdout.readline() == "asked\n"
    child.send_signal(signal.SIGKILL)
    assert make_fs().cat_file(str(source / "a")) == data
    assert origin.num_bytes == BLOCK


def test_forked_workers_read(make_fs: MakeFs, source: Path) -> None:
    """As a data loader's workers do, with a file that was opened before."""
    data = write(source / "a", 4 * BLOCK)
    fs = make_fs()
    file = fs.open(str(source / "a"))
    assert file.read(10) == data[:10]
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                file.seek(number * BLOCK)
                good = file.read(BLOCK) == data[number * BLOCK : (number + 1) * BLOCK]
                code = 0 if good and fs.cat_file(str(source / "a")) == data else 2
            finally:
                os._exit(code)
        children.append(pid)
    for pid in children:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert file.read() == data[10:]
    file.close()
