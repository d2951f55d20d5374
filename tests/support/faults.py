"""What the fault proxy can do to a request."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Literal, TypeAlias
from xml.sax.saxutils import escape

from tests.support.seen import Request

Page: TypeAlias = Literal["empty", "html", "xhtml", "json"]
STRANGER = "filter/1.0"
"""How somebody else calls itself."""
PAGES: dict[Page, tuple[str, bytes]] = {
    "empty": ("", b""),
    "html": ("text/html", b"<!DOCTYPE html><html><head><title>Sign in<br></head><p>&nbsp;</html>"),
    # Parsed as XML, it is an answer in which nothing is said.
    "xhtml": (
        "application/xhtml+xml",
        b'<?xml version="1.0"?><html><head><title>Blocked</title></head>'
        b"<body><p>Blocked</p></body></html>",
    ),
    "json": ("application/json", b'{"error": "blocked", "message": "by policy", "code": 17}'),
}


@dataclass(frozen=True)
class ResetConnection:
    """Reset a new connection before anything is read from it."""


@dataclass(frozen=True)
class ResetRequest:
    """Reset after `at` bytes of the body were read (a float: that share of it)."""

    at: int | float = 0


@dataclass(frozen=True)
class ResetAnswer:
    """Forward, send `at` bytes of the answer, head included, then reset.

    A negative number counts from the end, a float is a share of the answer.
    """

    at: int | float = 0


@dataclass(frozen=True)
class DropAnswer:
    """Forward, then close the connection properly without an answer: stored, answer lost."""


@dataclass(frozen=True)
class Hang:
    """Do not answer until released; then go on as if nothing had been.

    Where it stops: before the body is read, before the request is forwarded, or when the server has
    answered (stored, the answer does not come).
    """

    where: Literal["unread", "before", "after"] = "before"


@dataclass(frozen=True)
class Delay:
    """Hold the request for some seconds before it is forwarded."""

    seconds: float


@dataclass(frozen=True)
class Throttle:
    """Send the answer, head included, at this many bytes a second."""

    bytes_per_second: float


@dataclass(frozen=True)
class FlipBit:
    """Flip one bit in the body of the request or of the answer; which one depends on the seed."""

    where: Literal["request", "answer"] = "request"
    seed: int = 0

    def apply(self, body: bytes) -> bytes:
        if not body:
            return body
        flipped = bytearray(body)
        bit = random.Random(self.seed).randrange(len(body) * 8)
        flipped[bit // 8] ^= 1 << bit % 8
        return bytes(flipped)


@dataclass(frozen=True)
class Rewrite:
    """Forward, and change headers of the answer: another text, or None to take one out.

    Names in lower case.
    """

    headers: Mapping[str, str | None]


@dataclass(frozen=True)
class Answer:
    """Answer in the server's place, with an error body in the shape of the service it was sent to.

    Attributes:
        status: The HTTP status.
        code: AWS's error code; by default what AWS uses with that status.
        retry_after: Seconds, a `timedelta` for a date that far from now, or any text as it is.
        headers: Further headers.
        body: This body instead of an error's.
        page: Somebody else answers, a filter or a load balancer, with such a page: nothing of AWS's
            is in it, neither a request id nor an error's code.
    """

    status: int
    code: str | None = None
    message: str = "Injected by the test."
    retry_after: float | timedelta | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    page: Page | None = None

    def head_and_body(self, request: Request) -> tuple[dict[str, str], bytes]:
        if self.page is not None:
            kind, body = PAGES[self.page]
            headers = {"Server": STRANGER, **({"Content-Type": kind} if kind else {})}
            return {**headers, **self.headers}, body
        xml = request.service in {"", "s3"}
        codes = _S3_CODES if xml else _JSON_CODES
        code = (
            self.code or codes.get(self.status) or ("InternalError" if xml else "InternalFailure")
        )
        headers = {"x-amz-request-id" if xml else "x-amzn-RequestId": f"PROXY{request.number:011d}"}
        if self.body is not None:
            body, kind = self.body, "application/xml" if xml else "application/x-amz-json-1.1"
        elif xml:
            body = (
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                f"<Error><Code>{escape(code)}</Code><Message>{escape(self.message)}</Message>"
                f"<RequestId>PROXY{request.number:011d}</RequestId></Error>"
            ).encode()
            kind = "application/xml"
        else:
            body = json.dumps({"__type": code, "message": self.message}).encode()
            kind = "application/x-amz-json-1.1"
            headers["x-amzn-ErrorType"] = code
        headers["Content-Type"] = kind
        if isinstance(self.retry_after, timedelta):
            at = datetime.now(timezone.utc) + self.retry_after
            headers["Retry-After"] = format_datetime(at, usegmt=True)
        elif isinstance(self.retry_after, str):
            headers["Retry-After"] = self.retry_after
        elif self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:g}"
        headers.update(self.headers)
        return headers, body


Fault: TypeAlias = (
    ResetConnection
    | ResetRequest
    | ResetAnswer
    | DropAnswer
    | Hang
    | Delay
    | Throttle
    | FlipBit
    | Rewrite
    | Answer
)


def acts_before_the_body(fault: Fault) -> bool:
    """Whether the choice must be made while the body has not been read."""
    return isinstance(fault, ResetRequest) or (isinstance(fault, Hang) and fault.where == "unread")


_S3_CODES = {
    400: "InvalidRequest",
    401: "Unauthorized",
    403: "AccessDenied",
    404: "NoSuchKey",
    408: "RequestTimeout",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    413: "EntityTooLarge",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}
_JSON_CODES = {
    400: "ThrottlingException",
    403: "AccessDeniedException",
    404: "ResourceNotFound",
    409: "ConflictException",
    429: "ThrottlingException",
    500: "InternalFailure",
    503: "ServiceUnavailable",
}
