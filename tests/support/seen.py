"""What the fault proxy keeps of the requests it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from tests.support.faults import Fault

Outcome: TypeAlias = Literal[
    "open",  # being read, forwarded or answered
    "hanging",  # held by a fault
    "answered",  # the whole answer was handed to the operating system
    "reset",  # the proxy reset the connection before the server saw the request
    "lost",  # the server answered, the client did not get the (whole) answer
    "client_gone",  # the client gave up first
    "unreachable",  # the server behind the proxy could not be reached
]


@dataclass(frozen=True)
class Request:
    """One request as the proxy saw it, and what became of it."""

    number: int
    """From 1, in the order of arrival."""
    connection: int
    """From 1; requests of one connection share it."""
    method: str
    path: str
    """Without the query, percent-decoded."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    received: float
    """`time.monotonic()` when the head was complete."""
    body: bytes = b""
    """Empty in the record when larger than the proxy keeps."""
    body_size: int = 0
    body_sha256: str = ""
    fault: Fault | None = None
    outcome: Outcome = "open"
    status: int | None = None
    """What the client was sent; None when it was sent no answer."""
    server_status: int | None = None
    """What the server said; None when it was not asked or did not answer."""
    ended: float | None = None
    """`time.monotonic()` when the proxy was done with it."""

    @property
    def service(self) -> str:
        """The AWS service the request is signed for (`s3`, `sagemaker`), empty when unsigned."""
        scope = self.headers.get("authorization", "").partition("Credential=")[2].split(",")[0]
        parts = scope.split("/")
        return parts[-2] if len(parts) >= 5 else ""

    @property
    def operation(self) -> str:
        """The name of the API operation, as `PutObject` or `UpdateTrialComponent`."""
        if target := self.headers.get("x-amz-target"):
            return target.rpartition(".")[2]
        if self.path == "/BatchPutMetrics":
            return "BatchPutMetrics"
        return _s3_operation(self.method, self.path, self.query, self.headers)


def _s3_operation(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    key = path.lstrip("/").partition("/")[2]
    if not key:
        if method == "GET" and not path.strip("/"):
            return "ListBuckets"
        if method == "GET":
            return "ListObjectsV2" if query.get("list-type") == "2" else "ListObjects"
        if method == "POST" and "delete" in query:
            return "DeleteObjects"
        return {"PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}.get(
            method, ""
        )
    if "uploadId" in query:
        by_method = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "GET": "ListParts"}
        return by_method.get(method, "AbortMultipartUpload")
    if method == "POST" and "uploads" in query:
        return "CreateMultipartUpload"
    if method == "PUT" and "x-amz-copy-source" in headers:
        return "CopyObject"
    by_method = {"PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
    return by_method.get(method, "GetObject" if method == "GET" else "")
