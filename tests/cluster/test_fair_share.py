"""Fair share beside an obvious simulation, and what must hold for any calls."""

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artesian.cluster.policies.fair_share import FairShare, Waiting


def call(
    number: int, key: str, prompt: int = 100, output: int | None = 50, priority: int = 0, n: int = 1
) -> Waiting:
    return Waiting(f"call-{number}", key, priority, n, prompt, output, float(number))


class Twin:
    """Sorts everything anew for each decision; costs are known exactly and nothing is cached."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = weights
        self.waiting: list[Waiting] = []
        self.counters: dict[str, float] = {}
        self.virtual = 0.0

    def cost(self, item: Waiting) -> float:
        return item.prompt_tokens + (item.max_output_tokens or 0)

    def add(self, item: Waiting) -> None:
        if all(other.key != item.key for other in self.waiting):
            own = self.counters.get(item.key, 0.0)
            self.counters[item.key] = max(own, self.virtual)
        self.waiting.append(item)

    def take(self) -> Waiting:
        self.virtual = max(self.virtual, min(self.counters[i.key] for i in self.waiting))
        item = min(self.waiting, key=lambda i: (i.priority, self.counters[i.key], i.arrived_s))
        self.waiting.remove(item)
        self.counters[item.key] += self.cost(item) / self.weights.get(item.key, 1.0)
        return item


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_same_order_as_the_twin(random: random.Random) -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 0.5}
    # Costs that are expected as they are: few output tokens, and experience that teaches the same.
    policy, twin = FairShare(10_000, None, weights, priority_credit_tokens=1e12), Twin(weights)
    for number in range(60):
        if random.random() < 0.6 or not twin.waiting:
            priority = random.choice([0, 0, 0, 1, -1])
            key, prompt = random.choice("abc"), random.randint(1, 500)
            item = call(number, key, prompt, random.randint(1, 60), priority)
            assert policy.add(item) == []
            twin.add(item)
        else:
            taken = policy.take()
            assert taken is not None and taken == twin.take()
            if random.random() < 0.5:
                output = taken.max_output_tokens or 0
                policy.progress(taken.call_id, 0, output)
                policy.end(taken.call_id, 0, output, whole=False)
        assert policy.num_waiting == len(twin.waiting) == len(policy) == len(list(policy))


def serve(policy: FairShare, keys: dict[str, int], rounds: int) -> Counter[str]:
    """All keys keep calls of their size waiting; who gets how many tokens."""
    served: Counter[str] = Counter()
    number = 0
    for _ in range(rounds):
        for key, prompt in keys.items():
            while not any(item.key == key for item in policy):
                number += 1
                policy.add(call(number, key, prompt, 20))
        taken = policy.take()
        assert taken is not None
        served[taken.key] += taken.prompt_tokens + 20
        policy.end(taken.call_id, 0, 20, whole=True)
    return served


def test_shares_converge_to_weights_whatever_the_sizes() -> None:
    policy = FairShare(1000, None, {"a": 3.0, "b": 1.0, "c": 1.0})
    served = serve(policy, {"a": 40, "b": 400, "c": 90}, 3000)
    total = sum(served.values())
    for key, share in (("a", 0.6), ("b", 0.2), ("c", 0.2)):
        assert served[key] / total == pytest.approx(share, abs=0.01)


def test_a_flood_delays_nobody_else() -> None:
    policy = FairShare(1000)
    for number in range(500):
        policy.add(call(number, "flood"))
    for _ in range(100):
        taken = policy.take()
        assert taken is not None
        policy.end(taken.call_id, 0, 50, whole=True)
    policy.add(call(1000, "other"))
    order = [taken.key for _ in range(3) if (taken := policy.take())]
    assert "other" in order[:2]


def test_being_idle_earns_nothing() -> None:
    policy = FairShare(1000)
    policy.add(call(0, "idle"))
    policy.take()
    policy.end("call-0", 0, 50, whole=True)
    for number in range(1, 101):
        policy.add(call(number, "busy"))
        policy.take()
        policy.end(f"call-{number}", 0, 50, whole=True)
    for number in range(200, 240):
        policy.add(call(number, "busy"))
        policy.add(call(number + 1000, "idle"))
    served = Counter(taken.key for _ in range(20) if (taken := policy.take()))
    assert abs(served["idle"] - served["busy"]) <= 2


def test_costs_are_corrected() -> None:
    policy = FairShare(100)
    policy.add(call(0, "a", prompt=1000, output=100))
    policy.take()
    assert policy.counter("a") == 1100
    policy.progress("call-0", 900, 1)
    assert policy.counter("a") == 1100, "what was expected is not charged twice"
    policy.end("call-0", 900, 30, whole=True)
    assert policy.counter("a") == 130
    policy.add(call(1, "a", prompt=1000, output=None))
    policy.take()
    charged = policy.counter("a")
    policy.progress("call-1", 0, 5000)
    assert policy.counter("a") == 130 + 6000 > charged, "a long answer pays while it runs"
    policy.refund("call-1")
    assert policy.counter("a") == pytest.approx(130)


def test_what_is_expected_follows_what_was() -> None:
    policy = FairShare(100)
    before = policy.expected(call(0, "a", 1000, None))
    for number in range(30):
        policy.add(call(number, "a", 1000, None))
        policy.take()
        policy.end(f"call-{number}", 800, 10, whole=True)
    after = policy.expected(call(99, "a", 1000, None))
    assert before.prefill_tokens == 1000 and after.prefill_tokens == pytest.approx(200, rel=0.05)
    assert after.output_tokens == pytest.approx(10, rel=0.05)


def test_priorities_pass_but_gain_no_share() -> None:
    policy = FairShare(10_000, priority_credit_tokens=3000)
    for number in range(300):
        policy.add(call(number, "pushy", priority=-5))
        policy.add(call(number + 1000, "modest"))
    order = [taken.key for _ in range(300) if (taken := policy.take())]
    assert order[:20] == ["pushy"] * 20
    assert abs(order.count("pushy") - order.count("modest")) <= 2 * 3000 / 150 + 2


def test_the_queue_is_bounded_and_the_heaviest_key_gives_way() -> None:
    policy = FairShare(10, max_waiting_per_key=8, weights={"paid": 4.0})
    assert [policy.add(call(number, "flood")) for number in range(8)] == [[]] * 8
    assert not policy.has_room("flood", 1) and policy.has_room("other", 2)
    (refused,) = policy.add(call(8, "flood"))
    assert refused.call_id == "call-8", "the key's own bound"
    assert policy.add(call(9, "paid", n=2)) == []
    assert policy.num_waiting == 10 and policy.has_room("paid", 1)
    (refused,) = policy.add(call(10, "paid"))
    assert refused.call_id == "call-7", "the last one of who has most for its weight"
    (refused,) = policy.add(call(11, "late", n=9))
    assert refused.call_id == "call-11" and policy.num_waiting == 10
    assert policy.remove("call-3") and not policy.remove("call-3")
    assert policy.num_waiting == 9


def test_weights_are_checked() -> None:
    for weight in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            FairShare(1, None, {"a": weight})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-3, 3), st.integers(1, 3000))))
def test_everything_that_waits_is_taken(calls: list[tuple[str, int, int]]) -> None:
    policy = FairShare(10_000, priority_credit_tokens=500)
    for number, (key, priority, prompt) in enumerate(calls):
        policy.add(call(number, key, prompt, 10, priority))
    taken = [item.call_id for _ in calls if (item := policy.take())]
    assert sorted(taken) == sorted(f"call-{number}" for number in range(len(calls)))
    assert policy.next() is None and policy.take() is None


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_ahead_is_what_is_taken_first(random: random.Random) -> None:
    policy = FairShare(10_000, None, {"a": 2.0}, priority_credit_tokens=1e12)
    for number in range(40):
        key, priority = random.choice("abc"), random.choice([0, 0, 0, -1])
        policy.add(call(number, key, random.randint(1, 300), 20, priority))
    chosen = f"call-{random.randrange(40)}"
    predicted = policy.ahead(chosen)
    taken: dict[str, list[Waiting]] = defaultdict(list)
    while (item := policy.take()) is not None and item.call_id != chosen:
        taken["before"].append(item)
    assert predicted.num_sequences == len(taken["before"])
    assert predicted.prefill_tokens == sum(item.prompt_tokens for item in taken["before"])
