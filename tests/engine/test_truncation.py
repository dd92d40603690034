"""Conversations that outgrow the context window, against a plain reading through a window."""

import random
from pathlib import Path
from typing import Any

import pytest

from artesian.context.policies import Truncation
from artesian.engine.base import InvalidRequestError, Request, SamplingParams
from artesian.engine.questions import DeleteSession, ExplainPrompt, Explanation
from tests.engine.toy import (
    Collected,
    assert_no_leak,
    collect,
    generate,
    greedy,
    make_engine,
    run,
    toy_runner,
)
from tests.engine.window_twin import BLOCK, WINDOW, Reader, expected, make

SINKS = [0, 6]


def tokens(seed: int, count: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(60) for _ in range(count)]


def reported(done: Collected) -> tuple[int, int]:
    """Cached and truncated tokens."""
    assert done.last is not None
    return done.last.num_cached_tokens, done.last.num_truncated_tokens


@pytest.mark.parametrize("sinks", SINKS)
@pytest.mark.parametrize("budget", [5, 64])
def test_a_cold_prompt_is_what_the_last_cut_leaves_of_it(sinks: int, budget: int) -> None:
    engine = make(sinks, max_num_batched_tokens=budget, max_num_seqs=4)
    cuts = Truncation.of_window(WINDOW, BLOCK, sinks)
    for length in (WINDOW, WINDOW + 1, 70, 73, 201):
        prompt = tokens(length, length)
        done = generate(engine, prompt, greedy(3))
        assert done.tokens == expected(prompt, 3, sinks, is_cold=True)
        assert reported(done) == (0, cuts.dropped_tokens(cuts.cut(length + len(done.tokens) - 1)))
        assert_no_leak(engine)
    assert engine.stats().context_recomputed == 4


@pytest.mark.parametrize("sinks", SINKS)
def test_an_answer_goes_on_across_the_end_of_the_window(sinks: int) -> None:
    engine = make(sinks)
    prompt = tokens(3, 30)
    done = generate(engine, prompt, greedy(150, ignore_eos=True))
    assert len(done.tokens) == 150
    assert done.finish_reason == "length"
    reader = Reader(sinks)
    stream = prompt + done.tokens
    for index, token in enumerate(stream[:-1]):
        following = reader.read(token)
        if index >= len(prompt) - 1:
            assert following == stream[index + 1]
    assert engine.stats().context_overflows == reader.num_cuts > 3
    assert reported(done) == (0, reader.num_cuts * reader.cuts.step_blocks * BLOCK)
    assert_no_leak(engine)


