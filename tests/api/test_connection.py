import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI

from artesian.api.connection import connection_class

REQUEST = b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serve(**limits: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(
        FastAPI(), http=connection_class(**limits), port=0, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


async def test_connections_that_send_nothing_or_half_a_header_are_closed() -> None:
    async with serve(max_connections=10, idle_check_s=0.2) as port:
        for sent in (b"", REQUEST[:10], REQUEST + REQUEST[:10]):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(), 5)
            assert answer.startswith(b"HTTP/1.1 200") == (len(sent) > len(REQUEST))
            writer.close()


async def test_a_connection_that_is_used_stays() -> None:
    async with serve(max_connections=10, idle_check_s=0.6) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(10):
            writer.write(REQUEST)
            assert (await reader.readuntil(b"</html>")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.15)
            while reader._buffer:  # type: ignore[attr-defined]
                await reader.read(100)
        writer.close()


async def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    async with serve(max_connections=2) as port:
        first = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        for _, each in first:
            each.close()
