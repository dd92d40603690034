"""The advisor as a whole: verdicts become units with their policies, and a bound on everything."""

import json
import random
from collections.abc import Iterator

import pytest

from artesian.files.advisor import AdvisorOptions, PatternAdvisor
from artesian.files.base import BLOCK_BYTES, Access, Advisor, Block, Verdict
from artesian.files.lru import LruAdvisor
from artesian.files.tree import AccessStreamTree, TreeOptions
from artesian.sim.files import AdvisedCache, FileRead, FilesOutcome, Job, Simulation

KIB, MIB = 1 << 10, 1 << 20


def small(folder: str, numbers: Iterator[int] | list[int], reader: int = 1) -> list[FileRead]:
    reads = []
    for place, number in enumerate(numbers):
        path = f"{folder}/f{number:05}"
        reads.append(FileRead(0.01, path, 0, 100 * KIB, 100 * KIB, reader << 32 | place))
    return reads


def listing(folder: str, count: int) -> dict[str, list[str]]:
    return {folder: [f"f{number:05}" for number in range(count)]}


def epochs(count: int, number: int, seed: int = 0) -> list[int]:
    dice, found = random.Random(seed), []
    for _ in range(number):
        order = list(range(count))
        dice.shuffle(order)
        found += order
    return found


def run(jobs: list[Job], advisor: Advisor, capacity: int) -> FilesOutcome:
    cache = AdvisedCache(advisor, capacity)
    outcome = Simulation(jobs, cache).run()
    assert cache.most_used_bytes <= capacity
    return outcome


def shuffle_job(count: int = 600, number: int = 5) -> Job:
    return Job(
        "shuffle", [small("s3://b/train", epochs(count, number))], listing("s3://b/train", count)
    )


@pytest.mark.parametrize("part", [0.2, 0.5])
def test_a_shuffle_is_hit_by_its_share(part: float) -> None:
    job = shuffle_job()
    capacity = int(part * sum(job.sizes().values()))
    advisor = PatternAdvisor(capacity)
    hits = run([job], advisor, capacity).hit_ratio
    lru = run([job], LruAdvisor(capacity), capacity).hit_ratio
    assert hits > 0.85 * part * 4 / 5, "the first of five epochs has none"
    assert hits > 1.2 * lru
    [unit] = [unit for unit in advisor.units(1e3) if unit.path == "s3://b/train"]
    assert unit.verdict == Verdict.RANDOM
    assert unit.data_bytes == pytest.approx(60_000 * KIB, rel=0.01)
    assert unit.share_bytes is not None
    assert unit.share_bytes > 0.9 * capacity


def test_a_set_that_fits_is_filled_in_the_background() -> None:
    job = shuffle_job(number=1)
    capacity = int(1.5 * sum(job.sizes().values()))
    outcome = run([job], PatternAdvisor(capacity), capacity)
    assert outcome.hit_ratio > 0.4, "in the first epoch"
    assert outcome.origin_bytes <= 1.01 * sum(job.sizes().values())
    without = AdvisorOptions(prefetches=False)
    assert run([job], PatternAdvisor(capacity, options=without), capacity).hit_ratio == 0


def test_a_scan_that_comes_again_keeps_what_it_can() -> None:
    reads = small("s3://b/d", list(range(400)) * 5)
    job = Job("again", [reads], listing("s3://b/d", 400))
    capacity = 20_000 * KIB
    quiet = AdvisorOptions(prefetches=False)
    advisor = PatternAdvisor(capacity, options=quiet)
    hits = run([job], advisor, capacity).hit_ratio
    assert run([job], LruAdvisor(capacity), capacity).hit_ratio == 0
    assert hits > 0.5 * 0.5 * 4 / 5
    assert advisor.explain("s3://b/d", 1e3).verdict == Verdict.SEQUENTIAL
    # The next run knows from its beginning, and hits in all later epochs.
    second = PatternAdvisor(capacity, options=quiet)
    second.load(advisor.save())
    assert run([job], second, capacity).hit_ratio > hits


def test_a_scan_is_read_ahead_and_does_not_push_others_out() -> None:
    shuffled = shuffle_job(count=300, number=8)
    file_bytes = 64 * MIB
    reads = [
        FileRead(0.02, f"s3://b/text/f{n:05}", offset, MIB, file_bytes, 2 << 32 | n)
        for n in range(12)
        for offset in range(0, file_bytes, MIB)
    ]
    scan = Job("scan", [reads], listing("s3://b/text", 12))
    capacity = 100 * MIB
    ours = run([shuffled, scan], PatternAdvisor(capacity), capacity)
    lru = run([shuffled, scan], LruAdvisor(capacity), capacity)
    alone = run([scan], LruAdvisor(capacity), capacity)
    assert ours.jobs["shuffle"].num_hits > lru.jobs["shuffle"].num_hits
    assert run([scan], PatternAdvisor(capacity), capacity).mean_took_s < 0.95 * alone.mean_took_s
    assert ours.num_ahead_used > 0.8 * ours.num_ahead


