"""Threads that fetch: what somebody waits for before what somebody may want."""

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from enum import IntEnum
from typing import Any


class Rank(IntEnum):
    """Which work goes first."""

    WAITED_FOR = 0
    SOON = 1
    BACKGROUND = 2
    END = 3


class Crew:
    """A few threads that end with the process, however busy, and a queue with a bound."""

    def __init__(self, num_threads: int, most_waiting: int) -> None:
        self._num_threads = num_threads
        self._most_waiting = most_waiting
        self._queue: queue.PriorityQueue[tuple[int, int, Callable[[], Any], Future[Any]]]
        self._queue = queue.PriorityQueue()
        self._order = itertools.count()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def submit(self, rank: Rank, work: Callable[[], Any]) -> "Future[Any] | None":
        """Begins or queues work; None if too much waits already and nobody waits for this."""
        if rank > Rank.WAITED_FOR and self._queue.qsize() >= self._most_waiting:
            return None
        future: Future[Any] = Future()
        self._queue.put((rank, next(self._order), work, future))
        with self._lock:
            if len(self._threads) < self._num_threads:
                thread = threading.Thread(target=self._run, name="artesian-files", daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    @property
    def num_waiting(self) -> int:
        """How much waits for a thread."""
        return self._queue.qsize()

    def close(self) -> None:
        """Lets the threads go when they have done what waits now."""
        for _ in self._threads:
            self._queue.put((Rank.END, next(self._order), lambda: None, Future()))

    def _run(self) -> None:
        while True:
            rank, _, work, future = self._queue.get()
            if rank == Rank.END:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
