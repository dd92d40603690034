"""Runs models in numpy: slow, and what everything faster is compared with."""

from collections.abc import Sequence

import numpy as np

from artesian.loader.base import Checkpoint
from artesian.loader.dequantize import to_float32
from artesian.models import create_model
from artesian.ops.base import F32, KvLayout
from artesian.ops.reference import Activations, ReferenceKv, ReferenceOps, Rows


class ReferenceWeights:
    """A checkpoint's tensors as float32 matrices, dequantised when first asked for."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._names = frozenset(checkpoint.tensor_names())
        self._matrices: dict[str, F32] = {}

    def linear(self, name: str) -> F32:
        """The (out, in) matrix of that name. Raises `KeyError`."""
        if name not in self._matrices:
            self._matrices[name] = to_float32(self._checkpoint.tensor(name))
        return self._matrices[name]

    def vector(self, name: str) -> F32:
        """The vector of that name. Raises `KeyError`."""
        return to_float32(self._checkpoint.tensor(name))

    def __contains__(self, name: str) -> bool:
        return name in self._names


class ReferenceRunner:
    """A `Runner` in numpy.

    Args:
        checkpoint: the model.
        layout: shape and dtype of the KV; None for this model's, in f32, in blocks of 32 tokens.
        num_blocks: blocks in the arena.
        activations: see `ReferenceOps`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        layout: KvLayout | None = None,
        num_blocks: int = 64,
        activations: Activations = "f32",
    ) -> None:
        config = checkpoint.config
        self.layout = layout or KvLayout(
            config.num_layers, config.num_kv_heads, config.head_dim, dtype="f32"
        )
        self._kv = ReferenceKv(self.layout, num_blocks)
        self._model = create_model(config, ReferenceWeights(checkpoint))
        self._activations = activations

    def forward(self, batch: Rows) -> F32:
        """Logits float32 (len(batch.logit_rows), vocab_size); stores the batch's KV.

        Raises `ValueError` for pushes: its KV is not in the form that others read.
        """
        if batch.pushes:
            raise ValueError("the numpy model writes no KV to peers: use the kernels")
        if batch.probe is not None:
            batch.probe[:] = np.nan
        logits: F32 = self._model.forward(ReferenceOps(batch, self._kv, self._activations))
        return logits

    def turn(self, from_blocks: Sequence[int], to_blocks: Sequence[int], delta: int) -> None:
        """See `TurningRunner.turn`."""
        self._kv.turn(list(from_blocks), list(to_blocks), delta)
