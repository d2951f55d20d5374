"""Sessions, conversations, filters and the comparison in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from tests.cli.talking import talk
from tests.reading.making import RunFolder, event
from tests.view import hostile
from tests.view.browser import chromium, console, resize
from tests.view.pages import Page
from tests.view.serving import Viewer, viewer
from tests.view.test_sessions import ERRORS, tool_run

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
_CHECK = """
const done = arguments[arguments.length - 1];
axe.run(document).then((found) => done(found.violations.map(
    (one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).slice(0, 3)}`)));
"""
_MARKED = "return [...(CSS.highlights.get('found') ?? [])].map((one) => one.toString())"
ROUTES = (
    ("run/{tools}?text=RateLimitError", ".components"),
    ("run/{tools}/sessions", ".sessions td"),
    ("experiment/bot/sessions?by=user", ".sessions td"),
    ("run/{tools}/session/s-1", ".turn"),
    ("experiment/bot/session/b-session", ".turn"),
    ("compare?a={monday}&b={tuesday}", ".compared td"),
)
"""The pages, and what is there when they are."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A viewer of a real bot's Runs and of one that was made by hand."""
    place = tmp_path_factory.mktemp("bot")
    talk(place)
    tool_run(place)
    with viewer(place, "--no-spool") as shown:
        yield shown


@pytest.fixture(scope="module")
def opened(browser: Chrome, served: Viewer) -> Page:
    """The page, opened once, with everything read."""
    page = Page(browser, served.url)
    page.shows(".runs td", "tools")
    page.ready()
    return page


@pytest.fixture
def page(opened: Page) -> Iterator[Page]:
    """The first page; whatever a test does there, nothing is refused by the browser or fails."""
    opened.go("")
    opened.shows(".runs td", "tools")
    console(opened.driver)
    yield opened
    assert opened.run("return window.violations") == []
    assert [line for line in console(opened.driver) if "favicon" not in line] == []


def count(page: Page) -> str:
    """What the heading over a list says."""
    return page.first("main section.card h2") or "0"


def open_run(page: Page, name: str = "tools") -> None:
    """Open a Run's page from the first one."""
    page.follow(name)
    page.shows(".traces td")
    page.settled()


def ids(page: Page) -> dict[str, str]:
    """The Runs' names in links."""
    hrefs = page.attributes(".runs td.name a", "href")
    names = page.texts(".runs td.name a")
    return {name: href.split("/")[-1] for name, href in zip(names, hrefs, strict=True)}


def test_from_a_run_to_a_conversation_and_its_traces(page: Page) -> None:
    """The sessions of a Run lead to each conversation, its turns to their traces, and a trace to
    its conversation and its other turns; Esc leads up again."""
    open_run(page)
    page.follow("sessions")
    page.shows(".sessions td", "s-7")
    page.settled()
    assert count(page) == "8 sessions"
    page.follow("s-1")
    page.shows(".turn .answered", "answer 5")
    page.settled()
    assert page.texts(".turn .asked .logged") == [f"question {n}" for n in range(5, 10)]
    assert page.first(".turn .thumb").split() == ["👎", "thumbs", "0"]
    page.click(".turn .trace-link", number=1)
    page.shows(".bar.title h1", "answer")
    page.settled()
    page.shows(".feedback", "said of 6")
    page.follow("next turn →")
    page.wait(lambda: "00000007-" in page.first(".ids"), "the turn after it")
    page.settled()
    page.follow("s-1")
    page.shows(".turn .answered", "answer 5")
    page.press(Keys.ESCAPE)
    page.shows(".sessions td", "s-7")


def test_a_conversation_over_two_runs(page: Page) -> None:
    """The sessions of an experiment are those of all its Runs; a conversation says how each turn
    ended, in words."""
    page.go("experiment/bot/sessions")
    page.shows(".sessions td", "late")
    page.follow("late")
    page.shows(".turn .answered", "Gladly.")
    assert page.texts(".turn .asked .logged")[0] == "Where is order 5?\nIt is late."
    assert [text.split(" in ")[1].split()[0] for text in page.texts(".turn .about")] == [
        "monday", "tuesday"
    ]  # fmt: skip
    page.go("experiment/bot/session/b-session")
    page.shows(".answered.error", "CarrierDownError: 503 from the carrier")
    page.go("experiment/bot/session/wants")
    page.shows(".answered.interrupted", "interrupted: it waits: May I pay 20 EUR?")
    page.go("experiment/bot/session/nobody")
    page.shows("[role=alert]", "no such session")
    assert all("404" in line for line in console(page.driver)), "the browser notes that answer"


def test_a_link_to_a_turn(page: Page) -> None:
    """A turn has an address of its own, which shows it when it is opened anew."""
    page.go(f"run/{ids(page)['tools']}/session/s-3")
    page.shows(".turn")
    page.click(".turn:nth-child(5) .about a")
    page.shows("#turn-5.chosen")
    page.driver.refresh()
    page.shows("#turn-5.chosen")
    top: Any = page.run("return document.querySelector('.chosen').getBoundingClientRect().top")
    assert 0 <= top < 860


def test_users_and_sorting(page: Page) -> None:
    """Sessions are listed by user, too; a user leads to the sessions; a head sorts by it."""
    page.go(f"run/{ids(page)['tools']}/sessions")
    page.shows(".sessions td", "s-7")
    page.follow("failed")
    page.settled()
    failed = [int(text) for text in page.texts(".sessions td[data-label=failed]")]
    assert failed == sorted(failed, reverse=True) and failed[0] > 0
    page.follow("by user")
    page.wait(lambda: count(page) == "4 users", "by user")
    page.follow("u-2")
    page.wait(lambda: count(page) == "2 matching sessions", "this user's")
    page.settled()
    assert set(page.texts(".sessions td.name")) == {"s-4", "s-5"}
    assert page.run("return document.querySelector('input[name=user]').value") == "u-2"


def test_filters_of_one_span(page: Page) -> None:
    """A tool and how it ended are chosen together, for the same span; the charts, the components
    and the choices follow; a click on a component's failures chooses them, too."""
    open_run(page)
    page.choose("any name", "lookup_order")
    page.wait(lambda: count(page) == "40 matching traces", "each called it")
    page.choose("any ending", "error")
    page.wait(lambda: count(page) == "10 matching traces", "in which that failed")
    page.settled()
    offered = ["any error", f"{ERRORS[0]} (10)"]
    options = 'select[aria-label="any error"] option'
    page.wait(lambda: page.texts(options) == offered, "the errors of this tool")

    def components() -> dict[str, list[str]]:
        rows = [row.split("\t") for row in page.texts(".components tbody tr")]
        return {row[1]: row[2:4] for row in rows}

    page.wait(lambda: components().get("lookup_order") == ["10", "10 100 %"], "its numbers")
    assert components()["refund"][0] == "10"
    page.follow("clear all filters")
    page.wait(lambda: count(page) == "40 traces", "all")
    page.settled()
    page.click(".components .errors a", "TimeoutError")
    page.wait(lambda: count(page) == "6 matching traces", "of this error")
    assert "name=refund" in page.hash and "ended=error" in page.hash
    page.settled()
    user = page.all("input[name=user]")[0]
    user.send_keys("u-0", Keys.ENTER)
    page.wait(lambda: count(page) == "2 matching traces", "this user's")


def test_what_was_searched_for_is_marked(page: Page) -> None:
    """The types of errors are found; where a text is found is said, and marked on every page, and
    no element is added for that."""
    open_run(page)
    page.press("/", "timeouterror")
    page.wait(lambda: count(page) == "6 matching traces", "its type is in the text")
    page.settled()
    assert "app.timeouterror" in page.texts(".traces .found")
    page.wait(lambda: "timeouterror" in page.run(_MARKED), "marked")
    page.click(".traces td.name a")
    page.shows(".wf-row")
    page.settled()
    page.click(".wf-row", "refund")
    page.shows(".failure", "app.TimeoutError")
    page.wait(lambda: "TimeoutError" in page.run(_MARKED), "marked in the span")
    assert not page.all("mark")


def test_compare_starts_with_the_earlier_run(page: Page) -> None:
    """Whichever was picked first, the earlier Run stands left; swap turns them round."""
    for name in ("monday", "tools"):
        page.click(f'[aria-label="compare {name}"]')
    page.follow("compare the two")
    page.shows(".compared td", "refund")
    assert page.texts("h1 a") == ["tools", "monday"]
    page.follow("swap")
    page.wait(lambda: page.texts("h1 a") == ["monday", "tools"], "the other way round")
    page.shows("main section p", "No trace of the one was asked the same")


def test_a_conversation_goes_on(browser: Chrome, tmp_path: Path) -> None:
    """A turn that comes while a conversation is read is there by itself, and what is said of it."""
    folder = RunFolder(tmp_path)

    def say(seq: int, text: str) -> None:
        span = {"span_id": f"s{seq}", "trace_id": f"s{seq}", "metadata": {"session_id": "x"}}
        folder.artifact(
            [
                event(seq, kind="chain_start", name="bot", inputs=text, **span),
                event(seq + 1, kind="chain_end", outputs=f"{text}!", outcome="ok", **span),
            ]
        )

    say(1, "hello")
    folder.manifest(state="open", updated_unix_nano=2**62)
    with viewer(tmp_path, "--no-spool") as served:
        page = Page(browser, served.url)
        page.shows(".runs .badge", "live")
        page.go("experiment/jokes/session/x")
        page.shows(".turn .answered", "hello!")
        say(3, "and now")
        page.shows(".turn .answered", "and now!")
        folder.artifact([event(5, kind="feedback", name="thumbs", trace_id="s3",
                               data={"trace_id": "s3", "score": 1})])  # fmt: skip
        page.shows(".turn .thumb", "thumbs")
        assert page.first(".turn .thumb").split() == ["👍", "thumbs", "1"]
        assert len(page.all(".turn")) == 2


def test_hostile_sessions(browser: Chrome, tmp_path: Path) -> None:
    """Ids, questions, answers, names of feedback and errors are text wherever they are listed."""
    evil = hostile.EVERYTHING
    folder = RunFolder(tmp_path)
    span = {"span_id": "r", "trace_id": "r", "metadata": {"session_id": evil, "user_id": evil}}
    error = {"type": evil, "message": evil}
    folder.artifact(
        [
            event(1, kind="chain_start", name=evil, inputs={"input": evil}, **span),
            event(2, kind="chain_error", error=error, outcome="error", duration=1.0, **span),
            event(3, kind="feedback", name=evil, trace_id="r",
                  data={"trace_id": "r", "score": 1, "comment": evil, "user_id": evil}),
        ]
    )  # fmt: skip
    folder.manifest()
    with viewer(tmp_path, "--no-spool") as served:
        page = Page(browser, served.url)
        page.shows(".runs td", "one")
        page.ready()
        for by in ("user", "session"):
            page.go(f"experiment/jokes/sessions?by={by}")
            page.shows(".sessions th", "sessions" if by == "user" else "users")
            page.shows(".sessions td.name", "<script>")
            page.settled()
        page.click(".sessions td.name a")
        page.shows(".turn .asked", "<script>")
        page.shows(".turn .answered .bad", "<svg onload")
        page.shows(".turn .thumb", "<script>")
        page.click(".turn .trace-link")
        page.shows(".feedback", "<script>")
        assert page.run("return window.pwned") is None
        assert page.run("return window.violations") == []
        assert not page.all("main script, main style, main iframe, main link")


@pytest.mark.parametrize("dark", [False, True])
def test_every_width_and_scheme(browser: Chrome, served: Viewer, dark: bool) -> None:
    """On a phone and a large screen, light and dark, no page is wider than the screen, and axe
    finds nothing that keeps anybody out."""
    with chromium(390, 844, dark=dark) as driver:
        page = Page(driver, served.url)
        page.shows(".runs td", "tools")
        page.ready()
        runs = ids(page)
        for width in (390, 1440):
            resize(driver, width, 844)
            for route, there in ROUTES:
                page.go(route.format(**runs))
                page.shows(there)
                page.settled()
                wide = page.run("return document.documentElement.scrollWidth")
                assert wide <= width, (route, width)
                page.run(AXE.read_text())
                found = driver.execute_async_script(_CHECK)
                assert found == [], (route, width, found)
