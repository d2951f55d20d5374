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

from asynctrack._backends._advice import BETWEEN, advice_for
from asynctrack._errors import TransientError
from asynctrack._marker import safe_str

REQUEST_IDS: Final = frozenset({"x-amz-request-id", "x-amz-id-2", "x-amzn-requestid"})
"""Headers of which every answer of AWS has one: S3's, S3's second, and those of JSON services.
MinIO, Ceph, rclone and moto send one as well."""
HEAD_OPTIONS: Final = ("ExpectedBucketOwner", "RequestPayer")
"""Arguments of PutObject that HeadObject wants as well."""
UNREADABLE: Final = "UnreadableAnswer"
"""Code of the error for an answer in which botocore finds nothing that it can read. Something was
answered: a store with words of its own perhaps, which is asked for the object as well."""
_SHOWN: Final = 60
"""Characters of a header that are told."""


def checksum_of(crc32: int) -> str:
    """Return a CRC32 as S3 writes it."""
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


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
    status = (answer.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    kind = _shown(headers.get("content-type")) or "of no content type"
    server = _shown(headers.get("server"))
    who = (
        f"a server that calls itself {server}" if server else "a server that does not say its name"
    )
    return f"HTTP {status}, {kind}, from {who}"


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
    status = (answer.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    echoed = answer.get("ChecksumCRC32") or headers_of(answer).get("x-amz-checksum-crc32")
    if status != 200 or not answer.get("ETag") or not has_request_id(answer):
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
        put: Its answer to PutObject; empty where it cannot be read.
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
        put: The answer; empty where it cannot be read.
        why: What came of asking for the object itself.
    """
    what = f"{who_answered(put)}, without S3's request id and ETag" if put else "it cannot be read"
    return TransientError(
        "Unacknowledged",
        f"what answered is not S3: {what}; {why}",
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
