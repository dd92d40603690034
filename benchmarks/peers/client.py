"""The benchmark's end of the pipe to one engine."""

import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent.parent


class EngineFailed(RuntimeError):  # noqa: N818 - an engine's failure, not ours
    """An engine answered with an error, died or took too long."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """How to start one engine on one model.

    Attributes:
        label: column of the table.
        module: adapter below benchmarks/peers.
        python: interpreter of the engine's virtual environment.
        model: what the adapter's `load` gets.
    """

    label: str
    module: str
    python: Path
    model: Path


class EngineProcess:
    """A running adapter; every call is bounded by `timeout_s` and kills it when it is over."""

    def __init__(self, spec: EngineSpec, log: Path, timeout_s: float = 600.0) -> None:
        self.spec = spec
        self._timeout_s = timeout_s
        self._log = log.open("a")
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [str(spec.python), "-m", f"peers.{spec.module}"],
            cwd=BENCHMARKS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(spec),
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe("stdout"), selectors.EVENT_READ)

    def call(self, op: str, *args: Any) -> Any:
        """The adapter's method `op`. Raises `EngineFailed` saying what happened."""
        request = json.dumps({"op": op, "args": args}) + "\n"
        try:
            self._pipe("stdin").write(request.encode())
            self._pipe("stdin").flush()
        except BrokenPipeError:
            raise self._failed(op, "it is no longer running") from None
        if not self._selector.select(self._timeout_s):
            self.close()
            raise self._failed(op, f"no answer in {self._timeout_s:.0f} s")
        line = self._pipe("stdout").readline()
        if not line:
            raise self._failed(op, f"it died with code {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise self._failed(op, reply["error"])
        return reply["value"]

    def close(self) -> None:
        """Ends the process, by force if it lingers."""
        self._pipe("stdin").close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        self._log.close()

    def _pipe(self, name: str) -> Any:
        return getattr(self._process, name)

    def _failed(self, op: str, why: str) -> EngineFailed:
        return EngineFailed(f"{self.spec.label}: {op}: {why}; see {self._log.name}")


def _environment(spec: EngineSpec) -> dict[str, str]:
    """This one's, without what would slow numpy down or put our packages in a peer's way."""
    is_ours = spec.python == Path(sys.executable)
    dropped = ("OPENBLAS_",) if is_ours else ("OPENBLAS_", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
