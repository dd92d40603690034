"""Several processes, some of which are killed or stopped."""

import os
import signal
import time

from artesian.pool import HashStore, Pool
from tests.pool.conftest import Spawn, line

WRITER = """
store = Pool(name).store()
mine = sys.argv[2]
print("ready", flush=True)
step = 0
while True:
    key = f"{mine}.{step % 100}"
    store.put(key, f"{key}:{step}:".encode() * 20)
    value = store.get(key)
    assert value == f"{key}:{step}:".encode() * 20, value
    store.put("shared", mine.encode() * 100)
    assert len(set(store.get("shared"))) == 1
    if step % 7 == 0:
        assert store.delete(f"{mine}.{(step - 50) % 100}") or step < 50
        store.put(f"{mine}.{(step - 50) % 100}", b"again")
    step += 1
"""


def wait_until(name: str, pids: set[int], seconds: float = 20) -> None:
    """Waits until exactly the clients of these processes are in the pool."""
    until = time.monotonic() + seconds
    while (found := {client.pid for client in Pool(name).stats().clients} - {os.getpid()}) != pids:
        assert time.monotonic() < until, f"{found} instead of {pids}"
        time.sleep(0.02)


def check_values(store: HashStore, writers: str) -> None:
    """Every value is whole and belongs to its key."""
    for writer in writers:
        for number in range(100):
            key = f"{writer}.{number}"
            value = store.get(key)
            if value is not None and value != b"again":
                assert value == value[: len(value) // 20] * 20
                assert value.startswith(f"{key}:".encode())
    shared = store.get("shared")
    assert shared is not None
    assert len(shared) == 100
    assert len(set(shared)) == 1


def test_killed_processes_harm_nothing(name: str, spawn: Spawn) -> None:
    """Writers die in the middle of whatever they do; the others go on."""
    with Pool(name, size="64MiB", nodes=2, replicas=2, lease_ms=800) as pool:
        store = pool.store()
        writers = {letter: spawn(WRITER, letter) for letter in "abc"}
        for writer in writers.values():
            line(writer)
        for victim in "abab":
            time.sleep(0.15)
            writers[victim].kill()
            store.put("mine", b"1")
            assert store.get("mine") == b"1"
            writers[victim] = spawn(WRITER, victim)
            line(writers[victim])
        time.sleep(0.2)
        for writer in writers.values():
            assert writer.poll() is None, writer.communicate()[1]
        pids = {writer.pid for writer in writers.values()}
        wait_until(name, pids)
        for writer in writers.values():
            writer.kill()
        wait_until(name, set())
        check_values(store, "abc")


def test_a_stopped_process_is_ended_by_the_others(name: str, spawn: Spawn) -> None:
    """It gave no sign of life for longer than its lease: nothing of it may take effect later."""
    with Pool(name, size="32MiB", lease_ms=300) as pool:
        store = pool.store()
        child = spawn(WRITER, "a")
        line(child)
        time.sleep(0.1)
        os.kill(child.pid, signal.SIGSTOP)
        wait_until(name, set())
        os.kill(child.pid, signal.SIGCONT)
        assert child.wait(10) == -signal.SIGKILL
        check_values(store, "a")
        store.put("a.1", b"again")
        assert store.get("a.1") == b"again"


def test_a_process_stopped_shortly_goes_on(name: str, spawn: Spawn) -> None:
    with Pool(name, size="32MiB", lease_ms=10_000):
        child = spawn(WRITER, "a")
        line(child)
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGCONT)
        time.sleep(0.1)
        assert child.poll() is None
        wait_until(name, {child.pid})


def test_the_last_process_is_killed(name: str, spawn: Spawn) -> None:
    """Whoever comes next recovers it."""
    Pool(name, size="32MiB", lease_ms=500).close()
    child = spawn(WRITER, "a")
    line(child)
    time.sleep(0.2)
    child.kill()
    child.wait()
    with Pool(name) as pool:
        wait_until(name, set())
        check_values(pool.store(), "a")
