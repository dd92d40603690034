"""What computing and moving KV costs on the machine that is simulated."""

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """A model on its accelerators, and the links of its host.

    Attributes:
        kv_bytes: of a token.
        prefill_s: a token of a prompt.
        decode_s: a token of an answer, with all slots busy.
        window_tokens: a conversation that outgrows it loses its older half.
        num_slots: requests that run at once.
        device_bytes_per_s: from host memory to the accelerators.
        read_bytes_per_s, write_bytes_per_s: of the disk.
    """

    kv_bytes: float
    prefill_s: float
    decode_s: float
    window_tokens: int = 4096
    num_slots: int = 24
    device_bytes_per_s: float = 26e9
    read_bytes_per_s: float = 5e9
    write_bytes_per_s: float = 5e9


PAPER_MODELS = {
    "LLaMA-13B": CostModel(kv_bytes=0.78 * MIB, prefill_s=70e-6, decode_s=0.0235),
    "LLaMA-65B": CostModel(
        kv_bytes=2.5 * MIB, prefill_s=176e-6, decode_s=0.047, window_tokens=2048
    ),
    "LLaMA-70B": CostModel(kv_bytes=0.31 * MIB, prefill_s=190e-6, decode_s=0.047),
    "Falcon-40B": CostModel(kv_bytes=0.12 * MIB, prefill_s=110e-6, decode_s=0.035),
}
"""The models of CachedAttention (2403.19708) on four A100.

KV per token, the links, 24 slots and T_pref of LLaMA-65B are the paper's. The other prefill times
are in proportion to parameters, and decoding is such that all turns with 13B take about the 6.3 to
7 hours of GPU time that the paper reports: both are ours. LLaMA-65B is of the generation with a
window of 2,048 tokens.
"""
