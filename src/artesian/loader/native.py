"""Runs models with the Rust kernels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from artesian import _core
from artesian.attention import SparseReport
from artesian.config.engine import EngineConfig
from artesian.loader.base import Checkpoint
from artesian.machine import num_usable_cpus
from artesian.models import create_model
from artesian.ops.base import F32, KvLayout
from artesian.ops.native import Isa, RecordingOps, native_layout
from artesian.ops.reference import Rows

_INT8_BLOCK = 32


class NativeWeights:
    """Packs a checkpoint's tensors for the kernels, each once.

    Args:
        checkpoint: the model on disk.
        runtime: the threads that pack, and the instruction set to pack for.
        int8: round every matrix whose rows are a multiple of 32 long to INT8 with one scale for
            each output channel; otherwise values stay those of the file.
    """

    def __init__(
        self, checkpoint: Checkpoint, runtime: _core.Runtime, *, int8: bool = False
    ) -> None:
        self._int8 = int8
        self._checkpoint = checkpoint
        self._runtime = runtime
        self._names = frozenset(checkpoint.tensor_names())
        self._packed: dict[str, _core.Weight] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def linear(self, name: str) -> _core.Weight:
        """The packed weight of that name. Raises `KeyError` naming it when absent."""
        weight = self._packed.get(name)
        if weight is None:
            tensor = self._checkpoint.tensor(name)
            rows, cols = tensor.shape
            weight = _core.Weight(
                self._runtime,
                tensor.data.reshape(-1),
                tensor.format,
                rows,
                cols,
                int8=self._int8 and cols % _INT8_BLOCK == 0,
            )
            self._packed[name] = weight
            # The file's pages and their packed form are not both kept: not even while loading.
            self._checkpoint.release_pages()
        return weight

    def vector(self, name: str) -> F32:
        """A float32 vector. Raises `KeyError` naming it when absent."""
        tensor = self._checkpoint.tensor(name)
        count = int(np.prod(tensor.shape))
        values = _core.dequantize(tensor.data.reshape(-1), tensor.format, 1, count)
        return values.reshape(-1)

    @property
    def num_bytes(self) -> int:
        """Bytes that the packed weights hold."""
        return sum(weight.num_bytes for weight in self._packed.values())


class NativeRunner:
    """Runs a recorded model over an arena of KV blocks.

    Args:
        checkpoint: the model on disk.
        layout: shape of the KV.
        arena: uint8 (num_blocks * kv_block_bytes(layout),), 64-byte aligned, writable.
        max_rows: most tokens of one batch.
        num_threads: kernel threads, the calling one included.
        isa: instruction set; the best of this machine when None.
        int8: see `NativeWeights`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        layout: KvLayout,
        arena: npt.NDArray[np.uint8],
        *,
        max_rows: int,
        num_threads: int,
        isa: Isa | None = None,
        int8: bool = False,
    ) -> None:
        self._runtime = _core.Runtime(num_threads, isa)
        self._arena = arena
        weights = NativeWeights(checkpoint, self._runtime, int8=int8)
        recorder = RecordingOps()
        model: Any = create_model(checkpoint.config, weights)
        logits = model.forward(recorder)
        self.weights_bytes = weights.num_bytes
        self._program = recorder.builder.build(
            self._runtime, logits, native_layout(layout), max_rows
        )

    @property
    def isa(self) -> str:
        """Name of the instruction set in use."""
        return self._runtime.isa

    @property
    def runtime(self) -> _core.Runtime:
        """The kernel threads."""
        return self._runtime

    @property
    def program(self) -> _core.Program:
        """The recorded model."""
        return self._program

    @property
    def num_sublayers(self) -> int:
        """Two for each layer, its attention and its FFN; see `SkipSet`."""
        return self._program.num_sublayers

    def set_trace(self, is_on: bool) -> None:
        """Begins, or ends, to note when layers run."""
        self._program.set_trace(is_on)

    def take_trace(self) -> list["LayerTime"]:
        """What was noted since the last call."""
        return [LayerTime(*time) for time in self._program.take_trace()]

    def forward(self, batch: Rows) -> F32:
        """Logits float32 (len(batch.logit_rows), vocab_size); stores the batch's KV.

        Before each layer it waits for the gates of the batch, and behind it for its peers; then it
        writes to those of its pushes. What sequences that attend sparsely read is in the batch's
        reports. See `Batch`.

        Raises:
            ValueError: the batch is larger than `max_rows` or contradicts itself, the arena or the
                model's sublayers.
        """
        out = np.empty((len(batch.logit_rows), self._program.output_width), np.float32)
        failed = self._program.run(
            self._runtime,
            batch.tokens,
            batch.positions,
            batch.row_starts,
            batch.context_lens,
            batch.block_tables,
            batch.logit_rows,
            self._arena,
            out,
            batch.gates,
            batch.timeout_s,
            [(remote.peer.native, remote.rows, remote.timeout_s) for remote in batch.remotes],
            [(sequence, writer.native) for sequence, writer in batch.pushes],
            [(sequence, skip.sublayers, skip.scales) for sequence, skip in batch.skips],
            batch.probe,
            *self._sparse(batch),
        )
        batch.failed.extend(failed)
        return out

    def _sparse(self, batch: Rows) -> tuple[list[tuple[Any, ...]], F32 | None]:
        """The kernels' form of the batch's sparse sequences, and memory for their report."""
        rows = [
            (
                sequence,
                how.selector,
                how.epsilon,
                how.budget_tokens,
                how.dense_layers,
                how.min_context_tokens,
                batch.audit,
            )
            for sequence, how in batch.sparse
            if not how.is_exact
        ]
        if not rows:
            return rows, None
        report = np.empty((len(rows), *self._program.report_shape), np.float32)
        batch.reports.extend(
            SparseReport(row[0], numbers) for row, numbers in zip(rows, report, strict=True)
        )
        return rows, report

    def turn(self, from_blocks: Sequence[int], to_blocks: Sequence[int], delta: int) -> None:
        """See `TurningRunner.turn`. Raises `ValueError` for blocks that are not the arena's."""
        self._program.turn(
            self._runtime,
            self._arena,
            np.array(from_blocks, np.int32),
            np.array(to_blocks, np.int32),
            delta,
        )


class LayerTime(NamedTuple):
    """When a layer's attention was come to, had its blocks, and was over (`time.monotonic`)."""

    layer: int
    start_s: float
    ready_s: float
    end_s: float


def create_runner(
    checkpoint: Checkpoint,
    arena: npt.NDArray[np.uint8],
    layout: KvLayout,
    config: EngineConfig,
) -> NativeRunner:
    """The runner that `config` asks for; see `NativeRunner`."""
    return NativeRunner(
        checkpoint,
        layout,
        arena,
        max_rows=max(config.max_num_batched_tokens, config.max_num_seqs),
        num_threads=config.num_threads or num_usable_cpus(),
        isa=config.isa,
        int8=config.quantization == "int8",
    )