def test_popular_models_are_skewed_and_cared_for_as_such() -> None:
    dice = random.Random(1)
    order = list(range(200))
    dice.shuffle(order)
    numbers = [order[min(int(dice.paretovariate(0.9)) - 1, 199)] for _ in range(1500)]
    job = Job("models", [small("s3://b/models", numbers)], listing("s3://b/models", 200))
    capacity = 4_000 * KIB
    advisor = PatternAdvisor(capacity)
    ours = run([job], advisor, capacity).hit_ratio
    assert ours > run([job], LruAdvisor(capacity), capacity).hit_ratio - 0.02
    explanation = advisor.explain("s3://b/models", 1e3)
    assert explanation.verdict == Verdict.SKEWED
    assert explanation.numbers["repeats"] > explanation.numbers["repeats_limit"]
    assert any("repeats" in reason for reason in explanation.reasons)


def test_shares_are_the_capacity_whatever_comes_and_goes() -> None:
    dice = random.Random(2)
    capacity = 64 * MIB
    advisor = PatternAdvisor(capacity, 64 * KIB)
    cache = AdvisedCache(advisor, capacity)
    for folder in "abcd":
        advisor.listed(f"s3://b/{folder}", [f"f{n:05}" for n in range(300)])
    now_s = 0.0
    for step in range(6000):
        now_s += dice.random()
        folder, number = dice.choice("abcd"[: 1 + step // 1500]), dice.randrange(300)
        path, size = f"s3://b/{folder}/f{number:05}", 200 * KIB
        access = Access(path, 0, size, dice.randrange(8) << 32, now_s, size)
        blocks = [(Block(path, n), 64 * KIB) for n in range(4)]
        for (block, room), is_there in zip(blocks, cache.access(access, blocks), strict=True):
            if not is_there:
                cache.arrived(block, room, now_s, is_prefetch=dice.random() < 0.2)
        if step == 3000:
            advisor.resize(capacity // 2)
        units = advisor.units(now_s)
        shares = sum(unit.share_bytes or 0 for unit in units)
        bound = capacity // 2 if step >= 3000 else capacity
        assert abs(shares - bound) < 64, step
        assert all((unit.share_bytes or 0) >= 0 for unit in units)
    used = sum(unit.used_bytes for unit in advisor.units(now_s))
    held = set(advisor.victims(1 << 60, now_s))
    assert used == 64 * KIB * len(held), "each block is in one unit"
    assert len(held) == len(list(advisor.victims(1 << 60, now_s))), "and named once"


def test_what_was_saved_elsewhere_is_taken_with_care() -> None:
    for saved in (b"", b"{", b"[]", b'{"format": 1}', json.dumps({"format": "x"}).encode()):
        PatternAdvisor(1 << 30).load(saved)
    advisor = PatternAdvisor(1 << 30)
    content = {"format": "artesian files verdicts 1", "units": [["/a", "nonsense", False]]}
    advisor.load(json.dumps(content).encode())
    advisor.access(Access("/a/b", 0, 1, 1, 0.0, 1))
    assert advisor.explain("/a/b", 0.0).verdict == Verdict.UNKNOWN


def test_options_of_the_tree_are_checked() -> None:
    with pytest.raises(ValueError, match="alpha is 2"):
        AccessStreamTree(BLOCK_BYTES, TreeOptions(alpha=2.0))
    with pytest.raises(ValueError, match="full_after is 500"):
        AccessStreamTree(BLOCK_BYTES, TreeOptions(full_after=500))


def test_odd_accesses_do_no_harm() -> None:
    advisor = PatternAdvisor(1 << 20)
    for path in ("", "/", "s3://", "a//b"):
        for offset, length, size in ((0, 0, 0), (5, 0, 3), (0, 10, 10), (1 << 40, 1, 1 << 41)):
            advisor.access(Access(path, offset, length, 0, 1.0, size))
            advisor.explain(path, 1.0)
    assert not advisor.admit(Block("a", 0), 2 << 20, 1.0, is_prefetch=False)


def test_nothing_that_is_here_is_read_ahead() -> None:
    folder, names = "s3://b/scan", [f"f{number:05}" for number in range(300)]
    advisor = PatternAdvisor(64 * MIB)
    advisor.listed(folder, names)
    asked = []
    for epoch in range(2):
        ahead = 0
        for place, name in enumerate(names):
            block, stream = Block(f"{folder}/{name}", 0), 1 << 32 | epoch * len(names) + place
            now_s = stream % (1 << 32) / 100
            access = Access(block.path, 0, 10 * KIB, stream, now_s, 10 * KIB, epoch)
            ahead += len(advisor.access(access))
            if epoch == 0:
                advisor.stored(block, 10 * KIB, now_s)
        asked.append(ahead)
    assert asked[0] > 0 and asked[1] == 0
