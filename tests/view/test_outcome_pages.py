"""Each outcome in a real browser: none is missing anywhere, and none looks like another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from asynctrack._common.outcome import OUTCOMES
from asynctrack.view._filters import CHOICES
from asynctrack.view._queries import COUNTED
from tests.view import endings
from tests.view.browser import console
from tests.view.pages import Page
from tests.view.serving import viewer

_STYLE = """
const at = document.querySelector(arguments[0]);
return at && getComputedStyle(at)[arguments[1]];
"""
_CHANGES = """
const rows = [...document.querySelectorAll("main table.plain tbody tr")];
return rows.map((row) => [row.cells[0].innerText, row.cells[3]?.className ?? ""]);
"""


@pytest.fixture(scope="module")
def first(browser: Chrome, endings_place: Path) -> Iterator[Page]:
    """The page of the Runs whose traces end in every way."""
    with viewer(endings_place, "--no-spool") as served:
        page = Page(browser, served.url)
        page.shows(".runs td", "each")
        page.ready()
        yield page


@pytest.fixture
def page(first: Page) -> Iterator[Page]:
    """The first page; whatever a test does there, nothing fails."""
    first.go("")
    first.shows(".runs td", "each")
    console(first.driver)
    yield first
    assert [line for line in console(first.driver) if "favicon" not in line] == []


def open_run(page: Page, name: str) -> None:
    """Open a Run's page."""
    page.follow(name)
    page.shows(".bar.title h1", name)
    page.shows(".traces td")
    page.settled()


def open_trace(page: Page, name: str, sign: str = "") -> None:
    """Open the newest trace with this name, or the one whose row has a sign in it."""
    open_run(page, "all")
    page.click(f".traces tr:has(.status{sign}) td.name a", name)
    page.shows(".bar.title h1", name)
    page.settled()


def style(page: Page, selector: str, name: str) -> str:
    """The style of the first element of a selector."""
    found = page.run(_STYLE, selector, name)
    assert isinstance(found, str), selector
    return found


def test_each_outcome_has_its_sign_and_can_be_chosen(page: Page) -> None:
    """Each outcome has a sign, a colour, and a choice in the filter that leaves its traces."""
    open_run(page, "each")
    options = page.all('select[aria-label="outcome"] option')
    assert [one.get_attribute("value") for one in options] == ["", *CHOICES]
    signs, plain = set(), style(page, ".quiet", "color")
    for number, outcome in enumerate(OUTCOMES):
        page.choose("outcome", outcome)
        page.shows(".card h2", f"{number + 2} matching traces")
        page.settled()
        assert set(page.texts(".traces td.name")) == {outcome}
        assert style(page, f".traces .status.{outcome}", "color") != plain, outcome
        signs |= set(page.texts(".traces td:first-child .status"))
    assert len(signs) == len(OUTCOMES)
    page.choose("outcome", "recovered")
    page.shows(".card h2", "3 matching traces")
    assert set(page.texts(".traces .recovered")) == {"1 recovered"}


def test_totals_name_each_ending(page: Page) -> None:
    """What did not end well is counted in a tile of its own that says what it means."""
    open_run(page, "each")
    tiles = dict(tuple(tile.split("\n", 1)) for tile in page.texts(".tile"))
    titles = dict(zip(page.texts(".tile dt"), page.attributes(".tile", "title"), strict=True))
    wanted = {"recovered": "3"}
    for number, outcome in enumerate(OUTCOMES):
        if outcome != "ok":
            wanted["failed" if outcome == "error" else outcome] = str(number + 2)
    assert set(wanted) | {"ok"} == set(COUNTED)
    for name, count in wanted.items():
        assert tiles[name].split()[0] == count and titles[name].endswith(f": {count}"), name
    assert page.texts(".tile.bad dt") == ["failed"]
    page.go("")
    open_run(page, "fewer")
    tiles = dict(tuple(tile.split("\n", 1)) for tile in page.texts(".tile"))
    assert "failed" in tiles and not (set(wanted) - {"failed"}) & set(tiles)


