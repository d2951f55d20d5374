"""Markdown as elements of the page's own making, asked of the page's own module."""

# ruff: noqa: E501  # Markdown stands in one line

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome

from tests.reading.making import RunFolder, event
from tests.view import hostile
from tests.view.browser import console, network
from tests.view.pages import Page
from tests.view.serving import Viewer, viewer

# Draws a text, and tells the elements without their classes, and how long it took.
_DRAW = """
const [text, done] = arguments;
Promise.all([import(`${location.pathname}lib.js`), import(`${location.pathname}markdown.js`)]).then(([lib, { Markdown }]) => {
    const place = document.createElement("div");
    document.body.append(place);
    const began = performance.now();
    lib.render(lib.html`<${Markdown} text=${text} />`, place);
    const took = performance.now() - began;
    const links = place.querySelectorAll("a, img, script, style, iframe, [href], [src], [onerror], [onload]").length;
    let depth = 0;
    for (const one of place.querySelectorAll("*")) {
        let up = 0;
        for (let at = one; at !== place; at = at.parentElement) up += 1;
        depth = Math.max(depth, up);
    }
    const says = place.textContent;
    for (const one of place.querySelectorAll("*")) {
        const level = /level-(\\d)/.exec(one.className);
        for (const { name } of [...one.attributes]) if (name !== "start") one.removeAttribute(name);
        if (level) one.setAttribute("level", level[1]);
    }
    const shown = place.firstElementChild.innerHTML.replace(/>\\s*\\n\\s*</g, "><");
    place.remove();
    done({ shown, took, links, depth, says });
}, (error) => done({ shown: String(error) }));
"""


@pytest.fixture(scope="module")
def page(browser: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of the viewer; nothing that was drawn in it did anything."""
    folder = RunFolder(tmp_path_factory.mktemp("runs"))
    folder.artifact([event(1, kind="chain_start", span_id="a", trace_id="a", name="ask")])
    folder.manifest()
    with viewer(folder.root, "--no-spool") as served:
        page = Page(browser, served.url)
        page.shows(".runs td", "one")
        yield page
        unharmed(page, served)


def unharmed(page: Page, served: Viewer) -> None:
    """No script ran, and nothing was asked for elsewhere."""
    assert page.run("return window.pwned") is None
    assert page.run("return window.violations") == [] and console(page.driver) == []
    asked = [url for _, url in network(page.driver) if not url.startswith(("data:", "chrome"))]
    assert [url for url in asked if not url.startswith(served.base)] == []


def draw(page: Page, text: str) -> dict[str, Any]:
    """Draw a text as Markdown."""
    found: dict[str, Any] = page.driver.execute_async_script(_DRAW, text)  # type: ignore[no-untyped-call]
    return found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\nin two lines", "<p>plain\nin two lines</p>"),
        ("# One\n### Three ##\n#hash", '<p level="1">One</p><p level="3">Three</p><p>#hash</p>'),
        ("**bold** *it* ***both*** __b__ _i_ ~~gone~~", "<p><strong>bold</strong> <em>it</em> <strong><em>both</em></strong> <strong>b</strong> <em>i</em> <del>gone</del></p>"),
        ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
        ("snake_case_name 2 * 3 * 4 **open", "<p>snake_case_name 2 * 3 * 4 **open</p>"),
        (r"\*not\* \# \`x\`", "<p>*not* # `x`</p>"),
        ("use `a < b` and ``a ` b``", "<p>use <code>a &lt; b</code> and <code>a ` b</code></p>"),
        ("```json\n{\"a\": **1**}\n```\nafter", "<pre><code>{\"a\": **1**}</code></pre><p>after</p>"),
        ("```\nno end", "<pre><code>no end</code></pre>"),
        ("- a\n- b\n  - c\n\ntext", "<ul><li>a</li><li><p>b</p><ul><li>c</li></ul></li></ul><p>text</p>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("1. a\n\n2. b", '<ol start="1"><li>a</li><li>b</li></ol>'),
        ("> said\n> twice\n\nnot", "<blockquote><p>said\ntwice</p></blockquote><p>not</p>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        ("| a | b |\n|---|:-:|\n| 1 | **2** |\n| 3 |", "<div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td><strong>2</strong></td></tr><tr><td>3</td><td></td></tr></tbody></table></div>"),
        ("a | b", "<p>a | b</p>"),
        ("[click *me*](javascript:alert(1))", "<p><span>click <em>me</em> <small>(javascript:alert(1))</small></span></p>"),
        ("![cat](http://evil.invalid/cat.png)", "<p><span>image: cat <small>(http://evil.invalid/cat.png)</small></span></p>"),
        ("<b>x</b> &lt; <img src=x onerror=alert(1)>", "<p>&lt;b&gt;x&lt;/b&gt; &amp;lt; &lt;img src=x onerror=alert(1)&gt;</p>"),
        ("a\u202eb", "<p>a<span>U+202E</span>b</p>"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_it_means(page: Page, text: str, shown: str) -> None:
    """Headings, lists, code, emphasis, quotes, tables and rules are elements; all else is text."""
    assert draw(page, text)["shown"] == shown


@pytest.mark.parametrize("name", [*hostile.ALL, *hostile.MARKDOWN])
def test_nothing_of_it_is_markup(page: Page, name: str) -> None:
    """Whatever is in it, nothing can be followed, loaded or run, and no word of it gets lost."""
    text = {**hostile.ALL, **hostile.MARKDOWN}[name]
    drawn = draw(page, text)
    assert drawn["links"] == 0
    assert not set(drawn["says"]) & set("\x1b\x07\x00\x9b\u202e\u2066\u200b\ufeff\u2028")
    for word in ("pwned", "evil.invalid", "onerror", "javascript"):
        assert drawn["says"].count(word) == text.count(word)


@pytest.mark.parametrize(
    "text",
    ["*" * 199_999, "*a " * 60_000, "**a*" * 50_000, "_a_b" * 40_000, "`" * 199_999, "`a``b```c" * 20_000,
     "[" * 199_999, "[a](" * 50_000, "![" * 90_000 + "](", "](" * 90_000, "> " * 90_000, "- " * 90_000,
     "\n".join("  " * n + "- x" for n in range(400)), "|" * 99_999 + "\n" + "|-" * 50_000,
     "\n".join(["|a|b|", "|-|-|"] * 8_000), "# " * 90_000, "#" * 199_999, "\\" * 199_999,
     "~~~\n" * 40_000, "1. " * 60_000, "- a\n\n" * 30_000, ">" * 199_999, "*_~`[" * 40_000, "***a" * 40_000],
    ids=lambda text: text[:10].replace("\n", "/"),
)  # fmt: skip
def test_no_text_takes_long(page: Page, text: str) -> None:
    """As much as is drawn takes a moment, whatever it is, and is nested no deeper than a page can be."""
    assert len(text) <= 200_000
    drawn = draw(page, text)
    assert drawn["took"] < 10_000  # milliseconds; what grows with the square takes minutes
    assert drawn["depth"] < 80
