"""Decode attention of some sequences by a second process: what it brings and what it costs.

    make bench-offload
    make bench-offload ARGS='--batches 8 --contexts 1000 --rounds 3'

Two processes, each pinned to one core: one decodes, the other lends its executor, as a prefill
worker does, idle or computing prompts. All figures are of steps of the kernels, without an engine
around them; KV is made up, and the logits of a step must be the same whoever attends. Within a
round every share of remote sequences is timed in turn, and a figure is the median of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import report
from artesian.kvcache.region import remove_region
from machine import describe
from report import Row

WORKER = Path(__file__).resolve().parent / "offload_worker.py"
RATIOS = (0.0, 0.3, 0.5, 0.7, 1.0, 3.0, float("inf"))
"""Remote sequences for each local one."""
BLOCK = 32
PROMPT, CHUNK = 2048, 64
TARGET = 1.4
LOCAL = "all local"
SLICE_S = 100e-6
console = report.make_console()


class Process:
    """A worker process; `do` asks it."""

    def __init__(self, model: str, core: int, num_blocks: int) -> None:
        self.region = f"bench-{uuid.uuid4().hex[:12]}"
        command = [sys.executable, str(WORKER), model, self.region, str(core), str(num_blocks)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.about = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the worker process has failed: see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends it."""
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=30)
        self._process.kill()
        remove_region(self.region)


@dataclass
class Cell:
    """A batch with some remote sequences: what its steps took, by round."""

    batch: int
    context: int
    num_remote: int
    step_s: list[float] = field(default_factory=list)
    wait_s: list[float] = field(default_factory=list)
    round_trip_s: list[float] = field(default_factory=list)
    attend_s: list[float] = field(default_factory=list)
    prefill_tokens: int = 0
    prefill_s: float = 0.0
    kv_gb_s: float = 0.0
    messages: float = 0.0
    kilobytes: float = 0.0

    @property
    def ms(self) -> float:
        """Median of a step."""
        return statistics.median(self.step_s) * 1e3

    @property
    def tokens_s(self) -> float:
        """Of the whole batch."""
        return self.batch / self.ms * 1e3

    @property
    def layer_us(self) -> tuple[float, float, float]:
        """Of a layer: waited for results, round trip, attending there."""
        lists = (self.wait_s, self.round_trip_s, self.attend_s)
        return tuple(statistics.median(seconds) * 1e6 for seconds in lists)  # type: ignore


@dataclass
class Pair:
    """The process that decodes and the one that lends."""

    decode: Process
    lend: Process

    @property
    def num_layers(self) -> int:
        """Of the model."""
        count: int = self.decode.about["num_layers"]
        return count

    def time(self, cell: Cell, names: list[list[int]], steps: int) -> float:
        """Times steps of a cell; the sum of its logits."""
        before, served = self.decode.do("stats"), self.lend.do("stats")
        num_local = cell.batch - cell.num_remote
        answer = self.decode.do(
            "decode",
            num_local=num_local,
            names=names[num_local:],
            context=cell.context,
            steps=steps,
        )
        after, now = self.decode.do("stats"), self.lend.do("stats")
        cell.step_s.append(answer["median_s"])
        num_steps = max(1, after["num_steps"] - before["num_steps"])
        num_layers = num_steps * self.num_layers
        cell.wait_s.append((after["wait_ns"] - before["wait_ns"]) / 1e9 / num_layers)
        round_trip_ns = after["round_trip_ns"] - before["round_trip_ns"]
        cell.round_trip_s.append(round_trip_ns / 1e9 / num_layers)
        busy_ns = now["busy_ns"] - served["busy_ns"]
        cell.attend_s.append(busy_ns / 1e9 / num_layers)
        cell.kv_gb_s = (now["kv_bytes"] - served["kv_bytes"]) / max(1, busy_ns)
        answers = now["num_answers"] - served["num_answers"]
        cell.messages = (after["num_messages"] - before["num_messages"] + answers) / num_steps
        cell.kilobytes = (after["num_bytes"] - before["num_bytes"]) / num_steps / 1e3
        logits: float = answer["sum"]
        return logits

    def round(self, cells: list[Cell], names: list[list[int]], steps: int) -> None:
        """Times all cells in turn."""
        sums = {self.time(cell, names, steps) for cell in cells}
        assert len(sums) == 1, f"the logits depend on who attends: {sums}"


def num_remote(batch: int, ratio: float) -> int:
    """Remote sequences of a batch."""
    return batch if ratio == float("inf") else round(batch * ratio / (1 + ratio))


def measure(pair: Pair, batch: int, context: int, rounds: int, steps: int) -> list[Cell]:
    """All shares, beside an idle engine."""
    counts = sorted({num_remote(batch, ratio) for ratio in RATIOS})
    cells = [Cell(batch, context, count) for count in counts]
    names = pair.lend.do("admit", count=batch, context=context)["names"]
    for _ in range(rounds):
        pair.round(cells, names, steps)
    return cells