@pytest.mark.parametrize("sinks", SINKS)
@pytest.mark.parametrize("tier", ["memory", "disk", "disk after pressure"])
def test_a_conversation_over_several_overflows_is_one_long_stream(
    sinks: int, tier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine too, what is on disk is to be loaded and not computed.
    monkeypatch.setattr("artesian.context.loader._MIN_PATIENCE_S", 60.0)
    config: dict[str, Any] = {} if tier == "memory" else {"context_dir": tmp_path}
    if tier == "disk after pressure":
        config["num_blocks"] = 2 * WINDOW // BLOCK
    engine = make(sinks, **config)
    stream: list[int] = []
    for turn in range(14):
        stream += tokens(turn, 9)
        answer = expected(stream, 6, sinks, is_cold=False)
        if tier == "disk":
            assert_no_leak(engine)
            engine = make(sinks, **config)
        elif tier == "disk after pressure":
            generate(engine, tokens(-turn - 1, WINDOW), greedy(1))
            engine.close()  # ends what is being saved, and no more
        before = toy_runner(engine).num_rows
        done = generate(engine, stream, greedy(6))
        assert done.tokens == answer
        num_cached, num_truncated = reported(done)
        num_rows = toy_runner(engine).num_rows - before
        assert num_rows <= 9 + 6 + 2 * BLOCK, "only what is new is computed"
        if len(stream) > WINDOW:
            assert num_truncated > 0
            assert num_cached >= min(len(stream) - num_truncated, WINDOW // 2) - 9 - 6 - 2 * BLOCK
        stream += done.tokens
        engine.close()
    assert engine.stats().context_recomputed == 0
    assert_no_leak(engine)


def test_a_turn_behind_an_overflow_finds_what_was_moved() -> None:
    engine = make()
    stream = tokens(1, 45)
    stream += generate(engine, stream, greedy(10, ignore_eos=True)).tokens
    done = generate(engine, [*stream, 5, 6, 7], greedy(4))
    # 24 tokens went; of the 34 left, all full blocks but the last token's were there.
    assert reported(done) == (28, 24)
    turned = toy_runner(engine).num_turned
    assert turned == engine.stats().context_turned_blocks == 6
    again = generate(engine, [*stream, 5, 6, 7], greedy(4))
    assert again.tokens == done.tokens
    assert toy_runner(engine).num_turned == turned, "nothing is turned twice"


def test_two_that_overflow_alike_share_what_is_turned() -> None:
    engine = make(num_blocks=200)
    stream = tokens(1, 40)
    generate(engine, stream, greedy(1))
    both = [
        Request(request_id=str(i), prompt_token_ids=[*stream, *tokens(7, 20)], sampling=greedy(5))
        for i in range(2)
    ]
    done = run(engine, *both)
    assert done["0"].tokens == done["1"].tokens == expected(both[0].prompt_token_ids, 5, 0, False)
    assert toy_runner(engine).num_turned == 6
    assert_no_leak(engine)


def test_salts_do_not_share_windows() -> None:
    engine = make()
    stream = tokens(2, 45)
    stream += generate(engine, stream, greedy(8, ignore_eos=True)).tokens
    request = Request(
        request_id="other", prompt_token_ids=stream, sampling=greedy(4), cache_salt="other"
    )
    done = run(engine, request)["other"]
    assert done.tokens == expected(stream, 4, 0, is_cold=True)
    assert reported(done)[0] == 0


def test_many_at_once_in_a_tight_arena() -> None:
    prompts = [tokens(seed, 20 + 7 * seed) for seed in range(10)]
    alone = [generate(make(), prompt, greedy(40, ignore_eos=True)).tokens for prompt in prompts]
    engine = make(num_blocks=30, max_num_seqs=8)
    requests = [
        Request(request_id=str(i), prompt_token_ids=prompt, sampling=greedy(40, ignore_eos=True))
        for i, prompt in enumerate(prompts)
    ]
    done = run(engine, *requests)
    assert_no_leak(engine)
    assert engine.stats().num_preemptions > 0
    for i, prompt in enumerate(prompts):
        assert len(done[str(i)].tokens) == 40
        if len(prompt) + 40 <= WINDOW:
            assert done[str(i)].tokens == alone[i]


def test_an_answer_without_a_limit_ends_at_the_next_overflow_but_one() -> None:
    engine = make()
    for length in (10, 47, 48, 49, 100):
        done = generate(engine, tokens(length, length), greedy(None, ignore_eos=True))
        assert done.finish_reason == "length"
        assert 24 <= len(done.tokens) <= WINDOW + 24


def test_what_is_longer_than_any_window_is_refused() -> None:
    engine = make()
    with pytest.raises(InvalidRequestError, match="at most 3072 are taken"):
        engine.add_request(Request(request_id="x", prompt_token_ids=[1] * 3072, sampling=greedy(1)))
    with pytest.raises(InvalidRequestError, match="prompt_logprobs needs the whole prompt"):
        engine.add_request(
            Request(
                request_id="x",
                prompt_token_ids=[1] * 60,
                sampling=greedy(1, prompt_logprobs=1),
            )
        )


def test_errors_stay_the_default_and_a_request_can_choose() -> None:
    engine = make_engine(max_model_len=WINDOW)
    prompt = tokens(0, 60)
    with pytest.raises(InvalidRequestError, match="max_model_len is 48"):
        engine.add_request(Request(request_id="x", prompt_token_ids=prompt, sampling=greedy()))
    assert len(generate(engine, tokens(1, 40), greedy(ignore_eos=True)).tokens) == 8
    request = Request(
        request_id="y", prompt_token_ids=prompt, sampling=greedy(4), context_overflow="truncate"
    )
    assert run(engine, request)["y"].tokens == expected(prompt, 4, 4, is_cold=True)
    strict = make()
    with pytest.raises(InvalidRequestError, match="max_model_len is 49"):
        strict.add_request(
            Request(
                request_id="z",
                prompt_token_ids=prompt,
                sampling=greedy(),
                context_overflow="error",
            )
        )


def test_a_window_without_two_blocks_behind_its_sinks_is_refused() -> None:
    with pytest.raises(ValueError, match="no two blocks of 4 tokens"):
        make(sinks=44)
    engine = make_engine(max_model_len=7)
    request = Request(
        request_id="x", prompt_token_ids=[1], sampling=greedy(), context_overflow="truncate"
    )
    with pytest.raises(InvalidRequestError, match="leaves no two blocks"):
        engine.add_request(request)


def test_a_session_is_deleted_with_the_windows_that_it_has_left() -> None:
    engine = make()
    stream = tokens(4, 45)
    request = Request(
        request_id="x",
        prompt_token_ids=stream,
        sampling=greedy(40, ignore_eos=True),
        session_id="s",
    )
    run(engine, request)
    assert engine.cache.num_cached_blocks > 2 * WINDOW // BLOCK - 2
    engine.answer(DeleteSession("", "s"))
    assert engine.cache.num_cached_blocks == 0


def test_why_a_long_prompt_misses_is_told_of_the_window_that_it_would_enter() -> None:
    engine = make()
    stream = tokens(1, 45)
    stream += generate(engine, stream, greedy(10, ignore_eos=True)).tokens
    reply = engine.answer(ExplainPrompt("", [*stream, 5, 6, 7, 8, 9]))
    assert isinstance(reply, Explanation)
    assert (reply.num_tokens, reply.num_usable_blocks, reply.num_in_memory) == (60, 8, 7)
    reply = engine.answer(ExplainPrompt("other", stream))
    assert isinstance(reply, Explanation)
    assert (reply.num_usable_blocks, reply.num_in_memory, reply.cause) == (7, 0, "never computed")


def test_a_resumed_answer_goes_on_from_a_reading_of_all_that_there_is() -> None:
    prompt, output = tokens(1, 40), tokens(2, 30)
    request = Request(
        request_id="x",
        prompt_token_ids=prompt,
        output_token_ids=output,
        sampling=greedy(36, ignore_eos=True),
    )
    done = run(make(), request)["x"]
    assert done.tokens == expected(prompt + output, 6, 0, is_cold=True)
    assert done.finish_reason == "length"


def test_without_prefix_caching_an_answer_still_crosses_the_end_of_the_window() -> None:
    engine = make(enable_prefix_caching=False)
    prompt = tokens(6, 70)
    for _ in range(2):
        done = generate(engine, prompt, greedy(60, ignore_eos=True))
        assert done.last is not None and done.last.num_cached_tokens == 0
        assert len(done.tokens) == 60
        assert done.tokens[:20] == expected(prompt, 20, 0, is_cold=True)
    assert engine.cache.num_cached_blocks <= 2 * WINDOW // BLOCK
    assert_no_leak(engine)


def test_two_answers_to_one_prompt_each_cross_the_end() -> None:
    engine = make(num_blocks=100)
    sampling = SamplingParams(n=2, seed=3, max_tokens=80, ignore_eos=True)
    engine.add_request(Request(request_id="x", prompt_token_ids=tokens(8, 60), sampling=sampling))
    collected: dict[tuple[str, int], Collected] = {}
    while engine.has_work():
        collect(engine.step(), collected)
    assert [len(collected["x", index].tokens) for index in range(2)] == [80, 80]
    assert collected["x", 0].tokens != collected["x", 1].tokens
    assert_no_leak(engine)
