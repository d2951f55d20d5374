"""Whatever was logged is text: no script runs, no request leaves, nothing hides."""

# ruff: noqa: E501  # scripts and attacks stand in one line

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import pytest
from selenium.webdriver import Chrome

from tests.view import hostile
from tests.view.browser import console, network
from tests.view.pages import Page
from tests.view.serving import Viewer, viewer

# What an element says, with every visible mark turned back into the character that it stands for.
_SAYS = """
const copy = arguments[0].cloneNode(true);
for (const mark of copy.querySelectorAll(".hidden-char")) {
    const [, code, times] = mark.textContent.match(/^U\\+([0-9A-F]+)(?:×(\\d+))?$/);
    mark.replaceWith(String.fromCodePoint(parseInt(code, 16)).repeat(times ?? 1));
}
return copy.textContent;
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A viewer of the hostile runs."""
    root = tmp_path_factory.mktemp("hostile")
    hostile.make(root)
    with viewer(root, "--no-spool") as shown:
        yield shown


@pytest.fixture(scope="module")
def visited(browser: Chrome, served: Viewer) -> Page:
    """The page, opened once."""
    page = Page(browser, served.url)
    page.shows(".runs td", "plain")
    page.ready()
    return page


@pytest.fixture
def page(visited: Page, served: Viewer) -> Iterator[Page]:
    """The page; after each test nothing has run, been refused by the browser, or been asked for."""
    visited.go("")
    visited.shows(".runs td", "plain")
    yield visited
    unharmed(visited, served)


def unharmed(page: Page, served: Viewer) -> None:
    """Nothing that was logged did anything."""
    assert page.run("return window.pwned") is None
    assert page.run("return ({}).polluted") is None
    assert page.run("return window.violations") == []
    everything = page.run("return document.title + document.body.innerText")
    assert not set(everything) & set("\x1b\x07\x00\x9b\u202e\u2066\u200b\ufeff\u2028")
    assert console(page.driver) == []
    elements = "return document.querySelectorAll(arguments[0]).length"
    assert (
        page.run(
            elements, "body script, body style, iframe, object, embed, body link, form[action]"
        )
        == 0
    )
    assert page.run(elements, "img") == page.run(elements, 'img[src="icon.svg"]') == 1
    assert (
        page.run("return [...document.links].filter((a) => !/^https?:/.test(a.href)).length") == 0
    )
    asked = [url for _, url in network(page.driver) if not url.startswith(("data:", "chrome"))]
    assert [url for url in asked if not url.startswith(served.base)] == []


def says(page: Page, selector: str) -> list[str]:
    """What elements say, verbatim."""
    return [page.run(_SAYS, one) for one in page.all(selector)]


def follow(page: Page, selector: str, wanted: Callable[[str], object]) -> None:
    """Click the first link whose verbatim text is wanted, as soon as it is there."""
    page.click_on(
        lambda: [one for one in page.all(selector) if wanted(page.run(_SAYS, one))],
        f"none of the names wanted, verbatim: {selector}",
    )


def open_trace(page: Page, name: str = hostile.EVERYTHING) -> None:
    """Open a trace of the run with the hostile name."""
    follow(page, ".runs td.name a", lambda text: text == hostile.RUN)
    page.shows(".traces td", "deep")
    wanted = " ".join(name.split())[:300]
    follow(
        page,
        ".traces td.name a",
        lambda text: text.strip() and wanted.startswith(text.strip()[:200]),
    )
    page.shows(".wf-row[data-chosen]")
    page.shows(".span .bar h2")


def test_names_parameters_and_metrics(page: Page) -> None:
    """Names of experiments, runs, parameters, metrics, tags and models are shown as they are."""
    open_trace(page)
    assert says(page, "#crumbs bdi")[:2] == [hostile.EXPERIMENT, hostile.RUN]
    assert hostile.IMAGE in says(page, ".ids .tag")
    page.driver.back()
    page.shows(".pairs div")
    assert hostile.SCRIPT in says(page, ".pairs dt")[0]
    assert "__proto__" in says(page, ".pairs dt")


def test_messages_are_verbatim(page: Page) -> None:
    """Every message of a prompt is shown character for character, whatever is in it."""
    open_trace(page)
    page.wait(lambda: len(page.all(".wf-row")) == 3, "all spans")
    page.span(1)
    page.shows(".side .message", "human")
    shown = says(page, ".side:first-child .message .logged")
    wanted = [*hostile.ALL.values(), *hostile.MARKDOWN.values()]
    assert shown[: len(wanted)] == wanted
    assert hostile.IMAGE in shown
    assert hostile.TERMINAL in shown[-2] or any("\\u001b[31m" in text for text in shown)


def test_markdown_is_inert(page: Page) -> None:
    """Shown as Markdown nothing can be followed or loaded either, and it is the same text again."""
    open_trace(page)
    page.span(1)
    page.shows(".side .message", "human")
    page.click("button.switch", "Markdown")
    page.wait(lambda: page.all(".markdown blockquote"), "drawn as Markdown")
    assert (
        page.run("return document.querySelectorAll('.markdown :is(a, img, script, svg)').length")
        == 0
    )
    assert any(hostile.SCRIPT.replace("'", "'") in text for text in says(page, ".markdown"))
    assert "md=1" in page.hash
    page.click("button.switch", "Markdown")
    page.wait(lambda: not page.all(".markdown"), "as it was logged")
    assert hostile.MARKDOWN["blocks"] in says(page, ".side .logged")


