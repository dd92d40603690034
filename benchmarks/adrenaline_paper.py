"""Adrenaline's (2503.20552) figures, and the simulator set up as its testbed.

What is calibrated, what is assumed, and what is predicted are tables of their own here, and no
figure is in two of them. The paper's figures come from descriptions of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from artesian.cluster.policies import (
    Disaggregation,
    FixedOffload,
    LoadAwareOffload,
    OffloadAdmission,
    Role,
    WorkerLoad,
)
from artesian.sim.cluster import (
    Call,
    Cluster,
    Machine,
    Model,
    Policies,
    Report,
    Roofline,
    machine_by_roofline,
    openthoughts_like,
    sharegpt_like,
)
from artesian.sim.cluster.accelerators import A100, LLAMA2_7B, LLAMA2_13B

CALIBRATION = {
    "attention's part of a decode step, Llama-2-7B, batch 80": 0.695,
    "share of the SMs that an executor gets": 0.2,
    "part of HBM bandwidth that attention reaches there": 0.6,
}
BATCH, CONTEXT = 80, 1024
ASSUMED: dict[str, object] = {
    "tokens of a sequence in that batch": CONTEXT,
    "part of HBM bandwidth that kernels reach": Roofline().bandwidth_part,
    "part of the arithmetic that prompts reach": Roofline().flops_part,
    "part of HBM that a server plans with": Roofline().memory_part,
    "messages of a layer there and back, us": Roofline().layer_sync_s * 1e6,
    "of these not hidden, us": Roofline().layer_offload_s * 1e6,
    "lengths": "made up: log-normal, ShareGPT's means; reasoning cut at 4,096 tokens",
}
"""Ours."""
Range = tuple[float, float]
THROUGHPUT: dict[tuple[str, str], Range] = {
    ("Llama-2-7B", "ShareGPT"): (1.47, 1.47),
    ("Llama-2-13B", "ShareGPT"): (1.63, 1.63),
    ("Llama-2-7B", "OpenThoughts"): (1.60, 1.66),
    ("Llama-2-13B", "OpenThoughts"): (1.57, 1.68),
}
"""With offloading over without, 1 prefill and 1 decode instance."""
KNEE = {"ShareGPT": 0.7, "OpenThoughts": 0.8}
"""The best ratio."""
TPOT_CHANGE: Range = (-0.295, -0.269)
TPOT_P99_CHANGE: Range = (-0.588, -0.485)
"""Llama-2-7B, OpenThoughts; at which rates is not known to us."""

MODELS: dict[str, Model] = {model.name: model for model in (LLAMA2_7B, LLAMA2_13B)}
RATIOS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)


@dataclass(frozen=True, slots=True)
class Workload:
    """Calls of a data set's lengths, more than can be served, and when the run counts."""

    make: Callable[[int, float, int], list[Call]]
    calls_per_s: float
    from_s: float
    until_s: float
    max_output_tokens: int

    def calls(
        self, calls_per_s: float | None, seed: int, until_s: float | None = None
    ) -> list[Call]:
        """As many as come until the end of the run."""
        rate = calls_per_s or self.calls_per_s
        return self.make(int(rate * (until_s or self.until_s)) + 1, rate, seed)


WORKLOADS = {
    "ShareGPT": Workload(sharegpt_like, 40.0, 50.0, 150.0, 2048),
    "OpenThoughts": Workload(openthoughts_like, 2.0, 600.0, 3000.0, 4096),
}


class AlwaysPeer(Disaggregation):
    """All prompts are computed by the prefill instance, as in the paper."""

    def wants_peer(
        self, num_uncached: int, decode: WorkerLoad, peers: Sequence[WorkerLoad] = ()
    ) -> bool:
        """See `Disaggregation`."""
        return True


def calibrated() -> Roofline:
    """The roofline whose time by itself makes attention the part of the step that the paper has."""
    part, share, rate = CALIBRATION.values()
    given = Roofline(executor_share=share, executor_rate=rate, layer_s=0.0)
    costs = machine_by_roofline(A100, LLAMA2_7B, given).costs
    attention_s = costs.attention_s(BATCH * CONTEXT)
    missing_s = attention_s * (1 / part - 1) - costs.rest_s(BATCH)
    if missing_s < 0:
        raise ValueError("the assumptions make everything but attention too slow")
    return replace(given, layer_s=missing_s / LLAMA2_7B.num_layers)


def machine(model: str) -> Machine:
    """One A100 with that model, calibrated."""
    return machine_by_roofline(A100, MODELS[model], calibrated())


def admission(name: str) -> OffloadAdmission | None:
    """`none`, `any`, `all`, or a fixed ratio."""
    if name == "none":
        return None
    if name in ("any", "all"):
        return LoadAwareOffload("any" if name == "any" else "all")
    return FixedOffload(float(name))


def simulate(
    model: str,
    data: str,
    offload: str,
    calls_per_s: float | None = None,
    seed: int = 0,
    num_prefill: int = 1,
    num_decode: int = 1,
) -> Report:
    """One run; without a rate there is always more to do than can be done."""
    workload = WORKLOADS[data]
    rate = (calls_per_s or workload.calls_per_s) * num_decode
    roles: list[Role] = ["prefill"] * num_prefill
    roles += ["decode"] * num_decode
    cluster = Cluster(
        machine(model),
        roles,
        Policies(disaggregation=AlwaysPeer(), offload=admission(offload)),
        max_output_tokens=workload.max_output_tokens,
    )
    return cluster.run(workload.calls(rate, seed), workload.from_s, workload.until_s)
