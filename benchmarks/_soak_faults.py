"""The trouble of the soak: one fault at a time, drawn with a seed, each for a few seconds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from tests.support.faults import (
    Answer,
    Delay,
    DropAnswer,
    Fault,
    Hang,
    ResetAnswer,
    ResetConnection,
    ResetRequest,
    Throttle,
)
from tests.support.proxy import FaultProxy
from tests.support.rules import Rule

# Nothing permanent among them: that ends in dead letters, which other tests are for. No flipped
# bits either: rclone accepts a wrong checksum, as S3 does not.
S3_FAULTS: Final[Mapping[str, Fault | None]] = {
    "refused connections": None,
    "reset connection": ResetConnection(),
    "reset at the first byte": ResetRequest(0),
    "reset within the request": ResetRequest(0.5),
    "reset within the answer": ResetAnswer(0.5),
    "stored, the answer lost": DropAnswer(),
    "no answer, unread": Hang("unread"),
    "no answer, not stored": Hang("before"),
    "no answer, stored": Hang("after"),
    "slow": Delay(1.0),
    "answer at 100 bytes a second": Throttle(100.0),
    "500": Answer(500),
    "503 SlowDown": Answer(503),
    "503 with Retry-After": Answer(503, retry_after=1),
    "429": Answer(429),
    "403 AccessDenied": Answer(403),
    "403 expired token": Answer(403, "ExpiredToken"),
    "404 NoSuchBucket": Answer(404, "NoSuchBucket"),
}
SAGEMAKER_FAULTS: Final[Mapping[str, Fault]] = {
    "SageMaker throttles": Answer(400),
    "SageMaker 503": Answer(503),
    "SageMaker hangs": Hang("before"),
    "SageMaker's answer lost": DropAnswer(),
}
FAULT_SECONDS: Final = (0.5, 4.0)
PAUSE_SECONDS: Final = (0.5, 3.0)
SHARES: Final = (0.3, 1.0)
"""Of the requests that meet the fault."""


class Trouble:
    """Makes trouble and ends it, whenever ``go_on`` is called and it is time.

    Args:
        random: Draws everything.
        s3: The proxy before S3.
        sagemaker: The proxy before SageMaker.
    """

    def __init__(self, random: Random, s3: FaultProxy, sagemaker: FaultProxy) -> None:
        self._random = random
        self._s3 = s3
        self._sagemaker = sagemaker
        self._until = time.monotonic()
        self._quiet = False
        self._drawn: Counter[str] = Counter()
        self._met: Counter[str] = Counter()
        self._current: tuple[str, Rule | None] | None = None

    def go_on(self) -> None:
        """End the current fault or begin the next one, when it is time."""
        if time.monotonic() < self._until:
            return
        self._end()
        self._quiet = not self._quiet
        span = PAUSE_SECONDS if self._quiet else FAULT_SECONDS
        self._until = time.monotonic() + self._random.uniform(*span)
        if not self._quiet:
            self._begin()

    def stop(self) -> None:
        """Heal everything."""
        self._end()
        self._s3.heal()
        self._sagemaker.heal()

    def applied(self) -> dict[str, dict[str, int]]:
        """Return how often each fault was drawn, and how many requests met it."""
        return {
            name: {"times": times, "requests": self._met[name]}
            for name, times in sorted(self._drawn.items())
        }

    def _begin(self) -> None:
        name = self._random.choice([*S3_FAULTS, *SAGEMAKER_FAULTS])
        self._drawn[name] += 1
        share = self._random.choice(SHARES)
        seed = self._random.randrange(1 << 30)
        fault: Any = S3_FAULTS.get(name) or SAGEMAKER_FAULTS.get(name)
        if fault is None:
            self._s3.refuse()
            self._current = name, None
            return
        proxy = self._s3 if name in S3_FAULTS else self._sagemaker
        self._current = name, proxy.add(fault, probability=share, seed=seed)

    def _end(self) -> None:
        if self._current is None:
            return
        name, rule = self._current
        self._met[name] += 0 if rule is None else rule.applied
        self._current = None
        self._s3.heal()
        self._sagemaker.heal()
