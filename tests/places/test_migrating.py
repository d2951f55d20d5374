"""What the page on migrating calls by name is there: theirs in their packages, ours in ours."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import fields
from importlib.metadata import distribution
from typing import Any

import pytest

import asynctrack
from asynctrack import auto
from asynctrack._options import Options
from asynctrack.cli import COMMANDS
from tests.guide.pages import text

pytestmark = pytest.mark.may_block("no event loop in here")
_ROW = re.compile(r"^\| (.+) \| (.+) \|$", re.MULTILINE)
_NAME = re.compile(r"`([^`]+)`")
IN_METADATA = {"session_id", "thread_id", "langfuse_session_id", "langfuse_user_id"}


def table(heading: str) -> list[tuple[str, str]]:
    """The rows of a table of the page: what is said of theirs, and of ours."""
    section = text("migrating").partition(f"\n{heading}\n")[2]
    rows = _ROW.findall(re.split(r"^##", section, flags=re.MULTILINE)[0])
    return [(theirs, ours) for theirs, ours in rows if set(theirs) - {"-"}][1:]


TABLES = {
    "langchain-community": table("### What is called what"),
    "langsmith": table("## From LangSmith"),
    "langfuse": table("## From Langfuse"),
}


def found(path: str) -> Any:
    """Return what has a dotted name; a module's submodules are loaded."""
    first, *rest = path.split(".")
    thing, module = importlib.import_module(first), first
    for name in rest:
        module += f".{name}"
        if not hasattr(thing, name) and inspect.ismodule(thing):
            importlib.import_module(module)
        thing = getattr(thing, name)
    return thing


def source(package: str) -> str:
    """Return all code of a package that is installed."""
    files = distribution(package).files or []
    paths = [one.locate() for one in files if one.suffix == ".py"]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", TABLES)
def test_their_names_exist(package: str) -> None:
    """Variables, keys of metadata, keyword arguments, functions and classes."""
    code = source(package)
    names = [name for theirs, _ in TABLES[package] for name in _NAME.findall(theirs)]
    assert len(names) >= 3
    for name in names:
        path, _, keyword = name.rstrip(")").partition("(")
        if path.isupper():
            # LangSmith puts its prefix before them itself.
            assert re.search(rf"\b(?:LANGSMITH_)?{path.removeprefix('LANGSMITH_')}\b", code), name
        elif "." in path:
            thing = found(path)
            if keyword:
                assert keyword.rstrip("=") in inspect.signature(thing).parameters, name
        elif path not in ("callbacks", "langchain_community"):
            assert re.search(rf"\b{path}\b", code), name


@pytest.mark.parametrize("package", TABLES)
def test_our_names_exist(package: str) -> None:
    """Options of ``tracker``, variables, commands, functions, methods and properties."""
    options = {field.name for field in fields(Options)}
    for _, ours in TABLES[package]:
        for name in _NAME.findall(ours):
            if option := re.fullmatch(r"tracker\((\w+)=\)", name):
                assert option[1] in options, name
            elif name.isupper():
                assert name == auto.VARIABLE
            elif command := re.fullmatch(r"asynctrack ([a-z]+)", name):
                assert f"_{command[1]}" in COMMANDS, name
            elif name.startswith("import "):
                importlib.import_module(name.split()[1])
            elif name.startswith("asynctrack."):
                found(name)
            elif "." in name:
                found(f"asynctrack.{name}")
            else:
                assert hasattr(asynctrack.SyncHandler, name), name


def test_keys_of_metadata_are_known() -> None:
    """Those that the page calls the same tell session and user here as there."""
    said = {
        name
        for rows in TABLES.values()
        for theirs, ours in rows
        if ours.startswith("the same")
        for name in _NAME.findall(theirs)
    }
    assert said == IN_METADATA
    assert all(name in (asynctrack.tracker.__doc__ or "") for name in said)
