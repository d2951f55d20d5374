"""The trace page: wrappers, whose trace it is, where its time goes, JSON, Markdown, copies."""

# ruff: noqa: E501  # what is logged, and scripts, stand in one line

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from tests.reading.making import START, RunFolder, event
from tests.view.browser import console, resize
from tests.view.pages import Page
from tests.view.serving import Viewer, viewer

SECOND = 10**9
ANSWER = "# Oslo\n\n- **cold**\n- wet\n\n[more](http://weather.invalid)"
RESULT = '{"city":"Oslo","inner":"[1,2]"}'
LONG = "word " * 5_000
TAGS = [f"tag-{n}" for n in range(25)]


def make(root: Path) -> None:
    """Write a Run: three turns of a session, the second one with all that a page shows."""
    events: list[dict[str, Any]] = []

    def span(
        trace: str, kind: str, name: str, times: tuple[float, float], parent: str | None = None,
        ends: dict[str, Any] | None = None, **fields: Any,
    ) -> None:  # fmt: skip
        ids = {"trace_id": trace, "span_id": trace if parent is None else f"{trace}-{name}"}
        if parent is not None:
            ids["parent_span_id"] = parent
        for at, what, more in (
            (times[0], "start", {"name": name, **fields}),
            (times[1], "end", ends or {}),
        ):
            kinds = "llm" if what == "end" and kind == "chat_model" else kind
            when = START + round(at * SECOND)
            events.append({"kind": f"{kinds}_{what}", "time": when, **ids, **more})

    for n, trace in enumerate(("first", "second", "third")):
        at = 100.0 * n
        metadata = {"session_id": "chat-7", "user_id": "ann", "thread_id": "thread-9"}
        span(trace, "chain", "ask", (at, at + 10), metadata=metadata, tags=["prod", *TAGS])
        if trace != "second":
            continue
        span(trace, "chain", "RunnableSequence", (at + 1, at + 9), trace, tags=["graph:step:1"])
        above = "second-RunnableSequence"
        span(trace, "chain", "RunnableParallel<a>", (at + 1, at + 6), above)
        inside = "second-RunnableParallel<a>"
        span(trace, "tool", "weather", (at + 1, at + 6), inside, inputs={"city": "Oslo"},
             ends={"outputs": {"type": "tool", "content": RESULT, "tool_call_id": "c1"}})  # fmt: skip
        span(trace, "tool", "quick", (at + 2, at + 3), inside, inputs=LONG)
        span(trace, "chat_model", "Model", (at + 6, at + 9), above,
             inputs={"messages": [[{"type": "human", "content": "How is\u200b it?"}]]},
             ends={"outputs": {"generations": [[{"text": ANSWER, "message": {"type": "ai", "content": ANSWER}}]]}})  # fmt: skip
    events.append({"kind": "feedback", "trace_id": "second", "name": "thumbs", "time": START + 900 * SECOND,
                   "data": {"score": 1, "comment": "well said", "span_id": "second-Model", "user_id": "ann"}})  # fmt: skip
    events.sort(key=lambda one: one["time"])
    folder = RunFolder(root)
    folder.artifact([event(seq, **one) for seq, one in enumerate(events, 1)])
    folder.manifest()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A viewer of this Run."""
    root = tmp_path_factory.mktemp("turns")
    make(root)
    with viewer(root, "--no-spool") as shown:
        yield shown


@pytest.fixture(scope="module")
def run(browser: Chrome, served: Viewer) -> tuple[Page, str]:
    """The page, and the address of the Run's page in it."""
    page = Page(browser, served.url)
    page.follow("one")
    page.shows(".traces td", "ask")
    browser.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    return page, page.hash.removeprefix("#/")


@pytest.fixture
def page(run: tuple[Page, str]) -> Iterator[Page]:
    """The page of the second turn; nothing is refused by the browser, or fails."""
    page, route = run
    page.go(f"{route}/trace/second")
    page.shows(".wf-row", "weather")
    page.settled()
    console(page.driver)
    yield page
    assert page.run("return window.violations") == [] and console(page.driver) == []


def names(page: Page) -> list[str]:
    """The names in the waterfall."""
    return page.texts(".wf-name bdi")


