"""The engine over a toy model whose tokens betray any wrong block."""

import pytest

from artesian.engine.base import (
    InvalidRequestError,
    QueueFullError,
    Request,
    RequestOutput,
    SamplingParams,
)
from tests.engine.toy import (
    CRASH_TOKEN,
    EOS,
    NAN_TOKEN,
    Clock,
    Collected,
    assert_no_leak,
    collect,
    generate,
    greedy,
    make_engine,
    run,
    toy_runner,
)

PROMPTS = [[(7 * i + j * j) % 97 for j in range(3 + 5 * i)] for i in range(16)]


def make_request(
    name: object, prompt: list[int], params: SamplingParams, **more: object
) -> Request:
    return Request(
        request_id=str(name),
        prompt_token_ids=prompt,
        sampling=params,
        **more,  # type: ignore[arg-type]
    )


def alone(prompt: list[int], params: SamplingParams) -> list[int]:
    return generate(make_engine(), prompt, params).tokens


@pytest.mark.parametrize("params", [greedy(20), SamplingParams(seed=5, max_tokens=20)])
@pytest.mark.parametrize("budget", [64, 1024])
def test_tokens_are_the_same_in_a_batch_of_16(params: SamplingParams, budget: int) -> None:
    engine = make_engine(num_blocks=600, max_num_batched_tokens=budget)
    requests = [make_request(i, prompt, params) for i, prompt in enumerate(PROMPTS)]
    together = run(engine, *requests)
    assert toy_runner(engine).max_sequences >= (16 if budget == 1024 else 4)
    for i, prompt in enumerate(PROMPTS):
        assert together[str(i)].tokens == alone(prompt, params)
    assert_no_leak(engine)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1024])
def test_tokens_are_the_same_for_every_chunk_size(chunk: int) -> None:
    prompt = [i * 31 % 97 for i in range(90)]
    engine = make_engine(max_num_batched_tokens=chunk)
    assert generate(engine, prompt, greedy()).tokens == alone(prompt, greedy())
    assert_no_leak(engine)


def test_a_prefix_hit_skips_the_work_and_keeps_the_tokens() -> None:
    engine = make_engine()
    prompt = [i * 13 % 97 for i in range(41)]
    first = generate(engine, prompt, greedy())
    rows = toy_runner(engine).num_rows
    second = generate(engine, prompt, greedy())
    assert first.tokens == second.tokens
    assert first.last is not None
    assert second.last is not None
    assert (first.last.num_cached_tokens, second.last.num_cached_tokens) == (0, 40)
    assert toy_runner(engine).num_rows - rows == 1 + len(second.tokens) - 1
    stats = engine.stats()
    assert (stats.prefix_cache_queries_tokens, stats.prefix_cache_hits_tokens) == (82, 40)


def test_at_least_one_token_is_recomputed() -> None:
    engine = make_engine(block_size=4)
    prompt = list(range(16))
    generate(engine, prompt, greedy())
    again = generate(engine, prompt, greedy())
    assert again.last is not None
    assert again.last.num_cached_tokens == 12
    assert again.tokens == alone(prompt, greedy())


def test_a_second_turn_reuses_the_blocks_of_the_answer() -> None:
    engine = make_engine()
    prompt = list(range(10))
    first = generate(engine, prompt, greedy(12, ignore_eos=True))
    turn = prompt + first.tokens + [50, 51, 52]
    second = generate(engine, turn, greedy())
    assert second.last is not None
    assert second.last.num_cached_tokens == (10 + 12 - 1) // 4 * 4
    assert second.tokens == alone(turn, greedy())


def test_salts_and_switched_off_caching_do_not_share() -> None:
    prompt = list(range(30))
    engine = make_engine()
    run(engine, make_request("a", prompt, greedy(), cache_salt="one"))
    other = run(engine, make_request("b", prompt, greedy(), cache_salt="two"))["b"]
    assert other.last is not None
    assert other.last.num_cached_tokens == 0
    engine = make_engine(enable_prefix_caching=False)
    generate(engine, prompt, greedy())
    again = generate(engine, prompt, greedy())
    assert again.last is not None
    assert again.last.num_cached_tokens == 0
    assert engine.cache.num_cached_blocks == 0
    assert_no_leak(engine)


def test_preemption_keeps_the_tokens() -> None:
    engine = make_engine(num_blocks=32, max_model_len=128)
    params = greedy(60, ignore_eos=True)
    prompts = [[i, 2, 3, 4, 5] for i in range(6)]
    requests = [make_request(i, prompt, params) for i, prompt in enumerate(prompts)]
    together = run(engine, *requests)
    assert engine.stats().num_preemptions > 0
    for i, prompt in enumerate(prompts):
        assert together[str(i)].tokens == alone(prompt, params)
    assert sum(c.last.metrics.num_preemptions for c in together.values() if c.last) > 0
    assert_no_leak(engine)


