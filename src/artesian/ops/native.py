"""`Ops` that records: a model's operations become one program that Rust runs for every batch."""

from collections.abc import Sequence
from typing import Literal

from artesian import _core
from artesian.ops.base import F32, Activation, AttentionSpec, KvDtype, KvLayout

Isa = Literal["portable", "avx2", "avx512", "avx512bf16", "amx"]


def default_isa() -> str:
    """The best instruction set of this machine."""
    return _core.available_isas()[-1]


def default_kv_dtype(isa: Isa | None = None) -> KvDtype:
    """The dtype that attention is fastest in: bf16 where the CPU multiplies it, else f16."""
    return "bf16" if (isa or default_isa()) in ("avx512bf16", "amx") else "f16"


def kv_block_bytes(layout: KvLayout) -> int:
    """Bytes of one KV block of that layout, as the kernels lay it out."""
    return native_layout(layout).block_bytes


def native_layout(layout: KvLayout) -> _core.KvLayout:
    """The kernels' form of a layout. Raises `ValueError` for one that they cannot run."""
    return _core.KvLayout(
        layout.num_layers,
        layout.num_kv_heads,
        layout.head_dim,
        layout.block_size_tokens,
        layout.dtype,
        layout.summaries,
    )


class RecordingOps:
    """Records operations into a program builder; values are its registers."""

    def __init__(self) -> None:
        self.builder = _core.ProgramBuilder()

    def embed(self, table: _core.Weight, scale: float = 1.0) -> int:
        """See `Ops.embed`."""
        return self.builder.embed(table, scale)

    def rms_norm(self, x: int, weight: F32, eps: float, residual: int | None = None) -> int:
        """See `Ops.rms_norm`."""
        return self.builder.rms_norm(x, weight, eps, residual)

    def linear(
        self,
        x: int,
        weights: Sequence[_core.Weight],
        bias: F32 | None = None,
        residual: int | None = None,
    ) -> int:
        """See `Ops.linear`."""
        return self.builder.linear(x, list(weights), bias, residual)

    def attention(self, qkv: int, spec: AttentionSpec) -> int:
        """See `Ops.attention`."""
        rope = spec.rope
        return self.builder.attention(
            qkv,
            spec.layer,
            spec.num_heads,
            spec.num_kv_heads,
            spec.head_dim,
            spec.scale,
            window=spec.window,
            softcap=spec.softcap,
            norm_eps=spec.norm_eps,
            inv_freq=None if rope is None else rope.inv_freq,
            interleaved=rope is not None and rope.interleaved,
            magnitude=1.0 if rope is None else rope.magnitude,
            q_norm=spec.q_norm,
            k_norm=spec.k_norm,
        )

    def gated(self, gate_up: int, activation: Activation) -> int:
        """See `Ops.gated`."""
        return self.builder.gated(gate_up, activation)

    def add(self, x: int, y: int) -> int:
        """See `Ops.add`."""
        return self.builder.add(x, y)

    def logit_rows(self, x: int) -> int:
        """See `Ops.logit_rows`."""
        return self.builder.logit_rows(x)

    def softcap(self, x: int, cap: float) -> int:
        """See `Ops.softcap`."""
        return self.builder.softcap(x, cap)
