"""A receiver for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.otlp import OtlpReceiver, otlp_receiver


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """A receiver, and an exporter that repeats nothing: it would wait for 0.8 seconds at least."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.75")
    with otlp_receiver() as one:
        yield one
