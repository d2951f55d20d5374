"""What model calls cost, by prices the user gives. No price is built in: they change, and differ
by account, region and day; a wrong number is worse than none.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Union

from asynctrack._errors import OptionError
from asynctrack._reading.trees.span import Span

VARIABLE: Final = "ASYNCTRACK_PRICES"
MILLION: Final = 1_000_000
_ALLOWED: Final = (
    "a mapping of models to (USD per million input tokens, USD per million output tokens), both 0"
    " or more, or the path of a JSON file that holds one: "
    '{"gpt-4o-mini": [0.15, 0.6]}'
)

Prices = Mapping[str, tuple[float, float]]
"""Model to USD per million input tokens, and per million output tokens."""
GivenPrices = Union[Mapping[str, Any], str, "os.PathLike[str]", None]
"""As users give them: a mapping, a JSON file, or None for the file ``ASYNCTRACK_PRICES`` names."""


def read_prices(given: GivenPrices, environ: Mapping[str, str] | None = None) -> Prices | None:
    """Return prices; None where none are given. Reads the file, where one is named.

    Raises:
        OptionError: They are not as they should be; the text says what is.
    """
    environ = os.environ if environ is None else environ
    if given is None:
        given = environ.get(VARIABLE) or None
        if given is None:
            return None
    source: Any = given
    if isinstance(given, (str, os.PathLike)):
        path = Path(given).expanduser()
        try:
            given = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise OptionError("prices", str(path), f"{_ALLOWED} ({error})") from error
    if not isinstance(given, Mapping):
        raise OptionError("prices", source, _ALLOWED)
    return {_model(name): _pair(name, value) for name, value in given.items()}


def cost_of(span: Span, prices: Prices) -> float | None:
    """Return what a model call cost, in USD; None where its price or its tokens are not known.

    The model that answered counts if it has a price, else the requested one.
    """
    for name in ("gen_ai.response.model", "gen_ai.request.model"):
        model = span.attributes.get(name)
        pair = prices.get(model) if isinstance(model, str) else None
        if pair is not None:
            if span.input_tokens is None and span.output_tokens is None:
                return None
            read, written = span.input_tokens or 0, span.output_tokens or 0
            return (read * pair[0] + written * pair[1]) / MILLION
    return None


def _model(name: Any) -> str:
    if not isinstance(name, str):
        raise OptionError("prices", name, _ALLOWED)
    return name


def _pair(name: Any, value: Any) -> tuple[float, float]:
    if isinstance(value, (list, tuple)) and len(value) == 2:
        read, written = value
        numbers = all(type(number) in (int, float) for number in value)
        if numbers and all(math.isfinite(number) and number >= 0 for number in value):
            return float(read), float(written)
    raise OptionError(f"prices[{name!r}]", value, _ALLOWED)
