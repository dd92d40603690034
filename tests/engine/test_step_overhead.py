"""Python's share of a decode step, measured over a runner that computes nothing."""

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from artesian.config.engine import EngineConfig
from artesian.engine.base import EngineInfo, Request, SamplingParams
from artesian.engine.batch import Batch
from artesian.engine.engine import LLMEngine
from artesian.kvcache import Arena, KvIdentity, PrefixCache
from tests.engine.toy import ToyTokenizer

VOCAB_SIZE = 100
CONTEXT_TOKENS = 4000


class NoRunner:
    """Logits that never change."""

    def __init__(self, num_sequences: int) -> None:
        rng = np.random.default_rng(0)
        self._logits = rng.standard_normal((num_sequences, VOCAB_SIZE)).astype(np.float32)

    def forward(self, batch: Batch) -> npt.NDArray[np.float32]:
        return self._logits[: len(batch.logit_rows)]

    def turn(self, from_blocks: Sequence[int], to_blocks: Sequence[int], delta: int) -> None:
        raise AssertionError("nothing is truncated here")


def measure_step_us(num_sequences: int, params: SamplingParams) -> float:
    """Median CPU time of a decode step at a context of 4,000 tokens, in microseconds."""
    num_blocks = num_sequences * 160
    engine = LLMEngine(
        NoRunner(num_sequences),
        ToyTokenizer(),
        PrefixCache(Arena(num_blocks, 8)),
        KvIdentity("none", "f32", 32),
        EngineConfig(model="none", max_num_seqs=16, max_num_batched_tokens=65536),
        EngineInfo(model_name="none", max_model_len=5000, vocab_size=VOCAB_SIZE),
    )
    for i in range(num_sequences):
        prompt = [i] * CONTEXT_TOKENS
        engine.add_request(Request(request_id=str(i), prompt_token_ids=prompt, sampling=params))
    engine.step()
    times = []
    for _ in range(300):
        start = time.process_time_ns()
        outputs = engine.step()
        times.append(time.process_time_ns() - start)
        assert len(outputs) == num_sequences
    return float(np.median(times)) / 1e3


@pytest.mark.slow
@pytest.mark.parametrize(("num_sequences", "limit_us"), [(1, 150), (16, 500)])
def test_a_decode_step_costs_little_python(num_sequences: int, limit_us: float) -> None:
    greedy = SamplingParams(temperature=0, max_tokens=900, ignore_eos=True)
    assert measure_step_us(num_sequences, greedy) < limit_us
    stopping = SamplingParams(temperature=0, max_tokens=900, ignore_eos=True, stop=("\n\nUser:",))
    assert measure_step_us(num_sequences, stopping) < limit_us
