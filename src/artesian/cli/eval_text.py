"""The text that `artesian eval` measures on."""

from pathlib import Path

from artesian.config import SettingsError


def read_text(path: Path) -> str:
    """A file's text. Raises `SettingsError` when it is not UTF-8."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text: {error}") from error
