"""Whatever arrives, whenever, with however few blocks: every request ends with its own tokens."""

from hypothesis import given, settings
from hypothesis import strategies as st

from artesian.engine.base import QueueFullError, Request, SamplingParams
from artesian.engine.engine import LLMEngine
from tests.engine.toy import Collected, assert_no_leak, collect, make_engine, run

MAX_MODEL_LEN = 48
BLOCK_SIZE = 4
MIN_BLOCKS = MAX_MODEL_LEN // BLOCK_SIZE

# Few first tokens, so that prefixes meet.
prompts = st.builds(
    lambda head, tail: [head] * 6 + tail if head else tail,
    st.integers(0, 2),
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
)
sampling = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 3),
    n=st.sampled_from([1, 1, 1, 3]),
    max_tokens=st.integers(1, 25),
    ignore_eos=st.booleans(),
    frequency_penalty=st.sampled_from([0.0, 0.0, 1.5]),
    prompt_logprobs=st.sampled_from([None, None, None, 1]),
    stop=st.sampled_from([(), (), ("A", "b0")]),
)
arrivals = st.lists(
    st.tuples(
        st.integers(0, 12),  # steps before it arrives
        prompts,
        sampling,
        st.integers(-1, 1),  # priority
        st.sampled_from([None, None, None, 0, 1, 5]),  # steps until it is aborted
    ),
    min_size=1,
    max_size=10,
)


def alone(prompt: list[int], params: SamplingParams) -> list[tuple[list[int], str]]:
    """Tokens and text of each completion, in an engine with room for all."""
    engine = make_engine(max_model_len=MAX_MODEL_LEN, block_size=BLOCK_SIZE)
    request = Request(request_id="r", prompt_token_ids=prompt, sampling=params)
    collected: dict[tuple[str, int], Collected] = {}
    engine.add_request(request)
    while engine.has_work():
        collect(engine.step(), collected)
    return [(collected["r", i].tokens, collected["r", i].text) for i in range(params.n)]


@settings(max_examples=150, deadline=None)
@given(
    arrivals=arrivals,
    num_blocks=st.integers(MIN_BLOCKS, 3 * MIN_BLOCKS),
    max_num_seqs=st.integers(1, 6),
    budget=st.sampled_from([1, 7, 20, 200]),
    caching=st.booleans(),
)
def test_every_request_ends_with_its_own_tokens(
    arrivals: list[tuple[int, list[int], SamplingParams, int, int | None]],
    num_blocks: int,
    max_num_seqs: int,
    budget: int,
    caching: bool,
) -> None:
    engine = make_engine(
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
        max_queue_len=100,
        enable_prefix_caching=caching,
    )
    check_arrivals(engine, arrivals)


def check_arrivals(
    engine: LLMEngine, arrivals: list[tuple[int, list[int], SamplingParams, int, int | None]]
) -> None:
    """Runs them; each must end with what it gives alone, or a beginning of that if aborted."""
    collected: dict[tuple[str, int], Collected] = {}
    aborted: set[str] = set()
    for step in range(20_000):
        for index, (arrival, prompt, params, priority, abort_after) in enumerate(arrivals):
            if step == arrival:
                engine.add_request(
                    Request(
                        request_id=str(index),
                        prompt_token_ids=prompt,
                        sampling=params,
                        priority=priority,
                    )
                )
            if abort_after is not None and step == arrival + abort_after:
                engine.abort(str(index))
                aborted.add(str(index))
        if step > 12 + 5 and not engine.has_work():
            break
        collect(engine.step(), collected)
    assert not engine.has_work(), "the engine did not come to an end"
    assert_no_leak(engine)
    for index, (_, prompt, params, _, _) in enumerate(arrivals):
        for completion, (tokens, text) in enumerate(alone(prompt, params)):
            got = collected[str(index), completion]
            assert got.finish_reason is not None
            if got.finish_reason == "abort":
                assert str(index) in aborted
                assert got.tokens == tokens[: len(got.tokens)]
            else:
                assert (got.tokens, got.text) == (tokens, text)


@settings(max_examples=30, deadline=None)
@given(
    prompt=st.lists(st.integers(0, 90), min_size=1, max_size=20),
    params=st.builds(
        SamplingParams,
        temperature=st.sampled_from([0.0, 0.8]),
        seed=st.integers(0, 99),
        max_tokens=st.integers(1, 20),
        presence_penalty=st.sampled_from([0.0, 1.0]),
        stop=st.sampled_from([(), ("A", "B", "CD")]),
        min_tokens=st.sampled_from([0, 1]),
    ),
    cut=st.floats(0, 1),
)
def test_a_request_resumed_anywhere_gives_the_rest(
    prompt: list[int], params: SamplingParams, cut: float
) -> None:
    engine = make_engine()
    whole: list[tuple[list[int], str]] = []
    engine.add_request(Request(request_id="w", prompt_token_ids=prompt, sampling=params))
    while engine.has_work():
        whole += [(output.token_ids, output.text) for output in engine.step()]
    at = int(cut * (len(whole) - 1))
    rest = run(
        make_engine(),
        Request(
            request_id="r",
            prompt_token_ids=prompt,
            sampling=params,
            output_token_ids=[token for tokens, _ in whole[:at] for token in tokens],
        ),
    )["r"]
    assert rest.tokens == [token for tokens, _ in whole[at:] for token in tokens]
    assert rest.text == "".join(text for _, text in whole[at:])


@settings(max_examples=20, deadline=None)
@given(max_queue_len=st.integers(1, 8), num_requests=st.integers(1, 40))
def test_the_queue_never_exceeds_its_bound(max_queue_len: int, num_requests: int) -> None:
    engine = make_engine(max_num_seqs=2, max_queue_len=max_queue_len)
    num_taken = 0
    for index in range(num_requests):
        try:
            engine.add_request(
                Request(
                    request_id=str(index),
                    prompt_token_ids=[1, 2, 3],
                    sampling=SamplingParams(temperature=0, max_tokens=3),
                )
            )
            num_taken += 1
        except QueueFullError:
            assert engine.num_free_places == 0
        if index % 3 == 0:
            engine.step()
        assert engine.stats().num_requests_waiting <= max_queue_len + 2
    num_ended = 0
    while engine.has_work():
        num_ended += sum(output.finish_reason is not None for output in engine.step())
    assert_no_leak(engine)
    assert num_ended <= num_taken