def level_of(page: Page, name: str) -> str:
    """How deep a span stands, as it is told to those who do not see it."""
    levels = page.attributes(".wf-row", "aria-level")
    return dict(zip(names(page), levels, strict=True))[name]


def test_wrappers_are_folded(page: Page) -> None:
    """What LangChain makes around others is not there; a switch shows it, and takes it away."""
    assert names(page) == ["ask", "weather", "quick", "Model"]
    assert level_of(page, "weather") == level_of(page, "Model") == "2"
    page.click("button.switch", "2 wrappers")
    page.wait(lambda: len(names(page)) == 6, "all spans")
    assert names(page)[1:3] == ["RunnableSequence", "RunnableParallel<a>"]
    assert level_of(page, "weather") == "4"
    page.click(".wf-row", "RunnableParallel")
    page.shows(".span h2", "RunnableParallel<a>")
    page.click("button.switch", "2 wrappers")
    page.wait(lambda: names(page) == ["ask", "weather", "quick", "Model"], "none of them")
    page.shows(".span h2", "ask")


def test_a_link_to_a_wrapper_shows_it(page: Page) -> None:
    """A link to a span that is folded unfolds it; other spans are chosen among all then."""
    page.driver.get(f"{page.driver.current_url}?span=1")
    page.shows(".span h2", "RunnableSequence")
    assert "RunnableSequence" in page.texts(".wf-row[data-chosen] .wf-name")[0]
    page.click(".wf-row", "weather")
    page.shows(".span h2", "weather")
    assert "RunnableSequence" in names(page)


def test_folding_goes_by_what_is_shown(page: Page) -> None:
    """Without wrappers a span folds what stands below it, whatever is between them."""
    page.click(".wf-row .fold")
    page.wait(lambda: names(page) == ["ask"], "folded")
    page.click(".wf-row button.fold")
    page.wait(lambda: len(names(page)) == 4, "unfolded")


def test_whose_trace_it_is(page: Page) -> None:
    """Session, user and thread are on top, each a link; many tags are a few and a number."""
    assert page.texts(".whose") == ["session chat-7", "thread thread-9", "user ann"]
    assert len(page.all(".ids .tag")) == 8
    page.click(".ids button", "18 more tags")
    page.wait(lambda: len(page.all(".ids .tag")) == 26, "all tags")
    assert "graph:step" not in page.text()
    page.follow("chat-7")
    page.wait(lambda: len(page.all(".turn")) == 3, "the conversation")


def test_turns_of_the_session(page: Page) -> None:
    """The turn before and the one after are a click away; the first and the last have one only."""
    page.follow("next turn →")
    page.wait(lambda: "/trace/third" in page.hash, "the third")
    page.settled()
    assert "next turn →" not in page.texts("a.button")
    page.follow("← previous turn")
    page.wait(lambda: "/trace/second" in page.hash, "the second again")
    page.settled()
    page.follow("← previous turn")
    page.wait(lambda: "/trace/first" in page.hash, "the first")
    page.settled()
    assert "← previous turn" not in page.texts("a.button")


def test_where_the_time_goes(page: Page) -> None:
    """Self time stands beside the total; bars of what decides the duration have a line, in place."""
    rows = dict(zip(names(page), page.texts(".wf-row"), strict=True))
    assert rows["ask"].split("\n")[-2:] == ["2.00 s", "10.0 s"]
    marked = page.run(
        "return [...document.querySelectorAll('.wf-row')].map((row) => [...row.querySelectorAll("
        "'.way')].map((one) => [one.style.left, one.style.width].map(parseFloat)))"
    )
    assert dict(zip(names(page), marked, strict=True)) == {
        "ask": [[0, 10], [90, 10]], "weather": [[10, 50]], "quick": [], "Model": [[60, 30]],
    }  # fmt: skip
    page.click(".wf-row", "ask")
    page.shows(".span .facts", "itself 2.00 s")
    page.shows(".span .facts", "critical 2.00 s")


