"""The agent's two tools: a search and a calculator.

The search asks SerpAPI where ``SERPAPI_API_KEY`` is set, and otherwise answers from a few sentences
written for the demo. The calculator walks the expression's syntax tree: no code is ever evaluated.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import os
import urllib.parse
import urllib.request
from collections.abc import Callable

_SERPAPI = "https://serpapi.com/search.json"
_LOCAL_ANSWERS = (
    # The first whose words all occur in the query.
    (("current", "age"), "117 years old, as of November 2026."),
    (
        ("oldest",),
        "Ethel Caterham of Surrey in England, born on 21 August 1909, is the oldest living person.",
    ),
)
_NO_ANSWER = "Nothing found. (This is the demo's local search, which knows one person only.)"
_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    # Floats only: an integer power of a power would fill the memory, a float one overflows.
    ast.Pow: lambda base, exponent: math.pow(base, exponent),
}


class BadExpression(ValueError):
    """The expression is not arithmetic, or has no finite result."""


def search(query: str) -> str:
    """Look something up.

    Args:
        query: What to look for.

    Raises:
        OSError: SerpAPI could not be reached.
    """
    key = os.environ.get("SERPAPI_API_KEY")
    return _serpapi(query, key) if key else _local(query)


def calculate(expression: str) -> str:
    """Work out an arithmetic expression: numbers, ``+ - * / % **`` (also ``^``) and brackets.

    Args:
        expression: Such as ``"117 ** 1.51"``.

    Raises:
        BadExpression: It holds anything else, or has no finite result.
    """
    text = expression.strip().strip("`'\"").replace("^", "**")
    if len(text) > 200:
        raise BadExpression(f"The expression is {len(text)} characters long; 200 are allowed.")
    try:
        value = _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ArithmeticError, ValueError, RecursionError) as error:
        raise BadExpression(f"Cannot calculate {expression!r}: {error}") from error
    if isinstance(value, complex) or not math.isfinite(value):
        raise BadExpression(f"Cannot calculate {expression!r}: it has no finite result.")
    return f"{value:.10g}"


def _value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)  # True and False come through as 1 and 0, harmlessly
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(f"{type(node).__name__} is not arithmetic")


def _local(query: str) -> str:
    lowered = query.lower()
    for words, answer in _LOCAL_ANSWERS:
        if all(word in lowered for word in words):
            return answer
    return _NO_ANSWER


def _serpapi(query: str, key: str) -> str:
    parameters = urllib.parse.urlencode({"q": query, "api_key": key, "engine": "google"})
    url = f"{_SERPAPI}?{parameters}"
    with urllib.request.urlopen(url, timeout=20) as response:  # noqa: S310  # https, and constant
        found = json.loads(response.read())
    box = found.get("answer_box") or {}
    for text in (box.get("answer"), box.get("snippet")):
        if text:
            return str(text)
    results = found.get("organic_results") or []
    return "\n".join(str(r.get("snippet", "")) for r in results[:3]) or "Nothing found."
