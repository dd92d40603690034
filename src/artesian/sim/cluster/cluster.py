"""A simulated cluster: a front and workers, under the policies of the real one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from artesian.cluster.policies import (
    AttentionCapacity,
    BalancedMap,
    ConditionalDisaggregation,
    Disaggregation,
    LeastPredictedTime,
    OffloadAdmission,
    OffloadLimits,
    PrefillDecodeMap,
    RequestView,
    Role,
    RoleBalancer,
    Router,
    compute_bound,
    memory_bound,
)
from artesian.sim.cluster.batch import LOCAL
from artesian.sim.cluster.calls import Call, Job
from artesian.sim.cluster.instance import BLOCK_TOKENS, Instance
from artesian.sim.cluster.machine import Machine
from artesian.sim.cluster.report import Counts, Report, Targets, summarize
from artesian.sim.events import EventLoop

_LAST_LAYER = 1 / 16
"""Of a prompt's KV: the rest is handed over while the prompt is computed."""
_LOOK_STEPS = 16
"""Steps between two looks at what is offloaded."""
_BALANCE_S = 1.0


@dataclass(slots=True, kw_only=True)
class Policies:
    """Who decides what; `offload` None: nothing is offloaded, `balancer` None: roles stay."""

    router: Router = field(default_factory=LeastPredictedTime)
    pd_map: PrefillDecodeMap = field(default_factory=BalancedMap)
    disaggregation: Disaggregation = field(default_factory=ConditionalDisaggregation)
    offload: OffloadAdmission | None = None
    balancer: RoleBalancer | None = None


