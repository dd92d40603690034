"""Turns stored tensors into float32."""

import numpy as np

from artesian.loader.base import Tensor
from artesian.ops.base import F32


def to_float32(tensor: Tensor) -> F32:
    """The values of `tensor` as float32 of its shape; a view of the file where it holds float32."""
    if tensor.format == "f32":
        return tensor.data.view(np.float32).reshape(tensor.shape)
    if tensor.format == "f16":
        return tensor.data.view(np.float16).astype(np.float32).reshape(tensor.shape)
    if tensor.format == "bf16":
        bits = tensor.data.view(np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(tensor.shape)
    # Imported here: the library takes longer to import than a small model takes to load.
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    rows = tensor.data.reshape(tensor.shape[0], -1)
    values: F32 = dequantize(rows, GGMLQuantizationType[tensor.format.upper()])
    return values.reshape(tensor.shape)
