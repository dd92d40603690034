"""What both sides of attention by peers say, and the interface of a peer."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

U32 = npt.NDArray[np.uint32]


class OffloadError(RuntimeError):
    """The executor is gone, full, another one, or does not answer; the message says which."""


class RemoteName(NamedTuple):
    """How an executor's clients name a sequence that lies with it.

    Attributes:
        slot: its number there.
        generation: of the slot; a sequence that was released is refused under it.
    """

    slot: int
    generation: int


class RemoteStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection to an executor has done; all numbers only grow.

    Attributes:
        num_messages: to the executor: one for each step, and one for each of its layers.
        num_rows: rows of queries, keys and values that were answered.
        num_bytes: of messages, both ways.
        round_trip_ns: from the sending of rows to their answer, over all layers.
        wait_ns: of that, while nothing else was to do.
        num_failures: steps that were broken off.
    """

    num_steps: int
    num_messages: int
    num_rows: int
    num_bytes: int
    round_trip_ns: int
    wait_ns: int
    num_failures: int


class ExecutorStats(msgspec.Struct, frozen=True, kw_only=True):
    """What an executor has done; all but num_clients and num_residents only grow.

    Attributes:
        num_answers: layers of steps; num_rows: rows of these.
        num_refused: rows of sequences that are not there, or whose token cannot come next.
        num_late: steps that a client had given up.
        num_dead: clients that died.
        num_turned_away: connections that could not be.
        cpu_ns: processor time of attending, of the first thread; busy_ns: time that went by.
        paused_ns: time that the share of the engine's time made it pause.
        kv_bytes: keys and values that were read.
        plan_hits, plan_misses: steps for which all memory was there, or was made.
        padding_rows: rows that steps had memory for and did not use.
    """

    num_clients: int
    num_residents: int
    num_steps: int
    num_answers: int
    num_rows: int
    num_refused: int
    num_late: int
    num_dead: int
    num_turned_away: int
    cpu_ns: int
    busy_ns: int
    paused_ns: int
    kv_bytes: int
    plan_hits: int
    plan_misses: int
    padding_rows: int


class RemotePeer(Protocol):
    """A connection to a peer's executor, for one engine's thread.

    A step that fails breaks it: its rows in this and all later steps fail at once, until
    `reconnect` has worked.
    """

    @property
    def native(self) -> Any:
        """What the kernels know it by."""

    @property
    def is_broken(self) -> bool:
        """Whether a step failed since it was connected."""

    @property
    def is_alive(self) -> bool:
        """Whether the executor, as far as can be seen, still serves."""

    @property
    def max_rows(self) -> int:
        """Sequences of a step at most."""

    def reconnect(self, timeout_s: float) -> None:
        """Connects again, to the same executor. Raises `OffloadError`."""

    def stats(self) -> RemoteStats:
        """What it has done so far."""


@dataclass(frozen=True, slots=True)
class RemoteRows:
    """The sequences of a batch that one peer attends for, one row each.

    Attributes:
        peer: the connection.
        rows: uint32 (num_sequences, 3) slot, generation, and position of each row, in the order of
            the batch.
        timeout_s: how long all layers of the step together wait for the peer.
    """

    peer: RemotePeer
    rows: U32
    timeout_s: float = field(default=1.0)