def test_requests_with_a_common_prefix_do_not_compute_it_twice() -> None:
    engine = make_engine(num_blocks=200, max_num_batched_tokens=16)
    common = [i * 7 % 97 for i in range(80)]
    requests = [make_request(i, [*common, i], greedy(4)) for i in range(4)]
    together = run(engine, *requests)
    assert toy_runner(engine).num_rows < 80 + 4 * (1 + 4) + 4
    for i in range(4):
        assert together[str(i)].tokens == alone([*common, i], greedy(4))
    assert_no_leak(engine)


@pytest.mark.parametrize("caching", [True, False])
def test_n_completions_share_the_prompt(caching: bool) -> None:
    engine = make_engine(num_blocks=100, enable_prefix_caching=caching)
    prompt = [i * 3 % 97 for i in range(33)]
    params = SamplingParams(n=5, seed=3, max_tokens=6, ignore_eos=True)
    engine.add_request(make_request("r", prompt, params))
    collected: dict[tuple[str, int], Collected] = {}
    while engine.has_work():
        collect(engine.step(), collected)
    assert sorted(collected) == [("r", i) for i in range(5)]
    assert len({tuple(c.tokens) for c in collected.values()}) > 1
    assert collected["r", 0].tokens == alone(
        prompt, SamplingParams(seed=3, max_tokens=6, ignore_eos=True)
    )
    assert toy_runner(engine).num_rows == 33 + 4 * 1 + 5 * 5
    assert_no_leak(engine)


def test_better_priority_runs_first_and_takes_the_place_of_worse() -> None:
    engine = make_engine(max_num_seqs=1)
    engine.add_request(make_request("low", [1, 2, 3], greedy(30, ignore_eos=True), priority=5))
    for _ in range(3):
        engine.step()
    engine.add_request(make_request("later", [4, 5], greedy(4, ignore_eos=True), priority=5))
    engine.add_request(make_request("urgent", [7, 8], greedy(4, ignore_eos=True), priority=-1))
    ends = []
    while engine.has_work():
        ends += [o.request_id for o in engine.step() if o.finish_reason]
    assert ends == ["urgent", "low", "later"]
    assert engine.stats().num_preemptions == 1


def test_an_aborted_request_frees_its_blocks() -> None:
    engine = make_engine()
    engine.add_request(make_request("a", list(range(20)), greedy(50, ignore_eos=True)))
    engine.step()
    assert engine.cache.num_used_blocks > 0
    engine.abort("a")
    engine.abort("never seen")
    assert engine.cache.num_used_blocks == 0
    outputs = engine.step()
    assert [o.finish_reason for o in outputs] == ["abort"]
    assert not engine.has_work()
    assert_no_leak(engine)


def test_a_deadline_ends_a_request_running_or_waiting() -> None:
    clock = Clock()
    engine = make_engine(clock=clock, max_num_seqs=1)
    engine.add_request(make_request("runs", [1], greedy(90, ignore_eos=True), timeout_s=5.0))
    engine.add_request(make_request("waits", [2], greedy(90, ignore_eos=True), timeout_s=2.0))
    engine.add_request(make_request("free", [3], greedy(2, ignore_eos=True)))
    ends: dict[str, tuple[object, float]] = {}
    while engine.has_work():
        ends |= {
            o.request_id: (o.finish_reason, clock.now) for o in engine.step() if o.finish_reason
        }
        clock.now += 1
    assert ends["waits"] == ("deadline", 1002.0)
    assert ends["runs"] == ("deadline", 1005.0)
    assert ends["free"][0] == "length"
    assert_no_leak(engine)


def test_the_queue_is_bounded() -> None:
    engine = make_engine(max_num_seqs=2, max_queue_len=3)
    for i in range(5):
        engine.add_request(make_request(i, [1, 2], greedy(2)))
    with pytest.raises(QueueFullError, match="max_queue_len"):
        engine.add_request(make_request("more", [1, 2], greedy(2)))
    engine.step()
    assert engine.stats().num_requests_running == 2
    assert engine.stats().num_requests_waiting == 3
    while engine.has_work():
        engine.step()
    assert_no_leak(engine)


@pytest.mark.parametrize("bad", [NAN_TOKEN, CRASH_TOKEN])
def test_a_failing_request_fails_alone(bad: int) -> None:
    engine = make_engine()
    results = run(
        engine,
        make_request("good", [1, 2, 3], greedy()),
        make_request("bad", [4, bad, 5], greedy()),
        make_request("fine", [6, 7], greedy()),
    )
    assert results["bad"].finish_reason == "error"
    assert results["bad"].last is not None
    assert results["bad"].last.error
    assert results["good"].tokens == alone([1, 2, 3], greedy())
    assert results["fine"].tokens == alone([6, 7], greedy())
    assert_no_leak(engine)


