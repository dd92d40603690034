"""A tiny deterministic `Runner` whose tokens are wrong whenever a block table or a block's content
is.

The stored "KV" of a token depends on the token, its position and all KV before it, read through the
block table; so do its logits; and on how it attends and what sublayers its sequence leaves out. No
batch mate has any influence.
"""

import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artesian.attention import SparseReport
from artesian.config.engine import EngineConfig
from artesian.context import (
    ContextCache,
    DiskTier,
    HostTier,
    PreloadRule,
    Tier,
    WritePolicy,
)
from artesian.context.retention import Retention
from artesian.context.sessions import SessionKeeper, SessionRecords
from artesian.engine.approximation import SkipChoice
from artesian.engine.base import EngineInfo, Request, RequestOutput, SamplingParams
from artesian.engine.batch import Batch
from artesian.engine.engine import LLMEngine
from artesian.engine.peers import PeerMemory
from artesian.engine.speculation import Speculator
from artesian.kvcache import Arena, KvIdentity, PrefixCache
from artesian.skip import SkipSet

VOCAB_SIZE = 101
EOS = 100
NAN_TOKEN = 99  # a sequence that contains it has no finite logits
CRASH_TOKEN = 98  # a batch that contains it raises

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_POISON = np.uint64(1)  # the lowest bit of a stored word


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _mix_one(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


class ToyRunner:
    """Stores one 64-bit word per token in the arena."""

    def __init__(self, memory: npt.NDArray[np.uint8], block_size: int) -> None:
        self.words = memory.view(np.uint64).reshape(-1, block_size)
        self.block_size = block_size
        with np.errstate(over="ignore"):
            self.weights = _mix(np.arange(4096, dtype=np.uint64) + _PRIME)
        self.num_steps = 0
        self.num_rows = 0
        self.num_turned = 0
        self.max_sequences = 0

    def forward(self, batch: Batch) -> npt.NDArray[np.float32]:
        if CRASH_TOKEN in batch.tokens:
            raise RuntimeError("toy kernel refused")
        self.num_steps += 1
        self.num_rows += len(batch.tokens)
        self.max_sequences = max(self.max_sequences, len(batch.context_lens))
        states = np.zeros(len(batch.tokens), np.uint64)
        poisoned = np.zeros(len(batch.tokens), bool)
        changes = _changes(batch)
        batch.reports.extend(_report(batch, index) for index, _ in batch.sparse)
        missing, remotes = self._missing(batch), self._remotes(batch)
        with np.errstate(over="ignore"):
            for index, table in enumerate(batch.block_tables):
                start, end = batch.row_starts[index : index + 2]
                assert batch.positions[end - 1] + 1 == batch.context_lens[index]
                if index in missing:
                    poisoned[start:end] = True
                    continue
                if index in remotes:
                    states[start], poisoned[start] = self._run_remote(batch, index, remotes[index])
                    continue
                for row in range(start, end):
                    states[row], poisoned[row] = self._run_row(
                        int(batch.tokens[row]),
                        int(batch.positions[row]),
                        table,
                        self.words,
                        changes.get(index, 0),
                    )
            for index, writer in batch.pushes:
                start, end = batch.row_starts[index : index + 2]
                first = int(batch.positions[start]) // self.block_size
                last = int(batch.positions[end - 1]) // self.block_size
                blocks = batch.block_tables[index, first : last + 1]
                writer.push_blocks(blocks.tolist(), first)
            ids = np.arange(VOCAB_SIZE, dtype=np.uint64)
            logits = _mix(states[batch.logit_rows, None] ^ (ids * _PRIME))
        values = (logits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 21)
        values[:, [NAN_TOKEN, CRASH_TOKEN]] = -np.inf  # never by itself
        values[poisoned[batch.logit_rows]] = np.nan
        return values

    def _missing(self, batch: Batch) -> set[int]:
        """Waits for blocks that are on their way; the sequences of which they do not come."""
        until = time.monotonic() + batch.timeout_s
        block_bytes = 8 * self.block_size
        return {
            index
            for index, gate in batch.gates
            if not gate.wait(block_bytes, max(until - time.monotonic(), 0.0))
        }

    def _remotes(self, batch: Batch) -> dict[int, tuple[Any, npt.NDArray[np.uint32]]]:
        """Executor and row of the last sequences."""
        pairs = [(remote.peer.native, row) for remote in batch.remotes for row in remote.rows]
        return dict(enumerate(pairs, len(batch.context_lens) - len(pairs)))

    def _run_remote(
        self, batch: Batch, index: int, remote: tuple[Any, npt.NDArray[np.uint32]]
    ) -> tuple[np.uint64, bool]:
        executor, (slot, generation, position) = remote
        row = batch.row_starts[index]
        assert batch.positions[row] == position
        table = executor.table(int(slot), int(generation), int(position))
        if table is None:
            batch.failed.append(index)
            return np.uint64(0), True
        words = executor.arena.memory.view(np.uint64).reshape(-1, self.block_size)
        return self._run_row(int(batch.tokens[row]), int(position), np.array(table), words)

    def _run_row(
        self,
        token: int,
        position: int,
        table: npt.NDArray[np.int32],
        words: npt.NDArray[np.uint64],
        change: int = 0,
    ) -> tuple[np.uint64, bool]:
        blocks = table[: position // self.block_size + 1]
        before = words[blocks].reshape(-1)[:position]
        prefix = int(np.dot(before, self.weights[:position]))
        poisoned = token == NAN_TOKEN or bool((before & _POISON).any())
        seed = (prefix + position * 1000003 + token + change) * int(_PRIME) % 2**64
        state = np.uint64(_mix_one(seed) & ~1 | poisoned)
        words[table[position // self.block_size], position % self.block_size] = state
        return state, poisoned

    def turn(self, from_blocks: Sequence[int], to_blocks: Sequence[int], delta: int) -> None:
        """What a word is at another position depends on how far away that is."""
        words = self.words[list(from_blocks)]
        with np.errstate(over="ignore"):
            moved = _mix(words + np.uint64(delta % 2**64) * _PRIME)
        self.words[list(to_blocks)] = (moved & ~_POISON) | (words & _POISON)
        self.num_turned += len(to_blocks)


def _changes(batch: Batch) -> dict[int, int]:
    """What is added to the rows of sequences that leave something out. The batch's order is
    checked: those that skip more stand further behind."""
    changes: dict[int, int] = {}
    for index, attention in batch.sparse:
        assert batch.row_starts[index + 1] - batch.row_starts[index] == 1
        assert batch.positions[batch.row_starts[index]] >= attention.min_context_tokens
        changes[index] = zlib.crc32(attention.identity.encode()) << 8
    if batch.skips:
        first = batch.skips[0][0]
        end = len(batch.context_lens) - sum(len(remote.rows) for remote in batch.remotes)
        assert [index for index, _ in batch.skips] == list(range(first, end))
        sizes = [len(skip.sublayers) for _, skip in batch.skips]
        assert sizes == sorted(sizes)
    for index, skip in batch.skips:
        changes[index] = changes.get(index, 0) + (zlib.crc32(skip.identity.encode()) << 16)
    return changes


def _report(batch: Batch, index: int) -> SparseReport:
    """As if two layers of one head had read the half of what there is; but the first one all."""
    num_groups = -(-batch.context_lens[index] // 32)
    kept = 0.9 if batch.audit else np.nan
    rows = [[num_groups, num_groups, 1, 1], [num_groups / 2, num_groups, 0.95, kept]]
    return SparseReport(index, np.array(rows, np.float32)[:, None])


def toy_skips(most: int = 8) -> SkipChoice:
    """Sublayers 0, 1, ... of a model that has none."""
    return SkipChoice(most, 0, lambda num: SkipSet(tuple(range(num)), (0.5,) * num))


class ToyTokenizer:
    """Token i is the letter i, or one of a few awkward pieces."""

    vocab_size = VOCAB_SIZE
    bos_token_id: int | None = None
    eos_token_ids = frozenset({EOS})

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) % 95 for letter in text]

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(
            "" if token_id == EOS and skip_special_tokens else chr(32 + token_id)
            for token_id in token_ids
        )

    def token_bytes(self, token_id: int) -> bytes:
        return chr(32 + token_id).encode()

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, object]],
        add_generation_prompt: bool = True,
        **template_kwargs: object,
    ) -> str:
        return "".join(f"<{message['role']}>{message['content']}" for message in messages)


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_engine(
    num_blocks: int = 64,
    block_size: int = 4,
    max_model_len: int = 128,
    clock: Clock | None = None,
    context_dir: Path | None = None,
    context_bytes: int = 1 << 30,
    context_bytes_per_s: float | None = None,
    context_pool: str | None = None,
    context_pool_bytes: int = 64 << 20,
    context_remote_pool: str | None = None,
    context_write: WritePolicy = "through",
    context_clock: Callable[[], float] = time.monotonic,
    retention: Retention | None = None,
    sessions_clock: Callable[[], float] = time.time,
    peers: Callable[[Arena], PeerMemory] | None = None,
    speculator: Speculator | None = None,
    **config: object,
) -> LLMEngine:
    """An engine over a `ToyRunner`, with a context cache in `context_pool` and `context_dir`, and
    records of sessions in the latter."""
    arena = Arena(num_blocks, block_size * 8)
    arena.memory[:] = 255  # what nobody stored must not look like content
    runner = ToyRunner(arena.memory, block_size)
    settings = {"max_num_seqs": 16, "max_num_batched_tokens": 64, "seed": 0} | config
    cache = PrefixCache(arena)
    tiers: list[Tier] = []
    most_saving_bytes = num_blocks * arena.block_bytes // 2
    if context_pool is not None:
        tiers.append(HostTier(context_pool, context_pool_bytes, arena, most_saving_bytes))
    if context_remote_pool is not None:
        tiers.append(HostTier(context_remote_pool, 64 << 20, arena, most_saving_bytes, "remote"))
    records = None
    if context_dir is not None:
        tiers.append(
            DiskTier(context_dir, context_bytes, arena, most_saving_bytes, context_bytes_per_s)
        )
        records = SessionRecords(context_dir)
    context = None
    if tiers:
        context = ContextCache(
            cache, tiers, block_size, context_clock, context_write, retention, PreloadRule()
        )
    engine_config = EngineConfig(model="toy", block_size=block_size, **settings)
    ttl_s = engine_config.session_ttl_s
    return LLMEngine(
        runner,
        ToyTokenizer(),
        cache,
        KvIdentity("toy", "f32", block_size),
        engine_config,
        EngineInfo(model_name="toy", max_model_len=max_model_len, vocab_size=VOCAB_SIZE),
        clock or Clock(),
        context,
        SessionKeeper(cache, context, records, ttl_s, sessions_clock),
        None if peers is None else peers(arena),
        toy_skips(),
        speculator,
    )


