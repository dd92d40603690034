"""The executor beside an engine: it attends for peers over the engine's arena."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artesian import _core
from artesian.engine.offload.base import ExecutorStats, OffloadError, RemoteName
from artesian.engine.offload.exchange import Exchange


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How an executor works.

    Attributes:
        num_slots: sequences at most.
        num_threads: that attend, one of them always there.
        share: of the time it may take while the engine works, above 0 and up to 1. What clients ask
            for beyond it waits, and their steps with it: admit no more than that.
        engine_nice: added to the nice values of the engine's threads with the first sequence. The
            executor has little to do at a time, and a whole batch of a peer waits for it: a thread
            that is less nice gets a shared processor when a message comes, not when another one
            has used its time up.
        slice_s: slices to ask of the system's scheduler, 0 for its own: a thread with short ones
            need not wait for the end of long ones of others.
    """

    num_slots: int = 256
    num_threads: int = 1
    share: float = 0.8
    engine_nice: int = 10
    slice_s: float = 100e-6


class OffloadExecutor:
    """Threads that attend for peers; the engine's thread calls all of this.

    Args:
        exchange: where clients find it.
        runtime: the engine's threads: while these compute it keeps to its share.
        arena: uint8 (num_blocks * block_bytes,) the engine's blocks.
        generation: another one than that of every earlier executor of the region, from 1.
        settings: see there.

    Raises:
        OffloadError: the mailboxes are too small for the model, or settings cannot be.
    """

    def __init__(
        self,
        exchange: Exchange,
        runtime: _core.Runtime,
        arena: npt.NDArray[np.uint8],
        generation: int,
        settings: ExecutorSettings | None = None,
    ) -> None:
        settings = settings or ExecutorSettings()
        try:
            self._native = _core.AttentionExecutor(
                exchange.native,
                runtime,
                exchange.program,
                arena,
                generation,
                settings.num_slots,
                num_threads=settings.num_threads,
                share=settings.share,
                slice_s=settings.slice_s,
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise OffloadError(f"no executor of attention can be started: {error}") from None
        self._runtime = runtime
        self._engine_nice = settings.engine_nice
        self._is_nice = False

    def admit(self, blocks: Sequence[int], num_tokens: int) -> RemoteName:
        """Takes a sequence of whose tokens the first `num_tokens` are in `blocks`.

        Behind these clients store tokens: the blocks that are not full must be its alone, and none
        may be used for anything else before `release`.

        Raises:
            OffloadError: all slots are taken, or the blocks cannot be.
        """
        if not self._is_nice:
            self._is_nice = self._runtime.add_nice(self._engine_nice)
        try:
            return RemoteName(*self._native.admit(list(blocks), num_tokens))
        except (RuntimeError, ValueError) as error:
            raise OffloadError(str(error)) from None

    def extend(self, name: RemoteName, blocks: Sequence[int]) -> None:
        """Gives a sequence more blocks. Raises `OffloadError` if it is not there."""
        try:
            self._native.extend(*name, list(blocks))
        except (RuntimeError, ValueError) as error:
            raise OffloadError(str(error)) from None

    def release(self, name: RemoteName) -> bool:
        """Lets a sequence go; whether it was there. Waits for the layer that is attended now: its
        blocks are neither read nor written behind that."""
        return self._native.release(*name)

    def num_tokens(self, name: RemoteName) -> int | None:
        """Tokens whose KV a sequence has; None if it is not there."""
        return self._native.num_tokens(*name)

    def set_share(self, share: float) -> None:
        """Changes the share of the time while the engine works."""
        self._native.set_share(share)

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._native.is_alive

    def stats(self) -> ExecutorStats:
        """What it has done so far."""
        return ExecutorStats(**self._native.stats())

    def close(self) -> None:
        """Ends it, within a layer's time; clients see that it is gone. The engine's threads are as
        nice as before if the system allows it."""
        self._native.close()
        if self._is_nice:
            self._runtime.add_nice(-self._engine_nice)
            self._is_nice = False