def test_a_resumed_request_goes_on_where_it_was() -> None:
    params = SamplingParams(seed=11, max_tokens=20, ignore_eos=True)
    prompt = [5, 6, 7]
    whole = generate(make_engine(), prompt, params)
    resumed = run(
        make_engine(), make_request("r", prompt, params, output_token_ids=whole.tokens[:8])
    )["r"]
    assert resumed.tokens == whole.tokens[8:]
    assert whole.text.endswith(resumed.text)
    assert len(resumed.text) == 12
    assert resumed.last is not None
    assert resumed.last.num_output_tokens == 20
    ended = run(make_engine(), make_request("r", prompt, params, output_token_ids=whole.tokens))[
        "r"
    ]
    assert (ended.tokens, ended.finish_reason) == ([], "length")


def test_an_over_long_prompt_is_refused_with_both_numbers() -> None:
    engine = make_engine(max_model_len=50)
    with pytest.raises(InvalidRequestError, match=r"50 tokens.*50"):
        engine.add_request(make_request("r", [1] * 50, greedy()))
    result = generate(engine, [1] * 49, greedy(None, ignore_eos=True))
    assert (len(result.tokens), result.finish_reason) == (1, "length")


def test_eos_ends_unless_ignored_or_too_early() -> None:
    bias = {EOS: 100.0}
    ended = generate(make_engine(), [1, 2], greedy(9, logit_bias=bias))
    assert (ended.tokens, ended.text, ended.finish_reason) == ([EOS], "", "stop")
    assert ended.last is not None
    assert ended.last.stop_reason is None
    late = generate(make_engine(), [1, 2], greedy(9, logit_bias=bias, min_tokens=4))
    assert late.tokens.index(EOS) == 4
    ignored = generate(make_engine(), [1, 2], greedy(9, logit_bias=bias, ignore_eos=True))
    assert ignored.tokens == [EOS] * 9


def test_stop_ids_and_stop_strings_end_the_text() -> None:
    whole = generate(make_engine(), [1, 2], greedy(12, ignore_eos=True))
    stop_id = whole.tokens[5]
    result = generate(make_engine(), [1, 2], greedy(12, ignore_eos=True, stop_token_ids=(stop_id,)))
    assert result.text == whole.text[:5]
    assert result.last is not None
    assert (result.finish_reason, result.last.stop_reason) == ("stop", stop_id)
    stop = whole.text[6:9]
    result = generate(make_engine(), [1, 2], greedy(12, ignore_eos=True, stop=(stop,)))
    assert result.text == whole.text[:6]
    assert result.last is not None
    assert (result.finish_reason, result.last.stop_reason) == ("stop", stop)
    result = generate(
        make_engine(),
        [1, 2],
        greedy(12, ignore_eos=True, stop=(stop,), include_stop_str_in_output=True),
    )
    assert result.text == whole.text[:9]


def test_logprobs_and_prompt_logprobs_survive_chunks_and_batches() -> None:
    prompt = [i * 11 % 97 for i in range(70)]
    params = greedy(5, logprobs=3, prompt_logprobs=2, ignore_eos=True)

    def logprobs(engine_budget: int) -> tuple[object, object]:
        engine = make_engine(max_num_batched_tokens=engine_budget, num_blocks=200)
        engine.add_request(make_request("mate", prompt, greedy(5)))
        engine.add_request(make_request("r", prompt, params))
        of_prompt, of_output = None, []
        while engine.has_work():
            for output in engine.step():
                if output.request_id == "r":
                    of_prompt = output.prompt_logprobs or of_prompt
                    of_output += output.logprobs or []
        return of_prompt, of_output

    of_prompt, of_output = logprobs(64)
    assert isinstance(of_prompt, list)
    assert isinstance(of_output, list)
    assert len(of_prompt) == 70
    assert of_prompt[0] is None
    assert [entry.chosen.token_id for entry in of_prompt[1:]] == prompt[1:]
    assert all(len(entry.top) == 2 for entry in of_prompt[1:])
    assert len(of_output) == 5
    assert all(entry.chosen == entry.top[0] for entry in of_output)
    assert logprobs(9) == (of_prompt, of_output)


def test_metrics_measure_the_phases() -> None:
    clock = Clock()
    engine = make_engine(clock=clock, max_num_seqs=1)
    engine.add_request(make_request("first", [1], greedy(3, ignore_eos=True)))
    engine.add_request(make_request("second", [2], greedy(2, ignore_eos=True)))
    last: dict[str, RequestOutput] = {}
    while engine.has_work():
        last |= {output.request_id: output for output in engine.step()}
        clock.now += 1
    metrics = last["second"].metrics
    assert (metrics.queue_ms, metrics.ttft_ms, metrics.e2e_ms) == (3000, 3000, 4000)
