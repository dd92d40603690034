"""Maps safetensors files: the library checks the header, the tensors stay in the file."""

import json
from dataclasses import dataclass
from mmap import MADV_DONTNEED, mmap
from pathlib import Path

import numpy as np

from artesian.loader.base import CheckpointError, Tensor, TensorFormat
from artesian.loader.mapping import map_file

_MAX_HEADER_BYTES = 100_000_000
_FORMATS: dict[str, TensorFormat] = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file: dtype as the file names it, place from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    num_bytes: int


class SafetensorsFile:
    """A mapped safetensors file. Raises `CheckpointError` when it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap = map_file(path)
        size = len(self._map)
        header_bytes = int.from_bytes(self._map[:8], "little")
        if size < 8 or header_bytes > min(size - 8, _MAX_HEADER_BYTES):
            raise CheckpointError(
                f"{path} cannot be loaded: it says that its header has {header_bytes} bytes, the "
                f"file has {size}; it is damaged or cut off: download it again"
            )
        self._check_with_library()
        start = 8 + header_bytes
        self.header: bytes = self._map[8:start]
        self.tensors = {
            name: StoredTensor(
                entry["dtype"],
                tuple(entry["shape"]),
                start + entry["data_offsets"][0],
                entry["data_offsets"][1] - entry["data_offsets"][0],
            )
            for name, entry in json.loads(self.header).items()
            if name != "__metadata__"
        }

    def tensor(self, stored_name: str, name: str) -> Tensor:
        """The tensor `stored_name` of the file, called `name`; a view of the map."""
        entry = self.tensors[stored_name]
        tensor_format = _FORMATS.get(entry.dtype)
        if tensor_format is None:
            raise CheckpointError(
                f"{self.path}: the tensor {stored_name!r} has dtype {entry.dtype}, supported are "
                f"{', '.join(_FORMATS)}; take the model's unquantised version or a GGUF file"
            )
        data = np.frombuffer(self._map, np.uint8, entry.num_bytes, entry.offset_bytes)
        return Tensor(name, entry.shape, tensor_format, data)

    def sample(self, stored_name: str, num_bytes: int) -> bytes:
        """Bytes from the beginning, middle and end of a tensor."""
        entry = self.tensors[stored_name]
        last = max(0, entry.num_bytes - num_bytes)
        starts = (entry.offset_bytes + offset for offset in (0, last // 2, last))
        return b"".join(self._map[s : s + min(num_bytes, entry.num_bytes)] for s in starts)

    def release_pages(self) -> None:
        """Gives back the memory of what was read; it is read again when touched."""
        self._map.madvise(MADV_DONTNEED)

    def _check_with_library(self) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            # Checks offsets, sizes, overlaps and gaps against the file.
            with safe_open(self.path, "np"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self.path} cannot be loaded: {error}; "
                "it is damaged or cut off: download it again"
            ) from error
