"""Requests over several real workers with the toy engine, and what deaths do to them."""

import asyncio
import os
import random
from collections.abc import Sequence

import pytest

from artesian.cluster.base import Change, SetRole
from artesian.cluster.fleet import Fleet, Policies
from artesian.cluster.policies import RoleBalancer, RoleChange, WorkerLoad
from artesian.engine.base import InvalidRequestError, QueueFullError, RequestOutput
from artesian.engine.questions import Deleted, DeleteSession, ListSessions, Sessions
from artesian.worker.base import WorkerDiedError, WorkerUnavailableError
from artesian.worker.hooks import Hooks
from artesian.worker.stream import RequestStream
from tests.cluster.conftest import StartWorkers, Workers
from tests.worker.test_hooks import Recorder
from tests.worker.test_supervisor import BUFFER_TOKENS, collect, request, text_of, until
from tests.worker.toy import continuation

LONG = "x" * 60


async def run(
    fleet: Fleet, prompt: str, request_id: str, num_tokens: int = 60
) -> list[RequestOutput]:
    stream = await fleet.submit(request(prompt, request_id, max_tokens=num_tokens), BUFFER_TOKENS)
    return await collect(stream)


def tokens_of(outputs: list[RequestOutput], index: int = 0) -> list[int]:
    return [token for output in outputs if output.index == index for token in output.token_ids]


async def test_requests_go_to_all_workers_that_decode(make_workers: StartWorkers) -> None:
    workers = make_workers("both", "decode", "prefill")
    recorder = Recorder()
    fleet = await workers.front(Hooks(observers=[recorder]))
    outputs = await asyncio.gather(*(run(fleet, "ab", str(i)) for i in range(12)))
    assert [text_of(each) for each in outputs] == [continuation("ab", 60)] * 12
    used = {event.worker for event in recorder.events if event.kind == "routed"}
    assert used == {"w1.1", "w2.1"}
    assert fleet.num_in_flight == 0
    await until(lambda: fleet.stats.generation_tokens == 12 * 60)


@pytest.mark.parametrize("n", [1, 3])
async def test_a_killed_worker_costs_no_token(make_workers: StartWorkers, n: int) -> None:
    workers = make_workers("both", "both")
    fleet = await workers.front()
    streams = await asyncio.gather(
        *(fleet.submit(request("ab", str(i), n=n, max_tokens=80), BUFFER_TOKENS) for i in range(10))
    )
    outputs = [await stream.get() for stream in streams]
    workers.kill("w1")
    for stream, early in zip(streams, outputs, strict=True):
        all_outputs = early + await collect(stream)
        for index in range(n):
            assert len(tokens_of(all_outputs, index)) == 80
            assert text_of(all_outputs, index) == continuation("ab", 80, index)
    assert {stream.worker for stream in streams} == {"w2.1"}
    assert [member.state for member in fleet.status().members] == ["dead", "ready"]


async def test_a_request_survives_three_deaths_and_no_more(make_workers: StartWorkers) -> None:
    workers = make_workers("both")
    fleet = await workers.front()
    stream = await fleet.submit(request("ab", max_tokens=3000), BUFFER_TOKENS)
    outputs = await stream.get()
    for _ in range(3):
        workers.kill("w1")
        workers.start(worker_id="w1")
        await until(lambda: fleet.state == "ready")
        outputs += await stream.get()
    assert len(tokens_of(outputs)) >= 4
    assert text_of(outputs) == continuation("ab", len(tokens_of(outputs)))
    workers.kill("w1")
    with pytest.raises(WorkerDiedError, match=r"tried 4 times.*was killed by SIGKILL"):
        await collect(stream)
    assert fleet.num_in_flight == 0


async def test_requests_wait_while_no_worker_is_there(make_workers: StartWorkers) -> None:
    workers = make_workers("both")
    fleet = await workers.front()
    workers.kill("w1")
    assert fleet.state == "restarting"
    waiting = asyncio.create_task(run(fleet, "ab", "r"))
    await asyncio.sleep(0.05)
    assert fleet.status().num_waiting == 1
    workers.start(worker_id="w1")
    assert text_of(await waiting) == continuation("ab", 60)


async def test_what_nobody_serves_any_more_fails(make_workers: StartWorkers) -> None:
    workers = make_workers("both")
    fleet = await workers.front()
    stream = await fleet.submit(request("ab", max_tokens=3000), BUFFER_TOKENS)
    fleet.fail("the model is gone")
    with pytest.raises(WorkerUnavailableError, match="the model is gone"):
        await collect(stream)
    with pytest.raises(WorkerUnavailableError, match="workers are failed"):
        await run(fleet, "ab", "late")


