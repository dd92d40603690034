"""A simulated worker: continuous batching, chunks of prompts, and an executor beside them."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from artesian.cluster.policies import DecodeBatch, OffloadedSequence, Role, WorkerLoad
from artesian.profile.costs import num_pairs
from artesian.sim.cluster.batch import RunningBatch
from artesian.sim.cluster.calls import Job
from artesian.sim.cluster.machine import Machine
from artesian.sim.events import EventLoop, Link

BLOCK_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals(DecodeBatch):
    """A batch whose offloaded sequences are counted, and not listed."""

    num_seqs: int
    num_tokens: int
    num_reserved: int

    @property
    def offloaded_seqs(self) -> int:
        """See `DecodeBatch`."""
        return self.num_seqs

    @property
    def offloaded_tokens(self) -> int:
        """See `DecodeBatch`."""
        return self.num_tokens

    @property
    def reserved_tokens(self) -> int:
        """See `DecodeBatch`."""
        return self.num_reserved


@dataclass(slots=True, eq=False)
class _Prompt:
    """A prompt that is computed here: tokens from `first` on are still to do."""

    job: Job
    first: int
    end: int
    then: Callable[[], None]


class Instance:
    """One worker. It can do everything; its role says what it is sent.

    Attributes:
        waiting: jobs that it should decode and has no room for yet.
        reserved: tokens of its KV that prompts on their way will fill; num_coming: these prompts.
        busy_s: of its steps; num_tokens: that it has decoded.
        gaps: times between tokens: when the later one came, after how long, of how many sequences.
        offloaded_s, local_s: sequences of each kind, times seconds.
    """

    def __init__(
        self,
        loop: EventLoop,
        worker_id: str,
        role: Role,
        machine: Machine,
        share: float,
        on_end: Callable[["Instance", list[Job]], None],
    ) -> None:
        """
        Args:
            share: of the machine, for an executor while it has something to do.
            on_end: jobs that have ended; called behind every step that gives tokens.
        """
        self.worker_id = worker_id
        self.role = role
        self.machine = machine
        self.waiting: deque[Job] = deque()
        self.batch = RunningBatch()
        self.reserved = 0
        self.num_coming = 0
        self.coming: dict[Job, None] = {}
        self.peers: dict[str, Instance] = {}
        self.link = Link(loop, machine.link_bytes_per_s)
        self.busy_s = 0.0
        self.num_tokens = 0
        self.num_steps = 0
        self.offloaded_s = self.local_s = 0.0
        self.gaps: list[tuple[float, float, int]] = []
        self._last_s = 0.0
        self._loop = loop
        self._share = share
        self._on_end = on_end
        self._prompts: deque[_Prompt] = deque()
        self._users: Counter[Instance] = Counter()
        self._num_lent = self._lent_coming = 0
        self._num_away = self._coming_away = self._prompts_away = 0
        self._fresh: list[Job] = []
        self._ready: list[Job] = []
        self._ended: list[Job] = []
        self._is_running = False
        self._queued_tokens = 0

    @property
    def local_tokens(self) -> int:
        """Of KV here that is in use or promised, without what is lent."""
        return self.batch.local.tokens + self.reserved

    @property
    def lent_tokens(self) -> int:
        """Of KV that the executor holds."""
        running = sum(
            group.tokens
            for user in self._users
            if (group := user.batch.groups.get(self.worker_id)) is not None
        )
        return running + self._lent_coming

    @property
    def is_lending(self) -> bool:
        """Whether the executor has anything to do."""
        return bool(self._users)

    def lend(self, job: Job, user: "Instance") -> None:
        """The executor will attend for `job`, which `user` decodes."""
        self._users[user] += 1
        self._num_lent += 1
        self._lent_coming += job.num_tokens

    def arrived(self, job: Job) -> None:
        """A sequence that the executor attends for decodes now."""
        self._lent_coming -= job.num_tokens

    def take_back(self, user: "Instance") -> None:
        """One of `user`'s sequences has ended, or is elsewhere."""
        self._num_lent -= 1
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]

    def has_room(self, job: Job) -> bool:
        """Whether it could decode one more, and all could still grow by a block."""
        num = self.batch.local.num + self.num_coming + 1
        if len(self.batch) + len(self.coming) >= self.machine.max_seqs:
            return False
        needed = self.local_tokens + self.lent_tokens + job.num_tokens + num * BLOCK_TOKENS
        return needed <= self.machine.capacity_tokens

    def can_lend(self, job: Job) -> bool:
        """Whether the executor has room for one more."""
        num_tokens = self.lent_tokens + job.num_tokens + (self._num_lent + 1) * BLOCK_TOKENS
        own = self.machine.prompt_tokens + self._queued_tokens
        return num_tokens + own + self.local_tokens <= self.machine.capacity_tokens

    def executor_rate(self) -> float:
        """Bytes in a second that each of those gets that attend here."""
        return self.machine.executor_bytes_per_s(self._share) / max(1, len(self._users))

    def load(self) -> WorkerLoad:
        """What policies see."""
        costs, batch = self.machine.costs, self.batch
        used = self.local_tokens + self.lent_tokens
        return WorkerLoad(
            worker_id=self.worker_id,
            role=self.role,
            num_running=len(batch),
            num_waiting=len(self.waiting) + len(self.coming) + len(self._prompts),
            num_free_slots=self.machine.max_seqs - len(batch),
            queued_tokens=self._queued_tokens,
            used_blocks=used // BLOCK_TOKENS,
            free_blocks=max(0, self.machine.capacity_tokens - used) // BLOCK_TOKENS,
            block_size_tokens=BLOCK_TOKENS,
            step_s=costs.decode_s(len(batch), batch.local.tokens),
            token_s=costs.prefill_s(self.machine.prompt_tokens) / self.machine.prompt_tokens,
        )

    def totals(self, max_output_tokens: int) -> Totals:
        """What admission sees: sequences on their way count, none is listed."""
        groups = self.batch.groups.values()
        local = self.batch.local
        tokens = sum(group.tokens for group in groups) - local.tokens
        return Totals(
            local_seqs=local.num + self.num_coming,
            local_tokens=local.tokens + self.reserved,
            num_seqs=len(self.batch) - local.num + len(self.coming) - self.num_coming,
            num_tokens=tokens + self._coming_away,
            num_reserved=self._prompts_away + self._num_away * max_output_tokens,
        )

    def decode_batch(self, max_output_tokens: int) -> DecodeBatch:
        """The same with its sequences, those on their way left out: nobody can call them back."""
        local = self.batch.local
        return DecodeBatch(
            local_seqs=local.num + self.num_coming,
            local_tokens=local.tokens + self.reserved,
            offloaded=[
                OffloadedSequence(
                    request_id=name,
                    num_tokens=self.batch.tokens_of(job),
                    max_tokens=job.call.num_prompt_tokens + max_output_tokens,
                )
                for name, job in self.offloaded_jobs().items()
            ],
        )

    def offloaded_jobs(self) -> dict[str, Job]:
        """Running jobs with KV elsewhere, by the ids of `decode_batch`."""
        return {str(job.number): job for job in self.batch if job.peer}

    def expect(self, job: Job) -> None:
        """Its prompt is computed somewhere, and then it will decode here."""
        self.coming[job] = None
        if job.peer:
            self._coming_away += job.num_tokens
            self._prompts_away += job.call.num_prompt_tokens
            self._num_away += 1
        else:
            self.reserved += job.num_tokens
            self.num_coming += 1

    def comes_home(self, job: Job) -> None:
        """Its attention is no longer at a peer: it has ended, was preempted, or is here now."""
        self._prompts_away -= job.call.num_prompt_tokens
        self._num_away -= 1
        self.peers[job.peer].take_back(self)

    def begin(self, job: Job) -> None:
        """Its prompt was computed here, whose last row gave a token: it decodes, or has ended."""
        if job.first_s < 0:
            job.first_s = self._loop.now
        self.num_tokens += 1
        job.num_left -= 1
        if job.num_left == 0:
            del self.coming[job]
            self.reserved -= job.num_tokens
            self.num_coming -= 1
            job.last_s = self._loop.now
            self._ended.append(job)
            return
        job.num_tokens += 1
        self.reserved += 1
        self.join(job)

    def join(self, job: Job) -> None:
        """Its prompt was computed elsewhere, all but the last token: it decodes."""
        self._ready.append(job)
        if not self._is_running:
            self._take_ready()
            self._go_on()

    def _take_ready(self) -> None:
        for job in self._ready:
            del self.coming[job]
            if job.peer:
                self._coming_away -= job.num_tokens
                self.peers[job.peer].arrived(job)
            else:
                self.reserved -= job.num_tokens
                self.num_coming -= 1
            self.batch.join(job)
            if job.first_s < 0:
                self._fresh.append(job)
        self._ready.clear()

    def prefill(self, job: Job, then: Callable[[], None]) -> None:
        """Queues its prompt, all but what is cached."""
        self._prompts.append(_Prompt(job, job.num_cached, job.num_tokens, then))
        self._queued_tokens += job.num_tokens - job.num_cached
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_running and (self._prompts or len(self.batch)):
            self._is_running = True
            self._step()

    def _step(self) -> None:
        rows = len(self.batch)
        parts = self._chunks(rows)
        seconds = self._seconds(rows, parts)
        self.busy_s += seconds
        self.num_steps += 1
        self.local_s += self.batch.local.num * seconds
        self.offloaded_s += (rows - self.batch.local.num) * seconds
        fresh, self._fresh = self._fresh, []
        num_later = rows - len(fresh)

        def end() -> None:
            for job in fresh:
                job.first_s = self._loop.now
            ended = self.batch.advance() if rows else []
            self.num_tokens += rows
            if num_later:
                self.gaps.append((self._loop.now, self._loop.now - self._last_s, num_later))
            self._last_s = self._loop.now
            for job in ended:
                job.last_s = self._loop.now
            for prompt, num in parts:
                self._advance(prompt, num)
            ended += self._ended
            self._ended.clear()
            self._take_ready()
            if rows or ended:
                self._on_end(self, ended)
            self._is_running = False
            self._go_on()

        self._loop.after(seconds, end)

    def _chunks(self, rows: int) -> list[tuple[_Prompt, int]]:
        budget = self.machine.mixed_tokens if rows else self.machine.prompt_tokens
        parts = []
        for prompt in self._prompts:
            if budget <= 0:
                break
            num = min(prompt.end - prompt.first, budget)
            parts.append((prompt, num))
            budget -= num
        return parts

    def _advance(self, prompt: _Prompt, num: int) -> None:
        prompt.first += num
        self._queued_tokens -= num
        if prompt.first == prompt.end:
            self._prompts.remove(prompt)
            prompt.then()

    def _seconds(self, rows: int, parts: list[tuple[_Prompt, int]]) -> float:
        costs = self.machine.costs
        prompt_rows = sum(num for _, num in parts)
        pairs = sum(num_pairs(num, prompt.first) for prompt, num in parts)
        attention_s = costs.attention_s(self.batch.local.tokens, pairs)
        seconds = costs.rest_s(rows, prompt_rows)
        if rows > self.batch.local.num:
            seconds += self.machine.offload_s
            attention_s = max(attention_s, self._remote_s())
        seconds += attention_s
        return seconds * self.machine.slowdown(self._share) if self._users and parts else seconds

    def _remote_s(self) -> float:
        """Attention of the slowest peer, there and back."""
        return max(
            self.machine.sync_s + group.tokens * self.machine.kv_bytes / peer.executor_rate()
            for name, group in self.batch.groups.items()
            if group.num and (peer := self.peers.get(name)) is not None
        )