def test_each_outcome_is_drawn(page: Page) -> None:
    """The bar of each outcome looks unlike that of any other, and only errors are red."""
    drawn = {}
    open_run(page, "each")
    for outcome in OUTCOMES:
        page.choose("outcome", outcome)
        page.wait(lambda outcome=outcome: set(page.texts(".traces td.name")) == {outcome}, outcome)  # type: ignore[misc]
        page.click(".traces td.name a", outcome)
        page.shows(".bar.title h1", outcome)
        page.settled()
        fill = f".wf-row.{outcome} .fill"
        drawn[outcome] = (
            style(page, fill, "background-image"),
            style(page, fill, "background-color"),
        )
        page.driver.back()
        page.shows(".traces td.name", outcome)
    assert len(set(drawn.values())) == len(OUTCOMES)
    red = style(page, ".status.error", "color") if page.all(".status.error") else drawn["error"][1]
    assert [one for one, (_, colour) in drawn.items() if colour == red] == ["error"]


def test_the_better_run_is_called_so(page: Page) -> None:
    """Of two runs the one with the smaller share of failed traces is the better one, however many
    it has; what did not occur in the other is worse where it is not wanted."""
    for name in ("each", "fewer"):
        page.click(f'[aria-label="compare {name}"]')
    page.follow("compare the two")
    page.shows("main table.plain td", "failed")
    changes = dict(page.run(_CHANGES))
    assert "better" in changes["failed"], "4 of 504 against 3 of 27"
    assert all("better" in changes[name] for name in ("cancelled", "unfinished"))
    assert "better" not in changes["interrupted"] and "worse" not in changes["interrupted"]
    page.follow("swap")
    page.wait(lambda: "worse" in dict(page.run(_CHANGES))["failed"], "the other way round")
    changes = dict(page.run(_CHANGES))
    assert "worse" in changes["cancelled"]


def test_a_pause_in_the_browser(page: Page) -> None:
    """A paused trace says what it asks and leads to the trace that resumed it, and back."""
    open_trace(page, "refund", ".interrupted")
    assert page.first(".bar.title .said") == "interrupted: it waits"
    assert endings.QUESTION in page.first(".pause")
    assert page.first(".span h2") == "ask" and endings.QUESTION in page.first(".handed")
    assert not page.all(".failure")
    page.follow("a later trace")
    page.shows(".pause", "resumes the trace that waited")
    page.settled()
    assert page.all(".bar.title .status.ok")
    page.follow("the trace that waited")
    page.shows(".pause", "resumed by a later trace")


def test_a_handoff_in_the_browser(page: Page) -> None:
    """A handoff says where it goes, beside its bar and on its span."""
    open_trace(page, "support")
    assert "→ billing" in page.texts(".wf-row .model")
    page.click(".wf-row", "triage")
    page.shows(".handed h3", "HANDS OVER")
    assert "billing" in page.first(".handed") and not page.all(".failure")


def test_a_cancelled_stream_in_the_browser(page: Page) -> None:
    """A call whose stream was left shows why, and what it had said until then."""
    open_trace(page, "left")
    assert page.first(".bar.title .said") == "cancelled: its stream was left"
    assert "cancelled: its stream was left" in page.first(".span .facts")
    prompt, answer = page.texts(".side")
    assert "Tell of patience" in prompt and "You" in answer
    assert not page.all(".failure") and "object at 0x" not in page.text()


def test_a_set_clock_in_the_browser(page: Page) -> None:
    """A bar is as long as its call took, whatever the clock said; who has no parent says so."""
    page.follow("torn")
    page.click(".traces td.name a")
    page.shows(".wf-row", "parent not known")
    page.settled()
    bars = page.attributes(".wf-row .fill", "style")
    assert ["left: 25%" in bar and "width: 50%" in bar for bar in bars] == [False, True, False]
    page.click(".wf-row", "lost")
    page.shows(".span .facts", "parent not known")


def test_the_first_token_in_the_browser(page: Page) -> None:
    """A trace says how long its user waited for the first token."""
    open_trace(page, "tale", ".ok")
    assert "first token after" in page.first(".bar.title .facts")
    assert page.first(".span h2") == "GenericFakeChatModel"
