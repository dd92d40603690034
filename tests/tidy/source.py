"""The tracked files of the repository, read once."""

import ast
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "artesian"


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that git tracks or would track, as absolute paths in order."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(path for name in sorted(listing.split("\n")) if (path := ROOT / name).is_file())


def files(*suffixes: str) -> list[Path]:
    """Tracked files with one of these suffixes."""
    return [path for path in tracked_files() if path.suffix in suffixes]


@cache
def text(path: Path) -> str:
    """The content of a text file."""
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Module:
    """One Python module of the package: its dotted name, syntax tree and package."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        """The part of the name below `artesian`, such as `engine`; `` for the top itself."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""


@cache
def modules() -> tuple[Module, ...]:
    """All modules of the package."""
    found = []
    for path in files(".py"):
        if path.is_relative_to(PACKAGE):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(name, path, ast.parse(text(path))))
    return tuple(found)


def imports(module: Module) -> set[str]:
    """Dotted names of the modules of this package that `module` imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name.split(".")[0] == "artesian"}


def relative(path: Path) -> str:
    """The path as a reader of the repository names it."""
    return str(path.relative_to(ROOT))
