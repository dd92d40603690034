"""The Rust kernels. Only `artesian.ops.native` and thin wrappers import this module."""

import numpy as np
import numpy.typing as npt

def available_isas() -> list[str]:
    """Names of the instruction sets this machine can run, weakest first."""

def dequantize(
    data: npt.NDArray[np.uint8], format_name: str, rows: int, cols: int
) -> npt.NDArray[np.float32]:
    """A GGUF tensor's bytes, uint8 (num_bytes,), as float32 (rows, cols).

    `format_name` is GGUF's name of the format, such as "Q4_K".

    Raises `ValueError` for an unknown format or sizes that do not fit.
    """
