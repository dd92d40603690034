"""Programs that know nothing of the cache read through it unchanged.

Their packages are large, so they are no requirements of the other tests:
`pip install pandas pyarrow zarr s3fs aiohttp hadro`.
"""

import functools
import math
import multiprocessing
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from artesian.files.stores import close_all
from tests.files.conftest import write


def need(name: str) -> Any:
    """A package that may not be there."""
    return pytest.importorskip(name, reason=f"pip install {name}")


@pytest.fixture
def options(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Options of a store for chained URLs."""
    yield {"directory": str(tmp_path / "store"), "capacity": "64MiB", "block_size": "64KiB"}
    close_all()


def misses(options: dict[str, Any]) -> float:
    """Blocks that were fetched so far."""
    fs = fsspec.filesystem("artesian", target_protocol="file", **options)
    fs.store.news.exchange()
    query = "SELECT value FROM counts WHERE path = '' AND name = 'misses'"
    rows = fs.store.index.rows(query)
    return float(rows[0][0]) if rows else 0.0


def test_pandas(source: Path, options: dict[str, Any]) -> None:
    pandas, _ = need("pandas"), need("pyarrow")
    frame = pandas.DataFrame({"a": np.arange(50_000), "b": np.random.rand(50_000)})
    url = f"artesian::file://{source}/table.parquet"
    frame.to_parquet(url, storage_options={"artesian": options})
    assert (source / "table.parquet").stat().st_size > 100_000
    time.sleep(0.2)
    read = pandas.read_parquet(url, storage_options={"artesian": options})
    pandas.testing.assert_frame_equal(read, frame)
    seen = misses(options)
    assert seen > 0
    column = pandas.read_parquet(url, columns=["a"], storage_options={"artesian": options})
    assert column["a"].sum() == frame["a"].sum()
    assert misses(options) == seen
    frame.to_csv(f"artesian::file://{source}/t.csv", storage_options={"artesian": options})
    again = pandas.read_csv(
        f"artesian::file://{source}/t.csv", index_col=0, storage_options={"artesian": options}
    )
    pandas.testing.assert_frame_equal(again, frame)


def test_pyarrow_dataset(source: Path, options: dict[str, Any]) -> None:
    pa, ds, pq = need("pyarrow"), need("pyarrow.dataset"), need("pyarrow.parquet")
    for number in range(4):
        table = pa.table({"part": [number] * 1000, "x": list(range(1000))})
        pq.write_table(table, source / f"{number}.parquet")
    time.sleep(0.2)
    fs = fsspec.filesystem("artesian", target_protocol="file", **options)
    dataset = ds.dataset(str(source), filesystem=fs, format="parquet")
    for _ in range(2):
        assert dataset.count_rows(filter=ds.field("x") < 10) == 40
        assert dataset.to_table().num_rows == 4000
    pq.write_table(table, str(source / "new.parquet"), filesystem=fs)
    assert pq.read_table(str(source / "new.parquet"), filesystem=fs) == table


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_zarr(source: Path, options: dict[str, Any]) -> None:
    zarr = need("zarr")
    values = np.random.rand(300, 200)
    local = zarr.create_array(
        str(source / "array"), shape=values.shape, dtype="f8", chunks=(50, 50)
    )
    local[:] = values
    time.sleep(0.2)
    array = zarr.open_array(
        f"artesian::file://{source}/array", mode="r", storage_options={"artesian": options}
    )
    for _ in range(2):
        assert (array[:] == values).all()
        assert (array[17:93, 120:] == values[17:93, 120:]).all()


class Samples:
    """A data set as a data loader's workers see it: a list of files, one a sample."""

    def __init__(self, urls: list[str], options: dict[str, Any]) -> None:
        self.urls = urls
        self.options = options

    def __getitem__(self, number: int) -> bytes:
        with fsspec.open(self.urls[number], artesian=self.options) as file:
            data: bytes = file.read()
            return data

    def load(self, numbers: list[int]) -> list[bytes]:
        return [self[number] for number in numbers]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(source: Path, options: dict[str, Any], method: str) -> None:
    data = [write(source / f"{n:03}", 3000 + n, age_s=0) for n in range(64)]
    time.sleep(0.2)
    options = options | {"check": math.inf}
    samples = Samples([f"artesian::file://{source}/{n:03}" for n in range(64)], options)
    assert samples[0] == data[0], "the parent has it open as well"
    with multiprocessing.get_context(method).Pool(4) as workers:
        for epoch in range(3):
            order = list(range(64))
            random.Random(epoch).shuffle(order)
            batches = [order[n : n + 8] for n in range(0, 64, 8)]
            found = workers.map(samples.load, batches)
            assert found == [[data[n] for n in batch] for batch in batches]
    fs = fsspec.filesystem("artesian", target_protocol="file", **options)
    assert len(fs.store.index.rows("SELECT name FROM blocks")) == 64


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """An S3 server that fails now and then: options for s3fs, and the folder of its bucket."""
    need("s3fs")
    need("hadro")
    folder = tmp_path / "s3" / "bucket"
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hadro", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--access-key", "k", "--secret-key", "s", "--error-rate", "0.02"]
    server = subprocess.Popen([*command, str(folder.parent)])
    try:
        wait_for(port)
        endpoint = f"http://127.0.0.1:{port}"
        yield {"key": "k", "secret": "s", "endpoint_url": endpoint}, folder
    finally:
        server.terminate()
        server.wait(10)


def wait_for(port: int) -> None:
    """Until somebody answers there."""
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("the S3 server does not start")


def test_an_object_store(bucket: tuple[dict[str, Any], Path], options: dict[str, Any]) -> None:
    s3, folder = bucket
    data = secrets.token_bytes(1_000_000)
    (folder / "train").mkdir()
    (folder / "train" / "a").write_bytes(data)
    for name in "bcd":
        (folder / "train" / name).write_bytes(name.encode() * 100)
    fs, path = fsspec.core.url_to_fs("artesian::s3://bucket/train", artesian=options, s3=s3)
    assert sorted(fs.ls(path, detail=False)) == [f"bucket/train/{name}" for name in "abcd"]
    for _ in range(2):
        with fsspec.open("artesian::s3://bucket/train/a", artesian=options, s3=s3) as file:
            assert file.read(70_000) == data[:70_000]
            file.seek(-1000, 2)
            assert file.read() == data[-1000:]
            file.seek(0)
            assert file.read() == data
        assert fs.cat_file("bucket/train/c") == b"c" * 100
    fs.store.news.exchange()
    counts = dict(fs.store.index.rows("SELECT name, value FROM counts WHERE path = ''"))
    assert counts["origin_bytes"] == len(data) + 100
    (folder / "train" / "c").write_bytes(b"changed")
    assert fs.cat_file("bucket/train/c") == b"changed"
    with pytest.raises(FileNotFoundError):
        fs.cat_file("bucket/train/none")


def test_a_web_server(source: Path, options: dict[str, Any]) -> None:
    """It gives Last-Modified in seconds, and knows no ranges."""
    need("aiohttp")
    data = write(source / "a", 150_000, age_s=0)
    os.utime(source / "a", (1e9, 1e9))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(source))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"artesian::http://127.0.0.1:{server.server_port}/a"
        for _ in range(2):
            with fsspec.open(url, artesian=options) as file:
                assert file.read() == data
        fs, _ = fsspec.core.url_to_fs(url, artesian=options)
        assert len(fs.store.index.rows("SELECT name FROM blocks")) == 3
    finally:
        server.shutdown()
        server.server_close()
