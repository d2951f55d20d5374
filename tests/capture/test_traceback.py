"""Exceptions as data."""

from __future__ import annotations

import asyncio
import json
import linecache
from typing import Any

import pytest

from asynctrack._capture.tracebacks import MAX_CAUSES, MAX_FRAMES, MAX_MESSAGE, describe_error
from asynctrack._common import payload


def caught(function: Any, *args: Any) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("it should have raised")


def fail(message: str = "wrong") -> None:
    raise ValueError(message)


def fail_from(error: BaseException) -> None:
    try:
        raise error
    except type(error) as inner:
        raise RuntimeError("outer") from inner


def fail_during(error: BaseException) -> None:
    try:
        raise error
    except type(error):
        raise RuntimeError("outer")  # noqa: B904  # the implicit context is what is tested


def fail_instead(error: BaseException) -> None:
    try:
        raise error
    except type(error):
        raise RuntimeError("outer") from None


def test_type_message_and_frames() -> None:
    """Type, message and every frame, innermost last, with file, line and function."""
    described = describe_error(caught(fail))
    frames = described["traceback"].splitlines()
    assert (described["type"], described["message"]) == ("ValueError", "wrong")
    assert "causes" not in described
    assert len(frames) == 2
    assert frames[0].startswith(f'  File "{__file__}", line ')
    assert frames[0].endswith("in caught")
    assert frames[1].endswith("in fail")


def test_an_exception_that_was_never_raised() -> None:
    """An exception without a traceback is described without one."""
    assert describe_error(KeyError("k")) == {
        "type": "KeyError", "message": "'k'", "traceback": "",
    }  # fmt: skip


@pytest.mark.parametrize("how", [fail_from, fail_during])
def test_causes(how: Any) -> None:
    """What an exception was raised from, or during, is told."""
    described = describe_error(caught(how, ValueError("inner")))
    assert [cause["message"] for cause in described["causes"]] == ["inner"]
    assert f"in {how.__name__}" in described["causes"][0]["traceback"]


def test_a_cause_that_was_suppressed() -> None:
    """``from None`` hides the context here too."""
    assert "causes" not in describe_error(caught(fail_instead, ValueError("inner")))


class Falsy(Exception):
    def __len__(self) -> int:
        return 0


class Uncertain(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("neither")


@pytest.mark.parametrize("kind", [Falsy, Uncertain])
def test_causes_that_are_falsy(kind: type[Exception]) -> None:
    """A cause counts whatever it says when it is asked for its truth."""
    described = describe_error(caught(fail_from, kind("inner")))
    assert [cause["message"] for cause in described["causes"]] == ["inner"]


def test_causes_in_a_circle() -> None:
    """A circle of causes ends."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert [cause["message"] for cause in describe_error(first)["causes"]] == ["b"]


def test_many_causes() -> None:
    """Only so many causes are kept, the nearest."""
    error = ValueError("0")
    for number in range(1, 50):
        outer = ValueError(str(number))
        outer.__cause__ = error
        error = outer
    causes = describe_error(error)["causes"]
    assert [cause["message"] for cause in causes] == [str(48 - n) for n in range(MAX_CAUSES)]


def test_groups() -> None:
    """The members of a group are told."""
    group_type = pytest.importorskip("builtins").__dict__.get("ExceptionGroup")
    if group_type is None:
        pytest.skip("no groups before Python 3.11")
    described = describe_error(group_type("several", [ValueError("a"), KeyError("b")]))
    assert [member["type"] for member in described["exceptions"]] == ["ValueError", "KeyError"]


class Hostile(Exception):
    @property
    def exceptions(self) -> Any:
        raise RuntimeError("no members")

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_that_raises() -> None:
    """An exception that can neither be shown nor asked is described by its type."""
    described = describe_error(caught(lambda: (_ for _ in ()).throw(Hostile())))
    assert described["type"] == f"{__name__}.Hostile"
    assert described["message"] == f"<str() of {__name__}.Hostile raised RuntimeError>"
    assert "throw" in described["traceback"] or "genexpr" in described["traceback"]


def recurse(depth: int) -> None:
    if depth == 0:
        raise ValueError("deep")
    recurse(depth - 1)


def test_long_tracebacks_are_cut_in_the_middle() -> None:
    """The outermost and the innermost frames are kept."""
    frames = describe_error(caught(recurse, 500))["traceback"].splitlines()
    assert len(frames) == MAX_FRAMES + 1
    assert frames[0].endswith("in caught")
    assert frames[-1].endswith("in recurse")
    assert frames[MAX_FRAMES // 3] == f"  … {502 - MAX_FRAMES} frames left out …"


def test_messages_are_cut_and_clean() -> None:
    """A huge message is cut, one that UTF-8 cannot hold is made valid."""
    assert len(describe_error(ValueError("x" * 200_000))["message"]) == MAX_MESSAGE
    assert describe_error(ValueError("a\ud800"))["message"] == "a\\ud800"


def test_it_is_plain_data() -> None:
    """What comes out is encoded as it is."""
    described = describe_error(caught(fail_from, ValueError("ü\n")))
    assert json.loads(payload.encode({"error": described})) == {"error": described}


async def test_no_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describing an error in an event loop reads no source file: that would block."""

    def forbidden(*args: Any) -> Any:
        raise AssertionError("a source file was asked for")

    for name in ("getline", "getlines", "updatecache", "checkcache"):
        monkeypatch.setattr(linecache, name, forbidden)
    await asyncio.sleep(0)
    assert describe_error(caught(fail))["message"] == "wrong"
