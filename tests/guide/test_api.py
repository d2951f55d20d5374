"""The page on the API: current, whole, and well-formed wherever it is shown."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from asynctrack.cli._markdown import readable
from tests.guide.api import PAGE, made, members, public
from tests.guide.pages import blocks, text

pytestmark = pytest.mark.may_block("no event loop in here")
_HEADING = re.compile(r"^#{3,4} (?:class )?(\S+)$", re.MULTILINE)


def test_the_page_is_what_the_docstrings_say() -> None:
    """Else: ``python -m tests.guide.api``."""
    assert PAGE.read_text(encoding="utf-8") == made(), "run: python -m tests.guide.api"


def test_each_public_name_has_one_entry_with_its_signature() -> None:
    """Classes, functions, and the methods and properties that users call."""
    expected = []
    for _, name, thing in public():
        methods = [key for key, _ in members(thing)] if isinstance(thing, type) else []
        expected += [name, *(f"{name}.{key}" for key in methods)]
    assert sorted(_HEADING.findall(text("api"))) == sorted(expected)
    assert {"tracker", "AsyncHandler.flush", "RecordedRun.traces", "end_engine"} <= {*expected}
    signatures = [one.code for one in blocks("api") if one.language == "py"]
    names = {re.match(r"(?:async |class )*(\w+)", code)[1] for code in signatures}  # type: ignore[index]
    assert names >= {name.rpartition(".")[2] for name in expected}


def test_every_entry_says_something() -> None:
    """What has no docstring is not public, or lacks one."""
    for part in re.split(r"^(?=#{3,4} )", text("api"), flags=re.MULTILINE)[1:]:
        said = re.sub(r"^```.*?^```$|^#[^\n]*$", "", part, flags=re.MULTILINE | re.DOTALL)
        assert re.search(r"\w", said), part


def test_examples_of_docstrings_are_shown_whole() -> None:
    """Each is a block of its own, and begins with a prompt."""
    examples = [one.code for one in blocks("api") if one.language == "pycon"]
    assert len(examples) >= 7
    assert all(code.startswith(">>> ") for code in examples)


def test_it_is_well_formed_for_github() -> None:
    """No HTML, and no mark that is left over in prose: a star, a backtick, a fence, a section."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text("api"))
    for token in tokens:
        assert token.type != "html_block", token.content
        for child in token.children or ():
            assert child.type != "html_inline", token.content
            if child.type == "text":
                assert not re.search(r"[`*]|::$|:\w+:`", child.content), token.content
        if token.type == "code_block":
            raise AssertionError(f"indented by chance: {token.content}")


def test_it_is_well_formed_on_a_terminal() -> None:
    """Signatures keep their lines, lists their items, and no double backtick is left."""
    shown = readable(text("api"), 80)
    assert "\n    tracker(\n        run: Any,\n        *,\n" in shown
    assert (
        "\n- `max_delay`: A batch is cut when its first event is this old, in seconds.\n" in shown
    )
    assert "``" not in shown and "Args:" not in shown and "Raises:" not in shown