def toy_runner(engine: LLMEngine) -> ToyRunner:
    runner = engine._runner
    assert isinstance(runner, ToyRunner)
    return runner


def greedy(max_tokens: int | None = 16, **params: object) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=max_tokens, **params)  # type: ignore[arg-type]


class Collected:
    """All outputs of one completion put together, with the protocol checked on the way."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.text = ""
        self.last: RequestOutput | None = None

    def take(self, output: RequestOutput) -> None:
        assert self.last is None or self.last.finish_reason is None, "output after the end"
        self.tokens += output.token_ids
        self.text += output.text
        self.last = output

    @property
    def finish_reason(self) -> str | None:
        return self.last.finish_reason if self.last else None


def collect(outputs: Sequence[RequestOutput], into: dict[tuple[str, int], Collected]) -> None:
    for output in outputs:
        into.setdefault((output.request_id, output.index), Collected()).take(output)


def run(engine: LLMEngine, *requests: Request, max_steps: int = 10_000) -> dict[str, Collected]:
    """Runs requests (n = 1) to their ends."""
    collected: dict[tuple[str, int], Collected] = {}
    for request in requests:
        engine.add_request(request)
    for _ in range(max_steps):
        if not engine.has_work():
            break
        collect(engine.step(), collected)
    assert not engine.has_work(), "the engine did not come to an end"
    return {request_id: value for (request_id, _), value in collected.items()}


def generate(engine: LLMEngine, prompt: Sequence[int], params: SamplingParams) -> Collected:
    """Runs one request."""
    request = Request(request_id="only", prompt_token_ids=list(prompt), sampling=params)
    return run(engine, request)["only"]


def assert_no_leak(engine: LLMEngine) -> None:
    """An idle engine holds no block, and every cached block's parent is cached."""
    cache = engine.cache
    assert cache.num_used_blocks == 0
    assert cache.num_available_blocks == cache.num_blocks
    assert set(cache._num_refs) == {0}
    scheduler = engine._scheduler
    assert not scheduler.running
    assert not scheduler.waiting
    assert not scheduler._being_computed
    assert len(set(scheduler._free_slots)) == len(scheduler.block_tables)
