"""What loading and computing take, kept over restarts beside the blocks."""

import hashlib
import logging
import os
import threading
from pathlib import Path

import msgspec

from artesian.context.cost import LoadCost, PrefillCost

_logger = logging.getLogger(__name__)
_MOST_BYTES = 1 << 20


class Costs(msgspec.Struct):
    """Costs of one model on one machine; `load` by the tier's label."""

    prefill: PrefillCost = msgspec.field(default_factory=PrefillCost)
    load: dict[str, LoadCost] = {}


class CostFile:
    """A file of a directory of blocks. What it says is a beginning: newer observations win."""

    def __init__(self, directory: Path, identity: str) -> None:
        """`identity`: names all that the costs depend on (model, formats, kernels, threads)."""
        name = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._path = directory / f"costs-{name}.json"
        self._thread: threading.Thread | None = None

    def read(self) -> Costs:
        """What is there; nothing is known if that cannot be read."""
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                return Costs()
            costs = msgspec.json.decode(self._path.read_bytes(), type=Costs)
        except FileNotFoundError:
            return Costs()
        except (OSError, msgspec.MsgspecError) as error:
            _logger.warning("%s cannot be read, so costs are learned anew: %s", self._path, error)
            return Costs()
        costs.prefill.per_token.soften()
        for load in costs.load.values():
            load.per_block.soften()
        return costs

    def write(self, costs: Costs) -> None:
        """Writes them soon, in another thread; nothing happens while an earlier one is at it."""
        if self._thread is not None and self._thread.is_alive():
            return
        content = msgspec.json.encode(costs)
        self._thread = threading.Thread(target=self._write, args=(content,), daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Waits for what is being written, but no longer than that."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _write(self, content: bytes) -> None:
        draft = self._path.with_suffix(f".{os.getpid()}.draft")
        try:
            draft.write_bytes(content)
            draft.replace(self._path)
        except OSError as error:
            _logger.warning("cannot keep costs in %s: %s", self._path, error.strerror)
            draft.unlink(missing_ok=True)
