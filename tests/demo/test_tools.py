"""The agent's tools calculate and search, and evaluate no code."""

from __future__ import annotations

import pytest

from asynctrack.demo._tools import BadExpression, calculate, search


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("117 ** 1.51", "1327.274196"),
        ("117^2", "13689"),
        ("-(1 + 2) * 3 / 4", "-2.25"),
        ("`7 % 4`", "3"),
    ],
)
def test_arithmetic_is_calculated(expression: str, result: str) -> None:
    """Numbers, operators and brackets give a number."""
    assert calculate(expression) == result


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').getcwd()",
        "x + 1",
        "(1).real",
        "9 ** 9 ** 9 ** 9",
        "1 / 0",
        "'a' * 10",
        "(-1) ** 0.5",
        "1j",
        "",
        "(" * 150 + ")" * 10,
        "1+" * 150 + "1",
    ],
)
def test_anything_else_is_refused(expression: str) -> None:
    """Code, names, strings, overflows and endless expressions are a BadExpression."""
    with pytest.raises(BadExpression, match=r"Cannot calculate|characters long"):
        calculate(expression)


def test_the_local_search_knows_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key of SerpAPI the search is local and knows one person."""
    monkeypatch.delenv("SERPAPI_API_KEY", raising=False)
    assert "oldest living person" in search("oldest living person")
    assert "117" in search("current age of the oldest living person")
    assert "Nothing found" in search("the weather")
