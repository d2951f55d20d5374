"""A token that is kept: the same address tomorrow, and nobody else's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from asynctrack._errors import OptionError
from asynctrack.view._security import Guard
from asynctrack.view._token import kept_token, port_of
from tests.reading.making import RunFolder, event
from tests.view.pages import Page
from tests.view.serving import viewer


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a small run."""
    folder = RunFolder(tmp_path / "runs")
    folder.artifact([event(1, kind="chain_start", span_id="a", trace_id="a", name="ask")])
    folder.manifest()
    return folder.root


def test_a_bookmark_lasts(browser: Chrome, runs: Path, tmp_path: Path) -> None:
    """With the same file the next viewer has the same address, and a link of the last one works."""
    token = tmp_path / "token"
    with viewer(runs, "--no-spool", "--token", str(token)) as first:
        page = Page(browser, first.url)
        page.follow("one")
        page.click(".traces td.name a")
        page.shows(".wf-row", "ask")
        bookmark = browser.current_url
        assert "token" not in bookmark
    with viewer(runs, "--no-spool", "--token", str(token)) as second:
        assert second.url == first.url
        browser.get("about:blank")
        browser.get(bookmark)
        page.shows(".wf-row", "ask")
    (cookie,) = browser.execute_cdp_cmd("Network.getCookies", {"urls": [bookmark]})["cookies"]
    assert not cookie["session"] and cookie["httpOnly"], "it outlives the browser"


def test_a_link_and_the_token_together(browser: Chrome, runs: Path, tmp_path: Path) -> None:
    """An address with the token and a page in it shows that page, also where no cookie is."""
    with viewer(runs, "--no-spool", "--token", str(tmp_path / "token")) as served:
        page = Page(browser, served.url)
        page.follow("one")
        page.shows(".traces td", "ask")
        route = page.hash
        browser.delete_all_cookies()
        browser.get("about:blank")
        browser.get(served.url + route)
        page.shows(".traces td", "ask")
        assert page.hash == route


def test_the_file_is_made_for_its_user_only(tmp_path: Path) -> None:
    """A new file holds a token that is hard to guess, and only its user can read it."""
    before = os.umask(0)
    try:
        token = kept_token(tmp_path / "token")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert len(token) >= 43 and token != kept_token(tmp_path / "other")
    assert kept_token(tmp_path / "token") == token


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o666])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A token that somebody else may know, or may set, is no token; it is not told either."""
    path = tmp_path / "token"
    token = kept_token(path)
    path.chmod(mode)
    with pytest.raises(OptionError, match="only you can read") as caught:
        kept_token(path)
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["", "short", "a" * 201, "é" * 30, "with a space " * 3, "a\nb" * 20]
)
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: str) -> None:
    """What may be guessed, or may be something else, is not taken for a token."""
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(OptionError, match="22 to 200 letters"):
        kept_token(path)
    assert path.read_text() == content


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe and a place that is not there are no files; nothing waits for them."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "no" / "token"):
        with pytest.raises(OptionError, match="token"):
            kept_token(path)


def test_everything_follows_from_the_token() -> None:
    """Viewers with one token are the same to a browser, and no cookie gives it away."""
    token = "x" * 30
    first, second, other = Guard(token), Guard(token), Guard("y" * 30)
    assert (first.place, first.set_cookie()) == (second.place, second.set_cookie())
    assert first.place != other.place and first.set_cookie() != other.set_cookie()
    assert token not in first.set_cookie() + first.place
    assert "Max-Age" in first.set_cookie() and "Max-Age" not in Guard().set_cookie()
    assert port_of(token) == port_of(token) and 20_000 <= port_of(token) < 32_000
