"""The servers' clock, for a machine whose own is wrong: requests are signed with a time.

AWS refuses a request that is signed with a time more than some minutes off, and says with its
answer's Date what time it is. botocore has no correction of its own: it signs with this machine's
clock. Here it is asked, by its own events, to sign with a class that knows the difference, once
there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth, SigV4Auth

MIN_SKEW: Final = 60.0
"""Seconds of difference below which the clock is not what a request was refused for: AWS allows
five minutes at the least."""
_CODES: Final = frozenset(
    {
        "RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed",
        # These have other reasons too; the difference tells.
        "AuthFailure", "InvalidSignatureException", "SignatureDoesNotMatch",
    }
)  # fmt: skip
_CONTEXT: Final = "asynctrack_clock"
_S3: Final = "asynctrack-s3v4"
_OTHERS: Final = "asynctrack-v4"
"""Names of our own, that nobody else asks for."""


class ServerClock:
    """How far the servers' clock is ahead of this machine's.

    Args:
        time: This machine's clock, in seconds since the epoch.
    """

    def __init__(self, time: Callable[[], float] = time.time) -> None:
        self._time = time
        self.offset = 0.0
        """Seconds to add to this machine's clock."""

    def now(self) -> datetime:
        """Return the time to sign with."""
        return datetime.fromtimestamp(self._time() + self.offset, tz=timezone.utc)

    def corrected(self, signed_with: float, response: Mapping[str, Any]) -> bool:
        """Learn from an answer that refuses a request.

        Args:
            signed_with: The offset with which the request was signed.
            response: botocore's picture of the answer.

        Returns:
            Whether the request was refused for the clock, and would be signed otherwise now.
        """
        error = response.get("Error") or {}
        headers = (response.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
        date = headers.get("date")
        if error.get("Code") not in _CODES or not date:
            return False
        try:
            there = parsedate_to_datetime(date)
        except (TypeError, ValueError, IndexError):
            return False
        if there.tzinfo is None:
            there = there.replace(tzinfo=timezone.utc)
        offset = there.timestamp() - self._time()
        if abs(offset - self.offset) > MIN_SKEW:
            self.offset = offset if abs(offset) > MIN_SKEW else 0.0
        return abs(self.offset - signed_with) > MIN_SKEW

    def sign_for(self, events: Any) -> None:
        """Have a client's requests signed with this clock.

        Args:
            events: The client's events.
        """
        # First: botocore's own handler answers for S3, and the first answer counts.
        events.register_first("choose-signer", self._choose)

    def _choose(self, signing_name: str, context: dict[str, Any], **_: Any) -> str | None:
        if not self.offset or context.get("auth_type") not in (None, "v4"):
            return None
        context[_CONTEXT] = self
        return _S3 if signing_name == "s3" else _OTHERS


class _Corrected(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    def _modify_request_before_signing(self, request: Any) -> None:
        clock: ServerClock = request.context[_CONTEXT]
        request.context["timestamp"] = clock.now().strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


class _CorrectedS3(_Corrected, S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    pass


AUTH_TYPE_MAPS.update({_OTHERS: _Corrected, _S3: _CorrectedS3})
