"""What pages list is what there is: options, outcomes, layers."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from asynctrack._options import Options
from tests.guide.pages import ROOT, text

ROWS = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \| ", text("options"), re.MULTILINE)


def test_every_option_is_described() -> None:
    """Each once, and no other."""
    named = [name for first, _ in ROWS for name in re.findall(r"`(\w+)`", first)]
    assert sorted(named) == sorted(field.name for field in fields(Options))


@pytest.mark.parametrize(
    "name", [field.name for field in fields(Options) if field.type in ("int", "float", "bool")]
)
def test_defaults_are_those_of_the_code(name: str) -> None:
    """Numbers with their units, and what is on or off."""
    (said,) = (default for first, default in ROWS if f"`{name}`" in first)
    number, _, unit = said.strip("`").replace(",", "").partition(" ")
    factor = {"": 1, "MiB": 2**20, "GiB": 2**30}[unit]
    default = getattr(Options(), name)
    assert number == str(default) or float(number) * factor == default


def test_choices_are_those_of_the_code() -> None:
    """Each word in quotes that the page has for an option may be given."""
    for name in ("durability", "overflow", "tokens", "compression"):
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", text("options"), re.MULTILINE)
        for word in re.findall(r'`"(\w+)"`', row):
            Options(**{name: word})


@pytest.mark.parametrize(
    ("page", "listed"),
    [
        ("tests/README.md", {path.parent.name for path in ROOT.glob("tests/*/__init__.py")}),
        ("benchmarks/README.md", {path.stem for path in ROOT.glob("benchmarks/[a-z]*.py")}),
    ],
)
def test_pages_for_contributors_name_every_part(page: str, listed: set[str]) -> None:
    """A folder of tests or a benchmark that no page names is found by nobody."""
    named = re.findall(r"`(\w+)`", text(page))
    assert listed - set(named) - {"cases", "report", "run", "tracers"} == set()
