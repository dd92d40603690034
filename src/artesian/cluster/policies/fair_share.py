"""Who is next: by priority, then by what each API key has been served for its weight.

After the virtual token counters of "Fairness in Serving Large Language Models" (OSDI 2024), with
weights, expected costs that are corrected later, and a bound on what priorities may gain: those are
ours. A key's counter grows by cost / weight; the key with the lowest one is next. A key that had
nothing waiting begins again at the virtual time, if its own counter is below: being idle earns
nothing. The virtual time is the lowest counter of those that waited when a call was last taken, as
in start-time fair queueing, so that a key whose next call comes just then loses nothing either.
Costs are tokens: of the prompt what was not cached, and output.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Priorities let a key run ahead of the others' counters so far; then its requests count as its
# others do. Without a bound a key could have everything by asking for it.
PRIORITY_CREDIT_TOKENS = 32_768
# What a key's next request is expected to be: mostly like the last ones.
MEMORY = 0.8
FIRST_OUTPUT_TOKENS = 128.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that waits: all its requests go together.

    Attributes:
        priority: lower is first.
        prompt_tokens: of all its sequences that have prompts of their own.
        max_output_tokens: of all its sequences; None: as many as come.
        arrived_s: when, on the caller's clock.
    """

    call_id: str
    key: str
    priority: int
    num_sequences: int
    prompt_tokens: int
    max_output_tokens: int | None
    arrived_s: float


class Ahead(NamedTuple):
    """What is taken before a call: sequences, tokens to compute for their prompts, and output."""

    num_sequences: int
    prefill_tokens: float
    output_tokens: float


@dataclass(slots=True)
class KeyShare:
    """What is known of one key; `counter` in tokens for a weight of 1."""

    weight: float
    counter: float = 0.0
    num_waiting: int = 0
    uncached_ratio: float = 1.0
    output_tokens: float = FIRST_OUTPUT_TOKENS
    queue: list[tuple[int, int, Waiting]] = field(default_factory=list)


@dataclass(slots=True)
class Charge:
    """What a running call's key has been charged so far."""

    key: str
    prompt_tokens: int
    num_sequences: int
    prefill_tokens: float
    charged: float


