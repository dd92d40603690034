"""Folders as far as they were read: what is known of names when the origin is not asked."""

import json
from typing import Any

from artesian.files.errors import NotCachedError
from artesian.files.index import Index, below
from artesian.files.origin import Origin


class OfflineView:
    """Files that were opened once, and the folders that they make."""

    def __init__(self, index: Index, origin: Origin) -> None:
        self._index = index
        self._origin = origin

    def info(self, path: str) -> dict[str, Any]:
        """A file as the origin told of it, or a folder of such. Raises `NotCachedError`."""
        url = self._origin.url(path)
        rows = self._index.rows("SELECT info FROM files WHERE path = ?", url)
        if rows:
            found: dict[str, Any] = json.loads(rows[0][0])
            return found
        if self._below(url):
            return {"name": path, "size": 0, "type": "directory"}
        raise NotCachedError(f"{url} is not in the cache, and the store is used offline")

    def ls(self, path: str, detail: bool) -> list[Any]:
        """What is known to be in a folder; a file itself. Raises `NotCachedError`."""
        url = self._origin.url(path).rstrip("/")
        found = {}
        for child, info in self._below(url):
            name, _, more = child[len(url) + 1 :].partition("/")
            child_path = f"{path.rstrip('/')}/{name}"
            folder = {"name": child_path, "size": 0, "type": "directory"}
            found[child_path] = folder if more else json.loads(info)
        if not found:
            info = self.info(path)
            found = {info["name"]: info}
        return list(found.values()) if detail else sorted(found)

    def _below(self, url: str) -> list[tuple[Any, ...]]:
        query = "SELECT path, info FROM files WHERE path >= ? AND path < ? ORDER BY path"
        return self._index.rows(query, *below(url))
