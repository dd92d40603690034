"""The chat page's files over HTTP: what is served, how it is cached, what it may not do."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from artesian.api.chat_page import ASSETS, router

SCRIPTS = sorted(path for path in ASSETS if path.endswith(".js"))


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(router)
    return TestClient(app)


def text_of(path: str) -> str:
    return ASSETS[path].body.decode()


@pytest.mark.parametrize("path", ["/", "/cluster"])
def test_pages_are_html_under_a_policy_without_inline_code(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("page", ["index.html", "cluster.html"])
def test_page_has_no_inline_script_style_or_handler(page: str) -> None:
    html = text_of(page)
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=", html) == []


def test_unchanged_file_is_answered_with_304(client: TestClient) -> None:
    first = client.get("/static/js/main.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/static/js/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["etag"] == first.headers["etag"]
    other = client.get("/static/js/main.js", headers={"If-None-Match": '"something-else"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/js",
        "/static/none.js",
        "/static/%2e%2e/chat_page.py",
        "/static/..%2fchat_page.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/js/..%5c..%5cchat_page.py",
        "/static/index.html%00.js",
    ],
)
def test_nothing_outside_the_table_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_every_file_the_page_names_exists() -> None:
    pages = text_of("index.html") + text_of("cluster.html")
    named = set(re.findall(r'(?:href|src)="static/([^"]+)"', pages))
    for script in SCRIPTS:
        folder = Path(script).parent
        for target in re.findall(
            r'^(?:import|export)\b.*? from "(\.[^"]+)"', text_of(script), re.M
        ):
            named.add(str((Path("/") / folder / target).resolve().relative_to("/")))
    assert named - set(ASSETS) == set()
    assert set(ASSETS) - named == {"index.html", "cluster.html"}, "files that nothing uses"


def test_page_loads_nothing_from_elsewhere() -> None:
    namespaces = {"http://www.w3.org/2000/svg"}
    for path, asset in ASSETS.items():
        addresses = set(re.findall(r"https?://[\w.][^\s\"'<>)]*", asset.body.decode()))
        assert addresses <= namespaces, path


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_never_parse_text_as_html_or_code(script: str) -> None:
    risky = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    assert re.findall(risky, text_of(script)) == []
