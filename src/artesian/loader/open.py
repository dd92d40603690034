"""Opens a model wherever it is."""

from pathlib import Path

from artesian.loader.base import Checkpoint
from artesian.loader.chat_template import read_template
from artesian.loader.demo import DEMO_MODELS, demo_path
from artesian.loader.tokenizer import TokenizerOptions


def open_checkpoint(
    path_or_id: str | Path,
    *,
    chat_template: str | None = None,
    offline: bool = False,
    revision: str | None = None,
) -> Checkpoint:
    """Opens a model: a GGUF file, a Hugging Face directory, a demo name, or a hub id.

    Args:
        path_or_id: a path is tried first, then `DEMO_MODELS`, then the hub.
        chat_template: replaces the model's own: a file, or the Jinja text itself.
        offline: a hub id is only looked for among what was downloaded before.
        revision: branch, tag or commit on the hub.

    Raises:
        CheckpointError: it cannot be found or read; says what is wrong and what to do.
    """
    options = TokenizerOptions(read_template(chat_template))
    text = str(path_or_id)
    path = Path(text).expanduser()
    if not path.exists():
        if text in DEMO_MODELS:
            path = demo_path(text)
        else:
            from artesian.loader.hub import download

            path = download(text, offline=offline, revision=revision)
    if path.is_dir():
        from artesian.loader.huggingface import open_directory

        return open_directory(path, options)
    from artesian.loader.gguf import open_gguf

    return open_gguf(path, options)
