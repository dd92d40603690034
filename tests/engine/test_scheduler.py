"""The policy, step by step, without a model."""

import pytest

from artesian.engine.base import Request, SamplingParams
from artesian.engine.detokenizer import Detokenizer
from artesian.engine.scheduler import Schedule, Scheduler
from artesian.engine.sequence import RequestState, Sequence, Status
from artesian.kvcache import Arena, BlockHasher, KvIdentity, PrefixCache
from tests.engine.toy import ToyTokenizer

BLOCK_SIZE = 4


class Bench:
    """A scheduler and a model that generates token 7 for ever."""

    def __init__(self, num_blocks: int = 100, max_num_seqs: int = 8, budget: int = 512) -> None:
        self.cache = PrefixCache(Arena(num_blocks, 64))
        self.scheduler = Scheduler(
            self.cache, BLOCK_SIZE, max_num_seqs, budget, max_model_len=num_blocks * BLOCK_SIZE
        )
        self.num_added = 0

    def add(self, prompt: list[int], priority: int = 0) -> Sequence:
        self.num_added += 1
        request = Request(
            request_id=str(self.num_added),
            prompt_token_ids=prompt,
            sampling=SamplingParams(temperature=0),
            priority=priority,
        )
        hasher = BlockHasher(KvIdentity("m", "f32", BLOCK_SIZE))
        state = RequestState(request, self.num_added, 0.0, hasher)
        sequence = Sequence(state, 0, 0, 10_000, frozenset(), Detokenizer(ToyTokenizer(), []))
        self.scheduler.add(sequence)
        return sequence

    def step(self, now: float = 0.0) -> list[tuple[Sequence, int]]:
        schedule: Schedule = self.scheduler.schedule(now)
        chosen = list(zip(schedule.sequences, schedule.num_tokens, strict=True))
        for sequence, num_tokens in chosen:
            table = self.scheduler.block_tables[sequence.slot, : len(sequence.blocks)]
            assert table.tolist() == sequence.blocks
            assert len(sequence.blocks) * BLOCK_SIZE >= sequence.num_computed + num_tokens
            self.scheduler.computed(sequence, num_tokens)
            if sequence.num_computed == sequence.num_tokens:
                sequence.append(7)
        return chosen


def test_a_prompt_is_cut_into_chunks_of_the_budget() -> None:
    bench = Bench(budget=10)
    sequence = bench.add(list(range(25)))
    assert [bench.step() for _ in range(4)] == [[(sequence, n)] for n in (10, 10, 5, 1)]


def test_decode_comes_first_and_prompts_share_the_rest_by_rank() -> None:
    bench = Bench(budget=512, num_blocks=1000)
    decoding = bench.add([1, 2])
    bench.step()
    later = bench.add([1] * 300, priority=1)
    sooner = bench.add([2] * 100)
    assert bench.step() == [(decoding, 1), (sooner, 100), (later, 28)]
    assert bench.step() == [(decoding, 1), (sooner, 1), (later, 128)]


def test_no_more_run_than_may() -> None:
    bench = Bench(max_num_seqs=2)
    sequences = [bench.add([i, i]) for i in range(3)]
    assert [s for s, _ in bench.step()] == sequences[:2]
    bench.scheduler.remove(sequences[0])
    assert sequences[2] in [s for s, _ in bench.step()]


def test_a_prompt_waits_until_all_its_blocks_fit_with_one_spare_for_each_running() -> None:
    bench = Bench(num_blocks=8)
    first = bench.add([1] * 16)
    bench.step()
    big = bench.add([2] * 16)
    small = bench.add([3] * 2)
    assert [s for s, _ in bench.step()] == [first], "nothing overtakes the head of the queue"
    bench.scheduler.remove(big)
    assert small in [s for s, _ in bench.step()]


def test_the_worst_rank_is_preempted_when_blocks_run_out() -> None:
    bench = Bench(num_blocks=8)
    first, second = bench.add([1] * 8), bench.add([2] * 8)
    bench.step()
    while second.status is Status.RUNNING:
        bench.step()
    assert first.status is Status.RUNNING
    assert bench.scheduler.num_preemptions == 1
    assert second.num_computed == 0
    assert not second.blocks
    bench.scheduler.remove(first)
    [(again, num_tokens)] = bench.step()
    assert again is second
    assert num_tokens < second.num_tokens, "its blocks were still cached"


def test_better_priority_preempts_worse_but_not_its_equal() -> None:
    bench = Bench(max_num_seqs=1)
    low = bench.add([1, 2], priority=1)
    bench.step()
    bench.add([3, 4], priority=1)
    assert [s for s, _ in bench.step()] == [low]
    urgent = bench.add([5, 6], priority=0)
    assert [s for s, _ in bench.step()] == [urgent]
    assert bench.scheduler.waiting[0] is low


def test_a_prefix_being_computed_is_waited_for() -> None:
    bench = Bench(budget=8)
    common = list(range(16))
    first, second = bench.add([*common, 50, 51]), bench.add([*common, 60, 61])
    other = bench.add([9, 9])
    steps = [bench.step() for _ in range(3)]
    assert steps[0] == [(first, 8)]
    assert steps[1] == [(first, 8)]
    assert (first, 2) in steps[2]
    assert (second, 2) in steps[2], "hits what the first one has stored"
    assert second.state.num_cached_tokens == 16
    assert (other, 2) in steps[2]


def test_nobody_waits_for_a_prefix_that_was_given_up() -> None:
    bench = Bench(budget=8)
    common = list(range(16))
    first, second = bench.add([*common, 50]), bench.add([*common, 60])
    bench.step()
    bench.scheduler.remove(first)
    assert bench.step() == [(second, 8)]


def test_better_priority_does_not_wait_behind_worse() -> None:
    bench = Bench(budget=8)
    common = list(range(24))
    bench.add([*common, 50], priority=5)
    bench.step()
    urgent = bench.add([*common, 60], priority=0)
    bench.step()
    assert urgent.status is Status.RUNNING


def test_a_pool_too_small_for_one_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 25 KV blocks, but there are 24"):
        Scheduler(PrefixCache(Arena(24, 64)), 4, 1, 8, max_model_len=100)
