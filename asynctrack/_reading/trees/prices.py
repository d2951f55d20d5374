"""What model calls cost, by prices the user gives. No price is built in: they change, and differ
by account, region and day; a wrong number is worse than none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Union

from asynctrack._errors import OptionError
from asynctrack._reading.trees.span import Span

VARIABLE: Final = "ASYNCTRACK_PRICES"
MILLION: Final = 1_000_000
_ALLOWED: Final = (
    "a mapping of models to (USD per million input tokens, USD per million output tokens), both 0"
    " or more, or to those by name, with rates of their own for what the provider's cache gives and"
    " takes and for audio, or the path of a JSON file that holds one: "
    '{"gpt-4o-mini": [0.15, 0.6], "gpt-4o": {"in": 2.5, "out": 10, "cache_read": 1.25}}'
)
_NAMES: Final = ("in", "out", "cache_read", "cache_write", "audio_in", "audio_out")


@dataclass(frozen=True, slots=True)
class Rates:
    """What the tokens of a model cost, in USD per million.

    Attributes:
        read: Input tokens.
        written: Output tokens.
        cache_read: Input tokens that came from the provider's cache.
        cache_write: Input tokens that went into it.
        audio_read: Input tokens that were audio; None if that is not known.
        audio_written: Output tokens that were audio; None if that is not known.
    """

    read: float
    written: float
    cache_read: float
    cache_write: float
    audio_read: float | None = None
    audio_written: float | None = None

    def cost(
        self,
        read: int,
        written: int,
        *,
        cache_read: int = 0,
        cache_write: int = 0,
        audio_read: int = 0,
        audio_written: int = 0,
    ) -> float | None:
        """Return what tokens cost, in USD; None where there was audio, which has no price.

        Those of the cache and of audio are parts of the input and of the output.
        """
        heard, spoken = self.audio_read, self.audio_written
        if (audio_read and heard is None) or (audio_written and spoken is None):
            return None
        plain = max(0, read - cache_read - cache_write - audio_read)
        return (
            plain * self.read
            + cache_read * self.cache_read
            + cache_write * self.cache_write
            + audio_read * (heard or 0)
            + max(0, written - audio_written) * self.written
            + audio_written * (spoken or 0)
        ) / MILLION


Prices = Mapping[str, Rates]
"""What models cost, by their names."""
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
        path = Path(os.path.expanduser(given))  # noqa: PTH111  # pathlib's raises for no ~user
        try:
            given = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise OptionError("prices", str(path), f"{_ALLOWED} ({error})") from error
    if not isinstance(given, Mapping):
        raise OptionError("prices", source, _ALLOWED)
    return {_model(name): _rates(name, value) for name, value in given.items()}


def cost_of(span: Span, prices: Prices) -> float | None:
    """Return what a model call cost, in USD; None where its price or its tokens are not known.

    The model that answered counts if it has a price, else the requested one.
    """
    for name in ("gen_ai.response.model", "gen_ai.request.model"):
        model = span.attributes.get(name)
        rates = prices.get(model) if isinstance(model, str) else None
        if rates is not None:
            if span.input_tokens is None and span.output_tokens is None:
                return None
            return rates.cost(
                span.input_tokens or 0,
                span.output_tokens or 0,
                cache_read=span.cache_read_tokens or 0,
                cache_write=span.cache_write_tokens or 0,
                audio_read=span.audio_input_tokens or 0,
                audio_written=span.audio_output_tokens or 0,
            )
    return None


def _model(name: Any) -> str:
    if not isinstance(name, str) or not name.isprintable():
        raise OptionError("prices", name, _ALLOWED)
    return name


def _rates(name: Any, value: Any) -> Rates:
    of = f"prices[{name!r}]"
    if isinstance(value, Mapping):
        for key in value:
            if key not in _NAMES:
                raise OptionError(f"{of}[{key!r}]", value[key], f"one of {', '.join(_NAMES)}")
        rates = {key: _rate(f"{of}[{key!r}]", value.get(key)) for key in (*_NAMES[:2], *value)}
        read = rates["in"]
        return Rates(
            read,
            rates["out"],
            rates.get("cache_read", read),
            rates.get("cache_write", read),
            rates.get("audio_in"),
            rates.get("audio_out"),
        )
    if isinstance(value, (list, tuple)) and len(value) == 2:
        read, written = (_rate(of, number) for number in value)
        return Rates(read, written, read, read)
    raise OptionError(of, value, _ALLOWED)


def _rate(of: str, value: Any) -> float:
    if type(value) in (int, float) and 0 <= value <= sys.float_info.max:
        return float(value)
    raise OptionError(of, value, f"USD per million tokens, 0 or more; prices are {_ALLOWED}")
