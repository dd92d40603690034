"""Which models are measured, and how each engine is started on them."""

import sys
from dataclasses import dataclass
from pathlib import Path

from artesian.loader.base import CheckpointError
from artesian.loader.demo import DEMO_MODELS, demo_path
from machine import ROOT
from peers.client import EngineSpec

BENCH = ROOT / ".bench"
REQUANT_DIR = BENCH / "requantized"
OPENVINO_DIR = BENCH / "openvino-models"
LLAMA_SERVER = BENCH / "llama_server" / "llama-server"
REQUANTS = ("Q4_0", "Q8_0")
OURS = "Artesian"
SET_UP = "make bench-setup-peers"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as its demo package brings it, and its forms for the other engines."""

    name: str
    title: str
    quantization: str

    @property
    def install(self) -> str:
        """The command that installs it."""
        return DEMO_MODELS[self.name].install

    @property
    def openvino(self) -> Path:
        """Directory of its OpenVINO form."""
        return OPENVINO_DIR / self.name

    def find(self) -> Path | None:
        """Its GGUF file, None when it is not installed."""
        try:
            return demo_path(self.name)
        except CheckpointError:
            return None

    def requantized(self, name: str) -> Path:
        """Its GGUF file as llama.cpp requantises it."""
        return REQUANT_DIR / f"{self.name}-{name}.gguf"


MODELS = (
    ModelSpec("smollm2", "SmolLM2-135M-Instruct", "Q4_1"),
    ModelSpec("gemma3-270m", "Gemma 3 270M", "Q4_K_M"),
)


def engine_specs(model: ModelSpec, path: Path) -> list[EngineSpec]:
    """Every engine, ours first."""
    llama = BENCH / "llama_cpp" / "bin" / "python"
    openvino = BENCH / "openvino" / "bin" / "python"
    return [
        EngineSpec(OURS, "artesian_engine", Path(sys.executable), path),
        EngineSpec(f"llama.cpp {model.quantization}", "llama_cpp", llama, path),
        *(
            EngineSpec(f"llama.cpp {name}", "llama_cpp", llama, model.requantized(name))
            for name in REQUANTS
        ),
        EngineSpec("OpenVINO INT8", "openvino_genai", openvino, model.openvino),
    ]


def missing_part(spec: EngineSpec) -> str | None:
    """What an engine lacks, None when it can start."""
    if not spec.python.exists():
        return f"{spec.label} is not installed; run {SET_UP}"
    if not spec.model.exists():
        return f"{spec.label} has no model at {spec.model}; run {SET_UP}"
    return None
