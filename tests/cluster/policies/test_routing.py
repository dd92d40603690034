"""Who serves a request, and who computes its prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artesian.cluster.policies import (
    BalancedMap,
    LeastConnections,
    LeastPredictedTime,
    PrefillDecodeMap,
    RandomChoice,
    RequestView,
    RoundRobin,
    Router,
    StaticMap,
    WorkerLoad,
    prefill_rank,
)

REQUEST = RequestView(num_prompt_tokens=1000, num_output_tokens=100)
loads = st.builds(
    WorkerLoad,
    worker_id=st.uuids().map(str),
    role=st.sampled_from(["both", "prefill", "decode"]),
    is_available=st.booleans(),
    num_running=st.integers(0, 8),
    num_waiting=st.integers(0, 8),
    num_free_slots=st.integers(0, 8),
    queued_tokens=st.integers(0, 10_000),
    free_blocks=st.integers(0, 200),
    step_s=st.floats(0, 0.1),
    token_s=st.floats(0, 0.01),
)
fleets = st.lists(loads, max_size=6, unique_by=lambda load: load.worker_id)
requests = st.builds(
    RequestView,
    num_prompt_tokens=st.integers(1, 5000),
    num_output_tokens=st.integers(1, 500),
    priority=st.integers(-1, 1),
    key=st.text(max_size=3),
)
ROUTERS = (LeastPredictedTime, RoundRobin, RandomChoice, LeastConnections)


@pytest.mark.parametrize("make", ROUTERS)
@given(fleet=fleets, request_=requests)
def test_nobody_is_sent_to_who_takes_nothing(
    make: type[Router], fleet: list[WorkerLoad], request_: RequestView
) -> None:
    chosen = make().choose(request_, fleet)
    available = {load.worker_id: load for load in fleet if load.is_available}
    assert (chosen is None) == (not available)
    if chosen is not None and any(load.role != "prefill" for load in available.values()):
        assert available[chosen].role != "prefill"


@pytest.mark.parametrize("make", [BalancedMap, StaticMap])
@given(fleet=fleets, decode=loads)
def test_prompts_go_to_available_prefill_workers(
    make: type[PrefillDecodeMap], fleet: list[WorkerLoad], decode: WorkerLoad
) -> None:
    fleet = [*fleet, decode]
    could = {w.worker_id for w in fleet if w.is_available and w.role == "prefill"}
    could.discard(decode.worker_id)
    chosen = make().choose(REQUEST, decode, fleet)
    assert chosen in could if could else chosen is None


def test_least_time_sees_queues_speeds_room_and_cached_tokens() -> None:
    def first(a: WorkerLoad, b: WorkerLoad, request: RequestView = REQUEST) -> str | None:
        return LeastPredictedTime().choose(request, [a, b])

    idle = WorkerLoad(worker_id="a", token_s=1e-3, step_s=0.02)
    queue = WorkerLoad(worker_id="b", token_s=1e-3, step_s=0.02, queued_tokens=5000)
    assert first(queue, idle) == "a"
    slow = WorkerLoad(worker_id="b", token_s=1e-3, step_s=0.06)
    assert first(slow, idle) == "a"
    full = WorkerLoad(worker_id="b", token_s=1e-3, step_s=0.02, num_running=4, num_free_slots=0)
    assert first(full, idle) == "a"
    small = WorkerLoad(worker_id="b", token_s=1e-3, step_s=0.02, num_running=4, free_blocks=3)
    assert first(small, idle) == "a"
    knows = RequestView(num_prompt_tokens=1000, num_output_tokens=100, cached_tokens={"b": 900})
    twin = WorkerLoad(worker_id="b", token_s=1e-3, step_s=0.02)
    assert first(idle, twin, knows) == "b"
    assert first(idle, queue, knows) == "a", "a hit is not worth a queue of 5 seconds"


def test_an_urgent_request_passes_over_the_queue() -> None:
    queue = WorkerLoad(worker_id="a", token_s=1e-3, step_s=0.02, queued_tokens=5000, num_waiting=5)
    slow = WorkerLoad(worker_id="b", token_s=1e-3, step_s=0.03)
    urgent = RequestView(num_prompt_tokens=1000, num_output_tokens=100, priority=-1)
    assert LeastPredictedTime().choose(REQUEST, [queue, slow]) == "b"
    assert LeastPredictedTime().choose(urgent, [queue, slow]) == "a"


def test_sessions_stay_where_they_are_among_equals_and_spread() -> None:
    fleet = [WorkerLoad(worker_id=f"w{number}", step_s=0.02) for number in range(4)]
    router = LeastPredictedTime()

    def place(key: str, workers: list[WorkerLoad]) -> str | None:
        return router.choose(RequestView(num_prompt_tokens=10, key=key), workers)

    places = {f"s{n}": place(f"s{n}", fleet) for n in range(100)}
    assert all(list(places.values()).count(load.worker_id) >= 10 for load in fleet)
    assert all(place(key, fleet[::-1]) == name for key, name in places.items())
    moved = [key for key, name in places.items() if place(key, fleet[1:]) != name]
    assert {places[key] for key in moved} == {"w0"}, "only those of the one that left move"


def test_round_robin_goes_round_whoever_comes_and_goes() -> None:
    fleet = [WorkerLoad(worker_id=name) for name in "cab"]
    router = RoundRobin()
    assert [router.choose(REQUEST, fleet) for _ in range(4)] == ["a", "b", "c", "a"]
    assert router.choose(REQUEST, [fleet[0]]) == "c"
    assert router.choose(REQUEST, fleet) == "a"


def test_the_balanced_map_takes_who_is_done_first() -> None:
    decode = WorkerLoad(worker_id="d", role="decode")
    fleet = [
        WorkerLoad(worker_id="p", role="prefill", token_s=1e-3, queued_tokens=3000),
        WorkerLoad(worker_id="q", role="prefill", token_s=2e-3, queued_tokens=100),
        decode,
    ]
    assert BalancedMap().choose(REQUEST, decode, fleet) == "q"
    cached = RequestView(num_prompt_tokens=4000, cached_tokens={"p": 3999})
    assert BalancedMap().choose(cached, decode, fleet) == "p"


def test_the_static_map_deals_decode_workers_out_evenly() -> None:
    prefill = [WorkerLoad(worker_id=f"p{n}", role="prefill") for n in range(2)]
    decode = [WorkerLoad(worker_id=f"d{n}", role="decode") for n in range(4)]
    fleet = prefill + decode
    chosen = [StaticMap().choose(REQUEST, load, fleet) for load in decode]
    assert chosen == ["p0", "p0", "p1", "p1"]


def test_the_formula_of_the_paper() -> None:
    """32 prefill ranks, 320 decode ranks of one: groups of 10."""
    ranks = [prefill_rank(d, 0, prefill_tp=32, decode_tp=1, decode_dp=320) for d in range(320)]
    assert ranks == [d // 10 for d in range(320)]
    ranks = [
        prefill_rank(d, t, prefill_tp=8, decode_tp=2, decode_dp=8)
        for d in range(8)
        for t in range(2)
    ]
    assert ranks == [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7]
    with pytest.raises(ValueError, match="multiple"):
        prefill_rank(0, 0, prefill_tp=3, decode_tp=2, decode_dp=4)
    with pytest.raises(ValueError, match="no rank"):
        prefill_rank(4, 0, prefill_tp=2, decode_tp=2, decode_dp=4)
