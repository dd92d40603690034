"""Overload, shares and limits of time, with the front's queue and toy engines in virtual time."""

import asyncio

import pytest

from artesian.cluster.policies.fair_share import Waiting
from artesian.cluster.policies.slo_admission import Slo
from artesian.worker.base import WorkerUnavailableError
from tests.cluster.virtual import Outcome, ToyFront, run_virtually

# 8 sequences of 40 steps of 10 ms: 20 requests per second at most.
SLO_S = 0.5


def good(outcomes: list[Outcome], slo_s: float = SLO_S) -> int:
    return sum(o.ttft_s is not None and o.ttft_s <= slo_s for o in outcomes)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_goodput_stays_when_three_times_as_much_comes(num_workers: int) -> None:
    async def main() -> None:
        front = ToyFront(Slo(ttft_s=SLO_S), num_workers)
        fitting = await front.open_loop(18 * num_workers, 10)
        too_much = await front.open_loop(60 * num_workers, 10)
        assert good(fitting) == len(fitting)
        assert good(too_much) >= 0.95 * good(fitting)
        answered = [o for o in too_much if o.refusal is None]
        assert good(too_much) >= 0.95 * len(answered), "nobody is late for the sake of others"
        refusals = [o.refusal for o in too_much if o.refusal is not None]
        assert {refusal.reason for refusal in refusals} == {"ttft_slo"}
        assert all(1 <= refusal.retry_after_s <= 2 for refusal in refusals)
        again = await front.open_loop(18 * num_workers, 10)
        assert good(again) >= 0.95 * len(again), "what was learnt in need is forgotten after it"
        await front.close()

    run_virtually(main())


def test_without_limits_all_would_be_late() -> None:
    """That the test above shows something: the same load with the queue's bound alone."""

    async def main() -> None:
        front = ToyFront(Slo())
        outcomes = await front.open_loop(60, 10)
        refusals = [o.refusal for o in outcomes if o.refusal is not None]
        assert good(outcomes) < 0.5 * (len(outcomes) - len(refusals))
        # 64 wait and 20 end per second: 3.2 s, and up to half as much again.
        assert all(1 <= refusal.retry_after_s <= 7 for refusal in refusals)
        assert max(refusal.retry_after_s for refusal in refusals) >= 4
        await front.close()

    run_virtually(main())


def test_the_tpot_limit_bounds_the_batch() -> None:
    async def main() -> None:
        # 10 ms and 2 ms for each sequence: 5 of them keep 20 ms.
        front = ToyFront(Slo(tpot_s=0.0205), decode_s=0.002)
        await front.open_loop(4, 5)
        front.most_running = 0
        outcomes = await front.open_loop(30, 10)
        late = [o for o in outcomes if o.tpot_s is not None and o.tpot_s > 0.0205]
        assert 4 <= front.most_running <= 6 and len(late) < 0.1 * len(outcomes)
        await front.close()

    run_virtually(main())


def test_priorities_pass_those_that_wait() -> None:
    async def main() -> None:
        front = ToyFront(Slo(ttft_s=SLO_S))
        await front.open_loop(18, 5)
        normal = asyncio.create_task(front.open_loop(60, 10))
        urgent = await front.open_loop(5, 10, priority=-1)
        assert good(urgent) >= 0.95 * len(urgent)
        assert good(await normal) < 0.5 * 600
        await front.close()

    run_virtually(main())


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_flood_of_one_key_leaves_the_others_their_share(num_workers: int) -> None:
    async def main() -> None:
        front = ToyFront(Slo(), num_workers, num_keys=2)
        flood, other = await asyncio.gather(
            front.closed_loop("flood", 200, 20), front.closed_loop("other", 16 * num_workers, 20)
        )
        assert other / flood == pytest.approx(1.0, abs=0.15)
        assert flood + other >= 0.95 * 20 * 20 * num_workers, "nobody waits while there is room"
        await front.close()

    run_virtually(main())


def test_weights_are_shares_and_what_one_leaves_goes_to_the_others() -> None:
    async def main() -> None:
        front = ToyFront(Slo(), weights={"a": 3.0}, num_keys=3)
        a, b, modest = await asyncio.gather(
            front.closed_loop("a", 20, 20),
            front.closed_loop("b", 20, 20),
            front.closed_loop("modest", 1, 20),
        )
        assert a / b == pytest.approx(3.0, rel=0.15)
        # Each of its calls takes 40 steps, and waits for those before it to end: as long at most.
        assert modest >= 20 * 100 / 81 - 1
        await front.close()

    run_virtually(main())


def test_alone_one_key_may_have_everything() -> None:
    async def main() -> None:
        front = ToyFront(Slo(), num_keys=2)
        assert await front.closed_loop("a", 20, 10) >= 0.95 * 200
        await front.close()

    run_virtually(main())


def test_waiting_that_is_given_up_leaves_nothing() -> None:
    async def main() -> None:
        front = ToyFront(Slo(), max_num_seqs=1, num_keys=2)
        running = asyncio.create_task(front.ask("a"))
        waiting = [asyncio.create_task(front.ask("a")) for _ in range(20)]
        await asyncio.sleep(0.1)
        assert front.queue.num_waiting == 19
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert front.queue.num_waiting == 0
        assert (await running).ttft_s is not None
        for task in waiting:
            assert task.cancelled()
        assert front.queue.num_running <= 1
        assert (await front.ask("b")).ttft_s is not None
        await front.close()

    run_virtually(main())


def test_waiting_ends_with_the_server() -> None:
    async def main() -> None:
        front = ToyFront(Slo(), max_num_seqs=1, num_keys=2)
        tasks = [asyncio.create_task(front.ask("a")) for _ in range(5)]
        await asyncio.sleep(0.05)
        await front.close()
        done = await asyncio.wait_for(asyncio.gather(*tasks[2:], return_exceptions=True), timeout=1)
        assert all(isinstance(error, WorkerUnavailableError) for error in done)
        for task in tasks[:2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtually(main())


def test_a_call_for_more_than_fits_waits_for_all_and_runs() -> None:
    async def main() -> None:
        front = ToyFront(Slo(), num_keys=2)
        busy = [asyncio.create_task(front.ask("a")) for _ in range(12)]
        await asyncio.sleep(0.05)
        item = Waiting("big", "b", 0, 20, 10, 100, front.loop.time())
        turn = await asyncio.wait_for(front.queue.enter(item), timeout=5)
        front.queue.end(turn)
        await asyncio.gather(*busy)
        assert front.queue.num_running == front.queue.num_waiting == 0
        await front.close()

    run_virtually(main())
