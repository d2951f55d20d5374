"""Where traces are sent: the address, and what goes with each request."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from asynctrack._errors import MissingExtraError

if TYPE_CHECKING:  # more than a user's loop has to load
    from asynctrack._common.live import LiveFeedback

PATH: Final = "/v1/traces"
_DEFAULT: Final = "http://localhost:4318"


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver of OpenTelemetry's protocol over HTTP.

    Attributes:
        address: Where requests go, whole; None leaves it to ``OTEL_EXPORTER_OTLP_*``.
        headers: What goes with each request, besides ``OTEL_EXPORTER_OTLP_HEADERS``.
        resource: What is said of all spans, besides experiment and Run.
        named: What it is called for people, where the address is found out later.
        ask: Tells address and headers where they are found out later; blocks, and raises
            ``BackendError`` until they are known.
        rate: Sends feedback, where the receiver takes any; OpenTelemetry has none. Blocks, and
            raises ``NotFoundError`` where its trace is not there, else ``BackendError``.
    """

    address: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a key
    resource: Mapping[str, str] = field(default_factory=dict)
    named: str = ""
    ask: Callable[[], tuple[str, Mapping[str, str]]] | None = field(default=None, repr=False)
    rate: Callable[[LiveFeedback], None] | None = field(default=None, repr=False)

    @property
    def way(self) -> tuple[object, ...]:
        """What targets have in common that one exporter serves."""
        return self.address, tuple(sorted(self.headers.items())), self.ask, self.rate

    def found(self) -> Target:
        """Return it with its address. May block.

        Raises:
            BackendError: It is not known yet.
        """
        if self.ask is None:
            return self
        address, headers = self.ask()
        return replace(self, address=address, headers=headers, ask=None)

    @property
    def shown(self) -> str:
        """The address for people: without user, password and query."""
        address = self.named or self.address
        if address is None:
            address = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        if not address:
            base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _DEFAULT
            address = base.rstrip("/") + PATH
        try:
            parts = urlsplit(address)
        except ValueError:
            return "its receiver"
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def target_of(otlp: str | bool | None) -> Target | None:
    """Return the target that an option names; imports nothing of OpenTelemetry but its packages.

    Args:
        otlp: An address, which gets the usual path where it has none; True leaves it to the
            standard variables; None and False name none.

    Raises:
        MissingExtraError: OpenTelemetry's exporter is not installed.
    """
    if otlp is None or otlp is False:
        return None
    _require_exporter()
    if otlp is True:
        return Target()
    parts = urlsplit(otlp)
    if parts.path in ("", "/"):
        otlp = urlunsplit(parts._replace(path=PATH))
    return Target(otlp)


def later(
    named: str,
    ask: Callable[[], tuple[str, Mapping[str, str]]],
    rate: Callable[[LiveFeedback], None],
) -> Target:
    """Return a target whose address is found out later, in the thread that sends.

    Args:
        named: What it is called for people.
        ask: See ``Target``.
        rate: The same.

    Raises:
        MissingExtraError: OpenTelemetry's exporter is not installed.
    """
    _require_exporter()
    return Target(named=named, ask=ask, rate=rate)


def _require_exporter() -> None:
    name = "opentelemetry.exporter.otlp.proto.http"
    if name in sys.modules:
        return
    try:
        if importlib.util.find_spec(name) and importlib.util.find_spec("opentelemetry.sdk"):
            return
    except (ImportError, ValueError):  # not even the package above it is there
        pass
    raise MissingExtraError(
        "Sending traces to a receiver of OpenTelemetry's",
        "opentelemetry-exporter-otlp-proto-http",
        "otel",
    )
