"""A context cache under everything that can go wrong: never a wrong token, never a hang.

    make soak-context     ARGS='--turns 100' shortens it

Two engines share a memory pool and a directory that are much too small for the conversations that
they serve, so each takes away what the other one needs. Between turns bits are flipped in both,
files are cut, filled with garbage and deleted; in mid-turn one of the engines is killed by SIGKILL,
most often while it saves. Every answer, greedy, is compared with one computed from nothing.
"""

import argparse
import json
import mmap
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import report
from artesian import LLM, SamplingParams
from artesian.pool import Pool
from machine import describe
from report import Row

NUM_SESSIONS = 12
MOST_TOKENS = 900
FIRST_ID, LAST_ID = 1_000, 40_000
NUM_OUTPUT = 8
GREEDY = SamplingParams(temperature=0, max_tokens=NUM_OUTPUT, ignore_eos=True)
TURN_S = 60.0
"""A turn that takes longer counts as a hang."""
KILL_SHARE, DAMAGE_SHARE = 0.1, 0.4
MEMORY = "96MiB"
SHARED_MEMORY = Path("/dev/shm")
POOL_TABLES = 12 << 20
"""Bytes at the start of a pool's memory that hold no blocks."""
POOL_FLIPS = 8
COUNTS = ("loaded", "failed_loads", "evicted", "saved", "unsaved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=1_000)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--capacity", default="160MiB", help="of the directory")
    parser.add_argument("--pool-capacity", default="64MiB", help="of the pool; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        settings: dict[str, object] = {
            "context_cache_dir": Path(options.worker),
            "context_cache_bytes": options.capacity,
        }
        if options.pool:
            settings["context_pool"] = options.pool
            settings["context_pool_bytes"] = options.pool_capacity
        work(options.model, settings)
        return
    console = report.make_console()
    with TemporaryDirectory(prefix="artesian-soak-") as directory:
        soak = Soak(options, Path(directory))
        try:
            rows = soak.run(options.turns, console.print)
        finally:
            soak.close()
    report.print_table(f"{options.turns} turns under faults", rows, ["Artesian"], console)
    extra: dict[str, object] = {"model": options.model, "turns": options.turns}
    console.print(f"written to {report.write('context-soak', rows, describe(), extra)}")
    if not all(row.met in (None, True) for row in rows):
        sys.exit(1)


def work(model: str, settings: dict[str, object]) -> None:
    """Answers prompts, one JSON a line, with tokens and counters."""
    with LLM(model, kv_cache_memory_bytes=MEMORY, max_model_len=1024, **settings) as llm:
        print("ready", flush=True)
        for line in sys.stdin:
            [result] = llm.generate([json.loads(line)], GREEDY)
            tiers = llm.engine.stats().context_tiers
            counts = {
                "loaded": sum(tier.loaded_blocks for tier in tiers),
                "failed_loads": sum(tier.failed_loads for tier in tiers),
                "evicted": sum(sum(tier.evicted_blocks.values()) for tier in tiers),
                "saved": sum(tier.saved_blocks for tier in tiers),
                "unsaved": sum(tier.unsaved_blocks for tier in tiers),
            }
            reply = {
                "tokens": result.outputs[0].token_ids,
                "cached": result.num_cached_tokens,
                "counts": counts,
            }
            print(json.dumps(reply), flush=True)


class HangError(RuntimeError):
    """An engine did not answer."""


@dataclass
class Reply:
    """What an engine said."""

    tokens: list[int]
    cached: int
    counts: dict[str, int]


class Worker:
    """An engine in a process of its own."""

    def __init__(self, command: list[str]) -> None:
        self.counts: Counter[str] = Counter()
        self._command = command
        self._process = self._start()

    def ask(self, prompt: list[int]) -> Reply:
        """The answer to a prompt. Raises `HangError`."""
        self._say(prompt)
        reply = Reply(**json.loads(self._line()))
        self.counts = Counter(reply.counts)
        return reply

    def kill_in(self, prompt: list[int], seconds: float) -> None:
        """Asks, kills it soon afterwards, and starts another one."""
        self._say(prompt)
        time.sleep(seconds)
        self.close()
        self._process = self._start()

    def close(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait()

    def _say(self, prompt: list[int]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(prompt) + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], TURN_S)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise HangError(f"no answer within {TURN_S:.0f} s, or the engine ended")
        return line

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready\n"
        return self._process