async def test_errors_of_one_request_harm_no_other(make_workers: StartWorkers) -> None:
    workers = make_workers("both", model="toy:100", max_num_seqs=2, max_queue_len=3)
    fleet = await workers.front()
    with pytest.raises(InvalidRequestError, match="!invalid"):
        await run(fleet, "!invalid", "r")
    with pytest.raises(InvalidRequestError, match="asks for 6 completions"):
        await fleet.submit(request("ab", n=6), BUFFER_TOKENS)
    streams = [await fleet.submit(request("ab", str(i)), BUFFER_TOKENS) for i in range(5)]
    with pytest.raises(QueueFullError, match="of at most 5"):
        await fleet.submit(request("ab", "late"), BUFFER_TOKENS)
    for stream in streams:
        assert text_of(await collect(stream)) == continuation("ab", 8)


async def test_a_silent_worker_gets_nothing_new(make_workers: StartWorkers) -> None:
    workers = make_workers("both", "both")
    fleet = await workers.front()
    workers.stop("w1")
    await until(lambda: fleet.status().members[0].state == "silent")
    outputs = await asyncio.gather(*(run(fleet, "ab", str(i)) for i in range(4)))
    assert [text_of(each) for each in outputs] == [continuation("ab", 60)] * 4
    with pytest.raises(WorkerUnavailableError, match=r"w1\.1 gives no sign of life"):
        await fleet.ask(DeleteSession("", "s"))


async def test_a_draining_worker_finishes_what_it_has(make_workers: StartWorkers) -> None:
    workers = make_workers("both", "both")
    fleet = await workers.front()
    streams = [
        await fleet.submit(request("ab", str(i), max_tokens=100), BUFFER_TOKENS) for i in range(4)
    ]
    mine = [stream for stream in streams if stream.worker == "w1.1"]
    assert len(mine) == 2
    workers.change("w1", is_draining=True)
    late = await fleet.submit(request("ab", "late"), BUFFER_TOKENS)
    assert late.worker == "w2.1"
    for stream in mine:
        assert text_of(await collect(stream)) == continuation("ab", 100)
    assert all(stream.worker == "w1.1" for stream in mine)
    workers.change("w1", is_draining=False)
    await collect(late)
    assert fleet.status().members[0].state == "ready"


async def test_a_removed_worker_does_not_count_as_a_retry(make_workers: StartWorkers) -> None:
    workers = make_workers("both", "both")
    fleet = await workers.front()
    streams = [
        await fleet.submit(request("ab", str(i), max_tokens=100), BUFFER_TOKENS) for i in range(4)
    ]
    workers.processes["w1"].close()
    del workers.records["w1"]
    workers.tell()
    for stream in streams:
        assert text_of(await collect(stream)) == continuation("ab", 100)
        assert stream.num_retries == 0


async def test_the_next_front_finds_workers_without_requests(make_workers: StartWorkers) -> None:
    workers = make_workers("both", "decode", "prefill")
    first = await workers.front()
    streams = [
        await first.submit(request("ab" + LONG, str(i), max_tokens=4000), BUFFER_TOKENS)
        for i in range(6)
    ]
    assert len(streams) == 6
    pids = [member.pid for member in first.status().members]
    workers.fleets.remove(first)
    second = await workers.front()
    await until(lambda: second.stats.num_requests_running == 0)
    assert [member.pid for member in second.status().members] == pids
    outputs = await run(second, "ab", "0")
    assert text_of(outputs) == continuation("ab", 60)
    # A command of the first front that comes late is not heard.
    first.abort(streams[0])
    assert text_of(await run(second, "ab", "1")) == continuation("ab", 60)
    await first.close()


async def test_long_prompts_are_computed_by_a_peer(make_workers: StartWorkers) -> None:
    workers = make_workers("decode", "prefill", "prefill")
    recorder = Recorder()
    fleet = await workers.front(Hooks(observers=[recorder]))
    outputs = await asyncio.gather(*(run(fleet, LONG + "ab", str(i), 8) for i in range(6)))
    for each in outputs:
        assert text_of(each) == continuation("ab", 8)
        assert each[-1].num_cached_tokens == 61
    assert recorder.kinds("0") == [
        *("arrived", "routed", "admitted"),
        *("prefill_wanted", "prefill_picked", "prefill_ended", "first_token", "finished"),
    ]
    picked = {event.worker for event in recorder.events if event.kind == "prefill_picked"}
    assert picked == {"w2.1", "w3.1"}
    short = await run(fleet, "ab", "short", 8)
    assert short[-1].num_cached_tokens == 0


async def test_without_peers_a_worker_prefills_itself(make_workers: StartWorkers) -> None:
    workers = make_workers("decode", "prefill")
    fleet = await workers.front()
    workers.change("w2", role="decode")
    for number in range(2):
        outputs = await run(fleet, LONG + "ab", str(number), 8)
        assert outputs[-1].num_cached_tokens == 0
    workers.change("w2", role="prefill")
    outputs = await run(fleet, LONG + "ab", "last", 8)
    assert outputs[-1].num_cached_tokens == 61


