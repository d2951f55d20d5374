"""Text and HTML of what was logged."""

from __future__ import annotations

import html

from hypothesis import given
from hypothesis import strategies as st

from asynctrack._common import markup
from asynctrack._statistics import Statistics
from tests.property.strategies import any_text, quick


@quick
@given(any_text)
def test_escaped_text_is_no_markup_and_says_the_same(text: str) -> None:
    """A browser shows of it what ``visible`` gives, whatever the text is made of."""
    shown = markup.escaped(text)
    assert not set("<>\"'") & set(shown)
    assert html.unescape(shown) == markup.visible(text)
    assert all(char.isprintable() or char in "\n\t" or char.isspace() for char in shown)
    shown.encode()


@quick
@given(any_text, st.integers(2, 40))
def test_a_line_is_one_and_short(text: str, length: int) -> None:
    """No text has more characters on its line than it may, nor one that breaks it."""
    line = markup.one_line(text, length)
    assert len(line) <= length
    assert len(line.splitlines()) <= 1
    assert text != line or "\n" not in text


def test_what_is_cut_says_so() -> None:
    """A cut text ends in an ellipsis or its full length; one that fits is whole."""
    assert markup.one_line("a\n b", 3) == "a b"
    assert markup.one_line("abcd", 3) == "ab…"
    assert markup.one_line(" " * 100 + "end", 3) == "…"
    assert "abc\n… (6 characters)</pre>" in markup.text_html("abcdef", 3)
    assert "abcdef</pre>" in markup.text_html("abcdef", 6)


def test_counters_are_said() -> None:
    """The equation is always there, all else where it is not 0."""
    assert markup.counted(Statistics()) == "0 events accepted"
    nothing = [("accepted", "0"), ("delivered", "0"), ("waiting", "0")]
    assert markup.counters(Statistics()) == nothing
    some = Statistics(accepted=1_500, spooled=1_000, pending=500, dropped={"full": 1}, retries=2)
    assert markup.counted(some) == "1,500 events accepted, 1,500 waiting, 1 dropped"
    assert markup.counters(some)[2:] == [
        ("waiting", "1,500"), ("of these on disk", "1,000"), ("dropped: full", "1"),
        ("retries", "2"),
    ]  # fmt: skip
