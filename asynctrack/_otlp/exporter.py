"""OpenTelemetry's own exporter: our spans as it takes them, and what became of a request.

The exporter sends: proxies, TLS, headers, compression and time limits are its own, and follow the
variables that OpenTelemetry names. It says yes or no; what the receiver answered is seen by the
session that it is given. Importing this imports OpenTelemetry.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import requests
from opentelemetry import context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from asynctrack._common.own import is_own
from asynctrack._otlp.target import Target
from asynctrack._reading.export.otlp_span import OtlpSpan

_PROVIDERS: Final = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)
_REFUSALS: Final = frozenset({400, 405, 406, 411, 413, 414, 415, 422, 431, 501})
"""Answers to what was sent: it gets no other one. Who may send, and where, can be mended."""
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    Attributes:
        taken: Whether the receiver has taken it.
        refused: Whether it would refuse it again.
        status: The HTTP status; None where there was no answer.
        text: The same in words, without secrets.
    """

    taken: bool
    refused: bool = False
    status: int | None = None
    text: str = ""


class Exporter:
    """Sends spans to one target. Blocks.

    Args:
        target: Where to.
        timeout: The longest that a request takes with its repetitions, in seconds; None leaves it
            to ``OTEL_EXPORTER_OTLP_TIMEOUT``, else 10.
    """

    def __init__(self, target: Target, *, timeout: float | None = None) -> None:
        self._seen = _Seen()
        # A provider of credentials brings a session of its own.
        self._own = not any(os.environ.get(name) for name in _PROVIDERS)
        self._exporter = OTLPSpanExporter(
            endpoint=target.address,
            headers=dict(target.headers) or None,
            timeout=timeout,
            session=self._seen if self._own else None,
        )
        self._scope = InstrumentationScope("asynctrack", _version())
        _hush()

    def send(self, spans: Sequence[OtlpSpan], resource: Mapping[str, str]) -> Answer:
        """Send spans in one request.

        Args:
            spans: What to send.
            resource: What is said of all of them.
        """
        of = Resource(dict(resource))
        self._seen.forget()
        # What instruments requests leaves those out that an exporter makes.
        key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
        token = context.attach(context.set_value(key, True))
        try:
            result = self._exporter.export([_readable(one, of, self._scope) for one in spans])
        except Exception as error:  # an exporter does not raise; whatever it is, it goes on
            return Answer(False, text=type(error).__name__)
        finally:
            context.detach(token)
        if result is SpanExportResult.SUCCESS:
            return Answer(True)
        status, seen = self._seen.status, self._seen.error
        if status is not None:
            return Answer(False, status in _REFUSALS, status, f"HTTP {status}")
        if seen is not None:
            return Answer(False, text=seen)
        # Not even tried: larger than the exporter sends.
        return Answer(False, refused=self._own, text="OpenTelemetry's exporter did not send it")

    def close(self) -> None:
        """Close its connections."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # theirs


class _Seen(requests.Session):
    """A session that remembers how the last request ended."""

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Know nothing of a request."""
        self.status: int | None = None
        self.error: str | None = None

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request, and remember what came of it."""
        self.forget()
        try:
            response = super().send(request, **kwargs)
        except Exception as error:
            self.error = type(error).__name__  # its text may hold an address with a password
            raise
        self.status = response.status_code
        return response


def _version() -> str | None:
    try:
        return version("asynctrack")
    except PackageNotFoundError:  # put into a program as one file
        return None


def _readable(span: OtlpSpan, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    trace_id = int(span.trace_id, 16)
    parent = None
    if span.parent_span_id is not None:
        parent = SpanContext(trace_id, int(span.parent_span_id, 16), False, _SAMPLED)
    status = Status() if span.error is None else Status(StatusCode.ERROR, span.error)
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int(span.span_id, 16), False, _SAMPLED),
        parent=parent,
        resource=resource,
        attributes=dict(span.attributes),
        events=[Event(one.name, dict(one.attributes), one.time_unix_nano) for one in span.events],
        kind=SpanKind.CLIENT if span.remote else SpanKind.INTERNAL,
        instrumentation_scope=scope,
        status=status,
        start_time=span.start_unix_nano,
        end_time=span.end_unix_nano,
    )


def _hush() -> None:
    """Keep the exporter from logging each failure of ours: we say it once a minute."""
    for name in (
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "opentelemetry.exporter.otlp.proto.http",
    ):
        logger = logging.getLogger(name)
        if _is_not_ours not in logger.filters:
            logger.addFilter(_is_not_ours)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not is_own()
