"""Prompts that peers compute: the same tokens, whatever is cached, cancelled, late or lost."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from artesian.engine.base import Request, SamplingParams
from artesian.engine.engine import LLMEngine
from artesian.engine.handover import LandingTicket, PrefillDone, PrefillJob
from artesian.engine.peers import Peers
from artesian.engine.questions import Deleted, DeleteSession
from tests.engine.peer_twin import AwayIfLong, Cluster
from tests.engine.test_engine_properties import alone
from tests.engine.toy import (
    CRASH_TOKEN,
    Collected,
    assert_no_leak,
    collect,
    generate,
    greedy,
    make_engine,
    toy_runner,
)

PATIENCE_S = 5.0
PROMPT = [i % 90 for i in range(50)]


def serve(cluster: Cluster, *requests: Request, most: int = 5_000) -> dict[str, Collected]:
    """Runs requests, all at the first engine, to their ends."""
    collected: dict[tuple[str, int], Collected] = {}
    for request in requests:
        cluster.engines[0].add_request(request)
    for _ in range(most):
        if not cluster.has_work:
            break
        for engine in cluster.engines:
            if engine.has_work():
                collect(engine.step(), collected)
        cluster.route()
    assert not cluster.has_work, "no end"
    return {request_id: value for (request_id, _), value in collected.items()}


def request(prompt: list[int], name: str = "a") -> Request:
    return Request(request_id=name, prompt_token_ids=prompt, sampling=greedy())


def begin(cluster: Cluster) -> None:
    """Asks the first engine, and goes on until it decodes."""
    here = cluster.engines[0]
    here.add_request(request(PROMPT))
    while not here._scheduler.running:
        for engine in cluster.engines:
            engine.step()
        cluster.route()


def ask(engine: LLMEngine) -> tuple[Peers, PrefillJob]:
    """Has an engine ask for a prompt."""
    engine.add_request(request(PROMPT))
    engine.step()
    peers = engine.handover
    assert peers is not None
    [job] = peers.take_wanted()
    return peers, job


def prefilled_rows(cluster: Cluster) -> list[int]:
    return [toy_runner(engine).num_rows for engine in cluster.engines]


def test_a_peer_computes_all_but_the_last_token() -> None:
    cluster = Cluster(2)
    answer = serve(cluster, request(PROMPT))["a"]
    assert answer.tokens == generate(make_engine(), PROMPT, greedy()).tokens
    here, there = prefilled_rows(cluster)
    assert there == len(PROMPT) - 1
    assert here == len(answer.tokens)
    for engine in cluster.engines:
        assert_no_leak(engine)


def test_what_is_cached_here_is_not_written_and_what_is_cached_there_not_computed() -> None:
    cluster = Cluster(2, placement=AwayIfLong(10))
    first = serve(cluster, request(PROMPT))["a"]
    there = prefilled_rows(cluster)[1]
    again = serve(cluster, request(PROMPT, "b"))["b"]  # all cached here: a few tokens are left
    assert again.tokens == first.tokens
    assert prefilled_rows(cluster)[1] == there
    longer = serve(cluster, request(PROMPT + PROMPT, "c"))["c"]
    assert longer.tokens == generate(make_engine(), PROMPT + PROMPT, greedy()).tokens
    assert longer.last is not None and longer.last.num_cached_tokens >= 48
    assert prefilled_rows(cluster)[1] - there == 99 - 48


def test_short_prompts_are_computed_here() -> None:
    cluster = Cluster(2, placement=AwayIfLong(60))
    serve(cluster, request(PROMPT))
    assert prefilled_rows(cluster)[1] == 0


def test_a_job_that_is_lost_is_given_to_another_peer_or_computed_here() -> None:
    cluster = Cluster(2, loss=1.0)
    answer = serve(cluster, request(PROMPT))["a"]
    assert answer.tokens == generate(make_engine(), PROMPT, greedy()).tokens
    assert prefilled_rows(cluster) == [len(PROMPT) + len(answer.tokens) - 1, 0]
    assert_no_leak(cluster.engines[0])


def test_a_peer_that_takes_too_long_is_not_waited_for() -> None:
    cluster = Cluster(2, placement=AwayIfLong(1, patience_s=-1.0))
    answer = serve(cluster, request(PROMPT))["a"]
    assert answer.tokens == generate(make_engine(), PROMPT, greedy()).tokens
    for engine in cluster.engines:
        assert_no_leak(engine)


def test_blocks_are_kept_while_a_revoked_writer_is_writing() -> None:
    cluster = Cluster(2)
    engine = cluster.engines[0]
    peers, job = ask(engine)
    assert job.landing is not None
    pad = cluster.pads[job.landing.region]
    pad.slots[job.landing.slot].is_writing = True
    engine.abort("a")
    engine.step()
    assert engine.cache.num_used_blocks == len(job.landing.blocks)
    assert engine.has_work()
    pad.slots[job.landing.slot].is_writing = False
    engine.step()
    assert engine.cache.num_used_blocks == 0
    assert [unwanted.job_id for unwanted in peers.take_unwanted()] == [job.job_id]


def test_a_peer_that_says_done_too_early_is_not_believed() -> None:
    cluster = Cluster(2)
    engine = cluster.engines[0]
    peers, job = ask(engine)
    peers.end_job(PrefillDone(job_id=job.job_id, outcome="done"))
    assert peers.landings.stats.outcomes == {"failed": 1}
    answer = serve(cluster)["a"]
    assert answer.tokens == generate(make_engine(), PROMPT, greedy()).tokens
    assert_no_leak(engine)


def test_a_lease_that_nobody_renews_ends() -> None:
    cluster = Cluster(2, ratio=10.0)
    there = cluster.engines[1]
    begin(cluster)
    there.step()
    cluster.clock.now += 59.0
    there.step()
    assert there.cache.num_used_blocks > 0
    cluster.clock.now += 2.0
    there.step()
    assert_no_leak(there)
    answer = serve(cluster)["a"]  # it goes on here, and nothing is wrong
    assert answer.tokens == generate(make_engine(), PROMPT, greedy()).tokens[-len(answer.tokens) :]


def test_a_job_whose_tokens_the_model_refuses_fails_alone() -> None:
    cluster = Cluster(2)
    answers = serve(cluster, request([CRASH_TOKEN, *PROMPT]), request(PROMPT, "b"))
    assert answers["a"].finish_reason == "error"
    assert answers["b"].tokens == generate(make_engine(), PROMPT, greedy()).tokens
    assert "failed" in cluster.outcomes
    for engine in cluster.engines:
        assert_no_leak(engine)


def test_jobs_that_cannot_be_done_are_refused() -> None:
    cluster = Cluster(2)
    peers = cluster.engines[1].handover
    assert peers is not None
    landing = LandingTicket(region="elsewhere", slot=0, generation=1, first_block=0, blocks=[0])
    for number, (tokens, ticket) in enumerate(
        [
            ([1], landing),
            ([1, 1000], landing),
            ([1] * 500, landing),
            ([1, 2], None),
            ([1, 2], landing),
        ]
    ):
        peers.add_job(
            PrefillJob(job_id=str(number), request_id="r", token_ids=tokens, landing=ticket)
        )
    done = peers.take_done()
    assert [d.outcome for d in done] == ["refused"] * 5
    assert all(d.error for d in done)
    assert "elsewhere" in done[-1].error
    assert not cluster.engines[1].has_work()


def test_kv_that_stays_with_a_peer_takes_no_blocks_here() -> None:
    cluster = Cluster(2, ratio=10.0)
    here, there = cluster.engines
    begin(cluster)
    assert here.cache.num_used_blocks == 0
    assert there.cache.num_used_blocks == -(-(len(PROMPT) + 16) // 4)
    answer = serve(cluster)["a"]
    assert answer.tokens == generate(make_engine(), PROMPT, greedy()).tokens[-len(answer.tokens) :]
    assert cluster.executors["engine-1"].num_rows == 16
    for engine in cluster.engines:
        assert_no_leak(engine)
    # What it has become is cached there like any prompt.
    assert there.cache.num_cached_blocks == (len(PROMPT) + 15) // 4


def test_sequences_go_on_here_when_the_executor_is_gone() -> None:
    cluster = Cluster(2, ratio=10.0)
    begin(cluster)
    cluster.executors["engine-1"].is_alive = False
    answer = serve(cluster)["a"]
    assert answer.tokens == generate(make_engine(), PROMPT, greedy()).tokens[-len(answer.tokens) :]
    for engine in cluster.engines:
        assert_no_leak(engine)


def test_a_sequence_comes_home_when_nothing_hides_it_any_more() -> None:
    cluster = Cluster(2, ratio=1.0)
    other = [7, *PROMPT]
    requests = [
        Request(request_id=name, prompt_token_ids=prompt, sampling=greedy(count))
        for name, prompt, count in (("a", PROMPT, 40), ("b", other, 8), ("c", other[::-1], 8))
    ]
    answers = serve(cluster, *requests)
    for each in requests:
        wanted = generate(make_engine(), each.prompt_token_ids, each.sampling)
        assert answers[each.request_id].tokens == wanted.tokens
    here, there = prefilled_rows(cluster)
    assert 0 < cluster.executors["engine-1"].num_rows < len(answers["a"].tokens)
    # The peer has not computed again what it had, but for less than two blocks of each.
    assert there < sum(len(each.prompt_token_ids) for each in requests) + 2 * 8
    assert here < 40 + 8 + 8
    for engine in cluster.engines:
        assert_no_leak(engine)


def test_a_session_is_deleted_where_its_prompt_was_computed_too() -> None:
    for ratio in (None, 10.0):
        cluster = Cluster(2, ratio=ratio)
        asked = msgspec.structs.replace(request(PROMPT), session_id="s")
        serve(cluster, asked)
        for engine in cluster.engines[1:] if ratio else cluster.engines:
            assert engine.cache.num_cached_blocks > 0
            reply = engine.answer(DeleteSession("", "s"))
            assert isinstance(reply, Deleted)
            assert reply.is_known
            while engine.has_work():
                engine.step()
            assert engine.cache.num_cached_blocks == 0


def test_what_a_dead_owner_had_here_goes() -> None:
    cluster = Cluster(2, ratio=10.0)
    there = cluster.engines[1]
    begin(cluster)
    assert there.handover is not None
    there.handover.end_peer("engine-2")
    assert there.cache.num_used_blocks > 0
    there.handover.end_peer("engine-0")
    assert_no_leak(there)


prompts = st.builds(
    lambda head, tail: [head] * 9 + tail if head else tail,
    st.integers(0, 2),
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
)
arrivals = st.lists(
    st.tuples(
        st.integers(0, 12),
        prompts,
        st.integers(1, 20),
        st.integers(-1, 1),
        st.sampled_from([None, None, None, 0, 2, 9]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    arrivals=arrivals,
    num_engines=st.integers(2, 3),
    num_blocks=st.integers(12, 40),
    max_num_seqs=st.integers(1, 5),
    budget=st.sampled_from([1, 7, 20, 200]),
    caching=st.booleans(),
    seed=st.integers(0, 1000),
    loss=st.sampled_from([0.0, 0.0, 0.3]),
    min_tokens=st.sampled_from([1, 8]),
    ratio=st.sampled_from([None, 0.3, 1.0, 10.0]),
    fails=st.sampled_from([0.0, 0.0, 0.05]),
)
def test_every_request_ends_with_its_own_tokens_among_peers(
    arrivals: list[tuple[int, list[int], int, int, int | None, int]],
    num_engines: int,
    num_blocks: int,
    max_num_seqs: int,
    budget: int,
    caching: bool,
    seed: int,
    loss: float,
    min_tokens: int,
    ratio: float | None,
    fails: float,
) -> None:
    """Engines that all decode and all compute for each other, in little memory."""
    cluster = Cluster(
        num_engines,
        seed,
        AwayIfLong(min_tokens, PATIENCE_S),
        loss,
        ratio,
        num_blocks=num_blocks,
        max_model_len=48,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
        max_queue_len=100,
        enable_prefix_caching=caching,
    )
    for executor in cluster.executors.values():
        executor.fails = fails
    collected: dict[tuple[str, int], Collected] = {}
    placed: dict[str, int] = {}
    aborted: set[str] = set()
    for step in range(5_000):
        for number, (begin, prompt, count, priority, end, place) in enumerate(arrivals):
            name = str(number)
            engine = cluster.engines[place % num_engines]
            if step == begin:
                placed[name] = place % num_engines
                sampling = SamplingParams(temperature=0, max_tokens=count)
                engine.add_request(
                    Request(
                        request_id=name,
                        prompt_token_ids=prompt,
                        sampling=sampling,
                        priority=priority,
                    )
                )
            if end is not None and step == begin + end:
                engine.abort(name)
                aborted.add(name)
        for engine in cluster.engines:
            if engine.has_work():
                collect(engine.step(), collected)
        cluster.route()
        if step > 25 and not cluster.has_work:
            break
    assert not cluster.has_work, "no end"
    for number, (_, prompt, count, *_) in enumerate(arrivals):
        got = collected[str(number), 0]
        [(tokens, text)] = alone(prompt, SamplingParams(temperature=0, max_tokens=count))
        if got.finish_reason == "abort":
            assert str(number) in aborted
            assert got.tokens == tokens[: len(got.tokens)]
        else:
            assert (got.tokens, got.text) == (tokens, text)
    for engine in cluster.engines:
        assert_no_leak(engine)
        assert all(not slot.is_used for pad in cluster.pads.values() for slot in pad.slots)
