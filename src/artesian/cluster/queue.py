"""What the front holds back until workers can run it soon, and what it refuses.

Where nothing competes (one worker, one API key, no limits of time) all calls go to the worker at
once, whose own queue orders them by priority and shows the context cache what is coming. Otherwise
workers have only as much as keeps them busy, and `FairShare` says who is next.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from artesian.cluster.overload import OverloadError, RefusalReason
from artesian.cluster.policies.fair_share import Ahead, FairShare, Waiting
from artesian.cluster.policies.retry_after import DrainRate, retry_after_s
from artesian.cluster.policies.slo_admission import Load, Slo, SloAdmission
from artesian.cluster.turn import Turn
from artesian.cluster.workers import Workers
from artesian.engine.base import InvalidRequestError
from artesian.metrics.serving import ServingMetrics
from artesian.worker.base import RequestDeadlineError, WorkerUnavailableError

TICK_S = 0.1
# Prompts that workers have before they get another one: what so many steps compute.
PREFILL_STEPS_AHEAD = 4


class FrontQueue:
    """Calls in order, on one event loop.

    Args:
        max_queue_len: sequences that may wait.
        weights: of API keys, by the name that calls give them.
        num_keys: that may call; with one there is no competition between keys.
    """

    def __init__(
        self,
        max_queue_len: int,
        slo: Slo,
        metrics: ServingMetrics,
        workers: Workers,
        *,
        weights: Mapping[str, float] | None = None,
        num_keys: int = 1,
        max_queue_len_per_key: int | None = None,
        timeout_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fair_share = FairShare(max_queue_len, max_queue_len_per_key, weights)
        self.admission = SloAdmission(slo)
        self.num_running = 0
        self._max_queue_len = max_queue_len
        self._metrics = metrics
        self._workers = workers
        self._num_keys = num_keys
        self._timeout_s = timeout_s
        self._clock = clock
        self._rate = DrainRate()
        self._waiting: dict[str, Turn] = {}
        self._running: dict[str, Turn] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def num_waiting(self) -> int:
        """Sequences that wait here."""
        return self.fair_share.num_waiting

    def max_in_flight(self) -> int:
        """Sequences that may run and wait."""
        capacity = self._workers.capacity
        return max(1, capacity.num_workers) * capacity.max_num_seqs + self._max_queue_len

    def check(self, key: str, num_sequences: int) -> None:
        """Refuses what has no chance before work is done for it.

        Raises:
            InvalidRequestError: so many sequences are never possible.
            OverloadError: they are not now.
        """
        most = self.max_in_flight()
        if num_sequences > most:
            raise InvalidRequestError(
                f"the request asks for {num_sequences} completions at once; "
                f"at most {most} are possible"
            )
        in_flight = self.num_running + self.num_waiting
        if in_flight + num_sequences <= most and self.fair_share.has_room(key, 0):
            return
        if not self._holds() or not self.fair_share.has_room(key, num_sequences):
            raise self._refusal("queue_full", key, None)

    async def enter(self, item: Waiting) -> Turn:
        """Waits for a call's turn; `item.arrived_s` is set here.

        Raises:
            InvalidRequestError: it can never run.
            OverloadError: it would wait too long.
            RequestDeadlineError: it has waited as long as a request may live.
            WorkerUnavailableError: the server ends.
        """
        self._start_timer()
        self.check(item.key, item.num_sequences)
        turn = Turn(item, self._progress)
        self._waiting[item.call_id] = turn
        for refused in self.fair_share.add(item):
            reason: RefusalReason = "queue_full" if refused is item else "key_queue_full"
            self._refuse(refused.call_id, self._refusal(reason, refused.call_id, refused))
        if not turn.released.done():
            self._predict(turn)
        self._pump()
        try:
            await turn.released
        except BaseException:
            self._leave(turn)
            raise
        return turn

    def end(self, turn: Turn) -> None:
        """The call runs no more, whatever the reason; may be called again."""
        if turn.ended or turn.sent_s is None:
            return
        turn.ended = True
        item, now = turn.item, self._clock()
        del self._running[item.call_id]
        self._count(turn, 0, now)
        if turn.output_tokens or turn.is_whole:
            self.fair_share.end(
                item.call_id, turn.cached_tokens, turn.output_tokens, whole=turn.is_whole
            )
        else:
            self.fair_share.refund(item.call_id)
        if turn.is_whole:
            self._count_slo(turn, now)
        self._pump()

    def close(self, reason: str) -> None:
        """Ends all waiting."""
        for turn in list(self._waiting.values()):
            self._refuse(turn.item.call_id, WorkerUnavailableError(reason))
        if self._timer is not None:
            self._timer.cancel()

    def _holds(self) -> bool:
        is_contended = self._num_keys > 1 or self._workers.capacity.num_workers > 1
        return is_contended or self.admission.slo.is_set

    def _progress(self, turn: Turn) -> None:
        if turn.ended:
            return
        now = self._clock()
        self.fair_share.progress(turn.item.call_id, turn.cached_tokens, turn.output_tokens)
        is_first = turn.first_token_s is None and turn.output_tokens > 0
        if is_first:
            turn.first_token_s = now
            self.admission.observe(turn.predicted_ttft_s, now - turn.item.arrived_s)
        left = turn.num_left
        if left == 0:
            self.end(turn)
        elif left != turn.num_counted or is_first:
            self._count(turn, left, now)
            self._pump()

    def _count(self, turn: Turn, num_left: int, now: float) -> None:
        """So many sequences of a call run from now on."""
        ended = turn.num_counted - num_left
        turn.num_counted = num_left
        self.num_running -= ended
        self._rate.advance(now, max(0, ended), is_busy=self.num_running > 0)

    def _pump(self) -> None:
        """Sends what workers can run soon."""
        while (item := self.fair_share.next()) is not None and self._fits(item):
            expected = self.fair_share.expected(item)
            self.fair_share.take()
            turn = self._waiting.pop(item.call_id)
            turn.sent_s = self._clock()
            turn.prefill_tokens = expected.prefill_tokens
            turn.expected_output_tokens = expected.output_tokens
            self._running[item.call_id] = turn
            self._count(turn, item.num_sequences, turn.sent_s)
            self._metrics.admitted.inc()
            self._metrics.front_queue_time.observe(turn.sent_s - item.arrived_s)
            # One that was cancelled a moment ago has its turn, and gives it back when it wakes.
            if not turn.released.done():
                turn.released.set_result(None)

    def _fits(self, item: Waiting) -> bool:
        capacity = self._workers.capacity
        if not self.num_running:
            return True
        if self.num_running + item.num_sequences > self.max_in_flight():
            return False
        if not self._holds():
            return True
        most = self.admission.max_running(capacity, self._workers.cost)
        if most == capacity.num_workers * capacity.max_num_seqs:
            # One for each worker, so that a place that falls free is taken in the next step.
            most += capacity.num_workers
        if self.num_running >= most:
            return False
        prefilling = self._prefill_tokens()
        room = PREFILL_STEPS_AHEAD * capacity.num_computing * capacity.max_num_batched_tokens
        own = self.fair_share.expected(item).prefill_tokens
        return prefilling <= 0 or prefilling + own <= room

    def _prefill_tokens(self) -> float:
        return sum(turn.prefill_tokens for turn in self._running.values() if turn.is_prefilling)

    def _load(self, ahead: Ahead) -> Load:
        output = sum(turn.expected_output_tokens for turn in self._running.values())
        num_sequences = sum(turn.item.num_sequences for turn in self._running.values())
        mean = (output + ahead.output_tokens) / max(1, num_sequences + ahead.num_sequences)
        return Load(
            self._workers.capacity,
            num_running=self.num_running,
            num_ahead=ahead.num_sequences,
            prefill_tokens=self._prefill_tokens() + ahead.prefill_tokens,
            output_tokens=mean,
        )

    def _predict(self, turn: Turn) -> None:
        """Predicts the time to first token, and refuses what cannot be in time."""
        if self.admission.slo.is_set:
            ahead = self.fair_share.ahead(turn.item.call_id)
            turn.predicted_ttft_s = self._keep_or_refuse(turn, ahead, 0.0)
            self._metrics.predicted_ttft.observe(turn.predicted_ttft_s)

    def _keep_or_refuse(self, turn: Turn, ahead: Ahead, waited_s: float) -> float:
        """The time to first token from now on, for a call that has waited so long."""
        cost, item = self._workers.cost, turn.item
        prefill_tokens = self.fair_share.expected(item).prefill_tokens
        load = self._load(ahead)
        ttft_s = self.admission.predict_ttft_s(load, prefill_tokens, item.num_sequences, cost)
        alone_s = self.admission.predict_ttft_s(
            Load(load.capacity), prefill_tokens, item.num_sequences, cost
        )
        excess_s = self.admission.excess_s(waited_s + ttft_s, alone_s)
        if excess_s > 0 and self.num_running:
            self._refuse_late(turn, waited_s + ttft_s, excess_s)
        return ttft_s

    def _refuse_late(self, turn: Turn, ttft_s: float, wait_s: float) -> None:
        slo_s = self.admission.slo.ttft_s or 0.0
        call_id = turn.item.call_id
        message = (
            f"the first token would come after {ttft_s:.2f} s, later than the {slo_s:g} s "
            "this server aims at"
        )
        self._refuse(call_id, OverloadError("ttft_slo", message, retry_after_s(wait_s, call_id)))

    def _refusal(self, reason: RefusalReason, call_id: str, item: Waiting | None) -> OverloadError:
        """The queue is full: what waits has to go first."""
        capacity = self._workers.capacity
        in_flight = self.num_running + self.num_waiting
        num_before = max(1, in_flight - capacity.num_workers * capacity.max_num_seqs)
        wait_s = self._rate.wait_s(num_before)
        if wait_s is None:
            wait_s = self._guessed_wait_s(num_before)
        if item is None:
            self._metrics.refused.labels(reason=reason).inc()
        message = (
            f"the queue is full: {in_flight} sequences run or wait "
            f"of at most {self.max_in_flight()}"
        )
        return OverloadError(reason, message, retry_after_s(wait_s, call_id))

    def _guessed_wait_s(self, num_sequences: int) -> float:
        """Before anything has ended: by what steps cost, or else the shortest wait."""
        cost, load = self._workers.cost, self._load(Ahead(0, 0.0, 0.0))
        if cost is None:
            return 0.0
        most = max(1, load.capacity.num_workers * load.capacity.max_num_seqs)
        tpot_s = self.admission.predict_tpot_s(load, cost)
        return num_sequences * load.output_tokens * tpot_s / most

    def _refuse(self, call_id: str, error: Exception) -> None:
        turn = self._waiting.pop(call_id, None)
        if turn is None:
            return
        self.fair_share.remove(call_id)
        if isinstance(error, OverloadError):
            self._metrics.refused.labels(reason=error.reason).inc()
        if not turn.released.done():
            turn.released.set_exception(error)

    def _leave(self, turn: Turn) -> None:
        """Nobody waits for it any more: it may even have got its turn just now."""
        self._waiting.pop(turn.item.call_id, None)
        self.fair_share.remove(turn.item.call_id)
        self.end(turn)

    def _count_slo(self, turn: Turn, now: float) -> None:
        if turn.first_token_s is None:
            return
        ttft_s = turn.first_token_s - turn.item.arrived_s
        later = turn.output_tokens / turn.item.num_sequences - 1
        tpot_s = (now - turn.first_token_s) / later if later > 0 else None
        for name, is_met in self.admission.is_met(ttft_s, tpot_s).items():
            self._metrics.slo.labels(slo=name, result="met" if is_met else "missed").inc()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._workers.look()
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        """Lets go of what has waited too long, and looks at what workers report."""
        self._timer = None
        self._workers.look()
        now = self._clock()
        for turn in list(self._waiting.values()):
            waited_s = now - turn.item.arrived_s
            if waited_s > self._timeout_s:
                message = f"no worker was free for {self._timeout_s:g} s; the server is busy"
                self._refuse(turn.item.call_id, RequestDeadlineError(message))
            elif self.admission.slo.ttft_s is not None:
                # What was before it may have gone otherwise than thought; this much is certain.
                self._keep_or_refuse(turn, Ahead(0, 0.0, 0.0), waited_s)
        self._pump()
        if self._waiting or self._running:
            self._start_timer()
