"""Guesses over the Rust kernels and real weights: rows that verify are steps of one row."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from artesian import LLM, SamplingParams
from artesian.attention import SparseAttention
from artesian.engine.batch import Batch
from artesian.skip import SkipSet
from artesian.speculate import Draft, FixedLength
from tests.engine.test_native_model import prompts

pytestmark = pytest.mark.slow

MAX_MODEL_LEN = 1024
NUM_TOKENS = 40
WINDOW = Draft(SparseAttention(selector="window", budget_tokens=64, min_context_tokens=0))
DRAFTS = {
    "exact": Draft(),
    "window": WINDOW,
    "progressive": Draft(
        SparseAttention(selector="progressive", epsilon=0.5, budget_tokens=64, min_context_tokens=0)
    ),
    "skip": Draft(skips=SkipSet((50, 52), (1.0, 1.0))),
}
PARAMS = {
    "greedy": SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True),
    "seeded": SamplingParams(seed=3, max_tokens=NUM_TOKENS, ignore_eos=True),
    "penalties": SamplingParams(
        temperature=0, max_tokens=NUM_TOKENS, repetition_penalty=1.3, logprobs=2
    ),
}


@pytest.fixture(scope="module")
def plain(smollm2_path: Path) -> Iterator[LLM]:
    with LLM(str(smollm2_path), max_model_len=MAX_MODEL_LEN, attention_summaries=True) as llm:
        yield llm


@pytest.mark.parametrize("kind", DRAFTS)
@pytest.mark.parametrize("name", PARAMS)
def test_answers_are_the_same(plain: LLM, smollm2_path: Path, kind: str, name: str) -> None:
    some = prompts()[1::4]
    want = [result.outputs[0] for result in plain.generate(some, PARAMS[name])]
    settings = {"max_model_len": MAX_MODEL_LEN, "attention_summaries": True}
    with LLM(str(smollm2_path), speculate="window", **settings) as llm:
        speculator = llm.engine.speculator
        assert speculator is not None
        speculator.draft, speculator.policy = DRAFTS[kind], FixedLength(4)
        for batch in (some, some[:1]):
            found = [result.outputs[0] for result in llm.generate(batch, PARAMS[name])]
            assert [(o.token_ids, o.text, o.logprobs) for o in found] == [
                (o.token_ids, o.text, o.logprobs) for o in want[: len(batch)]
            ]
        stats = llm.engine.stats()
        assert stats.draft_rounds > 5
        assert stats.accepted_tokens > 0
        if kind == "exact":
            assert stats.accepted_tokens == stats.drafted_tokens
        assert llm.engine.cache.num_used_blocks == 0


def test_it_is_a_setting(plain: LLM, smollm2_path: Path) -> None:
    """Without summaries of keys, and with lengths that follow from what steps take."""
    prompt = (" ".join(prompts()) * 3)[:2400]
    [want] = plain.generate([prompt], PARAMS["greedy"])
    settings = {"max_model_len": 1024, "speculate_budget_tokens": 128}
    with LLM(str(smollm2_path), speculate="window", **settings) as llm:
        [found] = llm.generate([prompt], PARAMS["greedy"])
        assert found.outputs[0].token_ids == want.outputs[0].token_ids
        assert len(found.prompt_token_ids) > 256
        stats = llm.engine.stats()
        assert stats.draft_rounds > 0, "they are tried"


def test_settings_that_contradict_themselves_are_refused(smollm2_path: Path) -> None:
    for settings in (
        {"speculate": "skip"},
        {"speculate": "window", "speculate_skipped": 3},
        {"speculate": "top-k", "attention_summaries": False},
    ):
        with pytest.raises(ValueError, match="needs"):
            LLM(str(smollm2_path), **settings)


@pytest.mark.parametrize("path", ["smollm2_path", "gemma3_path"])
@pytest.mark.parametrize("num_rows", [2, 5, 9, 17])
def test_rows_that_verify_are_steps_of_one_row(
    request: pytest.FixtureRequest, path: str, num_rows: int
) -> None:
    """Bit for bit, over the ends of groups and splits of keys, and with wrong KV in their place."""
    file: Path = request.getfixturevalue(path)
    with LLM(str(file), max_model_len=1024) as llm:
        runner = llm.engine.runner
        draw = np.random.default_rng(num_rows)
        tokens = draw.integers(100, 40_000, 1024).astype(np.int32)
        for start in (30, 250, 505):
            runner.forward(rows(tokens, 0, start))
            single = np.concatenate(
                [runner.forward(rows(tokens, start + i, 1)) for i in range(num_rows)]
            )
            wrong = draw.integers(100, 40_000, 1024).astype(np.int32)
            for i in range(num_rows):
                runner.forward(rows(wrong, start + i, 1))
            assert np.array_equal(runner.forward(rows(tokens, start, num_rows)), single)


def rows(tokens: np.ndarray, start: int, count: int) -> Batch:
    """One sequence's rows, in the arena's first blocks."""
    end = start + count
    return Batch(
        tokens=tokens[start:end],
        positions=np.arange(start, end, dtype=np.int32),
        row_starts=np.array([0, count], np.int32),
        context_lens=np.array([end], np.int32),
        block_tables=np.arange(-(-end // 32), dtype=np.int32)[None],
        logit_rows=np.arange(count, dtype=np.int32),
    )
