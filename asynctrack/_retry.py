"""How long to wait before the next attempt: the only retry layer there is.

botocore's own retries are switched off, so that a failed request is tried again by this policy
and by nothing else. Pure: the random number is passed in.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

MAX_RETRY_AFTER: Final = 120.0
"""The longest wait, in seconds, that a Retry-After header is believed."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    The wait before attempt n + 1 is uniform in [0, min(cap, base · 2ⁿ⁻¹)]; see "Exponential
    Backoff And Jitter" in the AWS Architecture Blog (2015), which names this "full jitter".

    Attributes:
        base: Upper end of the first wait, in seconds.
        cap: Upper end of any wait, in seconds.
    """

    base: float = 0.5
    cap: float = 30.0

    def wait(self, failures: int, uniform: float, retry_after: float | None = None) -> float:
        """Return the wait before the next attempt, in seconds.

        Args:
            failures: Attempts that have failed so far, 1 or more.
            uniform: A random number in [0, 1).
            retry_after: What the service asked for, in seconds, or None; never undercut.
        """
        ceiling = min(self.cap, self.base * 2.0 ** min(failures - 1, 60))
        wait = uniform * ceiling
        if retry_after is not None:
            # Jitter on top, so that many clients told the same do not come back together.
            wait = min(retry_after, MAX_RETRY_AFTER) + uniform * self.base
        return wait


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header.

    Args:
        value: The header: whole seconds, or an HTTP date (RFC 9110, section 10.2.3).
        now: Wall clock, in seconds since the epoch.

    Returns:
        Seconds from now, at least 0; None where there is none or it is neither.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.fromtimestamp(now, tz=timezone.utc)).total_seconds())
