"""Whose answer it is: what AWS says is believed, what answers in its place is not.

A filter, the sign-in page of a network or a load balancer may answer 200 to anything. Counted as
an acknowledgement that would be the end of the events. So an answer counts when it carries what
AWS's carry; a store that is no AWS and leaves that out is asked once for the object itself. Pure:
both paths to S3, awaited and in threads, ask these functions, and make the requests themselves.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from asynctrack._backends.advice import BETWEEN, advice_for
from asynctrack._common.marker import safe_str
from asynctrack._errors import TransientError

REQUEST_IDS: Final = frozenset({"x-amz-request-id", "x-amz-id-2", "x-amzn-requestid"})
"""Headers of which every answer of AWS has one: S3's, S3's second, and those of JSON services.
MinIO, Ceph, rclone and moto send one as well."""
HEAD_OPTIONS: Final = ("ExpectedBucketOwner", "RequestPayer")
"""Arguments of PutObject that HeadObject wants as well."""
UNREADABLE: Final = "UnreadableAnswer"
"""Code of the error for an answer in which botocore finds nothing that it can read."""
_SHOWN: Final = 60
"""Characters of a header that are told."""


def checksum_of(crc32: int) -> str:
    """Return a CRC32 as S3 writes it."""
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


def listen(events: Any) -> None:
    """Have a client ask a stranger no more than was to be asked.

    Args:
        events: The client's events.
    """
    events.register("before-call.s3.HeadBucket", _ask_for_a_region_once)


def _ask_for_a_region_once(context: Mapping[str, Any], **_: Any) -> None:
    # botocore follows a redirect by asking for the bucket's region. Where that is redirected as
    # well it asks for it again, hundreds of times, until the stack is full.
    redirect = context.get("s3_redirect")
    if isinstance(redirect, dict):
        redirect["redirected"] = True


def status_of(answer: Mapping[str, Any]) -> int | None:
    """Return the status of an answer; None where there is none."""
    status = (answer.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def headers_of(answer: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the headers in botocore's picture of an answer; names in lower case."""
    headers = (answer.get("ResponseMetadata") or {}).get("HTTPHeaders")
    return headers if isinstance(headers, Mapping) else {}


def has_request_id(answer: Mapping[str, Any]) -> bool:
    """Tell whether an answer carries AWS's number of the request."""
    headers = headers_of(answer)
    return any(headers.get(name) for name in REQUEST_IDS)


def who_answered(answer: Mapping[str, Any]) -> str:
    """Say what answered: status, content type, and how the server calls itself. Never a body."""
    headers = headers_of(answer)
    kind = _shown(headers.get("content-type")) or "of no content type"
    server = _shown(headers.get("server"))
    who = f"that calls itself {server}" if server else "that does not say its name"
    status = status_of(answer)
    # botocore takes a 200 with a page for a 500, and tells nobody.
    return f"HTTP {'200 or 500' if status == 500 else status}, {kind}, from a server {who}"


# -- PutObject --------------------------------------------------------------------------------


def is_acknowledged(answer: Mapping[str, Any], checksum: str) -> bool:
    """Tell whether an answer to PutObject is S3's word that the object is stored.

    Args:
        answer: botocore's picture of an answer that is no error.
        checksum: The object's, as S3 writes it.

    Returns:
        False where it carries less than S3's answers do: then the store is to be asked by HEAD.

    Raises:
        TransientError: The store says that it holds other bytes.
    """
    echoed = answer.get("ChecksumCRC32") or headers_of(answer).get("x-amz-checksum-crc32")
    if status_of(answer) != 200 or not answer.get("ETag") or not has_request_id(answer):
        return False
    if echoed and echoed != checksum:
        raise TransientError(
            "Unacknowledged", "the store says that other bytes have arrived", answered=True
        )
    return True


def require_stored(
    put: Mapping[str, Any],
    head: Mapping[str, Any],
    *,
    size: int,
    checksum: str,
    md5: Callable[[], str],
) -> None:
    """Believe a store that does not answer as S3 does when it shows the very object.

    Args:
        put: Its answer to PutObject.
        head: Its answer to HeadObject.
        size: The object's size, in bytes.
        checksum: Its CRC32, as S3 writes it.
        md5: Returns its MD5 in hex; asked only where the store knows no CRC32.

    Raises:
        TransientError: It does not have it.
    """
    there = head.get("ContentLength") == size and (
        head.get("ChecksumCRC32") == checksum
        if head.get("ChecksumCRC32")
        else str(head.get("ETag") or "").strip('"') == md5()
    )
    if not there:
        why = f"asked for the object itself, it does not show it ({who_answered(head)})"
        raise unacknowledged(put, why)


def unacknowledged(put: Mapping[str, Any], why: str) -> TransientError:
    """Return the error for an answer to PutObject that nobody can vouch for.

    Args:
        put: The answer.
        why: What came of asking for the object itself.
    """
    return TransientError(
        "Unacknowledged",
        f"what answered is not S3: {who_answered(put)}, without S3's request id and ETag; {why}",
        advice=BETWEEN,
        answered=True,
    )


def md5_of(content: bytes) -> str:
    """Return the MD5 of an object, which is the ETag of a plain one."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


# -- other answers ------------------------------------------------------------------------------


def require_listing(answer: Mapping[str, Any]) -> None:
    """Take an answer to ListObjectsV2 for one only when it says what it lists.

    A web page is read as a listing of nothing, and nothing is what a new Run has.

    Raises:
        TransientError: It is not S3's.
    """
    if "Name" not in answer and "IsTruncated" not in answer:
        raise not_aws(answer)


def require_object(answer: Mapping[str, Any]) -> None:
    """Take an answer to GetObject for one only when it is no web page.

    Raises:
        TransientError: It is not S3's.
    """
    page = "html" in headers_of(answer).get("content-type", "").lower()
    if not has_request_id(answer) and (page or not answer.get("ETag")):
        raise not_aws(answer)


def require_field(answer: Mapping[str, Any], field: str) -> None:
    """Take an answer of SageMaker's for one only when it has what all of that kind have.

    Args:
        answer: botocore's picture of it.
        field: The field.

    Raises:
        TransientError: It is not SageMaker's.
    """
    if field not in answer:
        raise not_aws(answer, "SageMaker")


def require_metrics_taken(answer: Mapping[str, Any]) -> None:
    """Take an answer to BatchPutMetrics for one only when it is SageMaker's.

    Raises:
        TransientError: It is not.
    """
    if "Errors" not in answer and not has_request_id(answer):
        raise not_aws(answer, "SageMaker")


def not_aws(answer: Mapping[str, Any], service: str = "S3") -> TransientError:
    """Return the error for an answer of somebody else."""
    code = f"Not{service}"
    return TransientError(
        code,
        f"what answered is not {service}: {who_answered(answer)}",
        advice=advice_for(code),
        answered=True,
    )


def _shown(value: object) -> str:
    """Return a header as it may be told: short, and of printable characters only."""
    text = safe_str(value, _SHOWN) if value else ""
    return repr(text) if text else ""
