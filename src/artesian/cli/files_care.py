"""`artesian files warm`, `pin`, `quota`, `evict`: fill the cache, and say what stays and goes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from cyclopts import Parameter

from artesian.cli.errors import print_error
from artesian.cli.files_options import Directory, FilePath, Options, directory_of, open_path
from artesian.doctor.base import format_bytes
from artesian.files import ArtesianFileSystem, FilesUsageError
from artesian.files.look import look
from artesian.machine.sizes import parse_size

_NUM_THREADS = 8


def warm(
    path: FilePath,
    *more: FilePath,
    directory: Directory = None,
    option: Options = None,
) -> int:
    """Fetch files, all files of folders, so that they are here when they are read."""
    num_failed = 0
    for each in (path, *more):
        fs, stripped = open_path(each, directory, option)
        found = fs.find(stripped, detail=True)
        if not found:
            raise FileNotFoundError(2, "no such file or folder", each)
        sizes = {name: int(info.get("size") or 0) for name, info in found.items()}
        num_failed += _warm(fs, each, sizes)
    return 1 if num_failed else 0


def pin(
    path: FilePath,
    *,
    off: Annotated[bool, Parameter(negative=(), help="Let it go like others again.")] = False,
    directory: Directory = None,
    option: Options = None,
) -> int:
    """Let nothing of a file or folder go, whoever needs room."""
    fs, stripped = open_path(path, directory, option)
    url = fs.origin.url(stripped)
    quota_bytes = fs.store.rules.at(url).quota_bytes
    fs.store.rules.set(url, is_pinned=not off, quota_bytes=quota_bytes)
    print(f"{url} is {'not pinned any more' if off else 'pinned'}")
    return 0


def quota(
    path: FilePath,
    size: Annotated[str, Parameter(help="Such as 10GiB, or none.")],
    *,
    directory: Directory = None,
    option: Options = None,
) -> int:
    """Bound what the files of a folder take."""
    fs, stripped = open_path(path, directory, option)
    url = fs.origin.url(stripped)
    num_bytes = _quota(size)
    fs.store.rules.set(url, is_pinned=fs.store.rules.at(url).is_pinned, quota_bytes=num_bytes)
    print(f"{url}: {'no quota' if num_bytes is None else f'at most {format_bytes(num_bytes)}'}")
    return 0


def evict(
    *paths: FilePath,
    everything: Annotated[
        bool, Parameter(name="--all", negative=(), help="Empty the whole cache.")
    ] = False,
    directory: Directory = None,
    option: Options = None,
) -> int:
    """Remove what is here of files and folders, pinned or not. The files themselves stay."""
    if bool(paths) == everything:
        raise FilesUsageError("name paths, or say --all")
    where = directory_of(directory)
    look(where)  # so that none is made
    if everything:
        fs, _ = open_path("/", where, None)
        fs.store.blocks.clear()
        print(f"{where} is empty")
    for path in paths:
        fs, stripped = open_path(path, where, option)
        url = fs.origin.url(stripped)
        print(f"{url}: {fs.store.forget(url)} blocks removed")
    return 0


def _warm(fs: ArtesianFileSystem, label: str, sizes: dict[str, int]) -> int:
    """Fetches files beside each other, under a progress bar; how many could not be had."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    total = sum(sizes.values())
    failures: list[str] = []
    num_fetched = num_blocks = 0
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total)

        def one(name: str) -> tuple[int, int]:
            try:
                return fs.store.warm(fs.origin, name)
            except OSError as error:
                failures.append(str(error) or name)
                return 0, 0
            finally:
                progress.advance(task, sizes[name])

        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            for fetched, blocks in threads.map(one, sizes):
                num_fetched += fetched
                num_blocks += blocks
    capacity = fs.store.main.capacity_bytes
    print(f"{label}: {len(sizes)} files, {format_bytes(total)}; fetched {num_fetched} of", end=" ")
    print(f"{num_blocks} blocks")
    if total > capacity:
        print_error(
            f"{label} has {format_bytes(total)}, the cache {format_bytes(capacity)}: what came "
            "first has gone again",
            "give programs a larger capacity, such as artesian={'capacity': '100GiB'}",
        )
    for failure in failures[:10]:
        print_error(failure)
    return len(failures)


def _quota(size: str) -> int | None:
    if size == "none":
        return None
    try:
        parsed = parse_size(size)
    except ValueError as error:
        raise FilesUsageError(f"size {size!r}: {error}") from None
    if not isinstance(parsed, int) or parsed < 0:
        raise FilesUsageError(f"size {size!r}: expected a size such as 10GiB, or none")
    return parsed
