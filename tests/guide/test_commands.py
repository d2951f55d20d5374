"""Every command that a page shows is one that there is, with options that it has."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from collections.abc import Iterator

import pytest

from asynctrack.cli import COMMANDS, make_parser
from tests.guide.pages import PAGES, blocks, text

SHELLS = ("bash", "sh", "console")
_INLINE = re.compile(r"(?<!`)`(asynctrack [^`]+)`(?!`)")
_SIGNS = {"|", "||", "&&", ";", "&"}


def shown_in(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the simple commands of a page's blocks, each with where it stands."""
    for one in blocks(page):
        if one.language not in SHELLS:
            continue
        lines = one.code.splitlines()
        if one.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            command: list[str] = []
            for word in [*words, ";"]:
                if word not in _SIGNS:
                    command.append(word)
                elif command:
                    yield str(one), command
                    command = []


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_called_like_that(page: str) -> None:
    """The real parser takes them; modules of ``python -m`` exist."""
    parser = make_parser()
    for where, (program, *arguments) in shown_in(page):
        if program.endswith("asynctrack"):
            try:
                parser.parse_args(arguments)
            except SystemExit as ended:
                pytest.fail(f"{where}: {arguments} ({ended.code})")
        elif arguments[:1] == ["-m"] and arguments[1].startswith(("tests", "benchmarks")):
            assert importlib.util.find_spec(arguments[1]), (where, arguments)


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_a_sentence_have_these_options(page: str) -> None:
    """Also where the rest is left out: `asynctrack export RUN --format … --output FILE`."""
    parsers = commands()
    for said in _INLINE.findall(text(page)):
        name, *words = said.removeprefix("asynctrack ").split()
        if name.startswith("-"):
            continue
        assert name in parsers or name == "COMMAND", said
        options = {option for option in words if option.startswith("--")}
        assert options <= options_of(parsers[name]), said


def test_the_page_on_commands_names_all_of_them() -> None:
    """And of each row, what is an option is one of that command."""
    rows = re.findall(r"^\| `asynctrack (\w+)[^`]*` \|(.*)\|$", text("commands"), re.MULTILINE)
    parsers = commands()
    assert {name for name, _ in rows} == set(parsers)
    for name, row in rows:
        assert set(re.findall(r"`(-[\w-]+)", row)) <= options_of(parsers[name]), name


def commands() -> dict[str, argparse.ArgumentParser]:
    """All commands with their parsers."""
    (actions,) = (
        action for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )  # fmt: skip
    assert len(actions.choices) == len(COMMANDS)
    return dict(actions.choices)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a command, those of commands below it as well."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found.update(*map(options_of, action.choices.values()))
    return found