class Cluster:
    """Prefill and decode instances, and such that do both, on machines of one kind.

    As in the real one, a worker that decodes asks for prompts to be computed once it has room, and
    runs their last token itself.
    """

    def __init__(
        self,
        machine: Machine,
        roles: Sequence[Role],
        policies: Policies,
        *,
        share: float = 0.2,
        targets: Targets | None = None,
        max_output_tokens: int = 1024,
    ) -> None:
        """
        Args:
            roles: of each worker.
            share: of a prefill worker's machine, for its executor.
            max_output_tokens: that a client allows: a policy does not know where answers end.
        """
        self._loop = EventLoop()
        self._policies = policies
        self._targets = targets or Targets()
        self._share = share
        self._max_output_tokens = max_output_tokens
        self.instances = {
            f"{role}-{number}": Instance(
                self._loop, f"{role}-{number}", role, machine, share, self._behind_step
            )
            for number, role in enumerate(roles)
        }
        for instance in self.instances.values():
            instance.peers = self.instances
        self._finished: list[Job] = []
        self._numbers = count()
        self._num_refused = 0
        self._num_open = 0
        self._num_role_changes = 0

    def run(self, calls: Sequence[Call], from_s: float = 0.0, until_s: float = math.inf) -> Report:
        """Serves `calls`, until all are answered or `until_s`; reports what ends after `from_s`."""
        for call in calls:
            self._loop.at(call.arrival_s, partial(self._arrive, call))
        self._num_open += len(calls)
        if self._policies.balancer is not None:
            self._loop.at(0.0, self._balance)
        self._loop.run(from_s)
        instances = list(self.instances.values())
        begin = Counts.of(instances, self._loop.now)
        self._loop.run(until_s)
        return summarize(
            self._finished,
            begin,
            Counts.of(instances, self._loop.now),
            instances,
            self._targets,
            self._num_refused,
            self._num_role_changes,
        )

    def _arrive(self, call: Call) -> None:
        job = Job.of(next(self._numbers), call)
        loads = [instance.load() for instance in self.instances.values()]
        chosen = self._policies.router.choose(self._view(job), loads)
        assert chosen is not None, "instances of a simulation neither die nor drain"
        decode = self.instances[chosen]
        longest = call.num_prompt_tokens + max(call.num_output_tokens, BLOCK_TOKENS)
        if longest > decode.machine.capacity_tokens:
            self._num_refused += 1
            self._num_open -= 1
            return
        decode.waiting.append(job)
        self._place(decode)

    def _view(self, job: Job) -> RequestView:
        return RequestView(
            num_prompt_tokens=job.num_tokens,
            num_output_tokens=self._max_output_tokens,
            cached_tokens=dict.fromkeys(self.instances, job.num_cached) if job.num_cached else {},
            key=job.call.key,
        )

    def _place(self, decode: Instance) -> None:
        """Has prompts of waiting jobs computed, in order, while there is room."""
        while decode.waiting:
            job = decode.waiting[0]
            prefill = self._prefill_for(job, decode)
            if prefill is not None and self._offloads(job, decode, prefill):
                job.peer, job.was_offloaded = prefill.worker_id, True
                prefill.lend(job, decode)
            elif not decode.has_room(job):
                return
            decode.waiting.popleft()
            decode.expect(job)
            if prefill is None:
                decode.prefill(job, partial(decode.begin, job))
            else:
                self._prefill_at(prefill, job, decode)

    def _prefill_at(self, prefill: Instance, job: Job, decode: Instance) -> None:
        def hand_over() -> None:
            machine = prefill.machine
            ready_s = self._loop.now + machine.handover_s
            if not job.peer:
                num_bytes = (job.num_tokens - job.num_cached) * machine.kv_bytes
                ready_s = max(ready_s, prefill.link.move(num_bytes * _LAST_LAYER))
            self._loop.at(ready_s, lambda: decode.join(job))

        prefill.prefill(job, hand_over)

    def _prefill_for(self, job: Job, decode: Instance) -> Instance | None:
        """Who computes the prompt; None: `decode` itself."""
        loads = [instance.load() for instance in self.instances.values()]
        peers = [load for load in loads if load.role == "prefill"]
        peers = [load for load in peers if load.worker_id != decode.worker_id]
        own = decode.load()
        num_uncached = job.num_tokens - job.num_cached
        if not peers or not self._policies.disaggregation.wants_peer(num_uncached, own, peers):
            return None
        chosen = self._policies.pd_map.choose(self._view(job), own, loads)
        return None if chosen is None else self.instances[chosen]

    def _offloads(self, job: Job, decode: Instance, prefill: Instance) -> bool:
        policy = self._policies.offload
        if policy is None or not prefill.can_lend(job):
            return False
        if len(decode.batch) + len(decode.coming) >= decode.machine.max_seqs:
            return False
        batch = decode.totals(self._max_output_tokens)
        max_tokens = job.call.num_prompt_tokens + self._max_output_tokens
        return policy.admits(job.num_tokens, max_tokens, batch, self._limits(decode))

    def _limits(self, decode: Instance) -> OffloadLimits:
        """What the executors can take for one of those that decode."""
        machine = decode.machine
        prefill = [i for i in self.instances.values() if i.role == "prefill"]
        num_users = max(1, len(self.instances) - len(prefill))
        rate = sum(i.machine.executor_bytes_per_s(self._share) for i in prefill) / num_users
        kv_bytes = machine.capacity_tokens * machine.kv_bytes
        executors = AttentionCapacity(kv_bytes * len(prefill) / num_users, rate)
        own = AttentionCapacity(kv_bytes, machine.decode_bytes_per_s)
        ratio = memory_bound([executors], own)
        if (tpot_s := self._targets.tpot_s) is not None:
            num = max(1, decode.batch.local.num)
            context = max(1.0, decode.batch.local.tokens / num)
            slo_batch = machine.costs.slo_batch(tpot_s, context)
            ratio = min(ratio, compute_bound(machine.costs.rest_batch(tpot_s), slo_batch))
        return OffloadLimits(
            ratio=ratio,
            kv_bytes=machine.kv_bytes,
            executor_bytes_per_s=rate,
            decode_bytes_per_s=machine.decode_bytes_per_s,
            sync_s=machine.sync_s,
        )

    def _behind_step(self, decode: Instance, ended: list[Job]) -> None:
        for job in ended:
            self._num_open -= 1
            self._give_back(job, decode)
        self._finished.extend(ended)
        if decode.num_steps % _LOOK_STEPS == 0:
            self._call_back(decode)
        while decode.local_tokens + decode.lent_tokens > decode.machine.capacity_tokens:
            victim = next((job for job in reversed(list(decode.batch)) if not job.peer), None)
            if victim is None:
                break
            self._preempt(decode, victim)
        if ended:
            self._place(decode)

    def _give_back(self, job: Job, decode: Instance) -> None:
        if job.peer:
            lender = self.instances[job.peer]
            decode.comes_home(job)
            job.peer = LOCAL
            self._place(lender)  # if it decodes as well, and waited for the room

    def _call_back(self, decode: Instance) -> None:
        """Brings back what the policy wants here, and what its peer has no room for."""
        policy = self._policies.offload
        jobs = decode.offloaded_jobs()
        if policy is None or not jobs:
            return
        batch = decode.decode_batch(self._max_output_tokens)
        for name in policy.call_back(batch, self._limits(decode)):
            self._bring(decode, jobs.pop(name))
        for peer in {job.peer for job in jobs.values()}:
            lender = self.instances[peer]
            while lender.lent_tokens + lender.local_tokens > lender.machine.capacity_tokens:
                job = next(job for job in reversed(list(jobs.values())) if job.peer == peer)
                self._bring(decode, jobs.pop(str(job.number)))

    def _bring(self, decode: Instance, job: Job) -> None:
        """KV comes from a peer, if there is room for it; else the job is computed anew."""
        num_tokens = decode.batch.tokens_of(job)
        room = decode.machine.capacity_tokens - decode.local_tokens - decode.lent_tokens
        if num_tokens > room:
            self._preempt(decode, job)
            return
        self.instances[job.peer].link.move(num_tokens * decode.machine.kv_bytes)
        decode.comes_home(job)
        decode.batch.move(job, LOCAL)

    def _preempt(self, decode: Instance, job: Job) -> None:
        decode.batch.leave(job)
        self._give_back(job, decode)
        job.num_cached = 0
        job.num_preemptions += 1
        decode.waiting.appendleft(job)

    def _balance(self) -> None:
        balancer = self._policies.balancer
        assert balancer is not None
        loads = [instance.load() for instance in self.instances.values()]
        change = balancer.decide(loads, self._loop.now)
        if change is not None:
            self._num_role_changes += 1
            instance = self.instances[change.worker_id]
            instance.role = change.role
            if change.role == "prefill":  # what has not begun begins elsewhere
                waiting, instance.waiting = list(instance.waiting), type(instance.waiting)()
                for job in waiting:
                    self._reroute(job)
        if self._num_open:
            self._loop.after(_BALANCE_S, self._balance)

    def _reroute(self, job: Job) -> None:
        loads = [instance.load() for instance in self.instances.values()]
        chosen = self._policies.router.choose(self._view(job), loads)
        assert chosen is not None
        self.instances[chosen].waiting.append(job)
        self._place(self.instances[chosen])
