"""What a user asks to be simulated, by names."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from artesian.cluster.policies import (
    ConditionalDisaggregation,
    FixedOffload,
    LeastConnections,
    LeastPredictedTime,
    LoadAwareOffload,
    OffloadAdmission,
    QueueTimeBalancer,
    RandomChoice,
    Role,
    RoundRobin,
    Router,
)
from artesian.profile import read_profile
from artesian.sim.cluster.accelerators import ACCELERATORS, MODELS, machine_by_roofline
from artesian.sim.cluster.calls import Call
from artesian.sim.cluster.cluster import Cluster, Policies
from artesian.sim.cluster.lengths import openthoughts_like, sharegpt_like
from artesian.sim.cluster.machine import Machine, machine_of
from artesian.sim.cluster.recorded import read_calls
from artesian.sim.cluster.report import Report, Targets

RouterName = Literal["least-time", "least-connections", "round-robin", "random"]
ROUTERS: dict[RouterName, type[Router]] = {
    "least-time": LeastPredictedTime,
    "least-connections": LeastConnections,
    "round-robin": RoundRobin,
    "random": RandomChoice,
}
GENERATORS = {"sharegpt-like": sharegpt_like, "openthoughts-like": openthoughts_like}


class SettingError(ValueError):
    """A setting of the simulation makes no sense; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A cluster and its policies.

    Attributes:
        offload: `none`, `any` or `all` (Adrenaline's admission with that combinator), or a ratio.
        share: of a prefill worker's machine, for its executor.
        mixed_tokens: of prompts in a step while others decode; None: the machine's.
    """

    prefill: int = 1
    decode: int = 1
    both: int = 0
    router: RouterName = "least-time"
    offload: str = "none"
    share: float = 0.2
    balance: bool = False
    mixed_tokens: int | None = None
    max_output_tokens: int = 1024
    targets: Targets = field(default_factory=Targets)

    def roles(self) -> list[Role]:
        """Of each worker. Raises `SettingError` when nobody would decode."""
        if self.decode + self.both < 1:
            raise SettingError("nobody decodes: ask for --decode or --both workers")
        names: tuple[tuple[Role, int], ...]
        names = (("prefill", self.prefill), ("decode", self.decode), ("both", self.both))
        return [role for role, num in names for _ in range(num)]

    def run(self, machine: Machine, calls: list[Call]) -> Report:
        """Simulates it. Raises `SettingError`."""
        if not 0 <= self.share < 1:
            raise SettingError(f"an executor's share must be from 0 to below 1, not {self.share}")
        if self.mixed_tokens is not None:
            tokens = max(self.mixed_tokens, machine.prompt_tokens)
            machine = replace(machine, mixed_tokens=self.mixed_tokens, prompt_tokens=tokens)
        policies = Policies(
            router=ROUTERS[self.router](),
            disaggregation=ConditionalDisaggregation(handover_s=machine.handover_s),
            offload=offload_of(self.offload),
            balancer=QueueTimeBalancer() if self.balance else None,
        )
        cluster = Cluster(
            machine,
            self.roles(),
            policies,
            share=self.share if policies.offload is not None else 0.0,
            targets=self.targets,
            max_output_tokens=self.max_output_tokens,
        )
        return cluster.run(calls)


def offload_of(name: str) -> OffloadAdmission | None:
    """The admission of that name. Raises `SettingError`."""
    if name == "none":
        return None
    if name in ("any", "all"):
        return LoadAwareOffload("any" if name == "any" else "all")
    try:
        return FixedOffload(float(name))
    except ValueError:
        raise SettingError(f"offload must be none, any, all, or a ratio, not {name!r}") from None


def machine_by_name(name: str) -> Machine:
    """`ACCELERATOR:MODEL` by data sheets, or the file of a profile.

    Raises:
        SettingError: there is neither of that name.
        OSError, ProfileError: the file cannot be used.
    """
    accelerator, _, model = name.partition(":")
    if accelerator in ACCELERATORS and model in MODELS:
        return machine_by_roofline(ACCELERATORS[accelerator], MODELS[model])
    if Path(name).is_file():
        return machine_of(read_profile(Path(name)))
    known = ", ".join(f"{a}:{m}" for a in ACCELERATORS for m in MODELS)
    raise SettingError(f"{name} is no file of `artesian profile`, and none of {known}")


def calls_by_name(name: str, num_calls: int, calls_per_s: float | None, seed: int) -> list[Call]:
    """Made-up calls of that name, or those of a file.

    Raises:
        SettingError: there is neither.
        OSError, TraceError: as `read_calls`.
    """
    if name in GENERATORS:
        return GENERATORS[name](num_calls, calls_per_s or 1.0, seed)
    if Path(name).is_file():
        return read_calls(Path(name), num_calls, calls_per_s, seed)
    raise SettingError(f"{name} is no file, and none of {', '.join(GENERATORS)}")
