"""The GGUF decoder against the gguf package's own."""

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from gguf.quants import dequantize, quantize

from artesian import _core

FORMATS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
QUANTIZABLE = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
# Where the half-precision scales of a block lie; they must be finite for a block to be valid.
HALVES = {
    "F32": [],
    "F16": [0],
    "BF16": [],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}

U8 = npt.NDArray[np.uint8]


def random_blocks(format_name: str, rows: int, num_blocks: int, seed: int) -> U8:
    """Rows of blocks of any bits whose scales are finite."""
    rng = np.random.default_rng(seed)
    _, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[format_name]]
    blocks = rng.integers(0, 256, (rows, num_blocks, block_bytes), dtype=np.uint8)
    if format_name in ("F32", "BF16"):  # keep the exponent below that of infinity
        blocks[..., -1] &= 0xBF
    for offset in HALVES[format_name]:
        blocks[..., offset + 1] &= 0xBF
    return blocks.reshape(rows, -1)


def expected(data: U8, format_name: str) -> npt.NDArray[np.float32]:
    return np.asarray(dequantize(data, gguf.GGMLQuantizationType[format_name]), np.float32)


@pytest.mark.parametrize("format_name", FORMATS)
def test_random_blocks_decode_to_the_same_bits(format_name: str) -> None:
    block_len, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[format_name]]
    for seed, (rows, num_blocks) in enumerate([(1, 1), (3, 2), (17, 5)]):
        data = random_blocks(format_name, rows, num_blocks, seed)
        values = _core.dequantize(data.reshape(-1), format_name, rows, num_blocks * block_len)
        want = expected(data, format_name)
        assert values.dtype == np.float32
        assert values.shape == want.shape
        np.testing.assert_array_equal(values.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("format_name", QUANTIZABLE)
def test_quantised_weights_come_back(format_name: str) -> None:
    weights = np.random.default_rng(7).standard_normal((8, 256), dtype=np.float32)
    data = quantize(weights, gguf.GGMLQuantizationType[format_name]).view(np.uint8)
    values = _core.dequantize(data.reshape(-1), format_name, 8, 256)
    np.testing.assert_array_equal(values, expected(data, format_name))
    assert np.abs(values - weights).max() < 0.6


def test_no_rows_is_an_empty_tensor() -> None:
    assert _core.dequantize(np.empty(0, np.uint8), "Q4_K", 0, 256).shape == (0, 256)


@pytest.mark.parametrize(
    ("num_bytes", "format_name", "rows", "cols", "message"),
    [
        (18, "Q9_Z", 1, 32, 'unknown weight format "Q9_Z": known are F32, F16'),
        (18, "Q4_0", 1, 33, "33 weights is not a whole number of Q4_0 blocks of 32"),
        (17, "Q4_0", 1, 32, "1 Q4_0 rows of 32 weights take 18 bytes each, got 17"),
        (36, "Q4_0", 2**62, 32, "take 18 bytes each, got 36"),
        (36, "F32", 1, 2**63, "larger than memory"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    num_bytes: int, format_name: str, rows: int, cols: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _core.dequantize(np.zeros(num_bytes, np.uint8), format_name, rows, cols)
