"""Changes of several keys that happen together."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from artesian.pool.errors import ConflictError
from artesian.pool.native import Transaction as NativeTransaction

if TYPE_CHECKING:
    from artesian.pool.pool import Pool

R = TypeVar("R")

FIRST_PAUSE_S = 20e-6
MOST_PAUSE_S = 5e-3


class Transaction(NativeTransaction):
    """Reads and writes of keys of stores that happen together or not at all.

    Others see nothing of it before the commit. Transactions are serializable: what one has read
    still holds when it commits, or it raises `ConflictError` and nothing has happened. At most 64
    keys are written, with values of at most 16 KiB. Used with `with`, it commits at the end of the
    block, unless that raises. Made by `Pool.transaction`.

    Args:
        pool: the pool.
    """

    __slots__ = ()

    def __new__(cls, pool: Pool) -> Transaction:
        """Begins it."""
        return super().__new__(cls, pool.handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()
        elif not self.is_over:
            self.commit()


def transact(pool: Pool, body: Callable[[Transaction], R], attempts: int) -> R:
    """Runs `body` in a transaction and commits it; again when it conflicts."""
    pause_s = FIRST_PAUSE_S
    for attempt in range(attempts):
        try:
            with Transaction(pool) as transaction:
                result = body(transaction)
        except ConflictError:
            if attempt == attempts - 1:
                raise
            # Of two that meet again and again, one shall be earlier.
            time.sleep(random.uniform(0, pause_s))
            pause_s = min(pause_s * 2, MOST_PAUSE_S)
        else:
            return result
    raise ValueError(f"attempts is {attempts}, expected at least 1")