async def wait_for_prefill(workers: Workers, fleet: Fleet) -> RequestStream:
    """A request whose prompt is being computed by the second worker."""
    prompt = "x" * 3000 + "ab"
    stream = await fleet.submit(request(prompt, max_tokens=8), BUFFER_TOKENS)
    await until(lambda: fleet.status().members[1].num_prefills == 1)
    return stream


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_lost_prefill_worker_costs_no_request(make_workers: StartWorkers, how: str) -> None:
    workers = make_workers("decode", "prefill")
    fleet = await workers.front()
    stream = await wait_for_prefill(workers, fleet)
    if how == "killed":
        workers.kill("w2")
    else:
        workers.stop("w2")
    outputs = await collect(stream)
    assert text_of(outputs) == continuation("ab", 8)
    assert outputs[-1].num_cached_tokens == 0
    assert fleet.status().members[0].num_wanted == 0


async def test_a_prefill_for_a_dead_worker_is_cancelled(make_workers: StartWorkers) -> None:
    workers = make_workers("decode", "prefill", "decode")
    recorder = Recorder()
    fleet = await workers.front(Hooks(observers=[recorder]))
    workers.change("w3", is_draining=True)
    stream = await wait_for_prefill(workers, fleet)
    workers.change("w3", is_draining=False)
    workers.kill("w1")
    assert text_of(await collect(stream)) == continuation("ab", 8)
    ends = [e.detail for e in recorder.events if e.kind == "prefill_ended"]
    assert ends[0] == "cancelled"
    assert fleet.status().members[1].num_prefills == 0


async def test_an_aborted_request_ends_its_prefill(make_workers: StartWorkers) -> None:
    workers = make_workers("decode", "prefill")
    recorder = Recorder()
    fleet = await workers.front(Hooks(observers=[recorder]))
    stream = await wait_for_prefill(workers, fleet)
    fleet.abort(stream)
    await until(lambda: fleet.status().members[1].num_prefills == 0)
    assert [e.detail for e in recorder.events if e.kind == "prefill_ended"] == ["cancelled"]


class Once(RoleBalancer):
    """Wants one change."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []

    def decide(self, workers: Sequence[WorkerLoad], now: float) -> RoleChange | None:
        self.seen.append({load.worker_id: load.role for load in workers})
        return RoleChange("w2", "prefill") if len(self.seen) == 1 else None


async def test_a_balancer_changes_roles(make_workers: StartWorkers) -> None:
    workers = make_workers("decode", "decode")
    asked: list[Change] = []

    async def change(change: Change) -> str:
        asked.append(change)
        assert isinstance(change, SetRole)
        workers.change(change.worker_id, role=change.role)
        return change.worker_id

    balancer = Once()
    fleet = await workers.front(policies=Policies(balancer=balancer), ask_change=change)
    await until(lambda: len(balancer.seen) >= 2)
    assert asked == [SetRole("w2", "prefill")]
    assert balancer.seen[0] == {"w1": "decode", "w2": "decode"}
    assert balancer.seen[1] == {"w1": "decode", "w2": "prefill"}
    assert (await run(fleet, LONG + "ab", "r", 8))[-1].num_cached_tokens == 61


async def test_sessions_are_asked_for_everywhere(make_workers: StartWorkers) -> None:
    workers = make_workers("decode", "decode", "prefill")
    fleet = await workers.front()
    assert await fleet.ask(ListSessions("", 10)) == Sessions([])
    assert await fleet.ask(DeleteSession("", "s")) == Deleted(is_known=False)
    workers.kill("w3")
    assert await fleet.ask(ListSessions("", 10)) == Sessions([])


async def test_random_kills_of_all_roles(make_workers: StartWorkers) -> None:
    """Every request is answered, and no token comes twice or not at all."""
    workers = make_workers("decode", "decode", "prefill", "both", model="toy:2")
    fleet = await workers.front()
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    rng = random.Random(seed)
    tasks = []
    for number in range(150):
        prompt = ("x" * rng.choice([0, 50, 600])) + "ab"
        tasks.append(asyncio.create_task(run(fleet, prompt, str(number), rng.randrange(1, 300))))
    lengths = []
    for _ in range(3):
        await asyncio.sleep(0.3)
        victim = rng.choice(sorted(workers.records))
        workers.kill(victim)
        await asyncio.sleep(rng.random() * 0.2)
        workers.start(workers.records[victim].role, victim)
    for task in tasks:
        outputs = await task
        lengths.append(len(tokens_of(outputs)))
        assert text_of(outputs) == continuation("ab", outputs[-1].num_output_tokens)
        assert lengths[-1] == outputs[-1].num_output_tokens
    assert fleet.num_in_flight == 0
    assert all(member.num_prefills == 0 for member in fleet.status().members)
