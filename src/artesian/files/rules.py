"""What people said about paths: pins and quotas."""

from dataclasses import dataclass

from artesian.files.index import Index


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for a path and everything below it.

    Attributes:
        is_pinned: its blocks stay, whoever needs room.
        quota_bytes: most that its blocks take; None for no bound.
    """

    path: str
    is_pinned: bool
    quota_bytes: int | None


class Rules:
    """The rules of a store, as they were at the last `reload`."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.all: list[Rule] = []
        self.reload()

    def reload(self) -> None:
        """Reads what others may have set."""
        rows = self._index.rows("SELECT path, pinned, quota FROM rules ORDER BY path")
        self.all = [Rule(path, bool(pinned), quota) for path, pinned, quota in rows]

    def set(self, path: str, *, is_pinned: bool, quota_bytes: int | None) -> None:
        """Replaces what holds for `path`; nothing does any more without pin and quota."""
        if is_pinned or quota_bytes is not None:
            self._index.do(
                "INSERT OR REPLACE INTO rules VALUES (?, ?, ?)", path, is_pinned, quota_bytes
            )
        else:
            self._index.do("DELETE FROM rules WHERE path = ?", path)
        self.reload()

    def at(self, path: str) -> Rule:
        """What was said about exactly this path."""
        found = [rule for rule in self.all if rule.path == path]
        return found[0] if found else Rule(path, is_pinned=False, quota_bytes=None)

    def is_pinned(self, path: str) -> bool:
        """Whether the blocks of a file stay."""
        return any(rule.is_pinned and covers(rule.path, path) for rule in self.all)

    def quotas(self, path: str) -> list[Rule]:
        """The rules with a quota that a file is under."""
        return [r for r in self.all if r.quota_bytes is not None and covers(r.path, path)]


def covers(top: str, path: str) -> bool:
    """Whether `path` is `top` or below it."""
    return path == top or path.startswith(f"{top.rstrip('/')}/")
