"""Installs the engines that Artesian is compared with, each in its own environment under .bench/.

    python benchmarks/setup_peers.py [llama_cpp] [llama_server] [openvino]

Needs a C++ compiler for llama.cpp, and about 8 GB of disk for a while: exporting to OpenVINO takes
PyTorch, which is removed again. What is there already is kept.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from engines import BENCH, LLAMA_SERVER, MODELS, OPENVINO_DIR, REQUANT_DIR, REQUANTS, ModelSpec

LLAMA_CPP = "llama-cpp-python==0.3.36"
OPENVINO = ["openvino==2026.4.1", "openvino-genai==2026.4.1.0", "openvino-tokenizers==2026.4.1.0"]
EXPORT = [
    *OPENVINO,
    "torch==2.15.0",
    "transformers==4.57.6",
    "optimum-intel==1.27.0",
    "nncf==3.4.0",
    "accelerate",
    "gguf",
]
# GCC 12 takes the stores into AMX's tile configuration for dead and llama.cpp crashes at the first
# matrix; without dead store elimination it runs.
LLAMA_CXXFLAGS = "-fno-tree-dse -fno-dse"

_REQUANTIZE = """
import sys, llama_cpp as lc
source, target, name = sys.argv[1:]
params = lc.llama_model_quantize_default_params()
params.ftype = getattr(lc, "LLAMA_FTYPE_MOSTLY_" + name)
params.allow_requantize = True
sys.exit(lc.llama_model_quantize(source.encode(), target.encode(), params))
"""
_DEQUANTIZE = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
source, target = Path(sys.argv[1]), sys.argv[2]
where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).save_pretrained(target)
AutoTokenizer.from_pretrained(**where).save_pretrained(target)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", nargs="*", help="default: all")
    steps = {
        "llama_cpp": setup_llama_cpp,
        "llama_server": setup_llama_server,
        "openvino": setup_openvino,
    }
    peers = parser.parse_args().peers or list(steps)
    if unknown := set(peers) - steps.keys():
        parser.error(f"unknown peers {sorted(unknown)}; choose from {sorted(steps)}")
    for peer in peers:
        print(f"==> {peer}", flush=True)
        steps[peer](available_models())


def available_models() -> list[tuple[ModelSpec, Path]]:
    """The models whose files are installed."""
    found = []
    for model in MODELS:
        path = model.find()
        if path is None:
            print(f"skipping {model.title}: not installed ({model.install})")
        else:
            found.append((model, path))
    return found


def setup_llama_cpp(models: list[tuple[ModelSpec, Path]]) -> None:
    """llama.cpp for this processor, and its own requantisations of the models."""
    python = make_venv("llama_cpp")
    if not has_module(python, "llama_cpp"):
        pip(python, "numpy")
        build = {
            "CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF",
            "CXXFLAGS": LLAMA_CXXFLAGS,
        }
        pip(python, "--no-binary", "llama-cpp-python", LLAMA_CPP, **build)
    REQUANT_DIR.mkdir(exist_ok=True)
    for model, path in models:
        for name in REQUANTS:
            target = model.requantized(name)
            if not target.exists():
                run(python, "-c", _REQUANTIZE, path, target, name)


def setup_llama_server(_: list[tuple[ModelSpec, Path]]) -> None:
    """llama.cpp's server, from the same sources."""
    if LLAMA_SERVER.is_file():
        return
    python = make_venv("build")
    pip(python, "cmake", "ninja", "scikit-build-core")
    with TemporaryDirectory() as folder:
        source = ["--no-binary", ":all:", "--no-deps", "--no-build-isolation", "--dest", folder]
        run(python, "-m", "pip", "download", *source, LLAMA_CPP)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as members:
            members.extractall(folder, filter="data")
        (tree,) = Path(folder).glob("*/vendor/llama.cpp")
        build = Path(folder) / "build"
        cmake, ninja = (python.with_name(name) for name in ("cmake", "ninja"))
        options = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF"]
        options += ["-DBUILD_SHARED_LIBS=OFF", f"-DCMAKE_CXX_FLAGS={LLAMA_CXXFLAGS}"]
        options += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        run(cmake, "-S", tree, "-B", build, *options)
        run(cmake, "--build", build, "--target", "llama-server")
        LLAMA_SERVER.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(build / "bin" / "llama-server", LLAMA_SERVER)
    shutil.rmtree(BENCH / "build")


def setup_openvino(models: list[tuple[ModelSpec, Path]]) -> None:
    """OpenVINO GenAI, and the models exported with INT8 weights per output channel."""
    python = make_venv("openvino")
    if not has_module(python, "openvino_genai"):
        pip(python, *OPENVINO, "numpy")
    missing = [(model, path) for model, path in models if not model.openvino.exists()]
    if not missing:
        return
    exporter = make_venv("export")
    pip(exporter, *EXPORT)
    OPENVINO_DIR.mkdir(exist_ok=True)
    for model, path in missing:
        plain = OPENVINO_DIR / f"{model.name}-f32"
        partial = OPENVINO_DIR / f"{model.name}-partial"
        run(exporter, "-c", _DEQUANTIZE, path, plain)
        task = ["--task", "text-generation-with-past", "--weight-format", "int8"]
        cli = exporter.with_name("optimum-cli")
        run(cli, "export", "openvino", "-m", plain, *task, partial)
        partial.rename(model.openvino)
        shutil.rmtree(plain)
    shutil.rmtree(BENCH / "export")


def make_venv(name: str) -> Path:
    """Interpreter of .bench/NAME, made when missing."""
    python = BENCH / name / "bin" / "python"
    if not python.exists():
        BENCH.mkdir(exist_ok=True)
        run(Path(sys.executable), "-m", "venv", BENCH / name)
    return python


def has_module(python: Path, name: str) -> bool:
    """Whether `name` can be imported there."""
    command = [str(python), "-c", f"import {name}"]
    return subprocess.run(command, capture_output=True, env=environment()).returncode == 0


def pip(python: Path, *arguments: str, **variables: str) -> None:
    """Installs into the environment of `python`, with environment variables on top."""
    command = [str(python), "-m", "pip", "install", *arguments]
    subprocess.run(command, check=True, env={**environment(), **variables})


def run(program: Path, *arguments: str | Path) -> None:
    """Runs a program; its failure ends the set-up."""
    subprocess.run([program, *arguments], check=True, env=environment())


def environment() -> dict[str, str]:
    """This process's, without what would mix this checkout's packages with a peer's."""
    ours = ("PIP_CONSTRAINT", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in ours}


if __name__ == "__main__":
    main()
