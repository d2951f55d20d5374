"""How long to wait before the next attempt: the only retry layer.

botocore's own retries are off, so only this policy tries a failed request again. Pure: the random
number and the clock are passed in.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

MAX_RETRY_AFTER: Final = 120.0
"""The longest wait, in seconds, that a Retry-After header may ask for."""

RETRY_SHARE: Final = 0.2
"""Share of retries among all requests while trouble lasts."""


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
            retry_after: What the service asked for, in seconds, or None; the wait is never shorter.
        """
        ceiling = min(self.cap, self.base * 2.0 ** min(failures - 1, 60))
        wait = uniform * ceiling
        if retry_after is not None:
            # Jitter on top: many clients got the same answer and must not come back together.
            wait = min(retry_after, MAX_RETRY_AFTER) + uniform * self.base
        return wait


class RetryBudget:
    """How many requests may be retries: a share of all, so they do not make trouble worse.

    Each first attempt earns a part of a retry, each retry costs one. When nothing is left, one is
    still allowed now and then, because nothing is ever given up. Pure: the clock is passed in.

    Args:
        earned: Retries that one first attempt earns: 0.25 makes them a fifth of all requests.
        most: Most retries that can be saved up; also what there is at first and after an outage.
        interval: Seconds between two retries when nothing is left.
    """

    def __init__(
        self,
        earned: float = RETRY_SHARE / (1 - RETRY_SHARE),
        most: float = 10.0,
        interval: float = 1.0,
    ) -> None:
        self._earned = earned
        self._most = most
        self._interval = interval
        self._left = most
        self._not_before = float("-inf")

    def attempted(self) -> None:
        """Note the first attempt at something."""
        self._left = min(self._most, self._left + self._earned)

    def recovered(self) -> None:
        """Note the end of an outage: the budget is not meant for what waited for it."""
        self._left = self._most

    def wait(self, now: float) -> float:
        """Return how long to wait until a retry is allowed, in seconds."""
        return 0.0 if self._left >= 1.0 else max(0.0, self._not_before - now)

    def take(self, now: float) -> bool:
        """Take a retry; False if none is allowed yet."""
        if self.wait(now) > 0.0:
            return False
        if self._left >= 1.0:
            self._left -= 1.0
        else:
            self._not_before = now + self._interval
        return True


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header.

    Args:
        value: The header: whole seconds, or an HTTP date (RFC 9110, section 10.2.3).
        now: Wall clock, in seconds since the epoch.

    Returns:
        Seconds from now, at least 0; None if there is no header or it is neither.
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
