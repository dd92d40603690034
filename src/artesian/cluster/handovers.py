"""The front's part in hand-overs: it finds who computes a prompt, and tells what became of it.

The worker that asked always gets an answer, once and in bounded time, whatever dies. Nothing here
keeps KV safe: landings do, by generations in shared memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from artesian.cluster.loads import LoadView
from artesian.cluster.member import Member
from artesian.cluster.policies import PrefillDecodeMap, RequestView
from artesian.engine.handover import PrefillDone, PrefillJob, PrefillOutcome
from artesian.worker.hooks import Hooks
from artesian.worker.messages import CancelPrefill, EndPrefill, Prefill

CANCEL_TIMEOUT_S = 5.0
"""After so long a prefill that is not wanted any more is over, whatever its worker says."""


@dataclass(slots=True)
class Handover:
    """A prompt that `prefill` computes for `decode`."""

    job: PrefillJob
    decode: Member
    prefill: Member
    deadline: float
    is_cancelled: bool = False


class HandoverDesk:
    """All hand-overs of one front."""

    def __init__(
        self, mapping: PrefillDecodeMap, view: LoadView, hooks: Hooks, timeout_s: float
    ) -> None:
        """`timeout_s`: how long one takes at most, its time in queues included."""
        self._mapping = mapping
        self._view = view
        self._hooks = hooks
        self._timeout_s = timeout_s
        self._handovers: dict[str, Handover] = {}
        self._stayed: dict[str, Handover] = {}

    def __len__(self) -> int:
        return len(self._handovers)

    def num_prefills(self, member: Member) -> int:
        """Prompts that it computes for others."""
        return sum(each.prefill is member for each in self._handovers.values())

    def num_wanted(self, member: Member) -> int:
        """Prompts that others compute for it."""
        return sum(each.decode is member for each in self._handovers.values())

    def num_prefill_tokens(self, member: Member) -> int:
        """Of prompts that it computes for others, cached ones included."""
        return sum(
            len(each.job.token_ids) for each in self._handovers.values() if each.prefill is member
        )

    def want(self, decode: Member, job: PrefillJob, members: Sequence[Member], now: float) -> None:
        """A worker asks for a prompt to be computed elsewhere."""
        self._hooks.note(
            job.request_id,
            "prefill_wanted",
            decode.name,
            values={"num_tokens": len(job.token_ids)},
        )
        if job.job_id in self._handovers:
            self._refuse(decode, job, f"there is a job {job.job_id} already")
            return
        prefill = self._choose(decode, job, members)
        if prefill is None:
            self._refuse(decode, job, "no other worker prefills")
            return
        timeout_s = min(job.timeout_s or self._timeout_s, self._timeout_s)
        self._handovers[job.job_id] = Handover(job, decode, prefill, now + timeout_s)
        self._hooks.note(job.request_id, "prefill_picked", prefill.name)
        prefill.send(Prefill(job))

    def unwant(
        self, decode: Member, job_id: str, now: float, token_ids: Sequence[int] = ()
    ) -> None:
        """A worker does not want it any more; it waits for the answer all the same, if none came.

        `token_ids`: see `CancelPrefill`.
        """
        stayed = self._stayed.get(job_id)
        if stayed is not None and stayed.decode is decode:
            del self._stayed[job_id]
            stayed.prefill.send(CancelPrefill(job_id, list(token_ids)))
            return
        handover = self._handovers.get(job_id)
        if handover is None or handover.decode is not decode:
            decode.send(EndPrefill(PrefillDone(job_id=job_id, outcome="cancelled")))
        elif not handover.is_cancelled:
            handover.is_cancelled = True
            handover.deadline = min(handover.deadline, now + CANCEL_TIMEOUT_S)
            handover.prefill.send(CancelPrefill(job_id))

    def done(self, prefill: Member, done: PrefillDone) -> None:
        """A worker says what became of a job; what was given up meanwhile is ignored."""
        handover = self._handovers.get(done.job_id)
        if handover is None or handover.prefill is not prefill:
            return
        if done.outcome == "done":
            prefill.speed.note_prefill(handover.job, done)
            if done.placement is not None and not handover.is_cancelled:
                self._stayed[done.job_id] = handover
        self._end(handover, done)

    def leave(self, member: Member, cause: str) -> None:
        """A worker is dead or silent: nothing is expected of it any more."""
        for job_id, stayed in list(self._stayed.items()):
            if stayed.decode is member:
                del self._stayed[job_id]
                stayed.prefill.send(CancelPrefill(job_id))
            elif stayed.prefill is member:
                del self._stayed[job_id]
        for handover in list(self._handovers.values()):
            if handover.decode is member:
                del self._handovers[handover.job.job_id]
                handover.prefill.send(CancelPrefill(handover.job.job_id))
                self._note_end(handover.job, handover.prefill, "cancelled", {})
            elif handover.prefill is member:
                # It may only be slow: then it should not go on.
                member.send(CancelPrefill(handover.job.job_id))
                self._fail(handover, "failed", f"{member.name} {cause}")

    def poll(self, now: float) -> None:
        """Ends what has taken too long."""
        for handover in list(self._handovers.values()):
            if now < handover.deadline:
                continue
            if handover.is_cancelled:
                self._fail(handover, "cancelled", "it was cancelled")
            else:
                handover.prefill.send(CancelPrefill(handover.job.job_id))
                self._fail(handover, "failed", f"{handover.prefill.name} took too long")

    def _choose(self, decode: Member, job: PrefillJob, members: Sequence[Member]) -> Member | None:
        if job.near:
            near = (m for m in members if m.record.region == job.near and m.state == "ready")
            if (found_near := next(near, None)) is not None:
                return found_near
        loads = [
            self._view.load(member, self.num_prefills(member), self.num_prefill_tokens(member))
            for member in members
        ]
        request = RequestView(num_prompt_tokens=len(job.token_ids), priority=job.priority)
        own = next((x for x in loads if x.worker_id == decode.record.worker_id), None)
        chosen = self._mapping.choose(request, own or self._view.load(decode), loads)
        found = (m for m in members if m.record.worker_id == chosen and m is not decode)
        return next(found, None)

    def _refuse(self, decode: Member, job: PrefillJob, error: str) -> None:
        done = PrefillDone(job_id=job.job_id, outcome="refused", error=error)
        decode.send(EndPrefill(done))
        self._note_end(job, None, "refused", {})

    def _fail(self, handover: Handover, outcome: PrefillOutcome, error: str) -> None:
        job_id = handover.job.job_id
        self._end(handover, PrefillDone(job_id=job_id, outcome=outcome, error=error))

    def _end(self, handover: Handover, done: PrefillDone) -> None:
        del self._handovers[done.job_id]
        handover.decode.send(EndPrefill(done))
        values = {
            "queue_ms": done.queue_ms,
            "prefill_ms": done.prefill_ms,
            "num_bytes": float(done.num_bytes),
            "num_cached_tokens": float(done.num_cached_tokens),
            "is_kept": float(done.placement is not None),
        }
        self._note_end(handover.job, handover.prefill, done.outcome, values)

    def _note_end(
        self,
        job: PrefillJob,
        prefill: Member | None,
        outcome: PrefillOutcome,
        values: dict[str, float],
    ) -> None:
        name = "" if prefill is None else prefill.name
        self._hooks.note(job.request_id, "prefill_ended", name, outcome, values)
