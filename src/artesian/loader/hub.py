"""Downloads models from the Hugging Face hub."""

import re
from pathlib import Path

from artesian.loader.base import CheckpointError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?")
_CONFIG_FILES = ["*.json", "*.jinja"]


def download(model_id: str, *, offline: bool, revision: str | None) -> Path:
    """A local directory (or GGUF file) of a hub id, downloaded with progress when it is not there.

    Args:
        model_id: `owner/name` for safetensors, `owner/name:Q4_K_M` for one GGUF file.
        offline: only look among earlier downloads.
        revision: branch, tag or commit; None for the main branch.

    Raises:
        CheckpointError: no such model, or the hub cannot be reached; says what to do.
    """
    if not _ID.fullmatch(model_id):
        raise CheckpointError(
            f"the model {model_id!r} is neither a file, a directory, a demo model "
            "(smollm2, gemma3-270m) nor a hub id such as owner/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, _, quantization = model_id.partition(":")
    patterns = [f"*{quantization}*.gguf"] if quantization else [*_CONFIG_FILES, "*.safetensors"]
    try:
        directory = Path(
            snapshot_download(
                repo, revision=revision, allow_patterns=patterns, local_files_only=offline
            )
        )
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{model_id} was not downloaded before and the hub cannot be reached; connect once, or "
            "copy the model's directory or GGUF file here and give its path"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{model_id} cannot be downloaded: {error}; check the name, whether it needs a token "
            "(HF_TOKEN), and the free space"
        ) from error
    return _gguf_file(directory, model_id) if quantization else directory


def _gguf_file(directory: Path, model_id: str) -> Path:
    files = sorted(directory.rglob("*.gguf"))
    wanted = [file for file in files if model_id.partition(":")[2] in file.name]
    if len(wanted) != 1:
        raise CheckpointError(
            f"{model_id} names {len(wanted)} files ({', '.join(f.name for f in wanted)}); "
            "be more exact, or download one and give its path"
        )
    return wanted[0]
