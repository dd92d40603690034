"""A place with a bound: which blocks lie there, and who goes when there is no room."""

import sqlite3
from collections.abc import Callable, Iterable

from artesian.files.base import Block
from artesian.files.index import Index, below
from artesian.files.place import Place
from artesian.files.rules import Rules

Victims = Callable[[int], Iterable[Block]]
"""Blocks in the order in which they should go, to make room for so many bytes."""

LOW_WATER = 0.95
"""When a place is full, so much of it stays: others need not make room for a while."""
_PAGE_ROWS = 64


class Shelf:
    """One process's view of a place that all fill together and none overfills.

    Room is taken in the index before anything is written, and given back after it was removed: so
    what lies there never takes more than the capacity, whoever is killed.
    """

    def __init__(self, place: Place, index: Index, rules: Rules, owner: int) -> None:
        self.place = place
        self.label = place.label
        self._index = index
        self._rules = rules
        self._owner = owner
        index.do("INSERT OR IGNORE INTO places VALUES (?, 0, 0)", self.label)

    @property
    def capacity_bytes(self) -> int:
        """Bound of `used_bytes`."""
        return self._space()[1]

    @property
    def used_bytes(self) -> int:
        """What all blocks take, those just being written included."""
        return self._space()[0]

    def resize(self, capacity_bytes: int) -> None:
        """Sets the bound for all processes; `evict` makes it true."""
        self._index.do("UPDATE places SET capacity = ? WHERE place = ?", capacity_bytes, self.label)

    def put(
        self,
        name: bytes,
        block: Block,
        generation: str,
        data: bytes,
        now_s: float,
        victims: Victims,
    ) -> tuple[bool, list[Block]]:
        """Keeps a block if there is room or some can be made; whether it did, and what went.

        Raises `OSError` when the place fails; the block is not there then.
        """
        room = self.place.room(len(data))
        with self._index.transaction() as db:
            if self._is_known(db, name):
                return True, []
            gone = self._make_room(db, block.path, room, victims)
            is_room = self._fits(db, block.path, room)
            if is_room:
                db.execute(
                    "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (self.label, name, *block, generation, room, self._owner, now_s),
                )
                self._add(db, room)
        if not is_room:
            return False, gone
        try:
            self.place.write(name, data)
        except OSError:
            self.remove([name])
            raise
        published = self._index.do(
            "UPDATE blocks SET owner = NULL WHERE place = ? AND name = ?", self.label, name
        )
        if not published:  # it was removed while it was written
            self.place.remove(name)
        return bool(published), gone

    def evict(self, num_bytes: int, victims: Victims) -> list[Block]:
        """Makes room for `num_bytes`, and for what is over the capacity; what went."""
        with self._index.transaction() as db:
            return self._make_room(db, "", num_bytes, victims)

    def take(self, blocks: Iterable[Block]) -> list[Block]:
        """Removes these blocks, in whatever generation; those that were there."""
        gone = []
        with self._index.transaction() as db:
            for block in blocks:
                if self._take(db, block):
                    gone.append(block)
        return gone

    def remove(self, names: Iterable[bytes]) -> None:
        """Removes blocks by name."""
        with self._index.transaction() as db:
            for name in names:
                self._drop(db, name)

    def remove_below(self, path: str, *, but: str | None = None) -> list[Block]:
        """Removes the blocks of a file or of all files of a folder; which.

        Args:
            but: those of this generation stay.
        """
        first, last = below(path)
        query = (
            "SELECT name, path, number FROM blocks WHERE place = ? AND generation IS NOT ? AND "
            "(path = ? OR path >= ? AND path < ?)"
        )
        with self._index.transaction() as db:
            rows = db.execute(query, (self.label, but, path, first, last)).fetchall()
            for name, _, _ in rows:
                self._drop(db, name)
        return [Block(found, number) for _, found, number in rows]

    def sweep(self, owner: int) -> None:
        """Gives back what a dead process had taken and not filled."""
        query = "SELECT name FROM blocks WHERE place = ? AND owner = ?"
        with self._index.transaction() as db:
            for (name,) in db.execute(query, (self.label, owner)).fetchall():
                self._drop(db, name)
        self.place.sweep(owner)

    def clear(self) -> None:
        """Removes everything, of other processes too."""
        with self._index.transaction() as db:
            db.execute("DELETE FROM blocks WHERE place = ?", (self.label,))
            db.execute("UPDATE places SET used = 0 WHERE place = ?", (self.label,))
            self.place.clear()

    def _space(self) -> tuple[int, int]:
        rows = self._index.rows("SELECT used, capacity FROM places WHERE place = ?", self.label)
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def _is_known(self, db: sqlite3.Connection, name: bytes) -> bool:
        """Whether it is there or being written. One that was lost is forgotten."""
        query = "SELECT owner FROM blocks WHERE place = ? AND name = ?"
        row = db.execute(query, (self.label, name)).fetchone()
        if row is None:
            return False
        if row[0] is not None or self.place.has(name):
            return True
        self._drop(db, name)
        return False

    def _add(self, db: sqlite3.Connection, room: int) -> None:
        db.execute("UPDATE places SET used = used + ? WHERE place = ?", (room, self.label))

    def _used_below(self, db: sqlite3.Connection, path: str) -> int:
        query = (
            "SELECT coalesce(sum(room), 0) FROM blocks WHERE place = ? AND "
            "(path = ? OR path >= ? AND path < ?)"
        )
        used: int = db.execute(query, (self.label, path, *below(path))).fetchone()[0]
        return used

    def _fits(self, db: sqlite3.Connection, path: str, room: int) -> bool:
        used, capacity = self._space()
        return used + room <= capacity and all(
            self._used_below(db, rule.path) + room <= (rule.quota_bytes or 0)
            for rule in self._rules.quotas(path)
        )

    def _make_room(
        self, db: sqlite3.Connection, path: str, room: int, victims: Victims
    ) -> list[Block]:
        gone = []
        for rule in self._rules.quotas(path):
            over = self._used_below(db, rule.path) + room - (rule.quota_bytes or 0)
            gone += self._take_below(db, rule.path, over)
        used, capacity = self._space()
        if used + room <= capacity or room > capacity:
            return gone
        goal = min(capacity - room, int(capacity * LOW_WATER))
        for block in victims(used - goal):
            if self._space()[0] <= goal:
                return gone
            if not self._rules.is_pinned(block.path) and self._take(db, block):
                gone.append(block)
        return gone + self._take_oldest(db, goal)

    def _take_oldest(self, db: sqlite3.Connection, goal: int) -> list[Block]:
        """Who goes if nobody knows better: what was used longest ago."""
        query = (
            "SELECT path, number FROM blocks WHERE place = ? AND owner IS NULL "
            "ORDER BY used_s LIMIT ? OFFSET ?"
        )
        gone: list[Block] = []
        num_kept = 0
        while self._space()[0] > goal:
            rows = db.execute(query, (self.label, _PAGE_ROWS, num_kept)).fetchall()
            for row in rows:
                block = Block(*row)
                if self._space()[0] <= goal:
                    break
                if self._rules.is_pinned(block.path) or not self._take(db, block):
                    num_kept += 1
                else:
                    gone.append(block)
            if not rows:
                break
        return gone

    def _take_below(self, db: sqlite3.Connection, path: str, num_bytes: int) -> list[Block]:
        """Makes room under a quota."""
        query = (
            "SELECT path, number, room FROM blocks WHERE place = ? AND owner IS NULL AND "
            "(path = ? OR path >= ? AND path < ?) ORDER BY used_s"
        )
        gone: list[Block] = []
        if num_bytes <= 0:
            return gone
        for found, number, room in db.execute(query, (self.label, path, *below(path))).fetchall():
            if num_bytes <= 0:
                break
            block = Block(found, number)
            if not self._rules.is_pinned(found) and self._take(db, block):
                gone.append(block)
                num_bytes -= room
        return gone

    def _take(self, db: sqlite3.Connection, block: Block) -> bool:
        query = (
            "SELECT name FROM blocks WHERE path = ? AND place = ? AND number = ? AND owner IS NULL"
        )
        names = db.execute(query, (block.path, self.label, block.number)).fetchall()
        for (name,) in names:
            self._drop(db, name)
        return bool(names)

    def _drop(self, db: sqlite3.Connection, name: bytes) -> None:
        """Removes the block first and its row then, so that no bytes are there unaccounted."""
        where = (self.label, name)
        row = db.execute("SELECT room FROM blocks WHERE place = ? AND name = ?", where).fetchone()
        if row is not None:
            self.place.remove(name)
            db.execute("DELETE FROM blocks WHERE place = ? AND name = ?", where)
            self._add(db, -row[0])
