"""KV that is not exact: who finds it, and that nobody else ever does."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artesian.attention import SparseAttention
from artesian.engine.base import InvalidRequestError, Request, SamplingParams
from artesian.engine.engine import LLMEngine
from tests.engine.toy import (
    Collected,
    assert_no_leak,
    collect,
    greedy,
    make_engine,
    run,
    toy_runner,
)

SPARSE = SparseAttention(selector="progressive", min_context_tokens=8)
OTHER = SparseAttention(selector="progressive", min_context_tokens=8, epsilon=0.5)
PROMPT = list(range(10, 24))


def request(
    name: str,
    prompt: list[int],
    attention: SparseAttention | None = None,
    num_skipped: int | None = None,
    params: SamplingParams | None = None,
    **fields: object,
) -> Request:
    return Request(
        request_id=name,
        prompt_token_ids=prompt,
        sampling=params or greedy(12, ignore_eos=True),
        attention=attention,
        num_skipped=num_skipped,
        **fields,  # type: ignore[arg-type]
    )


def engine(**config: Any) -> LLMEngine:
    return make_engine(attention_summaries=True, attention_fallback="length", **config)


def alone(prompt: list[int], **how: object) -> list[int]:
    """Tokens of a request that has an engine for itself."""
    return run(engine(), request("r", prompt, **how))["r"].tokens  # type: ignore[arg-type]


def cached(one: LLMEngine, prompt: list[int], **how: object) -> int:
    """Tokens that a request over `prompt` finds."""
    done = run(one, request("c", prompt, **how))["c"]  # type: ignore[arg-type]
    assert done.last is not None
    return done.last.num_cached_tokens


def test_attention_and_skipping_change_what_is_computed() -> None:
    plain = alone(PROMPT)
    sparse = alone(PROMPT, attention=SPARSE)
    assert sparse[0] == plain[0]  # the prompt's last token attends to everything
    assert sparse != plain
    assert alone(PROMPT, num_skipped=2)[0] != plain[0]
    assert alone(PROMPT, attention=OTHER) != sparse


def test_prompts_are_shared_with_sparse_requests_and_their_answers_are_not() -> None:
    one = engine()
    plain = alone(PROMPT)
    answer = run(one, request("s", PROMPT, SPARSE))["s"].tokens
    assert answer == alone(PROMPT, attention=SPARSE)
    longer = PROMPT + answer + [1, 2]
    exact = alone(longer)
    assert cached(one, PROMPT) == 12  # three blocks of the prompt
    assert run(one, request("p", longer))["p"].tokens == exact
    assert run(one, request("q", PROMPT))["q"].tokens == plain


def test_a_sparse_request_finds_what_its_like_have_left() -> None:
    one = engine()
    answer = run(one, request("s", PROMPT, SPARSE))["s"].tokens
    longer = PROMPT + answer + [1, 2, 3]
    assert cached(one, longer, attention=OTHER) == 12
    one = engine()
    assert run(one, request("s", PROMPT, SPARSE))["s"].tokens == answer
    assert cached(one, longer, attention=SPARSE) == 24  # all that was computed: 25 tokens
    assert cached(one, longer) == 12


def test_a_sparse_request_prefers_exact_blocks() -> None:
    one = engine()
    plain = run(one, request("p", PROMPT))["p"].tokens
    assert cached(one, PROMPT + plain + [1, 2, 3], attention=SPARSE) == 24
    assert run(one, request("again", PROMPT))["again"].tokens == plain


def test_short_contexts_are_exact_until_the_least_context() -> None:
    late = SparseAttention(selector="progressive", min_context_tokens=20)
    one = engine()
    answer = run(one, request("s", PROMPT, late))["s"].tokens
    plain = alone(PROMPT)
    assert answer[:7] == plain[:7]
    assert answer != plain
    assert cached(one, PROMPT + answer) == 20


def test_each_skip_set_has_its_own_blocks() -> None:
    one = engine()
    two = run(one, request("two", PROMPT, num_skipped=2))["two"].tokens
    assert cached(one, PROMPT) == 0
    assert cached(one, PROMPT, num_skipped=3) == 0
    assert cached(one, PROMPT, num_skipped=2) == 12
    assert cached(one, PROMPT, num_skipped=2, attention=SPARSE) == 12
    assert cached(one, PROMPT + two, num_skipped=2) == 24
    assert run(one, request("r", PROMPT))["r"].tokens == alone(PROMPT)


@pytest.mark.parametrize("how", [{"attention": SPARSE}, {"num_skipped": 2}])
def test_over_a_restart_with_tiers(tmp_path: Path, how: dict[str, object]) -> None:
    first = engine(context_dir=tmp_path)
    answer = run(first, request("a", PROMPT, **how))["a"].tokens  # type: ignore[arg-type]
    first.close()
    longer = PROMPT + answer + [1, 2, 3]
    second = engine(context_dir=tmp_path)
    assert cached(second, longer, **how) == 24
    second.close()
    third = engine(context_dir=tmp_path)
    assert run(third, request("x", longer))["x"].tokens == alone(longer)
    third.close()


def test_a_session_that_is_deleted_leaves_no_block_behind() -> None:
    from artesian.engine.questions import Deleted, DeleteSession

    one = engine()
    run(one, request("s", PROMPT, SPARSE, session_id="talk"))
    assert one.cache.num_cached_blocks == 6
    reply = one.answer(DeleteSession("", "talk"))
    assert isinstance(reply, Deleted)
    assert one.cache.num_cached_blocks == 0


def test_a_request_that_goes_on_elsewhere_never_gives_wrong_names() -> None:
    """What an earlier worker has generated is computed anew, densely."""
    answer = alone(PROMPT, attention=SPARSE)
    one = engine()
    resumed = run(one, request("r", PROMPT, SPARSE, output_token_ids=answer[:5]))["r"].tokens
    assert len(resumed) == 7
    longer = PROMPT + answer[:5] + resumed
    assert run(one, request("x", longer))["x"].tokens == alone(longer)


def test_only_generated_tokens_attend_sparsely_however_prompts_are_cut() -> None:
    whole = alone(PROMPT, attention=SPARSE)
    one = make_engine(
        attention_summaries=True, attention_fallback="length", max_num_batched_tokens=1
    )
    assert run(one, request("r", PROMPT, SPARSE))["r"].tokens == whole


def test_what_cannot_be_had_is_refused() -> None:
    plain = make_engine()
    with pytest.raises(InvalidRequestError, match="summaries"):
        plain.add_request(request("r", PROMPT, SPARSE))
    plain.add_request(request("r", PROMPT, SparseAttention()))
    one = engine()
    with pytest.raises(InvalidRequestError, match="0 to 8"):
        one.add_request(request("r", PROMPT, num_skipped=9))
    with pytest.raises(InvalidRequestError, match="num_skipped"):
        one.add_request(request("r", PROMPT, num_skipped=-1))
    for wrong in (
        {"epsilon": 0.0},
        {"epsilon": float("nan")},
        {"budget_tokens": -1},
        {"selector": "best"},
        {"selector": "window"},
        {"min_context_tokens": 1.5},
    ):
        attention = SparseAttention(**{"selector": "progressive"} | wrong)
        with pytest.raises(InvalidRequestError, match="attention"):
            one.add_request(request("r", PROMPT, attention))
    assert not one.has_work()


def test_the_settings_are_what_requests_do_without_words() -> None:
    configured = {"attention": "progressive", "attention_min_context_tokens": 8}
    one = make_engine(attention_fallback="length", **configured)  # type: ignore[arg-type]
    assert one.info().attention.selector == "progressive"
    assert run(one, request("r", PROMPT))["r"].tokens == alone(PROMPT, attention=SPARSE)
    dense = SparseAttention()
    assert run(one, request("d", PROMPT, dense))["d"].tokens == alone(PROMPT)


def test_what_is_left_out_is_counted_and_audited(caplog: pytest.LogCaptureFixture) -> None:
    one = engine(attention_audit_steps=2, max_num_seqs=2)
    params = greedy(49, ignore_eos=True)
    run(one, request("s", PROMPT, SPARSE, params=params), request("d", PROMPT, params=params))
    stats = one.stats()
    assert stats.attention_sparse_tokens == 48  # the first token is the prompt's
    assert 0.5 < stats.attention_groups_read / stats.attention_groups_visible < 0.8
    assert stats.attention_audits == 24
    assert stats.attention_kept_weight == pytest.approx(24 * 0.95)
    assert stats.attention_estimated_weight == pytest.approx(24 * 0.975)
    assert not caplog.messages
    strict = SparseAttention(selector="progressive", min_context_tokens=8, epsilon=0.99)
    run(one, request("s", PROMPT, strict, params=params))
    assert any("sparse attention keeps" in message for message in caplog.messages)
    run(one, request("k", PROMPT, num_skipped=2))
    assert one.stats().skipping_tokens == 14 + 11


def test_sequences_that_read_all_anyhow_attend_to_everything() -> None:
    """The toy's first layer does so: it becomes a dense one. Others have no influence."""
    params = greedy(60, ignore_eos=True)
    adaptive = make_engine(attention_summaries=True)
    first = run(adaptive, request("a", PROMPT, SPARSE, params=params))["a"].tokens
    assert first != alone(PROMPT, attention=SPARSE, params=params)
    other = request("b", [7, *PROMPT], SPARSE, params=params)
    adaptive = make_engine(attention_summaries=True)
    again = run(adaptive, other, request("a", PROMPT, SPARSE, params=params))["a"].tokens
    assert again == first


