"""Artesian with progressive attention for every request."""

from typing import Any, ClassVar

from peers.artesian_engine import ArtesianEngine
from peers.protocol import serve


class ArtesianSparse(ArtesianEngine):
    """The same engine, which leaves out of the context what hardly counts."""

    settings: ClassVar[dict[str, Any]] = {"attention": "progressive"}


if __name__ == "__main__":
    serve(ArtesianSparse())
