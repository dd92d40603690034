"""Control groups, versions 1 and 2: the limits a container runs under."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def directories(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Directories whose files may limit this process, from its own group up to the root.

    Inside a container the path that /proc names is often not visible; the mount itself then
    shows the container's own group, which the walk ends at.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, names, group = line.split(":", 2)
        if names == "":
            mount = root / "sys/fs/cgroup"
        elif controller in names.split(","):
            mount = root / "sys/fs/cgroup" / controller
        else:
            continue
        relative = PurePosixPath(group.lstrip("/"))
        for part in (relative, *relative.parents):
            directory = mount / part
            if directory.is_dir():
                yield directory


def read_number(path: Path) -> int | None:
    """The number in a control file; None when it is absent, `max` or no number."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