@pytest.mark.parametrize("how", [{"attention": SPARSE}, {"num_skipped": 2}])
def test_windows_that_move_keep_both_apart(how: dict[str, Any]) -> None:
    one = engine(max_model_len=32, context_overflow="truncate")
    params = greedy(60, ignore_eos=True)
    fresh = engine(max_model_len=32, context_overflow="truncate")
    exact = run(fresh, request("r", PROMPT, params=params))["r"].tokens
    twin = engine(max_model_len=32, context_overflow="truncate")
    twin_tokens = run(twin, request("r", PROMPT, params=params, **how))["r"].tokens
    for turn in range(2):
        done = run(one, request(f"a{turn}", PROMPT, params=params, **how))
        assert done[f"a{turn}"].tokens == twin_tokens != exact
        done = run(one, request(f"e{turn}", PROMPT, params=params))
        assert done[f"e{turn}"].tokens == exact
    num_turned = toy_runner(one).num_turned
    run(one, request("last", PROMPT, params=params))
    run(one, request("last", PROMPT, params=params, **how))
    assert toy_runner(one).num_turned == num_turned  # each finds its own windows
    assert_no_leak(one)


MAX_MODEL_LEN = 48
ways = st.sampled_from([(None, 0), (SPARSE, 0), (OTHER, 0), (None, 2), (None, 3), (SPARSE, 2)])
prompts = st.builds(
    lambda head, tail: [head] * 6 + tail, st.integers(0, 1), st.lists(st.integers(0, 3), max_size=9)
)


