"""Spans to requests, none larger than receivers take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from asynctrack._reading.export.otlp_span import OtlpSpan

SPANS: Final = 1_000
"""Spans of a request at the most."""
BYTES: Final = 4_000_000
"""What their attributes take, in characters, except for a single span."""


def requests_of(spans: Iterable[OtlpSpan]) -> Iterator[Sequence[OtlpSpan]]:
    """Yield spans in parts, each a request."""
    part: list[OtlpSpan] = []
    size = 0
    for span in spans:
        its_size = size_of(span)
        if part and (len(part) >= SPANS or size + its_size > BYTES):
            yield part
            part, size = [], 0
        part.append(span)
        size += its_size
    if part:
        yield part


def size_of(span: OtlpSpan) -> int:
    """Return about what a span takes in a request, in bytes."""
    texts = [span.attributes, *(one.attributes for one in span.events)]
    return 500 + sum(len(one) for some in texts for one in some.values() if isinstance(one, str))
