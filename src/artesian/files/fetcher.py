"""From the origin into the store: each block once, whoever wants it."""

import contextlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial

from artesian.files.advice import Advice
from artesian.files.blocks import Blocks
from artesian.files.crew import Crew, Rank
from artesian.files.errors import NotCachedError
from artesian.files.flight import Flights
from artesian.files.news import News
from artesian.files.opened import OpenFile

RUN_BLOCKS = 4
"""So many adjacent blocks are asked for in one request."""
_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.02


class Fetcher:
    """Fetches blocks for those who wait, and ahead of them."""

    def __init__(
        self, blocks: Blocks, flights: Flights, crew: Crew, advice: Advice, news: News
    ) -> None:
        self._blocks = blocks
        self._flights = flights
        self._crew = crew
        self._advice = advice
        self._news = news

    def fetch(self, file: OpenFile, numbers: Sequence[int]) -> dict[int, bytes]:
        """Blocks that somebody waits for, by number. Several runs of them come at the same time.

        Raises what `Origin.fetch` raises, and `NotCachedError` in offline mode.
        """
        if file.is_offline:
            raise NotCachedError(
                f"{file.url}: block {numbers[0]} is not in the cache, and the store is used "
                "offline: read it once with offline=False"
            )
        own, *others = _runs(numbers)
        futures = [self._crew.submit(Rank.WAITED_FOR, partial(self._run, file, r)) for r in others]
        found = self._run(file, own)
        for future in futures:
            assert future is not None
            found.update(future.result())
        return found

    def direct(self, file: OpenFile, start: int, end: int) -> bytes:
        """Bytes of a file that are not kept."""
        if file.is_offline:
            raise NotCachedError(f"{file.url}: bytes {start} to {end} are not in the cache")
        if file.generation is None:
            data: bytes = file.origin.read_unchecked(file.path, start, end)
            self._count(file, len(data))
            return data
        return self._ask(file, start, end)

    def prefetch(self, file: OpenFile, first: int, end: int) -> int:
        """Blocks `first` to `end` (exclusive) that are neither here nor on their way and that the
        advisor wants; how many were fetched."""
        wanted = [
            number
            for number in range(first, min(end, file.num_blocks))
            if not self._flights.is_open(file.name(number))
            and not self._blocks.has(file.name(number))
            and self._blocks.admits(file, number, is_prefetch=True)
        ]
        for run in _runs(wanted):
            self._run(file, run)
        self._news.count("prefetched", len(wanted), file.url)
        return len(wanted)

    def _run(self, file: OpenFile, numbers: Sequence[int]) -> dict[int, bytes]:
        """Adjacent blocks. Whoever is first asks the origin, the others wait for what comes."""
        theirs: dict[int, Future[bytes]] = {}
        led = []
        for number in numbers:
            flight, is_leader = self._flights.join(file.name(number))
            if is_leader:
                led.append(number)
            else:
                theirs[number] = flight
        found = self._lead(file, led) if led else {}
        for number, flight in theirs.items():
            try:
                found[number] = flight.result(self._patience_s(file))
            except FutureTimeoutError:
                found[number] = self._ask(file, *file.span(number))
        return found

    def _lead(self, file: OpenFile, numbers: Sequence[int]) -> dict[int, bytes]:
        """Flights of this process: all of them are landed, whatever happens."""
        found: dict[int, bytes] = {}
        try:
            lifted: list[int] = []
            away: list[int] = []
            for number in numbers:
                is_lifted = self._flights.lift(file.name(number))
                (lifted if is_lifted else away).append(number)
            for number in list(lifted):
                # Somebody may have brought it since it was missed.
                data = self._blocks.read_whole(file, number)
                if data is not None:
                    lifted.remove(number)
                    self._land(file, number, data, found)
            for run in _runs(lifted):
                self._fetch_run(file, run, found)
            for number in away:
                self._await(file, number, found)
        except BaseException as error:
            for number in numbers:
                if number not in found:
                    self._flights.land(file.name(number), error)
            raise
        return found

    def _fetch_run(self, file: OpenFile, run: Sequence[int], found: dict[int, bytes]) -> None:
        start, end = file.span(run[0])[0], file.span(run[-1])[1]
        asked_s = time.time()
        data = self._ask(file, start, end)
        assert file.generation is not None
        for number in run:
            first, last = file.span(number)
            part = data[first - start : last - start] if len(run) > 1 else data
            if file.generation.is_settled(asked_s):
                self._blocks.keep(file, number, part)
            self._land(file, number, part, found)

    def _await(self, file: OpenFile, number: int, found: dict[int, bytes]) -> None:
        """Waits for another process, and takes over when it gives up or takes too long."""
        until_s = time.monotonic() + self._patience_s(file)
        pause_s = _FIRST_PAUSE_S
        while True:
            data = self._blocks.read_whole(file, number)
            if data is not None:
                self._land(file, number, data, found)
                return
            if self._flights.lift(file.name(number)) or time.monotonic() > until_s:
                data = self._blocks.read_whole(file, number)
                if data is None:
                    self._fetch_run(file, [number], found)
                else:
                    self._land(file, number, data, found)
                return
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _land(self, file: OpenFile, number: int, data: bytes, found: dict[int, bytes]) -> None:
        found[number] = data
        self._flights.land(file.name(number), data)

    def _ask(self, file: OpenFile, start: int, end: int) -> bytes:
        assert file.generation is not None
        begun_s = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(self._news.count, "origin_requests")
            data = file.origin.fetch(file.path, start, end, file.size, file.generation)
        self._advice.fetched(file.url, len(data), time.monotonic() - begun_s)
        self._count(file, len(data))
        return data

    def _count(self, file: OpenFile, num_bytes: int) -> None:
        self._news.count("origin_bytes", num_bytes, file.url)

    def _patience_s(self, file: OpenFile) -> float:
        """A request, the retries and a question whether the file has changed."""
        return 4 * file.origin.timeout_s


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    """Numbers in runs of adjacent ones."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1 and len(runs[-1]) < RUN_BLOCKS:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
