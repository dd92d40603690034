"""The sequences that an instance decodes, by where their attention is."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from artesian.sim.cluster.calls import Job

LOCAL = ""


@dataclass(slots=True)
class Group:
    """Sequences whose KV is in one place."""

    num: int = 0
    tokens: int = 0


@dataclass(slots=True)
class _Member:
    step: int
    tokens: int
    number: int


class RunningBatch:
    """Every sequence grows by a token in each step; a step costs no more for more of them.

    Attributes:
        groups: by the id of the peer that has the KV; `LOCAL`: here.
    """

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {LOCAL: Group()}
        self._step = 0
        self._members: dict[Job, _Member] = {}
        self._ends: list[tuple[int, int, Job]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Job]:
        """In order of joining."""
        return iter(self._members)

    @property
    def local(self) -> Group:
        """Those whose KV is here."""
        return self.groups[LOCAL]

    def tokens_of(self, job: Job) -> int:
        """Of its KV now."""
        member = self._members[job]
        return member.tokens + self._step - member.step

    def join(self, job: Job) -> None:
        """It decodes from the next step on."""
        member = _Member(self._step, job.num_tokens, next(self._numbers))
        self._members[job] = member
        heapq.heappush(self._ends, (self._step + job.num_left, member.number, job))
        group = self.groups.setdefault(job.peer, Group())
        group.num += 1
        group.tokens += job.num_tokens

    def leave(self, job: Job) -> None:
        """It decodes no longer; its numbers of tokens are brought up to date."""
        tokens = self.tokens_of(job)
        member = self._members.pop(job)
        group = self.groups[job.peer]
        group.num -= 1
        group.tokens -= tokens
        job.num_left -= self._step - member.step
        job.num_tokens = tokens

    def move(self, job: Job, peer: str) -> None:
        """Its KV is elsewhere from now on."""
        tokens = self.tokens_of(job)
        for name, sign in ((job.peer, -1), (peer, 1)):
            group = self.groups.setdefault(name, Group())
            group.num += sign
            group.tokens += sign * tokens
        job.peer = peer

    def advance(self) -> list[Job]:
        """A step is over: those that have ended with it, and left."""
        self._step += 1
        for group in self.groups.values():
            group.tokens += group.num
        ended = []
        while self._ends and self._ends[0][0] <= self._step:
            _, number, job = heapq.heappop(self._ends)
            member = self._members.get(job)
            if member is not None and member.number == number:
                self.leave(job)
                ended.append(job)
        return ended
