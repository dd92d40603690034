"""How hand-overs of prompts between workers go: counts for the metrics and the cluster page."""

from artesian.metrics.serving import ServingMetrics
from artesian.worker.hooks import RequestEvent

MEMORY = 0.9


class TransferWatch:
    """An `Observer` of all requests.

    Attributes:
        num_ended: hand-overs by outcome; num_bytes: that peers wrote.
        mean_ms: of the last hand-overs that were done, from asking to the last byte.
    """

    def __init__(self, metrics: ServingMetrics) -> None:
        self.num_ended: dict[str, int] = {}
        self.num_bytes = 0
        self.mean_ms = 0.0
        self._metrics = metrics
        self._wanted: dict[str, float] = {}
        self._decoding: set[str] = set()
        self._offloaded: set[str] = set()

    @property
    def num_open(self) -> int:
        """Hand-overs that go on."""
        return len(self._wanted)

    def offload_ratio(self) -> float:
        """Of the requests that decode, the part whose KV is with a peer, 0 to 1."""
        if not self._decoding:
            return 0.0
        return len(self._offloaded & self._decoding) / len(self._decoding)

    def note(self, event: RequestEvent) -> None:
        """See `Observer`."""
        request_id = event.request_id
        match event.kind:
            case "prefill_wanted":
                self._wanted[request_id] = event.time_s
            case "prefill_ended":
                self._end(event)
            case "first_token":
                self._decoding.add(request_id)
            case "retried" | "finished":
                self._wanted.pop(request_id, None)
                self._decoding.discard(request_id)
                self._offloaded.discard(request_id)

    def _end(self, event: RequestEvent) -> None:
        outcome, started_s = event.detail, self._wanted.pop(event.request_id, None)
        num_bytes = int(event.values.get("num_bytes", 0.0))
        self.num_ended[outcome] = self.num_ended.get(outcome, 0) + 1
        self.num_bytes += num_bytes
        self._metrics.handovers.labels(outcome=outcome).inc()
        self._metrics.handover_bytes.inc(num_bytes)
        if outcome != "done":
            return
        if event.values.get("is_kept"):
            self._offloaded.add(event.request_id)
        if started_s is not None:
            seconds = event.time_s - started_s
            self._metrics.handover_time.observe(seconds)
            known = self.num_ended["done"] > 1
            self.mean_ms += (1 - MEMORY if known else 1.0) * (seconds * 1e3 - self.mean_ms)
