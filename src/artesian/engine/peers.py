"""An engine among peers: what it computes for them, and what they compute for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from artesian.engine.handover import (
    LandingPad,
    LandingTicket,
    LandingWriter,
    PrefillDone,
    PrefillJob,
    Unwanted,
)
from artesian.engine.landings import Landings, Offload, PrefillPlacement
from artesian.engine.prefill_jobs import PrefillJobs
from artesian.engine.residents import Residents, SequenceHost


@dataclass(frozen=True, slots=True)
class PeerMemory:
    """What an engine needs to have peers.

    Attributes:
        pad: where they write; open_writer: raises `LandingError` or `OSError` for a landing of a
            peer that it cannot reach; placement: which prompts they compute.
        offload: with it sequences may leave their KV with peers; executor: with it those of peers
        may stay here.
        close: takes this engine's memory away from peers.
    """

    pad: LandingPad
    open_writer: Callable[[LandingTicket], LandingWriter]
    placement: PrefillPlacement
    offload: Offload | None = None
    executor: SequenceHost | None = None
    close: Callable[[], None] = lambda: None


class Peers:
    """A `Handover`: both sides of one engine."""

    def __init__(
        self,
        jobs: PrefillJobs,
        landings: Landings,
        residents: Residents | None,
        next_arrival: Callable[[], int],
        close: Callable[[], None],
    ) -> None:
        """`next_arrival` numbers what comes to the engine; `close`: see `PeerMemory`."""
        self.jobs = jobs
        self.landings = landings
        self._residents = residents
        self._next_arrival = next_arrival
        self.close = close

    @property
    def is_busy(self) -> bool:
        """Whether there is something to do or to tell."""
        return self.jobs.is_busy or self.landings.is_busy

    def poll(self) -> None:
        """Looks at the clock and at what peers have done to this engine's memory."""
        self.jobs.poll()
        self.landings.poll()
        if self._residents is not None:
            self._residents.poll()

    def add_job(self, job: PrefillJob) -> None:
        """See `Handover`."""
        self.jobs.add(job, self._next_arrival())

    def cancel_job(self, job_id: str, token_ids: Sequence[int] = ()) -> None:
        """See `Handover`."""
        self.jobs.cancel(job_id)
        if self._residents is not None:
            self._residents.release(job_id, list(token_ids))

    def take_done(self) -> list[PrefillDone]:
        """See `Handover`."""
        return self.jobs.take_done()

    def take_wanted(self) -> list[PrefillJob]:
        """See `Handover`."""
        return self.landings.take_wanted()

    def take_unwanted(self) -> list[Unwanted]:
        """See `Handover`."""
        return self.landings.take_unwanted()

    def end_job(self, done: PrefillDone) -> None:
        """See `Handover`."""
        self.landings.end(done)

    def set_peers(self, num_prefill: int) -> None:
        """See `Handover`."""
        self.landings.num_peers = num_prefill

    def end_peer(self, region: str) -> None:
        """See `Handover`."""
        self.landings.end_peer(region)
        if self._residents is not None:
            self._residents.end_owner(region)
