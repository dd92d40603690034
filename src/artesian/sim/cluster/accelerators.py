"""Accelerators and models by their data sheets: a roofline, with few assumptions that are ours."""

from dataclasses import dataclass

from artesian.profile import StepCosts
from artesian.sim.cluster.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Data sheet: memory, its bandwidth, dense 16-bit arithmetic, link to a peer."""

    name: str
    memory_bytes: float
    bytes_per_s: float
    flops_per_s: float
    link_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A dense transformer with 16-bit weights and KV, all heads with KV of their own."""

    name: str
    num_params: float
    num_layers: int
    hidden_size: int

    @property
    def weight_bytes(self) -> float:
        """Of all weights."""
        return 2 * self.num_params

    @property
    def kv_bytes(self) -> float:
        """Of a token: K and V of all layers."""
        return 2 * 2 * self.num_layers * self.hidden_size


A100 = Accelerator(
    name="A100-80GB",
    memory_bytes=80e9,
    bytes_per_s=2.039e12,
    flops_per_s=312e12,
    link_bytes_per_s=300e9,
)
H100 = Accelerator(
    name="H100-80GB",
    memory_bytes=80e9,
    bytes_per_s=3.35e12,
    flops_per_s=989e12,
    link_bytes_per_s=450e9,
)
LLAMA2_7B = Model(name="Llama-2-7B", num_params=6.74e9, num_layers=32, hidden_size=4096)
LLAMA2_13B = Model(name="Llama-2-13B", num_params=13.0e9, num_layers=40, hidden_size=5120)
ACCELERATORS = {"a100": A100, "h100": H100}
MODELS = {"llama2-7b": LLAMA2_7B, "llama2-13b": LLAMA2_13B}


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """What data sheets do not say.

    Attributes:
        bandwidth_part: of the memory's bandwidth that kernels reach. 0.85: the one published figure
            of the kind that we have, 84 to 90% in CloudMatrix-Infer's table of attention kernels.
        flops_part: of the arithmetic that long prompts reach (ours).
        memory_part: that a server plans with, and reserve_bytes of it for activations: vLLM's
            default, and ours.
        layer_s: of each step and layer, which neither bandwidth nor arithmetic explains (launches,
            norms): calibrated.
        executor_rate, executor_share: with that share of the machine attention reaches so much of
            the memory's bandwidth (20% to 60%: Adrenaline's figure, calibrated); between and beyond
            it saturates as 1 - exp(-x) (ours).
        layer_sync_s: messages of a layer there and back, layer_offload_s: of these, what nothing
            hides (ours).
    """

    bandwidth_part: float = 0.85
    flops_part: float = 0.6
    memory_part: float = 0.9
    reserve_bytes: float = 2e9
    layer_s: float = 80e-6
    executor_share: float = 0.2
    executor_rate: float = 0.6
    layer_sync_s: float = 30e-6
    layer_offload_s: float = 20e-6


def machine_by_roofline(
    accelerator: Accelerator, model: Model, roofline: Roofline | None = None
) -> Machine:
    """A model on an accelerator.

    Raises:
        ValueError: its weights do not fit.
    """
    given = roofline or Roofline()
    planned = given.memory_part * accelerator.memory_bytes - given.reserve_bytes
    room = planned - model.weight_bytes
    if room <= 0:
        raise ValueError(f"{model.name} does not fit {accelerator.name}")
    bytes_per_s = given.bandwidth_part * accelerator.bytes_per_s
    weights_s = model.weight_bytes / bytes_per_s
    row_s = 2 * model.num_params / accelerator.flops_per_s
    pair_s = 4 * model.num_layers * model.hidden_size / accelerator.flops_per_s

    def executor_bytes_per_s(share: float) -> float:
        missing = (1 - given.executor_rate) ** (share / given.executor_share)
        return float(min((1 - missing) * accelerator.bytes_per_s, bytes_per_s))

    return Machine(
        name=f"{model.name} on {accelerator.name}",
        costs=StepCosts(
            fixed_s=given.layer_s * model.num_layers,
            knee_rows=weights_s / row_s,
            row_s=row_s,
            prompt_row_s=row_s / given.flops_part,
            kv_token_s=model.kv_bytes / bytes_per_s,
            pair_s=pair_s / given.flops_part,
        ),
        kv_bytes=model.kv_bytes,
        capacity_tokens=int(room / model.kv_bytes),
        max_seqs=1024,
        prompt_tokens=4096,
        mixed_tokens=512,
        link_bytes_per_s=accelerator.link_bytes_per_s,
        executor_bytes_per_s=executor_bytes_per_s,
        slowdown=lambda share: 1 / (1 - share),
        sync_s=given.layer_sync_s * model.num_layers,
        offload_s=given.layer_offload_s * model.num_layers,
    )
