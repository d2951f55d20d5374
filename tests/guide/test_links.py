"""Links and pictures lead to what is there, and every page is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asynctrack.cli._guide import topics
from tests.guide.pages import GUIDE, PAGES, ROOT, text

_LINK = re.compile(r"\[(?:`[^`]*`|!\[[^\]]*\]\([^)]*\)|[^\]`])*\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def links(page: str) -> list[str]:
    """Where a page's links and pictures lead."""
    prose = _CODE.sub("", text(page))
    return [*_LINK.findall(prose), *(target for _, target in _PICTURE.findall(prose))]


def anchors(path: Path) -> set[str]:
    """The names that a page's headings have on GitHub."""
    prose = _CODE.sub("", path.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """A file of the repository, and a heading of it; from guide to guide by the topic's name, so
    that `asynctrack guide` can say it."""
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (PAGES[page].parent / path) if path else PAGES[page]
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
        if PAGES[page].parent == GUIDE and path.endswith(".md") and target.parent == GUIDE:
            assert path.removesuffix(".md") in topics(), link


@pytest.mark.parametrize("page", PAGES)
def test_pictures_say_what_they_show(page: str) -> None:
    """For who cannot see them."""
    for shown, target in _PICTURE.findall(text(page)):
        assert len(shown) > 10, target


def test_the_list_of_guides_is_the_folder() -> None:
    """Every page is a topic and every topic a page; the README leads to each."""
    pages = {path.stem for path in GUIDE.glob("*.md")} - {"README"}
    assert set(topics()) == pages
    assert {f"asynctrack/guide/{name}.md" for name in pages} <= set(links("README.md"))


def test_the_readme_is_short() -> None:
    """What it says is read; the rest is in the guides."""
    assert text("README.md").count("\n") <= 150


def test_messages_name_topics_that_there_are() -> None:
    """Of `asynctrack guide TOPIC`, wherever our code says it."""
    said = [
        name
        for path in (ROOT / "asynctrack").rglob("*.py")
        for name in re.findall(r"asynctrack guide ([a-z][\w-]*)", path.read_text())
    ]
    assert set(said) <= set(topics()) and "permissions" in said
