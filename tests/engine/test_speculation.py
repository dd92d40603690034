"""Guesses change nothing but the number of steps, over a toy model that betrays any wrong KV."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artesian.attention import SparseAttention
from artesian.engine.base import Request, SamplingParams
from artesian.engine.batch import Batch
from artesian.engine.engine import LLMEngine
from artesian.engine.speculation import Speculator
from artesian.skip import SkipSet
from artesian.speculate import Draft, FixedLength
from tests.engine import test_engine_properties as properties
from tests.engine.toy import (
    Collected,
    ToyRunner,
    assert_no_leak,
    collect,
    generate,
    greedy,
    make_engine,
    run,
    toy_runner,
)
from tests.engine.window_twin import expected, make

WINDOWED = Draft(SparseAttention(selector="window", budget_tokens=8, min_context_tokens=0))
EXACT = Draft()
SKIPPING = Draft(skips=SkipSet((1, 3), (0.5, 0.5)))
PROMPTS = [[(7 * i + j * j) % 97 for j in range(3 + 5 * i)] for i in range(8)]


class Guessing(ToyRunner):
    """What drafts leave out matters at every third position only."""

    def forward(self, batch: Batch) -> npt.NDArray[np.float32]:
        def matters(index: int) -> bool:
            return bool(batch.positions[batch.row_starts[index]] % 3 == 0)

        sparse = [pair for pair in batch.sparse if matters(pair[0])]
        return super().forward(replace(batch, sparse=sparse))


def speculating(draft: Draft = WINDOWED, length: int = 4, **config: Any) -> LLMEngine:
    engine = make_engine(speculator=Speculator(draft, FixedLength(length)), **config)
    engine._runner.__class__ = Guessing
    return engine


def counts(engine: LLMEngine) -> tuple[int, int, int]:
    stats = engine.stats()
    return stats.draft_rounds, stats.drafted_tokens, stats.accepted_tokens


def contents(engine: LLMEngine) -> dict[bytes, list[int]]:
    """What the blocks that can be found by name hold."""
    words = toy_runner(engine).words
    return {name: words[block].tolist() for name, block in engine.cache._block_of.items()}


def test_right_guesses_save_steps_of_the_full_model() -> None:
    engine = speculating(EXACT, length=4)
    done = generate(engine, PROMPTS[3], greedy(21, ignore_eos=True))
    plain = make_engine()
    assert done.tokens == generate(plain, PROMPTS[3], greedy(21, ignore_eos=True)).tokens
    # One token of the prompt's own step, then four rounds of 4 + 1.
    assert counts(engine) == (4, 16, 16)
    assert engine.stats().num_steps == 1 + 4 * (4 + 1)
    assert engine.stats().generation_tokens == 21
    assert_no_leak(engine)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("params", [greedy(40), SamplingParams(seed=5, max_tokens=40)])
def test_wrong_guesses_change_no_token(length: int, params: SamplingParams) -> None:
    engine = speculating(length=length, num_blocks=300)
    requests = [
        Request(request_id=str(i), prompt_token_ids=p, sampling=params)
        for i, p in enumerate(PROMPTS)
    ]
    together = run(engine, *requests)
    plain = make_engine(num_blocks=300)
    for i, prompt in enumerate(PROMPTS):
        done = generate(plain, prompt, params)
        assert (together[str(i)].tokens, together[str(i)].text) == (done.tokens, done.text)
        assert together[str(i)].finish_reason == done.finish_reason
    rounds, drafted, accepted = counts(engine)
    assert rounds > 10
    assert drafted > accepted
    assert accepted > 0 or length == 1
    assert_no_leak(engine)


def test_no_guess_is_ever_named() -> None:
    """Every block that others find holds what an engine without guesses would have stored."""
    engine, plain = speculating(length=6, num_blocks=300), make_engine(num_blocks=300)
    requests = [
        Request(request_id=str(i), prompt_token_ids=prompt, sampling=greedy(33, ignore_eos=True))
        for i, prompt in enumerate(PROMPTS)
    ]
    for request in requests:
        engine.add_request(request)
    while engine.has_work():
        engine.step()
        for name, words in contents(engine).items():
            assert not [word for word in words if word == 2**64 - 1], "named before it is full"
            assert len(name) == 32
    run(plain, *requests)
    assert contents(engine) == contents(plain)
    assert counts(engine)[1] > counts(engine)[2] > 0


PENALTIES: dict[str, Any] = {
    "repetition": {"repetition_penalty": 1.7},
    "counts": {"presence_penalty": 1.0, "frequency_penalty": 1.5},
    "bias": {"logit_bias": {5: 4.0}, "seed": 1, "temperature": 1.0},
    "minimum": {"min_tokens": 12, "stop_token_ids": tuple(range(0, 90, 2))},
}


@pytest.mark.parametrize("name", PENALTIES)
def test_what_depends_on_earlier_tokens_counts_the_guesses(name: str) -> None:
    params = SamplingParams(**{"temperature": 0.0, "max_tokens": 30, **PENALTIES[name]})
    engine = speculating(EXACT)
    done, plain = generate(engine, PROMPTS[4], params), generate(make_engine(), PROMPTS[4], params)
    assert (done.tokens, done.finish_reason) == (plain.tokens, plain.finish_reason)
    _, drafted, accepted = counts(engine)
    assert drafted == accepted > 0, "guesses of the full model are right, penalties and all"


def test_log_probabilities_are_those_of_the_full_model() -> None:
    params = greedy(20, logprobs=3, ignore_eos=True)
    found = []
    for engine in (speculating(), make_engine()):
        engine.add_request(Request(request_id="a", prompt_token_ids=PROMPTS[2], sampling=params))
        outputs = []
        while engine.has_work():
            outputs += engine.step()
        found.append([entry for output in outputs for entry in output.logprobs or []])
    assert len(found[0]) == 20
    assert found[0] == found[1]


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 5, 6])
def test_guesses_end_where_the_answer_must(max_tokens: int) -> None:
    engine = speculating(EXACT, length=4)
    done = generate(engine, PROMPTS[2], greedy(max_tokens, ignore_eos=True))
    assert (len(done.tokens), done.finish_reason) == (max_tokens, "length")
    # The step that verifies brings a token of its own, so the last one is never guessed.
    assert counts(engine)[1] == [0, 0, 1, 2, 3, 4][max_tokens - 1]
    assert_no_leak(engine)


def test_the_end_of_the_context_is_not_overstepped() -> None:
    engine = speculating(EXACT, length=8, max_model_len=32)
    prompt = PROMPTS[3]
    done = generate(engine, prompt, greedy(None, ignore_eos=True))
    assert len(done.tokens) == 32 - len(prompt)
    plain = make_engine(max_model_len=32)
    assert done.tokens == generate(plain, prompt, greedy(None, ignore_eos=True)).tokens
    assert_no_leak(engine)


@pytest.mark.parametrize("at", range(2, 9))
def test_a_stop_in_the_midst_of_right_guesses(at: int) -> None:
    """By token or by string, at each place of a round: nothing behind it is shown or counted."""
    tokens = generate(make_engine(), PROMPTS[5], greedy(12, ignore_eos=True)).tokens
    by_token = greedy(12, stop_token_ids=(tokens[at],), ignore_eos=True)
    by_string = greedy(12, stop=(chr(32 + tokens[at - 1]) + chr(32 + tokens[at]),), ignore_eos=True)
    for params in (by_token, by_string):
        engine, plain = speculating(EXACT, length=5), make_engine()
        done, want = generate(engine, PROMPTS[5], params), generate(plain, PROMPTS[5], params)
        assert (done.tokens, done.text) == (want.tokens, want.text)
        assert done.finish_reason == want.finish_reason == "stop"
        assert engine.stats().generation_tokens == len(want.tokens)
        assert contents(engine) == contents(plain), "blocks behind the end have names"
        assert_no_leak(engine)


def test_guesses_give_way_when_there_are_no_blocks_for_them() -> None:
    """The arena holds what the tokens need and not much else."""
    params = greedy(24, ignore_eos=True)
    requests = [
        Request(request_id=str(i), prompt_token_ids=PROMPTS[2], sampling=params, cache_salt=str(i))
        for i in range(3)
    ]
    engine = speculating(EXACT, length=10, num_blocks=16, max_model_len=64)
    together = run(engine, *requests)
    want = generate(make_engine(), PROMPTS[2], params).tokens
    assert all(done.tokens == want for done in together.values())
    assert counts(engine)[0] > 0
    assert_no_leak(engine)


def test_preemption_throws_guesses_away() -> None:
    engine = speculating(EXACT, length=3, num_blocks=12, max_model_len=48)
    params = greedy(30, ignore_eos=True)
    requests = [
        Request(request_id=str(i), prompt_token_ids=PROMPTS[i], sampling=params) for i in range(3)
    ]
    together = run(engine, *requests)
    assert engine.stats().num_preemptions > 0
    for i in range(3):
        assert together[str(i)].tokens == generate(make_engine(), PROMPTS[i], params).tokens
    assert_no_leak(engine)


def test_a_request_that_goes_in_mid_draft_leaves_nothing() -> None:
    engine = speculating(EXACT, length=5)
    engine.add_request(Request(request_id="a", prompt_token_ids=PROMPTS[4], sampling=greedy(90)))
    for _ in range(4):  # the prompt, then three drafts
        engine.step()
    [sequence] = engine._scheduler.running
    assert sequence.drafts is not None
    assert sequence.drafts.num == 3
    engine.abort("a")
    [output] = engine.step()
    assert (output.finish_reason, output.num_output_tokens) == ("abort", 1)
    assert_no_leak(engine)


def test_one_that_comes_late_verifies_with_the_others() -> None:
    engine = speculating(EXACT, length=5, num_blocks=300)
    params = greedy(40, ignore_eos=True)
    engine.add_request(Request(request_id="a", prompt_token_ids=PROMPTS[1], sampling=params))
    collected: dict[tuple[str, int], Collected] = {}
    for _ in range(3):
        collect(engine.step(), collected)
    engine.add_request(Request(request_id="b", prompt_token_ids=PROMPTS[2], sampling=params))
    collect(engine.step(), collected)  # with a prompt to compute, the first one verifies
    assert len(collected["a", 0].tokens) == 1 + 3
    nums = set()
    while engine.has_work():
        collect(engine.step(), collected)
        running = engine._scheduler.running
        nums |= {tuple(s.drafts.num for s in running if s.drafts is not None)}
    assert {pair for pair in nums if len(pair) == 2} == {(n, n) for n in range(6)}
    for name, index in (("a", 1), ("b", 2)):
        want = generate(make_engine(), PROMPTS[index], params).tokens
        assert collected[name, 0].tokens == want


def test_beside_requests_that_leave_something_out_themselves() -> None:
    """These do not guess, and keep their place in the batch; the others are not disturbed."""
    window = SparseAttention(selector="window", budget_tokens=64, min_context_tokens=4)
    kinds: list[dict[str, Any]] = [
        {},
        {"attention": window},
        {"num_skipped": 1},
        {"num_skipped": 3},
    ]
    requests = [
        Request(
            request_id=str(i),
            prompt_token_ids=PROMPTS[i % 8],
            sampling=greedy(25, ignore_eos=True),
            **kinds[i % 4],
        )
        for i in range(12)
    ]
    plain = make_engine(num_blocks=300, attention_summaries=True)
    plain._runner.__class__ = Guessing
    want = {name: done.tokens for name, done in run(plain, *requests).items()}
    for draft in (EXACT, WINDOWED, SKIPPING):
        engine = speculating(draft, num_blocks=300, attention_summaries=True)
        found = {name: done.tokens for name, done in run(engine, *requests).items()}
        assert found == want
        assert contents(engine) == contents(plain)
        assert counts(engine)[0] > 0
    alone = speculating(attention_summaries=True)
    run(alone, *(request for request in requests if request.attention or request.num_skipped))
    assert counts(alone) == (0, 0, 0)


def test_steps_never_have_more_rows_than_they_may() -> None:
    engine = speculating(EXACT, length=8, num_blocks=300, max_num_batched_tokens=11)
    runner = toy_runner(engine)
    params = greedy(30, ignore_eos=True)
    for i in range(4):
        engine.add_request(Request(request_id=str(i), prompt_token_ids=PROMPTS[i], sampling=params))
    while engine.has_work():
        before = runner.num_rows
        engine.step()
        assert runner.num_rows - before <= 11
    assert counts(engine)[0] > 0


class Blind(ToyRunner):
    """Steps that draft give no numbers."""

    def forward(self, batch: Batch) -> npt.NDArray[np.float32]:
        logits = super().forward(batch)
        if batch.sparse:
            logits[:] = float("nan")
        return logits


def test_drafts_without_numbers_are_none() -> None:
    engine = speculating()
    engine._runner.__class__ = Blind
    done = generate(engine, PROMPTS[3], greedy(12, ignore_eos=True))
    plain = generate(make_engine(), PROMPTS[3], greedy(12, ignore_eos=True))
    assert (done.tokens, done.finish_reason) == (plain.tokens, "length")
    assert_no_leak(engine)


@pytest.mark.parametrize("sinks", [0, 6])
def test_a_window_that_moves_on(sinks: int) -> None:
    engine = make(sinks, speculator=Speculator(WINDOWED, FixedLength(5)))
    prompt = [i * 7 % 60 for i in range(30)]
    done = generate(engine, prompt, greedy(150, ignore_eos=True))
    plain = generate(make(sinks), prompt, greedy(150, ignore_eos=True))
    assert done.tokens == plain.tokens
    assert done.tokens[:3] == expected(prompt, 3, sinks, is_cold=True)
    assert engine.stats().context_overflows > 3
    assert counts(engine)[0] > 10
    assert_no_leak(engine)


@settings(max_examples=150, deadline=None)
@given(
    arrivals=properties.arrivals,
    num_blocks=st.integers(properties.MIN_BLOCKS, 3 * properties.MIN_BLOCKS),
    max_num_seqs=st.integers(1, 6),
    budget=st.sampled_from([1, 7, 20, 200]),
    caching=st.booleans(),
    length=st.integers(1, 9),
    draft=st.sampled_from([EXACT, WINDOWED, SKIPPING]),
)
def test_every_request_ends_with_its_own_tokens(
    arrivals: list[Any],
    num_blocks: int,
    max_num_seqs: int,
    budget: int,
    caching: bool,
    length: int,
    draft: Draft,
) -> None:
    engine = speculating(
        draft,
        length,
        num_blocks=num_blocks,
        block_size=properties.BLOCK_SIZE,
        max_model_len=properties.MAX_MODEL_LEN,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
        max_queue_len=100,
        enable_prefix_caching=caching,
    )
    properties.check_arrivals(engine, arrivals)
