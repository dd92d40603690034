"""The chat page at ``/`` and the cluster page at ``/cluster``: files from the package.

All files are read once, when the module is imported, into a table from path to contents. A path
that is not in the table does not exist, so no request can reach outside it, in whatever way the
path is written. The page and its files hold no secret and need no API key; what the page then
asks of ``/v1`` does.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Response

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Model text reaches the page, so a slip in its renderer must not become running code: scripts and
# styles come from this server's files only, and the page loads and calls nothing else.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Browsers keep the files but ask each time whether they changed: the modules import each other
    # by name, and two versions mixed after an upgrade would break the page.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page: its bytes, its media type, its entity tag (of the contents)."""

    body: bytes
    media_type: str
    etag: str


def load_assets(root: Traversable) -> dict[str, Asset]:
    """The files under ``root`` by their path with ``/``; kinds not in MEDIA_TYPES are left out."""
    return dict(_walk(root, ""))


def _walk(directory: Traversable, prefix: str) -> Iterator[tuple[str, Asset]]:
    for entry in directory.iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif suffix in MEDIA_TYPES:
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            yield prefix + entry.name, Asset(body, MEDIA_TYPES[suffix], etag)


ASSETS = load_assets(resources.files("artesian.api") / "static")

router = APIRouter(include_in_schema=False)

IfNoneMatch = Annotated[str | None, Header()]


@router.get("/")
def chat_page(if_none_match: IfNoneMatch = None) -> Response:
    """The page itself."""
    return _respond("index.html", if_none_match)


@router.get("/cluster")
def cluster_page(if_none_match: IfNoneMatch = None) -> Response:
    """The page that shows the workers."""
    return _respond("cluster.html", if_none_match)


@router.get("/static/{path:path}")
def static_file(path: str, if_none_match: IfNoneMatch = None) -> Response:
    """One of the page's files; 404 for anything else."""
    return _respond(path, if_none_match)


def _respond(path: str, if_none_match: str | None) -> Response:
    asset = ASSETS.get(path)
    if asset is None:
        raise HTTPException(404, f"the chat page has no file {path!r}")
    headers = {**HEADERS, "ETag": asset.etag}
    if if_none_match is not None and asset.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)
