"""The fsspec project's own tests of file systems, over local files and over its memory."""

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec.tests.abstract as abstract
import pytest

from artesian.files import ArtesianFileSystem
from artesian.files.stores import close_all


class LocalFixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArtesianFileSystem]:
        directory = tmp_path_factory.mktemp("store")
        yield ArtesianFileSystem("file", {"auto_mkdir": True}, directory=directory)
        close_all()

    @pytest.fixture
    def fs_path(self, tmp_path: Path) -> str:
        return str(tmp_path)

    @pytest.fixture
    def fs_sanitize_path(self) -> object:
        return os.path.normpath


class MemoryFixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArtesianFileSystem]:
        directory = tmp_path_factory.mktemp("store")
        fs = ArtesianFileSystem("memory", directory=directory)
        yield fs
        fs.fs.store.clear()
        fs.fs.pseudo_dirs[:] = [""]
        close_all()

    @pytest.fixture
    def fs_join(self) -> object:
        return lambda *args: "/".join(args)

    @pytest.fixture
    def fs_path(self) -> str:
        return ""


class TestLocalCopy(abstract.AbstractCopyTests, LocalFixtures):  # type: ignore[misc]
    pass


class TestLocalGet(abstract.AbstractGetTests, LocalFixtures):  # type: ignore[misc]
    pass


class TestLocalPut(abstract.AbstractPutTests, LocalFixtures):  # type: ignore[misc]
    pass


class TestLocalOpen(abstract.AbstractOpenTests, LocalFixtures):  # type: ignore[misc]
    pass


class TestLocalPipe(abstract.AbstractPipeTests, LocalFixtures):  # type: ignore[misc]
    pass


class TestMemoryCopy(abstract.AbstractCopyTests, MemoryFixtures):  # type: ignore[misc]
    pass


class TestMemoryGet(abstract.AbstractGetTests, MemoryFixtures):  # type: ignore[misc]
    pass


class TestMemoryPut(abstract.AbstractPutTests, MemoryFixtures):  # type: ignore[misc]
    pass


class TestMemoryOpen(abstract.AbstractOpenTests, MemoryFixtures):  # type: ignore[misc]
    pass


class TestMemoryPipe(abstract.AbstractPipeTests, MemoryFixtures):  # type: ignore[misc]
    pass
