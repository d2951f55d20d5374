"""Looking for many texts in a line at once, in whatever case."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Iterator

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynctrack._common import search
from asynctrack._common.search import OVERLAP, in_any_case, spans
from tests.property.strategies import thorough

assert numpy is not None  # with it in sys.modules the quick way is taken
TEXTS = ("api_key", "x@y", "[q]", "a\\b")
WITH_NUMPY = "with numpy"


def _pattern(folded: Callable[[str], str]) -> str:
    return "|".join(re.escape(folded(text)) for text in TEXTS)


def _made(how: str) -> Callable[[bytes], bool]:
    if how == WITH_NUMPY:
        return in_any_case(_pattern)
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "numpy")
        return in_any_case(_pattern)


HOLDS = {how: _made(how) for how in (WITH_NUMPY, "without numpy")}
ASCII = 'abz _-"{}`|\x7f\\'
harmless = st.one_of(
    *(st.text(st.sampled_from(s), max_size=400) for s in (ASCII, ASCII + "ßé漢😀K"))
)


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    """Lines of some hundred bytes take every way that long ones do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "LONG", 10)
        patch.setattr(search, "PIECE", OVERLAP + 13)
        yield


@pytest.mark.parametrize("how", HOLDS)
@thorough
@given(harmless, st.sampled_from(TEXTS), st.randoms(), harmless)
@example("a" * 200, "api_key", random.Random(0), "")
@example("é" * 200, "x@y", random.Random(0), "")
def test_a_text_is_found_wherever_it_stands(
    how: str, before: str, text: str, draw: random.Random, after: str
) -> None:
    """In either case, between whatever characters, also where two pieces of the line meet."""
    text = "".join(draw.choice((sign, sign.upper())) for sign in text)
    assert HOLDS[how](f"{before}{text}{after}".encode())


@pytest.mark.parametrize("how", HOLDS)
@thorough
@given(st.text(st.sampled_from('abz _-"{}ßé漢😀K'), max_size=600))
def test_nothing_is_found_in_what_holds_none(how: str, line: str) -> None:
    """Folding a line does not make it match, but for signs that share their other bits."""
    assert not HOLDS[how](line.encode())


def test_pieces_hold_each_short_text_whole() -> None:
    """They begin and end between characters, and overlap by more than a text is long."""
    for text in ("漢" * 100, "a" + "😀" * 90, "é" * 101, "abcdef" * 50):
        line = text.encode()
        pieces = [line[start:end].decode() for start, end in spans(line, search.PIECE, OVERLAP)]
        assert len(pieces) > 3
        width = OVERLAP // 4
        for at in range(len(text)):
            assert any(text[at : at + width] in piece for piece in pieces)