def test_a_string_that_is_json(page: Page) -> None:
    """Its value is shown as text, its names are no names of the page's, and the string is there."""
    open_trace(page)
    page.span(1)
    page.shows(".unfolded", "a string that is JSON")
    value = next(text for text in says(page, ".side .logged") if '"__proto__": {' in text)
    assert '"<img src=x onerror=window.pwned=2>\\u202e"' not in value
    assert "<img src=x onerror=window.pwned=2>\u202e" in value and "<script>" in value
    page.click(".unfolded button", "as it was logged")
    page.wait(lambda: hostile.STRING in says(page, ".side .logged"), "as it was logged")


def test_feedback_and_whose(page: Page) -> None:
    """What people wrote of a trace, and whose trace it is, is text; links to others lead nowhere."""
    open_trace(page)
    page.shows(".feedback li", "__proto__")
    assert says(page, ".feedback li b bdi") == [one["name"] for one in hostile.FEEDBACK]
    shown = " ".join(says(page, ".feedback li"))
    assert all(text in shown for text in (hostile.IMAGE, hostile.LINK, hostile.CLOSING))
    assert says(page, ".whose a") == [hostile.SESSION, " ".join(hostile.EVERYTHING.split())[:300]]
    assert all(link.startswith("#/run/") for link in page.attributes(".whose a", "href"))


def test_inputs_are_verbatim(page: Page) -> None:
    """Every field of an input is shown character for character, its name as well."""
    open_trace(page)
    page.span(0)
    page.shows(".side .field", "script")
    names = says(page, ".side:first-child .field h4")
    shown = says(page, ".side:first-child .field .logged")
    assert dict(zip(names, shown, strict=True)) | hostile.ALL == dict(
        zip(names, shown, strict=True)
    )


def test_hidden_characters_are_seen(page: Page) -> None:
    """Terminal escapes, bidi controls and invisible characters are shown by their numbers."""
    open_trace(page)
    page.span(0)
    page.shows(".side .field", "bidi")
    marks = set(page.texts(".side .hidden-char"))
    assert {"U+001B", "U+0007", "U+0000", "U+009B", "U+202E", "U+2066", "U+2069", "U+200F", "U+200B",
            "U+FEFF", "U+2060", "U+00AD", "U+3164", "U+2800", "U+2028", "U+E0041"} <= marks  # fmt: skip
    raw = page.run("return document.querySelector('.side').textContent")
    assert not set(raw) & set("\x1b\x07\x00\x9b\u202e\u2066\u200b\ufeff\u2028")


def test_errors_are_verbatim(page: Page) -> None:
    """Type, message, traceback and causes of an error are text."""
    open_trace(page)
    page.span(2)
    page.shows(".failure", "TRACEBACK")
    shown = says(page, ".failure .logged")
    assert hostile.EVERYTHING in shown and hostile.LINK in shown
    assert f"a.{hostile.SCRIPT}" in shown


def test_attributes_raw_json_and_case(page: Page) -> None:
    """Attributes and raw JSON hold the same; the test that is copied is Python with literals only."""
    open_trace(page)
    page.span(0)
    page.click("[role=tab]", "attributes")
    page.shows(".field", "metadata")
    page.click("[role=tab]", "raw JSON")
    page.shows(".logged.mono", '"inputs"')
    assert hostile.SCRIPT in page.wait(lambda: says(page, ".span .logged.mono"), "raw JSON")[0]
    page.click("button", "copy as pytest case")
    code = page.wait(lambda: says(page, ".case .logged"), "the case")[0]
    module = ast.parse(code)
    calls = [one for one in ast.walk(module) if isinstance(one, ast.Call)]
    assert {ast.unparse(one.func) for one in calls} <= {
        "pytest.raises",
        "chain.invoke",
        "type",
        "str",
    }
    assert not set(code) & set("\x1b\u202e\u200b\ufeff")
    page.click("[role=tab]", "content")


def test_ten_million_characters(page: Page) -> None:
    """A long text is cut, and is there to its last character when it is asked for."""
    open_trace(page)
    page.span(1)
    whole = "load the whole: 10,000,015 characters"
    page.shows("button.more", whole)
    answer = ".side:last-child .logged"
    assert (
        len(page.run("return document.querySelector(arguments[0]).textContent", answer)) == 20_000
    )
    page.click("button.more", whole)
    page.wait(lambda: page.run("return document.querySelector(arguments[0]).textContent.endsWith('<b>the end</b>U+202E')", answer), "all of it", 60)  # fmt: skip
    assert page.run(_SAYS, page.all(answer)[0]) == hostile.LONG
    page.span(0)


def test_deep_values(page: Page) -> None:
    """A value that is nested very deep, and a number no browser holds, are shown in full."""
    open_trace(page, "deep")
    page.shows(".side", "12345678901234567890")
    assert any(hostile.SCRIPT.replace('"', '\\"') in text for text in says(page, ".side .logged"))


def test_compare(page: Page) -> None:
    """The comparison shows names, parameters and answers as text, too."""
    for number in range(len(page.all(".runs input[type=checkbox]"))):
        page.click(".runs input[type=checkbox]", number=number)
    page.follow("compare the two")
    page.shows(".pairs-table td")
    assert says(page, ".pairs-table td.answer .logged")[0].startswith(hostile.SCRIPT)
    assert "differs" in page.texts(".parameters td")
