"""A receiver for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module

import pytest

from tests.support.otlp import OtlpReceiver, otlp_receiver

_TRIES = (
    ("opentelemetry.exporter.otlp.common.http", "_MAX_RETRIES"),
    ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "_MAX_RETRYS"),
)
"""Where the exporter's versions say how often they try."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """A receiver, and an exporter that repeats nothing: it would wait for 0.8 seconds at least.

    It is as patient as any: what it sends again as the answer is late arrives twice.
    """
    timeout = "0.75"  # less than it would wait
    for module, name in _TRIES:
        with suppress(ImportError, AttributeError):
            monkeypatch.setattr(import_module(module), name, 1)
            timeout = "60"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", timeout)
    with otlp_receiver() as one:
        yield one
