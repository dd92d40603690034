"""The chat page's markdown renderer and event reader, run in the browser they are made for."""

import json

import pytest

from tests.e2e.chat_browser import ChatBrowser
from tests.e2e.scripted_server import Script

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def page(browser: ChatBrowser, scripted_page: tuple[str, Script]) -> ChatBrowser:
    """The page, opened once: these tests only borrow its modules."""
    browser.open(scripted_page[0])
    return browser


RENDER = """
import("./static/js/markdown/index.js").then(({ MarkdownView }) => {
  const root = document.createElement("div");
  const view = new MarkdownView(root);
  for (const source of args[0]) view.update(source);
  for (const button of root.querySelectorAll("figcaption")) button.remove();
  for (const node of root.querySelectorAll("*")) {
    for (const name of ["class", "tabindex", "role", "aria-label", "target", "rel", "scope"]) {
      node.removeAttribute(name);
    }
  }
  done(root.innerHTML);
}, (error) => done(String(error)));
"""

CASES = {
    "plain": ("One\ntwo", "<p>One<br>two</p>"),
    "emphasis": (
        "*a* **b** ***c*** _d_ ~~e~~",
        "<p><em>a</em> <strong>b</strong> <em><strong>c</strong></em> <em>d</em> <del>e</del></p>",
    ),
    "emphasis inside": ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
    "not emphasis": ("2 * 3 * 4, snake_case_name", "<p>2 * 3 * 4, snake_case_name</p>"),
    "unclosed": ("**bold so far", "<p>**bold so far</p>"),
    "code keeps marks": ("`**a** <b>`", "<p><code>**a** &lt;b&gt;</code></p>"),
    "code with backtick": ("`` a`b ``", "<p><code>a`b</code></p>"),
    "escape": (r"\*a\*", "<p>*a*</p>"),
    "html is text": ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>"),
    "break tag": ("a<br>b", "<p>a<br>b</p>"),
    "heading": ("## Two ##", '<h4 data-level="2">Two</h4>'),
    "not heading": ("#tag", "<p>#tag</p>"),
    "rule": ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
    "quote": ("> a\n> - b", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>"),
    "fence": (
        "```py\na < b\n\n  c\n```",
        "<figure><pre><code>a &lt; b\n\n  c</code></pre></figure>",
    ),
    "open fence": ("~~~\n# no", "<figure><pre><code># no</code></pre></figure>"),
    "bullets": (
        "- a\n- b\n  - c\n- d",
        "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>",
    ),
    "numbers": ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    "mixed nesting": (
        "1. a\n   - b\n2. c",
        "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>",
    ),
    "loose list": ("- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
    "list with code": (
        "1. a\n\n   ```\n   x\n   ```\n2. b",
        "<ol><li>a<figure><pre><code>x</code></pre></figure></li><li>b</li></ol>",
    ),
    "list after text": ("a:\n- b", "<p>a:</p><ul><li>b</li></ul>"),
    "year is no list": ("in\n1984. Yes", "<p>in<br>1984. Yes</p>"),
    "table": (
        "| a | b |\n|---|--:|\n| `x|y` | 2 |\n| 3 |",
        "<div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody>"
        "<tr><td><code>x|y</code></td><td>2</td></tr><tr><td>3</td><td></td></tr>"
        "</tbody></table></div>",
    ),
    "half a table": ("| a | b |\n|--", "<p>| a | b |<br>|--</p>"),
    "link": (
        "[a *b*](https://x.org/p_(q) 'title')",
        '<p><a href="https://x.org/p_(q)">a <em>b</em></a></p>',
    ),
    "bare link": (
        "See (https://x.org/a_b).",
        '<p>See (<a href="https://x.org/a_b">https://x.org/a_b</a>).</p>',
    ),
    "script link": ("[a](javascript:alert(1)) <javascript:b>", "<p>a &lt;javascript:b&gt;</p>"),
    "data link": ("[a](data:text/html,x) [b](/v1/models)", "<p>a b</p>"),
    "quote in link": (
        '[a](https://x.org/"onclick="alert(1))',
        '<p><a href="https://x.org/%22onclick=%22alert(1)">a</a></p>',
    ),
    "image becomes link": (
        "![cat](https://x.org/c.png)",
        '<p><a href="https://x.org/c.png">cat</a></p>',
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_renders(page: ChatBrowser, name: str) -> None:
    source, expected = CASES[name]
    assert page.run(RENDER, [source]) == expected


def test_a_stream_ends_in_the_same_nodes_as_the_whole(page: ChatBrowser) -> None:
    whole = "\n\n".join(source for source, _ in CASES.values())
    growing = [whole[:end] for end in range(0, len(whole), 7)] + [whole]
    assert page.run(RENDER, growing) == page.run(RENDER, [whole])


def test_finished_blocks_keep_their_nodes(page: ChatBrowser) -> None:
    same = page.run(
        """
        import("./static/js/markdown/index.js").then(({ MarkdownView }) => {
          const root = document.createElement("div");
          const view = new MarkdownView(root);
          view.update("first\\n\\nsec");
          const first = root.firstChild;
          view.update("first\\n\\nsecond\\n\\n# third");
          done([root.firstChild === first, root.children.length]);
        });
        """
    )
    assert same == [True, 3]


@pytest.mark.parametrize(
    "hostile",
    ["*a " * 20_000, "[" * 20_000, "> " * 20_000, "`" * 3 + "a`" * 20_000, "**_~~" * 8_000,
     "- " * 10_000, "|" * 20_000 + "\n" + "|-" * 10_000, "_a*" * 15_000, "# " + " " * 40_000 + "x",
     "![" * 10_000 + "](", "https://" * 5_000],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_hostile_text_renders_in_bounded_time(page: ChatBrowser, hostile: str) -> None:
    took_ms = page.run(
        """
        import("./static/js/markdown/index.js").then(({ MarkdownView }) => {
          const began = performance.now();
          new MarkdownView(document.createElement("div")).update(args[0]);
          done(performance.now() - began);
        }).catch((error) => done(String(error)));
        """,
        hostile,
    )
    assert isinstance(took_ms, (int, float)), took_ms
    assert took_ms < 2000


def read_events(page: ChatBrowser, chunks: list[bytes]) -> list[str]:
    """What the page's event reader makes of a body that arrives in these chunks."""
    found = page.run(
        """
        import("./static/js/sse.js").then(async ({ readEvents }) => {
          const chunks = JSON.parse(args[0]).map((chunk) => new Uint8Array(chunk));
          const body = new ReadableStream({
            pull(controller) {
              if (chunks.length) controller.enqueue(chunks.shift());
              else controller.close();
            },
          });
          const events = [];
          for await (const event of readEvents(body)) events.push(event);
          done(events);
        });
        """,
        json.dumps([list(chunk) for chunk in chunks]),
    )
    return list(found)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_survive_any_split(page: ChatBrowser, size: int, end: str) -> None:
    lines = [
        ": ping",
        "",
        "data: wasser 水 💧",
        "",
        "event: x",
        "data:a",
        "data: b",
        "",
        "data: end",
    ]
    body = end.join(lines).encode()
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert read_events(page, chunks) == ["wasser 水 💧", "a\nb", "end"]
