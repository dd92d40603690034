"""Signals that ask a process to end, on its event loop."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ending_signals(on_signal: Callable[[], None]) -> Iterator[None]:
    """Calls `on_signal` on the running loop for each SIGTERM and SIGINT, inside of the block."""
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in ENDING:
            loop.remove_signal_handler(number)
