"""The asyncio face: the same operations, and an event loop that goes on."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from artesian.pool import AsyncPool, AsyncStore, Pool, PoolNotFoundError


@pytest_asyncio.fixture
async def aio(name: str) -> AsyncIterator[AsyncPool]:
    async with await AsyncPool.open(f"shm://{name}", size="64MiB") as pool:
        yield pool


async def test_operations(aio: AsyncPool) -> None:
    store = await aio.store("space", ttl=60)
    assert await store.get("k") is None
    assert await store.get("k", 5) == 5
    assert await store.insert("k", b"1")
    assert await store.update("k", np.arange(3))
    found = np.empty(3, np.int64)
    assert await store.get_into("k", found) == 24
    assert found.tolist() == [0, 1, 2]
    await store.put("l", bytearray(b"2"))
    assert await store.contains("l")
    assert await store.ttl("l") is not None
    assert await store.persist("l")
    assert await store.ttl("l") is None
    assert await store.expire("l", 60)
    assert await store.ttl("l") is not None
    assert {key async for key in store} == {b"k", b"l"}
    assert [key async for key in store.keys("l")] == [b"l"]
    assert await store.count() == 2
    assert await store.delete("k")
    assert await store.clear() == 1
    assert (await aio.stats()).namespaces[-1].name == "space"
    assert "space" in repr(store)


async def test_many_at_once(aio: AsyncPool) -> None:
    store = await aio.store()
    await store.put_many({"a": b"1", "b": b"2"}, ttl=60)
    assert await store.ttl("a") is not None
    assert await store.get_many(["b", "c", "a"]) == [b"2", None, b"1"]
    assert await store.delete_many(["c", "a"]) == [False, True]
    assert not await store.contains("a")


async def test_conditions_and_numbers(aio: AsyncPool) -> None:
    store = await aio.store()
    state = await store.compare_and_set("k", None, b"1")
    assert state is not None
    assert await store.compare_and_set("k", None, b"2") is None
    assert await store.get_versioned("k") == (b"1", state)
    assert not await store.compare_and_delete("k", state + 1)
    assert await store.compare_and_delete("k", state)
    assert await store.get_versioned("k") is None
    assert [await store.increment("n"), await store.increment("n", -5)] == [1, -4]
    assert await store.append("l", b"ab") == 2
    assert await store.append("l", b"cd") == 4
    assert await store.get_range("l", 1, 2) == b"bc"
    assert await store.size("l") == 4


async def test_large_values_go_through_threads(aio: AsyncPool) -> None:
    store = await aio.store()
    value = np.random.default_rng(1).bytes(3_000_000)
    await store.put("large", value)
    assert store.store.get_now("large") is NotImplemented
    assert await store.get("large") == value
    assert await store.get("large", None) == value
    versioned = await store.get_versioned("large")
    assert versioned is not None
    assert versioned[0] == value


async def test_errors_are_the_same(aio: AsyncPool, name: str) -> None:
    store = await aio.store()
    with pytest.raises(TypeError, match="not int"):
        await store.put("k", 5)  # type: ignore[arg-type]
    with pytest.raises(PoolNotFoundError):
        await AsyncPool.open(f"{name}-other", create=False)


async def test_it_is_the_same_pool(pool: Pool) -> None:
    store = await pool.aio.store()
    await store.put("k", b"v")
    assert pool.store().get("k") == b"v"
    assert repr(pool.aio) == f"AsyncPool({pool!r})"


async def test_many_tasks(aio: AsyncPool) -> None:
    store = await aio.store()

    async def work(number: int) -> None:
        for step in range(50):
            await store.put(f"{number}.{step}", b"%d" % step)
            await asyncio.sleep(0)
            assert await store.get(f"{number}.{step}") == b"%d" % step

    await asyncio.gather(*(work(number) for number in range(20)))
    assert await store.count() == 1000


async def test_the_loop_goes_on_while_another_thread_works(aio: AsyncPool) -> None:
    """Awaited operations wait for a thread's in a thread, not in the loop."""
    store = await aio.store()
    await store.put("k", b"v")
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            aio.pool.store(str(time.monotonic_ns() % 3)).count()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert await busy_get(store) == b"v"
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)


async def busy_get(store: AsyncStore) -> bytes | None:
    """Gets the key many times at once."""
    values = await asyncio.gather(*(store.get("k") for _ in range(200)))
    assert set(values) == {b"v"}
    return values[0]
