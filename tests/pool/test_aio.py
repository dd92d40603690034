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
    assert {key async for key in store} == {b"k", b"l"}
    assert [key async for key in store.keys("l")] == [b"l"]
    assert await store.count() == 2
    assert await store.delete("k")
    assert await store.clear() == 1
    assert (await aio.stats()).namespaces[-1].name == "space"
    assert "space" in repr(store)


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