class Soak:
    """Conversations over two engines, and what is done to their files and their pool."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self._random = random.Random(options.seed)
        self._directory = directory / "kv"
        self._pool = f"artesian-soak-{os.getpid()}" if options.pool_capacity != "0" else None
        command = [sys.executable, __file__, "--model", options.model]
        command += ["--capacity", options.capacity, "--worker", str(self._directory)]
        if self._pool:
            command += ["--pool", self._pool, "--pool-capacity", options.pool_capacity]
        self._workers = [Worker(command) for _ in range(2)]
        self._reference = LLM(options.model, enable_prefix_caching=False, max_model_len=1024)
        self._sessions: dict[int, list[int]] = {}
        self._events: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()

    def run(self, num_turns: int, say: Callable[[str], None]) -> list[Row]:
        """Runs the turns and returns what came of them."""
        wrong = hangs = cached = tokens = 0
        for turn in range(num_turns):
            prompt = self._next_prompt()
            worker = self._random.choice(self._workers)
            if self._random.random() < DAMAGE_SHARE:
                self._damage()
            if self._pool and self._random.random() < DAMAGE_SHARE:
                self._damage_pool(self._pool)
            if self._random.random() < KILL_SHARE:
                self._events["engine killed"] += 1
                self._dead += worker.counts
                worker.kill_in(prompt, self._random.uniform(0.0, 0.5))
            [expected] = self._reference.generate([prompt], GREEDY)
            try:
                reply = worker.ask(prompt)
            except HangError:
                hangs += 1
                break
            wrong += reply.tokens != list(expected.outputs[0].token_ids)
            cached, tokens = cached + reply.cached, tokens + len(prompt)
            self._sessions[self._session] = prompt + reply.tokens
            if (turn + 1) % 50 == 0:
                say(f"turn {turn + 1}: {wrong} wrong, {cached / tokens:.0%} of tokens were cached")
        return self._rows(wrong, hangs, cached / max(1, tokens))

    def close(self) -> None:
        """Ends the engines."""
        for worker in self._workers:
            worker.close()
        if self._pool:
            Pool.remove(self._pool)
        self._reference.close()

    def _next_prompt(self) -> list[int]:
        self._session = self._random.randrange(NUM_SESSIONS)
        history = self._sessions.get(self._session, [])
        new = [
            self._random.randrange(FIRST_ID, LAST_ID) for _ in range(self._random.randrange(8, 120))
        ]
        if len(history) + len(new) > MOST_TOKENS:
            history = []
        return history + new

    def _damage(self) -> None:
        """Does something to one file."""
        files = sorted(self._directory.glob("*.kv"))
        if not files:
            return
        path = self._random.choice(files)
        kind = self._random.choice(["bit flipped"] * 6 + ["garbage", "file cut", "file deleted"])
        self._events[kind] += 1
        try:
            if kind == "file deleted":
                path.unlink()
                return
            with path.open("r+b") as file:
                size = file.seek(0, 2)
                at = self._random.randrange(max(1, size))
                if kind == "file cut":
                    file.truncate(at)
                elif kind == "garbage":
                    file.seek(at)
                    file.write(self._random.randbytes(8192))
                else:
                    file.seek(at)
                    byte = file.read(1) or b"\0"
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 1 << self._random.randrange(8)]))
        except FileNotFoundError:
            self._events[kind] -= 1

    def _damage_pool(self, pool: str) -> None:
        """Flips bits of a pool's memory where blocks are, behind its tables."""
        for path in SHARED_MEMORY.glob(f"*{pool}*"):
            with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
                for _ in range(POOL_FLIPS):
                    at = self._random.randrange(POOL_TABLES, len(memory))
                    memory[at] ^= 1 << self._random.randrange(8)
                    self._events["bit flipped in the pool"] += 1

    def _rows(self, wrong: int, hangs: int, cached: float) -> list[Row]:
        subject = "two engines on one pool and one directory"
        rows = [
            _row(subject, "wrong answers", wrong, target=0),
            _row(subject, "hangs", hangs, target=0),
            _row(subject, "share of prompt tokens that were cached", cached, "share"),
        ]
        rows += [_row("faults", name, count) for name, count in sorted(self._events.items())]
        total = sum((worker.counts for worker in self._workers), self._dead)
        return rows + [_row("blocks", name, total[name]) for name in COUNTS]


def _row(
    subject: str, metric: str, value: float, unit: str = "", target: float | None = None
) -> Row:
    is_bound = target is not None
    return Row(
        subject=subject,
        metric=metric,
        value=value,
        unit=unit,
        better="less",
        baseline="none allowed" if is_bound else None,
        baseline_value=1.0 if is_bound else None,
        target=target,
        values={"Artesian": value},
    )


if __name__ == "__main__":
    main()
