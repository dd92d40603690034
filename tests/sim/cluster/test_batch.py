"""The batch that costs nothing for more sequences, against one that counts each of them."""

import random

import pytest

from artesian.sim.cluster.batch import RunningBatch
from artesian.sim.cluster.calls import Call, Job


class Slow:
    """Every sequence by itself."""

    def __init__(self) -> None:
        self.tokens: dict[Job, int] = {}
        self.left: dict[Job, int] = {}

    def advance(self) -> list[Job]:
        for job in self.tokens:
            self.tokens[job] += 1
            self.left[job] -= 1
        ended = [job for job, left in self.left.items() if left == 0]
        for job in ended:
            del self.tokens[job], self.left[job]
        return ended


@pytest.mark.parametrize("seed", range(20))
def test_it_counts_as_one_that_counts_each(seed: int) -> None:
    rng = random.Random(seed)
    batch, slow = RunningBatch(), Slow()
    for number in range(300):
        event = rng.choice(("join", "leave", "move", "step", "step"))
        jobs = list(slow.tokens)
        if event == "join":
            job = Job.of(number, Call(0.0, rng.randint(1, 50), rng.randint(1, 30)))
            job.peer = rng.choice(("", "p", "q"))
            batch.join(job)
            slow.tokens[job], slow.left[job] = job.num_tokens, job.num_left
        elif event == "leave" and jobs:
            job = rng.choice(jobs)
            batch.leave(job)
            assert job.num_tokens == slow.tokens.pop(job)
            assert job.num_left == slow.left.pop(job)
            if rng.random() < 0.5:  # it comes again
                batch.join(job)
                slow.tokens[job], slow.left[job] = job.num_tokens, job.num_left
        elif event == "move" and jobs:
            batch.move(rng.choice(jobs), rng.choice(("", "p", "q")))
        elif event == "step":
            assert set(batch.advance()) == set(slow.advance())
        assert set(batch) == set(slow.tokens)
        assert all(batch.tokens_of(job) == tokens for job, tokens in slow.tokens.items())
        for name, group in batch.groups.items():
            members = [job for job in slow.tokens if job.peer == name]
            assert group.num == len(members)
            assert group.tokens == sum(slow.tokens[job] for job in members)
