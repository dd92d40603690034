"""Reads the header of a GGUF file: metadata and where each tensor lies.

The `gguf` library's reader turns every string of the vocabulary into several numpy arrays, which
takes seconds; this one leaves arrays in the file until somebody asks for them. Nothing in the file
is trusted: every count, length and offset is checked against the size of the file first.
"""

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import overload

import numpy as np

from artesian.loader.base import CheckpointError, TensorFormat
from artesian.ops.base import F32

_DEFAULT_ALIGNMENT_BYTES = 32
_MAX_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9

_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]

_FORMATS: dict[int, TensorFormat] = {
    0: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    6: "q5_0",
    7: "q5_1",
    8: "q8_0",
    12: "q4_k",
    13: "q5_k",
    14: "q6_k",
    30: "bf16",
}

BLOCKS: dict[TensorFormat, tuple[int, int]] = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q4_0": (32, 18),
    "q4_1": (32, 20),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
    "q8_0": (32, 34),
    "q4_k": (256, 144),
    "q5_k": (256, 176),
    "q6_k": (256, 210),
}
"""Values and bytes of one block of each format."""

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class ArrayRef:
    """An array of the metadata, still in the file."""

    element_type: int
    count: int
    offset_bytes: int


class StringTable(Sequence[str]):
    """An array of strings, each decoded when it is asked for."""

    def __init__(self, buffer: mmap, starts: "array[int]") -> None:
        self._buffer = buffer
        self._starts = starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        start, end = self._starts[index] + _U64.size, self._starts[index + 1]
        return self._buffer[start:end].decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of the file: `offset_bytes` from the beginning of the file, `shape` row-major."""

    name: str
    shape: tuple[int, ...]
    format: TensorFormat
    offset_bytes: int
    num_bytes: int


class GgufHeader:
    """The header of a mapped GGUF file.

    Raises `CheckpointError` for anything that is not a whole, sane header of version 2 or 3.
    """

    def __init__(self, buffer: mmap, path: Path) -> None:
        self.path = path
        self.scalars: dict[str, Scalar] = {}
        self.arrays: dict[str, ArrayRef] = {}
        self.tensors: dict[str, TensorInfo] = {}
        self._buffer = buffer
        self._starts: dict[str, array[int]] = {}
        self._size_bytes = len(buffer)
        self._position = 0
        try:
            self._read()
        except (struct.error, OverflowError) as error:
            raise self._error(
                f"it ends inside its header ({self._size_bytes} bytes); download it again"
            ) from error

    def strings(self, key: str) -> StringTable:
        """The strings of a metadata array. Raises `CheckpointError` when there is none."""
        if self._array(key).element_type != _STRING:
            raise self._error(f"metadata {key} should be an array of strings")
        return StringTable(self._buffer, self._starts[key])

    def numbers(self, key: str) -> "np.ndarray[tuple[int], np.dtype[np.generic]]":
        """The numbers of a metadata array. Raises `CheckpointError` when there is none."""
        array = self._array(key)
        if array.element_type == _STRING:
            raise self._error(f"metadata {key} should be an array of numbers")
        dtype = np.dtype(_SCALARS[array.element_type].format)
        return np.frombuffer(self._buffer, dtype, array.count, array.offset_bytes)

    def _array(self, key: str) -> ArrayRef:
        if key not in self.arrays:
            raise self._error(f"metadata {key} is missing; convert the model again")
        return self.arrays[key]

    def floats(self, info: TensorInfo) -> F32:
        """The values of a tensor stored as f32, a view of the file."""
        count = info.num_bytes // 4
        return np.frombuffer(self._buffer, np.float32, count, info.offset_bytes)

    def _error(self, message: str) -> CheckpointError:
        return CheckpointError(f"{self.path} cannot be loaded: {message}")

    def _read(self) -> None:
        if self._buffer[:4] != b"GGUF":
            raise self._error(
                f"it starts with {self._buffer[:4]!r}, a GGUF file with b'GGUF'; "
                "is it another format, or an error page saved by a download?"
            )
        self._position = 4
        version = self._scalar(4)
        if version not in (2, 3):
            raise self._error(
                f"it has GGUF version {version}, supported are 2 and 3 (little-endian); "
                "convert the model again with a current converter"
            )
        num_tensors = self._count("tensor count", min_bytes_each=24)
        num_entries = self._count("metadata count", min_bytes_each=13)
        for _ in range(num_entries):
            self._read_entry()
        alignment = self.scalars.get("general.alignment", _DEFAULT_ALIGNMENT_BYTES)
        if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 20 or alignment % 8:
            raise self._error(f"general.alignment is {alignment}, it must be a multiple of 8")
        infos = [self._read_tensor_info() for _ in range(num_tensors)]
        self.data_start_bytes = -(-self._position // alignment) * alignment
        self._place(infos, alignment)

    def _scalar(self, value_type: int) -> bool | int | float:
        layout = _SCALARS[value_type]
        value: bool | int | float = layout.unpack_from(self._buffer, self._position)[0]
        self._position += layout.size
        return value

    def _count(self, what: str, min_bytes_each: int) -> int:
        count = int(self._scalar(10))
        if count * min_bytes_each > self._size_bytes - self._position:
            raise self._error(
                f"its {what} is {count}, more than a file of {self._size_bytes} bytes can hold; "
                "it is damaged or cut off: download it again"
            )
        return count

    def _string(self) -> str:
        length = self._count("string length", min_bytes_each=1)
        start = self._position
        self._position = start + length
        return self._buffer[start : self._position].decode("utf-8", "replace")

    def _read_entry(self) -> None:
        key = self._string()
        if key in self.scalars or key in self.arrays:
            raise self._error(f"metadata {key!r} appears twice")
        value_type = int(self._scalar(4))
        if value_type in _SCALARS:
            self.scalars[key] = self._scalar(value_type)
        elif value_type == _STRING:
            self.scalars[key] = self._string()
        elif value_type == _ARRAY:
            self.arrays[key] = self._skip_array(key)
        else:
            raise self._error(f"metadata {key!r} has the unknown type {value_type}")

    def _skip_array(self, key: str) -> ArrayRef:
        element_type = int(self._scalar(4))
        if element_type != _STRING and element_type not in _SCALARS:
            raise self._error(
                f"metadata {key!r} is an array of type {element_type}, which is not supported"
            )
        layout = _U64 if element_type == _STRING else _SCALARS[element_type]
        count = self._count(f"array length of {key!r}", min_bytes_each=layout.size)
        start = self._position
        if element_type != _STRING:
            self._position = start + count * layout.size
            return ArrayRef(element_type, count, start)
        self._starts[key] = self._string_starts(key, count)
        self._position = self._starts[key][-1]
        return ArrayRef(element_type, count, start)

    def _string_starts(self, key: str, count: int) -> "array[int]":
        """Where each string begins (at its length), and where the last one ends."""
        buffer, read_length, position = self._buffer, _U64.unpack_from, self._position
        starts = array("Q", [position])
        for _ in range(count):
            position += 8 + read_length(buffer, position)[0]
            starts.append(position)
        if position > self._size_bytes:
            raise self._error(f"a string of {key!r} reaches past its end; download it again")
        return starts

    def _read_tensor_info(self) -> TensorInfo:
        name = self._string()
        num_dimensions = int(self._scalar(4))
        if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
            raise self._error(
                f"tensor {name!r} has {num_dimensions} dimensions, allowed are 1 to 4"
            )
        shape = tuple(int(self._scalar(10)) for _ in range(num_dimensions))[::-1]
        type_id = int(self._scalar(4))
        offset = int(self._scalar(10))
        tensor_format = _FORMATS.get(type_id)
        if tensor_format is None:
            raise self._error(
                f"tensor {name!r} has the quantisation type {type_id}, supported are "
                f"{', '.join(BLOCKS)}; take another file of this model, such as Q4_K_M or Q8_0"
            )
        num_values = 1
        for size in shape:
            num_values *= size
        block_values, block_bytes = BLOCKS[tensor_format]
        if num_values == 0 or shape[-1] % block_values:
            raise self._error(
                f"tensor {name!r} has shape {shape}; rows of {tensor_format} must be a positive "
                f"multiple of {block_values}"
            )
        return TensorInfo(
            name, shape, tensor_format, offset, num_values // block_values * block_bytes
        )

    def _place(self, infos: list[TensorInfo], alignment: int) -> None:
        """Checks that the tensors lie inside the file, aligned, without overlap."""
        end = 0
        for info in sorted(infos, key=lambda info: info.offset_bytes):
            if info.name in self.tensors:
                raise self._error(f"tensor {info.name!r} appears twice")
            if info.offset_bytes % alignment:
                raise self._error(
                    f"tensor {info.name!r} lies at offset {info.offset_bytes}, "
                    f"not a multiple of the alignment {alignment}"
                )
            if info.offset_bytes < end:
                raise self._error(f"tensor {info.name!r} overlaps the tensor before it")
            end = info.offset_bytes + info.num_bytes
            if self.data_start_bytes + end > self._size_bytes:
                raise self._error(
                    f"tensor {info.name!r} ends at byte {self.data_start_bytes + end}, but the "
                    f"file has {self._size_bytes}; it is cut off: download it again"
                )
            self.tensors[info.name] = TensorInfo(
                info.name,
                info.shape,
                info.format,
                self.data_start_bytes + info.offset_bytes,
                info.num_bytes,
            )