class FairShare:
    """The calls that wait, and the accounts of their keys.

    `take` gives the next one and charges what it is expected to cost; `progress` and `end` correct
    that. The numbers of waiting sequences are bounded, in all and for each key; when all places
    are taken, the key that has most of them for its weight gives its last one to a key that has
    less.
    """

    def __init__(
        self,
        max_waiting: int,
        max_waiting_per_key: int | None = None,
        weights: Mapping[str, float] | None = None,
        priority_credit_tokens: float = PRIORITY_CREDIT_TOKENS,
    ) -> None:
        """`weights` are by key, 1 where there is none. Raises `ValueError` for one not above 0."""
        for key, weight in (weights or {}).items():
            if not weight > 0:
                raise ValueError(f"the weight of a key must be above 0; {weight} of {key!r} is not")
        self.max_waiting = max_waiting
        self.max_waiting_per_key = max_waiting_per_key or max_waiting
        self.num_waiting = 0
        self._weights = dict(weights or {})
        self._credit = priority_credit_tokens
        self._keys: dict[str, KeyShare] = {}
        self._places: dict[str, tuple[str, int, int]] = {}
        self._charges: dict[str, Charge] = {}
        self._virtual = 0.0
        self._number = 0

    def __len__(self) -> int:
        """Calls that wait."""
        return len(self._places)

    def __iter__(self) -> Iterator[Waiting]:
        """The calls that wait, in no particular order."""
        for share in self._keys.values():
            for _, _, item in share.queue:
                yield item

    def has_room(self, key: str, num_sequences: int) -> bool:
        """Whether so many more sequences of a key would find places now."""
        share = self._share(key)
        if share.num_waiting + num_sequences > self.max_waiting_per_key:
            return False
        if self.num_waiting + num_sequences <= self.max_waiting:
            return True
        load = (share.num_waiting + num_sequences) / share.weight
        return any(other.num_waiting / other.weight > load for other in self._keys.values())

    def add(self, item: Waiting) -> list[Waiting]:
        """Queues a call; returns those that found or have no place any more, perhaps itself."""
        share = self._share(item.key)
        if not share.queue:
            share.counter = max(share.counter, self._virtual)
        self._number += 1
        insort(share.queue, (item.priority, self._number, item), key=lambda entry: entry[:2])
        self._places[item.call_id] = (item.key, item.priority, self._number)
        self._count(share, item, 1)
        refused: list[Waiting] = []
        while share.num_waiting > self.max_waiting_per_key and share.queue:
            refused.append(self._drop_last(share))
        while self.num_waiting > self.max_waiting:
            longest = max(
                (other for other in self._keys.values() if other.queue),
                # Of equals the newcomer goes: whoever waits has waited longer.
                key=lambda other: (other.num_waiting / other.weight, other is share),
            )
            refused.append(self._drop_last(longest))
        return refused

    def remove(self, call_id: str) -> bool:
        """Takes a call out that is not wanted any more; False if it does not wait."""
        place = self._places.pop(call_id, None)
        if place is None:
            return False
        key, priority, number = place
        share = self._keys[key]
        index = bisect_left(share.queue, (priority, number), key=lambda entry: entry[:2])
        _, _, item = share.queue.pop(index)
        self._count(share, item, -1)
        return True

    def next(self) -> Waiting | None:
        """The call whose turn it is."""
        waiting = [share for share in self._keys.values() if share.queue]
        if not waiting:
            return None
        limit = min(share.counter for share in waiting) + self._credit
        eligible = [share for share in waiting if share.counter <= limit]
        first = min(
            eligible, key=lambda share: (share.queue[0][0], share.counter, share.queue[0][1])
        )
        return first.queue[0][2]

    def take(self) -> Waiting | None:
        """Takes that call out and charges its key what it is expected to cost."""
        item = self.next()
        if item is None:
            return None
        share = self._keys[item.key]
        lowest = min(other.counter for other in self._keys.values() if other.queue)
        self._virtual = max(self._virtual, lowest)
        prefill = item.prompt_tokens * share.uncached_ratio
        cost = prefill + self._expected_output(share, item)
        share.counter += cost / share.weight
        self._charges[item.call_id] = Charge(
            item.key, item.prompt_tokens, item.num_sequences, prefill, cost
        )
        self.remove(item.call_id)
        return item

    def progress(self, call_id: str, cached_tokens: int, output_tokens: int) -> None:
        """Charges a running call for what it has had beyond what was expected."""
        charge = self._charges.get(call_id)
        if charge is None:
            return
        if output_tokens:
            charge.prefill_tokens = charge.prompt_tokens - cached_tokens
        cost = charge.prefill_tokens + output_tokens
        if cost > charge.charged:
            share = self._keys[charge.key]
            share.counter += (cost - charge.charged) / share.weight
            charge.charged = cost

    def end(self, call_id: str, cached_tokens: int, output_tokens: int, *, whole: bool) -> None:
        """A running call is over; its key pays what it really had.

        Args:
            whole: it came to its end, so that it tells what to expect of the next ones.
        """
        charge = self._charges.pop(call_id, None)
        if charge is None:
            return
        share = self._keys[charge.key]
        uncached = charge.prefill_tokens
        if output_tokens:
            uncached = charge.prompt_tokens - cached_tokens
        share.counter += (uncached + output_tokens - charge.charged) / share.weight
        if whole and charge.prompt_tokens:
            ratio = uncached / charge.prompt_tokens
            share.uncached_ratio += (1 - MEMORY) * (ratio - share.uncached_ratio)
            mean = output_tokens / charge.num_sequences
            share.output_tokens += (1 - MEMORY) * (mean - share.output_tokens)

    def refund(self, call_id: str) -> None:
        """A call that was taken has not run at all."""
        charge = self._charges.pop(call_id, None)
        if charge is not None:
            share = self._keys[charge.key]
            share.counter -= charge.charged / share.weight

    def expected(self, item: Waiting) -> Ahead:
        """What a call is expected to need."""
        share = self._keys.get(item.key) or KeyShare(1.0)
        prefill = item.prompt_tokens * share.uncached_ratio
        return Ahead(item.num_sequences, prefill, self._expected_output(share, item))

    def ahead(self, call_id: str) -> Ahead:
        """What is taken before a waiting call, if nothing else comes and priorities hold."""
        own = self._places[call_id]
        tags = list(self._start_tags())
        at = next(tag for tag, place, _, _ in tags if place == own[1:])
        num_sequences, prefill, output = 0, 0.0, 0.0
        for tag, place, item, share in tags:
            if (place[0], tag, place[1]) < (own[1], at, own[2]):
                num_sequences += item.num_sequences
                prefill += item.prompt_tokens * share.uncached_ratio
                output += self._expected_output(share, item)
        return Ahead(num_sequences, prefill, output)

    def counter(self, key: str) -> float:
        """What a key has been charged, for a weight of 1; the virtual time if it is unknown."""
        share = self._keys.get(key)
        return self._virtual if share is None else share.counter

    def _start_tags(self) -> Iterator[tuple[float, tuple[int, int], Waiting, KeyShare]]:
        """What each key's counter will be when its calls are taken one after the other."""
        for share in self._keys.values():
            tag = share.counter
            for priority, number, item in share.queue:
                yield tag, (priority, number), item, share
                cost = item.prompt_tokens * share.uncached_ratio
                tag += (cost + self._expected_output(share, item)) / share.weight

    def _share(self, key: str) -> KeyShare:
        if key not in self._keys:
            self._keys[key] = KeyShare(self._weights.get(key, 1.0), self._virtual)
        return self._keys[key]

    def _drop_last(self, share: KeyShare) -> Waiting:
        item = share.queue[-1][2]
        self.remove(item.call_id)
        return item

    def _count(self, share: KeyShare, item: Waiting, sign: int) -> None:
        share.num_waiting += sign * item.num_sequences
        self.num_waiting += sign * item.num_sequences

    @staticmethod
    def _expected_output(share: KeyShare, item: Waiting) -> float:
        expected = share.output_tokens * item.num_sequences
        return expected if item.max_output_tokens is None else min(expected, item.max_output_tokens)
