"""Ctrl-C ends an answer, not the program."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether Ctrl-C was pressed."""

    is_set = False


@contextmanager
def caught_interrupt() -> Iterator[Interrupt]:
    """While entered, the first Ctrl-C only sets the flag; the second acts as usual.

    An exception in the middle of an engine step would leave it half done, so the loop over the
    answer looks at the flag between steps instead.
    """
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.is_set:
            signal.default_int_handler(number, frame)
        interrupt.is_set = True

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, previous)