def test_json_in_strings(page: Page) -> None:
    """A string that is JSON is shown as its value, to the end of it; what was logged is a click away."""
    page.click(".wf-row", "weather")
    page.shows(".unfolded", "a string that is JSON")
    shown = page.wait(lambda: page.texts(".side:last-child .logged"), "the result")[0]
    assert json.loads(shown) == {"city": "Oslo", "inner": [1, 2]} and shown.startswith("{\n  ")
    page.click(".unfolded button", "as it was logged")
    page.wait(lambda: page.texts(".side:last-child .logged") == [RESULT], "the string")


def test_markdown(page: Page) -> None:
    """The switch shows texts as Markdown, stays on for the next span, and is off at first."""
    page.click(".wf-row", "Model")
    page.wait(lambda: ANSWER in page.texts(".side .logged"), "as it was written")
    page.click("button.switch", "Markdown")
    assert page.shows(".markdown .heading").text == "Oslo"
    assert page.texts(".markdown li") == ["cold", "wet"] and page.texts(".markdown strong")
    page.shows(".said-link", "(http://weather.invalid)")
    page.click(".wf-row", "weather")
    page.shows(".span h2", "weather")
    page.click(".wf-row", "Model")
    page.shows(".markdown .heading", "Oslo")
    page.click("button.switch", "Markdown")
    page.wait(lambda: ANSWER in page.texts(".side .logged"), "as it was written")


def test_copies(page: Page) -> None:
    """The ids, a link to the span, a message and all that was logged are copied as they are."""
    assert page.copy('button[aria-label="copy the trace\'s id"]') == "second"
    page.click(".wf-row", "Model")
    page.shows(".span h2", "Model")
    page.settled()
    assert page.copy(".tools button", "copy id") == "second-Model"
    unseen = "copied, with 1 character that cannot be seen"
    logged = json.loads(page.copy(".tools button", "copy JSON", unseen))
    assert logged["outputs"]["generations"][0][0]["text"] == ANSWER
    assert page.copy('.side:last-child button[aria-label="copy message"]') == ANSWER
    asked = page.copy('.side:first-child button[aria-label="copy message"]', says=unseen)
    assert asked == "How is\u200b it?"
    link = page.copy(".tools button", "copy link")
    assert "#/run/" in link
    assert "token" not in link
    page.go("")
    page.shows(".runs td")
    page.driver.get(link)
    page.shows(".span h2", "Model")


def test_a_cut_text_is_copied_whole(page: Page) -> None:
    """What is copied of a long text is all of it, not what is shown."""
    page.click(".wf-row", "quick")
    page.shows("button.more", "load the whole")
    assert page.copy('.side:first-child button[aria-label="copy text"]') == LONG


def test_feedback(page: Page) -> None:
    """What somebody said of it is on the page, and leads to the span it was said of."""
    said = page.shows(".feedback li").text
    assert said.startswith("thumbs 1 on Model well said ann, 2026-01-01")
    page.click(".wf-row", "weather")
    page.shows(".span h2", "weather")
    page.click(".feedback a")
    page.shows(".span h2", "Model")


def test_the_waterfall_is_as_high_as_the_window(page: Page) -> None:
    """On a wide screen the spans stay beside the one that is read, over the whole height."""
    try:
        resize(page.driver, 1440, 900)
        boxes = page.run(
            "return ['.waterfall', '.span'].map((one) => document.querySelector(one).getBoundingClientRect().toJSON())"
        )
        assert boxes[0]["right"] < boxes[1]["left"] and boxes[0]["top"] == boxes[1]["top"]
        most = page.run(
            "return parseFloat(getComputedStyle(document.querySelector('.waterfall')).maxHeight)"
        )
        assert most > 800
    finally:
        resize(page.driver, 1280, 860)


def test_on_a_phone_a_bar_is_as_wide_as_the_page(page: Page) -> None:
    """At 390 pixels the bar stands below its name and over the whole width."""
    try:
        resize(page.driver, 390, 844)
        name, bar = page.run(
            "return ['.wf-name', '.wf-bar'].map((one) => document.querySelector(`.wf-row ${one}`).getBoundingClientRect().toJSON())"
        )
        assert bar["width"] > 330 and bar["top"] >= name["bottom"]
    finally:
        resize(page.driver, 1280, 860)
