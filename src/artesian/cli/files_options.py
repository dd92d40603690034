"""What several commands of `artesian files` have in common."""

import json
from pathlib import Path
from typing import Annotated, Any

import fsspec
from cyclopts import Parameter

from artesian.files import ArtesianFileSystem, FilesUsageError
from artesian.files.config import default_directory

Directory = Annotated[
    Path | None,
    Parameter(
        name=("--directory", "-d"),
        help="The cache's directory; default: ARTESIAN_FILES_DIR, or artesian/files in ~/.cache.",
    ),
]
FilePath = Annotated[str, Parameter(help="URL of a file or folder, or a local path.")]
Options = Annotated[
    list[str] | None,
    Parameter(
        name=("--option", "-o"),
        negative=(),
        help="Option of the store that has the files, such as anon=true. Can be repeated.",
    ),
]


def directory_of(directory: Path | None) -> Path:
    """The named directory, or the usual one."""
    return (directory or default_directory()).expanduser().absolute()


def open_path(
    path: str, directory: Path | None, options: list[str] | None
) -> tuple[ArtesianFileSystem, str]:
    """The file system of a URL over the cache, and the path in it."""
    url = path.removeprefix("artesian::")
    if "://" not in url:
        url = f"file://{Path(url).expanduser().absolute()}"
    protocol = url.partition("://")[0].rpartition("::")[2]
    given = dict(_parse(option) for option in options or ())
    try:
        fs, stripped = fsspec.core.url_to_fs(
            f"artesian::{url}", artesian={"directory": directory_of(directory)}, **{protocol: given}
        )
    except ImportError as error:
        raise FilesUsageError(f"{protocol}: {error}") from None
    except ValueError as error:
        raise FilesUsageError(f"{path!r}: {error}") from None
    return fs, str(stripped)


def _parse(option: str) -> tuple[str, Any]:
    key, mark, text = option.partition("=")
    if not mark:
        raise FilesUsageError(f"--option {option!r}: write NAME=VALUE")
    try:
        return key, json.loads(text)
    except ValueError:
        return key, text