@settings(max_examples=150, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 20), prompts, ways, st.integers(0, 1), st.booleans()),
        min_size=2,
        max_size=10,
    ),
    num_blocks=st.integers(MAX_MODEL_LEN // 4, 3 * MAX_MODEL_LEN // 4),
    budget=st.sampled_from([1, 7, 20]),
)
def test_exact_requests_never_see_what_others_leave(
    arrivals: list[tuple[int, list[int], tuple[SparseAttention | None, int], int, bool]],
    num_blocks: int,
    budget: int,
) -> None:
    """Among any others, with preemptions, and going on with others' answers."""
    sizes = {"block_size": 4, "max_model_len": MAX_MODEL_LEN}
    one = engine(num_blocks=num_blocks, max_num_batched_tokens=budget, **sizes)
    collected: dict[tuple[str, int], Collected] = {}
    requests: dict[str, Request] = {}
    rng = random.Random(0)
    for step in range(20_000):
        for index, (arrival, prompt, (attention, num), priority, follows) in enumerate(arrivals):
            if step != arrival:
                continue
            answers = [
                r.prompt_token_ids + collected[n, 0].tokens
                for n, r in requests.items()
                if (n, 0) in collected
            ]
            if follows and answers:
                prompt = rng.choice(answers)[: MAX_MODEL_LEN - 8] + prompt[:4]
            name = str(index)
            params = greedy(14, ignore_eos=True)
            requests[name] = request(name, prompt, attention, num, params, priority=priority)
            one.add_request(requests[name])
        if step > 20 and not one.has_work():
            break
        collect(one.step(), collected)
    assert not one.has_work()
    assert_no_leak(one)
    for name, asked in requests.items():
        done = collected[name, 0]
        assert done.finish_reason == "length"
        if asked.attention is None:
            fresh = engine(**sizes)
            assert done.tokens == run(fresh, asked)[name].tokens
    assert toy_runner(one).num_steps > 0
