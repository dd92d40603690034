"""The simulated worker against the real engine on a virtual clock: same steps, same times."""

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from artesian.engine.base import Request
from artesian.engine.batch import Batch
from artesian.profile import StepCosts
from artesian.profile.costs import num_pairs
from artesian.sim.cluster import Call, Cluster, Machine, Policies, Report
from tests.engine.toy import VOCAB_SIZE, Clock, greedy, make_engine

COSTS = StepCosts(
    fixed_s=0.005, row_s=0.002, prompt_row_s=0.001, kv_token_s=2e-5, pair_s=1e-6, knee_rows=2
)
BLOCK_TOKENS = 32


class TimedRunner:
    """Computes nothing; a step takes what `COSTS` says, and a clock moves on by that."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logits = np.zeros((1024, VOCAB_SIZE), np.float32)

    def forward(self, batch: Batch) -> npt.NDArray[np.float32]:
        nums = np.diff(batch.row_starts)
        pairs = [(int(end), int(num)) for end, num in zip(batch.context_lens, nums, strict=True)]
        rows = sum(1 for _, num in pairs if num == 1)
        prompt_rows = sum(num for _, num in pairs if num > 1)
        tokens = sum(end for end, num in pairs if num == 1)
        prompt_pairs = sum(num_pairs(num, end - num) for end, num in pairs if num > 1)
        seconds = COSTS.rest_s(rows, prompt_rows) + COSTS.attention_s(tokens, prompt_pairs)
        self._clock.now += seconds
        return self._logits[: len(batch.logit_rows)]

    def turn(self, from_blocks: Sequence[int], to_blocks: Sequence[int], delta: int) -> None:
        raise AssertionError("nothing is truncated here")


def serve(calls: Sequence[Call], num_blocks: int, max_num_seqs: int) -> dict[int, list[float]]:
    """The times of each call's tokens, by the real engine."""
    clock = Clock()
    start_s = clock.now
    engine = make_engine(
        num_blocks=num_blocks,
        block_size=BLOCK_TOKENS,
        max_model_len=2048,
        clock=clock,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=256,
        max_queue_len=1000,
    )
    engine._runner = TimedRunner(clock)
    times: dict[int, list[float]] = {number: [] for number in range(len(calls))}
    waiting = list(enumerate(calls))
    while waiting or engine.has_work():
        if not engine.has_work():
            clock.now = max(clock.now, start_s + waiting[0][1].arrival_s)
        while waiting and start_s + waiting[0][1].arrival_s <= clock.now:
            number, call = waiting.pop(0)
            rng = random.Random(number)  # no two prompts begin alike
            prompt = [rng.randrange(95) for _ in range(call.num_prompt_tokens)]
            params = greedy(call.num_output_tokens, ignore_eos=True)
            engine.add_request(
                Request(request_id=str(number), prompt_token_ids=prompt, sampling=params)
            )
        for output in engine.step():
            times[int(output.request_id)] += [clock.now - start_s] * len(output.token_ids)
    return times


def simulate(calls: Sequence[Call], num_blocks: int, max_num_seqs: int) -> Report:
    machine = Machine(
        name="virtual",
        costs=COSTS,
        kv_bytes=1.0,
        capacity_tokens=num_blocks * BLOCK_TOKENS,
        max_seqs=max_num_seqs,
        prompt_tokens=256,
        mixed_tokens=64,
        executor_bytes_per_s=lambda share: 1.0,
        slowdown=lambda share: 1.0,
    )
    return Cluster(machine, ["both"], Policies()).run(calls)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("calls_per_s", "num_blocks", "max_num_seqs", "most"),
    [(0.5, 400, 16, 0.01), (2.0, 400, 16, 0.01), (2.0, 400, 4, 0.01), (2.0, 70, 16, 0.06)],
    ids=["idle", "busy", "slots", "blocks"],
)
def test_it_serves_as_the_engine_does(
    seed: int, calls_per_s: float, num_blocks: int, max_num_seqs: int, most: float
) -> None:
    """With few blocks the engine keeps and preempts a little else than the simulator does."""
    rng = random.Random(seed)
    arrival_s, calls = 0.0, []
    for _ in range(60):
        arrival_s += rng.expovariate(calls_per_s)
        calls.append(Call(arrival_s, rng.randint(2, 600), rng.randint(2, 60)))
    times = serve(calls, num_blocks, max_num_seqs)
    report = simulate(calls, num_blocks, max_num_seqs)
    assert [len(t) for t in times.values()] == [c.num_output_tokens for c in calls]
    ttft_ms = [1e3 * (t[0] - c.arrival_s) for t, c in zip(times.values(), calls, strict=True)]
    tpot_ms = [1e3 * (t[-1] - t[0]) / (len(t) - 1) for t in times.values()]
    gaps_ms = [1e3 * (b - a) for t in times.values() for a, b in pairwise(t)]
    last_s = max(t[-1] for t in times.values())
    for simulated, real in (
        (report.mean_tpot_ms, np.mean(tpot_ms)),
        (report.tpot_ms[1], np.percentile(tpot_ms, 99)),
        (report.ttft_ms[0], np.median(ttft_ms)),
        (report.ttft_ms[1], np.percentile(ttft_ms, 99)),
        (report.duration_s, last_s),
    ):
        assert simulated == pytest.approx(real, rel=most)
    if most < 0.02:  # medians jump where steps are of two kinds
        assert report.itl_ms[0] == pytest.approx(np.median(gaps_ms), rel=most)
    assert report.itl_ms[1] == pytest.approx(np.percentile(gaps_ms, 99), rel=most)