def measure_beside(
    pair: Pair, batch: int, context: int, rounds: int, steps: int, *, nice: int, share: float
) -> list[Cell]:
    """Some shares, beside an engine that computes prompts, which each cell counts."""
    cells = [Cell(batch, context, count) for count in (0, batch // 4, batch // 2)]
    names = pair.lend.do("admit", count=batch, context=context)["names"]
    pair.lend.do("share", share=share)
    pair.lend.do("begin_prefill", chunk=CHUNK, length=PROMPT, nice=nice)
    time.sleep(0.5)
    for _ in range(rounds):
        for cell in cells:
            before = pair.lend.do("prefilled")
            pair.time(cell, names, steps)
            after = pair.lend.do("prefilled")
            cell.prefill_tokens += after["tokens"] - before["tokens"]
            cell.prefill_s += after["seconds"] - before["seconds"]
    pair.lend.do("end_prefill")
    pair.lend.do("share", share=1.0)
    return cells


def row(cell: Cell, local: Cell, subject: str, metric: str, target: float | None = None) -> Row:
    """A cell beside the same batch without remote sequences."""
    wait_us, round_trip_us, attend_us = cell.layer_us
    values = {
        "tokens/s": cell.tokens_s,
        "to local": cell.tokens_s / local.tokens_s,
        "step ms": cell.ms,
        "wait µs": wait_us,
        "round trip µs": round_trip_us,
        "attended µs": attend_us,
        "KV GB/s": cell.kv_gb_s,
    }
    if cell.prefill_s > 0:
        values["prefill tokens/s"] = cell.prefill_tokens / cell.prefill_s
    return Row(
        subject=subject,
        metric=metric,
        value=cell.tokens_s,
        unit="",
        baseline=LOCAL,
        baseline_value=local.tokens_s,
        target=target,
        values=values,
        spread={"step ms": (min(cell.step_s) * 1e3, max(cell.step_s) * 1e3)},
    )


COLUMNS = [
    "tokens/s",
    "to local",
    "step ms",
    "wait µs",
    "round trip µs",
    "attended µs",
    "KV GB/s",
    "prefill tokens/s",
]


def idle_rows(pair: Pair, options: argparse.Namespace) -> tuple[list[Row], dict[str, object]]:
    """The grid of batches and contexts, and what a layer's exchange costs."""
    rows: list[Row] = []
    cells: dict[tuple[int, int, int], Cell] = {}
    for context in options.contexts:
        for batch in options.batches:
            found = measure(pair, batch, context, options.rounds, options.steps)
            bound = batch >= 8 and context >= 4000
            for cell in found:
                cells[batch, context, cell.num_remote] = cell
                is_half = 2 * cell.num_remote == batch
                metric = f"{batch} of {context}, {cell.num_remote} remote"
                target = TARGET if bound and is_half else None
                rows.append(row(cell, found[0], "beside an idle engine", metric, target))
            print_rows(rows[-len(found) :])
    for context in options.contexts:
        for batch in options.batches:
            twice = cells.get((2 * batch, context, batch))
            if twice is not None:
                metric = f"{batch} and {batch} remote, of {context}"
                local = cells[batch, context, 0]
                rows.append(row(twice, local, "the batch grows", metric))
                print_rows(rows[-1:])
    short = measure(pair, 8, BLOCK, options.rounds, 10 * options.steps)
    wait_us, round_trip_us, attend_us = short[-1].layer_us
    exchange = {
        "cost_us_layer": (short[-1].ms - short[0].ms) * 1e3 / pair.num_layers,
        "round_trip_us": round_trip_us,
        "attend_us": attend_us,
        "wait_us": wait_us,
        "messages_step": short[-1].messages,
        "kilobytes_step": short[-1].kilobytes,
        "num_layers": pair.num_layers,
    }
    console.print(f"8 remote sequences of {BLOCK} tokens, a layer's exchange: {exchange}")
    return rows, {"exchange": exchange}


def beside_rows(pair: Pair, options: argparse.Namespace) -> list[Row]:
    """Beside prompts, with an engine that is as nice as the executor or nicer, and with a share."""
    rows: list[Row] = []
    batch = max(b for b in options.batches if b <= 8)
    for nice, share in ((0, 1.0), (options.nice, 1.0), (options.nice, options.share)):
        for context in options.contexts:
            steps = 4 * options.steps  # a chunk of a prompt takes as long as some of them
            found = measure_beside(
                pair, batch, context, options.rounds, steps, nice=nice, share=share
            )
            subject = f"beside prompts, engine nicer by {nice}, share {share:g}"
            for cell in found:
                metric = f"{batch} of {context}, {cell.num_remote} remote"
                rows.append(row(cell, found[0], subject, metric))
            print_rows(rows[-len(found) :])
    return rows


def print_rows(rows: list[Row]) -> None:
    report.print_table(rows[0].subject, rows, COLUMNS, console)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--contexts", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="of a cell in a round")
    parser.add_argument("--nice", type=int, default=10, help="added to the engine's niceness")
    parser.add_argument("--share", type=float, default=0.3, help="of the engine's time")
    parser.add_argument("--only", choices=["idle", "beside"], help="one half of it")
    return parser.parse_args()


def main() -> None:
    """Measures, prints and writes."""
    chosen = options()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("this takes two cores, one for each process")
    longest = -(-max(chosen.contexts) // BLOCK)
    num_blocks = max(chosen.batches) * longest + PROMPT // BLOCK
    with ExitStack() as stack:
        lend = Process(chosen.model, cores[0], num_blocks)
        stack.callback(lend.close)
        decode = Process(chosen.model, cores[1], num_blocks)
        stack.callback(decode.close)
        lend.do("serve", share=1.0, slice_s=SLICE_S)
        decode.do("connect", region=lend.region)
        pair = Pair(decode, lend)
        rows: list[Row] = []
        extra: dict[str, object] = {"model": chosen.model, **decode.about}
        if chosen.only != "beside":
            rows, exchange = idle_rows(pair, chosen)
            extra |= exchange
        if chosen.only != "idle":
            rows += beside_rows(pair, chosen)
    if chosen.only is None:
        console.print(f"written to {report.write('offload', rows, machine, extra)}")


if __name__ == "__main__":
    main()
